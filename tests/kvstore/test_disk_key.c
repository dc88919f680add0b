/* The key of a store's disk: test_kvstore_disk_key FILE, which is made and removed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "kvstore/disk_format.h"
#include "kvstore/disk_key.h"

static const char *path;
static const char payload[] = "Cryptographic Forum Research Group";

static void write_secret(const void *bytes, size_t length)
{
	FILE *file = fopen(path, "wb");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, length, file), length);
	assert_int_equal(fclose(file), 0);
}

static struct disk_key *key_of(const char *secret)
{
	struct disk_key *key;
	struct why why = {0};
	write_secret(secret, strlen(secret));
	assert_int_equal(disk_key_read(path, &key, &why), ERR_OK);
	return key;
}

static void header_of(uint8_t page[DISK_PAGE_BYTES])
{
	for (uint32_t i = 0; i < DISK_PAGE_BYTES; i++)
		page[i] = (uint8_t)(i * 7);
}

/* Made with Python's hmac and RFC 8439 in its integers. */
static void tag_is_poly1305_under_a_key_of_the_header(void **state)
{
	static const uint8_t right[DISK_TAG_BYTES] =
		{0x08, 0x2c, 0x3a, 0xe8, 0x41, 0x1a, 0x46, 0x9f, 0xc2, 0x9f, 0xe8, 0x8a, 0xfb, 0x09, 0x38, 0xc1};
	struct disk_key *key = key_of("0123456789abcdef");
	uint8_t page[DISK_PAGE_BYTES], tag[DISK_TAG_BYTES];
	(void)state;
	header_of(page);
	memset(page + DISK_SIGNED_BYTES, 0x5a, DISK_PAGE_BYTES - DISK_SIGNED_BYTES); /* place, sum, tag: anything */
	assert_int_equal(disk_key_tag(key, page, payload, strlen(payload), tag), ERR_OK);
	assert_memory_equal(tag, right, sizeof(right));
	disk_key_destroy(key);
}

static void every_bit_of_header_payload_and_secret_counts(void **state)
{
	(void)state;
	uint8_t page[DISK_PAGE_BYTES], tag[DISK_TAG_BYTES], other[DISK_TAG_BYTES];
	char bytes[sizeof(payload)], secret[] = "0123456789abcdef";
	header_of(page);
	memcpy(bytes, payload, sizeof(bytes));
	struct disk_key *key = key_of(secret);
	assert_int_equal(disk_key_tag(key, page, bytes, strlen(payload), tag), ERR_OK);
	for (uint32_t bit = 0; bit < 8 * DISK_SIGNED_BYTES; bit++) {
		page[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(disk_key_tag(key, page, bytes, strlen(payload), other), ERR_OK);
		assert_memory_not_equal(tag, other, sizeof(tag));
		page[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	for (uint32_t bit = 0; bit < 8 * (sizeof(payload) - 1); bit++) {
		bytes[bit / 8] = (char)(bytes[bit / 8] ^ 1 << bit % 8);
		assert_int_equal(disk_key_tag(key, page, bytes, strlen(payload), other), ERR_OK);
		assert_memory_not_equal(tag, other, sizeof(tag));
		bytes[bit / 8] = (char)(bytes[bit / 8] ^ 1 << bit % 8);
	}
	disk_key_destroy(key);
	secret[15] = 'g';
	key = key_of(secret);
	assert_int_equal(disk_key_tag(key, page, bytes, strlen(payload), other), ERR_OK);
	assert_memory_not_equal(tag, other, sizeof(tag));
	disk_key_destroy(key);
}

static void file_of_a_wrong_size_is_refused_by_name(void **state)
{
	static uint8_t bytes[DISK_SECRET_MAX + 1];
	const size_t lengths[] = {0, DISK_SECRET_MIN - 1, DISK_SECRET_MAX + 1};
	struct disk_key *key;
	struct why why = {0};
	(void)state;
	for (uint32_t i = 0; i < 3; i++) {
		write_secret(bytes, lengths[i]);
		assert_int_equal(disk_key_read(path, &key, &why), ERR_INVALID);
		assert_non_null(strstr(why.text, path));
		assert_non_null(strstr(why.text, "expected 16 to 4096"));
	}
	write_secret(bytes, DISK_SECRET_MAX);
	assert_int_equal(disk_key_read(path, &key, &why), ERR_OK);
	disk_key_destroy(key);
	unlink(path);
	assert_int_equal(disk_key_read(path, &key, &why), ERR_NOT_FOUND);
	assert_non_null(strstr(why.text, path));
	disk_key_destroy(NULL);
}

/* What the log says while a key is read from a file of that mode. */
static void read_with_mode(mode_t mode, char said[512])
{
	struct disk_key *key;
	struct why why = {0};
	FILE *log = tmpfile();
	int kept = dup(STDERR_FILENO);
	write_secret("0123456789abcdef", 16);
	assert_int_equal(chmod(path, mode), 0);
	dup2(fileno(log), STDERR_FILENO);
	enum err e = disk_key_read(path, &key, &why);
	dup2(kept, STDERR_FILENO);
	close(kept);
	assert_int_equal(e, ERR_OK);
	disk_key_destroy(key);
	rewind(log);
	said[fread(said, 1, 511, log)] = 0;
	fclose(log);
	unlink(path);
}

static void key_that_others_may_read_is_warned_of(void **state)
{
	char said[512];
	(void)state;
	read_with_mode(0600, said);
	assert_string_equal(said, "");
	read_with_mode(0640, said);
	assert_non_null(strstr(said, path));
	assert_non_null(strstr(said, "mode 640 lets others read the key; expected 600"));
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	path = argv[1];
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tag_is_poly1305_under_a_key_of_the_header),
		cmocka_unit_test(every_bit_of_header_payload_and_secret_counts),
		cmocka_unit_test(key_that_others_may_read_is_warned_of),
		cmocka_unit_test(file_of_a_wrong_size_is_refused_by_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

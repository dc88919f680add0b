/* The file of `baton kv export`: what is written is read again, and nothing else is believed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/digest.h"
#include "base/hash.h"
#include "base/rng.h"
#include "tests/scratch.h"
#include "tools/kv_file.h"

enum { BLOCKS = 3, LAYERS_MAX = 5, LAYER_MAX = 40 };

struct drawn {
	struct kv_file_block block;
	uint64_t digests[LAYERS_MAX];
	uint8_t bytes[LAYERS_MAX * LAYER_MAX];
};

static void draw(struct drawn *s, struct rng *rng, uint32_t number)
{
	*s = (struct drawn){.block = {.has_parent = number > 0, .low = number % 2, .layer_count = 1 + (uint32_t)rng_below(rng, LAYERS_MAX),
				       .layer_bytes = 1 + (uint32_t)rng_below(rng, LAYER_MAX)}};
	struct kv_file_block *b = &s->block;
	for (size_t i = 0; i < sizeof(s->bytes); i++)
		s->bytes[i] = (uint8_t)rng_next(rng);
	memset(b->key.bytes, 1 + (int)number, sizeof(b->key.bytes));
	memset(b->parent.bytes, number ? (int)number : 0, sizeof(b->parent.bytes));
	memset(b->compat.bytes, 99, sizeof(b->compat.bytes));
	snprintf(b->tenant, sizeof(b->tenant), number ? "tenant %u" : "", number);
	for (uint32_t i = 0; i < b->layer_count; i++)
		s->digests[i] = digest_of(s->bytes + (size_t)i * b->layer_bytes, b->layer_bytes);
	b->digests = s->digests;
	b->bytes = s->bytes;
}

static void assert_same(const struct kv_file_block *a, const struct kv_file_block *b)
{
	assert_memory_equal(&a->key, &b->key, sizeof(a->key));
	assert_memory_equal(&a->parent, &b->parent, sizeof(a->parent));
	assert_memory_equal(&a->compat, &b->compat, sizeof(a->compat));
	assert_int_equal(a->has_parent, b->has_parent);
	assert_int_equal(a->low, b->low);
	assert_string_equal(a->tenant, b->tenant);
	assert_int_equal(a->layer_count, b->layer_count);
	assert_int_equal(a->layer_bytes, b->layer_bytes);
	assert_memory_equal(a->digests, b->digests, a->layer_count * sizeof(uint64_t));
	assert_memory_equal(a->bytes, b->bytes, (size_t)a->layer_count * a->layer_bytes);
}

struct fixture {
	struct drawn drawn[BLOCKS];
	char path[64];
	uint8_t data[8192]; /* the file */
	size_t length;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct rng rng = {.seed = 3};
	struct why why = {0};
	struct kv_writer *writer;
	scratch_path(f->path, sizeof(f->path), "kv-file");
	assert_int_equal(kv_writer_open(f->path, &writer, &why), ERR_OK);
	assert_int_not_equal(access(f->path, F_OK), 0); /* not before it is whole */
	for (uint32_t i = 0; i < BLOCKS; i++) {
		draw(&f->drawn[i], &rng, i);
		assert_int_equal(kv_writer_add(writer, &f->drawn[i].block, &why), ERR_OK);
	}
	assert_int_equal(kv_writer_close(writer, &why), ERR_OK);
	struct stat status;
	assert_int_equal(stat(f->path, &status), 0);
	assert_int_equal(status.st_mode & 0777, 0600); /* whatever the mask is */
	FILE *file = fopen(f->path, "rb");
	f->length = fread(f->data, 1, sizeof(f->data), file);
	fclose(file);
	unlink(f->path);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

/* Reads all; how many blocks were given out, each as it was written. */
static enum err read_file(struct fixture *f, const uint8_t *data, size_t length, uint32_t *ret_blocks, struct why *why)
{
	FILE *stream = length ? fmemopen((void *)(uintptr_t)data, length, "rb") : fopen("/dev/null", "rb");
	struct kv_reader *reader = NULL;
	struct kv_file_block block;
	*ret_blocks = 0;
	enum err e = kv_reader_open(stream, "file", &reader, why);
	while (e == ERR_OK && (e = kv_reader_next(reader, &block, why)) == ERR_OK) {
		assert_true(*ret_blocks < BLOCKS);
		assert_same(&block, &f->drawn[(*ret_blocks)++].block);
	}
	kv_reader_close(reader);
	fclose(stream);
	return e;
}

static void what_was_written_is_read_again(void **state)
{
	struct fixture *f = *state;
	uint32_t blocks;
	struct why why = {0};
	assert_int_equal(read_file(f, f->data, f->length, &blocks, &why), ERR_NOT_FOUND);
	assert_int_equal(blocks, BLOCKS);
}

static void every_bit_that_flips_is_noticed(void **state)
{
	struct fixture *f = *state;
	for (size_t i = 0; i < f->length; i++) {
		uint32_t blocks;
		struct why why = {0};
		f->data[i] ^= (uint8_t)(1 << i % 8);
		enum err e = read_file(f, f->data, f->length, &blocks, &why);
		f->data[i] ^= (uint8_t)(1 << i % 8);
		if (e != ERR_CORRUPT && e != ERR_TOO_LARGE && e != ERR_UNSUPPORTED)
			fail_msg("byte %zu of %zu: %s, %u blocks", i, f->length, err_name(e), blocks);
		assert_true(why.text[0] != 0);
	}
}

static void file_that_is_cut_off_anywhere_is_not_taken_for_whole(void **state)
{
	struct fixture *f = *state;
	for (size_t length = 0; length < f->length; length++) {
		uint32_t blocks;
		struct why why = {0};
		assert_int_equal(read_file(f, f->data, length, &blocks, &why), ERR_CORRUPT);
	}
	uint32_t blocks;
	struct why why = {0};
	f->data[f->length] = 0;
	assert_int_equal(read_file(f, f->data, f->length + 1, &blocks, &why), ERR_CORRUPT);
	assert_non_null(strstr(why.text, "after its tail"));
}

static void sizes_are_checked_before_they_allocate(void **state)
{
	struct fixture *f = *state;
	static const uint32_t bad[][2] = {{0, 16}, {PROTO_LAYERS_MAX + 1, 16}, {1, 0}, {2, KV_FILE_BLOCK_MAX / 2 + 1}, {UINT32_MAX, UINT32_MAX}};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint32_t blocks;
		struct why why = {0};
		memcpy(f->data + 64 + 56, bad[i], 8); /* of the first block, on a little-endian machine */
		assert_int_equal(read_file(f, f->data, f->length, &blocks, &why), ERR_TOO_LARGE);
		assert_non_null(strstr(why.text, "block 1"));
	}
}

static void other_files_are_refused_by_name(void **state)
{
	struct fixture *f = *state;
	uint32_t blocks;
	struct why why = {0};
	static const uint8_t text[128] = "{\"not\": \"ours\"}";
	assert_int_equal(read_file(f, text, sizeof(text), &blocks, &why), ERR_CORRUPT);
	assert_string_equal(why.text, "file is no file of `baton kv export`");
	f->data[8] = 2; /* a later version, rightly sealed */
	uint64_t sum = hash_xxh3(f->data, 56, 0);
	memcpy(f->data + 56, &sum, sizeof(sum));
	assert_int_equal(read_file(f, f->data, f->length, &blocks, &why), ERR_UNSUPPORTED);
	assert_non_null(strstr(why.text, "version 2"));
}

static void export_that_fails_leaves_nothing(void **state)
{
	struct fixture *f = *state;
	struct kv_writer *writer;
	struct why why = {0};
	char part[80];
	assert_int_equal(kv_writer_open(f->path, &writer, &why), ERR_OK);
	snprintf(part, sizeof(part), "%s.part", f->path);
	assert_int_equal(access(part, F_OK), 0);
	kv_writer_abandon(writer);
	assert_int_not_equal(access(part, F_OK), 0);
	assert_int_not_equal(access(f->path, F_OK), 0);
	assert_int_equal(kv_writer_open("/nowhere/at/all", &writer, &why), ERR_IO);
	assert_non_null(strstr(why.text, "/nowhere/at/all.part"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(what_was_written_is_read_again),
		T(every_bit_that_flips_is_noticed),
		T(file_that_is_cut_off_anywhere_is_not_taken_for_whole),
		T(sizes_are_checked_before_they_allocate),
		T(other_files_are_refused_by_name),
		T(export_that_fails_leaves_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

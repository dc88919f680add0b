#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/digest_leaf.h"
#include "base/hash.h"
#include "base/rng.h"

#define BYTES_MAX (1u << 20)

static uint8_t *random_bytes(size_t length)
{
	uint8_t *bytes = malloc(length + 1);
	assert_non_null(bytes);
	struct rng rng = {.seed = 7};
	for (size_t i = 0; i < length; i++)
		bytes[i] = (uint8_t)rng_next(&rng);
	return bytes;
}

/* The definition, word by word. */
static uint64_t by_the_book(const uint8_t *data, size_t length)
{
	size_t leaf_count = (length + DIGEST_LEAF_BYTES - 1) / DIGEST_LEAF_BYTES;
	uint64_t *leaves = calloc(leaf_count + 1, sizeof(*leaves));
	assert_non_null(leaves);
	for (size_t i = 0; i < leaf_count; i++) {
		size_t rest = length - i * DIGEST_LEAF_BYTES;
		leaves[i] = hash_xxh3(data + i * DIGEST_LEAF_BYTES, rest < DIGEST_LEAF_BYTES ? rest : DIGEST_LEAF_BYTES, 0);
	}
	uint64_t digest = hash_xxh3(leaves, leaf_count * sizeof(*leaves), length);
	free(leaves);
	return digest;
}

static const size_t lengths[] = {0, 1, 16, 4095, 4096, 4097, 8192, 65536, 262144, 262145, 1000000, BYTES_MAX};

static void digest_is_the_hash_of_the_leaves_hashes(void **state)
{
	uint8_t *data = random_bytes(BYTES_MAX);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++)
		assert_int_equal(digest_of(data, lengths[i]), by_the_book(data, lengths[i]));
	free(data);
}

static void copy_lands_whole_and_has_the_same_digest(void **state)
{
	uint8_t *data = random_bytes(BYTES_MAX);
	uint8_t *landing = malloc(BYTES_MAX + 1);
	assert_non_null(landing);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		size_t length = lengths[i];
		memset(landing, 0xee, BYTES_MAX + 1);
		assert_int_equal(digest_copy(landing, data, length), by_the_book(data, length));
		assert_memory_equal(landing, data, length);
		assert_int_equal(landing[length], 0xee);
	}
	free(landing);
	free(data);
}

/* Every way that this machine has, from every place within a line and two pages. */
static void a_leaf_copied_in_one_pass_has_the_librarys_hash(void **state)
{
	uint8_t *data = random_bytes(4 * DIGEST_LEAF_BYTES);
	_Alignas(64) static uint8_t landing[DIGEST_LEAF_BYTES + 128];
	for (int way = 1; way <= (int)digest_leaf_way(); way++)
		for (size_t at = 0; at < 2 * DIGEST_LEAF_BYTES; at += 61) {
			uint64_t wanted = hash_xxh3(data + at, DIGEST_LEAF_BYTES, 0);
			size_t to = at % 64;
			memset(landing, 0xee, sizeof(landing));
			assert_int_equal(digest_leaf_copy((enum digest_leaf_way)way, landing + to, data + at, false), wanted);
			assert_memory_equal(landing + to, data + at, DIGEST_LEAF_BYTES);
			assert_int_equal(landing[to + DIGEST_LEAF_BYTES], 0xee);
			memset(landing, 0xee, sizeof(landing));
			assert_int_equal(digest_leaf_copy((enum digest_leaf_way)way, landing, data + at, true), wanted);
			digest_leaf_fence();
			assert_memory_equal(landing, data + at, DIGEST_LEAF_BYTES);
		}
	free(data);
}

static void portions_give_the_digest_of_the_whole(void **state)
{
	uint8_t *data = random_bytes(BYTES_MAX);
	size_t length = 1000000;
	struct digest digest;
	digest_init(&digest, length);
	for (size_t at = 0; at < length; at += 3 * DIGEST_LEAF_BYTES)
		digest_add(&digest, data + at, length - at < 3 * DIGEST_LEAF_BYTES ? length - at : 3 * DIGEST_LEAF_BYTES);
	assert_int_equal(digest_end(&digest), digest_of(data, length));
	free(data);
}

static void one_bit_or_one_zero_more_changes_the_digest(void **state)
{
	uint8_t *data = random_bytes(BYTES_MAX);
	memset(data + 1000, 0, 9000);
	uint64_t whole = digest_of(data, 8192);
	assert_int_not_equal(digest_of(data, 8193), whole);
	assert_int_not_equal(digest_of(data, 8191), whole);
	struct rng rng = {.seed = 3};
	for (int i = 0; i < 200; i++) {
		size_t bit = rng_below(&rng, 8192 * 8);
		data[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_not_equal(digest_of(data, 8192), whole);
		data[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	assert_int_equal(digest_of(data, 8192), whole);
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(digest_is_the_hash_of_the_leaves_hashes),
		cmocka_unit_test(copy_lands_whole_and_has_the_same_digest),
		cmocka_unit_test(a_leaf_copied_in_one_pass_has_the_librarys_hash),
		cmocka_unit_test(portions_give_the_digest_of_the_whole),
		cmocka_unit_test(one_bit_or_one_zero_more_changes_the_digest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

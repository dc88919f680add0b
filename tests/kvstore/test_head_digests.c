#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/rng.h"
#include "kvstore/head_digests.h"
#include "tests/kvstore/sharded.h"

enum { HEAD_BYTES = 24, DIGESTS_MAX = SHARDED_HEADS_MAX + SHARDED_DEGREES };

static void digest_heads(const uint8_t *bytes, size_t length, uint64_t *ret_digests)
{
	for (size_t at = 0; at < length; at += HEAD_BYTES)
		*ret_digests++ = digest_of(bytes + at, HEAD_BYTES);
}

/* Of what each rank of the degree holds of a layer, by the definition; returns how many. */
static uint32_t digest_ranks(const struct sharded_block *layer, uint32_t degree, uint64_t digests[DIGESTS_MAX])
{
	uint8_t shard[SHARDED_HEADS_MAX * HEAD_BYTES];
	uint32_t count = 0;
	for (uint32_t rank = 0; rank < degree; rank++) {
		size_t length = sharded_cut(layer, degree, rank, shard);
		digest_heads(shard, length, digests + count);
		count += (uint32_t)(length / HEAD_BYTES);
	}
	return count;
}

static uint64_t whole(const struct sharded_block *layer)
{
	uint64_t digests[SHARDED_HEADS_MAX], digest = 0;
	digest_heads(layer->bytes, (size_t)layer->head_count * HEAD_BYTES, digests);
	assert_true(kv_layer_digest(layer->head_count, 1, digests, &digest));
	return digest;
}

static void a_layer_has_one_digest_at_every_degree(void **state)
{
	for (size_t h = 0; h < sharded_head_counts_count; h++) {
		struct sharded_block layer = sharded_make(1, sharded_head_counts[h], HEAD_BYTES);
		for (uint32_t degree = 1; degree <= SHARDED_DEGREES; degree++) {
			uint64_t digests[DIGESTS_MAX], digest = 0;
			uint32_t count = digest_ranks(&layer, degree, digests);
			assert_int_equal(kv_layer_digests_count(layer.head_count, degree), count);
			assert_true(kv_layer_digest(layer.head_count, degree, digests, &digest));
			assert_int_equal(digest, whole(&layer));
		}
		sharded_free(&layer);
	}
}

static void a_wrong_head_at_any_rank_is_seen(void **state)
{
	for (size_t h = 0; h < sharded_head_counts_count; h++) {
		struct sharded_block layer = sharded_make(1, sharded_head_counts[h], HEAD_BYTES);
		for (uint32_t degree = 1; degree <= SHARDED_DEGREES; degree++) {
			uint64_t digests[DIGESTS_MAX], digest = 0;
			uint32_t count = digest_ranks(&layer, degree, digests);
			for (uint32_t i = 0; i < count; i++) {
				digests[i] ^= (uint64_t)1 << i % 64;
				assert_false(kv_layer_digest(layer.head_count, degree, digests, &digest) && digest == whole(&layer));
				digests[i] ^= (uint64_t)1 << i % 64;
			}
		}
		sharded_free(&layer);
	}
}

static void heads_in_each_others_place_are_seen(void **state)
{
	struct sharded_block layer = sharded_make(1, SHARDED_HEADS_MAX, HEAD_BYTES);
	uint64_t digests[SHARDED_HEADS_MAX], want = whole(&layer);
	for (uint32_t a = 0; a < layer.head_count; a++)
		for (uint32_t b = 0; b < a; b++) {
			digest_heads(layer.bytes, (size_t)layer.head_count * HEAD_BYTES, digests);
			uint64_t other = digests[a];
			digests[a] = digests[b];
			assert_int_not_equal(kv_heads_digest((struct kv_heads){0, layer.head_count}, digests), want);
			digests[b] = other;
			assert_int_not_equal(kv_heads_digest((struct kv_heads){0, layer.head_count}, digests), want);
		}
	sharded_free(&layer);
}

static void runs_add_up_wherever_they_are_cut(void **state)
{
	struct sharded_block layer = sharded_make(1, 40, HEAD_BYTES);
	uint64_t digests[40], want = whole(&layer);
	digest_heads(layer.bytes, sizeof(digests) / sizeof(*digests) * HEAD_BYTES, digests);
	struct rng rng = {.seed = 3};
	for (int round = 0; round < 200; round++) {
		uint64_t sum = 0;
		for (uint32_t first = 0, count; first < 40; first += count) {
			count = 1 + (uint32_t)rng_below(&rng, 40 - first);
			sum += kv_heads_digest((struct kv_heads){first, count}, digests + first);
		}
		assert_int_equal(sum, want);
	}
	sharded_free(&layer);
}

/* The whole way: ranks of one degree read from ranks of another by plan, and digest what landed, head by head. */
static uint64_t read_and_digest(const struct sharded_block *layer, struct kv_shard_read read)
{
	uint8_t source[SHARDED_HEADS_MAX * HEAD_BYTES], landing[SHARDED_HEADS_MAX * HEAD_BYTES];
	struct kv_piece pieces[SHARDED_HEADS_MAX];
	uint64_t digests[DIGESTS_MAX], digest = 0, *next = digests;
	for (read.reader_rank = 0; read.reader_rank < read.reader_degree; read.reader_rank++) {
		uint32_t count = kv_shard_plan(&read, pieces);
		for (uint32_t i = 0; i < count; i++) {
			sharded_cut(layer, read.source_degree, pieces[i].source_rank, source);
			memcpy(landing + pieces[i].landing_offset, source + pieces[i].source_offset, pieces[i].length);
			digest_heads(landing + pieces[i].landing_offset, pieces[i].length, next);
			next += pieces[i].length / HEAD_BYTES;
		}
	}
	assert_true(kv_layer_digest(read.head_count, read.reader_degree, digests, &digest));
	return digest;
}

static void a_reader_of_any_degree_finds_the_digest_of_its_source(void **state)
{
	static const uint32_t head_counts[] = {1, 2, 5, 8, 10};
	for (size_t h = 0; h < sizeof(head_counts) / sizeof(head_counts[0]); h++) {
		struct sharded_block layer = sharded_make(1, head_counts[h], HEAD_BYTES);
		struct kv_shard_read read = {.head_count = head_counts[h], .head_bytes = HEAD_BYTES, .layer_count = 1};
		for (read.source_degree = 1; read.source_degree <= SHARDED_DEGREES; read.source_degree++)
			for (read.reader_degree = 1; read.reader_degree <= SHARDED_DEGREES; read.reader_degree++)
				assert_int_equal(read_and_digest(&layer, read), whole(&layer));
		sharded_free(&layer);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_layer_has_one_digest_at_every_degree),
		cmocka_unit_test(a_wrong_head_at_any_rank_is_seen),
		cmocka_unit_test(heads_in_each_others_place_are_seen),
		cmocka_unit_test(runs_add_up_wherever_they_are_cut),
		cmocka_unit_test(a_reader_of_any_degree_finds_the_digest_of_its_source),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

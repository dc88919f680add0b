/* Every pair of degrees 1..16, every head count, every rank: the plan, carried out on real bytes, gives what cutting the
 * block for the reader directly gives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "kvstore/shards.h"
#include "tests/kvstore/sharded.h"

enum { LAYERS = 4, HEAD_BYTES = 6, PIECES_MAX = LAYERS * SHARDED_HEADS_MAX, UNTOUCHED = 0xee };

static const struct {
	uint32_t first, count;
} layer_ranges[] = {{0, LAYERS}, {0, 1}, {1, 2}, {LAYERS - 1, 1}, {2, 0}};

struct shard {
	uint8_t *bytes;
	size_t length;
};

struct world {
	struct sharded_block block;
	struct shard shards[SHARDED_DEGREES + 1][SHARDED_DEGREES]; /* [degree][rank], by the definition */
	uint8_t *landing, *covered;
};

static struct world world_make(uint32_t head_count)
{
	struct world world = {.block = sharded_make(LAYERS, head_count, HEAD_BYTES)};
	size_t bytes = (size_t)LAYERS * head_count * HEAD_BYTES;
	for (uint32_t degree = 1; degree <= SHARDED_DEGREES; degree++)
		for (uint32_t rank = 0; rank < degree; rank++) {
			uint8_t *shard = malloc(bytes);
			assert_non_null(shard);
			world.shards[degree][rank] = (struct shard){shard, sharded_cut(&world.block, degree, rank, shard)};
		}
	world.landing = malloc(bytes);
	world.covered = malloc(bytes);
	assert_true(world.landing && world.covered);
	return world;
}

static void world_free(struct world *world)
{
	for (uint32_t degree = 1; degree <= SHARDED_DEGREES; degree++)
		for (uint32_t rank = 0; rank < degree; rank++)
			free(world->shards[degree][rank].bytes);
	free(world->landing);
	free(world->covered);
	sharded_free(&world->block);
}

/* Calls fact with every read of every head count, with two turns. */
static void for_every_read(void (*fact)(struct world *world, const struct kv_shard_read *read))
{
	for (size_t h = 0; h < sharded_head_counts_count; h++) {
		struct world world = world_make(sharded_head_counts[h]);
		struct kv_shard_read read = {.head_count = sharded_head_counts[h], .head_bytes = HEAD_BYTES};
		for (read.source_degree = 1; read.source_degree <= SHARDED_DEGREES; read.source_degree++)
			for (read.reader_degree = 1; read.reader_degree <= SHARDED_DEGREES; read.reader_degree++)
				for (read.reader_rank = 0; read.reader_rank < read.reader_degree; read.reader_rank++)
					for (read.turn = 0; read.turn < 2; read.turn++)
						fact(&world, &read);
		world_free(&world);
	}
}

static void ranks_hold_the_heads_that_their_queries_look_at(void **state)
{
	for (size_t h = 0; h < sharded_head_counts_count; h++)
		for (uint32_t degree = 1; degree <= SHARDED_DEGREES; degree++)
			for (uint32_t rank = 0; rank < degree; rank++) {
				struct kv_heads heads = kv_shard_heads(sharded_head_counts[h], degree, rank);
				for (uint32_t head = 0; head < sharded_head_counts[h]; head++)
					assert_int_equal(sharded_holds(sharded_head_counts[h], degree, rank, head),
							 head >= heads.first && head < heads.first + heads.count);
			}
}

static void carry_out(struct world *world, const struct kv_shard_read *read)
{
	struct kv_piece pieces[PIECES_MAX];
	size_t length = world->shards[read->reader_degree][read->reader_rank].length;
	memset(world->landing, UNTOUCHED, length);
	memset(world->covered, 0, length);
	assert_true(kv_shard_pieces_max(read) <= PIECES_MAX);
	uint32_t count = kv_shard_plan(read, pieces);
	assert_true(count <= kv_shard_pieces_max(read));
	for (uint32_t i = 0; i < count; i++) {
		assert_true(pieces[i].source_rank < read->source_degree);
		const struct shard *source = &world->shards[read->source_degree][pieces[i].source_rank];
		assert_true(pieces[i].length > 0 && pieces[i].length % HEAD_BYTES == 0);
		assert_true(pieces[i].source_offset + pieces[i].length <= source->length);
		assert_true(pieces[i].landing_offset + pieces[i].length <= length);
		memcpy(world->landing + pieces[i].landing_offset, source->bytes + pieces[i].source_offset, pieces[i].length);
		for (uint64_t b = 0; b < pieces[i].length; b++)
			world->covered[pieces[i].landing_offset + b]++;
	}
}

static void is_the_readers_shard(struct world *world, const struct kv_shard_read *each)
{
	const struct shard *want = &world->shards[each->reader_degree][each->reader_rank];
	size_t layer_bytes = want->length / LAYERS;
	for (size_t r = 0; r < sizeof(layer_ranges) / sizeof(layer_ranges[0]); r++) {
		struct kv_shard_read read = *each;
		read.layer_first = layer_ranges[r].first;
		read.layer_count = layer_ranges[r].count;
		carry_out(world, &read);
		size_t first = read.layer_first * layer_bytes, end = first + read.layer_count * layer_bytes;
		for (size_t i = 0; i < want->length; i++) {
			bool inside = i >= first && i < end;
			if (world->covered[i] != inside || world->landing[i] != (inside ? want->bytes[i] : UNTOUCHED))
				fail_msg("byte %zu of rank %u of %u from %u ranks, %u heads: covered %u times", i, read.reader_rank,
					 read.reader_degree, read.source_degree, read.head_count, world->covered[i]);
		}
	}
}

static void every_byte_of_a_shard_is_read_once_from_where_it_is(void **state)
{
	for_every_read(is_the_readers_shard);
}

/* Fewest pieces for a run of heads up to `end`, whoever serves each: fewest[h] from fewest[h + 1 ...], trying all. */
static uint32_t fewest_pieces(const struct kv_shard_read *read, uint32_t first, uint32_t end)
{
	uint32_t fewest[SHARDED_HEADS_MAX + 1];
	fewest[end] = 0;
	for (uint32_t head = end; head-- > first;) {
		fewest[head] = UINT32_MAX;
		for (uint32_t rank = 0; rank < read->source_degree; rank++)
			for (uint32_t to = head; to < end && sharded_holds(read->head_count, read->source_degree, rank, to); to++)
				if (1 + fewest[to + 1] < fewest[head])
					fewest[head] = 1 + fewest[to + 1];
	}
	return fewest[first];
}

static bool some_rank_holds_just(const struct kv_shard_read *read, struct kv_heads heads)
{
	for (uint32_t rank = 0; rank < read->source_degree; rank++) {
		struct kv_heads held = kv_shard_heads(read->head_count, read->source_degree, rank);
		if (held.first == heads.first && held.count == heads.count)
			return true;
	}
	return false;
}

static void has_as_few_as_can_be(struct world *world, const struct kv_shard_read *each)
{
	struct kv_piece pieces[PIECES_MAX];
	struct kv_shard_read read = *each;
	struct kv_heads heads = kv_shard_heads(read.head_count, read.reader_degree, read.reader_rank);
	read.layer_count = LAYERS;
	uint32_t want = some_rank_holds_just(&read, heads) ? 1 : LAYERS * fewest_pieces(&read, heads.first, heads.first + heads.count);
	assert_int_equal(kv_shard_plan(&read, pieces), want);
}

static void plans_have_as_few_pieces_as_there_can_be(void **state)
{
	for_every_read(has_as_few_as_can_be);
}

/* Heads that each rank serves to all readers of a turn, one layer. */
static void serve(struct kv_shard_read *read, uint32_t served[SHARDED_DEGREES])
{
	struct kv_piece pieces[PIECES_MAX];
	for (read->reader_rank = 0; read->reader_rank < read->reader_degree; read->reader_rank++) {
		uint32_t count = kv_shard_plan(read, pieces);
		for (uint32_t i = 0; i < count; i++)
			served[pieces[i].source_rank] += (uint32_t)(pieces[i].length / HEAD_BYTES);
	}
}

/* The replicas of a head are the ranks first ... first + replicas - 1. */
static void are_even(const uint32_t *served, uint32_t ranks, uint32_t replicas, uint32_t apart_max)
{
	for (uint32_t first = 0; first < ranks; first += replicas)
		for (uint32_t a = first; a < first + replicas; a++)
			for (uint32_t b = first; b < first + replicas; b++)
				assert_true(served[a] <= served[b] + apart_max);
}

static void replicas_of_a_head_serve_equally_often(void **state)
{
	for (size_t h = 0; h < sharded_head_counts_count; h++)
		for (uint32_t degree = 1; degree <= SHARDED_DEGREES; degree++)
			for (uint32_t readers = 1; readers <= SHARDED_DEGREES && degree % sharded_head_counts[h] == 0; readers++) {
				struct kv_shard_read read = {.head_count = sharded_head_counts[h], .head_bytes = HEAD_BYTES,
							     .source_degree = degree, .reader_degree = readers, .layer_count = 1};
				uint32_t replicas = degree / read.head_count, round[SHARDED_DEGREES] = {0};
				for (read.turn = 5; read.turn < 5 + replicas; read.turn++) {
					uint32_t served[SHARDED_DEGREES] = {0};
					serve(&read, served);
					are_even(served, degree, replicas, 1);
					serve(&read, round);
				}
				are_even(round, degree, replicas, 0);
			}
}

/* What the two most usual cases look like, in numbers. */
static void plans_look_like_this(void **state)
{
	struct kv_piece pieces[8];
	struct kv_shard_read read = {.head_count = 8, .head_bytes = 100, .source_degree = 4, .reader_degree = 2, .reader_rank = 1,
				     .layer_first = 3, .layer_count = 2};
	static const struct kv_piece halves[] = {
		{2, 600, 1200, 200}, {3, 600, 1400, 200}, {2, 800, 1600, 200}, {3, 800, 1800, 200},
	};
	assert_int_equal(kv_shard_plan(&read, pieces), 4);
	for (uint32_t i = 0; i < 4; i++) {
		assert_int_equal(pieces[i].source_rank, halves[i].source_rank);
		assert_int_equal(pieces[i].source_offset, halves[i].source_offset);
		assert_int_equal(pieces[i].landing_offset, halves[i].landing_offset);
		assert_int_equal(pieces[i].length, halves[i].length);
	}
	struct kv_shard_read latents = {.head_count = 1, .head_bytes = 100, .source_degree = 8, .reader_degree = 4, .reader_rank = 3,
					.layer_count = 60, .turn = 6};
	assert_int_equal(kv_shard_plan(&latents, pieces), 1);
	assert_int_equal(pieces[0].source_rank, 1);
	assert_int_equal(pieces[0].length, 6000);
}

static void long_blocks_of_large_heads_do_not_overflow(void **state)
{
	enum { DEGREE = KV_DEGREE_MAX - 1, LAST = DEGREE - 1 }; /* turns do not wrap with 32 bits */
	struct kv_shard_read read = {.head_count = 1, .head_bytes = UINT32_MAX, .source_degree = DEGREE,
				     .reader_degree = DEGREE, .reader_rank = LAST, .layer_first = 1000,
				     .layer_count = 1000, .turn = UINT32_MAX};
	struct kv_piece pieces[1000];
	assert_int_equal(kv_shard_plan(&read, pieces), 1);
	assert_true(pieces[0].source_offset == 1000ull * UINT32_MAX && pieces[0].length == 1000ull * UINT32_MAX);
	assert_int_equal(pieces[0].source_rank, (LAST + (uint64_t)UINT32_MAX) % DEGREE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranks_hold_the_heads_that_their_queries_look_at),
		cmocka_unit_test(every_byte_of_a_shard_is_read_once_from_where_it_is),
		cmocka_unit_test(plans_have_as_few_pieces_as_there_can_be),
		cmocka_unit_test(replicas_of_a_head_serve_equally_often),
		cmocka_unit_test(plans_look_like_this),
		cmocka_unit_test(long_blocks_of_large_heads_do_not_overflow),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

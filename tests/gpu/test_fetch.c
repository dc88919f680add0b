/* KV on its way out of the device: pieces, and the blocks of a step (engine/kv_mirror.h) as few calls of many pieces. */
#include "engine/kv_mirror.h"
#include "tests/gpu/fixture.h"
#if __has_include("fake.h")
#include "fake.h"
#define CALLS(expected) assert_int_equal(fake_call_count("cudaMemcpyBatchAsync"), expected)
#define CALLS_BEGIN()   fake_heal()
#else
#define CALLS(expected) (void)(expected)
#define CALLS_BEGIN()
#endif

static uint8_t pattern(size_t i)
{
	return (uint8_t)((i * 2654435761u) >> 24);
}

static uint8_t *pattern_of(size_t bytes)
{
	uint8_t *memory = malloc(bytes);
	assert_non_null(memory);
	for (size_t i = 0; i < bytes; i++)
		memory[i] = pattern(i);
	return memory;
}

static uint8_t *pinned_of(struct device *device, size_t bytes)
{
	void *memory;
	assert_int_equal(dev_alloc(device, MEM_PINNED, bytes, &memory), ERR_OK);
	return memory;
}

/* Pieces of other sizes at other places, as many as a call takes: each arrives, and nothing beside them. */
static void many_pieces_are_one_call(void **state)
{
	enum { STEP = 4096, BYTES = DEV_FETCH_PIECES_MAX * STEP };
	struct device *device = gpu_open(1);
	uint8_t *from = pattern_of(BYTES), *at = gpu_put(device, from, BYTES), *host = pinned_of(device, BYTES);
	struct fetch_piece pieces[DEV_FETCH_PIECES_MAX];
	for (uint32_t i = 0; i < DEV_FETCH_PIECES_MAX; i++) {
		uint32_t there = (i * 37 + 11) % DEV_FETCH_PIECES_MAX;
		pieces[i] = (struct fetch_piece){host + i * STEP + i, at + there * STEP + 3 * i, 1 + i * 13};
	}
	CALLS_BEGIN();
	dev_fetch(device, pieces, DEV_FETCH_PIECES_MAX);
	assert_int_equal(device_wait(device, device_mark(device)), ERR_OK);
	CALLS(1);
	for (uint32_t i = 0; i < DEV_FETCH_PIECES_MAX; i++) {
		const uint8_t *expected = from + ((const uint8_t *)pieces[i].from - at);
		for (uint32_t j = 0; j < STEP; j++) {
			uint8_t is = host[i * STEP + j], other = j - i < pieces[i].bytes && j >= i ? expected[j - i] : 0;
			if (is != other)
				fail_msg("piece %u, byte %u", i, j);
		}
	}
	dev_fetch(device, pieces, 0);
	assert_int_equal(device_sync(device), ERR_OK);
	CALLS(1);
	dev_free(device, MEM_PINNED, host, BYTES);
	dev_free(device, MEM_DEVICE, at, BYTES);
	free(from);
	device_close(device);
}

enum { LAYERS = 3, BLOCKS = 300, BLOCK_TOKENS = 4 };

struct pool {
	struct device *device;
	struct kv_memory host;
	struct kv_mirror *mirror;
	uint8_t *expected; /* the device's blocks */
	size_t bytes;
	uint32_t table[BLOCKS];
};

/* `wide`: the host's blocks have more heads than the device's, as a rank sees them. */
static void pool_open(struct pool *pool, bool wide)
{
	pool->device = gpu_open(1);
	pool->host = (struct kv_memory){.layout = {.layer_count = LAYERS, .head_kv_count = 1, .head_dim = 16,
						   .block_tokens = BLOCK_TOKENS, .elem = ELEM_BF16}};
	pool->host.layer_stride = kv_layer_bytes(&pool->host.layout) * (wide ? 2 : 1);
	pool->host.block_stride = LAYERS * pool->host.layer_stride;
	pool->bytes = BLOCKS * pool->host.block_stride;
	pool->host.base = pinned_of(pool->device, pool->bytes);
	assert_int_equal(kv_mirror_create(pool->device, &pool->host, BLOCKS, 0, false, &pool->mirror), ERR_OK);
	size_t bytes = BLOCKS * kv_block_bytes(&pool->host.layout);
	pool->expected = pattern_of(bytes);
	assert_int_equal(dev_copy(pool->device, kv_mirror_memory(pool->mirror)->base, pool->expected, bytes), ERR_OK);
}

static void pool_close(struct pool *pool)
{
	kv_mirror_destroy(pool->mirror);
	dev_free(pool->device, MEM_PINNED, pool->host.base, pool->bytes);
	free(pool->expected);
	device_close(pool->device);
}

/* Fetches these layers of blocks that a run writes from its slot 1 on: whole blocks come, no others, no other layer. */
static void fetch(struct pool *pool, uint32_t count, struct kv_layers layers, uint32_t calls)
{
	size_t layer_bytes = kv_layer_bytes(&pool->host.layout);
	const struct kv_run runs[2] = {{.blocks = pool->table, .first_position = 1, .row_count = BLOCK_TOKENS * count - 1, .digest = true},
				       {.blocks = pool->table + count, .row_count = 1}};
	memset(pool->host.base, 0, pool->bytes);
	CALLS_BEGIN();
	kv_mirror_fetch(pool->mirror, layers, runs, 2);
	assert_int_equal(device_wait(pool->device, device_mark(pool->device)), ERR_OK);
	CALLS(calls);
	bool wanted[BLOCKS] = {0};
	for (uint32_t i = 0; i < count; i++)
		wanted[pool->table[i]] = true;
	for (uint32_t block = 0; block < BLOCKS; block++)
		for (uint32_t layer = 0; layer < LAYERS; layer++) {
			const uint8_t *is = kv_layer_at(&pool->host, block, layer);
			bool comes = wanted[block] && layer >= layers.first && layer < layers.end &&
				     (layer - layers.first) % layers.step == 0;
			for (size_t i = 0; i < pool->host.layer_stride; i++) {
				size_t at = (block * (size_t)LAYERS + layer) * layer_bytes + i;
				if (is[i] != (comes && i < layer_bytes ? pool->expected[at] : 0))
					fail_msg("block %u, layer %u, byte %zu", block, layer, i);
			}
		}
}

static void blocks_of_a_layer_are_few_calls(void **state)
{
	for (int wide = 0; wide < 2; wide++) {
		struct pool pool;
		pool_open(&pool, wide);
		for (uint32_t i = 0; i < BLOCKS; i++)
			pool.table[i] = BLOCKS - 1 - i; /* none lies behind the one before */
		fetch(&pool, 20, (struct kv_layers){1, 2, 1}, 1);
		fetch(&pool, BLOCKS - 1, (struct kv_layers){2, 3, 1}, 2); /* more than a call takes */
		fetch(&pool, 3, (struct kv_layers){0, LAYERS, 1}, 1);
		fetch(&pool, 7, (struct kv_layers){0, LAYERS, 2}, 1); /* by turns with another rank */
		fetch(&pool, 7, (struct kv_layers){1, LAYERS, 2}, 1);
		fetch(&pool, 7, (struct kv_layers){LAYERS, LAYERS, 1}, 0);
		pool_close(&pool);
	}
}

/* Whole blocks in order are one piece: more of them than a call takes pieces. */
static void what_lies_side_by_side_is_one_piece(void **state)
{
	struct pool pool;
	pool_open(&pool, false);
	for (uint32_t i = 0; i < BLOCKS; i++)
		pool.table[i] = i;
	fetch(&pool, BLOCKS - 1, (struct kv_layers){0, LAYERS, 1}, 1);
	pool_close(&pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(many_pieces_are_one_call),
		cmocka_unit_test(blocks_of_a_layer_are_few_calls),
		cmocka_unit_test(what_lies_side_by_side_is_one_piece),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

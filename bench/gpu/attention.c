#include <stdio.h>
#include <stdlib.h>

#include "bench/gpu/bench.h"

/* Of an 8B model: 32 query heads over 8 of keys and values, 128 numbers each, blocks of 64 tokens. */
enum { HEADS = 32, GROUPS = 8, DIM = 128, BLOCK = 64, RUNS_MAX = 256 };

struct pool {
	struct bench *bench;
	struct kv_memory kv;
	struct kv_runs *runs;
	struct kv_run list[RUNS_MAX];
	uint32_t *tables;
	struct attention_call call;
	uint64_t *digests;
};

static void attend(void *context, uint32_t index)
{
	struct pool *pool = context;
	op_attention(pool->bench->device, &pool->call);
}

static void digest(void *context, uint32_t index)
{
	struct pool *pool = context;
	const struct kv_digest_call call = {.parts = &pool->kv, .part_count = 1, .runs = pool->runs, .turns = 1,
					    .ret_digests = pool->digests};
	op_kv_digest(pool->bench->device, &call);
}

static size_t pool_bytes(const struct pool *pool, uint32_t blocks)
{
	return (size_t)blocks * pool->kv.block_stride;
}

/* `runs` sequences of `length` positions, of which the last `rows` are queries. */
static void measure(struct bench *bench, const char *name, uint32_t runs, uint32_t length, uint32_t rows)
{
	uint32_t blocks_each = (length + BLOCK - 1) / BLOCK, blocks = runs * blocks_each;
	struct pool pool = {.bench = bench};
	pool.kv.layout = (struct kv_layout){.layer_count = 1, .head_kv_count = GROUPS, .head_dim = DIM, .block_tokens = BLOCK,
					    .elem = ELEM_BF16};
	pool.kv.layer_stride = kv_layer_bytes(&pool.kv.layout);
	pool.kv.block_stride = kv_block_bytes(&pool.kv.layout);
	pool.kv.base = bench_alloc(bench, pool_bytes(&pool, blocks));
	pool.tables = malloc(blocks * sizeof(uint32_t));
	const struct kv_runs_bounds bounds = {RUNS_MAX, runs * rows, blocks_each, BLOCK};
	bench_check(kv_runs_create(bench->device, &bounds, &pool.runs), "runs");
	bench_check(dev_alloc(bench->device, MEM_PINNED, blocks * sizeof(uint64_t), (void **)&pool.digests), "pinned memory");
	bench_fill_bf16(bench, pool.kv.base, pool_bytes(&pool, blocks) / 2, 1);
	for (uint32_t i = 0; i < blocks; i++)
		pool.tables[i] = (uint32_t)((uint64_t)i * 2654435761u % blocks); /* scattered; some twice */
	for (uint32_t i = 0; i < runs; i++)
		pool.list[i] = (struct kv_run){pool.tables + i * blocks_each, length - rows, i * rows, rows, true};
	kv_runs_set(pool.runs, pool.list, runs);
	size_t row_floats = HEADS * DIM, q_bytes = runs * rows * row_floats * 4;
	float *q = bench_alloc(bench, q_bytes);
	void *out = bench_alloc(bench, q_bytes);
	bench_fill_f32(bench, q, q_bytes / 4, 1);
	pool.call = (struct attention_call){.kv = &pool.kv, .runs = pool.runs, .head_count = HEADS, .q = q, .q_stride = row_floats,
					    .out = out, .out_stride = row_floats, .out_elem = ELEM_BF16, .scale = 0.0883883f};
	/* Of the causal half alone: row r sees length - rows + r + 1 positions. */
	double seen = (double)runs * rows * (length - rows + (rows + 1) / 2.0);
	struct work work = {0, 4.0 * seen * HEADS * DIM};
	if (rows == 1)
		work.bytes = (double)runs * length * GROUPS * DIM * 2 * 2;
	bench_measure(bench, name, work, attend, &pool);
	if (rows > 1) {
		struct work bytes = {(double)runs * rows * GROUPS * DIM * 2 * 2, 0};
		char digest_name[64];
		snprintf(digest_name, sizeof(digest_name), "digest/%u", rows);
		bench_measure(bench, digest_name, bytes, digest, &pool);
	}
	kv_runs_destroy(pool.runs);
	bench_free(bench, pool.kv.base, pool_bytes(&pool, blocks));
	bench_free(bench, q, q_bytes);
	bench_free(bench, out, q_bytes);
	dev_free(bench->device, MEM_PINNED, pool.digests, blocks * sizeof(uint64_t));
	free(pool.tables);
}

void bench_attention(struct bench *bench)
{
	measure(bench, "attention/prefill/2048", 1, 2048, 2048);
	measure(bench, "attention/prefill/8192", 1, 8192, 8192);
	measure(bench, "attention/chunk/2048 of 32768", 1, 32768, 2048);
	measure(bench, "attention/decode/1 x 8192", 1, 8192, 1);
	measure(bench, "attention/decode/16 x 8192", 16, 8192, 1);
	measure(bench, "attention/decode/64 x 4096", 64, 4096, 1);
	measure(bench, "attention/decode/256 x 4096", 256, 4096, 1);
}

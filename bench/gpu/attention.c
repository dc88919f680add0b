#include <stdio.h>
#include <stdlib.h>

#include "bench/gpu/bench.h"
#include "bench/gpu/shapes.h"

/* Of an 8B model: 32 query heads over 8 of keys and values, 128 numbers each, blocks of 64 tokens. */
enum { HEADS = 32, GROUPS = 8, DIM = 128, BLOCK = 64, RUNS_MAX = 256, COPIES_MAX = 16 };

/* Calls take turns at copies of a case, each with KV of its own, as many as the second-level cache has no room for. */
struct pool {
	struct bench *bench;
	struct kv_memory kv;
	struct kv_runs *runs[COPIES_MAX];
	struct kv_run list[COPIES_MAX][RUNS_MAX];
	uint32_t copies, blocks; /* of a copy */
	uint32_t *tables;	 /* [copies][blocks] */
	struct attention_call call;
	uint64_t *digests;
};

/* `runs` sequences of `length` positions, of which the last `rows` are queries. */
struct shape {
	const char *name;
	uint32_t runs, length, rows;
};

static void attend(void *context, uint32_t index)
{
	struct pool *pool = context;
	pool->call.runs = pool->runs[index % pool->copies];
	op_attention(pool->bench->device, &pool->call);
}

static void digest(void *context, uint32_t index)
{
	struct pool *pool = context;
	const struct kv_digest_call call = {.parts = &pool->kv, .part_count = 1, .runs = pool->runs[index % pool->copies], .turns = 1,
					    .ret_digests = pool->digests};
	op_kv_digest(pool->bench->device, &call);
}

static size_t pool_bytes(const struct pool *pool)
{
	return (size_t)pool->copies * pool->blocks * pool->kv.block_stride;
}

/* The runs of a copy: their blocks lie scattered over its part of the pool. */
static void make_runs(struct pool *pool, const struct shape *shape, uint32_t copy)
{
	uint32_t blocks_each = pool->blocks / shape->runs, *tables = pool->tables + (size_t)copy * pool->blocks;
	const struct kv_runs_bounds bounds = {RUNS_MAX, shape->runs * shape->rows, blocks_each, BLOCK};
	struct kv_run *list = pool->list[copy];
	bench_check(kv_runs_create(pool->bench->device, &bounds, &pool->runs[copy]), "runs");
	for (uint32_t i = 0; i < pool->blocks; i++)
		tables[i] = copy * pool->blocks + (uint32_t)((uint64_t)i * 2654435761u % pool->blocks);
	for (uint32_t i = 0; i < shape->runs; i++)
		list[i] = (struct kv_run){tables + i * blocks_each, shape->length - shape->rows, i * shape->rows, shape->rows, true};
	kv_runs_set(pool->runs[copy], list, shape->runs);
}

static void open_pool(struct pool *pool, const struct shape *shape)
{
	pool->kv.layout = (struct kv_layout){.layer_count = 1, .head_kv_count = GROUPS, .head_dim = DIM, .block_tokens = BLOCK,
					     .elem = ELEM_BF16};
	pool->kv.layer_stride = kv_layer_bytes(&pool->kv.layout);
	pool->kv.block_stride = kv_block_bytes(&pool->kv.layout);
	pool->blocks = shape->runs * ((shape->length + BLOCK - 1) / BLOCK);
	pool->copies = (uint32_t)(SHAPES_CACHE_BYTES / (pool->blocks * pool->kv.block_stride)) + 1;
	pool->copies = pool->copies < COPIES_MAX ? pool->copies : COPIES_MAX;
	pool->kv.base = bench_alloc(pool->bench, pool_bytes(pool));
	pool->tables = malloc((size_t)pool->copies * pool->blocks * sizeof(uint32_t));
	bench_fill_bf16(pool->bench, pool->kv.base, pool_bytes(pool) / 2, 1);
	for (uint32_t copy = 0; copy < pool->copies; copy++)
		make_runs(pool, shape, copy);
	bench_check(dev_alloc(pool->bench->device, MEM_PINNED, (size_t)pool->copies * pool->blocks * sizeof(uint64_t),
			      (void **)&pool->digests), "pinned memory");
}

static void close_pool(struct pool *pool)
{
	for (uint32_t copy = 0; copy < pool->copies; copy++)
		kv_runs_destroy(pool->runs[copy]);
	dev_free(pool->bench->device, MEM_PINNED, pool->digests, (size_t)pool->copies * pool->blocks * sizeof(uint64_t));
	bench_free(pool->bench, pool->kv.base, pool_bytes(pool));
	free(pool->tables);
}

static void measure_attention(struct pool *pool, const struct shape *shape)
{
	size_t row_floats = HEADS * DIM, bytes = (size_t)shape->runs * shape->rows * row_floats * 4;
	float *q = bench_alloc(pool->bench, bytes);
	void *out = bench_alloc(pool->bench, bytes);
	bench_fill_f32(pool->bench, q, bytes / 4, 1);
	pool->call = (struct attention_call){.kv = &pool->kv, .head_count = HEADS, .q = q, .q_stride = row_floats, .out = out,
					     .out_stride = row_floats, .out_elem = ELEM_BF16, .scale = 0.0883883f};
	/* Of the causal half alone: row r sees length - rows + r + 1 positions. */
	double seen = (double)shape->runs * shape->rows * (shape->length - shape->rows + (shape->rows + 1) / 2.0);
	struct work work = {0, 4.0 * seen * HEADS * DIM};
	if (shape->rows == 1)
		work.bytes = (double)shape->runs * shape->length * GROUPS * DIM * 2 * 2;
	bench_measure(pool->bench, shape->name, work, attend, pool);
	bench_free(pool->bench, q, bytes);
	bench_free(pool->bench, out, bytes);
}

static void measure(struct bench *bench, const struct shape *shape)
{
	static struct pool pool;
	pool = (struct pool){.bench = bench};
	if (bench_over(bench, shape->name))
		return;
	open_pool(&pool, shape);
	measure_attention(&pool, shape);
	/* Of one layer of an 8B model. */
	if (shape->rows == shape->length) {
		struct work work = {(double)shape->runs * shape->rows * GROUPS * DIM * 2 * 2, 0};
		char name[64];
		snprintf(name, sizeof(name), "digest/%u", shape->rows);
		bench_measure(bench, name, work, digest, &pool);
	}
	close_pool(&pool);
}

void bench_attention(struct bench *bench)
{
	static const struct shape shapes[] = {SHAPES_ATTENTION};
	for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++)
		measure(bench, &shapes[i]);
}

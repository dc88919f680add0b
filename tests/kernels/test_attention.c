#include "tests/kernels/fixture.h"
#include <math.h>

/* A sequence of 530 positions (three splits) in a pool of blocks, keys and values of all of them. */
#define LENGTH	    530
#define HEADS_KV    2
#define LAYERS	    2
#define POOL_BLOCKS 120

struct world {
	struct device *device;
	struct kv_memory kv;
	uint32_t head_count, dim;
	uint32_t window; /* 0: none */
	float cap;       /* 0: none */
	float *q, *k, *v; /* [position][head][dim] */
	uint32_t blocks[LENGTH];
	struct rng rng;
};

static struct world world_make(struct device *device, uint32_t group, uint32_t dim, uint32_t block_tokens,
			       enum elem elem)
{
	struct world w = {.device = device, .head_count = group * HEADS_KV, .dim = dim, .rng = {.seed = dim + group}};
	w.kv.layout = (struct kv_layout){LAYERS, HEADS_KV, dim, block_tokens, elem};
	w.kv.block_stride = kv_block_bytes(&w.kv.layout) + 64;
	assert_int_equal(dev_alloc(device, MEM_DEVICE, w.kv.block_stride * POOL_BLOCKS, &w.kv.base), ERR_OK);
	w.q = random_floats(&w.rng, (size_t)LENGTH * w.head_count * dim);
	w.k = random_floats(&w.rng, (size_t)LENGTH * HEADS_KV * dim);
	w.v = random_floats(&w.rng, (size_t)LENGTH * HEADS_KV * dim);
	return w;
}

static void world_free(struct world *w)
{
	dev_free(w->device, MEM_DEVICE, w->kv.base, w->kv.block_stride * POOL_BLOCKS);
	free(w->q);
	free(w->k);
	free(w->v);
}

/* A random place for every block; what was in the pool becomes NaN. */
static void world_shuffle(struct world *w)
{
	uint32_t order[POOL_BLOCKS];
	memset(w->kv.base, 0xff, w->kv.block_stride * POOL_BLOCKS);
	for (uint32_t i = 0; i < POOL_BLOCKS; i++) {
		uint32_t j = (uint32_t)rng_below(&w->rng, i + 1);
		order[i] = order[j];
		order[j] = i;
	}
	memcpy(w->blocks, order, sizeof(order));
}

static void attend(struct world *w, struct device *device, const struct kv_run *runs, uint32_t run_count,
		   const float *q, float *out)
{
	struct attention_call call = {
		.kv = &w->kv, .layer = 1, .runs = runs, .run_count = run_count, .head_count = w->head_count,
		.q = q, .q_stride = w->head_count * w->dim, .out = out, .out_stride = w->head_count * w->dim,
		.scale = 1.0f / sqrtf((float)w->dim), .score_cap = w->cap, .window = w->window,
	};
	op_attention(device, &call);
}

/* Writes and attends [first, first + count) as one run. */
static void step(struct world *w, struct device *device, uint32_t first, uint32_t count, float *out)
{
	struct kv_run run = {w->blocks, first, 0, count};
	size_t kv_stride = HEADS_KV * w->dim, q_stride = w->head_count * w->dim;
	op_kv_write(device, &w->kv, 1, &run, 1, w->k + first * kv_stride, w->v + first * kv_stride, kv_stride);
	attend(w, device, &run, 1, w->q + first * q_stride, out + first * q_stride);
}

static float stored(const struct world *w, float x)
{
	if (w->kv.layout.elem == ELEM_F32)
		return x;
	uint16_t half;
	op_to_bf16(w->device, &x, 1, &half);
	return widened(half);
}

/* Softmax attention of one head at one position, in double. */
static void reference(const struct world *w, uint32_t position, uint32_t head, double *ret_out)
{
	const float *q = w->q + ((size_t)position * w->head_count + head) * w->dim;
	uint32_t head_kv = head / (w->head_count / HEADS_KV);
	uint32_t first = w->window == 0 || position < w->window ? 0 : position + 1 - w->window;
	double total = 0, score[LENGTH], greatest = -INFINITY;
	memset(ret_out, 0, w->dim * sizeof(*ret_out));
	for (uint32_t p = first; p <= position; p++) {
		score[p] = 0;
		for (uint32_t d = 0; d < w->dim; d++)
			score[p] += (double)q[d] * stored(w, w->k[((size_t)p * HEADS_KV + head_kv) * w->dim + d]);
		score[p] /= sqrt(w->dim);
		if (w->cap > 0)
			score[p] = (double)w->cap * tanh(score[p] / (double)w->cap);
		greatest = score[p] > greatest ? score[p] : greatest;
	}
	for (uint32_t p = first; p <= position; p++) {
		double weight = exp(score[p] - greatest);
		total += weight;
		for (uint32_t d = 0; d < w->dim; d++)
			ret_out[d] += weight * stored(w, w->v[((size_t)p * HEADS_KV + head_kv) * w->dim + d]);
	}
	for (uint32_t d = 0; d < w->dim; d++)
		ret_out[d] /= total;
}

static const struct {
	uint32_t group, dim, block_tokens;
	enum elem elem;
	uint32_t window;
	float cap;
} cases[] = {
	{1, 16, 16, ELEM_F32}, {4, 64, 16, ELEM_BF16}, {3, 80, 7, ELEM_BF16}, {8, 32, 64, ELEM_F32}, {5, 128, 16, ELEM_BF16},
	{4, 32, 16, ELEM_BF16, 100, 0}, {1, 16, 7, ELEM_F32, 300, 1.5f}, {3, 16, 16, ELEM_F32, 1, 0},
	{2, 256, 16, ELEM_BF16, 256, 4.0f},
};
#define CASE_COUNT (sizeof(cases) / sizeof(*cases))

static void attention_is_right_on(struct device *device)
{
	for (size_t c = 0; c < CASE_COUNT; c++) {
		struct world w = world_make(device, cases[c].group, cases[c].dim, cases[c].block_tokens, cases[c].elem);
		w.window = cases[c].window;
		w.cap = cases[c].cap;
		static const uint32_t positions[] = {0, 1, 15, 16, 63, 64, 255, 256, 257, 511, 512, 529};
		float *out = filled_with_nan((size_t)LENGTH * w.head_count * w.dim);
		world_shuffle(&w);
		step(&w, device, 0, LENGTH, out);
		for (size_t i = 0; i < sizeof(positions) / sizeof(*positions); i++)
			for (uint32_t head = 0; head < w.head_count; head++) {
				double expected[256];
				const float *row = out + ((size_t)positions[i] * w.head_count + head) * w.dim;
				reference(&w, positions[i], head, expected);
				for (uint32_t d = 0; d < w.dim; d++)
					assert_near(row[d], expected[d], 3e-6);
			}
		free(out);
		world_free(&w);
	}
}

static void attention_is_right(void **state)
{
	on_each_variant(attention_is_right_on);
}

/* One token at a time; then in chunks of any size, by any number of threads, with blocks anywhere. The pool
 * is NaN where nothing was written, so a slot that is read too early shows as well. */
static void bits_do_not_depend_on_chunks_or_blocks_on(struct device *device)
{
	const char *variant = device_props(device)->variant;
	struct device *others[] = {device_named(variant, 1), device_named(variant, 3), device};
	for (size_t c = 0; c < CASE_COUNT; c++) {
		struct world w = world_make(device, cases[c].group, cases[c].dim, cases[c].block_tokens, cases[c].elem);
		w.window = cases[c].window;
		w.cap = cases[c].cap;
		size_t count = (size_t)LENGTH * w.head_count * w.dim;
		float *alone = filled_with_nan(count), *out = filled_with_nan(count);
		world_shuffle(&w);
		for (uint32_t p = 0; p < LENGTH; p++)
			step(&w, device, p, 1, alone);
		for (int trial = 0; trial < 4; trial++) {
			static const uint32_t chunk_max[] = {LENGTH, 16, 90, 300};
			world_shuffle(&w);
			memset(out, 0xff, count * sizeof(*out));
			for (uint32_t p = 0, n; p < LENGTH; p += n) {
				n = trial ? 1 + (uint32_t)rng_below(&w.rng, chunk_max[trial]) : LENGTH;
				n = n < LENGTH - p ? n : LENGTH - p;
				step(&w, others[trial % 3], p, n, out);
			}
			assert_memory_equal(out, alone, count * sizeof(*out));
		}
		free(alone);
		free(out);
		world_free(&w);
	}
	device_close(others[0]);
	device_close(others[1]);
}

static void bits_do_not_depend_on_chunks_or_blocks(void **state)
{
	on_each_variant(bits_do_not_depend_on_chunks_or_blocks_on);
}

/* What lies before a row's window may be anything: those blocks will be others'. */
static void nothing_before_the_window_is_met_on(struct device *device)
{
	struct world w = world_make(device, 4, 32, 16, ELEM_BF16);
	size_t row = w.head_count * w.dim;
	float *out = filled_with_nan(LENGTH * row), *again = filled_with_nan(LENGTH * row);
	w.window = 75;
	world_shuffle(&w);
	step(&w, device, 0, LENGTH, out);
	for (uint32_t block = 0, p = 0; p < LENGTH; p++) {
		for (; (block + 1) * 16 + w.window <= p + 1; block++)
			memset((uint8_t *)w.kv.base + w.blocks[block] * w.kv.block_stride, 0xff, kv_block_bytes(&w.kv.layout));
		step(&w, device, p, 1, again);
	}
	assert_memory_equal(out, again, LENGTH * row * sizeof(*out));
	free(out);
	free(again);
	world_free(&w);
}

static void nothing_before_the_window_is_met(void **state)
{
	on_each_variant(nothing_before_the_window_is_met_on);
}

/* Runs of several lengths in one call, in any order of rows, as when decode rows and prompt chunks mix. */
static void bits_do_not_depend_on_other_runs_on(struct device *device)
{
	struct world w = world_make(device, 4, 64, 16, ELEM_BF16);
	size_t row = w.head_count * w.dim;
	float *alone = filled_with_nan(LENGTH * row), *q = malloc(LENGTH * row * 4), *out = malloc(LENGTH * row * 4);
	world_shuffle(&w);
	step(&w, device, 0, LENGTH, alone);
	for (int trial = 0; trial < 20; trial++) {
		struct kv_run runs[12];
		uint32_t run_count = 1 + (uint32_t)rng_below(&w.rng, 12), rows = 0;
		for (uint32_t i = 0; i < run_count; i++) {
			uint32_t n = rng_below(&w.rng, 2) ? 1 : (uint32_t)rng_below(&w.rng, 50);
			runs[i] = (struct kv_run){w.blocks, (uint32_t)rng_below(&w.rng, LENGTH - n), rows, n};
			rows += n;
		}
		for (uint32_t i = 0; i < run_count; i++) { /* rows of the runs need not be in the runs' order */
			uint32_t j = (uint32_t)rng_below(&w.rng, i + 1);
			struct kv_run run = runs[i];
			runs[i] = runs[j];
			runs[j] = run;
		}
		for (uint32_t i = 0; i < run_count; i++)
			memcpy(q + runs[i].row_first * row, w.q + runs[i].first_position * row, runs[i].row_count * row * 4);
		attend(&w, device, runs, run_count, q, out);
		for (uint32_t i = 0; i < run_count; i++)
			assert_memory_equal(out + runs[i].row_first * row, alone + runs[i].first_position * row,
					    runs[i].row_count * row * 4);
	}
	free(alone);
	free(q);
	free(out);
	world_free(&w);
}

static void bits_do_not_depend_on_other_runs(void **state)
{
	on_each_variant(bits_do_not_depend_on_other_runs_on);
}

/* DESIGN 5: [layer][kv_head][k|v][token][head_dim]. */
static void kv_lies_where_the_layout_says(void **state)
{
	struct device *device = device_named("portable", 1);
	struct world w = world_make(device, 1, 16, 16, ELEM_F32);
	world_shuffle(&w);
	struct kv_run run = {w.blocks, 18, 0, 1};
	op_kv_write(device, &w.kv, 1, &run, 1, w.k, w.v, HEADS_KV * 16);
	const float *block = (const float *)(const void *)((uint8_t *)w.kv.base + w.blocks[1] * w.kv.block_stride);
	for (int head = 0; head < HEADS_KV; head++) {
		const float *keys = block + ((1 * HEADS_KV + head) * 2 + 0) * 16 * 16 + 2 * 16;
		assert_memory_equal(keys, w.k + head * 16, 16 * 4);
		assert_memory_equal(keys + 16 * 16, w.v + head * 16, 16 * 4);
	}
	assert_memory_equal(block, &(uint32_t){UINT32_MAX}, 4);
	world_free(&w);
	device_close(device);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(attention_is_right),
		cmocka_unit_test(bits_do_not_depend_on_chunks_or_blocks),
		cmocka_unit_test(nothing_before_the_window_is_met),
		cmocka_unit_test(bits_do_not_depend_on_other_runs),
		cmocka_unit_test(kv_lies_where_the_layout_says),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

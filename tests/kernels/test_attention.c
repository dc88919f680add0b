#include "tests/kernels/fixture.h"
#include <math.h>
#include <stdbool.h>
#include "base/digest.h"

/* A sequence of 530 positions (three splits) in a pool of blocks, keys and values of all of them. */
#define LENGTH	    530
#define HEADS_KV    2
#define LAYERS	    2
#define POOL_BLOCKS 120

/* With value_dim, the pool holds latents: one kv head, whose values are the first part of its keys. */
struct shape {
	uint32_t group, dim, value_dim, block_tokens;
	enum elem elem;
	uint32_t window;
	float cap;
	float sink; /* the greatest of the heads' sinks, which lie 3 apart; 0: none */
};

struct world {
	struct device *device;
	struct kv_memory kv;
	uint32_t head_count, head_kv_count, dim, value_dim;
	uint32_t window; /* 0: none */
	float cap;       /* 0: none */
	float *q;    /* [position][head][value_dim] */
	float *rest; /* [position][head][dim - value_dim], of latents */
	float *k, *v; /* [position][kv_head][dim] */
	float *sinks; /* [head], or NULL */
	uint32_t blocks[LENGTH];
	struct kv_runs *runs;
	struct rng rng;
};

static struct world world_make(struct device *device, const struct shape *shape)
{
	bool latent = shape->value_dim > 0;
	uint32_t heads_kv = latent ? 1 : HEADS_KV;
	struct world w = {.device = device, .head_count = shape->group * heads_kv, .head_kv_count = heads_kv,
			  .dim = shape->dim, .value_dim = latent ? shape->value_dim : shape->dim,
			  .window = shape->window, .cap = shape->cap,
			  .rng = {.seed = shape->dim + shape->group}};
	w.kv.layout = (struct kv_layout){LAYERS, heads_kv, shape->dim, shape->block_tokens, shape->elem,
					 latent ? KV_LATENT : KV_HEADS, shape->value_dim};
	w.kv.layer_stride = kv_layer_bytes(&w.kv.layout);
	w.kv.block_stride = kv_block_bytes(&w.kv.layout) + 64;
	assert_int_equal(dev_alloc(device, MEM_DEVICE, w.kv.block_stride * POOL_BLOCKS, &w.kv.base), ERR_OK);
	const struct kv_runs_bounds bounds = {LENGTH, 2 * LENGTH, LENGTH, shape->block_tokens};
	assert_int_equal(kv_runs_create(device, &bounds, &w.runs), ERR_OK);
	w.q = random_floats(&w.rng, (size_t)LENGTH * w.head_count * w.value_dim);
	w.k = random_floats(&w.rng, (size_t)LENGTH * heads_kv * w.dim);
	w.v = random_floats(&w.rng, (size_t)LENGTH * heads_kv * w.dim);
	w.rest = random_floats(&w.rng, (size_t)LENGTH * w.head_count * (w.dim - w.value_dim) + 1);
	w.sinks = shape->sink > 0 ? malloc(w.head_count * sizeof(float)) : NULL;
	for (uint32_t head = 0; w.sinks && head < w.head_count; head++)
		w.sinks[head] = shape->sink - 3.0f * (float)head;
	return w;
}

static void world_free(struct world *w)
{
	dev_free(w->device, MEM_DEVICE, w->kv.base, w->kv.block_stride * POOL_BLOCKS);
	kv_runs_destroy(w->runs);
	free(w->q);
	free(w->rest);
	free(w->k);
	free(w->v);
	free(w->sinks);
}

static size_t row_size(const struct world *w)
{
	return (size_t)w->head_count * w->value_dim;
}

static size_t rest_size(const struct world *w)
{
	return (size_t)w->head_count * (w->dim - w->value_dim);
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
		   const float *q, const float *rest, float *out)
{
	struct attention_call call = {
		.kv = &w->kv, .layer = 1, .runs = w->runs, .head_count = w->head_count,
		.q = q, .q_stride = row_size(w), .out = out, .out_stride = row_size(w),
		.scale = 1.0f / sqrtf((float)w->dim), .score_cap = w->cap, .window = w->window,
		.q_rest = w->kv.layout.kind == KV_LATENT ? rest : NULL, .q_rest_stride = rest_size(w),
		.sinks = w->sinks,
	};
	kv_runs_set(w->runs, runs, run_count);
	op_attention(device, &call);
}

/* Rows [0, row_count) of k and v are those of the run. */
static void write_run(struct world *w, struct device *device, const struct kv_run *run, const float *k, const float *v)
{
	const struct kv_write_call call = {.kv = &w->kv, .layer = 1, .runs = w->runs, .k = k, .v = v,
					   .stride = (size_t)w->head_kv_count * w->dim};
	kv_runs_set(w->runs, run, 1);
	op_kv_write(device, &call);
}

/* Writes and attends [first, first + count) as one run. */
static void step(struct world *w, struct device *device, uint32_t first, uint32_t count, float *out)
{
	struct kv_run run = {w->blocks, first, 0, count};
	size_t kv_stride = (size_t)w->head_kv_count * w->dim;
	const float *v = w->kv.layout.kind == KV_LATENT ? NULL : w->v + first * kv_stride;
	write_run(w, device, &run, w->k + first * kv_stride, v);
	attend(w, device, &run, 1, w->q + first * row_size(w), w->rest + first * rest_size(w),
	       out + first * row_size(w));
}

static float stored(const struct world *w, float x)
{
	if (w->kv.layout.elem == ELEM_F32)
		return x;
	uint16_t half;
	op_to_bf16(w->device, &x, 1, &half);
	return widened(half);
}

static double score_of(const struct world *w, uint32_t position, uint32_t head, const float *key)
{
	size_t row = (size_t)position * w->head_count + head;
	uint32_t rest = w->dim - w->value_dim;
	double score = 0;
	for (uint32_t d = 0; d < w->value_dim; d++)
		score += (double)w->q[row * w->value_dim + d] * stored(w, key[d]);
	for (uint32_t d = 0; d < rest; d++)
		score += (double)w->rest[row * rest + d] * stored(w, key[w->value_dim + d]);
	return score / sqrt(w->dim);
}

/* Softmax attention of one head at one position, in double. */
static void reference(const struct world *w, uint32_t position, uint32_t head, double *ret_out)
{
	uint32_t head_kv = head / (w->head_count / w->head_kv_count);
	uint32_t first = w->window == 0 || position < w->window ? 0 : position + 1 - w->window;
	const float *keys = w->k + (size_t)head_kv * w->dim;
	const float *values = w->kv.layout.kind == KV_LATENT ? keys : w->v + (size_t)head_kv * w->dim;
	size_t stride = (size_t)w->head_kv_count * w->dim;
	double total = 0, score[LENGTH], greatest = -INFINITY;
	memset(ret_out, 0, w->value_dim * sizeof(*ret_out));
	for (uint32_t p = first; p <= position; p++) {
		score[p] = score_of(w, position, head, keys + p * stride);
		if (w->cap > 0)
			score[p] = (double)w->cap * tanh(score[p] / (double)w->cap);
		greatest = score[p] > greatest ? score[p] : greatest;
	}
	if (w->sinks)
		greatest = fmax(greatest, (double)w->sinks[head]);
	total = w->sinks ? exp((double)w->sinks[head] - greatest) : 0;
	for (uint32_t p = first; p <= position; p++) {
		double weight = exp(score[p] - greatest);
		total += weight;
		for (uint32_t d = 0; d < w->value_dim; d++)
			ret_out[d] += weight * stored(w, values[p * stride + d]);
	}
	for (uint32_t d = 0; d < w->value_dim; d++)
		ret_out[d] /= total;
}

static const struct shape shapes[] = {
	{1, 16, 0, 16, ELEM_F32},     {4, 64, 0, 16, ELEM_BF16},  {3, 80, 0, 7, ELEM_BF16},
	{8, 32, 0, 64, ELEM_F32},     {5, 128, 0, 16, ELEM_BF16}, {4, 32, 0, 16, ELEM_BF16, 100, 0},
	{1, 16, 0, 7, ELEM_F32, 300, 1.5f}, {3, 16, 0, 16, ELEM_F32, 1, 0}, {2, 256, 0, 16, ELEM_BF16, 256, 4.0f},
	{16, 96, 80, 16, ELEM_BF16},  {70, 32, 16, 16, ELEM_F32}, {3, 48, 48, 7, ELEM_BF16, 90, 2.0f},
	/* Sinks above and below the greatest score, by more than exp can say. */
	{4, 64, 0, 16, ELEM_BF16, 128, 0, 8.0f}, {8, 32, 0, 7, ELEM_F32, 0, 0, 5.0f}, {1, 16, 0, 16, ELEM_F32, 1, 0, 100.0f},
	{70, 16, 0, 16, ELEM_F32, 0, 0, 110.0f}, {3, 48, 48, 7, ELEM_BF16, 90, 2.0f, 4.0f},
};
#define SHAPE_COUNT (sizeof(shapes) / sizeof(*shapes))

static void attention_is_right_on(struct device *device)
{
	for (size_t c = 0; c < SHAPE_COUNT; c++) {
		struct world w = world_make(device, &shapes[c]);
		static const uint32_t positions[] = {0, 1, 15, 16, 63, 64, 255, 256, 257, 511, 512, 529};
		float *out = filled_with_nan(LENGTH * row_size(&w));
		world_shuffle(&w);
		step(&w, device, 0, LENGTH, out);
		for (size_t i = 0; i < sizeof(positions) / sizeof(*positions); i++)
			for (uint32_t head = 0; head < w.head_count; head++) {
				double expected[256];
				const float *row = out + positions[i] * row_size(&w) + (size_t)head * w.value_dim;
				reference(&w, positions[i], head, expected);
				for (uint32_t d = 0; d < w.value_dim; d++)
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
	for (size_t c = 0; c < SHAPE_COUNT; c++) {
		struct world w = world_make(device, &shapes[c]);
		size_t count = LENGTH * row_size(&w);
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
	struct world w = world_make(device, &(struct shape){4, 32, 0, 16, ELEM_BF16, 75, 0});
	size_t row = row_size(&w);
	float *out = filled_with_nan(LENGTH * row), *again = filled_with_nan(LENGTH * row);
	world_shuffle(&w);
	step(&w, device, 0, LENGTH, out);
	for (uint32_t block = 0, p = 0; p < LENGTH; p++) {
		for (; (block + 1) * 16 + w.window <= p + 1; block++) {
			memset((uint8_t *)w.kv.base + w.blocks[block] * w.kv.block_stride, 0xff, kv_block_bytes(&w.kv.layout));
			w.blocks[block] = UINT32_MAX; /* no block at all */
		}
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
static void bits_do_not_depend_on_other_runs_of(struct device *device, const struct shape *shape)
{
	struct world w = world_make(device, shape);
	size_t row = row_size(&w), rest = rest_size(&w);
	float *alone = filled_with_nan(LENGTH * row), *q = malloc(LENGTH * row * 4), *q_rest = malloc(LENGTH * rest * 4 + 1);
	world_shuffle(&w);
	step(&w, device, 0, LENGTH, alone);
	for (int trial = 0; trial < 20; trial++) {
		struct kv_run runs[12];
		uint32_t run_count = 1 + (uint32_t)rng_below(&w.rng, 12), rows = 0;
		for (uint32_t i = 0; i < run_count; i++) {
			uint32_t n = rng_below(&w.rng, 2) ? 1 : 1 + (uint32_t)rng_below(&w.rng, 49);
			runs[i] = (struct kv_run){w.blocks, (uint32_t)rng_below(&w.rng, LENGTH - n), rows, n};
			rows += n;
		}
		for (uint32_t i = 0; i < run_count; i++) { /* rows of the runs need not be in the runs' order */
			uint32_t j = (uint32_t)rng_below(&w.rng, i + 1);
			struct kv_run run = runs[i];
			runs[i] = runs[j];
			runs[j] = run;
		}
		for (uint32_t i = 0; i < run_count; i++) {
			const struct kv_run *r = &runs[i];
			memcpy(q + r->row_first * row, w.q + r->first_position * row, r->row_count * row * 4);
			memcpy(q_rest + r->row_first * rest, w.rest + r->first_position * rest, r->row_count * rest * 4);
		}
		attend(&w, device, runs, run_count, q, q_rest, q); /* the answers take the queries' place */
		for (uint32_t i = 0; i < run_count; i++)
			assert_memory_equal(q + runs[i].row_first * row, alone + runs[i].first_position * row,
					    runs[i].row_count * row * 4);
	}
	free(alone);
	free(q);
	free(q_rest);
	world_free(&w);
}

static void bits_do_not_depend_on_other_runs_on(struct device *device)
{
	bits_do_not_depend_on_other_runs_of(device, &(struct shape){4, 64, 0, 16, ELEM_BF16});
	bits_do_not_depend_on_other_runs_of(device, &(struct shape){16, 96, 80, 16, ELEM_BF16});
	bits_do_not_depend_on_other_runs_of(device, &(struct shape){8, 64, 0, 16, ELEM_BF16, 128, 0, 6.0f});
}

static void bits_do_not_depend_on_other_runs(void **state)
{
	on_each_variant(bits_do_not_depend_on_other_runs_on);
}

/* DESIGN 5: [layer][kv_head][k|v][token][head_dim]. */
static void kv_lies_where_the_layout_says(void **state)
{
	struct device *device = device_named("portable", 1);
	struct world w = world_make(device, &(struct shape){1, 16, 0, 16, ELEM_F32});
	world_shuffle(&w);
	struct kv_run run = {w.blocks, 18, 0, 1};
	write_run(&w, device, &run, w.k, w.v);
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

/* DESIGN 5: [layer][token][latent]. */
static void latents_lie_where_the_layout_says(void **state)
{
	struct device *device = device_named("portable", 1);
	struct world w = world_make(device, &(struct shape){4, 48, 32, 16, ELEM_F32});
	assert_int_equal(kv_block_bytes(&w.kv.layout), LAYERS * 16 * 48 * 4);
	world_shuffle(&w);
	struct kv_run run = {w.blocks, 18, 0, 1};
	write_run(&w, device, &run, w.k, NULL);
	const float *layer = (const float *)(const void *)((uint8_t *)w.kv.base + w.blocks[1] * w.kv.block_stride) + 16 * 48;
	assert_memory_equal(layer + 2 * 48, w.k, 48 * 4);
	assert_memory_equal(layer + 3 * 48, &(uint32_t){UINT32_MAX}, 4);
	assert_memory_equal(layer + 2 * 48 - 1, &(uint32_t){UINT32_MAX}, 4);
	world_free(&w);
	device_close(device);
}

/* What a run begins and does not fill is zero behind it, in that layer alone; what others began stays. */
static void slots_behind_a_run_are_zero_on(struct device *device)
{
	for (size_t c = 0; c < SHAPE_COUNT; c++) {
		struct world w = world_make(device, &shapes[c]);
		const struct kv_layout *layout = &w.kv.layout;
		size_t vector = layout->head_dim * elem_bytes(layout->elem), layer = kv_layer_bytes(layout);
		uint32_t tokens = layout->block_tokens, count = tokens + tokens / 2;
		const float *v = layout->kind == KV_LATENT ? NULL : w.v;
		uint8_t *zeros = calloc(1, layer), *before = malloc(layer);
		world_shuffle(&w);
		write_run(&w, device, &(struct kv_run){w.blocks, 0, 0, count}, w.k, v);
		const uint8_t *block = kv_block_at(&w.kv, w.blocks[1]), *at = block + layer;
		for (size_t plane = 0; plane < layer / (tokens * vector); plane++)
			assert_memory_equal(at + (plane * tokens + tokens / 2) * vector, zeros, (tokens - tokens / 2) * vector);
		memset(before, 0xff, layer);
		assert_memory_equal(block, before, layer);
		memcpy(before, at, layer);
		write_run(&w, device, &(struct kv_run){w.blocks, count, 0, 1}, w.k, v);
		for (size_t plane = 0; plane < layer / (tokens * vector); plane++)
			assert_memory_equal(at + plane * tokens * vector, before + plane * tokens * vector, tokens / 2 * vector);
		free(zeros);
		free(before);
		world_free(&w);
	}
}

static void slots_behind_a_run_are_zero(void **state)
{
	on_each_variant(slots_behind_a_run_are_zero_on);
}

/* Of each block that a run writes into, if it asks. */
static void digests_are_of_what_was_written_on(struct device *device)
{
	struct world w = world_make(device, &(struct shape){4, 64, 0, 16, ELEM_BF16});
	uint64_t digests[POOL_BLOCKS][LAYERS];
	const struct kv_run runs[] = {{w.blocks, 0, 0, 40, true}, {w.blocks + 10, 15, 40, 2, true}, {w.blocks + 20, 0, 42, 3, false}};
	const struct kv_write_call call = {.kv = &w.kv, .layer = 1, .runs = w.runs, .k = w.k, .v = w.v, .stride = HEADS_KV * 64};
	world_shuffle(&w);
	memset(digests, 0xff, sizeof(digests));
	kv_runs_set(w.runs, runs, 3);
	op_kv_write(device, &call);
	op_kv_digest(device, &(struct kv_digest_call){&w.kv, 1, 1, w.runs, 0, 1, digests[0]});
	for (uint32_t i = 0; i < POOL_BLOCKS; i++) {
		bool asked = i < 3 || i == 10 || i == 11;
		const uint8_t *at = kv_block_at(&w.kv, w.blocks[i]) + kv_layer_bytes(&w.kv.layout);
		uint64_t expected = asked ? digest_of(at, kv_layer_bytes(&w.kv.layout)) : UINT64_MAX;
		assert_true(digests[w.blocks[i]][1] == expected && digests[w.blocks[i]][0] == UINT64_MAX);
	}
	world_free(&w);
}

static void digests_are_of_what_was_written(void **state)
{
	on_each_variant(digests_are_of_what_was_written_on);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(attention_is_right),
		cmocka_unit_test(bits_do_not_depend_on_chunks_or_blocks),
		cmocka_unit_test(nothing_before_the_window_is_met),
		cmocka_unit_test(bits_do_not_depend_on_other_runs),
		cmocka_unit_test(kv_lies_where_the_layout_says),
		cmocka_unit_test(latents_lie_where_the_layout_says),
		cmocka_unit_test(slots_behind_a_run_are_zero),
		cmocka_unit_test(digests_are_of_what_was_written),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

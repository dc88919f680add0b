/* What of a row comes before attention, as one operation: the bits of the four that it stands for, on each device. */
#include "tests/gpu/fixture.h"

enum { TOKENS = 16, BLOCKS = 8, LAYERS = 2, ROWS = 9, PADDING = 1 };

static const uint32_t tables[3][3] = {{3, 6, 1}, {5, 0, 0}, {2, 4, 7}};

/* One run ends a block, one ends in a block it begins, one begins a sequence; rows 5, 6 and the last are nobody's. */
static const struct kv_run list[] = {
	{.blocks = tables[2], .first_position = 31, .row_first = 7, .row_count = 1},
	{.blocks = tables[0], .first_position = 14, .row_first = 0, .row_count = 4},
	{.blocks = tables[1], .first_position = 0, .row_first = 4, .row_count = 1},
};

struct shape {
	uint32_t heads, kv_heads, dim, half;
	enum elem elem;
	bool norm;
	uint32_t gap; /* numbers between rows: 1 makes them lie at no multiple of 16 bytes */
};

/* What goes in: the same for every device and way. */
struct inputs {
	float *x, *q_norm, *k_norm, *cos, *sin;
	uint8_t *pool;
	size_t stride, x_bytes, pool_bytes;
};

static struct kv_layout layout_of(const struct shape *shape)
{
	return (struct kv_layout){LAYERS, shape->kv_heads, shape->dim, TOKENS, shape->elem, KV_HEADS, 0};
}

static struct inputs inputs_make(struct rng *rng, const struct shape *shape)
{
	const struct kv_layout layout = layout_of(shape);
	struct inputs in = {.stride = (size_t)(shape->heads + 2 * shape->kv_heads) * shape->dim + shape->gap};
	in.x_bytes = ROWS * in.stride * sizeof(float);
	in.pool_bytes = BLOCKS * kv_block_bytes(&layout);
	in.x = random_floats(rng, ROWS * in.stride);
	in.q_norm = random_floats(rng, shape->dim);
	in.k_norm = random_floats(rng, shape->dim);
	in.cos = random_floats(rng, ROWS * shape->half + 1);
	in.sin = random_floats(rng, ROWS * shape->half + 1);
	in.pool = malloc(in.pool_bytes);
	for (size_t i = 0; i < in.pool_bytes; i++)
		in.pool[i] = (uint8_t)rng_next(rng);
	return in;
}

static void inputs_free(struct inputs *in)
{
	free(in->x), free(in->q_norm), free(in->k_norm), free(in->cos), free(in->sin), free(in->pool);
}

/* What comes out. */
struct outputs {
	float *x;
	uint8_t *pool;
};

static void queue(struct device *device, const struct shape *shape, const struct qkv_call *call, bool fused)
{
	float *k = call->x + (size_t)shape->heads * shape->dim;
	const struct kv_write_call write = {call->kv, call->layer, call->runs, k, k + (size_t)shape->kv_heads * shape->dim, call->x_stride};
	if (fused) {
		op_qkv(device, call);
		return;
	}
	if (call->q_norm) {
		op_head_norm(device, call->x, call->x_stride, ROWS, shape->heads, shape->dim, call->q_norm, call->eps);
		op_head_norm(device, k, call->x_stride, ROWS, shape->kv_heads, shape->dim, call->k_norm, call->eps);
	}
	op_rope(device, call->x, call->x_stride, ROWS, shape->heads + shape->kv_heads, shape->dim, shape->half, call->cos, call->sin);
	op_kv_write(device, &write);
}

static struct outputs run(struct device *device, const struct shape *shape, const struct inputs *in, bool fused)
{
	const struct kv_layout layout = layout_of(shape);
	const struct kv_runs_bounds bounds = {.runs_max = 4, .rows_max = ROWS + 4, .blocks_max = 3, .block_tokens = TOKENS};
	size_t dim_bytes = shape->dim * sizeof(float), angle_bytes = (ROWS * shape->half + 1) * sizeof(float);
	void *pool = gpu_put(device, in->pool, in->pool_bytes);
	const struct kv_memory kv = {layout, pool, kv_block_bytes(&layout), kv_layer_bytes(&layout), 0};
	struct kv_runs *runs;
	assert_int_equal(kv_runs_create(device, &bounds, &runs), ERR_OK);
	kv_runs_set_padded(runs, list, sizeof(list) / sizeof(*list), PADDING);
	void *x = gpu_put(device, in->x, in->x_bytes), *cosine = gpu_put(device, in->cos, angle_bytes);
	void *sine = gpu_put(device, in->sin, angle_bytes), *q_norm = gpu_put(device, in->q_norm, dim_bytes);
	void *k_norm = gpu_put(device, in->k_norm, dim_bytes);
	const struct qkv_call call = {.kv = &kv, .layer = 1, .runs = runs, .x = x, .x_stride = in->stride, .rows = ROWS,
				      .head_count = shape->heads, .q_norm = shape->norm ? q_norm : NULL,
				      .k_norm = shape->norm ? k_norm : NULL, .eps = 1e-6f, .half = shape->half, .cos = cosine, .sin = sine};
	queue(device, shape, &call, fused);
	assert_int_equal(device_sync(device), ERR_OK);
	kv_runs_destroy(runs);
	dev_free(device, MEM_DEVICE, cosine, angle_bytes);
	dev_free(device, MEM_DEVICE, sine, angle_bytes);
	dev_free(device, MEM_DEVICE, q_norm, dim_bytes);
	dev_free(device, MEM_DEVICE, k_norm, dim_bytes);
	return (struct outputs){gpu_take(device, x, in->x_bytes), gpu_take(device, pool, in->pool_bytes)};
}

/* Queries of every row, what lies between rows, and the pool: the keys and values in x are not said. */
static void check(const struct shape *shape, const struct inputs *in, const struct outputs *a, const struct outputs *b)
{
	size_t queries = (size_t)shape->heads * shape->dim, behind = in->stride - shape->gap;
	assert_memory_equal(a->pool, b->pool, in->pool_bytes);
	for (size_t row = 0; row < ROWS; row++) {
		assert_memory_equal(a->x + row * in->stride, b->x + row * in->stride, queries * sizeof(float));
		assert_memory_equal(a->x + row * in->stride + behind, in->x + row * in->stride + behind, shape->gap * sizeof(float));
	}
}

static void one_operation_has_the_bits_of_four(void **state)
{
	static const struct shape shapes[] = {
		{4, 2, 128, 64, ELEM_BF16, true, 16}, {4, 2, 128, 64, ELEM_BF16, false, 0}, {6, 1, 64, 32, ELEM_BF16, true, 1},
		{3, 3, 80, 20, ELEM_F32, true, 4},    {2, 2, 96, 15, ELEM_BF16, true, 0},   {2, 1, 256, 128, ELEM_BF16, true, 0},
		{1, 1, 512, 256, ELEM_F32, true, 0},  {5, 1, 16, 8, ELEM_F32, false, 3},    {2, 2, 64, 0, ELEM_BF16, true, 0},
		{2, 1, 512, 192, ELEM_BF16, false, 0}, {2, 1, 192, 64, ELEM_BF16, false, 4},
	};
	struct rng rng = {.seed = 1};
	struct device *gpu = gpu_open(1), *cpu = oracle_open();
	for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
		struct inputs in = inputs_make(&rng, &shapes[i]);
		struct outputs of[4];
		for (int way = 0; way < 4; way++)
			of[way] = run(way < 2 ? gpu : cpu, &shapes[i], &in, way % 2 == 0);
		check(&shapes[i], &in, &of[0], &of[1]);
		check(&shapes[i], &in, &of[2], &of[3]);
		if (!shapes[i].norm) /* whose sum has another order */
			check(&shapes[i], &in, &of[0], &of[2]);
		assert_true(memcmp(of[0].pool, in.pool, in.pool_bytes) != 0 && memcmp(of[0].x, in.x, in.x_bytes) != 0);
		for (int way = 0; way < 4; way++)
			free(of[way].x), free(of[way].pool);
		inputs_free(&in);
	}
	device_close(gpu);
	device_close(cpu);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_operation_has_the_bits_of_four),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

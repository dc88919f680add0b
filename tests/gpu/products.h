/* products - what tests of products have in common, whatever the weights: law 1 over numbers of rows that take every tile, several
 * calls as one, experts. */
#ifndef TESTS_GPU_PRODUCTS_H
#define TESTS_GPU_PRODUCTS_H
#include "base/bf16.h"
#include "kernels/cuda/linear_plan.h"
#include "tests/gpu/fixture.h"

/* Weights of one kind, and inputs for them: numbers that are the same as f32 and as bf16. */
struct product_kind {
	struct linear *(*weights)(struct device *device, struct rng *rng, struct linear_shape shape);
	enum elem x_elem; /* of experts' inputs */
};

static inline float *random_inputs(struct rng *rng, size_t count)
{
	float *x = random_floats(rng, count);
	for (size_t i = 0; i < count; i++)
		x[i] = widened(bf16_round(x[i]));
	return x;
}

/* Numbers of x_elem. */
static inline void *inputs_put(struct device *device, const float *x, size_t count, enum elem x_elem)
{
	uint16_t *halves = malloc(count * sizeof(*halves) + 1);
	assert_non_null(halves);
	for (size_t i = 0; i < count; i++)
		halves[i] = bf16_round(x[i]);
	void *in = gpu_put(device, x_elem == ELEM_F32 ? (const void *)x : halves, count * elem_bytes(x_elem));
	free(halves);
	return in;
}

/* x is [rows][k] f32 on the host, given to the device as f32 or, rounded, as bf16; y comes back. */
static inline float *run_linear(struct device *device, const struct linear *linear, const float *x, uint32_t rows, enum elem x_elem)
{
	const struct linear_shape *shape = linear_shape(linear);
	size_t count = (size_t)rows * shape->k, y_bytes = (size_t)(rows + 1) * shape->n * sizeof(float);
	void *in = inputs_put(device, x, count, x_elem), *out = gpu_nan(device, y_bytes);
	const struct linear_call call = {.linear = linear, .x = in, .x_stride = shape->k, .x_elem = x_elem, .y = out,
					 .y_stride = shape->n, .rows = rows};
	op_linear(device, &call, 1);
	assert_int_equal(device_sync(device), ERR_OK);
	float *y = gpu_take(device, out, y_bytes);
	dev_free(device, MEM_DEVICE, in, count * elem_bytes(x_elem));
	assert_memory_equal(&y[(size_t)rows * shape->n], &(uint32_t){UINT32_MAX}, 4); /* not one more */
	return y;
}

/* --- law 1 ----------------------------------------------------------------------------------------------- */

/* Distinct rows: others repeat them. */
enum { PRODUCT_ROWS = 37, PRODUCT_ROWS_MOST = 8192, PRODUCT_COMPANIES_MAX = 24 };

static inline float *repeated_rows(const float *own, uint32_t k, uint32_t rows)
{
	float *x = malloc((size_t)rows * k * sizeof(float));
	assert_non_null(x);
	for (uint32_t row = 0; row < rows; row++)
		memcpy(x + (size_t)row * k, own + (size_t)(row % PRODUCT_ROWS) * k, k * sizeof(float));
	return x;
}

/* Each of the distinct rows alone: [PRODUCT_ROWS][n]. */
static inline float *rows_alone(struct device *device, const struct linear *linear, const float *own, enum elem x_elem)
{
	uint32_t n = linear_shape(linear)->n, k = linear_shape(linear)->k;
	float *alone = malloc((size_t)PRODUCT_ROWS * n * sizeof(float));
	assert_non_null(alone);
	for (uint32_t row = 0; row < PRODUCT_ROWS; row++) {
		float *y = run_linear(device, linear, own + (size_t)row * k, 1, x_elem);
		memcpy(alone + (size_t)row * n, y, n * sizeof(float));
		free(y);
	}
	return alone;
}

static inline struct linear_plan product_plan(const struct device *device, const struct linear_shape *shape, uint32_t groups,
					      uint32_t rows)
{
	const struct linear_plan_shape plan_shape = {.n = shape->n, .rows = rows, .groups = groups, .segments = shape->segments,
						     .k = shape->k, .sm_count = device_props(device)->thread_count,
						     .one_group = shape->elem == ELEM_E4M3 && shape->scale_outputs % 16 != 0};
	return linear_plan(&plan_shape);
}

/* So many outputs that rows up to PRODUCT_ROWS_MOST bring every tile its turn, on a GPU; `few` do on the fake device. */
static inline uint32_t product_outputs(const struct device *device, uint32_t few)
{
	return device_props(device)->thread_count > 8 ? 6144 : few;
}

/* So many inputs that the stages of a tile go round several times, on a GPU: for it they cost nothing. */
static inline uint32_t product_inputs(const struct device *device, uint32_t few)
{
	return device_props(device)->thread_count > 8 ? few + 1024 : few;
}

/* A tile as a bit of its width, and of its second warpgroup. */
static inline uint32_t tile_of(struct linear_plan plan)
{
	return plan.width << (plan.groups == 2 ? 16 : 0);
}

/* Of a shape with up to PRODUCT_ROWS_MOST rows. */
static inline uint32_t tiles_of(const struct linear_plan_shape *shape)
{
	struct linear_plan_shape of = *shape;
	uint32_t tiles = 0;
	for (of.rows = 1; of.rows <= PRODUCT_ROWS_MOST; of.rows += of.rows < 64 ? 1 : 7)
		tiles |= tile_of(linear_plan(&of));
	return tiles;
}

/* Numbers of rows at which a new kind of tile has its first turn, and the one before. */
static inline uint32_t list_companies(const struct device *device, const struct linear_shape *shape,
				      uint32_t ret_rows[PRODUCT_COMPANIES_MAX], uint32_t *tiles)
{
	uint32_t count = 0, seen = 0;
	for (uint32_t rows = 1; rows <= PRODUCT_ROWS_MOST && count + 2 <= PRODUCT_COMPANIES_MAX; rows += rows < 64 ? 1 : 7) {
		uint32_t tile = tile_of(product_plan(device, shape, 1, rows));
		if (seen & tile)
			continue;
		seen |= tile;
		if (rows > 1)
			ret_rows[count++] = rows - 1;
		ret_rows[count++] = rows;
	}
	*tiles |= seen;
	return count;
}

/* Each row alone, then in companies that bring every tile its turn: the same bits. */
static inline void bits_do_not_depend_on_company(struct device *device, const struct product_kind *kind, struct linear_shape shape,
						 uint32_t *tiles)
{
	struct rng rng = {.seed = 3};
	struct linear *linear = kind->weights(device, &rng, shape);
	uint32_t n = shape.n, companies[PRODUCT_COMPANIES_MAX], count = list_companies(device, &shape, companies, tiles);
	float *own = random_inputs(&rng, (size_t)PRODUCT_ROWS * shape.k), *x = repeated_rows(own, shape.k, PRODUCT_ROWS_MOST);
	float *alone = rows_alone(device, linear, own, ELEM_F32);
	for (uint32_t c = 0; c < count; c++) {
		float *y = run_linear(device, linear, x, companies[c], c % 2 ? ELEM_F32 : ELEM_BF16);
		for (uint32_t row = 0; row < companies[c]; row++)
			assert_memory_equal(y + (size_t)row * n, alone + (size_t)(row % PRODUCT_ROWS) * n, n * sizeof(float));
		free(y);
	}
	free(x);
	free(own);
	free(alone);
	linear_destroy(linear);
}

/* --- several at once --------------------------------------------------------------------------------------- */

/* Calls with strided inputs and outputs, as the heads of latent attention have them, are one kernel, and give what each gives. */
static inline void calls_are_as_alone(struct device *device, const struct product_kind *kind, struct linear_shape shape, uint32_t x_gap)
{
	enum { HEADS = 5, ROWS = 37 };
	struct rng rng = {.seed = 6};
	uint32_t n = shape.n, k = shape.k, x_stride = HEADS * k + x_gap, y_stride = HEADS * n;
	float *x = random_floats(&rng, (size_t)ROWS * x_stride), *own = malloc((size_t)ROWS * k * sizeof(float));
	void *in = gpu_put(device, x, (size_t)ROWS * x_stride * sizeof(float));
	void *out = gpu_nan(device, (size_t)ROWS * y_stride * sizeof(float));
	struct linear *linears[HEADS];
	struct linear_call calls[HEADS];
	for (int h = 0; h < HEADS; h++) {
		linears[h] = kind->weights(device, &rng, shape);
		calls[h] = (struct linear_call){linears[h], (float *)in + h * k, x_stride, (float *)out + h * n, y_stride, ROWS,
						ELEM_F32, ELEM_F32};
	}
	op_linear(device, calls, HEADS);
	float *y = gpu_take(device, out, (size_t)ROWS * y_stride * sizeof(float));
	for (int h = 0; h < HEADS; h++) {
		for (int row = 0; row < ROWS; row++)
			memcpy(own + row * k, x + row * x_stride + h * k, k * sizeof(float));
		float *expected = run_linear(device, linears[h], own, ROWS, ELEM_F32);
		for (int row = 0; row < ROWS; row++)
			assert_memory_equal(y + row * y_stride + h * n, expected + row * n, n * sizeof(float));
		free(expected);
		linear_destroy(linears[h]);
	}
	dev_free(device, MEM_DEVICE, in, (size_t)ROWS * x_stride * sizeof(float));
	free(own);
	free(x);
	free(y);
}

/* Whatever rows each expert has (expert e counts[e % 8]), a row gets what it gets alone.  Biases are each expert's own.  Returns the
 * tile, as tile_of(). */
static inline uint32_t experts_are_as_alone(struct device *device, const struct product_kind *kind, struct linear_shape shape,
					    const uint32_t *counts /* [8] */, uint32_t expert_count)
{
	enum { EXPERTS_MAX = 40 };
	struct rng rng = {.seed = 7};
	struct linear *linears[EXPERTS_MAX];
	uint32_t first[EXPERTS_MAX + 1] = {0}, n = shape.n;
	assert_true(expert_count <= EXPERTS_MAX);
	for (uint32_t e = 0; e < expert_count; e++) {
		float *bias = random_floats(&rng, n);
		linears[e] = kind->weights(device, &rng, shape);
		assert_int_equal(linear_fill_bias(linears[e], 0, n, bias), ERR_OK);
		free(bias);
		first[e + 1] = first[e] + counts[e % 8];
	}
	uint32_t total = first[expert_count];
	size_t x_count = (size_t)total * shape.k;
	float *own = random_inputs(&rng, (size_t)PRODUCT_ROWS * shape.k), *x = repeated_rows(own, shape.k, total);
	void *in = inputs_put(device, x, x_count, kind->x_elem), *starts = gpu_put(device, first, (expert_count + 1) * sizeof(*first));
	void *out = gpu_nan(device, (size_t)(total + 1) * n * sizeof(float));
	const struct moe_linear_call call = {.linears = (const struct linear *const *)linears, .expert_count = expert_count,
					     .first = starts, .slot_count = total, .x = in, .y = out, .x_elem = kind->x_elem};
	op_moe_linear(device, &call);
	assert_int_equal(device_sync(device), ERR_OK);
	float *y = gpu_take(device, out, (size_t)(total + 1) * n * sizeof(float));
	for (uint32_t e = 0; e < expert_count; e++) {
		float *alone[PRODUCT_ROWS] = {NULL};
		for (uint32_t row = first[e]; row < first[e + 1]; row++) {
			uint32_t own_row = row % PRODUCT_ROWS;
			if (!alone[own_row])
				alone[own_row] = run_linear(device, linears[e], own + (size_t)own_row * shape.k, 1, kind->x_elem);
			assert_memory_equal(y + (size_t)row * n, alone[own_row], n * sizeof(float));
		}
		for (uint32_t i = 0; i < PRODUCT_ROWS; i++)
			free(alone[i]);
		linear_destroy(linears[e]);
	}
	assert_memory_equal(y + (size_t)total * n, &(uint32_t){UINT32_MAX}, 4);
	dev_free(device, MEM_DEVICE, in, x_count * elem_bytes(kind->x_elem));
	dev_free(device, MEM_DEVICE, starts, (expert_count + 1) * sizeof(*first));
	free(own);
	free(x);
	free(y);
	return tile_of(product_plan(device, &shape, expert_count, total));
}

/* Experts whose rows, the more they are, take wider tiles, up to those of two warpgroups: outputs are so many, from shape.n on, that they
 * do on this device. */
static inline void experts_take_every_tile(struct device *device, const struct product_kind *kind, struct linear_shape shape)
{
	enum { EXPERTS = 4, OUTPUTS_MAX = 20000 };
	static const uint32_t totals[] = {9, 36, 72, 135, 261, 513};
	uint32_t tiles = 0;
	while (tile_of(product_plan(device, &shape, EXPERTS, 513)) != 256 << 16 && shape.n < OUTPUTS_MAX)
		shape.n += 8;
	for (size_t i = 0; i < sizeof(totals) / sizeof(*totals); i++) {
		const uint32_t ninth = totals[i] / 9, counts[8] = {3 * ninth, 0, 5 * ninth, ninth};
		tiles |= experts_are_as_alone(device, kind, shape, counts, EXPERTS);
	}
	assert_int_equal(tiles & ~64u, 8 | 16 | 32 | 128 << 16 | 256 << 16); /* of 64 rows: where n is right for it */
}
#endif

/* weights_e4m3 - random weights of 8 bits with their scales, and what a product with them is. */
#ifndef TESTS_KERNELS_WEIGHTS_E4M3_H
#define TESTS_KERNELS_WEIGHTS_E4M3_H
#include <math.h>
#include "base/e4m3.h"
#include "tests/kernels/fixture.h"

struct weights_e4m3 {
	struct linear_shape shape;
	uint8_t *codes; /* [n][k] */
	float *scales;	/* [n / scale_outputs][group] */
	struct linear *linear;
};

static inline struct weights_e4m3 weights_e4m3_make(struct device *device, struct rng *rng, struct linear_shape shape)
{
	struct weights_e4m3 w = {.shape = shape};
	uint32_t groups = (shape.k + LINEAR_GROUP - 1) / LINEAR_GROUP, scale_rows = (shape.n - 1) / shape.scale_outputs + 1;
	w.codes = malloc((size_t)shape.n * shape.k);
	w.scales = malloc((size_t)scale_rows * groups * sizeof(float));
	for (size_t i = 0; i < (size_t)shape.n * shape.k; i++)
		w.codes[i] = e4m3_round(448.0f * random_float(rng));
	for (size_t i = 0; i < (size_t)scale_rows * groups; i++)
		w.scales[i] = 0.002f + 0.001f * random_float(rng);
	assert_int_equal(linear_create(device, &shape, &w.linear), ERR_OK);
	linear_fill(w.linear, 0, shape.n, w.codes, shape.k);
	for (uint32_t i = 0; i < scale_rows; i++) {
		uint32_t first = i * shape.scale_outputs, rest = shape.n - first;
		linear_fill_scales(w.linear, first, rest < shape.scale_outputs ? rest : shape.scale_outputs,
				   w.scales + (size_t)i * groups);
	}
	return w;
}

static inline void weights_e4m3_free(struct weights_e4m3 *w)
{
	linear_destroy(w->linear);
	free(w->codes);
	free(w->scales);
}

/* The greatest magnitude of a group over 448. */
static inline float scale_e4m3(const float *x, uint32_t count)
{
	float amax = LINEAR_AMAX_LEAST;
	for (uint32_t i = 0; i < count; i++)
		amax = fabsf(x[i]) > amax ? fabsf(x[i]) : amax;
	return amax / 448.0f;
}

/* Output n of a row, in double; the size is the sum of the terms' magnitudes. */
static inline double product_e4m3(const struct weights_e4m3 *w, const float *x, uint32_t n, double *ret_size)
{
	uint32_t k_end = w->shape.k, groups = (k_end + LINEAR_GROUP - 1) / LINEAR_GROUP;
	double sum = 0, size = 0;
	for (uint32_t g = 0; g < groups; g++) {
		uint32_t first = g * LINEAR_GROUP, end = first + LINEAR_GROUP < k_end ? first + LINEAR_GROUP : k_end;
		float scale = scale_e4m3(x + first, end - first);
		double factor = (double)scale * w->scales[(size_t)(n / w->shape.scale_outputs) * groups + g];
		for (uint32_t k = first; k < end; k++) {
			double term = factor * e4m3_widen(e4m3_round(x[k] / scale)) * e4m3_widen(w->codes[(size_t)n * k_end + k]);
			sum += term;
			size += fabs(term);
		}
	}
	*ret_size = size;
	return sum;
}
#endif

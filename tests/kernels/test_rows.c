#include "tests/kernels/fixture.h"
#include <math.h>

#define ROWS 11
static const uint32_t dims[] = {1, 16, 37, 128, 1000};
#define DIM_COUNT (sizeof(dims) / sizeof(*dims))

static void rmsnorm_is_right_on(struct device *device)
{
	struct rng rng = {.seed = 1};
	for (size_t c = 0; c < DIM_COUNT; c++) {
		uint32_t dim = dims[c];
		float *x = random_floats(&rng, ROWS * dim), *add = random_floats(&rng, ROWS * dim);
		float *weight = random_floats(&rng, dim), *out = filled_with_nan(ROWS * dim), *sum = malloc(ROWS * dim * 4);
		for (uint32_t i = 0; i < ROWS * dim; i++)
			sum[i] = x[i] + add[i];
		op_rmsnorm(device, &(struct norm_call){x, add, weight, out, ROWS, dim, 1e-5f});
		assert_memory_equal(x, sum, ROWS * dim * 4); /* the sum stays: it is the residual */
		for (uint32_t row = 0; row < ROWS; row++) {
			double squares = 0;
			for (uint32_t i = 0; i < dim; i++)
				squares += (double)sum[row * dim + i] * sum[row * dim + i];
			double inverse = 1 / sqrt(squares / dim + 1e-5);
			for (uint32_t i = 0; i < dim; i++)
				assert_near(out[row * dim + i], sum[row * dim + i] * inverse * weight[i], 2e-5);
		}
		free(x);
		free(add);
		free(weight);
		free(out);
		free(sum);
	}
}

static void rmsnorm_is_right(void **state)
{
	on_each_variant(rmsnorm_is_right_on);
}

/* Each operation on rows: all at once, and each alone. */
static void rows_do_not_know_of_each_other_on(struct device *device)
{
	struct rng rng = {.seed = 2};
	enum { DIM = 2 * 75, HEADS = 3, HEAD = 50 };
	uint32_t rows = 2000; /* enough to be split between the workers */
	float *x = random_floats(&rng, rows * DIM), *weight = random_floats(&rng, DIM);
	float *all = malloc(rows * DIM * 4), *one = malloc(rows * DIM * 4);
	float *cosine = random_floats(&rng, rows * 20), *sine = random_floats(&rng, rows * 20);

	op_rmsnorm(device, &(struct norm_call){x, NULL, weight, all, rows, DIM, 1e-6f});
	for (uint32_t row = 0; row < rows; row++)
		op_rmsnorm(device, &(struct norm_call){x + row * DIM, NULL, weight, one + row * DIM, 1, DIM, 1e-6f});
	assert_memory_equal(all, one, rows * DIM * 4);

	op_glu(device, &(struct glu_call){(struct glu){GLU_SILU}, x, DIM, rows, DIM / 2, all, DIM / 2});
	for (uint32_t row = 0; row < rows; row++)
		op_glu(device, &(struct glu_call){(struct glu){GLU_SILU}, x + row * DIM, DIM, 1, DIM / 2, one + row * (DIM / 2), DIM / 2});
	assert_memory_equal(all, one, rows * (DIM / 2) * 4);

	memcpy(all, x, rows * DIM * 4);
	memcpy(one, x, rows * DIM * 4);
	op_head_norm(device, all, DIM, rows, HEADS, HEAD, weight, 1e-6f);
	op_rope(device, all, DIM, rows, HEADS, HEAD, 20, cosine, sine);
	for (uint32_t row = rows; row-- > 0;) {
		op_head_norm(device, one + row * DIM, DIM, 1, HEADS, HEAD, weight, 1e-6f);
		op_rope(device, one + row * DIM, DIM, 1, HEADS, HEAD, 20, cosine + row * 20, sine + row * 20);
	}
	assert_memory_equal(all, one, rows * DIM * 4);
	free(x);
	free(weight);
	free(all);
	free(one);
	free(cosine);
	free(sine);
}

static void rows_do_not_know_of_each_other(void **state)
{
	on_each_variant(rows_do_not_know_of_each_other_on);
}

static void swiglu_is_right_on(struct device *device)
{
	enum { DIM = 201 };
	float x[2 * DIM], out[DIM];
	for (int i = 0; i < DIM; i++) {
		x[i] = (float)(i - DIM / 2); /* -100 .. 100: also where exp is over and under its range */
		x[DIM + i] = 2.0f;
	}
	op_glu(device, &(struct glu_call){(struct glu){GLU_SILU}, x, 2 * DIM, 1, DIM, out, DIM});
	for (int i = 0; i < DIM; i++) {
		double gate = x[i], expected = gate / (1 + exp(-gate)) * 2;
		assert_near(out[i], expected, 1e-30 + 4e-7 * fabs(expected) + (gate < -87 ? 1e-35 : 0));
	}
}

static void swiglu_is_right(void **state)
{
	on_each_variant(swiglu_is_right_on);
}

static void geglu_is_right_on(struct device *device)
{
	enum { DIM = 403 };
	float x[2 * DIM], out[DIM];
	for (int i = 0; i < DIM; i++) {
		x[i] = 0.05f * (float)(i - DIM / 2); /* -10 .. 10 */
		x[DIM + i] = 2.0f;
	}
	op_glu(device, &(struct glu_call){(struct glu){GLU_GELU_TANH}, x, 2 * DIM, 1, DIM, out, DIM});
	for (int i = 0; i < DIM; i++) {
		double gate = x[i], inner = sqrt(2 / 3.14159265358979) * (gate + 0.044715 * gate * gate * gate);
		assert_near(out[i], gate / (1 + exp(-2 * inner)) * 2, 1e-30 + 1e-6 * fabs(gate / (1 + exp(-2 * inner))) *
								       (1 + fabs(inner)));
	}
}

static void geglu_is_right(void **state)
{
	on_each_variant(geglu_is_right_on);
}

static void clamped_glu_is_right_on(struct device *device)
{
	enum { DIM = 241 };
	const struct glu glu = {GLU_CLAMPED, 1.702f, 7.0f};
	float x[2 * DIM], out[DIM];
	for (int i = 0; i < DIM; i++) {
		x[i] = 0.5f * (float)(i - DIM / 2);                   /* -60 .. 60 */
		x[DIM + i] = 0.25f * (float)(i * 37 % DIM - DIM / 2); /* -30 .. 30, in another order */
	}
	op_glu(device, &(struct glu_call){glu, x, 2 * DIM, 1, DIM, out, DIM});
	for (int i = 0; i < DIM; i++) {
		double gate = fmin(x[i], 7), up = fmax(fmin(x[DIM + i], 7), -7);
		double expected = (up + 1) * gate / (1 + exp(-(double)glu.alpha * gate));
		/* A great exponent is rounded; and exp stays at exp(88): there the answer is nothing, below 1e-35. */
		assert_near(out[i], expected, 1e-35 + 2e-7 * fabs(expected) * (2 + fabs(gate)));
	}
}

static void clamped_glu_is_right(void **state)
{
	on_each_variant(clamped_glu_is_right_on);
}

static void soft_caps_are_right_on(struct device *device)
{
	enum { COUNT = 3, DIM = 20003 };
	static float x[COUNT * DIM], out[COUNT * DIM];
	struct rng rng = {.seed = 4};
	for (int i = 0; i < COUNT * DIM; i++) /* tiny to far beyond the cap */
		x[i] = (float)((rng_below(&rng, 2) ? 1 : -1) * pow(10, -6 + 8.5 * rng_unit(rng_next(&rng))));
	memcpy(out, x, sizeof(out));
	op_soft_cap(device, out, DIM, COUNT, DIM, 30.0f);
	for (int i = 0; i < COUNT * DIM; i++) {
		double expected = 30 * tanh(x[i] / 30.0);
		assert_near(out[i], expected, 4e-7 * fabs(expected));
	}
	float one = x[DIM + 5];
	op_soft_cap(device, &one, 1, 1, 1, 30.0f);
	assert_memory_equal(&one, &out[DIM + 5], sizeof(one));
}

static void soft_caps_are_right(void **state)
{
	on_each_variant(soft_caps_are_right_on);
}

static void exp_is_within_two_ulp_on(struct device *device)
{
	enum { COUNT = 100003 };
	static float x[COUNT], out[COUNT];
	struct rng rng = {.seed = 3};
	for (int i = 0; i < COUNT; i++)
		x[i] = -86.9f + 174.0f * rng_unit(rng_next(&rng));
	op_exp(device, x, 0.0f, COUNT, out);
	double worst = 0;
	for (int i = 0; i < COUNT; i++) {
		double exact = exp((double)x[i]), off = fabs(out[i] - exact) / exact * 0x1p23;
		worst = off > worst ? off : worst;
	}
	assert_near(worst, 0, 2.0);
	float edge[] = {-INFINITY, -1000.0f, 0.0f, -88.0f}, result[4];
	op_exp(device, edge, 0.0f, 4, result);
	assert_true(result[0] == 0 && result[1] == 0 && result[2] == 1 && result[3] == 0);
}

static void exp_is_within_two_ulp(void **state)
{
	on_each_variant(exp_is_within_two_ulp_on);
}

/* The f32 angles of Hugging Face, to the last bit or the one before it (its libm is not ours). */
static void rope_angles_are_right_to_a_million_positions(void **state)
{
	struct device *device = device_named("portable", 2);
	float frequency[64], cosine[6 * 64], sine[6 * 64];
	uint32_t positions[6] = {0, 1, 1000, 32767, 131072, 1000000};
	rope_frequencies(1e6, 128, frequency);
	op_rope_angles(device, positions, 6, frequency, 64, 1.0f, cosine, sine);
	for (int i = 0; i < 64; i++) {
		assert_near(frequency[i] * pow(1e6, (float)i / 64), 1, 1.3e-7);
		for (int row = 0; row < 6; row++) {
			float angle = (float)positions[row] * frequency[i];
			assert_true(cosine[row * 64 + i] == (float)cos(angle));
			assert_true(sine[row * 64 + i] == (float)sin(angle));
		}
	}
	device_close(device);
}

static void rope_turns_halves_on(struct device *device)
{
	struct rng rng = {.seed = 4};
	float x[2 * 3 * 10], before[2 * 3 * 10], cosine[2 * 4], sine[2 * 4];
	for (int i = 0; i < 60; i++)
		before[i] = x[i] = random_float(&rng);
	for (int i = 0; i < 8; i++) {
		cosine[i] = cosf((float)i);
		sine[i] = sinf((float)i);
	}
	op_rope(device, x, 30, 2, 3, 10, 4, cosine, sine);
	for (int row = 0; row < 2; row++)
		for (int head = 0; head < 3; head++) {
			const float *a = before + row * 30 + head * 10, *y = x + row * 30 + head * 10;
			for (int i = 0; i < 4; i++) {
				double c = cosine[row * 4 + i], s = sine[row * 4 + i];
				assert_near(y[i], a[i] * c - a[i + 4] * s, 2e-7);
				assert_near(y[i + 4], a[i + 4] * c + a[i] * s, 2e-7);
			}
			assert_true(y[8] == a[8] && y[9] == a[9]); /* beyond the rotated part */
		}
}

static void rope_turns_halves(void **state)
{
	on_each_variant(rope_turns_halves_on);
}

static void bf16_rounds_to_nearest_even(void **state)
{
	struct device *device = device_named("portable", 1);
	static const struct {
		uint32_t bits;
		uint16_t half;
	} cases[] = {
		{0x3f800000, 0x3f80}, {0x3f808000, 0x3f80}, {0x3f808001, 0x3f81}, {0x3f818000, 0x3f82}, {0x80000000, 0x8000},
		{0x7f7fffff, 0x7f80}, {0xff800000, 0xff80}, {0x7f800001, 0x7fc0}, {0x00000001, 0x0000}, {0x00018000, 0x0002},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		float x;
		uint16_t half;
		memcpy(&x, &cases[i].bits, 4);
		op_to_bf16(device, &x, 1, &half);
		assert_int_equal(half, cases[i].half);
	}
	device_close(device);
}

static void gather_and_add_take_the_rows_named(void **state)
{
	struct device *device = device_named("portable", 2);
	float x[4 * 5], out[3 * 3] = {0};
	for (int i = 0; i < 20; i++)
		x[i] = (float)i;
	op_gather(device, x, 5, (uint32_t[]){3, 0, 3}, 3, 3, out);
	op_add(device, out, (float[]){1, 1, 1, 2, 2, 2, 3, 3, 3}, 3, 3);
	assert_memory_equal(out, ((float[]){16, 17, 18, 2, 3, 4, 18, 19, 20}), sizeof(out));
	device_close(device);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rmsnorm_is_right),
		cmocka_unit_test(rows_do_not_know_of_each_other),
		cmocka_unit_test(swiglu_is_right),
		cmocka_unit_test(geglu_is_right),
		cmocka_unit_test(clamped_glu_is_right),
		cmocka_unit_test(soft_caps_are_right),
		cmocka_unit_test(exp_is_within_two_ulp),
		cmocka_unit_test(rope_angles_are_right_to_a_million_positions),
		cmocka_unit_test(rope_turns_halves),
		cmocka_unit_test(bf16_rounds_to_nearest_even),
		cmocka_unit_test(gather_and_add_take_the_rows_named),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

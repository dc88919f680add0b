#include "tests/kernels/fixture.h"
#include <math.h>

enum { ROWS = 23, EXPERTS = 12, TOP_K = 3, DIM = 40, INNER = 32 };

static void route_picks_the_greatest_in_order_of_expert_on(struct device *device)
{
	struct rng rng = {.seed = 1};
	float *logits = random_floats(&rng, ROWS * EXPERTS), weight[2][ROWS * TOP_K];
	uint32_t expert[2][ROWS * TOP_K];
	for (int e = 0; e < EXPERTS; e++)
		logits[e] = 1.0f; /* row 0: all equal, the first three win */
	for (int normal = 0; normal < 2; normal++)
		op_moe_route(device, &(struct moe_route_call){logits, ROWS, EXPERTS, TOP_K, normal, expert[normal],
							      weight[normal]});
	assert_memory_equal(expert[0], expert[1], sizeof(expert[0]));
	assert_memory_equal(expert[0], ((uint32_t[]){0, 1, 2}), 3 * sizeof(uint32_t));
	for (int row = 0; row < ROWS; row++) {
		const float *l = logits + row * EXPERTS;
		const uint32_t *chosen = expert[0] + row * TOP_K;
		double total = 0, top = 0;
		for (int e = 0; e < EXPERTS; e++)
			total += exp(l[e]);
		for (int j = 0; j < TOP_K; j++) {
			int greater = 0;
			for (int e = 0; e < EXPERTS; e++)
				greater += l[e] > l[chosen[j]];
			assert_true(greater < TOP_K && (j == 0 || chosen[j - 1] < chosen[j]));
			top += exp(l[chosen[j]]);
		}
		for (int j = 0; j < TOP_K; j++) {
			assert_near(weight[0][row * TOP_K + j], exp(l[chosen[j]]) / total, 1e-6);
			assert_near(weight[1][row * TOP_K + j], exp(l[chosen[j]]) / top, 1e-6);
		}
	}
	free(logits);
}

static void route_picks_the_greatest_in_order_of_expert(void **state)
{
	on_each_variant(route_picks_the_greatest_in_order_of_expert_on);
}

static void group_sorts_slots_by_expert(void **state)
{
	uint32_t expert[] = {2, 0, 2, 4, 0, 2}, first[6], slot[6];
	moe_group(expert, 6, 5, first, slot);
	assert_memory_equal(first, ((uint32_t[]){0, 2, 2, 5, 5, 6}), sizeof(first));
	assert_memory_equal(slot, ((uint32_t[]){1, 4, 0, 2, 5, 3}), sizeof(slot));
	moe_group(expert, 0, 5, first, slot);
	assert_memory_equal(first, ((uint32_t[]){0, 0, 0, 0, 0, 0}), sizeof(first));
}

/* A whole layer: route, group, gather, two products for each expert, scatter, combine. */
static void layer(struct device *device, struct linear *const *up, struct linear *const *down, const float *logits,
		  const float *x, uint32_t rows, float *out)
{
	uint32_t expert[ROWS * TOP_K], first[EXPERTS + 1], slot[ROWS * TOP_K], slots = rows * TOP_K;
	float weight[ROWS * TOP_K], in[ROWS * TOP_K * DIM], wide[ROWS * TOP_K * 2 * INNER], inner[ROWS * TOP_K * INNER],
		y[ROWS * TOP_K * DIM];
	uint16_t answer[ROWS * TOP_K * DIM];
	struct linear_call calls[2][EXPERTS];
	op_moe_route(device, &(struct moe_route_call){logits, rows, EXPERTS, TOP_K, true, expert, weight});
	moe_group(expert, slots, EXPERTS, first, slot);
	op_moe_gather(device, x, DIM, slot, slots, TOP_K, in);
	for (int e = 0; e < EXPERTS; e++) {
		uint32_t n = first[e + 1] - first[e], at = first[e];
		calls[0][e] = (struct linear_call){up[e], in + at * DIM, DIM, wide + at * 2 * INNER, 2 * INNER, n};
		calls[1][e] = (struct linear_call){down[e], inner + at * INNER, INNER, y + at * DIM, DIM, n};
	}
	op_linear(device, calls[0], EXPERTS);
	op_glu(device, GLU_SILU, wide, 2 * INNER, slots, INNER, inner, INNER);
	op_linear(device, calls[1], EXPERTS);
	op_moe_scatter(device, y, DIM, slot, slots, answer);
	op_moe_combine(device, answer, weight, rows, TOP_K, DIM, out);
}

static void a_row_gets_the_same_answer_in_any_batch_on(struct device *device)
{
	struct rng rng = {.seed = 2};
	struct linear *up[EXPERTS], *down[EXPERTS];
	for (int e = 0; e < EXPERTS; e++) {
		struct linear_shape up_shape = {2 * INNER, DIM, ELEM_BF16, 1}, down_shape = {DIM, INNER, ELEM_BF16, 8};
		uint16_t *a = random_halves(&rng, 2 * INNER * DIM), *b = random_halves(&rng, INNER * DIM);
		assert_int_equal(linear_create(device, &up_shape, &up[e]), ERR_OK);
		assert_int_equal(linear_create(device, &down_shape, &down[e]), ERR_OK);
		linear_fill(up[e], 0, 2 * INNER, a, DIM);
		linear_fill(down[e], 0, DIM, b, INNER);
		free(a);
		free(b);
	}
	float *x = random_floats(&rng, ROWS * DIM), *logits = random_floats(&rng, ROWS * EXPERTS);
	float all[ROWS * DIM], one[DIM];
	layer(device, up, down, logits, x, ROWS, all);
	for (uint32_t row = 0; row < ROWS; row++) {
		layer(device, up, down, logits + row * EXPERTS, x + row * DIM, 1, one);
		assert_memory_equal(one, all + row * DIM, sizeof(one));
	}
	for (uint32_t first = 3; first < ROWS; first += 7) {
		float some[ROWS * DIM];
		layer(device, up, down, logits + first * EXPERTS, x + first * DIM, ROWS - first, some);
		assert_memory_equal(some, all + first * DIM, (ROWS - first) * sizeof(one));
	}
	for (int e = 0; e < EXPERTS; e++) {
		linear_destroy(up[e]);
		linear_destroy(down[e]);
	}
	free(x);
	free(logits);
}

static void a_row_gets_the_same_answer_in_any_batch(void **state)
{
	on_each_variant(a_row_gets_the_same_answer_in_any_batch_on);
}

static void rows_travel_as_bf16_and_sum_in_order_on(struct device *device)
{
	float x[2 * DIM], in[4 * DIM], out[2 * DIM], weight[4] = {0.25f, 0.75f, 0.5f, 0.125f};
	uint16_t answer[4 * DIM];
	uint32_t slot[4] = {2, 0, 3, 1};
	struct rng rng = {.seed = 3};
	for (int i = 0; i < 2 * DIM; i++)
		x[i] = random_float(&rng);
	op_moe_gather(device, x, DIM, slot, 4, 2, in);
	op_moe_scatter(device, in, DIM, slot, 4, answer);
	op_moe_combine(device, answer, weight, 2, 2, DIM, out);
	for (int row = 0; row < 2; row++)
		for (int i = 0; i < DIM; i++) {
			uint16_t half;
			op_to_bf16(device, &x[row * DIM + i], 1, &half);
			assert_int_equal(answer[(2 * row) * DIM + i], half);
			assert_int_equal(answer[(2 * row + 1) * DIM + i], half);
			/* Eight bits times these weights: exact, fused or not. */
			assert_true(out[row * DIM + i] ==
				    weight[2 * row] * widened(half) + weight[2 * row + 1] * widened(half));
		}
}

static void rows_travel_as_bf16_and_sum_in_order(void **state)
{
	on_each_variant(rows_travel_as_bf16_and_sum_in_order_on);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(route_picks_the_greatest_in_order_of_expert),
		cmocka_unit_test(group_sorts_slots_by_expert),
		cmocka_unit_test(a_row_gets_the_same_answer_in_any_batch),
		cmocka_unit_test(rows_travel_as_bf16_and_sum_in_order),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

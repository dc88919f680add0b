#include "tests/kernels/fixture.h"
#include <math.h>

enum { ROWS = 23, EXPERTS = 12, TOP_K = 3, DIM = 40, INNER = 32 };

static struct moe_routing plain_routing(bool renormalise)
{
	return (struct moe_routing){.expert_count = EXPERTS, .top_k = TOP_K, .group_count = 1, .renormalise = renormalise,
				    .scale = 1.0f};
}

static void route_picks_the_greatest_in_order_of_expert_on(struct device *device)
{
	struct rng rng = {.seed = 1};
	float *logits = random_floats(&rng, ROWS * EXPERTS), weight[2][ROWS * TOP_K];
	uint32_t expert[2][ROWS * TOP_K];
	for (int e = 0; e < EXPERTS; e++)
		logits[e] = 1.0f; /* row 0: all equal, the first three win */
	for (int normal = 0; normal < 2; normal++) {
		struct moe_routing routing = plain_routing(normal);
		op_moe_route(device, &(struct moe_route_call){&routing, logits, NULL, ROWS, expert[normal], weight[normal]});
	}
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

/* How many of the values are greater, or equal and before: 0 for the one that is taken first. */
static uint32_t place_of(const double *value, uint32_t count, uint32_t index)
{
	uint32_t place = 0;
	for (uint32_t i = 0; i < count; i++)
		place += value[i] > value[index] || (value[i] == value[index] && i < index);
	return place;
}

/* The definition in double: scores, choice among the best groups, weights. Returns the weight, 0 if not chosen. */
static void route_plainly(const struct moe_routing *r, const float *logits, const float *bias, double *ret_weight)
{
	double score[MOE_EXPERTS_MAX], choice[MOE_EXPERTS_MAX], group[MOE_EXPERTS_MAX], total = 0, chosen = 0;
	uint32_t size = r->expert_count / r->group_count;
	for (uint32_t e = 0; e < r->expert_count; e++)
		total += exp(logits[e]);
	for (uint32_t e = 0; e < r->expert_count; e++) {
		score[e] = r->score == MOE_SIGMOID ? 1 / (1 + exp(-logits[e])) : exp(logits[e]) / total;
		choice[e] = score[e] + (bias ? bias[e] : 0);
	}
	for (uint32_t g = 0; g < r->group_count; g++) {
		group[g] = 0;
		for (uint32_t i = 0; i < size; i++)
			if (place_of(choice + g * size, size, i) < r->group_best)
				group[g] += choice[g * size + i];
	}
	for (uint32_t e = 0; e < r->expert_count; e++)
		if (r->group_count > 1 && place_of(group, r->group_count, e / size) >= r->group_top)
			choice[e] = -INFINITY;
	for (uint32_t e = 0; e < r->expert_count; e++) {
		ret_weight[e] = place_of(choice, r->expert_count, e) < r->top_k ? score[e] : 0;
		chosen += ret_weight[e];
	}
	for (uint32_t e = 0; e < r->expert_count; e++)
		ret_weight[e] *= (double)r->scale / (r->renormalise ? chosen : 1);
}

enum { MANY = 48 }; /* experts, at most */

/* Rows at once and one by one; a bias takes part in the choice and in no weight. */
static void check_routing(struct device *device, const struct moe_routing *r, bool with_bias, struct rng *rng)
{
	uint32_t expert[ROWS * TOP_K], alone_expert[TOP_K];
	float weight[ROWS * TOP_K], alone_weight[TOP_K];
	float *logits = random_floats(rng, ROWS * MANY), *biases = random_floats(rng, MANY);
	const float *bias = with_bias ? biases : NULL;
	op_moe_route(device, &(struct moe_route_call){r, logits, bias, ROWS, expert, weight});
	for (uint32_t row = 0; row < ROWS; row++) {
		double expected[MANY];
		const float *of_row = logits + (size_t)row * r->expert_count;
		route_plainly(r, of_row, bias, expected);
		for (uint32_t j = 0; j < r->top_k; j++) {
			uint32_t slot = row * r->top_k + j;
			assert_true(j == 0 || expert[slot - 1] < expert[slot]);
			assert_true(expected[expert[slot]] > 0);
			assert_near(weight[slot], expected[expert[slot]], 1e-6);
		}
		op_moe_route(device, &(struct moe_route_call){r, of_row, bias, 1, alone_expert, alone_weight});
		assert_memory_equal(alone_expert, expert + row * r->top_k, r->top_k * sizeof(*expert));
		assert_memory_equal(alone_weight, weight + row * r->top_k, r->top_k * sizeof(*weight));
	}
	free(logits);
	free(biases);
}

static void groups_bias_and_scale_route_as_defined_on(struct device *device)
{
	static const struct moe_routing routings[] = {
		{12, 3, MOE_SOFTMAX, 1, 0, 0, false, 1.0f},  {12, 3, MOE_SOFTMAX, 4, 2, 1, false, 16.0f},
		{48, 3, MOE_SIGMOID, 8, 4, 2, true, 2.5f},   {48, 2, MOE_SIGMOID, 1, 1, 2, true, 1.0f},
		{16, 1, MOE_SIGMOID, 2, 1, 2, false, 0.5f},  {47, 3, MOE_SOFTMAX, 1, 0, 0, true, 1.5f},
		{12, 3, MOE_SOFTMAX, 12, 3, 1, false, 1.0f},
	};
	struct rng rng = {.seed = 4};
	for (size_t i = 0; i < sizeof(routings) / sizeof(*routings); i++)
		for (int with_bias = 0; with_bias < 2; with_bias++)
			check_routing(device, &routings[i], with_bias, &rng);
}

static void groups_bias_and_scale_route_as_defined(void **state)
{
	on_each_variant(groups_bias_and_scale_route_as_defined_on);
}

/* Experts 4 and 5 are the greatest, but their group's sum of two is not. */
static void the_greatest_expert_of_a_lesser_group_is_not_chosen(void **state)
{
	struct device *device = device_named("portable", 1);
	const float logits[] = {1.0f, 1.0f, 0.9f, -9.0f, 2.0f, -9.0f};
	struct moe_routing routing = {6, 2, MOE_SIGMOID, 3, 1, 2, false, 1.0f};
	uint32_t expert[2];
	float weight[2];
	op_moe_route(device, &(struct moe_route_call){&routing, logits, NULL, 1, expert, weight});
	assert_memory_equal(expert, ((uint32_t[]){0, 1}), sizeof(expert));
	routing.group_best = 1;
	op_moe_route(device, &(struct moe_route_call){&routing, logits, NULL, 1, expert, weight});
	assert_memory_equal(expert, ((uint32_t[]){4, 5}), sizeof(expert));
	device_close(device);
}

static void a_gate_weighs_what_is_added_on(struct device *device)
{
	struct rng rng = {.seed = 5};
	float *x = random_floats(&rng, ROWS * DIM), *add = random_floats(&rng, ROWS * DIM), gate[ROWS], all[ROWS * DIM];
	for (int row = 0; row < ROWS; row++)
		gate[row] = (float)(row - ROWS / 2) * 10.0f; /* down to where exp overflows */
	memcpy(all, x, sizeof(all));
	op_add_gated(device, all, add, gate, ROWS, DIM);
	for (int row = 0; row < ROWS; row++) {
		for (int i = 0; i < DIM; i++)
			assert_near(all[row * DIM + i], x[row * DIM + i] + add[row * DIM + i] / (1 + exp(-gate[row])), 1e-6);
		op_add_gated(device, x + row * DIM, add + row * DIM, gate + row, 1, DIM);
	}
	assert_memory_equal(all, x, sizeof(all));
	free(x);
	free(add);
}

static void a_gate_weighs_what_is_added(void **state)
{
	on_each_variant(a_gate_weighs_what_is_added_on);
}

static void group_sorts_slots_by_expert(void **state)
{
	struct device *device = device_named("portable", 1);
	uint32_t expert[] = {2, 0, 2, 4, 0, 2}, first[6], slot[6];
	op_moe_group(device, expert, 6, 5, first, slot);
	assert_memory_equal(first, ((uint32_t[]){0, 2, 2, 5, 5, 6}), sizeof(first));
	assert_memory_equal(slot, ((uint32_t[]){1, 4, 0, 2, 5, 3}), sizeof(slot));
	op_moe_group(device, expert, 0, 5, first, slot);
	assert_memory_equal(first, ((uint32_t[]){0, 0, 0, 0, 0, 0}), sizeof(first));
	device_close(device);
}

static void scatter(struct device *device, const float *y, const uint32_t *slot, uint32_t slots, uint16_t *answer)
{
	const struct moe_scatter_call call = {.parts = &y, .part_count = 1, .dim = DIM, .slot = slot, .slot_count = slots,
					      .end = slots, .answer = answer};
	op_moe_scatter(device, &call);
}

/* A whole layer: route, group, gather, two products for each expert, scatter, combine. */
static void layer(struct device *device, struct linear *const *up, struct linear *const *down, const float *logits,
		  const float *x, uint32_t rows, float *out)
{
	uint32_t expert[ROWS * TOP_K], first[EXPERTS + 1], slot[ROWS * TOP_K], slots = rows * TOP_K;
	float weight[ROWS * TOP_K], in[ROWS * TOP_K * DIM], wide[ROWS * TOP_K * 2 * INNER], inner[ROWS * TOP_K * INNER],
		y[ROWS * TOP_K * DIM];
	uint16_t answer[ROWS * TOP_K * DIM];
	struct moe_routing routing = plain_routing(true);
	op_moe_route(device, &(struct moe_route_call){&routing, logits, NULL, rows, expert, weight});
	op_moe_group(device, expert, slots, EXPERTS, first, slot);
	op_moe_gather(device, &(struct moe_gather_call){x, DIM, slot, slots, TOP_K, in});
	op_moe_linear(device, &(struct moe_linear_call){(const struct linear *const *)up, EXPERTS, first, slots, in, wide});
	op_glu(device, &(struct glu_call){(struct glu){GLU_SILU}, wide, 2 * INNER, slots, INNER, inner, INNER});
	op_moe_linear(device, &(struct moe_linear_call){(const struct linear *const *)down, EXPERTS, first, slots, inner, y});
	scatter(device, y, slot, slots, answer);
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
	op_moe_gather(device, &(struct moe_gather_call){x, DIM, slot, 4, 2, in});
	scatter(device, in, slot, 4, answer);
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
		cmocka_unit_test(groups_bias_and_scale_route_as_defined),
		cmocka_unit_test(the_greatest_expert_of_a_lesser_group_is_not_chosen),
		cmocka_unit_test(a_gate_weighs_what_is_added),
		cmocka_unit_test(group_sorts_slots_by_expert),
		cmocka_unit_test(a_row_gets_the_same_answer_in_any_batch),
		cmocka_unit_test(rows_travel_as_bf16_and_sum_in_order),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

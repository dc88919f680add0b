/* Routing, grouping and the ways of rows to experts and back, on the device. */
#include <math.h>
#include "base/bf16.h"
#include "tests/gpu/fixture.h"

static struct device *gpu, *cpu;

static int open_both(void **state)
{
	gpu = gpu_open(1);
	cpu = oracle_open();
	return 0;
}

static int close_both(void **state)
{
	device_close(gpu);
	device_close(cpu);
	return 0;
}

/* --- routing --------------------------------------------------------------------------------------------------- */

enum { ROWS = 9 };

struct routed {
	uint32_t *expert;
	float *weight;
};

static struct routed route_on_gpu(const struct moe_routing *routing, const float *logits, const float *bias, uint32_t rows)
{
	size_t experts = routing->expert_count, slots = (size_t)rows * routing->top_k;
	void *at = gpu_put(gpu, logits, rows * experts * 4), *bias_at = bias ? gpu_put(gpu, bias, experts * 4) : NULL;
	void *expert = gpu_nan(gpu, slots * 4), *weight = gpu_nan(gpu, slots * 4);
	op_moe_route(gpu, &(struct moe_route_call){routing, at, bias_at, rows, expert, weight});
	assert_int_equal(device_sync(gpu), ERR_OK);
	dev_free(gpu, MEM_DEVICE, at, rows * experts * 4);
	dev_free(gpu, MEM_DEVICE, bias_at, experts * 4);
	return (struct routed){gpu_take(gpu, expert, slots * 4), gpu_take(gpu, weight, slots * 4)};
}

static void check_routing(struct rng *rng, const struct moe_routing *routing, bool biased, bool ties)
{
	size_t experts = routing->expert_count, slots = ROWS * (size_t)routing->top_k;
	float *logits = random_floats(rng, ROWS * experts), *bias = biased ? random_floats(rng, experts) : NULL;
	for (size_t i = 0; i < ROWS * experts; i++)
		logits[i] = ties ? floorf(2 * logits[i]) : 4 * logits[i];
	uint32_t *expert = malloc(slots * 4);
	float *weight = malloc(slots * 4);
	op_moe_route(cpu, &(struct moe_route_call){routing, logits, bias, ROWS, expert, weight});
	struct routed all = route_on_gpu(routing, logits, bias, ROWS);
	assert_memory_equal(all.expert, expert, slots * 4);
	if (routing->score == MOE_SIGMOID)
		assert_memory_equal(all.weight, weight, slots * 4);
	for (size_t i = 0; i < slots; i++)
		assert_near(all.weight[i], weight[i], 1e-6 * fabs(weight[i]) + 1e-12);
	for (size_t row = 0; row < ROWS; row++) {
		struct routed alone = route_on_gpu(routing, logits + row * experts, bias, 1);
		assert_memory_equal(alone.expert, all.expert + row * routing->top_k, routing->top_k * 4);
		assert_memory_equal(alone.weight, all.weight + row * routing->top_k, routing->top_k * 4);
		free(alone.expert), free(alone.weight);
	}
	free(logits), free(bias), free(expert), free(weight), free(all.expert), free(all.weight);
}

static void rows_choose_the_experts_that_a_cpu_chooses(void **state)
{
	struct rng rng = {.seed = 1};
	const struct moe_routing routings[] = {
		{8, 2, MOE_SOFTMAX, 1, 0, 0, true, 1.0f},	{1, 1, MOE_SOFTMAX, 1, 0, 0, false, 1.0f},
		{60, 4, MOE_SOFTMAX, 1, 0, 0, false, 1.0f},	{256, 8, MOE_SIGMOID, 8, 4, 2, true, 2.5f},
		{160, 6, MOE_SOFTMAX, 8, 3, 1, false, 16.0f},	{384, 8, MOE_SIGMOID, 1, 0, 0, true, 2.827f},
		{1024, 64, MOE_SIGMOID, 64, 40, 2, false, 1.0f},
	};
	for (size_t i = 0; i < sizeof(routings) / sizeof(*routings); i++)
		for (int way = 0; way < 4; way++)
			check_routing(&rng, &routings[i], way & 1, way & 2);
}

/* Rows behind the last that a run has: so no expert works for nobody alone. */
static void choose_with_runs(struct device *device, const struct moe_routing *routing, const float *logits, uint32_t *expert, float *weight)
{
	const struct kv_runs_bounds bounds = {.runs_max = 2, .rows_max = ROWS, .blocks_max = 1, .block_tokens = 16};
	const uint32_t block = 0;
	const struct kv_run list[] = {{.blocks = &block, .row_first = 0, .row_count = 2}, {.blocks = &block, .row_first = 2, .row_count = 4}};
	struct kv_runs *runs;
	assert_int_equal(kv_runs_create(device, &bounds, &runs), ERR_OK);
	kv_runs_set_padded(runs, list, 2, ROWS - 6);
	op_moe_route(device, &(struct moe_route_call){.routing = routing, .logits = logits, .rows = ROWS, .ret_expert = expert,
						      .ret_weight = weight, .runs = runs});
	assert_int_equal(device_sync(device), ERR_OK);
	kv_runs_destroy(runs);
}

static void nobodys_rows_choose_as_the_first(void **state)
{
	enum { EXPERTS = 60, TOP = 4 };
	const struct moe_routing routing = {EXPERTS, TOP, MOE_SIGMOID, 1, 0, 0, true, 1.0f};
	struct rng rng = {.seed = 5};
	float *logits = random_floats(&rng, ROWS * EXPERTS), weight[ROWS * TOP];
	uint32_t expert[ROWS * TOP];
	op_moe_route(cpu, &(struct moe_route_call){.routing = &routing, .logits = logits, .rows = ROWS, .ret_expert = expert,
						   .ret_weight = weight});
	for (int row = 6; row < ROWS; row++) {
		assert_true(memcmp(expert + row * TOP, expert, TOP * 4) != 0);
		memcpy(expert + row * TOP, expert, TOP * 4);
		memcpy(weight + row * TOP, weight, TOP * 4);
	}
	uint32_t expert_cpu[ROWS * TOP];
	float weight_cpu[ROWS * TOP];
	choose_with_runs(cpu, &routing, logits, expert_cpu, weight_cpu);
	void *at = gpu_put(gpu, logits, ROWS * EXPERTS * 4), *expert_at = gpu_nan(gpu, sizeof(expert));
	void *weight_at = gpu_nan(gpu, sizeof(weight));
	choose_with_runs(gpu, &routing, at, expert_at, weight_at);
	uint32_t *expert_gpu = gpu_take(gpu, expert_at, sizeof(expert));
	float *weight_gpu = gpu_take(gpu, weight_at, sizeof(weight));
	assert_memory_equal(expert_cpu, expert, sizeof(expert));
	assert_memory_equal(weight_cpu, weight, sizeof(weight));
	assert_memory_equal(expert_gpu, expert, sizeof(expert));
	assert_memory_equal(weight_gpu, weight, sizeof(weight));
	dev_free(gpu, MEM_DEVICE, at, ROWS * EXPERTS * 4);
	free(logits), free(expert_gpu), free(weight_gpu);
}

/* --- grouping ---------------------------------------------------------------------------------------------------- */

static void slots_are_sorted_by_expert_in_order(void **state)
{
	struct rng rng = {.seed = 2};
	const struct {
		uint32_t slots, experts;
	} cases[] = {{1, 1}, {7, 3}, {64, 9}, {2048, 8}, {2049, 60}, {5000, 256}, {300, 1024}};
	for (size_t c = 0; c < sizeof(cases) / sizeof(*cases); c++) {
		size_t slots = cases[c].slots, experts = cases[c].experts, first_bytes = (experts + 1) * 4;
		uint32_t *expert = malloc(slots * 4), *first = malloc(first_bytes), *slot = malloc(slots * 4);
		for (size_t i = 0; i < slots; i++)
			expert[i] = rng_next(&rng) % experts / 2 * 2 % experts; /* some have none */
		void *at = gpu_put(gpu, expert, slots * 4), *first_at = gpu_nan(gpu, first_bytes), *slot_at = gpu_nan(gpu, slots * 4);
		op_moe_group(gpu, at, slots, experts, first_at, slot_at);
		op_moe_group(cpu, expert, slots, experts, first, slot);
		uint32_t *got_first = gpu_take(gpu, first_at, first_bytes), *got_slot = gpu_take(gpu, slot_at, slots * 4);
		assert_memory_equal(got_first, first, first_bytes);
		assert_memory_equal(got_slot, slot, slots * 4);
		dev_free(gpu, MEM_DEVICE, at, slots * 4);
		free(expert), free(first), free(slot), free(got_first), free(got_slot);
	}
}

/* --- rows there and back ------------------------------------------------------------------------------------------- */

static void scatter(struct device *device, const float *y, uint32_t dim, const uint32_t *slot, uint32_t slots, uint16_t *answer)
{
	const struct moe_scatter_call call = {.parts = &y, .part_count = 1, .dim = dim, .slot = slot, .slot_count = slots,
					      .end = slots, .answer = answer};
	op_moe_scatter(device, &call);
}

static void check_rows(struct rng *rng, uint32_t dim, uint32_t top_k)
{
	enum { COUNT = 5 };
	uint32_t slots = COUNT * top_k, slot[COUNT * 9];
	size_t row_count = (size_t)COUNT * dim, slot_count = (size_t)slots * dim;
	float *x = random_floats(rng, row_count), *weight = random_floats(rng, slots), *gate = random_floats(rng, COUNT);
	float *gathered = malloc(slot_count * 4), *combined = malloc(row_count * 4);
	uint16_t *halves = malloc(row_count * 2), *answer = malloc(slot_count * 2);
	for (size_t i = 0; i < row_count; i++)
		halves[i] = bf16_round(x[i]);
	for (uint32_t i = 0; i < slots; i++)
		slot[i] = (i * 7 + 3) % slots; /* 7 divides no count of slots here */
	op_moe_gather(cpu, &(struct moe_gather_call){x, dim, slot, slots, top_k, gathered, ELEM_F32});
	scatter(cpu, gathered, dim, slot, slots, answer);
	op_moe_combine(cpu, answer, weight, COUNT, top_k, dim, combined);
	op_add_gated(cpu, combined, x, gate, COUNT, dim);

	void *x_at = gpu_put(gpu, x, row_count * 4), *halves_at = gpu_put(gpu, halves, row_count * 2);
	void *slot_at = gpu_put(gpu, slot, slots * 4), *weight_at = gpu_put(gpu, weight, slots * 4);
	void *gate_at = gpu_put(gpu, gate, sizeof(float) * COUNT), *f32_at = gpu_nan(gpu, slot_count * 4);
	void *bf16_at = gpu_nan(gpu, slot_count * 2), *answer_at = gpu_nan(gpu, slot_count * 2), *out_at = gpu_nan(gpu, row_count * 4);
	op_moe_gather(gpu, &(struct moe_gather_call){x_at, dim, slot_at, slots, top_k, f32_at, ELEM_F32});
	op_moe_gather(gpu, &(struct moe_gather_call){halves_at, dim, slot_at, slots, top_k, bf16_at, ELEM_BF16, ELEM_BF16});
	scatter(gpu, f32_at, dim, slot_at, slots, answer_at);
	op_moe_combine(gpu, answer_at, weight_at, COUNT, top_k, dim, out_at);
	op_add_gated(gpu, out_at, x_at, gate_at, COUNT, dim);
	assert_int_equal(device_sync(gpu), ERR_OK);
	float *got_f32 = gpu_take(gpu, f32_at, slot_count * 4), *got_out = gpu_take(gpu, out_at, row_count * 4);
	uint16_t *got_bf16 = gpu_take(gpu, bf16_at, slot_count * 2), *got_answer = gpu_take(gpu, answer_at, slot_count * 2);
	assert_memory_equal(got_f32, gathered, slot_count * 4);
	for (size_t i = 0; i < slot_count; i++)
		assert_int_equal(got_bf16[i], bf16_round(gathered[i]));
	assert_memory_equal(got_answer, answer, slot_count * 2);
	assert_memory_equal(got_out, combined, row_count * 4);
	dev_free(gpu, MEM_DEVICE, x_at, row_count * 4);
	dev_free(gpu, MEM_DEVICE, halves_at, row_count * 2);
	dev_free(gpu, MEM_DEVICE, slot_at, slots * 4);
	dev_free(gpu, MEM_DEVICE, weight_at, slots * 4);
	dev_free(gpu, MEM_DEVICE, gate_at, sizeof(float) * COUNT);
	free(x), free(weight), free(gate), free(gathered), free(combined), free(halves), free(answer);
	free(got_f32), free(got_out), free(got_bf16), free(got_answer);
}

static void rows_travel_with_the_bits_of_a_cpu(void **state)
{
	struct rng rng = {.seed = 3};
	const uint32_t dims[] = {1, 6, 16, 37, 1024, 1028, 3000};
	const uint32_t top_ks[] = {1, 2, 4, 9};
	for (size_t d = 0; d < sizeof(dims) / sizeof(*dims); d++)
		for (size_t k = 0; k < sizeof(top_ks) / sizeof(*top_ks); k++)
			check_rows(&rng, dims[d], top_ks[k]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_choose_the_experts_that_a_cpu_chooses),
		cmocka_unit_test(nobodys_rows_choose_as_the_first),
		cmocka_unit_test(slots_are_sorted_by_expert_in_order),
		cmocka_unit_test(rows_travel_with_the_bits_of_a_cpu),
	};
	return cmocka_run_group_tests(tests, open_both, close_both);
}

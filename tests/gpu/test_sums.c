/* What joins the shards of row-parallel weights, beside a CPU: the same bits. */
#include "base/bf16.h"
#include "tests/gpu/fixture.h"

static struct device *gpu, *cpu;

static int open_both(void **state)
{
	gpu = gpu_open(8);
	cpu = oracle_open();
	return 0;
}

static int close_both(void **state)
{
	device_close(gpu);
	device_close(cpu);
	return 0;
}

enum { ROWS = 7, TOP_K = 3, SLOTS = ROWS * TOP_K, EXPERTS = 5 };
static const uint32_t widths[] = {1, 6, 37, 1024, 1028, 3000};
enum { WIDTHS = sizeof(widths) / sizeof(*widths) };

/* Parts of so many numbers, here and there. */
struct parts {
	float *here[LINEAR_SEGMENTS];
	float *there[LINEAR_SEGMENTS];
};

static struct parts parts_make(struct rng *rng, size_t count)
{
	struct parts parts;
	for (uint32_t i = 0; i < LINEAR_SEGMENTS; i++) {
		parts.here[i] = random_floats(rng, count);
		parts.there[i] = gpu_put(gpu, parts.here[i], count * sizeof(float));
	}
	return parts;
}

static void parts_free(struct parts *parts, size_t count)
{
	for (uint32_t i = 0; i < LINEAR_SEGMENTS; i++) {
		free(parts->here[i]);
		dev_free(gpu, MEM_DEVICE, parts->there[i], count * sizeof(float));
	}
}

/* With a bias or none; at last in place of a part. */
static void trees_have_the_bits_of_a_cpu(void **state)
{
	struct rng rng = {.seed = 1};
	for (uint32_t w = 0; w < WIDTHS; w++) {
		uint32_t n = widths[w], bytes = ROWS * n * sizeof(float);
		struct parts parts = parts_make(&rng, (size_t)ROWS * n);
		float *bias = random_floats(&rng, n), *bias_there = gpu_put(gpu, bias, n * sizeof(float)), *expected = malloc(bytes);
		for (uint32_t way = 0; way < 8; way++) {
			uint32_t count = 1u << way / 2;
			struct tree_call call = {.parts = (const float *const *)parts.here, .part_count = count, .rows = ROWS, .n = n,
						 .bias = way % 2 ? bias : NULL, .out = expected};
			op_tree_sum(cpu, &call);
			for (uint32_t i = 0; i < ROWS * n && count == 1; i++)
				assert_true(expected[i] == (way % 2 ? parts.here[0][i] + bias[i % n] : parts.here[0][i]));
			bool in_place = way == 7;
			float *out = in_place ? parts.there[3] : gpu_nan(gpu, bytes);
			call.parts = (const float *const *)parts.there;
			call.bias = way % 2 ? bias_there : NULL;
			call.out = out;
			op_tree_sum(gpu, &call);
			float *got = malloc(bytes);
			assert_int_equal(dev_copy(gpu, got, out, bytes), ERR_OK);
			assert_memory_equal(got, expected, bytes);
			free(got);
			if (!in_place)
				dev_free(gpu, MEM_DEVICE, out, bytes);
		}
		dev_free(gpu, MEM_DEVICE, bias_there, n * sizeof(float));
		parts_free(&parts, (size_t)ROWS * n);
		free(bias), free(expected);
	}
}

static void rows_are_collected_from_who_has_them(void **state)
{
	struct rng rng = {.seed = 3};
	for (uint32_t w = 0; w < WIDTHS; w++)
		for (uint32_t count = 1; count <= DEVICES_MAX; count *= 2) {
			uint32_t n = widths[w], bytes = ROWS * n * sizeof(float);
			struct parts parts = parts_make(&rng, (size_t)ROWS * n);
			float *expected = malloc(bytes), *out = gpu_nan(gpu, bytes);
			struct collect_call call = {.parts = (const float *const *)parts.here, .part_count = count, .rows = ROWS, .n = n,
						    .out = expected};
			op_collect(cpu, &call);
			for (uint32_t row = 0, owner = 0; row < ROWS; row++) {
				while (ROWS * (owner + 1) / count <= row)
					owner++;
				assert_memory_equal(expected + row * n, parts.here[owner] + row * n, n * sizeof(float));
			}
			call.parts = (const float *const *)parts.there;
			call.out = out;
			op_collect(gpu, &call);
			float *got = gpu_take(gpu, out, bytes);
			assert_memory_equal(got, expected, bytes);
			free(got), free(expected);
			parts_free(&parts, (size_t)ROWS * n);
		}
}

/* Slots of some rows only: the others' answers stay as they are. */
static void answers_of_parts_have_the_bits_of_a_cpu(void **state)
{
	struct rng rng = {.seed = 2};
	uint32_t slot[SLOTS], expert[SLOTS];
	for (uint32_t i = 0; i < SLOTS; i++) {
		slot[i] = (i * 5 + 2) % SLOTS; /* 5 does not divide 21 */
		expert[i] = (uint32_t)rng_below(&rng, EXPERTS);
	}
	void *slot_there = gpu_put(gpu, slot, sizeof(slot)), *expert_there = gpu_put(gpu, expert, sizeof(expert));
	for (uint32_t w = 0; w < WIDTHS; w++) {
		uint32_t dim = widths[w], bytes = SLOTS * dim * sizeof(uint16_t);
		struct parts parts = parts_make(&rng, (size_t)SLOTS * dim);
		float *bias = random_floats(&rng, EXPERTS * dim), *bias_there = gpu_put(gpu, bias, EXPERTS * dim * sizeof(float));
		uint16_t *expected = malloc(bytes);
		for (uint32_t way = 0; way < 8; way++) {
			struct moe_scatter_call call = {.parts = (const float *const *)parts.here, .part_count = 1u << way / 2, .dim = dim,
							.slot = slot, .slot_count = SLOTS, .first = way == 3 ? 4 : 0,
							.end = way == 5 ? 9 : SLOTS, .bias = way % 2 ? bias : NULL, .expert = expert,
							.answer = expected};
			memset(expected, 0xff, bytes);
			op_moe_scatter(cpu, &call);
			assert_int_equal(expected[0] == 0xffff, way == 3);
			uint16_t *answer = gpu_nan(gpu, bytes);
			call.parts = (const float *const *)parts.there;
			call.slot = slot_there;
			call.expert = expert_there;
			call.bias = way % 2 ? bias_there : NULL;
			call.answer = answer;
			op_moe_scatter(gpu, &call);
			uint16_t *got = gpu_take(gpu, answer, bytes);
			assert_memory_equal(got, expected, bytes);
			free(got);
		}
		dev_free(gpu, MEM_DEVICE, bias_there, EXPERTS * dim * sizeof(float));
		parts_free(&parts, (size_t)SLOTS * dim);
		free(bias), free(expected);
	}
	dev_free(gpu, MEM_DEVICE, slot_there, sizeof(slot));
	dev_free(gpu, MEM_DEVICE, expert_there, sizeof(expert));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(trees_have_the_bits_of_a_cpu),
		cmocka_unit_test(rows_are_collected_from_who_has_them),
		cmocka_unit_test(answers_of_parts_have_the_bits_of_a_cpu),
	};
	return cmocka_run_group_tests(tests, open_both, close_both);
}

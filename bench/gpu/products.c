#include <stdio.h>

#include "bench/gpu/bench.h"

/* Weights of an 8B model's layer, and its head. */
static const struct {
	const char *name;
	uint32_t n, k;
} shapes[] = {{"qkv", 6144, 4096}, {"output", 4096, 4096}, {"gate_up", 28672, 4096}, {"down", 4096, 14336}, {"head", 128256, 4096}};

static const uint32_t rows_of[] = {1, 8, 16, 32, 64, 128, 256, 1024, 4096, 8192};

/* As many copies as make the second-level cache forget: what is read comes from memory. */
enum { COPIES_MAX = 16 };
#define CACHE_BYTES (UINT64_C(400) << 20)

struct product {
	struct bench *bench;
	struct linear *weights[COPIES_MAX];
	uint32_t copies;
	struct linear_call call;
};

static void multiply(void *context, uint32_t index)
{
	struct product *product = context;
	product->call.linear = product->weights[index % product->copies];
	op_linear(product->bench->device, &product->call, 1);
}

/* Inputs of bf16 or, with weights of it, e4m3. */
static void *make_inputs(struct bench *bench, enum elem elem, uint32_t rows, uint32_t k)
{
	void *x = bench_alloc(bench, rows * elem_row_bytes(elem, k));
	if (elem == ELEM_E4M3)
		bench_fill_e4m3(bench, x, rows, k);
	else
		bench_fill_bf16(bench, x, (size_t)rows * k, 1);
	return x;
}

static void measure_shape(struct bench *bench, enum elem elem, const char *shape_name, uint32_t n, uint32_t k)
{
	double bytes = bench_weight_bytes(elem, (double)n * k), row = (double)elem_row_bytes(elem, k);
	uint32_t rows_max = n > 100000 ? 256 : 8192;
	struct product product = {.bench = bench, .copies = (uint32_t)((double)CACHE_BYTES / bytes) + 1};
	if (product.copies > COPIES_MAX)
		product.copies = COPIES_MAX;
	for (uint32_t i = 0; i < product.copies; i++)
		product.weights[i] = bench_linear(bench, elem, n, k, 1);
	void *x = make_inputs(bench, elem, rows_max, k), *y = bench_alloc(bench, (size_t)rows_max * n * 4);
	for (size_t i = 0; i < sizeof(rows_of) / sizeof(*rows_of) && rows_of[i] <= rows_max; i++) {
		uint32_t rows = rows_of[i];
		char name[64];
		snprintf(name, sizeof(name), "linear%s/%s/%u", elem == ELEM_E4M3 ? "-fp8" : "", shape_name, rows);
		product.call = (struct linear_call){.x = x, .x_stride = elem_row_bytes(elem, k) / elem_bytes(elem), .x_elem = elem,
						    .y = y, .y_stride = n, .rows = rows};
		struct work work = {bytes + row * rows + 4.0 * rows * n, 2.0 * rows * n * k};
		bench_measure(bench, name, work, multiply, &product);
	}
	for (uint32_t i = 0; i < product.copies; i++)
		linear_destroy(product.weights[i]);
	bench_free(bench, x, rows_max * elem_row_bytes(elem, k));
	bench_free(bench, y, (size_t)rows_max * n * 4);
}

/* Experts of a 30B-A3B model: 128 of 768 inner, 8 of them for each row. */
struct experts {
	struct bench *bench;
	struct linear *linears[128];
	struct moe_linear_call call;
};

static void multiply_experts(void *context, uint32_t index)
{
	struct experts *experts = context;
	op_moe_linear(experts->bench->device, &experts->call);
}

static void measure_experts(struct bench *bench, enum elem elem)
{
	enum { COUNT = 128, N = 1536, K = 2048, SLOTS = 32768 };
	struct experts experts = {.bench = bench};
	for (int e = 0; e < COUNT; e++)
		experts.linears[e] = bench_linear(bench, elem, N, K, 1);
	void *x = make_inputs(bench, elem, SLOTS, K), *y = bench_alloc(bench, (size_t)SLOTS * N * 4);
	uint32_t *first = bench_alloc(bench, (COUNT + 1) * 4), host[COUNT + 1];
	double row = (double)elem_row_bytes(elem, K);
	for (uint32_t slots = 128; slots <= SLOTS; slots *= 4) {
		char name[64];
		snprintf(name, sizeof(name), "experts%s/gate_up/%u", elem == ELEM_E4M3 ? "-fp8" : "", slots / 8);
		for (uint32_t e = 0; e <= COUNT; e++)
			host[e] = slots / COUNT * e;
		bench_check(dev_copy(bench->device, first, host, sizeof(host)), "copy");
		experts.call = (struct moe_linear_call){.linears = (const struct linear *const *)experts.linears,
							.expert_count = COUNT, .first = first, .slot_count = slots, .x = x,
							.y = y, .x_elem = elem};
		struct work work = {bench_weight_bytes(elem, (double)COUNT * N * K) + row * slots + 4.0 * slots * N,
				    2.0 * slots * N * K};
		bench_measure(bench, name, work, multiply_experts, &experts);
	}
	for (int e = 0; e < COUNT; e++)
		linear_destroy(experts.linears[e]);
	bench_free(bench, x, SLOTS * elem_row_bytes(elem, K));
	bench_free(bench, y, (size_t)SLOTS * N * 4);
	bench_free(bench, first, (COUNT + 1) * 4);
}

void bench_products(struct bench *bench)
{
	static const enum elem elems[] = {ELEM_BF16, ELEM_E4M3};
	for (int e = 0; e < 2; e++) {
		for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++)
			if (elems[e] == ELEM_BF16 || shapes[i].n < 100000) /* heads are not published in 8 bits */
				measure_shape(bench, elems[e], shapes[i].name, shapes[i].n, shapes[i].k);
		measure_experts(bench, elems[e]);
	}
}

#include <stdio.h>
#include <string.h>

#include "bench/gpu/bench.h"
#include "bench/gpu/cublas_lt.h"
#include "bench/gpu/shapes.h"

static const struct {
	const char *name;
	uint32_t n, k;
} shapes[] = {SHAPES_PRODUCTS};

/* Of those of `others` the library is asked too. */
static const struct {
	uint32_t rows;
	bool others;
} rows_of[] = {SHAPES_PRODUCT_ROWS};

enum { COPIES_MAX = 16 };

struct product {
	struct bench *bench;
	struct lt *lt;
	const char *shape_name;
	uint32_t n, k;
	enum elem elem;
	struct linear *weights[COPIES_MAX];
	void *plain[COPIES_MAX]; /* of the library */
	uint32_t copies;
	void *x, *y;
	struct linear_call call;
};

static void multiply(void *context, uint32_t index)
{
	struct product *product = context;
	product->call.linear = product->weights[index % product->copies];
	op_linear(product->bench->device, &product->call, 1);
}

static void measure_ours(struct product *p, const char *name, uint32_t rows)
{
	double row = (double)elem_row_bytes(p->elem, p->k);
	p->call = (struct linear_call){.x = p->x, .x_stride = elem_row_bytes(p->elem, p->k) / elem_bytes(p->elem), .x_elem = p->elem,
				       .y = p->y, .y_stride = p->n, .rows = rows};
	struct work work = {bench_weight_bytes(p->elem, (double)p->n * p->k) + row * rows + 4.0 * rows * p->n, 2.0 * rows * p->n * p->k};
	bench_measure(p->bench, name, work, multiply, p);
}

static void measure_others(struct product *p, const char *name, uint32_t rows)
{
	struct lt_product product = {.n = p->n, .k = p->k, .rows = rows, .elem = p->elem, .weights = (const void *const *)p->plain,
				     .copies = p->copies, .x = p->x, .y = p->y};
	if (p->elem == ELEM_BF16) {
		lt_measure(p->lt, name, "cublasLt", &product);
		return;
	}
	product.scales = LT_SCALES_128;
	lt_measure(p->lt, name, "cublasLt", &product);
	product.scales = LT_SCALES_ONE;
	lt_measure(p->lt, name, "cublasLt, one scale a tensor", &product);
}

static void make_weights(struct product *p)
{
	double bytes = bench_weight_bytes(p->elem, (double)p->n * p->k);
	p->copies = (uint32_t)((double)SHAPES_CACHE_BYTES / bytes) + 1;
	p->copies = p->copies < COPIES_MAX ? p->copies : COPIES_MAX;
	for (uint32_t i = 0; i < p->copies; i++) {
		p->weights[i] = bench_linear(p->bench, p->elem, p->n, p->k, 1);
		if (p->lt)
			p->plain[i] = bench_inputs(p->bench, p->elem, p->n, p->k);
	}
}

static void free_weights(struct product *p)
{
	for (uint32_t i = 0; i < p->copies; i++) {
		linear_destroy(p->weights[i]);
		bench_free(p->bench, p->plain[i], p->n * elem_row_bytes(p->elem, p->k));
	}
}

static void measure_shape(struct product *p)
{
	uint32_t rows_max = p->n == SHAPES_HEAD_N ? SHAPES_HEAD_ROWS_MAX : SHAPES_PRODUCT_ROWS_MAX;
	char name[64];
	make_weights(p);
	p->x = bench_inputs(p->bench, p->elem, rows_max, p->k);
	p->y = bench_alloc(p->bench, (size_t)rows_max * p->n * 4);
	for (size_t i = 0; i < sizeof(rows_of) / sizeof(*rows_of); i++) {
		if (rows_of[i].rows > rows_max)
			continue;
		snprintf(name, sizeof(name), "linear%s/%s/%u", p->elem == ELEM_E4M3 ? "-fp8" : "", p->shape_name, rows_of[i].rows);
		measure_ours(p, name, rows_of[i].rows);
		if (rows_of[i].others)
			measure_others(p, name, rows_of[i].rows);
	}
	bench_free(p->bench, p->x, rows_max * elem_row_bytes(p->elem, p->k));
	bench_free(p->bench, p->y, (size_t)rows_max * p->n * 4);
	free_weights(p);
}

void bench_products(struct bench *bench)
{
	static const enum elem elems[] = {ELEM_BF16, ELEM_E4M3};
	struct lt *lt = strcmp(bench->numerics_class, "exact") == 0 ? lt_open(bench) : NULL;
	for (int e = 0; e < 2; e++)
		for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
			struct product product = {.bench = bench, .lt = lt, .shape_name = shapes[i].name, .n = shapes[i].n,
						  .k = shapes[i].k, .elem = elems[e]};
			/* Heads are not published in 8 bits. */
			if ((elems[e] == ELEM_BF16 || shapes[i].n != SHAPES_HEAD_N) && !bench_over(bench, shapes[i].name))
				measure_shape(&product);
		}
	lt_close(lt);
}

struct experts {
	struct bench *bench;
	struct linear *linears[SHAPES_EXPERTS];
	struct moe_linear_call call;
};

static void multiply_experts(void *context, uint32_t index)
{
	struct experts *experts = context;
	op_moe_linear(experts->bench->device, &experts->call);
}

static void measure_experts(struct bench *bench, enum elem elem)
{
	enum { COUNT = SHAPES_EXPERTS, N = SHAPES_EXPERT_N, K = SHAPES_EXPERT_K, SLOTS = SHAPES_SLOTS };
	struct experts experts = {.bench = bench};
	for (int e = 0; e < COUNT; e++)
		experts.linears[e] = bench_linear(bench, elem, N, K, 1);
	void *x = bench_inputs(bench, elem, SLOTS, K), *y = bench_alloc(bench, (size_t)SLOTS * N * 4);
	uint32_t *first = bench_alloc(bench, (COUNT + 1) * 4), host[COUNT + 1];
	double row = (double)elem_row_bytes(elem, K);
	for (uint32_t slots = COUNT; slots <= SLOTS; slots *= 4) {
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

void bench_experts(struct bench *bench)
{
	measure_experts(bench, ELEM_BF16);
	if (!bench_over(bench, "experts-fp8"))
		measure_experts(bench, ELEM_E4M3);
}

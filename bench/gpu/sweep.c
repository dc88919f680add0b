/* Products in all tiles that are not far from the best by the plan's own account, over the layers of known models and rows of 1 to 8192:
 * is the plan's choice the fastest one, and which rates would choose better?  A point is a line of JSON:
 *
 *     {"sweep": "8b/qkv", "elem": "bf16", "n": …, "k": …, "groups": 1, "rows": …, "plan": 3, "best": 5, "tiles": [[height, width, groups, us], …]}
 *
 * and behind all of them {"fit": …}: prices of the plan's choices by its rates as they are, and by those that fit (fit.h). */
#include <stdio.h>
#include <stdlib.h>

#include "bench/gpu/bench.h"
#include "bench/gpu/fit.h"
#include "bench/gpu/shapes.h"

enum { COPIES_MAX = 16, EXPERTS = SHAPES_EXPERTS, ROWS_MAX = SHAPES_SWEEP_ROWS_MAX, POINTS_MAX = 512 };
#define COST_FACTOR 2 /* tiles that cost more than so many of the cheapest are not tried */

static const struct layer {
	const char *name;
	uint32_t n, k, groups;
} layers[] = {SHAPES_LAYERS};
static const uint32_t rows_of[] = {SHAPES_SWEEP_ROWS};

struct sweep {
	struct bench *bench;
	const struct layer *layer;
	enum elem elem;
	uint32_t copies;
	struct linear *linears[COPIES_MAX > EXPERTS ? COPIES_MAX : EXPERTS]; /* copies, or experts */
	void *x, *y;
	uint32_t *first; /* of experts */
	struct linear_call call;
	struct moe_linear_call experts;
	struct fit_point *points; /* [POINTS_MAX] */
	uint32_t point_count;
};

static void multiply(void *context, uint32_t index)
{
	struct sweep *s = context;
	s->call.linear = s->linears[index % s->copies];
	if (s->layer->groups == 1)
		op_linear(s->bench->device, &s->call, 1);
	else
		op_moe_linear(s->bench->device, &s->experts);
}

static double time_in(struct sweep *s, const struct linear_plan *plan, int rounds, double pass_s)
{
	forced_plan_set(plan);
	double us = bench_time(s->bench, rounds, pass_s, multiply, s) * 1e6;
	forced_plan_set(NULL);
	return us;
}

/* --- a layer ------------------------------------------------------------------------------------------------------- */

static uint32_t slots_of(const struct layer *layer, uint32_t rows)
{
	return layer->groups > 1 ? rows * SHAPES_TOP_K : rows;
}

static void open_layer(struct sweep *s)
{
	const struct layer *layer = s->layer;
	double bytes = bench_weight_bytes(s->elem, (double)layer->n * layer->k);
	s->copies = (uint32_t)((double)SHAPES_SWEEP_CACHE_BYTES / bytes) + 1;
	s->copies = layer->groups > 1 ? layer->groups : s->copies < COPIES_MAX ? s->copies : COPIES_MAX;
	for (uint32_t i = 0; i < s->copies; i++)
		s->linears[i] = bench_linear(s->bench, s->elem, layer->n, layer->k, 1);
	s->x = bench_inputs(s->bench, s->elem, slots_of(layer, ROWS_MAX), layer->k);
	s->y = bench_alloc(s->bench, (size_t)slots_of(layer, ROWS_MAX) * layer->n * 4);
	s->first = bench_alloc(s->bench, (EXPERTS + 1) * 4);
}

static void close_layer(struct sweep *s)
{
	for (uint32_t i = 0; i < s->copies; i++)
		linear_destroy(s->linears[i]);
	bench_free(s->bench, s->x, slots_of(s->layer, ROWS_MAX) * elem_row_bytes(s->elem, s->layer->k));
	bench_free(s->bench, s->y, (size_t)slots_of(s->layer, ROWS_MAX) * s->layer->n * 4);
	bench_free(s->bench, s->first, (EXPERTS + 1) * 4);
}

/* Of experts each has its share of the slots. */
static void prepare(struct sweep *s, uint32_t rows)
{
	uint32_t slots = slots_of(s->layer, rows), host[EXPERTS + 1];
	for (uint32_t e = 0; e <= EXPERTS; e++)
		host[e] = (uint32_t)((uint64_t)slots * e / EXPERTS);
	bench_check(dev_copy(s->bench->device, s->first, host, sizeof(host)), "copy");
	s->call = (struct linear_call){.x = s->x, .x_stride = elem_row_bytes(s->elem, s->layer->k) / elem_bytes(s->elem), .x_elem = s->elem,
				       .y = s->y, .y_stride = s->layer->n, .rows = rows};
	s->experts = (struct moe_linear_call){.linears = (const struct linear *const *)s->linears, .expert_count = EXPERTS, .first = s->first,
					      .slot_count = slots, .x = s->x, .y = s->y, .x_elem = s->elem};
}

/* --- a point ------------------------------------------------------------------------------------------------------- */

/* The tiles worth trying, the plan's own among them. */
static void choose_tiles(struct fit_point *point)
{
	struct linear_plan all[FORCED_PLANS_MAX];
	uint32_t count = forced_plans(&point->shape, all);
	const struct linear_plan own = linear_plan(&point->shape);
	uint64_t most = COST_FACTOR * linear_plan_cost(&point->shape, &own, &linear_rates_h200);
	point->count = 0;
	for (uint32_t i = 0; i < count; i++)
		if (linear_plan_cost(&point->shape, &all[i], &linear_rates_h200) <= most)
			point->plans[point->count++] = all[i];
}

static void print_point(const struct sweep *s, const struct fit_point *point, uint32_t rows)
{
	printf("{\"sweep\": \"%s\", \"elem\": \"%s\", \"n\": %u, \"k\": %u, \"groups\": %u, \"rows\": %u, \"plan\": %u, \"best\": %u, \"tiles\": [",
	       s->layer->name, s->elem == ELEM_BF16 ? "bf16" : "e4m3", s->layer->n, s->layer->k, s->layer->groups, rows,
	       fit_choice(point, &linear_rates_h200), fit_best(point));
	for (uint32_t i = 0; i < point->count; i++)
		printf("%s[%u, %u, %u, %.2f]", i ? ", " : "", point->plans[i].height, point->plans[i].width, point->plans[i].groups,
		       point->us[i]);
	printf("]}\n");
	fflush(stdout);
}

static void measure_point(struct sweep *s, uint32_t rows)
{
	struct fit_point *point = &s->points[s->point_count];
	prepare(s, rows);
	multiply(s, 0); /* so that it is asked for */
	point->shape = *forced_plan_asked();
	choose_tiles(point);
	for (uint32_t i = 0; i < point->count; i++)
		point->us[i] = time_in(s, &point->plans[i], 1, SHAPES_LOOK_SECONDS);
	/* The two that matter once more, and better. */
	uint32_t own = fit_choice(point, &linear_rates_h200), best = fit_best(point);
	point->us[best] = time_in(s, &point->plans[best], 3, SHAPES_AGAIN_SECONDS);
	if (own != best)
		point->us[own] = time_in(s, &point->plans[own], 3, SHAPES_AGAIN_SECONDS);
	print_point(s, point, rows);
	s->point_count++;
}

static void measure_layer(struct sweep *s)
{
	if (bench_over(s->bench, s->layer->name))
		return;
	open_layer(s);
	for (size_t i = 0; i < sizeof(rows_of) / sizeof(*rows_of) && s->point_count < POINTS_MAX; i++)
		if (!bench_over(s->bench, s->layer->name))
			measure_point(s, rows_of[i]);
	close_layer(s);
}

/* --- all of them --------------------------------------------------------------------------------------------------- */

static void print_rates(const char *name, const struct linear_rates *rates, struct fit_price price)
{
	printf("\"%s\": {\"sm_bytes_cycle\": %u, \"l2_bytes_cycle\": %u, \"hbm_bytes_cycle\": %u, \"tile_cycles\": %u, \"mean\": %.4f, "
	       "\"worst\": %.3f, \"behind\": %u}", name, rates->sm_bytes_cycle, rates->l2_bytes_cycle, rates->hbm_bytes_cycle,
	       rates->tile_cycles, price.mean, price.worst, price.behind);
}

static void print_fit(const struct sweep *s)
{
	const struct linear_rates fitted = fit_rates(s->points, s->point_count, &linear_rates_h200);
	printf("{\"fit\": {\"points\": %u, ", s->point_count);
	print_rates("now", &linear_rates_h200, fit_price_of(s->points, s->point_count, &linear_rates_h200));
	printf(", ");
	print_rates("fitted", &fitted, fit_price_of(s->points, s->point_count, &fitted));
	printf("}}\n");
}

void bench_sweep(struct bench *bench)
{
	static const enum elem elems[] = {ELEM_BF16, ELEM_E4M3};
	struct sweep s = {.bench = bench, .points = calloc(POINTS_MAX, sizeof(*s.points))};
	for (int e = 0; e < 2; e++)
		for (size_t i = 0; i < sizeof(layers) / sizeof(*layers); i++) {
			s.layer = &layers[i];
			s.elem = elems[e];
			measure_layer(&s);
		}
	if (s.point_count > 0)
		print_fit(&s);
	free(s.points);
}

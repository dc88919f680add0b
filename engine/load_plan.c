#include "engine/load_plan.h"

#include <stdlib.h>

#include "engine/tensor_rows.h"

enum { ROWS_TOGETHER = 16 }; /* a kernel's panel is filled by one worker: pieces begin at one */

struct make {
	const struct model_config *config;
	const struct weights *weights;
	const struct load_plan_options *options;
	struct why *why;
	struct load_plan *plan;
	uint32_t part_room;
};

static uint32_t smaller(uint64_t a, uint64_t b)
{
	return (uint32_t)(a < b ? a : b);
}

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* --- parts ----------------------------------------------------------------------------------------------- */

static uint32_t rows_of(const struct tensor_spec *spec)
{
	return (uint32_t)spec->dims[0];
}

static bool scaled_by_block(const struct load_part *part)
{
	return part->found.tensor->dtype == TENSOR_F8_E4M3;
}

static uint64_t common_multiple(uint64_t a, uint64_t b)
{
	uint64_t x = a, y = b;
	while (y) {
		uint64_t rest = x % y;
		x = y;
		y = rest;
	}
	return a / x * b;
}

/* Rule 3. */
static uint32_t unit_rows(const struct model_config *config, const struct load_part *part)
{
	uint32_t rows = rows_of(&part->spec), unit = ROWS_TOGETHER;
	if (part->spec.dim_count == 1 || part->found.tensor->dim_count == 3)
		return rows;
	if (part->spec.role == TENSOR_KEY_VALUE_UP)
		unit = config->latent.qk_nope_head_dim + config->latent.v_head_dim;
	return scaled_by_block(part) ? smaller(rows, common_multiple(unit, TENSOR_SCALE_BLOCK)) : unit;
}

/* MXFP4 is [expert][outputs][inputs / 32][16]. */
static uint64_t stored_row_bytes(const struct load_part *part)
{
	const struct tensor *tensor = part->found.tensor;
	if (tensor->dim_count == 4)
		return tensor->dims[2] * tensor->dims[3];
	return (part->spec.dim_count == 1 ? 1 : part->spec.dims[1]) * tensor_dtype_bytes(tensor->dtype);
}

static void measure(const struct make *make, struct load_part *part)
{
	const struct tensor_spec *spec = &part->spec;
	uint64_t rows = rows_of(spec), unit = unit_rows(make->config, part);
	part->row_bytes = stored_row_bytes(part);
	part->row_out_bytes = spec->dim_count == 1 ? sizeof(float) : spec->dims[1] * elem_bytes(part->elem);
	part->offset = part->found.expert * rows * part->row_bytes;
	uint64_t units = larger(1, make->options->piece_bytes / part->row_out_bytes / unit);
	part->piece_rows = smaller(rows, units * unit);
}

static enum err add_part(void *arg, const struct tensor_spec *spec)
{
	struct make *make = arg;
	struct load_plan *plan = make->plan;
	if (plan->part_count == make->part_room) {
		uint32_t room = make->part_room ? 2 * make->part_room : 256;
		struct load_part *parts = realloc(plan->parts, room * sizeof(*parts));
		if (!parts)
			return why_set(make->why, ERR_NOMEM, "no memory for a plan of %u tensors", room);
		plan->parts = parts;
		make->part_room = room;
	}
	struct load_part *part = &plan->parts[plan->part_count];
	*part = (struct load_part){.spec = *spec};
	enum err e = model_tensor_find(make->config, make->weights, spec, make->why, &part->found);
	if (e != ERR_OK)
		return e;
	part->elem = load_part_elem(make->config, spec, part->found.tensor, make->options->elem);
	measure(make, part);
	plan->part_count++;
	return ERR_OK;
}

struct load_range load_part_rows(const struct load_part *part, uint32_t first, uint32_t count)
{
	return (struct load_range){part->offset + first * part->row_bytes, count * part->row_bytes};
}

struct load_range load_part_scales(const struct load_part *part, uint32_t first, uint32_t count)
{
	const struct tensor *scale = part->found.scale;
	if (!scale)
		return (struct load_range){0};
	if (scaled_by_block(part)) {
		uint64_t row = scale->dims[1] * tensor_dtype_bytes(scale->dtype);
		uint64_t rows = (count + TENSOR_SCALE_BLOCK - 1) / TENSOR_SCALE_BLOCK;
		return (struct load_range){first / TENSOR_SCALE_BLOCK * row, rows * row};
	}
	uint64_t row = scale->dims[2];
	return (struct load_range){((uint64_t)part->found.expert * scale->dims[1] + first) * row, count * row};
}

bool load_part_plain(const struct load_part *part)
{
	return part->spec.dim_count == 2 && tensor_rows_plain(&part->found, part->elem);
}

enum elem load_part_elem(const struct model_config *config, const struct tensor_spec *spec, const struct tensor *stored,
			 enum elem others)
{
	bool kept = config->fp8_kept && spec->dim_count == 2 && spec->role != TENSOR_KEY_VALUE_UP;
	return kept && stored->dtype == TENSOR_F8_E4M3 ? ELEM_E4M3 : others;
}

/* --- lanes ----------------------------------------------------------------------------------------------- */

static int by_tensor(const void *a, const void *b)
{
	const struct load_part *x = a, *y = b;
	if (x->found.tensor != y->found.tensor)
		return x->found.tensor < y->found.tensor ? -1 : 1;
	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Rule 2. */
static int by_length(const void *a, const void *b)
{
	const struct tensor *x = ((const struct load_lane *)a)->tensor, *y = ((const struct load_lane *)b)->tensor;
	if (x->bytes != y->bytes)
		return x->bytes > y->bytes ? -1 : 1;
	if (x->shard_index != y->shard_index)
		return x->shard_index < y->shard_index ? -1 : 1;
	return x->shard_offset < y->shard_offset ? -1 : x->shard_offset > y->shard_offset;
}

static void add_lane(struct load_plan *plan, const struct load_lane *lane)
{
	plan->lanes[plan->lane_count++] = *lane;
	plan->bytes += lane->tensor->bytes + (lane->scale ? lane->scale->bytes : 0);
}

static void add_used_lanes(struct load_plan *plan, bool *used, const struct tensor *all)
{
	for (uint32_t i = 0, end; i < plan->part_count; i = end) {
		const struct tensor_found *found = &plan->parts[i].found;
		for (end = i + 1; end < plan->part_count && plan->parts[end].found.tensor == found->tensor;)
			end++;
		add_lane(plan, &(struct load_lane){found->tensor, found->scale, i, end - i});
		used[found->tensor - all] = true;
		if (found->scale)
			used[found->scale - all] = true;
	}
}

static enum err add_lanes(struct make *make)
{
	struct load_plan *plan = make->plan;
	size_t count = weights_count(make->weights);
	bool *used = calloc(count + 1, sizeof(*used));
	plan->lanes = calloc(count + 1, sizeof(*plan->lanes));
	if (!used || !plan->lanes) {
		free(used);
		return why_set(make->why, ERR_NOMEM, "no memory for a plan of %zu tensors", count);
	}
	qsort(plan->parts, plan->part_count, sizeof(*plan->parts), by_tensor);
	add_used_lanes(plan, used, weights_at(make->weights, 0));
	for (size_t i = 0; make->options->digested && i < count; i++)
		if (!used[i])
			add_lane(plan, &(struct load_lane){.tensor = weights_at(make->weights, i)});
	qsort(plan->lanes, plan->lane_count, sizeof(*plan->lanes), by_length);
	free(used);
	return ERR_OK;
}

static void add_up(const struct load_plan_options *options, struct load_plan *plan)
{
	for (uint32_t i = 0; i < plan->part_count; i++) {
		const struct load_part *part = &plan->parts[i];
		uint32_t rows = part->piece_rows;
		plan->piece_count += (rows_of(&part->spec) + rows - 1) / rows;
		plan->piece_out_bytes = larger(plan->piece_out_bytes, rows * part->row_out_bytes);
		plan->piece_scale_bytes = larger(plan->piece_scale_bytes, load_part_scales(part, 0, rows).bytes);
		if (!load_part_plain(part))
			plan->piece_raw_bytes = larger(plan->piece_raw_bytes, rows * part->row_bytes);
	}
	for (uint32_t i = 0; i < plan->lane_count; i++)
		if (plan->lanes[i].part_count == 0)
			plan->piece_raw_bytes = larger(plan->piece_raw_bytes,
						       smaller(plan->lanes[i].tensor->bytes, options->piece_bytes));
}

enum err load_plan_create(const struct model_config *config, const struct weights *weights,
			  const struct load_plan_options *options, struct why *why, struct load_plan **ret_plan)
{
	struct make make = {config, weights, options, why, calloc(1, sizeof(*make.plan)), 0};
	if (!make.plan)
		return why_set(why, ERR_NOMEM, "no memory for a plan");
	enum err e = model_tensors_each(config, add_part, &make);
	if (e == ERR_OK)
		e = add_lanes(&make);
	if (e != ERR_OK) {
		load_plan_destroy(make.plan);
		return e;
	}
	add_up(options, make.plan);
	*ret_plan = make.plan;
	return ERR_OK;
}

void load_plan_destroy(struct load_plan *plan)
{
	if (!plan)
		return;
	free(plan->parts);
	free(plan->lanes);
	free(plan);
}

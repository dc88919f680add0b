#include "kernels/ops.h"

#include <assert.h>
#include <stdbool.h>

#include "kernels/backend.h"

/* --- linear ------------------------------------------------------------------------------------------ */

enum err linear_create(struct device *device, const struct linear_shape *shape, struct linear **ret_linear)
{
	uint32_t segments = shape->segments, together = shape->scale_outputs;
	uint32_t step = shape->elem == ELEM_BF16 ? 2 : shape->elem == ELEM_E4M3 && segments > 1 ? LINEAR_GROUP : 1;
	assert(shape->n > 0 && shape->k > 0);
	assert(shape->elem != ELEM_E4M3 || (together > 0 && together <= LINEAR_GROUP && (together & (together - 1)) == 0));
	if (segments == 0 || segments > LINEAR_SEGMENTS || (segments & (segments - 1)) != 0)
		return ERR_INVALID;
	if (shape->k % (segments * step) != 0)
		return ERR_INVALID;
	return device->backend->linear_create(device, shape, ret_linear);
}

void linear_destroy(struct linear *linear)
{
	if (linear)
		linear->device->backend->linear_destroy(linear);
}

const struct linear_shape *linear_shape(const struct linear *linear)
{
	return &linear->shape;
}

size_t linear_bytes(const struct linear *linear)
{
	return linear->bytes;
}

void linear_fill(struct linear *linear, uint32_t first, uint32_t count, const void *source, size_t source_stride)
{
	assert(count <= linear->shape.n && first <= linear->shape.n - count);
	if (count > 0)
		linear->device->backend->linear_fill(linear, first, count, source, source_stride);
}

void linear_fill_scales(struct linear *linear, uint32_t first, uint32_t count, const float *source)
{
	const struct linear_shape *shape = &linear->shape;
	assert(shape->elem == ELEM_E4M3 && count <= shape->n && first <= shape->n - count);
	assert(first % shape->scale_outputs == 0 && (count % shape->scale_outputs == 0 || first + count == shape->n));
	if (count > 0)
		linear->device->backend->linear_fill_scales(linear, first, count, source);
}

enum err linear_fill_bias(struct linear *linear, uint32_t first, uint32_t count, const float *source)
{
	assert(count <= linear->shape.n && first <= linear->shape.n - count);
	return linear->device->backend->linear_fill_bias(linear, first, count, source);
}

/* Rows of e4m3 are of devices that have them, in whole groups. */
static void check_narrow(const struct device *device, enum elem elem, uint32_t n)
{
	assert(elem != ELEM_E4M3 || (device->props.input_e4m3 && n % LINEAR_GROUP == 0));
}

void op_linear(struct device *device, const struct linear_call *calls, size_t call_count)
{
	for (size_t i = 0; i < call_count; i++) {
		const struct linear_shape *shape = &calls[i].linear->shape;
		assert(calls[i].rows <= 1 || (calls[i].x_stride >= shape->k && calls[i].y_stride >= shape->n));
		check_narrow(device, calls[i].x_elem, shape->k);
		assert(calls[i].x_elem != ELEM_E4M3 || shape->elem == ELEM_E4M3);
	}
	device->backend->linear(device, calls, call_count);
}

static bool is_tree(uint32_t part_count)
{
	return part_count > 0 && part_count <= LINEAR_SEGMENTS && (part_count & (part_count - 1)) == 0;
}

void op_tree_sum(struct device *device, const struct tree_call *call)
{
	assert(is_tree(call->part_count));
	device->backend->tree_sum(device, call);
}

void op_collect(struct device *device, const struct collect_call *call)
{
	assert(call->part_count > 0 && call->part_count <= DEVICES_MAX);
	device->backend->collect(device, call);
}

/* --- rows -------------------------------------------------------------------------------------------- */

void op_embed(struct device *device, const void *table, enum elem elem, uint32_t dim, const uint32_t *tokens,
	      uint32_t rows, float *out)
{
	device->backend->embed(device, table, elem, dim, tokens, rows, out);
}

void op_embed_linear(struct device *device, const struct linear *table, const uint32_t *tokens, uint32_t rows,
		     float *out)
{
	assert(table->shape.elem != ELEM_E4M3);
	device->backend->embed_linear(device, table, tokens, rows, out);
}

void op_rmsnorm(struct device *device, const struct norm_call *call)
{
	assert(call->out || call->narrow);
	check_narrow(device, call->narrow ? ELEM_E4M3 : ELEM_F32, call->dim);
	device->backend->rmsnorm(device, call);
}

void op_head_norm(struct device *device, float *x, size_t x_stride, uint32_t rows, uint32_t head_count,
		  uint32_t dim, const float *weight, float eps)
{
	device->backend->head_norm(device, x, x_stride, rows, head_count, dim, weight, eps);
}

void op_add(struct device *device, float *x, const float *add, uint32_t rows, uint32_t dim)
{
	device->backend->add(device, x, add, rows, dim);
}

void op_scale(struct device *device, float *x, float by, uint32_t rows, uint32_t dim)
{
	device->backend->scale(device, x, by, rows, dim);
}

void op_glu(struct device *device, const struct glu_call *call)
{
	check_narrow(device, call->out_elem, call->dim);
	device->backend->glu(device, call);
}

void op_gather(struct device *device, const float *x, size_t x_stride, const uint32_t *index, uint32_t count,
	       uint32_t dim, float *out)
{
	device->backend->gather(device, x, x_stride, index, count, dim, out);
}

void op_rope_angles(struct device *device, const uint32_t *positions, uint32_t rows, const float *frequency,
		    uint32_t half, float factor, float *ret_cos, float *ret_sin)
{
	device->backend->rope_angles(device, positions, rows, frequency, half, factor, ret_cos, ret_sin);
}

void op_rope(struct device *device, float *x, size_t x_stride, uint32_t rows, uint32_t head_count, uint32_t dim,
	     uint32_t half, const float *cos, const float *sin)
{
	assert(2 * half <= dim);
	device->backend->rope(device, x, x_stride, rows, head_count, dim, half, cos, sin);
}

/* --- KV ---------------------------------------------------------------------------------------------- */

enum err kv_runs_create(struct device *device, const struct kv_runs_bounds *bounds, struct kv_runs **ret_runs)
{
	assert(bounds->runs_max > 0 && bounds->rows_max > 0 && bounds->blocks_max > 0 && bounds->block_tokens > 0);
	enum err e = device->backend->kv_runs_create(device, bounds, ret_runs);
	if (e == ERR_OK) {
		(*ret_runs)->device = device;
		(*ret_runs)->bounds = *bounds;
	}
	return e;
}

void kv_runs_destroy(struct kv_runs *runs)
{
	if (runs)
		runs->device->backend->kv_runs_destroy(runs);
}

void kv_runs_set(struct kv_runs *runs, const struct kv_run *list, uint32_t count)
{
	kv_runs_set_padded(runs, list, count, 0);
}

void kv_runs_set_padded(struct kv_runs *runs, const struct kv_run *list, uint32_t count, uint32_t padding)
{
	const struct kv_runs_bounds *bounds = &runs->bounds;
	assert(count <= bounds->runs_max);
	runs->list = list;
	runs->count = count;
	runs->padding = padding;
	runs->row_count = 0;
	for (uint32_t i = 0; i < count; i++) {
		uint64_t end = (uint64_t)list[i].first_position + list[i].row_count;
		assert(list[i].row_count > 0 && end <= (uint64_t)bounds->blocks_max * bounds->block_tokens);
		assert(list[i].row_first <= bounds->rows_max && list[i].row_count <= bounds->rows_max - list[i].row_first);
		runs->row_count += list[i].row_count;
	}
	assert(runs->row_count <= bounds->rows_max && padding <= bounds->rows_max - runs->row_count);
	runs->device->backend->kv_runs_set(runs);
}

static void check_kv(const struct kv_memory *kv, uint32_t layer, const struct kv_runs *runs)
{
	assert(layer < kv->layout.layer_count && kv->layer_stride >= kv_layer_bytes(&kv->layout));
	assert(kv->block_stride >= kv->layout.layer_count * kv->layer_stride);
	assert(kv->layout.block_tokens == runs->bounds.block_tokens);
}

void op_kv_write(struct device *device, const struct kv_write_call *call)
{
	check_kv(call->kv, call->layer, call->runs);
	assert((call->v != NULL) == (call->kv->layout.kind == KV_HEADS));
	device->backend->kv_write(device, call);
}

void op_qkv(struct device *device, const struct qkv_call *call)
{
	check_kv(call->kv, call->layer, call->runs);
	assert(call->kv->layout.kind == KV_HEADS && (call->q_norm != NULL) == (call->k_norm != NULL));
	assert(call->kv->layout.head_dim <= HEAD_DIM_MAX && 2 * call->half <= call->kv->layout.head_dim);
	device->backend->qkv(device, call);
}

void op_kv_digest(struct device *device, const struct kv_digest_call *call)
{
	assert(call->part_count > 0 && call->turn < call->turns);
	check_kv(&call->parts[0], call->layer, call->runs);
	device->backend->kv_digest(device, call);
}

void op_attention(struct device *device, const struct attention_call *call)
{
	const struct kv_layout *layout = &call->kv->layout;
	bool latent = layout->kind == KV_LATENT;
	check_kv(call->kv, call->layer, call->runs);
	assert(call->head_count > 0 && call->head_count % layout->head_kv_count == 0);
	assert(layout->head_dim % 16 == 0 && layout->head_dim <= (latent ? LATENT_DIM_MAX : HEAD_DIM_MAX));
	assert(kv_value_dim(layout) % 16 == 0 && kv_value_dim(layout) <= HEAD_DIM_MAX);
	assert(latent == (call->q_rest != NULL) && kv_value_dim(layout) <= layout->head_dim);
	device->backend->attention(device, call);
}

/* --- experts ----------------------------------------------------------------------------------------- */

void op_moe_route(struct device *device, const struct moe_route_call *call)
{
	const struct moe_routing *r = call->routing;
	assert(r->expert_count <= MOE_EXPERTS_MAX && r->top_k <= MOE_TOP_K_MAX);
	assert(r->group_count > 0 && r->expert_count % r->group_count == 0);
	assert(r->group_count == 1 || (r->group_top > 0 && r->group_top <= r->group_count));
	assert(r->group_count == 1 || (r->group_best > 0 && r->group_best <= 2));
	assert(r->top_k > 0 && r->top_k <= r->expert_count / r->group_count * (r->group_count > 1 ? r->group_top : 1));
	device->backend->moe_route(device, call);
}

void op_moe_group(struct device *device, const uint32_t *expert, uint32_t slot_count, uint32_t expert_count,
		  uint32_t *ret_first, uint32_t *ret_slot)
{
	assert(expert_count > 0 && expert_count <= MOE_EXPERTS_MAX);
	device->backend->moe_group(device, expert, slot_count, expert_count, ret_first, ret_slot);
}

void op_moe_gather(struct device *device, const struct moe_gather_call *call)
{
	check_narrow(device, call->out_elem, call->dim);
	device->backend->moe_gather(device, call);
}

void op_moe_linear(struct device *device, const struct moe_linear_call *call)
{
	const struct linear_shape *shape = linear_shape(call->linears[0]);
	assert(call->expert_count > 0 && call->expert_count <= MOE_EXPERTS_MAX);
	check_narrow(device, call->x_elem, shape->k);
	for (uint32_t e = 1; e < call->expert_count; e++)
		assert(linear_shape(call->linears[e])->n == shape->n && linear_shape(call->linears[e])->k == shape->k &&
		       linear_shape(call->linears[e])->elem == shape->elem);
	device->backend->moe_linear(device, call);
}

void op_moe_scatter(struct device *device, const struct moe_scatter_call *call)
{
	assert(is_tree(call->part_count) && call->first <= call->end && call->end <= call->slot_count);
	assert(!call->bias || call->expert);
	device->backend->moe_scatter(device, call);
}

void op_moe_combine(struct device *device, const uint16_t *answer, const float *weight, uint32_t rows,
		    uint32_t top_k, uint32_t dim, float *out)
{
	device->backend->moe_combine(device, answer, weight, rows, top_k, dim, out);
}

void op_add_gated(struct device *device, float *x, const float *add, const float *gate, uint32_t rows, uint32_t dim)
{
	device->backend->add_gated(device, x, add, gate, rows, dim);
}

void op_to_bf16(struct device *device, const float *x, size_t count, uint16_t *out)
{
	device->backend->to_bf16(device, x, count, out);
}

void op_from_bf16(struct device *device, const uint16_t *x, size_t count, float *out)
{
	device->backend->from_bf16(device, x, count, out);
}

/* --- logits ------------------------------------------------------------------------------------------ */

void op_soft_cap(struct device *device, float *x, size_t x_stride, uint32_t rows, uint32_t n, float cap)
{
	assert(cap > 0);
	device->backend->soft_cap(device, x, x_stride, rows, n, cap);
}

void op_exp(struct device *device, const float *x, float shift, uint32_t n, float *out)
{
	device->backend->exp(device, x, shift, n, out);
}

/* --- sampling ---------------------------------------------------------------------------------------- */

enum err sample_scratch_create(struct device *device, uint32_t vocab_size, struct sample_scratch **ret_scratch)
{
	assert(vocab_size > 0);
	if (vocab_size > SAMPLE_VOCAB_MAX)
		return ERR_UNSUPPORTED;
	enum err e = device->backend->sample_create(device, vocab_size, ret_scratch);
	if (e == ERR_OK) {
		(*ret_scratch)->device = device;
		(*ret_scratch)->vocab_size = vocab_size;
	}
	return e;
}

void sample_scratch_destroy(struct sample_scratch *scratch)
{
	if (scratch)
		scratch->device->backend->sample_destroy(scratch);
}

void op_sample(struct sample_scratch *scratch, const struct sample_call *call)
{
	for (uint32_t i = 0; i < call->row_count; i++) {
		const struct sample_row *row = &call->rows[i];
		assert(row->ret_samples && row->logprobs <= SAMPLING_TOP_LOGPROBS_MAX && row->masked_count <= SAMPLE_MASKED_MAX);
		assert(row->sampling ? row->choice_count - 1u < SAMPLING_CHOICES_MAX : row->token < scratch->vocab_size);
	}
	assert(call->row_count <= 1 || call->stride >= scratch->vocab_size);
	scratch->device->backend->sample(scratch, call);
}

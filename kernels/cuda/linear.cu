#include "kernels/cuda/linear.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/linear_plan.h"
#include "kernels/cuda/simt.h"

#define STRIDE_BYTES 16u /* strides of tensor maps are multiples of it */

/* --- life of weights ----------------------------------------------------------------------------------------- */

static size_t packed_row(const struct cuda_linear *linear)
{
	return (size_t)linear->base.shape.segments * linear->segment_stride * elem_bytes(linear->base.shape.elem);
}

static bool take_entry(struct cuda_device *device, uint32_t *ret_entry)
{
	for (uint32_t i = device->entries_first; i < CUDA_LINEARS_MAX; i++)
		if (!device->entries_used[i]) {
			device->entries_used[i] = 1;
			device->entries_first = i + 1;
			*ret_entry = i;
			return true;
		}
	return false;
}

static void free_entry(struct cuda_device *device, uint32_t entry)
{
	device->entries_used[entry] = 0;
	device->entries_first = entry < device->entries_first ? entry : device->entries_first;
}

struct linear_tensor linear_tensor_of(const struct cuda_linear *linear)
{
	const struct linear_shape *shape = &linear->base.shape;
	return {linear->data, linear->segment_k, shape->segments, shape->n, linear->segment_stride,
		(size_t)shape->segments * linear->segment_stride, shape->elem};
}

/* Tells kernels where the weights are. */
static enum err write_entry(const struct cuda_linear *linear)
{
	struct cuda_device *device = cuda_of(linear->base.device);
	struct linear_entry entry = {};
	struct linear_tensor tensor = linear_tensor_of(linear);
	entry.data = linear->data;
	entry.bias = linear->bias;
	entry.scales = linear->scales;
	for (uint32_t i = 0; i < 2 && linear->base.shape.elem != ELEM_F32; i++)
		if (!linear_map(device, &tensor, 64u << i, &entry.maps[i]))
			return device->failed;
	return dev_copy(linear->base.device, device->entries + linear->entry, &entry, sizeof(entry));
}

enum err cuda_linear_create(struct device *base, const struct linear_shape *shape, struct linear **ret_linear)
{
	struct cuda_device *device = cuda_of(base);
	struct cuda_linear *linear = (struct cuda_linear *)calloc(1, sizeof(*linear));
	if (!linear)
		return ERR_NOMEM;
	linear->base = {*shape, base, 0};
	if (device->fast)
		linear->base.shape.segments = 1; /* splits are chosen by each call */
	shape = &linear->base.shape;
	uint32_t unit = shape->elem == ELEM_F32 ? 1 : STRIDE_BYTES / (uint32_t)elem_bytes(shape->elem);
	linear->segment_k = shape->k / shape->segments;
	linear->segment_stride = (linear->segment_k + unit - 1) / unit * unit;
	linear->base.bytes = shape->n * packed_row(linear) + linear_scale_bytes(shape);
	enum err e = packed_row(linear) > CUDA_STAGE_BYTES ? ERR_INVALID : ERR_OK;
	if (e == ERR_OK && !take_entry(device, &linear->entry))
		e = ERR_NOMEM;
	if (e != ERR_OK)
		goto free_linear;
	e = dev_alloc(base, MEM_DEVICE, linear->base.bytes, &linear->data);
	if (e == ERR_OK && shape->elem == ELEM_E4M3)
		linear->scales = (float *)((uint8_t *)linear->data + shape->n * packed_row(linear));
	if (e == ERR_OK)
		e = write_entry(linear);
	if (e != ERR_OK)
		goto free_weights;
	*ret_linear = &linear->base;
	return ERR_OK;

free_weights:
	dev_free(base, MEM_DEVICE, linear->data, linear->base.bytes);
	free_entry(device, linear->entry);
free_linear:
	free(linear);
	return e;
}

void cuda_linear_destroy(struct linear *base)
{
	struct cuda_linear *linear = (struct cuda_linear *)base;
	free_entry(cuda_of(base->device), linear->entry);
	dev_free(base->device, MEM_DEVICE, linear->data, base->bytes);
	dev_free(base->device, MEM_DEVICE, linear->bias, base->shape.n * sizeof(float));
	free(linear);
}

/* One output as it lies on the device; what pads a segment is zero. */
static void pack_row(const struct cuda_linear *linear, const uint8_t *from, uint8_t *to)
{
	size_t size = elem_bytes(linear->base.shape.elem), part = linear->segment_k * size, stride = linear->segment_stride * size;
	for (uint32_t segment = 0; segment < linear->base.shape.segments; segment++) {
		memcpy(to + segment * stride, from + segment * part, part);
		memset(to + segment * stride + part, 0, stride - part);
	}
}

void cuda_linear_fill(struct linear *base, uint32_t first, uint32_t count, const void *source, size_t source_stride)
{
	const struct cuda_linear *linear = cuda_linear_of(base);
	struct cuda_device *device = cuda_of(base->device);
	size_t bytes = packed_row(linear), source_bytes = source_stride * elem_bytes(base->shape.elem);
	/* Rows that lie as the device wants them go there from where they are, if that is pinned. */
	bool whole = linear->segment_k == linear->segment_stride && source_bytes == bytes;
	if (whole && dev_copy(base->device, (uint8_t *)linear->data + first * bytes, source, count * bytes) == ERR_OK)
		return;
	uint32_t piece_rows = (uint32_t)(CUDA_STAGE_BYTES / bytes);
	for (uint32_t row = 0, part; row < count; row += part) {
		part = count - row < piece_rows ? count - row : piece_rows;
		uint8_t *piece = cuda_stage_begin(device);
		if (!piece)
			return;
		for (uint32_t i = 0; i < part; i++)
			pack_row(linear, (const uint8_t *)source + (row + i) * source_bytes, piece + i * bytes);
		cuda_stage_end(device, (uint8_t *)linear->data + (size_t)(first + row) * bytes, part * bytes);
	}
}

void cuda_linear_fill_scales(struct linear *base, uint32_t first, uint32_t count, const float *source)
{
	const struct cuda_linear *linear = cuda_linear_of(base);
	uint32_t groups = linear_groups(&base->shape), together = base->shape.scale_outputs;
	size_t bytes = groups * sizeof(float);
	uint8_t *piece = cuda_stage_begin(cuda_of(base->device));
	uint32_t rows = (count + together - 1) / together, most = (uint32_t)(CUDA_STAGE_BYTES / bytes);
	for (uint32_t row = 0, part; piece && row < rows; row += part) {
		part = rows - row < most ? rows - row : most;
		for (uint32_t i = 0; i < part; i++)
			memcpy(piece + i * bytes, source, bytes);
		cuda_stage_end(cuda_of(base->device), linear->scales + (size_t)(first / together + row) * groups, part * bytes);
		piece = row + part < rows ? cuda_stage_begin(cuda_of(base->device)) : NULL;
	}
}

enum err cuda_linear_fill_bias(struct linear *base, uint32_t first, uint32_t count, const float *source)
{
	struct cuda_linear *linear = (struct cuda_linear *)base;
	if (!linear->bias) {
		enum err e = dev_alloc(base->device, MEM_DEVICE, base->shape.n * sizeof(float), (void **)&linear->bias);
		if (e == ERR_OK)
			e = write_entry(linear);
		if (e != ERR_OK)
			return e;
	}
	return dev_copy(base->device, linear->bias + first, source, count * sizeof(float));
}

/* --- inputs as the copy engine reads them ------------------------------------------------------------------------ */

struct pack_job {
	const void *x; /* of call c, row r: x + c x_step + r x_stride */
	size_t x_stride;
	int64_t x_step;
	bool bf16;
	uint32_t rows, k, segment_k, segment_stride, row_stride;
	uint16_t *out; /* [call][row][segment][segment_stride] */
};

SIMT_KERNEL(pack_inputs)(const pack_job job)
{
	size_t row = blockIdx.x, at = row * job.x_stride + (int64_t)blockIdx.y * job.x_step;
	uint16_t *out = job.out + ((size_t)blockIdx.y * job.rows + row) * job.row_stride;
	for (uint32_t k = threadIdx.x; k < job.k; k += blockDim.x) {
		uint16_t half = job.bf16 ? ((const uint16_t *)job.x)[at + k] : simt_bf16_round(((const float *)job.x)[at + k]);
		out[k / job.segment_k * job.segment_stride + k % job.segment_k] = half;
	}
}

static int64_t distance(const void *from, const void *to, enum elem elem)
{
	return ((const uint8_t *)to - (const uint8_t *)from) / (int64_t)elem_bytes(elem);
}

static bool alike(const struct linear_call *a, const struct linear_call *b)
{
	const struct linear_shape *s = &a->linear->shape, *t = &b->linear->shape;
	return s->n == t->n && s->k == t->k && s->elem == t->elem && s->segments == t->segments &&
	       s->scale_outputs == t->scale_outputs && a->rows == b->rows && a->x_elem == b->x_elem && a->y_elem == b->y_elem &&
	       a->x_stride == b->x_stride && a->y_stride == b->y_stride;
}

static struct linear_batch batch_of(const struct linear_call *calls, size_t count)
{
	struct linear_batch batch = {calls, 1, 0, 0};
	if (count > 1) {
		batch.x_step = distance(calls[0].x, calls[1].x, calls[0].x_elem);
		batch.y_step = distance(calls[0].y, calls[1].y, calls[0].y_elem);
	}
	while (batch.count < count && batch.count < MOE_EXPERTS_MAX && alike(calls, calls + batch.count) &&
	       distance(calls[batch.count - 1].x, calls[batch.count].x, calls->x_elem) == batch.x_step &&
	       distance(calls[batch.count - 1].y, calls[batch.count].y, calls->y_elem) == batch.y_step)
		batch.count++;
	return batch;
}

/* Inputs of bf16 that lie as the copy engine wants them go to it as they are. */
static bool lies_well(const struct linear_call *call)
{
	const struct cuda_linear *linear = cuda_linear_of(call->linear);
	uint32_t unit = linear->base.shape.segments > 1 ? linear->segment_stride : STRIDE_BYTES / (uint32_t)sizeof(uint16_t);
	return call->x_elem == ELEM_BF16 && linear->segment_k == linear->segment_stride && (uintptr_t)call->x % 16 == 0 &&
	       (call->x_stride % unit == 0 || call->rows == 1);
}

static struct linear_tensor tensor_of_inputs(const struct linear_call *call)
{
	struct linear_tensor tensor = linear_tensor_of(cuda_linear_of(call->linear));
	tensor.data = call->x;
	tensor.rows = call->rows;
	if (call->rows > 1)
		tensor.row_stride = call->x_stride;
	return tensor;
}

static struct linear_tensor pack(struct device *device, const struct linear_batch *batch, uint32_t row_first, uint32_t rows)
{
	const struct linear_call *call = batch->calls;
	struct linear_tensor tensor = linear_tensor_of(cuda_linear_of(call->linear));
	struct pack_job job = {};
	job.x = (const uint8_t *)call->x + row_first * call->x_stride * elem_bytes(call->x_elem);
	job.x_stride = call->x_stride;
	job.x_step = batch->x_step;
	job.bf16 = call->x_elem == ELEM_BF16;
	job.rows = rows;
	job.k = call->linear->shape.k;
	job.segment_k = tensor.k;
	job.segment_stride = (uint32_t)tensor.segment_stride;
	job.row_stride = (uint32_t)tensor.row_stride;
	tensor.rows = rows * batch->count;
	tensor.data = job.out = (uint16_t *)cuda_scratch(device, tensor.rows * tensor.row_stride * sizeof(uint16_t));
	cuda_check(cuda_of(device), SIMT_LAUNCH(pack_inputs, dim3(rows, batch->count), dim3(256), 0, cuda_stream(device), job),
		   "pack_inputs");
	return tensor;
}

/* --- products ---------------------------------------------------------------------------------------------------- */

struct linear_job linear_job_of(const struct linear_batch *batch, uint32_t row_first, uint32_t rows)
{
	const struct linear_call *call = batch->calls;
	const struct cuda_linear *linear = cuda_linear_of(call->linear);
	struct linear_job job = {};
	job.n = linear->base.shape.n;
	job.segments = linear->base.shape.segments;
	job.segment_k = linear->segment_k;
	job.segment_stride = linear->segment_stride;
	job.group_count = batch->count;
	job.splits = 1;
	job.rows = rows;
	job.y = (uint8_t *)call->y + row_first * call->y_stride * elem_bytes(call->y_elem);
	job.y_stride = call->y_stride;
	job.y_group_step = batch->y_step - (int64_t)(rows * call->y_stride);
	job.y_bf16 = call->y_elem == ELEM_BF16;
	job.bias = linear->bias;
	job.scales = linear->scales;
	job.scale_outputs = linear->base.shape.scale_outputs;
	job.scale_groups = linear_groups(&linear->base.shape);
	job.entries = cuda_of(call->linear->device)->entries;
	if (batch->count == 1)
		job.y_group_step = 0;
	return job;
}

static void run_bf16(struct device *device, const struct linear_batch *batch, const uint16_t *slots)
{
	const struct linear_call *call = batch->calls;
	struct linear_tensor weights = linear_tensor_of(cuda_linear_of(call->linear)), inputs = weights;
	if (batch->count == 1 && lies_well(call)) {
		struct linear_job job = linear_job_of(batch, 0, call->rows);
		inputs = tensor_of_inputs(call);
		linear_tiles_run(cuda_of(device), &job, &weights, &inputs, NULL, slots);
		return;
	}
	size_t each = weights.row_stride * sizeof(uint16_t) * batch->count;
	uint32_t most = (uint32_t)(LINEAR_SCRATCH_BYTES / each);
	for (uint32_t row = 0, rows; row < call->rows; row += rows) {
		rows = call->rows - row < most ? call->rows - row : most;
		struct linear_job job = linear_job_of(batch, row, rows);
		inputs = pack(device, batch, row, rows);
		linear_tiles_run(cuda_of(device), &job, &weights, &inputs, NULL, slots);
	}
}

/* Of one call at a time: only whole models of f32 pass here, and their experts go by linear_f32_run() themselves. */
static void run_f32(struct device *device, const struct linear_batch *batch)
{
	for (uint32_t i = 0; i < batch->count; i++) {
		const struct linear_call *call = &batch->calls[i];
		const struct linear_batch one = {call, 1, 0, 0};
		const struct linear_job job = linear_job_of(&one, 0, call->rows);
		const struct linear_f32_input input = {call->x, call->x_stride, call->x_elem == ELEM_BF16};
		linear_f32_run(cuda_of(device), &job, cuda_linear_of(call->linear)->data, &input, NULL);
	}
}

void cuda_linear(struct device *device, const struct linear_call *calls, size_t call_count)
{
	uint16_t slots[MOE_EXPERTS_MAX];
	for (size_t i = 0; i < call_count && cuda_alive(device);) {
		struct linear_batch batch = batch_of(calls + i, call_count - i);
		for (uint32_t c = 0; c < batch.count; c++)
			slots[c] = (uint16_t)cuda_linear_of(calls[i + c].linear)->entry;
		if (calls[i].rows > 0 && calls[i].linear->shape.elem == ELEM_F32)
			run_f32(device, &batch);
		else if (calls[i].rows > 0 && calls[i].linear->shape.elem == ELEM_E4M3)
			linear_e4m3_run(device, &batch, slots);
		else if (calls[i].rows > 0)
			run_bf16(device, &batch, slots);
		i += batch.count;
	}
}

/* All experts in one kernel; how many rows each has only the device knows. */
void cuda_moe_linear(struct device *device, const struct moe_linear_call *call)
{
	const struct cuda_linear *linear = cuda_linear_of(call->linears[0]);
	const struct linear_shape *shape = &linear->base.shape;
	uint16_t slots[MOE_EXPERTS_MAX];
	if (!cuda_alive(device) || call->slot_count == 0)
		return;
	for (uint32_t e = 0; e < call->expert_count; e++)
		slots[e] = (uint16_t)cuda_linear_of(call->linears[e])->entry;
	const size_t x_stride = elem_row_bytes(call->x_elem, shape->k) / elem_bytes(call->x_elem);
	const struct linear_call rows = {call->linears[0], call->x, x_stride, call->y, shape->n, call->slot_count, call->x_elem,
					 ELEM_F32};
	const struct linear_batch batch = {&rows, 1, 0, 0};
	if (shape->elem == ELEM_E4M3) {
		linear_e4m3_run_experts(device, &rows, call, slots);
		return;
	}
	struct linear_job job = linear_job_of(&batch, 0, call->slot_count);
	job.window_end = call->slot_count;
	job.group_count = call->expert_count;
	job.first = call->first;
	if (shape->elem == ELEM_F32) {
		const struct linear_f32_input input = {call->x, shape->k, call->x_elem == ELEM_BF16};
		linear_f32_run(cuda_of(device), &job, NULL, &input, slots);
		return;
	}
	const struct linear_tensor weights = linear_tensor_of(linear);
	const struct linear_tensor inputs = lies_well(&rows) ? tensor_of_inputs(&rows) : pack(device, &batch, 0, call->slot_count);
	linear_tiles_run(cuda_of(device), &job, &weights, &inputs, NULL, slots);
}

/* --- rows of weights ---------------------------------------------------------------------------------------------- */

struct embed_job {
	const void *data;
	bool bf16;
	uint32_t n, k, segment_k, segment_stride, row_stride;
	const uint32_t *tokens;
	float *out;
};

SIMT_KERNEL(embed_rows)(const embed_job job)
{
	size_t from = (size_t)job.tokens[blockIdx.x] * job.row_stride, to = (size_t)blockIdx.x * job.k;
	for (uint32_t k = threadIdx.x; k < job.k; k += blockDim.x) {
		size_t at = from + k / job.segment_k * job.segment_stride + k % job.segment_k;
		job.out[to + k] = job.bf16 ? simt_bf16_widen(((const uint16_t *)job.data)[at]) : ((const float *)job.data)[at];
	}
}

void cuda_embed_linear(struct device *device, const struct linear *base, const uint32_t *tokens, uint32_t rows, float *out)
{
	const struct cuda_linear *table = cuda_linear_of(base);
	const struct embed_job job = {table->data,
				      base->shape.elem == ELEM_BF16,
				      base->shape.n,
				      base->shape.k,
				      table->segment_k,
				      table->segment_stride,
				      base->shape.segments * table->segment_stride,
				      tokens,
				      out};
	if (cuda_alive(device) && rows > 0)
		cuda_check(cuda_of(device), SIMT_LAUNCH(embed_rows, dim3(rows), dim3(256), 0, cuda_stream(device), job),
			   "embed_rows");
}

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "base/bf16.h"
#include "kernels/cpu/cpu.h"
#include "kernels/ops.h"

/* Panels of 16 outputs. One cache line lies between panels: the streams of four panels read at once would
 * otherwise fall on the same sets of the cache wherever k is a power of two. */

/* Words of 4 bytes that one panel has. */
static size_t panel_words(const struct linear_shape *shape)
{
	size_t per_word = shape->elem == ELEM_F32 ? 1 : shape->elem == ELEM_BF16 ? 2 : 4;
	return shape->k * (size_t)PANEL_COLUMNS / per_word;
}

enum err cpu_linear_create(struct device *device, const struct linear_shape *shape, struct linear **ret_linear)
{
	struct cpu_linear *linear = calloc(1, sizeof(*linear));
	if (!linear)
		return ERR_NOMEM;
	linear->panel_count = (shape->n + PANEL_COLUMNS - 1) / PANEL_COLUMNS;
	linear->panel_stride = panel_words(shape) + PANEL_COLUMNS;
	size_t packed = linear->panel_count * linear->panel_stride * 4, scales = linear_scale_bytes(shape);
	linear->base = (struct linear){*shape, device, packed + scales};
	enum err e = dev_alloc(device, MEM_DEVICE, packed + scales, &linear->data);
	if (e != ERR_OK) {
		free(linear);
		return e;
	}
	linear->scales = scales > 0 ? (float *)linear->data + packed / 4 : NULL;
	*ret_linear = &linear->base;
	return ERR_OK;
}

void cpu_linear_destroy(struct linear *base)
{
	struct cpu_linear *linear = (struct cpu_linear *)base;
	dev_free(base->device, MEM_DEVICE, linear->data, base->bytes);
	dev_free(base->device, MEM_DEVICE, linear->bias, base->shape.n * sizeof(float));
	free(linear);
}

enum { FILL_WORDS = 16 }; /* of a row at a time: what they become is 1 KiB, and stays in the nearest cache */

/* Outputs [first, end) of one panel from their rows: words of 4 bytes, an f32 or two bf16, change places. */
static void fill_panel(struct cpu_linear *linear, uint32_t first, uint32_t end, const uint8_t *rows, size_t row_bytes)
{
	size_t words = panel_words(&linear->base.shape) / PANEL_COLUMNS;
	uint32_t *panel = (uint32_t *)linear->data + first / PANEL_COLUMNS * linear->panel_stride + first % PANEL_COLUMNS;
	for (size_t begin = 0, count; begin < words; begin += count) {
		count = words - begin < FILL_WORDS ? words - begin : FILL_WORDS;
		for (uint32_t column = 0; column < end - first; column++) {
			uint32_t piece[FILL_WORDS];
			uint32_t *to = panel + begin * PANEL_COLUMNS + column;
			memcpy(piece, rows + column * row_bytes + begin * sizeof(*piece), count * sizeof(*piece));
			for (size_t i = 0; i < count; i++)
				to[i * PANEL_COLUMNS] = piece[i];
		}
	}
}

/* The same of codes of 8 bits. */
static void fill_panel_e4m3(struct cpu_linear *linear, uint32_t first, uint32_t end, const uint8_t *rows, size_t row_bytes)
{
	enum { FILL_CODES = 64 };
	uint32_t k_count = linear->base.shape.k;
	uint8_t *panel = (uint8_t *)linear->data + first / PANEL_COLUMNS * linear->panel_stride * 4 + first % PANEL_COLUMNS;
	for (uint32_t begin = 0, count; begin < k_count; begin += count) {
		count = k_count - begin < FILL_CODES ? k_count - begin : FILL_CODES;
		for (uint32_t column = 0; column < end - first; column++)
			for (uint32_t i = 0; i < count; i++)
				panel[(size_t)(begin + i) * PANEL_COLUMNS + column] = rows[column * row_bytes + begin + i];
	}
}

/* On the caller's thread: whoever loads weights has threads of its own (engine/load_reader.h). */
void cpu_linear_fill(struct linear *base, uint32_t first, uint32_t count, const void *source, size_t source_stride)
{
	size_t row_bytes = source_stride * elem_bytes(base->shape.elem);
	for (uint32_t n = first, end; n < first + count; n = end) {
		end = (n / PANEL_COLUMNS + 1) * PANEL_COLUMNS;
		end = end < first + count ? end : first + count;
		(base->shape.elem == ELEM_E4M3 ? fill_panel_e4m3 : fill_panel)(
			(struct cpu_linear *)base, n, end, (const uint8_t *)source + (n - first) * row_bytes, row_bytes);
	}
}

void cpu_linear_fill_scales(struct linear *base, uint32_t first, uint32_t count, const float *source)
{
	struct cpu_linear *linear = (struct cpu_linear *)base;
	uint32_t groups = linear_groups(&base->shape);
	for (uint32_t n = first; n < first + count; n += base->shape.scale_outputs)
		memcpy(linear->scales + (size_t)(n / base->shape.scale_outputs) * groups, source, groups * sizeof(*source));
}

enum err cpu_linear_fill_bias(struct linear *base, uint32_t first, uint32_t count, const float *source)
{
	struct cpu_linear *linear = (struct cpu_linear *)base;
	void *memory = linear->bias;
	if (!memory) {
		enum err e = dev_alloc(base->device, MEM_DEVICE, base->shape.n * sizeof(float), &memory);
		if (e != ERR_OK)
			return e;
		linear->bias = memory;
	}
	if (count > 0)
		memcpy(linear->bias + first, source, count * sizeof(float));
	return ERR_OK;
}

/* --- linear ------------------------------------------------------------------------------------- */

struct linear_job {
	const struct device *device;
	const struct linear_call *calls;
	size_t call_count;
};

static uint32_t column_tasks(const struct linear_call *call)
{
	return (cpu_linear_of(call)->panel_count + LINEAR_TASK_PANELS - 1) / LINEAR_TASK_PANELS;
}

static uint32_t task_count(const struct linear_call *call)
{
	return (call->rows + LINEAR_TASK_ROWS - 1) / LINEAR_TASK_ROWS * column_tasks(call);
}

/* Tasks of all calls in one row of numbers; of a call, columns move first: workers that run side by side
 * then read the same rows. */
static void linear_task(void *arg, uint32_t index, uint32_t worker)
{
	const struct linear_job *job = arg;
	const struct linear_call *call = job->calls;
	while (index >= task_count(call))
		index -= task_count(call++);
	struct linear_block block = {
		.call = call,
		.row_first = index / column_tasks(call) * LINEAR_TASK_ROWS,
		.panel_first = index % column_tasks(call) * LINEAR_TASK_PANELS,
	};
	block.row_count = call->rows - block.row_first;
	if (block.row_count > LINEAR_TASK_ROWS)
		block.row_count = LINEAR_TASK_ROWS;
	block.panel_count = cpu_linear_of(call)->panel_count - block.panel_first;
	if (block.panel_count > LINEAR_TASK_PANELS)
		block.panel_count = LINEAR_TASK_PANELS;
	cpu_ops(job->device)->linear_block(&block, cpu_scratch(job->device, worker));
}

void cpu_linear(struct device *device, const struct linear_call *calls, size_t call_count)
{
	struct linear_job job = {device, calls, call_count};
	uint32_t count = 0;
	uint64_t work = 0;
	for (size_t i = 0; i < call_count; i++) {
		const struct linear_shape *shape = &calls[i].linear->shape;
		assert(calls[i].x_elem == ELEM_F32 && calls[i].y_elem == ELEM_F32);
		count += task_count(&calls[i]);
		work += (uint64_t)calls[i].rows * shape->n * shape->k;
	}
	cpu_parallel(device, count, work, linear_task, &job);
}

/* --- the tree ---------------------------------------------------------------------------------------- */

float cpu_tree_of(const float *const *parts, uint32_t count, size_t i)
{
	if (count == 1)
		return parts[0][i];
	return cpu_tree_of(parts, count / 2, i) + cpu_tree_of(parts + count / 2, count / 2, i);
}

static void tree_row(void *arg, uint32_t row, uint32_t worker)
{
	const struct tree_call *call = arg;
	size_t first = (size_t)row * call->n;
	for (size_t i = 0; i < call->n; i++) {
		float sum = cpu_tree_of(call->parts, call->part_count, first + i);
		call->out[first + i] = call->bias ? sum + call->bias[i] : sum;
	}
}

void cpu_tree_sum(struct device *device, const struct tree_call *call)
{
	struct tree_call job = *call;
	cpu_parallel(device, call->rows, (uint64_t)call->rows * call->n * call->part_count, tree_row, &job);
}

void cpu_collect(struct device *device, const struct collect_call *call)
{
	for (size_t i = 0; i < call->part_count; i++) {
		size_t first = call->rows * i / call->part_count, end = call->rows * (i + 1) / call->part_count;
		memcpy(call->out + first * call->n, call->parts[i] + first * call->n, (end - first) * call->n * sizeof(float));
	}
}

/* --- rows of packed weights ---------------------------------------------------------------------------- */

struct embed_job {
	const struct cpu_linear *table;
	const uint32_t *tokens;
	float *out;
};

static void embed_row(void *arg, uint32_t row, uint32_t worker)
{
	const struct embed_job *job = arg;
	const struct cpu_linear *table = job->table;
	uint32_t token = job->tokens[row], k_count = table->base.shape.k, column = token % PANEL_COLUMNS;
	float *out = job->out + (size_t)row * k_count;
	const uint32_t *words = (const uint32_t *)table->data + token / PANEL_COLUMNS * table->panel_stride + column;
	for (size_t k = 0; k < k_count; k++) {
		if (table->base.shape.elem == ELEM_F32)
			memcpy(&out[k], &words[k * PANEL_COLUMNS], sizeof(*out));
		else
			out[k] = bf16_widen((uint16_t)(words[k / 2 * PANEL_COLUMNS] >> (k % 2 * 16)));
	}
}

void cpu_embed_linear(struct device *device, const struct linear *table, const uint32_t *tokens, uint32_t rows,
		     float *out)
{
	for (uint32_t row = 0; row < rows; row++)
		assert(tokens[row] < table->shape.n);
	struct embed_job job = {(const struct cpu_linear *)table, tokens, out};
	cpu_parallel(device, rows, (uint64_t)rows * table->shape.k * 4, embed_row, &job);
}

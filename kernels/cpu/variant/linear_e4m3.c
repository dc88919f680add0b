#include "kernels/cpu/variant/kernels.h"
#include "kernels/cpu/variant/simd.h"
#include "kernels/cpu/variant/tile.h"
#include <math.h>

#define COLUMNS (LINEAR_TASK_PANELS * PANEL_COLUMNS)

/* What one group of inputs passes through. */
struct pieces {
	float *x;    /* [row][LINEAR_GROUP] rounded to e4m3 */
	float *part; /* [row][COLUMNS] */
	float *wide; /* [panel][k + a cache line][16] */
	float scale[LINEAR_TASK_ROWS];
};

static float greatest_size(const float *x, uint32_t count)
{
	float lanes[LANES] = {0}, greatest = LINEAR_AMAX_LEAST;
	uint32_t i = 0;
	for (; i + LANES <= count; i += LANES)
		for (uint32_t j = 0; j < LANES; j++) {
			float size = fabsf(x[i + j]);
			lanes[j] = size > lanes[j] ? size : lanes[j];
		}
	for (; i < count; i++) {
		float size = fabsf(x[i]);
		lanes[0] = size > lanes[0] ? size : lanes[0];
	}
	for (uint32_t j = 0; j < LANES; j++)
		greatest = lanes[j] > greatest ? lanes[j] : greatest;
	return greatest;
}

/* The e4m3 nearest to x, |x| <= 448 and a little, as f32: base/e4m3.h, without a branch.  From 2^-6 on the fraction is cut to 3 bits, ties
 * to even; below it the last bit is 2^-9. */
INLINE float nearest_e4m3(float x)
{
	uint32_t bits, sign;
	float size = fabsf(x), large, small = (size + 0x1p14f) - 0x1p14f;
	memcpy(&bits, &size, sizeof(bits));
	bits = (bits + 0x7ffff + (bits >> 20 & 1)) & ~(uint32_t)0xfffff;
	memcpy(&large, &bits, sizeof(large));
	size = size < 0x1p-6f ? small : large;
	memcpy(&sign, &x, sizeof(sign));
	memcpy(&bits, &size, sizeof(bits));
	bits |= sign & 0x80000000u;
	memcpy(&size, &bits, sizeof(size));
	return size;
}

/* Returns the scale. */
static float quantise(const float *x, uint32_t count, float *ret_x)
{
	float scale = greatest_size(x, count) / 448.0f;
	for (uint32_t i = 0; i < count; i++)
		ret_x[i] = nearest_e4m3(x[i] / scale);
	return scale;
}

/* The scales of a panel's outputs for one group. */
static void read_scales(const struct cpu_linear *linear, uint32_t panel, uint32_t group, float ret_scale[PANEL_COLUMNS])
{
	const struct linear_shape *shape = &linear->base.shape;
	uint32_t groups = linear_groups(shape);
	for (uint32_t i = 0; i < PANEL_COLUMNS; i++) {
		uint32_t n = panel * PANEL_COLUMNS + i;
		ret_scale[i] = n < shape->n ? linear->scales[(size_t)(n / shape->scale_outputs) * groups + group] : 0.0f;
	}
}

/* acc = fma(part, scale of the row * scale of the weights, acc) */
static void add_part(const struct linear_block *block, uint32_t group, const struct pieces *p, float *acc)
{
	float scale[PANEL_COLUMNS];
	for (uint32_t panel = 0; panel < block->panel_count; panel++) {
		read_scales(cpu_linear_of(block->call), block->panel_first + panel, group, scale);
		struct v16 weights = v_load(scale);
		for (uint32_t row = 0; row < block->row_count; row++) {
			size_t at = (size_t)row * COLUMNS + panel * PANEL_COLUMNS;
			struct v16 factor = v_mul(v_set(p->scale[row]), weights);
			v_store(acc + at, v_fma(v_load(p->part + at), factor, v_load(acc + at)));
		}
	}
}

static void multiply_group(const struct linear_block *block, uint32_t k_first, uint32_t k_count, struct pieces *p)
{
	const struct cpu_linear *linear = cpu_linear_of(block->call);
	const size_t w_panel = (LINEAR_GROUP + 1) * PANEL_COLUMNS;
	const struct tile tile = {.x = p->x, .x_stride = LINEAR_GROUP, .w = p->wide, .w_step = PANEL_COLUMNS, .w_panel = w_panel,
				  .acc = p->part, .acc_stride = COLUMNS, .rows = block->row_count,
				  .panels = block->panel_count, .steps = k_count};
	for (uint32_t row = 0; row < block->row_count; row++)
		p->scale[row] = quantise((const float *)block->call->x + (block->row_first + row) * block->call->x_stride + k_first,
					 k_count, p->x + (size_t)row * LINEAR_GROUP);
	for (uint32_t panel = 0; panel < block->panel_count; panel++)
		tile_widen_e4m3((const uint8_t *)linear->data + (block->panel_first + panel) * linear->panel_stride * 4 +
					(size_t)k_first * PANEL_COLUMNS,
				k_count, p->wide + panel * w_panel);
	tile_run(TILE_F32, &tile);
}

void kernel_linear_e4m3(const struct linear_block *block, uint32_t segment, float *acc, float *beside)
{
	const struct linear_shape *shape = &block->call->linear->shape;
	uint32_t segment_k = shape->k / shape->segments, first = segment * segment_k;
	struct pieces p = {.x = beside};
	p.part = p.x + LINEAR_TASK_ROWS * LINEAR_GROUP;
	p.wide = p.part + LINEAR_TASK_ROWS * COLUMNS;
	memset(acc, 0, (size_t)block->row_count * COLUMNS * sizeof(*acc));
	for (uint32_t k = first; k < first + segment_k; k += LINEAR_GROUP) {
		uint32_t rest = first + segment_k - k;
		multiply_group(block, k, rest < LINEAR_GROUP ? rest : LINEAR_GROUP, &p);
		add_part(block, k / LINEAR_GROUP, &p, acc);
	}
}

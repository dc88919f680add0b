#include "bench/gpu/forced_plan.h"

#include <stdbool.h>
#include <stddef.h>

static bool forced;
static struct linear_plan chosen;
static struct linear_plan_shape asked;

/* The linker's names: who calls linear_plan() comes to the first, and the second is linear_plan(). */
struct linear_plan __wrap_linear_plan(const struct linear_plan_shape *shape);
struct linear_plan __real_linear_plan(const struct linear_plan_shape *shape);

struct linear_plan __wrap_linear_plan(const struct linear_plan_shape *shape)
{
	asked = *shape;
	return forced ? chosen : __real_linear_plan(shape);
}

void forced_plan_set(const struct linear_plan *plan)
{
	forced = plan != NULL;
	if (plan)
		chosen = *plan;
}

const struct linear_plan_shape *forced_plan_asked(void)
{
	return &asked;
}

uint32_t forced_plans(const struct linear_plan_shape *shape, struct linear_plan *ret_plans)
{
	uint32_t count = 0, width_max = shape->segments > 1 ? LINEAR_SEGMENTED_WIDTH_MAX : 128;
	uint32_t height_min = shape->groups > 1 ? 64 : 8;
	for (uint32_t width = 8; width <= width_max; width *= 2)
		for (uint32_t height = 64; height >= height_min && shape->sm_count >= LINEAR_BLOCKS(width); height -= 8)
			ret_plans[count++] = (struct linear_plan){height, width, 1, 1};
	bool two_groups = shape->segments == 1 && !shape->one_group && shape->sm_count >= 2;
	for (uint32_t width = 128; two_groups && width <= 256; width *= 2)
		ret_plans[count++] = (struct linear_plan){128, width, 2, 1};
	return count;
}

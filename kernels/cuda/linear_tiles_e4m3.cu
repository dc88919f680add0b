#include <string.h>
#include "kernels/cuda/linear_tile_e4m3.h"

template <int width, int groups, bool segmented, int slot_count>
static cudaError_t launch(const struct linear_launch *l, const struct linear_job &job)
{
	linear_slots<slot_count> list = {};
	memcpy(list.at, l->slots, job.group_count * sizeof(*l->slots));
	return SIMT_LAUNCH((linear_tiles_e4m3<width, groups, segmented, slot_count>), dim3(l->grid), dim3(groups * 128 + 32),
			   l->shared, l->stream, l->weights, l->inputs, l->scales, job, list);
}

#define MANY MOE_EXPERTS_MAX
#define VARIANT(width, groups, segmented, many)                                             \
	{width, groups, segmented, (many) > 1, launch<width, groups, segmented, many>,      \
	 reinterpret_cast<const void *>(linear_tiles_e4m3<width, groups, segmented, many>)}
#define BOTH(width, groups, segmented) VARIANT(width, groups, segmented, 1), VARIANT(width, groups, segmented, MANY)

const struct linear_variant linear_variants_e4m3[] = {
	BOTH(8, 1, false), BOTH(16, 1, false), BOTH(32, 1, false), BOTH(64, 1, false), BOTH(128, 1, false), BOTH(128, 2, false),
	BOTH(8, 1, true), BOTH(16, 1, true), BOTH(32, 1, true), BOTH(64, 1, true), {},
};

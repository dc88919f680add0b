#include "kvstore/prefix.h"

#include <assert.h>

#include "base/layer_groups.h"

uint32_t kv_prefix(const struct kv_presence *groups, uint32_t group_count, uint32_t limit)
{
	uint32_t runs[LAYER_GROUPS_MAX] = {0}; /* blocks present without a gap up to here */
	assert(group_count <= LAYER_GROUPS_MAX);
	uint32_t longest = 0;
	for (uint32_t n = 1; n <= limit; n++) {
		bool usable = true;
		for (uint32_t g = 0; g < group_count; g++) {
			runs[g] = groups[g].present[n - 1] ? runs[g] + 1 : 0;
			usable &= runs[g] >= n - kv_keep_first(groups[g].keep, n);
			if (runs[g] < n && groups[g].keep == KV_KEEP_ALL)
				return longest; /* what a global group lacks is lacking in all that is longer */
		}
		if (usable)
			longest = n;
	}
	return longest;
}

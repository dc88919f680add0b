#include "kvstore/evict.h"

#include <string.h>

const struct evict_policy *const evict_policies[EVICT_POLICIES] = {
	&evict_2q_adaptive, &evict_lru, &evict_lfu, &evict_s3fifo, &evict_w_tinylfu,
};

const struct evict_policy *evict_find(const char *name)
{
	for (int i = 0; i < EVICT_POLICIES; i++)
		if (strcmp(evict_policies[i]->name, name) == 0)
			return evict_policies[i];
	return NULL;
}

/* store_loads - what the stores last said of themselves, for metrics.  Pure.
 *
 * Memory: the caller's.  Loop: the core's.  Bounds: STORE_LOADS_MAX stores, the one heard of longest ago makes room; of each as
 * many tenants, tiers and reasons as fit, more are left out. */
#ifndef COORDINATOR_STORE_LOADS_H
#define COORDINATOR_STORE_LOADS_H
#include <stddef.h>
#include <stdint.h>
#include "proto/codec.h"

enum { STORE_LOADS_MAX = 64, STORE_TENANTS_MAX = 128, STORE_NAMES_MAX = 8, STORE_NAME_MAX = 31 };

struct store_tenant {
	char name[PROTO_TENANT_MAX + 1]; /* "": requests without a tenant */
	bool limited;
	uint32_t blocks;
	uint64_t bytes, quota_bytes, keys_asked, keys_found, bytes_found, refused, evicted;
};

struct store_tier {
	char name[STORE_NAME_MAX + 1];
	uint64_t keys_found, bytes_found;
};

struct store_evicted {
	char reason[STORE_NAME_MAX + 1];
	uint64_t blocks;
};

struct store_load {
	uint64_t node;  /* 0: free */
	uint64_t heard; /* grows with each report that is taken */
	char policy[STORE_NAME_MAX + 1];
	uint64_t bytes_total, bytes, lookups, keys_asked;
	uint32_t pinned_soft, pinned_hard;
	uint64_t bytes_pinned, bytes_pinned_max;
	uint64_t offers, offers_taken, offers_existing, offers_refused;
	uint32_t lag_blocks;
	uint64_t lag_bytes, lag_ns;
	uint64_t bytes_read, reads_failed;
	uint32_t tier_count, evicted_count, tenant_count;
	struct store_tier tiers[STORE_NAMES_MAX];
	struct store_evicted evicted[STORE_NAMES_MAX];
	struct store_tenant tenants[STORE_TENANTS_MAX];
};

struct store_loads {
	struct store_load *list; /* [count] */
	uint32_t count;
	uint64_t heard;
};

/* nodes_max: of the cluster; so many stores there are at most. */
size_t store_loads_bytes(uint32_t nodes_max);
void store_loads_init(struct store_loads *loads, void *memory, uint32_t nodes_max);
void store_loads_take(struct store_loads *loads, uint64_t node, const Wire__StoreLoad *load);
const struct store_load *store_loads_find(const struct store_loads *loads, uint64_t node);
#endif

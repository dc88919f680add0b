#include "coordinator/store_loads.h"

#include <string.h>

static uint32_t count_of(uint32_t nodes_max)
{
	return nodes_max < STORE_LOADS_MAX ? nodes_max : STORE_LOADS_MAX;
}

size_t store_loads_bytes(uint32_t nodes_max)
{
	return count_of(nodes_max) * sizeof(struct store_load);
}

void store_loads_init(struct store_loads *loads, void *memory, uint32_t nodes_max)
{
	*loads = (struct store_loads){.list = memory, .count = count_of(nodes_max)};
	for (uint32_t i = 0; i < loads->count; i++)
		loads->list[i].node = loads->list[i].heard = 0;
}

const struct store_load *store_loads_find(const struct store_loads *loads, uint64_t node)
{
	for (uint32_t i = 0; i < loads->count; i++)
		if (loads->list[i].node == node && node)
			return &loads->list[i];
	return NULL;
}

/* Its own, a free one, or that of the store that was silent longest. */
static struct store_load *place_of(struct store_loads *loads, uint64_t node)
{
	struct store_load *best = &loads->list[0];
	for (uint32_t i = 0; i < loads->count; i++) {
		if (loads->list[i].node == node)
			return &loads->list[i];
		if (loads->list[i].heard < best->heard)
			best = &loads->list[i];
	}
	return best;
}

static void copy_text(char *out, size_t size, const char *text)
{
	size_t length = strnlen(text, size - 1);
	memcpy(out, text, length);
	out[length] = 0;
}

static void take_names(struct store_load *at, const Wire__StoreLoad *load)
{
	at->tier_count = load->n_tiers < STORE_NAMES_MAX ? (uint32_t)load->n_tiers : STORE_NAMES_MAX;
	for (uint32_t i = 0; i < at->tier_count; i++) {
		copy_text(at->tiers[i].name, sizeof(at->tiers[i].name), load->tiers[i]->name);
		at->tiers[i].keys_found = load->tiers[i]->keys_found;
		at->tiers[i].bytes_found = load->tiers[i]->bytes_found;
	}
	at->evicted_count = load->n_evicted < STORE_NAMES_MAX ? (uint32_t)load->n_evicted : STORE_NAMES_MAX;
	for (uint32_t i = 0; i < at->evicted_count; i++) {
		copy_text(at->evicted[i].reason, sizeof(at->evicted[i].reason), load->evicted[i]->reason);
		at->evicted[i].blocks = load->evicted[i]->blocks;
	}
}

static void take_tenants(struct store_load *at, const Wire__StoreLoad *load)
{
	at->tenant_count = load->n_tenants < STORE_TENANTS_MAX ? (uint32_t)load->n_tenants : STORE_TENANTS_MAX;
	for (uint32_t i = 0; i < at->tenant_count; i++) {
		const Wire__TenantLoad *from = load->tenants[i];
		struct store_tenant *to = &at->tenants[i];
		*to = (struct store_tenant){.limited = from->limited, .blocks = from->blocks, .bytes = from->bytes,
					    .quota_bytes = from->quota_bytes, .keys_asked = from->keys_asked,
					    .keys_found = from->keys_found, .bytes_found = from->bytes_found,
					    .refused = from->refused, .evicted = from->evicted};
		copy_text(to->name, sizeof(to->name), from->name);
	}
}

void store_loads_take(struct store_loads *loads, uint64_t node, const Wire__StoreLoad *load)
{
	struct store_load *at = place_of(loads, node);
	at->node = node;
	at->heard = ++loads->heard;
	copy_text(at->policy, sizeof(at->policy), load->policy);
	at->bytes_total = load->bytes_total;
	at->bytes = load->bytes;
	at->lookups = load->lookups;
	at->keys_asked = load->keys_asked;
	at->pinned_soft = load->pinned_soft;
	at->pinned_hard = load->pinned_hard;
	at->bytes_pinned = load->bytes_pinned;
	at->bytes_pinned_max = load->bytes_pinned_max;
	at->offers = load->offers;
	at->offers_taken = load->offers_taken;
	at->offers_existing = load->offers_existing;
	at->offers_refused = load->offers_refused;
	at->lag_blocks = load->lag_blocks;
	at->lag_bytes = load->lag_bytes;
	at->lag_ns = load->lag_ns;
	at->bytes_read = load->bytes_read;
	at->reads_failed = load->reads_failed;
	take_names(at, load);
	take_tenants(at, load);
}

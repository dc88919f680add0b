#include "coordinator/store_metrics.h"

#include "coordinator/store_loads.h"

struct showing {
	const struct coord *coord;
	const struct coord_node *nodes;
	uint32_t count;
	struct metrics_text *text;
};

static const struct store_load *load_of(const struct showing *s, uint32_t i)
{
	return s->nodes[i].role == WIRE__ROLE__ROLE_KVSTORE ? coord_store_load(s->coord, s->nodes[i].id) : NULL;
}

#define EACH_STORE(s, i, load)                             \
	for (uint32_t i = 0; i < (s)->count; i++)          \
		for (const struct store_load *load = load_of((s), i); load; load = NULL)

static void line(const struct showing *s, uint32_t i, const char *label, const char *value, double number)
{
	const char *labels[] = {"node", s->nodes[i].name, label, value, NULL};
	metrics_line(s->text, labels, number);
}

/* One number a store; `offset` says where it is. */
static void show(const struct showing *s, const char *name, const char *type, const char *help, size_t offset)
{
	metrics_family(s->text, name, type, help);
	EACH_STORE(s, i, load)
		line(s, i, NULL, NULL, (double)*(const uint64_t *)((const char *)load + offset));
}

static void show_policy(const struct showing *s)
{
	metrics_family(s->text, "baton_kvstore_info", "gauge", "1 for the eviction policy that the store has.");
	EACH_STORE(s, i, load)
		line(s, i, "eviction_policy", load->policy, 1);
}

static void show_bytes(const struct showing *s)
{
	metrics_family(s->text, "baton_kvstore_bytes", "gauge", "Memory for blocks: all, taken, pinned hard, and what may be pinned so.");
	EACH_STORE(s, i, load) {
		line(s, i, "state", "total", (double)load->bytes_total);
		line(s, i, "state", "used", (double)load->bytes);
		line(s, i, "state", "pinned", (double)load->bytes_pinned);
		line(s, i, "state", "pinned_max", (double)load->bytes_pinned_max);
	}
	metrics_family(s->text, "baton_kvstore_pinned_blocks", "gauge", "Blocks that an operator has pinned.");
	EACH_STORE(s, i, load) {
		line(s, i, "pin", "soft", load->pinned_soft);
		line(s, i, "pin", "hard", load->pinned_hard);
	}
}

static void show_found(const struct showing *s)
{
	show(s, "baton_kvstore_lookups_total", "counter", "Look-ups.", offsetof(struct store_load, lookups));
	show(s, "baton_kvstore_keys_asked_total", "counter", "Blocks asked for.", offsetof(struct store_load, keys_asked));
	metrics_family(s->text, "baton_kvstore_keys_found_total", "counter", "Of them found, by tier.");
	EACH_STORE(s, i, load)
		for (uint32_t t = 0; t < load->tier_count; t++)
			line(s, i, "tier", load->tiers[t].name, (double)load->tiers[t].keys_found);
	metrics_family(s->text, "baton_kvstore_bytes_saved_total", "counter", "KV bytes of the blocks found: they need not be computed.");
	EACH_STORE(s, i, load)
		for (uint32_t t = 0; t < load->tier_count; t++)
			line(s, i, "tier", load->tiers[t].name, (double)load->tiers[t].bytes_found);
	metrics_family(s->text, "baton_kvstore_evicted_total", "counter", "Blocks evicted, by reason.");
	EACH_STORE(s, i, load)
		for (uint32_t r = 0; r < load->evicted_count; r++)
			line(s, i, "reason", load->evicted[r].reason, (double)load->evicted[r].blocks);
}

static void show_offers(const struct showing *s)
{
	metrics_family(s->text, "baton_kvstore_offers_total", "counter", "Blocks offered that were answered, by the answer.");
	EACH_STORE(s, i, load) {
		line(s, i, "answer", "taken", (double)load->offers_taken);
		line(s, i, "answer", "existing", (double)load->offers_existing);
		line(s, i, "answer", "refused", (double)load->offers_refused);
	}
	metrics_family(s->text, "baton_kvstore_lag_blocks", "gauge", "Blocks offered and neither refused nor read yet.");
	EACH_STORE(s, i, load)
		line(s, i, NULL, NULL, load->lag_blocks);
	show(s, "baton_kvstore_lag_bytes", "gauge", "Their bytes.", offsetof(struct store_load, lag_bytes));
	metrics_family(s->text, "baton_kvstore_lag_seconds", "gauge", "Since the oldest of them was offered.");
	EACH_STORE(s, i, load)
		line(s, i, NULL, NULL, (double)load->lag_ns * 1e-9);
	show(s, "baton_kvstore_read_bytes_total", "counter", "Bytes read from who offered them, and verified.",
	     offsetof(struct store_load, bytes_read));
	show(s, "baton_kvstore_reads_failed_total", "counter", "Blocks whose reading failed.", offsetof(struct store_load, reads_failed));
}

/* One number a store and tenant. */
static void show_tenant(const struct showing *s, const char *name, const char *type, const char *help, size_t offset)
{
	metrics_family(s->text, name, type, help);
	EACH_STORE(s, i, load)
		for (uint32_t t = 0; t < load->tenant_count; t++)
			line(s, i, "tenant", load->tenants[t].name,
			     (double)*(const uint64_t *)((const char *)&load->tenants[t] + offset));
}

#define AT(field) offsetof(struct store_tenant, field)

static void show_tenants(const struct showing *s)
{
	show_tenant(s, "baton_kvstore_tenant_bytes", "gauge", "What a tenant's blocks take.", AT(bytes));
	metrics_family(s->text, "baton_kvstore_tenant_quota_bytes", "gauge", "What they may take, of tenants with a quota.");
	EACH_STORE(s, i, load)
		for (uint32_t t = 0; t < load->tenant_count; t++)
			if (load->tenants[t].limited)
				line(s, i, "tenant", load->tenants[t].name, (double)load->tenants[t].quota_bytes);
	show_tenant(s, "baton_kvstore_tenant_keys_asked_total", "counter", "Blocks that its requests asked for.", AT(keys_asked));
	show_tenant(s, "baton_kvstore_tenant_keys_found_total", "counter", "Of them found.", AT(keys_found));
	show_tenant(s, "baton_kvstore_tenant_bytes_saved_total", "counter", "KV bytes of these.", AT(bytes_found));
	show_tenant(s, "baton_kvstore_tenant_refused_total", "counter", "Blocks refused for its quota.", AT(refused));
	show_tenant(s, "baton_kvstore_tenant_evicted_total", "counter", "Its blocks evicted, for whatever reason.", AT(evicted));
}

void store_metrics(const struct coord *coord, const struct coord_node *nodes, uint32_t count, struct metrics_text *text)
{
	struct showing s = {coord, nodes, count, text};
	show_policy(&s);
	show_bytes(&s);
	show_found(&s);
	show_offers(&s);
	show_tenants(&s);
}

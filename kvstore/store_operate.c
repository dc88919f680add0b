/* store_operate - what a store reports of itself, and how operators see its blocks (baton kv; lists: store_list.c).
 *
 * Nothing of this is a use of a block: it changes no order, counts as no look-up, and holds nothing. */
#include <assert.h>
#include <string.h>

#include "kvstore/store_impl.h"
#include "proto/job.h"

/* ---- what the store says of itself */

static void put_tenants(struct store *s, Wire__StoreLoad *load)
{
	struct operate *o = s->operate;
	const struct tenants *tenants = ledger_tenants(s->ledger);
	for (uint32_t i = 0; i < tenants->count; i++) {
		const struct tenant *tenant = &tenants->list[i];
		Wire__TenantLoad *at = &o->tenants[i];
		wire__tenant_load__init(at);
		at->name = (char *)tenant->name; /* the packer only reads, as elsewhere here */
		at->bytes = tenant->bytes;
		at->blocks = tenant->blocks;
		at->limited = tenant->quota_bytes != TENANT_NO_QUOTA;
		at->quota_bytes = at->limited ? tenant->quota_bytes : 0;
		at->keys_asked = tenant->use.keys_asked;
		at->keys_found = tenant->use.keys_found;
		at->bytes_found = tenant->use.bytes_found;
		at->refused = tenant->use.refused;
		at->evicted = tenant->use.evicted;
		o->tenant_list[i] = at;
	}
	load->n_tenants = tenants->count;
	load->tenants = o->tenant_list;
}

static void put_evicted(struct store *s, Wire__StoreLoad *load)
{
	struct operate *o = s->operate;
	for (int i = 0; i < LEDGER_REASONS; i++) {
		wire__evicted_load__init(&o->evicted[i]);
		o->evicted[i].reason = (char *)ledger_reason_text((enum ledger_reason)i);
		o->evicted[i].blocks = o->counts.evicted[i];
		o->evicted_list[i] = &o->evicted[i];
	}
	load->n_evicted = LEDGER_REASONS;
	load->evicted = o->evicted_list;
}

static void put_tiers(struct store *s, Wire__StoreLoad *load)
{
	struct operate *o = s->operate;
	const struct store_counters *c = &s->counters;
	for (int i = 0; i < 2; i++) {
		wire__tier_load__init(&o->tiers[i]);
		o->tier_list[i] = &o->tiers[i];
	}
	o->tiers[0].name = (char *)STORE_TIER_DRAM;
	o->tiers[0].keys_found = c->keys_found - c->disk_hits;
	o->tiers[0].bytes_found = c->bytes_found - c->disk_bytes_found;
	o->tiers[1].name = (char *)STORE_TIER_DISK;
	o->tiers[1].keys_found = c->disk_hits;
	o->tiers[1].bytes_found = c->disk_bytes_found;
	load->n_tiers = s->d.disk ? 2 : 1;
	load->tiers = o->tier_list;
}

const Wire__StoreLoad *operate_load(struct store *s, uint64_t now_ns)
{
	Wire__StoreLoad *load = &s->operate->load;
	const struct store_counters *c = &s->counters;
	struct ledger_counts *counts = &s->operate->counts;
	ledger_counts(s->ledger, counts);
	wire__store_load__init(load);
	load->policy = (char *)ledger_policy(s->ledger)->name;
	load->bytes_total = s->options.ledger.slabs.slab_count * s->options.ledger.slabs.slab_bytes;
	load->bytes = counts->bytes;
	load->lookups = c->lookups;
	load->keys_asked = c->keys_asked;
	load->pinned_soft = counts->pinned_soft;
	load->pinned_hard = counts->pinned_hard;
	load->bytes_pinned = counts->bytes_pinned;
	load->bytes_pinned_max = counts->bytes_pinned_max;
	load->offers = c->offers;
	load->offers_taken = c->offers_taken;
	load->offers_existing = c->offers_existing;
	load->offers_refused = c->offers_refused;
	load->bytes_read = c->bytes_read;
	load->reads_failed = c->read_corrupt + c->read_stale + c->read_deadline + c->read_gone + c->read_other;
	offers_lag(s, now_ns, &load->lag_blocks, &load->lag_bytes, &load->lag_ns);
	put_evicted(s, load);
	put_tiers(s, load);
	put_tenants(s, load);
	return load;
}

/* ---- blocks as an operator sees them */

static void fill_block(struct store *s, uint32_t entry, bool with_place, Wire__KvBlock *at, Wire__Place *place)
{
	const struct ledger_block *block = ledger_block(s->ledger, entry);
	wire__kv_block__init(at);
	at->key = (ProtobufCBinaryData){PROTO_KEY_BYTES, (uint8_t *)block->key.bytes};
	at->parent = (ProtobufCBinaryData){block->has_parent ? PROTO_KEY_BYTES : 0, (uint8_t *)block->parent.bytes};
	at->compat = (ProtobufCBinaryData){PROTO_KEY_BYTES, (uint8_t *)block->compat.bytes};
	at->tenant = (char *)block->tenant;
	at->priority = block->priority == LEDGER_LOW ? WIRE__PRIORITY__PRIORITY_LOW : WIRE__PRIORITY__PRIORITY_NORMAL;
	at->pin = (Wire__KvPin)ledger_pinned(s->ledger, entry);
	at->layers = block->layer_count;
	at->layer_bytes = block->layer_bytes;
	at->holds = ledger_holds(s->ledger, entry);
	at->tier = (char *)(store_on_disk(s, &block->key) ? STORE_TIER_BOTH : STORE_TIER_DRAM);
	if (!with_place)
		return;
	struct slot_place slot;
	ledger_place(s->ledger, entry, &slot);
	wire__place__init(place);
	place->region = slot.region;
	place->offset = slot.offset;
	place->generation = slot.generation;
	at->place = place;
	at->n_digests = block->layer_count;
	at->digests = (uint64_t *)block->digests;
}

void operate_add_block(struct store *s, uint32_t entry, bool with_place, Wire__KvAnswer *answer)
{
	struct operate *o = s->operate;
	size_t i = answer->n_blocks++;
	assert(i < PROTO_PAGE_MAX);
	fill_block(s, entry, with_place, &o->blocks[i], &o->places[i % PROTO_ASK_KEYS_MAX]);
	o->block_list[i] = &o->blocks[i];
	answer->blocks = o->block_list;
}

static void fill_found(const struct id128 *key, const struct disk_found *found, Wire__KvBlock *at)
{
	wire__kv_block__init(at);
	at->key = (ProtobufCBinaryData){PROTO_KEY_BYTES, (uint8_t *)key->bytes};
	at->tenant = (char *)found->tenant;
	at->priority = found->priority == LEDGER_LOW ? WIRE__PRIORITY__PRIORITY_LOW : WIRE__PRIORITY__PRIORITY_NORMAL;
	at->pin = (Wire__KvPin)found->pin;
	at->layers = found->layer_count;
	at->layer_bytes = found->layer_bytes;
	at->tier = (char *)STORE_TIER_DISK;
}

/* What the index of the disk knows: neither what stands before it nor its compat, which are in its header. */
void operate_add_found(struct store *s, const struct id128 *key, const struct disk_found *found, Wire__KvAnswer *answer)
{
	struct operate *o = s->operate;
	size_t i = answer->n_blocks++;
	assert(i < PROTO_PAGE_MAX);
	o->keys[i] = *key;
	fill_found(&o->keys[i], found, &o->blocks[i]);
	o->block_list[i] = &o->blocks[i];
	answer->blocks = o->block_list;
}

void operate_add(struct store *s, const struct id128 *key, Wire__KvAnswer *answer)
{
	uint32_t entry = store_served(s, key);
	struct disk_found found;
	if (entry != LEDGER_NONE)
		operate_add_block(s, entry, true, answer);
	else if (s->d.disk && disk_find(s->d.disk, key, &found))
		operate_add_found(s, key, &found, answer);
}

/* ---- questions */

/* ledger.h and baton.proto number pins alike. */
_Static_assert((int)LEDGER_PINNED_SOFT == (int)WIRE__KV_PIN__KV_PINNED_SOFT, "pins");
_Static_assert((int)LEDGER_PINNED_HARD == (int)WIRE__KV_PIN__KV_PINNED_HARD, "pins");

void operate_send(struct store *s, uint32_t peer, Wire__KvAnswer *answer)
{
	env_trace(s->options.env, "answers %s: %zu blocks", sessions_peer(s->sessions, peer)->name, answer->n_blocks);
	PROTO_ENVELOPE(envelope, KV_ANSWER, kv_answer, answer);
	sessions_send(s->sessions, peer, &envelope);
}

void operate_take(struct store *s, uint32_t peer, const Wire__KvAsk *ask, uint64_t now_ns)
{
	Wire__KvAnswer answer = WIRE__KV_ANSWER__INIT;
	Wire__Load load;
	Wire__Role role = sessions_peer(s->sessions, peer)->role;
	bool have = ask->verb == WIRE__KV_VERB__KV_HAVE;
	bool may = role == (have ? WIRE__ROLE__ROLE_KVSTORE : WIRE__ROLE__ROLE_OPERATOR);
	answer.op = ask->op;
	if (may && have) {
		sweep_answer(s, peer, ask);
		return;
	}
	if (may && ask->verb != WIRE__KV_VERB__KV_STAT && ask->verb != WIRE__KV_VERB__KV_LIST) {
		asks_take(s, peer, ask, now_ns);
		return;
	}
	if (!may) {
		answer.error = ERR_DENIED;
	} else if (ask->verb == WIRE__KV_VERB__KV_STAT) {
		store_load(s, now_ns, &load);
		answer.load = &load;
	} else {
		operate_list(s, ask, &answer);
	}
	operate_send(s, peer, &answer);
}

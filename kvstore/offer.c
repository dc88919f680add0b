#include "kvstore/offer.h"

#include "base/carve.h"
#include "base/layer_groups.h"
#include "kvstore/owners.h"
#include "proto/job.h"

struct entry {
	bool used;
	bool sent;
	bool has_parent;
	bool failed;   /* once */
	uint32_t peer; /* PEER_NONE: the first owner when its turn comes */
	uint32_t block;
	uint64_t op;
	uint64_t order;
	struct id128 key;
	struct id128 parent;
	struct kv_tenant tenant;
};

struct kv_offers {
	struct kv_offer_options options;
	struct kv_local *local;
	uint32_t offer_max; /* of all groups */
	uint32_t count;
	uint32_t counts[LAYER_GROUPS_MAX];
	uint32_t unsent;
	uint64_t op_next;
	uint64_t dropped;
	struct entry *entries;
	uint32_t *free_list;  /* [offer_max] numbers of free entries */
	uint32_t free_count;
	uint32_t *queue;      /* [offer_max] ring of entries to send, oldest first */
	uint32_t queue_head;
	uint32_t *windows;    /* [peer_max] under way per peer */
};

static struct kv_offers *layout(struct carve *carve, const struct kv_offer_options *o)
{
	struct kv_offers *offers = carve_take(carve, 1, sizeof(*offers));
	uint32_t offer_max = 0;
	for (uint32_t g = 0; g < o->local->group_count; g++)
		offer_max += o->local->groups[g].offer_max;
	struct kv_offers parts = {
		.options = *o,
		.local = o->local,
		.offer_max = offer_max,
		.entries = carve_take(carve, offer_max, sizeof(*parts.entries)),
		.free_list = carve_take(carve, offer_max, sizeof(*parts.free_list)),
		.queue = carve_take(carve, offer_max, sizeof(*parts.queue)),
		.windows = carve_take(carve, o->peer_max, sizeof(*parts.windows)),
	};
	if (offers)
		*offers = parts;
	return offers;
}

size_t kv_offers_bytes(const struct kv_offer_options *options)
{
	struct carve carve = {0};
	layout(&carve, options);
	return carve.used;
}

struct kv_offers *kv_offers_init(void *memory, const struct kv_offer_options *options)
{
	struct carve carve = {.memory = memory};
	struct kv_offers *offers = layout(&carve, options);
	for (uint32_t i = 0; i < offers->offer_max; i++)
		offers->free_list[i] = offers->offer_max - 1 - i;
	offers->free_count = offers->offer_max;
	return offers;
}

static void enqueue(struct kv_offers *o, struct entry *entry)
{
	entry->sent = false;
	o->queue[(o->queue_head + o->unsent++) % o->offer_max] = (uint32_t)(entry - o->entries);
}

static void add_entry(struct kv_offers *o, const struct entry *entry)
{
	uint32_t index = o->free_list[--o->free_count];
	o->entries[index] = *entry;
	kv_pool_ref(o->local->pool, entry->block);
	o->count++;
	o->counts[kv_local_group(o->local, entry->block)]++;
	enqueue(o, &o->entries[index]);
}

void kv_offer_block(struct kv_offers *o, uint32_t block, const struct id128 *key, const struct id128 *parent,
		    const struct kv_tenant *tenant)
{
	uint32_t group = kv_local_group(o->local, block);
	struct entry entry = {.used = true, .peer = kv_first_owner(o->local, key), .block = block, .key = *key,
			      .has_parent = parent != NULL, .tenant = *tenant};
	if (parent)
		entry.parent = *parent;
	if (entry.peer == PEER_NONE)
		return; /* there is no store */
	if (o->counts[group] == o->local->groups[group].offer_max)
		o->dropped++;
	else
		add_entry(o, &entry);
	kv_offer_tick(o);
}

static void send_offer(struct kv_offers *o, struct entry *entry)
{
	entry->sent = true;
	entry->op = ++o->op_next << 32 | (uint32_t)(entry - o->entries);
	o->windows[entry->peer]++;
	Wire__Place place;
	kv_local_place(o->local, entry->block, &place);
	Wire__Offer offer = WIRE__OFFER__INIT;
	offer.op = entry->op;
	offer.key = (ProtobufCBinaryData){PROTO_KEY_BYTES, entry->key.bytes};
	offer.parent = (ProtobufCBinaryData){entry->has_parent ? PROTO_KEY_BYTES : 0, entry->parent.bytes};
	offer.place = &place;
	const struct kv_group *group = &o->local->groups[kv_local_group(o->local, entry->block)];
	offer.n_digests = group->layer_count;
	offer.digests = kv_local_digests(o->local, entry->block);
	offer.layer_bytes = group->layer_bytes;
	offer.compat = (ProtobufCBinaryData){PROTO_KEY_BYTES, o->local->compat.bytes};
	offer.tenant = entry->tenant.name;
	offer.priority = entry->tenant.priority;
	PROTO_ENVELOPE(envelope, OFFER, offer, &offer);
	sessions_send(o->local->sessions, entry->peer, &envelope);
}

static void drop(struct kv_offers *o, struct entry *entry)
{
	kv_pool_unref(o->local->pool, entry->block);
	if (entry->sent)
		o->windows[entry->peer]--;
	entry->used = false;
	o->free_list[o->free_count++] = (uint32_t)(entry - o->entries);
	o->counts[kv_local_group(o->local, entry->block)]--;
	o->count--;
}

void kv_offer_tick(struct kv_offers *o)
{
	/* One round: those whose store has its window full go to the end, so that none holds up another. */
	for (uint32_t left = o->unsent; left > 0; left--) {
		uint32_t index = o->queue[o->queue_head];
		o->queue_head = (o->queue_head + 1) % o->offer_max;
		o->unsent--;
		struct entry *entry = &o->entries[index];
		if (entry->peer == PEER_NONE)
			entry->peer = kv_first_owner(o->local, &entry->key);
		if (entry->peer == PEER_NONE)
			drop(o, entry);
		else if (o->windows[entry->peer] < o->options.window)
			send_offer(o, entry);
		else
			o->queue[(o->queue_head + o->unsent++) % o->offer_max] = index;
	}
}

/* Offered again: to another store when this one leaves, and once when its read failed. */
static void end_offer(struct kv_offers *o, struct entry *entry, uint32_t peer, enum err e)
{
	bool taken = e == ERR_OK || e == ERR_EXISTS, refused = e == ERR_AGAIN || e == ERR_TOO_LARGE;
	if (e == ERR_DRAINING)
		sessions_note_draining(o->local->sessions, peer, true);
	if (taken || refused || (entry->failed && e != ERR_DRAINING)) {
		drop(o, entry);
		return;
	}
	entry->failed |= e != ERR_DRAINING;
	entry->peer = PEER_NONE;
	o->windows[peer]--;
	enqueue(o, entry);
}

void kv_offer_done(struct kv_offers *o, uint32_t peer, const Wire__OfferDone *done)
{
	uint32_t index = (uint32_t)done->op;
	if (index >= o->offer_max)
		return;
	struct entry *entry = &o->entries[index];
	if (!entry->used || !entry->sent || entry->op != done->op || entry->peer != peer)
		return;
	end_offer(o, entry, peer, (enum err)done->error);
	kv_offer_tick(o);
}

void kv_offer_peer_down(struct kv_offers *o, uint32_t peer)
{
	for (uint32_t i = 0; i < o->offer_max; i++) {
		struct entry *entry = &o->entries[i];
		if (!entry->used || entry->peer != peer)
			continue;
		entry->peer = PEER_NONE;
		if (entry->sent)
			enqueue(o, entry);
	}
	o->windows[peer] = 0; /* who is the first owner now is known when the session has ended: at the next tick */
}

uint32_t kv_offer_lag(const struct kv_offers *o)
{
	return o->count;
}

uint64_t kv_offer_dropped(const struct kv_offers *o)
{
	return o->dropped;
}

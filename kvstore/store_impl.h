/* store_impl - what store.c, store_offers.c and store_operate.c share; nobody else includes it. */
#ifndef KVSTORE_STORE_IMPL_H
#define KVSTORE_STORE_IMPL_H
#include "kvstore/holds.h"
#include "kvstore/replicate.h"
#include "kvstore/store.h"
#include "net/fence.h"
#include "net/identity.h"
#include "net/session.h"
#include "proto/codec.h"

#define OFFER_NONE UINT32_MAX
#define STORE_TIER_DRAM "dram"

enum offer_state {
	OFFER_FREE,
	OFFER_QUEUED,  /* its entry is offered; waits for its turn */
	OFFER_READING, /* its entry is reading */
	OFFER_WAITING, /* another offer of the same key is queued or read */
};

/* A block that a living session offers us. */
struct offer {
	enum offer_state state;
	uint32_t peer;
	uint64_t op;
	uint64_t came_ns;
	uint32_t region;
	uint64_t offset;
	uint64_t generation;
	struct ledger_block block; /* digests: of offer_digests */
	uint32_t entry;            /* LEDGER_NONE while waiting */
	uint32_t next;             /* in the free list or the queue */
};

/* The reads of one block, one a layer; outlives its offer while landings are in quarantine. */
struct reading {
	bool used;
	uint32_t serial; /* grows with each use: no two reads have the same op */
	uint32_t offer;  /* OFFER_NONE: answered or withdrawn already */
	uint32_t entry;
	uint32_t layer_count;
	uint32_t outcomes_missing;
	uint32_t landings_missing;
	uint64_t *outcomes; /* a bit a layer: arrived */
	uint64_t *landings;
};

enum { STORE_TIERS_MAX = 4 };

/* Room for what an operator or a coordinator is told: one answer at a time. */
struct operate {
	Wire__StoreLoad load;
	struct ledger_counts counts;
	Wire__TenantLoad tenants[TENANTS_MAX];
	Wire__TenantLoad *tenant_list[TENANTS_MAX];
	Wire__EvictedLoad evicted[LEDGER_REASONS];
	Wire__EvictedLoad *evicted_list[LEDGER_REASONS];
	Wire__TierLoad tiers[STORE_TIERS_MAX];
	Wire__TierLoad *tier_list[STORE_TIERS_MAX];
	Wire__ReplicaLoad replica;
	Wire__KvBlock blocks[PROTO_PAGE_MAX];
	Wire__KvBlock *block_list[PROTO_PAGE_MAX];
	Wire__Place places[PROTO_ASK_KEYS_MAX];
	uint32_t errors[PROTO_ASK_KEYS_MAX];
	uint64_t refused[REFUSAL_COUNT];
};

struct store {
	struct store_options options;
	struct sessions *sessions;
	struct ledger *ledger;
	struct holds *holds;
	struct replicate *replicate;
	struct store_counters counters;
	struct operate *operate;
	uint64_t now_ns; /* of the event being handled */
	uint64_t report_next_ns;
	bool told_draining; /* to peers that are no coordinators */
	bool draining;
	bool leaving; /* the process ends: no directive undrains it */
	struct fence fence;

	struct offer *offers;    /* [offer_max] */
	uint64_t *offer_digests; /* [offer_max][layers_max] */
	uint32_t offer_free, queue_first, queue_last;
	uint32_t offer_count;
	uint32_t waiting_count;
	struct reading *readings; /* [reading_max] */
	uint64_t *reading_bits;   /* [reading_max][2][layer_words] */
	uint32_t reading_count;

	Wire__FoundBlock *found; /* [found_max]: an answer being put together */
	Wire__FoundBlock **found_list;
	Wire__Place *found_places;
};

/* The entry of a block that is served, or LEDGER_NONE. */
uint32_t store_served(const struct store *store, const struct id128 *key);
/* A report; what it points to is good until the next. */
void store_load(struct store *store, uint64_t now_ns, Wire__Load *ret_load);

/* store_operate.c */
size_t operate_bytes(const struct store_options *options);
const Wire__StoreLoad *operate_load(struct store *store, uint64_t now_ns);
void operate_take(struct store *store, uint32_t peer, const Wire__KvAsk *ask, uint64_t now_ns);

void offers_init(struct store *store);
void offers_take(struct store *store, uint32_t peer, const Wire__Offer *offer, uint64_t now_ns);
/* What was offered and is neither refused nor sealed: blocks, bytes, and how long the oldest waits. */
void offers_lag(const struct store *store, uint64_t now_ns, uint32_t *ret_blocks, uint64_t *ret_bytes, uint64_t *ret_ns);
/* Starts what there is room for. */
void offers_pump(struct store *store, uint64_t now_ns);
void offers_read_done(struct store *store, uint64_t op, enum err e, uint64_t digest);
void offers_landing_free(struct store *store, uint64_t op);
/* The peer's session ended. */
void offers_drop(struct store *store, uint32_t peer);
uint32_t offers_of(const struct store *store, uint32_t peer);
void offers_check(const struct store *store);
#endif

/* store_impl - what the files of the store's core share; nobody else includes it. */
#ifndef KVSTORE_STORE_IMPL_H
#define KVSTORE_STORE_IMPL_H
#include "base/map.h"
#include "kvstore/holds.h"
#include "kvstore/replicate.h"
#include "kvstore/store.h"
#include "net/fence.h"
#include "net/identity.h"
#include "net/link_report.h"
#include "net/session.h"
#include "proto/codec.h"

#define OFFER_NONE UINT32_MAX
#define STORE_TIER_DRAM "dram"
#define STORE_TIER_DISK "disk"
#define STORE_TIER_BOTH "dram+disk" /* a block that is in both */

enum offer_state {
	OFFER_FREE,
	OFFER_QUEUED,  /* its entry is offered; waits for its turn */
	OFFER_READING, /* its entry is reading */
	OFFER_WAITING, /* another offer of the same key is queued or read, or the block is being written to disk or read from there */
	OFFER_WRITING, /* its block is sealed, and not durable yet */
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
	enum ledger_pin pin;       /* of a copy */
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

struct ask;   /* store_asks.c */
struct sweep; /* store_sweep.c */

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
	Wire__DiskLoad disk;
	Wire__KvBlock blocks[PROTO_PAGE_MAX];
	Wire__KvBlock *block_list[PROTO_PAGE_MAX];
	struct id128 keys[PROTO_PAGE_MAX]; /* of blocks on disk */
	struct id128 after;                /* where the next page of a list begins */
	Wire__Place places[PROTO_ASK_KEYS_MAX];
	uint32_t errors[PROTO_ASK_KEYS_MAX];
	uint64_t refused[REFUSAL_COUNT];
	struct link_report links;
};

/* What was read of a peer, by its number; of another node's life it is nothing. */
struct read_from {
	uint64_t node;
	uint64_t bytes;
};

/* A block on its way to disk. */
struct disk_write {
	bool used;
	bool held;       /* by the write, because it was sealed before */
	uint32_t entry;  /* LEDGER_NONE: its slot is not needed any more */
	uint32_t offer;  /* OFFER_NONE, or who waits for it to be durable */
	enum ledger_pin pin; /* when it is written */
	struct id128 key;
	uint32_t next_free;
};

/* A block on its way from disk, and the look-ups that want it. */
struct disk_read {
	bool used;
	uint32_t entry;
	uint32_t want_first;
	uint32_t next_free;
};

struct disk_want {
	uint32_t lookup; /* WANT_NONE: released meanwhile */
	uint32_t index;  /* of the key in the look-up */
	bool done;       /* the read is over */
	uint32_t entry;  /* then: held for it, or LEDGER_NONE */
	uint32_t next;   /* of the same block; of the free list */
	uint32_t next_of_lookup;
};

/* Of a look-up that has blocks on disk. */
struct disk_lookup {
	uint32_t peer;
	uint64_t op;
	struct id128 compat;
	uint32_t account; /* whose look-up it is, so whose blocks these are */
	uint32_t want_first;
	uint32_t missing; /* wants whose read is not over */
	uint32_t found;   /* blocks said so far */
	bool dirty;       /* some read is over since the last answer */
};

#define WANT_NONE UINT32_MAX

struct store_disk {
	void *memory;
	struct disk *disk; /* NULL: there is none */
	struct disk_options options; /* store_options.disk points here */
	struct disk_write *writes;   /* [put_max] */
	struct disk_read *reads;     /* [load_max] */
	struct disk_want *wants;     /* [want_max] */
	struct disk_lookup *lookups; /* [lookup_max], by the number of holds.h */
	uint32_t *dirty;             /* [lookup_max] */
	uint64_t *no_digests;        /* [layers_max] of a block that is not read yet */
	uint32_t write_free, read_free, want_free, want_max;
	uint32_t dirty_count;
	uint64_t *unwritten;       /* a bit an entry: its block has to be written yet */
	uint32_t unwritten_count, unwritten_next; /* bits; the word that is looked at next */
	int64_t patience_ns; /* for how long offers may yet wait for a busy disk */
	uint64_t patience_at_ns;
	bool blocked;        /* they do */
};

#define STORE_PATIENCE_NS 500000000ull

struct store {
	struct store_options options;
	struct sessions *sessions;
	struct ledger *ledger;
	struct holds *holds;
	struct replicate *replicate;
	struct store_counters counters;
	struct operate *operate;
	struct ask *asks;
	struct sweep *sweep;
	uint64_t now_ns; /* of the event being handled */
	uint64_t report_next_ns;
	uint64_t lookups_seen; /* by the last tick */
	bool told_draining; /* or may have been, to peers that are no coordinators */
	bool draining;
	bool leaving; /* the process ends: no directive undrains it */
	struct fence fence;
	struct store_disk d;

	struct offer *offers;    /* [offer_max] */
	uint64_t *offer_digests; /* [offer_max][layers_max] */
	uint32_t offer_free, queue_first, queue_last;
	uint32_t offer_count;
	struct map offer_ops;    /* (peer, op) of every offer */
	uint32_t waiting_count;
	struct reading *readings; /* [reading_max] */
	uint64_t *reading_bits;   /* [reading_max][2][layer_words] */
	uint32_t reading_count;
	struct read_from *read_from; /* [peer_max] */

	Wire__FoundBlock *found; /* [found_max]: an answer being put together */
	Wire__FoundBlock **found_list;
	Wire__Place *found_places;
};

/* The entry of a block that is served, or LEDGER_NONE. */
uint32_t store_served(const struct store *store, const struct id128 *key);

/* store_report.c */
/* A report; what it points to is good until the next. */
void store_load(struct store *store, uint64_t now_ns, Wire__Load *ret_load);
/* Tells it to whom it concerns. */
void store_report(struct store *store, uint64_t now_ns);

/* store_operate.c */
const Wire__StoreLoad *operate_load(struct store *store, uint64_t now_ns);
void operate_take(struct store *store, uint32_t peer, const Wire__KvAsk *ask, uint64_t now_ns);
/* A block as GET is answered: from memory with its place, from disk without; nothing when it is in neither. */
void operate_add_block(struct store *store, uint32_t entry, bool with_place, Wire__KvAnswer *answer);
void operate_add_found(struct store *store, const struct id128 *key, const struct disk_found *found, Wire__KvAnswer *answer);
/* store_list.c: a page, of ask->limit blocks at most */
void operate_list(struct store *store, const Wire__KvAsk *ask, Wire__KvAnswer *answer);
void operate_add(struct store *store, const struct id128 *key, Wire__KvAnswer *answer);
void operate_send(struct store *store, uint32_t peer, Wire__KvAnswer *answer);

/* store_asks.c */
size_t asks_bytes(void);
void asks_init(struct store *store);
void asks_take(struct store *store, uint32_t peer, const Wire__KvAsk *ask, uint64_t now_ns);
void asks_pump(struct store *store, uint64_t now_ns);
/* The peer's session ended. */
void asks_drop(struct store *store, uint32_t peer);
uint32_t asks_held_for(const struct store *store, uint32_t peer);

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
/* The key's entry is sealed, or gone: what waited for that goes on. */
void offers_wake(struct store *store, const struct id128 *key, bool sealed);
/* What waited for the key to be durable is answered. */
void offers_answer_waiting(struct store *store, const struct id128 *key, enum err e);
void offers_answer(struct store *store, uint32_t offer, enum err e);

/* store_sweep.c */
size_t sweep_bytes(void);
void sweep_init(struct store *store);
void sweep_tick(struct store *store);
void sweep_pump(struct store *store);
/* Another store asks, or has answered. */
void sweep_answer(struct store *store, uint32_t peer, const Wire__KvAsk *ask);
void sweep_answered(struct store *store, uint32_t peer, const Wire__KvAnswer *answer);
struct sweep_status sweep_status(const struct store *store);
void sweep_check(const struct store *store);

/* store_lookups.c */
void store_take_lookup(struct store *store, uint32_t peer, const Wire__Lookup *lookup);
void store_take_release(struct store *store, uint32_t peer, const Wire__Release *release);
/* Of what a look-up of the tenant asked for, that much was there. */
void store_account_found(struct store *store, uint32_t account, uint64_t found, uint64_t bytes);
/* A block's place and digests as number `count` of the answer being put together; and the answer. */
void store_add_found(struct store *store, size_t count, uint32_t index, uint32_t entry);
void store_send_found(struct store *store, uint32_t peer, uint64_t op, size_t count, bool more);
/* The look-up is over: all that is held for it, and all that was to come. */
void store_release(struct store *store, uint32_t lookup);

/* store_disk.c; without a disk nothing is ever found there, and sealed blocks are cached at once */
size_t store_disk_bytes(const struct store_options *options);
void store_disk_init(struct store *store);
/* All bytes of the entry are there and verified, by that offer: seals it, and answers now or when it is durable. */
void store_disk_seal(struct store *store, uint32_t entry, uint32_t offer);
/* May one more block be read from its offerer?  Not if it could not be written then: with STORE_PERSIST_ACK never, else not for a
 * short while. */
bool store_disk_takes(struct store *store);
/* Does OfferDone wait for the disk? */
bool store_waits_for_disk(const struct store *store);
/* An offer of a block that is in memory: EXISTS; OK: it waits, until offers_answer_waiting(); or why not. */
enum err store_disk_offered(struct store *store, uint32_t entry);
/* The offer is over before its block is durable. */
void store_disk_drop_offer(struct store *store, uint32_t offer);
/* store_loads.c */
void store_disk_open_lookup(struct store *store, uint32_t lookup, uint32_t peer, uint64_t op, const struct id128 *compat,
			    uint32_t account);
/* The look-up asks for a key that is not found in memory: it will be told if it is on disk and there is room for it. */
void store_disk_want(struct store *store, uint32_t lookup, uint32_t index, const struct id128 *key);
/* So many blocks were found in memory; is there more to come? */
bool store_disk_expects(struct store *store, uint32_t lookup, size_t found);
/* It comes back into memory; false: it is not on disk, or there is no room now. */
bool store_disk_fetch(struct store *store, const struct id128 *key);
void store_disk_close_lookup(struct store *store, uint32_t lookup);
/* disk_options.loaded; and what has come since is told. */
void store_loads_done(void *store, uint64_t cookie, enum err e, const struct ledger_block *block);
void store_loads_answer(struct store *store);

/* store_disk.c */
void store_disk_pump(struct store *store, uint64_t now_ns);
bool store_disk_idle(const struct store *store);
/* The entry's block has been written, or came from there; or has to be, when the disk can take it. */
void store_disk_mark(struct store *store, uint32_t entry, bool unwritten);
/* Is the key being written to disk? */
bool store_disk_writes(const struct store *store, const struct id128 *key);
void store_disk_report(const struct store *store, Wire__DiskLoad *disk);
void store_disk_check(const struct store *store);
#endif

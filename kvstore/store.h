/* store - one node of the KV store as a pure core: it takes offered blocks and answers look-ups.
 *
 * Events go in with the time, actions come out through env (net/env.h).  A block comes in by our own reads of the
 * offerer's memory, one read a layer; it is found by others only when every layer had the digest that was offered
 * (law 2).  A landing number (env_read.landing) is a slot number of slabs.h: slab * slots_max + index.
 *
 *   Offer --> queue --room, turn--> reading (one read a layer) --all verified--> sealed --> OfferDone(OK)
 *                                      +--any other outcome--> OfferDone(CORRUPT, STALE, DEADLINE, ...)
 *
 * Rules: 1 what was found for a peer is held until its Release or the end of its session (law 3);
 *        2 the end of a session drops its offers and holds there and then; slots it was read into stay in quarantine
 *          until their landings are free;
 *        3 an offer of a key that is being read waits for the outcome: EXISTS, or it is read itself;
 *        4 what is sealed is offered to its other owners (replicate.h), which are dialled as they become members;
 *        5 with a disk, sealed blocks are written to it, and what was evicted from memory is read back when it is looked up: the
 *          answer says `more`, and the block follows when it is there and verified (store_disk.c);
 *        6 with STORE_PERSIST_ACK OfferDone(OK) and (EXISTS) mean that the block is durable (disk.h, rule 1).
 *
 * Memory: the caller's.  Loop: the store's.  Bounds: every number of store_options; over a bound an offer is
 * answered AGAIN and a look-up finds less. */
#ifndef KVSTORE_STORE_H
#define KVSTORE_STORE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "kvstore/disk.h"
#include "kvstore/ledger.h"
#include "kvstore/replicate.h"
#include "net/env.h"

enum store_persist {
	STORE_PERSIST_NONE,   /* what is on disk is served, and nothing written */
	STORE_PERSIST_BEHIND, /* an offer is done when the block is sealed; it is written when there is room for that */
	STORE_PERSIST_ACK,    /* an offer is done when the block is durable */
};

enum { STORE_REPORT_NS = 250000000, STORE_READ_TIMEOUT_NS = 250000000, STORE_COPIES_WINDOW = 32 };

struct store_options {
	uint64_t node;
	uint64_t incarnation;
	const char *name;
	const char *cluster;
	const uint8_t *link_address; /* copied */
	size_t link_address_length;
	uint32_t peer_max;
	uint32_t time_factor;        /* multiplies the times of law 3; 0: 1 */
	struct ledger_options ledger;
	uint32_t offer_max;          /* waiting and being read, all peers together */
	uint32_t reading_max;        /* blocks being read at once; <= 65536 */
	uint32_t lookup_max;         /* look-ups not yet released */
	uint32_t hold_max;           /* blocks held by these, each counted once a look-up */
	uint32_t found_max;          /* blocks in one answer; <= PROTO_BLOCKS_MAX */
	uint64_t read_timeout_ns;    /* of a layer; 0: STORE_READ_TIMEOUT_NS */
	uint32_t weight;             /* MiB for blocks: its share of them is in proportion; 0: 1 */
	uint32_t replicas;           /* copies of each block; 0: 1 */
	uint32_t copies_max;         /* being offered to other stores at once; 0: none, nothing is copied */
	uint64_t rebalance_rate;     /* bytes a second that are copied because stores came or went; 0: no bound */
	uint64_t grace_ns;           /* replicate.h; 0: its default */
	const struct disk_options *disk; /* NULL: memory only.  Copied; its context and callbacks are the store's */
	enum store_persist persist;
	/* NULL: not wanted.  A block is not on disk any more. */
	void *disk_context;
	void (*disk_gone)(void *context, const struct id128 *key, enum disk_gone why);
	const struct env *env;       /* outlives the store */
};

struct store_counters {
	uint64_t lookups;
	uint64_t keys_asked;
	uint64_t keys_found;
	uint64_t bytes_found;
	uint64_t disk_bytes_found; /* of these */
	uint64_t offers;
	uint64_t offers_taken;     /* sealed */
	uint64_t offers_existing;
	uint64_t offers_refused;   /* AGAIN, DRAINING, TOO_LARGE */
	uint64_t reads;            /* layers asked for */
	uint64_t bytes_read;       /* verified */
	uint64_t read_corrupt;     /* blocks, by what went wrong with them */
	uint64_t read_stale;
	uint64_t read_deadline;
	uint64_t read_gone;
	uint64_t read_other;
	uint64_t sessions_ended;
	uint64_t disk_hits;        /* keys answered from disk */
	uint64_t pins_refused;     /* blocks that are pinned elsewhere, or on disk or in memory only, for want of room for more pins */
	uint64_t disk_unwritten;   /* blocks sealed while the disk could not take them */
};

/* Copies of blocks that are on disk only (store_sweep.c). */
struct sweep_status {
	uint64_t asked;   /* other stores, for keys */
	uint64_t loaded;  /* because a copy was missing */
	uint32_t missing; /* known to be missing now, and all that is not asked about yet since stores came or went */
	bool over;
};

struct store_status {
	struct ledger_counts ledger;
	struct store_counters counters;
	struct replicate_status replicate;
	uint32_t offers;    /* not yet answered */
	uint32_t reading;   /* blocks */
	uint32_t lookups;   /* not yet released */
	uint32_t holds;
	uint32_t sessions;
	bool draining;
	uint64_t epoch, directives_refused; /* net/fence.h */
	struct sweep_status sweep;
	bool has_disk;
	struct disk_status disk;
};

struct store;

size_t store_bytes(const struct store_options *options);
struct store *store_init(void *memory, const struct store_options *options);

/* Membership: a store wants sessions with stores that have a larger id. */
void store_member(struct store *store, uint64_t id, uint64_t incarnation, Wire__Role role, uint64_t now_ns);
void store_member_gone(struct store *store, uint64_t id);

/* Events (what they mean: net/session.h, net/env.h). */
void store_opened(struct store *store, uint32_t conn, uint64_t node, uint64_t now_ns);
void store_dial_failed(struct store *store, uint64_t node, uint64_t now_ns);
void store_closed(struct store *store, uint32_t conn, uint64_t now_ns);
void store_message(struct store *store, uint32_t conn, const Wire__Envelope *envelope, uint64_t now_ns);
void store_read_done(struct store *store, uint64_t op, enum err e, uint64_t digest, uint64_t now_ns);
void store_landing_free(struct store *store, uint64_t op, uint64_t now_ns);
/* Of the disk (disk_file.h); only with one. */
void store_disk_done(struct store *store, uint64_t op, enum err e, uint64_t now_ns);
/* This store goes on under a higher incarnation: every session ends, and all that was held for it; the blocks stay. */
void store_renew(struct store *store, uint64_t incarnation, const uint8_t *link_address, size_t link_address_length,
		 uint64_t now_ns);
/* At least every SESSION_BEAT_NS / 2. */
void store_tick(struct store *store, uint64_t now_ns);

/* From now on offers are refused (DRAINING), for ever: the process leaves.  (A leader's directive drains too, and undrains.)
 * Look-ups and reads are served on, and other stores are given what only this one has. */
void store_drain(struct store *store, uint64_t now_ns);
/* Draining, nobody holds or offers anything any more, nothing is here only that another store could have, and what was to be
 * written is durable, or cannot be. */
bool store_drained(const struct store *store);

void store_status(const struct store *store, struct store_status *ret_status);
/* The first block at or after `from` that may be served, for *ret_next to go on from; NULL: there are no more. */
const struct ledger_block *store_next(const struct store *store, uint32_t from, uint32_t *ret_next);
/* What an operator says of a block, in memory, on disk or both.  NOT_FOUND; otherwise as ledger_pin() and ledger_evict(), disk_pin()
 * and disk_forget().  It outlives the process once the note is durable: store_noted(). */
MUST_USE enum err store_pin(struct store *store, const struct id128 *key, enum ledger_pin pin, uint64_t *ret_note);
MUST_USE enum err store_evict(struct store *store, const struct id128 *key, uint64_t *ret_note);
bool store_noted(const struct store *store, uint64_t note);
/* How the block is pinned; NOT_FOUND. */
MUST_USE enum err store_pinned(const struct store *store, const struct id128 *key, enum ledger_pin *ret_pin);

/* The status as lines for people, cut at capacity; returns the length without the 0. */
size_t store_dump(const struct store *store, char *text, size_t capacity);
/* What it has: for looking at, in tests and simulation. */
const struct ledger *store_ledger(const struct store *store);
/* Blocks held, lent or offered by a node's living session; 0 without one. */
uint32_t store_held_for(const struct store *store, uint64_t node);
/* The first block on disk at or after `from`, for *ret_next to go on from; false: there are no more. */
bool store_next_on_disk(const struct store *store, uint32_t from, uint32_t *ret_next, struct id128 *ret_key,
			struct disk_found *ret_found);
/* Is the block on disk, and durable? */
bool store_on_disk(const struct store *store, const struct id128 *key);
/* Asserts what must hold; for tests and simulation. */
void store_check(const struct store *store);
#endif

/* ledger - the truth about the blocks of one store that are in memory: which key, in which slot, in which state.  Pure.
 *
 *                            +--unread--------------------------> evicted --landing free--> (none)
 *                            |                                       ^
 *   (none) --offer--> offered --read--> reading --seal--> sealed --> cached <--release/hold--> held
 *                        |                 |                                                     |
 *                        +---withdraw------+--> evicted                        the last release --+
 *
 * Rules: 1 every move is asserted against the table of ledger_moves (ledger.c);
 *        2 a block is found only when it is sealed, cached or held, and only by who names its compat;
 *        3 it is evicted only when nobody holds it and it is not lent;
 *        4 a slot whose read was abandoned stays in quarantine (evicted) until the landing is free (law 2);
 *        5 a key is at most once in the ledger;
 *        6 a block stays sealed while its slot is being written to disk: found and held like any other, but not evicted;
 *        7 a block that came back from disk is passing: when nobody holds it any more it is the first to go, unless it was held
 *          for a second look-up meanwhile (promotion on the second hit).  Eviction policies never hear of it before that;
 *        8 a tenant's bytes are those of the slots taken for it, never over its quota; a block that would be makes room
 *          among the tenant's own, or is refused;
 *        9 what is pinned hard is not evicted until it is unpinned; it is at most pin_bytes_max;
 *       10 sizes share the slabs by what they miss: one that lost a slab's bytes more than another, because blocks of it came back
 *          that had been evicted, takes a slab from it, of those where no block has to stay the one that was used longest ago; a
 *          size that was not used for long gives its slabs for nothing (ledger_slabs.c).
 *
 * Which goes first: of its size class what is spare or passing, then blocks of low priority, then the others, last what is pinned
 * softly; among those the policy (evict.h) decides, to which class and priority together are one class.  Where a tenant makes
 * room among its own: what is passing or low, then the others, by least recent use, whatever their size.
 *
 * Memory: the caller's.  Loop: the store's.
 * Bounds: entry_max blocks of at most layers_max layers; slots as in slabs.h. */
#ifndef KVSTORE_LEDGER_H
#define KVSTORE_LEDGER_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/id128.h"
#include "kvstore/evict.h"
#include "kvstore/slabs.h"
#include "kvstore/tenants.h"

#define LEDGER_NONE UINT32_MAX

enum ledger_state {
	LEDGER_FREE,
	LEDGER_OFFERED,
	LEDGER_READING,
	LEDGER_SEALED,
	LEDGER_CACHED,
	LEDGER_HELD,
	LEDGER_EVICTED,
	LEDGER_STATES,
};

enum ledger_priority { LEDGER_NORMAL, LEDGER_LOW };

/* An operator's word about a block.  It lasts as long as the block does. */
enum ledger_pin {
	LEDGER_UNPINNED,
	LEDGER_PINNED_SOFT, /* goes after all others */
	LEDGER_PINNED_HARD, /* stays */
};

/* Why a block was evicted. */
#define LEDGER_REASONS_MAP(X)                                                    	X(ROOM, "room")       /* another one needed its slot, or its entry */        	X(SLAB, "slab")       /* its slab was wanted for blocks of another size */   	X(QUOTA, "quota")     /* another one of its tenant, which was over its quota */ 	X(COMMAND, "command") /* an operator said so */
enum ledger_reason {
#define X(name, text) LEDGER_FOR_##name,
	LEDGER_REASONS_MAP(X)
#undef X
	LEDGER_REASONS
};

struct ledger_options {
	struct slabs_options slabs;
	uint32_t entry_max;
	uint32_t layers_max;
	const struct evict_policy *policy; /* NULL: evict_policies[0] */
	const struct tenant_quota *quotas; /* [quota_count], at most TENANT_QUOTAS_MAX; read by ledger_init() */
	uint32_t quota_count;
	uint64_t pin_bytes_max; /* of blocks pinned hard */
};

struct ledger;

/* What is known of a block; pointers are good until the entry changes its state. */
struct ledger_block {
	struct id128 key;
	struct id128 parent;
	bool has_parent;
	struct id128 compat;
	uint32_t layer_count;
	uint32_t layer_bytes;
	const uint64_t *digests; /* [layer_count] */
	const char *tenant;      /* at most TENANT_NAME_MAX bytes; NULL or "": none */
	enum ledger_priority priority;
	bool from_disk;          /* it comes back to memory: nobody offers it, and no quota refuses an offer */
};

static inline uint64_t ledger_block_bytes(const struct ledger_block *block)
{
	return (uint64_t)block->layer_count * block->layer_bytes;
}

struct ledger_counts {
	uint32_t entries[LEDGER_STATES]; /* of each state */
	uint32_t slots;
	uint32_t slots_free;
	uint32_t spare;   /* of the cached and held */
	uint32_t lent;    /* loans of all entries */
	uint64_t sealed;  /* since the start */
	uint64_t evicted[LEDGER_REASONS]; /* by reason, since the start */
	uint64_t refused; /* offers, for a quota */
	uint64_t bytes;   /* of all tenants */
	uint64_t bytes_pinned, bytes_pinned_max; /* hard */
	uint32_t pinned_soft, pinned_hard;
};

size_t ledger_bytes(const struct ledger_options *options);
struct ledger *ledger_init(void *memory, const struct ledger_options *options);

/* ERR_EXISTS (key known, in whatever state: ledger_lookup()), ERR_AGAIN (no entry left),
 * ERR_TOO_LARGE (layers, block, block over its tenant's quota). */
MUST_USE enum err ledger_offer(struct ledger *ledger, const struct ledger_block *block, uint32_t *ret_entry);
/* offered -> reading: takes a slot, evicting if need be.  ERR_AGAIN: nothing can be evicted now, or nothing of a tenant that
 * is over its quota. */
MUST_USE enum err ledger_read(struct ledger *ledger, uint32_t entry);
/* reading -> sealed -> cached: all bytes are there, verified, and nothing writes into the slot any more. */
void ledger_seal(struct ledger *ledger, uint32_t entry);
/* The same, and passing (rule 7). */
void ledger_seal_passing(struct ledger *ledger, uint32_t entry);
/* reading -> sealed, until ledger_written() (rule 6). */
void ledger_seal_writing(struct ledger *ledger, uint32_t entry);
void ledger_written(struct ledger *ledger, uint32_t entry);
/* Of an entry being read, offered with what its disk knew: the rest, of the same key and size. */
void ledger_complete(struct ledger *ledger, uint32_t entry, const struct ledger_block *block);
/* offered -> (none); reading -> evicted: the key is forgotten, the slot stays taken until ledger_landing_free(). */
void ledger_withdraw(struct ledger *ledger, uint32_t entry);
void ledger_landing_free(struct ledger *ledger, uint32_t entry);

/* The entry of a key in any state but evicted, or LEDGER_NONE. */
uint32_t ledger_lookup(const struct ledger *ledger, const struct id128 *key);
/* The same, but only what may be served (rule 2). */
uint32_t ledger_find(const struct ledger *ledger, const struct id128 *key, const struct id128 *compat);
/* A find in four steps, for who has many keys: memory is slow, so the first three run some keys ahead and only bring nearer what
 * the next will look at.  ledger_find_ahead() gives the key's entry in any state, or LEDGER_NONE; ledger_serves() judges it (rule 2),
 * also when the entry is another key's by then. */
void ledger_expect_key(const struct ledger *ledger, const struct id128 *key);
uint32_t ledger_find_ahead(const struct ledger *ledger, const struct id128 *key);
void ledger_expect_block(const struct ledger *ledger, uint32_t entry);
bool ledger_serves(const struct ledger *ledger, uint32_t entry, const struct id128 *key, const struct id128 *compat);
void ledger_hold(struct ledger *ledger, uint32_t entry);
void ledger_release(struct ledger *ledger, uint32_t entry);
/* A cached or held block stays where it is until as many returns: another store reads it.  Unlike a hold this is no use, so
 * it says nothing to the eviction policy. */
void ledger_lend(struct ledger *ledger, uint32_t entry);
void ledger_return(struct ledger *ledger, uint32_t entry);
/* A block that is kept by those who own it, and here only as long as nobody wants the room: it goes before all others. */
void ledger_spare(struct ledger *ledger, uint32_t entry, bool spare);
bool ledger_is_spare(const struct ledger *ledger, uint32_t entry);

/* A sealed block is offered again by somebody to whom it matters more: from now on it has that priority. */
void ledger_raise(struct ledger *ledger, uint32_t entry, enum ledger_priority priority);
/* ERR_BUSY: it is on its way into memory, or being written to disk.  ERR_AGAIN: pin_bytes_max would be exceeded. */
MUST_USE enum err ledger_pin(struct ledger *ledger, uint32_t entry, enum ledger_pin pin);
/* ERR_BUSY: it is held, lent or on its way.  ERR_DENIED: pinned hard. */
MUST_USE enum err ledger_evict(struct ledger *ledger, uint32_t entry);
enum ledger_pin ledger_pinned(const struct ledger *ledger, uint32_t entry);
const char *ledger_reason_text(enum ledger_reason reason);

/* The first entry at or after `from` that may be served, or LEDGER_NONE.  A block keeps its entry, so who goes through all
 * of them sees each block that is there all the time exactly once. */
uint32_t ledger_next(const struct ledger *ledger, uint32_t from);

/* Entries by the hash of their key: of the homes 0 .. ledger_homes() - 1 (a power of two) a key's is its id128_hash() modulo their
 * number.  One entry a call, in whatever state; *step begins at 0; LEDGER_NONE: that was all. */
uint32_t ledger_homes(const struct ledger *ledger);
uint32_t ledger_at_home(const struct ledger *ledger, uint32_t home, uint32_t *step);

/* Whose accounts these are; those of evicted blocks stay.  For the counters of use. */
struct tenants *ledger_tenants(struct ledger *ledger);
uint32_t ledger_account(const struct ledger *ledger, uint32_t entry);

enum ledger_state ledger_state(const struct ledger *ledger, uint32_t entry);
const char *ledger_state_name(enum ledger_state state);
/* Is the move in the table? */
bool ledger_may_move(enum ledger_state from, enum ledger_state to);
const struct ledger_block *ledger_block(const struct ledger *ledger, uint32_t entry);
uint32_t ledger_holds(const struct ledger *ledger, uint32_t entry);
/* Of an entry with a slot. */
uint32_t ledger_slot(const struct ledger *ledger, uint32_t entry);
void ledger_place(const struct ledger *ledger, uint32_t entry, struct slot_place *ret_place);
/* Which unheld block goes first. */
const struct evict_policy *ledger_policy(const struct ledger *ledger);
void ledger_counts(const struct ledger *ledger, struct ledger_counts *ret_counts);
/* Asserts every rule above; for tests and simulation. */
void ledger_check(const struct ledger *ledger);
#endif

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
 *          for a second look-up meanwhile (promotion on the second hit).  Eviction policies never hear of it before that.
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

struct ledger_options {
	struct slabs_options slabs;
	uint32_t entry_max;
	uint32_t layers_max;
	const struct evict_policy *policy; /* NULL: evict_policies[0] */
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
};

struct ledger_counts {
	uint32_t entries[LEDGER_STATES]; /* of each state */
	uint32_t slots;
	uint32_t slots_free;
	uint32_t spare;   /* of the cached and held */
	uint32_t lent;    /* loans of all entries */
	uint64_t sealed;  /* since the start */
	uint64_t evicted; /* for room, since the start */
};

size_t ledger_bytes(const struct ledger_options *options);
struct ledger *ledger_init(void *memory, const struct ledger_options *options);

/* ERR_EXISTS (key known, in whatever state: ledger_lookup()), ERR_AGAIN (no entry left),
 * ERR_TOO_LARGE (layers, block). */
MUST_USE enum err ledger_offer(struct ledger *ledger, const struct ledger_block *block, uint32_t *ret_entry);
/* offered -> reading: takes a slot, evicting if need be.  ERR_AGAIN: nothing can be evicted now. */
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
/* A find in three steps, for who has many keys: memory is slow, so the first two run some keys ahead and only bring nearer what
 * the next will look at.  ledger_find_ahead() gives the key's entry in any state, or LEDGER_NONE; ledger_serves() judges it (rule 2),
 * also when the entry is another key's by then. */
void ledger_expect_key(const struct ledger *ledger, const struct id128 *key);
uint32_t ledger_find_ahead(const struct ledger *ledger, const struct id128 *key);
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

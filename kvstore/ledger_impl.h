/* ledger_impl - what ledger.c (states, keys), ledger_room.c (who goes for whom) and ledger_check.c share; nobody else
 * includes it. */
#ifndef KVSTORE_LEDGER_IMPL_H
#define KVSTORE_LEDGER_IMPL_H
#include <assert.h>

#include "base/map.h"
#include "kvstore/evict_impl.h"
#include "kvstore/ledger.h"

/* In which order blocks of a size class go: a class of the policy is a size class and a level. */
enum ledger_level { LEVEL_LOW, LEVEL_NORMAL, LEVEL_PINNED, LEDGER_LEVELS };

struct entry {
	enum ledger_state state;
	bool shielded; /* the policy was told that it is held: of those held or pinned hard all, of the lent those that were to be
			* evicted */
	bool spare;
	bool passing; /* rule 7: the policy does not know it */
	bool was_held;
	uint32_t slot; /* SLOT_NONE in offered */
	uint32_t class_index; /* of the slot */
	uint32_t holds;
	uint32_t lent;
	uint32_t next_free;
	uint32_t account;
	enum ledger_pin pin;
	struct ledger_block block; /* tenant: the account's name */
};

struct ledger {
	struct ledger_options options;
	const struct evict_policy *policy;
	struct slabs *slabs;
	void *evict;            /* the policy's: class = size class * LEDGER_LEVELS + level */
	void *own;              /* evict_lru's: class = account * LEDGER_LEVELS + level */
	struct map keys;        /* of every entry but the evicted */
	struct entry *entries;  /* [entry_max] */
	uint64_t *digests;      /* [entry_max][layers_max] */
	uint32_t *slot_entries; /* [slot_total]: whose slot it is, or LEDGER_NONE */
	struct evict_link *first; /* [entry_max], then a sentinel for each size class: the spare and the passing that may go now */
	uint32_t free_first;
	uint32_t spare_count, lent_count;
	uint32_t counts[LEDGER_STATES];
	uint32_t pins[3];       /* sealed blocks by enum ledger_pin; [LEDGER_UNPINNED] is not counted */
	uint64_t bytes_pinned;  /* hard */
	uint64_t sealed;
	uint64_t evicted[LEDGER_REASONS];
	struct tenants tenants;
};

/* ledger.c */
void ledger_move(struct ledger *ledger, uint32_t entry, enum ledger_state to);
void ledger_forget_key(struct ledger *ledger, uint32_t entry);
void ledger_free_entry(struct ledger *ledger, uint32_t entry);

/* ledger_room.c: the two orders of what may go. */
size_t room_bytes(const struct ledger_options *options, size_t *ret_own_bytes);
void room_init(struct ledger *ledger);
void room_add(struct ledger *ledger, uint32_t entry);
/* Whatever keeps the block: it is out of the orders; nothing does any more (if that is so): it is in them again. */
void room_shield(struct ledger *ledger, uint32_t entry);
void room_unshield(struct ledger *ledger, uint32_t entry);
/* A passing block is one like all others from now on. */
void room_promote(struct ledger *ledger, uint32_t entry);
/* Among those that go first and may go now, or not. */
void room_settle_first(struct ledger *ledger, uint32_t entry);
/* A free entry; a slot for the entry, charged to its tenant.  ERR_AGAIN: nothing that may go. */
MUST_USE enum err room_make_entry(struct ledger *ledger);
MUST_USE enum err room_take_slot(struct ledger *ledger, uint32_t entry, uint32_t *ret_slot);
void room_give_slot(struct ledger *ledger, uint32_t entry);
#endif

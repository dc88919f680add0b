/* ledger_impl - what ledger.c (states, keys), ledger_room.c (who goes for whom), ledger_slabs.c (sizes that share the room) and
 * ledger_check.c share; nobody else includes it. */
#ifndef KVSTORE_LEDGER_IMPL_H
#define KVSTORE_LEDGER_IMPL_H
#include <assert.h>

#include "base/map.h"
#include "kvstore/evict_impl.h"
#include "kvstore/ghosts.h"
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
	bool slab_staying, slab_pinned; /* as it is counted in its slab */
	uint32_t slot; /* SLOT_NONE in offered */
	uint32_t class_index, slab; /* of the slot */
	uint32_t holds;
	uint32_t lent;
	uint32_t next_free;
	uint32_t account;
	enum ledger_pin pin;
	uint64_t used; /* number of its last use among all uses; 0: not sealed */
	struct ledger_block block; /* tenant: the account's name */
};

/* The blocks of a slab. */
struct slab_use {
	uint32_t staying; /* that may not be evicted now */
	uint32_t pinned;  /* softly */
	uint64_t used;    /* the sum of entry.used */
};

/* The blocks of a size class. */
struct size_use {
	uint64_t claim; /* bytes missed since a slab was taken from it or by it */
	uint64_t used;  /* bytes_gone at the last use of a block */
	uint32_t fixed; /* slabs that are not to be taken for a claim: with blocks that stay, or are pinned */
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
	uint32_t *slot_entries; /* [slot_total]: whose slot it is, of those that are taken */
	struct evict_link *first; /* [entry_max], then a sentinel for each size class: the spare and the passing that may go now */
	uint32_t fresh; /* from here on no entry, and nothing that belongs to it, was ever used */
	uint32_t free_first;
	uint32_t spare_count, lent_count;
	uint32_t counts[LEDGER_STATES];
	uint32_t pins[3];       /* sealed blocks by enum ledger_pin; [LEDGER_UNPINNED] is not counted */
	uint64_t bytes_pinned;  /* hard */
	uint64_t sealed;
	uint64_t evicted[LEDGER_REASONS];
	struct tenants tenants;
	struct slab_use *slab_uses; /* [slab_count] */
	struct size_use size_uses[SLABS_CLASSES_MAX];
	struct ghosts *gone; /* what was evicted, apart for each size; kept while there are several */
	uint64_t uses;       /* of blocks, ever */
	uint64_t bytes_gone; /* evicted for room, ever */
	uint64_t claims_age_at; /* of bytes_gone */
};

/* ledger.c */
void ledger_move(struct ledger *ledger, uint32_t entry, enum ledger_state to);
void ledger_forget_key(struct ledger *ledger, uint32_t entry);
void ledger_free_entry(struct ledger *ledger, uint32_t entry);
bool ledger_has_entry(const struct ledger *ledger);

/* ledger_room.c: the two orders of what may go. */
size_t room_bytes(const struct ledger_options *options, size_t *ret_own_bytes);
void room_init(struct ledger *ledger);
void room_add(struct ledger *ledger, uint32_t entry);
/* Whatever keeps the block: it is out of the orders; nothing does any more (if that is so): it is in them again. */
void room_shield(struct ledger *ledger, uint32_t entry);
void room_unshield(struct ledger *ledger, uint32_t entry);
/* A passing block is one like all others from now on. */
void room_promote(struct ledger *ledger, uint32_t entry);
/* Something about the block changed that says whether it may go: it is among those that go first, or not; its slab may be
 * taken, or not. */
void room_settle(struct ledger *ledger, uint32_t entry);
void room_evict(struct ledger *ledger, uint32_t entry, enum ledger_reason reason);
/* A free entry for a block of the tenant; a slot for the entry, charged to its tenant.  ERR_AGAIN: nothing that may go. */
MUST_USE enum err room_make_entry(struct ledger *ledger, uint32_t account, uint64_t bytes);
MUST_USE enum err room_take_slot(struct ledger *ledger, uint32_t entry, uint32_t *ret_slot);
void room_give_slot(struct ledger *ledger, uint32_t entry);

/* ledger_slabs.c: sizes that share the room. */
enum sizes_need {
	NEED_CLAIMED, /* a slab that another size gives for the class's claim */
	NEED_ROOM,    /* any, but for blocks pinned softly */
	NEED_ANY,
};
size_t sizes_bytes(const struct ledger_options *options);
void sizes_init(struct ledger *ledger);
/* The entry has a slot now; gives it back; it may go now, or not; it was sealed or used; it goes for room; it is in the orders. */
void sizes_taken(struct ledger *ledger, uint32_t entry);
void sizes_given(struct ledger *ledger, uint32_t entry);
void sizes_settle(struct ledger *ledger, uint32_t entry);
void sizes_used(struct ledger *ledger, uint32_t entry);
void sizes_evicted(struct ledger *ledger, uint32_t entry);
void sizes_added(struct ledger *ledger, uint32_t entry);
/* Empties a slab of another class, so that it can change to this one.  O(slabs), and one slab's evictions. */
bool sizes_take_slab(struct ledger *ledger, uint32_t class_index, enum sizes_need need);
#endif

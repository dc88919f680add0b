/* evict - which unheld block goes first: the one interface of every eviction policy.  Pure.
 *
 *   (none) --add--> evictable --hold--> held        a hold is a use: somebody's look-up found the block
 *                    |     ^--release-----+
 *                    +--evict--> (none)             for room; a policy may remember the hash as a ghost
 *
 * A policy orders the entries that may be evicted, apart for each class: those of one size, since only a slot of the
 * right size makes room, and of one level of priority (ledger_impl.h).  It sees 64 bits of the key's hash and no byte: the ledger says what happened to which entry.
 *
 * Chains: a prefix ends at its first missing block, so the beginning of a chain has to outlive its end.  What a look-up
 * found is released last block first (holds.c), so every order by time of use has parents behind their children;
 * why no policy looks at parents: docs/decisions/eviction-by-order-of-touch.md.
 *
 * Memory: the caller's, zeroed, 16-byte aligned; what belongs to an entry is not touched before it is added.  Loop: the ledger's.
 * Bounds: entry_max entries, class_max classes; the cost of each policy stands at its name. */
#ifndef KVSTORE_EVICT_H
#define KVSTORE_EVICT_H
#include <stddef.h>
#include <stdint.h>

#define EVICT_NONE UINT32_MAX

enum { EVICT_POLICIES = 5 };

struct evict_policy {
	const char *name;
	size_t (*bytes)(uint32_t entry_max, uint32_t class_max);
	void (*init)(void *state, uint32_t entry_max, uint32_t class_max);
	/* A new block, evictable from now on.  hash: 64 uniform bits of its key. */
	void (*add)(void *state, uint32_t entry, uint32_t class_index, uint64_t hash);
	/* It was used, and may not be evicted until release(). */
	void (*hold)(void *state, uint32_t entry, uint32_t class_index);
	void (*release)(void *state, uint32_t entry, uint32_t class_index);
	/* An evictable entry goes, whether it was the victim or not. */
	void (*evict)(void *state, uint32_t entry, uint32_t class_index);
	/* The evictable entry of that class that should go first, or EVICT_NONE; it stays until evict(). */
	uint32_t (*victim)(void *state, uint32_t class_index);
};

/* 2Q whose queues share the room by what their ghosts say: new blocks wait in one, what was used or came back stays in the
 * other; least recently used first in both.  O(1).  ~126 bytes an entry. */
extern const struct evict_policy evict_2q_adaptive;
/* Least recently used first.  O(1).  8 bytes an entry. */
extern const struct evict_policy evict_lru;
/* Least frequently used first, with dynamic aging (LFU-DA: Arlitt et al., 2000).  O(log n).  24 + 4 * class_max bytes an entry. */
extern const struct evict_policy evict_lfu;
/* S3-FIFO (Yang et al., SOSP 2023): three static FIFO queues, one of ghosts.  O(1) amortised.  ~66 bytes an entry. */
extern const struct evict_policy evict_s3fifo;
/* W-TinyLFU (Einziger et al., 2017): a window, and a duel by estimated frequency for a place behind it.  O(1) amortised:
 * the sketch is halved once in ten times as many uses as there are blocks.  33 to 49 bytes an entry. */
extern const struct evict_policy evict_w_tinylfu;

/* All of them; the first is the default, chosen by bench/kv (bench/results/evict.md). */
extern const struct evict_policy *const evict_policies[EVICT_POLICIES];
/* The policy of that name, or NULL. */
const struct evict_policy *evict_find(const char *name);
#endif

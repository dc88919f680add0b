/* evict - which unheld block goes first: the one interface of every eviction policy.  Pure.
 *
 * A policy orders the entries that may be evicted, apart for each size class, since only a slot of the right
 * size makes room.  It never sees a key or a byte: the ledger says what happened to which entry.
 *
 * Memory: the caller's.  Loop: the ledger's.  Bounds: entry_max entries, class_max classes. */
#ifndef KVSTORE_EVICT_H
#define KVSTORE_EVICT_H
#include <stddef.h>
#include <stdint.h>

#define EVICT_NONE UINT32_MAX

struct evict_policy {
	const char *name;
	size_t (*bytes)(uint32_t entry_max, uint32_t class_max);
	void (*init)(void *state, uint32_t entry_max, uint32_t class_max);
	/* The entry may be evicted from now on, and was used just now. */
	void (*add)(void *state, uint32_t entry, uint32_t class_index);
	/* It may not any more (held again, or gone). */
	void (*remove)(void *state, uint32_t entry, uint32_t class_index);
	/* The entry of that class that should go first, or EVICT_NONE; it stays until remove(). */
	uint32_t (*victim)(const void *state, uint32_t class_index);
};

/* Least recently used first. */
extern const struct evict_policy evict_lru;
#endif

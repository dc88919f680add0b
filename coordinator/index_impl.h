/* index_impl - the table inside the index; for index*.c only. */
#ifndef COORDINATOR_INDEX_IMPL_H
#define COORDINATOR_INDEX_IMPL_H
#include <stdbool.h>
#include "coordinator/index.h"

enum {
	HOLDERS_INLINE = 7,
	HOLDERS_SMALL = 4,       /* a bit set of so few goes back into the slot */
	HOLDERS_WIDE = UINT16_MAX, /* count: the set is a bit set */
	NUMBER_NONE = UINT16_MAX,
};

struct index_slot {
	struct id128 key;
	uint16_t holders[HOLDERS_INLINE]; /* numbers; wide: the bit set's number in the first two */
	uint16_t count;                   /* 0: the slot is free */
};

struct index_node {
	uint16_t number; /* NUMBER_NONE: no session */
	bool synced;
	bool gap_said; /* since the last reset: the snapshot was asked for */
	uint64_t sequence; /* of the last event applied */
};

struct index_number {
	uint32_t node;
	uint32_t held;  /* keys whose set has it */
	bool used;      /* live or dead, not to be given */
	bool sweeping;  /* was dead when the running sweep began */
};

/* Of one node while a windowed chain is walked back. */
struct index_run {
	uint32_t limit;   /* its beginning can have so many blocks; 0: none, or found */
	uint32_t last;    /* the block met last */
	uint32_t length;  /* blocks held without a gap from there on */
};

struct block_index {
	struct index_options options;
	struct index_slot *slots; /* [mask + 1] */
	uint32_t mask;
	uint32_t number_max;      /* a multiple of 64 */
	uint32_t words;           /* of a bit set: number_max / 64 */
	uint32_t wide_max;
	uint32_t wide_free;       /* head of the free list, UINT32_MAX: none */
	uint32_t dead_count;
	uint32_t cursor;          /* of the sweep */
	uint64_t *live;           /* [words] */
	uint64_t *wide;           /* [wide_max][words] */
	uint32_t *wide_count;     /* [wide_max]: numbers in the set, or the next free one */
	struct index_number *numbers;
	struct index_run *runs;   /* [number_max] */
	struct index_node *nodes;
	struct index_counters counters;
};

static inline bool bit_get(const uint64_t *bits, uint32_t i)
{
	return bits[i / 64] >> (i % 64) & 1;
}

static inline uint32_t wide_of(const struct index_slot *slot)
{
	return slot->holders[0] | (uint32_t)slot->holders[1] << 16;
}

static inline const uint64_t *wide_bits(const struct block_index *index, const struct index_slot *slot)
{
	return index->wide + (size_t)wide_of(slot) * index->words;
}

/* The slot's set has the number. */
static inline bool index_set_has(const struct block_index *index, const struct index_slot *slot, uint32_t number)
{
	if (slot->count == HOLDERS_WIDE)
		return bit_get(wide_bits(index, slot), number);
	for (uint32_t i = 0; i < slot->count; i++)
		if (slot->holders[i] == number)
			return true;
	return false;
}

/* The slot of the key, or the free one where it would go. */
static inline uint32_t index_probe(const struct block_index *index, const struct id128 *key)
{
	uint32_t i = (uint32_t)id128_hash(key) & index->mask;
	while (index->slots[i].count && !id128_equal(&index->slots[i].key, key))
		i = (i + 1) & index->mask;
	return i;
}
#endif

#include <string.h>

#include "coordinator/index_impl.h"

enum { AHEAD = 12 }; /* slots fetched before they are needed: hides DRAM latency, bench/coordinator/index */

/* The nodes that hold every key so far: a bit set while they are many, a short list afterwards. */
struct walk {
	const struct block_index *index;
	struct index_match *out;
	uint32_t out_count;
	uint32_t few[HOLDERS_INLINE]; /* numbers */
	uint32_t few_count;
	bool many;
	bool any;
	uint64_t bits[1 + UINT16_MAX / 64];
};

static void leave(struct walk *walk, uint32_t number, uint32_t depth)
{
	if (depth)
		walk->out[walk->out_count++] = (struct index_match){walk->index->numbers[number].node, depth};
}

static void begin(struct walk *walk, const struct index_slot *slot)
{
	const struct block_index *index = walk->index;
	walk->many = slot->count == HOLDERS_WIDE;
	if (walk->many) {
		for (uint32_t w = 0; w < index->words; w++)
			walk->bits[w] = wide_bits(index, slot)[w] & index->live[w];
		return;
	}
	for (uint32_t i = 0; i < slot->count; i++)
		if (bit_get(index->live, slot->holders[i]))
			walk->few[walk->few_count++] = slot->holders[i];
}

static void leave_word(struct walk *walk, uint32_t word, uint64_t gone, uint32_t depth)
{
	for (; gone; gone &= gone - 1)
		leave(walk, word * 64 + (uint32_t)__builtin_ctzll(gone), depth);
}

/* Many meet a slot: those that are not in it leave with this depth. */
static void step_many(struct walk *walk, const struct index_slot *slot, uint32_t depth)
{
	const struct block_index *index = walk->index;
	uint64_t few_bits[1 + UINT16_MAX / 64];
	const uint64_t *bits = few_bits;
	if (slot->count == HOLDERS_WIDE) {
		bits = wide_bits(index, slot);
	} else {
		memset(few_bits, 0, index->words * sizeof(uint64_t));
		for (uint32_t i = 0; i < slot->count; i++)
			few_bits[slot->holders[i] / 64] |= 1ull << (slot->holders[i] % 64);
	}
	uint32_t left = 0;
	for (uint32_t w = 0; w < index->words; w++) {
		uint64_t gone = walk->bits[w] & ~bits[w];
		if (gone)
			leave_word(walk, w, gone, depth);
		walk->bits[w] &= bits[w];
		left += (uint32_t)__builtin_popcountll(walk->bits[w]);
	}
	if (left > HOLDERS_INLINE)
		return;
	walk->many = false;
	for (uint32_t w = 0; w < index->words; w++)
		for (uint64_t rest = walk->bits[w]; rest; rest &= rest - 1)
			walk->few[walk->few_count++] = w * 64 + (uint32_t)__builtin_ctzll(rest);
}

static void step_few(struct walk *walk, const struct index_slot *slot, uint32_t depth)
{
	uint32_t kept = 0;
	for (uint32_t i = 0; i < walk->few_count; i++) {
		if (index_set_has(walk->index, slot, walk->few[i]))
			walk->few[kept++] = walk->few[i];
		else
			leave(walk, walk->few[i], depth);
	}
	walk->few_count = kept;
}

static void step(struct walk *walk, const struct index_slot *slot, uint32_t depth)
{
	if (depth == 0)
		begin(walk, slot);
	else if (walk->many)
		step_many(walk, slot, depth);
	else
		step_few(walk, slot, depth);
	walk->any = walk->many || walk->few_count > 0;
}

/* Those still in the walk hold all that was looked at. */
static void finish(struct walk *walk, uint32_t depth)
{
	for (uint32_t i = 0; !walk->many && i < walk->few_count; i++)
		leave(walk, walk->few[i], depth);
	for (uint32_t w = 0; walk->many && w < walk->index->words; w++)
		leave_word(walk, w, walk->bits[w], depth);
}

uint32_t index_match(const struct block_index *index, const struct id128 *keys, uint32_t key_count,
		     struct index_match *out)
{
	struct walk walk;
	walk.index = index;
	walk.out = out;
	walk.out_count = walk.few_count = 0;
	walk.many = false;
	walk.any = true;
	uint32_t depth = 0;
	for (; depth < key_count && walk.any; depth++) {
		if (depth + AHEAD < key_count)
			__builtin_prefetch(&index->slots[(uint32_t)id128_hash(&keys[depth + AHEAD]) & index->mask]);
		step(&walk, &index->slots[index_probe(index, &keys[depth])], depth);
	}
	if (walk.any)
		finish(&walk, depth);
	return walk.out_count;
}

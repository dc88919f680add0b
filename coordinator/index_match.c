#include <string.h>

#include "coordinator/index_impl.h"
#include "kvstore/prefix.h"

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

/* ---- chains with a window */

/* The walk goes back: a node that holds block i has a run that begins there.  When the run is as long as a beginning up to
 * its end needs, that beginning is the longest, for longer ones were met before. */
static void meet(struct block_index *index, uint32_t number, uint32_t i, uint32_t keep, struct index_match *out,
		 uint32_t *out_count)
{
	struct index_run *run = &index->runs[number];
	if (i >= run->limit)
		return; /* also those that are found, or hold too little of the other group */
	run->length = run->last == i + 1 && run->length > 0 ? run->length + 1 : 1;
	run->last = i;
	if (run->length < keep && i > 0)
		return;
	out[(*out_count)++] = (struct index_match){index->numbers[number].node, i + run->length};
	run->limit = 0;
}

static void meet_all(struct block_index *index, const struct index_slot *slot, uint32_t i, uint32_t keep,
		     struct index_match *out, uint32_t *out_count)
{
	if (slot->count != HOLDERS_WIDE) {
		for (uint32_t k = 0; k < slot->count; k++)
			meet(index, slot->holders[k], i, keep, out, out_count);
		return;
	}
	for (uint32_t w = 0; w < index->words; w++)
		for (uint64_t rest = wide_bits(index, slot)[w] & index->live[w]; rest; rest &= rest - 1)
			meet(index, w * 64 + (uint32_t)__builtin_ctzll(rest), i, keep, out, out_count);
}

/* Limits: what the nodes in `out` hold of the other group, or all of the chain where there is no other. */
static uint32_t match_window(struct block_index *index, const struct index_chain *chain, uint32_t key_count,
			     const uint32_t *matched, struct index_match *out)
{
	uint32_t from = matched ? 0 : key_count, wanted = UINT32_MAX, count = 0;
	for (uint32_t n = 0; n < index->number_max; n++) {
		bool live = bit_get(index->live, n);
		index->runs[n] = (struct index_run){.limit = live && !matched ? key_count : 0};
	}
	if (matched) {
		wanted = *matched;
		for (uint32_t m = 0; m < *matched; m++) {
			index->runs[index->nodes[out[m].node].number].limit = out[m].depth;
			from = out[m].depth > from ? out[m].depth : from;
		}
	}
	for (uint32_t i = from; i > 0 && count < wanted; i--)
		meet_all(index, &index->slots[index_probe(index, &chain->keys[i - 1])], i - 1, chain->keep, out, &count);
	return count;
}

uint32_t index_match_groups(struct block_index *index, const struct index_chain *chains, uint32_t chain_count,
			    uint32_t key_count, struct index_match *out)
{
	uint32_t count = 0;
	bool matched = false;
	for (uint32_t g = 0; g < chain_count; g++) {
		if (chains[g].keep != KV_KEEP_ALL)
			continue;
		count = index_match(index, chains[g].keys, key_count, out);
		matched = true;
	}
	for (uint32_t g = 0; g < chain_count; g++)
		if (chains[g].keep != KV_KEEP_ALL && chains[g].keep > 0)
			count = match_window(index, &chains[g], key_count, matched ? &count : NULL, out);
	return count;
}

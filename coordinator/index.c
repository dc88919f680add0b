#include "coordinator/index.h"

#include <assert.h>
#include <string.h>

#include "coordinator/index_impl.h"

#define FREE_END UINT32_MAX

static uint32_t slot_count(uint32_t blocks_max)
{
	uint32_t slots = 64;
	while (slots / 4 * 3 < blocks_max)
		slots *= 2;
	return slots;
}

/* Two numbers a node: one live, one being swept; a third of slack for nodes that restart again and again. */
static uint32_t number_max(uint32_t nodes_max)
{
	return (3 * nodes_max + 63) / 64 * 64;
}

/* Few prefixes are on more than seven nodes: a sixteenth of the keys, and at least what a small index may hold. */
static uint32_t wide_max(uint32_t blocks_max)
{
	return blocks_max / 16 + 1024;
}

size_t index_bytes(const struct index_options *options)
{
	size_t words = number_max(options->nodes_max) / 64, wide = wide_max(options->blocks_max);
	return sizeof(struct block_index) + words * sizeof(uint64_t) + wide * words * sizeof(uint64_t) +
	       slot_count(options->blocks_max) * sizeof(struct index_slot) +
	       words * 64 * sizeof(struct index_number) + options->nodes_max * sizeof(struct index_node) +
	       wide * sizeof(uint32_t) + words * 64 * sizeof(struct index_run);
}

struct block_index *index_init(void *memory, const struct index_options *options)
{
	assert(options->nodes_max > 0 && number_max(options->nodes_max) < NUMBER_NONE);
	assert(options->blocks_max > 0 && options->blocks_max <= 1u << 30);
	struct block_index *index = memory;
	*index = (struct block_index){
		.options = *options,
		.mask = slot_count(options->blocks_max) - 1,
		.number_max = number_max(options->nodes_max),
		.words = number_max(options->nodes_max) / 64,
		.wide_max = wide_max(options->blocks_max),
	};
	index->live = (uint64_t *)(index + 1);
	index->wide = index->live + index->words;
	index->slots = (struct index_slot *)(index->wide + (size_t)index->wide_max * index->words);
	index->nodes = (struct index_node *)(index->slots + index->mask + 1);
	index->numbers = (struct index_number *)(index->nodes + options->nodes_max);
	index->runs = (struct index_run *)(index->numbers + index->number_max);
	index->wide_count = (uint32_t *)(index->runs + index->number_max);
	memset(index->live, 0, index->words * sizeof(uint64_t));
	memset(index->numbers, 0, index->number_max * sizeof(struct index_number));
	for (uint32_t i = 0; i <= index->mask; i++)
		index->slots[i].count = 0;
	for (uint32_t i = 0; i < options->nodes_max; i++)
		index->nodes[i] = (struct index_node){.number = NUMBER_NONE};
	for (uint32_t i = 0; i < index->wide_max; i++)
		index->wide_count[i] = i + 1 < index->wide_max ? i + 1 : FREE_END;
	return index;
}

/* ---- sets */

static uint64_t *wide_edit(struct block_index *index, const struct index_slot *slot)
{
	return index->wide + (size_t)wide_of(slot) * index->words;
}

static void wide_give(struct block_index *index, uint32_t wide)
{
	index->wide_count[wide] = index->wide_free;
	index->wide_free = wide;
}

/* A bit set of few numbers goes back into the slot. */
static void narrow(struct block_index *index, struct index_slot *slot)
{
	uint32_t wide = wide_of(slot);
	uint64_t *bits = wide_edit(index, slot);
	uint16_t count = 0;
	for (uint32_t w = 0; w < index->words; w++)
		for (uint64_t rest = bits[w]; rest; rest &= rest - 1)
			slot->holders[count++] = (uint16_t)(w * 64 + (uint32_t)__builtin_ctzll(rest));
	slot->count = count;
	wide_give(index, wide);
}

/* False when no bit set is free. */
static bool widen(struct block_index *index, struct index_slot *slot)
{
	uint32_t wide = index->wide_free;
	if (wide == FREE_END)
		return false;
	index->wide_free = index->wide_count[wide];
	index->wide_count[wide] = slot->count;
	uint64_t *bits = index->wide + (size_t)wide * index->words;
	memset(bits, 0, index->words * sizeof(uint64_t));
	for (uint32_t i = 0; i < slot->count; i++)
		bits[slot->holders[i] / 64] |= 1ull << (slot->holders[i] % 64);
	slot->holders[0] = (uint16_t)wide;
	slot->holders[1] = (uint16_t)(wide >> 16);
	slot->count = HOLDERS_WIDE;
	return true;
}

/* Takes the numbers that are not live out of a set; it may be empty afterwards. */
static void purge(struct block_index *index, struct index_slot *slot)
{
	if (slot->count != HOLDERS_WIDE) {
		uint16_t kept = 0;
		for (uint32_t i = 0; i < slot->count; i++) {
			if (bit_get(index->live, slot->holders[i]))
				slot->holders[kept++] = slot->holders[i];
			else
				index->numbers[slot->holders[i]].held--;
		}
		slot->count = kept;
		return;
	}
	uint64_t *bits = wide_edit(index, slot);
	uint32_t count = 0;
	for (uint32_t w = 0; w < index->words; w++) {
		for (uint64_t dead = bits[w] & ~index->live[w]; dead; dead &= dead - 1)
			index->numbers[w * 64 + (uint32_t)__builtin_ctzll(dead)].held--;
		bits[w] &= index->live[w];
		count += (uint32_t)__builtin_popcountll(bits[w]);
	}
	index->wide_count[wide_of(slot)] = count;
	if (count <= HOLDERS_SMALL)
		narrow(index, slot);
}

/* False when the set has no room. */
static bool set_add(struct block_index *index, struct index_slot *slot, uint16_t number)
{
	if (slot->count == HOLDERS_INLINE)
		purge(index, slot);
	if (slot->count == HOLDERS_INLINE && !widen(index, slot))
		return false;
	if (slot->count == HOLDERS_WIDE) {
		wide_edit(index, slot)[number / 64] |= 1ull << (number % 64);
		index->wide_count[wide_of(slot)]++;
	} else {
		slot->holders[slot->count++] = number;
	}
	return true;
}

static void set_remove(struct block_index *index, struct index_slot *slot, uint16_t number)
{
	if (slot->count == HOLDERS_WIDE) {
		wide_edit(index, slot)[number / 64] &= ~(1ull << (number % 64));
		if (--index->wide_count[wide_of(slot)] <= HOLDERS_SMALL)
			narrow(index, slot);
		return;
	}
	uint32_t i = 0;
	while (slot->holders[i] != number)
		i++;
	slot->holders[i] = slot->holders[--slot->count];
}

/* ---- table */

/* Moves later members of the cluster back over the hole at i, where their home allows it.  One that moves from ahead
 * of the sweep to behind it would escape, so the cursor follows. */
static void close_hole(struct block_index *index, uint32_t i)
{
	for (uint32_t j = (i + 1) & index->mask; index->slots[j].count; j = (j + 1) & index->mask) {
		uint32_t home = (uint32_t)id128_hash(&index->slots[j].key) & index->mask;
		if (((j - home) & index->mask) < ((j - i) & index->mask))
			continue;
		index->slots[i] = index->slots[j];
		if (i < index->cursor && j >= index->cursor)
			index->cursor = i;
		i = j;
	}
	index->slots[i].count = 0;
	index->counters.blocks--;
}

static void add_key(struct block_index *index, uint16_t number, const struct id128 *key)
{
	struct index_slot *slot = &index->slots[index_probe(index, key)];
	if (slot->count == 0) {
		if (index->counters.blocks == index->options.blocks_max) {
			index->counters.ignored++;
			return;
		}
		index->counters.blocks++;
		slot->key = *key;
		slot->holders[slot->count++] = number;
	} else if (index_set_has(index, slot, number)) {
		return;
	} else if (!set_add(index, slot, number)) {
		index->counters.ignored++;
		return;
	}
	index->numbers[number].held++;
	index->counters.added++;
}

static void remove_key(struct block_index *index, uint16_t number, const struct id128 *key)
{
	uint32_t i = index_probe(index, key);
	struct index_slot *slot = &index->slots[i];
	if (slot->count == 0 || !index_set_has(index, slot, number))
		return;
	set_remove(index, slot, number);
	index->numbers[number].held--;
	index->counters.removed++;
	if (slot->count == 0)
		close_hole(index, i);
}

/* ---- numbers */

/* Gives the numbers that the finished sweep has taken out, and marks those for the next. */
static void turn_sweep(struct block_index *index)
{
	index->cursor = 0;
	for (uint32_t n = 0; n < index->number_max; n++) {
		struct index_number *number = &index->numbers[n];
		bool dead = number->used && !bit_get(index->live, n);
		if (dead && number->sweeping) {
			assert(number->held == 0);
			*number = (struct index_number){0};
			index->dead_count--;
		} else {
			number->sweeping = dead;
		}
	}
}

void index_sweep(struct block_index *index, uint32_t slots)
{
	if (!index->dead_count)
		return;
	for (; slots && index->cursor <= index->mask; slots--) {
		struct index_slot *slot = &index->slots[index->cursor];
		if (slot->count)
			purge(index, slot);
		else {
			index->cursor++;
			continue;
		}
		/* Emptied: another may have moved here, so look again. */
		if (slot->count == 0)
			close_hole(index, index->cursor);
		else
			index->cursor++;
	}
	if (index->cursor > index->mask)
		turn_sweep(index);
}

static uint16_t number_take(struct block_index *index, uint32_t node)
{
	for (;;) {
		for (uint32_t n = 0; n < index->number_max; n++) {
			if (index->numbers[n].used)
				continue;
			index->numbers[n] = (struct index_number){.node = node, .used = true};
			index->live[n / 64] |= 1ull << (n % 64);
			return (uint16_t)n;
		}
		/* All are dead or live, and a node has one live number at most: sweep now. */
		index_sweep(index, UINT32_MAX);
	}
}

static void number_kill(struct block_index *index, uint16_t number)
{
	index->live[number / 64] &= ~(1ull << (number % 64));
	index->numbers[number].sweeping = index->cursor == 0; /* no slot of this sweep was looked at yet */
	index->dead_count++;
	index->counters.drops++;
}

/* ---- events */

void index_node_up(struct block_index *index, uint32_t node)
{
	index_node_down(index, node);
	index->nodes[node].number = number_take(index, node);
}

void index_node_down(struct block_index *index, uint32_t node)
{
	assert(node < index->options.nodes_max);
	if (index->nodes[node].number != NUMBER_NONE)
		number_kill(index, index->nodes[node].number);
	index->nodes[node] = (struct index_node){.number = NUMBER_NONE};
}

bool index_synced(const struct block_index *index, uint32_t node)
{
	return index->nodes[node].synced;
}

uint32_t index_held(const struct block_index *index, uint32_t node)
{
	uint16_t number = index->nodes[node].number;
	return number == NUMBER_NONE ? 0 : index->numbers[number].held;
}

static struct id128 key_at(const uint8_t *keys, uint32_t i)
{
	struct id128 key;
	memcpy(key.bytes, keys + (size_t)i * sizeof(key.bytes), sizeof(key.bytes));
	return key;
}

static enum err check_sequence(struct block_index *index, struct index_node *node,
			       const struct index_events *events)
{
	if (events->reset || (node->synced && events->sequence == node->sequence + 1))
		return ERR_OK;
	bool said = node->gap_said;
	node->synced = false;
	node->gap_said = true;
	if (said)
		return ERR_OK;
	index->counters.gaps++;
	return ERR_STALE;
}

enum err index_events(struct block_index *index, uint32_t node_index, const struct index_events *events)
{
	struct index_node *node = &index->nodes[node_index];
	assert(node->number != NUMBER_NONE);
	if (events->sequence <= node->sequence)
		return ERR_OK; /* said again, a snapshot too: what came since would be undone */
	enum err e = check_sequence(index, node, events);
	if (events->reset) {
		/* A number that holds nothing may go on: the first snapshot of a session. */
		if (index->numbers[node->number].held)
			index_node_up(index, node_index);
		node->synced = true;
		node->gap_said = false;
	} else if (!node->synced) {
		return e;
	}
	node->sequence = events->sequence;
	for (uint32_t i = 0; i < events->removed_count; i++) {
		struct id128 key = key_at(events->removed, i);
		remove_key(index, node->number, &key);
	}
	for (uint32_t i = 0; i < events->added_count; i++) {
		struct id128 key = key_at(events->added, i);
		add_key(index, node->number, &key);
	}
	return ERR_OK;
}

void index_counters(const struct block_index *index, struct index_counters *ret_counters)
{
	*ret_counters = index->counters;
}

/* ---- check */

static void check_slot(const struct block_index *index, uint32_t i)
{
	const struct index_slot *slot = &index->slots[i];
	assert(index_probe(index, &slot->key) == i);
	if (slot->count != HOLDERS_WIDE) {
		assert(slot->count <= HOLDERS_INLINE);
		for (uint32_t h = 0; h < slot->count; h++)
			assert(index->numbers[slot->holders[h]].used);
		return;
	}
	uint32_t count = 0;
	for (uint32_t w = 0; w < index->words; w++)
		count += (uint32_t)__builtin_popcountll(wide_bits(index, slot)[w]);
	assert(count == index->wide_count[wide_of(slot)] && count > HOLDERS_SMALL);
}

void index_check(const struct block_index *index)
{
	uint32_t blocks = 0, dead = 0;
	uint64_t held = 0, members = 0;
	for (uint32_t i = 0; i <= index->mask; i++) {
		const struct index_slot *slot = &index->slots[i];
		if (!slot->count)
			continue;
		blocks++;
		members += slot->count == HOLDERS_WIDE ? index->wide_count[wide_of(slot)] : slot->count;
		check_slot(index, i);
	}
	for (uint32_t n = 0; n < index->number_max; n++) {
		held += index->numbers[n].held;
		dead += index->numbers[n].used && !bit_get(index->live, n);
	}
	assert(blocks == index->counters.blocks && blocks <= index->options.blocks_max);
	assert(held == members && dead == index->dead_count);
}

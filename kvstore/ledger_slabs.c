/* ledger_slabs - which slab changes its size class, and when (rule 10).
 *
 * A size that has to evict cannot know by itself whether it should have more room: what says so is what comes back. The
 * hash of what went stays for as long as a store's room of that size turns over once; when the block is here again, its
 * size has missed the room: the bytes of that block, divided by the square of the slabs that it would have taken to keep
 * it. These are its claim: what one more slab would have kept, and a little of what lies further, for a size whose blocks
 * come back in turns that are longer than its room (test_sizes: with the square at least 0.97 of the best fixed shares,
 * without it 0.95). A size whose claim exceeds another's by the bytes of a slab has lost as much as it costs to empty one,
 * and takes it; then both begin anew. Claims are halved each time the store has turned over twice. So what changing costs
 * is never more than what not changing had cost, and sizes that miss as much as each other leave each other alone. What is
 * read once claims nothing, however much of it there is (docs/decisions/sizes-share-slabs-by-what-they-miss.md).
 *
 * A size that nobody used while the whole store turned over once gives its slabs for nothing, and so does one that has a
 * slab's slots free. */
#include "base/planted.h"
#include "kvstore/ledger_impl.h"

enum { CLAIM_TURNS = 2 }; /* test_sizes: with 1 it overshoots, to 0.92 of the best shares; 4 and 8 are like 2 and slower */

#define PRICE_LAST UINT64_MAX /* the last slab of a size in use: only to a size that has nothing else to evict */

size_t sizes_bytes(const struct ledger_options *options)
{
	return ghosts_bytes(options->entry_max, SLABS_CLASSES_MAX);
}

void sizes_init(struct ledger *l)
{
	ghosts_init(l->gone, l->options.entry_max, SLABS_CLASSES_MAX);
}

/* ---- what a slab holds */

static bool fixed(const struct slab_use *use)
{
	return use->staying > 0 || use->pinned > 0;
}

void sizes_settle(struct ledger *l, uint32_t index)
{
	struct entry *entry = &l->entries[index];
	if (entry->slot == SLOT_NONE)
		return;
	bool kept = entry->pin == LEDGER_PINNED_HARD && !planted(PIN_IGNORED_BY_SLAB);
	bool lent = entry->lent > 0 && !planted(LOAN_IGNORED_BY_SLAB);
	bool stays = entry->state != LEDGER_CACHED || lent || kept, pinned = entry->pin == LEDGER_PINNED_SOFT;
	if (stays == entry->slab_staying && pinned == entry->slab_pinned)
		return;
	struct slab_use *use = &l->slab_uses[entry->slab];
	bool was_fixed = fixed(use);
	use->staying += (uint32_t)stays - (uint32_t)entry->slab_staying;
	use->pinned += (uint32_t)pinned - (uint32_t)entry->slab_pinned;
	entry->slab_staying = stays;
	entry->slab_pinned = pinned;
	l->size_uses[entry->class_index].fixed += (uint32_t)fixed(use) - (uint32_t)was_fixed;
}

void sizes_taken(struct ledger *l, uint32_t index)
{
	struct entry *entry = &l->entries[index];
	entry->slab = slabs_slot_slab(l->slabs, entry->slot);
	entry->slab_staying = entry->slab_pinned = false;
	entry->used = 0;
	sizes_settle(l, index);
}

void sizes_given(struct ledger *l, uint32_t index)
{
	struct entry *entry = &l->entries[index];
	struct slab_use *use = &l->slab_uses[entry->slab];
	bool was_fixed = fixed(use);
	use->used -= entry->used;
	use->staying -= entry->slab_staying;
	use->pinned -= entry->slab_pinned;
	l->size_uses[entry->class_index].fixed += (uint32_t)fixed(use) - (uint32_t)was_fixed;
}

void sizes_used(struct ledger *l, uint32_t index)
{
	struct entry *entry = &l->entries[index];
	l->slab_uses[entry->slab].used += ++l->uses - entry->used;
	entry->used = l->uses;
	l->size_uses[entry->class_index].used = l->bytes_gone;
}

/* ---- what a size misses */

static uint64_t store_bytes(const struct ledger *l)
{
	return l->options.slabs.slab_count * l->options.slabs.slab_bytes;
}

/* The store has turned over: what was missed before counts half. */
static void age_claims(struct ledger *l)
{
	l->claims_age_at = l->bytes_gone + store_bytes(l) * CLAIM_TURNS;
	for (uint32_t i = 0; i < SLABS_CLASSES_MAX; i++)
		l->size_uses[i].claim /= 2;
}

void sizes_evicted(struct ledger *l, uint32_t index)
{
	const struct entry *entry = &l->entries[index];
	uint64_t slots = (uint64_t)l->options.slabs.slab_count * slabs_class_slab_slots(l->slabs, entry->class_index);
	l->bytes_gone += slabs_slot_bytes(l->slabs, entry->class_index);
	if (l->bytes_gone >= l->claims_age_at)
		age_claims(l);
	if (slabs_sizes(l->slabs) > 1)
		ghosts_put(l->gone, entry->class_index, id128_hash(&entry->block.key),
			   slots < l->options.entry_max ? (uint32_t)slots : l->options.entry_max);
}

void sizes_added(struct ledger *l, uint32_t index)
{
	uint32_t class_index = l->entries[index].class_index, list;
	uint64_t age;
	if (slabs_sizes(l->slabs) == 1 || !ghosts_take(l->gone, id128_hash(&l->entries[index].block.key), &list, &age) ||
	    list != class_index)
		return;
	uint64_t slabs = 1 + age / slabs_class_slab_slots(l->slabs, class_index);
	l->size_uses[class_index].claim += slabs_slot_bytes(l->slabs, class_index) / (slabs * slabs);
}

/* ---- who gives */

static bool idle(const struct ledger *l, uint32_t class_index)
{
	return l->bytes_gone - l->size_uses[class_index].used >= store_bytes(l);
}

/* What another size has to have missed for a slab of this one. */
static uint64_t price_of(const struct ledger *l, uint32_t class_index)
{
	if (idle(l, class_index) || slabs_class_free(l->slabs, class_index) >= slabs_class_slab_slots(l->slabs, class_index))
		return 0;
	if (slabs_class_slabs(l->slabs, class_index) == 1)
		return PRICE_LAST;
	return l->options.slabs.slab_bytes + l->size_uses[class_index].claim;
}

/* Does some size give a slab for the claim, which need not have any block that must stay? */
static bool find_prices(const struct ledger *l, uint32_t class_index, uint64_t ret_prices[SLABS_CLASSES_MAX])
{
	bool any = false;
	for (uint32_t i = 0; i < SLABS_CLASSES_MAX; i++) {
		uint32_t slabs = slabs_class_slabs(l->slabs, i);
		if (slabs == 0 || i == class_index)
			continue;
		ret_prices[i] = price_of(l, i);
		any |= ret_prices[i] <= l->size_uses[class_index].claim && l->size_uses[i].fixed < slabs;
	}
	return any;
}

struct candidate {
	uint32_t slab;
	uint64_t price;
	uint64_t used; /* when its slots were used, on average; what is free was never used */
};

static bool before(const struct candidate *a, const struct candidate *b)
{
	return a->price != b->price ? a->price < b->price : a->used < b->used;
}

/* Empties a slab. */
static void give(struct ledger *l, uint32_t slab)
{
	uint32_t slots_max = slabs_slots_max(&l->options.slabs);
	const uint32_t *entries = &l->slot_entries[(size_t)slab * slots_max];
	uint32_t slots = slabs_class_slab_slots(l->slabs, slabs_slab_class(l->slabs, slab));
	for (uint32_t i = 0; i < slots; i++)
		if (slabs_taken(l->slabs, slab * slots_max + i))
			room_evict(l, entries[i], LEDGER_FOR_SLAB);
}

bool sizes_take_slab(struct ledger *l, uint32_t class_index, enum sizes_need need)
{
	uint64_t prices[SLABS_CLASSES_MAX];
	struct candidate best = {.slab = LEDGER_NONE};
	if (slabs_sizes(l->slabs) == (slabs_class_slabs(l->slabs, class_index) > 0))
		return false; /* no other size has any */
	if (!find_prices(l, class_index, prices) && need == NEED_CLAIMED)
		return false;
	for (uint32_t slab = 0; slab < l->options.slabs.slab_count; slab++) {
		uint32_t class_of = slabs_slab_class(l->slabs, slab);
		const struct slab_use *use = &l->slab_uses[slab];
		if (class_of == class_index || class_of == UINT32_MAX || use->staying > 0 || (use->pinned > 0 && need != NEED_ANY))
			continue;
		struct candidate candidate = {slab, prices[class_of], use->used / slabs_class_slab_slots(l->slabs, class_of)};
		bool paid = candidate.price <= l->size_uses[class_index].claim || need != NEED_CLAIMED;
		if (paid && (best.slab == LEDGER_NONE || before(&candidate, &best)))
			best = candidate;
	}
	if (best.slab == LEDGER_NONE)
		return false;
	l->size_uses[class_index].claim = l->size_uses[slabs_slab_class(l->slabs, best.slab)].claim = 0;
	give(l, best.slab);
	return true;
}

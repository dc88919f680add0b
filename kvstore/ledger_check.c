/* ledger_check - every rule of the ledger, asserted over all of it; for tests and simulation. */
#include <string.h>

#include "base/planted.h"
#include "kvstore/ledger_impl.h"

static void check_entry(const struct ledger *l, uint32_t index)
{
	const struct entry *entry = &l->entries[index];
	bool has_slot = entry->state >= LEDGER_READING;
	assert(has_slot == (entry->slot != SLOT_NONE));
	assert(!has_slot || (slabs_taken(l->slabs, entry->slot) && l->slot_entries[entry->slot] == index));
	assert(!has_slot || slabs_slot_class(l->slabs, entry->slot) == entry->class_index);
	assert(!has_slot || slabs_slot_slab(l->slabs, entry->slot) == entry->slab);
	assert((entry->holds > 0) == (entry->state == LEDGER_HELD) || entry->state == LEDGER_SEALED);
	bool has_key = entry->state != LEDGER_FREE && entry->state != LEDGER_EVICTED;
	assert(!has_key || map_get(&l->keys, &entry->block.key) == index);
	bool served = entry->state >= LEDGER_SEALED && entry->state <= LEDGER_HELD;
	bool in_order = served && entry->state != LEDGER_SEALED;
	bool kept = entry->holds > 0 || entry->pin == LEDGER_PINNED_HARD;
	assert(served || (entry->lent == 0 && !entry->spare && !entry->passing));
	assert(in_order || entry->pin == LEDGER_UNPINNED || !has_key);
	assert(entry->state != LEDGER_SEALED || !entry->shielded);
	assert(!in_order || entry->shielded || !kept);
	assert(!served || !entry->shielded || kept || entry->lent > 0);
	assert(!entry->passing || entry->pin == LEDGER_UNPINNED);
	bool listed = l->first[index].next != index;
	assert(listed == ((entry->spare || entry->passing) && entry->state == LEDGER_CACHED && entry->lent == 0 &&
			  entry->pin == LEDGER_UNPINNED));
}

/* What every tenant must have been charged with, and what is pinned, added up anew. */
static void check_accounts(const struct ledger *l)
{
	uint64_t bytes[TENANTS_MAX] = {0}, pinned = 0;
	uint32_t blocks[TENANTS_MAX] = {0}, pins[3] = {0};
	for (uint32_t i = 0; i < l->fresh; i++) {
		const struct entry *entry = &l->entries[i];
		if (entry->state < LEDGER_READING)
			continue;
		bytes[entry->account] += ledger_block_bytes(&entry->block);
		blocks[entry->account]++;
		if (entry->state == LEDGER_EVICTED)
			continue;
		pins[entry->pin]++;
		if (entry->pin == LEDGER_PINNED_HARD)
			pinned += ledger_block_bytes(&entry->block);
	}
	for (uint32_t i = 0; i < TENANTS_MAX; i++) {
		const struct tenant *tenant = &l->tenants.list[i];
		if (i >= l->tenants.count) {
			assert(blocks[i] == 0);
			continue;
		}
		assert(tenant->bytes == bytes[i] && tenant->blocks == blocks[i]);
		assert(tenant->bytes <= tenant->quota_bytes);
	}
	assert(pins[LEDGER_PINNED_SOFT] == l->pins[LEDGER_PINNED_SOFT]);
	assert(pins[LEDGER_PINNED_HARD] == l->pins[LEDGER_PINNED_HARD]);
	assert(pinned == l->bytes_pinned && pinned <= l->options.pin_bytes_max);
}

/* What is counted of each slab and each size, counted anew. */
static void check_sizes(const struct ledger *l)
{
	uint32_t slots_max = slabs_slots_max(&l->options.slabs), fixed[SLABS_CLASSES_MAX] = {0};
	for (uint32_t slab = 0; slab < l->options.slabs.slab_count; slab++) {
		struct slab_use use = {0};
		for (uint32_t i = 0; i < slots_max; i++) {
			if (!slabs_taken(l->slabs, slab * slots_max + i))
				continue;
			const struct entry *entry = &l->entries[l->slot_entries[slab * slots_max + i]];
			use.staying += entry->state != LEDGER_CACHED || entry->lent > 0 || entry->pin == LEDGER_PINNED_HARD;
			use.pinned += entry->pin == LEDGER_PINNED_SOFT;
			use.used += entry->used;
		}
		assert(memcmp(&use, &l->slab_uses[slab], sizeof(use)) == 0);
		if (use.staying > 0 || use.pinned > 0)
			fixed[slabs_slab_class(l->slabs, slab)]++;
	}
	for (uint32_t i = 0; i < SLABS_CLASSES_MAX; i++)
		assert(fixed[i] == l->size_uses[i].fixed && l->size_uses[i].used <= l->bytes_gone);
}

void ledger_check(const struct ledger *l)
{
	uint32_t counts[LEDGER_STATES] = {0}, spare = 0, lent = 0;
	for (uint32_t i = 0; i < l->fresh; i++) {
		check_entry(l, i);
		counts[l->entries[i].state]++;
		spare += l->entries[i].spare;
		lent += l->entries[i].lent;
	}
	counts[LEDGER_FREE] += l->options.entry_max - l->fresh;
	assert(spare == l->spare_count && lent == l->lent_count);
	assert(memcmp(counts, l->counts, sizeof(counts)) == 0);
	assert(l->keys.count == l->options.entry_max - counts[LEDGER_FREE] - counts[LEDGER_EVICTED]);
	uint32_t taken = 0;
	for (uint32_t i = 0; i < slabs_slot_total(&l->options.slabs); i++)
		taken += slabs_taken(l->slabs, i);
	assert(taken == slabs_slots(l->slabs) - slabs_free(l->slabs));
	slabs_check(l->slabs);
	check_accounts(l);
	if (!planted(PIN_IGNORED_BY_SLAB) && !planted(LOAN_IGNORED_BY_SLAB)) /* which miscount: only what comes of it is to tell */
		check_sizes(l);
}

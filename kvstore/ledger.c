#include "kvstore/ledger.h"

#include <string.h>

#include "base/planted.h"
#include "kvstore/ledger_impl.h"

/* The drawing of the header as a table: [from] has the bits of where to. */
#define TO(state) (1u << LEDGER_##state)
static const uint32_t ledger_moves[LEDGER_STATES] = {
	[LEDGER_FREE] = TO(OFFERED),
	[LEDGER_OFFERED] = TO(READING) | TO(FREE),
	[LEDGER_READING] = TO(SEALED) | TO(EVICTED),
	[LEDGER_SEALED] = TO(CACHED),
	[LEDGER_CACHED] = TO(HELD) | TO(EVICTED),
	[LEDGER_HELD] = TO(CACHED),
	[LEDGER_EVICTED] = TO(FREE),
};

bool ledger_may_move(enum ledger_state from, enum ledger_state to)
{
	return ledger_moves[from] >> to & 1;
}

void ledger_move(struct ledger *l, uint32_t entry, enum ledger_state to)
{
	enum ledger_state from = l->entries[entry].state;
	assert(ledger_may_move(from, to));
	l->counts[from]--;
	l->counts[to]++;
	l->entries[entry].state = to;
}

const char *ledger_state_name(enum ledger_state state)
{
	static const char *const names[LEDGER_STATES] = {"free",   "offered", "reading", "sealed",
							 "cached", "held",    "evicted"};
	return state < LEDGER_STATES ? names[state] : "unknown";
}

static size_t aligned(size_t bytes)
{
	return (bytes + 15) & ~(size_t)15;
}

size_t ledger_bytes(const struct ledger_options *options)
{
	size_t own_bytes, evict_bytes = room_bytes(options, &own_bytes);
	return aligned(sizeof(struct ledger)) + aligned(slabs_bytes(&options->slabs)) + aligned(evict_bytes) +
	       aligned(own_bytes) + aligned(map_bytes(options->entry_max)) + aligned(options->entry_max * sizeof(struct entry)) +
	       aligned((size_t)options->entry_max * options->layers_max * sizeof(uint64_t)) +
	       aligned(slabs_slot_total(&options->slabs) * sizeof(uint32_t)) +
	       aligned(((size_t)options->entry_max + SLABS_CLASSES_MAX) * sizeof(struct evict_link)) +
	       aligned(options->slabs.slab_count * sizeof(struct slab_use)) + aligned(sizes_bytes(options));
}

static void *cut(uint8_t **memory, size_t bytes)
{
	void *start = *memory;
	*memory += aligned(bytes);
	return start;
}

struct ledger *ledger_init(void *memory, const struct ledger_options *options)
{
	assert(options->entry_max > 0 && options->layers_max > 0);
	uint8_t *at = memory;
	struct ledger *l = cut(&at, sizeof(*l));
	*l = (struct ledger){.options = *options};
	l->slabs = slabs_init(cut(&at, slabs_bytes(&options->slabs)), &options->slabs);
	size_t own_bytes, evict_bytes = room_bytes(options, &own_bytes);
	l->evict = cut(&at, evict_bytes);
	l->own = cut(&at, own_bytes);
	room_init(l);
	map_init(&l->keys, cut(&at, map_bytes(options->entry_max)), options->entry_max);
	l->entries = cut(&at, options->entry_max * sizeof(struct entry));
	l->digests = cut(&at, (size_t)options->entry_max * options->layers_max * sizeof(uint64_t));
	l->slot_entries = cut(&at, slabs_slot_total(&options->slabs) * sizeof(uint32_t));
	for (uint32_t i = 0; i < slabs_slot_total(&options->slabs); i++)
		l->slot_entries[i] = LEDGER_NONE;
	l->first = cut(&at, ((size_t)options->entry_max + SLABS_CLASSES_MAX) * sizeof(struct evict_link));
	ring_init(l->first, options->entry_max + SLABS_CLASSES_MAX);
	l->slab_uses = cut(&at, options->slabs.slab_count * sizeof(struct slab_use));
	memset(l->slab_uses, 0, options->slabs.slab_count * sizeof(struct slab_use));
	l->gone = cut(&at, sizes_bytes(options));
	sizes_init(l);
	for (uint32_t i = 0; i < options->entry_max; i++)
		l->entries[i] = (struct entry){.slot = SLOT_NONE,
					       .next_free = i + 1 < options->entry_max ? i + 1 : LEDGER_NONE};
	l->counts[LEDGER_FREE] = options->entry_max;
	tenants_init(&l->tenants, options->quotas, options->quota_count);
	l->options.quotas = NULL; /* the caller's only until here */
	return l;
}

void ledger_forget_key(struct ledger *l, uint32_t entry)
{
	uint32_t was = map_remove(&l->keys, &l->entries[entry].block.key);
	assert(was == entry);
	(void)was;
}

void ledger_free_entry(struct ledger *l, uint32_t index)
{
	struct entry *entry = &l->entries[index];
	if (entry->slot != SLOT_NONE)
		room_give_slot(l, index);
	ledger_move(l, index, LEDGER_FREE);
	entry->next_free = l->free_first;
	l->free_first = index;
}

enum err ledger_offer(struct ledger *l, const struct ledger_block *block, uint32_t *ret_entry)
{
	if (ledger_lookup(l, &block->key) != LEDGER_NONE)
		return ERR_EXISTS;
	uint64_t bytes = ledger_block_bytes(block);
	uint32_t account = tenants_account(&l->tenants, block->tenant ? block->tenant : "");
	bool over_quota = bytes > l->tenants.list[account].quota_bytes;
	l->tenants.list[account].use.refused += over_quota && !block->from_disk;
	if (block->layer_count == 0 || block->layer_count > l->options.layers_max || bytes == 0 ||
	    bytes > l->options.slabs.slab_bytes || bytes > UINT32_MAX || over_quota)
		return ERR_TOO_LARGE;
	enum err e = room_make_entry(l);
	if (e != ERR_OK)
		return e;
	uint32_t index = l->free_first;
	e = map_put(&l->keys, &block->key, index);
	assert(e == ERR_OK); /* the map has room for every entry */
	(void)e;
	struct entry *entry = &l->entries[index];
	l->free_first = entry->next_free;
	uint64_t *digests = l->digests + (size_t)index * l->options.layers_max;
	memcpy(digests, block->digests, block->layer_count * sizeof(uint64_t));
	entry->slot = SLOT_NONE;
	entry->holds = entry->lent = 0;
	entry->shielded = entry->spare = entry->passing = entry->was_held = false;
	entry->block = *block;
	entry->block.digests = digests;
	entry->block.tenant = l->tenants.list[account].name;
	entry->account = account;
	entry->pin = LEDGER_UNPINNED;
	ledger_move(l, index, LEDGER_OFFERED);
	*ret_entry = index;
	return ERR_OK;
}

enum err ledger_read(struct ledger *l, uint32_t index)
{
	struct entry *entry = &l->entries[index];
	assert(entry->state == LEDGER_OFFERED);
	uint32_t slot;
	enum err e = room_take_slot(l, index, &slot);
	if (e != ERR_OK)
		return e;
	assert(l->slot_entries[slot] == LEDGER_NONE);
	l->slot_entries[slot] = index;
	entry->slot = slot;
	entry->class_index = slabs_slot_class(l->slabs, slot);
	ledger_move(l, index, LEDGER_READING);
	sizes_taken(l, index);
	return ERR_OK;
}

void ledger_seal_writing(struct ledger *l, uint32_t index)
{
	ledger_move(l, index, LEDGER_SEALED);
	l->sealed++;
}

void ledger_written(struct ledger *l, uint32_t index)
{
	ledger_move(l, index, LEDGER_CACHED);
	room_add(l, index);
	sizes_used(l, index);
	if (l->entries[index].holds > 0) {
		room_shield(l, index);
		ledger_move(l, index, LEDGER_HELD);
	}
	room_settle(l, index);
}

void ledger_seal(struct ledger *l, uint32_t index)
{
	ledger_seal_writing(l, index);
	ledger_written(l, index);
}

void ledger_seal_passing(struct ledger *l, uint32_t index)
{
	l->entries[index].passing = true;
	ledger_seal(l, index);
}

void ledger_complete(struct ledger *l, uint32_t index, const struct ledger_block *block)
{
	struct ledger_block *mine = &l->entries[index].block, offered = *mine;
	uint64_t *digests = l->digests + (size_t)index * l->options.layers_max;
	assert(l->entries[index].state == LEDGER_READING && id128_equal(&mine->key, &block->key));
	assert(mine->layer_count == block->layer_count && mine->layer_bytes == block->layer_bytes);
	memcpy(digests, block->digests, block->layer_count * sizeof(uint64_t));
	*mine = *block;
	mine->digests = digests;
	mine->tenant = offered.tenant; /* the disk does not know */
	mine->priority = offered.priority;
}

void ledger_withdraw(struct ledger *l, uint32_t entry)
{
	ledger_forget_key(l, entry);
	if (l->entries[entry].state == LEDGER_OFFERED)
		ledger_free_entry(l, entry);
	else
		ledger_move(l, entry, LEDGER_EVICTED);
}

void ledger_landing_free(struct ledger *l, uint32_t entry)
{
	assert(l->entries[entry].state == LEDGER_EVICTED);
	ledger_free_entry(l, entry);
}

uint32_t ledger_lookup(const struct ledger *l, const struct id128 *key)
{
	return map_get(&l->keys, key);
}

bool ledger_serves(const struct ledger *l, uint32_t index, const struct id128 *key, const struct id128 *compat)
{
	if (index == LEDGER_NONE)
		return false;
	const struct entry *entry = &l->entries[index];
	bool served = entry->state == LEDGER_SEALED || entry->state == LEDGER_CACHED || entry->state == LEDGER_HELD;
	return served && id128_equal(&entry->block.key, key) && id128_equal(&entry->block.compat, compat);
}

uint32_t ledger_find(const struct ledger *l, const struct id128 *key, const struct id128 *compat)
{
	uint32_t index = map_get(&l->keys, key);
	return ledger_serves(l, index, key, compat) ? index : LEDGER_NONE;
}

void ledger_expect_key(const struct ledger *l, const struct id128 *key)
{
	map_expect(&l->keys, key);
}

enum { LINE_BYTES = 64, DIGEST_LINES_MAX = 4 };

uint32_t ledger_find_ahead(const struct ledger *l, const struct id128 *key)
{
	uint32_t index = map_get(&l->keys, key);
	if (index == LEDGER_NONE)
		return LEDGER_NONE;
	const uint8_t *entry = (const uint8_t *)&l->entries[index];
	__builtin_prefetch(entry);
	__builtin_prefetch(entry + LINE_BYTES);
	return index;
}

void ledger_expect_block(const struct ledger *l, uint32_t index)
{
	if (index == LEDGER_NONE)
		return;
	const uint8_t *digests = (const uint8_t *)(l->digests + (size_t)index * l->options.layers_max);
	size_t bytes = l->entries[index].block.layer_count * sizeof(uint64_t);
	for (size_t at = 0; at < bytes && at < DIGEST_LINES_MAX * LINE_BYTES; at += LINE_BYTES)
		__builtin_prefetch(digests + at);
	if (l->entries[index].slot != SLOT_NONE)
		slabs_expect_place(l->slabs, l->entries[index].slot);
}

void ledger_hold(struct ledger *l, uint32_t index)
{
	struct entry *entry = &l->entries[index];
	if (entry->passing && entry->was_held)
		room_promote(l, index);
	entry->was_held = true;
	sizes_used(l, index);
	if (entry->holds++ > 0 || entry->state == LEDGER_SEALED)
		return;
	room_shield(l, index);
	ledger_move(l, index, LEDGER_HELD);
	room_settle(l, index);
}

void ledger_release(struct ledger *l, uint32_t index)
{
	struct entry *entry = &l->entries[index];
	assert((entry->state == LEDGER_HELD || entry->state == LEDGER_SEALED) && entry->holds > 0);
	if (--entry->holds > 0 || entry->state == LEDGER_SEALED)
		return;
	ledger_move(l, index, LEDGER_CACHED);
	room_unshield(l, index);
	room_settle(l, index);
}

void ledger_lend(struct ledger *l, uint32_t index)
{
	enum ledger_state state = l->entries[index].state;
	assert(state == LEDGER_SEALED || state == LEDGER_CACHED || state == LEDGER_HELD);
	l->entries[index].lent++;
	l->lent_count++;
	room_settle(l, index);
}

void ledger_return(struct ledger *l, uint32_t index)
{
	struct entry *entry = &l->entries[index];
	assert(entry->lent > 0);
	entry->lent--;
	l->lent_count--;
	room_unshield(l, index);
	room_settle(l, index);
}

void ledger_spare(struct ledger *l, uint32_t index, bool spare)
{
	struct entry *entry = &l->entries[index];
	l->spare_count += (uint32_t)spare - (uint32_t)entry->spare;
	entry->spare = spare;
	room_settle(l, index);
}

bool ledger_is_spare(const struct ledger *l, uint32_t entry)
{
	return l->entries[entry].spare;
}

uint32_t ledger_next(const struct ledger *l, uint32_t from)
{
	for (uint32_t i = from; i < l->options.entry_max; i++)
		if (l->entries[i].state >= LEDGER_SEALED && l->entries[i].state <= LEDGER_HELD)
			return i;
	return LEDGER_NONE;
}

uint32_t ledger_homes(const struct ledger *l)
{
	return l->keys.mask + 1;
}

uint32_t ledger_at_home(const struct ledger *l, uint32_t home, uint32_t *step)
{
	uint32_t entry = map_at_home(&l->keys, home, step);
	return entry == MAP_NONE ? LEDGER_NONE : entry;
}

struct tenants *ledger_tenants(struct ledger *l)
{
	return &l->tenants;
}

uint32_t ledger_account(const struct ledger *l, uint32_t entry)
{
	return l->entries[entry].account;
}

enum ledger_pin ledger_pinned(const struct ledger *l, uint32_t entry)
{
	return l->entries[entry].pin;
}

enum ledger_state ledger_state(const struct ledger *l, uint32_t entry)
{
	return l->entries[entry].state;
}

const struct ledger_block *ledger_block(const struct ledger *l, uint32_t entry)
{
	return &l->entries[entry].block;
}

uint32_t ledger_holds(const struct ledger *l, uint32_t entry)
{
	return l->entries[entry].holds;
}

uint32_t ledger_slot(const struct ledger *l, uint32_t entry)
{
	assert(l->entries[entry].slot != SLOT_NONE);
	return l->entries[entry].slot;
}

void ledger_place(const struct ledger *l, uint32_t entry, struct slot_place *ret_place)
{
	slabs_place(l->slabs, ledger_slot(l, entry), ret_place);
}

const struct evict_policy *ledger_policy(const struct ledger *l)
{
	return l->policy;
}

void ledger_counts(const struct ledger *l, struct ledger_counts *ret_counts)
{
	*ret_counts = (struct ledger_counts){
		.slots = slabs_slots(l->slabs),
		.slots_free = slabs_free(l->slabs),
		.spare = l->spare_count,
		.lent = l->lent_count,
		.sealed = l->sealed,
		.bytes_pinned = l->bytes_pinned,
		.bytes_pinned_max = l->options.pin_bytes_max,
		.pinned_soft = l->pins[LEDGER_PINNED_SOFT],
		.pinned_hard = l->pins[LEDGER_PINNED_HARD],
	};
	memcpy(ret_counts->entries, l->counts, sizeof(l->counts));
	memcpy(ret_counts->evicted, l->evicted, sizeof(l->evicted));
	for (uint32_t i = 0; i < l->tenants.count; i++) {
		ret_counts->bytes += l->tenants.list[i].bytes;
		ret_counts->refused += l->tenants.list[i].use.refused;
	}
}

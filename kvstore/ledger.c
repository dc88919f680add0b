#include "kvstore/ledger.h"

#include <assert.h>
#include <string.h>

#include "base/map.h"
#include "base/planted.h"
#include "kvstore/evict_impl.h"

struct entry {
	enum ledger_state state;
	bool shielded; /* the policy was told that it is held: of the held all, of the lent those that were to be evicted */
	bool spare;
	uint32_t slot; /* SLOT_NONE in offered */
	uint32_t class_index; /* of the slot */
	uint32_t holds;
	uint32_t lent;
	bool passing; /* rule 7: the policy does not know it */
	bool was_held;
	uint32_t next_free;
	struct ledger_block block;
};

struct ledger {
	struct ledger_options options;
	const struct evict_policy *policy;
	struct slabs *slabs;
	void *evict;
	struct map keys;        /* of every entry but the evicted */
	struct entry *entries;  /* [entry_max] */
	uint64_t *digests;      /* [entry_max][layers_max] */
	uint32_t *slot_entries; /* [slot_total]: whose slot it is, or LEDGER_NONE */
	struct evict_link *first; /* [entry_max], then a sentinel for each class: the spare and the passing that may go now */
	uint32_t free_first;
	uint32_t counts[LEDGER_STATES];
	uint32_t spare_count, lent_count;
	uint64_t sealed;
	uint64_t evicted;
};

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

static void ledger_move(struct ledger *l, uint32_t entry, enum ledger_state to)
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

static const struct evict_policy *policy_of(const struct ledger_options *options)
{
	return options->policy ? options->policy : evict_policies[0];
}

static size_t aligned(size_t bytes)
{
	return (bytes + 15) & ~(size_t)15;
}

size_t ledger_bytes(const struct ledger_options *options)
{
	return aligned(sizeof(struct ledger)) + aligned(slabs_bytes(&options->slabs)) +
	       aligned(policy_of(options)->bytes(options->entry_max, SLABS_CLASSES_MAX)) +
	       aligned(map_bytes(options->entry_max)) + aligned(options->entry_max * sizeof(struct entry)) +
	       aligned((size_t)options->entry_max * options->layers_max * sizeof(uint64_t)) +
	       aligned(slabs_slot_total(&options->slabs) * sizeof(uint32_t)) +
	       aligned(((size_t)options->entry_max + SLABS_CLASSES_MAX) * sizeof(struct evict_link));
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
	*l = (struct ledger){.options = *options, .policy = policy_of(options)};
	l->slabs = slabs_init(cut(&at, slabs_bytes(&options->slabs)), &options->slabs);
	l->evict = cut(&at, l->policy->bytes(options->entry_max, SLABS_CLASSES_MAX));
	l->policy->init(l->evict, options->entry_max, SLABS_CLASSES_MAX);
	map_init(&l->keys, cut(&at, map_bytes(options->entry_max)), options->entry_max);
	l->entries = cut(&at, options->entry_max * sizeof(struct entry));
	l->digests = cut(&at, (size_t)options->entry_max * options->layers_max * sizeof(uint64_t));
	l->slot_entries = cut(&at, slabs_slot_total(&options->slabs) * sizeof(uint32_t));
	for (uint32_t i = 0; i < slabs_slot_total(&options->slabs); i++)
		l->slot_entries[i] = LEDGER_NONE;
	l->first = cut(&at, ((size_t)options->entry_max + SLABS_CLASSES_MAX) * sizeof(struct evict_link));
	ring_init(l->first, options->entry_max + SLABS_CLASSES_MAX);
	for (uint32_t i = 0; i < options->entry_max; i++)
		l->entries[i] = (struct entry){.slot = SLOT_NONE,
					       .next_free = i + 1 < options->entry_max ? i + 1 : LEDGER_NONE};
	l->counts[LEDGER_FREE] = options->entry_max;
	return l;
}

static void forget_key(struct ledger *l, uint32_t entry)
{
	uint32_t was = map_remove(&l->keys, &l->entries[entry].block.key);
	assert(was == entry);
	(void)was;
}

static void free_entry(struct ledger *l, uint32_t index)
{
	struct entry *entry = &l->entries[index];
	if (entry->slot != SLOT_NONE) {
		l->slot_entries[entry->slot] = LEDGER_NONE;
		slabs_give(l->slabs, entry->slot);
		entry->slot = SLOT_NONE;
	}
	ledger_move(l, index, LEDGER_FREE);
	entry->next_free = l->free_first;
	l->free_first = index;
}

static uint32_t class_of(const struct ledger *l, uint32_t entry)
{
	return l->entries[entry].class_index;
}

/* Among those that go first and may go now, or not. */
static void settle_first(struct ledger *l, uint32_t index)
{
	const struct entry *entry = &l->entries[index];
	bool may_go = (entry->spare || entry->passing) && entry->state == LEDGER_CACHED && entry->lent == 0;
	bool listed = l->first[index].next != index;
	if (may_go && !listed)
		ring_push(l->first, l->options.entry_max + class_of(l, index), index);
	else if (!may_go && listed)
		ring_remove(l->first, index);
}

static void shield(struct ledger *l, uint32_t index)
{
	if (!l->entries[index].shielded && !l->entries[index].passing)
		l->policy->hold(l->evict, index, class_of(l, index));
	l->entries[index].shielded = true;
}

static void unshield(struct ledger *l, uint32_t index)
{
	if (l->entries[index].shielded && !l->entries[index].passing)
		l->policy->release(l->evict, index, class_of(l, index));
	l->entries[index].shielded = false;
}

/* The block of the class that goes first, or EVICT_NONE.  One that is lent is no victim until it is back. */
static uint32_t victim_of(struct ledger *l, uint32_t class_index)
{
	uint32_t first = ring_first(l->first, l->options.entry_max + class_index);
	if (first != EVICT_NONE)
		return first;
	uint32_t victim = l->policy->victim(l->evict, class_index);
	while (victim != EVICT_NONE && l->entries[victim].lent > 0 && !planted(LENT_BLOCK_EVICTED)) {
		shield(l, victim);
		victim = l->policy->victim(l->evict, class_index);
	}
	return victim;
}

static void evict(struct ledger *l, uint32_t entry)
{
	l->spare_count -= l->entries[entry].spare;
	l->entries[entry].spare = false;
	if (l->first[entry].next != entry)
		ring_remove(l->first, entry);
	if (!l->entries[entry].passing)
		l->policy->evict(l->evict, entry, class_of(l, entry));
	l->entries[entry].passing = false;
	ledger_move(l, entry, LEDGER_EVICTED);
	if (!planted(EVICTED_KEY_KEPT))
		forget_key(l, entry);
	free_entry(l, entry);
	l->evicted++;
}

/* Where entries are scarcer than slots. */
static enum err make_entry(struct ledger *l)
{
	for (uint32_t i = 0; l->free_first == LEDGER_NONE && i < SLABS_CLASSES_MAX; i++) {
		uint32_t victim = victim_of(l, i);
		if (victim != EVICT_NONE)
			evict(l, victim);
	}
	return l->free_first == LEDGER_NONE ? ERR_AGAIN : ERR_OK;
}

enum err ledger_offer(struct ledger *l, const struct ledger_block *block, uint32_t *ret_entry)
{
	if (ledger_lookup(l, &block->key) != LEDGER_NONE)
		return ERR_EXISTS;
	uint64_t bytes = (uint64_t)block->layer_count * block->layer_bytes;
	if (block->layer_count == 0 || block->layer_count > l->options.layers_max || bytes == 0 ||
	    bytes > l->options.slabs.slab_bytes || bytes > UINT32_MAX)
		return ERR_TOO_LARGE;
	enum err e = make_entry(l);
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
	ledger_move(l, index, LEDGER_OFFERED);
	*ret_entry = index;
	return ERR_OK;
}

/* How many blocks of the slab can go, or LEDGER_NONE when one of its slots cannot. */
static uint32_t slab_evictable(const struct ledger *l, uint32_t slab, uint32_t slots_max)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < slots_max; i++) {
		uint32_t entry = l->slot_entries[slab * slots_max + i];
		if (entry == LEDGER_NONE)
			continue;
		if (l->entries[entry].state != LEDGER_CACHED || l->entries[entry].lent > 0)
			return LEDGER_NONE;
		count++;
	}
	return count;
}

/* Empties a slab of another class, the one with the fewest blocks to lose, so that it can change its class. */
static bool evict_slab(struct ledger *l, uint32_t class_index)
{
	uint32_t slots_max = slabs_slots_max(&l->options.slabs);
	uint32_t best = LEDGER_NONE, best_count = LEDGER_NONE;
	for (uint32_t slab = 0; slab < l->options.slabs.slab_count; slab++) {
		if (slabs_slab_class(l->slabs, slab) == class_index)
			continue;
		uint32_t count = slab_evictable(l, slab, slots_max);
		if (count < best_count) {
			best = slab;
			best_count = count;
		}
	}
	if (best == LEDGER_NONE)
		return false;
	for (uint32_t i = 0; i < slots_max; i++)
		if (l->slot_entries[best * slots_max + i] != LEDGER_NONE)
			evict(l, l->slot_entries[best * slots_max + i]);
	return true;
}

static enum err take_slot(struct ledger *l, uint32_t block_bytes, uint32_t *ret_slot)
{
	uint32_t class_index;
	enum err e = slabs_class(l->slabs, block_bytes, &class_index);
	if (e != ERR_OK)
		return ERR_AGAIN; /* too many sizes at a time; the size itself was checked when it was offered */
	e = slabs_take(l->slabs, class_index, ret_slot);
	if (e == ERR_OK)
		return ERR_OK;
	uint32_t victim = victim_of(l, class_index);
	if (victim != EVICT_NONE)
		evict(l, victim);
	else if (!evict_slab(l, class_index))
		return ERR_AGAIN;
	e = slabs_take(l->slabs, class_index, ret_slot);
	return e == ERR_OK ? ERR_OK : ERR_AGAIN;
}

enum err ledger_read(struct ledger *l, uint32_t index)
{
	struct entry *entry = &l->entries[index];
	assert(entry->state == LEDGER_OFFERED);
	uint32_t slot;
	enum err e = take_slot(l, entry->block.layer_count * entry->block.layer_bytes, &slot);
	if (e != ERR_OK)
		return e;
	assert(l->slot_entries[slot] == LEDGER_NONE);
	l->slot_entries[slot] = index;
	entry->slot = slot;
	entry->class_index = slabs_slot_class(l->slabs, slot);
	ledger_move(l, index, LEDGER_READING);
	return ERR_OK;
}

void ledger_seal_writing(struct ledger *l, uint32_t index)
{
	ledger_move(l, index, LEDGER_SEALED);
	l->sealed++;
}

void ledger_written(struct ledger *l, uint32_t index)
{
	const struct entry *entry = &l->entries[index];
	ledger_move(l, index, LEDGER_CACHED);
	l->policy->add(l->evict, index, class_of(l, index), id128_hash(&entry->block.key));
	if (entry->holds > 0) {
		shield(l, index);
		ledger_move(l, index, LEDGER_HELD);
	}
	settle_first(l, index);
}

void ledger_seal(struct ledger *l, uint32_t index)
{
	ledger_seal_writing(l, index);
	ledger_written(l, index);
}

void ledger_seal_passing(struct ledger *l, uint32_t index)
{
	ledger_seal_writing(l, index);
	ledger_move(l, index, LEDGER_CACHED);
	l->entries[index].passing = true;
	settle_first(l, index);
}

void ledger_complete(struct ledger *l, uint32_t index, const struct ledger_block *block)
{
	struct ledger_block *mine = &l->entries[index].block;
	uint64_t *digests = l->digests + (size_t)index * l->options.layers_max;
	assert(l->entries[index].state == LEDGER_READING && id128_equal(&mine->key, &block->key));
	assert(mine->layer_count == block->layer_count && mine->layer_bytes == block->layer_bytes);
	memcpy(digests, block->digests, block->layer_count * sizeof(uint64_t));
	*mine = *block;
	mine->digests = digests;
}

void ledger_withdraw(struct ledger *l, uint32_t entry)
{
	forget_key(l, entry);
	if (l->entries[entry].state == LEDGER_OFFERED)
		free_entry(l, entry);
	else
		ledger_move(l, entry, LEDGER_EVICTED);
}

void ledger_landing_free(struct ledger *l, uint32_t entry)
{
	assert(l->entries[entry].state == LEDGER_EVICTED);
	free_entry(l, entry);
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

uint32_t ledger_find_ahead(const struct ledger *l, const struct id128 *key)
{
	enum { LINE_BYTES = 64, DIGEST_LINES_MAX = 4 };
	uint32_t index = map_get(&l->keys, key);
	if (index == LEDGER_NONE)
		return LEDGER_NONE;
	const uint8_t *entry = (const uint8_t *)&l->entries[index];
	const uint8_t *digests = (const uint8_t *)(l->digests + (size_t)index * l->options.layers_max);
	__builtin_prefetch(entry);
	__builtin_prefetch(entry + LINE_BYTES);
	for (size_t i = 0; i < DIGEST_LINES_MAX; i++)
		__builtin_prefetch(digests + i * LINE_BYTES);
	return index;
}

/* Its second hit: from now on it is one like all others. */
static void promote(struct ledger *l, uint32_t index)
{
	struct entry *entry = &l->entries[index];
	entry->passing = false;
	settle_first(l, index);
	l->policy->add(l->evict, index, class_of(l, index), id128_hash(&entry->block.key));
	if (entry->shielded)
		l->policy->hold(l->evict, index, class_of(l, index));
}

void ledger_hold(struct ledger *l, uint32_t index)
{
	struct entry *entry = &l->entries[index];
	if (entry->passing && entry->was_held)
		promote(l, index);
	entry->was_held = true;
	if (entry->holds++ > 0 || entry->state == LEDGER_SEALED)
		return;
	shield(l, index);
	ledger_move(l, index, LEDGER_HELD);
	settle_first(l, index);
}

void ledger_release(struct ledger *l, uint32_t index)
{
	struct entry *entry = &l->entries[index];
	assert((entry->state == LEDGER_HELD || entry->state == LEDGER_SEALED) && entry->holds > 0);
	if (--entry->holds > 0 || entry->state == LEDGER_SEALED)
		return;
	ledger_move(l, index, LEDGER_CACHED);
	if (entry->lent == 0)
		unshield(l, index);
	settle_first(l, index);
}

void ledger_lend(struct ledger *l, uint32_t index)
{
	enum ledger_state state = l->entries[index].state;
	assert(state == LEDGER_SEALED || state == LEDGER_CACHED || state == LEDGER_HELD);
	l->entries[index].lent++;
	l->lent_count++;
	settle_first(l, index);
}

void ledger_return(struct ledger *l, uint32_t index)
{
	struct entry *entry = &l->entries[index];
	assert(entry->lent > 0);
	entry->lent--;
	l->lent_count--;
	if (entry->lent == 0 && entry->holds == 0)
		unshield(l, index);
	settle_first(l, index);
}

void ledger_spare(struct ledger *l, uint32_t index, bool spare)
{
	struct entry *entry = &l->entries[index];
	l->spare_count += (uint32_t)spare - (uint32_t)entry->spare;
	entry->spare = spare;
	settle_first(l, index);
}

bool ledger_is_spare(const struct ledger *l, uint32_t entry)
{
	return l->entries[entry].spare;
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
		.evicted = l->evicted,
	};
	memcpy(ret_counts->entries, l->counts, sizeof(l->counts));
}

static void check_entry(const struct ledger *l, uint32_t index)
{
	const struct entry *entry = &l->entries[index];
	bool has_slot = entry->state >= LEDGER_READING;
	assert(has_slot == (entry->slot != SLOT_NONE));
	assert(!has_slot || l->slot_entries[entry->slot] == index);
	assert(!has_slot || slabs_slot_class(l->slabs, entry->slot) == entry->class_index);
	assert((entry->holds > 0) == (entry->state == LEDGER_HELD) || entry->state == LEDGER_SEALED);
	bool served = entry->state == LEDGER_SEALED || entry->state == LEDGER_CACHED || entry->state == LEDGER_HELD;
	assert(served || (entry->lent == 0 && !entry->spare && !entry->passing));
	assert(entry->state != LEDGER_SEALED || !entry->shielded);
	assert(entry->state != LEDGER_HELD || entry->shielded);
	assert(!served || !entry->shielded || entry->holds + entry->lent > 0);
	bool listed = l->first[index].next != index;
	assert(listed == ((entry->spare || entry->passing) && entry->state == LEDGER_CACHED && entry->lent == 0));
	bool has_key = entry->state != LEDGER_FREE && entry->state != LEDGER_EVICTED;
	assert(!has_key || map_get(&l->keys, &entry->block.key) == index);
}

void ledger_check(const struct ledger *l)
{
	uint32_t counts[LEDGER_STATES] = {0}, spare = 0, lent = 0;
	for (uint32_t i = 0; i < l->options.entry_max; i++) {
		check_entry(l, i);
		counts[l->entries[i].state]++;
		spare += l->entries[i].spare;
		lent += l->entries[i].lent;
	}
	assert(spare == l->spare_count && lent == l->lent_count);
	assert(memcmp(counts, l->counts, sizeof(counts)) == 0);
	assert(l->keys.count == l->options.entry_max - counts[LEDGER_FREE] - counts[LEDGER_EVICTED]);
	uint32_t taken = 0;
	for (uint32_t i = 0; i < slabs_slot_total(&l->options.slabs); i++)
		taken += l->slot_entries[i] != LEDGER_NONE;
	assert(taken == slabs_slots(l->slabs) - slabs_free(l->slabs));
	slabs_check(l->slabs);
}

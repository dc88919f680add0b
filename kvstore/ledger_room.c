/* ledger_room - who goes for whom: the order of eviction, slots and entries for new blocks, quotas and pins. */
#include "base/planted.h"
#include "kvstore/ledger_impl.h"

enum { SIZE_LEVELS = SLABS_CLASSES_MAX * LEDGER_LEVELS, OWN_LEVELS = TENANTS_MAX * LEDGER_LEVELS };

const char *ledger_reason_text(enum ledger_reason reason)
{
	static const char *const texts[] = {
#define X(name, text) text,
		LEDGER_REASONS_MAP(X)
#undef X
	};
	return (unsigned)reason < LEDGER_REASONS ? texts[reason] : "unknown";
}

static const struct evict_policy *policy_of(const struct ledger_options *options)
{
	return options->policy ? options->policy : evict_policies[0];
}

size_t room_bytes(const struct ledger_options *options, size_t *ret_own_bytes)
{
	*ret_own_bytes = evict_lru.bytes(options->entry_max, OWN_LEVELS);
	return policy_of(options)->bytes(options->entry_max, SIZE_LEVELS);
}

void room_init(struct ledger *l)
{
	l->policy = policy_of(&l->options);
	l->policy->init(l->evict, l->options.entry_max, SIZE_LEVELS);
	evict_lru.init(l->own, l->options.entry_max, OWN_LEVELS);
}

/* ---- the two orders: among all blocks of a size, and among those of a tenant.  The second is kept only where a quota may ask
 * for it: it is a cache miss or two for each use of a block. */

static uint32_t level_of(const struct entry *entry)
{
	if (entry->pin == LEDGER_PINNED_SOFT)
		return LEVEL_PINNED;
	return entry->block.priority == LEDGER_LOW ? LEVEL_LOW : LEVEL_NORMAL;
}

static uint32_t size_class(const struct ledger *l, uint32_t index)
{
	const struct entry *entry = &l->entries[index];
	return entry->class_index * LEDGER_LEVELS + level_of(entry);
}

/* What is passing goes before all others of the tenant, among the low ones. */
static uint32_t own_class(const struct ledger *l, uint32_t index)
{
	const struct entry *entry = &l->entries[index];
	return entry->account * LEDGER_LEVELS + (entry->passing ? LEVEL_LOW : level_of(entry));
}

static bool has_own_order(const struct ledger *l, uint32_t index)
{
	return l->tenants.list[l->entries[index].account].quota_bytes != TENANT_NO_QUOTA;
}

void room_add(struct ledger *l, uint32_t index)
{
	uint64_t hash = id128_hash(&l->entries[index].block.key);
	if (!l->entries[index].passing) {
		l->policy->add(l->evict, index, size_class(l, index), hash);
		sizes_added(l, index);
	}
	if (has_own_order(l, index))
		evict_lru.add(l->own, index, own_class(l, index), hash);
}

static void hold(struct ledger *l, uint32_t index)
{
	if (!l->entries[index].passing)
		l->policy->hold(l->evict, index, size_class(l, index));
	if (has_own_order(l, index))
		evict_lru.hold(l->own, index, own_class(l, index));
}

static void release(struct ledger *l, uint32_t index)
{
	if (!l->entries[index].passing)
		l->policy->release(l->evict, index, size_class(l, index));
	if (has_own_order(l, index))
		evict_lru.release(l->own, index, own_class(l, index));
}

static void take_out(struct ledger *l, uint32_t index)
{
	if (!l->entries[index].passing)
		l->policy->evict(l->evict, index, size_class(l, index));
	if (has_own_order(l, index))
		evict_lru.evict(l->own, index, own_class(l, index));
}

void room_shield(struct ledger *l, uint32_t index)
{
	if (!l->entries[index].shielded)
		hold(l, index);
	l->entries[index].shielded = true;
}

void room_unshield(struct ledger *l, uint32_t index)
{
	struct entry *entry = &l->entries[index];
	bool pinned = entry->pin == LEDGER_PINNED_HARD && !planted(PIN_LOST_AT_RELEASE);
	if (!entry->shielded || entry->holds > 0 || entry->lent > 0 || pinned)
		return;
	release(l, index);
	entry->shielded = false;
}

void room_settle(struct ledger *l, uint32_t index)
{
	const struct entry *entry = &l->entries[index];
	bool goes_first = (entry->spare || entry->passing) && entry->state == LEDGER_CACHED && entry->lent == 0 && entry->pin == LEDGER_UNPINNED;
	bool listed = l->first[index].next != index;
	if (goes_first && !listed)
		ring_push(l->first, l->options.entry_max + entry->class_index, index);
	else if (!goes_first && listed)
		ring_remove(l->first, index);
	sizes_settle(l, index);
}

void room_promote(struct ledger *l, uint32_t index)
{
	struct entry *entry = &l->entries[index];
	if (entry->shielded)
		release(l, index);
	take_out(l, index);
	entry->passing = false;
	room_add(l, index);
	if (entry->shielded)
		hold(l, index);
	room_settle(l, index);
}

/* Of a class of one of the orders what goes first.  A block that is lent is no victim until it is back. */
static uint32_t first_of(struct ledger *l, const struct evict_policy *policy, void *order, uint32_t class_index)
{
	uint32_t first = policy->victim(order, class_index);
	while (first != EVICT_NONE && l->entries[first].lent > 0 && !planted(LENT_BLOCK_EVICTED)) {
		room_shield(l, first);
		first = policy->victim(order, class_index);
	}
	return first;
}

/* ---- going */

static void count_pin(struct ledger *l, const struct entry *entry, int by)
{
	l->pins[entry->pin] += (uint32_t)by;
	if (entry->pin == LEDGER_PINNED_HARD)
		l->bytes_pinned += (uint64_t)by * ledger_block_bytes(&entry->block);
}

void room_evict(struct ledger *l, uint32_t index, enum ledger_reason reason)
{
	struct entry *entry = &l->entries[index];
	assert(entry->pin != LEDGER_PINNED_HARD); /* rule 9 */
	ledger_spare(l, index, false);
	if (l->first[index].next != index)
		ring_remove(l->first, index);
	take_out(l, index);
	if (reason == LEDGER_FOR_ROOM || reason == LEDGER_FOR_SLAB)
		sizes_evicted(l, index);
	entry->passing = false;
	ledger_move(l, index, LEDGER_EVICTED);
	if (!planted(EVICTED_KEY_KEPT))
		ledger_forget_key(l, index);
	count_pin(l, entry, -1);
	entry->pin = LEDGER_UNPINNED;
	l->evicted[reason]++;
	l->tenants.list[entry->account].use.evicted++;
	ledger_free_entry(l, index);
}

/* Of a size class what goes first, up to a level: what is spare or passing before all others. */
static uint32_t victim(struct ledger *l, uint32_t class_index, uint32_t last_level)
{
	uint32_t first = ring_first(l->first, l->options.entry_max + class_index);
	for (uint32_t level = 0; first == EVICT_NONE && level <= last_level; level++)
		first = first_of(l, l->policy, l->evict, class_index * LEDGER_LEVELS + level);
	return first;
}

/* Where entries are scarcer than slots. */
enum err room_make_entry(struct ledger *l)
{
	for (uint32_t level = 0; level < LEDGER_LEVELS; level++)
		for (uint32_t i = 0; l->free_first == LEDGER_NONE && i < SLABS_CLASSES_MAX; i++) {
			uint32_t first = victim(l, i, level);
			if (first != EVICT_NONE)
				room_evict(l, first, LEDGER_FOR_ROOM);
		}
	return l->free_first == LEDGER_NONE ? ERR_AGAIN : ERR_OK;
}

/* A slab that the size has a claim to, or one of its own blocks, or whatever slab there is.  What is pinned softly only when
 * nothing else makes room. */
static bool make_slot(struct ledger *l, uint32_t class_index)
{
	if (sizes_take_slab(l, class_index, NEED_CLAIMED))
		return true;
	for (uint32_t last_level = LEVEL_NORMAL; last_level < LEDGER_LEVELS; last_level++) {
		uint32_t first = victim(l, class_index, last_level);
		if (first != EVICT_NONE)
			room_evict(l, first, LEDGER_FOR_ROOM);
		if (first != EVICT_NONE || sizes_take_slab(l, class_index, last_level == LEVEL_PINNED ? NEED_ANY : NEED_ROOM))
			return true;
	}
	return false;
}

/* Rule 8: among the tenant's own. */
static enum err make_quota(struct ledger *l, uint32_t account, uint64_t bytes)
{
	while (!tenants_room(&l->tenants, account, bytes)) {
		uint32_t first = EVICT_NONE;
		for (uint32_t level = 0; first == EVICT_NONE && level < LEDGER_LEVELS; level++)
			first = first_of(l, &evict_lru, l->own, account * LEDGER_LEVELS + level);
		if (first == EVICT_NONE)
			return ERR_AGAIN;
		room_evict(l, first, LEDGER_FOR_QUOTA);
	}
	return ERR_OK;
}

enum err room_take_slot(struct ledger *l, uint32_t index, uint32_t *ret_slot)
{
	const struct entry *entry = &l->entries[index];
	uint64_t bytes = ledger_block_bytes(&entry->block);
	uint32_t class_index;
	enum err e = make_quota(l, entry->account, bytes);
	if (e != ERR_OK && !entry->block.from_disk)
		l->tenants.list[entry->account].use.refused++;
	if (e == ERR_OK && slabs_class(l->slabs, (uint32_t)bytes, &class_index) != ERR_OK)
		e = ERR_AGAIN; /* too many sizes at a time; the size itself was checked when it was offered */
	if (e != ERR_OK)
		return e;
	e = slabs_take(l->slabs, class_index, ret_slot);
	if (e != ERR_OK && make_slot(l, class_index))
		e = slabs_take(l->slabs, class_index, ret_slot);
	if (e != ERR_OK)
		return ERR_AGAIN;
	tenants_charge(&l->tenants, entry->account, bytes);
	return ERR_OK;
}

void room_give_slot(struct ledger *l, uint32_t index)
{
	struct entry *entry = &l->entries[index];
	l->slot_entries[entry->slot] = LEDGER_NONE;
	sizes_given(l, index);
	slabs_give(l->slabs, entry->slot);
	entry->slot = SLOT_NONE;
	if (!planted(QUOTA_NOT_GIVEN_BACK))
		tenants_give_back(&l->tenants, entry->account, ledger_block_bytes(&entry->block));
}

/* ---- an operator's word, and what a later offer says */

/* A sealed block leaves its place in both orders and comes back as what it is now. */
static void reorder(struct ledger *l, uint32_t index, enum ledger_pin pin, enum ledger_priority priority)
{
	struct entry *entry = &l->entries[index];
	if (entry->shielded)
		release(l, index);
	take_out(l, index);
	count_pin(l, entry, -1);
	entry->pin = pin;
	entry->block.priority = priority;
	count_pin(l, entry, 1);
	room_add(l, index);
	entry->shielded = false;
	if (entry->holds > 0 || pin == LEDGER_PINNED_HARD)
		room_shield(l, index);
	room_settle(l, index);
}

/* And in no way on its way. */
static bool is_sealed(const struct entry *entry)
{
	return entry->state == LEDGER_CACHED || entry->state == LEDGER_HELD;
}

void ledger_raise(struct ledger *l, uint32_t index, enum ledger_priority priority)
{
	struct entry *entry = &l->entries[index];
	if (priority != LEDGER_NORMAL || entry->block.priority != LEDGER_LOW)
		return;
	if (is_sealed(entry) && !entry->passing)
		reorder(l, index, entry->pin, priority);
	else
		entry->block.priority = priority; /* it is in no order by it yet */
}

enum err ledger_pin(struct ledger *l, uint32_t index, enum ledger_pin pin)
{
	const struct entry *entry = &l->entries[index];
	uint64_t bytes = ledger_block_bytes(&entry->block);
	bool more = pin == LEDGER_PINNED_HARD && entry->pin != LEDGER_PINNED_HARD;
	if (!is_sealed(entry))
		return ERR_BUSY;
	if (more && l->bytes_pinned + bytes > l->options.pin_bytes_max && !planted(PINS_NOT_BOUNDED))
		return ERR_AGAIN;
	if (pin != LEDGER_UNPINNED && entry->passing)
		room_promote(l, index);
	if (pin != entry->pin)
		reorder(l, index, pin, entry->block.priority);
	return ERR_OK;
}

enum err ledger_evict(struct ledger *l, uint32_t index)
{
	const struct entry *entry = &l->entries[index];
	if (entry->pin == LEDGER_PINNED_HARD)
		return ERR_DENIED;
	if (entry->state != LEDGER_CACHED || entry->lent > 0)
		return ERR_BUSY;
	room_evict(l, index, LEDGER_FOR_COMMAND);
	return ERR_OK;
}

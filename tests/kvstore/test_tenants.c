/* Whose blocks go for whose: quotas, priorities and pins of the ledger, and its accounts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "kvstore/ledger.h"

enum { SLABS = 4, SLAB_BYTES = 1024, SLOTS_PER_SLAB = 16, SLOTS = SLABS * SLOTS_PER_SLAB, ENTRIES = 100, KEYS = 120,
       BLOCK = 64, PINNED_MAX = 10 * BLOCK };

static const struct tenant_quota quotas[] = {{"small", 8 * BLOCK}, {"none", 0}, {"*", 30 * BLOCK}, {"big", 1 << 20}};

struct fixture {
	void *memory;
	struct ledger *ledger;
	uint64_t generations[SLABS][SLOTS_PER_SLAB];
	uint32_t regions;
};

static enum err open_slab(void *context, uint32_t slab, uint32_t slot_bytes, uint32_t slot_count,
			  struct slab_region *ret_region)
{
	struct fixture *f = context;
	(void)slot_bytes, (void)slot_count;
	*ret_region = (struct slab_region){.region = f->regions++, .generations = f->generations[slab]};
	return ERR_OK;
}

static void close_slab(void *context, uint32_t slab)
{
	(void)context, (void)slab;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct ledger_options options = {
		.slabs = {.slab_count = SLABS, .slab_bytes = SLAB_BYTES, .slot_bytes_min = BLOCK, .context = f,
			  .open = open_slab, .close = close_slab},
		.entry_max = ENTRIES,
		.layers_max = 1,
		.policy = &evict_lru,
		.quotas = quotas,
		.quota_count = sizeof(quotas) / sizeof(quotas[0]),
		.pin_bytes_max = PINNED_MAX,
	};
	f->memory = calloc(1, ledger_bytes(&options));
	f->ledger = ledger_init(f->memory, &options);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	ledger_check(f->ledger);
	free(f->memory);
	free(f);
	return 0;
}

static const struct id128 compat = {{1}};

static struct ledger_block block_of(uint32_t key, uint32_t bytes, const char *tenant, enum ledger_priority priority)
{
	static const uint64_t digests[1] = {5};
	struct ledger_block block = {.compat = compat, .layer_count = 1, .layer_bytes = bytes, .digests = digests,
				     .tenant = tenant, .priority = priority};
	uint64_t words[2] = {rng_mix(key), key};
	memcpy(block.key.bytes, words, sizeof(words));
	return block;
}

static enum err try(struct fixture *f, uint32_t key, uint32_t bytes, const char *tenant, enum ledger_priority priority)
{
	struct ledger_block block = block_of(key, bytes, tenant, priority);
	uint32_t entry;
	enum err e = ledger_offer(f->ledger, &block, &entry);
	if (e != ERR_OK)
		return e;
	e = ledger_read(f->ledger, entry);
	if (e == ERR_OK)
		ledger_seal(f->ledger, entry);
	else
		ledger_withdraw(f->ledger, entry);
	return e;
}

static uint32_t find(struct fixture *f, uint32_t key)
{
	struct ledger_block block = block_of(key, 1, "", LEDGER_NORMAL);
	return ledger_find(f->ledger, &block.key, &compat);
}

static bool has(struct fixture *f, uint32_t key)
{
	return find(f, key) != LEDGER_NONE;
}

static void put(struct fixture *f, uint32_t key, const char *tenant, enum ledger_priority priority)
{
	assert_int_equal(try(f, key, BLOCK, tenant, priority), ERR_OK);
	assert_true(has(f, key));
}

static void pin(struct fixture *f, uint32_t key, enum ledger_pin how)
{
	assert_int_equal(ledger_pin(f->ledger, find(f, key), how), ERR_OK);
}

static const struct tenant *account(struct fixture *f, const char *name)
{
	struct tenants *tenants = ledger_tenants(f->ledger);
	return &tenants->list[tenants_account(tenants, name)];
}

static uint64_t evicted(struct fixture *f, enum ledger_reason reason)
{
	struct ledger_counts counts;
	ledger_counts(f->ledger, &counts);
	return counts.evicted[reason];
}

/* Fills all slots with the big tenant's blocks, keys from `first` on. */
static void fill(struct fixture *f, uint32_t first, uint32_t count, enum ledger_priority priority)
{
	for (uint32_t i = 0; i < count; i++)
		put(f, first + i, "big", priority);
}

static void low_priority_goes_first_however_new_it_is(void **state)
{
	struct fixture *f = *state;
	fill(f, 0, SLOTS - 2, LEDGER_NORMAL);
	put(f, 1000, "big", LEDGER_LOW);
	put(f, 1001, "big", LEDGER_LOW);
	put(f, 2000, "big", LEDGER_NORMAL);
	assert_false(has(f, 1000));
	put(f, 2001, "big", LEDGER_LOW); /* for a low one likewise: the older low one */
	assert_false(has(f, 1001));
	put(f, 2002, "big", LEDGER_NORMAL);
	assert_false(has(f, 2001));
	assert_true(has(f, 0));
	put(f, 2003, "big", LEDGER_NORMAL);
	assert_false(has(f, 0));
	assert_int_equal(evicted(f, LEDGER_FOR_ROOM), 4);
}

static void block_offered_again_by_whom_it_matters_more_to_is_raised(void **state)
{
	struct fixture *f = *state;
	put(f, 1000, "big", LEDGER_LOW);
	put(f, 1001, "big", LEDGER_LOW);
	fill(f, 0, SLOTS - 2, LEDGER_NORMAL);
	ledger_raise(f->ledger, find(f, 1000), LEDGER_NORMAL);
	ledger_raise(f->ledger, find(f, 1001), LEDGER_LOW); /* nothing */
	ledger_raise(f->ledger, find(f, 5), LEDGER_LOW);    /* never down */
	put(f, 2000, "big", LEDGER_NORMAL);
	assert_true(has(f, 1000) && !has(f, 1001));
	put(f, 2001, "big", LEDGER_NORMAL);
	assert_true(has(f, 1000) && !has(f, 0) && has(f, 5));
}

static void softly_pinned_block_goes_last(void **state)
{
	struct fixture *f = *state;
	fill(f, 0, SLOTS, LEDGER_NORMAL);
	pin(f, 0, LEDGER_PINNED_SOFT);
	pin(f, 1, LEDGER_PINNED_SOFT);
	pin(f, 1, LEDGER_UNPINNED); /* a use: it is the newest now */
	for (uint32_t i = 2; i < SLOTS; i++) {
		put(f, 1000 + i, "big", LEDGER_NORMAL);
		assert_false(has(f, i));
	}
	assert_true(has(f, 0) && has(f, 1));
	put(f, 2000, "big", LEDGER_NORMAL);
	assert_true(has(f, 0) && !has(f, 1));
	for (uint32_t key = 2001; key < 2001 + SLOTS; key++)
		ledger_hold(f->ledger, (put(f, key, "big", LEDGER_NORMAL), find(f, key)));
	assert_false(has(f, 0)); /* all others were held by then */
}

static void hard_pinned_block_stays_and_pins_have_a_bound(void **state)
{
	struct fixture *f = *state;
	fill(f, 0, SLOTS, LEDGER_NORMAL);
	for (uint32_t key = 0; key < 10; key++)
		pin(f, key, LEDGER_PINNED_HARD);
	assert_int_equal(ledger_pin(f->ledger, find(f, 10), LEDGER_PINNED_HARD), ERR_AGAIN);
	pin(f, 3, LEDGER_PINNED_HARD); /* it is already */
	pin(f, 10, LEDGER_PINNED_SOFT);
	uint32_t held = find(f, 4);
	ledger_hold(f->ledger, held);
	ledger_release(f->ledger, held); /* still pinned */
	for (uint32_t i = 0; i < 3 * SLOTS; i++)
		put(f, 1000 + i, "big", LEDGER_NORMAL);
	for (uint32_t key = 0; key < 11; key++)
		assert_true(has(f, key));
	pin(f, 3, LEDGER_UNPINNED);
	pin(f, 10, LEDGER_PINNED_HARD);
	for (uint32_t i = 0; i < 3 * SLOTS; i++)
		put(f, 2000 + i, "big", LEDGER_NORMAL);
	for (uint32_t key = 0; key < 11; key++)
		assert_int_equal(has(f, key), key != 3);
	struct ledger_counts counts;
	ledger_counts(f->ledger, &counts);
	assert_int_equal(counts.pinned_hard, 10);
	assert_int_equal(counts.bytes_pinned, PINNED_MAX);
}

static void slab_with_a_pinned_block_does_not_change_its_class(void **state)
{
	struct fixture *f = *state;
	fill(f, 0, SLOTS, LEDGER_NORMAL);
	/* Slots of a slab are given in turn: one pinned block in each of the four, one of them softly. */
	for (uint32_t slab = 0; slab < SLABS; slab++)
		pin(f, slab * SLOTS_PER_SLAB, slab == 2 ? LEDGER_PINNED_SOFT : LEDGER_PINNED_HARD);
	assert_int_equal(try(f, 1000, 5 * BLOCK, "big", LEDGER_NORMAL), ERR_OK);
	assert_int_equal(evicted(f, LEDGER_FOR_SLAB), SLOTS_PER_SLAB);
	for (uint32_t slab = 0; slab < SLABS; slab++)
		assert_int_equal(has(f, slab * SLOTS_PER_SLAB), slab != 2);
	ledger_hold(f->ledger, find(f, 1000)); /* three in a slab */
	for (uint32_t key = 1001; key < 1003; key++) {
		assert_int_equal(try(f, key, 5 * BLOCK, "big", LEDGER_NORMAL), ERR_OK);
		ledger_hold(f->ledger, find(f, key));
	}
	assert_int_equal(try(f, 1003, 5 * BLOCK, "big", LEDGER_NORMAL), ERR_AGAIN);
}

static void slab_of_another_size_goes_before_what_is_pinned_softly(void **state)
{
	struct fixture *f = *state;
	fill(f, 0, 3 * SLOTS_PER_SLAB, LEDGER_NORMAL);
	for (uint32_t key = 0; key < 3 * SLOTS_PER_SLAB; key++)
		pin(f, key, LEDGER_PINNED_SOFT);
	for (uint32_t key = 1000; key < 1003; key++)
		assert_int_equal(try(f, key, 5 * BLOCK, "big", LEDGER_NORMAL), ERR_OK);
	put(f, 2000, "big", LEDGER_NORMAL);
	assert_true(has(f, 0) && !has(f, 1000) && !has(f, 1001) && !has(f, 1002));
	assert_int_equal(evicted(f, LEDGER_FOR_SLAB), 3);
}

static void tenant_over_its_quota_makes_room_among_its_own(void **state)
{
	struct fixture *f = *state;
	fill(f, 0, 20, LEDGER_NORMAL);
	for (uint32_t key = 1000; key < 1008; key++)
		put(f, key, "small", key == 1007 ? LEDGER_LOW : LEDGER_NORMAL);
	put(f, 1008, "small", LEDGER_NORMAL);
	assert_false(has(f, 1007)); /* its lowest */
	put(f, 1009, "small", LEDGER_NORMAL);
	assert_false(has(f, 1000)); /* its oldest */
	assert_int_equal(try(f, 1010, 3 * BLOCK, "small", LEDGER_NORMAL), ERR_OK); /* of whatever size */
	assert_true(!has(f, 1001) && !has(f, 1002) && !has(f, 1003) && has(f, 1004));
	assert_int_equal(account(f, "small")->bytes, 8 * BLOCK);
	assert_int_equal(account(f, "small")->blocks, 6);
	assert_int_equal(account(f, "big")->blocks, 20);
	assert_int_equal(evicted(f, LEDGER_FOR_QUOTA), 5);
	assert_int_equal(account(f, "small")->use.evicted, 5);
}

static void tenant_whose_blocks_are_held_is_refused_at_once(void **state)
{
	struct fixture *f = *state;
	for (uint32_t key = 0; key < 8; key++) {
		put(f, key, "small", LEDGER_NORMAL);
		if (key % 2)
			ledger_hold(f->ledger, find(f, key));
		else
			pin(f, key, LEDGER_PINNED_HARD);
	}
	assert_int_equal(try(f, 100, BLOCK, "small", LEDGER_NORMAL), ERR_AGAIN);
	assert_int_equal(account(f, "small")->use.refused, 1);
	put(f, 101, "big", LEDGER_NORMAL);
	assert_int_equal(try(f, 102, 9 * BLOCK, "small", LEDGER_NORMAL), ERR_TOO_LARGE);
	assert_int_equal(try(f, 103, 1, "none", LEDGER_NORMAL), ERR_TOO_LARGE);
	assert_int_equal(account(f, "none")->use.refused, 1);
	ledger_lend(f->ledger, find(f, 3)); /* held and lent: in use in either way */
	ledger_release(f->ledger, find(f, 3));
	assert_int_equal(try(f, 105, BLOCK, "small", LEDGER_NORMAL), ERR_AGAIN);
	assert_int_equal(ledger_evict(f->ledger, find(f, 3)), ERR_BUSY);
	ledger_return(f->ledger, find(f, 3));
	ledger_release(f->ledger, find(f, 5));
	put(f, 104, "small", LEDGER_NORMAL);
	assert_true(has(f, 3) + has(f, 5) == 1);
}

static void block_that_came_back_from_disk_goes_first_of_its_tenants(void **state)
{
	struct fixture *f = *state;
	for (uint32_t key = 0; key < 8; key++) {
		if (key != 5) {
			put(f, key, "small", LEDGER_NORMAL);
			continue;
		}
		struct ledger_block block = block_of(key, BLOCK, "small", LEDGER_NORMAL);
		uint32_t entry;
		assert_int_equal(ledger_offer(f->ledger, &block, &entry), ERR_OK);
		assert_int_equal(ledger_read(f->ledger, entry), ERR_OK);
		ledger_seal_passing(f->ledger, entry);
		ledger_hold(f->ledger, entry);
		ledger_release(f->ledger, entry);
	}
	put(f, 100, "small", LEDGER_NORMAL);
	assert_true(!has(f, 5) && has(f, 0));
	put(f, 101, "small", LEDGER_NORMAL);
	assert_false(has(f, 0));
	/* Pinned, it is one like all others. */
	struct ledger_block block = block_of(5, BLOCK, "small", LEDGER_NORMAL);
	uint32_t entry;
	assert_int_equal(ledger_offer(f->ledger, &block, &entry), ERR_OK);
	assert_int_equal(ledger_read(f->ledger, entry), ERR_OK);
	assert_int_equal(ledger_pin(f->ledger, entry, LEDGER_PINNED_HARD), ERR_BUSY);
	ledger_seal_passing(f->ledger, entry);
	pin(f, 5, LEDGER_PINNED_SOFT);
	pin(f, 5, LEDGER_UNPINNED);
	put(f, 102, "small", LEDGER_NORMAL);
	assert_true(has(f, 5));
}

static void slot_in_quarantine_is_still_its_tenants(void **state)
{
	struct fixture *f = *state;
	uint32_t entries[8];
	for (uint32_t key = 0; key < 8; key++) {
		struct ledger_block block = block_of(key, BLOCK, "small", LEDGER_NORMAL);
		assert_int_equal(ledger_offer(f->ledger, &block, &entries[key]), ERR_OK);
		assert_int_equal(ledger_read(f->ledger, entries[key]), ERR_OK);
	}
	assert_int_equal(try(f, 100, BLOCK, "small", LEDGER_NORMAL), ERR_AGAIN); /* all are being read */
	ledger_withdraw(f->ledger, entries[0]);
	assert_int_equal(account(f, "small")->bytes, 8 * BLOCK);
	assert_int_equal(try(f, 100, BLOCK, "small", LEDGER_NORMAL), ERR_AGAIN);
	ledger_landing_free(f->ledger, entries[0]);
	assert_int_equal(account(f, "small")->bytes, 7 * BLOCK);
	put(f, 100, "small", LEDGER_NORMAL);
}

static void every_other_tenant_has_the_quota_of_the_star(void **state)
{
	struct fixture *f = *state;
	for (uint32_t key = 0; key < 31; key++)
		put(f, key, "whoever", LEDGER_NORMAL);
	assert_true(!has(f, 0) && has(f, 1));
	assert_int_equal(account(f, "whoever")->bytes, 30 * BLOCK);
	for (uint32_t key = 100; key < 131; key++)
		put(f, key, NULL, LEDGER_NORMAL); /* nobody is a tenant too */
	assert_int_equal(account(f, "")->bytes, 30 * BLOCK);
}

static void tenants_beyond_the_table_share_one_account(void **state)
{
	struct fixture *f = *state;
	char name[16];
	for (uint32_t i = 0; i < TENANTS_MAX + 10; i++) {
		snprintf(name, sizeof(name), "tenant-%u", i);
		(void)account(f, name);
	}
	struct tenants *tenants = ledger_tenants(f->ledger);
	assert_int_equal(tenants->count, TENANTS_MAX);
	assert_string_equal(tenants->list[TENANTS_MAX - 1].name, "other");
	assert_ptr_equal(account(f, "tenant-135"), account(f, "tenant-136"));
	assert_int_equal(tenants_find(tenants, "tenant-136"), UINT32_MAX);
	assert_string_equal(account(f, "small")->name, "small");
	put(f, 1, "tenant-137", LEDGER_NORMAL);
	assert_string_equal(ledger_block(f->ledger, find(f, 1))->tenant, "other");
}

static void command_evicts_what_nobody_holds_and_nothing_keeps(void **state)
{
	struct fixture *f = *state;
	fill(f, 0, 3, LEDGER_NORMAL);
	ledger_hold(f->ledger, find(f, 0));
	pin(f, 1, LEDGER_PINNED_HARD);
	pin(f, 2, LEDGER_PINNED_SOFT);
	assert_int_equal(ledger_evict(f->ledger, find(f, 0)), ERR_BUSY);
	assert_int_equal(ledger_evict(f->ledger, find(f, 1)), ERR_DENIED);
	assert_int_equal(ledger_evict(f->ledger, find(f, 2)), ERR_OK);
	assert_true(has(f, 0) && has(f, 1) && !has(f, 2));
	assert_int_equal(evicted(f, LEDGER_FOR_COMMAND), 1);
}

static void going_through_all_shows_each_block_once(void **state)
{
	struct fixture *f = *state;
	fill(f, 0, 30, LEDGER_NORMAL);
	ledger_hold(f->ledger, find(f, 7));
	uint32_t seen[30] = {0}, at = 0;
	for (uint32_t entry; (entry = ledger_next(f->ledger, at)) != LEDGER_NONE; at = entry + 1) {
		uint64_t words[2];
		memcpy(words, ledger_block(f->ledger, entry)->key.bytes, sizeof(words));
		seen[words[1]]++;
		if (words[1] == 10)
			assert_int_equal(ledger_evict(f->ledger, find(f, 20)), ERR_OK); /* it was there, or comes no more */
	}
	for (uint32_t key = 0; key < 30; key++)
		assert_true(seen[key] == 1 || (key == 20 && seen[key] == 0));
}

/* ---- against a naive model: one size, so that the slots are a number */

enum { TENANTS = 4 };
static const char *const names[TENANTS] = {"small", "", "big", "other one"};
static const uint64_t limits[TENANTS] = {8 * BLOCK, 30 * BLOCK, 1 << 20, 30 * BLOCK};

struct model_block {
	bool here;
	uint32_t tenant, holds;
	enum ledger_pin pin;
	enum ledger_priority priority;
	uint64_t used;
};

struct model {
	struct model_block blocks[KEYS];
	uint64_t clock;
	uint32_t refused;
};

static uint32_t level(const struct model_block *b)
{
	return b->pin == LEDGER_PINNED_SOFT ? 2 : b->priority == LEDGER_LOW ? 0 : 1;
}

/* The key that goes first, of one tenant or of all (TENANTS); KEYS: none. */
static uint32_t model_first(const struct model *m, uint32_t tenant)
{
	uint32_t first = KEYS;
	for (uint32_t k = 0; k < KEYS; k++) {
		const struct model_block *b = &m->blocks[k], *best = &m->blocks[first % KEYS];
		if (!b->here || b->holds || b->pin == LEDGER_PINNED_HARD || (tenant < TENANTS && b->tenant != tenant))
			continue;
		if (first == KEYS || level(b) < level(best) || (level(b) == level(best) && b->used < best->used))
			first = k;
	}
	return first;
}

static uint64_t model_bytes(const struct model *m, uint32_t tenant)
{
	uint64_t bytes = 0;
	for (uint32_t k = 0; k < KEYS; k++)
		bytes += m->blocks[k].here && (tenant == TENANTS || m->blocks[k].tenant == tenant) ? BLOCK : 0;
	return bytes;
}

static enum err model_put(struct model *m, uint32_t key, uint32_t tenant, enum ledger_priority priority)
{
	uint32_t first;
	while (model_bytes(m, tenant) + BLOCK > limits[tenant]) {
		if ((first = model_first(m, tenant)) == KEYS)
			return ERR_AGAIN;
		m->blocks[first].here = false;
	}
	if (model_bytes(m, TENANTS) == SLOTS * BLOCK) {
		if ((first = model_first(m, TENANTS)) == KEYS)
			return ERR_AGAIN;
		m->blocks[first].here = false;
	}
	m->blocks[key] = (struct model_block){.here = true, .tenant = tenant, .priority = priority, .used = m->clock};
	return ERR_OK;
}

static void model_use(struct fixture *f, struct model_block *b, uint32_t entry, struct model *m, struct rng *rng)
{
	switch (rng_below(rng, 6)) {
	case 0:
		if (b->holds == 3)
			return;
		ledger_hold(f->ledger, entry);
		b->holds++;
		return;
	case 1:
	case 2:
		if (b->holds == 0)
			return;
		ledger_release(f->ledger, entry);
		if (--b->holds == 0)
			b->used = m->clock;
		return;
	case 3:
		ledger_raise(f->ledger, entry, LEDGER_NORMAL);
		if (b->priority == LEDGER_LOW)
			b->priority = LEDGER_NORMAL, b->used = m->clock;
		return;
	case 4:
		if (rng_below(rng, 8) == 0) {
			enum err e = ledger_evict(f->ledger, entry);
			assert_int_equal(e, b->pin == LEDGER_PINNED_HARD ? ERR_DENIED : b->holds ? ERR_BUSY : ERR_OK);
			b->here = e != ERR_OK;
		}
		return;
	default:
		break;
	}
	enum ledger_pin pin = (enum ledger_pin)rng_below(rng, 3);
	uint32_t pinned = 0;
	for (uint32_t k = 0; k < KEYS; k++)
		pinned += m->blocks[k].here && m->blocks[k].pin == LEDGER_PINNED_HARD;
	bool full = pin == LEDGER_PINNED_HARD && b->pin != pin && pinned == PINNED_MAX / BLOCK;
	m->refused += full;
	assert_int_equal(ledger_pin(f->ledger, entry, pin), full ? ERR_AGAIN : ERR_OK);
	if (!full && b->pin != pin)
		b->pin = pin, b->used = m->clock;
}

static void ledger_agrees_with_a_naive_model_of_tenants_and_pins(void **state)
{
	struct fixture *f = *state;
	struct model *m = calloc(1, sizeof(*m));
	struct rng rng = {.seed = 5};
	uint32_t refused = 0;
	for (uint32_t step = 0; step < 60000; step++) {
		uint32_t key = (uint32_t)rng_below(&rng, KEYS);
		struct model_block *b = &m->blocks[key];
		m->clock++;
		if (b->here) {
			model_use(f, b, find(f, key), m, &rng);
		} else {
			uint32_t tenant = (uint32_t)rng_below(&rng, TENANTS);
			enum ledger_priority priority = (enum ledger_priority)rng_below(&rng, 2);
			enum err e = model_put(m, key, tenant, priority);
			assert_int_equal(try(f, key, BLOCK, names[tenant], priority), e);
			refused += e != ERR_OK;
		}
		for (uint32_t k = 0; k < KEYS; k++)
			assert_int_equal(has(f, k), m->blocks[k].here);
		for (uint32_t t = 0; t < TENANTS; t++)
			assert_int_equal(account(f, names[t])->bytes, model_bytes(m, t));
		if (step % 16 == 0)
			ledger_check(f->ledger);
	}
	/* The walk did press against every bound. */
	assert_true(refused > 20 && m->refused > 20);
	assert_true(evicted(f, LEDGER_FOR_ROOM) > 100 && evicted(f, LEDGER_FOR_QUOTA) > 100 && evicted(f, LEDGER_FOR_COMMAND) > 100);
	free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(low_priority_goes_first_however_new_it_is),
		T(block_offered_again_by_whom_it_matters_more_to_is_raised),
		T(softly_pinned_block_goes_last),
		T(hard_pinned_block_stays_and_pins_have_a_bound),
		T(slab_with_a_pinned_block_does_not_change_its_class),
		T(slab_of_another_size_goes_before_what_is_pinned_softly),
		T(tenant_over_its_quota_makes_room_among_its_own),
		T(tenant_whose_blocks_are_held_is_refused_at_once),
		T(block_that_came_back_from_disk_goes_first_of_its_tenants),
		T(slot_in_quarantine_is_still_its_tenants),
		T(every_other_tenant_has_the_quota_of_the_star),
		T(tenants_beyond_the_table_share_one_account),
		T(command_evicts_what_nobody_holds_and_nothing_keeps),
		T(going_through_all_shows_each_block_once),
		T(ledger_agrees_with_a_naive_model_of_tenants_and_pins),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

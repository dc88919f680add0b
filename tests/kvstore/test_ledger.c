#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/rng.h"
#include "kvstore/ledger.h"

enum { SLABS = 4, SLAB_BYTES = 1024, SLOTS_PER_SLAB = 16, ENTRIES = 80, LAYERS = 3, KEYS = 120 };

struct fixture {
	void *memory;
	struct ledger *ledger;
	uint64_t generations[SLABS][SLOTS_PER_SLAB];
	uint32_t regions;
	uint32_t open;
	bool refuse;
};

static enum err open_slab(void *context, uint32_t slab, uint32_t slot_bytes, uint32_t slot_count,
			  struct slab_region *ret_region)
{
	struct fixture *f = context;
	assert_true((uint64_t)slot_bytes * slot_count <= SLAB_BYTES && slot_count <= SLOTS_PER_SLAB);
	if (f->refuse)
		return ERR_NOMEM;
	*ret_region = (struct slab_region){.region = f->regions++, .generations = f->generations[slab]};
	f->open++;
	return ERR_OK;
}

static void close_slab(void *context, uint32_t slab)
{
	struct fixture *f = context;
	(void)slab;
	f->open--;
}

static struct ledger_options options_of(struct fixture *f)
{
	return (struct ledger_options){
		.slabs = {.slab_count = SLABS, .slab_bytes = SLAB_BYTES, .slot_bytes_min = 64, .context = f,
			  .open = open_slab, .close = close_slab},
		.entry_max = ENTRIES,
		.layers_max = LAYERS,
		.policy = &evict_lru, /* whose victims are told easily; the others: test_evict.c */
	};
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct ledger_options options = options_of(f);
	f->memory = calloc(1, ledger_bytes(&options));
	f->ledger = ledger_init(f->memory, &options);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	free(f->memory);
	free(f);
	return 0;
}

static const struct id128 compat = {{1}};
static const struct id128 other_compat = {{2}};

static struct ledger_block block_of(uint32_t key, uint32_t layer_bytes)
{
	static const uint64_t digests[LAYERS] = {5, 6, 7};
	struct ledger_block block = {.compat = compat, .layer_count = LAYERS, .layer_bytes = layer_bytes,
				     .digests = digests};
	uint64_t words[2] = {rng_mix(key), key};
	memcpy(block.key.bytes, words, sizeof(words));
	return block;
}

static uint32_t put(struct fixture *f, uint32_t key, uint32_t layer_bytes)
{
	struct ledger_block block = block_of(key, layer_bytes);
	uint32_t entry;
	assert_int_equal(ledger_offer(f->ledger, &block, &entry), ERR_OK);
	assert_int_equal(ledger_read(f->ledger, entry), ERR_OK);
	ledger_seal(f->ledger, entry);
	return entry;
}

static uint32_t find(struct fixture *f, uint32_t key)
{
	struct ledger_block block = block_of(key, 1);
	return ledger_find(f->ledger, &block.key, &compat);
}

static void block_is_found_only_when_sealed_and_of_the_same_compat(void **state)
{
	struct fixture *f = *state;
	struct ledger_block block = block_of(1, 20);
	uint32_t entry;
	assert_int_equal(ledger_offer(f->ledger, &block, &entry), ERR_OK);
	assert_int_equal(find(f, 1), LEDGER_NONE);
	assert_int_equal(ledger_lookup(f->ledger, &block.key), entry);
	assert_int_equal(ledger_offer(f->ledger, &block, &entry), ERR_EXISTS);
	assert_int_equal(ledger_read(f->ledger, entry), ERR_OK);
	assert_int_equal(find(f, 1), LEDGER_NONE);
	ledger_seal(f->ledger, entry);
	assert_int_equal(find(f, 1), entry);
	assert_int_equal(ledger_find(f->ledger, &block.key, &other_compat), LEDGER_NONE);
	assert_memory_equal(ledger_block(f->ledger, entry)->digests, block.digests, LAYERS * sizeof(uint64_t));
	ledger_check(f->ledger);
}

static void oldest_unheld_block_is_evicted_first(void **state)
{
	struct fixture *f = *state;
	for (uint32_t key = 0; key < SLABS * SLOTS_PER_SLAB; key++)
		put(f, key, 21); /* 63 bytes: a slot of 64 */
	ledger_hold(f->ledger, find(f, 0)); /* held: not to be evicted */
	uint32_t used = find(f, 1);
	ledger_hold(f->ledger, used);
	ledger_release(f->ledger, used); /* used again: 2 is the oldest now */
	put(f, 1000, 21);
	assert_int_not_equal(find(f, 0), LEDGER_NONE);
	assert_int_not_equal(find(f, 1), LEDGER_NONE);
	assert_int_equal(find(f, 2), LEDGER_NONE);
	put(f, 1001, 21);
	assert_int_equal(find(f, 3), LEDGER_NONE);
	ledger_check(f->ledger);
}

static void reader_who_comes_late_finds_another_generation(void **state)
{
	struct fixture *f = *state;
	struct slot_place early, late;
	uint32_t entry = put(f, 1, 21);
	ledger_place(f->ledger, entry, &early);
	for (uint32_t key = 2; find(f, 1) != LEDGER_NONE; key++)
		put(f, key, 21);
	/* The block that took the slot over has the same place but for the generation. */
	uint32_t heirs = 0;
	for (uint32_t key = 2; key < KEYS; key++) {
		uint32_t heir = find(f, key);
		if (heir == LEDGER_NONE)
			continue;
		ledger_place(f->ledger, heir, &late);
		if (late.region != early.region || late.offset != early.offset)
			continue;
		assert_true(late.generation > early.generation);
		heirs++;
	}
	assert_int_equal(heirs, 1);
}

static void abandoned_read_keeps_its_slot_until_the_landing_is_free(void **state)
{
	struct fixture *f = *state;
	struct ledger_block block = block_of(1, 21);
	uint32_t entry;
	assert_int_equal(ledger_offer(f->ledger, &block, &entry), ERR_OK);
	assert_int_equal(ledger_read(f->ledger, entry), ERR_OK);
	uint32_t slot = ledger_slot(f->ledger, entry);
	ledger_withdraw(f->ledger, entry);
	assert_int_equal(ledger_lookup(f->ledger, &block.key), LEDGER_NONE);
	for (uint32_t key = 2; key < 2 + 2 * SLABS * SLOTS_PER_SLAB; key++)
		assert_int_not_equal(ledger_slot(f->ledger, put(f, key, 21)), slot);
	struct ledger_counts counts;
	ledger_counts(f->ledger, &counts);
	assert_int_equal(counts.entries[LEDGER_EVICTED], 1);
	ledger_check(f->ledger);
	ledger_landing_free(f->ledger, entry);
	ledger_counts(f->ledger, &counts);
	assert_int_equal(counts.slots_free, 1);
	ledger_check(f->ledger);
}

static void full_of_held_blocks_says_again(void **state)
{
	struct fixture *f = *state;
	for (uint32_t key = 0; key < SLABS * SLOTS_PER_SLAB; key++)
		ledger_hold(f->ledger, put(f, key, 21));
	struct ledger_block block = block_of(1000, 21);
	uint32_t entry;
	assert_int_equal(ledger_offer(f->ledger, &block, &entry), ERR_OK);
	assert_int_equal(ledger_read(f->ledger, entry), ERR_AGAIN);
	assert_int_equal(ledger_state(f->ledger, entry), LEDGER_OFFERED);
	ledger_release(f->ledger, find(f, 5));
	assert_int_equal(ledger_read(f->ledger, entry), ERR_OK);
	assert_int_equal(find(f, 5), LEDGER_NONE);
	ledger_check(f->ledger);
}

static void slab_changes_its_class_when_another_size_needs_room(void **state)
{
	struct fixture *f = *state;
	struct slot_place small, big;
	for (uint32_t key = 0; key < SLABS * SLOTS_PER_SLAB; key++)
		put(f, key, 21);
	ledger_place(f->ledger, find(f, 0), &small);
	ledger_hold(f->ledger, find(f, 0)); /* its slab must stay */
	uint32_t entry = put(f, 1000, 100); /* 300 bytes: a slot of 320, three in a slab */
	ledger_place(f->ledger, entry, &big);
	assert_int_equal(big.region, SLABS); /* a new region: places of the old one find nothing */
	assert_int_equal(f->open, SLABS);
	assert_int_not_equal(find(f, 0), LEDGER_NONE);
	struct ledger_counts counts;
	ledger_counts(f->ledger, &counts);
	assert_int_equal(counts.entries[LEDGER_CACHED], 3 * SLOTS_PER_SLAB - 1 + 1);
	assert_int_equal(counts.entries[LEDGER_HELD], 1);
	ledger_check(f->ledger);
}

static void a_lent_block_stays_and_counts_as_no_use(void **state)
{
	struct fixture *f = *state;
	for (uint32_t key = 0; key < SLABS * SLOTS_PER_SLAB; key++)
		put(f, key, 21);
	uint32_t lent = find(f, 0);
	ledger_lend(f->ledger, lent);
	ledger_lend(f->ledger, lent);
	ledger_lend(f->ledger, find(f, 2));
	put(f, 1000, 21); /* 0 is the oldest and may not go */
	assert_int_equal(find(f, 0), lent);
	assert_int_equal(find(f, 1), LEDGER_NONE);
	ledger_return(f->ledger, find(f, 2)); /* nobody wanted to evict it meanwhile: still the oldest but one */
	put(f, 1001, 21);
	assert_int_equal(find(f, 2), LEDGER_NONE);
	ledger_return(f->ledger, lent);
	ledger_hold(f->ledger, lent);
	ledger_release(f->ledger, lent);
	for (uint32_t key = 2000; key < 2000 + SLABS * SLOTS_PER_SLAB; key++)
		put(f, key, 21);
	assert_int_equal(find(f, 0), lent); /* the other reader is not through */
	struct ledger_counts counts;
	ledger_counts(f->ledger, &counts);
	assert_int_equal(counts.lent, 1);
	ledger_return(f->ledger, lent);
	ledger_check(f->ledger);
	for (uint32_t key = 3000; key < 3000 + SLABS * SLOTS_PER_SLAB; key++)
		put(f, key, 21);
	assert_int_equal(find(f, 0), LEDGER_NONE);
	ledger_check(f->ledger);
}

static void a_slab_with_a_lent_block_keeps_its_class(void **state)
{
	struct fixture *f = *state;
	for (uint32_t key = 0; key < SLABS * SLOTS_PER_SLAB; key++)
		ledger_lend(f->ledger, put(f, key, 21));
	struct ledger_block block = block_of(1000, 100);
	uint32_t entry;
	assert_int_equal(ledger_offer(f->ledger, &block, &entry), ERR_OK);
	assert_int_equal(ledger_read(f->ledger, entry), ERR_AGAIN);
	for (uint32_t key = 0; key < SLOTS_PER_SLAB; key++)
		ledger_return(f->ledger, find(f, key));
	assert_int_equal(ledger_read(f->ledger, entry), ERR_OK);
	ledger_check(f->ledger);
}

static void a_spare_block_goes_before_all_others(void **state)
{
	struct fixture *f = *state;
	for (uint32_t key = 0; key < SLABS * SLOTS_PER_SLAB; key++)
		put(f, key, 21);
	for (uint32_t key = 30; key < 34; key++)
		ledger_spare(f->ledger, find(f, key), true);
	ledger_spare(f->ledger, find(f, 33), false);
	ledger_hold(f->ledger, find(f, 30)); /* while somebody reads it, it stays */
	ledger_lend(f->ledger, find(f, 31));
	put(f, 1000, 21);
	assert_int_equal(find(f, 32), LEDGER_NONE);
	put(f, 1001, 21); /* no spare one may go: the oldest */
	assert_int_equal(find(f, 0), LEDGER_NONE);
	ledger_release(f->ledger, find(f, 30));
	ledger_return(f->ledger, find(f, 31));
	ledger_check(f->ledger);
	put(f, 1002, 21);
	put(f, 1003, 21);
	assert_int_equal(find(f, 30), LEDGER_NONE);
	assert_int_equal(find(f, 31), LEDGER_NONE);
	assert_int_not_equal(find(f, 33), LEDGER_NONE);
	assert_int_not_equal(find(f, 1), LEDGER_NONE);
	struct ledger_counts counts;
	ledger_counts(f->ledger, &counts);
	assert_int_equal(counts.spare, 0);
	ledger_check(f->ledger);
}

static void block_over_the_bounds_is_refused(void **state)
{
	struct fixture *f = *state;
	uint32_t entry;
	struct ledger_block block = block_of(1, SLAB_BYTES);
	assert_int_equal(ledger_offer(f->ledger, &block, &entry), ERR_TOO_LARGE);
	block = block_of(1, 10);
	block.layer_count = LAYERS + 1;
	assert_int_equal(ledger_offer(f->ledger, &block, &entry), ERR_TOO_LARGE);
	block.layer_count = 0;
	assert_int_equal(ledger_offer(f->ledger, &block, &entry), ERR_TOO_LARGE);
	ledger_check(f->ledger);
}

static void no_region_means_no_room(void **state)
{
	struct fixture *f = *state;
	f->refuse = true;
	struct ledger_block block = block_of(1, 21);
	uint32_t entry;
	assert_int_equal(ledger_offer(f->ledger, &block, &entry), ERR_OK);
	assert_int_equal(ledger_read(f->ledger, entry), ERR_AGAIN);
	f->refuse = false;
	assert_int_equal(ledger_read(f->ledger, entry), ERR_OK);
	ledger_check(f->ledger);
}

/* ---- against a naive model: a list of keys with their state and the time of their last use */

struct model_block {
	enum ledger_state state;
	uint32_t entry;
	uint32_t holds;
	uint32_t lent;
	bool vague; /* was lent since its last use: its place in the order of use depends on who was to be evicted */
	uint64_t used;
	bool passing, was_held;
};

struct model {
	struct model_block blocks[KEYS];
	struct { uint32_t entry; uint32_t used; } quarantine[ENTRIES];
	uint64_t clock;
};

/* What has passed through goes before all others. */
static bool goes_before(const struct model_block *a, const struct model_block *b)
{
	return a->passing != b->passing ? a->passing : a->used < b->used;
}

/* After a read took room: whoever vanished must have been cached, and the one that goes first. */
static void model_notice_eviction(struct fixture *f, struct model *m)
{
	uint32_t evicted = KEYS;
	for (uint32_t k = 0; k < KEYS; k++) {
		if (m->blocks[k].state != LEDGER_CACHED || find(f, k) != LEDGER_NONE)
			continue;
		assert_int_equal(evicted, KEYS);
		evicted = k;
	}
	if (evicted == KEYS)
		return;
	assert_int_equal(m->blocks[evicted].lent, 0);
	for (uint32_t k = 0; k < KEYS && !m->blocks[evicted].vague; k++)
		if (m->blocks[k].state == LEDGER_CACHED && m->blocks[k].lent == 0 && !m->blocks[k].vague)
			assert_false(goes_before(&m->blocks[k], &m->blocks[evicted]));
	m->blocks[evicted] = (struct model_block){0};
}

static void model_seal(struct fixture *f, struct model_block *b, uint32_t how)
{
	b->state = how == 2 ? LEDGER_SEALED : LEDGER_CACHED;
	b->passing = how == 1;
	b->was_held = false;
	if (how == 0)
		ledger_seal(f->ledger, b->entry);
	else if (how == 1)
		ledger_seal_passing(f->ledger, b->entry);
	else
		ledger_seal_writing(f->ledger, b->entry);
}

static void model_step(struct fixture *f, struct model *m, struct rng *rng)
{
	uint32_t key = (uint32_t)rng_below(rng, KEYS);
	struct model_block *b = &m->blocks[key];
	struct ledger_block block = block_of(key, 21);
	m->clock++;
	switch (b->state) {
	case LEDGER_FREE:
		if (ledger_offer(f->ledger, &block, &b->entry) == ERR_OK)
			b->state = LEDGER_OFFERED;
		model_notice_eviction(f, m);
		break;
	case LEDGER_OFFERED:
		if (rng_below(rng, 8) == 0) {
			ledger_withdraw(f->ledger, b->entry);
			b->state = LEDGER_FREE;
			break;
		}
		if (ledger_read(f->ledger, b->entry) == ERR_OK)
			b->state = LEDGER_READING;
		model_notice_eviction(f, m);
		break;
	case LEDGER_READING:
		if (rng_below(rng, 4) == 0) {
			ledger_withdraw(f->ledger, b->entry);
			m->quarantine[b->entry].used = 1;
			b->state = LEDGER_FREE;
			break;
		}
		model_seal(f, b, (uint32_t)rng_below(rng, 3));
		b->used = m->clock;
		break;
	case LEDGER_SEALED:
		if (rng_below(rng, 2) == 0) {
			ledger_written(f->ledger, b->entry);
			b->state = b->holds ? LEDGER_HELD : LEDGER_CACHED;
			b->used = m->clock;
			break;
		}
		__attribute__((fallthrough));
	case LEDGER_CACHED:
	case LEDGER_HELD:
		if (b->lent > 0 && rng_below(rng, 4) == 0) {
			ledger_return(f->ledger, b->entry);
			b->lent--;
			break;
		}
		if (rng_below(rng, 8) == 0) {
			ledger_lend(f->ledger, b->entry);
			b->lent++;
			b->vague = true;
			break;
		}
		b->vague = b->lent > 0;
		if (b->holds > 0 && rng_below(rng, 2) == 0) {
			ledger_release(f->ledger, b->entry);
			b->holds--;
		} else {
			ledger_hold(f->ledger, b->entry);
			b->holds++;
			b->passing &= !b->was_held;
			b->was_held = true;
		}
		b->used = m->clock;
		if (b->state != LEDGER_SEALED)
			b->state = b->holds ? LEDGER_HELD : LEDGER_CACHED;
		break;
	default:
		fail();
	}
	uint32_t entry = (uint32_t)rng_below(rng, ENTRIES);
	if (m->quarantine[entry].used && rng_below(rng, 4) == 0) {
		ledger_landing_free(f->ledger, entry);
		m->quarantine[entry].used = 0;
	}
}

static void ledger_agrees_with_a_naive_model(void **state)
{
	struct fixture *f = *state;
	struct model *m = calloc(1, sizeof(*m));
	struct rng rng = {.seed = 11};
	for (uint32_t step = 0; step < 30000; step++) {
		model_step(f, m, &rng);
		uint32_t key = (uint32_t)rng_below(&rng, KEYS);
		const struct model_block *b = &m->blocks[key];
		bool served = b->state == LEDGER_SEALED || b->state == LEDGER_CACHED || b->state == LEDGER_HELD;
		assert_int_equal(find(f, key), served ? b->entry : LEDGER_NONE);
		if (b->state != LEDGER_FREE) {
			assert_int_equal(ledger_state(f->ledger, b->entry), b->state);
			assert_int_equal(ledger_holds(f->ledger, b->entry), b->holds);
		}
		if (step % 16 == 0)
			ledger_check(f->ledger);
	}
	struct ledger_counts counts;
	ledger_counts(f->ledger, &counts);
	assert_true(counts.evicted[LEDGER_FOR_ROOM] > 100); /* the walk did press against the bounds */
	free(m);
}

static void block_from_disk_goes_first_until_its_second_hit(void **state)
{
	struct fixture *f = *state;
	uint32_t slots = 0;
	while (slots < 3 || find(f, 0) != LEDGER_NONE) /* full, and the first is gone */
		put(f, slots++, 21);
	struct ledger_block block = block_of(100, 21);
	uint32_t entry;
	assert_int_equal(ledger_offer(f->ledger, &block, &entry), ERR_OK);
	assert_int_equal(ledger_read(f->ledger, entry), ERR_OK);
	ledger_seal_passing(f->ledger, entry);
	ledger_hold(f->ledger, entry); /* by who asked for it */
	ledger_release(f->ledger, entry);
	put(f, 101, 21);
	assert_int_equal(find(f, 100), LEDGER_NONE); /* although it was used last */
	assert_int_equal(ledger_offer(f->ledger, &block, &entry), ERR_OK);
	assert_int_equal(ledger_read(f->ledger, entry), ERR_OK);
	ledger_seal_passing(f->ledger, entry);
	for (int look_up = 0; look_up < 2; look_up++) {
		ledger_hold(f->ledger, entry);
		ledger_release(f->ledger, entry);
	}
	put(f, 102, 21);
	assert_int_equal(find(f, 100), entry);
	ledger_check(f->ledger);
}

static void block_being_written_is_found_and_stays(void **state)
{
	struct fixture *f = *state;
	struct ledger_block block = block_of(100, 21);
	uint32_t entry;
	assert_int_equal(ledger_offer(f->ledger, &block, &entry), ERR_OK);
	assert_int_equal(ledger_read(f->ledger, entry), ERR_OK);
	ledger_seal_writing(f->ledger, entry);
	for (uint32_t i = 0; i < 100; i++)
		put(f, i, 21);
	assert_int_equal(find(f, 100), entry);
	ledger_hold(f->ledger, entry);
	ledger_written(f->ledger, entry);
	assert_int_equal(ledger_state(f->ledger, entry), LEDGER_HELD);
	ledger_release(f->ledger, entry);
	for (uint32_t i = 200; i < 300; i++)
		put(f, i, 21);
	assert_int_equal(find(f, 100), LEDGER_NONE);
	ledger_check(f->ledger);
}

static void moves_are_those_of_the_drawing(void **state)
{
	uint32_t moves = 0;
	for (int from = 0; from < LEDGER_STATES; from++)
		for (int to = 0; to < LEDGER_STATES; to++)
			moves += ledger_may_move((enum ledger_state)from, (enum ledger_state)to);
	assert_int_equal(moves, 10);
	assert_false(ledger_may_move(LEDGER_HELD, LEDGER_EVICTED));
	assert_false(ledger_may_move(LEDGER_READING, LEDGER_FREE));
	assert_false(ledger_may_move(LEDGER_OFFERED, LEDGER_SEALED));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(block_is_found_only_when_sealed_and_of_the_same_compat),
		T(oldest_unheld_block_is_evicted_first),
		T(reader_who_comes_late_finds_another_generation),
		T(abandoned_read_keeps_its_slot_until_the_landing_is_free),
		T(full_of_held_blocks_says_again),
		T(slab_changes_its_class_when_another_size_needs_room),
		T(a_lent_block_stays_and_counts_as_no_use),
		T(a_slab_with_a_lent_block_keeps_its_class),
		T(a_spare_block_goes_before_all_others),
		T(block_over_the_bounds_is_refused),
		T(no_region_means_no_room),
		T(block_from_disk_goes_first_until_its_second_hit),
		T(block_being_written_is_found_and_stays),
		T(ledger_agrees_with_a_naive_model),
		T(moves_are_those_of_the_drawing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

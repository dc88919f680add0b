/* Blocks of several sizes in one store, against a naive model that reckons each slab that has to change its size, and each block
 * that has to go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "sizes_store.h"

enum { WALK_SLABS = 4, WALK_KEYS = 360 };

static const uint32_t walk_keys[SIZES] = {WALK_KEYS, 90};

struct walk_block {
	enum ledger_state state;
	uint32_t entry, slab;
	uint32_t holds, lent;
	enum ledger_pin pin;
	bool vague;     /* was lent since its last use: whether it is in its place in the order depends on who was to be evicted */
	uint64_t order; /* of its last use or release */
	uint64_t used;  /* number of its last use; 0: not sealed */
	uint64_t gone;  /* when it went, among those of its size; 0: forgotten */
	bool quarantined; /* its read was withdrawn; the entry's key is forgotten */
	uint32_t slot;
};

struct walk_size {
	uint64_t claim, used, serial;
};

struct walk {
	struct sizes_store *s;
	struct walk_block blocks[SIZES][WALK_KEYS];
	struct walk_size sizes[SIZES];
	uint64_t clock, uses, bytes_gone, age_at;
	bool several; /* both sizes had slabs when the last read began */
	uint64_t slabs_moved, claims_paid;
};

static uint32_t slots_in(int size)
{
	return SLAB_BYTES / block_bytes[size];
}

static bool has_slot(const struct walk_block *b)
{
	return b->quarantined || b->state >= LEDGER_READING;
}

/* Of a slab, or of all of that size. */
static uint32_t taken(const struct walk *w, int size, uint32_t slab)
{
	uint32_t count = 0;
	for (uint32_t k = 0; k < walk_keys[size]; k++)
		count += has_slot(&w->blocks[size][k]) && (slab == UINT32_MAX || w->blocks[size][k].slab == slab);
	return count;
}

static int size_of_slab(const struct walk *w, uint32_t slab)
{
	return w->s->slab_sizes[slab] == SMALL ? 0 : w->s->slab_sizes[slab] == LARGE ? 1 : -1;
}

static bool several(const struct walk *w)
{
	return slabs_of(w->s, 0) > 0 && slabs_of(w->s, 1) > 0;
}

static void walk_use(struct walk *w, int size, struct walk_block *b)
{
	b->used = ++w->uses;
	w->sizes[size].used = w->bytes_gone;
}

/* It is in the order of its size now. */
static void walk_add(struct walk *w, int size, struct walk_block *b)
{
	b->order = w->clock;
	if (several(w) && b->gone) {
		uint64_t slabs = 1 + (w->sizes[size].serial - b->gone) / slots_in(size);
		w->sizes[size].claim += block_bytes[size] / (slabs * slabs);
		b->gone = 0;
	}
}

static void walk_evict(struct walk *w, int size, struct walk_block *b)
{
	assert_true(b->state == LEDGER_CACHED && b->lent == 0 && b->pin != LEDGER_PINNED_HARD);
	uint64_t gone = b->gone;
	w->bytes_gone += block_bytes[size];
	if (w->bytes_gone >= w->age_at) {
		w->age_at = w->bytes_gone + 2 * WALK_SLABS * SLAB_BYTES;
		w->sizes[0].claim /= 2;
		w->sizes[1].claim /= 2;
	}
	if (w->several)
		gone = ++w->sizes[size].serial;
	*b = (struct walk_block){.gone = gone};
	uint32_t ghosts = 0;
	struct walk_block *oldest = NULL;
	for (uint32_t k = 0; k < walk_keys[size]; k++) {
		struct walk_block *other = &w->blocks[size][k];
		ghosts += other->gone > 0;
		if (other->gone && (!oldest || other->gone < oldest->gone))
			oldest = other;
	}
	if (ghosts > WALK_SLABS * slots_in(size))
		oldest->gone = 0;
}

static uint64_t walk_price(const struct walk *w, int size)
{
	uint32_t slabs = slabs_of(w->s, size);
	if (w->bytes_gone - w->sizes[size].used >= WALK_SLABS * SLAB_BYTES ||
	    slabs * slots_in(size) - taken(w, size, UINT32_MAX) >= slots_in(size))
		return 0;
	return slabs == 1 ? UINT64_MAX : SLAB_BYTES + w->sizes[size].claim;
}

/* The slab that has to change its size for one more block of that size, or UINT32_MAX. */
static uint32_t walk_slab(const struct walk *w, int size, uint64_t claim, bool pinned_too)
{
	uint32_t best = UINT32_MAX;
	uint64_t best_used = 0;
	int giver = 1 - size;
	if (slabs_of(w->s, giver) == 0 || walk_price(w, giver) > claim)
		return UINT32_MAX;
	for (uint32_t slab = 0; slab < WALK_SLABS; slab++) {
		uint64_t used = 0;
		bool stays = size_of_slab(w, slab) != giver;
		for (uint32_t k = 0; k < walk_keys[giver] && !stays; k++) {
			const struct walk_block *b = &w->blocks[giver][k];
			if (!has_slot(b) || b->slab != slab)
				continue;
			stays = b->state != LEDGER_CACHED || b->lent || b->pin == LEDGER_PINNED_HARD ||
				(b->pin == LEDGER_PINNED_SOFT && !pinned_too);
			used += b->used;
		}
		used /= slots_in(giver);
		if (stays || (best != UINT32_MAX && used >= best_used))
			continue;
		best = slab;
		best_used = used;
	}
	return best;
}

/* Which one has to go of its own size: WALK_KEYS: none; ret_vague: or another. */
static uint32_t walk_victim(const struct walk *w, int size, enum ledger_pin pin, bool *ret_vague)
{
	uint32_t best = WALK_KEYS;
	for (uint32_t k = 0; k < walk_keys[size]; k++) {
		const struct walk_block *b = &w->blocks[size][k];
		if (b->state != LEDGER_CACHED || b->lent || b->pin != pin)
			continue;
		*ret_vague |= b->vague;
		if (best == WALK_KEYS || b->order < w->blocks[size][best].order)
			best = k;
	}
	return best;
}

static bool walk_is_there(struct walk *w, int size, uint32_t key)
{
	return find(w->s, size, key) != LEDGER_NONE;
}

/* The one of them that is gone now must be the one that had to. */
static void walk_notice_victim(struct walk *w, int size, uint32_t expected, bool vague)
{
	uint32_t gone = WALK_KEYS;
	for (uint32_t k = 0; k < walk_keys[size]; k++) {
		if (w->blocks[size][k].state != LEDGER_CACHED || walk_is_there(w, size, k))
			continue;
		assert_int_equal(gone, WALK_KEYS);
		gone = k;
	}
	assert_true(gone != WALK_KEYS && (vague || gone == expected));
	assert_int_equal(w->blocks[size][gone].pin, w->blocks[size][expected].pin);
	walk_evict(w, size, &w->blocks[size][gone]);
}

static void walk_notice_slab(struct walk *w, int size, uint32_t slab)
{
	w->sizes[0].claim = w->sizes[1].claim = 0;
	w->slabs_moved++;
	/* In the order of the slots. */
	for (uint32_t left = taken(w, size, slab); left > 0; left--) {
		struct walk_block *next = NULL;
		for (uint32_t k = 0; k < walk_keys[size]; k++) {
			struct walk_block *b = &w->blocks[size][k];
			if (!has_slot(b) || b->slab != slab)
				continue;
			assert_false(walk_is_there(w, size, k));
			if (!next || b->slot < next->slot)
				next = b;
		}
		walk_evict(w, size, next);
	}
}

struct walk_plan {
	uint32_t slab, victim;
	bool vague, room;
};

/* What has to happen for a block of that size to have a slot. */
static struct walk_plan walk_reckon(const struct walk *w, int size)
{
	struct walk_plan plan = {.slab = UINT32_MAX, .victim = WALK_KEYS, .room = true};
	if (slabs_of(w->s, size) * slots_in(size) > taken(w, size, UINT32_MAX))
		return plan;
	for (uint32_t slab = 0; slab < WALK_SLABS; slab++)
		if (size_of_slab(w, slab) < 0 || (size_of_slab(w, slab) != size && taken(w, 1 - size, slab) == 0))
			return plan;
	plan.slab = walk_slab(w, size, w->sizes[size].claim, false);
	for (enum ledger_pin pin = LEDGER_UNPINNED; plan.slab == UINT32_MAX && pin <= LEDGER_PINNED_SOFT; pin++) {
		plan.victim = walk_victim(w, size, pin, &plan.vague);
		if (plan.victim != WALK_KEYS)
			return plan;
		plan.slab = walk_slab(w, size, UINT64_MAX, pin == LEDGER_PINNED_SOFT);
	}
	plan.room = plan.slab != UINT32_MAX;
	return plan;
}

static void walk_read(struct walk *w, int size, struct walk_block *b)
{
	struct walk_plan plan = walk_reckon(w, size);
	w->several = several(w);
	assert_int_equal(ledger_read(w->s->ledger, b->entry), plan.room ? ERR_OK : ERR_AGAIN);
	if (!plan.room)
		return;
	if (plan.victim != WALK_KEYS) {
		walk_notice_victim(w, size, plan.victim, plan.vague);
	} else if (plan.slab != UINT32_MAX) {
		assert_int_equal(size_of_slab(w, plan.slab), size);
		w->claims_paid += w->sizes[size].claim >= SLAB_BYTES;
		walk_notice_slab(w, 1 - size, plan.slab);
	}
	b->state = LEDGER_READING;
	b->slot = ledger_slot(w->s->ledger, b->entry);
	b->slab = b->slot / SLOTS_MAX;
}

static void walk_touch(struct walk *w, int size, struct walk_block *b, struct rng *rng)
{
	struct ledger *l = w->s->ledger;
	switch (rng_below(rng, 16)) {
	case 0:
		ledger_lend(l, b->entry);
		b->lent++;
		b->vague = true;
		break;
	case 1: {
		enum ledger_pin pin = rng_below(rng, 400) ? LEDGER_UNPINNED : (enum ledger_pin)rng_below(rng, 3);
		if (pin == b->pin || ledger_pin(l, b->entry, pin) != ERR_OK)
			break;
		b->pin = pin;
		walk_add(w, size, b);
		break;
	}
	default:
		ledger_hold(l, b->entry);
		b->holds++;
		b->state = LEDGER_HELD;
		b->vague = b->lent > 0;
		walk_use(w, size, b);
	}
}

static void walk_step(struct walk *w, int size, struct walk_block *b, uint32_t key, struct rng *rng)
{
	struct ledger *l = w->s->ledger;
	struct ledger_block block = block_of(size, key);
	w->clock++;
	if (b->quarantined) {
		if (rng_below(rng, 2) == 0) {
			ledger_landing_free(l, b->entry);
			b->quarantined = false;
		}
		return;
	}
	switch (b->state) {
	case LEDGER_FREE:
		assert_int_equal(ledger_offer(l, &block, &b->entry), ERR_OK);
		b->state = LEDGER_OFFERED;
		break;
	case LEDGER_OFFERED:
		walk_read(w, size, b);
		break;
	case LEDGER_READING:
		if (rng_below(rng, 8) == 0) {
			ledger_withdraw(l, b->entry);
			b->state = LEDGER_FREE;
			b->quarantined = true;
			break;
		}
		ledger_seal(l, b->entry);
		b->state = LEDGER_CACHED;
		walk_add(w, size, b);
		walk_use(w, size, b);
		break;
	default:
		if (b->lent && rng_below(rng, 2)) {
			ledger_return(l, b->entry);
			b->lent--;
		} else if (b->holds && rng_below(rng, 16)) {
			ledger_release(l, b->entry);
			b->state = --b->holds ? LEDGER_HELD : LEDGER_CACHED;
			b->order = w->clock;
		} else {
			walk_touch(w, size, b, rng);
		}
	}
}

static void sizes_agree_with_a_naive_model(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 4; seed++) {
		struct walk *w = calloc(1, sizeof(*w));
		struct rng rng = {.seed = seed};
		w->s = sizes_store_create(WALK_SLABS, &evict_lru);
		for (uint32_t step = 0; step < 60000; step++) {
			/* Sometimes one, sometimes the other, sometimes both. */
			uint32_t turn = step / 3000 % 3;
			int size = turn == 2 ? (int)rng_below(&rng, SIZES) : rng_below(&rng, 50) == 0 ? 1 - (int)turn : (int)turn;
			uint32_t key = draw(&rng, walk_keys[size]);
			struct walk_block *b = &w->blocks[size][key];
			do
				walk_step(w, size, b, key, &rng);
			while ((b->quarantined || b->lent || b->state != LEDGER_CACHED) && rng_below(&rng, 300) > 0);
			assert_int_equal(walk_is_there(w, size, key), b->state >= LEDGER_CACHED);
			if (step % 16 == 0)
				ledger_check(w->s->ledger);
		}
		assert_true(w->slabs_moved > 20 && w->claims_paid > 10);
		sizes_store_destroy(w->s);
		free(w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_agree_with_a_naive_model),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

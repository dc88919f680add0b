/* w-tinylfu - new blocks wait in a window; the oldest of it and the first in line of the main room are compared by how often
 * each was asked for lately, and the rarer one goes.
 *
 *   new --> [window, 1 %] --wins--> [probation] --used--> [protected, 80 % of main] --too many--> [probation]
 *
 * How often is estimated by a count-min sketch of 4-bit counters with conservative update; after ten times as many uses as
 * there are blocks every counter is halved. */
#include "kvstore/evict_impl.h"

#include "base/rng.h"

enum {
	WINDOW,
	PROBATION,
	PROTECTED,
	QUEUES,
	WINDOW_PART = 100,
	PROTECTED_PERCENT = 80,
	ROWS = 4,
	COUNT_MAX = 15,
	SAMPLE_FACTOR = 10,
	COUNTERS_FACTOR = 8, /* a row; of a scan's ten times as many keys most must not meet */
};

struct queues {
	uint32_t counts[QUEUES]; /* held ones too */
};

struct tiny {
	uint32_t entry_max, class_max;
	uint32_t fresh;
	uint32_t mask;          /* counters a row - 1 */
	uint64_t uses;          /* since half of the last halving */
	uint64_t blocks;        /* of all classes */
	struct queues *classes; /* [class_max] */
	struct evict_link *links; /* [entry_max] entries, then [class_max][QUEUES] sentinels */
	uint64_t *hashes;       /* [entry_max] */
	uint8_t *queue_of;      /* [entry_max] */
	uint8_t *counters;      /* [ROWS][(mask + 1) / 2]: two a byte */
};

static size_t lay_out(uint8_t *memory, uint32_t entry_max, uint32_t class_max, struct tiny *ret_parts)
{
	size_t used = 0;
	uint32_t counters = 16;
	while (counters < (uint64_t)COUNTERS_FACTOR * entry_max && counters < 1u << 31)
		counters *= 2;
	evict_cut(memory, &used, sizeof(struct tiny));
	*ret_parts = (struct tiny){.entry_max = entry_max, .class_max = class_max, .mask = counters - 1};
	ret_parts->classes = evict_cut(memory, &used, class_max * sizeof(struct queues));
	ret_parts->links = evict_cut(memory, &used, ((size_t)entry_max + class_max * QUEUES) * sizeof(struct evict_link));
	ret_parts->hashes = evict_cut(memory, &used, entry_max * sizeof(uint64_t));
	ret_parts->queue_of = evict_cut(memory, &used, entry_max);
	ret_parts->counters = evict_cut(memory, &used, (size_t)ROWS * counters / 2);
	return used;
}

static size_t tiny_bytes(uint32_t entry_max, uint32_t class_max)
{
	struct tiny parts;
	return lay_out(NULL, entry_max, class_max, &parts);
}

static void tiny_init(void *state, uint32_t entry_max, uint32_t class_max)
{
	struct tiny *t = state, parts;
	lay_out(state, entry_max, class_max, &parts);
	*t = parts;
	ring_init(t->links, entry_max, entry_max + class_max * QUEUES);
	for (uint32_t i = 0; i < class_max; i++)
		t->classes[i] = (struct queues){{0}};
}

/* ---- the sketch */

static uint32_t counter_index(const struct tiny *t, uint64_t hash, uint32_t row)
{
	return row * (t->mask + 1) + ((uint32_t)rng_mix(hash + row) & t->mask);
}

static uint32_t counter(const struct tiny *t, uint32_t index)
{
	return t->counters[index / 2] >> (index % 2 * 4) & COUNT_MAX;
}

static uint32_t estimate(const struct tiny *t, uint64_t hash)
{
	uint32_t least = COUNT_MAX;
	for (uint32_t row = 0; row < ROWS; row++) {
		uint32_t count = counter(t, counter_index(t, hash, row));
		least = count < least ? count : least;
	}
	return least;
}

static void count_use(struct tiny *t, uint64_t hash)
{
	uint32_t least = estimate(t, hash);
	for (uint32_t row = 0; row < ROWS && least < COUNT_MAX; row++) {
		uint32_t index = counter_index(t, hash, row);
		if (counter(t, index) == least) /* conservative: the others have others' uses in them already */
			t->counters[index / 2] += (uint8_t)(1 << (index % 2 * 4));
	}
	if (++t->uses < SAMPLE_FACTOR * t->blocks)
		return;
	t->uses /= 2;
	for (size_t i = 0; i < (size_t)ROWS * (t->mask + 1) / 2; i++)
		t->counters[i] = t->counters[i] >> 1 & 0x77;
}

/* ---- the queues */

static uint32_t sentinel(const struct tiny *t, uint32_t class_index, int queue)
{
	return t->entry_max + class_index * QUEUES + (uint32_t)queue;
}

static void push(struct tiny *t, uint32_t entry, uint32_t class_index, int queue)
{
	t->queue_of[entry] = (uint8_t)queue;
	t->classes[class_index].counts[queue]++;
	ring_push(t->links, sentinel(t, class_index, queue), entry);
}

static void move_first(struct tiny *t, uint32_t class_index, int from, int to)
{
	uint32_t first = ring_first(t->links, sentinel(t, class_index, from));
	ring_remove(t->links, first);
	t->classes[class_index].counts[from]--;
	push(t, first, class_index, to);
}

static uint32_t window_max(const struct queues *class)
{
	uint32_t all = class->counts[WINDOW] + class->counts[PROBATION] + class->counts[PROTECTED];
	return all < WINDOW_PART ? 1 : all / WINDOW_PART;
}

static void tiny_add(void *state, uint32_t entry, uint32_t class_index, uint64_t hash)
{
	struct tiny *t = state;
	assert(entry < t->entry_max && class_index < t->class_max);
	struct queues *class = &t->classes[class_index];
	t->hashes[entry] = hash;
	ring_reach(t->links, &t->fresh, entry);
	t->blocks++;
	count_use(t, hash);
	push(t, entry, class_index, WINDOW);
	/* There is room still: the window overflows without a duel. */
	while (class->counts[WINDOW] > window_max(class) &&
	       ring_first(t->links, sentinel(t, class_index, WINDOW)) != EVICT_NONE)
		move_first(t, class_index, WINDOW, PROBATION);
}

static void tiny_hold(void *state, uint32_t entry, uint32_t class_index)
{
	struct tiny *t = state;
	struct queues *class = &t->classes[class_index];
	count_use(t, t->hashes[entry]);
	ring_remove(t->links, entry);
	if (t->queue_of[entry] != PROBATION)
		return;
	t->queue_of[entry] = PROTECTED;
	class->counts[PROBATION]--;
	class->counts[PROTECTED]++;
	while (class->counts[PROTECTED] * (uint64_t)100 >
	       (uint64_t)(class->counts[PROBATION] + class->counts[PROTECTED]) * PROTECTED_PERCENT) {
		if (ring_first(t->links, sentinel(t, class_index, PROTECTED)) == EVICT_NONE)
			return;
		move_first(t, class_index, PROTECTED, PROBATION);
	}
}

static void tiny_release(void *state, uint32_t entry, uint32_t class_index)
{
	struct tiny *t = state;
	ring_push(t->links, sentinel(t, class_index, t->queue_of[entry]), entry);
}

static void tiny_evict(void *state, uint32_t entry, uint32_t class_index)
{
	struct tiny *t = state;
	ring_remove(t->links, entry);
	t->classes[class_index].counts[t->queue_of[entry]]--;
	t->blocks--;
}

static uint32_t tiny_victim(void *state, uint32_t class_index)
{
	struct tiny *t = state;
	const struct queues *class = &t->classes[class_index];
	uint32_t candidate = ring_first(t->links, sentinel(t, class_index, WINDOW));
	uint32_t victim = ring_first(t->links, sentinel(t, class_index, PROBATION));
	if (victim == EVICT_NONE)
		victim = ring_first(t->links, sentinel(t, class_index, PROTECTED));
	if (candidate == EVICT_NONE || victim == EVICT_NONE)
		return candidate == EVICT_NONE ? victim : candidate;
	if (class->counts[WINDOW] < window_max(class))
		return victim;
	if (estimate(t, t->hashes[candidate]) <= estimate(t, t->hashes[victim]))
		return candidate;
	move_first(t, class_index, WINDOW, PROBATION);
	return victim;
}

const struct evict_policy evict_w_tinylfu = {
	.name = "w-tinylfu",
	.bytes = tiny_bytes,
	.init = tiny_init,
	.add = tiny_add,
	.hold = tiny_hold,
	.release = tiny_release,
	.evict = tiny_evict,
	.victim = tiny_victim,
};

#include "naive_evict.h"

#include <stdbool.h>
#include <string.h>

enum { ENTRIES = 4096, CLASSES = 2, QUEUES = 3, LIST_MAX = 8192, KEYS = 1024 };

struct list {
	uint64_t items[LIST_MAX];
	uint32_t count;
	uint64_t pushed;
};

struct naive {
	struct list queues[CLASSES][QUEUES]; /* of entries, the first to go first */
	struct list ghosts[CLASSES][QUEUES]; /* of hashes */
	uint64_t hash[ENTRIES], priority[ENTRIES], serial[ENTRIES];
	uint32_t uses[ENTRIES], queue[ENTRIES];
	bool held[ENTRIES];
	uint32_t held_count[CLASSES][QUEUES];
	uint64_t age[CLASSES], clock;
	uint64_t share[CLASSES];
	struct { uint64_t hash; uint32_t count; } sketch[KEYS];
	uint64_t sample, blocks;
};

static void push(struct list *l, uint64_t item)
{
	l->items[l->count++] = item;
	l->pushed++;
}

/* Its place from the front before it went, or UINT32_MAX. */
static uint32_t pull(struct list *l, uint64_t item)
{
	for (uint32_t i = 0; i < l->count; i++) {
		if (l->items[i] != item)
			continue;
		memmove(&l->items[i], &l->items[i + 1], (--l->count - i) * sizeof(l->items[0]));
		return i;
	}
	return UINT32_MAX;
}

static uint32_t first(const struct list *l)
{
	return l->count ? (uint32_t)l->items[0] : EVICT_NONE;
}

static size_t naive_bytes(uint32_t entry_max, uint32_t class_max)
{
	(void)entry_max;
	(void)class_max;
	return sizeof(struct naive);
}

static void naive_init(void *state, uint32_t entry_max, uint32_t class_max)
{
	(void)entry_max;
	(void)class_max;
	struct naive *n = state;
	memset(n, 0, sizeof(*n));
	for (int c = 0; c < CLASSES; c++)
		n->share[c] = (uint64_t)1 << 31;
}

/* Blocks of a queue, held ones too; of a class. */
static uint32_t size(const struct naive *n, uint32_t c, int q)
{
	return n->queues[c][q].count + n->held_count[c][q];
}

static uint32_t all(const struct naive *n, uint32_t c)
{
	return size(n, c, 0) + size(n, c, 1) + size(n, c, 2);
}

/* ---- lru */

static void lru_add(void *state, uint32_t e, uint32_t c, uint64_t hash)
{
	(void)hash;
	push(&((struct naive *)state)->queues[c][0], e);
}

static void lru_release(void *state, uint32_t e, uint32_t c)
{
	lru_add(state, e, c, 0);
}

static void lru_pull(void *state, uint32_t e, uint32_t c)
{
	pull(&((struct naive *)state)->queues[c][0], e);
}

static uint32_t lru_victim(void *state, uint32_t c)
{
	return first(&((struct naive *)state)->queues[c][0]);
}

/* ---- lfu */

static void lfu_release(void *state, uint32_t e, uint32_t c)
{
	struct naive *n = state;
	n->priority[e] = n->age[c] + n->uses[e];
	n->serial[e] = n->clock++;
	push(&n->queues[c][0], e);
}

static void lfu_add(void *state, uint32_t e, uint32_t c, uint64_t hash)
{
	(void)hash;
	((struct naive *)state)->uses[e] = 1;
	lfu_release(state, e, c);
}

static void lfu_hold(void *state, uint32_t e, uint32_t c)
{
	((struct naive *)state)->uses[e]++;
	lru_pull(state, e, c);
}

static uint32_t lfu_victim(void *state, uint32_t c)
{
	struct naive *n = state;
	uint32_t best = EVICT_NONE;
	for (uint32_t i = 0; i < n->queues[c][0].count; i++) {
		uint32_t e = (uint32_t)n->queues[c][0].items[i];
		if (best == EVICT_NONE || n->priority[e] < n->priority[best] ||
		    (n->priority[e] == n->priority[best] && n->serial[e] < n->serial[best]))
			best = e;
	}
	return best;
}

static void lfu_evict(void *state, uint32_t e, uint32_t c)
{
	struct naive *n = state;
	if (lfu_victim(state, c) == e)
		n->age[c] = n->priority[e];
	lru_pull(state, e, c);
}

/* ---- 2q-adaptive: queue 0 is probation, 1 is protected */

static void two_add(void *state, uint32_t e, uint32_t c, uint64_t hash)
{
	struct naive *n = state;
	uint64_t one = (uint64_t)1 << 32, step = one * 4 / (all(n, c) + 1);
	struct list *young = &n->ghosts[c][0], *old = &n->ghosts[c][1];
	bool was_young = pull(young, hash) != UINT32_MAX;
	n->hash[e] = hash;
	n->queue[e] = 1;
	if (was_young) {
		/* Not its place among the ghosts that are left: some that came later may be back already. */
		uint64_t later = young->pushed - 1 - n->serial[hash % KEYS];
		if (later < all(n, c) / 4)
			n->share[c] = n->share[c] + step < one - one / 10 ? n->share[c] + step : one - one / 10;
	} else if (pull(old, hash) != UINT32_MAX) {
		n->share[c] = n->share[c] > one / 10 + step ? n->share[c] - step : one / 10;
	} else {
		n->queue[e] = 0;
	}
	push(&n->queues[c][n->queue[e]], e);
}

static void two_hold(void *state, uint32_t e, uint32_t c)
{
	struct naive *n = state;
	pull(&n->queues[c][n->queue[e]], e);
	n->queue[e] = 1;
	n->held_count[c][1]++;
}

static void queue_release(void *state, uint32_t e, uint32_t c)
{
	struct naive *n = state;
	n->held_count[c][n->queue[e]]--;
	push(&n->queues[c][n->queue[e]], e);
}

static void two_evict(void *state, uint32_t e, uint32_t c)
{
	struct naive *n = state;
	uint32_t q = n->queue[e], limit = all(n, c) * (q == 0 ? 2 : 1);
	struct list *ghosts = &n->ghosts[c][q];
	pull(&n->queues[c][q], e);
	while (ghosts->count >= limit)
		pull(ghosts, ghosts->items[0]);
	if (q == 0)
		n->serial[n->hash[e] % KEYS] = ghosts->pushed;
	push(ghosts, n->hash[e]);
}

static uint32_t two_victim(void *state, uint32_t c)
{
	struct naive *n = state;
	uint32_t young = first(&n->queues[c][0]), old = first(&n->queues[c][1]);
	if (young == EVICT_NONE || old == EVICT_NONE)
		return young == EVICT_NONE ? old : young;
	return size(n, c, 0) >= (n->share[c] * all(n, c)) >> 32 ? young : old;
}

/* ---- s3fifo: queue 0 is small, 1 is main; held entries stay in their place */

static void s3_add(void *state, uint32_t e, uint32_t c, uint64_t hash)
{
	struct naive *n = state;
	n->hash[e] = hash;
	n->uses[e] = 0;
	n->held[e] = false;
	n->queue[e] = pull(&n->ghosts[c][0], hash) != UINT32_MAX;
	push(&n->queues[c][n->queue[e]], e);
}

static void s3_hold(void *state, uint32_t e, uint32_t c)
{
	struct naive *n = state;
	(void)c;
	n->held[e] = true;
	if (n->uses[e] < 3)
		n->uses[e]++;
}

static void s3_release(void *state, uint32_t e, uint32_t c)
{
	(void)c;
	((struct naive *)state)->held[e] = false;
}

static void s3_evict(void *state, uint32_t e, uint32_t c)
{
	struct naive *n = state;
	struct list *ghosts = &n->ghosts[c][0];
	if (n->queue[e] == 0) {
		while (ghosts->count >= all(n, c) / 10 * 9 + 1)
			pull(ghosts, ghosts->items[0]);
		push(ghosts, n->hash[e]);
	}
	pull(&n->queues[c][n->queue[e]], e);
}

static uint32_t evictable(const struct naive *n, uint32_t c, int q)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < n->queues[c][q].count; i++)
		count += !n->held[n->queues[c][q].items[i]];
	return count;
}

static uint32_t s3_victim(void *state, uint32_t c)
{
	struct naive *n = state;
	while (evictable(n, c, 0) + evictable(n, c, 1) > 0) {
		uint32_t small = n->queues[c][0].count;
		int q = small > 0 && (small * 10 >= all(n, c) || evictable(n, c, 1) == 0) ? 0 : 1;
		uint32_t e = first(&n->queues[c][q]);
		if (!n->held[e] && n->uses[e] == 0)
			return e;
		pull(&n->queues[c][q], e);
		n->uses[e] = q == 0 ? 0 : n->uses[e] - !n->held[e];
		n->queue[e] = 1;
		push(&n->queues[c][1], e);
	}
	return EVICT_NONE;
}

/* ---- w-tinylfu: window, probation, protected; uses are counted exactly */

static uint32_t *uses_of(struct naive *n, uint64_t hash)
{
	uint32_t i = 0;
	while (n->sketch[i].hash != hash && n->sketch[i].count + n->sketch[i].hash != 0)
		i++;
	n->sketch[i].hash = hash;
	return &n->sketch[i].count;
}

static void count(struct naive *n, uint64_t hash)
{
	uint32_t *uses = uses_of(n, hash);
	if (*uses < 15)
		++*uses;
	if (++n->sample < 10 * n->blocks)
		return;
	n->sample /= 2;
	for (uint32_t i = 0; i < KEYS; i++)
		n->sketch[i].count /= 2;
}

static uint32_t window_max(const struct naive *n, uint32_t c)
{
	return all(n, c) < 100 ? 1 : all(n, c) / 100;
}

static void move(struct naive *n, uint32_t c, int from, int to)
{
	uint32_t e = first(&n->queues[c][from]);
	pull(&n->queues[c][from], e);
	n->queue[e] = (uint32_t)to;
	push(&n->queues[c][to], e);
}

static void tiny_add(void *state, uint32_t e, uint32_t c, uint64_t hash)
{
	struct naive *n = state;
	n->hash[e] = hash;
	n->queue[e] = 0;
	n->blocks++;
	count(n, hash);
	push(&n->queues[c][0], e);
	while (size(n, c, 0) > window_max(n, c) && n->queues[c][0].count)
		move(n, c, 0, 1);
}

static void tiny_hold(void *state, uint32_t e, uint32_t c)
{
	struct naive *n = state;
	count(n, n->hash[e]);
	pull(&n->queues[c][n->queue[e]], e);
	bool was_probation = n->queue[e] == 1;
	n->queue[e] += was_probation;
	n->held_count[c][n->queue[e]]++;
	while (was_probation && n->queues[c][2].count && size(n, c, 2) * 100 > (size(n, c, 1) + size(n, c, 2)) * 80)
		move(n, c, 2, 1);
}

static void tiny_evict(void *state, uint32_t e, uint32_t c)
{
	struct naive *n = state;
	pull(&n->queues[c][n->queue[e]], e);
	n->blocks--;
}

static uint32_t tiny_victim(void *state, uint32_t c)
{
	struct naive *n = state;
	uint32_t candidate = first(&n->queues[c][0]);
	uint32_t victim = first(&n->queues[c][n->queues[c][1].count ? 1 : 2]);
	if (candidate == EVICT_NONE || victim == EVICT_NONE)
		return candidate == EVICT_NONE ? victim : candidate;
	if (size(n, c, 0) < window_max(n, c))
		return victim;
	if (*uses_of(n, n->hash[candidate]) <= *uses_of(n, n->hash[victim]))
		return candidate;
	move(n, c, 0, 1);
	return victim;
}

#define NAIVE(add_, hold_, release_, evict_, victim_) \
	&(const struct evict_policy){.bytes = naive_bytes, .init = naive_init, .add = add_, .hold = hold_, \
				     .release = release_, .evict = evict_, .victim = victim_}

const struct evict_policy *const naive_policies[EVICT_POLICIES] = {
	NAIVE(two_add, two_hold, queue_release, two_evict, two_victim),
	NAIVE(lru_add, lru_pull, lru_release, lru_pull, lru_victim),
	NAIVE(lfu_add, lfu_hold, lfu_release, lfu_evict, lfu_victim),
	NAIVE(s3_add, s3_hold, s3_release, s3_evict, s3_victim),
	NAIVE(tiny_add, tiny_hold, queue_release, tiny_evict, tiny_victim),
};

/* 2q-adaptive - scan-resistant where room is short, and as good as least recently used where it is not.
 *
 *   new --> [probation] --used--> [protected] <--used
 *               |                      ^  |
 *      evicted: ghost ---comes back----+  +--evicted: ghost (comes back to protected)
 *
 * As in 2Q (Johnson and Shasha, 1994) a document that is read once passes through probation and takes nothing from what was
 * used twice.  As in ARC (Megiddo and Modha, 2003) ghosts say how much of the room is for probation: what comes back soon
 * after it left probation would have hit, had probation been longer; what comes back after it left the protected would
 * have hit, had that been longer.  Unlike ARC's, the ghosts reach further than the room, and an old one of probation moves
 * nothing: no share would have kept it.
 *
 * All constants were chosen on the public trace (docs/decisions/eviction-by-order-of-touch.md); half or double of each
 * changes the hit rate by less than a point, but for GHOSTS_PROBATION. */
#include "kvstore/evict_impl.h"
#include "kvstore/ghosts.h"

enum {
	PROBATION,
	PROTECTED,
	QUEUES,
	GHOSTS_PROBATION = 2, /* times the blocks there are; half of it costs 2 points at 1 and 2 % */
	GHOSTS_PROTECTED = 1,
	GHOST_YOUNG_PART = 4, /* a ghost of probation is young among as many as a quarter of the blocks */
	STEP_BLOCKS = 4,      /* what one ghost moves */
};

#define SHARE_ONE ((uint64_t)1 << 32)
#define SHARE_MIN (SHARE_ONE / 10)
#define SHARE_MAX (SHARE_ONE - SHARE_MIN)

struct queues {
	uint64_t share; /* of probation; SHARE_ONE: all */
	uint32_t counts[QUEUES]; /* held ones too */
};

struct two_queues {
	uint32_t entry_max, class_max;
	uint32_t fresh;
	struct queues *classes;   /* [class_max] */
	struct ghosts *ghosts;    /* list: class * QUEUES + queue */
	struct evict_link *links; /* [entry_max] entries, then [class_max][QUEUES] sentinels */
	uint64_t *hashes;         /* [entry_max] */
	uint8_t *queue_of;        /* [entry_max] */
};

static size_t lay_out(uint8_t *memory, uint32_t entry_max, uint32_t class_max, struct two_queues *ret_parts)
{
	size_t used = 0;
	evict_cut(memory, &used, sizeof(struct two_queues));
	*ret_parts = (struct two_queues){.entry_max = entry_max, .class_max = class_max};
	ret_parts->classes = evict_cut(memory, &used, class_max * sizeof(struct queues));
	ret_parts->links = evict_cut(memory, &used, ((size_t)entry_max + class_max * QUEUES) * sizeof(struct evict_link));
	ret_parts->hashes = evict_cut(memory, &used, entry_max * sizeof(uint64_t));
	ret_parts->queue_of = evict_cut(memory, &used, entry_max);
	uint32_t ghost_max = (GHOSTS_PROBATION + GHOSTS_PROTECTED) * entry_max;
	ret_parts->ghosts = evict_cut(memory, &used, ghosts_bytes(ghost_max, class_max * QUEUES));
	return used;
}

static size_t two_bytes(uint32_t entry_max, uint32_t class_max)
{
	struct two_queues parts;
	return lay_out(NULL, entry_max, class_max, &parts);
}

static void two_init(void *state, uint32_t entry_max, uint32_t class_max)
{
	struct two_queues *t = state, parts;
	lay_out(state, entry_max, class_max, &parts);
	*t = parts;
	ghosts_init(t->ghosts, (GHOSTS_PROBATION + GHOSTS_PROTECTED) * entry_max, class_max * QUEUES);
	ring_init(t->links, entry_max, entry_max + class_max * QUEUES);
	for (uint32_t i = 0; i < class_max; i++)
		t->classes[i] = (struct queues){.share = SHARE_ONE / 2};
}

static uint32_t sentinel(const struct two_queues *t, uint32_t class_index, int queue)
{
	return t->entry_max + class_index * QUEUES + (uint32_t)queue;
}

static uint32_t blocks(const struct queues *class)
{
	return class->counts[PROBATION] + class->counts[PROTECTED];
}

/* What a ghost's return says of the shares. */
static void learn(struct queues *class, int queue, uint64_t age)
{
	uint64_t step = SHARE_ONE * STEP_BLOCKS / (blocks(class) + 1);
	if (queue == PROBATION && age < blocks(class) / GHOST_YOUNG_PART)
		class->share = class->share + step < SHARE_MAX ? class->share + step : SHARE_MAX;
	else if (queue == PROTECTED)
		class->share = class->share > SHARE_MIN + step ? class->share - step : SHARE_MIN;
}

static void two_add(void *state, uint32_t entry, uint32_t class_index, uint64_t hash)
{
	struct two_queues *t = state;
	assert(entry < t->entry_max && class_index < t->class_max);
	struct queues *class = &t->classes[class_index];
	uint32_t list;
	uint64_t age;
	bool known = ghosts_take(t->ghosts, hash, &list, &age);
	if (known && list / QUEUES == class_index)
		learn(class, (int)(list % QUEUES), age);
	t->hashes[entry] = hash;
	t->queue_of[entry] = known ? PROTECTED : PROBATION;
	class->counts[t->queue_of[entry]]++;
	ring_reach(t->links, &t->fresh, entry);
	ring_push(t->links, sentinel(t, class_index, t->queue_of[entry]), entry);
}

static void two_hold(void *state, uint32_t entry, uint32_t class_index)
{
	struct two_queues *t = state;
	struct queues *class = &t->classes[class_index];
	ring_remove(t->links, entry);
	class->counts[t->queue_of[entry]]--;
	class->counts[PROTECTED]++;
	t->queue_of[entry] = PROTECTED;
}

static void two_release(void *state, uint32_t entry, uint32_t class_index)
{
	struct two_queues *t = state;
	ring_push(t->links, sentinel(t, class_index, PROTECTED), entry);
}

static void two_evict(void *state, uint32_t entry, uint32_t class_index)
{
	struct two_queues *t = state;
	struct queues *class = &t->classes[class_index];
	int queue = t->queue_of[entry];
	uint32_t limit = blocks(class) * (queue == PROBATION ? GHOSTS_PROBATION : GHOSTS_PROTECTED);
	ring_remove(t->links, entry);
	class->counts[queue]--;
	ghosts_put(t->ghosts, class_index * QUEUES + (uint32_t)queue, t->hashes[entry], limit);
}

static uint32_t two_victim(void *state, uint32_t class_index)
{
	const struct two_queues *t = state;
	const struct queues *class = &t->classes[class_index];
	bool long_enough = (uint64_t)class->counts[PROBATION] >= class->share * blocks(class) >> 32;
	uint32_t probation = ring_first(t->links, sentinel(t, class_index, PROBATION));
	uint32_t protected = ring_first(t->links, sentinel(t, class_index, PROTECTED));
	if (probation == EVICT_NONE || protected == EVICT_NONE)
		return probation == EVICT_NONE ? protected : probation;
	return long_enough ? probation : protected;
}

const struct evict_policy evict_2q_adaptive = {
	.name = "2q-adaptive",
	.bytes = two_bytes,
	.init = two_init,
	.add = two_add,
	.hold = two_hold,
	.release = two_release,
	.evict = two_evict,
	.victim = two_victim,
};

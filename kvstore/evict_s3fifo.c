/* s3fifo - a short queue that most blocks leave unused, a long one in which use is a reprieve, and ghosts of the short one.
 *
 *   new --> [small, a tenth] --used--> [main] <--used: again from the end, one use less
 *                  |                     ^ |
 *           evicted: ghost --comes back--+ +--evicted
 *
 * Nothing moves when it is used; it moves when it is first in line.  What is held then counts as used. */
#include "kvstore/evict_impl.h"
#include "kvstore/ghosts.h"

enum { SMALL, MAIN, QUEUES, SMALL_PART = 10, USES_MAX = 3 };

struct s3_entry {
	uint64_t hash;
	uint8_t queue, uses;
	bool held;
};

struct s3_class {
	uint32_t counts[QUEUES];    /* held ones too */
	uint32_t evictable[QUEUES]; /* of these */
};

struct s3 {
	uint32_t entry_max, class_max;
	uint32_t fresh;
	struct s3_class *classes;  /* [class_max] */
	struct s3_entry *entries;  /* [entry_max] */
	struct evict_link *links;  /* [entry_max] entries, then [class_max][QUEUES] sentinels */
	struct ghosts *ghosts;     /* list: class */
};

static size_t lay_out(uint8_t *memory, uint32_t entry_max, uint32_t class_max, struct s3 *ret_parts)
{
	size_t used = 0;
	evict_cut(memory, &used, sizeof(struct s3));
	*ret_parts = (struct s3){.entry_max = entry_max, .class_max = class_max};
	ret_parts->classes = evict_cut(memory, &used, class_max * sizeof(struct s3_class));
	ret_parts->entries = evict_cut(memory, &used, entry_max * sizeof(struct s3_entry));
	ret_parts->links = evict_cut(memory, &used, ((size_t)entry_max + class_max * QUEUES) * sizeof(struct evict_link));
	ret_parts->ghosts = evict_cut(memory, &used, ghosts_bytes(entry_max, class_max));
	return used;
}

static size_t s3_bytes(uint32_t entry_max, uint32_t class_max)
{
	struct s3 parts;
	return lay_out(NULL, entry_max, class_max, &parts);
}

static void s3_init(void *state, uint32_t entry_max, uint32_t class_max)
{
	struct s3 *s3 = state, parts;
	lay_out(state, entry_max, class_max, &parts);
	*s3 = parts;
	ring_init(s3->links, entry_max, entry_max + class_max * QUEUES);
	ghosts_init(s3->ghosts, entry_max, class_max);
	for (uint32_t i = 0; i < class_max; i++)
		s3->classes[i] = (struct s3_class){0};
}

static void push(struct s3 *s3, uint32_t entry, uint32_t class_index, uint8_t queue)
{
	struct s3_class *class = &s3->classes[class_index];
	s3->entries[entry].queue = queue;
	class->counts[queue]++;
	class->evictable[queue] += !s3->entries[entry].held;
	ring_push(s3->links, s3->entry_max + class_index * QUEUES + queue, entry);
}

static void pull(struct s3 *s3, uint32_t entry, uint32_t class_index)
{
	struct s3_class *class = &s3->classes[class_index];
	uint8_t queue = s3->entries[entry].queue;
	class->counts[queue]--;
	class->evictable[queue] -= !s3->entries[entry].held;
	ring_remove(s3->links, entry);
}

static void s3_add(void *state, uint32_t entry, uint32_t class_index, uint64_t hash)
{
	struct s3 *s3 = state;
	assert(entry < s3->entry_max && class_index < s3->class_max);
	uint32_t list;
	uint64_t age;
	s3->entries[entry] = (struct s3_entry){.hash = hash};
	ring_reach(s3->links, &s3->fresh, entry);
	push(s3, entry, class_index, ghosts_take(s3->ghosts, hash, &list, &age) ? MAIN : SMALL);
}

static void s3_hold(void *state, uint32_t entry, uint32_t class_index)
{
	struct s3 *s3 = state;
	struct s3_entry *e = &s3->entries[entry];
	assert(!e->held);
	e->held = true;
	e->uses += e->uses < USES_MAX;
	s3->classes[class_index].evictable[e->queue]--;
}

static void s3_release(void *state, uint32_t entry, uint32_t class_index)
{
	struct s3 *s3 = state;
	struct s3_entry *e = &s3->entries[entry];
	assert(e->held);
	e->held = false;
	s3->classes[class_index].evictable[e->queue]++;
}

static void s3_evict(void *state, uint32_t entry, uint32_t class_index)
{
	struct s3 *s3 = state;
	const struct s3_entry *e = &s3->entries[entry];
	const struct s3_class *class = &s3->classes[class_index];
	assert(!e->held);
	if (e->queue == SMALL) /* as many ghosts as the main queue is to have blocks */
		ghosts_put(s3->ghosts, class_index, e->hash,
			   (class->counts[SMALL] + class->counts[MAIN]) / SMALL_PART * (SMALL_PART - 1) + 1);
	pull(s3, entry, class_index);
}

/* The first of the queue is the victim, or gets out of the way: false. */
static bool look_at_first(struct s3 *s3, uint32_t class_index, int queue, uint32_t *ret_first)
{
	uint32_t first = ring_first(s3->links, s3->entry_max + class_index * QUEUES + (uint32_t)queue);
	struct s3_entry *e = &s3->entries[first];
	*ret_first = first;
	if (!e->held && e->uses == 0)
		return true;
	pull(s3, first, class_index);
	if (queue == SMALL)
		e->uses = 0;
	else if (!e->held)
		e->uses--;
	push(s3, first, class_index, MAIN);
	return false;
}

static uint32_t s3_victim(void *state, uint32_t class_index)
{
	struct s3 *s3 = state;
	const struct s3_class *class = &s3->classes[class_index];
	while (class->evictable[SMALL] + class->evictable[MAIN] > 0) {
		bool small_full = class->counts[SMALL] * (uint64_t)SMALL_PART >= class->counts[SMALL] + class->counts[MAIN];
		bool small = class->counts[SMALL] > 0 && (small_full || class->evictable[MAIN] == 0);
		uint32_t first;
		if (look_at_first(s3, class_index, small ? SMALL : MAIN, &first))
			return first;
	}
	return EVICT_NONE;
}

const struct evict_policy evict_s3fifo = {
	.name = "s3fifo",
	.bytes = s3_bytes,
	.init = s3_init,
	.add = s3_add,
	.hold = s3_hold,
	.release = s3_release,
	.evict = s3_evict,
	.victim = s3_victim,
};

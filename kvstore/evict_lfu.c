/* lfu - least frequently used first, with dynamic aging: an entry's priority is its uses since it came, on top of the
 * priority of the last victim when it was last used.  So what was used often long ago gives way in the end. */
#include "kvstore/evict_impl.h"

struct lfu_entry {
	uint64_t priority;
	uint64_t serial; /* of its last use: among equals the oldest goes first */
	uint32_t uses;
	uint32_t at; /* in the heap */
};

struct lfu_class {
	uint64_t age;
	uint32_t count;
};

struct lfu {
	uint32_t entry_max, class_max;
	uint64_t serial;
	struct lfu_class *classes; /* [class_max] */
	struct lfu_entry *entries; /* [entry_max] */
	uint32_t *heaps;           /* [class_max][entry_max]; touched as far as it is used */
};

static size_t lay_out(uint8_t *memory, uint32_t entry_max, uint32_t class_max, struct lfu *ret_parts)
{
	size_t used = 0;
	evict_cut(memory, &used, sizeof(struct lfu));
	*ret_parts = (struct lfu){.entry_max = entry_max, .class_max = class_max};
	ret_parts->classes = evict_cut(memory, &used, class_max * sizeof(struct lfu_class));
	ret_parts->entries = evict_cut(memory, &used, entry_max * sizeof(struct lfu_entry));
	ret_parts->heaps = evict_cut(memory, &used, (size_t)class_max * entry_max * sizeof(uint32_t));
	return used;
}

static size_t lfu_bytes(uint32_t entry_max, uint32_t class_max)
{
	struct lfu parts;
	return lay_out(NULL, entry_max, class_max, &parts);
}

static void lfu_init(void *state, uint32_t entry_max, uint32_t class_max)
{
	struct lfu *lfu = state, parts;
	lay_out(state, entry_max, class_max, &parts);
	*lfu = parts;
	for (uint32_t i = 0; i < class_max; i++)
		lfu->classes[i] = (struct lfu_class){0};
}

static uint32_t *heap_of(const struct lfu *lfu, uint32_t class_index)
{
	return lfu->heaps + (size_t)class_index * lfu->entry_max;
}

static bool before(const struct lfu *lfu, uint32_t a, uint32_t b)
{
	const struct lfu_entry *x = &lfu->entries[a], *y = &lfu->entries[b];
	return x->priority != y->priority ? x->priority < y->priority : x->serial < y->serial;
}

static void put_at(struct lfu *lfu, uint32_t *heap, uint32_t at, uint32_t entry)
{
	heap[at] = entry;
	lfu->entries[entry].at = at;
}

static void sift_up(struct lfu *lfu, uint32_t *heap, uint32_t at, uint32_t entry)
{
	for (; at > 0 && before(lfu, entry, heap[(at - 1) / 2]); at = (at - 1) / 2)
		put_at(lfu, heap, at, heap[(at - 1) / 2]);
	put_at(lfu, heap, at, entry);
}

static void sift_down(struct lfu *lfu, uint32_t *heap, uint32_t count, uint32_t at, uint32_t entry)
{
	for (uint32_t child; (child = 2 * at + 1) < count; at = child) {
		if (child + 1 < count && before(lfu, heap[child + 1], heap[child]))
			child++;
		if (before(lfu, entry, heap[child]))
			break;
		put_at(lfu, heap, at, heap[child]);
	}
	put_at(lfu, heap, at, entry);
}

static void push(struct lfu *lfu, uint32_t entry, uint32_t class_index)
{
	struct lfu_class *class = &lfu->classes[class_index];
	lfu->entries[entry].priority = class->age + lfu->entries[entry].uses;
	lfu->entries[entry].serial = lfu->serial++;
	sift_up(lfu, heap_of(lfu, class_index), class->count++, entry);
}

static void drop(struct lfu *lfu, uint32_t entry, uint32_t class_index)
{
	uint32_t *heap = heap_of(lfu, class_index);
	uint32_t at = lfu->entries[entry].at, count = --lfu->classes[class_index].count;
	assert(heap[at] == entry);
	uint32_t last = heap[count];
	if (at == count)
		return;
	if (before(lfu, last, entry))
		sift_up(lfu, heap, at, last);
	else
		sift_down(lfu, heap, count, at, last);
}

static void lfu_add(void *state, uint32_t entry, uint32_t class_index, uint64_t hash)
{
	struct lfu *lfu = state;
	(void)hash;
	assert(entry < lfu->entry_max && class_index < lfu->class_max);
	lfu->entries[entry].uses = 1;
	push(lfu, entry, class_index);
}

static void lfu_hold(void *state, uint32_t entry, uint32_t class_index)
{
	struct lfu *lfu = state;
	lfu->entries[entry].uses++;
	drop(lfu, entry, class_index);
}

static void lfu_release(void *state, uint32_t entry, uint32_t class_index)
{
	push(state, entry, class_index);
}

static void lfu_evict(void *state, uint32_t entry, uint32_t class_index)
{
	struct lfu *lfu = state;
	if (lfu->entries[entry].at == 0)
		lfu->classes[class_index].age = lfu->entries[entry].priority;
	drop(lfu, entry, class_index);
}

static uint32_t lfu_victim(void *state, uint32_t class_index)
{
	const struct lfu *lfu = state;
	return lfu->classes[class_index].count ? heap_of(lfu, class_index)[0] : EVICT_NONE;
}

const struct evict_policy evict_lfu = {
	.name = "lfu",
	.bytes = lfu_bytes,
	.init = lfu_init,
	.add = lfu_add,
	.hold = lfu_hold,
	.release = lfu_release,
	.evict = lfu_evict,
	.victim = lfu_victim,
};

#include "model/bpe.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

#define DEAD UINT32_MAX /* the id of a symbol that was merged into its left neighbour */
#define NO   UINT32_MAX

struct bpe_symbol {
	uint32_t id;
	uint32_t prev; /* symbol index, or NO */
	uint32_t next;
};

struct bpe_merge {
	uint32_t rank;
	uint32_t at; /* the left symbol */
};

struct pair_slot {
	uint32_t left; /* DEAD: a free slot */
	uint32_t right;
	uint32_t rank;
};

struct pair_table {
	struct pair_slot *slots; /* [slot_count] */
	size_t slot_count;       /* a power of two */
	size_t used_count;
};

struct bpe {
	struct pair_table merges;
	struct pair_table meetings; /* rank: 0 */
	bool meet_all;
	uint32_t *merged; /* [rank] */
	size_t merge_count;
	size_t merge_capacity;
};

enum err bpe_create(struct bpe **ret_bpe)
{
	struct bpe *bpe = calloc(1, sizeof(*bpe));
	if (!bpe)
		return ERR_NOMEM;
	*ret_bpe = bpe;
	return ERR_OK;
}

void bpe_destroy(struct bpe *bpe)
{
	if (!bpe)
		return;
	free(bpe->merges.slots);
	free(bpe->meetings.slots);
	free(bpe->merged);
	free(bpe);
}

static struct pair_slot *find_slot(const struct pair_table *table, uint32_t left, uint32_t right)
{
	size_t mask = table->slot_count - 1;
	size_t at = (size_t)rng_mix((uint64_t)left << 32 | right) & mask;
	for (;; at = (at + 1) & mask) {
		struct pair_slot *slot = &table->slots[at];
		if (slot->left == DEAD || (slot->left == left && slot->right == right))
			return slot;
	}
}

static enum err grow(struct pair_table *table)
{
	size_t count = table->slot_count ? table->slot_count * 2 : 1024;
	struct pair_slot *slots = malloc(count * sizeof(*slots));
	if (!slots)
		return ERR_NOMEM;
	memset(slots, 0xff, count * sizeof(*slots));
	struct pair_table larger = {.slots = slots, .slot_count = count, .used_count = table->used_count};
	for (size_t i = 0; i < table->slot_count; i++)
		if (table->slots[i].left != DEAD)
			*find_slot(&larger, table->slots[i].left, table->slots[i].right) = table->slots[i];
	free(table->slots);
	*table = larger;
	return ERR_OK;
}

static enum err put(struct pair_table *table, uint32_t left, uint32_t right, uint32_t rank)
{
	if (table->used_count * 2 >= table->slot_count) {
		enum err e = grow(table);
		if (e != ERR_OK)
			return e;
	}
	struct pair_slot *slot = find_slot(table, left, right);
	table->used_count += slot->left == DEAD;
	*slot = (struct pair_slot){left, right, rank};
	return ERR_OK;
}

/* The pair's rank, or NO. */
static uint32_t find_rank(const struct pair_table *table, uint32_t left, uint32_t right)
{
	if (table->slot_count == 0)
		return NO;
	const struct pair_slot *slot = find_slot(table, left, right);
	return slot->left == DEAD ? NO : slot->rank;
}

enum err bpe_add_merge(struct bpe *bpe, uint32_t left, uint32_t right, uint32_t merged)
{
	assert(left != DEAD && right != DEAD && merged != DEAD);
	if (bpe->merge_count == bpe->merge_capacity) {
		size_t capacity = bpe->merge_capacity ? bpe->merge_capacity * 2 : 1024;
		uint32_t *list = realloc(bpe->merged, capacity * sizeof(*list));
		if (!list)
			return ERR_NOMEM;
		bpe->merged = list;
		bpe->merge_capacity = capacity;
	}
	enum err e = put(&bpe->merges, left, right, (uint32_t)bpe->merge_count);
	if (e == ERR_OK)
		bpe->merged[bpe->merge_count++] = merged;
	return e;
}

enum err bpe_add_meeting(struct bpe *bpe, uint32_t left, uint32_t right)
{
	return put(&bpe->meetings, left, right, 0);
}

void bpe_meet_all(struct bpe *bpe)
{
	bpe->meet_all = true;
}

static bool before(struct bpe_merge a, struct bpe_merge b)
{
	return a.rank != b.rank ? a.rank < b.rank : a.at < b.at;
}

static void heap_push(struct bpe_scratch *scratch, struct bpe_merge merge)
{
	struct bpe_merge *heap = scratch->heap;
	size_t at = scratch->heap_count++;
	assert(scratch->heap_count <= 2 * scratch->symbol_capacity);
	for (; at > 0 && before(merge, heap[(at - 1) / 2]); at = (at - 1) / 2)
		heap[at] = heap[(at - 1) / 2];
	heap[at] = merge;
}

static struct bpe_merge heap_pop(struct bpe_scratch *scratch)
{
	struct bpe_merge *heap = scratch->heap;
	struct bpe_merge top = heap[0], last = heap[--scratch->heap_count];
	size_t at = 0, count = scratch->heap_count;
	for (;;) {
		size_t child = 2 * at + 1;
		if (child >= count)
			break;
		if (child + 1 < count && before(heap[child + 1], heap[child]))
			child++;
		if (!before(heap[child], last))
			break;
		heap[at] = heap[child];
		at = child;
	}
	heap[at] = last;
	return top;
}

/* The heap holds at most one merge per neighbours at the start (length - 1), and each merge that is done
 * takes one out and puts two in, at most length - 1 times: below 2 * length. */
static enum err reserve(struct bpe_scratch *scratch)
{
	if (scratch->symbol_count < scratch->symbol_capacity)
		return ERR_OK;
	size_t capacity = scratch->symbol_capacity ? 2 * scratch->symbol_capacity : 64;
	if (capacity >= NO)
		return ERR_TOO_LARGE;
	struct bpe_symbol *symbols = realloc(scratch->symbols, capacity * sizeof(*symbols));
	if (!symbols)
		return ERR_NOMEM;
	scratch->symbols = symbols;
	free(scratch->heap); /* empty while symbols come */
	scratch->heap = malloc(2 * capacity * sizeof(*scratch->heap));
	if (!scratch->heap) {
		bpe_scratch_fini(scratch);
		return ERR_NOMEM;
	}
	scratch->symbol_capacity = capacity;
	return ERR_OK;
}

void bpe_scratch_fini(struct bpe_scratch *scratch)
{
	free(scratch->symbols);
	free(scratch->heap);
	*scratch = (struct bpe_scratch){0};
}

static void push_pair(const struct bpe *bpe, struct bpe_scratch *scratch, uint32_t at)
{
	const struct bpe_symbol *symbols = scratch->symbols;
	if (at == NO || symbols[at].next == NO)
		return;
	uint32_t rank = find_rank(&bpe->merges, symbols[at].id, symbols[symbols[at].next].id);
	if (rank != NO)
		heap_push(scratch, (struct bpe_merge){rank, at});
}

static void merge_all(const struct bpe *bpe, struct bpe_scratch *scratch)
{
	struct bpe_symbol *symbols = scratch->symbols;
	while (scratch->heap_count > 0) {
		struct bpe_merge merge = heap_pop(scratch);
		struct bpe_symbol *left = &symbols[merge.at];
		if (left->id == DEAD || left->next == NO)
			continue;
		struct bpe_symbol *right = &symbols[left->next];
		/* A merge whose neighbours changed since counts if it still makes the same token. */
		uint32_t rank = find_rank(&bpe->merges, left->id, right->id);
		if (rank == NO || bpe->merged[rank] != bpe->merged[merge.rank])
			continue;
		left->id = bpe->merged[rank];
		left->next = right->next;
		right->id = DEAD;
		if (left->next != NO)
			symbols[left->next].prev = merge.at;
		push_pair(bpe, scratch, left->prev);
		push_pair(bpe, scratch, merge.at);
	}
}

enum err bpe_end(const struct bpe *bpe, struct bpe_scratch *scratch, struct tokens *tokens)
{
	struct bpe_symbol *symbols = scratch->symbols;
	uint32_t count = (uint32_t)scratch->symbol_count;
	enum err e = ERR_OK;
	scratch->symbol_count = scratch->heap_count = 0;
	if (count == 0)
		return ERR_OK;
	for (uint32_t i = 0; i + 1 < count; i++) {
		symbols[i].next = i + 1;
		push_pair(bpe, scratch, i);
	}
	merge_all(bpe, scratch);
	for (uint32_t i = 0; i != NO && e == ERR_OK; i = symbols[i].next)
		e = tokens_add(tokens, symbols[i].id);
	return e;
}

enum err bpe_push(const struct bpe *bpe, struct bpe_scratch *scratch, uint32_t symbol, struct tokens *tokens)
{
	enum err e = ERR_OK;
	if (scratch->symbol_count && !bpe->meet_all &&
	    find_rank(&bpe->meetings, scratch->symbols[scratch->symbol_count - 1].id, symbol) == NO)
		e = bpe_end(bpe, scratch, tokens);
	if (e == ERR_OK)
		e = reserve(scratch);
	if (e != ERR_OK)
		return e;
	uint32_t at = (uint32_t)scratch->symbol_count++;
	scratch->symbols[at] = (struct bpe_symbol){.id = symbol, .prev = at ? at - 1 : NO, .next = NO};
	return ERR_OK;
}

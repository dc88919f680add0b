#include "kvstore/disk_index.h"

#include <assert.h>
#include <string.h>

#include "kvstore/disk_format.h"
#include "kvstore/ledger.h"

struct segment_list {
	uint32_t first, last;
	uint32_t pages, pages_hit;
};

struct disk_index {
	uint32_t block_max;
	uint32_t segment_count;
	uint32_t count;
	uint32_t free_first;           /* last in, first out: those never used are last, in order */
	uint32_t end;                  /* of those ever used */
	uint64_t pages_hard; /* of blocks pinned hard */
	uint64_t pages_all, pages_plain;
	uint32_t mask;
	struct disk_entry *entries;    /* [block_max] */
	struct segment_list *segments; /* [segment_count] */
	uint32_t *table;               /* [mask + 1] entry numbers, by key: linear probing as in base/map.c */
};

/* At most three quarters of the table are in use. */
static uint32_t table_slots(uint32_t block_max)
{
	uint32_t slots = 16;
	while ((uint64_t)slots * 3 / 4 < block_max)
		slots *= 2;
	return slots;
}

static size_t aligned(size_t bytes)
{
	return (bytes + 15) & ~(size_t)15;
}

size_t disk_index_bytes(uint32_t block_max, uint32_t segment_count)
{
	assert(block_max > 0 && block_max <= 1u << 30);
	return aligned(sizeof(struct disk_index)) + aligned(block_max * sizeof(struct disk_entry)) +
	       aligned(segment_count * sizeof(struct segment_list)) + aligned((size_t)table_slots(block_max) * sizeof(uint32_t));
}

struct disk_index *disk_index_init(void *memory, uint32_t block_max, uint32_t segment_count)
{
	uint8_t *at = memory;
	struct disk_index *x = memory;
	*x = (struct disk_index){.block_max = block_max, .segment_count = segment_count, .mask = table_slots(block_max) - 1};
	at += aligned(sizeof(*x));
	x->entries = (struct disk_entry *)at;
	at += aligned(block_max * sizeof(struct disk_entry));
	x->segments = (struct segment_list *)at;
	at += aligned(segment_count * sizeof(struct segment_list));
	x->table = (uint32_t *)at;
	for (uint32_t i = 0; i < block_max; i++)
		x->entries[i] = (struct disk_entry){.next = i + 1 < block_max ? i + 1 : DISK_ENTRY_NONE};
	for (uint32_t i = 0; i < segment_count; i++)
		x->segments[i] = (struct segment_list){.first = DISK_ENTRY_NONE, .last = DISK_ENTRY_NONE};
	memset(x->table, 0xff, (size_t)table_slots(block_max) * sizeof(uint32_t));
	return x;
}

static uint32_t home_of(const struct disk_index *x, const struct id128 *key)
{
	return (uint32_t)id128_hash(key) & x->mask;
}

/* The place of the key in the table, or the free one where it would go. */
static uint32_t probe(const struct disk_index *x, const struct id128 *key)
{
	uint32_t i = home_of(x, key);
	while (x->table[i] != DISK_ENTRY_NONE && !id128_equal(&x->entries[x->table[i]].key, key))
		i = (i + 1) & x->mask;
	return i;
}

/* Moves later members of the cluster back over the hole (Knuth 6.4, algorithm R). */
static void close_hole(struct disk_index *x, uint32_t i)
{
	for (uint32_t j = (i + 1) & x->mask; x->table[j] != DISK_ENTRY_NONE; j = (j + 1) & x->mask) {
		uint32_t home = home_of(x, &x->entries[x->table[j]].key);
		if (((j - home) & x->mask) < ((j - i) & x->mask))
			continue;
		x->table[i] = x->table[j];
		i = j;
	}
	x->table[i] = DISK_ENTRY_NONE;
}

static uint32_t plain_pages_of(const struct disk_entry *entry)
{
	return disk_record_pages(entry->layer_count, entry->layer_bytes);
}

/* Worth to be kept when room is wanted. */
static bool is_live(const struct disk_entry *entry)
{
	return entry->hits > 0 || entry->pin > 0;
}

static uint32_t hard_pages(const struct disk_entry *entry)
{
	return entry->pin == LEDGER_PINNED_HARD ? entry->pages : 0;
}

static void link_last(struct disk_index *x, uint32_t number)
{
	struct disk_entry *entry = &x->entries[number];
	struct segment_list *list = &x->segments[entry->segment];
	entry->prev = list->last;
	entry->next = DISK_ENTRY_NONE;
	if (list->last == DISK_ENTRY_NONE)
		list->first = number;
	else
		x->entries[list->last].next = number;
	list->last = number;
	x->pages_hard += hard_pages(entry);
	x->pages_all += entry->pages;
	x->pages_plain += plain_pages_of(entry);
	list->pages += entry->pages;
	list->pages_hit += is_live(entry) ? entry->pages : 0;
}

static void unlink_entry(struct disk_index *x, uint32_t number)
{
	const struct disk_entry *entry = &x->entries[number];
	struct segment_list *list = &x->segments[entry->segment];
	if (entry->prev == DISK_ENTRY_NONE)
		list->first = entry->next;
	else
		x->entries[entry->prev].next = entry->next;
	if (entry->next == DISK_ENTRY_NONE)
		list->last = entry->prev;
	else
		x->entries[entry->next].prev = entry->prev;
	x->pages_hard -= hard_pages(entry);
	x->pages_all -= entry->pages;
	x->pages_plain -= plain_pages_of(entry);
	list->pages -= entry->pages;
	list->pages_hit -= is_live(entry) ? entry->pages : 0;
}

uint32_t disk_index_find(const struct disk_index *x, const struct id128 *key)
{
	return x->table[probe(x, key)];
}

uint32_t disk_index_homes(const struct disk_index *x)
{
	return x->mask + 1;
}

uint32_t disk_index_at_home(const struct disk_index *x, uint32_t home, uint32_t *step)
{
	for (;;) {
		uint32_t entry = x->table[(home + *step) & x->mask];
		if (entry == DISK_ENTRY_NONE)
			return DISK_ENTRY_NONE;
		++*step;
		if (home_of(x, &x->entries[entry].key) == home)
			return entry;
	}
}

bool disk_index_used(const struct disk_index *x, uint32_t entry)
{
	return x->entries[entry].layer_count > 0;
}

const struct disk_entry *disk_index_entry(const struct disk_index *x, uint32_t entry)
{
	assert(entry < x->block_max && x->entries[entry].layer_count > 0);
	return &x->entries[entry];
}

enum err disk_index_add(struct disk_index *x, const struct disk_entry *block, uint32_t *ret_entry)
{
	assert(block->segment < x->segment_count && block->pages > 1 && block->pages <= plain_pages_of(block));
	uint32_t at = probe(x, &block->key), number = x->free_first;
	assert(x->table[at] == DISK_ENTRY_NONE);
	if (number == DISK_ENTRY_NONE)
		return ERR_AGAIN;
	x->free_first = x->entries[number].next;
	x->entries[number] = *block;
	x->entries[number].hits = 0;
	x->table[at] = number;
	x->count++;
	if (number >= x->end)
		x->end = number + 1;
	link_last(x, number);
	*ret_entry = number;
	return ERR_OK;
}

void disk_index_remove(struct disk_index *x, uint32_t number)
{
	struct disk_entry *entry = &x->entries[number];
	assert(number < x->block_max && entry->layer_count > 0);
	unlink_entry(x, number);
	uint32_t at = probe(x, &entry->key);
	assert(x->table[at] == number);
	close_hole(x, at);
	*entry = (struct disk_entry){.next = x->free_first};
	x->free_first = number;
	x->count--;
}

void disk_index_move(struct disk_index *x, uint32_t number, uint32_t segment, uint32_t page, uint32_t pages)
{
	unlink_entry(x, number);
	x->entries[number].segment = segment;
	x->entries[number].page = page;
	x->entries[number].pages = pages & 0xfffff;
	x->entries[number].hits = 0;
	link_last(x, number);
}

void disk_index_hit(struct disk_index *x, uint32_t number)
{
	struct disk_entry *entry = &x->entries[number];
	if (!is_live(entry))
		x->segments[entry->segment].pages_hit += entry->pages;
	entry->hits += entry->hits < UINT8_MAX;
}

void disk_index_pin(struct disk_index *x, uint32_t number, uint8_t pin)
{
	struct disk_entry *entry = &x->entries[number];
	struct segment_list *list = &x->segments[entry->segment];
	list->pages_hit -= is_live(entry) ? entry->pages : 0;
	x->pages_hard -= hard_pages(entry);
	entry->pin = pin & 3;
	x->pages_hard += hard_pages(entry);
	list->pages_hit += is_live(entry) ? entry->pages : 0;
}

uint64_t disk_index_pages_hard(const struct disk_index *x)
{
	return x->pages_hard;
}

uint64_t disk_index_pages_all(const struct disk_index *x)
{
	return x->pages_all;
}

uint64_t disk_index_pages_plain(const struct disk_index *x)
{
	return x->pages_plain;
}

uint32_t disk_index_count(const struct disk_index *x)
{
	return x->count;
}

uint32_t disk_index_max(const struct disk_index *x)
{
	return x->block_max;
}

uint32_t disk_index_end(const struct disk_index *x)
{
	return x->end;
}

uint32_t disk_index_first(const struct disk_index *x, uint32_t segment)
{
	return x->segments[segment].first;
}

uint32_t disk_index_pages(const struct disk_index *x, uint32_t segment)
{
	return x->segments[segment].pages;
}

uint32_t disk_index_pages_hit(const struct disk_index *x, uint32_t segment)
{
	return x->segments[segment].pages_hit;
}

static uint32_t check_segment(const struct disk_index *x, uint32_t segment)
{
	const struct segment_list *list = &x->segments[segment];
	uint32_t count = 0, pages = 0, pages_hit = 0, prev = DISK_ENTRY_NONE;
	for (uint32_t i = list->first; i != DISK_ENTRY_NONE; i = x->entries[i].next) {
		const struct disk_entry *entry = &x->entries[i];
		assert(entry->segment == segment && entry->prev == prev);
		assert(disk_index_find(x, &entry->key) == i);
		pages += entry->pages;
		pages_hit += is_live(entry) ? entry->pages : 0;
		prev = i;
		count++;
	}
	assert(list->last == prev && list->pages == pages && list->pages_hit == pages_hit);
	return count;
}

void disk_index_check(const struct disk_index *x)
{
	uint32_t listed = 0, used = 0, in_table = 0;
	uint64_t hard = 0, all = 0, plain = 0;
	for (uint32_t i = 0; i < x->segment_count; i++)
		listed += check_segment(x, i);
	for (uint32_t i = 0; i < x->block_max; i++) {
		const struct disk_entry *entry = &x->entries[i];
		if (entry->layer_count == 0)
			continue;
		assert(i < x->end);
		used++;
		hard += hard_pages(entry);
		all += entry->pages;
		plain += plain_pages_of(entry);
	}
	for (uint32_t i = 0; i <= x->mask; i++)
		in_table += x->table[i] != DISK_ENTRY_NONE;
	assert(hard == x->pages_hard && all == x->pages_all && plain == x->pages_plain);
	assert(listed == x->count && used == x->count && in_table == x->count);
}

#include "base/map.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

static uint32_t slot_count(uint32_t count_max)
{
	uint32_t slots = 16;
	while (slots < 2 * (uint64_t)count_max)
		slots *= 2;
	return slots;
}

size_t map_bytes(uint32_t count_max)
{
	assert(count_max > 0 && count_max <= 1u << 30);
	return (size_t)slot_count(count_max) * sizeof(struct map_slot);
}

void map_init_zeroed(struct map *map, void *memory, uint32_t count_max)
{
	*map = (struct map){.slots = memory, .mask = slot_count(count_max) - 1, .count_max = count_max};
}

void map_init(struct map *map, void *memory, uint32_t count_max)
{
	memset(memory, 0, map_bytes(count_max));
	map_init_zeroed(map, memory, count_max);
}

static bool taken(const struct map_slot *slot)
{
	return slot->value_next != 0;
}

/* MAP_NONE where it is free. */
static uint32_t value_of(const struct map_slot *slot)
{
	return slot->value_next - 1;
}

/* The slot of the key, or the free one where it would go. */
static uint32_t probe(const struct map *map, const struct id128 *key)
{
	uint32_t i = (uint32_t)id128_hash(key) & map->mask;
	while (taken(&map->slots[i]) && !id128_equal(&map->slots[i].key, key))
		i = (i + 1) & map->mask;
	return i;
}

uint32_t map_get(const struct map *map, const struct id128 *key)
{
	return value_of(&map->slots[probe(map, key)]);
}

uint32_t map_at_home(const struct map *map, uint32_t home, uint32_t *step)
{
	for (;;) {
		const struct map_slot *slot = &map->slots[(home + *step) & map->mask];
		if (!taken(slot))
			return MAP_NONE;
		++*step;
		if (((uint32_t)id128_hash(&slot->key) & map->mask) == home)
			return value_of(slot);
	}
}

enum err map_put(struct map *map, const struct id128 *key, uint32_t value)
{
	assert(value != MAP_NONE);
	struct map_slot *slot = &map->slots[probe(map, key)];
	if (!taken(slot)) {
		if (map->count == map->count_max)
			return ERR_AGAIN;
		map->count++;
		slot->key = *key;
	}
	slot->value_next = value + 1;
	return ERR_OK;
}

/* Moves later members of the cluster back over the hole at i, where their home allows it. */
static void close_hole(struct map *map, uint32_t i)
{
	for (uint32_t j = (i + 1) & map->mask; taken(&map->slots[j]); j = (j + 1) & map->mask) {
		uint32_t home = (uint32_t)id128_hash(&map->slots[j].key) & map->mask;
		if (((j - home) & map->mask) < ((j - i) & map->mask))
			continue;
		map->slots[i] = map->slots[j];
		i = j;
	}
	map->slots[i].value_next = 0;
}

uint32_t map_remove(struct map *map, const struct id128 *key)
{
	uint32_t i = probe(map, key);
	uint32_t value = value_of(&map->slots[i]);
	if (value == MAP_NONE)
		return MAP_NONE;
	map->count--;
	close_hole(map, i);
	return value;
}

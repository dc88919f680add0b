#include "base/map.h"

#include <assert.h>

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

void map_init(struct map *map, void *memory, uint32_t count_max)
{
	uint32_t slots = slot_count(count_max);
	*map = (struct map){.slots = memory, .mask = slots - 1, .count_max = count_max};
	for (uint32_t i = 0; i < slots; i++)
		map->slots[i].value = MAP_NONE;
}

/* The slot of the key, or the free one where it would go. */
static uint32_t probe(const struct map *map, const struct id128 *key)
{
	uint32_t i = (uint32_t)id128_hash(key) & map->mask;
	while (map->slots[i].value != MAP_NONE && !id128_equal(&map->slots[i].key, key))
		i = (i + 1) & map->mask;
	return i;
}

uint32_t map_get(const struct map *map, const struct id128 *key)
{
	return map->slots[probe(map, key)].value;
}

uint32_t map_at_home(const struct map *map, uint32_t home, uint32_t *step)
{
	for (;;) {
		const struct map_slot *slot = &map->slots[(home + *step) & map->mask];
		if (slot->value == MAP_NONE)
			return MAP_NONE;
		++*step;
		if (((uint32_t)id128_hash(&slot->key) & map->mask) == home)
			return slot->value;
	}
}

enum err map_put(struct map *map, const struct id128 *key, uint32_t value)
{
	assert(value != MAP_NONE);
	struct map_slot *slot = &map->slots[probe(map, key)];
	if (slot->value == MAP_NONE) {
		if (map->count == map->count_max)
			return ERR_AGAIN;
		map->count++;
		slot->key = *key;
	}
	slot->value = value;
	return ERR_OK;
}

/* Moves later members of the cluster back over the hole at i, where their home allows it. */
static void close_hole(struct map *map, uint32_t i)
{
	for (uint32_t j = (i + 1) & map->mask; map->slots[j].value != MAP_NONE; j = (j + 1) & map->mask) {
		uint32_t home = (uint32_t)id128_hash(&map->slots[j].key) & map->mask;
		if (((j - home) & map->mask) < ((j - i) & map->mask))
			continue;
		map->slots[i] = map->slots[j];
		i = j;
	}
	map->slots[i].value = MAP_NONE;
}

uint32_t map_remove(struct map *map, const struct id128 *key)
{
	uint32_t i = probe(map, key);
	uint32_t value = map->slots[i].value;
	if (value == MAP_NONE)
		return MAP_NONE;
	map->count--;
	close_hole(map, i);
	return value;
}

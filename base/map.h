/* map - identity -> number, of fixed capacity, in the caller's memory.
 *
 * Open addressing, linear probing, deletion by shifting back (Knuth 6.4, algorithm R): no tombstones, so
 * a table that lives long does not slow down.  Pure: no allocation.  Half the slots stay free.
 * Numbers are anything below MAP_NONE. */
#ifndef BASE_MAP_H
#define BASE_MAP_H
#include <stddef.h>
#include "base/err.h"
#include "base/id128.h"

#define MAP_NONE UINT32_MAX

struct map_slot {
	struct id128 key;
	uint32_t value_next; /* one more than the number; 0: free */
};

struct map {
	struct map_slot *slots; /* [mask + 1] */
	uint32_t mask;
	uint32_t count;
	uint32_t count_max;
};

/* Bytes of slots that map_init() wants for count_max entries (1 .. 2^30). */
size_t map_bytes(uint32_t count_max);
void map_init(struct map *map, void *memory, uint32_t count_max);
/* The same in memory that is zero, of which nothing is touched before it is used. */
void map_init_zeroed(struct map *map, void *memory, uint32_t count_max);
/* The number of the key, or MAP_NONE. */
uint32_t map_get(const struct map *map, const struct id128 *key);
/* Brings the key's place nearer for a map_get() some time later. */
static inline void map_expect(const struct map *map, const struct id128 *key)
{
	__builtin_prefetch(&map->slots[(uint32_t)id128_hash(key) & map->mask]);
}
/* The numbers of the keys whose home is that slot (0 .. mask), one a call; *step begins at 0.  MAP_NONE: that was all. */
uint32_t map_at_home(const struct map *map, uint32_t home, uint32_t *step);
/* Puts or replaces.  ERR_AGAIN when count_max keys are in. */
MUST_USE enum err map_put(struct map *map, const struct id128 *key, uint32_t value);
/* Returns the number that was there, or MAP_NONE. */
uint32_t map_remove(struct map *map, const struct id128 *key);
#endif

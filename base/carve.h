/* carve - lays arrays out in one piece of the caller's memory.  Pure modules have no malloc: a layout function
 * runs twice, first over no memory to learn the size, then over real memory to set the pointers.
 *
 *   struct carve c = {0};  layout(&c, options, &x);  size = c.used;
 *   struct carve c = {.memory = memory};  layout(&c, options, x);                                          */
#ifndef BASE_CARVE_H
#define BASE_CARVE_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct carve {
	uint8_t *memory; /* NULL: only count */
	size_t used;
};

/* Bytes that are not touched, 64-byte aligned; NULL while counting. */
static inline void *carve_leave(struct carve *carve, size_t count, size_t size)
{
	size_t start = (carve->used + 63) & ~(size_t)63;
	carve->used = start + count * size;
	return carve->memory ? carve->memory + start : NULL;
}

/* The same, zeroed. */
static inline void *carve_take(struct carve *carve, size_t count, size_t size)
{
	void *start = carve_leave(carve, count, size);
	if (start)
		memset(start, 0, count * size);
	return start;
}
#endif

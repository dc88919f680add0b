/* region_impl - what the links need to know about a region.  Only this folder includes it. */
#ifndef NET_REGION_IMPL_H
#define NET_REGION_IMPL_H
#include "net/region.h"

/* A region as it lies in a mapping, ours or a peer's: [header page][generation per slot][padding][slots]. */
struct region_view {
	const uint8_t *base;
	uint64_t bytes; /* of the whole mapping */
	uint64_t data_offset;
	uint64_t slot_bytes;
	uint64_t slot_count;
};

/* Where the slots begin and how long the memfd is.  ERR_INVALID, ERR_TOO_LARGE for shapes nobody may have. */
MUST_USE enum err region_shape(uint64_t slot_bytes, uint64_t slot_count, uint64_t *ret_data_offset,
                               uint64_t *ret_bytes);
/* Maps a peer's memfd read-only; ERR_PROTOCOL if it is too short or could shrink under us.  Keeps no descriptor. */
MUST_USE enum err region_view_map(int fd, uint64_t slot_bytes, uint64_t slot_count, struct region_view *ret_view);
void region_view_unmap(struct region_view *view);

const struct region_view *region_view(const struct region *region);
int region_fd(const struct region *region);
const struct region_twin *region_twin(const struct region *region); /* of nothing: it has none */

/* Bounds (rule 2); *ret_generation and *ret_data lie in the view. */
MUST_USE enum err region_view_find(const struct region_view *view, const struct handle *handle,
                                   const uint64_t **ret_generation, const uint8_t **ret_data);
/* May a piece of our own region go out, as it is asked for?  DENIED: it lies outside, or is nothing; STALE: of another generation. */
MUST_USE enum err region_serve(const struct region *region, uint64_t offset, uint64_t length, uint64_t generation,
			       const uint8_t **ret_data);
/* Before the copy, and after it: the fence keeps the copy's loads before the second look (rule 3). */
static inline uint64_t region_generation_before(const uint64_t *generation)
{
	return __atomic_load_n(generation, __ATOMIC_ACQUIRE);
}
static inline uint64_t region_generation_after(const uint64_t *generation)
{
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return __atomic_load_n(generation, __ATOMIC_RELAXED);
}
#endif

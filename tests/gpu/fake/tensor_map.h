/* tensor_map - what cuTensorMapEncodeTiled() of the fake driver puts into a CUtensorMap.
 *
 * Pure but for tensor_map_box(), which reads the tensor. */
#ifndef TESTS_GPU_FAKE_TENSOR_MAP_H
#define TESTS_GPU_FAKE_TENSOR_MAP_H
#include <stdint.h>
#include <vector>
#include <cuda.h>

#define TENSOR_MAP_MAGIC 0x74656e73

struct tensor_map {
	uint32_t magic, rank;
	uint32_t elem_bytes;
	bool swizzled; /* 128 bytes; else not at all */
	const uint8_t *base;
	uint64_t dim[4];    /* elements, innermost first */
	uint64_t stride[4]; /* bytes; [0] is elem_bytes */
	uint32_t box[4];    /* elements */
};
static_assert(sizeof(struct tensor_map) <= sizeof(CUtensorMap), "opaque to callers");

/* NULL: none lies there. */
const struct tensor_map *tensor_map_of(const CUtensorMap *map);
/* The box at at[rank], zeros beyond the tensor; innermost first, as it is without swizzle. */
std::vector<uint8_t> tensor_map_box(const struct tensor_map *map, const int *at);
#endif

#include "tests/gpu/fake/tensor_map.h"

#include <string.h>
#include "tests/gpu/fake/fake.h"

#define BOX_MAX 256

static uint32_t bytes_of(CUtensorMapDataType type)
{
	switch (type) {
	case CU_TENSOR_MAP_DATA_TYPE_UINT8:
		return 1;
	case CU_TENSOR_MAP_DATA_TYPE_UINT16:
	case CU_TENSOR_MAP_DATA_TYPE_FLOAT16:
	case CU_TENSOR_MAP_DATA_TYPE_BFLOAT16:
		return 2;
	case CU_TENSOR_MAP_DATA_TYPE_UINT32:
	case CU_TENSOR_MAP_DATA_TYPE_INT32:
	case CU_TENSOR_MAP_DATA_TYPE_FLOAT32:
		return 4;
	default:
		return 8;
	}
}

/* What the real driver refuses, too. */
static bool is_sound(const struct tensor_map *m, const cuuint32_t *element_strides)
{
	if (m->rank < 1 || m->rank > 4 || (uintptr_t)m->base % 16 != 0)
		return false;
	for (uint32_t i = 0; i < m->rank; i++) {
		if (m->dim[i] == 0 || m->dim[i] > UINT64_C(1) << 32 || m->box[i] == 0 || m->box[i] > BOX_MAX)
			return false;
		if (element_strides[i] != 1 || (i > 0 && (m->stride[i] % 16 != 0 || m->stride[i] >= UINT64_C(1) << 40)))
			return false;
		/* Its manual says so, whether it looks or not: lines lie in whole numbers in what is around them. */
		if (i > 0 && m->stride[i] < m->stride[i - 1] * m->dim[i - 1])
			return false;
		if (i > 1 && m->stride[i] % m->stride[i - 1] != 0)
			return false;
	}
	uint32_t line = m->box[0] * m->elem_bytes;
	return line % 16 == 0 && (!m->swizzled || line <= 128);
}

CUresult cuTensorMapEncodeTiled(CUtensorMap *map, CUtensorMapDataType type, cuuint32_t rank, void *base,
				const cuuint64_t *dims, const cuuint64_t *strides, const cuuint32_t *box,
				const cuuint32_t *element_strides, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
				CUtensorMapL2promotion, CUtensorMapFloatOOBfill fill)
{
	struct tensor_map m = {};
	if (fake_fails("cuTensorMapEncodeTiled"))
		return CUDA_ERROR_INVALID_VALUE;
	if ((uintptr_t)map % alignof(CUtensorMap) != 0 || rank < 1 || rank > 4 || interleave != CU_TENSOR_MAP_INTERLEAVE_NONE ||
	    fill != CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE)
		return CUDA_ERROR_INVALID_VALUE;
	m.magic = TENSOR_MAP_MAGIC;
	m.rank = rank;
	m.elem_bytes = bytes_of(type);
	m.swizzled = swizzle == CU_TENSOR_MAP_SWIZZLE_128B;
	m.base = static_cast<const uint8_t *>(base);
	for (uint32_t i = 0; i < rank; i++) {
		m.dim[i] = dims[i];
		m.stride[i] = i == 0 ? m.elem_bytes : strides[i - 1];
		m.box[i] = box[i];
	}
	if (!is_sound(&m, element_strides))
		return CUDA_ERROR_INVALID_VALUE;
	memset(map, 0, sizeof(*map));
	memcpy(map, &m, sizeof(m));
	return CUDA_SUCCESS;
}

const struct tensor_map *tensor_map_of(const CUtensorMap *map)
{
	const struct tensor_map *m = reinterpret_cast<const struct tensor_map *>(map);
	return (uintptr_t)map % alignof(CUtensorMap) == 0 && m->magic == TENSOR_MAP_MAGIC ? m : nullptr;
}

/* One line of the box at at[], which counts from the outermost on. */
static void copy_line(const struct tensor_map *m, const int *first, const uint32_t *offset, uint8_t *to)
{
	const uint8_t *from = m->base;
	for (uint32_t i = 1; i < m->rank; i++) {
		int64_t at = (int64_t)first[i] + offset[i];
		if (at < 0 || (uint64_t)at >= m->dim[i])
			return;
		from += (uint64_t)at * m->stride[i];
	}
	for (uint32_t x = 0; x < m->box[0]; x++) {
		int64_t at = (int64_t)first[0] + x;
		if (at >= 0 && (uint64_t)at < m->dim[0])
			memcpy(to + x * m->elem_bytes, from + (uint64_t)at * m->elem_bytes, m->elem_bytes);
	}
}

std::vector<uint8_t> tensor_map_box(const struct tensor_map *m, const int *at)
{
	uint32_t box[4] = {1, 1, 1, 1};
	for (uint32_t i = 0; i < m->rank; i++)
		box[i] = m->box[i];
	size_t line = (size_t)box[0] * m->elem_bytes, lines = (size_t)box[1] * box[2] * box[3];
	std::vector<uint8_t> bytes(line * lines, 0);
	for (uint32_t i = 0; i < lines; i++) {
		uint32_t offset[4] = {0, i % box[1], i / box[1] % box[2], i / (box[1] * box[2])};
		copy_line(m, at, offset, &bytes[i * line]);
	}
	return bytes;
}

/* tensor_map - how tensors in device memory are described to the copy engine.
 *
 * Loop:   the device's one caller. */
#ifndef KERNELS_CUDA_TENSOR_MAP_H
#define KERNELS_CUDA_TENSOR_MAP_H
#include <cuda.h>
#include "kernels/cuda/cuda.h"

/* cuTensorMapEncodeTiled, which device->encode_map is. */
typedef CUresult encode_fn(CUtensorMap *map, CUtensorMapDataType type, cuuint32_t rank, void *address, const cuuint64_t *dims,
			   const cuuint64_t *strides, const cuuint32_t *box, const cuuint32_t *element_strides,
			   CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
			   CUtensorMapFloatOOBfill fill);

/* Boxes in 128-byte swizzle, zeros beyond the tensor; innermost first: dims and box in elements, strides (of all but the innermost) in
 * bytes, each a multiple of 16 and of the one before. false: the device fails. */
static inline bool tensor_map_3d(struct cuda_device *device, CUtensorMapDataType type, const void *data, const cuuint64_t *dims,
				 const cuuint64_t *strides, const cuuint32_t *box, CUtensorMap *ret_map)
{
	const cuuint32_t ones[3] = {1, 1, 1};
	CUresult result = ((encode_fn *)device->encode_map)(
		ret_map, type, 3, const_cast<void *>(data), dims, strides, box, ones, CU_TENSOR_MAP_INTERLEAVE_NONE,
		CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
	return cuda_check(device, result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue, "cuTensorMapEncodeTiled");
}
#endif

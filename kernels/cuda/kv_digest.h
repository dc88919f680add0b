/* kv_digest - digests of pieces of device memory, beside those of a step's blocks (kernels/ops.h).
 *
 * Owns:   nothing.
 * Loop:   any thread, on a stream of its own. */
#ifndef KERNELS_CUDA_KV_DIGEST_H
#define KERNELS_CUDA_KV_DIGEST_H
#include <cuda_runtime.h>
#include <stdint.h>

struct digest_piece {
	const uint64_t *data; /* at a multiple of 16 */
	uint32_t bytes;	      /* a multiple of 16, at most 16 MiB */
};

/* pieces[count] and ret_digests[count] in pinned memory, until the stream has come by; bytes_max: of the largest piece. */
cudaError_t cuda_digest_pieces(const struct digest_piece *pieces, uint32_t count, uint32_t bytes_max, uint64_t *ret_digests,
			       cudaStream_t stream);
#endif

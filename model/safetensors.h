/* safetensors - the tensors of a model on disk, mapped read-only; one file or many shards.
 *
 * Owns:   the mappings; every tensor's name and data live until weights_close().
 * Thread: any, once opened: nothing changes.  A file that shrinks while mapped is SIGBUS, as for any mmap:
 *         model directories are not edited in place.
 * Bounds: header <= 100 MiB, index <= 64 MiB, 1024 shards, 1,000,000 tensors, 8 dimensions, names 512 bytes.
 * Rules:  1 every tensor lies inside its file and overlaps no other;
 *         2 its length is exactly the product of its shape and its element size. */
#ifndef MODEL_SAFETENSORS_H
#define MODEL_SAFETENSORS_H
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"

#define TENSOR_DIMS_MAX 8

#define TENSOR_DTYPE_MAP(X) /* name, element bits */ \
	X(BOOL, 8) X(U8, 8) X(I8, 8) X(F8_E4M3, 8) X(F8_E5M2, 8) X(U16, 16) X(I16, 16) X(F16, 16) \
	X(BF16, 16) X(U32, 32) X(I32, 32) X(F32, 32) X(U64, 64) X(I64, 64) X(F64, 64)

enum tensor_dtype {
#define X(name, bits) TENSOR_##name,
	TENSOR_DTYPE_MAP(X)
#undef X
};

struct tensor {
	const char *name;
	enum tensor_dtype dtype;
	uint32_t dim_count;
	uint64_t dims[TENSOR_DIMS_MAX]; /* slowest first: [out][in] for a linear layer */
	const void *data;               /* little endian; aligned as the file happens to be: often to 8 only */
	uint64_t bytes;
	uint32_t shard_index;
	uint64_t shard_offset; /* of data in its file: for partial reads by another process */
};

struct weights;

/* Opens DIR/model.safetensors.index.json with its shards, or DIR/model.safetensors. */
MUST_USE enum err weights_open(const char *dir, struct why *why, struct weights **ret_weights);

/* One file's bytes, which the caller keeps alive and unchanged. */
MUST_USE enum err weights_parse(const void *data, size_t length, struct why *why,
				struct weights **ret_weights);
void weights_close(struct weights *weights);

/* NULL if there is none. */
const struct tensor *weights_find(const struct weights *weights, const char *name);

/* The tensor of that name, dtype and shape, or ERR_NOT_FOUND / ERR_MISMATCH with a reason that names it. */
MUST_USE enum err weights_want(const struct weights *weights, const char *name, enum tensor_dtype dtype,
			       uint32_t dim_count, const uint64_t *dims, struct why *why,
			       const struct tensor **ret_tensor);

/* In the order of their names (bytewise), whatever the shards. */
size_t weights_count(const struct weights *weights);
const struct tensor *weights_at(const struct weights *weights, size_t index);
uint32_t weights_shard_count(const struct weights *weights);
const char *weights_shard_name(const struct weights *weights, uint32_t shard_index);
/* The shard's file once more, read-only, with `flags` of open() besides; the caller closes it.  ERR_CORRUPT: it is no longer the file
 * that was opened; ERR_UNSUPPORTED: the file system refuses the flags; ERR_INVALID: weights_parse() had no file. */
MUST_USE enum err weights_shard_open(const struct weights *weights, uint32_t shard_index, int flags, struct why *why,
				     int *ret_fd);

const char *tensor_dtype_name(enum tensor_dtype dtype);
uint32_t tensor_dtype_bytes(enum tensor_dtype dtype);
#endif

/* kv_file - blocks in a file, as `baton kv export` writes and `baton kv import` reads them.
 *
 *   head   64 bytes: "BATONKV1", version, checksum
 *   block  256 bytes: key, parent, compat, tenant, priority, layers, checksum over these and the digests; the digest of each
 *          layer; the layers
 *   tail   64 bytes: how many blocks, a checksum over all of theirs, its own
 *
 * Integers are little-endian.  The bytes are those of the store and of engines (law 6).  Nothing secret is in it that is not in
 * the blocks: keys are hashes, and no salt; but who can read the file has the KV of its prompts.
 *
 * A file that is being written has ".part" behind its name until all of it is on disk.  A reader believes nothing: sizes are
 * checked before they allocate, every checksum and every layer's digest before a block is given out.
 *
 * Bounds: a block of at most KV_FILE_BLOCK_MAX bytes and PROTO_LAYERS_MAX layers; one block in memory. */
#ifndef TOOLS_KV_FILE_H
#define TOOLS_KV_FILE_H
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "base/err.h"
#include "base/id128.h"
#include "base/why.h"
#include "proto/codec.h"

enum { KV_FILE_BLOCK_MAX = 256 << 20 };

struct kv_file_block {
	struct id128 key, parent, compat;
	bool has_parent;
	bool low; /* priority */
	char tenant[PROTO_TENANT_MAX + 1];
	uint32_t layer_count, layer_bytes;
	const uint64_t *digests; /* [layer_count] */
	const uint8_t *bytes;    /* [layer_count][layer_bytes] */
};

struct kv_writer;
/* ERR_IO, ERR_NOMEM. */
MUST_USE enum err kv_writer_open(const char *path, struct kv_writer **ret_writer, struct why *why);
MUST_USE enum err kv_writer_add(struct kv_writer *writer, const struct kv_file_block *block, struct why *why);
/* Ends the file, and gives it its name when all of it is on disk.  The writer is gone in any case. */
MUST_USE enum err kv_writer_close(struct kv_writer *writer, struct why *why);
/* Gives up: nothing is left. */
void kv_writer_abandon(struct kv_writer *writer);

struct kv_reader;
/* Reads the head.  The stream stays the caller's; name is for errors, and too.  ERR_CORRUPT, ERR_UNSUPPORTED (another
 * version), ERR_IO. */
MUST_USE enum err kv_reader_open(FILE *stream, const char *name, struct kv_reader **ret_reader, struct why *why);
/* The next block, good until the next call.  ERR_NOT_FOUND: that was all, and the tail is right.  ERR_CORRUPT, ERR_TOO_LARGE,
 * ERR_IO: no more can be read. */
MUST_USE enum err kv_reader_next(struct kv_reader *reader, struct kv_file_block *ret_block, struct why *why);
void kv_reader_close(struct kv_reader *reader);
#endif

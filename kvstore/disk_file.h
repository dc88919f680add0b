/* disk_file - the disk as the pure SSD tier sees it: equal segments that are read, written, made durable and given back.
 *
 * A hook beside env (net/env.h), with its rules: it only queues or performs, and never calls back into the core; what comes of
 * an operation arrives later as the event disk_done(), exactly once.  Shells: disk_uring.c, disk_threads.c, and those
 * of tests, which drop what was not synced, tear, flip and misdirect.  Payloads are encoded and decoded by the shell, off the
 * loop (disk_payload.h).
 *
 * Rules: 1 a SYNC makes durable what was written to its segment by WRITEs whose outcome had been told before the SYNC began;
 *        2 nothing else is promised: what was written may be lost, or lie there in part, until then;
 *        3 the memory of an operation is the core's (head) or its caller's (landing), and in use until disk_done();
 *        4 a segment that was never written, or was trimmed, reads as anything;
 *        5 the outcome is an error of the disk, but for a READ whose payload cannot be decoded: that is CORRUPT. */
#ifndef KVSTORE_DISK_FILE_H
#define KVSTORE_DISK_FILE_H
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

enum { DISK_PAGE_BYTES = 4096, DISK_TAG_BYTES = 16 };

/* ENCODE moves nothing: what lies in the landing is encoded to behind the first page of the head, which is head_bytes large. */
enum disk_io_kind { DISK_READ, DISK_WRITE, DISK_SYNC, DISK_TRIM, DISK_ENCODE };

struct disk_coded; /* disk_payload.h */

struct disk_io {
	uint64_t op; /* given back with the outcome */
	enum disk_io_kind kind;
	uint32_t segment;
	uint64_t offset; /* of READ and WRITE, in the segment: a multiple of DISK_PAGE_BYTES */
	/* What is read or written there: first the head, behind it what lies in the landing. */
	uint8_t *head;          /* aligned to a page */
	uint32_t head_bytes;    /* a multiple of DISK_PAGE_BYTES; may be 0 */
	uint32_t landing;       /* local block number, as in env_read */
	uint32_t landing_bytes; /* 0: none.  On disk they end with a page: WRITE fills it with zeros, READ drops the rest */
	/* READ into a landing: the digest of each layer_bytes of it. */
	uint32_t layer_bytes;
	uint64_t *ret_digests; /* [landing_bytes / layer_bytes] */
	/* READ of a header, and of a payload that is encoded: so much room it has on disk, a multiple of DISK_PAGE_BYTES; it is decoded into
	 * the landing as the header says.  0: it lies there as in the landing. */
	uint32_t stored_bytes;
	struct disk_coded *ret_coded; /* ENCODE: what came of it */
	/* [DISK_TAG_BYTES] of a record, as it lies on disk: in head and landing, or whole in the head.  WRITE puts it there before it
	 * writes, READ after it has read.  NULL: not wanted. */
	uint8_t *tag;
};

struct disk_file {
	void *context;
	void (*submit)(void *context, const struct disk_io *io);
	/* The digest that blocks are offered with (base/digest.h). */
	uint64_t (*digest)(const void *data, size_t length);
	/* The tag of a record, its payload as it lies on disk: only who has the store's key can make it.  NULL: there is no key, records have none. */
	enum err (*tag)(void *context, const uint8_t *header, const void *payload, size_t length, uint8_t ret_tag[DISK_TAG_BYTES]);
};
#endif

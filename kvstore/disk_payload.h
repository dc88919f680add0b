/* disk_payload - the payload of a record as it lies on disk: encoded where that takes fewer pages, and back.  Pure; any thread.
 *
 * What is encoded has a sum of what lies on disk, in its header; the digests there are of what is in memory.  So scrubbing, moving and
 * the start look at what lies there without decoding it, and a mistake of the coder is a miss and never a wrong byte. */
#ifndef KVSTORE_DISK_PAYLOAD_H
#define KVSTORE_DISK_PAYLOAD_H
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"
#include "kvstore/disk_format.h"

struct disk_coded {
	enum disk_encoding encoding; /* PLAIN: it is not worth it */
	uint32_t bytes;
	uint64_t sum;
};

/* dst: as many pages as the payload; zero behind what is written there, to the end of a page. */
void disk_payload_encode(const uint8_t *payload, uint32_t bytes, uint8_t *dst, struct disk_coded *ret_coded);
/* What lies in `room` bytes behind such a header, whatever both are, into `bytes` of memory.  CORRUPT: no payload of that size lies
 * there, and why; UNSUPPORTED: it is encoded in a way that is not known here. */
MUST_USE enum err disk_payload_decode(const uint8_t *header, const uint8_t *stored, uint32_t room, uint8_t *dst, uint32_t bytes,
				      struct why *why);
#endif

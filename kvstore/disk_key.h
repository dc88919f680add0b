/* disk_key - the key of a store's disk, and the tags that records have under it (disk_format.h).
 *
 * A tag is Poly1305 of the payload, under a key of its own for each header: HMAC-SHA256 of what the header signs, under the
 * store's key (docs/decisions/ssd-tier.md).  Whoever has not the key cannot make a header, a payload or a pair of them that fit.
 *
 * Owns:   its memory, which is wiped at the end.
 * Loop:   any thread may make tags; made and destroyed by one.
 * Bounds: none that grow. */
#ifndef KVSTORE_DISK_KEY_H
#define KVSTORE_DISK_KEY_H
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"
#include "kvstore/disk_file.h"

enum { DISK_SECRET_MIN = 16, DISK_SECRET_MAX = 4096 };

struct disk_key;

/* Of a file with DISK_SECRET_MIN to DISK_SECRET_MAX bytes, all of which count.  NOT_FOUND: it cannot be read.  INVALID: its size.
 * The log says so when others may read it. */
MUST_USE enum err disk_key_read(const char *path, struct disk_key **ret_key, struct why *why);
void disk_key_destroy(struct disk_key *key);
/* header: its first DISK_SIGNED_BYTES count.  NOMEM. */
MUST_USE enum err disk_key_tag(const struct disk_key *key, const uint8_t *header, const void *payload, size_t length,
			       uint8_t ret_tag[DISK_TAG_BYTES]);
#endif

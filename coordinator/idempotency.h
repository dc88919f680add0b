/* idempotency - the keys that clients gave lately, each with the request that it was given for.
 *
 * What makes a repeated request safe is that its answer is the same (law 1, with a seed that follows from tenant and key);
 * this table only keeps two mistakes from passing for a retry: the same key with another request, and a second copy of
 * one that still runs here.  It is of this coordinator: another one answers without it, with the same tokens
 * (docs/decisions/idempotency-key.md).
 *
 * Owns:   its slots.  Pure but for its creation.
 * Bounds: IDEMPOTENCY_KEYS_MAX keys, the oldest forgotten first; IDEMPOTENCY_AGE_NS; keys of IDEMPOTENCY_KEY_MAX bytes. */
#ifndef COORDINATOR_IDEMPOTENCY_H
#define COORDINATOR_IDEMPOTENCY_H
#include <stdint.h>
#include "base/err.h"
#include "base/id128.h"

#define IDEMPOTENCY_AGE_NS (UINT64_C(24) * 3600 * 1000000000)

enum { IDEMPOTENCY_KEYS_MAX = 4096, IDEMPOTENCY_KEY_MAX = 255, IDEMPOTENCY_NONE = 0 };

struct idempotency;

MUST_USE enum err idempotency_create(struct idempotency **ret_table);
void idempotency_destroy(struct idempotency *table);

/* OK: the request may run; *ret_ticket goes to idempotency_end().  EXISTS: the key was given for another request.
 * BUSY: this very request still runs.  When every slot is of a request that runs, the key is not kept. */
MUST_USE enum err idempotency_begin(struct idempotency *table, const struct id128 *key, const struct id128 *request,
				    uint64_t now_ns, uint32_t *ret_ticket);
/* It runs no more; IDEMPOTENCY_NONE is fine. */
void idempotency_end(struct idempotency *table, uint32_t ticket);
#endif

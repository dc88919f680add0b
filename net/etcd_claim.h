/* etcd_claim - takes a number of net/claim.h for a key of etcd: reads, judges, writes if nothing changed meanwhile.
 *
 * The key is persistent (no lease) and remembers the highest number that was ever taken: "NUMBER LIFE", the second a
 * random number of the process that took it.
 *
 * Owns:   itself; freed after its callback, or by etcd_claim_cancel().
 * Loop:   etcd's.
 * Bounds: two calls to etcd for a try, at most ETCD_CLAIM_TRIES tries where others write at the same time. */
#ifndef NET_ETCD_CLAIM_H
#define NET_ETCD_CLAIM_H
#include <stdint.h>
#include "base/err.h"

struct etcd;
struct etcd_claim;

enum { ETCD_CLAIM_TRIES = 8, ETCD_CLAIM_VALUE_BYTES = 48 };

struct etcd_claim_options {
	const char *key;     /* copied */
	uint64_t life;       /* random, of this process or term: who wrote what is stored */
	uint64_t own;        /* 0: no number yet */
	uint64_t beaten;     /* net/claim.h */
	uint64_t wall_ns;
	/* The number is only taken while this key has this create revision: a leader's candidacy.  NULL: no matter. */
	const char *guard_key; /* copied */
	int64_t guard_revision;
};

/* OK: number is ours and in etcd.  STALE: number, higher than ours, is another's; or the guard is gone (number 0).
 * Else etcd did not answer, or refused: it is not known whether a number was taken, so ask again with the same `life` and `own`.
 * Text says what was wrong. */
typedef void etcd_claim_fn(void *arg, enum err e, const char *text, uint64_t number);
MUST_USE enum err etcd_claim_start(struct etcd *etcd, const struct etcd_claim_options *options, etcd_claim_fn *done,
				   void *arg, struct etcd_claim **ret_claim);
/* What is in etcd while the number is ours: for a comparison that goes with another write. */
void etcd_claim_value(uint64_t number, uint64_t life, char ret_value[ETCD_CLAIM_VALUE_BYTES]);
/* No callback comes any more.  NULL is fine; not after the callback. */
void etcd_claim_cancel(struct etcd_claim *claim);
#endif

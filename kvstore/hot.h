/* hot - which keys have more copies than others, as stores said when they found them.  Pure; a hint that may be old.
 *
 * Memory: the caller's.  Loop: the node's.  Bounds: HOT_KEYS keys; a new one takes the place of an old one. */
#ifndef KVSTORE_HOT_H
#define KVSTORE_HOT_H
#include <stdint.h>
#include "base/id128.h"

enum { HOT_KEYS = 1024, HOT_CREDIT = 8 };

struct hot {
	struct hot_key {
		struct id128 key;
		uint32_t more;   /* 0: free */
		uint32_t credit; /* answers that may say otherwise: those of the stores with the further copies do not know */
	} keys[HOT_KEYS];
};

/* How many copies the key has beyond those of others. */
uint32_t hot_more(const struct hot *hot, const struct id128 *key);
void hot_note(struct hot *hot, const struct id128 *key, uint32_t more);
#endif

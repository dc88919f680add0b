/* owners - which living stores are the owners of a key, by weighted rendezvous (kvstore/place.h).  Pure.
 *
 * The members are the stores that have a session with this node: a dead owner is skipped, and the next in rank, which
 * holds a replica, stands in for it. */
#ifndef KVSTORE_OWNERS_H
#define KVSTORE_OWNERS_H
#include "kvstore/local.h"

enum { KV_OWNERS_MAX = 4 };

/* Sessions of up to `replicas` (at most KV_OWNERS_MAX) owners among the stores that have one, the first in rank first; returns
 * how many. */
uint32_t store_owners(const struct sessions *sessions, const struct id128 *key, uint32_t replicas,
		      uint32_t ret_peers[KV_OWNERS_MAX]);
/* Sessions of up to local->replicas owners, the first in rank first; returns how many. */
uint32_t kv_owners(const struct kv_local *local, const struct id128 *key, uint32_t ret_peers[KV_OWNERS_MAX]);
#endif

/* owners - which living stores are the owners of a key, by weighted rendezvous (kvstore/place.h).  Pure.
 *
 * The members are the stores that have a session with this node, each with the weight that it said: a dead owner is skipped,
 * and the next in rank, which holds a replica, stands in for it.  How many copies there are the stores say as well. */
#ifndef KVSTORE_OWNERS_H
#define KVSTORE_OWNERS_H
#include "kvstore/local.h"

enum { KV_OWNERS_MAX = 8 };

/* Who takes the block: the first in rank that does not drain; PEER_NONE: nobody. */
uint32_t kv_first_owner(const struct kv_local *local, const struct id128 *key);
/* Who may have the block: sessions of the owners, the first in rank first, and of those before the last of them that
 * drain, since they have what they had; returns how many.  more: the next in rank have it as well (hot.h): then each node
 * asks some of the owners and some of those, chosen by its own id, and at least one owner. */
uint32_t kv_owners(const struct kv_local *local, const struct id128 *key, uint32_t more,
		   uint32_t ret_peers[KV_OWNERS_MAX]);
#endif

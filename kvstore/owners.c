#include "kvstore/owners.h"

#include "base/rng.h"
#include "kvstore/place.h"

enum { STORES_MAX = 1024 }; /* living stores considered */

/* Who there is, and how many copies they keep: while that is being changed, the most that one says. */
struct stores {
	struct place_member members[STORES_MAX];
	uint32_t count;
	uint32_t draining; /* of them */
	uint32_t replicas;
};

static void find_stores(const struct kv_local *local, struct stores *ret_stores)
{
	ret_stores->count = ret_stores->draining = ret_stores->replicas = 0;
	for (uint32_t i = 0; i < sessions_max(local->sessions) && ret_stores->count < STORES_MAX; i++) {
		const struct session_peer *peer = sessions_peer(local->sessions, i);
		if (!peer || peer->role != WIRE__ROLE__ROLE_KVSTORE)
			continue;
		ret_stores->members[ret_stores->count++] = (struct place_member){peer->node, peer->weight};
		ret_stores->draining += peer->draining;
		if (peer->replicas > ret_stores->replicas)
			ret_stores->replicas = peer->replicas;
	}
}

/* Up to `replicas` that do not drain, in rank, and who is before them. */
static uint32_t find_owners(const struct kv_local *local, const struct stores *stores, const struct id128 *key,
			    uint32_t replicas, uint32_t ret_peers[KV_OWNERS_MAX], uint32_t *ret_last)
{
	uint64_t nodes[KV_OWNERS_MAX];
	uint32_t count = 0, staying = 0, wanted = replicas + stores->draining;
	if (stores->count == 0 || replicas == 0)
		return 0;
	uint32_t found = place_owners(stores->members, stores->count, key, wanted < KV_OWNERS_MAX ? wanted : KV_OWNERS_MAX, nodes);
	while (count < found && staying < replicas) {
		uint32_t peer = sessions_find(local->sessions, nodes[count]);
		ret_peers[count++] = peer;
		if (sessions_peer(local->sessions, peer)->draining)
			continue;
		staying++;
		*ret_last = peer;
	}
	return count;
}

uint32_t kv_first_owner(const struct kv_local *local, const struct id128 *key)
{
	struct stores stores;
	uint32_t peers[KV_OWNERS_MAX], first = PEER_NONE;
	find_stores(local, &stores);
	find_owners(local, &stores, key, 1, peers, &first);
	return first;
}

/* One of the first `replicas`, one of the rest, and of both the next where there are more to be asked. */
static uint32_t share_out(const struct kv_local *local, const struct id128 *key, uint32_t replicas, uint32_t count,
			  const uint32_t *all, uint32_t ret_peers[KV_OWNERS_MAX])
{
	uint64_t pick = rng_mix(local->node ^ id128_hash(key));
	uint32_t asked = replicas > 1 ? replicas : 2;
	for (uint32_t k = 0; k < asked; k++) {
		uint32_t next = (uint32_t)(pick >> 32) + k / 2;
		ret_peers[k] = k % 2 == 0 ? all[((uint32_t)pick + k / 2) % replicas] : all[replicas + next % (count - replicas)];
	}
	return asked;
}

uint32_t kv_owners(const struct kv_local *local, const struct id128 *key, uint32_t more,
		   uint32_t ret_peers[KV_OWNERS_MAX])
{
	struct stores stores;
	uint32_t last = PEER_NONE, all[KV_OWNERS_MAX];
	find_stores(local, &stores);
	if (more == 0 || stores.draining > 0 || stores.count <= stores.replicas)
		return find_owners(local, &stores, key, stores.replicas, ret_peers, &last);
	uint32_t count = find_owners(local, &stores, key, stores.replicas + more, all, &last);
	return share_out(local, key, stores.replicas, count, all, ret_peers);
}

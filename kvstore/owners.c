#include "kvstore/owners.h"

#include "kvstore/place.h"

enum { STORES_MAX = 1024 }; /* living stores considered */

uint32_t store_owners(const struct sessions *sessions, const struct id128 *key, uint32_t replicas,
		      uint32_t ret_peers[KV_OWNERS_MAX])
{
	struct place_member members[STORES_MAX];
	uint32_t count = 0;
	for (uint32_t i = 0; i < sessions_max(sessions) && count < STORES_MAX; i++) {
		const struct session_peer *peer = sessions_peer(sessions, i);
		if (peer && peer->role == WIRE__ROLE__ROLE_KVSTORE)
			members[count++] = (struct place_member){.node = peer->node, .weight = 1};
	}
	replicas = replicas < KV_OWNERS_MAX ? replicas : KV_OWNERS_MAX;
	if (count == 0 || replicas == 0)
		return 0;
	uint64_t nodes[KV_OWNERS_MAX];
	uint32_t owners = place_owners(members, count, key, replicas, nodes);
	for (uint32_t i = 0; i < owners; i++)
		ret_peers[i] = sessions_find(sessions, nodes[i]);
	return owners;
}

uint32_t kv_owners(const struct kv_local *local, const struct id128 *key, uint32_t ret_peers[KV_OWNERS_MAX])
{
	return store_owners(local->sessions, key, local->replicas, ret_peers);
}

#include "kvstore/head_digests.h"

#include "base/rng.h"

/* A bijection of the digest for each head: another digest is another share. */
static uint64_t share_of(uint32_t head, uint64_t digest)
{
	return rng_mix(digest ^ rng_mix(head));
}

uint64_t kv_heads_digest(struct kv_heads heads, const uint64_t *digests)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i < heads.count; i++)
		sum += share_of(heads.first + i, digests[i]);
	return sum;
}

uint32_t kv_layer_digests_count(uint32_t head_count, uint32_t degree)
{
	uint32_t count = 0;
	for (uint32_t rank = 0; rank < degree; rank++)
		count += kv_shard_heads(head_count, degree, rank).count;
	return count;
}

bool kv_layer_digest(uint32_t head_count, uint32_t degree, const uint64_t *digests, uint64_t *ret_digest)
{
	uint64_t sum = 0;
	uint32_t next = 0; /* the first head not yet counted: ranks begin and end in order, and share at most the heads before it */
	for (uint32_t rank = 0; rank < degree; rank++) {
		struct kv_heads heads = kv_shard_heads(head_count, degree, rank);
		for (uint32_t i = 0; i < heads.count; i++, digests++) {
			uint32_t head = heads.first + i;
			if (head == next)
				sum += share_of(next++, *digests);
			else if (*digests != digests[-1])
				return false;
		}
	}
	*ret_digest = sum;
	return true;
}

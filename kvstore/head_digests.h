/* head_digests - the digest of a layer of a block as the sum of its heads' digests, so that it is one number at every
 * tensor-parallel degree.  Pure.
 *
 * A head of a layer is contiguous wherever it lies, so each rank digests its own heads (base/digest.h) without seeing others',
 * and a read is digested head by head as it lands.  A head's share of the layer's digest is its own digest mixed with its number;
 * shares are added modulo 2^64.  So
 *
 *   the digest of a layer = that of heads [0, m) + that of heads [m, n), whatever m,
 *
 * and the source at degree 8, the store with whole blocks and the reader at degree 2 name the same number: an Announce, an
 * Offer and a ledger entry have one digest a layer, as without ranks.  A reader's node adds up what its ranks read and
 * compares once.  It finds accidents (a wrong, missing, repeated or displaced head: 1 in 2^64 goes unseen), not attackers, as
 * the digests themselves.  Why a sum: docs/decisions/one-digest-a-layer-at-every-degree.md.
 *
 * Called by nobody yet: today a node is one rank, and its digest of a layer is of all its bytes.  With tensor parallelism
 * (kvstore/shards.h) the engine's digest of a layer (engine/engine.h rule 3) becomes this one, for every degree at once. */
#ifndef KVSTORE_HEAD_DIGESTS_H
#define KVSTORE_HEAD_DIGESTS_H
#include <stdbool.h>
#include <stdint.h>
#include "kvstore/shards.h"

/* The sum over heads that lie side by side; digests: [heads.count], of each head's bytes. */
uint64_t kv_heads_digest(struct kv_heads heads, const uint64_t *digests);

/* Digests of heads that all ranks of a degree have together, replicas counted. */
uint32_t kv_layer_digests_count(uint32_t head_count, uint32_t degree);
/* The digest of a layer of which each rank has its shard; digests: those of rank 0's heads, then of rank 1's, ...
 * [kv_layer_digests_count()].  A head that several ranks hold counts once; false where these have different bytes of it. */
bool kv_layer_digest(uint32_t head_count, uint32_t degree, const uint64_t *digests, uint64_t *ret_digest);
#endif

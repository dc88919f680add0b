/* shards - which KV heads the ranks of a tensor-parallel engine hold, and the reads that bring a rank of one degree its
 * shard of a block out of the shards of another.  Pure.
 *
 * A rank holds the KV heads that its query heads look at, of every layer, in the layout of a block with just these heads
 * (DESIGN law 6: [layer][kv_head][k|v][token][head_dim]):
 *
 *   8 heads, degree 2   [0 1 2 3][4 5 6 7]    a head at each of its ranks
 *   2 heads, degree 4   [0][0][1][1]          more ranks than heads: replicas
 *   5 heads, degree 2   [0 1 2][2 3 4]        a group of query heads lies across two ranks: both hold its KV head
 *   latents             [0][0]...             [layer][token][latent] is one head, which every rank holds
 *
 * Degree 1 has one shard, the whole block: so a store is a reader of degree 1 when it takes an offer, and a source of degree 1
 * when it is asked.
 *
 * Called by nobody yet.  An engine of any degree has its blocks whole in the host's memory (docs/decisions/tensor-parallelism.md),
 * and every block is read as the plan from 1 to 1 has it: in one piece.  Where ranks' own memories will be read directly,
 * decode/receive.c, kvstore/fetch_read.c and kvstore/store_offers.c turn each piece of a plan into reads of the source rank's
 * region, and check what landed with kvstore/head_digests.h.
 *
 * Bounds: degrees to KV_DEGREE_MAX; kv_shard_pieces_max() pieces a plan. */
#ifndef KVSTORE_SHARDS_H
#define KVSTORE_SHARDS_H
#include <stdint.h>

enum { KV_DEGREE_MAX = 64 };

struct kv_heads {
	uint32_t first, count;
};

/* What a rank (below degree) of 1..KV_DEGREE_MAX holds of head_count heads. */
struct kv_heads kv_shard_heads(uint32_t head_count, uint32_t degree, uint32_t rank);

struct kv_shard_read {
	uint32_t head_count;    /* KV heads of a layer; 1: latents */
	uint32_t head_bytes;    /* one head of one layer of a block: [k|v][token][head_dim] */
	uint32_t source_degree;
	uint32_t reader_degree, reader_rank;
	uint32_t layer_first, layer_count; /* of the block's layer group */
	uint32_t turn; /* which replica: consecutive blocks give consecutive numbers, and so ask all of them */
};

struct kv_piece {
	uint32_t source_rank;
	uint64_t source_offset;  /* in the source rank's shard of the block */
	uint64_t landing_offset; /* in the reader rank's */
	uint64_t length;         /* whole heads */
};

/* No plan of this read has more pieces. */
uint32_t kv_shard_pieces_max(const struct kv_shard_read *read);

/* The pieces of the read in the order of their landings, which they fill without a gap; returns how many: as few as there can be.
 * Where both sides have the same heads it is one for all layers, else the layers' strides differ and each layer has its own.
 *
 * Of ranks that would serve the same piece one is asked, by turns: in any round of turns each as often as the others, and
 * by the readers of one turn as often or once more.  Where a rank would serve more heads at once than another, fewer pieces
 * win over even turns; that happens only where a degree and the number of heads do not divide each other. */
uint32_t kv_shard_plan(const struct kv_shard_read *read, struct kv_piece *ret_pieces /* [kv_shard_pieces_max()] */);
#endif

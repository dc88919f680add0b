/* sharded - a block cut into shards by the definition, head by head and byte by byte, for tests of plans and digests.
 *
 * Each rank has an equal share of the query heads, and holds the KV heads that these look at. */
#ifndef TESTS_KVSTORE_SHARDED_H
#define TESTS_KVSTORE_SHARDED_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SHARDED_DEGREES = 16, SHARDED_HEADS_MAX = 128 };

extern const uint32_t sharded_head_counts[];
extern const size_t sharded_head_counts_count;

struct sharded_block {
	uint32_t layer_count, head_count, head_bytes;
	uint8_t *bytes; /* [layer][head][head_bytes]: no two heads have the same */
};

struct sharded_block sharded_make(uint32_t layer_count, uint32_t head_count, uint32_t head_bytes);
void sharded_free(struct sharded_block *block);

bool sharded_holds(uint32_t head_count, uint32_t degree, uint32_t rank, uint32_t head);
/* Bytes of a rank's shard, written to ret_shard, which has room for the whole block. */
size_t sharded_cut(const struct sharded_block *block, uint32_t degree, uint32_t rank, uint8_t *ret_shard);
#endif

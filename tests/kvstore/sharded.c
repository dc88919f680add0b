#include "tests/kvstore/sharded.h"

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

const uint32_t sharded_head_counts[] = {1, 2, 3, 4, 5, 8, 10, 16, 32, 40, 64, 128};
const size_t sharded_head_counts_count = sizeof(sharded_head_counts) / sizeof(sharded_head_counts[0]);

struct sharded_block sharded_make(uint32_t layer_count, uint32_t head_count, uint32_t head_bytes)
{
	size_t bytes = (size_t)layer_count * head_count * head_bytes;
	struct sharded_block block = {layer_count, head_count, head_bytes, malloc(bytes)};
	struct rng rng = {.seed = head_count};
	if (!block.bytes)
		abort();
	for (size_t i = 0; i < bytes; i++)
		block.bytes[i] = (uint8_t)rng_next(&rng);
	return block;
}

void sharded_free(struct sharded_block *block)
{
	free(block->bytes);
}

/* Query heads enough that the ranks have equal shares and the KV heads equal groups: as many as ranks times KV heads. */
bool sharded_holds(uint32_t head_count, uint32_t degree, uint32_t rank, uint32_t head)
{
	for (uint32_t query = rank * head_count; query < (rank + 1) * head_count; query++)
		if (query / degree == head)
			return true;
	return false;
}

size_t sharded_cut(const struct sharded_block *block, uint32_t degree, uint32_t rank, uint8_t *ret_shard)
{
	size_t length = 0;
	for (uint32_t layer = 0; layer < block->layer_count; layer++)
		for (uint32_t head = 0; head < block->head_count; head++) {
			if (!sharded_holds(block->head_count, degree, rank, head))
				continue;
			size_t at = ((size_t)layer * block->head_count + head) * block->head_bytes;
			memcpy(ret_shard + length, block->bytes + at, block->head_bytes);
			length += block->head_bytes;
		}
	return length;
}

/* prefix - which blocks of each layer group make a beginning of a context usable.  Pure.
 *
 * A model has one or two layer groups.  A token sees all tokens before it in the layers of a global group, and the last
 * `window` in those of a windowed one.  To go on after the first n blocks of a context, one needs of a group
 *
 *   all of them                                  no window: keep = KV_KEEP_ALL
 *   the last keep of them, or all if fewer       the blocks that the window - 1 tokens before the boundary touch
 *
 * and of what lies before these nobody will look at anything any more.  That one number says what is held while a
 * sequence runs, what is handed over, what the store keeps, and what of a chain can be used again. */
#ifndef KVSTORE_PREFIX_H
#define KVSTORE_PREFIX_H
#include <stdbool.h>
#include <stdint.h>

#define KV_KEEP_ALL UINT32_MAX

/* window: tokens that a token sees, its own among them; 0: all. */
static inline uint32_t kv_keep(uint32_t window, uint32_t block_tokens)
{
	return window == 0 ? KV_KEEP_ALL : (uint32_t)(((uint64_t)window - 1 + block_tokens - 1) / block_tokens);
}

/* Of the blocks before a boundary, the first that is needed after it. */
static inline uint32_t kv_keep_first(uint32_t keep, uint32_t blocks)
{
	return blocks > keep ? blocks - keep : 0;
}

/* Which blocks of one group are at hand. */
struct kv_presence {
	const bool *present; /* [limit] */
	uint32_t keep;
};

/* The longest beginning of at most `limit` blocks that can be used: of every group all that it needs is present. */
uint32_t kv_prefix(const struct kv_presence *groups, uint32_t group_count, uint32_t limit);
#endif

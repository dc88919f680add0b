/* key - the identity of a block: a chain of SHA-256 digests over its tokens, truncated to 128 bits.  Pure.
 *
 * The root of a chain is the digest of all that makes bytes of KV comparable: the compat hash (model fingerprint,
 * numerics class, block size, layout version; see kv_compat()), the layer group and the tenant's salt.  So keys
 * never collide across tenants, models or precisions. */
#ifndef KVSTORE_KEY_H
#define KVSTORE_KEY_H
#include <stddef.h>
#include <stdint.h>
#include "base/id128.h"

enum { KV_LAYOUT_VERSION = 1 };

/* What nodes must have in common to share KV. */
struct kv_compat_parts {
	const uint8_t *fingerprint; /* 32 bytes: model and weights revision */
	const char *numerics_class;
	uint32_t block_tokens;
	uint32_t layer_count;
	uint32_t layer_bytes;
	uint32_t group_count;     /* 0 or 1: all layers are one layer group */
	const uint32_t *windows;  /* [group_count] tokens seen; 0: all */
	const uint32_t *layers;   /* [group_count] layers of each */
};

void kv_compat(const struct kv_compat_parts *parts, struct id128 *ret_compat);
void kv_key_root(const struct id128 *compat, uint32_t layer_group, const void *salt, size_t salt_length,
		 struct id128 *ret_root);
/* tokens: [token_count] of one full block. */
void kv_key_next(const struct id128 *parent, const uint32_t *tokens, uint32_t token_count, struct id128 *ret_key);
/* Keys of block_count full blocks; ret_keys: [block_count]. */
void kv_key_chain(const struct id128 *root, const uint32_t *tokens, uint32_t block_count, uint32_t block_tokens,
		  struct id128 *ret_keys);
#endif

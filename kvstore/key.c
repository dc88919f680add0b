#include "kvstore/key.h"

#include <string.h>

#include "base/hash.h"
#include "base/planted.h"

static void add_u32(struct sha256 *sha, uint32_t value)
{
	uint8_t bytes[4] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16), (uint8_t)(value >> 24)};
	sha256_add(sha, bytes, sizeof(bytes));
}

/* Length first, so that no two lists of fields give the same bytes. */
static void add_bytes(struct sha256 *sha, const void *data, size_t length)
{
	add_u32(sha, (uint32_t)length);
	sha256_add(sha, data, length);
}

static void end(struct sha256 *sha, struct id128 *ret_id)
{
	uint8_t digest[32];
	sha256_end(sha, digest);
	memcpy(ret_id->bytes, digest, sizeof(ret_id->bytes));
	if (planted(KEY_TRUNCATED))
		memset(ret_id->bytes + 2, 0, sizeof(ret_id->bytes) - 2);
}

void kv_compat(const struct kv_compat_parts *parts, struct id128 *ret_compat)
{
	struct sha256 sha;
	sha256_init(&sha);
	add_bytes(&sha, "baton compat", 12);
	add_bytes(&sha, parts->fingerprint, 32);
	add_bytes(&sha, parts->numerics_class, strlen(parts->numerics_class));
	add_u32(&sha, parts->block_tokens);
	add_u32(&sha, parts->layer_count);
	add_u32(&sha, parts->layer_bytes);
	add_u32(&sha, KV_LAYOUT_VERSION);
	for (uint32_t g = 0; parts->group_count > 1 && g < parts->group_count; g++) {
		add_u32(&sha, parts->windows[g]);
		add_u32(&sha, parts->layers[g]);
	}
	end(&sha, ret_compat);
}

void kv_key_root(const struct id128 *compat, uint32_t layer_group, const void *salt, size_t salt_length,
		 struct id128 *ret_root)
{
	struct sha256 sha;
	sha256_init(&sha);
	add_bytes(&sha, "baton root", 10);
	add_bytes(&sha, compat->bytes, sizeof(compat->bytes));
	add_u32(&sha, planted(GROUP_NOT_IN_KEY) ? 0 : layer_group);
	add_bytes(&sha, salt, planted(TENANT_SALT_LEFT_OUT) ? 0 : salt_length);
	end(&sha, ret_root);
}

void kv_key_next(const struct id128 *parent, const uint32_t *tokens, uint32_t token_count, struct id128 *ret_key)
{
	struct sha256 sha;
	sha256_init(&sha);
	if (!planted(PARENT_NOT_IN_KEY))
		sha256_add(&sha, parent->bytes, sizeof(parent->bytes));
	for (uint32_t i = 0; i < token_count; i++)
		add_u32(&sha, tokens[i]);
	end(&sha, ret_key);
}

void kv_key_chain(const struct id128 *root, const uint32_t *tokens, uint32_t block_count, uint32_t block_tokens,
		  struct id128 *ret_keys)
{
	const struct id128 *parent = root;
	for (uint32_t i = 0; i < block_count; i++) {
		kv_key_next(parent, tokens + (size_t)i * block_tokens, block_tokens, &ret_keys[i]);
		parent = &ret_keys[i];
	}
}

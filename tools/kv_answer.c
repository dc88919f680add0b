#include "tools/kv_answer.h"

#include <string.h>

#include "kvstore/listing.h"

static enum err check_list(const Wire__KvAsk *ask, const Wire__KvAnswer *answer, struct why *why)
{
	if (answer->n_blocks > ask->limit)
		return why_set(why, ERR_PROTOCOL, "it lists %zu blocks, %u were asked for", answer->n_blocks, ask->limit);
	if (answer->after.len == 0 || ask->after.len == 0)
		return ERR_OK;
	struct id128 here = codec_key(&ask->after, 0), next = codec_key(&answer->after, 0);
	if (listing_compare(&next, &here) <= 0)
		return why_set(why, ERR_PROTOCOL, "its next page does not begin behind this one");
	return ERR_OK;
}

static enum err check_got(const Wire__KvAsk *ask, const Wire__KvAnswer *answer, struct why *why)
{
	const uint8_t *key = ask->keys.data, *end = key + ask->keys.len;
	for (size_t i = 0; i < answer->n_blocks; i++, key += PROTO_KEY_BYTES) {
		const Wire__KvBlock *block = answer->blocks[i];
		while (key < end && memcmp(key, block->key.data, PROTO_KEY_BYTES) != 0)
			key += PROTO_KEY_BYTES;
		if (key == end)
			return why_set(why, ERR_PROTOCOL, "block %zu of its answer was not asked for, or not in this order", i);
		if (block->place && block->n_digests != block->layers)
			return why_set(why, ERR_PROTOCOL, "it says where block %zu is, and %zu digests of %u layers", i, block->n_digests,
				       block->layers);
	}
	return ERR_OK;
}

enum err kv_answer_check(const Wire__KvAsk *ask, const Wire__KvAnswer *answer, struct why *why)
{
	bool has_list = ask->verb == WIRE__KV_VERB__KV_LIST || ask->verb == WIRE__KV_VERB__KV_GET;
	size_t outcomes = has_list || ask->verb == WIRE__KV_VERB__KV_STAT ? 0 : ask->keys.len / PROTO_KEY_BYTES;
	if (answer->error != ERR_OK)
		return ERR_OK;
	if (answer->n_errors != outcomes)
		return why_set(why, ERR_PROTOCOL, "it tells %zu outcomes, expected %zu", answer->n_errors, outcomes);
	if (!has_list && answer->n_blocks > 0)
		return why_set(why, ERR_PROTOCOL, "it names %zu blocks, and was not asked for any", answer->n_blocks);
	if (ask->verb == WIRE__KV_VERB__KV_LIST)
		return check_list(ask, answer, why);
	return ask->verb == WIRE__KV_VERB__KV_GET ? check_got(ask, answer, why) : ERR_OK;
}

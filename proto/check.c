#include "proto/check.h"

#include <string.h>

#include "base/layer_groups.h"
#include "proto/codec.h"

/* Every check says the message and the field, so that a refused peer can be understood from one line. */
#define DEMAND(condition, ...)                                          \
	do {                                                            \
		if (!(condition))                                       \
			return why_set(why, ERR_PROTOCOL, __VA_ARGS__); \
	} while (0)

static enum err check_name(const char *name, const char *what, struct why *why)
{
	DEMAND(name && strlen(name) <= PROTO_NAME_MAX, "%s: over %d bytes", what, PROTO_NAME_MAX);
	return ERR_OK;
}

static enum err check_tenant(const char *tenant, const char *what, struct why *why)
{
	DEMAND(tenant && strlen(tenant) <= PROTO_TENANT_MAX, "%s: tenant's name over %d bytes", what, PROTO_TENANT_MAX);
	return ERR_OK;
}

static enum err check_id(const ProtobufCBinaryData *id, const char *what, struct why *why)
{
	DEMAND(id->len == PROTO_KEY_BYTES, "%s: %zu bytes, expected %d", what, id->len, PROTO_KEY_BYTES);
	return ERR_OK;
}

static enum err check_keys(const ProtobufCBinaryData *keys, const char *what, struct why *why)
{
	DEMAND(keys->len % PROTO_KEY_BYTES == 0, "%s: %zu bytes are no whole keys", what, keys->len);
	DEMAND(keys->len / PROTO_KEY_BYTES <= PROTO_KEYS_MAX, "%s: over %d keys", what, PROTO_KEYS_MAX);
	return ERR_OK;
}

static enum err check_error(uint32_t error, const char *what, struct why *why)
{
	DEMAND(strcmp(err_name((enum err)error), "UNKNOWN") != 0, "%s: error number %u is unknown", what, error);
	return ERR_OK;
}

static enum err check_hello(const Wire__Hello *hello, struct why *why)
{
	DEMAND(hello->node != 0, "hello: node id 0");
	DEMAND(hello->role > WIRE__ROLE__ROLE_NONE && hello->role <= WIRE__ROLE__ROLE_OPERATOR, "hello: role %d",
	       (int)hello->role);
	DEMAND(hello->compat.len == 0 || hello->compat.len == PROTO_KEY_BYTES, "hello: compat of %zu bytes",
	       hello->compat.len);
	DEMAND(hello->replicas <= PROTO_REPLICAS_MAX, "hello: %u replicas, at most %d", hello->replicas, PROTO_REPLICAS_MAX);
	DEMAND(hello->role != WIRE__ROLE__ROLE_KVSTORE || (hello->weight > 0 && hello->replicas > 0),
	       "hello: a store of weight %u with %u replicas, expected at least 1", hello->weight, hello->replicas);
	DEMAND(hello->link_address.len <= PROTO_LINK_ADDRESS_MAX, "hello: link address of %zu bytes",
	       hello->link_address.len);
	enum err e = check_name(hello->cluster, "hello: cluster", why);
	return e == ERR_OK ? check_name(hello->name, "hello: name", why) : e;
}

static enum err check_store_load(const Wire__StoreLoad *store, struct why *why)
{
	DEMAND(store->n_tiers <= PROTO_TENANTS_MAX && store->n_tenants <= PROTO_TENANTS_MAX,
	       "load: store: %zu tiers and %zu tenants, at most %d", store->n_tiers, store->n_tenants, PROTO_TENANTS_MAX);
	DEMAND(store->n_evicted <= PROTO_TENANTS_MAX, "load: store: %zu reasons of evictions", store->n_evicted);
	enum err e = check_name(store->policy, "load: store: policy", why);
	for (size_t i = 0; e == ERR_OK && i < store->n_tiers; i++)
		e = check_name(store->tiers[i]->name, "load: store: tier", why);
	for (size_t i = 0; e == ERR_OK && i < store->n_evicted; i++)
		e = check_name(store->evicted[i]->reason, "load: store: reason", why);
	for (size_t i = 0; e == ERR_OK && i < store->n_tenants; i++)
		e = check_tenant(store->tenants[i]->name, "load: store", why);
	return e;
}

static enum err check_load(const Wire__Load *load, struct why *why)
{
	DEMAND(load->n_refused <= 64, "load: %zu reasons of refusals", load->n_refused);
	DEMAND(load->n_groups <= LAYER_GROUPS_MAX, "load: %zu layer groups, at most %d", load->n_groups, LAYER_GROUPS_MAX);
	DEMAND(load->n_transports <= 1024, "load: %zu transports", load->n_transports);
	DEMAND(strnlen(load->required, PROTO_NAME_MAX + 1) <= PROTO_NAME_MAX, "load: required transports: over %d bytes", PROTO_NAME_MAX);
	for (size_t i = 0; i < load->n_transports; i++) {
		enum err e = check_name(load->transports[i]->peer, "load: transport peer", why);
		if (e == ERR_OK)
			e = check_name(load->transports[i]->name, "load: transport name", why);
		if (e != ERR_OK)
			return e;
	}
	return load->store ? check_store_load(load->store, why) : ERR_OK;
}

static enum err check_events(const Wire__KvEvents *events, struct why *why)
{
	enum err e = check_keys(&events->added, "kv_events: added", why);
	return e != ERR_OK ? e : check_keys(&events->removed, "kv_events: removed", why);
}

static enum err check_choices(const Wire__Reserve *reserve, struct why *why)
{
	DEMAND(reserve->n_choices >= 1 && reserve->n_choices <= SAMPLING_CHOICES_MAX, "reserve: %zu choices",
	       reserve->n_choices);
	for (size_t i = 0; i < reserve->n_choices; i++)
		DEMAND(reserve->choices[i] <= UINT16_MAX, "reserve: choice %u", reserve->choices[i]);
	return ERR_OK;
}

static enum err check_reserve(const Wire__Reserve *reserve, struct why *why)
{
	DEMAND(reserve->job, "reserve: no job");
	DEMAND(reserve->sampling, "reserve: no sampling");
	DEMAND(reserve->half <= WIRE__HALF__HALF_BOTH, "reserve: half %d", (int)reserve->half);
	DEMAND(reserve->n_tokens >= 1 && reserve->n_tokens <= PROTO_CONTEXT_MAX, "reserve: %zu tokens",
	       reserve->n_tokens);
	DEMAND(reserve->prompt_count >= 1 && reserve->prompt_count <= reserve->n_tokens,
	       "reserve: prompt_count %u of %zu tokens", reserve->prompt_count, reserve->n_tokens);
	DEMAND(reserve->scored < reserve->prompt_count, "reserve: scored %u of %u prompt tokens", reserve->scored,
	       reserve->prompt_count);
	DEMAND(reserve->tenant_salt.len <= 64, "reserve: tenant salt of %zu bytes", reserve->tenant_salt.len);
	DEMAND(reserve->n_holders <= 64, "reserve: %zu holders", reserve->n_holders);
	DEMAND(reserve->priority <= WIRE__PRIORITY__PRIORITY_LOW, "reserve: priority %d", (int)reserve->priority);
	DEMAND(strlen(reserve->structure) <= PROTO_STRUCTURE_MAX, "reserve: structure over %d bytes", PROTO_STRUCTURE_MAX);
	enum err e = check_choices(reserve, why);
	if (e == ERR_OK)
		e = check_id(&reserve->compat, "reserve: compat", why);
	if (e == ERR_OK)
		e = check_name(reserve->model, "reserve: model", why);
	if (e == ERR_OK)
		e = check_tenant(reserve->tenant, "reserve", why);
	return e == ERR_OK ? check_name(reserve->request, "reserve: request", why) : e;
}

static enum err check_token(const Wire__Token *token, const char *what, struct why *why)
{
	DEMAND(token->job, "%s: no job", what);
	DEMAND(token->choice <= UINT16_MAX, "%s: choice %u", what, token->choice);
	DEMAND(token->n_top_tokens == token->n_top_logprobs && token->n_top_tokens <= SAMPLING_TOP_LOGPROBS_MAX,
	       "%s: %zu top tokens and %zu log-probabilities", what, token->n_top_tokens, token->n_top_logprobs);
	return ERR_OK;
}

static enum err check_token_list(Wire__Token **tokens, size_t count, size_t max, const char *what, struct why *why)
{
	DEMAND(count <= max, "%s: %zu tokens, at most %zu", what, count, max);
	for (size_t i = 0; i < count; i++) {
		enum err e = check_token(tokens[i], what, why);
		if (e != ERR_OK)
			return e;
	}
	return ERR_OK;
}

static enum err check_prompt_logprobs(const Wire__PromptLogprobs *message, struct why *why)
{
	DEMAND(message->job, "prompt_logprobs: no job");
	DEMAND(message->position >= 1 && message->position < PROTO_CONTEXT_MAX, "prompt_logprobs: position %u",
	       message->position);
	DEMAND(message->n_scores >= 1 && message->n_scores <= PROTO_SCORES_MAX, "prompt_logprobs: %zu scores, at most %d",
	       message->n_scores, PROTO_SCORES_MAX);
	for (size_t i = 0; i < message->n_scores; i++) {
		const Wire__TokenScore *score = message->scores[i];
		DEMAND(score->n_top_tokens == score->n_top_logprobs && score->n_top_tokens <= SAMPLING_TOP_LOGPROBS_MAX,
		       "prompt_logprobs: %zu top tokens and %zu log-probabilities", score->n_top_tokens,
		       score->n_top_logprobs);
	}
	return ERR_OK;
}

static enum err check_attach(const Wire__Attach *attach, struct why *why)
{
	DEMAND(attach->job, "attach: no job");
	DEMAND(attach->n_have >= 1 && attach->n_have <= LAYER_GROUPS_MAX, "attach: blocks of %zu layer groups, expected 1 to %d",
	       attach->n_have, LAYER_GROUPS_MAX);
	return check_id(&attach->compat, "attach: compat", why);
}

static enum err check_announce(const Wire__Announce *announce, struct why *why)
{
	DEMAND(announce->job, "announce: no job");
	DEMAND(announce->layer_group < LAYER_GROUPS_MAX, "announce: layer group %u", announce->layer_group);
	DEMAND(announce->layer < PROTO_LAYERS_MAX, "announce: layer %u", announce->layer);
	DEMAND(announce->n_places == announce->n_digests && announce->n_places <= PROTO_BLOCKS_MAX,
	       "announce: %zu places and %zu digests", announce->n_places, announce->n_digests);
	return ERR_OK;
}

static enum err check_prefilled(const Wire__Prefilled *prefilled, struct why *why)
{
	DEMAND(prefilled->job, "prefilled: no job");
	return check_token_list(prefilled->first, prefilled->n_first, SAMPLING_CHOICES_MAX, "prefilled", why);
}

static enum err check_found(const Wire__Found *found, struct why *why)
{
	DEMAND(found->n_blocks <= PROTO_BLOCKS_MAX, "found: %zu blocks", found->n_blocks);
	for (size_t i = 0; i < found->n_blocks; i++) {
		DEMAND(found->blocks[i]->place, "found: block %zu has no place", i);
		DEMAND(found->blocks[i]->n_digests <= PROTO_LAYERS_MAX, "found: %zu digests",
		       found->blocks[i]->n_digests);
		DEMAND(found->blocks[i]->more_copies <= PROTO_REPLICAS_MAX, "found: %u copies more", found->blocks[i]->more_copies);
	}
	return ERR_OK;
}

static enum err check_offer(const Wire__Offer *offer, struct why *why)
{
	DEMAND(offer->place, "offer: no place");
	DEMAND(offer->n_digests >= 1 && offer->n_digests <= PROTO_LAYERS_MAX, "offer: %zu digests", offer->n_digests);
	DEMAND(offer->layer_bytes >= 1 && offer->layer_bytes <= 1u << 30, "offer: layer_bytes %u", offer->layer_bytes);
	DEMAND(offer->parent.len == 0 || offer->parent.len == PROTO_KEY_BYTES, "offer: parent of %zu bytes",
	       offer->parent.len);
	DEMAND(offer->priority <= WIRE__PRIORITY__PRIORITY_LOW, "offer: priority %d", (int)offer->priority);
	DEMAND(offer->pin <= WIRE__KV_PIN__KV_PINNED_HARD, "offer: pin %d", (int)offer->pin);
	enum err e = check_id(&offer->key, "offer: key", why);
	if (e == ERR_OK)
		e = check_tenant(offer->tenant, "offer", why);
	return e == ERR_OK ? check_id(&offer->compat, "offer: compat", why) : e;
}

static enum err check_lookup(const Wire__Lookup *lookup, struct why *why)
{
	enum err e = check_keys(&lookup->keys, "lookup: keys", why);
	if (e == ERR_OK)
		e = check_tenant(lookup->tenant, "lookup", why);
	return e == ERR_OK ? check_id(&lookup->compat, "lookup: compat", why) : e;
}

static enum err check_reserved(const Wire__Reserved *reserved, struct why *why)
{
	DEMAND(reserved->job, "reserved: no job");
	DEMAND(reserved->half <= WIRE__HALF__HALF_BOTH, "reserved: half %d", (int)reserved->half);
	return check_error(reserved->error, "reserved", why);
}

static enum err check_job_end(const Wire__JobEnd *end, struct why *why)
{
	DEMAND(end->job, "job_end: no job");
	DEMAND(end->accounting, "job_end: no accounting");
	DEMAND(end->half <= WIRE__HALF__HALF_BOTH, "job_end: half %d", (int)end->half);
	return check_error(end->error, "job_end", why);
}

static enum err check_directive(const Wire__Directive *directive, struct why *why)
{
	DEMAND(directive->epoch, "directive: no epoch");
	DEMAND(directive->kind <= WIRE__DIRECTIVE_KIND__DIRECTIVE_UNDRAIN, "directive: kind %d", (int)directive->kind);
	return ERR_OK;
}

static enum err check_directive_done(const Wire__DirectiveDone *done, struct why *why)
{
	DEMAND(done->kind <= WIRE__DIRECTIVE_KIND__DIRECTIVE_UNDRAIN, "directive_done: kind %d", (int)done->kind);
	return check_error(done->error, "directive_done", why);
}

static enum err check_kv_ask(const Wire__KvAsk *ask, struct why *why)
{
	DEMAND(ask->verb <= WIRE__KV_VERB__KV_HAVE, "kv_ask: verb %d", (int)ask->verb);
	DEMAND(ask->pin <= WIRE__KV_PIN__KV_PINNED_HARD, "kv_ask: pin %d", (int)ask->pin);
	DEMAND(ask->verb != WIRE__KV_VERB__KV_LIST || (ask->limit >= 1 && ask->limit <= PROTO_PAGE_MAX),
	       "kv_ask: a page of %u blocks, expected 1 to %d", ask->limit, PROTO_PAGE_MAX);
	DEMAND(ask->keys.len / PROTO_KEY_BYTES <= PROTO_ASK_KEYS_MAX, "kv_ask: over %d keys", PROTO_ASK_KEYS_MAX);
	DEMAND(ask->after.len == 0 || ask->after.len == PROTO_KEY_BYTES, "kv_ask: after %zu bytes", ask->after.len);
	enum err e = check_keys(&ask->keys, "kv_ask: keys", why);
	return e == ERR_OK ? check_tenant(ask->tenant, "kv_ask", why) : e;
}

static enum err check_kv_block(const Wire__KvBlock *block, struct why *why)
{
	DEMAND(block->parent.len == 0 || block->parent.len == PROTO_KEY_BYTES, "kv_answer: parent of %zu bytes",
	       block->parent.len);
	DEMAND(block->layers >= 1 && block->layers <= PROTO_LAYERS_MAX && block->layer_bytes >= 1 &&
		       block->layer_bytes <= 1u << 30,
	       "kv_answer: %u layers of %u bytes", block->layers, block->layer_bytes);
	DEMAND(block->n_digests == 0 || (block->n_digests == block->layers && block->place),
	       "kv_answer: %zu digests of %u layers", block->n_digests, block->layers);
	enum err e = check_id(&block->key, "kv_answer: key", why);
	if (e == ERR_OK && (block->compat.len > 0 || block->place)) /* of what is on disk only nobody has read it yet */
		e = check_id(&block->compat, "kv_answer: compat", why);
	if (e == ERR_OK)
		e = check_name(block->tier, "kv_answer: tier", why);
	return e == ERR_OK ? check_tenant(block->tenant, "kv_answer", why) : e;
}

static enum err check_kv_answer(const Wire__KvAnswer *answer, struct why *why)
{
	DEMAND(answer->n_blocks <= PROTO_PAGE_MAX, "kv_answer: %zu blocks, at most %d", answer->n_blocks, PROTO_PAGE_MAX);
	DEMAND(answer->n_errors <= PROTO_ASK_KEYS_MAX, "kv_answer: %zu errors, at most %d", answer->n_errors,
	       PROTO_ASK_KEYS_MAX);
	DEMAND(answer->after.len == 0 || answer->after.len == PROTO_KEY_BYTES, "kv_answer: after %zu bytes", answer->after.len);
	enum err e = check_error(answer->error, "kv_answer", why);
	for (size_t i = 0; e == ERR_OK && i < answer->n_errors; i++)
		e = check_error(answer->errors[i], "kv_answer", why);
	for (size_t i = 0; e == ERR_OK && i < answer->n_blocks; i++)
		e = check_kv_block(answer->blocks[i], why);
	return e == ERR_OK && answer->load ? check_load(answer->load, why) : e;
}

enum err check_envelope(const Wire__Envelope *envelope, struct why *why)
{
	switch (envelope->body_case) {
	case WIRE__ENVELOPE__BODY_HELLO:
		return check_hello(envelope->hello, why);
	case WIRE__ENVELOPE__BODY_LOAD:
		return check_load(envelope->load, why);
	case WIRE__ENVELOPE__BODY_KV_EVENTS:
		return check_events(envelope->kv_events, why);
	case WIRE__ENVELOPE__BODY_RESERVE:
		return check_reserve(envelope->reserve, why);
	case WIRE__ENVELOPE__BODY_RESERVED:
		return check_reserved(envelope->reserved, why);
	case WIRE__ENVELOPE__BODY_START:
		DEMAND(envelope->start->job, "start: no job");
		return ERR_OK;
	case WIRE__ENVELOPE__BODY_CANCEL:
		DEMAND(envelope->cancel->job, "cancel: no job");
		return check_error(envelope->cancel->error, "cancel", why);
	case WIRE__ENVELOPE__BODY_TOKENS:
		return check_token_list(envelope->tokens->tokens, envelope->tokens->n_tokens, 4096, "tokens", why);
	case WIRE__ENVELOPE__BODY_PROMPT_LOGPROBS:
		return check_prompt_logprobs(envelope->prompt_logprobs, why);
	case WIRE__ENVELOPE__BODY_JOB_END:
		return check_job_end(envelope->job_end, why);
	case WIRE__ENVELOPE__BODY_ATTACH:
		return check_attach(envelope->attach, why);
	case WIRE__ENVELOPE__BODY_ANNOUNCE:
		return check_announce(envelope->announce, why);
	case WIRE__ENVELOPE__BODY_PREFILLED:
		return check_prefilled(envelope->prefilled, why);
	case WIRE__ENVELOPE__BODY_TRANSFER_END:
		DEMAND(envelope->transfer_end->job, "transfer_end: no job");
		return check_error(envelope->transfer_end->error, "transfer_end", why);
	case WIRE__ENVELOPE__BODY_LOOKUP:
		return check_lookup(envelope->lookup, why);
	case WIRE__ENVELOPE__BODY_FOUND:
		return check_found(envelope->found, why);
	case WIRE__ENVELOPE__BODY_OFFER:
		return check_offer(envelope->offer, why);
	case WIRE__ENVELOPE__BODY_OFFER_DONE:
		return check_error(envelope->offer_done->error, "offer_done", why);
	case WIRE__ENVELOPE__BODY_DIRECTIVE:
		return check_directive(envelope->directive, why);
	case WIRE__ENVELOPE__BODY_DIRECTIVE_DONE:
		return check_directive_done(envelope->directive_done, why);
	case WIRE__ENVELOPE__BODY_KV_ASK:
		return check_kv_ask(envelope->kv_ask, why);
	case WIRE__ENVELOPE__BODY_KV_ANSWER:
		return check_kv_answer(envelope->kv_answer, why);
	case WIRE__ENVELOPE__BODY_BEAT:
	case WIRE__ENVELOPE__BODY_REFUSED:
	case WIRE__ENVELOPE__BODY_KV_RESYNC:
	case WIRE__ENVELOPE__BODY_RELEASE:
		return ERR_OK;
	default:
		return why_set(why, ERR_PROTOCOL, "envelope without a body that this version knows");
	}
}

/* Each message that is not whole or over a limit is refused by name: a good one of its kind with one thing spoiled. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "proto/check.h"
#include "proto/codec.h"
#include "proto/job.h"

static Wire__JobId job = {.base = PROTOBUF_C_MESSAGE_INIT(&wire__job_id__descriptor), .coordinator = 1, .number = 2};
static Wire__Sampling sampling = WIRE__SAMPLING__INIT;
static Wire__Place place = WIRE__PLACE__INIT;
static Wire__Accounting accounting = WIRE__ACCOUNTING__INIT;
static uint8_t bytes[PROTO_KEY_BYTES * 2];
static uint32_t numbers[8];
static float logprobs[8];
static uint64_t digests[8];
static char name_max[PROTO_NAME_MAX + 1], name_over[PROTO_NAME_MAX + 2];
static char tenant_max[PROTO_TENANT_MAX + 1], tenant_over[PROTO_TENANT_MAX + 2];

static int setup(void **state)
{
	memset(name_max, 'a', PROTO_NAME_MAX);
	memset(name_over, 'a', PROTO_NAME_MAX + 1);
	memset(tenant_max, 'a', PROTO_TENANT_MAX);
	memset(tenant_over, 'a', PROTO_TENANT_MAX + 1);
	return 0;
}

static ProtobufCBinaryData data(size_t length)
{
	return (ProtobufCBinaryData){length, bytes};
}

static void refused(const Wire__Envelope *envelope, const char *words)
{
	struct why why = {0};
	assert_int_equal(check_envelope(envelope, &why), ERR_PROTOCOL);
	if (!strstr(why.text, words))
		fail_msg("\"%s\" lacks \"%s\"", why.text, words);
}

/* `m` is the message that `change` spoils, or not. */
#define ACCEPTED(CASE, member, sample, change)                              \
	do {                                                                \
		__typeof__(sample) m = sample;                              \
		change;                                                     \
		PROTO_ENVELOPE(envelope, CASE, member, &m);                 \
		struct why why = {0};                                       \
		assert_int_equal(check_envelope(&envelope, &why), ERR_OK);  \
	} while (0)
#define REFUSED(CASE, member, sample, change, words)                        \
	do {                                                                \
		__typeof__(sample) m = sample;                              \
		change;                                                     \
		PROTO_ENVELOPE(envelope, CASE, member, &m);                 \
		refused(&envelope, words);                                  \
	} while (0)

static Wire__Hello hello(void)
{
	Wire__Hello m = WIRE__HELLO__INIT;
	m.node = 7, m.incarnation = 1, m.role = WIRE__ROLE__ROLE_PREFILL, m.name = (char *)"prefill-1";
	m.compat = data(PROTO_KEY_BYTES);
	return m;
}

static void a_hello(void **state)
{
	ACCEPTED(HELLO, hello, hello(), m.name = name_max);
	ACCEPTED(HELLO, hello, hello(), m.compat.len = 0);
	ACCEPTED(HELLO, hello, hello(), (m.role = WIRE__ROLE__ROLE_KVSTORE, m.weight = 1, m.replicas = PROTO_REPLICAS_MAX));
	REFUSED(HELLO, hello, hello(), m.node = 0, "hello: node id 0");
	REFUSED(HELLO, hello, hello(), m.role = WIRE__ROLE__ROLE_NONE, "hello: role 0");
	ACCEPTED(HELLO, hello, hello(), m.role = WIRE__ROLE__ROLE_OPERATOR);
	REFUSED(HELLO, hello, hello(), m.role = (Wire__Role)7, "hello: role 7");
	REFUSED(HELLO, hello, hello(), m.compat.len = 15, "hello: compat of 15 bytes");
	REFUSED(HELLO, hello, hello(), m.link_address.len = PROTO_LINK_ADDRESS_MAX + 1, "hello: link address of 8193 bytes");
	REFUSED(HELLO, hello, hello(), m.replicas = PROTO_REPLICAS_MAX + 1, "hello: 5 replicas, at most 4");
	REFUSED(HELLO, hello, hello(), (m.role = WIRE__ROLE__ROLE_KVSTORE, m.replicas = 1), "hello: a store of weight 0 with 1 replicas");
	REFUSED(HELLO, hello, hello(), (m.role = WIRE__ROLE__ROLE_KVSTORE, m.weight = 1), "hello: a store of weight 1 with 0 replicas");
	REFUSED(HELLO, hello, hello(), m.name = name_over, "hello: name: over 255 bytes");
}

static void a_load(void **state)
{
	Wire__Transport transport = WIRE__TRANSPORT__INIT, *transports[1025];
	for (size_t i = 0; i < 1025; i++)
		transports[i] = &transport;
	Wire__Load load = WIRE__LOAD__INIT;
	transport.peer = transport.name = name_max;
	ACCEPTED(LOAD, load, load, (m.n_transports = 1024, m.transports = transports, m.n_refused = 64));
	REFUSED(LOAD, load, load, m.n_refused = 65, "load: 65 reasons of refusals");
	REFUSED(LOAD, load, load, (m.n_transports = 1025, m.transports = transports), "load: 1025 transports");
	transport.name = name_over;
	REFUSED(LOAD, load, load, (m.n_transports = 1, m.transports = transports), "load: transport name");
	transport.peer = name_over;
	REFUSED(LOAD, load, load, (m.n_transports = 1, m.transports = transports), "load: transport peer");
}

static void keys_come_whole_and_not_too_many(void **state)
{
	Wire__KvEvents events = WIRE__KV_EVENTS__INIT;
	const size_t max = (size_t)PROTO_KEYS_MAX * PROTO_KEY_BYTES;
	ACCEPTED(KV_EVENTS, kv_events, events, (m.added.len = max, m.removed.len = max));
	REFUSED(KV_EVENTS, kv_events, events, m.added.len = 17, "kv_events: added: 17 bytes are no whole keys");
	REFUSED(KV_EVENTS, kv_events, events, m.removed.len = 8, "kv_events: removed: 8 bytes are no whole keys");
	REFUSED(KV_EVENTS, kv_events, events, m.removed.len = max + 16, "kv_events: removed: over 65536 keys");
	Wire__Lookup lookup = WIRE__LOOKUP__INIT;
	lookup.compat = data(16);
	ACCEPTED(LOOKUP, lookup, lookup, m.keys = data(32));
	REFUSED(LOOKUP, lookup, lookup, m.keys.len = 1, "lookup: keys: 1 bytes are no whole keys");
	ACCEPTED(LOOKUP, lookup, lookup, m.tenant = tenant_max);
	REFUSED(LOOKUP, lookup, lookup, m.tenant = tenant_over, "lookup: tenant's name over 127 bytes");
	REFUSED(LOOKUP, lookup, lookup, m.compat.len = 17, "lookup: compat: 17 bytes, expected 16");
}

static Wire__Reserve reserve(void)
{
	Wire__Reserve m = WIRE__RESERVE__INIT;
	m.job = &job, m.sampling = &sampling, m.half = WIRE__HALF__HALF_BOTH;
	m.n_tokens = 8, m.tokens = numbers, m.prompt_count = 6, m.scored = 5;
	m.n_choices = 2, m.choices = numbers;
	m.compat = data(16);
	m.model = m.request = name_max;
	m.tenant = tenant_max, m.priority = WIRE__PRIORITY__PRIORITY_LOW;
	return m;
}

static void a_reserve(void **state)
{
	ACCEPTED(RESERVE, reserve, reserve(), );
	REFUSED(RESERVE, reserve, reserve(), m.job = NULL, "reserve: no job");
	REFUSED(RESERVE, reserve, reserve(), m.sampling = NULL, "reserve: no sampling");
	REFUSED(RESERVE, reserve, reserve(), m.half = (Wire__Half)3, "reserve: half 3");
	REFUSED(RESERVE, reserve, reserve(), m.n_tokens = 0, "reserve: 0 tokens");
	REFUSED(RESERVE, reserve, reserve(), m.n_tokens = PROTO_CONTEXT_MAX + 1, "reserve: 1048577 tokens");
	REFUSED(RESERVE, reserve, reserve(), m.prompt_count = 0, "prompt_count 0 of 8 tokens");
	REFUSED(RESERVE, reserve, reserve(), m.prompt_count = 9, "prompt_count 9 of 8 tokens");
	REFUSED(RESERVE, reserve, reserve(), m.scored = 6, "scored 6 of 6 prompt tokens");
	REFUSED(RESERVE, reserve, reserve(), m.tenant_salt.len = 65, "tenant salt of 65 bytes");
	REFUSED(RESERVE, reserve, reserve(), m.n_holders = 65, "reserve: 65 holders");
	REFUSED(RESERVE, reserve, reserve(), m.compat.len = 0, "reserve: compat: 0 bytes");
	REFUSED(RESERVE, reserve, reserve(), m.model = NULL, "reserve: model: over 255");
	REFUSED(RESERVE, reserve, reserve(), m.model = name_over, "reserve: model: over 255");
	REFUSED(RESERVE, reserve, reserve(), m.tenant = tenant_over, "reserve: tenant's name over 127");
	REFUSED(RESERVE, reserve, reserve(), m.priority = (Wire__Priority)2, "reserve: priority 2");
	REFUSED(RESERVE, reserve, reserve(), m.request = name_over, "reserve: request: over 255");
}

static void the_choices_of_a_reserve(void **state)
{
	uint32_t choices[SAMPLING_CHOICES_MAX + 1] = {UINT16_MAX};
	ACCEPTED(RESERVE, reserve, reserve(), (m.n_choices = SAMPLING_CHOICES_MAX, m.choices = choices));
	REFUSED(RESERVE, reserve, reserve(), m.n_choices = 0, "reserve: 0 choices");
	REFUSED(RESERVE, reserve, reserve(), (m.n_choices = SAMPLING_CHOICES_MAX + 1, m.choices = choices),
		"reserve: 17 choices");
	choices[1] = UINT16_MAX + 1;
	REFUSED(RESERVE, reserve, reserve(), m.choices = choices, "reserve: choice 65536");
}

static void answers_name_a_job_a_half_and_a_known_error(void **state)
{
	Wire__Reserved reserved = WIRE__RESERVED__INIT;
	reserved.job = &job;
	ACCEPTED(RESERVED, reserved, reserved, );
	REFUSED(RESERVED, reserved, reserved, m.job = NULL, "reserved: no job");
	REFUSED(RESERVED, reserved, reserved, m.half = (Wire__Half)3, "reserved: half 3");
	REFUSED(RESERVED, reserved, reserved, m.error = 9999, "reserved: error number 9999 is unknown");
	Wire__JobEnd end = WIRE__JOB_END__INIT;
	end.job = &job, end.accounting = &accounting;
	ACCEPTED(JOB_END, job_end, end, m.half = WIRE__HALF__HALF_BOTH);
	REFUSED(JOB_END, job_end, end, m.job = NULL, "job_end: no job");
	REFUSED(JOB_END, job_end, end, m.accounting = NULL, "job_end: no accounting");
	REFUSED(JOB_END, job_end, end, m.half = (Wire__Half)3, "job_end: half 3");
	REFUSED(JOB_END, job_end, end, m.error = 9999, "job_end: error number 9999");
	Wire__Cancel cancel = WIRE__CANCEL__INIT;
	cancel.job = &job;
	ACCEPTED(CANCEL, cancel, cancel, );
	REFUSED(CANCEL, cancel, cancel, m.job = NULL, "cancel: no job");
	REFUSED(CANCEL, cancel, cancel, m.error = 9999, "cancel: error number 9999");
	Wire__TransferEnd transfer = WIRE__TRANSFER_END__INIT;
	transfer.job = &job;
	ACCEPTED(TRANSFER_END, transfer_end, transfer, );
	REFUSED(TRANSFER_END, transfer_end, transfer, m.job = NULL, "transfer_end: no job");
	REFUSED(TRANSFER_END, transfer_end, transfer, m.error = 9999, "transfer_end: error number 9999");
}

static Wire__Token token(void)
{
	Wire__Token m = WIRE__TOKEN__INIT;
	m.job = &job, m.choice = UINT16_MAX;
	m.n_top_tokens = m.n_top_logprobs = 5, m.top_tokens = numbers, m.top_logprobs = logprobs;
	return m;
}

static void tokens_of_a_step(void **state)
{
	Wire__Token one = token(), *list[4097];
	for (size_t i = 0; i < 4097; i++)
		list[i] = &one;
	Wire__Tokens tokens = WIRE__TOKENS__INIT;
	tokens.tokens = list, tokens.n_tokens = 1;
	ACCEPTED(TOKENS, tokens, tokens, m.n_tokens = 4096);
	ACCEPTED(TOKENS, tokens, tokens, m.n_tokens = 0);
	REFUSED(TOKENS, tokens, tokens, m.n_tokens = 4097, "tokens: 4097 tokens, at most 4096");
	one.job = NULL;
	REFUSED(TOKENS, tokens, tokens, , "tokens: no job");
	one = token(), one.choice = UINT16_MAX + 1;
	REFUSED(TOKENS, tokens, tokens, , "tokens: choice 65536");
	one = token(), one.n_top_logprobs = 4;
	REFUSED(TOKENS, tokens, tokens, , "tokens: 5 top tokens and 4 log-probabilities");
	one.n_top_tokens = one.n_top_logprobs = SAMPLING_TOP_LOGPROBS_MAX + 1;
	REFUSED(TOKENS, tokens, tokens, , "tokens: 21 top tokens");
	Wire__Prefilled prefilled = WIRE__PREFILLED__INIT;
	prefilled.job = &job, prefilled.first = list;
	ACCEPTED(PREFILLED, prefilled, prefilled, );
	REFUSED(PREFILLED, prefilled, prefilled, m.job = NULL, "prefilled: no job");
	REFUSED(PREFILLED, prefilled, prefilled, m.n_first = 1, "prefilled: 21 top tokens");
	REFUSED(PREFILLED, prefilled, prefilled, m.n_first = SAMPLING_CHOICES_MAX + 1, "prefilled: 17 tokens, at most 16");
}

static void log_probabilities_of_a_prompt(void **state)
{
	Wire__TokenScore score = WIRE__TOKEN_SCORE__INIT, *scores[PROTO_SCORES_MAX + 1];
	for (size_t i = 0; i <= PROTO_SCORES_MAX; i++)
		scores[i] = &score;
	Wire__PromptLogprobs sent = WIRE__PROMPT_LOGPROBS__INIT;
	sent.job = &job, sent.position = 1, sent.n_scores = PROTO_SCORES_MAX, sent.scores = scores;
	ACCEPTED(PROMPT_LOGPROBS, prompt_logprobs, sent, m.position = PROTO_CONTEXT_MAX - 1);
	REFUSED(PROMPT_LOGPROBS, prompt_logprobs, sent, m.job = NULL, "prompt_logprobs: no job");
	REFUSED(PROMPT_LOGPROBS, prompt_logprobs, sent, m.position = 0, "prompt_logprobs: position 0");
	REFUSED(PROMPT_LOGPROBS, prompt_logprobs, sent, m.position = PROTO_CONTEXT_MAX, "position 1048576");
	REFUSED(PROMPT_LOGPROBS, prompt_logprobs, sent, m.n_scores = 0, "0 scores, at most 64");
	REFUSED(PROMPT_LOGPROBS, prompt_logprobs, sent, m.n_scores++, "65 scores, at most 64");
	score.n_top_tokens = 2;
	REFUSED(PROMPT_LOGPROBS, prompt_logprobs, sent, , "2 top tokens and 0 log-probabilities");
	score.n_top_tokens = score.n_top_logprobs = SAMPLING_TOP_LOGPROBS_MAX + 1;
	REFUSED(PROMPT_LOGPROBS, prompt_logprobs, sent, , "21 top tokens and 21");
}

static void a_hand_over(void **state)
{
	Wire__Attach attach = WIRE__ATTACH__INIT;
	uint32_t have[3] = {4, 2, 0};
	attach.job = &job, attach.compat = data(16), attach.have = have, attach.n_have = 2;
	ACCEPTED(ATTACH, attach, attach, );
	REFUSED(ATTACH, attach, attach, m.job = NULL, "attach: no job");
	REFUSED(ATTACH, attach, attach, m.n_have = 0, "attach: blocks of 0 layer groups, expected 1 to 2");
	REFUSED(ATTACH, attach, attach, m.n_have = 3, "attach: blocks of 3 layer groups, expected 1 to 2");
	REFUSED(ATTACH, attach, attach, m.compat.len = 4, "attach: compat: 4 bytes, expected 16");
	Wire__Announce announce = WIRE__ANNOUNCE__INIT;
	announce.job = &job, announce.layer = PROTO_LAYERS_MAX - 1, announce.n_places = announce.n_digests = PROTO_BLOCKS_MAX;
	ACCEPTED(ANNOUNCE, announce, announce, );
	REFUSED(ANNOUNCE, announce, announce, m.job = NULL, "announce: no job");
	REFUSED(ANNOUNCE, announce, announce, m.layer++, "announce: layer 512");
	REFUSED(ANNOUNCE, announce, announce, m.n_places--, "announce: 65535 places and 65536 digests");
	REFUSED(ANNOUNCE, announce, announce, m.n_places = m.n_digests = PROTO_BLOCKS_MAX + 1, "announce: 65537 places");
	Wire__Start start = WIRE__START__INIT;
	ACCEPTED(START, start, start, m.job = &job);
	REFUSED(START, start, start, , "start: no job");
}

static void blocks_that_were_found(void **state)
{
	Wire__FoundBlock good = WIRE__FOUND_BLOCK__INIT, bad = WIRE__FOUND_BLOCK__INIT, *blocks[] = {&good, &bad};
	Wire__Found found = WIRE__FOUND__INIT;
	good.place = &place, good.n_digests = PROTO_LAYERS_MAX;
	found.blocks = blocks, found.n_blocks = 1;
	ACCEPTED(FOUND, found, found, );
	REFUSED(FOUND, found, found, m.n_blocks = 2, "found: block 1 has no place");
	bad.place = &place, bad.n_digests = PROTO_LAYERS_MAX + 1;
	REFUSED(FOUND, found, found, m.n_blocks = 2, "found: 513 digests");
	REFUSED(FOUND, found, found, m.n_blocks = PROTO_BLOCKS_MAX + 1, "found: 65537 blocks");
}

static Wire__Offer offer(void)
{
	Wire__Offer m = WIRE__OFFER__INIT;
	m.place = &place, m.n_digests = 2, m.digests = digests, m.layer_bytes = 1u << 30;
	m.key = m.compat = data(16);
	return m;
}

static void an_offer(void **state)
{
	ACCEPTED(OFFER, offer, offer(), );
	ACCEPTED(OFFER, offer, offer(), m.parent = data(16));
	REFUSED(OFFER, offer, offer(), m.place = NULL, "offer: no place");
	REFUSED(OFFER, offer, offer(), m.n_digests = 0, "offer: 0 digests");
	REFUSED(OFFER, offer, offer(), m.n_digests = PROTO_LAYERS_MAX + 1, "offer: 513 digests");
	REFUSED(OFFER, offer, offer(), m.layer_bytes = 0, "offer: layer_bytes 0");
	REFUSED(OFFER, offer, offer(), m.layer_bytes++, "offer: layer_bytes 1073741825");
	REFUSED(OFFER, offer, offer(), m.parent = data(15), "offer: parent of 15 bytes");
	REFUSED(OFFER, offer, offer(), m.key.len = 0, "offer: key: 0 bytes, expected 16");
	REFUSED(OFFER, offer, offer(), m.compat.len = 0, "offer: compat: 0 bytes, expected 16");
	ACCEPTED(OFFER, offer, offer(), (m.tenant = tenant_max, m.priority = WIRE__PRIORITY__PRIORITY_LOW));
	REFUSED(OFFER, offer, offer(), m.tenant = tenant_over, "offer: tenant's name over 127");
	REFUSED(OFFER, offer, offer(), m.priority = (Wire__Priority)2, "offer: priority 2");
	ACCEPTED(OFFER, offer, offer(), m.pin = WIRE__KV_PIN__KV_PINNED_HARD);
	REFUSED(OFFER, offer, offer(), m.pin = (Wire__KvPin)3, "offer: pin 3");
	Wire__OfferDone done = WIRE__OFFER_DONE__INIT;
	ACCEPTED(OFFER_DONE, offer_done, done, m.error = ERR_EXISTS);
	REFUSED(OFFER_DONE, offer_done, done, m.error = 9999, "offer_done: error number 9999");
}

static void a_directive(void **state)
{
	Wire__Directive directive = WIRE__DIRECTIVE__INIT;
	directive.epoch = 5;
	ACCEPTED(DIRECTIVE, directive, directive, m.kind = WIRE__DIRECTIVE_KIND__DIRECTIVE_UNDRAIN);
	REFUSED(DIRECTIVE, directive, directive, m.epoch = 0, "directive: no epoch");
	REFUSED(DIRECTIVE, directive, directive, m.kind = (Wire__DirectiveKind)3, "directive: kind 3");
	Wire__DirectiveDone done = WIRE__DIRECTIVE_DONE__INIT;
	ACCEPTED(DIRECTIVE_DONE, directive_done, done, m.error = ERR_STALE);
	REFUSED(DIRECTIVE_DONE, directive_done, done, m.kind = (Wire__DirectiveKind)3, "directive_done: kind 3");
	REFUSED(DIRECTIVE_DONE, directive_done, done, m.error = 9999, "directive_done: error number 9999");
}

static void a_question_of_an_operator(void **state)
{
	Wire__KvAsk ask = WIRE__KV_ASK__INIT;
	ask.limit = PROTO_PAGE_MAX, ask.tenant = tenant_max;
	ACCEPTED(KV_ASK, kv_ask, ask, );
	ACCEPTED(KV_ASK, kv_ask, ask, m.keys.len = (size_t)PROTO_ASK_KEYS_MAX * PROTO_KEY_BYTES);
	ACCEPTED(KV_ASK, kv_ask, ask, m.verb = WIRE__KV_VERB__KV_LIST);
	ACCEPTED(KV_ASK, kv_ask, ask, m.limit = 0); /* of a list only */
	REFUSED(KV_ASK, kv_ask, ask, (m.verb = WIRE__KV_VERB__KV_LIST, m.limit = 0), "kv_ask: a page of 0 blocks, expected 1 to 1024");
	REFUSED(KV_ASK, kv_ask, ask, (m.verb = WIRE__KV_VERB__KV_LIST, m.limit++), "kv_ask: a page of 1025 blocks");
	REFUSED(KV_ASK, kv_ask, ask, m.after = ((ProtobufCBinaryData){15, (uint8_t *)"0123456789abcdef"}), "kv_ask: after 15 bytes");
	REFUSED(KV_ASK, kv_ask, ask, m.verb = (Wire__KvVerb)7, "kv_ask: verb 7");
	REFUSED(KV_ASK, kv_ask, ask, m.pin = (Wire__KvPin)3, "kv_ask: pin 3");
	REFUSED(KV_ASK, kv_ask, ask, m.keys.len = 17, "kv_ask: keys: 17 bytes are no whole keys");
	REFUSED(KV_ASK, kv_ask, ask, m.keys.len = (size_t)(PROTO_ASK_KEYS_MAX + 1) * PROTO_KEY_BYTES, "kv_ask: over 256 keys");
	REFUSED(KV_ASK, kv_ask, ask, m.tenant = tenant_over, "kv_ask: tenant's name over 127");
}

static Wire__KvBlock kv_block(void)
{
	Wire__KvBlock m = WIRE__KV_BLOCK__INIT;
	m.key = m.compat = data(16);
	m.layers = PROTO_LAYERS_MAX, m.layer_bytes = 1u << 30;
	m.n_digests = PROTO_LAYERS_MAX, m.place = &place;
	m.tenant = tenant_max, m.tier = name_max;
	return m;
}

/* An answer with one block, in which one thing is spoiled. */
#define SPOILT(change, words)                                                        \
	do {                                                                         \
		Wire__KvBlock b = kv_block(), *list[] = {&b};                        \
		change;                                                              \
		REFUSED(KV_ANSWER, kv_answer, answer, (m.n_blocks = 1, m.blocks = list), words); \
	} while (0)

static void an_answer_to_an_operator(void **state)
{
	Wire__KvAnswer answer = WIRE__KV_ANSWER__INIT;
	Wire__KvBlock good = kv_block(), plain = kv_block(), *blocks[] = {&good, &plain};
	uint32_t errors[] = {ERR_BUSY, 9999};
	plain.n_digests = 0, plain.place = NULL, plain.parent = data(16);
	ACCEPTED(KV_ANSWER, kv_answer, answer, (m.n_blocks = 2, m.blocks = blocks));
	plain.compat.len = 0; /* of what is on disk only */
	ACCEPTED(KV_ANSWER, kv_answer, answer, (m.n_blocks = 2, m.blocks = blocks));
	ACCEPTED(KV_ANSWER, kv_answer, answer, (m.n_errors = 1, m.errors = errors));
	REFUSED(KV_ANSWER, kv_answer, answer, (m.n_errors = 2, m.errors = errors), "kv_answer: error number 9999");
	REFUSED(KV_ANSWER, kv_answer, answer, m.n_errors = PROTO_ASK_KEYS_MAX + 1, "kv_answer: 257 errors, at most 256");
	REFUSED(KV_ANSWER, kv_answer, answer, m.error = 9999, "kv_answer: error number 9999");
	REFUSED(KV_ANSWER, kv_answer, answer, m.after = ((ProtobufCBinaryData){17, (uint8_t *)"0123456789abcdef"}), "kv_answer: after 17 bytes");
	REFUSED(KV_ANSWER, kv_answer, answer, m.n_blocks = PROTO_PAGE_MAX + 1, "kv_answer: 1025 blocks, at most 1024");
	SPOILT(b.key.len = 15, "kv_answer: key: 15 bytes, expected 16");
	SPOILT(b.compat.len = 0, "kv_answer: compat: 0 bytes, expected 16");
	SPOILT(b.parent = data(1), "kv_answer: parent of 1 bytes");
	SPOILT(b.layers = 0, "kv_answer: 0 layers");
	SPOILT(b.layers++, "kv_answer: 513 layers");
	SPOILT(b.layer_bytes = 0, "kv_answer: 512 layers of 0 bytes");
	SPOILT(b.layer_bytes++, "of 1073741825 bytes");
	SPOILT(b.n_digests--, "kv_answer: 511 digests of 512 layers");
	SPOILT(b.place = NULL, "kv_answer: 512 digests of 512 layers");
	SPOILT(b.tenant = tenant_over, "kv_answer: tenant's name over 127");
	SPOILT(b.tier = name_over, "kv_answer: tier: over 255");
}

static void what_a_store_says_of_itself(void **state)
{
	Wire__TierLoad tier = WIRE__TIER_LOAD__INIT, *tiers[] = {&tier};
	Wire__TenantLoad tenant = WIRE__TENANT_LOAD__INIT, *tenants[] = {&tenant};
	Wire__EvictedLoad evicted = WIRE__EVICTED_LOAD__INIT, *reasons[] = {&evicted};
	Wire__StoreLoad store = WIRE__STORE_LOAD__INIT;
	Wire__Load load = WIRE__LOAD__INIT;
	Wire__KvAnswer answer = WIRE__KV_ANSWER__INIT;
	store.n_tiers = store.n_tenants = store.n_evicted = 1;
	store.tiers = tiers, store.tenants = tenants, store.evicted = reasons, store.policy = name_max;
	load.store = &store;
	tier.name = evicted.reason = name_max, tenant.name = tenant_max;
	ACCEPTED(LOAD, load, load, );
	store.policy = name_over;
	REFUSED(LOAD, load, load, , "load: store: policy: over 255");
	REFUSED(KV_ANSWER, kv_answer, answer, m.load = &load, "load: store: policy: over 255");
	store.policy = name_max, tier.name = name_over;
	REFUSED(LOAD, load, load, , "load: store: tier: over 255");
	tier.name = name_max, evicted.reason = name_over;
	REFUSED(LOAD, load, load, , "load: store: reason: over 255");
	evicted.reason = name_max, tenant.name = tenant_over;
	REFUSED(LOAD, load, load, , "load: store: tenant's name over 127");
	store.n_tenants = PROTO_TENANTS_MAX + 1;
	REFUSED(LOAD, load, load, , "load: store: 1 tiers and 257 tenants, at most 256");
	store.n_tenants = 0, store.n_tiers = PROTO_TENANTS_MAX + 1;
	REFUSED(LOAD, load, load, , "load: store: 257 tiers");
	store.n_tiers = 0, store.n_evicted = PROTO_TENANTS_MAX + 1;
	REFUSED(LOAD, load, load, , "load: store: 257 reasons");
}

static void what_has_no_limits_is_let_through_and_what_has_no_body_is_not(void **state)
{
	Wire__Beat beat = WIRE__BEAT__INIT;
	Wire__Refused refusal = WIRE__REFUSED__INIT;
	Wire__KvResync resync = WIRE__KV_RESYNC__INIT;
	Wire__Release release = WIRE__RELEASE__INIT;
	ACCEPTED(BEAT, beat, beat, );
	ACCEPTED(REFUSED, refused, refusal, );
	ACCEPTED(KV_RESYNC, kv_resync, resync, );
	ACCEPTED(RELEASE, release, release, );
	Wire__Envelope empty = WIRE__ENVELOPE__INIT;
	refused(&empty, "envelope without a body");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_hello),
		cmocka_unit_test(a_load),
		cmocka_unit_test(keys_come_whole_and_not_too_many),
		cmocka_unit_test(a_reserve),
		cmocka_unit_test(the_choices_of_a_reserve),
		cmocka_unit_test(answers_name_a_job_a_half_and_a_known_error),
		cmocka_unit_test(tokens_of_a_step),
		cmocka_unit_test(log_probabilities_of_a_prompt),
		cmocka_unit_test(a_hand_over),
		cmocka_unit_test(blocks_that_were_found),
		cmocka_unit_test(an_offer),
		cmocka_unit_test(a_directive),
		cmocka_unit_test(a_question_of_an_operator),
		cmocka_unit_test(an_answer_to_an_operator),
		cmocka_unit_test(what_a_store_says_of_itself),
		cmocka_unit_test(what_has_no_limits_is_let_through_and_what_has_no_body_is_not),
	};
	return cmocka_run_group_tests(tests, setup, NULL);
}

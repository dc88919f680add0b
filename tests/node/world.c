#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/node/world.h"

static const struct id128 compat = {{9}};
uint8_t compat_bytes[16] = {9}, other_bytes[16] = {8};

static void on_send(void *context, uint32_t conn, const Wire__Envelope *envelope)
{
	struct world *w = context;
	struct sent sent = {.conn = conn, .body = envelope->body_case};
	switch (envelope->body_case) {
	case WIRE__ENVELOPE__BODY_RESERVED:
		sent.error = (enum err)envelope->reserved->error;
		sent.half = envelope->reserved->half;
		snprintf(sent.text, sizeof(sent.text), "%s", envelope->reserved->why);
		break;
	case WIRE__ENVELOPE__BODY_JOB_END:
		sent.error = (enum err)envelope->job_end->error;
		sent.half = envelope->job_end->half;
		if (envelope->job_end->accounting) {
			sent.computed = (uint32_t)envelope->job_end->accounting->computed;
			sent.reused = (uint32_t)envelope->job_end->accounting->reused;
			sent.fetched = (uint32_t)envelope->job_end->accounting->fetched;
		}
		break;
	case WIRE__ENVELOPE__BODY_ANNOUNCE:
		sent.layer = envelope->announce->layer;
		sent.block_first = envelope->announce->block_first;
		sent.block_count = (uint32_t)envelope->announce->n_places;
		break;
	case WIRE__ENVELOPE__BODY_TRANSFER_END:
		sent.error = (enum err)envelope->transfer_end->error;
		break;
	case WIRE__ENVELOPE__BODY_DIRECTIVE_DONE:
		sent.error = (enum err)envelope->directive_done->error;
		break;
	case WIRE__ENVELOPE__BODY_KV_EVENTS:
		sent.reset = envelope->kv_events->reset;
		break;
	case WIRE__ENVELOPE__BODY_LOAD:
		sent.transports = (uint32_t)envelope->load->n_transports;
		snprintf(sent.text, sizeof(sent.text), "%s", sent.transports ? envelope->load->transports[0]->name : "");
		break;
	case WIRE__ENVELOPE__BODY_LOOKUP:
		sent.op = envelope->lookup->op;
		sent.keys = (uint32_t)(envelope->lookup->keys.len / PROTO_KEY_BYTES);
		break;
	case WIRE__ENVELOPE__BODY_HELLO:
	case WIRE__ENVELOPE__BODY_BEAT:
		return;
	default:
		break;
	}
	assert_true(w->sent_count < SENT_MAX);
	w->sent[w->sent_count++] = sent;
}

static void on_close(void *context, uint32_t conn)
{
}

static void on_dial(void *context, uint64_t node)
{
}

static void on_link_open(void *context, uint64_t node, uint64_t incarnation, const uint8_t *address, size_t length)
{
}

static void on_link_close(void *context, uint64_t node)
{
}

static const char *on_link_name(void *context, uint64_t node)
{
	const struct world *w = context;
	return node == 10 * PREFILL ? "mapped" : node == 10 * DECODE ? w->decode_link : NULL;
}

static void on_read(void *context, const struct env_read *read)
{
	struct world *w = context;
	assert_true(w->reads < READS_MAX);
	w->read[w->reads++] = *read;
}

static void on_cancel(void *context, uint64_t op)
{
}

static void submit(void *context, const struct plan *plan)
{
	struct world *w = context;
	assert_null(w->plan);
	w->plan = plan;
}

static uint64_t block_digest(void *context, uint32_t block, uint32_t layer)
{
	return 0;
}

static void copy_block(void *context, uint32_t from, uint32_t to)
{
}

struct node_options world_options(struct world *w)
{
	static const uint32_t eos_ids[] = {7};
	static const struct kv_layer layers[LAYERS] = {{0, 0}, {0, 1}, {0, 2}};
	*w = (struct world){.now_ns = 1000 * MS};
	w->env = (struct env){.context = w, .send = on_send, .close = on_close, .dial = on_dial, .link_open = on_link_open,
			      .link_close = on_link_close, .link_name = on_link_name, .read = on_read, .read_cancel = on_cancel};
	return (struct node_options){
		.node = 5, .incarnation = 1, .role = WIRE__ROLE__ROLE_BOTH, .name = "node", .compat = compat, .layers = layers,
		.block_tokens = BLOCK_TOKENS, .group_count = 1, .groups = {{.layer_count = LAYERS, .layer_bytes = LAYER_BYTES,
		.block_count = BLOCKS, .offer_max = 4, .hold_max = 6, .generations = w->generations[0]}},
		.peer_max = 5, .job_max = 3, .seq_max = 6, .context_max = CONTEXT, .batch_tokens_max = 64, .chunk_tokens = 8,
		.read_max = 24, .eos_ids = eos_ids, .eos_count = 1, .vocab_size = VOCAB,
		.env = &w->env, .context = w, .submit = submit, .block_digest = block_digest, .copy_block = copy_block,
	};
}

void world_start(struct world *w, const struct node_options *options)
{
	w->memory = aligned_alloc(64, (node_bytes(options) + 63) / 64 * 64);
	w->node = node_init(w->memory, options);
	join(w, COORDINATOR, WIRE__ROLE__ROLE_COORDINATOR);
	join(w, PREFILL, WIRE__ROLE__ROLE_PREFILL);
	join(w, DECODE, WIRE__ROLE__ROLE_DECODE);
}

void world_stop(struct world *w)
{
	struct node_status status;
	for (uint32_t conn = COORDINATOR; conn <= STORE; conn++)
		node_closed(w->node, conn, w->now_ns);
	node_check(w->node);
	node_status(w->node, &status);
	assert_int_equal(status.prefill_jobs + status.decode_jobs + status.sequences, 0);
	assert_int_equal(status.blocks_reserved, 0);
	free(w->memory);
}

struct sent told(struct world *w, Wire__Envelope__BodyCase body)
{
	for (uint32_t i = w->sent_count; i-- > 0;) {
		if (w->sent[i].body != body)
			continue;
		w->sent_count = 0;
		return w->sent[i];
	}
	fail_msg("nothing of kind %d was said", (int)body);
	return (struct sent){0};
}

void say(struct world *w, uint32_t conn, Wire__Envelope *envelope)
{
	envelope->version = PROTO_VERSION;
	node_message(w->node, conn, envelope, w->now_ns);
	node_check(w->node);
}

void join(struct world *w, uint32_t conn, Wire__Role role)
{
	Wire__Hello hello = WIRE__HELLO__INIT;
	hello.node = 10 * conn;
	hello.incarnation = 1;
	hello.role = role;
	hello.name = (char *)"peer";
	if (role != WIRE__ROLE__ROLE_COORDINATOR)
		hello.compat = (ProtobufCBinaryData){16, compat_bytes};
	hello.weight = role == WIRE__ROLE__ROLE_KVSTORE;
	hello.replicas = 2 * hello.weight;
	node_opened(w->node, conn, 0, w->now_ns);
	SAY(conn, HELLO, hello, &hello);
}

struct wanted good(uint64_t number, Wire__Half half)
{
	return (struct wanted){.number = number, .half = half, .tokens = 8, .choices = 1, .max_tokens = 4, .compat = compat_bytes,
			       .partner = half == WIRE__HALF__HALF_DECODE ? 10 * PREFILL : 10 * DECODE, .top_p = 1};
}

Wire__JobId job_of(uint64_t number)
{
	Wire__JobId id = WIRE__JOB_ID__INIT;
	id.coordinator = 10 * COORDINATOR;
	id.number = number;
	id.attempt = 1;
	return id;
}

struct sent reserve(struct world *w, struct wanted wanted)
{
	static uint32_t tokens[CONTEXT * 2], choices[8] = {0, 1, 2, 3, 4, 5, 6, 7};
	Wire__JobId id = job_of(wanted.number);
	Wire__Sampling sampling = WIRE__SAMPLING__INIT;
	Wire__Reserve message = WIRE__RESERVE__INIT;
	sampling.top_p = wanted.top_p, sampling.repetition_penalty = 1, sampling.max_tokens = wanted.max_tokens, sampling.logprobs = -1;
	sampling.prompt_logprobs = wanted.scored;
	message.job = &id, message.half = wanted.half, message.sampling = &sampling, message.partner = wanted.partner;
	message.compat = (ProtobufCBinaryData){16, wanted.compat};
	tokens[wanted.tokens - 1] = wanted.last_token;
	message.n_tokens = wanted.tokens, message.tokens = tokens, message.prompt_count = wanted.tokens;
	message.n_choices = wanted.choices, message.choices = choices;
	message.model = message.tenant = message.request = (char *)"m";
	w->sent_count = 0;
	SAY(COORDINATOR, RESERVE, reserve, &message);
	tokens[wanted.tokens - 1] = 0;
	struct sent answer = told(w, WIRE__ENVELOPE__BODY_RESERVED);
	assert_int_equal(answer.half, wanted.half);
	return answer;
}

void begin(struct world *w, struct wanted wanted)
{
	assert_int_equal(reserve(w, wanted).error, ERR_OK);
	Wire__JobId id = job_of(wanted.number);
	Wire__Start start = WIRE__START__INIT;
	start.job = &id;
	SAY(COORDINATOR, START, start, &start);
}

void announce(struct world *w, uint32_t conn, uint64_t number, Wire__Announce announce)
{
	Wire__JobId id = job_of(number);
	Wire__Place place = WIRE__PLACE__INIT, *places[8];
	uint64_t digests[8] = {0};
	for (int i = 0; i < 8; i++)
		places[i] = &place;
	announce.job = &id;
	announce.n_digests = announce.n_places;
	announce.places = places;
	announce.digests = digests;
	SAY(conn, ANNOUNCE, announce, &announce);
}

void prefilled(struct world *w, uint32_t conn, uint64_t number, uint32_t blocks, uint32_t first)
{
	Wire__JobId id = job_of(number);
	Wire__Token token = WIRE__TOKEN__INIT, *tokens[2] = {&token, &token};
	Wire__Prefilled message = WIRE__PREFILLED__INIT;
	token.job = message.job = &id;
	message.block_count = blocks;
	message.n_first = first;
	message.first = tokens;
	SAY(conn, PREFILLED, prefilled, &message);
}

void world_end_step(struct world *w)
{
	static const struct sample samples[PLAN_SAMPLES_MAX] = {[0] = {.token = 5}, [1] = {.token = 5}};
	assert_non_null(w->plan);
	for (uint32_t layer = 0; layer < LAYERS; layer++)
		node_layer_done(w->node, layer, w->now_ns);
	w->plan = NULL;
	node_step_done(w->node, samples, ERR_OK, w->now_ns);
	node_check(w->node);
}

int world_teardown(void **state)
{
	struct world *w = *state;
	while (w->plan)
		world_end_step(w);
	world_stop(w);
	free(w);
	return 0;
}

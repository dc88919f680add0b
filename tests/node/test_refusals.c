/* An engine node among peers that say what cannot be: what it refuses, how a job ends by it, and that nothing stays held. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/core.h"
#include "proto/codec.h"

enum { BLOCKS = 24, BLOCK_TOKENS = 4, LAYERS = 3, LAYER_BYTES = 64, VOCAB = 300, CONTEXT = 80, SENT_MAX = 64 };
enum { COORDINATOR = 1, PREFILL, DECODE }; /* connections; node ids are ten times that */

#define MS 1000000ull

struct sent {
	uint32_t conn;
	Wire__Envelope__BodyCase body;
	enum err error;
	Wire__Half half;
	bool reset;
	uint32_t transports;
	char text[200];
};

struct world {
	struct env env;
	struct node *node;
	void *memory;
	uint64_t now_ns;
	uint64_t generations[BLOCKS];
	struct sent sent[SENT_MAX];
	uint32_t sent_count;
	uint32_t reads;
};

static const struct id128 compat = {{9}};
static uint8_t compat_bytes[16] = {9}, other_bytes[16] = {8};

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
	return node == 10 * PREFILL ? "mapped" : NULL;
}

static void on_read(void *context, const struct env_read *read)
{
	((struct world *)context)->reads++;
}

static void on_cancel(void *context, uint64_t op)
{
}

static void submit(void *context, const struct plan *plan)
{
	fail(); /* no prompt comes so far here */
}

static uint64_t block_digest(void *context, uint32_t block, uint32_t layer)
{
	return 0;
}

static void copy_block(void *context, uint32_t from, uint32_t to)
{
}

/* The last of its kind, which must be there; all that was sent is forgotten. */
static struct sent told(struct world *w, Wire__Envelope__BodyCase body)
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

static void say(struct world *w, uint32_t conn, Wire__Envelope *envelope)
{
	envelope->version = PROTO_VERSION;
	node_message(w->node, conn, envelope, w->now_ns);
	node_check(w->node);
}
#define SAY(conn, CASE, member, message)                          \
	do {                                                      \
		Wire__Envelope envelope_ = WIRE__ENVELOPE__INIT;  \
		envelope_.body_case = WIRE__ENVELOPE__BODY_##CASE; \
		envelope_.member = (message);                     \
		say(w, conn, &envelope_);                         \
	} while (0)

static void join(struct world *w, uint32_t conn, Wire__Role role)
{
	Wire__Hello hello = WIRE__HELLO__INIT;
	hello.node = 10 * conn;
	hello.incarnation = 1;
	hello.role = role;
	hello.name = (char *)"peer";
	if (role != WIRE__ROLE__ROLE_COORDINATOR)
		hello.compat = (ProtobufCBinaryData){16, compat_bytes};
	node_opened(w->node, conn, 0, w->now_ns);
	SAY(conn, HELLO, hello, &hello);
}

static int setup(void **state)
{
	static const uint32_t eos_ids[] = {7};
	static const struct kv_layer layers[LAYERS] = {{0, 0}, {0, 1}, {0, 2}};
	struct world *w = calloc(1, sizeof(*w));
	w->now_ns = 1000 * MS;
	w->env = (struct env){.context = w, .send = on_send, .close = on_close, .dial = on_dial, .link_open = on_link_open,
			      .link_close = on_link_close, .link_name = on_link_name, .read = on_read, .read_cancel = on_cancel};
	struct node_options options = {
		.node = 5, .incarnation = 1, .role = WIRE__ROLE__ROLE_BOTH, .name = "node", .compat = compat, .layers = layers,
		.block_tokens = BLOCK_TOKENS, .group_count = 1, .groups = {{.layer_count = LAYERS, .layer_bytes = LAYER_BYTES,
		.block_count = BLOCKS, .offer_max = 4, .hold_max = 6, .generations = w->generations}},
		.peer_max = 5, .job_max = 3, .seq_max = 6, .context_max = CONTEXT, .batch_tokens_max = 64, .chunk_tokens = 8,
		.read_max = 24, .eos_ids = eos_ids, .eos_count = 1, .vocab_size = VOCAB,
		.env = &w->env, .context = w, .submit = submit, .block_digest = block_digest, .copy_block = copy_block,
	};
	w->memory = aligned_alloc(64, (node_bytes(&options) + 63) / 64 * 64);
	w->node = node_init(w->memory, &options);
	join(w, COORDINATOR, WIRE__ROLE__ROLE_COORDINATOR);
	join(w, PREFILL, WIRE__ROLE__ROLE_PREFILL);
	join(w, DECODE, WIRE__ROLE__ROLE_DECODE);
	*state = w;
	return 0;
}

/* Everybody goes: then nothing is held. */
static int teardown(void **state)
{
	struct world *w = *state;
	struct node_status status;
	for (uint32_t conn = COORDINATOR; conn <= DECODE; conn++)
		node_closed(w->node, conn, w->now_ns);
	node_check(w->node);
	node_status(w->node, &status);
	assert_int_equal(status.prefill_jobs + status.decode_jobs + status.sequences, 0);
	assert_int_equal(status.blocks_reserved, 0);
	free(w->memory);
	free(w);
	return 0;
}

/* ---- reserving */

struct wanted {
	uint64_t number;
	Wire__Half half;
	uint32_t tokens, choices, max_tokens;
	uint32_t last_token;
	uint64_t partner;
	uint8_t *compat;
	float top_p;
};

static struct wanted good(uint64_t number, Wire__Half half)
{
	return (struct wanted){.number = number, .half = half, .tokens = 8, .choices = 1, .max_tokens = 4, .compat = compat_bytes,
			       .partner = half == WIRE__HALF__HALF_DECODE ? 10 * PREFILL : 10 * DECODE, .top_p = 1};
}

static Wire__JobId job_of(uint64_t number)
{
	Wire__JobId id = WIRE__JOB_ID__INIT;
	id.coordinator = 10 * COORDINATOR;
	id.number = number;
	id.attempt = 1;
	return id;
}

static struct sent reserve(struct world *w, struct wanted wanted)
{
	static uint32_t tokens[CONTEXT * 2], choices[8] = {0, 1, 2, 3, 4, 5, 6, 7};
	Wire__JobId id = job_of(wanted.number);
	Wire__Sampling sampling = WIRE__SAMPLING__INIT;
	Wire__Reserve message = WIRE__RESERVE__INIT;
	sampling.top_p = wanted.top_p, sampling.repetition_penalty = 1, sampling.max_tokens = wanted.max_tokens, sampling.logprobs = -1;
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

static void refused(struct world *w, struct wanted wanted, enum err expected, const char *words)
{
	struct node_status before, after;
	node_status(w->node, &before);
	struct sent answer = reserve(w, wanted);
	node_status(w->node, &after);
	assert_int_equal(answer.error, expected);
	if (!strstr(answer.text, words))
		fail_msg("\"%s\" lacks \"%s\"", answer.text, words);
	assert_int_equal(after.blocks_reserved, before.blocks_reserved);
	assert_int_equal(after.prefill_jobs + after.decode_jobs, before.prefill_jobs + before.decode_jobs);
}

#define REFUSED(half, change, expected, words)         \
	do {                                           \
		struct wanted r = good(1, half);       \
		change;                                \
		refused(w, r, expected, words);        \
	} while (0)

static void a_reserve_that_cannot_be_is_refused_and_holds_nothing(void **state)
{
	struct world *w = *state;
	for (Wire__Half half = WIRE__HALF__HALF_PREFILL; half <= WIRE__HALF__HALF_BOTH; half++) {
		REFUSED(half, r.compat = other_bytes, ERR_MISMATCH, "another model, class or layout");
		REFUSED(half, r.last_token = VOCAB, ERR_INVALID, "token 300 is beyond the vocabulary of 300");
		REFUSED(half, r.tokens = CONTEXT, ERR_TOO_LARGE, "context of 80 tokens, at most 79");
		REFUSED(half, r.top_p = 0, ERR_INVALID, "top_p 0");
	}
	REFUSED(WIRE__HALF__HALF_DECODE, r.choices = 7, ERR_AGAIN, "7 sequences wanted, 0 of 6 are reserved");
	REFUSED(WIRE__HALF__HALF_BOTH, r.choices = 7, ERR_AGAIN, "7 sequences wanted");
	REFUSED(WIRE__HALF__HALF_DECODE, (r.choices = 6, r.max_tokens = 60), ERR_TOO_LARGE, "blocks wanted, 0 of");
	REFUSED(WIRE__HALF__HALF_DECODE, (r.choices = 6, r.max_tokens = UINT32_MAX), ERR_TOO_LARGE, "blocks wanted, 0 of");
}

static void a_job_is_reserved_once(void **state)
{
	struct world *w = *state;
	for (Wire__Half half = WIRE__HALF__HALF_PREFILL; half <= WIRE__HALF__HALF_DECODE; half++) {
		assert_int_equal(reserve(w, good(1, half)).error, ERR_OK);
		refused(w, good(1, half), ERR_EXISTS, "reserved already");
	}
	assert_int_equal(reserve(w, good(2, WIRE__HALF__HALF_BOTH)).error, ERR_OK);
	refused(w, good(2, WIRE__HALF__HALF_BOTH), ERR_EXISTS, "reserved already"); /* and goes on */
}

static void places_and_blocks_are_bounded(void **state)
{
	struct world *w = *state;
	struct wanted small = good(0, WIRE__HALF__HALF_PREFILL);
	small.tokens = 4;
	for (uint32_t i = 0; i < 6; i++) {
		small.number = 1 + i / 2;
		small.half = i % 2 ? WIRE__HALF__HALF_DECODE : WIRE__HALF__HALF_PREFILL;
		assert_int_equal(reserve(w, small).error, ERR_OK);
	}
	refused(w, good(4, WIRE__HALF__HALF_PREFILL), ERR_AGAIN, "all 3 places of the queue are taken");
	refused(w, good(4, WIRE__HALF__HALF_DECODE), ERR_AGAIN, "all 3 places are taken");
	struct wanted large = good(5, WIRE__HALF__HALF_PREFILL);
	large.tokens = 52;
	refused(w, large, ERR_AGAIN, "13 blocks wanted");
	large.half = WIRE__HALF__HALF_DECODE;
	refused(w, large, ERR_AGAIN, "blocks wanted");
}

/* Decode has room, prefill has not. */
static void both_halves_or_neither(void **state)
{
	struct world *w = *state;
	struct node_status status;
	for (uint64_t number = 1; number <= 3; number++)
		assert_int_equal(reserve(w, good(number, WIRE__HALF__HALF_PREFILL)).error, ERR_OK);
	refused(w, good(4, WIRE__HALF__HALF_BOTH), ERR_AGAIN, "all 3 places of the queue are taken");
	node_status(w->node, &status);
	assert_int_equal(status.decode_jobs, 0);
}

static void direct(struct world *w, uint64_t epoch, Wire__DirectiveKind kind, enum err expected)
{
	Wire__Directive directive = WIRE__DIRECTIVE__INIT;
	directive.epoch = epoch;
	directive.kind = kind;
	w->sent_count = 0;
	SAY(COORDINATOR, DIRECTIVE, directive, &directive);
	assert_int_equal(told(w, WIRE__ENVELOPE__BODY_DIRECTIVE_DONE).error, expected);
}

static void a_node_that_drains_takes_nothing_until_the_leader_undrains_it(void **state)
{
	struct world *w = *state;
	direct(w, 5, WIRE__DIRECTIVE_KIND__DIRECTIVE_DRAIN, ERR_OK);
	refused(w, good(1, WIRE__HALF__HALF_BOTH), ERR_DRAINING, "draining");
	direct(w, 4, WIRE__DIRECTIVE_KIND__DIRECTIVE_UNDRAIN, ERR_STALE);
	direct(w, 6, WIRE__DIRECTIVE_KIND__DIRECTIVE_LEAD, ERR_OK);
	refused(w, good(1, WIRE__HALF__HALF_BOTH), ERR_DRAINING, "draining");
	direct(w, 6, WIRE__DIRECTIVE_KIND__DIRECTIVE_UNDRAIN, ERR_OK);
	assert_int_equal(reserve(w, good(1, WIRE__HALF__HALF_PREFILL)).error, ERR_OK);
	node_drain(w->node);
	direct(w, 7, WIRE__DIRECTIVE_KIND__DIRECTIVE_UNDRAIN, ERR_OK); /* it leaves all the same */
	refused(w, good(2, WIRE__HALF__HALF_PREFILL), ERR_DRAINING, "draining");
}

/* ---- the hand-over */

/* Job 1 of decode, which has attached to prefill. */
static void receiving(struct world *w, uint32_t tokens)
{
	struct wanted wanted = good(1, WIRE__HALF__HALF_DECODE);
	wanted.tokens = tokens;
	assert_int_equal(reserve(w, wanted).error, ERR_OK);
	Wire__JobId id = job_of(1);
	Wire__Start start = WIRE__START__INIT;
	start.job = &id;
	SAY(COORDINATOR, START, start, &start);
	assert_int_equal(told(w, WIRE__ENVELOPE__BODY_ATTACH).conn, PREFILL);
}

static void announce(struct world *w, uint32_t conn, Wire__Announce announce)
{
	Wire__JobId id = job_of(1);
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

static void an_announcement_that_does_not_fit_ends_the_job(void **state)
{
	struct world *w = *state;
	Wire__Announce wrong[5] = {WIRE__ANNOUNCE__INIT, WIRE__ANNOUNCE__INIT, WIRE__ANNOUNCE__INIT, WIRE__ANNOUNCE__INIT,
				   WIRE__ANNOUNCE__INIT};
	wrong[0].section = WIRE__SECTION__SECTION_DRAFT_KV;
	wrong[1].layer_group = 1;
	wrong[2].layer = LAYERS;
	wrong[3].n_places = 3; /* of two */
	wrong[4].block_first = UINT32_MAX, wrong[4].n_places = 1;
	for (int i = 0; i < 5; i++) {
		receiving(w, 8);
		announce(w, PREFILL, wrong[i]);
		struct sent end = told(w, WIRE__ENVELOPE__BODY_JOB_END);
		assert_int_equal(end.error, ERR_PROTOCOL);
		assert_int_equal(end.half, WIRE__HALF__HALF_DECODE);
		assert_int_equal(w->reads, 0);
	}
}

static void an_announcement_of_another_changes_nothing(void **state)
{
	struct world *w = *state;
	Wire__Announce fits = WIRE__ANNOUNCE__INIT;
	fits.n_places = 2;
	announce(w, PREFILL, fits); /* before there is a job */
	receiving(w, 8);
	announce(w, DECODE, fits); /* not its prefill node */
	assert_int_equal(w->reads, 0);
	announce(w, PREFILL, fits);
	assert_int_equal(w->reads, 2);
	announce(w, PREFILL, fits); /* again */
	assert_int_equal(w->reads, 2);
	assert_int_equal(w->sent_count, 0);
}

static void prefilled(struct world *w, uint32_t conn, uint32_t blocks, uint32_t first)
{
	Wire__JobId id = job_of(1);
	Wire__Token token = WIRE__TOKEN__INIT, *tokens[2] = {&token, &token};
	Wire__Prefilled message = WIRE__PREFILLED__INIT;
	token.job = message.job = &id;
	message.block_count = blocks;
	message.n_first = first;
	message.first = tokens;
	SAY(conn, PREFILLED, prefilled, &message);
}

static void the_end_of_a_prefill_says_all_blocks_and_choices(void **state)
{
	static const uint32_t wrong[][2] = {{1, 1}, {3, 1}, {2, 0}, {2, 2}};
	struct world *w = *state;
	prefilled(w, PREFILL, 2, 1); /* before there is a job */
	for (size_t i = 0; i < 4; i++) {
		receiving(w, 8);
		prefilled(w, DECODE, wrong[i][0], wrong[i][1]); /* not its prefill node: not heard */
		assert_int_equal(w->sent_count, 0);
		prefilled(w, PREFILL, wrong[i][0], wrong[i][1]);
		assert_int_equal(told(w, WIRE__ENVELOPE__BODY_JOB_END).error, ERR_PROTOCOL);
	}
	receiving(w, 8);
	prefilled(w, PREFILL, 2, 1);
	prefilled(w, PREFILL, 7, 2); /* said already */
	assert_int_equal(w->sent_count, 0);
}

static enum err attach(struct world *w, uint32_t conn, uint64_t number, uint8_t *bytes)
{
	Wire__JobId id = job_of(number);
	Wire__Attach message = WIRE__ATTACH__INIT;
	message.job = &id;
	message.compat = (ProtobufCBinaryData){16, bytes};
	w->sent_count = 0;
	SAY(conn, ATTACH, attach, &message);
	return w->sent_count ? told(w, WIRE__ENVELOPE__BODY_TRANSFER_END).error : ERR_OK;
}

static void who_attaches_is_the_partner_of_a_job_of_its_kind(void **state)
{
	struct world *w = *state;
	assert_int_equal(attach(w, DECODE, 1, compat_bytes), ERR_NOT_FOUND);
	assert_int_equal(reserve(w, good(1, WIRE__HALF__HALF_PREFILL)).error, ERR_OK);
	assert_int_equal(attach(w, PREFILL, 1, compat_bytes), ERR_NOT_FOUND);
	assert_int_equal(attach(w, DECODE, 1, other_bytes), ERR_MISMATCH);
	assert_int_equal(attach(w, DECODE, 1, compat_bytes), ERR_OK);
}

static void an_end_of_the_transfer_before_its_time_is_the_end_of_the_job(void **state)
{
	struct world *w = *state;
	Wire__JobId id = job_of(1);
	Wire__TransferEnd end = WIRE__TRANSFER_END__INIT;
	end.job = &id;
	assert_int_equal(reserve(w, good(1, WIRE__HALF__HALF_PREFILL)).error, ERR_OK);
	SAY(DECODE, TRANSFER_END, transfer_end, &end); /* has not attached: not heard */
	assert_int_equal(w->sent_count, 0);
	assert_int_equal(attach(w, DECODE, 1, compat_bytes), ERR_OK);
	SAY(DECODE, TRANSFER_END, transfer_end, &end);
	assert_int_equal(told(w, WIRE__ENVELOPE__BODY_JOB_END).error, ERR_PROTOCOL);
	receiving(w, 8);
	SAY(PREFILL, TRANSFER_END, transfer_end, &end);
	assert_int_equal(told(w, WIRE__ENVELOPE__BODY_JOB_END).error, ERR_PROTOCOL);
	receiving(w, 8);
	end.error = ERR_DEVICE;
	SAY(PREFILL, TRANSFER_END, transfer_end, &end);
	assert_int_equal(told(w, WIRE__ENVELOPE__BODY_JOB_END).error, ERR_DEVICE);
}

/* ---- what it reports */

static void a_coordinator_hears_a_snapshot_first_and_of_the_links(void **state)
{
	struct world *w = *state;
	w->sent_count = 0;
	node_tick(w->node, w->now_ns);
	bool snapshot = false;
	for (uint32_t i = 0; i < w->sent_count; i++)
		snapshot |= w->sent[i].body == WIRE__ENVELOPE__BODY_KV_EVENTS && w->sent[i].reset && w->sent[i].conn == COORDINATOR;
	assert_true(snapshot);
	struct sent load = told(w, WIRE__ENVELOPE__BODY_LOAD);
	assert_int_equal(load.conn, COORDINATOR);
	assert_int_equal(load.transports, 1); /* the other has no name */
	assert_string_equal(load.text, "mapped");
	Wire__KvResync resync = WIRE__KV_RESYNC__INIT;
	SAY(COORDINATOR, KV_RESYNC, kv_resync, &resync);
	w->now_ns += 20 * MS;
	node_tick(w->node, w->now_ns);
	assert_true(told(w, WIRE__ENVELOPE__BODY_KV_EVENTS).reset); /* and again when it is asked for */
}

/* Of one that is no coordinator, and of none at all. */
static void messages_of_the_wrong_sender_change_nothing(void **state)
{
	struct world *w = *state;
	Wire__JobId id = job_of(1);
	Wire__Start start = WIRE__START__INIT;
	Wire__Cancel cancel = WIRE__CANCEL__INIT;
	struct node_status status;
	start.job = cancel.job = &id;
	assert_int_equal(reserve(w, good(1, WIRE__HALF__HALF_DECODE)).error, ERR_OK);
	SAY(PREFILL, START, start, &start);
	SAY(PREFILL, CANCEL, cancel, &cancel);
	SAY(7, CANCEL, cancel, &cancel);
	node_status(w->node, &status);
	assert_int_equal(status.decode_jobs, 1);
	id.number = 2;
	SAY(COORDINATOR, START, start, &start); /* no such job */
	SAY(COORDINATOR, CANCEL, cancel, &cancel);
	node_status(w->node, &status);
	assert_int_equal(status.decode_jobs, 1);
	id.number = 1;
	SAY(COORDINATOR, CANCEL, cancel, &cancel);
	node_status(w->node, &status);
	assert_int_equal(status.decode_jobs, 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_reserve_that_cannot_be_is_refused_and_holds_nothing),
		T(a_job_is_reserved_once),
		T(places_and_blocks_are_bounded),
		T(both_halves_or_neither),
		T(a_node_that_drains_takes_nothing_until_the_leader_undrains_it),
		T(an_announcement_that_does_not_fit_ends_the_job),
		T(an_announcement_of_another_changes_nothing),
		T(the_end_of_a_prefill_says_all_blocks_and_choices),
		T(who_attaches_is_the_partner_of_a_job_of_its_kind),
		T(an_end_of_the_transfer_before_its_time_is_the_end_of_the_job),
		T(a_coordinator_hears_a_snapshot_first_and_of_the_links),
		T(messages_of_the_wrong_sender_change_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

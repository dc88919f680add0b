/* A node whose blocks of the windowed layer group run out while it works.  What jobs may hold is promised before they start,
 * so they find room, but for one thing: a landing whose read was abandoned belongs to nobody until the transport says so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "tests/node/world.h"

enum { WINDOWED, GLOBAL }; /* groups */
enum { WINDOW = 6, KEEP = 2, ROOM = 6 }; /* blocks of the windowed group: one job's, and what offers and look-ups may pin */
enum { PROMPT = 40, REUSABLE = (PROMPT - 1) / BLOCK_TOKENS, CHUNKS = PROMPT / 8 };
enum { WINDOWED_LAYERS = 2 };

static int setup(void **state)
{
	static const struct kv_layer layers[LAYERS] = {{WINDOWED, 0}, {GLOBAL, 0}, {WINDOWED, 1}};
	struct world *w = malloc(sizeof(*w));
	struct node_options options = world_options(w);
	options.layers = layers;
	options.group_count = 2;
	options.groups[WINDOWED] = (struct node_group){.layer_count = WINDOWED_LAYERS, .layer_bytes = LAYER_BYTES, .window = WINDOW,
		.block_count = ROOM, .offer_max = 1, .hold_max = 1, .generations = w->generations[WINDOWED]};
	options.groups[GLOBAL] = (struct node_group){.layer_count = 1, .layer_bytes = LAYER_BYTES, .block_count = 3 * PROMPT / BLOCK_TOKENS,
		.offer_max = 1, .hold_max = 1, .generations = w->generations[GLOBAL]};
	options.read_max = READS_MAX;
	world_start(w, &options);
	join(w, STORE, WIRE__ROLE__ROLE_KVSTORE);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	struct node_status status;
	assert_null(w->plan);
	node_status(w->node, &status);
	assert_int_equal(status.reads, 0);
	world_stop(w);
	free(w);
	return 0;
}

static void tick(struct world *w)
{
	w->sent_count = 0;
	w->now_ns += 20 * MS;
	node_tick(w->node, w->now_ns);
	node_check(w->node);
}

static uint32_t used(const struct world *w, uint32_t group)
{
	struct node_status status;
	node_status(w->node, &status);
	assert_int_equal(status.groups[group].used + status.groups[group].free + status.groups[group].cached,
			 status.groups[group].total);
	return status.groups[group].used;
}

/* Reads [first, first + count) end so, and their landings are free. */
static void end_reads(struct world *w, uint32_t first, uint32_t count, enum err e)
{
	for (uint32_t i = first; i < first + count; i++) {
		node_read_outcome(w->node, w->read[i].op, e, 0, w->now_ns);
		node_landing_free(w->node, w->read[i].op, w->now_ns);
		node_check(w->node);
	}
}

static void cancel(struct world *w, uint64_t number)
{
	Wire__JobId id = job_of(number);
	Wire__Cancel message = WIRE__CANCEL__INIT;
	message.job = &id;
	SAY(COORDINATOR, CANCEL, cancel, &message);
	assert_int_equal(told(w, WIRE__ENVELOPE__BODY_JOB_END).error, ERR_CANCELED);
}

static const char *state_of(const struct world *w, uint64_t number, Wire__Half half)
{
	const char *state = node_job_state(w->node, 10 * COORDINATOR, number, 1, half);
	return state ? state : "";
}

/* ---- a prompt */

static struct wanted prompt(uint64_t number)
{
	struct wanted wanted = good(number, WIRE__HALF__HALF_PREFILL);
	wanted.tokens = PROMPT;
	return wanted;
}

/* The store has the first `count` keys that it is asked for: those of the windowed group come first. */
static void found(struct world *w, uint32_t count)
{
	struct sent lookup = told(w, WIRE__ENVELOPE__BODY_LOOKUP);
	assert_int_equal(lookup.conn, STORE);
	assert_int_equal(lookup.keys, 2 * REUSABLE);
	uint64_t digests[WINDOWED_LAYERS] = {0};
	Wire__Place place = WIRE__PLACE__INIT;
	Wire__FoundBlock blocks[2 * REUSABLE], *pointers[2 * REUSABLE];
	for (uint32_t i = 0; i < count; i++) {
		wire__found_block__init(&blocks[i]);
		blocks[i].index = i;
		blocks[i].place = &place;
		blocks[i].n_digests = i < REUSABLE ? WINDOWED_LAYERS : 1;
		blocks[i].digests = digests;
		pointers[i] = &blocks[i];
	}
	Wire__Found message = WIRE__FOUND__INIT;
	message.op = lookup.op;
	message.n_blocks = count;
	message.blocks = pointers;
	SAY(STORE, FOUND, found, &message);
}

/* A prompt that the store has, given up while it is read from there.  Its reads begin with those of the windowed group. */
static uint32_t abandoned_prompt(struct world *w, uint64_t number)
{
	uint32_t first = w->reads;
	begin(w, prompt(number));
	found(w, 2 * REUSABLE);
	assert_int_equal(w->reads - first, KEEP * WINDOWED_LAYERS + REUSABLE);
	cancel(w, number);
	return first;
}

static void attach(struct world *w, uint64_t number)
{
	Wire__JobId id = job_of(number);
	Wire__Attach message = WIRE__ATTACH__INIT;
	uint32_t have[2] = {0};
	message.job = &id;
	message.compat = (ProtobufCBinaryData){16, compat_bytes};
	message.have = have;
	message.n_have = 2;
	SAY(DECODE, ATTACH, attach, &message);
}

static void a_prompt_waits_in_its_middle_until_late_reads_have_ended(void **state)
{
	struct world *w = *state;
	uint32_t first = abandoned_prompt(w, 1), second = abandoned_prompt(w, 2);
	assert_int_equal(used(w, WINDOWED), 2 * KEEP);
	begin(w, prompt(3));
	found(w, 0);
	attach(w, 3);
	assert_string_equal(state_of(w, 3, WIRE__HALF__HALF_PREFILL), "COMPUTING");
	world_end_step(w); /* its first chunk took what was left */
	assert_int_equal(used(w, WINDOWED), ROOM);
	assert_string_equal(state_of(w, 3, WIRE__HALF__HALF_PREFILL), "BLOCKED");
	tick(w);
	end_reads(w, first, WINDOWED_LAYERS, ERR_CANCELED); /* room for one block, and two are wanted */
	tick(w);
	assert_string_equal(state_of(w, 3, WIRE__HALF__HALF_PREFILL), "BLOCKED");
	assert_null(w->plan);
	end_reads(w, first + WINDOWED_LAYERS, WINDOWED_LAYERS, ERR_CANCELED);
	tick(w);
	for (uint32_t chunk = 1; chunk < CHUNKS; chunk++) {
		assert_string_equal(state_of(w, 3, WIRE__HALF__HALF_PREFILL), "COMPUTING");
		world_end_step(w);
	}
	assert_int_equal(told(w, WIRE__ENVELOPE__BODY_PREFILLED).conn, DECODE);
	Wire__JobId id = job_of(3);
	Wire__TransferEnd end = WIRE__TRANSFER_END__INIT;
	end.job = &id;
	SAY(DECODE, TRANSFER_END, transfer_end, &end);
	assert_int_equal(told(w, WIRE__ENVELOPE__BODY_JOB_END).error, ERR_OK);
	end_reads(w, first + KEEP * WINDOWED_LAYERS, REUSABLE, ERR_CANCELED);
	end_reads(w, second, KEEP * WINDOWED_LAYERS + REUSABLE, ERR_CANCELED);
	assert_int_equal(used(w, WINDOWED), 1); /* offered to the store, which has not answered */
}

static void a_prompt_that_waits_in_its_middle_can_be_given_up(void **state)
{
	struct world *w = *state;
	uint32_t first = abandoned_prompt(w, 1);
	abandoned_prompt(w, 2);
	begin(w, prompt(3));
	found(w, 0);
	world_end_step(w);
	assert_string_equal(state_of(w, 3, WIRE__HALF__HALF_PREFILL), "BLOCKED");
	cancel(w, 3);
	tick(w);
	assert_null(w->plan);
	assert_int_equal(used(w, WINDOWED), 2 * KEEP);
	end_reads(w, first, w->reads - first, ERR_CANCELED);
	assert_int_equal(used(w, WINDOWED), 0);
}

/* ---- an answer */

enum { CONTEXT_TOKENS = 12, CONTEXT_BLOCKS = CONTEXT_TOKENS / BLOCK_TOKENS };

static struct wanted answer(uint64_t number)
{
	struct wanted wanted = good(number, WIRE__HALF__HALF_DECODE);
	wanted.tokens = CONTEXT_TOKENS;
	return wanted;
}

/* A layer of the blocks that are handed over: of the windowed group those that the window touches. */
static void announce_layer(struct world *w, uint64_t number, uint32_t group, uint32_t layer)
{
	Wire__Announce message = WIRE__ANNOUNCE__INIT;
	message.layer_group = group;
	message.layer = layer;
	message.block_first = group == WINDOWED ? CONTEXT_BLOCKS - KEEP : 0;
	message.n_places = CONTEXT_BLOCKS - message.block_first;
	announce(w, PREFILL, number, message);
}

static void receiving(struct world *w, uint64_t number)
{
	begin(w, answer(number));
	assert_int_equal(told(w, WIRE__ENVELOPE__BODY_ATTACH).conn, PREFILL);
}

static void an_answer_waits_for_a_block_until_late_reads_have_ended(void **state)
{
	struct world *w = *state;
	for (uint64_t number = 1; number <= 2; number++) {
		receiving(w, number);
		announce_layer(w, number, WINDOWED, 0);
		assert_int_equal(w->reads, number * KEEP);
		cancel(w, number);
	}
	assert_int_equal(used(w, WINDOWED), 2 * KEEP);
	receiving(w, 3);
	for (uint32_t layer = 0; layer < WINDOWED_LAYERS; layer++)
		announce_layer(w, 3, WINDOWED, layer);
	announce_layer(w, 3, GLOBAL, 0);
	prefilled(w, PREFILL, 3, CONTEXT_BLOCKS, 1);
	end_reads(w, 2 * KEEP, w->reads - 2 * KEEP, ERR_OK);
	assert_string_equal(state_of(w, 3, WIRE__HALF__HALF_DECODE), "RUNNING");
	assert_int_equal(used(w, WINDOWED), ROOM); /* its next token begins a block */
	tick(w);
	assert_null(w->plan);
	end_reads(w, 0, 1, ERR_CANCELED);
	tick(w);
	for (uint32_t token = 1; token < answer(3).max_tokens; token++)
		world_end_step(w);
	assert_int_equal(told(w, WIRE__ENVELOPE__BODY_JOB_END).error, ERR_OK);
	end_reads(w, 1, 2 * KEEP - 1, ERR_CANCELED);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_prompt_waits_in_its_middle_until_late_reads_have_ended),
		T(a_prompt_that_waits_in_its_middle_can_be_given_up),
		T(an_answer_waits_for_a_block_until_late_reads_have_ended),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* An engine node among peers that say what cannot be: what it refuses, how a job ends by it, and that nothing stays held. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/node/world.h"

static int setup(void **state)
{
	struct world *w = malloc(sizeof(*w));
	struct node_options options = world_options(w);
	world_start(w, &options);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	assert_null(w->plan); /* no prompt comes so far here */
	world_stop(w);
	free(w);
	return 0;
}

/* ---- reserving */

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
	begin(w, wanted);
	assert_int_equal(told(w, WIRE__ENVELOPE__BODY_ATTACH).conn, PREFILL);
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
		announce(w, PREFILL, 1, wrong[i]);
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
	announce(w, PREFILL, 1, fits); /* before there is a job */
	receiving(w, 8);
	announce(w, DECODE, 1, fits); /* not its prefill node */
	assert_int_equal(w->reads, 0);
	announce(w, PREFILL, 1, fits);
	assert_int_equal(w->reads, 2);
	announce(w, PREFILL, 1, fits); /* again */
	assert_int_equal(w->reads, 2);
	assert_int_equal(w->sent_count, 0);
}

static void the_end_of_a_prefill_says_all_blocks_and_choices(void **state)
{
	static const uint32_t wrong[][2] = {{1, 1}, {3, 1}, {2, 0}, {2, 2}};
	struct world *w = *state;
	prefilled(w, PREFILL, 1, 2, 1); /* before there is a job */
	for (size_t i = 0; i < 4; i++) {
		receiving(w, 8);
		prefilled(w, DECODE, 1, wrong[i][0], wrong[i][1]); /* not its prefill node: not heard */
		assert_int_equal(w->sent_count, 0);
		prefilled(w, PREFILL, 1, wrong[i][0], wrong[i][1]);
		assert_int_equal(told(w, WIRE__ENVELOPE__BODY_JOB_END).error, ERR_PROTOCOL);
	}
	receiving(w, 8);
	prefilled(w, PREFILL, 1, 2, 1);
	prefilled(w, PREFILL, 1, 7, 2); /* said already */
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
	w->decode_link = "refused";
	w->now_ns += 300 * MS;
	node_tick(w->node, w->now_ns);
	load = told(w, WIRE__ENVELOPE__BODY_LOAD);
	assert_int_equal(load.transports, 2);
	assert_string_equal(load.text, "refused"); /* what is wrong comes first */
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

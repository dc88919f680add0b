/* What the coordinator does not take: requests, members and messages that cannot be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

#include "tests/coordinator/story.h"

static uint32_t prompt[512];
static char text_max[COORD_TEXT_MAX + 1], text_over[COORD_TEXT_MAX + 2];
static uint8_t salt[COORD_SALT_MAX];

static struct coord_request good(void)
{
	memset(text_max, 'm', COORD_TEXT_MAX);
	memset(text_over, 'm', COORD_TEXT_MAX + 1);
	return (struct coord_request){.id = "r", .model = "m", .tenant = "t", .tokens = prompt, .prompt_count = 10,
				      .choice_count = 1, .class = COORD_DEFAULT,
				      .sampling = {.top_p = 1, .repetition_penalty = 1, .max_tokens = 5, .logprobs = -1}};
}

static void refused(struct world *w, const struct coord_request *request, enum err expected, const char *words)
{
	struct why why = {0};
	uint64_t number, retry_after_ns;
	assert_int_equal(coord_submit(w->coord, request, w->now_ns, &why, &number, &retry_after_ns), expected);
	if (!strstr(why.text, words))
		fail_msg("\"%s\" lacks \"%s\"", why.text, words);
	assert_int_equal(coord_requests(w->coord), 0);
}

#define REFUSED(change, expected, words)             \
	do {                                         \
		struct coord_request r = good();     \
		change;                              \
		refused(&w, &r, expected, words);    \
	} while (0)

static void a_request_that_cannot_be_is_refused_with_its_reason(void **state)
{
	struct world w;
	cluster(&w, false);
	REFUSED(r.prompt_count = 0, ERR_INVALID, "the prompt has no token");
	REFUSED(r.choice_count = 0, ERR_INVALID, "n is 0, expected 1 to 16");
	REFUSED(r.choice_count = 17, ERR_INVALID, "n is 17, expected 1 to 16");
	REFUSED(r.sampling.max_tokens = 0, ERR_INVALID, "max_tokens is 0");
	REFUSED(r.sampling.prompt_logprobs = 22, ERR_INVALID, "prompt_logprobs 22");
	REFUSED(r.class = COORD_CLASSES, ERR_INVALID, "class 3");
	REFUSED(r.prompt_count = 508, ERR_TOO_LARGE, "508 prompt tokens and max_tokens 5 are over the context of 512");
	REFUSED(r.sampling.max_tokens = UINT32_MAX, ERR_TOO_LARGE, "max_tokens 4294967295 are over the context of 512");
	REFUSED(r.prompt_count = 252, ERR_TOO_LARGE, "252 prompt tokens and max_tokens 5 are over the model's context");
	REFUSED(r.id = text_over, ERR_INVALID, "request id: over 127 bytes");
	REFUSED(r.id = NULL, ERR_INVALID, "request id");
	REFUSED(r.model = text_over, ERR_INVALID, "model: over 127 bytes");
	REFUSED(r.tenant = text_over, ERR_INVALID, "tenant: over 127 bytes");
	REFUSED((r.salt = salt, r.salt_length = COORD_SALT_MAX + 1), ERR_INVALID, "tenant salt: 65 bytes, at most 64");
	REFUSED(r.model = text_max, ERR_NOT_FOUND, "no node serves model");
	world_expect_silence(&w, P1);
	world_expect_silence(&w, D1);
	world_fini(&w);
}

/* The store serves no model; the context is the largest of those that do. */
static void a_context_must_fit_some_node_of_the_model(void **state)
{
	struct world w;
	cluster(&w, false);
	struct coord_member wide = {.node = 7, .incarnation = 1, .role = WIRE__ROLE__ROLE_BOTH, .model_count = 1,
				    .block_tokens = BLOCK_TOKENS};
	strcpy(wide.models[0], "m");
	assert_int_equal(coord_member_set(w.coord, &wide, w.now_ns), ERR_OK);
	struct coord_request r = good();
	r.prompt_count = 400;
	refused(&w, &r, ERR_UNAVAILABLE, "no prefill node of model m is available"); /* it fits, and is not up */
	world_fini(&w);
}

static enum err member(struct world *w, uint64_t node, Wire__Role role, uint32_t models, uint32_t block_tokens)
{
	struct coord_member m = {.node = node, .incarnation = 1, .role = role, .model_count = models,
				 .block_tokens = block_tokens};
	for (uint32_t i = 0; i < COORD_MODELS_MAX; i++)
		strcpy(m.models[i], "m");
	enum err e = coord_member_set(w->coord, &m, w->now_ns);
	coord_check(w->coord);
	return e;
}

static uint32_t members(const struct world *w)
{
	struct coord_counters counters;
	coord_counters(w->coord, &counters);
	return counters.members;
}

static void a_member_that_cannot_be_is_refused(void **state)
{
	struct world w;
	world_init(&w, NULL);
	assert_int_equal(member(&w, 0, WIRE__ROLE__ROLE_PREFILL, 1, 8), ERR_INVALID);
	assert_int_equal(member(&w, 1, WIRE__ROLE__ROLE_NONE, 1, 8), ERR_INVALID);
	assert_int_equal(member(&w, 1, WIRE__ROLE__ROLE_PREFILL, COORD_MODELS_MAX + 1, 8), ERR_INVALID);
	assert_int_equal(member(&w, 1, WIRE__ROLE__ROLE_PREFILL, 1, 0), ERR_INVALID);
	assert_int_equal(member(&w, 1, WIRE__ROLE__ROLE_COORDINATOR, 0, 0), ERR_OK); /* none of its business */
	assert_int_equal(members(&w), 0);
	assert_int_equal(member(&w, 1, WIRE__ROLE__ROLE_KVSTORE, 0, 0), ERR_OK);
	for (uint64_t node = 2; node <= NODES_MAX; node++)
		assert_int_equal(member(&w, node, WIRE__ROLE__ROLE_BOTH, COORD_MODELS_MAX, 8), ERR_OK);
	assert_int_equal(member(&w, NODES_MAX + 1, WIRE__ROLE__ROLE_BOTH, 1, 8), ERR_AGAIN);
	assert_int_equal(member(&w, 3, WIRE__ROLE__ROLE_BOTH, 1, 8), ERR_OK); /* known: again */
	assert_int_equal(members(&w), NODES_MAX);
	world_fini(&w);
}

static void members_go_one_by_one_or_all_but_some(void **state)
{
	struct world w;
	world_init(&w, NULL);
	for (uint64_t node = 1; node <= 5; node++)
		assert_int_equal(member(&w, node, WIRE__ROLE__ROLE_BOTH, 1, 8), ERR_OK);
	coord_member_remove(w.coord, 0, w.now_ns);
	coord_member_remove(w.coord, 77, w.now_ns);
	assert_int_equal(members(&w), 5);
	coord_member_remove(w.coord, 2, w.now_ns);
	assert_int_equal(members(&w), 4);
	coord_members_only(w.coord, (uint64_t[]){4, 1, 88}, 3, w.now_ns);
	assert_int_equal(members(&w), 2);
	assert_int_equal(member(&w, 9, WIRE__ROLE__ROLE_BOTH, 1, 8), ERR_OK); /* in a place that is free again */
	coord_members_only(w.coord, NULL, 0, w.now_ns);
	assert_int_equal(members(&w), 0);
	coord_check(w.coord);
	world_fini(&w);
}

/* Another node would say the same: the request ends with what this one said.  (A node that is too small is not another.) */
static void a_refusal_that_is_final_ends_the_request(void **state)
{
	static const enum err final[] = {ERR_INVALID, ERR_TOO_LARGE, ERR_UNSUPPORTED, ERR_DENIED};
	for (size_t i = 0; i < 2 * sizeof(final) / sizeof(final[0]); i++) {
		struct world w;
		struct seen *seen;
		bool spares = i % 2 || final[i / 2] != ERR_TOO_LARGE;
		cluster(&w, spares);
		if (spares)
			spares_up(&w);
		assert_int_equal(world_submit(&w, 100, 20, 1, 9, &seen), ERR_OK);
		if (i % 2) {
			struct reserve r = started(&w, P1, D1);
			say_end(&w, P1, &r.job, P, final[i / 2], NULL);
			expect_cancel(&w, D1, &r.job);
			say_end(&w, D1, &r.job, D, ERR_CANCELED, NULL);
		} else {
			struct reserve r = expect_reserve(&w, P1, P);
			expect_reserve(&w, D1, D);
			say_reserved(&w, P1, &r.job, P, final[i / 2]);
			expect_cancel(&w, D1, &r.job);
		}
		expect_end(seen, final[i / 2]);
		assert_int_equal(seen->outcome.recoveries, 0);
		if (spares)
			world_expect_silence(&w, P2);
		expect_empty(&w);
		world_fini(&w);
	}
}

static void an_end_instead_of_an_answer_is_a_refusal(void **state)
{
	static const enum err said[] = {ERR_AGAIN, ERR_OK};
	for (size_t i = 0; i < 2; i++) {
		struct world w;
		struct seen *seen;
		cluster(&w, true);
		spares_up(&w);
		assert_int_equal(world_submit(&w, 100, 20, 1, 9, &seen), ERR_OK);
		struct reserve r = expect_reserve(&w, P1, P);
		expect_reserve(&w, D1, D);
		say_end(&w, P1, &r.job, P, said[i], NULL);
		expect_cancel(&w, D1, &r.job);
		world_expect_silence(&w, P1);
		struct reserve again = expect_reserve(&w, P2, P); /* another one is asked */
		assert_true(again.job.attempt > r.job.attempt);
		coord_cancel(w.coord, seen->request, w.now_ns);
		world_fini(&w);
	}
}

static void ends_of_what_is_not_known_are_counted_and_nothing_more(void **state)
{
	struct world w;
	struct seen *seen;
	struct coord_counters before, after;
	cluster(&w, false);
	assert_int_equal(world_submit(&w, 100, 20, 1, 9, &seen), ERR_OK);
	struct reserve r = started(&w, P1, D1);
	coord_counters(w.coord, &before);
	Wire__JobId job = r.job;
	job.coordinator++;
	say_end(&w, P1, &job, P, ERR_AGAIN, NULL); /* another coordinator's */
	job = r.job, job.number += 100;
	say_end(&w, P1, &job, P, ERR_AGAIN, NULL); /* of no request */
	job = r.job, job.attempt += 7;
	say_end(&w, P1, &job, P, ERR_AGAIN, NULL); /* of an attempt that was never made */
	say_end(&w, P1, &r.job, D, ERR_AGAIN, NULL); /* the half of the other node: its own is meant */
	coord_counters(w.coord, &after);
	assert_true(after.messages_stray - before.messages_stray >= 3);
	coord_cancel(w.coord, seen->request, w.now_ns);
	world_fini(&w);
}

static void a_choice_that_is_not_there_cannot_be_done(void **state)
{
	struct world w;
	struct seen *seen;
	cluster(&w, false);
	assert_int_equal(world_submit(&w, 100, 20, 2, 9, &seen), ERR_OK);
	struct reserve r = started(&w, P1, D1);
	coord_choice_done(w.coord, seen->request + 1, 0, w.now_ns);
	coord_choice_done(w.coord, seen->request, 2, w.now_ns);
	world_expect_silence(&w, D1);
	coord_choice_done(w.coord, seen->request, 1, w.now_ns);
	coord_choice_done(w.coord, seen->request, 1, w.now_ns); /* again */
	Wire__Cancel cancel = expect_cancel(&w, D1, &r.job);
	assert_true(cancel.one_choice);
	assert_int_equal(cancel.choice, 1);
	world_expect_silence(&w, D1);
	assert_int_equal(seen->ends, 0);
	coord_cancel(w.coord, seen->request, w.now_ns);
	expect_end(seen, ERR_CANCELED);
	world_fini(&w);
}

/* More than are remembered, a name longer than its place, and reasons that this version does not know. */
static void a_load_is_believed_within_bounds(void **state)
{
	struct world w;
	char name[64];
	Wire__Transport transports[COORD_TRANSPORTS_MAX + 1], *pointers[COORD_TRANSPORTS_MAX + 1];
	uint64_t refusals[REFUSAL_COUNT + 1];
	cluster(&w, false);
	memset(name, 'x', 63), name[63] = 0;
	for (uint32_t i = 0; i <= COORD_TRANSPORTS_MAX; i++) {
		wire__transport__init(&transports[i]);
		transports[i].peer = (char *)"decode 1", transports[i].name = name, transports[i].bytes_read = i;
		pointers[i] = &transports[i];
	}
	for (uint64_t i = 0; i <= REFUSAL_COUNT; i++)
		refusals[i] = 100 + i;
	Wire__Load load = WIRE__LOAD__INIT;
	load.transports = pointers, load.n_transports = COORD_TRANSPORTS_MAX + 1;
	load.refused = refusals, load.n_refused = REFUSAL_COUNT + 1;
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_LOAD, envelope.load = &load;
	say(&w, P1, &envelope);
	struct coord_node nodes[NODES_MAX];
	assert_int_equal(coord_nodes(w.coord, w.now_ns, nodes, NODES_MAX), 2);
	assert_int_equal(nodes[0].transport_count, COORD_TRANSPORTS_MAX);
	assert_int_equal(nodes[0].transports[COORD_TRANSPORTS_MAX - 1].bytes_read, COORD_TRANSPORTS_MAX - 1);
	assert_int_equal(strlen(nodes[0].transports[0].name), sizeof(nodes[0].transports[0].name) - 1);
	for (uint64_t i = 0; i < REFUSAL_COUNT; i++)
		assert_int_equal(nodes[0].refused[i], 100 + i);
	load.n_refused = 1;
	say(&w, P1, &envelope);
	coord_nodes(w.coord, w.now_ns, nodes, NODES_MAX);
	assert_int_equal(nodes[0].refused[0], 100);
	assert_int_equal(nodes[0].refused[REFUSAL_COUNT - 1], 0);
	world_fini(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_request_that_cannot_be_is_refused_with_its_reason),
		cmocka_unit_test(a_context_must_fit_some_node_of_the_model),
		cmocka_unit_test(a_member_that_cannot_be_is_refused),
		cmocka_unit_test(members_go_one_by_one_or_all_but_some),
		cmocka_unit_test(a_refusal_that_is_final_ends_the_request),
		cmocka_unit_test(an_end_instead_of_an_answer_is_a_refusal),
		cmocka_unit_test(ends_of_what_is_not_known_are_counted_and_nothing_more),
		cmocka_unit_test(a_choice_that_is_not_there_cannot_be_done),
		cmocka_unit_test(a_load_is_believed_within_bounds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Nodes that live and cannot read each other: no pair, and the reason is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

#include "tests/coordinator/story.h"

static const char words[] = "no two nodes of model m can exchange KV: decode 1 reads over rdma, mapped only (--require-transport), and none of "
			    "that reaches prefill 1";

static struct coord_model model_of(struct world *w)
{
	struct coord_model models[4];
	assert_int_equal(coord_models(w->coord, models, 4), 1);
	return models[0];
}

static void expect_words(const char *text)
{
	if (!strstr(text, words))
		fail_msg("\"%s\" lacks \"%s\"", text, words);
}

static void refused_pair_is_not_asked_while_another_can(void **state)
{
	struct world w;
	cluster(&w, true);
	spares_up(&w);
	say_refused(&w, D1, P1, "rdma, mapped");
	uint32_t given[4] = {0};
	for (uint32_t i = 0; i < 16; i++) {
		struct seen *seen;
		assert_int_equal(world_submit(&w, 100 + 100 * i, 20, 1, 3, &seen), ERR_OK);
		assert_false(w.route.prefill == P1 && w.route.decode == D1);
		given[w.route.prefill]++, given[w.route.decode]++;
		coord_cancel(w.coord, seen->request, w.now_ns);
	}
	assert_true(given[P1] && given[D1]); /* each works with the other ones */
	world_cut(&w, D2);
	world_cut(&w, P2);
	struct seen *seen;
	assert_int_equal(world_submit(&w, 100, 20, 1, 3, &seen), ERR_UNAVAILABLE);
	world_fini(&w);
}

static void lone_refused_pair_is_no_pair_until_its_node_is_another(void **state)
{
	struct world w;
	struct seen *seen;
	struct why why = {0};
	uint32_t prompt[20] = {0};
	uint64_t number, retry_ns;
	const struct coord_request request = {
		.id = "r", .model = "m", .tenant = "", .tokens = prompt, .prompt_count = 20, .choice_count = 1, .class = COORD_DEFAULT,
		.sampling = {.top_p = 1, .repetition_penalty = 1, .max_tokens = 5, .logprobs = -1},
	};
	cluster(&w, false);
	assert_true(model_of(&w).ready);
	say_refused(&w, D1, P1, "rdma, mapped");
	assert_int_equal(coord_submit(w.coord, &request, w.now_ns, &why, &number, &retry_ns), ERR_UNAVAILABLE);
	expect_words(why.text);
	assert_false(model_of(&w).ready);
	expect_words(model_of(&w).lacks.text);
	world_cut(&w, P1);
	w.fakes[P1].incarnation++;
	world_up(&w, P1); /* who knows what it offers now */
	assert_true(model_of(&w).ready);
	assert_int_equal(world_submit(&w, 100, 20, 1, 3, &seen), ERR_OK);
	started(&w, P1, D1);
	world_fini(&w);
}

static void refusal_of_prefill_does_not_matter_to_decode(void **state)
{
	struct world w;
	struct seen *seen;
	cluster(&w, false);
	say_refused(&w, P1, D1, "rdma"); /* it is decode that reads */
	assert_int_equal(world_submit(&w, 100, 20, 1, 3, &seen), ERR_OK);
	started(&w, P1, D1);
	world_fini(&w);
}

static void request_under_way_ends_with_the_reason(void **state)
{
	struct world w;
	struct seen *seen;
	cluster(&w, false);
	assert_int_equal(world_submit(&w, 100, 20, 1, 9, &seen), ERR_OK);
	struct reserve r = started(&w, P1, D1);
	say_refused(&w, D1, P1, "rdma, mapped");
	say_end(&w, D1, &r.job, D, ERR_PEER_GONE, NULL);
	expect_cancel(&w, P1, &r.job);
	world_pass(&w, 10100 * MS);
	expect_end(seen, ERR_UNAVAILABLE);
	expect_words(seen->outcome.why.text);
	world_expect_silence(&w, P1);
	world_expect_silence(&w, D1);
	expect_empty(&w);
	world_fini(&w);
}

static void node_of_both_roles_takes_over(void **state)
{
	struct world w;
	struct seen *seen;
	cluster(&w, false);
	uint32_t both = world_member(&w, WIRE__ROLE__ROLE_BOTH, "both 1", 1, "m");
	world_up(&w, both);
	say_refused(&w, D1, P1, "rdma");
	say_load(&w, both, 100000, 50);
	world_tick(&w, 50 * MS);
	assert_int_equal(world_submit(&w, 100, 20, 1, 3, &seen), ERR_OK);
	assert_true(w.route.prefill == both || w.route.decode == both);
	say_refused(&w, D1, both, "rdma"); /* the last report counts: prefill 1 it reads again */
	assert_int_equal(world_submit(&w, 200, 20, 1, 3, &seen), ERR_OK);
	assert_int_equal(w.route.prefill, P1);
	assert_int_equal(w.route.decode, D1);
	world_fini(&w);
}

/* A decode node of another compat; its blocks may be as long. */
static void add_other(struct world *w, uint32_t block_tokens, const char *device)
{
	uint32_t index = world_member(w, WIRE__ROLE__ROLE_DECODE, "decode 9", 2, "m");
	struct coord_member member = {.node = w->fakes[index].id, .incarnation = ++w->fakes[index].incarnation, .role = WIRE__ROLE__ROLE_DECODE,
				      .compat = w->fakes[index].compat, .model_count = 1, .block_tokens = block_tokens, .context_max = 256,
				      .name = "decode 9", .models = {"m"}};
	strcpy(member.device, device);
	assert_int_equal(coord_member_set(w->coord, &member, w->now_ns), ERR_OK);
	world_up(w, index);
}

static void expect_apart(uint32_t block_tokens, const char *device, const char *text)
{
	struct world w;
	struct seen *seen;
	cluster(&w, false);
	world_cut(&w, D1);
	coord_member_remove(w.coord, w.fakes[D1].id, w.now_ns);
	add_other(&w, block_tokens, device);
	assert_int_equal(world_submit(&w, 100, 20, 1, 3, &seen), ERR_UNAVAILABLE);
	assert_false(model_of(&w).ready);
	assert_true(model_of(&w).apart);
	if (!strstr(model_of(&w).lacks.text, text))
		fail_msg("\"%s\" lacks \"%s\"", model_of(&w).lacks.text, text);
	world_member(&w, WIRE__ROLE__ROLE_PREFILL, "prefill 9", 2, "m");
	world_up(&w, w.fake_count - 1);
	assert_true(model_of(&w).ready);
	world_fini(&w);
}

static void nodes_that_share_no_kv_are_no_pair_and_say_in_what_they_differ(void **state)
{
	expect_apart(64, "cuda", "prefill 1 has blocks of 8 tokens, decode 9 of 64 (--block-size)");
	expect_apart(BLOCK_TOKENS, "cpu-fma-1", "decode 9 of cpu-fma-1");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refused_pair_is_not_asked_while_another_can),
		cmocka_unit_test(lone_refused_pair_is_no_pair_until_its_node_is_another),
		cmocka_unit_test(refusal_of_prefill_does_not_matter_to_decode),
		cmocka_unit_test(request_under_way_ends_with_the_reason),
		cmocka_unit_test(node_of_both_roles_takes_over),
		cmocka_unit_test(nodes_that_share_no_kv_are_no_pair_and_say_in_what_they_differ),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

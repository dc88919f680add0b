/* What the coordinator knows of nodes: what they hold, whom they fit, what they report. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

#include "kvstore/key.h"
#include "tests/coordinator/story.h"

static void node_that_holds_the_prefix_is_asked_and_others_are_named(void **state)
{
	struct world w;
	struct seen *seen;
	cluster(&w, true);
	spares_up(&w);
	uint32_t prompt[20];
	for (uint32_t i = 0; i < 20; i++)
		prompt[i] = 100 + i;
	struct id128 compat = {.bytes = {1}}, root, keys[2];
	kv_key_root(&compat, 0, NULL, 0, &root);
	kv_key_chain(&root, prompt, 2, BLOCK_TOKENS, keys);
	say_events(&w, P2, false, keys, 2, NULL, 0);
	say_events(&w, D2, false, keys, 1, NULL, 0);
	assert_int_equal(world_submit(&w, 100, 20, 1, 1, &seen), ERR_OK);
	struct reserve r = expect_reserve(&w, P2, P);
	assert_int_equal(r.holders, 1); /* decode 2: itself is no hint */
	assert_int_equal(w.route.cached, 16);
	world_fini(&w);
}

static void gap_in_the_events_asks_for_a_snapshot(void **state)
{
	struct world w;
	cluster(&w, false);
	struct id128 key = {.bytes = {9}};
	w.fakes[P1].events++;
	say_events(&w, P1, false, &key, 1, NULL, 0);
	world_expect(&w, P1, WIRE__ENVELOPE__BODY_KV_RESYNC);
	world_pass(&w, 1100 * MS); /* it is asked again when it does not answer */
	world_expect(&w, P1, WIRE__ENVELOPE__BODY_KV_RESYNC);
	say_events(&w, P1, true, &key, 1, NULL, 0);
	world_pass(&w, 1100 * MS);
	world_expect_silence(&w, P1);
	struct coord_node nodes[NODES_MAX];
	coord_nodes(w.coord, w.now_ns, nodes, NODES_MAX);
	assert_int_equal(nodes[0].blocks_indexed, 1);
	world_fini(&w);
}

static void only_nodes_of_one_compat_are_paired(void **state)
{
	struct world w;
	struct seen *seen;
	world_init(&w, NULL);
	world_member(&w, WIRE__ROLE__ROLE_PREFILL, "prefill 1", 1, "m");
	world_member(&w, WIRE__ROLE__ROLE_DECODE, "decode 1", 2, "m");
	world_up(&w, 0);
	world_up(&w, 1);
	assert_int_equal(world_submit(&w, 100, 20, 1, 1, &seen), ERR_UNAVAILABLE);
	uint32_t d = world_member(&w, WIRE__ROLE__ROLE_DECODE, "decode 2", 1, "m");
	world_up(&w, d);
	assert_int_equal(world_submit(&w, 100, 20, 1, 1, &seen), ERR_OK);
	expect_reserve(&w, 0, P);
	expect_reserve(&w, d, D);
	world_fini(&w);
}

static void status_shows_what_nodes_report(void **state)
{
	struct world w;
	cluster(&w, false);
	say_load(&w, P1, 1234, 0);
	coord_member_remove(w.coord, w.fakes[P1].id, w.now_ns); /* noise: it lives */
	struct coord_node nodes[NODES_MAX];
	assert_int_equal(coord_nodes(w.coord, w.now_ns + 100, nodes, NODES_MAX), 2);
	assert_string_equal(nodes[0].name, "prefill 1");
	assert_int_equal(nodes[0].state, COORD_NODE_UP);
	assert_false(nodes[0].member);
	assert_int_equal(nodes[0].tokens_waiting, 1234);
	assert_int_equal(nodes[0].load_age_ns, 100);
	struct coord_model models[4];
	assert_int_equal(coord_models(w.coord, models, 4), 1);
	assert_string_equal(models[0].name, "m");
	assert_true(models[0].ready);
	char text[512];
	coord_dump(w.coord, w.now_ns, text, sizeof(text));
	assert_non_null(strstr(text, "prefill 1"));
	world_cut(&w, P1);
	assert_int_equal(coord_nodes(w.coord, w.now_ns, nodes, NODES_MAX), 1);
	world_fini(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(node_that_holds_the_prefix_is_asked_and_others_are_named),
		cmocka_unit_test(gap_in_the_events_asks_for_a_snapshot),
		cmocka_unit_test(only_nodes_of_one_compat_are_paired),
		cmocka_unit_test(status_shows_what_nodes_report),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

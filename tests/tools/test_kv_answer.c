/* What `baton kv` takes from a store: answers that fit their questions, and no others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "tools/kv_answer.h"

enum { KEYS = 4 };

struct world {
	Wire__KvAsk ask;
	Wire__KvAnswer answer;
	Wire__KvBlock blocks[KEYS + 1], *list[KEYS + 1];
	Wire__Place place;
	uint8_t keys[KEYS][PROTO_KEY_BYTES], other[PROTO_KEY_BYTES];
	uint32_t errors[KEYS + 1];
};

/* Keys are asked for, and all blocks are there. */
static void begin(struct world *w, Wire__KvVerb verb)
{
	*w = (struct world){.ask = WIRE__KV_ASK__INIT, .answer = WIRE__KV_ANSWER__INIT, .place = WIRE__PLACE__INIT, .other = {99}};
	w->ask.verb = verb;
	w->ask.keys = (ProtobufCBinaryData){sizeof(w->keys), w->keys[0]};
	for (uint8_t i = 0; i <= KEYS; i++) {
		wire__kv_block__init(&w->blocks[i]);
		w->list[i] = &w->blocks[i];
		if (i == KEYS)
			break;
		w->keys[i][0] = (uint8_t)(i + 1);
		w->blocks[i].key = (ProtobufCBinaryData){PROTO_KEY_BYTES, w->keys[i]};
	}
	w->blocks[KEYS].key = (ProtobufCBinaryData){PROTO_KEY_BYTES, w->other};
	w->answer.blocks = w->list;
	w->answer.errors = w->errors;
}

static void expect(const struct world *w, const char *refusal)
{
	struct why why = {0};
	enum err e = kv_answer_check(&w->ask, &w->answer, &why);
	if (!refusal)
		assert_int_equal(e, ERR_OK);
	else
		assert_int_equal(e, ERR_PROTOCOL);
	if (refusal)
		assert_string_equal(why.text, refusal);
}

static void a_list_has_what_was_asked_and_goes_on(void **state)
{
	struct world w;
	(void)state;
	begin(&w, WIRE__KV_VERB__KV_LIST);
	w.ask.limit = 3;
	w.answer.n_blocks = 3;
	expect(&w, NULL);
	struct id128 keys[] = {{{4}}, {{2}}, {{2, 0, 0, 0, 0, 0, 0, 0, 1}}, {{1}}}; /* in order: the lowest bit counts first */
	for (int i = 0; i < 4; i++) {
		w.ask.after = (ProtobufCBinaryData){16, keys[i].bytes};
		for (int k = 0; k < 4; k++) {
			w.answer.after = (ProtobufCBinaryData){16, keys[k].bytes};
			expect(&w, k > i ? NULL : "its next page does not begin behind this one");
		}
	}
	w.ask.after.len = 0;
	expect(&w, NULL);
	w.answer.after.len = 0;
	w.answer.n_blocks = 4;
	expect(&w, "it lists 4 blocks, 3 were asked for");
}

static void blocks_are_those_of_the_keys_in_their_order(void **state)
{
	struct world w;
	(void)state;
	begin(&w, WIRE__KV_VERB__KV_GET);
	for (uint32_t there = 0; there < 1 << KEYS; there++) {
		w.answer.n_blocks = 0;
		for (uint32_t i = 0; i < KEYS; i++)
			if (there & 1 << i)
				w.list[w.answer.n_blocks++] = &w.blocks[i];
		expect(&w, NULL);
	}
	w.list[0] = &w.blocks[1];
	w.list[1] = &w.blocks[1];
	w.answer.n_blocks = 2;
	expect(&w, "block 1 of its answer was not asked for, or not in this order");
	w.list[1] = &w.blocks[0];
	expect(&w, "block 1 of its answer was not asked for, or not in this order");
	w.list[0] = &w.blocks[KEYS];
	expect(&w, "block 0 of its answer was not asked for, or not in this order");
	w.ask.keys.len = 0;
	expect(&w, "block 0 of its answer was not asked for, or not in this order");
}

static void a_place_comes_with_digests(void **state)
{
	struct world w;
	(void)state;
	begin(&w, WIRE__KV_VERB__KV_GET);
	w.answer.n_blocks = KEYS;
	w.blocks[2].layers = 3;
	expect(&w, NULL);
	w.blocks[2].place = &w.place;
	expect(&w, "it says where block 2 is, and 0 digests of 3 layers");
	w.blocks[2].n_digests = 3;
	expect(&w, NULL);
}

static void each_key_has_an_outcome(void **state)
{
	static const Wire__KvVerb verbs[] = {WIRE__KV_VERB__KV_PIN, WIRE__KV_VERB__KV_EVICT, WIRE__KV_VERB__KV_VERIFY};
	struct world w;
	(void)state;
	for (int i = 0; i < 3; i++) {
		begin(&w, verbs[i]);
		w.answer.n_errors = KEYS;
		expect(&w, NULL);
		w.answer.n_blocks = 1;
		expect(&w, "it names 1 blocks, and was not asked for any");
		w.answer.n_blocks = 0;
		w.answer.n_errors = KEYS + 1;
		expect(&w, "it tells 5 outcomes, expected 4");
		w.answer.n_errors = 0;
		expect(&w, "it tells 0 outcomes, expected 4");
		w.answer.error = ERR_DENIED;
		expect(&w, NULL);
	}
}

static void nobody_else_has_one(void **state)
{
	static const Wire__KvVerb verbs[] = {WIRE__KV_VERB__KV_STAT, WIRE__KV_VERB__KV_LIST, WIRE__KV_VERB__KV_GET};
	struct world w;
	(void)state;
	for (int i = 0; i < 3; i++) {
		begin(&w, verbs[i]);
		w.answer.n_errors = 1;
		expect(&w, "it tells 1 outcomes, expected 0");
	}
	begin(&w, WIRE__KV_VERB__KV_STAT);
	expect(&w, NULL);
	w.answer.n_blocks = 2;
	expect(&w, "it names 2 blocks, and was not asked for any");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_list_has_what_was_asked_and_goes_on),
		cmocka_unit_test(blocks_are_those_of_the_keys_in_their_order),
		cmocka_unit_test(a_place_comes_with_digests),
		cmocka_unit_test(each_key_has_an_outcome),
		cmocka_unit_test(nobody_else_has_one),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

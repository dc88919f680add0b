/* Whom an engine offers a block to and asks for it, against the plain order of rank. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "kvstore/hot.h"
#include "kvstore/owners.h"
#include "kvstore/place.h"
#include "proto/codec.h"

enum { STORES = 8, REPLICAS = 2, KEYS = 400 };

struct world {
	struct env env;
	struct kv_local local;
	struct place_member members[STORES];
	void *memory;
};

static void on_send(void *context, uint32_t conn, const Wire__Envelope *envelope)
{
	(void)context, (void)conn, (void)envelope;
}

static void on_link_open(void *context, uint64_t node, uint64_t incarnation, const uint8_t *address, size_t length)
{
	(void)context, (void)node, (void)incarnation, (void)address, (void)length;
}

static void on_up(void *context, uint32_t peer)
{
	(void)context, (void)peer;
}

static void on_down(void *context, uint32_t peer, enum err why)
{
	(void)context, (void)peer, (void)why;
}

static void join(struct world *w, uint32_t conn, Wire__Role role, uint32_t weight)
{
	Wire__Hello hello = WIRE__HELLO__INIT;
	hello.node = 100 + conn;
	hello.incarnation = 1;
	hello.role = role;
	hello.name = (char *)"peer";
	hello.weight = weight;
	hello.replicas = weight ? REPLICAS : 0;
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_HELLO;
	envelope.hello = &hello;
	sessions_opened(w->local.sessions, conn, 0, 1);
	assert_int_equal(sessions_message(w->local.sessions, conn, &envelope, 1), PEER_NONE);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	w->env = (struct env){.context = w, .send = on_send, .link_open = on_link_open};
	struct session_options options = {.node = 7, .incarnation = 1, .role = WIRE__ROLE__ROLE_PREFILL, .name = "engine",
					  .peer_max = 16, .env = &w->env, .up = on_up, .down = on_down};
	w->memory = malloc(sessions_bytes(&options));
	w->local = (struct kv_local){.env = &w->env, .node = 7, .sessions = sessions_init(w->memory, &options)};
	join(w, STORES + 1, WIRE__ROLE__ROLE_DECODE, 0);
	for (uint32_t i = 0; i < STORES; i++) {
		w->members[i] = (struct place_member){100 + i + 1, 50 + 25 * (i % 4)};
		join(w, i + 1, WIRE__ROLE__ROLE_KVSTORE, w->members[i].weight);
	}
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	free(w->memory);
	free(w);
	return 0;
}

static struct id128 key_of(uint32_t number)
{
	struct id128 key;
	uint64_t words[2] = {rng_mix(number), rng_mix(~(uint64_t)number)};
	memcpy(key.bytes, words, sizeof(words));
	return key;
}

static uint64_t node_of(const struct world *w, uint32_t peer)
{
	return sessions_peer(w->local.sessions, peer)->node;
}

static void owners_are_the_first_in_rank_by_weight(void **state)
{
	struct world *w = *state;
	for (uint32_t k = 0; k < KEYS; k++) {
		struct id128 key = key_of(k);
		uint32_t peers[KV_OWNERS_MAX];
		uint64_t nodes[REPLICAS];
		assert_int_equal(place_owners(w->members, STORES, &key, REPLICAS, nodes), REPLICAS);
		assert_int_equal(kv_owners(&w->local, &key, 0, peers), REPLICAS);
		for (uint32_t i = 0; i < REPLICAS; i++)
			assert_int_equal(node_of(w, peers[i]), nodes[i]);
		assert_int_equal(node_of(w, kv_first_owner(&w->local, &key)), nodes[0]);
	}
}

/* It is offered nothing, and asked for what it would have. */
static void a_store_that_drains_is_asked_and_offered_nothing(void **state)
{
	struct world *w = *state;
	uint64_t drains = w->members[3].node;
	uint32_t drained = sessions_find(w->local.sessions, drains), asked = 0;
	sessions_note_draining(w->local.sessions, drained, true);
	for (uint32_t k = 0; k < KEYS; k++) {
		struct id128 key = key_of(k);
		uint32_t peers[KV_OWNERS_MAX];
		uint64_t nodes[REPLICAS + 1];
		place_owners(w->members, STORES, &key, REPLICAS + 1, nodes);
		bool owned = nodes[0] == drains || nodes[1] == drains;
		assert_int_equal(kv_owners(&w->local, &key, 2, peers), REPLICAS + owned);
		for (uint32_t i = 0; i < REPLICAS + (uint32_t)owned; i++)
			assert_int_equal(node_of(w, peers[i]), nodes[i]);
		assert_int_equal(node_of(w, kv_first_owner(&w->local, &key)), nodes[0] == drains ? nodes[1] : nodes[0]);
		asked += owned;
	}
	assert_true(asked > KEYS / 8);
	sessions_note_draining(w->local.sessions, drained, false);
	owners_are_the_first_in_rank_by_weight(state);
}

/* Eight engines: each asks one owner and one of the others, and together they ask all four. */
static void what_is_often_found_is_asked_for_at_more_stores(void **state)
{
	struct world *w = *state;
	uint32_t asked[4] = {0};
	for (uint32_t k = 0; k < KEYS; k++) {
		struct id128 key = key_of(k);
		uint64_t nodes[4];
		place_owners(w->members, STORES, &key, 4, nodes);
		for (uint64_t engine = 1; engine <= 8; engine++) {
			uint32_t peers[KV_OWNERS_MAX], owners = 0;
			w->local.node = engine;
			assert_int_equal(kv_owners(&w->local, &key, 2, peers), REPLICAS);
			for (uint32_t i = 0; i < 4; i++)
				asked[i] += node_of(w, peers[0]) == nodes[i] || node_of(w, peers[1]) == nodes[i];
			for (uint32_t i = 0; i < REPLICAS; i++)
				owners += node_of(w, peers[i]) == nodes[0] || node_of(w, peers[i]) == nodes[1];
			assert_int_equal(owners, 1);
		}
	}
	for (int i = 0; i < 4; i++)
		assert_in_range(asked[i], KEYS * 4 * 9 / 10, KEYS * 4 * 11 / 10);
}

static void no_store_means_nobody(void **state)
{
	struct world *w = *state;
	struct kv_local alone = w->local;
	struct session_options options = {.node = 7, .incarnation = 1, .role = WIRE__ROLE__ROLE_PREFILL, .name = "engine",
					  .peer_max = 2, .env = &w->env, .up = on_up, .down = on_down};
	void *memory = malloc(sessions_bytes(&options));
	alone.sessions = sessions_init(memory, &options);
	struct id128 key = key_of(1);
	uint32_t peers[KV_OWNERS_MAX];
	assert_int_equal(kv_owners(&alone, &key, 0, peers), 0);
	assert_int_equal(kv_owners(&alone, &key, 2, peers), 0);
	assert_int_equal(kv_first_owner(&alone, &key), PEER_NONE);
	free(memory);
}

static void a_hint_lasts_until_nobody_confirms_it(void **state)
{
	(void)state;
	static struct hot hot;
	struct id128 key = key_of(5), other = key_of(6);
	hot_note(&hot, &key, 2);
	for (int i = 0; i + 1 < HOT_CREDIT; i++)
		hot_note(&hot, &key, 0);
	assert_int_equal(hot_more(&hot, &key), 2);
	assert_int_equal(hot_more(&hot, &other), 0);
	hot_note(&hot, &other, 0);
	hot_note(&hot, &key, 1);
	for (int i = 0; i < HOT_CREDIT; i++)
		hot_note(&hot, &key, 0);
	assert_int_equal(hot_more(&hot, &key), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(owners_are_the_first_in_rank_by_weight),
		T(a_store_that_drains_is_asked_and_offered_nothing),
		T(what_is_often_found_is_asked_for_at_more_stores),
		T(no_store_means_nobody),
		cmocka_unit_test(a_hint_lasts_until_nobody_confirms_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

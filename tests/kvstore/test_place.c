#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"
#include "kvstore/key.h"
#include "kvstore/place.h"

static struct id128 key_of(uint64_t number)
{
	struct id128 key;
	uint64_t words[2] = {rng_mix(number), rng_mix(~number)};
	memcpy(key.bytes, words, sizeof(words));
	return key;
}

static bool among(const uint64_t *nodes, uint32_t count, uint64_t node)
{
	for (uint32_t i = 0; i < count; i++)
		if (nodes[i] == node)
			return true;
	return false;
}

static void owners_are_distinct_and_as_many_as_there_can_be(void **state)
{
	struct place_member members[5] = {{1, 10}, {2, 0}, {3, 10}, {4, 1}, {5, 0}};
	for (uint64_t k = 0; k < 200; k++) {
		struct id128 key = key_of(k);
		uint64_t nodes[PLACE_REPLICAS_MAX];
		assert_int_equal(place_owners(members, 5, &key, 8, nodes), 3);
		assert_true(nodes[0] != nodes[1] && nodes[1] != nodes[2] && nodes[0] != nodes[2]);
		assert_false(among(nodes, 3, 2) || among(nodes, 3, 5));
		assert_int_equal(place_owners(members, 5, &key, 2, nodes), 2);
	}
	assert_int_equal(place_owners(members, 0, &(struct id128){{0}}, 2, (uint64_t[2]){0}), 0);
}

static void order_of_members_does_not_matter(void **state)
{
	struct place_member members[100], shuffled[100];
	for (uint32_t i = 0; i < 100; i++)
		members[i] = shuffled[i] = (struct place_member){1000 + i, 1 + i % 7};
	struct rng rng = {.seed = 7};
	for (uint64_t k = 0; k < 300; k++) {
		for (uint32_t i = 99; i > 0; i--) {
			uint32_t j = (uint32_t)rng_below(&rng, i + 1);
			struct place_member other = shuffled[i];
			shuffled[i] = shuffled[j];
			shuffled[j] = other;
		}
		struct id128 key = key_of(k);
		uint64_t a[3], b[3];
		assert_int_equal(place_owners(members, 100, &key, 3, a), 3);
		assert_int_equal(place_owners(shuffled, 100, &key, 3, b), 3);
		assert_memory_equal(a, b, sizeof(a));
	}
}

/* The cut-off by the cheap bound never changes the answer: few replicas of many are a prefix of more. */
static void fewer_replicas_are_the_first_of_more(void **state)
{
	struct place_member members[300];
	for (uint32_t i = 0; i < 300; i++)
		members[i] = (struct place_member){i + 1, 1 + (uint32_t)(rng_mix(i) % 1000)};
	for (uint64_t k = 0; k < 500; k++) {
		struct id128 key = key_of(k);
		uint64_t all[8], some[8];
		place_owners(members, 300, &key, 8, all);
		for (uint32_t replicas = 1; replicas < 8; replicas++) {
			assert_int_equal(place_owners(members, 300, &key, replicas, some), replicas);
			assert_memory_equal(all, some, replicas * sizeof(uint64_t));
		}
	}
}

static void share_follows_weight(void **state)
{
	struct place_member members[4] = {{11, 100}, {12, 200}, {13, 300}, {14, 400}};
	uint32_t owned[4] = {0};
	enum { KEYS = 40000 };
	for (uint64_t k = 0; k < KEYS; k++) {
		struct id128 key = key_of(k);
		uint64_t node;
		place_owners(members, 4, &key, 1, &node);
		owned[node - 11]++;
	}
	for (uint32_t i = 0; i < 4; i++) {
		int expected = KEYS * (int)(i + 1) / 10;
		assert_in_range(owned[i], expected - expected / 20, expected + expected / 20);
	}
}

/* A member that leaves loses its keys and no other key moves; the same backwards when it joins. */
static void only_keys_of_the_member_that_left_move(void **state)
{
	struct place_member members[50];
	for (uint32_t i = 0; i < 50; i++)
		members[i] = (struct place_member){i + 1, 1 + i % 5};
	uint32_t gone = 17, moved = 0;
	struct place_member fewer[49];
	for (uint32_t i = 0, j = 0; i < 50; i++)
		if (i != gone)
			fewer[j++] = members[i];
	for (uint64_t k = 0; k < 5000; k++) {
		struct id128 key = key_of(k);
		uint64_t before[2], after[2];
		place_owners(members, 50, &key, 2, before);
		place_owners(fewer, 49, &key, 2, after);
		if (!among(before, 2, gone + 1)) {
			assert_memory_equal(before, after, sizeof(before));
			continue;
		}
		moved++;
		uint64_t stays = before[0] == gone + 1 ? before[1] : before[0];
		assert_true(among(after, 2, stays));
	}
	assert_true(moved > 0);
}

/* More weight only gains keys, and only as many as the share grows. */
static void growing_weight_only_gains(void **state)
{
	struct place_member members[10];
	for (uint32_t i = 0; i < 10; i++)
		members[i] = (struct place_member){i + 1, 100};
	uint32_t gained = 0;
	for (uint64_t k = 0; k < 20000; k++) {
		struct id128 key = key_of(k);
		uint64_t before, after;
		members[3].weight = 100;
		place_owners(members, 10, &key, 1, &before);
		members[3].weight = 150;
		place_owners(members, 10, &key, 1, &after);
		if (before == after)
			continue;
		assert_int_equal(after, 4);
		gained++;
	}
	/* 150/1050 - 100/1000 = 4.29 % of 20000 */
	assert_in_range(gained, 750, 960);
}

/* ---- chats that share only the beginning of a template, on eight stores, by real key chains */

enum { CHATS = 10000, NODES = 8, ENGINES = 4, BLOCK_TOKENS = 16, TEMPLATE_TOKENS = 20, CHAT_BLOCKS_MAX = 24 };

struct load {
	uint64_t blocks[NODES];  /* of which it is an owner: its bytes */
	uint64_t offered[NODES]; /* which engines offer it */
	uint64_t copied[NODES];  /* which other owners read from it */
	uint64_t lookups[NODES]; /* messages: a chat asks each owner of any of its blocks once */
	uint64_t keys[NODES];    /* asked of it */
};

/* One chat: the template, then tokens of its own; its blocks are stored once, however many chats have them.  An engine asks
 * for what its own pool lacks (kv_fetch): the block of the template only before its first chat. */
static void add_chat(const struct place_member *members, uint32_t chat, uint32_t replicas, struct load *load)
{
	static const struct id128 compat = {{7}};
	uint32_t tokens[CHAT_BLOCKS_MAX * BLOCK_TOKENS];
	uint32_t block_count = 2 + (uint32_t)(rng_at(5, 0, chat) % (CHAT_BLOCKS_MAX - 1));
	for (uint32_t i = 0; i < block_count * BLOCK_TOKENS; i++)
		tokens[i] = (uint32_t)rng_at(5, i < TEMPLATE_TOKENS ? UINT32_MAX : chat + 1, i) % 32000;
	struct id128 root, keys[CHAT_BLOCKS_MAX];
	kv_key_root(&compat, 0, "tenant", 6, &root);
	kv_key_chain(&root, tokens, block_count, BLOCK_TOKENS, keys);
	bool asked[NODES] = {false};
	for (uint32_t i = 0; i < block_count; i++) {
		uint64_t owners[PLACE_REPLICAS_MAX];
		assert_int_equal(place_owners(members, NODES, &keys[i], replicas, owners), replicas);
		bool shared = (i + 1) * BLOCK_TOKENS <= TEMPLATE_TOKENS;
		bool is_new = !shared || chat == 0;
		load->offered[owners[0] - 1] += is_new;
		load->copied[owners[0] - 1] += is_new ? replicas - 1 : 0;
		for (uint32_t k = 0; k < replicas; k++) {
			uint64_t owner = owners[k];
			load->blocks[owner - 1] += is_new;
			if (shared && chat >= ENGINES)
				continue;
			load->keys[owner - 1]++;
			load->lookups[owner - 1] += !asked[owner - 1];
			asked[owner - 1] = true;
		}
	}
}

/* The most loaded for its weight, over the mean. */
static double max_over_mean(const uint64_t *load, const struct place_member *members)
{
	double total = 0, weights = 0, most = 0;
	for (uint32_t i = 0; i < NODES; i++) {
		total += (double)load[i];
		weights += members[i].weight;
		double own = (double)load[i] / members[i].weight;
		most = own > most ? own : most;
	}
	return most / (total / weights);
}

static void chats_that_share_only_a_template_load_all_nodes_alike(void **state)
{
	struct place_member members[NODES];
	for (uint32_t i = 0; i < NODES; i++)
		members[i] = (struct place_member){i + 1, 64};
	for (uint32_t replicas = 1; replicas <= 3; replicas++) {
		struct load load = {0};
		for (uint32_t chat = 0; chat < CHATS; chat++)
			add_chat(members, chat, replicas, &load);
		assert_true(max_over_mean(load.blocks, members) <= 1.15);
		assert_true(max_over_mean(load.offered, members) <= 1.15);
		assert_true(replicas == 1 || max_over_mean(load.copied, members) <= 1.15);
		assert_true(max_over_mean(load.keys, members) <= 1.15);
		assert_true(max_over_mean(load.lookups, members) <= 1.15);
	}
}

static void of_unequal_nodes_each_is_loaded_by_its_weight(void **state)
{
	struct place_member members[NODES];
	struct load load = {0};
	for (uint32_t i = 0; i < NODES; i++)
		members[i] = (struct place_member){i + 1, 64u << (i % 4)};
	for (uint32_t chat = 0; chat < CHATS; chat++)
		add_chat(members, chat, 1, &load);
	assert_true(max_over_mean(load.blocks, members) <= 1.15);
	assert_true(max_over_mean(load.keys, members) <= 1.15);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(owners_are_distinct_and_as_many_as_there_can_be),
		cmocka_unit_test(order_of_members_does_not_matter),
		cmocka_unit_test(fewer_replicas_are_the_first_of_more),
		cmocka_unit_test(share_follows_weight),
		cmocka_unit_test(only_keys_of_the_member_that_left_move),
		cmocka_unit_test(growing_weight_only_gains),
		cmocka_unit_test(chats_that_share_only_a_template_load_all_nodes_alike),
		cmocka_unit_test(of_unequal_nodes_each_is_loaded_by_its_weight),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

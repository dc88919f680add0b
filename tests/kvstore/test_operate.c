/* Whose blocks a store has, and what operators may ask of it and say to it. */
#include "store_world.h"

static void put_of(struct world *w, const char *whose, Wire__Priority how, uint64_t op, uint8_t key)
{
	tenant = whose;
	priority = how;
	offer(w, 1, op, key);
	answer_reads(w, ERR_OK);
	tenant = "";
	priority = WIRE__PRIORITY__PRIORITY_NORMAL;
}

static const Wire__KvAnswer *answer_of(struct world *w)
{
	assert_non_null(w->answer);
	assert_int_equal(w->answer->op, 77);
	return w->answer;
}

static const Wire__KvAnswer *answer_to(struct world *w, uint32_t conn, Wire__KvAsk *question)
{
	ask(w, conn, question);
	return answer_of(w);
}

static const Wire__KvAnswer *answer_on(struct world *w, Wire__KvVerb verb, uint8_t key, Wire__KvPin pin)
{
	ask_key(w, verb, key, pin);
	return answer_of(w);
}

static bool is_there(struct world *w, uint8_t key)
{
	return answer_on(w, WIRE__KV_VERB__KV_GET, key, WIRE__KV_PIN__KV_UNPINNED)->n_blocks == 1;
}

static const Wire__StoreLoad *stat_of(struct world *w)
{
	Wire__KvAsk question = WIRE__KV_ASK__INIT;
	question.verb = WIRE__KV_VERB__KV_STAT;
	return answer_to(w, 9, &question)->load->store;
}

static const Wire__TenantLoad *tenant_of(const Wire__StoreLoad *load, const char *name)
{
	for (size_t i = 0; i < load->n_tenants; i++)
		if (strcmp(load->tenants[i]->name, name) == 0)
			return load->tenants[i];
	return NULL;
}

static void offer_over_its_tenants_quota_makes_room_or_is_refused(void **state)
{
	struct world *w = *state;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	join(w, 9, 90, WIRE__ROLE__ROLE_OPERATOR);
	put_of(w, "", WIRE__PRIORITY__PRIORITY_NORMAL, 1, 1);
	for (uint8_t key = 2; key <= 4; key++)
		put_of(w, "small", key == 3 ? WIRE__PRIORITY__PRIORITY_LOW : WIRE__PRIORITY__PRIORITY_NORMAL, key, key);
	put_of(w, "small", WIRE__PRIORITY__PRIORITY_NORMAL, 5, 5);
	assert_int_equal(answers(w, 5, ERR_OK), 1);
	assert_true(is_there(w, 1) && is_there(w, 2) && !is_there(w, 3) && is_there(w, 4));
	lookup(w, 1, 50, (uint8_t[]){2, 4, 5}, 3); /* all of them are held */
	put_of(w, "small", WIRE__PRIORITY__PRIORITY_NORMAL, 6, 6);
	assert_int_equal(answers(w, 6, ERR_AGAIN), 1);
	release(w, 1, 50);
	const Wire__TenantLoad *small = tenant_of(stat_of(w), "small");
	assert_int_equal(small->bytes, 3 * LAYERS * LAYER_BYTES);
	assert_int_equal(small->blocks, 3);
	assert_int_equal(small->quota_bytes, 3 * LAYERS * LAYER_BYTES);
	assert_int_equal(small->refused, 1);
	assert_int_equal(small->evicted, 1);
}

static void accounts_say_what_was_asked_for_and_found(void **state)
{
	struct world *w = *state;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	join(w, 9, 90, WIRE__ROLE__ROLE_OPERATOR);
	put_of(w, "small", WIRE__PRIORITY__PRIORITY_NORMAL, 1, 1);
	tenant = "small";
	lookup(w, 1, 50, (uint8_t[]){1, 2, 3}, 3);
	tenant = "acme";
	lookup(w, 1, 51, (uint8_t[]){7}, 1);
	tenant = "";
	const Wire__StoreLoad *load = stat_of(w);
	assert_int_equal(tenant_of(load, "small")->keys_asked, 3);
	assert_int_equal(tenant_of(load, "small")->keys_found, 1);
	assert_int_equal(tenant_of(load, "small")->bytes_found, LAYERS * LAYER_BYTES);
	assert_int_equal(tenant_of(load, "acme")->keys_asked, 1);
	assert_int_equal(tenant_of(load, "acme")->keys_found, 0);
	assert_false(tenant_of(load, "acme")->limited);
	assert_int_equal(load->keys_asked, 4);
	assert_int_equal(load->n_tiers, 1);
	assert_string_equal(load->tiers[0]->name, "dram");
	assert_int_equal(load->tiers[0]->keys_found, 1);
	assert_string_equal(load->policy, "lru");
	assert_int_equal(load->bytes, LAYERS * LAYER_BYTES);
	assert_int_equal(load->bytes_total, SLABS * SLAB_BYTES);
}

static void lag_is_what_was_offered_and_not_taken_yet(void **state)
{
	struct world *w = *state;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	join(w, 9, 90, WIRE__ROLE__ROLE_OPERATOR);
	offer(w, 1, 1, 1);
	w->now += 30 * MS;
	offer(w, 1, 2, 2);
	w->now += 20 * MS;
	const Wire__StoreLoad *load = stat_of(w);
	assert_int_equal(load->lag_blocks, 2);
	assert_int_equal(load->lag_bytes, 2 * LAYERS * LAYER_BYTES);
	assert_int_equal(load->lag_ns, 50 * MS);
	answer_reads(w, ERR_OK);
	load = stat_of(w);
	assert_int_equal(load->lag_blocks + load->lag_bytes + load->lag_ns, 0);
	assert_int_equal(load->offers_taken, 2);
}

static void block_offered_again_at_a_higher_priority_is_raised(void **state)
{
	struct world *w = *state;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	join(w, 9, 90, WIRE__ROLE__ROLE_OPERATOR);
	put_of(w, "", WIRE__PRIORITY__PRIORITY_LOW, 1, 1);
	assert_int_equal(answer_on(w, WIRE__KV_VERB__KV_GET, 1, 0)->blocks[0]->priority, WIRE__PRIORITY__PRIORITY_LOW);
	put_of(w, "", WIRE__PRIORITY__PRIORITY_LOW, 2, 1);
	assert_int_equal(answer_on(w, WIRE__KV_VERB__KV_GET, 1, 0)->blocks[0]->priority, WIRE__PRIORITY__PRIORITY_LOW);
	put_of(w, "", WIRE__PRIORITY__PRIORITY_NORMAL, 3, 1);
	assert_int_equal(answers(w, 3, ERR_EXISTS), 1);
	assert_int_equal(answer_on(w, WIRE__KV_VERB__KV_GET, 1, 0)->blocks[0]->priority, WIRE__PRIORITY__PRIORITY_NORMAL);
	/* While the first is still being read. */
	priority = WIRE__PRIORITY__PRIORITY_LOW;
	offer(w, 1, 4, 2);
	put_of(w, "", WIRE__PRIORITY__PRIORITY_NORMAL, 5, 2);
	assert_int_equal(answers(w, 5, ERR_EXISTS), 1);
	assert_int_equal(answer_on(w, WIRE__KV_VERB__KV_GET, 2, 0)->blocks[0]->priority, WIRE__PRIORITY__PRIORITY_NORMAL);
}

static void operator_gets_a_block_with_its_place(void **state)
{
	struct world *w = *state;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	join(w, 9, 90, WIRE__ROLE__ROLE_OPERATOR);
	put_of(w, "small", WIRE__PRIORITY__PRIORITY_LOW, 1, 4);
	lookup(w, 1, 50, (uint8_t[]){4}, 1);
	const Wire__KvAnswer *answer = answer_on(w, WIRE__KV_VERB__KV_GET, 4, 0);
	const struct sent *found = last(w, WIRE__ENVELOPE__BODY_FOUND);
	const Wire__KvBlock *block = answer->blocks[0];
	assert_int_equal(answer->n_blocks, 1);
	assert_int_equal(block->key.data[0], 4);
	assert_memory_equal(block->compat.data, compat, sizeof(compat));
	assert_string_equal(block->tenant, "small");
	assert_string_equal(block->tier, "dram");
	assert_int_equal(block->layers, LAYERS);
	assert_int_equal(block->layer_bytes, LAYER_BYTES);
	assert_int_equal(block->holds, 1);
	assert_int_equal(block->n_digests, LAYERS);
	assert_int_equal(block->digests[1], world_digest(4, 1));
	assert_int_equal(block->place->offset, found->place[0].offset);
	assert_int_equal(block->place->generation, found->place[0].generation);
	assert_int_equal(answer_on(w, WIRE__KV_VERB__KV_GET, 5, 0)->n_blocks, 0);
	assert_int_equal(answer_on(w, WIRE__KV_VERB__KV_EVICT, 4, 0)->errors[0], ERR_BUSY);
	release(w, 1, 50);
	assert_int_equal(answer_on(w, WIRE__KV_VERB__KV_EVICT, 4, 0)->errors[0], ERR_OK);
	assert_int_equal(answer_on(w, WIRE__KV_VERB__KV_EVICT, 4, 0)->errors[0], ERR_NOT_FOUND);
}

static void operator_pins_within_the_share(void **state)
{
	struct world *w = *state;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	join(w, 9, 90, WIRE__ROLE__ROLE_OPERATOR);
	for (uint8_t key = 1; key <= 6; key++)
		put_of(w, "", WIRE__PRIORITY__PRIORITY_NORMAL, key, key);
	for (uint8_t key = 1; key <= 5; key++)
		assert_int_equal(answer_on(w, WIRE__KV_VERB__KV_PIN, key, WIRE__KV_PIN__KV_PINNED_HARD)->errors[0],
				 key == 5 ? ERR_AGAIN : ERR_OK);
	assert_int_equal(answer_on(w, WIRE__KV_VERB__KV_PIN, 5, WIRE__KV_PIN__KV_PINNED_SOFT)->errors[0], ERR_OK);
	assert_int_equal(answer_on(w, WIRE__KV_VERB__KV_PIN, 99, WIRE__KV_PIN__KV_PINNED_SOFT)->errors[0], ERR_NOT_FOUND);
	assert_int_equal(answer_on(w, WIRE__KV_VERB__KV_EVICT, 1, 0)->errors[0], ERR_DENIED);
	const Wire__StoreLoad *load = stat_of(w);
	assert_int_equal(load->pinned_hard, 4);
	assert_int_equal(load->pinned_soft, 1);
	assert_int_equal(load->bytes_pinned, load->bytes_pinned_max);
	assert_int_equal(answer_on(w, WIRE__KV_VERB__KV_PIN, 1, WIRE__KV_PIN__KV_UNPINNED)->errors[0], ERR_OK);
	assert_int_equal(answer_on(w, WIRE__KV_VERB__KV_EVICT, 1, 0)->errors[0], ERR_OK);
	assert_int_equal(answer_on(w, WIRE__KV_VERB__KV_GET, 2, 0)->blocks[0]->pin, WIRE__KV_PIN__KV_PINNED_HARD);
}

static void list_comes_in_pages_and_is_no_use_of_a_block(void **state)
{
	struct world *w = *state;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	join(w, 9, 90, WIRE__ROLE__ROLE_OPERATOR);
	for (uint8_t key = 1; key <= 7; key++)
		put_of(w, key % 3 == 0 ? "acme" : "", WIRE__PRIORITY__PRIORITY_NORMAL, key, key);
	lookup(w, 1, 50, (uint8_t[]){1}, 1);
	release(w, 1, 50); /* the least recently used is 2 now, and the first of the list is 1 */
	struct id128 after;
	uint32_t seen = 0, pages = 0;
	Wire__KvAsk question = WIRE__KV_ASK__INIT;
	question.verb = WIRE__KV_VERB__KV_LIST;
	question.limit = 3;
	do {
		const Wire__KvAnswer *answer = answer_to(w, 9, &question);
		assert_true(answer->n_blocks <= 3);
		for (size_t i = 0; i < answer->n_blocks; i++)
			seen |= 1u << answer->blocks[i]->key.data[0];
		if (answer->after.len)
			memcpy(after.bytes, answer->after.data, sizeof(after.bytes));
		question.after = (ProtobufCBinaryData){answer->after.len, after.bytes};
		pages++;
	} while (question.after.len);
	assert_int_equal(seen, 0xfe);
	assert_int_equal(pages, 3);
	question.one_tenant = true;
	question.tenant = (char *)"acme";
	const Wire__KvAnswer *answer = answer_to(w, 9, &question);
	assert_int_equal(answer->n_blocks, 2);
	assert_int_equal(answer->after.len, 0);
	for (uint8_t key = 0; is_there(w, 2); key++)
		put_of(w, "", WIRE__PRIORITY__PRIORITY_NORMAL, 100u + key, 100u + key);
	assert_true(is_there(w, 1) && is_there(w, 3));
}

static void only_an_operator_is_answered(void **state)
{
	struct world *w = *state;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	join(w, 2, 20, WIRE__ROLE__ROLE_COORDINATOR);
	put_of(w, "", WIRE__PRIORITY__PRIORITY_NORMAL, 1, 1);
	for (int verb = 0; verb <= (int)WIRE__KV_VERB__KV_EVICT; verb++)
		for (uint32_t conn = 1; conn <= 2; conn++) {
			uint8_t bytes[16] = {1, 77};
			Wire__KvAsk question = WIRE__KV_ASK__INIT;
			question.verb = (Wire__KvVerb)verb;
			question.limit = 1;
			question.keys = (ProtobufCBinaryData){16, bytes};
			const Wire__KvAnswer *answer = answer_to(w, conn, &question);
			assert_int_equal(answer->error, ERR_DENIED);
			assert_true(answer->n_blocks == 0 && answer->n_errors == 0 && !answer->load);
		}
	join(w, 9, 90, WIRE__ROLE__ROLE_OPERATOR);
	assert_true(is_there(w, 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
		T(offer_over_its_tenants_quota_makes_room_or_is_refused),
		T(accounts_say_what_was_asked_for_and_found),
		T(lag_is_what_was_offered_and_not_taken_yet),
		T(block_offered_again_at_a_higher_priority_is_raised),
		T(operator_gets_a_block_with_its_place),
		T(operator_pins_within_the_share),
		T(list_comes_in_pages_and_is_no_use_of_a_block),
		T(only_an_operator_is_answered),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

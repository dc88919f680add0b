#include "store_world.h"

static void offered_block_is_read_layer_by_layer_then_found(void **state)
{
	struct world *w = *state;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	offer(w, 1, 7, 4);
	assert_int_equal(w->read_count, LAYERS);
	for (uint32_t i = 0; i < LAYERS; i++) {
		assert_int_equal(w->reads[i].node, 10);
		assert_int_equal(w->reads[i].region, 3);
		assert_int_equal(w->reads[i].generation, 9);
		assert_int_equal(w->reads[i].offset, 4000 + i * LAYER_BYTES);
		assert_int_equal(w->reads[i].landing_offset, i * LAYER_BYTES);
		assert_int_equal(w->reads[i].length, LAYER_BYTES);
	}
	lookup(w, 1, 1, (uint8_t[]){4}, 1);
	assert_int_equal(last(w, WIRE__ENVELOPE__BODY_FOUND)->blocks, 0); /* not before it is verified */
	answer_reads(w, ERR_OK);
	assert_int_equal(answers(w, 7, ERR_OK), 1);
	lookup(w, 1, 2, (uint8_t[]){3, 4, 5}, 3);
	const struct sent *found = last(w, WIRE__ENVELOPE__BODY_FOUND);
	assert_int_equal(found->op, 2);
	assert_int_equal(found->blocks, 1);
	assert_int_equal(found->index[0], 1);
	assert_int_equal(found->digests[0][1], world_digest(4, 1));
	assert_int_equal(store_held_for(w->store, 10), 1);
	release(w, 1, 2);
	assert_int_equal(store_held_for(w->store, 10), 0);
}

static void wrong_bytes_are_refused_and_never_found(void **state)
{
	struct world *w = *state;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	offer(w, 1, 7, 4);
	store_read_done(w->store, w->reads[0].op, ERR_OK, 12345, w->now);
	assert_int_equal(answers(w, 7, ERR_CORRUPT), 1);
	assert_int_equal(w->cancels, 1); /* the other layer */
	struct store_status status;
	store_status(w->store, &status);
	assert_int_equal(status.ledger.entries[LEDGER_EVICTED], 1); /* quarantine */
	store_landing_free(w->store, w->reads[0].op, w->now);
	store_read_done(w->store, w->reads[1].op, ERR_CANCELED, 0, w->now);
	store_check(w->store);
	store_status(w->store, &status);
	assert_int_equal(status.ledger.entries[LEDGER_EVICTED], 1);
	store_landing_free(w->store, w->reads[1].op, w->now);
	store_status(w->store, &status);
	assert_int_equal(status.ledger.entries[LEDGER_EVICTED], 0);
	assert_int_equal(status.ledger.slots_free, status.ledger.slots);
	lookup(w, 1, 1, (uint8_t[]){4}, 1);
	assert_int_equal(last(w, WIRE__ENVELOPE__BODY_FOUND)->blocks, 0);
	assert_int_equal(status.counters.read_corrupt, 1);
}

static void outcome_of_an_older_read_changes_nothing(void **state)
{
	struct world *w = *state;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	offer(w, 1, 7, 4);
	uint64_t old = w->reads[0].op;
	w->read_next = 0;
	answer_reads(w, ERR_DEADLINE);
	assert_int_equal(answers(w, 7, ERR_DEADLINE), 1);
	offer(w, 1, 8, 4);
	assert_int_equal(w->read_count, 2 * LAYERS);
	assert_int_not_equal(w->reads[LAYERS].op, old);
	store_read_done(w->store, old, ERR_OK, 40, w->now);
	store_landing_free(w->store, old, w->now);
	struct store_status status;
	store_status(w->store, &status);
	assert_int_equal(status.reading, 1);
	answer_reads(w, ERR_OK);
	assert_int_equal(answers(w, 8, ERR_OK), 1);
}

static void second_offer_of_a_key_waits_for_the_first(void **state)
{
	struct world *w = *state;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	join(w, 2, 20, WIRE__ROLE__ROLE_DECODE);
	offer(w, 1, 7, 4);
	offer(w, 2, 9, 4);
	assert_int_equal(w->read_count, LAYERS);
	answer_reads(w, ERR_OK);
	assert_int_equal(answers(w, 7, ERR_OK), 1);
	assert_int_equal(answers(w, 9, ERR_EXISTS), 1);
	offer(w, 2, 10, 4);
	assert_int_equal(answers(w, 10, ERR_EXISTS), 1);
}

static void offer_that_is_said_again_has_one_answer(void **state)
{
	struct world *w = *state;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	offer(w, 1, 7, 4);
	offer(w, 1, 7, 4);
	assert_int_equal(store_held_for(w->store, 10), 1);
	answer_reads(w, ERR_DEADLINE); /* with the answer the offerer is through: nothing may be read after it */
	assert_int_equal(w->read_count, LAYERS);
	assert_int_equal(answers(w, 7, ERR_DEADLINE), 1);
	assert_int_equal(store_held_for(w->store, 10), 0);
}

static void waiting_offer_is_read_when_the_first_fails(void **state)
{
	struct world *w = *state;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	join(w, 2, 20, WIRE__ROLE__ROLE_DECODE);
	offer(w, 1, 7, 4);
	offer(w, 2, 9, 4);
	store_closed(w->store, 1, w->now); /* the first offerer dies */
	store_check(w->store);
	assert_int_equal(w->read_count, 2 * LAYERS);
	assert_int_equal(w->reads[LAYERS].node, 20);
	w->read_next = 0;
	for (uint32_t i = 0; i < LAYERS; i++, w->read_next++) {
		store_read_done(w->store, w->reads[i].op, ERR_PEER_GONE, 0, w->now);
		store_landing_free(w->store, w->reads[i].op, w->now);
	}
	answer_reads(w, ERR_OK);
	assert_int_equal(answers(w, 9, ERR_OK), 1);
	assert_int_equal(answers(w, 7, ERR_OK) + answers(w, 7, ERR_PEER_GONE), 0); /* nobody to tell */
}

static void end_of_session_frees_all_that_was_held(void **state)
{
	struct world *w = *state;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	for (uint8_t key = 1; key <= 4; key++)
		offer(w, 1, key, key);
	answer_reads(w, ERR_OK);
	lookup(w, 1, 50, (uint8_t[]){1, 2, 3}, 3);
	lookup(w, 1, 51, (uint8_t[]){3, 4}, 2);
	offer(w, 1, 60, 60);
	offer(w, 1, 61, 61);
	offer(w, 1, 62, 62); /* queued: two are read at a time */
	assert_int_equal(store_held_for(w->store, 10), 5 + 3);
	for (uint32_t i = 0; i < 12; i++) { /* silence: nothing said for over two seconds */
		w->now += 200 * MS;
		store_tick(w->store, w->now);
	}
	store_check(w->store);
	struct store_status status;
	store_status(w->store, &status);
	assert_int_equal(status.sessions, 0);
	assert_int_equal(status.holds, 0);
	assert_int_equal(status.offers, 0);
	assert_int_equal(status.ledger.entries[LEDGER_HELD], 0);
	assert_int_equal(status.ledger.entries[LEDGER_EVICTED], 2); /* landings may still be written */
	while (w->read_next < w->read_count) {
		uint64_t op = w->reads[w->read_next++].op;
		store_read_done(w->store, op, ERR_PEER_GONE, 0, w->now);
		store_landing_free(w->store, op, w->now);
	}
	store_status(w->store, &status);
	assert_int_equal(status.ledger.entries[LEDGER_EVICTED], 0);
	assert_int_equal(status.ledger.entries[LEDGER_CACHED], 4);
}

static void over_the_bounds_it_says_again_and_finds_less(void **state)
{
	struct world *w = *state;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	for (uint8_t key = 1; key <= 9; key++)
		offer(w, 1, key, key);
	assert_int_equal(answers(w, 9, ERR_AGAIN), 1); /* offer_max is 8 */
	answer_reads(w, ERR_OK);
	for (uint8_t key = 9; key <= 20; key++) {
		offer(w, 1, key + 100u, key);
		answer_reads(w, ERR_OK);
	}
	uint8_t keys[16];
	for (uint8_t i = 0; i < 16; i++)
		keys[i] = i + 1;
	lookup(w, 1, 50, keys, 10);
	lookup(w, 1, 51, keys, 16);
	assert_int_equal(last(w, WIRE__ENVELOPE__BODY_FOUND)->blocks, 6); /* hold_max is 16 */
	for (uint64_t op = 52; op < 60; op++)
		lookup(w, 1, op, keys, 1);
	assert_int_equal(last(w, WIRE__ENVELOPE__BODY_FOUND)->blocks, 0); /* lookup_max is 4 */
	release(w, 1, 50);
	lookup(w, 1, 70, keys, 1);
	assert_int_equal(last(w, WIRE__ENVELOPE__BODY_FOUND)->blocks, 1);
}

static void draining_store_serves_but_takes_nothing(void **state)
{
	struct world *w = *state;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	offer(w, 1, 1, 1);
	answer_reads(w, ERR_OK);
	store_drain(w->store, w->now);
	offer(w, 1, 2, 2);
	assert_int_equal(answers(w, 2, ERR_DRAINING), 1);
	lookup(w, 1, 3, (uint8_t[]){1}, 1);
	assert_int_equal(last(w, WIRE__ENVELOPE__BODY_FOUND)->blocks, 1);
	assert_false(store_drained(w->store));
	release(w, 1, 3);
	assert_true(store_drained(w->store));
}

static void coordinators_hear_of_the_load(void **state)
{
	struct world *w = *state;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	join(w, 2, 5, WIRE__ROLE__ROLE_COORDINATOR);
	offer(w, 1, 1, 1);
	answer_reads(w, ERR_OK);
	w->sent_count = 0;
	store_tick(w->store, w->now);
	const struct sent *load = last(w, WIRE__ENVELOPE__BODY_LOAD);
	assert_non_null(load);
	assert_int_equal(load->conn, 2);
	assert_int_equal(load->load.blocks_cached, 1);
	assert_int_equal(load->load.blocks_total, 2 * SLOTS);
	assert_int_equal(load->load.sessions, 2);
	w->sent_count = 0;
	w->now += 100 * MS;
	store_tick(w->store, w->now);
	assert_null(last(w, WIRE__ENVELOPE__BODY_LOAD));
	char text[1024];
	assert_true(store_dump(w->store, text, sizeof(text)) > 100);
	assert_non_null(strstr(text, "cached 1"));
	assert_int_equal(store_dump(w->store, text, 10), 9);
}

static void peer_that_asks_for_a_job_is_sent_away(void **state)
{
	struct world *w = *state;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	Wire__Start start = WIRE__START__INIT;
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_START;
	envelope.start = &start;
	deliver(w, 1, &envelope);
	struct store_status status;
	store_status(w->store, &status);
	assert_int_equal(status.sessions, 0);
	assert_int_equal(w->closes, 1);
}

static void an_outcome_that_nobody_asked_for_changes_nothing(void **state)
{
	struct world *w = *state;
	struct store_status status;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	offer(w, 1, 7, 4);
	uint64_t op = w->reads[0].op;
	const uint64_t others[] = {op + LAYERS, op | 0xff0000u, op + (1ull << 32), op ^ 0x10000u};
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		store_read_done(w->store, others[i], ERR_DEADLINE, 0, w->now);
		store_landing_free(w->store, others[i], w->now);
		store_check(w->store);
	}
	for (int again = 0; again < 2; again++) { /* the same twice: it counts once */
		store_read_done(w->store, op, ERR_OK, world_digest(4, 0), w->now);
		store_landing_free(w->store, op, w->now);
	}
	store_status(w->store, &status);
	assert_int_equal(status.reading, 1);
	assert_int_equal(status.offers, 1);
	w->read_next = 1;
	answer_reads(w, ERR_OK);
	assert_int_equal(answers(w, 7, ERR_OK), 1);
}

static void a_read_that_fails_is_answered_and_counted_by_its_cause(void **state)
{
	static const enum err causes[] = {ERR_CORRUPT, ERR_STALE, ERR_DEADLINE, ERR_PEER_GONE, ERR_IO, ERR_AGAIN};
	struct world *w = *state;
	struct store_status status;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	for (size_t i = 0; i < sizeof(causes) / sizeof(causes[0]); i++) {
		offer(w, 1, 70 + i, 4);
		answer_reads(w, causes[i]);
		assert_int_equal(answers(w, 70 + i, causes[i]), 1);
	}
	store_status(w->store, &status);
	const struct store_counters *c = &status.counters;
	assert_int_equal(c->read_corrupt, 1);
	assert_int_equal(c->read_stale, 1);
	assert_int_equal(c->read_deadline, 1);
	assert_int_equal(c->read_gone, 1);
	assert_int_equal(c->read_other, 2);
	assert_int_equal(status.ledger.slots_free, status.ledger.slots);
}

static void a_block_that_no_slot_can_hold_is_refused(void **state)
{
	struct world *w = *state;
	struct store_status status;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	offer_of(w, 1, 1, 1, LAYERS + 1, LAYER_BYTES);
	offer_of(w, 1, 2, 2, LAYERS, SLAB_BYTES / LAYERS + 1);
	offer_of(w, 1, 3, 3, LAYERS, 1u << 31); /* twice that is over 32 bits */
	for (uint64_t op = 1; op <= 3; op++)
		assert_int_equal(answers(w, op, ERR_TOO_LARGE), 1);
	assert_int_equal(w->read_count, 0);
	store_status(w->store, &status);
	assert_int_equal(status.counters.offers_refused, 3);
	offer_of(w, 1, 4, 4, LAYERS, SLAB_BYTES / LAYERS);
	assert_int_equal(w->read_count, LAYERS);
}

static void a_look_up_that_is_asked_anew_replaces_the_first(void **state)
{
	struct world *w = *state;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	for (uint8_t key = 1; key <= 2; key++) {
		offer(w, 1, key, key);
		answer_reads(w, ERR_OK);
	}
	lookup(w, 1, 5, (uint8_t[]){1, 2}, 2);
	assert_int_equal(store_held_for(w->store, 10), 2);
	lookup(w, 1, 5, (uint8_t[]){2}, 1);
	assert_int_equal(store_held_for(w->store, 10), 1);
	release(w, 1, 6); /* another */
	assert_int_equal(store_held_for(w->store, 10), 1);
	release(w, 1, 5);
	assert_int_equal(store_held_for(w->store, 10), 0);
	assert_int_equal(store_held_for(w->store, 11), 0);
}

/* They were queued before, between and behind another's. */
static void offers_of_a_dead_peer_leave_the_queue(void **state)
{
	struct world *w = *state;
	struct store_status status;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	join(w, 2, 20, WIRE__ROLE__ROLE_DECODE);
	offer(w, 1, 1, 1);
	offer(w, 1, 2, 2); /* two are read at a time */
	offer(w, 2, 3, 3);
	offer(w, 1, 4, 4);
	offer(w, 2, 5, 5);
	offer(w, 1, 6, 6);
	offer(w, 2, 7, 7);
	store_closed(w->store, 2, w->now);
	store_check(w->store);
	assert_int_equal(store_held_for(w->store, 10), 4);
	answer_reads(w, ERR_OK);
	for (uint64_t op = 1; op <= 6; op++)
		assert_int_equal(answers(w, op, ERR_OK), op != 3 && op != 5);
	assert_int_equal(w->read_count, 4 * LAYERS);
	store_status(w->store, &status);
	assert_int_equal(status.offers, 0);
	assert_int_equal(status.ledger.entries[LEDGER_CACHED], 4);
}

static void direct(struct world *w, uint32_t conn, uint64_t epoch, Wire__DirectiveKind kind)
{
	Wire__Directive directive = WIRE__DIRECTIVE__INIT;
	directive.epoch = epoch;
	directive.kind = kind;
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_DIRECTIVE;
	envelope.directive = &directive;
	w->sent_count = 0;
	deliver(w, conn, &envelope);
}

static bool drains(const struct world *w)
{
	struct store_status status;
	store_status(w->store, &status);
	return status.draining;
}

static void the_leader_drains_and_undrains_until_the_store_leaves(void **state)
{
	struct world *w = *state;
	join(w, 1, 10, WIRE__ROLE__ROLE_PREFILL);
	join(w, 2, 5, WIRE__ROLE__ROLE_COORDINATOR);
	direct(w, 1, 9, WIRE__DIRECTIVE_KIND__DIRECTIVE_DRAIN); /* nobody who may */
	assert_null(last(w, WIRE__ENVELOPE__BODY_DIRECTIVE_DONE));
	assert_false(drains(w));
	assert_false(store_drained(w->store));
	direct(w, 2, 5, WIRE__DIRECTIVE_KIND__DIRECTIVE_DRAIN);
	assert_int_equal(last(w, WIRE__ENVELOPE__BODY_DIRECTIVE_DONE)->error, ERR_OK);
	assert_true(drains(w));
	assert_true(store_drained(w->store));
	direct(w, 2, 4, WIRE__DIRECTIVE_KIND__DIRECTIVE_UNDRAIN); /* an older epoch */
	assert_int_equal(last(w, WIRE__ENVELOPE__BODY_DIRECTIVE_DONE)->error, ERR_STALE);
	assert_int_equal(last(w, WIRE__ENVELOPE__BODY_DIRECTIVE_DONE)->op, 5);
	direct(w, 2, 6, WIRE__DIRECTIVE_KIND__DIRECTIVE_LEAD); /* an epoch begins, nothing else */
	assert_true(drains(w));
	direct(w, 2, 6, WIRE__DIRECTIVE_KIND__DIRECTIVE_UNDRAIN);
	assert_false(drains(w));
	store_drain(w->store, w->now);
	direct(w, 2, 7, WIRE__DIRECTIVE_KIND__DIRECTIVE_UNDRAIN);
	assert_int_equal(last(w, WIRE__ENVELOPE__BODY_DIRECTIVE_DONE)->error, ERR_OK);
	assert_true(drains(w));
	offer(w, 1, 1, 1);
	assert_int_equal(answers(w, 1, ERR_DRAINING), 1);
}

static void a_dump_fits_where_it_is_put(void **state)
{
	struct world *w = *state;
	char text[2048];
	assert_int_equal(store_dump(w->store, text, 0), 0);
	assert_int_equal(store_dump(w->store, text, 1), 0);
	size_t whole = store_dump(w->store, text, sizeof(text));
	assert_int_equal(whole, strlen(text));
	assert_int_equal(store_dump(w->store, text, whole + 1), whole);
	assert_int_equal(store_dump(w->store, text, whole), whole - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
		T(offered_block_is_read_layer_by_layer_then_found),
		T(wrong_bytes_are_refused_and_never_found),
		T(outcome_of_an_older_read_changes_nothing),
		T(second_offer_of_a_key_waits_for_the_first),
		T(waiting_offer_is_read_when_the_first_fails),
		T(offer_that_is_said_again_has_one_answer),
		T(end_of_session_frees_all_that_was_held),
		T(over_the_bounds_it_says_again_and_finds_less),
		T(draining_store_serves_but_takes_nothing),
		T(coordinators_hear_of_the_load),
		T(peer_that_asks_for_a_job_is_sent_away),
		T(an_outcome_that_nobody_asked_for_changes_nothing),
		T(a_read_that_fails_is_answered_and_counted_by_its_cause),
		T(a_block_that_no_slot_can_hold_is_refused),
		T(a_look_up_that_is_asked_anew_replaces_the_first),
		T(offers_of_a_dead_peer_leave_the_queue),
		T(the_leader_drains_and_undrains_until_the_store_leaves),
		T(a_dump_fits_where_it_is_put),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

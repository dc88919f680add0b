/* Who may lead, and what a node takes from whom. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "coordinator/lead.h"
#include "net/claim.h"
#include "net/fence.h"

static struct lead elected(uint64_t until_ns)
{
	struct lead lead = {0};
	assert_int_equal(lead_elected(&lead, 7, until_ns, 100), LEAD_CLAIM);
	assert_int_equal(lead_epoch(&lead, 100), 0);
	assert_int_equal(lead_claimed(&lead, 7, 41, 110), LEAD_BEGIN);
	return lead;
}

static void leads_with_its_epoch_until_its_own_clock_says_no(void **state)
{
	struct lead lead = elected(1000);
	assert_int_equal(lead_epoch(&lead, 110), 41);
	assert_int_equal(lead_epoch(&lead, 999), 41);
	assert_int_equal(lead_epoch(&lead, 1000), 0);
}

static void renewal_goes_on_and_one_that_is_heard_too_late_does_not(void **state)
{
	struct lead lead = elected(1000);
	lead_renewed(&lead, 7, 2000, 900);
	assert_int_equal(lead_epoch(&lead, 1500), 41);
	/* A pause of the process: the answer was there all the time, the term is over all the same. */
	lead_renewed(&lead, 7, 9000, 2000);
	assert_int_equal(lead_epoch(&lead, 2000), 0);
	assert_int_equal(lead.state, LEAD_FOLLOWING);
	assert_int_equal(lead.steps_down, 1);
	lead_renewed(&lead, 7, 9000, 2100);
	assert_int_equal(lead_epoch(&lead, 2100), 0);
}

static void only_another_candidacy_begins_another_term(void **state)
{
	struct lead lead = elected(1000);
	assert_int_equal(lead_elected(&lead, 7, 3000, 500), LEAD_NOTHING); /* said twice */
	assert_int_equal(lead_epoch(&lead, 500), 41);
	lead_tick(&lead, 1000);
	assert_int_equal(lead_claimed(&lead, 7, 42, 1100), LEAD_NOTHING); /* an answer from then */
	assert_int_equal(lead_elected(&lead, 8, 3000, 1200), LEAD_CLAIM);
	assert_int_equal(lead_claimed(&lead, 7, 42, 1300), LEAD_NOTHING);
	assert_int_equal(lead_claimed(&lead, 8, 43, 1300), LEAD_BEGIN);
	assert_int_equal(lead_epoch(&lead, 1300), 43);
	assert_int_equal(lead.terms, 2);
}

static void deposed_leader_is_silent_at_once(void **state)
{
	struct lead lead = elected(1000);
	lead_deposed(&lead);
	assert_int_equal(lead_epoch(&lead, 200), 0);
}

static void election_that_is_heard_too_late_is_none(void **state)
{
	struct lead lead = {0};
	assert_int_equal(lead_elected(&lead, 7, 1000, 1000), LEAD_NOTHING);
	assert_int_equal(lead.state, LEAD_FOLLOWING);
}

static void beaten_leader_asks_for_a_higher_epoch_in_the_same_term(void **state)
{
	struct lead lead = elected(1000);
	assert_int_equal(lead_beaten(&lead, 40, 200), LEAD_NOTHING);
	assert_int_equal(lead_beaten(&lead, 60, 200), LEAD_CLAIM);
	assert_int_equal(lead_epoch(&lead, 210), 0); /* nobody would take 41 any more */
	assert_int_equal(lead_beaten(&lead, 60, 220), LEAD_NOTHING);
	assert_int_equal(lead_claimed(&lead, 7, 61, 230), LEAD_BEGIN);
	assert_int_equal(lead_epoch(&lead, 240), 61);
	assert_int_equal(lead_beaten(&lead, CLAIM_MAX, 250), LEAD_NOTHING); /* garbage */
}

static void node_takes_the_newest_epoch_and_refuses_older_ones(void **state)
{
	struct fence fence = {0};
	assert_int_equal(fence_judge(&fence, 5, 1), ERR_OK);
	assert_int_equal(fence_judge(&fence, 5, 1), ERR_OK);
	assert_int_equal(fence_judge(&fence, 7, 2), ERR_OK);
	assert_int_equal(fence_judge(&fence, 5, 1), ERR_STALE);
	assert_int_equal(fence_judge(&fence, 6, 1), ERR_STALE);
	assert_int_equal(fence.refused, 2);
	assert_int_equal(fence.accepted, 3);
	assert_int_equal(fence.epoch, 7);
}

static void node_takes_an_epoch_from_one_coordinator_only(void **state)
{
	struct fence fence = {0};
	assert_int_equal(fence_judge(&fence, 5, 1), ERR_OK);
	assert_int_equal(fence_judge(&fence, 5, 2), ERR_STALE);
	assert_int_equal(fence_judge(&fence, 5, 1), ERR_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(leads_with_its_epoch_until_its_own_clock_says_no),
		cmocka_unit_test(renewal_goes_on_and_one_that_is_heard_too_late_does_not),
		cmocka_unit_test(only_another_candidacy_begins_another_term),
		cmocka_unit_test(deposed_leader_is_silent_at_once),
		cmocka_unit_test(election_that_is_heard_too_late_is_none),
		cmocka_unit_test(beaten_leader_asks_for_a_higher_epoch_in_the_same_term),
		cmocka_unit_test(node_takes_the_newest_epoch_and_refuses_older_ones),
		cmocka_unit_test(node_takes_an_epoch_from_one_coordinator_only),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

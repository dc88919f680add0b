/* etcd: elections against a real server. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "etcd_fixture.h"

struct candidate {
	struct etcd_election *election;
	struct etcd_leader leader;
	char value[32];
	int changes;
};

static void on_leader(struct etcd_election *election, const struct etcd_leader *leader, void *arg)
{
	struct candidate *candidate = arg;
	candidate->changes++;
	candidate->leader = *leader;
	snprintf(candidate->value, sizeof(candidate->value), "%.*s", (int)leader->value_length,
		 leader->value ? leader->value : "");
	assert_true(leader->known || !leader->mine);
}

static void run_for(struct fixture *fixture, struct candidate *candidate, const char *name, const char *value)
{
	struct etcd_election_options options = {.name = name, .value = value, .ttl_s = 3};
	assert_int_equal(etcd_election_start(fixture->etcd, &options, on_leader, candidate, &candidate->election),
			 ERR_OK);
}

static void one_leads_all_see_it_and_the_next_follows_with_a_higher_epoch(void **state)
{
	struct fixture *fixture = *state;
	struct candidate first = {0}, second = {0}, observer = {0};
	run_for(fixture, &observer, "e1", NULL);
	run_for(fixture, &first, "e1", "first:1");
	WAIT_FOR(fixture, 10, first.leader.mine);
	run_for(fixture, &second, "e1", "second:1");
	WAIT_FOR(fixture, 10, second.leader.known && observer.leader.known);
	assert_false(second.leader.mine);
	assert_string_equal(second.value, "first:1");
	assert_string_equal(observer.value, "first:1");
	assert_int_equal(second.leader.epoch, first.leader.epoch);
	int64_t epoch = first.leader.epoch;
	/* The second must really stand before the first goes. */
	WAIT_FOR(fixture, 10, range(fixture, &(struct etcd_range){.prefix = "e1/"}).reply.kv_count == 2);

	struct answer answer = {0};
	etcd_election_resign(first.election, on_done, &answer);
	assert_int_equal(wait_answer(fixture, &answer).e, ERR_OK);
	assert_false(first.leader.mine);
	WAIT_FOR(fixture, 10, second.leader.mine && first.leader.known && observer.leader.epoch > epoch);
	assert_true(second.leader.epoch > epoch);
	assert_string_equal(first.value, "second:1");
	assert_string_equal(observer.value, "second:1");
	assert_int_equal(first.leader.epoch, second.leader.epoch);
	etcd_election_stop(first.election);
	etcd_election_stop(second.election);
	etcd_election_stop(observer.election);
	WAIT_FOR(fixture, 10, range(fixture, &(struct etcd_range){.prefix = "e1/"}).reply.kv_count == 0);
	etcd_election_stop(NULL);
}

static void revoking_the_leaders_lease_hands_over_and_it_stands_again(void **state)
{
	struct fixture *fixture = *state;
	struct candidate first = {0}, second = {0};
	run_for(fixture, &first, "e2", "first:2");
	WAIT_FOR(fixture, 10, first.leader.mine);
	run_for(fixture, &second, "e2", "second:2");
	WAIT_FOR(fixture, 10, range(fixture, &(struct etcd_range){.prefix = "e2/"}).reply.kv_count == 2);
	int64_t epoch = first.leader.epoch;
	struct answer page = range(fixture, &(struct etcd_range){.prefix = "e2/"});
	int64_t lease = page.first.create_revision == epoch ? page.first.lease : get(fixture, page.last_key).first.lease;
	assert_int_equal(revoke_lease(fixture, lease).e, ERR_OK);
	WAIT_FOR(fixture, 10, second.leader.mine && !first.leader.mine);
	assert_true(second.leader.epoch > epoch);
	WAIT_FOR(fixture, 10, range(fixture, &(struct etcd_range){.prefix = "e2/"}).reply.kv_count == 2);
	assert_true(second.leader.mine);
	etcd_election_stop(first.election);
	etcd_election_stop(second.election);
}

static void a_leader_steps_down_when_etcd_hangs_and_observers_keep_what_they_know(void **state)
{
	struct fixture *fixture = *state;
	struct candidate leader = {0}, observer = {0};
	run_for(fixture, &leader, "e3", "leader:3");
	run_for(fixture, &observer, "e3", NULL);
	WAIT_FOR(fixture, 10, leader.leader.mine && observer.leader.known);
	int64_t epoch = leader.leader.epoch;
	etcd_server_pause(fixture->server);
	WAIT_FOR(fixture, 10, !leader.leader.known);
	assert_true(observer.leader.known);
	etcd_server_resume(fixture->server);
	WAIT_FOR(fixture, 30, leader.leader.mine);
	assert_true(leader.leader.epoch > epoch);
	WAIT_FOR(fixture, 30, observer.leader.epoch == leader.leader.epoch);
	etcd_election_stop(leader.election);
	etcd_election_stop(observer.election);
}

static void an_election_can_be_stopped_at_any_moment(void **state)
{
	struct fixture *fixture = *state;
	for (int turns = 0; turns < 8; turns++) {
		struct candidate candidate = {0};
		run_for(fixture, &candidate, "e4", "x");
		for (int i = 0; i < turns; i++)
			loop_turn(fixture->loop, SECOND_NS / 100);
		etcd_election_stop(candidate.election);
		int changes = candidate.changes;
		loop_turn(fixture->loop, SECOND_NS / 100);
		assert_int_equal(candidate.changes, changes);
	}
	WAIT_FOR(fixture, 15, range(fixture, &(struct etcd_range){.prefix = "e4/"}).reply.kv_count == 0);
}

int main(int argc, char **argv)
{
	int result = fixture_begin(argc, argv);
	if (result != 0)
		return result;
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		T(one_leads_all_see_it_and_the_next_follows_with_a_higher_epoch),
		T(revoking_the_leaders_lease_hands_over_and_it_stands_again),
		T(a_leader_steps_down_when_etcd_hangs_and_observers_keep_what_they_know),
		T(an_election_can_be_stopped_at_any_moment),
	};
	result = cmocka_run_group_tests(tests, NULL, NULL);
	fixture_end();
	return result;
}

/* Membership and incarnations against a real etcd: what etcd, wall clocks and twins may do to a node that lives. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/options.h"
#include "etcd_fixture.h"
#include "net/etcd_claim.h"
#include "net/incarnation.h"
#include "net/member.h"

#define HOUR_NS 3600000000000ull
#define WALL_NS 1800000000000000000ull

static const char *binary;

/* One process: its number, its record, and what membership told it. */
struct life {
	struct membership *membership;
	struct member self;
	bool registered;
	uint64_t renewed, replaced;
	int gone;
};

static void on_state(void *context, bool registered)
{
	((struct life *)context)->registered = registered;
}

static void on_renewed(void *context, uint64_t incarnation)
{
	((struct life *)context)->renewed = incarnation;
}

static void on_replaced(void *context, uint64_t incarnation)
{
	((struct life *)context)->replaced = incarnation;
}

static void on_gone(void *context, uint64_t node)
{
	(void)node;
	((struct life *)context)->gone++;
}

static enum err first_number(struct fixture *fixture, const char *cluster, uint64_t life, uint64_t wall_ns,
			     uint64_t timeout_ns, uint64_t *ret_number, struct why *why)
{
	static const bool stop = false;
	const struct option_list endpoints = {.count = 1, .items = {etcd_server_url(fixture->server)}};
	struct incarnation_options options = {.etcd = fixture->etcd, .endpoints = &endpoints, .cluster = cluster,
					      .name = "decode-1", .life = life, .wall_ns = wall_ns,
					      .timeout_ns = timeout_ns, .stop = &stop};
	return incarnation_claim(fixture->loop, &options, ret_number, why);
}

static uint64_t claim_first(struct fixture *fixture, const char *cluster, uint64_t life, uint64_t wall_ns)
{
	uint64_t number = 0;
	struct why why = {0};
	enum err e = first_number(fixture, cluster, life, wall_ns, 20 * SECOND_NS, &number, &why);
	if (e != ERR_OK)
		fail_msg("%s", why.text);
	return number;
}

static void join(struct fixture *fixture, struct life *l, const char *cluster, uint64_t life, uint64_t incarnation)
{
	*l = (struct life){.self = {.node = member_node_id("decode-1"), .incarnation = incarnation, .pid = 1,
				    .role = WIRE__ROLE__ROLE_DECODE, .name = "decode-1", .url = "tcp://127.0.0.1:1"}};
	struct membership_options options = {.etcd = fixture->etcd, .cluster = cluster, .self = &l->self, .life = life,
					     .ttl_s = 3, .context = l, .on_gone = on_gone, .on_state = on_state,
					     .on_renewed = on_renewed, .on_replaced = on_replaced};
	assert_int_equal(membership_create(fixture->loop, &options, &l->membership), ERR_OK);
}

static void start_life(struct fixture *fixture, struct life *l, const char *cluster, uint64_t life)
{
	join(fixture, l, cluster, life, claim_first(fixture, cluster, life, WALL_NS));
	WAIT_FOR(fixture, 20, l->registered);
}

/* The incarnation in the record, 0 when there is none. */
static uint64_t recorded(struct fixture *fixture, const char *cluster)
{
	char key[MEMBER_KEY_MAX];
	snprintf(key, sizeof(key), "/baton/%s/nodes/decode-1", cluster);
	struct answer answer = get(fixture, key);
	if (answer.e != ERR_OK)
		return 0;
	struct member member;
	struct why why;
	const char *value = strchr(answer.kvs, '=') + 1;
	assert_int_equal(member_parse(value, strlen(value), &why, &member), ERR_OK);
	return member.incarnation;
}

static int64_t lease_of(struct fixture *fixture, const char *cluster)
{
	char key[MEMBER_KEY_MAX];
	snprintf(key, sizeof(key), "/baton/%s/nodes/decode-1", cluster);
	return get(fixture, key).first.lease;
}

static void numbers_grow_though_the_wall_clock_went_back_an_hour(void **state)
{
	struct fixture *fixture = *state;
	assert_int_equal(claim_first(fixture, "c1", 1, WALL_NS), WALL_NS);
	assert_int_equal(claim_first(fixture, "c1", 2, WALL_NS - HOUR_NS), WALL_NS + 1);
	assert_int_equal(claim_first(fixture, "c1", 3, WALL_NS - HOUR_NS), WALL_NS + 2);
	/* The same process asks again, because an answer was lost: no new number. */
	assert_int_equal(claim_first(fixture, "c1", 3, WALL_NS - HOUR_NS), WALL_NS + 2);
}

static void count_claim(void *arg, enum err e, const char *text, uint64_t number)
{
	(void)text;
	assert_int_equal(e, ERR_OK);
	((uint64_t *)arg)[0] = number;
}

static void who_claim_at_once_get_different_numbers(void **state)
{
	struct fixture *fixture = *state;
	enum { TOGETHER = 6 };
	uint64_t numbers[TOGETHER] = {0};
	for (uint64_t i = 0; i < TOGETHER; i++) {
		struct etcd_claim_options options = {.key = "together", .life = i + 1, .wall_ns = WALL_NS};
		struct etcd_claim *claim;
		assert_int_equal(etcd_claim_start(fixture->etcd, &options, count_claim, &numbers[i], &claim), ERR_OK);
	}
	for (int i = 0; i < TOGETHER; i++)
		WAIT_FOR(fixture, 20, numbers[i]);
	for (int i = 0; i < TOGETHER; i++)
		for (int j = 0; j < i; j++)
			assert_int_not_equal(numbers[i], numbers[j]);
}

static void revoked_lease_is_noise(void **state)
{
	struct fixture *fixture = *state;
	struct life l;
	start_life(fixture, &l, "c2", 1);
	int64_t lease = lease_of(fixture, "c2");
	assert_int_equal(revoke_lease(fixture, lease).e, ERR_OK);
	WAIT_FOR(fixture, 20, l.registered && recorded(fixture, "c2") == WALL_NS && lease_of(fixture, "c2") != lease);
	assert_int_equal(l.renewed, 0);
	assert_int_equal(l.replaced, 0);
	membership_destroy(l.membership);
}

static void emptied_etcd_gets_number_and_record_back_by_itself(void **state)
{
	struct fixture *fixture = *state;
	struct life l;
	start_life(fixture, &l, "c3", 1);
	etcd_server_kill(fixture->server);
	etcd_server_wipe(fixture->server);
	assert_int_equal(etcd_server_restart(fixture->server), 0);
	WAIT_FOR(fixture, 30, recorded(fixture, "c3") == WALL_NS);
	assert_int_equal(get(fixture, "/baton/c3/incarnations/decode-1").e, ERR_OK);
	assert_int_equal(l.renewed, 0);
	assert_int_equal(l.replaced, 0);
	membership_destroy(l.membership);
}

static void refused_holder_of_the_name_goes_on_above_what_peers_know(void **state)
{
	struct fixture *fixture = *state;
	struct life l;
	start_life(fixture, &l, "c4", 1);
	/* A life that lives, says a peer: then it is not for us to go above it; nobody else has the name, so we stay. */
	membership_outranked(l.membership, WALL_NS + HOUR_NS, true);
	for (int i = 0; i < 12; i++)
		loop_turn(fixture->loop, SECOND_NS / 10);
	assert_int_equal(l.renewed, 0);
	membership_outranked(l.membership, WALL_NS + HOUR_NS, false);
	WAIT_FOR(fixture, 20, l.renewed && recorded(fixture, "c4") == WALL_NS + HOUR_NS + 1);
	assert_int_equal(l.renewed, WALL_NS + HOUR_NS + 1);
	assert_int_equal(l.replaced, 0);
	membership_destroy(l.membership);
}

static void process_whose_name_another_took_is_told(void **state)
{
	struct fixture *fixture = *state;
	struct life first, second;
	start_life(fixture, &first, "c5", 1);
	start_life(fixture, &second, "c5", 2);
	WAIT_FOR(fixture, 20, first.replaced);
	assert_int_equal(first.replaced, WALL_NS + 1);
	assert_int_equal(second.replaced, 0);
	assert_int_equal(recorded(fixture, "c5"), WALL_NS + 1);
	membership_destroy(first.membership);
	membership_destroy(second.membership);
}

static void ghost_that_wakes_up_finds_out_by_a_refusal(void **state)
{
	struct fixture *fixture = *state;
	struct life ghost, second;
	start_life(fixture, &second, "c6", 2);
	/* It slept since before: the number it had is below the one in etcd, and so it never registers. */
	join(fixture, &ghost, "c6", 1, WALL_NS - 5);
	membership_outranked(ghost.membership, WALL_NS, true);
	WAIT_FOR(fixture, 20, ghost.replaced);
	assert_int_equal(ghost.replaced, WALL_NS);
	assert_false(ghost.registered);
	assert_true(second.registered);
	assert_int_equal(recorded(fixture, "c6"), WALL_NS);
	membership_destroy(ghost.membership);
	membership_destroy(second.membership);
}

static void ghost_that_is_first_in_an_emptied_etcd_gives_way(void **state)
{
	struct fixture *fixture = *state;
	struct life ghost, holder;
	join(fixture, &ghost, "c7", 1, WALL_NS - 5);
	WAIT_FOR(fixture, 20, ghost.registered);
	join(fixture, &holder, "c7", 2, WALL_NS);
	WAIT_FOR(fixture, 20, holder.registered && ghost.replaced);
	assert_int_equal(ghost.replaced, WALL_NS);
	assert_int_equal(holder.replaced, 0);
	assert_int_equal(recorded(fixture, "c7"), WALL_NS);
	membership_destroy(ghost.membership);
	membership_destroy(holder.membership);
}

static void start_without_etcd_says_what_it_waited_for(void **state)
{
	struct fixture *fixture = *state;
	uint64_t number = 0;
	struct why why = {0};
	etcd_server_kill(fixture->server);
	assert_int_equal(first_number(fixture, "c8", 1, WALL_NS, 2 * SECOND_NS, &number, &why), ERR_DEADLINE);
	assert_non_null(strstr(why.text, etcd_server_url(fixture->server)));
	assert_non_null(strstr(why.text, "--etcd-timeout"));
	assert_non_null(strstr(why.text, "decode-1"));
	assert_int_equal(etcd_server_restart(fixture->server), 0);
	assert_int_equal(claim_first(fixture, "c8", 1, WALL_NS), WALL_NS);
}

/* A stopped etcd that goes on may answer from the past; what was taken stays taken. */
static void paused_etcd_gives_no_number_twice(void **state)
{
	struct fixture *fixture = *state;
	uint64_t last = 0;
	for (uint64_t round = 1; round <= 4; round++) {
		uint64_t number = claim_first(fixture, "c9", round, WALL_NS);
		assert_true(number > last);
		last = number;
		etcd_server_pause(fixture->server);
		loop_turn(fixture->loop, SECOND_NS / 10);
		etcd_server_resume(fixture->server);
	}
}

static void use_server(struct fixture *fixture, struct etcd_server *server)
{
	etcd_destroy(fixture->etcd);
	fixture->server = server;
	fixture->etcd = connect_client(fixture, 3 * SECOND_NS);
}

/* etcd out of space takes no put: a node that lives stays registered, and a new one says why it waits. */
static void full_etcd_keeps_who_is_there(void **state)
{
	struct fixture *fixture = *state;
	struct etcd_server *shared = fixture->server;
	static const char *const small[] = {"--quota-backend-bytes", "2097152", NULL};
	struct etcd_server *full = etcd_server_start_with(binary, small, 0);
	assert_non_null(full);
	use_server(fixture, full);
	struct life l;
	start_life(fixture, &l, "c10", 1);
	char *value = malloc(200001);
	memset(value, 'x', 200000);
	value[200000] = 0;
	enum err e = ERR_OK;
	for (int i = 0; i < 200 && e == ERR_OK; i++) { /* etcd weighs itself when it commits: each 100 ms */
		char key[32];
		snprintf(key, sizeof(key), "fill/%d", i);
		e = put(fixture, key, value, 0).e;
		loop_turn(fixture->loop, SECOND_NS / 50);
	}
	free(value);
	assert_int_equal(e, ERR_IO);
	for (int i = 0; i < 60; i++) /* two terms of the lease */
		loop_turn(fixture->loop, SECOND_NS / 10);
	assert_true(l.registered);
	assert_int_equal(recorded(fixture, "c10"), WALL_NS);
	uint64_t number;
	struct why why = {0};
	assert_int_equal(first_number(fixture, "c10", 2, WALL_NS, 2 * SECOND_NS, &number, &why), ERR_DEADLINE);
	assert_non_null(strstr(why.text, "space exceeded"));
	membership_destroy(l.membership);
	use_server(fixture, shared);
	etcd_server_stop(full);
}

static struct etcd *connect_three(struct fixture *fixture, struct etcd_server *servers[3])
{
	const char *urls[3];
	for (int i = 0; i < 3; i++)
		urls[i] = etcd_server_url(servers[i]);
	struct etcd_options options = {.endpoints = urls, .endpoint_count = 3, .call_timeout_ns = 2 * SECOND_NS};
	struct etcd *etcd;
	struct why why;
	assert_int_equal(etcd_create(fixture->loop, &options, &etcd, &why), ERR_OK);
	return etcd;
}

/* One of three dies or hangs, each in turn: the lease is kept, and the record never vanishes. */
static void lost_member_of_three_is_not_noticed(void **state)
{
	struct fixture *fixture = *state;
	struct etcd_server *servers[3];
	assert_int_equal(etcd_server_start_three(binary, servers), 0);
	struct etcd *shared = fixture->etcd;
	fixture->etcd = connect_three(fixture, servers);
	struct life l;
	start_life(fixture, &l, "c11", 1);
	for (int i = 0; i < 3; i++) {
		if (i == 1)
			etcd_server_pause(servers[i]);
		else
			etcd_server_kill(servers[i]);
		for (int turn = 0; turn < 50; turn++)
			loop_turn(fixture->loop, SECOND_NS / 10);
		assert_int_equal(recorded(fixture, "c11"), WALL_NS);
		if (i == 1)
			etcd_server_resume(servers[i]);
		else
			assert_int_equal(etcd_server_restart(servers[i]), 0);
		WAIT_FOR(fixture, 20, l.registered && recorded(fixture, "c11") == WALL_NS);
	}
	assert_int_equal(l.renewed, 0);
	assert_int_equal(l.replaced, 0);
	membership_destroy(l.membership);
	etcd_destroy(fixture->etcd);
	fixture->etcd = shared;
	for (int i = 0; i < 3; i++)
		etcd_server_stop(servers[i]);
}

int main(int argc, char **argv)
{
	int result = fixture_begin(argc, argv);
	if (result != 0)
		return result;
	binary = etcd_server_binary();
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		T(numbers_grow_though_the_wall_clock_went_back_an_hour),
		T(who_claim_at_once_get_different_numbers),
		T(revoked_lease_is_noise),
		T(refused_holder_of_the_name_goes_on_above_what_peers_know),
		T(process_whose_name_another_took_is_told),
		T(ghost_that_wakes_up_finds_out_by_a_refusal),
		T(ghost_that_is_first_in_an_emptied_etcd_gives_way),
		T(emptied_etcd_gets_number_and_record_back_by_itself),
		T(start_without_etcd_says_what_it_waited_for),
		T(paused_etcd_gives_no_number_twice),
		T(full_etcd_keeps_who_is_there),
		T(lost_member_of_three_is_not_noticed),
	};
	result = cmocka_run_group_tests(tests, NULL, NULL);
	fixture_end();
	return result;
}

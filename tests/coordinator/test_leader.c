/* Two coordinators' leadership over a real etcd: hand-over, hanging etcd, emptied etcd. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/core.h"
#include "coordinator/leader.h"
#include "etcd_fixture.h"

#define HOUR_NS 3600000000000ull
#define WALL_NS 1800000000000000000ull

static uint64_t wall_ns = WALL_NS;

struct side {
	struct env env;
	void *memory;
	struct coord *coord;
	struct leader *leader;
};

static uint64_t wall(void)
{
	return wall_ns;
}

static void send(void *context, uint32_t conn, const Wire__Envelope *envelope)
{
	(void)context;
	(void)conn;
	(void)envelope;
}

static enum coord_more on_token(void *context, const struct coord_token *token)
{
	(void)context;
	(void)token;
	return COORD_MORE;
}

static void on_end(void *context, const struct coord_outcome *outcome)
{
	(void)context;
	(void)outcome;
}

static void claim_epoch(void *context, int64_t candidacy, uint64_t beaten)
{
	leader_claim_epoch(((struct side *)context)->leader, candidacy, beaten);
}

static void start(struct fixture *fixture, struct side *side, const char *cluster, const char *name)
{
	*side = (struct side){.env = {.context = side, .send = send}};
	struct coord_options options = {.node = 1, .incarnation = 1, .name = name, .requests_max = 4, .tokens_max = 1 << 12,
					.blocks_max = 1024, .lead_context = side, .claim_epoch = claim_epoch,
					.env = &side->env, .hooks = {.on_token = on_token, .on_end = on_end}};
	side->memory = calloc(1, coord_bytes(&options));
	side->coord = coord_init(side->memory, &options);
	char url[64];
	snprintf(url, sizeof(url), "http://%s:8000", name);
	struct leader_options leader = {.loop = fixture->loop, .etcd = fixture->etcd, .coord = side->coord,
					.cluster = cluster, .name = name, .url = url, .wall_ns = wall};
	assert_int_equal(leader_create(&leader, &side->leader), ERR_OK);
}

static void end(struct side *side)
{
	leader_destroy(side->leader);
	free(side->memory);
}

static uint64_t epoch(struct fixture *fixture, struct side *side)
{
	struct coord_lead lead;
	leader_tick(side->leader);
	coord_tick(side->coord, loop_now_ns(fixture->loop));
	coord_lead(side->coord, loop_now_ns(fixture->loop), &lead);
	return lead.epoch;
}

static void one_leads_the_other_knows_it_and_follows_when_it_resigns(void **state)
{
	struct fixture *fixture = *state;
	struct side a, b;
	start(fixture, &a, "l1", "a");
	WAIT_FOR(fixture, 20, epoch(fixture, &a));
	uint64_t first = epoch(fixture, &a);
	start(fixture, &b, "l1", "b");
	WAIT_FOR(fixture, 20, strcmp(leader_name(b.leader), "a") == 0);
	assert_string_equal(leader_url(b.leader), "http://a:8000");
	assert_int_equal(epoch(fixture, &b), 0);
	WAIT_FOR(fixture, 20, range(fixture, &(struct etcd_range){.prefix = "/baton/l1/leader/"}).reply.kv_count == 2);
	leader_resign(a.leader);
	assert_int_equal(epoch(fixture, &a), 0); /* before etcd has heard of it */
	WAIT_FOR(fixture, 20, epoch(fixture, &b));
	assert_true(epoch(fixture, &b) > first);
	WAIT_FOR(fixture, 20, strcmp(leader_name(a.leader), "b") == 0);
	end(&a);
	end(&b);
}

static void leader_that_hears_nothing_of_etcd_stops_before_its_lease_does(void **state)
{
	struct fixture *fixture = *state;
	struct side a;
	start(fixture, &a, "l2", "a");
	WAIT_FOR(fixture, 20, epoch(fixture, &a));
	uint64_t first = epoch(fixture, &a), began_ns = loop_now_ns(fixture->loop);
	etcd_server_pause(fixture->server);
	WAIT_FOR(fixture, 20, !epoch(fixture, &a));
	assert_true(loop_now_ns(fixture->loop) - began_ns < LEADER_TTL_S * SECOND_NS);
	etcd_server_resume(fixture->server);
	WAIT_FOR(fixture, 30, epoch(fixture, &a));
	assert_true(epoch(fixture, &a) > first);
	end(&a);
}

/* The process itself is stopped: here the clock of the core jumps, and nobody was told of anything. */
static void woken_leader_may_not_send(void **state)
{
	struct fixture *fixture = *state;
	struct side a;
	start(fixture, &a, "l3", "a");
	WAIT_FOR(fixture, 20, epoch(fixture, &a));
	struct coord_lead lead;
	struct why why;
	uint64_t later_ns = loop_now_ns(fixture->loop) + LEADER_TTL_S * SECOND_NS;
	coord_lead(a.coord, later_ns, &lead);
	assert_int_equal(lead.epoch, 0);
	assert_int_equal(coord_direct(a.coord, "decode-1", COORD_WISH_DRAIN, later_ns, &why), ERR_STALE);
	end(&a);
}

static void epochs_grow_also_in_an_emptied_etcd(void **state)
{
	struct fixture *fixture = *state;
	struct side a;
	start(fixture, &a, "l4", "a");
	WAIT_FOR(fixture, 20, epoch(fixture, &a));
	uint64_t first = epoch(fixture, &a);
	assert_int_equal(first, WALL_NS);
	etcd_server_kill(fixture->server);
	etcd_server_wipe(fixture->server);
	wall_ns += HOUR_NS;
	assert_int_equal(etcd_server_restart(fixture->server), 0);
	WAIT_FOR(fixture, 40, epoch(fixture, &a) > first);
	assert_int_equal(epoch(fixture, &a), WALL_NS + HOUR_NS);
	end(&a);
}

int main(int argc, char **argv)
{
	int result = fixture_begin(argc, argv);
	if (result != 0)
		return result;
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		T(one_leads_the_other_knows_it_and_follows_when_it_resigns),
		T(leader_that_hears_nothing_of_etcd_stops_before_its_lease_does),
		T(woken_leader_may_not_send),
		T(epochs_grow_also_in_an_emptied_etcd),
	};
	result = cmocka_run_group_tests(tests, NULL, NULL);
	fixture_end();
	return result;
}

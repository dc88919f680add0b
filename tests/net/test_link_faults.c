/* Peers that die, stop, or come too late: every read ends once, and landings come back only when nobody writes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "link_fixture.h"

#define READS 64
static struct probe probes[READS];

static void start_reads(struct pair *pair, uint8_t *landing, uint64_t length, uint64_t timeout_ns)
{
	for (size_t i = 0; i < READS; i++) {
		struct handle handle = handle_of(i % SLOT_COUNT, 0, length);
		void *at = landing + i * length;
		assert_int_equal(probe_start(pair, &probes[i], &handle, &at, 1, timeout_ns), ERR_OK);
	}
}

static int ended_with(enum err e)
{
	int count = 0;
	for (size_t i = 0; i < READS; i++)
		count += probes[i].done_count == 1 && probes[i].results[0].err == e;
	return count;
}

static void assert_each_ended_once(void)
{
	for (size_t i = 0; i < READS; i++) {
		assert_int_equal(probes[i].done_count, 1);
		assert_int_equal(probes[i].free_count, 1);
		assert_false(probes[i].free_before_done);
	}
}

static void first_contact(struct pair *pair)
{
	struct probe probe;
	char landing[64];
	struct handle handle = handle_of(0, 0, sizeof(landing));
	assert_int_equal(probe_start(pair, &probe, &handle, (void *[]){landing}, 1, 10000 * MS), ERR_OK);
	assert_true(turn_until(pair->loop, &probe.free_count, 1, 12000 * MS));
	assert_int_equal(probe.results[0].err, ERR_OK);
}

static void wait_stopped(pid_t pid)
{
	int status = 0;
	kill(pid, SIGSTOP);
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	assert_true(WIFSTOPPED(status));
}

/* The transport tells; nobody waits for the deadline of 20 s. */
static void killed_peer_ends_every_read_once_and_soon(void **state)
{
	const struct way *way = *state;
	struct pair pair;
	const uint64_t length = 1 << 20;
	uint8_t *landing = malloc(READS * length);
	pair_open(&pair, way);
	first_contact(&pair);
	start_reads(&pair, landing, length, 20000 * MS);
	turn_until(pair.loop, &probes[2].done_count, 1, 5000 * MS);
	uint64_t killed_ns = wall_ns();
	kill(pair.pid, SIGKILL);
	for (size_t i = 0; i < READS; i++)
		assert_true(turn_until(pair.loop, &probes[i].free_count, 1, 5000 * MS));
	uint64_t took_ns = wall_ns() - killed_ns;
	printf("%s: killed, %d of %d read, %d lost, all ended after %.1f ms\n", way->name, ended_with(ERR_OK), READS,
	       ended_with(ERR_PEER_GONE), (double)took_ns / 1e6);
	assert_each_ended_once();
	assert_int_equal(ended_with(ERR_OK) + ended_with(ERR_PEER_GONE), READS);
	assert_true(took_ns < 1000 * MS);
	pair_close(&pair);
	free(landing);
}

static void killed_peer_refuses_new_reads_until_closed(void **state)
{
	struct pair pair;
	struct probe probe;
	char landing[64], text[64] = "";
	struct handle handle = handle_of(0, 0, sizeof(landing));
	pair_open(&pair, *state);
	first_contact(&pair);
	kill(pair.pid, SIGKILL);
	enum err e = ERR_OK;
	for (uint64_t end = wall_ns() + 3000 * MS; e == ERR_OK && wall_ns() < end;) {
		e = probe_start(&pair, &probe, &handle, (void *[]){landing}, 1, 100 * MS);
		if (e == ERR_OK)
			assert_true(turn_until(pair.loop, &probe.free_count, 1, 3000 * MS));
	}
	assert_int_equal(e, ERR_PEER_GONE);
	link_peer_transport(pair.link, PEER_NODE, text, sizeof(text));
	assert_string_equal(text, "lost");
	link_peer_close(pair.link, PEER_NODE);
	assert_int_equal(probe_start(&pair, &probe, &handle, (void *[]){landing}, 1, 100 * MS), ERR_NOT_FOUND);
	pair_close(&pair);
}

static int quarantined(const struct pair *pair)
{
	struct link_counters counters;
	assert_int_equal(link_peer_counters(pair->link, PEER_NODE, &counters), ERR_OK);
	return (int)counters.pieces_quarantined;
}

/* done at the deadline; what the transport may still write stays away from us until it runs on. */
static void stopped_peer_costs_the_deadline_and_its_landings_return_when_it_runs_on(void **state)
{
	const struct way *way = *state;
	struct pair pair;
	const uint64_t length = 1 << 20;
	uint8_t *landing = malloc(READS * length);
	pair_open(&pair, way);
	first_contact(&pair);
	start_reads(&pair, landing, length, 300 * MS);
	turn_until(pair.loop, &probes[0].done_count, 1, 200 * MS);
	wait_stopped(pair.pid);
	uint64_t begin_ns = wall_ns();
	for (size_t i = 0; i < READS; i++)
		assert_true(turn_until(pair.loop, &probes[i].done_count, 1, 2000 * MS));
	uint64_t took_ns = wall_ns() - begin_ns;
	int waiting = 0;
	for (size_t i = 0; i < READS; i++)
		waiting += probes[i].free_count == 0;
	assert_int_equal(waiting, quarantined(&pair));
	printf("%s: stopped, %d of %d read, %d at the deadline, %d quarantined, after %.0f ms\n", way->name,
	       ended_with(ERR_OK), READS, ended_with(ERR_DEADLINE), waiting, (double)took_ns / 1e6);
	assert_true(took_ns < 1000 * MS);
	assert_int_equal(ended_with(ERR_OK) + ended_with(ERR_DEADLINE), READS);
	kill(pair.pid, SIGCONT);
	for (size_t i = 0; i < READS; i++)
		assert_true(turn_until(pair.loop, &probes[i].free_count, 1, 5000 * MS));
	assert_each_ended_once();
	/* And it serves again. */
	first_contact(&pair);
	pair_close(&pair);
	free(landing);
}

static void landings_of_a_stopped_peer_return_when_it_is_closed(void **state)
{
	struct pair pair;
	const uint64_t length = 1 << 20;
	uint8_t *landing = malloc(READS * length);
	pair_open(&pair, *state);
	first_contact(&pair);
	start_reads(&pair, landing, length, 20000 * MS);
	turn_until(pair.loop, &probes[0].done_count, 1, 200 * MS);
	wait_stopped(pair.pid);
	loop_turn(pair.loop, 20 * MS);
	link_peer_close(pair.link, PEER_NODE);
	for (size_t i = 0; i < READS; i++)
		assert_true(turn_until(pair.loop, &probes[i].free_count, 1, 1000 * MS));
	assert_each_ended_once();
	/* Freed for good: whatever the peer still sends must not arrive here. */
	memset(landing, 0xee, READS * length);
	kill(pair.pid, SIGCONT);
	for (int i = 0; i < 10; i++)
		loop_turn(pair.loop, 20 * MS);
	for (size_t i = 0; i < READS * length; i += 512)
		assert_int_equal(landing[i], 0xee);
	pair_close(&pair);
	free(landing);
}

static void canceled_reads_end_once(void **state)
{
	struct pair pair;
	const uint64_t length = 1 << 20;
	uint8_t *landing = malloc(READS * length);
	pair_open(&pair, *state);
	first_contact(&pair);
	start_reads(&pair, landing, length, 20000 * MS);
	for (size_t i = 0; i < READS; i += 2)
		link_read_cancel(probes[i].read);
	link_read_cancel(probes[0].read);
	for (size_t i = 0; i < READS; i++)
		assert_true(turn_until(pair.loop, &probes[i].free_count, 1, 12000 * MS));
	assert_each_ended_once();
	assert_true(ended_with(ERR_CANCELED) > 0);
	for (size_t i = 1; i < READS; i += 2)
		assert_int_equal(probes[i].results[0].err, ERR_OK);
	pair_close(&pair);
	free(landing);
}

static void destroyed_link_gives_every_landing_back_first(void **state)
{
	struct pair pair;
	const uint64_t length = 1 << 20;
	uint8_t *landing = malloc(READS * length);
	pair_open(&pair, *state);
	first_contact(&pair);
	start_reads(&pair, landing, length, 20000 * MS);
	turn_until(pair.loop, &probes[0].done_count, 1, 200 * MS);
	wait_stopped(pair.pid);
	link_destroy(pair.link);
	assert_each_ended_once();
	pair.link = NULL;
	pair_close(&pair);
	free(landing);
}

static void closed_peer_can_be_opened_anew(void **state)
{
	struct pair pair;
	struct why why = {0};
	pair_open(&pair, *state);
	for (int i = 0; i < 3; i++) {
		first_contact(&pair);
		link_peer_close(pair.link, PEER_NODE);
		assert_int_equal(link_peer_open(pair.link, PEER_NODE, PEER_INCARNATION, pair.address.data, pair.address.length,
		                                &why), ERR_OK);
	}
	first_contact(&pair);
	pair_close(&pair);
}

static void stopped_owner_of_mapped_memory_can_be_read(void **state)
{
	struct pair pair;
	pair_open(&pair, &ways[0]);
	first_contact(&pair);
	wait_stopped(pair.pid);
	for (int i = 0; i < 10; i++)
		first_contact(&pair);
	pair_close(&pair);
}

int main(int argc, char **argv)
{
	peer_main(argc, argv);
	int failed = 0;
	for (size_t i = 0; i < way_count; i++) {
		void *way = (void *)&ways[i];
		const struct CMUnitTest tests[] = {
			cmocka_unit_test_prestate(killed_peer_ends_every_read_once_and_soon, way),
			cmocka_unit_test_prestate(killed_peer_refuses_new_reads_until_closed, way),
			cmocka_unit_test_prestate(stopped_peer_costs_the_deadline_and_its_landings_return_when_it_runs_on, way),
			cmocka_unit_test_prestate(landings_of_a_stopped_peer_return_when_it_is_closed, way),
			cmocka_unit_test_prestate(canceled_reads_end_once, way),
			cmocka_unit_test_prestate(destroyed_link_gives_every_landing_back_first, way),
			cmocka_unit_test_prestate(closed_peer_can_be_opened_anew, way),
		};
		failed += cmocka_run_group_tests_name(ways[i].name, tests, NULL, NULL);
	}
	const struct CMUnitTest tests[] = {cmocka_unit_test(stopped_owner_of_mapped_memory_can_be_read)};
	return failed + cmocka_run_group_tests(tests, NULL, NULL);
}

/* The simulated world itself: what streams and reads may do, and what never. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"
#include "net/sim.h"
#include "proto/job.h"

#define MS 1000000ull

enum { BYTES = 64, GOT_MAX = 256 };

/* A node that notes what it is told. */
struct probe {
	struct sim *sim;
	uint32_t index;
	uint32_t conn;           /* the last that opened */
	uint32_t opened, closed, dial_failed;
	uint32_t got;
	uint64_t numbers[GOT_MAX];
	uint64_t at_ms[GOT_MAX];
	uint64_t ticks;
	uint32_t outcomes, frees;
	enum err outcome;
	uint64_t digest;
	uint64_t outcome_ns, free_ns;
	uint8_t memory[BYTES];   /* others read it */
	uint8_t landing[BYTES];
	uint64_t generation;
};

static void on_opened(void *core, uint32_t conn, uint64_t node, uint64_t now_ns)
{
	struct probe *p = core;
	(void)node, (void)now_ns;
	p->conn = conn;
	p->opened++;
}

static void on_closed(void *core, uint32_t conn, uint64_t now_ns)
{
	(void)conn, (void)now_ns;
	((struct probe *)core)->closed++;
}

static void on_dial_failed(void *core, uint64_t node, uint64_t now_ns)
{
	(void)node, (void)now_ns;
	((struct probe *)core)->dial_failed++;
}

static void on_message(void *core, uint32_t conn, const Wire__Envelope *envelope, uint64_t now_ns)
{
	struct probe *p = core;
	(void)conn, (void)now_ns;
	assert_true(p->got < GOT_MAX);
	p->at_ms[p->got] = sim_now(p->sim) / MS;
	p->numbers[p->got++] = envelope->beat->number;
}

static void on_read_done(void *core, uint64_t op, enum err e, uint64_t digest, uint64_t now_ns)
{
	struct probe *p = core;
	assert_int_equal(op, 7);
	p->outcomes++;
	p->outcome = e;
	p->digest = digest;
	p->outcome_ns = now_ns;
}

static void on_landing_free(void *core, uint64_t op, uint64_t now_ns)
{
	struct probe *p = core;
	assert_int_equal(op, 7);
	assert_int_equal(p->outcomes, 1); /* the outcome comes first */
	p->frees++;
	p->free_ns = now_ns;
}

static void on_tick(void *core, uint64_t now_ns)
{
	(void)now_ns;
	((struct probe *)core)->ticks++;
}

static uint8_t *on_landing(void *core, uint32_t landing, uint32_t offset, uint32_t length)
{
	assert_true(landing == 0 && offset + length <= BYTES);
	return ((struct probe *)core)->landing + offset;
}

static const uint8_t *on_memory(void *core, uint32_t region, uint64_t offset, uint32_t length,
				uint64_t *ret_generation)
{
	struct probe *p = core;
	if (region != 0 || offset + length > BYTES)
		return NULL;
	*ret_generation = p->generation;
	return p->memory + offset;
}

static const struct sim_node_ops ops = {on_opened,       on_closed, on_dial_failed, on_message, on_read_done,
					on_landing_free, on_tick,   on_landing,     on_memory};

struct fixture {
	struct sim *sim;
	struct probe a, b;
};

static void start(struct fixture *f, struct probe *p, uint64_t incarnation)
{
	*p = (struct probe){.sim = f->sim, .index = p->index, .generation = 4};
	memset(p->memory, 0x11 * (int)incarnation, BYTES);
	sim_start(f->sim, p->index, incarnation, &ops, p);
}

static int setup(void **state)
{
	static struct fixture f;
	f.sim = sim_create(&(struct sim_options){.seed = 5, .jitter_ns = 2 * MS});
	assert_non_null(f.sim);
	f.a.index = sim_add(f.sim, 10, "a");
	f.b.index = sim_add(f.sim, 20, "b");
	start(&f, &f.a, 1);
	start(&f, &f.b, 1);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	sim_destroy(((struct fixture *)*state)->sim);
	return 0;
}

static void connect_nodes(struct fixture *f)
{
	const struct env *env = sim_env(f->sim, f->a.index);
	env->dial(env->context, 20);
	sim_run(f->sim, sim_now(f->sim) + 10 * MS);
	env->link_open(env->context, 20, 1, NULL, 0);
}

static void say(struct fixture *f, const struct probe *from, uint64_t number)
{
	Wire__Beat beat = WIRE__BEAT__INIT;
	beat.number = number;
	PROTO_ENVELOPE(envelope, BEAT, beat, &beat);
	const struct env *env = sim_env(f->sim, from->index);
	env->send(env->context, from->conn, &envelope);
}

static void read_b(struct fixture *f, uint64_t generation, uint64_t timeout_ns)
{
	const struct env *env = sim_env(f->sim, f->a.index);
	struct env_read read = {.op = 7, .node = 20, .length = BYTES, .generation = generation,
				.deadline_ns = sim_local(f->sim, f->a.index) + timeout_ns};
	memset(f->a.landing, 0, BYTES);
	env->read(env->context, &read);
}

static void frames_come_in_order_and_once(void **state)
{
	struct fixture *f = *state;
	connect_nodes(f);
	assert_int_equal(f->a.opened + f->b.opened, 2);
	for (uint64_t i = 0; i < 200; i++)
		say(f, &f->a, i);
	sim_run(f->sim, 1000 * MS);
	assert_int_equal(f->b.got, 200);
	for (uint64_t i = 0; i < 200; i++)
		assert_int_equal(f->b.numbers[i], i);
}

static void frame_of_a_broken_connection_never_comes(void **state)
{
	struct fixture *f = *state;
	connect_nodes(f);
	say(f, &f->a, 1);
	sim_cut(f->sim, f->a.index, f->b.index);
	say(f, &f->a, 2);
	sim_run(f->sim, 1000 * MS);
	assert_int_equal(f->b.got, 0);
	assert_int_equal(f->a.closed, 1);
	assert_int_equal(f->b.closed, 1);
	connect_nodes(f);
	say(f, &f->a, 3);
	sim_run(f->sim, 2000 * MS);
	assert_int_equal(f->b.got, 1);
	assert_int_equal(f->b.numbers[0], 3);
}

static void blocked_way_delivers_when_it_opens_again(void **state)
{
	struct fixture *f = *state;
	connect_nodes(f);
	sim_block(f->sim, f->a.index, f->b.index, 500 * MS);
	say(f, &f->a, 1);
	say(f, &f->b, 2); /* the other way is open */
	sim_run(f->sim, 400 * MS);
	assert_int_equal(f->b.got, 0);
	assert_int_equal(f->a.got, 1);
	const struct env *env = sim_env(f->sim, f->a.index);
	env->dial(env->context, 20);
	sim_run(f->sim, 3000 * MS);
	assert_int_equal(f->b.got, 1);
	assert_in_range(f->b.at_ms[0], 500, 510);
	assert_int_equal(f->a.dial_failed, 1);
}

static void stopped_node_hears_all_when_it_goes_on(void **state)
{
	struct fixture *f = *state;
	connect_nodes(f);
	sim_stop(f->sim, f->b.index);
	uint64_t ticks = f->b.ticks;
	for (uint64_t i = 0; i < 5; i++)
		say(f, &f->a, i);
	sim_run(f->sim, 1000 * MS);
	assert_int_equal(f->b.got, 0);
	assert_int_equal(f->b.ticks, ticks);
	sim_continue(f->sim, f->b.index);
	sim_run(f->sim, 1001 * MS);
	assert_int_equal(f->b.got, 5);
	assert_int_equal(f->b.numbers[4], 4);
	assert_int_equal(f->b.ticks, ticks + 1); /* a late timer fires once */
}

static void peer_hears_of_a_death_and_another_life_is_another(void **state)
{
	struct fixture *f = *state;
	connect_nodes(f);
	sim_kill(f->sim, f->b.index);
	sim_run(f->sim, 100 * MS);
	assert_int_equal(f->a.closed, 1);
	start(f, &f->b, 2);
	read_b(f, 4, 100 * MS); /* still linked to the first life */
	sim_run(f->sim, 300 * MS);
	assert_int_equal(f->a.outcome, ERR_PEER_GONE);
	assert_int_equal(f->a.frees, 1);
}

static void good_read_brings_the_bytes_and_their_digest(void **state)
{
	struct fixture *f = *state;
	connect_nodes(f);
	read_b(f, 4, 100 * MS);
	sim_run(f->sim, 300 * MS);
	assert_int_equal(f->a.outcomes + f->a.frees, 2);
	assert_int_equal(f->a.outcome, ERR_OK);
	assert_memory_equal(f->a.landing, f->b.memory, BYTES);
	assert_int_equal(f->a.digest, hash_xxh3(f->b.memory, BYTES, 0));
}

static void read_of_another_generation_is_stale(void **state)
{
	struct fixture *f = *state;
	connect_nodes(f);
	read_b(f, 3, 100 * MS);
	sim_run(f->sim, 300 * MS);
	assert_int_equal(f->a.outcome, ERR_STALE);
	assert_int_equal(f->a.frees, 1);
}

/* Each fault of a read, by its outcome, and whether the digest gives it away. */
static void faulty_reads_end_as_they_should(void **state)
{
	struct fixture *f = *state;
	static const struct {
		enum sim_read_fault fault;
		enum err outcome;
		bool same_bytes;
	} cases[] = {
		{SIM_READ_DROP, ERR_DEADLINE, false}, {SIM_READ_LATE, ERR_DEADLINE, true},
		{SIM_READ_DUP, ERR_OK, true},         {SIM_READ_CORRUPT, ERR_OK, false},
		{SIM_READ_TORN, ERR_OK, false},       {SIM_READ_STALE, ERR_OK, true},
	};
	connect_nodes(f);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		f->a.outcomes = f->a.frees = 0;
		sim_read_faults(f->sim, f->a.index, f->b.index, cases[i].fault, 1000, sim_now(f->sim) + 1);
		read_b(f, 4, 500 * MS);
		sim_run(f->sim, sim_now(f->sim) + 2000 * MS);
		assert_int_equal(f->a.outcomes, 1);
		assert_int_equal(f->a.frees, 1);
		assert_int_equal(f->a.outcome, cases[i].outcome);
		assert_int_equal(memcmp(f->a.landing, f->b.memory, BYTES) == 0, cases[i].same_bytes);
		if (f->a.outcome == ERR_OK)
			assert_int_equal(f->a.digest, hash_xxh3(f->a.landing, BYTES, 0));
	}
	struct sim_counters counters;
	sim_counters(f->sim, &counters);
	assert_true(counters.late_writes >= 2); /* LATE and DUP wrote after the outcome */
}

static void skewed_clock_runs_at_its_own_rate(void **state)
{
	struct fixture *f = *state;
	uint64_t a_ns = sim_local(f->sim, f->a.index), b_ns = sim_local(f->sim, f->b.index);
	sim_skew(f->sim, f->a.index, (1 << 20) / 2);
	sim_run(f->sim, 1000 * MS);
	assert_int_equal(sim_local(f->sim, f->a.index) - a_ns, 500 * MS);
	assert_int_equal(sim_local(f->sim, f->b.index) - b_ns, 1000 * MS);
}

static void stepped_clock_goes_on_from_there(void **state)
{
	struct fixture *f = *state;
	uint64_t a_ns = sim_local(f->sim, f->a.index);
	sim_step(f->sim, f->a.index, 3600 * 1000 * MS);
	sim_run(f->sim, 1000 * MS);
	assert_int_equal(sim_local(f->sim, f->a.index) - a_ns, 3601 * 1000 * MS);
}

static void half_open_connection_ends_late_at_one_side(void **state)
{
	struct fixture *f = *state;
	connect_nodes(f);
	uint64_t now_ns = sim_now(f->sim);
	sim_cut_half(f->sim, f->b.index, f->a.index, 300 * MS);
	say(f, &f->a, 1);
	sim_run(f->sim, now_ns + 299 * MS);
	assert_int_equal(f->b.closed, 1);
	assert_int_equal(f->a.closed, 0);
	sim_run(f->sim, now_ns + 301 * MS);
	assert_int_equal(f->a.closed, 1);
	assert_int_equal(f->b.got, 0);
}

static void echo_says_each_frame_twice_at_once_or_late(void **state)
{
	struct fixture *f = *state;
	connect_nodes(f);
	sim_echo(f->sim, f->a.index, 1000, 0, 1000 * MS);
	for (uint64_t i = 0; i < 10; i++)
		say(f, &f->a, i);
	sim_run(f->sim, 500 * MS);
	assert_int_equal(f->b.got, 20);
	for (uint64_t i = 0; i < 20; i++)
		assert_int_equal(f->b.numbers[i], i / 2);
	sim_echo(f->sim, f->a.index, 1000, 300 * MS, 1000 * MS);
	say(f, &f->a, 77);
	say(f, &f->b, 5); /* b does not repeat itself */
	sim_cut(f->sim, f->a.index, f->b.index); /* nothing comes through a broken connection, late or not */
	sim_run(f->sim, 1500 * MS);
	assert_int_equal(f->b.got, 20);
	assert_int_equal(f->a.got, 0);
	connect_nodes(f);
	sim_echo(f->sim, f->a.index, 1000, 300 * MS, 3000 * MS);
	say(f, &f->a, 78);
	sim_run(f->sim, 3000 * MS);
	assert_int_equal(f->b.got, 22);
	assert_int_equal(f->b.numbers[20], 78);
	assert_int_equal(f->b.numbers[21], 78);
}

static void foreign_read_brings_what_lies_beside(void **state)
{
	struct fixture *f = *state;
	connect_nodes(f);
	memset(f->b.memory + BYTES / 2, 0x99, BYTES / 2);
	sim_read_faults(f->sim, f->a.index, f->b.index, SIM_READ_FOREIGN, 1000, 1000 * MS);
	const struct env *env = sim_env(f->sim, f->a.index);
	struct env_read read = {.op = 7, .node = 20, .length = BYTES / 2, .generation = 4,
				.deadline_ns = sim_local(f->sim, f->a.index) + 100 * MS};
	env->read(env->context, &read);
	sim_run(f->sim, sim_now(f->sim) + 200 * MS);
	assert_int_equal(f->a.outcomes, 1);
	assert_int_equal(f->a.outcome, ERR_OK);
	assert_memory_equal(f->a.landing, f->b.memory + BYTES / 2, BYTES / 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(frames_come_in_order_and_once),
		T(frame_of_a_broken_connection_never_comes),
		T(blocked_way_delivers_when_it_opens_again),
		T(stopped_node_hears_all_when_it_goes_on),
		T(peer_hears_of_a_death_and_another_life_is_another),
		T(good_read_brings_the_bytes_and_their_digest),
		T(read_of_another_generation_is_stale),
		T(faulty_reads_end_as_they_should),
		T(skewed_clock_runs_at_its_own_rate),
		T(stepped_clock_goes_on_from_there),
		T(half_open_connection_ends_late_at_one_side),
		T(echo_says_each_frame_twice_at_once_or_late),
		T(foreign_read_brings_what_lies_beside),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

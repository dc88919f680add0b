/* Two nodes, one wire, a clock that the test moves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "net/session.h"
#include "proto/codec.h"

enum { QUEUE_MAX = 256, NS_PER_MS = 1000000 };

struct side {
	struct env env;
	struct sessions *sessions;
	void *memory;
	int ups, downs;
	enum err down_why;
	int dials, closes, link_opens, link_closes;
	int strangers;
	int crowded;
	int outranked;
	uint64_t outranked_by;
	bool outranked_lives;
};

struct frame {
	int to;
	size_t length;
	uint8_t bytes[1024];
};

static struct side sides[2];
static struct frame queue[QUEUE_MAX];
static int queue_count;
static bool deaf[2]; /* what is sent to this side is lost */
static uint64_t now_ns;
static uint8_t arena_memory[65536];

static int index_of(const void *side)
{
	return side == &sides[1];
}

static void hook_send(void *context, uint32_t conn, const Wire__Envelope *envelope)
{
	(void)conn;
	int to = !index_of(context);
	if (deaf[to])
		return;
	assert_true(queue_count < QUEUE_MAX);
	struct frame *frame = &queue[queue_count++];
	frame->to = to;
	frame->length = codec_pack(envelope, frame->bytes);
}

static void hook_close(void *context, uint32_t conn)
{
	(void)conn;
	((struct side *)context)->closes++;
}

static void hook_dial(void *context, uint64_t node)
{
	(void)node;
	((struct side *)context)->dials++;
}

static void hook_link_open(void *context, uint64_t node, uint64_t incarnation, const uint8_t *address, size_t length)
{
	(void)node;
	(void)incarnation;
	assert_int_equal(length, 4);
	assert_memory_equal(address, "addr", 4);
	((struct side *)context)->link_opens++;
}

static void hook_link_close(void *context, uint64_t node)
{
	(void)node;
	((struct side *)context)->link_closes++;
}

static void hook_outranked(void *context, uint64_t incarnation, bool lives)
{
	struct side *side = context;
	side->outranked++;
	side->outranked_by = incarnation;
	side->outranked_lives = lives;
}

static void hook_stranger(void *context, const char *name, const char *cluster)
{
	assert_string_equal(name, "a");
	assert_string_equal(cluster, "green");
	((struct side *)context)->strangers++;
}

static void hook_crowded(void *context, const char *name, uint32_t most)
{
	assert_string_equal(name, "x");
	assert_int_equal(most, 4);
	((struct side *)context)->crowded++;
}

static void up(void *context, uint32_t peer)
{
	(void)peer;
	((struct side *)context)->ups++;
}

static void down(void *context, uint32_t peer, enum err why)
{
	(void)peer;
	((struct side *)context)->downs++;
	((struct side *)context)->down_why = why;
}

static const char *cluster_of_a = "blue"; /* b's is blue */

static void make_side(int i, uint64_t incarnation)
{
	free(sides[i].memory);
	sides[i] = (struct side){0};
	sides[i].env = (struct env){.context = &sides[i], .send = hook_send, .close = hook_close, .dial = hook_dial,
				    .link_open = hook_link_open, .link_close = hook_link_close, .outranked = hook_outranked, .stranger = i ? hook_stranger : NULL, .crowded = hook_crowded};
	struct session_options options = {
		.node = (uint64_t)i + 1, .incarnation = incarnation, .role = WIRE__ROLE__ROLE_DECODE, .name = i ? "b" : "a",
		.cluster = i ? "blue" : cluster_of_a,
		.link_address = (const uint8_t *)"addr", .link_address_length = 4, .peer_max = 4,
		.env = &sides[i].env, .context = &sides[i], .up = up, .down = down,
	};
	sides[i].memory = malloc(sessions_bytes(&options));
	sides[i].sessions = sessions_init(sides[i].memory, &options);
}

static int setup(void **state)
{
	now_ns = 1000 * NS_PER_MS;
	queue_count = 0;
	deaf[0] = deaf[1] = false;
	make_side(0, 10);
	make_side(1, 20);
	return 0;
}

static int teardown(void **state)
{
	for (int i = 0; i < 2; i++) {
		free(sides[i].memory);
		sides[i].memory = NULL;
	}
	return 0;
}

static void deliver(uint32_t conn_a, uint32_t conn_b)
{
	for (int i = 0; i < queue_count; i++) {
		struct codec_arena arena = {.memory = arena_memory, .capacity = sizeof(arena_memory)};
		Wire__Envelope *envelope;
		assert_int_equal(codec_unpack(&arena, queue[i].bytes, queue[i].length, NULL, &envelope), ERR_OK);
		int to = queue[i].to;
		assert_int_equal(sessions_message(sides[to].sessions, to ? conn_b : conn_a, envelope, now_ns), PEER_NONE);
	}
	queue_count = 0;
}

static void connect_sides(uint32_t conn)
{
	sessions_want(sides[0].sessions, 2, 20, now_ns);
	sessions_opened(sides[0].sessions, conn, 2, now_ns);
	sessions_opened(sides[1].sessions, conn, 0, now_ns);
	deliver(conn, conn);
}

/* Time passes in beats; frames arrive at once. */
static void run_ms(int ms)
{
	for (int i = 0; i < ms; i += 50) {
		now_ns += 50 * NS_PER_MS;
		for (int s = 0; s < 2; s++)
			sessions_tick(sides[s].sessions, now_ns);
		deliver(7, 7);
	}
}

static void greeting_makes_a_session_on_both_sides(void **state)
{
	connect_sides(7);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(sides[i].ups, 1);
		assert_int_equal(sides[i].link_opens, 1);
		uint32_t peer = sessions_find(sides[i].sessions, i ? 1 : 2);
		assert_string_equal(sessions_peer(sides[i].sessions, peer)->name, i ? "a" : "b");
	}
}

/* Another cluster's a has the same name and number, and a later life: b neither greets it nor learns from it. */
static void node_of_another_cluster_gets_no_session_and_changes_nothing(void **state)
{
	connect_sides(7);
	sessions_closed(sides[1].sessions, 7, now_ns);
	cluster_of_a = "green";
	make_side(0, 1000);
	cluster_of_a = "blue";
	connect_sides(8);
	assert_int_equal(sides[0].ups, 0);
	assert_int_equal(sides[0].closes, 1); /* it dialled */
	assert_int_equal(sides[1].ups, 1);
	assert_int_equal(sides[1].strangers, 1);
	assert_int_equal(sides[1].closes, 0); /* its Hello is on its way */
	Wire__Refused refused = WIRE__REFUSED__INIT;
	refused.incarnation = 5000;
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.version = PROTO_VERSION;
	envelope.body_case = WIRE__ENVELOPE__BODY_REFUSED;
	envelope.refused = &refused;
	assert_int_equal(sessions_message(sides[1].sessions, 8, &envelope, now_ns), PEER_NONE);
	assert_int_equal(sides[1].outranked, 0);
	now_ns += 2500ull * NS_PER_MS;
	sessions_tick(sides[1].sessions, now_ns);
	assert_int_equal(sides[1].closes, 1); /* who does not close is closed */
	/* Its incarnation was not heard of: ours comes back. */
	make_side(0, 11);
	connect_sides(9);
	assert_int_equal(sides[0].ups, 1);
	assert_int_equal(sides[1].ups, 2);
}

static void beats_keep_it_for_ever(void **state)
{
	connect_sides(7);
	run_ms(60000);
	assert_int_equal(sides[0].downs + sides[1].downs, 0);
}

static void silence_ends_it_within_the_term_on_both_sides(void **state)
{
	connect_sides(7);
	run_ms(1000);
	deaf[0] = deaf[1] = true;
	uint64_t begin = now_ns;
	while (sides[0].downs == 0 || sides[1].downs == 0)
		run_ms(50);
	assert_true(now_ns - begin <= SESSION_TERM_NS + 100 * NS_PER_MS);
	assert_true(now_ns - begin >= SESSION_TERM_NS - SESSION_BEAT_NS - 100 * NS_PER_MS);
	assert_int_equal(sides[0].down_why, ERR_DEADLINE);
	assert_int_equal(sides[0].link_closes, 1);
}

/* Only what A sends is lost: A hears B, but none of its beats is acknowledged.  Each side must stop reading from the other
 * before the other frees what it holds. */
static void each_user_stops_before_the_holder_frees(void **state)
{
	for (int phase = 0; phase < 10; phase++) {
		setup(state);
		connect_sides(7);
		run_ms(1000 + 50 * phase);
		deaf[1] = true;
		uint64_t stopped[2] = {0}, freed[2] = {0};
		for (int i = 0; i < 100 && !(freed[0] && freed[1]); i++) {
			run_ms(50);
			for (int s = 0; s < 2; s++) {
				if (sides[s].link_closes && !stopped[s])
					stopped[s] = now_ns;
				if (sides[s].downs && !freed[s])
					freed[s] = now_ns;
			}
		}
		assert_true(freed[0] && freed[1]);
		assert_true(stopped[0] < freed[1]);
		assert_true(stopped[1] < freed[0]);
		assert_int_equal(sides[0].link_closes + sides[1].link_closes, 2);
	}
}

/* The acknowledgements come back while it fades: it ends all the same, for its link is closed already. */
static void fading_session_does_not_linger(void **state)
{
	connect_sides(7);
	run_ms(1000);
	deaf[1] = true;
	while (!sides[0].link_closes)
		run_ms(50);
	assert_int_equal(sides[0].downs, 0);
	deaf[1] = false;
	run_ms(1000);
	assert_int_equal(sides[0].downs, 1);
	assert_int_equal(sides[0].link_closes, 1);
}

static void closed_connection_ends_it_at_once(void **state)
{
	connect_sides(7);
	sessions_closed(sides[0].sessions, 7, now_ns);
	assert_int_equal(sides[0].downs, 1);
	assert_int_equal(sides[0].down_why, ERR_PEER_GONE);
	assert_int_equal(sessions_find(sides[0].sessions, 2), PEER_NONE);
}

static void older_incarnation_is_refused(void **state)
{
	connect_sides(7);
	sessions_closed(sides[0].sessions, 7, now_ns);
	make_side(1, 19); /* an older life of B wakes up */
	sessions_opened(sides[0].sessions, 8, 0, now_ns);
	sessions_opened(sides[1].sessions, 8, 0, now_ns);
	deliver(8, 8);
	assert_int_equal(sides[0].ups, 1);
	/* It was told which life is known, gave up its session, and closed: a close of ours could overtake the words. */
	assert_int_equal(sides[1].outranked, 1);
	assert_int_equal(sides[1].outranked_by, 20);
	assert_false(sides[1].outranked_lives);
	assert_int_equal(sessions_count(sides[1].sessions), 0);
	assert_int_equal(sides[1].ups, sides[1].downs);
	assert_int_equal(sides[1].closes, 1);
}

static void ghost_that_does_not_close_is_closed_after_a_term(void **state)
{
	connect_sides(7);
	sessions_closed(sides[0].sessions, 7, now_ns);
	make_side(1, 19);
	sessions_opened(sides[0].sessions, 8, 0, now_ns);
	sessions_opened(sides[1].sessions, 8, 0, now_ns);
	deaf[1] = true;
	deliver(8, 8);
	assert_int_equal(sides[0].closes, 0);
	now_ns += SESSION_TERM_NS;
	sessions_tick(sides[0].sessions, now_ns);
	assert_int_equal(sides[0].closes, 1);
}

static void refusal_says_whether_the_later_life_lives(void **state)
{
	connect_sides(7); /* incarnation 20 lives */
	struct sessions *living = sides[1].sessions;
	sides[1].sessions = NULL;
	void *memory = sides[1].memory;
	sides[1].memory = NULL;
	make_side(1, 19);
	sessions_opened(sides[0].sessions, 8, 0, now_ns);
	sessions_opened(sides[1].sessions, 8, 0, now_ns);
	deliver(8, 8);
	assert_int_equal(sides[1].outranked, 1);
	assert_true(sides[1].outranked_lives);
	assert_int_equal(sessions_count(sides[0].sessions), 1);
	assert_int_equal(sessions_count(living), 1);
	free(memory);
}

static void dialled_node_learns_from_the_greeting_that_it_is_outranked(void **state)
{
	sessions_want(sides[0].sessions, 2, 25, now_ns);
	sessions_opened(sides[0].sessions, 8, 2, now_ns);
	sessions_opened(sides[1].sessions, 8, 0, now_ns);
	deliver(8, 8);
	assert_int_equal(sides[1].outranked_by, 25);
	assert_int_equal(sessions_count(sides[0].sessions), 0);
	assert_int_equal(sessions_count(sides[1].sessions), 0);
}

static void renewed_node_is_taken_again_under_its_higher_number(void **state)
{
	connect_sides(7);
	sessions_closed(sides[0].sessions, 7, now_ns);
	make_side(1, 19);
	sessions_opened(sides[0].sessions, 8, 0, now_ns);
	sessions_opened(sides[1].sessions, 8, 0, now_ns);
	deliver(8, 8);
	sessions_renew(sides[1].sessions, 21, (const uint8_t *)"addr", 4, now_ns);
	sessions_closed(sides[0].sessions, 8, now_ns);
	sessions_opened(sides[0].sessions, 9, 0, now_ns);
	sessions_opened(sides[1].sessions, 9, 0, now_ns);
	deliver(9, 9);
	uint32_t peer = sessions_find(sides[0].sessions, 2);
	assert_int_equal(sessions_peer(sides[0].sessions, peer)->incarnation, 21);
}

static void renewing_ends_what_lives_under_the_old_number(void **state)
{
	connect_sides(7);
	sessions_renew(sides[1].sessions, 21, (const uint8_t *)"addr", 4, now_ns);
	assert_int_equal(sides[1].downs, 1);
	assert_int_equal(sides[1].down_why, ERR_STALE);
	assert_int_equal(sides[1].closes, 1);
	assert_int_equal(sessions_count(sides[1].sessions), 0);
}

static void newer_incarnation_ends_the_older_session_first(void **state)
{
	connect_sides(7);
	make_side(1, 21);
	sessions_opened(sides[0].sessions, 8, 0, now_ns);
	sessions_opened(sides[1].sessions, 8, 0, now_ns);
	deliver(8, 8);
	assert_int_equal(sides[0].downs, 1);
	assert_int_equal(sides[0].ups, 2);
	uint32_t peer = sessions_find(sides[0].sessions, 2);
	assert_int_equal(sessions_peer(sides[0].sessions, peer)->incarnation, 21);
}

static void wanted_node_is_dialled_again_until_it_answers(void **state)
{
	sessions_want(sides[0].sessions, 2, 0, now_ns);
	for (int i = 1; i <= 5; i++) {
		sessions_tick(sides[0].sessions, now_ns);
		assert_int_equal(sides[0].dials, i);
		sessions_tick(sides[0].sessions, now_ns + 1); /* one dial at a time */
		assert_int_equal(sides[0].dials, i);
		sessions_dial_failed(sides[0].sessions, 2, now_ns);
		now_ns += SESSION_REDIAL_NS;
	}
	connect_sides(7);
	run_ms(2000);
	assert_int_equal(sides[0].dials, 5);
}

static void silent_connection_is_closed_after_a_term(void **state)
{
	sessions_opened(sides[0].sessions, 9, 0, now_ns);
	queue_count = 0;
	now_ns += SESSION_TERM_NS;
	sessions_tick(sides[0].sessions, now_ns);
	assert_int_equal(sides[0].closes, 1);
}

/* A node greets side 0 on that connection. */
static void greet(uint32_t conn, uint64_t dialed, uint64_t node)
{
	sessions_opened(sides[0].sessions, conn, dialed, now_ns);
	Wire__Hello hello = WIRE__HELLO__INIT;
	hello.node = node;
	hello.incarnation = 1;
	hello.role = WIRE__ROLE__ROLE_DECODE;
	hello.name = "x";
	hello.cluster = "blue";
	hello.link_address = (ProtobufCBinaryData){4, (uint8_t *)"addr"};
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.version = PROTO_VERSION;
	envelope.body_case = WIRE__ENVELOPE__BODY_HELLO;
	envelope.hello = &hello;
	sessions_message(sides[0].sessions, conn, &envelope, now_ns);
}

/* It is said and counted, and the refused ones are not greeted: no session begins there. */
static void no_room_for_one_more_peer_refuses_it(void **state)
{
	for (uint32_t i = 0; i < 6; i++)
		greet(100 + i, 0, 50 + i);
	assert_int_equal(sessions_count(sides[0].sessions), 4);
	assert_int_equal(sides[0].closes, 2);
	assert_int_equal(sides[0].crowded, 2);
	assert_int_equal(queue_count, 4); /* Hellos */
	/* Who has a session may come anew; a place that is free is taken by who comes again. */
	greet(110, 0, 50);
	assert_int_equal(sides[0].downs, 1);
	assert_int_equal(queue_count, 5);
	sessions_closed(sides[0].sessions, 101, now_ns);
	greet(111, 0, 54);
	assert_int_equal(queue_count, 6);
	assert_int_equal(sessions_count(sides[0].sessions), 4);
	assert_int_not_equal(sessions_find(sides[0].sessions, 54), PEER_NONE);
	assert_int_equal(sides[0].crowded, 2);
}

/* And a wanted node whose connection comes too late is dialled when there is a place for it. */
static void full_node_dials_nobody_until_it_has_room(void **state)
{
	sessions_want(sides[0].sessions, 60, 0, now_ns);
	sessions_tick(sides[0].sessions, now_ns);
	assert_int_equal(sides[0].dials, 1);
	for (uint32_t i = 0; i < 4; i++)
		greet(100 + i, 0, 50 + i);
	greet(104, 60, 60);
	assert_int_equal(sides[0].crowded, 1);
	assert_int_equal(sides[0].closes, 1);
	now_ns += SESSION_REDIAL_NS;
	sessions_tick(sides[0].sessions, now_ns);
	assert_int_equal(sides[0].dials, 1);
	sessions_closed(sides[0].sessions, 100, now_ns);
	sessions_tick(sides[0].sessions, now_ns);
	assert_int_equal(sides[0].dials, 2);
}

static void node_that_has_no_room_is_asked_less_often(void **state)
{
	sessions_want(sides[0].sessions, 2, 0, now_ns);
	sessions_tick(sides[0].sessions, now_ns);
	sessions_opened(sides[0].sessions, 9, 2, now_ns);
	sessions_closed(sides[0].sessions, 9, now_ns);
	now_ns += 9 * SESSION_REDIAL_NS;
	sessions_tick(sides[0].sessions, now_ns);
	assert_int_equal(sides[0].dials, 1);
	now_ns += SESSION_REDIAL_NS;
	sessions_tick(sides[0].sessions, now_ns);
	assert_int_equal(sides[0].dials, 2);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(greeting_makes_a_session_on_both_sides),
		TEST(node_of_another_cluster_gets_no_session_and_changes_nothing),
		TEST(beats_keep_it_for_ever),
		TEST(silence_ends_it_within_the_term_on_both_sides),
		TEST(each_user_stops_before_the_holder_frees),
		TEST(fading_session_does_not_linger),
		TEST(closed_connection_ends_it_at_once),
		TEST(older_incarnation_is_refused),
		TEST(ghost_that_does_not_close_is_closed_after_a_term),
		TEST(refusal_says_whether_the_later_life_lives),
		TEST(dialled_node_learns_from_the_greeting_that_it_is_outranked),
		TEST(renewed_node_is_taken_again_under_its_higher_number),
		TEST(renewing_ends_what_lives_under_the_old_number),
		TEST(newer_incarnation_ends_the_older_session_first),
		TEST(wanted_node_is_dialled_again_until_it_answers),
		TEST(silent_connection_is_closed_after_a_term),
		TEST(no_room_for_one_more_peer_refuses_it),
		TEST(full_node_dials_nobody_until_it_has_room),
		TEST(node_that_has_no_room_is_asked_less_often),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

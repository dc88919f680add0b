/* The loop: clock, order of timers, tasks from other threads, descriptors, signals. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/loop.h"

struct trace {
	struct loop *loop;
	char text[64];
};

static int setup(void **state)
{
	struct loop *loop;
	if (loop_create(&loop) != ERR_OK)
		return -1;
	*state = loop;
	return 0;
}

static int teardown(void **state)
{
	loop_destroy(*state);
	return 0;
}

/* ---- timers ---- */

struct named_timer {
	struct loop_timer *timer;
	struct trace *trace;
	const char *name;
	uint64_t due_ns;
};

static int timers_left;

static void on_named_timer(struct loop_timer *timer, void *arg)
{
	struct named_timer *named = arg;
	assert_true(loop_now_ns(named->trace->loop) >= named->due_ns);
	assert_false(loop_timer_armed(timer));
	strcat(named->trace->text, named->name);
	if (--timers_left == 0)
		loop_stop(named->trace->loop);
}

static void timers_fire_in_order_of_deadline_and_not_before(void **state)
{
	struct trace trace = {.loop = *state};
	struct named_timer timers[4] = {{.name = "a"}, {.name = "b"}, {.name = "c"}, {.name = "d"}};
	const uint64_t delay_ms[4] = {9, 3, 12, 6};
	timers_left = 4;
	for (int i = 0; i < 4; i++) {
		timers[i].trace = &trace;
		assert_int_equal(loop_timer_create(trace.loop, on_named_timer, &timers[i], &timers[i].timer), ERR_OK);
		timers[i].due_ns = loop_now_ns(trace.loop) + delay_ms[i] * 1000000;
		loop_timer_arm(timers[i].timer, delay_ms[i] * 1000000);
		assert_true(loop_timer_armed(timers[i].timer));
	}
	loop_run(trace.loop);
	assert_string_equal(trace.text, "bdac");
	for (int i = 0; i < 4; i++)
		loop_timer_destroy(timers[i].timer);
}

static void arming_again_moves_the_deadline_and_cancel_forgets_it(void **state)
{
	struct trace trace = {.loop = *state};
	struct named_timer moved = {.name = "m", .trace = &trace}, gone = {.name = "g", .trace = &trace},
			   last = {.name = "l", .trace = &trace};
	struct named_timer *all[] = {&moved, &gone, &last};
	for (int i = 0; i < 3; i++)
		assert_int_equal(loop_timer_create(trace.loop, on_named_timer, all[i], &all[i]->timer), ERR_OK);
	timers_left = 2;
	loop_timer_arm(moved.timer, 1000000);
	loop_timer_arm(gone.timer, 2000000);
	loop_timer_arm(last.timer, 4000000);
	loop_timer_arm(moved.timer, 8000000);
	loop_timer_cancel(gone.timer);
	loop_run(trace.loop);
	assert_string_equal(trace.text, "lm");
	for (int i = 0; i < 3; i++)
		loop_timer_destroy(all[i]->timer);
	loop_timer_destroy(NULL);
}

static void destroy_timer(struct loop_timer *timer, void *arg)
{
	loop_timer_destroy(timer);
	loop_stop(arg);
}

static void a_timer_may_destroy_itself(void **state)
{
	struct loop_timer *timer;
	assert_int_equal(loop_timer_create(*state, destroy_timer, *state, &timer), ERR_OK);
	loop_timer_arm(timer, 0);
	loop_run(*state);
}

/* ---- tasks ---- */

enum { POSTERS = 4, POSTS = 2000 };
struct poster;
struct numbered_task {
	struct loop_task task;
	struct poster *poster;
	int number;
};
struct poster {
	struct loop *loop;
	int seen; /* by the loop */
	struct numbered_task tasks[POSTS];
};
static int posters_done;

static void on_numbered(void *arg)
{
	struct numbered_task *numbered = arg;
	assert_int_equal(numbered->number, numbered->poster->seen);
	if (++numbered->poster->seen == POSTS && ++posters_done == POSTERS)
		loop_stop(numbered->poster->loop);
}

static void *poster_run(void *arg)
{
	struct poster *poster = arg;
	for (int i = 0; i < POSTS; i++) {
		struct numbered_task *numbered = &poster->tasks[i];
		numbered->poster = poster;
		numbered->number = i;
		loop_task_init(&numbered->task, on_numbered, numbered);
		loop_post(poster->loop, &numbered->task);
	}
	return NULL;
}

static void posts_of_threads_arrive_once_each_in_the_order_of_their_thread(void **state)
{
	static struct poster posters[POSTERS];
	pthread_t threads[POSTERS];
	posters_done = 0;
	memset(posters, 0, sizeof(posters));
	for (int i = 0; i < POSTERS; i++) {
		posters[i].loop = *state;
		assert_int_equal(pthread_create(&threads[i], NULL, poster_run, &posters[i]), 0);
	}
	loop_run(*state);
	for (int i = 0; i < POSTERS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(posters[i].seen, POSTS);
	}
}

static int count_runs;

static void on_count(void *arg)
{
	count_runs++;
}

static void a_queued_task_is_queued_once_and_can_be_cancelled(void **state)
{
	struct loop_task one, two, three;
	loop_task_init(&one, on_count, NULL);
	loop_task_init(&two, on_count, NULL);
	loop_task_init(&three, on_count, NULL);
	count_runs = 0;
	assert_true(loop_post(*state, &one));
	assert_false(loop_post(*state, &one));
	assert_true(loop_post(*state, &two));
	assert_true(loop_post(*state, &three));
	loop_task_cancel(*state, &three); /* the last: the queue must stay whole */
	loop_task_cancel(*state, &three);
	assert_true(loop_post(*state, &three));
	loop_task_cancel(*state, &two);
	loop_turn(*state, 1000000000);
	assert_int_equal(count_runs, 2);
	assert_true(loop_post(*state, &one));
	loop_turn(*state, 1000000000);
	assert_int_equal(count_runs, 3);
}

struct again {
	struct loop *loop;
	struct loop_task task;
	uint64_t turn_ns;
	int runs;
};

static void on_again(void *arg)
{
	struct again *again = arg;
	assert_true(loop_now_ns(again->loop) > again->turn_ns);
	again->turn_ns = loop_now_ns(again->loop);
	usleep(10); /* time passes, the turn's clock does not */
	assert_true(loop_now_ns(again->loop) == again->turn_ns);
	if (++again->runs < 3)
		loop_post(again->loop, &again->task);
}

static void what_a_task_posts_runs_in_the_next_turn_and_the_clock_stands_within_one(void **state)
{
	struct again again = {.loop = *state};
	loop_task_init(&again.task, on_again, &again);
	loop_post(*state, &again.task);
	for (int turn = 1; turn <= 3; turn++) {
		loop_turn(*state, 1000000000);
		assert_int_equal(again.runs, turn);
	}
}

static void on_count_twice(void *arg)
{
	struct again *again = arg;
	if (++again->runs < 2)
		loop_post(again->loop, &again->task);
}

static void destroying_the_loop_runs_what_is_still_posted(void **state)
{
	struct loop *loop;
	assert_int_equal(loop_create(&loop), ERR_OK);
	struct again again = {.loop = loop};
	loop_task_init(&again.task, on_count_twice, &again);
	loop_post(loop, &again.task);
	loop_destroy(loop);
	assert_int_equal(again.runs, 2);
	loop_destroy(NULL);
}

static void *stop_run(void *arg)
{
	loop_stop(arg);
	return NULL;
}

static void a_stop_from_a_thread_ends_the_run_and_one_before_it_too(void **state)
{
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, stop_run, *state), 0);
	loop_run(*state);
	pthread_join(thread, NULL);
	loop_stop(*state);
	loop_run(*state);
}

/* ---- descriptors and signals ---- */

struct reader {
	struct loop *loop;
	int fd;
	int calls;
};

static void on_readable(struct loop_watch *watch, unsigned ready, void *arg)
{
	struct reader *reader = arg;
	assert_int_equal(ready, LOOP_READ);
	/* Level triggered: the byte is left there twice. */
	char byte;
	if (++reader->calls == 3) {
		assert_int_equal(read(reader->fd, &byte, 1), 1);
		loop_stop(reader->loop);
	}
}

static void on_writable(struct loop_watch *watch, unsigned ready, void *arg)
{
	assert_int_equal(ready, LOOP_WRITE);
	assert_int_equal(write(*(int *)arg, "x", 1), 1);
	loop_watch_destroy(watch);
}

static void descriptors_are_level_triggered(void **state)
{
	int fds[2];
	assert_int_equal(pipe(fds), 0);
	struct reader reader = {.loop = *state, .fd = fds[0]};
	struct loop_watch *read_watch, *write_watch;
	assert_int_equal(loop_watch_create(*state, fds[0], 0, on_readable, &reader, &read_watch), ERR_OK);
	assert_int_equal(loop_watch_create(*state, fds[1], LOOP_WRITE, on_writable, &fds[1], &write_watch), ERR_OK);
	loop_turn(*state, 1000000000);
	loop_turn(*state, 0);
	assert_int_equal(reader.calls, 0); /* nothing was asked for yet */
	assert_int_equal(loop_watch_set(read_watch, LOOP_READ), ERR_OK);
	loop_run(*state);
	loop_turn(*state, 0);
	assert_int_equal(reader.calls, 3);
	loop_watch_destroy(read_watch);
	close(fds[0]);
	close(fds[1]);
}

static void on_signal(struct loop_signal *signal, int number, void *arg)
{
	assert_int_equal(number, SIGUSR1);
	loop_stop(arg);
}

static void a_signal_reaches_the_loop(void **state)
{
	struct loop_signal *signal;
	assert_int_equal(loop_signal_create(*state, SIGUSR1, on_signal, *state, &signal), ERR_OK);
	kill(getpid(), SIGUSR1);
	loop_run(*state);
	loop_signal_destroy(signal);
}

/* ---- news that come while the last ones are being told ---- */

enum { NEWS_ROUNDS = 100000 };

struct news {
	struct loop *loop;
	struct loop_task task;
	atomic_uint said, heard;
	unsigned lost;
};

static void on_news(void *arg)
{
	struct news *news = arg;
	atomic_store_explicit(&news->heard, atomic_load_explicit(&news->said, memory_order_acquire), memory_order_release);
}

static bool heard_in_time(struct news *news, unsigned wanted)
{
	for (uint32_t i = 0; i < 2000000000u; i++)
		if (atomic_load_explicit(&news->heard, memory_order_acquire) == wanted)
			return true;
	return false;
}

/* Like an engine that tells of its layers and then of the step: it says more while the loop hears the last. */
static void *news_run(void *arg)
{
	struct news *news = arg;
	unsigned said = 0;
	for (unsigned round = 0; round < NEWS_ROUNDS && !news->lost; round++) {
		atomic_store_explicit(&news->said, ++said, memory_order_release);
		loop_post(news->loop, &news->task);
		for (volatile unsigned pause = 0; pause < round % 512; pause++) /* each distance between the two */
			;
		atomic_store_explicit(&news->said, ++said, memory_order_release);
		loop_post(news->loop, &news->task);
		news->lost += !heard_in_time(news, said);
	}
	loop_stop(news->loop);
	return NULL;
}

static void what_was_said_before_a_post_is_heard(void **state)
{
	struct news news = {.loop = *state};
	loop_task_init(&news.task, on_news, &news);
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, news_run, &news), 0);
	loop_run(*state);
	pthread_join(thread, NULL);
	assert_int_equal(news.lost, 0);
}

struct chain {
	struct loop *loop;
	struct loop_task first, second, canceled;
	int second_runs;
	bool cancels;
};

static void on_first(void *arg)
{
	struct chain *chain = arg;
	loop_post(chain->loop, &chain->second);
	loop_post(chain->loop, &chain->canceled);
	if (chain->cancels)
		loop_task_cancel(chain->loop, &chain->canceled);
}

static void on_second(void *arg)
{
	((struct chain *)arg)->second_runs++;
}

static void on_canceled(void *arg)
{
	struct chain *chain = arg;
	assert_false(chain->cancels);
}

/* Nobody else wakes it: it would wait out its hour. */
static void what_a_task_posts_does_not_let_the_next_turn_wait(void **state)
{
	for (int cancels = 0; cancels < 2; cancels++) {
		struct chain chain = {.loop = *state, .cancels = cancels};
		loop_task_init(&chain.first, on_first, &chain);
		loop_task_init(&chain.second, on_second, &chain);
		loop_task_init(&chain.canceled, on_canceled, &chain);
		loop_post(chain.loop, &chain.first);
		loop_turn(chain.loop, 3600000000000u);
		assert_int_equal(chain.second_runs, 0);
		loop_turn(chain.loop, 3600000000000u);
		assert_int_equal(chain.second_runs, 1);
	}
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(timers_fire_in_order_of_deadline_and_not_before),
		T(arming_again_moves_the_deadline_and_cancel_forgets_it),
		T(a_timer_may_destroy_itself),
		T(posts_of_threads_arrive_once_each_in_the_order_of_their_thread),
		T(a_queued_task_is_queued_once_and_can_be_cancelled),
		T(what_a_task_posts_runs_in_the_next_turn_and_the_clock_stands_within_one),
		T(destroying_the_loop_runs_what_is_still_posted),
		T(a_stop_from_a_thread_ends_the_run_and_one_before_it_too),
		T(what_was_said_before_a_post_is_heard),
		T(descriptors_are_level_triggered),
		T(a_signal_reaches_the_loop),
		T(what_a_task_posts_does_not_let_the_next_turn_wait),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

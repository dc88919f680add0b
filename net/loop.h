/* loop - one thread's wait for the world: timers, file descriptors, signals, messages from other threads.
 *
 * One loop belongs to one thread, the one that calls loop_run(); every object that takes a loop has it as
 * its home and is touched only there (DESIGN 10).  Two calls may come from any thread: loop_post() and
 * loop_stop().
 *
 * One turn of the loop, in this order:
 *   1 it waits until a descriptor is ready, a timer is due, a signal came or something was posted;
 *   2 the clock is read once, when the first callback asks: loop_now_ns() is the same for the whole turn;
 *   3 timers that are due, ready descriptors and signals become active and their callbacks run, one by one;
 *   4 the tasks that were posted before this stage began run in the order of their posting; what they post
 *     themselves runs in the next turn, so that no task can starve the descriptors;
 *   5 loop_run() returns if loop_stop() was called; else the next turn.
 * A callback runs to its end and must not block.  It may destroy the object it was called for.
 *
 * Owns:   the descriptors of its own wake-up, nothing else; timers, watches and tasks belong to who made them.
 * Bounds: posting takes no memory (the node is the caller's) and cannot fail.
 * Rules:  1 destroy every timer, watch and signal before the loop;
 *         2 a task stays valid from loop_post() until its function was called or loop_task_cancel() returned. */
#ifndef NET_LOOP_H
#define NET_LOOP_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

struct loop;
struct loop_timer;
struct loop_watch;
struct loop_signal;

MUST_USE enum err loop_create(struct loop **ret_loop);
/* Runs what is still posted (so that completions come exactly once), then frees.  NULL is fine. */
void loop_destroy(struct loop *loop);
/* Turns until loop_stop(); a stop that came before the run ends it after one turn that does not wait. */
void loop_run(struct loop *loop);
/* One turn, which waits at most wait_max_ns: for tests and for programs that own their loop. */
void loop_turn(struct loop *loop, uint64_t wait_max_ns);
/* Any thread. */
void loop_stop(struct loop *loop);
/* Monotonic, cached per turn; read afresh while the loop does not run. */
uint64_t loop_now_ns(struct loop *loop);

/* A message to the loop.  Embed it in what it is about; zeroed memory plus loop_task_init(). */
struct loop_task;
typedef void loop_task_fn(void *arg);
struct loop_task {
	struct loop_task *next; /* loop.c only, like `queued` */
	loop_task_fn *fn;
	void *arg;
	int queued;
};
void loop_task_init(struct loop_task *task, loop_task_fn *fn, void *arg);
/* Any thread, also the home thread; never fails, never blocks.  A task that is queued already stays queued
 * once: false then.  Memory written before the post is seen by the function. */
bool loop_post(struct loop *loop, struct loop_task *task);
/* Home thread: takes it out of the queue; the function will not run.  Fine when it is not queued.
 * The caller makes sure that no other thread is still about to post it. */
void loop_task_cancel(struct loop *loop, struct loop_task *task);

/* A timer fires once per arming, not before its time; timers of different deadlines fire in their order. */
typedef void loop_timer_fn(struct loop_timer *timer, void *arg);
MUST_USE enum err loop_timer_create(struct loop *loop, loop_timer_fn *fn, void *arg,
				    struct loop_timer **ret_timer);
/* From loop_now_ns(), so from the beginning of this turn; arming again moves the deadline. */
void loop_timer_arm(struct loop_timer *timer, uint64_t delay_ns);
void loop_timer_cancel(struct loop_timer *timer);
bool loop_timer_armed(const struct loop_timer *timer);
void loop_timer_destroy(struct loop_timer *timer);

/* Level triggered: called every turn while the descriptor is ready for something that was asked for.  CLOSED: the peer's
 * end of stream has come, also while bytes before it are not read yet (sockets only). */
enum { LOOP_READ = 1, LOOP_WRITE = 2, LOOP_CLOSED = 4 };
typedef void loop_watch_fn(struct loop_watch *watch, unsigned ready, void *arg);
/* The descriptor stays the caller's, and open until the watch is destroyed. */
MUST_USE enum err loop_watch_create(struct loop *loop, int fd, unsigned events, loop_watch_fn *fn, void *arg,
				    struct loop_watch **ret_watch);
/* events may be 0: keep the watch, ask for nothing. */
MUST_USE enum err loop_watch_set(struct loop_watch *watch, unsigned events);
void loop_watch_destroy(struct loop_watch *watch);

/* Signals reach one loop of a process only: main()'s. */
typedef void loop_signal_fn(struct loop_signal *signal, int number, void *arg);
MUST_USE enum err loop_signal_create(struct loop *loop, int number, loop_signal_fn *fn, void *arg,
				     struct loop_signal **ret_signal);
void loop_signal_destroy(struct loop_signal *signal);
#endif

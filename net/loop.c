#include "net/loop.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "net/loop_impl.h"

struct loop {
	struct event_base *base;
	struct event *wake_event;
	struct event *wait_event;   /* ends the wait of loop_turn() */
	int wake_fd;
	uint64_t turn_ns;           /* 0: the clock was not asked yet in this turn */
	bool in_turn;
	int stopping;               /* atomic: any thread */
	struct loop_task *inbox;    /* atomic: a stack, pushed by any thread, emptied by ours */
	struct loop_task *head;     /* ours, in the order of posting */
	struct loop_task **tail;
};

/* ---- the clock ---- */

static uint64_t clock_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t loop_now_ns(struct loop *loop)
{
	if (!loop->in_turn)
		return clock_ns();
	if (!loop->turn_ns)
		loop->turn_ns = clock_ns();
	return loop->turn_ns;
}

/* ---- tasks ---- */

/* The loop whose turn this thread is in. */
static _Thread_local struct loop *turning;

static void wake(struct loop *loop)
{
	uint64_t one = 1;
	/* EAGAIN: the counter is full, so the loop is awake anyway. */
	while (write(loop->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

void loop_task_init(struct loop_task *task, loop_task_fn *fn, void *arg)
{
	*task = (struct loop_task){.fn = fn, .arg = arg};
}

bool loop_post(struct loop *loop, struct loop_task *task)
{
	if (__atomic_exchange_n(&task->queued, 1, __ATOMIC_ACQ_REL))
		return false;
	struct loop_task *top = __atomic_load_n(&loop->inbox, __ATOMIC_RELAXED);
	do {
		task->next = top;
	} while (!__atomic_compare_exchange_n(&loop->inbox, &top, task, false, __ATOMIC_SEQ_CST,
					      __ATOMIC_RELAXED));
	/* Who finds the inbox empty wakes the loop; who comes after rides along.  From inside a turn nobody is waked: it ends
	 * with the inbox, or the next one does not wait. */
	if (!top && turning != loop)
		wake(loop);
	return true;
}

/* Moves the inbox behind our queue, oldest first. */
static void take_inbox(struct loop *loop)
{
	struct loop_task *stack = __atomic_exchange_n(&loop->inbox, NULL, __ATOMIC_SEQ_CST);
	struct loop_task *first = NULL, *last = stack;
	while (stack) {
		struct loop_task *next = stack->next;
		stack->next = first;
		first = stack;
		stack = next;
	}
	if (!first)
		return;
	*loop->tail = first;
	loop->tail = &last->next;
}

static struct loop_task *pop_task(struct loop *loop)
{
	struct loop_task *task = loop->head;
	loop->head = task->next;
	if (!loop->head)
		loop->tail = &loop->head;
	return task;
}

static void run_task(struct loop_task *task)
{
	loop_task_fn *fn = task->fn;
	void *arg = task->arg;
	/* Cleared first: the function may free the task, or post it again.  An exchange, not a store: who posts now and finds
	 * the task queued still has been read by us then, so that the function sees what he wrote.  A store may linger
	 * until the function has looked, and his news would wait for the next post. */
	(void)__atomic_exchange_n(&task->queued, 0, __ATOMIC_ACQ_REL);
	fn(arg);
}

/* Runs what was posted before; a marker ends the stage, for the queue may be changed by cancels meanwhile. */
static void run_tasks(struct loop *loop)
{
	take_inbox(loop);
	if (!loop->head)
		return;
	struct loop_task marker = {.queued = 1};
	*loop->tail = &marker;
	loop->tail = &marker.next;
	for (struct loop_task *task; (task = pop_task(loop)) != &marker;)
		run_task(task);
}

void loop_task_cancel(struct loop *loop, struct loop_task *task)
{
	if (!__atomic_load_n(&task->queued, __ATOMIC_ACQUIRE))
		return;
	take_inbox(loop);
	for (struct loop_task **link = &loop->head; *link; link = &(*link)->next) {
		if (*link != task)
			continue;
		*link = task->next;
		if (loop->tail == &task->next)
			loop->tail = link;
		__atomic_store_n(&task->queued, 0, __ATOMIC_RELEASE);
		return;
	}
	assert(!"a queued task is in the queue: was it posted to another loop?");
}

/* ---- life ---- */

static void on_wake(evutil_socket_t fd, short events, void *arg)
{
	uint64_t count;
	if (!(events & EV_READ))
		return;
	while (read(fd, &count, sizeof(count)) < 0 && errno == EINTR)
		;
}

enum err loop_create(struct loop **ret_loop)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	if (!loop)
		return ERR_NOMEM;
	loop->tail = &loop->head;

	enum err e = ERR_NOMEM;
	struct event_config *config = event_config_new();
	if (!config)
		goto free_loop;
	/* Precise: epoll alone rounds to milliseconds.  No lock: one thread. */
	if (event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER | EVENT_BASE_FLAG_NOLOCK) < 0)
		goto free_config;
	loop->base = event_base_new_with_config(config);
	if (!loop->base)
		goto free_config;
	loop->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (loop->wake_fd < 0) {
		e = ERR_IO;
		goto free_base;
	}
	loop->wake_event = event_new(loop->base, loop->wake_fd, EV_READ | EV_PERSIST, on_wake, loop);
	loop->wait_event = evtimer_new(loop->base, on_wake, loop);
	if (!loop->wake_event || !loop->wait_event || event_add(loop->wake_event, NULL) < 0)
		goto free_events;

	event_config_free(config);
	*ret_loop = loop;
	return ERR_OK;

free_events:
	if (loop->wait_event)
		event_free(loop->wait_event);
	if (loop->wake_event)
		event_free(loop->wake_event);
	close(loop->wake_fd);
free_base:
	event_base_free(loop->base);
free_config:
	event_config_free(config);
free_loop:
	free(loop);
	return e;
}

void loop_destroy(struct loop *loop)
{
	if (!loop)
		return;
	for (take_inbox(loop); loop->head; take_inbox(loop))
		run_task(pop_task(loop));
	event_free(loop->wait_event);
	event_free(loop->wake_event);
	event_base_free(loop->base);
	close(loop->wake_fd);
	free(loop);
}

static void turn(struct loop *loop, int flags)
{
	struct loop *outer = turning;
	if (loop->head || __atomic_load_n(&loop->inbox, __ATOMIC_SEQ_CST))
		flags |= EVLOOP_NONBLOCK;
	turning = loop;
	loop->turn_ns = 0;
	loop->in_turn = true;
	int result = event_base_loop(loop->base, flags);
	assert(result == 0); /* 1: no event at all (there is the wake-up's); -1: epoll refused its own descriptor */
	(void)result;
	run_tasks(loop);
	loop->in_turn = false;
	turning = outer;
}

void loop_run(struct loop *loop)
{
	do {
		bool stopping = __atomic_load_n(&loop->stopping, __ATOMIC_ACQUIRE);
		turn(loop, EVLOOP_ONCE | (stopping ? EVLOOP_NONBLOCK : 0));
	} while (!__atomic_load_n(&loop->stopping, __ATOMIC_ACQUIRE));
	__atomic_store_n(&loop->stopping, 0, __ATOMIC_RELEASE);
}

void loop_turn(struct loop *loop, uint64_t wait_max_ns)
{
	struct timeval wait = {(time_t)(wait_max_ns / 1000000000u),
			       (suseconds_t)(wait_max_ns % 1000000000u / 1000u)};
	/* Without memory for the end of the wait there is none. */
	bool waits = wait_max_ns && event_add(loop->wait_event, &wait) == 0;
	turn(loop, EVLOOP_ONCE | (waits ? 0 : EVLOOP_NONBLOCK));
	event_del(loop->wait_event);
}

void loop_stop(struct loop *loop)
{
	__atomic_store_n(&loop->stopping, 1, __ATOMIC_RELEASE);
	wake(loop);
}

struct event_base *loop_event_base(struct loop *loop)
{
	return loop->base;
}

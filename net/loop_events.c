/* Timers, descriptor watches and signals of a loop: thin covers of libevent's. */
#include <assert.h>
#include <event2/event.h>
#include <stdlib.h>

#include "net/loop.h"
#include "net/loop_impl.h"

struct loop_timer {
	struct loop *loop;
	struct event *event;
	uint64_t deadline_ns;
	loop_timer_fn *fn;
	void *arg;
	struct loop_task retry; /* libevent had no memory for it: tried again every turn */
};

struct loop_watch {
	struct loop *loop;
	struct event *event; /* NULL while nothing is asked for */
	int fd;
	loop_watch_fn *fn;
	void *arg;
};

struct loop_signal {
	struct event *event;
	loop_signal_fn *fn;
	void *arg;
};

/* ---- timers ---- */

static void timer_add(struct loop_timer *timer, uint64_t delay_ns)
{
	uint64_t us = delay_ns / 1000 + (delay_ns % 1000 != 0);
	struct timeval delay = {(time_t)(us / 1000000), (suseconds_t)(us % 1000000)};
	if (event_add(timer->event, &delay) < 0)
		loop_post(timer->loop, &timer->retry);
}

static uint64_t left_ns(const struct loop_timer *timer)
{
	uint64_t now_ns = loop_now_ns(timer->loop);
	return now_ns < timer->deadline_ns ? timer->deadline_ns - now_ns : 0;
}

static void on_retry(void *arg)
{
	struct loop_timer *timer = arg;
	if (left_ns(timer))
		timer_add(timer, left_ns(timer));
	else
		timer->fn(timer, timer->arg);
}

static void on_timer(evutil_socket_t fd, short events, void *arg)
{
	/* libevent counts from its own reading of the clock, a little before ours. */
	on_retry(arg);
}

enum err loop_timer_create(struct loop *loop, loop_timer_fn *fn, void *arg, struct loop_timer **ret_timer)
{
	struct loop_timer *timer = calloc(1, sizeof(*timer));
	if (!timer)
		return ERR_NOMEM;
	*timer = (struct loop_timer){.loop = loop, .fn = fn, .arg = arg};
	loop_task_init(&timer->retry, on_retry, timer);
	timer->event = evtimer_new(loop_event_base(loop), on_timer, timer);
	if (!timer->event) {
		free(timer);
		return ERR_NOMEM;
	}
	*ret_timer = timer;
	return ERR_OK;
}

void loop_timer_arm(struct loop_timer *timer, uint64_t delay_ns)
{
	/* 100 years: what a sum of options may overflow into must not wrap to "now". */
	const uint64_t delay_max_ns = 3155760000000000000u;
	if (delay_ns > delay_max_ns)
		delay_ns = delay_max_ns;
	timer->deadline_ns = loop_now_ns(timer->loop) + delay_ns;
	loop_task_cancel(timer->loop, &timer->retry);
	timer_add(timer, delay_ns);
}

void loop_timer_cancel(struct loop_timer *timer)
{
	loop_task_cancel(timer->loop, &timer->retry);
	event_del(timer->event);
}

bool loop_timer_armed(const struct loop_timer *timer)
{
	return timer->retry.queued || event_pending(timer->event, EV_TIMEOUT, NULL);
}

void loop_timer_destroy(struct loop_timer *timer)
{
	if (!timer)
		return;
	loop_task_cancel(timer->loop, &timer->retry);
	event_free(timer->event);
	free(timer);
}

/* ---- descriptors ---- */

static void on_ready(evutil_socket_t fd, short events, void *arg)
{
	struct loop_watch *watch = arg;
	unsigned ready = (events & EV_READ ? LOOP_READ : 0u) | (events & EV_WRITE ? LOOP_WRITE : 0u) |
			 (events & EV_CLOSED ? LOOP_CLOSED : 0u);
	watch->fn(watch, ready, watch->arg);
}

enum err loop_watch_set(struct loop_watch *watch, unsigned events)
{
	assert(!(events & ~(unsigned)(LOOP_READ | LOOP_WRITE | LOOP_CLOSED)));
	struct event *event = NULL;
	if (events) {
		short flags = (short)(EV_PERSIST | (events & LOOP_READ ? EV_READ : 0) |
				      (events & LOOP_WRITE ? EV_WRITE : 0) | (events & LOOP_CLOSED ? EV_CLOSED : 0));
		event = event_new(loop_event_base(watch->loop), watch->fd, flags, on_ready, watch);
		if (!event)
			return ERR_NOMEM;
		if (event_add(event, NULL) < 0) {
			event_free(event);
			return ERR_IO;
		}
	}
	if (watch->event)
		event_free(watch->event);
	watch->event = event;
	return ERR_OK;
}

enum err loop_watch_create(struct loop *loop, int fd, unsigned events, loop_watch_fn *fn, void *arg,
			   struct loop_watch **ret_watch)
{
	struct loop_watch *watch = calloc(1, sizeof(*watch));
	if (!watch)
		return ERR_NOMEM;
	*watch = (struct loop_watch){.loop = loop, .fd = fd, .fn = fn, .arg = arg};
	enum err e = loop_watch_set(watch, events);
	if (e != ERR_OK) {
		free(watch);
		return e;
	}
	*ret_watch = watch;
	return ERR_OK;
}

void loop_watch_destroy(struct loop_watch *watch)
{
	if (!watch)
		return;
	if (watch->event)
		event_free(watch->event);
	free(watch);
}

/* ---- signals ---- */

static void on_signal(evutil_socket_t number, short events, void *arg)
{
	struct loop_signal *signal = arg;
	signal->fn(signal, (int)number, signal->arg);
}

enum err loop_signal_create(struct loop *loop, int number, loop_signal_fn *fn, void *arg,
			    struct loop_signal **ret_signal)
{
	struct loop_signal *signal = calloc(1, sizeof(*signal));
	if (!signal)
		return ERR_NOMEM;
	signal->fn = fn;
	signal->arg = arg;
	signal->event = evsignal_new(loop_event_base(loop), number, on_signal, signal);
	if (!signal->event || event_add(signal->event, NULL) < 0) {
		if (signal->event)
			event_free(signal->event);
		free(signal);
		return ERR_IO;
	}
	*ret_signal = signal;
	return ERR_OK;
}

void loop_signal_destroy(struct loop_signal *signal)
{
	if (!signal)
		return;
	event_free(signal->event);
	free(signal);
}

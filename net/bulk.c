#include "net/bulk.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/bulk_impl.h"

/* ---- calls that wait for the thread ---- */

struct call {
	struct loop_task task;
	struct bulk *bulk;
	const struct region *region;
	bool add;
	pthread_mutex_t lock;
	pthread_cond_t over;
	bool is_over;
};

static void change_regions(struct call *call)
{
	struct bulk *bulk = call->bulk;
	if (call->add) {
		if (bulk->region_count < BULK_REGIONS_MAX)
			bulk->regions[bulk->region_count++] = call->region;
		return;
	}
	bulk_serve_drop_region(bulk, call->region);
	for (size_t i = 0; i < bulk->region_count; i++)
		if (bulk->regions[i] == call->region)
			bulk->regions[i--] = bulk->regions[--bulk->region_count];
}

static void run_call(void *arg)
{
	struct call *call = arg;
	change_regions(call);
	/* Whoever waits takes the call's memory away once it sees this, so not after the lock is given back. */
	pthread_mutex_lock(&call->lock);
	call->is_over = true;
	pthread_cond_signal(&call->over);
	pthread_mutex_unlock(&call->lock);
}

static void call_thread(struct bulk *bulk, const struct region *region, bool add)
{
	struct call call = {.bulk = bulk, .region = region, .add = add};
	pthread_mutex_init(&call.lock, NULL);
	pthread_cond_init(&call.over, NULL);
	loop_task_init(&call.task, run_call, &call);
	if (bulk->has_thread) {
		loop_post(bulk->loop, &call.task);
		pthread_mutex_lock(&call.lock);
		while (!call.is_over)
			pthread_cond_wait(&call.over, &call.lock);
		pthread_mutex_unlock(&call.lock);
	} else {
		change_regions(&call);
	}
	pthread_cond_destroy(&call.over);
	pthread_mutex_destroy(&call.lock);
}

void bulk_region_add(struct bulk *bulk, const struct region *region)
{
	call_thread(bulk, region, true);
}

void bulk_region_remove(struct bulk *bulk, const struct region *region)
{
	call_thread(bulk, region, false);
}

/* ---- life ---- */

static void *run(void *arg)
{
	loop_run(((struct bulk *)arg)->loop);
	return NULL;
}

static enum err start_thread(struct bulk *bulk)
{
	/* Signals are main's. */
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	bulk->has_thread = pthread_create(&bulk->thread, NULL, run, bulk) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return bulk->has_thread ? ERR_OK : ERR_NOMEM;
}

static void stop(void *arg)
{
	struct bulk *bulk = arg;
	bulk->is_stopped = true;
	acceptor_destroy(bulk->acceptor);
	bulk->acceptor = NULL;
	bulk_serve_close(bulk);
	bulk_read_close(bulk);
	loop_stop(bulk->loop);
}

enum err bulk_create(struct loop *home, const struct bulk_options *options, struct bulk **ret_bulk, struct why *why)
{
	struct bulk *bulk = calloc(1, sizeof(*bulk));
	if (!bulk)
		return ERR_NOMEM;
	bulk->home = home;
	bulk->options = *options;
	loop_task_init(&bulk->stop_task, stop, bulk);
	char url[320];
	bool six = strchr(options->host, ':') != NULL;
	snprintf(url, sizeof(url), "%s://%s%.253s%s:%u", options->tls ? "tls+tcp" : "tcp", six ? "[" : "", options->host,
		 six ? "]" : "", options->port);
	struct acceptor_options accept = {
		.tls = options->tls,
		.purpose = TLS_BULK,
		.arg = bulk,
		.accepted = bulk_serve_accept,
	};
	bulk->scratch = malloc(BULK_OUT_BYTES);
	enum err e = bulk->scratch ? loop_create(&bulk->loop) : ERR_NOMEM;
	if (e == ERR_OK)
		e = acceptor_create(bulk->loop, url, &accept, &bulk->acceptor, why);
	if (e == ERR_OK) {
		bulk->port = acceptor_port(bulk->acceptor);
		e = start_thread(bulk);
	}
	if (e != ERR_OK) {
		bulk_destroy(bulk);
		return e;
	}
	*ret_bulk = bulk;
	return ERR_OK;
}

uint16_t bulk_port(const struct bulk *bulk)
{
	return bulk->port;
}

void bulk_stop(struct bulk *bulk)
{
	if (!bulk->has_thread)
		return;
	loop_post(bulk->loop, &bulk->stop_task);
	pthread_join(bulk->thread, NULL);
	bulk->has_thread = false;
	/* What was posted too late: it finds everything closed. */
	loop_turn(bulk->loop, 0);
}

void bulk_destroy(struct bulk *bulk)
{
	if (!bulk)
		return;
	bulk_stop(bulk);
	acceptor_destroy(bulk->acceptor);
	loop_destroy(bulk->loop);
	free(bulk->scratch);
	free(bulk);
}

void bulk_served(const struct bulk *bulk, struct link_served *sum)
{
	sum->reads += __atomic_load_n(&bulk->served.reads, __ATOMIC_RELAXED);
	sum->bytes += __atomic_load_n(&bulk->served.bytes, __ATOMIC_RELAXED);
	sum->stale += __atomic_load_n(&bulk->served.stale, __ATOMIC_RELAXED);
	sum->refused += __atomic_load_n(&bulk->served.refused, __ATOMIC_RELAXED);
}

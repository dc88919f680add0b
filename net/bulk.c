#include "net/bulk.h"

#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/bulk_impl.h"

/* ---- calls that wait for the thread ---- */

struct call {
	struct loop_task task;
	struct bulk_lane *lane;
	const struct region *region;
	bool add;
	pthread_mutex_t lock;
	pthread_cond_t over;
	bool is_over;
};

static void change_regions(struct call *call)
{
	struct bulk_lane *lane = call->lane;
	if (call->add) {
		if (lane->region_count < BULK_REGIONS_MAX)
			lane->regions[lane->region_count++] = call->region;
		return;
	}
	bulk_serve_drop_region(lane, call->region);
	for (size_t i = 0; i < lane->region_count; i++)
		if (lane->regions[i] == call->region)
			lane->regions[i--] = lane->regions[--lane->region_count];
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

static void call_thread(struct bulk_lane *lane, const struct region *region, bool add)
{
	struct call call = {.lane = lane, .region = region, .add = add};
	pthread_mutex_init(&call.lock, NULL);
	pthread_cond_init(&call.over, NULL);
	loop_task_init(&call.task, run_call, &call);
	if (lane->has_thread) {
		loop_post(lane->loop, &call.task);
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
	for (uint32_t i = 0; i < bulk->options.lanes; i++)
		call_thread(&bulk->lanes[i], region, true);
}

void bulk_region_remove(struct bulk *bulk, const struct region *region)
{
	for (uint32_t i = 0; i < bulk->options.lanes; i++)
		call_thread(&bulk->lanes[i], region, false);
}

/* ---- life ---- */

static void *run(void *arg)
{
	loop_run(((struct bulk_lane *)arg)->loop);
	return NULL;
}

static enum err start_thread(struct bulk_lane *lane)
{
	/* Signals are main's. */
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	lane->has_thread = pthread_create(&lane->thread, NULL, run, lane) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return lane->has_thread ? ERR_OK : ERR_NOMEM;
}

static void stop(void *arg)
{
	struct bulk_lane *lane = arg;
	lane->is_stopped = true;
	if (lane->index == 0) {
		acceptor_destroy(lane->bulk->acceptor);
		lane->bulk->acceptor = NULL;
	}
	bulk_serve_close(lane);
	bulk_read_close(lane);
	loop_stop(lane->loop);
}

static enum err lane_init(struct bulk_lane *lane, struct bulk *bulk, uint32_t index)
{
	lane->bulk = bulk;
	lane->index = index;
	loop_task_init(&lane->stop_task, stop, lane);
	lane->scratch = aligned_alloc(4096, BULK_SCRATCH_BYTES);
	return lane->scratch ? loop_create(&lane->loop) : ERR_NOMEM;
}

static enum err listen_at(struct bulk *bulk, struct why *why)
{
	const struct bulk_options *options = &bulk->options;
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
	enum err e = acceptor_create(bulk->lanes[0].loop, url, &accept, &bulk->acceptor, why);
	if (e == ERR_OK)
		bulk->port = acceptor_port(bulk->acceptor);
	return e;
}

enum err bulk_create(struct loop *home, const struct bulk_options *options, struct bulk **ret_bulk, struct why *why)
{
	assert(options->lanes >= 1 && options->lanes <= BULK_LANES_MAX);
	struct bulk *bulk = calloc(1, sizeof(*bulk));
	if (!bulk)
		return ERR_NOMEM;
	bulk->home = home;
	bulk->options = *options;
	bulk->incarnation = options->incarnation;
	enum err e = ERR_OK;
	for (uint32_t i = 0; i < options->lanes && e == ERR_OK; i++)
		e = lane_init(&bulk->lanes[i], bulk, i);
	if (e == ERR_OK)
		e = listen_at(bulk, why);
	for (uint32_t i = 0; i < options->lanes && e == ERR_OK; i++)
		e = start_thread(&bulk->lanes[i]);
	if (e != ERR_OK) {
		bulk_destroy(bulk);
		return e;
	}
	*ret_bulk = bulk;
	return ERR_OK;
}

void bulk_renew(struct bulk *bulk, uint64_t incarnation)
{
	__atomic_store_n(&bulk->incarnation, incarnation, __ATOMIC_RELEASE);
}

uint16_t bulk_port(const struct bulk *bulk)
{
	return bulk->port;
}

void bulk_stop(struct bulk *bulk)
{
	for (uint32_t i = 0; i < bulk->options.lanes; i++)
		if (bulk->lanes[i].has_thread)
			loop_post(bulk->lanes[i].loop, &bulk->lanes[i].stop_task);
	for (uint32_t i = 0; i < bulk->options.lanes; i++)
		if (bulk->lanes[i].has_thread)
			pthread_join(bulk->lanes[i].thread, NULL);
	for (uint32_t i = 0; i < bulk->options.lanes; i++) {
		/* What was posted too late: it finds everything closed. */
		if (bulk->lanes[i].has_thread)
			loop_turn(bulk->lanes[i].loop, 0);
		bulk->lanes[i].has_thread = false;
	}
}

void bulk_destroy(struct bulk *bulk)
{
	if (!bulk)
		return;
	bulk_stop(bulk);
	acceptor_destroy(bulk->acceptor);
	for (uint32_t i = 0; i < bulk->options.lanes; i++) {
		loop_destroy(bulk->lanes[i].loop);
		free(bulk->lanes[i].scratch);
	}
	free(bulk);
}

void bulk_served(const struct bulk *bulk, struct link_served *sum)
{
	sum->reads += __atomic_load_n(&bulk->served.reads, __ATOMIC_RELAXED);
	sum->bytes += __atomic_load_n(&bulk->served.bytes, __ATOMIC_RELAXED);
	sum->stale += __atomic_load_n(&bulk->served.stale, __ATOMIC_RELAXED);
	sum->refused += __atomic_load_n(&bulk->served.refused, __ATOMIC_RELAXED);
}

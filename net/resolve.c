#include "net/resolve.h"

#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/loop.h"

/* Belongs to thread and caller: whoever lets go last frees it.  The thread posts under the lock, so that a cancel knows
 * whether a task is on its way. */
struct resolve {
	pthread_mutex_t lock;
	bool is_canceled, is_answered;
	struct loop *loop;
	struct loop_task task;
	resolve_fn *done;
	void *arg;
	char host[URL_HOST_MAX + 1];
	uint16_t port;
	struct address addresses[RESOLVE_MAX];
	size_t count;
	char error[128];
};

static void release(struct resolve *resolve)
{
	pthread_mutex_destroy(&resolve->lock);
	free(resolve);
}

static void look_up(struct resolve *resolve)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
	struct addrinfo *found = NULL;
	int result = getaddrinfo(resolve->host, NULL, &hints, &found);
	if (result != 0) {
		snprintf(resolve->error, sizeof(resolve->error), "%.60s: %s", resolve->host, gai_strerror(result));
		return;
	}
	for (struct addrinfo *at = found; at && resolve->count < RESOLVE_MAX; at = at->ai_next) {
		struct address *address = &resolve->addresses[resolve->count];
		if (at->ai_addrlen > sizeof(address->any))
			continue;
		memcpy(&address->any, at->ai_addr, at->ai_addrlen);
		address->length = at->ai_addrlen;
		address_set_port(address, resolve->port);
		resolve->count++;
	}
	freeaddrinfo(found);
}

static void *run(void *arg)
{
	struct resolve *resolve = arg;
	look_up(resolve);
	pthread_mutex_lock(&resolve->lock);
	bool canceled = resolve->is_canceled;
	resolve->is_answered = true;
	if (!canceled)
		loop_post(resolve->loop, &resolve->task);
	pthread_mutex_unlock(&resolve->lock);
	if (canceled)
		release(resolve);
	return NULL;
}

static void tell(void *arg)
{
	struct resolve *resolve = arg;
	/* The thread may still be on its way out of the lock. */
	pthread_mutex_lock(&resolve->lock);
	pthread_mutex_unlock(&resolve->lock);
	resolve->done(resolve->arg, resolve->addresses, resolve->count, resolve->error);
	release(resolve);
}

enum err resolve_start(struct loop *loop, const char *host, uint16_t port, resolve_fn *done, void *arg,
		       struct resolve **ret_resolve)
{
	struct resolve *resolve = calloc(1, sizeof(*resolve));
	if (!resolve)
		return ERR_NOMEM;
	pthread_mutex_init(&resolve->lock, NULL);
	resolve->loop = loop;
	resolve->done = done;
	resolve->arg = arg;
	resolve->port = port;
	snprintf(resolve->host, sizeof(resolve->host), "%s", host);
	loop_task_init(&resolve->task, tell, resolve);
	pthread_t thread;
	if (pthread_create(&thread, NULL, run, resolve) != 0) {
		release(resolve);
		return ERR_NOMEM;
	}
	pthread_detach(thread);
	*ret_resolve = resolve;
	return ERR_OK;
}

void resolve_cancel(struct resolve *resolve)
{
	if (!resolve)
		return;
	pthread_mutex_lock(&resolve->lock);
	resolve->is_canceled = true;
	bool answered = resolve->is_answered;
	if (answered)
		loop_task_cancel(resolve->loop, &resolve->task);
	pthread_mutex_unlock(&resolve->lock);
	if (answered)
		release(resolve);
}

/* A lease kept alive: asks at ttl/3, on another endpoint when no answer comes, and gives up before the holder. */
#include <assert.h>
#include <stdlib.h>

#include "base/rng.h"
#include "net/etcd.h"
#include "net/etcd_impl.h"
#include "net/loop.h"

struct etcd_keepalive {
	struct etcd *etcd;
	struct loop *loop;
	int64_t lease;
	uint64_t ttl_ns;
	uint64_t asked_ns; /* when the request under way was sent */
	uint64_t until_ns; /* 0: lost */
	uint32_t attempt;
	bool asking;       /* a request is under way */
	bool stopped;
	struct etcd_flow *flow;
	struct loop_timer *renew_timer, *expire_timer;
	struct loop_task reap_task;
	etcd_lost_fn *on_lost;
	void *arg;
};

static void on_reap(void *arg)
{
	struct etcd_keepalive *keepalive = arg;
	loop_timer_destroy(keepalive->renew_timer);
	loop_timer_destroy(keepalive->expire_timer);
	free(keepalive);
}

static void rest(struct etcd_keepalive *keepalive)
{
	etcd_flow_close(keepalive->flow);
	keepalive->flow = NULL;
	keepalive->until_ns = 0;
	loop_timer_cancel(keepalive->renew_timer);
	loop_timer_cancel(keepalive->expire_timer);
}

static void lose(struct etcd_keepalive *keepalive, enum err e, const char *text)
{
	rest(keepalive);
	keepalive->on_lost(keepalive, e, text, keepalive->arg);
}

/* Ours until a tenth of the ttl before the holder can count it over. */
static void extend(struct etcd_keepalive *keepalive, uint64_t sent_ns, uint64_t ttl_ns)
{
	uint64_t now_ns = loop_now_ns(keepalive->loop);
	keepalive->until_ns = sent_ns + ttl_ns - ttl_ns / 10;
	uint64_t left_ns = keepalive->until_ns > now_ns ? keepalive->until_ns - now_ns : 0;
	loop_timer_arm(keepalive->expire_timer, left_ns);
}

static void on_renewed(void *arg, int64_t ttl_s)
{
	struct etcd_keepalive *keepalive = arg;
	if (ttl_s <= 0) {
		lose(keepalive, ERR_NOT_FOUND, "etcd says that the lease is over");
		return;
	}
	if (!keepalive->asking) /* an answer that nobody asked for proves nothing */
		return;
	keepalive->asking = false;
	keepalive->attempt = 0;
	uint64_t ttl_ns = (uint64_t)ttl_s * 1000000000u;
	extend(keepalive, keepalive->asked_ns, ttl_ns < keepalive->ttl_ns ? ttl_ns : keepalive->ttl_ns);
	loop_timer_arm(keepalive->renew_timer, keepalive->ttl_ns / 3);
}

static void on_flow_end(void *arg, enum err e, const char *text)
{
	struct etcd_keepalive *keepalive = arg;
	keepalive->flow = NULL;
	if (e == ERR_NOT_FOUND || etcd_is_final(e)) {
		lose(keepalive, e, text);
		return;
	}
	uint64_t seed = rng_mix((uint64_t)keepalive->lease ^ loop_now_ns(keepalive->loop));
	uint64_t wait_ns = etcd_backoff_ns(keepalive->attempt++, seed);
	uint64_t wait_max_ns = keepalive->ttl_ns / 6;
	loop_timer_arm(keepalive->renew_timer, wait_ns < wait_max_ns ? wait_ns : wait_max_ns);
}

/* Time to ask; or the answer to the last question is overdue, then somebody else is asked. */
static void on_renew(struct loop_timer *timer, void *arg)
{
	struct etcd_keepalive *keepalive = arg;
	if (keepalive->flow && keepalive->asking) {
		etcd_flow_give_up(keepalive->flow, "no answer to a lease's renewal");
		keepalive->flow = NULL;
		if (keepalive->stopped)
			return;
	}
	keepalive->asking = true;
	keepalive->asked_ns = loop_now_ns(keepalive->loop);
	if (keepalive->flow)
		etcd_renew_flow_ask(keepalive->flow);
	else
		keepalive->flow = etcd_renew_flow_open(keepalive->etcd, keepalive->lease, on_renewed, on_flow_end,
						       keepalive);
	loop_timer_arm(keepalive->renew_timer, keepalive->ttl_ns / 3);
}

static void on_expire(struct loop_timer *timer, void *arg)
{
	lose(arg, ERR_DEADLINE, "no renewal of the lease was confirmed in time");
}

enum err etcd_keepalive_start(struct etcd *etcd, int64_t lease, uint32_t ttl_s, uint64_t granted_ns,
			      etcd_lost_fn *on_lost, void *arg, struct etcd_keepalive **ret_keepalive)
{
	assert(ttl_s > 0 && on_lost);
	struct etcd_keepalive *keepalive = calloc(1, sizeof(*keepalive));
	if (!keepalive)
		return ERR_NOMEM;
	*keepalive = (struct etcd_keepalive){.etcd = etcd, .loop = etcd_loop(etcd), .lease = lease,
					     .ttl_ns = ttl_s * (uint64_t)1000000000u, .on_lost = on_lost, .arg = arg};
	loop_task_init(&keepalive->reap_task, on_reap, keepalive);
	enum err e = loop_timer_create(keepalive->loop, on_renew, keepalive, &keepalive->renew_timer);
	if (e == ERR_OK)
		e = loop_timer_create(keepalive->loop, on_expire, keepalive, &keepalive->expire_timer);
	if (e != ERR_OK) {
		on_reap(keepalive);
		return e;
	}
	extend(keepalive, granted_ns, keepalive->ttl_ns);
	/* The first question goes out at once, so that a wrong lease shows at once. */
	on_renew(keepalive->renew_timer, keepalive);
	*ret_keepalive = keepalive;
	return ERR_OK;
}

uint64_t etcd_keepalive_until_ns(const struct etcd_keepalive *keepalive)
{
	return keepalive->until_ns;
}

void etcd_keepalive_stop(struct etcd_keepalive *keepalive)
{
	if (!keepalive || keepalive->stopped)
		return;
	keepalive->stopped = true;
	rest(keepalive);
	loop_post(keepalive->loop, &keepalive->reap_task);
}

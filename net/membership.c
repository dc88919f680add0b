#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "net/etcd.h"
#include "net/loop.h"
#include "net/member.h"

enum { DEFAULT_TTL_S = 5 };
static const uint64_t RETRY_NS = 500000000;

struct seen {
	uint64_t node; /* 0: free */
	char name[MEMBER_NAME_MAX + 1];
};

/* Registration: GRANTING -> PUTTING -> KEPT; a failure anywhere goes back after RETRY_NS. */
enum registration { REG_NONE, REG_GRANTING, REG_PUTTING, REG_KEPT };

struct membership {
	struct loop *loop;
	struct membership_options options;
	struct member self;
	struct etcd *etcd;
	struct etcd_watch *watch;
	struct etcd_keepalive *keepalive;
	struct loop_timer *retry;
	enum registration state;
	int64_t lease;
	uint64_t granted_ns;
	bool etcd_up;
	bool leaving;
	char prefix[128];
	char key[192];
	struct seen *seen; /* [MEMBERS_MAX] */
};

static void tell_state(struct membership *m)
{
	if (m->options.on_state)
		m->options.on_state(m->options.context, m->etcd_up, m->state == REG_KEPT);
}

static void retry_later(struct membership *m)
{
	etcd_keepalive_stop(m->keepalive);
	m->keepalive = NULL;
	m->state = REG_NONE;
	if (!m->leaving)
		loop_timer_arm(m->retry, RETRY_NS);
	tell_state(m);
}

static void on_lost(struct etcd_keepalive *keepalive, enum err e, const char *text, void *arg)
{
	(void)keepalive;
	log_warn("membership: lease lost (%s: %s); registering anew", err_text(e), text);
	retry_later(arg);
}

static void on_put(struct etcd *etcd, enum err e, const char *text, const struct etcd_reply *reply, void *arg)
{
	(void)etcd;
	(void)reply;
	struct membership *m = arg;
	if (e == ERR_CANCELED || m->leaving)
		return;
	if (e != ERR_OK) {
		log_debug("membership: cannot register: %s", text);
		retry_later(m);
		return;
	}
	m->state = REG_KEPT;
	tell_state(m);
}

static void put_record(struct membership *m)
{
	char record[MEMBER_RECORD_MAX];
	if (member_format(&m->self, record) != ERR_OK) {
		log_error("membership: this node's record is over %d bytes", MEMBER_RECORD_MAX);
		return;
	}
	etcd_put(m->etcd, m->key, record, strlen(record), m->lease, on_put, m);
}

static void on_grant(struct etcd *etcd, enum err e, const char *text, const struct etcd_reply *reply, void *arg)
{
	struct membership *m = arg;
	if (e == ERR_CANCELED || m->leaving)
		return;
	if (e == ERR_OK) {
		m->lease = reply->lease;
		e = etcd_keepalive_start(etcd, m->lease, reply->ttl_s, m->granted_ns, on_lost, m, &m->keepalive);
	}
	if (e != ERR_OK) {
		log_debug("membership: no lease: %s", text);
		retry_later(m);
		return;
	}
	m->state = REG_PUTTING;
	put_record(m);
}

static void register_self(struct loop_timer *timer, void *arg)
{
	(void)timer;
	struct membership *m = arg;
	m->state = REG_GRANTING;
	m->granted_ns = loop_now_ns(m->loop);
	etcd_lease_grant(m->etcd, m->options.ttl_s ? m->options.ttl_s : DEFAULT_TTL_S, on_grant, m);
}

static struct seen *find_seen(struct membership *m, const char *name)
{
	for (uint32_t i = 0; i < MEMBERS_MAX; i++)
		if (m->seen[i].node && strcmp(m->seen[i].name, name) == 0)
			return &m->seen[i];
	return NULL;
}

static struct seen *add_seen(struct membership *m, const char *name)
{
	struct seen *seen = find_seen(m, name);
	for (uint32_t i = 0; !seen && i < MEMBERS_MAX; i++)
		if (!m->seen[i].node)
			seen = &m->seen[i];
	return seen;
}

static void member_put(struct membership *m, const char *name, const struct etcd_kv *kv)
{
	struct why why = {0};
	struct member member;
	if (member_parse((const char *)kv->value, kv->value_length, &why, &member) != ERR_OK) {
		log_warn("membership: %s: %s", name, why.text);
		return;
	}
	struct seen *seen = strcmp(member.name, name) == 0 ? add_seen(m, name) : NULL;
	if (!seen) {
		log_warn("membership: %s: record of another name, or over %d members", name, MEMBERS_MAX);
		return;
	}
	seen->node = member.node;
	snprintf(seen->name, sizeof(seen->name), "%s", name);
	if (m->options.on_member)
		m->options.on_member(m->options.context, &member);
}

static void on_event(struct etcd_watch *watch, const struct etcd_event *event, void *arg)
{
	(void)watch;
	struct membership *m = arg;
	const char *name = event->kv.key + strlen(m->prefix);
	if (event->kind == ETCD_PUT) {
		member_put(m, name, &event->kv);
		return;
	}
	struct seen *seen = find_seen(m, name);
	if (!seen)
		return;
	uint64_t node = seen->node;
	seen->node = 0;
	/* Our own record vanished while we live (an emptied etcd, a revoked lease): noise.  Say it again. */
	if (node == m->self.node && m->options.self && m->state == REG_KEPT && !m->leaving)
		retry_later(m);
	if (m->options.on_gone)
		m->options.on_gone(m->options.context, node);
}

static void on_failed(struct etcd_watch *watch, enum err e, const char *text, void *arg)
{
	(void)watch;
	(void)arg;
	log_error("membership: the watch cannot go on: %s: %s; the last view stays", err_text(e), text);
}

static void on_etcd_state(struct etcd *etcd, bool up, const char *text, void *arg)
{
	(void)etcd;
	struct membership *m = arg;
	m->etcd_up = up;
	if (up)
		log_info("etcd answers");
	else
		log_warn("etcd is away (%s); going on with the last view", text);
	tell_state(m);
}

static enum err start(struct membership *m, struct why *why)
{
	struct etcd_options etcd = {.endpoints = m->options.endpoints, .endpoint_count = m->options.endpoint_count,
				    .on_state = on_etcd_state, .arg = m};
	enum err e = etcd_create(m->loop, &etcd, &m->etcd, why);
	if (e == ERR_OK)
		e = loop_timer_create(m->loop, register_self, m, &m->retry);
	static const struct etcd_watch_callbacks callbacks = {.on_event = on_event, .on_failed = on_failed};
	struct etcd_watch_options watch = {.prefix = m->prefix};
	if (e == ERR_OK)
		e = etcd_watch_start(m->etcd, &watch, &callbacks, m, &m->watch);
	if (e == ERR_OK && m->options.self)
		loop_timer_arm(m->retry, 0);
	return e;
}

enum err membership_create(struct loop *loop, const struct membership_options *options,
			   struct membership **ret_membership, struct why *why)
{
	struct membership *m = calloc(1, sizeof(*m));
	if (!m)
		return ERR_NOMEM;
	m->loop = loop;
	m->options = *options;
	m->seen = calloc(MEMBERS_MAX, sizeof(*m->seen));
	if (options->self)
		m->self = *options->self;
	snprintf(m->prefix, sizeof(m->prefix), "/baton/%s/nodes/", options->cluster ? options->cluster : "default");
	snprintf(m->key, sizeof(m->key), "%s%s", m->prefix, m->self.name);
	enum err e = m->seen ? start(m, why) : ERR_NOMEM;
	if (e != ERR_OK) {
		membership_destroy(m);
		return e;
	}
	*ret_membership = m;
	return ERR_OK;
}

void membership_update(struct membership *m, const struct member *self)
{
	m->self = *self;
	if (m->state == REG_KEPT)
		put_record(m);
}

static void ignore(struct etcd *etcd, enum err e, const char *text, const struct etcd_reply *reply, void *arg)
{
	(void)etcd;
	(void)e;
	(void)text;
	(void)reply;
	(void)arg;
}

void membership_leave(struct membership *m)
{
	m->leaving = true;
	loop_timer_cancel(m->retry);
	etcd_keepalive_stop(m->keepalive);
	m->keepalive = NULL;
	if (m->lease)
		etcd_lease_revoke(m->etcd, m->lease, ignore, m);
	m->state = REG_NONE;
}

void membership_destroy(struct membership *m)
{
	if (!m)
		return;
	m->leaving = true;
	etcd_keepalive_stop(m->keepalive);
	etcd_watch_stop(m->watch);
	if (m->retry)
		loop_timer_destroy(m->retry);
	etcd_destroy(m->etcd);
	free(m->seen);
	free(m);
}

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "net/etcd.h"
#include "net/etcd_claim.h"
#include "net/loop.h"
#include "net/member.h"

enum { DEFAULT_TTL_S = 5 };
static const uint64_t RETRY_NS = 500000000;
static const uint64_t TELL_NS = 10000000000;

struct seen {
	uint64_t node; /* 0: free */
	char name[MEMBER_NAME_MAX + 1];
};

/* Registration: CLAIMING -> GRANTING -> PUTTING -> KEPT; a failure anywhere goes back after RETRY_NS.  From KEPT to
 * CLAIMING and on to PUTTING where only the number is in question: the lease stays. */
enum registration { REG_NONE, REG_CLAIMING, REG_GRANTING, REG_PUTTING, REG_KEPT };

struct membership {
	struct loop *loop;
	struct membership_options options;
	struct member self;
	struct etcd_claim *claim;
	struct etcd_watch *watch;
	struct etcd_keepalive *keepalive;
	struct loop_timer *retry;
	enum registration state;
	uint64_t beaten; /* the highest number a peer refused us for */
	int64_t lease;
	uint64_t granted_ns;
	uint64_t call; /* grant or put under way */
	uint64_t asked_ns; /* when a refusal last made us look who has the name */
	uint64_t told_ns; /* when the log heard last why we are not registered */
	bool leaving;
	char prefix[128];
	char key[MEMBER_KEY_MAX];
	char incarnation_key[MEMBER_KEY_MAX];
	struct seen *seen; /* [MEMBERS_MAX] */
};

void member_incarnation_key(const char *cluster, const char *name, char ret_key[MEMBER_KEY_MAX])
{
	snprintf(ret_key, MEMBER_KEY_MAX, "/baton/%s/incarnations/%s", cluster ? cluster : "default", name);
}

static void tell_state(struct membership *m)
{
	if (m->options.on_state)
		m->options.on_state(m->options.context, m->state == REG_KEPT);
}

static void drop_lease(struct membership *m)
{
	uint64_t call = m->call;
	m->call = 0;
	if (call)
		etcd_cancel(m->options.etcd, call);
	etcd_keepalive_stop(m->keepalive);
	m->keepalive = NULL;
	m->lease = 0;
}

/* etcd's absence is told once (process.c); that it answers and refuses us is news every TELL_NS. */
static void tell_failure(struct membership *m, const char *what, enum err e, const char *text)
{
	uint64_t now_ns = loop_now_ns(m->loop);
	bool refuses = e != ERR_UNAVAILABLE && e != ERR_DEADLINE;
	if (!refuses || (m->told_ns && now_ns < m->told_ns + TELL_NS)) {
		log_debug("membership: %s: %s: %s", what, err_text(e), text);
		return;
	}
	m->told_ns = now_ns;
	log_warn("membership: %s: %s: %s; trying again, the last view stays", what, err_text(e), text);
}

static void retry_later(struct membership *m)
{
	drop_lease(m);
	m->state = REG_NONE;
	if (!m->leaving)
		loop_timer_arm(m->retry, RETRY_NS);
	tell_state(m);
}

static void on_lost(struct etcd_keepalive *keepalive, enum err e, const char *text, void *arg)
{
	(void)keepalive;
	struct membership *m = arg;
	log_warn("membership: lease lost (%s: %s); registering anew", err_text(e), text);
	if (m->state == REG_CLAIMING) /* goes on, and will ask for another lease */
		drop_lease(m);
	else
		retry_later(m);
}

static void on_put(struct etcd *etcd, enum err e, const char *text, const struct etcd_reply *reply, void *arg)
{
	(void)etcd;
	struct membership *m = arg;
	if (e == ERR_CANCELED)
		return;
	m->call = 0;
	if (m->state != REG_PUTTING) /* the number is in question again: a claim is under way */
		return;
	if (e != ERR_OK || !reply->succeeded) {
		tell_failure(m, "cannot register", e, e == ERR_OK ? "the incarnation's key has changed" : text);
		retry_later(m);
		return;
	}
	m->state = REG_KEPT;
	m->told_ns = 0;
	tell_state(m);
}

/* Only while the number is ours: a ghost that wakes up between two calls does not write over its successor. */
static void put_record(struct membership *m)
{
	char record[MEMBER_RECORD_MAX], number[ETCD_CLAIM_VALUE_BYTES];
	if (member_format(&m->self, record) != ERR_OK) {
		log_error("membership: this node's record is over %d bytes", MEMBER_RECORD_MAX);
		return;
	}
	etcd_claim_value(m->self.incarnation, m->options.life, number);
	struct etcd_compare ours = {.key = m->incarnation_key, .target = ETCD_VALUE, .relation = ETCD_EQUAL, .value = number,
				    .value_length = strlen(number)};
	struct etcd_op put = {.kind = ETCD_OP_PUT, .key = m->key, .value = record, .value_length = strlen(record),
			      .lease = m->lease};
	struct etcd_txn txn = {.compares = &ours, .compare_count = 1, .then_ops = &put, .then_count = 1};
	m->state = REG_PUTTING;
	m->call = etcd_txn(m->options.etcd, &txn, on_put, m);
}

static void on_grant(struct etcd *etcd, enum err e, const char *text, const struct etcd_reply *reply, void *arg)
{
	struct membership *m = arg;
	if (e == ERR_CANCELED)
		return;
	m->call = 0;
	if (e == ERR_OK) {
		m->lease = reply->lease;
		e = etcd_keepalive_start(etcd, m->lease, reply->ttl_s, m->granted_ns, on_lost, m, &m->keepalive);
	}
	if (e != ERR_OK) {
		tell_failure(m, "no lease", e, text);
		retry_later(m);
		return;
	}
	put_record(m);
}

static void grant(struct membership *m)
{
	m->state = REG_GRANTING;
	m->granted_ns = loop_now_ns(m->loop);
	m->call = etcd_lease_grant(m->options.etcd, m->options.ttl_s ? m->options.ttl_s : DEFAULT_TTL_S, on_grant, m);
}

static void take_number(struct membership *m, uint64_t number)
{
	if (number == m->self.incarnation)
		return;
	log_warn("peers know a later life of %s (the clock went back, or etcd was emptied): going on as incarnation %llu",
		 m->self.name, (unsigned long long)number);
	m->self.incarnation = number;
	if (m->options.on_renewed)
		m->options.on_renewed(m->options.context, number);
}

static void on_claimed(void *arg, enum err e, const char *text, uint64_t number)
{
	struct membership *m = arg;
	m->claim = NULL;
	if (m->leaving)
		return;
	if (e == ERR_STALE) {
		m->state = REG_NONE;
		drop_lease(m);
		tell_state(m);
		if (m->options.on_replaced)
			m->options.on_replaced(m->options.context, number);
		return;
	}
	if (e != ERR_OK) {
		tell_failure(m, "cannot see who has this name", e, text);
		retry_later(m);
		return;
	}
	take_number(m, number);
	if (m->keepalive)
		put_record(m);
	else
		grant(m);
}

static void claim(struct membership *m)
{
	struct etcd_claim_options options = {.key = m->incarnation_key, .life = m->options.life,
					     .own = m->self.incarnation, .beaten = m->beaten};
	m->state = REG_CLAIMING;
	if (etcd_claim_start(m->options.etcd, &options, on_claimed, m, &m->claim) != ERR_OK)
		retry_later(m);
}

static void register_self(struct loop_timer *timer, void *arg)
{
	(void)timer;
	claim(arg);
}

/* In other states a claim is under way, or comes by itself. */
static void claim_again(struct membership *m)
{
	if (m->state == REG_KEPT && !m->leaving)
		claim(m);
}

void membership_outranked(struct membership *m, uint64_t incarnation, bool lives)
{
	if (incarnation <= m->self.incarnation)
		return;
	if (!lives && incarnation > m->beaten)
		m->beaten = incarnation;
	uint64_t now_ns = loop_now_ns(m->loop);
	if (m->asked_ns && now_ns < m->asked_ns + RETRY_NS)
		return; /* every peer says it, at every dial */
	m->asked_ns = now_ns;
	claim_again(m);
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
	/* Somebody else writes under our name: an older life into an emptied etcd, or our successor. */
	if (m->options.self && member.node == m->self.node && member.incarnation != m->self.incarnation)
		claim_again(m);
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
	/* Our own record vanished while we live (an emptied etcd, a revoked lease): noise.  Say it again, under a new lease. */
	if (node == m->self.node && m->options.self && m->state == REG_KEPT && !m->leaving) {
		drop_lease(m);
		claim(m);
	}
	if (m->options.on_gone)
		m->options.on_gone(m->options.context, node);
}

static void on_synced(struct etcd_watch *watch, int64_t revision, void *arg)
{
	(void)watch;
	(void)revision;
	struct membership *m = arg;
	if (m->options.on_synced)
		m->options.on_synced(m->options.context);
}

static void on_failed(struct etcd_watch *watch, enum err e, const char *text, void *arg)
{
	(void)watch;
	(void)arg;
	log_error("membership: the watch cannot go on: %s: %s; the last view stays", err_text(e), text);
}

static enum err start(struct membership *m)
{
	enum err e = loop_timer_create(m->loop, register_self, m, &m->retry);
	static const struct etcd_watch_callbacks callbacks = {.on_event = on_event, .on_synced = on_synced, .on_failed = on_failed};
	struct etcd_watch_options watch = {.prefix = m->prefix};
	if (e == ERR_OK)
		e = etcd_watch_start(m->options.etcd, &watch, &callbacks, m, &m->watch);
	if (e == ERR_OK && m->options.self)
		loop_timer_arm(m->retry, 0);
	return e;
}

enum err membership_create(struct loop *loop, const struct membership_options *options,
			   struct membership **ret_membership)
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
	member_incarnation_key(options->cluster, m->self.name, m->incarnation_key);
	enum err e = m->seen ? start(m) : ERR_NOMEM;
	if (e != ERR_OK) {
		membership_destroy(m);
		return e;
	}
	*ret_membership = m;
	return ERR_OK;
}

void membership_update(struct membership *m, const struct member *self)
{
	uint64_t incarnation = m->self.incarnation;
	m->self = *self;
	m->self.incarnation = incarnation;
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
	etcd_claim_cancel(m->claim);
	m->claim = NULL;
	int64_t lease = m->lease;
	drop_lease(m);
	if (lease)
		etcd_lease_revoke(m->options.etcd, lease, ignore, NULL);
	m->state = REG_NONE;
}

void membership_destroy(struct membership *m)
{
	if (!m)
		return;
	m->leaving = true;
	etcd_claim_cancel(m->claim);
	drop_lease(m);
	etcd_watch_stop(m->watch);
	loop_timer_destroy(m->retry);
	free(m->seen);
	free(m);
}

/* An election over one prefix: every candidate's key is "<name>/<lease in hex>", the oldest one leads.
 *
 *   start --> RESTING --grant--> GRANTING --put--> ENTERING --> STANDING
 *                ^                   |                |             |
 *                +------ backoff ----+----------------+-- lost -----+       resign, no value --> OBSERVING
 *
 * Who leads is read from the watch alone, so that all see the same; only whether *we* still may lead is decided
 * here, by our lease.  A key of ours whose lease we gave up on is abandoned: while it is the oldest, nobody leads. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "net/etcd.h"
#include "net/etcd_impl.h"
#include "net/loop.h"

enum { CANDIDATE_MAX = 1024 };

struct candidate {
	struct candidate *next;
	int64_t create_revision;
	bool abandoned; /* ours, of a lease that we lost */
	char *key;
	uint8_t *value;
	size_t value_length;
};

enum election_state { ELECTION_OBSERVING, ELECTION_RESTING, ELECTION_GRANTING, ELECTION_ENTERING, ELECTION_STANDING };

struct etcd_election {
	struct etcd *etcd;
	struct loop *loop;
	enum election_state state;
	char *prefix; /* "<name>/" */
	uint8_t *value;
	size_t value_length;
	uint32_t ttl_s;
	etcd_leader_fn *on_leader;
	void *arg;
	bool stopped, synced;

	struct etcd_watch *watch;
	struct candidate *candidates; /* in no order: they are few */

	char *key;         /* ours; NULL: none */
	int64_t lease;     /* 0: none */
	uint64_t asked_ns; /* when the lease was asked for */
	struct etcd_keepalive *keepalive;
	uint64_t call;
	uint32_t attempt;
	struct loop_timer *timer;
	struct loop_task reap_task;

	struct etcd_leader told; /* without the value */
};

/* ---- who leads ---- */

static bool is_ours(const struct etcd_election *election, const struct candidate *candidate)
{
	return election->key && strcmp(candidate->key, election->key) == 0;
}

static struct etcd_leader leader_now(const struct etcd_election *election)
{
	struct etcd_leader leader = {0};
	const struct candidate *oldest = NULL;
	for (const struct candidate *c = election->candidates; c; c = c->next)
		if (!oldest || c->create_revision < oldest->create_revision)
			oldest = c;
	if (!election->synced || !oldest || oldest->abandoned)
		return leader;
	leader.mine = is_ours(election, oldest);
	leader.known = true;
	leader.epoch = oldest->create_revision;
	leader.value = (const char *)oldest->value;
	leader.value_length = oldest->value_length;
	return leader;
}

/* Tells the owner if something changed since it was told last. */
static void tell(struct etcd_election *election)
{
	struct etcd_leader leader = leader_now(election);
	struct etcd_leader *told = &election->told;
	if (leader.known == told->known && leader.mine == told->mine && leader.epoch == told->epoch)
		return;
	*told = leader;
	told->value = NULL;
	election->on_leader(election, &leader, election->arg);
}

/* ---- candidates, as the watch shows them ---- */

static struct candidate **candidate_link(struct etcd_election *election, const char *key)
{
	struct candidate **link = &election->candidates;
	while (*link && strcmp((*link)->key, key) != 0)
		link = &(*link)->next;
	return link;
}

static void candidate_free(struct candidate *candidate)
{
	free(candidate->key);
	free(candidate->value);
	free(candidate);
}

static void candidate_remove(struct etcd_election *election, const char *key)
{
	struct candidate **link = candidate_link(election, key), *gone = *link;
	if (!gone)
		return;
	*link = gone->next;
	candidate_free(gone);
}

static enum err candidate_put(struct etcd_election *election, const struct etcd_kv *kv)
{
	struct candidate *candidate = calloc(1, sizeof(*candidate));
	if (!candidate)
		return ERR_NOMEM;
	candidate->key = strdup(kv->key);
	candidate->value = malloc(kv->value_length + 1);
	if (!candidate->key || !candidate->value) {
		candidate_free(candidate);
		return ERR_NOMEM;
	}
	memcpy(candidate->value, kv->value, kv->value_length);
	candidate->value[kv->value_length] = 0;
	candidate->value_length = kv->value_length;
	candidate->create_revision = kv->create_revision;
	struct candidate **link = candidate_link(election, kv->key);
	if (*link)
		candidate->abandoned = (*link)->abandoned;
	candidate_remove(election, kv->key);
	candidate->next = election->candidates;
	election->candidates = candidate;
	return ERR_OK;
}

/* ---- standing ---- */

static void drop_lease(struct etcd_election *election, etcd_done_fn *done, void *arg)
{
	if (election->key) {
		struct candidate *ours = *candidate_link(election, election->key);
		if (ours)
			ours->abandoned = true;
	}
	free(election->key);
	election->key = NULL;
	etcd_keepalive_stop(election->keepalive);
	election->keepalive = NULL;
	uint64_t call = election->call;
	election->call = 0;
	if (call)
		etcd_cancel(election->etcd, call);
	if (election->lease || done)
		etcd_lease_revoke(election->etcd, election->lease, done, arg);
	election->lease = 0;
}

/* Steps down if need be, and stands again after a while. */
static void stand_later(struct etcd_election *election)
{
	drop_lease(election, NULL, NULL);
	election->state = ELECTION_RESTING;
	uint64_t seed = rng_mix((uintptr_t)election ^ loop_now_ns(election->loop));
	loop_timer_arm(election->timer, etcd_backoff_ns(election->attempt++, seed));
	tell(election);
}

static void on_lost(struct etcd_keepalive *keepalive, enum err e, const char *text, void *arg)
{
	stand_later(arg);
}

static void on_entered(struct etcd *etcd, enum err e, const char *text, const struct etcd_reply *reply, void *arg)
{
	struct etcd_election *election = arg;
	if (e == ERR_CANCELED)
		return;
	election->call = 0;
	/* The comparison fails when an earlier try did arrive: the key bears our lease, so it is ours all the same. */
	if (e == ERR_OK)
		election->state = ELECTION_STANDING;
	else if (e == ERR_UNAVAILABLE || e == ERR_DEADLINE || e == ERR_AGAIN)
		loop_timer_arm(election->timer, etcd_backoff_ns(0, rng_mix(loop_now_ns(election->loop))));
	else
		stand_later(election);
	if (e == ERR_OK)
		election->attempt = 0;
}

static void enter(struct etcd_election *election)
{
	struct etcd_compare absent = {.key = election->key, .target = ETCD_CREATE_REVISION, .relation = ETCD_EQUAL};
	struct etcd_op put = {.kind = ETCD_OP_PUT, .key = election->key, .value = election->value,
			      .value_length = election->value_length, .lease = election->lease};
	struct etcd_txn txn = {.compares = &absent, .compare_count = 1, .then_ops = &put, .then_count = 1};
	election->state = ELECTION_ENTERING;
	election->call = etcd_txn(election->etcd, &txn, on_entered, election);
}

static enum err take_lease(struct etcd_election *election, const struct etcd_reply *reply)
{
	election->lease = reply->lease;
	size_t size = strlen(election->prefix) + 17;
	election->key = malloc(size);
	if (!election->key)
		return ERR_NOMEM;
	snprintf(election->key, size, "%s%016llx", election->prefix, (unsigned long long)reply->lease);
	return etcd_keepalive_start(election->etcd, election->lease, reply->ttl_s, election->asked_ns, on_lost,
				    election, &election->keepalive);
}

static void on_granted(struct etcd *etcd, enum err e, const char *text, const struct etcd_reply *reply, void *arg)
{
	struct etcd_election *election = arg;
	if (e == ERR_CANCELED)
		return;
	election->call = 0;
	if (e == ERR_OK && reply->ttl_s > 0)
		e = take_lease(election, reply);
	else if (e == ERR_OK)
		e = ERR_PROTOCOL;
	if (e == ERR_OK)
		enter(election);
	else
		stand_later(election);
}

static void stand(struct etcd_election *election)
{
	election->state = ELECTION_GRANTING;
	election->asked_ns = loop_now_ns(election->loop);
	election->call = etcd_lease_grant(election->etcd, election->ttl_s, on_granted, election);
}

static void on_timer(struct loop_timer *timer, void *arg)
{
	struct etcd_election *election = arg;
	if (election->state == ELECTION_ENTERING)
		enter(election);
	else if (election->state == ELECTION_RESTING)
		stand(election);
}

/* ---- the watch ---- */

static void on_event(struct etcd_watch *watch, const struct etcd_event *event, void *arg)
{
	struct etcd_election *election = arg;
	if (event->kind == ETCD_PUT) {
		/* Without memory for a candidate we would see the wrong leader: better none at all. */
		if (candidate_put(election, &event->kv) != ERR_OK)
			election->synced = false;
	} else {
		bool ours = election->key && strcmp(event->kv.key, election->key) == 0;
		candidate_remove(election, event->kv.key);
		if (ours && election->state == ELECTION_STANDING) { /* the lease is over, or somebody deleted us */
			stand_later(election);
			return;
		}
	}
	tell(election);
}

static void on_synced(struct etcd_watch *watch, int64_t revision, void *arg)
{
	struct etcd_election *election = arg;
	election->synced = true;
	tell(election);
}

/* It cannot see any more who leads: then it leads no longer either. */
static void on_failed(struct etcd_watch *watch, enum err e, const char *text, void *arg)
{
	struct etcd_election *election = arg;
	election->synced = false;
	drop_lease(election, NULL, NULL);
	loop_timer_cancel(election->timer);
	election->state = ELECTION_OBSERVING;
	tell(election);
}

/* ---- life ---- */

static void on_reap(void *arg)
{
	struct etcd_election *election = arg;
	while (election->candidates) {
		struct candidate *candidate = election->candidates;
		election->candidates = candidate->next;
		candidate_free(candidate);
	}
	loop_timer_destroy(election->timer);
	free(election->prefix);
	free(election->value);
	free(election);
}

static enum err copy_options(struct etcd_election *election, const struct etcd_election_options *options)
{
	size_t size = strlen(options->name) + 2;
	election->prefix = malloc(size);
	if (!election->prefix)
		return ERR_NOMEM;
	snprintf(election->prefix, size, "%s/", options->name);
	election->ttl_s = options->ttl_s ? options->ttl_s : 5;
	if (!options->value)
		return ERR_OK;
	election->value_length = strlen(options->value);
	election->value = (uint8_t *)strdup(options->value);
	return election->value ? ERR_OK : ERR_NOMEM;
}

enum err etcd_election_start(struct etcd *etcd, const struct etcd_election_options *options,
			     etcd_leader_fn *on_leader, void *arg, struct etcd_election **ret_election)
{
	static const struct etcd_watch_callbacks callbacks = {on_event, on_synced, on_failed};
	struct etcd_election *election = calloc(1, sizeof(*election));
	if (!election)
		return ERR_NOMEM;
	election->etcd = etcd;
	election->loop = etcd_loop(etcd);
	election->on_leader = on_leader;
	election->arg = arg;
	loop_task_init(&election->reap_task, on_reap, election);
	enum err e = copy_options(election, options);
	if (e == ERR_OK)
		e = loop_timer_create(election->loop, on_timer, election, &election->timer);
	struct etcd_watch_options watched = {.prefix = election->prefix, .key_max = CANDIDATE_MAX};
	if (e == ERR_OK)
		e = etcd_watch_start(etcd, &watched, &callbacks, election, &election->watch);
	if (e != ERR_OK) {
		on_reap(election);
		return e;
	}
	if (election->value)
		stand(election);
	*ret_election = election;
	return ERR_OK;
}

const char *etcd_election_key(const struct etcd_election *election)
{
	return election->key;
}

uint64_t etcd_election_until_ns(const struct etcd_election *election)
{
	return election->keepalive ? etcd_keepalive_until_ns(election->keepalive) : 0;
}

void etcd_election_resign(struct etcd_election *election, etcd_done_fn *done, void *arg)
{
	loop_timer_cancel(election->timer);
	election->state = ELECTION_OBSERVING;
	drop_lease(election, done, arg);
	tell(election);
}

void etcd_election_stop(struct etcd_election *election)
{
	if (!election || election->stopped)
		return;
	election->stopped = true;
	loop_timer_cancel(election->timer);
	drop_lease(election, NULL, NULL);
	etcd_watch_stop(election->watch);
	loop_post(election->loop, &election->reap_task);
}

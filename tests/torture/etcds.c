/* Membership, watch, election and leases against a real etcd. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "etcd_server.h"
#include "fail.h"
#include "net/etcd.h"
#include "net/loop.h"
#include "net/member.h"
#include "torture.h"

static struct etcd_server *server; /* of the test's own process; children use it */

static void prepare(void)
{
	server = etcd_server_start(etcd_server_binary());
	torture_check(server);
}

static void finish(void)
{
	etcd_server_stop(server);
	server = NULL;
}

struct world {
	struct loop *loop;
	struct etcd *etcd;
	int done;
	enum err e;
	char text[200];
	int events, synced, leads;
};

static void on_done(struct etcd *etcd, enum err e, const char *text, const struct etcd_reply *reply, void *arg)
{
	struct world *w = arg;
	w->done = 1;
	w->e = e;
	snprintf(w->text, sizeof(w->text), "%s", text);
}

static enum err wait_done(struct world *w, struct why *why)
{
	enum err e = torture_wait(w->loop, &w->done, why);
	w->done = 0;
	if (e == ERR_OK && w->e != ERR_OK)
		e = why_set(why, w->e, "%s", w->text);
	return e;
}

static void on_event(struct etcd_watch *watch, const struct etcd_event *event, void *arg)
{
	((struct world *)arg)->events++;
}

static void on_synced(struct etcd_watch *watch, int64_t revision, void *arg)
{
	((struct world *)arg)->synced = 1;
}

static void on_failed(struct etcd_watch *watch, enum err e, const char *text, void *arg)
{
	struct world *w = arg;
	w->synced = w->events = 1;
	w->e = e;
	snprintf(w->text, sizeof(w->text), "%s", text);
}

static void on_leader(struct etcd_election *election, const struct etcd_leader *leader, void *arg)
{
	((struct world *)arg)->leads |= leader->mine;
}

static enum err use(struct world *w, struct why *why)
{
	static const struct etcd_watch_callbacks callbacks = {on_event, on_synced, on_failed};
	char prefix[64], key[80];
	snprintf(prefix, sizeof(prefix), "torture/%d/", (int)getpid());
	snprintf(key, sizeof(key), "%sa", prefix);
	struct etcd_watch_options watch_options = {.prefix = prefix};
	struct etcd_election_options election_options = {.name = prefix, .value = "me", .ttl_s = 5};
	struct etcd_watch *watch = NULL;
	struct etcd_election *election = NULL;
	enum err e = etcd_watch_start(w->etcd, &watch_options, &callbacks, w, &watch);
	if (e == ERR_OK)
		e = torture_wait(w->loop, &w->synced, why);
	w->events = 0;
	if (e == ERR_OK) {
		etcd_put(w->etcd, key, "v", 1, 0, on_done, w);
		e = wait_done(w, why);
	}
	if (e == ERR_OK)
		e = torture_wait(w->loop, &w->events, why);
	if (e == ERR_OK)
		e = etcd_election_start(w->etcd, &election_options, on_leader, w, &election);
	if (e == ERR_OK)
		e = torture_wait(w->loop, &w->leads, why);
	if (e == ERR_OK) {
		etcd_election_resign(election, on_done, w);
		e = wait_done(w, why);
	}
	etcd_election_stop(election);
	etcd_watch_stop(watch);
	return e;
}

static enum err etcd_client(struct why *why)
{
	struct world w = {0};
	const char *urls[] = {etcd_server_url(server)};
	struct etcd_options options = {.endpoints = urls, .endpoint_count = 1, .call_timeout_ns = 3000000000};
	enum err e = loop_create(&w.loop);
	if (e == ERR_OK)
		e = etcd_create(w.loop, &options, &w.etcd, why);
	if (e == ERR_OK)
		e = use(&w, why);
	etcd_destroy(w.etcd);
	loop_destroy(w.loop);
	return e == ERR_OK || why->text[0] ? e : why_set(why, e, "etcd");
}

/* ---- membership */

struct view {
	struct loop *loop;
	struct etcd *etcd;
	struct membership *membership;
	int seen, gone;
};

static void on_member(void *context, const struct member *member)
{
	struct view *v = context;
	torture_check(strcmp(member->url, "tcp://127.0.0.1:9") == 0);
	v->seen = 1;
}

static void on_gone(void *context, uint64_t node)
{
	((struct view *)context)->gone = 1;
}

static enum err join(struct view *v, struct why *why)
{
	char cluster[32];
	snprintf(cluster, sizeof(cluster), "t%d", (int)getpid());
	struct member self = {.incarnation = 1, .role = WIRE__ROLE__ROLE_KVSTORE, .pid = 1};
	strcpy(self.name, "kvstore-1");
	strcpy(self.url, "tcp://127.0.0.1:9");
	self.node = member_node_id(self.name);
	struct membership_options options = {.etcd = v->etcd, .cluster = cluster, .self = &self, .life = 77, .ttl_s = 5,
					     .context = v, .on_member = on_member, .on_gone = on_gone};
	enum err e = membership_create(v->loop, &options, &v->membership);
	if (e == ERR_OK)
		e = torture_wait(v->loop, &v->seen, why);
	if (e != ERR_OK)
		return e;
	membership_leave(v->membership);
	return torture_wait(v->loop, &v->gone, why);
}

static enum err membership(struct why *why)
{
	struct view v = {0};
	const char *urls[] = {etcd_server_url(server)};
	struct etcd_options options = {.endpoints = urls, .endpoint_count = 1, .call_timeout_ns = 3000000000};
	enum err e = loop_create(&v.loop);
	if (e == ERR_OK)
		e = etcd_create(v.loop, &options, &v.etcd, why);
	if (e == ERR_OK)
		e = join(&v, why);
	membership_destroy(v.membership);
	etcd_destroy(v.etcd);
	loop_destroy(v.loop);
	return e == ERR_OK || why->text[0] ? e : why_set(why, e, "membership");
}

const struct scenario etcd_scenarios[] = {
	{"etcd client", etcd_client, NULL, 16, true, prepare, finish},
	{"membership", membership, NULL, 16, true, prepare, finish},
	{0},
};

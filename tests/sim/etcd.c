/* etcd - the membership of the simulated cluster: keys under leases, news with a delay, at times away. */
#include "tests/sim/cluster_impl.h"

#include <assert.h>
#include <stdio.h>

enum { LEASE_MS = 3000 };

static void tell(struct member *watcher, const struct member *about, bool present, uint64_t incarnation)
{
	uint64_t now = sim_local(watcher->cluster->sim, watcher->index);
	if (watcher->kind == COORDINATOR && present) {
		struct coord_member member = {
			.node = about->node, .incarnation = incarnation, .role = about->role, .model_count = 1,
			.models = {"toy"}, .context_max = TOY_CONTEXT_MAX,
		};
		if (about->kind == ENGINE) {
			member.compat = cluster_compat;
			member.block_tokens = TOY_BLOCK_TOKENS;
		} else {
			member.model_count = 0;
		}
		snprintf(member.name, sizeof(member.name), "%s", about->name);
		enum err e = coord_member_set(watcher->coord, &member, now);
		assert(e == ERR_OK);
		(void)e;
	} else if (watcher->kind == COORDINATOR) {
		coord_member_remove(watcher->coord, about->node, now);
	} else if (watcher->kind == ENGINE && present) {
		node_member(watcher->engine, about->node, incarnation, about->role,
			    about->kind == ENGINE ? &cluster_compat : NULL, now);
	} else if (watcher->kind == ENGINE) {
		node_member_gone(watcher->engine, about->node, now);
	}
}

/* number: the watcher, about whom, and its incarnation, 0: gone. */
static void on_news(void *context, uint64_t number)
{
	struct cluster *c = context;
	struct member *watcher = &c->members[number >> 48];
	tell(watcher, &c->members[number >> 32 & 0xffff], (uint32_t)number != 0, (uint32_t)number);
	member_after_event(watcher);
}

static void send_news(struct cluster *c, struct member *watcher, const struct member *about, uint64_t incarnation)
{
	if (!sim_up(c->sim, watcher->index) || watcher == about || watcher->kind == STORE || about->kind == COORDINATOR)
		return;
	uint64_t at_ns = sim_now(c->sim) + 2 * MS + sim_random(c->sim, 20 * MS);
	if (at_ns < watcher->told_ns)
		at_ns = watcher->told_ns;
	watcher->told_ns = at_ns;
	sim_at(c->sim, at_ns, watcher->index, on_news, c,
	       (uint64_t)watcher->index << 48 | (uint64_t)about->index << 32 | incarnation);
}

static void broadcast(struct cluster *c, const struct member *about, uint64_t incarnation)
{
	for (uint32_t i = 0; i < c->member_count; i++)
		send_news(c, &c->members[i], about, incarnation);
}

/* A watcher that starts, or comes back to etcd, is told of all there are. */
static void send_snapshot(struct cluster *c, struct member *watcher)
{
	for (uint32_t i = 0; i < c->member_count; i++)
		if (c->members[i].lease_until_ns)
			send_news(c, watcher, &c->members[i], c->members[i].key_incarnation);
}

/* Living processes keep their keys; what was not kept alive for LEASE_MS is gone, and everybody hears of it. */
static void etcd_tick(void *context, uint64_t number)
{
	struct cluster *c = context;
	(void)number;
	uint64_t now_ns = sim_now(c->sim);
	sim_at(c->sim, now_ns + 250 * MS, UINT32_MAX, etcd_tick, c, 0);
	if (now_ns < c->etcd_away_until_ns)
		return;
	for (uint32_t i = 0; i < c->member_count; i++) {
		struct member *m = &c->members[i];
		bool alive = sim_up(c->sim, i) && !sim_stopped(c->sim, i) && now_ns >= m->revoked_until_ns;
		bool fresh = m->lease_until_ns && m->key_incarnation == m->incarnation;
		/* After etcd was away every lease gets its term anew, as a new leader does. */
		if (c->etcd_away_until_ns && m->lease_until_ns)
			m->lease_until_ns = now_ns + LEASE_MS * MS;
		if (alive) {
			m->lease_until_ns = now_ns + LEASE_MS * MS;
			m->key_incarnation = m->incarnation;
			if (!fresh)
				broadcast(c, m, m->incarnation);
		} else if (m->lease_until_ns && now_ns >= m->lease_until_ns) {
			m->lease_until_ns = 0;
			broadcast(c, m, 0);
		}
	}
	c->etcd_away_until_ns = 0;
}

static void take_key(struct cluster *c, struct member *m)
{
	if (!m->lease_until_ns)
		return;
	m->lease_until_ns = 0;
	broadcast(c, m, 0);
}

void etcd_wipe(struct cluster *c)
{
	for (uint32_t i = 0; i < c->member_count; i++)
		take_key(c, &c->members[i]);
}

void etcd_revoke(struct cluster *c, uint32_t member, uint64_t until_ns)
{
	c->members[member].revoked_until_ns = until_ns;
	take_key(c, &c->members[member]);
}

static void on_snapshot(void *context, uint64_t number)
{
	struct cluster *c = context;
	if (sim_now(c->sim) < c->etcd_away_until_ns)
		sim_at(c->sim, c->etcd_away_until_ns + MS, (uint32_t)number, on_snapshot, c, number);
	else
		send_snapshot(c, &c->members[number]);
}

void etcd_start(struct cluster *c)
{
	etcd_tick(c, 0);
}

void etcd_watch(struct cluster *c, uint32_t member)
{
	sim_at(c->sim, sim_now(c->sim) + 5 * MS, member, on_snapshot, c, member);
}

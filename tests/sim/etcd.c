/* etcd - the membership of the simulated cluster: keys under leases, news with a delay, at times away. */
#include "tests/sim/cluster_impl.h"

#include <assert.h>
#include <stdio.h>

#include "net/claim.h"

enum { LEASE_MS = 3000, CLAIM_AGAIN_MS = 500, REGISTER_MS = 2000 };

/* ---- incarnations: numbers are milliseconds of a member's wall clock, so that they fit into 32 bits */

static uint64_t wall_ms(const struct member *m)
{
	return 100000000 + sim_now(m->cluster->sim) / MS - m->wall_back_ms;
}

static bool is_away(const struct cluster *c)
{
	return sim_now(c->sim) < c->etcd_away_until_ns;
}

/* What net/etcd_claim.c does against a real one.  false: another has the name. */
static bool claim_number(struct member *m, uint64_t own, uint64_t wall, uint64_t *ret_number)
{
	struct claim claim = {.own = own, .stored = m->claimed, .mine = m->claimed && m->claimed_here, .beaten = m->beaten,
			      .wall_ns = wall};
	if (claim_judge(&claim, ret_number) == CLAIM_LOST)
		return false;
	m->claimed = *ret_number;
	m->claimed_here = true;
	return true;
}

bool etcd_first_claim(struct member *m)
{
	if (is_away(m->cluster))
		return false;
	uint64_t number = 0;
	m->beaten = 0;
	m->claiming = false;
	m->claimed_here = false;
	bool ok = claim_number(m, 0, wall_ms(m), &number);
	assert(ok && number < UINT32_MAX);
	(void)ok;
	m->incarnation = number;
	return true;
}

/* As membership.c: the registered holder of the name goes above what it was refused for. */
static void claim_again(struct member *m)
{
	uint64_t number = 0;
	if (!claim_number(m, m->incarnation, 0, &number))
		cluster_fail(m->cluster, "%s ends itself, and nobody else has its name", m->name);
	if (number == m->incarnation)
		return;
	m->incarnation = number;
	m->renewed++;
	m->cluster->renewals++;
	sim_renew(m->cluster->sim, m->index, number);
	sim_story(m->cluster->sim, m->index, "goes on as incarnation %llu", (unsigned long long)number);
	member_renew(m);
}

static void on_claim(void *context, uint64_t index)
{
	struct cluster *c = context;
	struct member *m = &c->members[index];
	if (is_away(c)) {
		sim_at(c->sim, sim_now(c->sim) + CLAIM_AGAIN_MS * MS, m->index, on_claim, c, index);
		return;
	}
	m->claiming = false;
	claim_again(m);
}

void etcd_outranked(struct member *m, uint64_t incarnation, bool lives)
{
	struct cluster *c = m->cluster;
	m->outranked++;
	if (!lives && incarnation > m->beaten)
		m->beaten = incarnation;
	if (m->claiming)
		return;
	m->claiming = true;
	sim_at(c->sim, sim_now(c->sim) + 1 * MS + sim_random(c->sim, 20 * MS), m->index, on_claim, c, m->index);
}

/* ---- members */

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
			member.group_count = toy_group_count(about->cluster->options.kind);
			for (uint32_t g = 0; g < member.group_count; g++)
				member.windows[g] = toy_window(about->cluster->options.kind, g);
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
	} else if (present) {
		store_member(watcher->store, about->node, incarnation, about->role, now);
	} else {
		store_member_gone(watcher->store, about->node);
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
	if (!sim_up(c->sim, watcher->index) || watcher == about || about->kind == COORDINATOR)
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

static void vanish(struct member *m)
{
	struct cluster *c = m->cluster;
	m->lease_until_ns = 0;
	m->register_ns = sim_now(c->sim) + sim_random(c->sim, REGISTER_MS * MS);
	broadcast(c, m, 0);
}

void cluster_wipe_etcd(struct cluster *c)
{
	c->wipes++;
	lead_etcd_wiped(c);
	for (uint32_t i = 0; i < c->member_count; i++) {
		c->members[i].claimed = 0;
		c->members[i].claimed_here = false;
		if (c->members[i].lease_until_ns)
			vanish(&c->members[i]);
	}
}

void cluster_revoke(struct cluster *c, uint32_t member)
{
	if (c->members[member].lease_until_ns)
		vanish(&c->members[member]);
}

static void keep_key(struct member *m, uint64_t now_ns)
{
	struct cluster *c = m->cluster;
	bool fresh = m->lease_until_ns && m->key_incarnation == m->incarnation;
	if (!fresh && now_ns < m->register_ns)
		return;
	m->lease_until_ns = now_ns + LEASE_MS * MS;
	if (fresh)
		return;
	claim_again(m); /* also after a wipe: the number is in etcd before the key is */
	m->key_incarnation = m->incarnation;
	broadcast(c, m, m->incarnation);
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
	if (c->etcd_away_until_ns)
		lead_etcd_back(c);
	lead_etcd_tick(c);
	for (uint32_t i = 0; i < c->member_count; i++) {
		struct member *m = &c->members[i];
		/* After etcd was away every lease gets its term anew, as a new leader does. */
		if (c->etcd_away_until_ns && m->lease_until_ns)
			m->lease_until_ns = now_ns + LEASE_MS * MS;
		if (sim_up(c->sim, i) && !sim_stopped(c->sim, i)) {
			keep_key(m, now_ns);
		} else if (m->lease_until_ns && now_ns >= m->lease_until_ns) {
			m->lease_until_ns = 0;
			broadcast(c, m, 0);
		}
	}
	c->etcd_away_until_ns = 0;
}

static void on_snapshot(void *context, uint64_t number)
{
	struct cluster *c = context;
	if (is_away(c))
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

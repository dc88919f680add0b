/* lead - the simulated etcd's election and epochs, the invariants of leadership (I6), and operators who drain nodes. */
#include "tests/sim/cluster_impl.h"

#include <stdio.h>

#include "net/claim.h"

enum { LEASE_MS = 3000, LEASE_MARGIN_MS = 300, CLAIM_AGAIN_MS = 300, UNDRAIN_MS = 12000 };

static bool is_away(const struct cluster *c)
{
	return sim_now(c->sim) < c->etcd_away_until_ns;
}

static bool reaches_etcd(const struct member *m)
{
	const struct sim *sim = m->cluster->sim;
	return sim_up(sim, m->index) && !sim_stopped(sim, m->index) && sim_now(sim) >= m->etcd_cut_until_ns &&
	       !is_away(m->cluster);
}

/* News of etcd arrive when it can be reached again. */
static void tell(struct member *m, void (*fn)(void *context, uint64_t number), uint64_t number)
{
	struct sim *sim = m->cluster->sim;
	uint64_t from_ns = sim_now(sim) > m->etcd_cut_until_ns ? sim_now(sim) : m->etcd_cut_until_ns;
	uint64_t at_ns = from_ns + 1 * MS + sim_random(sim, 20 * MS);
	if (at_ns < m->lead_told_ns)
		at_ns = m->lead_told_ns; /* in order */
	m->lead_told_ns = at_ns;
	sim_at(sim, at_ns, m->index, fn, m, number);
}

/* ---- what a coordinator hears */

static void on_elected(void *context, uint64_t candidacy)
{
	struct member *m = context;
	coord_lead_elected(m->coord, (int64_t)candidacy, m->lead_until_local_ns, sim_local(m->cluster->sim, m->index));
	member_after_event(m);
}

static void on_renewed(void *context, uint64_t candidacy)
{
	struct member *m = context;
	coord_lead_renewed(m->coord, (int64_t)candidacy, m->lead_until_local_ns, sim_local(m->cluster->sim, m->index));
	member_after_event(m);
}

static void on_deposed(void *context, uint64_t number)
{
	struct member *m = context;
	(void)number;
	coord_lead_deposed(m->coord, sim_local(m->cluster->sim, m->index));
	member_after_event(m);
}

/* number: candidacy and epoch. */
static void on_claimed(void *context, uint64_t number)
{
	struct member *m = context;
	coord_lead_claimed(m->coord, (int64_t)(number >> 32), (uint32_t)number, sim_local(m->cluster->sim, m->index));
	member_after_event(m);
}

/* As net/etcd_claim.c: only while the candidacy is there.  No wall clock: an emptied etcd begins at 1 again, and the
 * nodes have to teach the leader better. */
static void on_claim(void *context, uint64_t candidacy)
{
	struct member *m = context;
	struct cluster *c = m->cluster;
	if (!reaches_etcd(m)) {
		sim_at(c->sim, sim_now(c->sim) + CLAIM_AGAIN_MS * MS, m->index, on_claim, m, candidacy);
		return;
	}
	if (m->candidacy != candidacy || m->candidate_life != m->life)
		return;
	struct claim claim = {.stored = c->epoch_stored, .beaten = m->epoch_beaten};
	claim_judge(&claim, &c->epoch_stored);
	m->epoch_claimed = c->epoch_stored;
	m->epoch_claimed_wipes = c->epoch_wipes;
	tell(m, on_claimed, candidacy << 32 | c->epoch_stored);
}

void member_claim_epoch(void *member, int64_t candidacy, uint64_t beaten)
{
	struct member *m = member;
	struct sim *sim = m->cluster->sim;
	m->epoch_beaten = beaten;
	sim_at(sim, sim_now(sim) + 1 * MS + sim_random(sim, 10 * MS), m->index, on_claim, m, (uint64_t)candidacy);
}

/* ---- the election */

static void keep_candidacy(struct member *m)
{
	struct cluster *c = m->cluster;
	uint64_t now_ns = sim_now(c->sim);
	if (m->candidacy && now_ns >= m->lead_until_ns)
		m->candidacy = 0;
	/* The key of a life that is over stands until its lease is. */
	if (!reaches_etcd(m) || (m->candidacy && m->candidate_life != m->life))
		return;
	/* Who gave its lease up by its own clock stands anew (net/etcd_election.c). */
	if (m->candidacy && sim_local(c->sim, m->index) >= m->lead_until_local_ns)
		m->candidacy = 0;
	if (!m->candidacy) {
		m->candidacy = ++c->revision;
		m->candidate_life = m->life;
	}
	m->lead_until_ns = now_ns + LEASE_MS * MS;
	m->lead_until_local_ns = sim_local(c->sim, m->index) + (LEASE_MS - LEASE_MARGIN_MS) * MS;
	tell(m, on_renewed, m->candidacy);
}

void lead_etcd_back(struct cluster *c)
{
	for (uint32_t i = 0; i < c->member_count; i++)
		if (c->members[i].candidacy)
			c->members[i].lead_until_ns = sim_now(c->sim) + LEASE_MS * MS;
}

void lead_etcd_tick(struct cluster *c)
{
	struct member *leader = NULL;
	for (uint32_t i = 0; i < c->member_count; i++) {
		struct member *m = &c->members[i];
		if (m->kind != COORDINATOR)
			continue;
		keep_candidacy(m);
		if (m->candidacy && (!leader || m->candidacy < leader->candidacy))
			leader = m;
	}
	uint64_t candidacy = leader ? leader->candidacy : 0;
	if (candidacy == c->leader_candidacy)
		return;
	c->leader_candidacy = candidacy;
	for (uint32_t i = 0; i < c->member_count; i++) {
		struct member *m = &c->members[i];
		if (m->kind != COORDINATOR || !sim_up(c->sim, i))
			continue;
		if (m == leader && m->candidate_life == m->life)
			tell(m, on_elected, candidacy);
		else
			tell(m, on_deposed, 0);
	}
}

void lead_etcd_wiped(struct cluster *c)
{
	c->epoch_stored = 0;
	c->epoch_wipes++;
	for (uint32_t i = 0; i < c->member_count; i++)
		c->members[i].candidacy = 0;
}

/* ---- I6 */

/* Law 3: a coordinator that leads still has its lease, by etcd's clock.  (An emptied etcd breaks that promise: then only
 * the epochs fence.) */
void lead_check_coordinator(struct member *m)
{
	struct cluster *c = m->cluster;
	if (!m->coord || !sim_up(c->sim, m->index))
		return;
	struct coord_lead lead;
	coord_lead(m->coord, sim_local(c->sim, m->index), &lead);
	if (lead.epoch && sim_now(c->sim) >= m->lead_until_ns)
		cluster_fail(c, "I6: %s leads with epoch %llu, and its lease ended %llu ms ago", m->name,
			     (unsigned long long)lead.epoch, (unsigned long long)((sim_now(c->sim) - m->lead_until_ns) / MS));
}

/* What a node has seen only grows. */
void lead_check_node(struct member *m)
{
	uint64_t epoch;
	if (m->kind == ENGINE) {
		struct node_status s;
		node_status(m->engine, &s);
		epoch = s.epoch;
	} else {
		struct store_status s;
		store_status(m->store, &s);
		epoch = s.epoch;
	}
	if (epoch < m->epoch_seen)
		cluster_fail(m->cluster, "I6: %s went back from epoch %llu to %llu", m->name,
			     (unsigned long long)m->epoch_seen, (unsigned long long)epoch);
	m->epoch_seen = epoch;
}

/* An epoch that a node took is one coordinator's.  An emptied etcd gives the same numbers again, while the leader of
 * before may still be in its term: those are told apart by where they were claimed. */
void lead_see_frame(struct cluster *c, uint32_t to, const Wire__Envelope *envelope)
{
	const Wire__DirectiveDone *done = envelope->directive_done;
	if (done->error != ERR_OK) {
		c->directives_refused++;
		return;
	}
	c->directives++;
	const struct member *leader = &c->members[to];
	if (leader->epoch_claimed != done->epoch)
		return; /* the answer to a term before */
	struct epoch_holder *holder = &c->epochs[done->epoch % EPOCHS_MAX];
	bool known = holder->epoch == done->epoch && holder->wipes == leader->epoch_claimed_wipes;
	if (known && holder->coordinator != to)
		cluster_fail(c, "I6: directives of %s and %s were accepted with the same epoch %llu",
			     c->members[holder->coordinator].name, c->members[to].name, (unsigned long long)done->epoch);
	*holder = (struct epoch_holder){done->epoch, leader->epoch_claimed_wipes, to};
}

/* ---- operators */

/* number: on which node, and the wish. */
static void on_operator(void *context, uint64_t number)
{
	struct member *m = context;
	struct cluster *c = m->cluster;
	const struct member *node = &c->members[number >> 8];
	struct why why;
	enum err e = coord_direct(m->coord, node->name, (enum coord_wish)(number & 0xff), sim_local(c->sim, m->index), &why);
	c->drains += e == ERR_OK && (number & 0xff) == COORD_WISH_DRAIN;
	member_after_event(m);
}

static void ask_all(struct cluster *c, uint32_t node, enum coord_wish wish)
{
	for (uint32_t i = 0; i < c->member_count; i++)
		if (c->members[i].kind == COORDINATOR && sim_up(c->sim, i))
			sim_at(c->sim, sim_now(c->sim), i, on_operator, &c->members[i], (uint64_t)node << 8 | wish);
}

static void on_wish(void *context, uint64_t number)
{
	ask_all(context, (uint32_t)(number >> 8), (enum coord_wish)(number & 0xff));
}

void lead_draw_drains(struct cluster *c, uint32_t count, uint64_t from_ns, uint64_t to_ns)
{
	uint32_t nodes = c->member_count - c->options.coordinators;
	for (uint32_t i = 0; i < count; i++) {
		uint64_t node = c->options.coordinators + sim_random(c->sim, nodes);
		uint64_t at_ns = from_ns + sim_random(c->sim, to_ns - from_ns);
		sim_at(c->sim, at_ns, UINT32_MAX, on_wish, c, node << 8 | COORD_WISH_DRAIN);
		sim_at(c->sim, at_ns + (200 + sim_random(c->sim, 2000)) * MS, UINT32_MAX, on_wish, c,
		       node << 8 | COORD_WISH_UNDRAIN);
	}
}

static bool drains(const struct member *m)
{
	struct node_status engine = {0};
	struct store_status store = {0};
	if (m->engine)
		node_status(m->engine, &engine);
	if (m->store)
		store_status(m->store, &store);
	return engine.draining || store.draining;
}

void lead_undrain_all(struct cluster *c)
{
	uint64_t until_ns = sim_now(c->sim) + UNDRAIN_MS * MS;
	for (uint32_t i = 0; i < c->member_count; i++)
		while (drains(&c->members[i])) {
			ask_all(c, i, COORD_WISH_UNDRAIN);
			sim_run(c->sim, sim_now(c->sim) + 100 * MS);
			if (sim_now(c->sim) > until_ns)
				cluster_fail(c, "%d ms after the world healed nobody can undrain %s", UNDRAIN_MS,
					     c->members[i].name);
		}
}

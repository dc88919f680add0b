#include "coordinator/leader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/rng.h"
#include "coordinator/core.h"
#include "net/etcd.h"
#include "net/etcd_claim.h"
#include "net/loop.h"

static const uint64_t RETRY_NS = 300000000;

enum { VALUE_MAX = LEADER_URL_MAX + LEADER_NAME_MAX + 2 };

struct leader {
	struct leader_options options;
	struct etcd_election *election;
	struct etcd_claim *claim;
	struct loop_timer *retry;
	char epoch_key[160];
	char value[VALUE_MAX];           /* "URL NAME" */
	char name[LEADER_NAME_MAX + 1];  /* who leads */
	char url[LEADER_URL_MAX + 1];
	bool mine, resigned;
	/* what the core wants a number for */
	int64_t candidacy;
	uint64_t beaten, life;
};

static uint64_t now(const struct leader *l)
{
	return loop_now_ns(l->options.loop);
}

/* ---- epochs */

static void on_claimed(void *arg, enum err e, const char *text, uint64_t number)
{
	struct leader *l = arg;
	l->claim = NULL;
	if (e == ERR_OK)
		coord_lead_claimed(l->options.coord, l->candidacy, number, now(l));
	else if (e == ERR_STALE)
		log_info("leader: no epoch: %s", text);
	else if (l->mine)
		loop_timer_arm(l->retry, RETRY_NS);
	struct coord_lead lead;
	coord_lead(l->options.coord, now(l), &lead);
	if (e == ERR_OK && lead.epoch == number)
		log_info("leads with epoch %llu", (unsigned long long)number);
}

static void claim(struct loop_timer *timer, void *arg)
{
	(void)timer;
	struct leader *l = arg;
	const char *key = etcd_election_key(l->election);
	if (!l->mine || !key)
		return;
	struct etcd_claim_options options = {
		.key = l->epoch_key,
		.life = l->life,
		.beaten = l->beaten,
		.wall_ns = l->options.wall_ns(),
		.guard_key = key,
		.guard_revision = l->candidacy,
	};
	etcd_claim_cancel(l->claim);
	l->claim = NULL;
	if (etcd_claim_start(l->options.etcd, &options, on_claimed, l, &l->claim) != ERR_OK)
		loop_timer_arm(l->retry, RETRY_NS);
}

void leader_claim_epoch(struct leader *l, int64_t candidacy, uint64_t beaten)
{
	l->candidacy = candidacy;
	l->beaten = beaten;
	/* The same for one want, so that a lost answer costs no number. */
	l->life = rng_mix(now(l) ^ (uint64_t)(uintptr_t)l ^ beaten);
	loop_timer_arm(l->retry, 0);
}

/* ---- the election */

static void note_leader(struct leader *l, const struct etcd_leader *leader)
{
	char value[VALUE_MAX] = "";
	l->name[0] = l->url[0] = 0;
	if (!leader->known || leader->value_length >= sizeof(value))
		return;
	memcpy(value, leader->value, leader->value_length);
	char *space = strchr(value, ' ');
	if (!space)
		return;
	*space = 0;
	snprintf(l->url, sizeof(l->url), "%.*s", LEADER_URL_MAX, value);
	snprintf(l->name, sizeof(l->name), "%.*s", LEADER_NAME_MAX, space + 1);
}

static void on_leader(struct etcd_election *election, const struct etcd_leader *leader, void *arg)
{
	struct leader *l = arg;
	bool was_mine = l->mine;
	note_leader(l, leader);
	l->mine = leader->mine && !l->resigned;
	if (l->mine) {
		coord_lead_elected(l->options.coord, leader->epoch, etcd_election_until_ns(election), now(l));
		return;
	}
	coord_lead_deposed(l->options.coord, now(l));
	if (was_mine)
		log_info("leads no longer");
	else if (l->name[0])
		log_info("%s leads", l->name);
}

void leader_tick(struct leader *l)
{
	if (l->mine)
		coord_lead_renewed(l->options.coord, l->candidacy, etcd_election_until_ns(l->election), now(l));
}

void leader_resign(struct leader *l)
{
	l->resigned = true;
	l->mine = false;
	coord_lead_deposed(l->options.coord, now(l));
	etcd_election_resign(l->election, NULL, NULL);
}

const char *leader_name(const struct leader *l)
{
	return l->name;
}

const char *leader_url(const struct leader *l)
{
	return l->url;
}

enum err leader_create(const struct leader_options *options, struct leader **ret_leader)
{
	struct leader *l = calloc(1, sizeof(*l));
	if (!l)
		return ERR_NOMEM;
	l->options = *options;
	snprintf(l->value, sizeof(l->value), "%.*s %.*s", LEADER_URL_MAX, options->url, LEADER_NAME_MAX, options->name);
	snprintf(l->epoch_key, sizeof(l->epoch_key), "/baton/%s/epoch", options->cluster);
	char name[160];
	snprintf(name, sizeof(name), "/baton/%s/leader", options->cluster);
	struct etcd_election_options election = {.name = name, .value = l->value, .ttl_s = LEADER_TTL_S};
	enum err e = loop_timer_create(options->loop, claim, l, &l->retry);
	if (e == ERR_OK)
		e = etcd_election_start(options->etcd, &election, on_leader, l, &l->election);
	if (e != ERR_OK) {
		leader_destroy(l);
		return e;
	}
	*ret_leader = l;
	return ERR_OK;
}

void leader_destroy(struct leader *l)
{
	if (!l)
		return;
	etcd_claim_cancel(l->claim);
	etcd_election_stop(l->election);
	loop_timer_destroy(l->retry);
	free(l);
}

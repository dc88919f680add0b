/* leader - the coordinator's part in the election, between etcd and the pure core (lead.h).
 *
 * Every coordinator stands for "/baton/<cluster>/leader"; whose key is the oldest leads, under a lease of LEADER_TTL_S.
 * Its epoch is a number of "/baton/<cluster>/epoch" (net/claim.h), taken only while its candidacy stands, so that two
 * terms never have the same one, also after etcd lost its data.
 *
 * Owns:   the election, the claim under way.
 * Loop:   the process's.
 * Rules:  1 the core's hook (leader_claim_epoch) answers later, never at once. */
#ifndef COORDINATOR_LEADER_H
#define COORDINATOR_LEADER_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

enum { LEADER_TTL_S = 3, LEADER_NAME_MAX = 63, LEADER_URL_MAX = 255 };

struct coord;
struct etcd;
struct leader;
struct loop;

struct leader_options {
	struct loop *loop;
	struct etcd *etcd;
	struct coord *coord;
	const char *cluster;
	const char *name;
	const char *url;                /* of the API: whom others send what only the leader may do */
	uint64_t (*wall_ns)(void);
};

MUST_USE enum err leader_create(const struct leader_options *options, struct leader **ret_leader);
/* The core's hook of that name. */
void leader_claim_epoch(struct leader *leader, int64_t candidacy, uint64_t beaten);
/* Tells the core until when the lease is ours; with every tick of the core. */
void leader_tick(struct leader *leader);
/* This process leaves: the next one may lead at once. */
void leader_resign(struct leader *leader);
/* Who leads, as etcd said last; "" when nobody is known. */
const char *leader_name(const struct leader *leader);
const char *leader_url(const struct leader *leader);
void leader_destroy(struct leader *leader);
#endif

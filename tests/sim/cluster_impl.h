/* cluster_impl - what the files of the simulated cluster share; nobody else includes it. */
#ifndef TESTS_SIM_CLUSTER_IMPL_H
#define TESTS_SIM_CLUSTER_IMPL_H
#include "kvstore/place.h"
#include "tests/sim/cluster.h"

extern const struct id128 cluster_compat;
extern const struct sim_node_ops member_ops; /* core: the member */

/* member.c: a new life of the core; and all its memory. */
void member_start(struct member *m);
void member_free(struct member *m);
/* Whoever waits for something on this node may look. */
void member_after_event(struct member *m);

/* Of every store: entries of its ledger; of one: what it says of its size. */
uint32_t cluster_store_entries(const struct cluster *c);
uint32_t member_store_weight(const struct member *m);

/* The core goes on under the member's incarnation. */
void member_renew(struct member *m);

/* cluster.c: a node has met that many wrong digests. */
void cluster_check_misses(struct cluster *c, uint64_t digest_misses);

/* etcd.c */
void etcd_start(struct cluster *c);
/* A process that starts asks for its incarnation; false: etcd is away. */
bool etcd_first_claim(struct member *m);
/* A process was refused by a peer for a higher incarnation. */
void etcd_outranked(struct member *m, uint64_t incarnation, bool lives);
/* The node has come up: it is told of all members soon. */
void etcd_watch(struct cluster *c, uint32_t member);

/* lead.c: the election, its invariants (I6), operators */
void lead_etcd_tick(struct cluster *c);
void lead_etcd_back(struct cluster *c);
void lead_etcd_wiped(struct cluster *c);
void lead_check_coordinator(struct member *m);
void lead_check_node(struct member *m);
void lead_see_frame(struct cluster *c, uint32_t to, const Wire__Envelope *envelope);
void member_claim_epoch(void *member, int64_t candidacy, uint64_t beaten);

/* links.c: a link that is refused, and who was told of it */
void links_refuse(struct cluster *c);
void links_begun(struct cluster *c, uint32_t who, uint32_t peer);
void links_heard(struct cluster *c, uint32_t from, uint32_t to, const Wire__Envelope *envelope);
void links_said(struct cluster *c, uint32_t from, uint32_t to, const Wire__Envelope *envelope);

/* pins.c: what is pinned hard in a store is there until it is unpinned. */
void pins_check(struct member *m);
/* disk.c: the disks of stores */
void disk_create(struct member *m);
void disk_destroy(struct member *m);
/* The next life of the store begins over what the last one left. */
struct disk_options disk_start(struct member *m);
void disk_gone(void *member, const struct id128 *key, enum disk_gone why);
/* Its life is over: what came of it. */
void disk_sum_up(struct member *m);
/* An operator has evicted a block. */
void disk_evicted(struct member *m, const struct id128 *key, uint64_t note);
/* Offers and their answers, as they are heard and said. */
void disk_heard(struct member *m, uint32_t from, const Wire__Envelope *envelope);
void disk_said(struct member *m, uint32_t to, const Wire__Envelope *envelope);
void disk_check_store(struct member *m);

/* frames.c: places with digests are compared with the bytes; one line a frame into the story. */
void cluster_check_claims(struct cluster *c, uint32_t from, const Wire__Envelope *envelope);
void cluster_note_frame(struct cluster *c, uint32_t from, uint32_t to, const Wire__Envelope *envelope);
#endif

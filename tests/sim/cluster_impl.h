/* cluster_impl - what the files of the simulated cluster share; nobody else includes it. */
#ifndef TESTS_SIM_CLUSTER_IMPL_H
#define TESTS_SIM_CLUSTER_IMPL_H
#include "tests/sim/cluster.h"

extern const struct id128 cluster_compat;
extern const struct sim_node_ops member_ops; /* core: the member */

/* member.c: a new life of the core; and all its memory. */
void member_start(struct member *m);
void member_free(struct member *m);
/* Whoever waits for something on this node may look. */
void member_after_event(struct member *m);

/* etcd.c */
void etcd_start(struct cluster *c);
/* All keys are gone. */
void etcd_wipe(struct cluster *c);
/* The member's key is gone, and does not come back before that. */
void etcd_revoke(struct cluster *c, uint32_t member, uint64_t until_ns);
/* The node has come up: it is told of all members soon. */
void etcd_watch(struct cluster *c, uint32_t member);

/* frames.c: places with digests are compared with the bytes; one line a frame into the story. */
void cluster_check_claims(struct cluster *c, uint32_t from, const Wire__Envelope *envelope);
void cluster_note_frame(struct cluster *c, uint32_t from, uint32_t to, const Wire__Envelope *envelope);
#endif

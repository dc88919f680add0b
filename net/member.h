/* member - what a node announces of itself in etcd, and who else is there.
 *
 * The record is JSON under /baton/<cluster>/nodes/<name>, under a lease that this process keeps; when the lease is lost
 * while the process lives it registers anew.  etcd being away is normal: the last view stays (law 3).
 *
 * Who has the name is said by /baton/<cluster>/incarnations/<name>, which stays (net/claim.h).  The record is only put
 * while that number is ours.  When an emptied etcd has lost it we write it again; when a peer refused us for a higher one
 * we take a higher one still; when another process took it, we have been replaced.
 *
 * Owns:   its lease, its watch.  Not the etcd client.
 * Loop:   the one given; callbacks run there.
 * Bounds: a record has at most MEMBER_RECORD_MAX bytes, a view MEMBERS_MAX members; more are ignored with a warning. */
#ifndef NET_MEMBER_H
#define NET_MEMBER_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/id128.h"
#include "base/layer_groups.h"
#include "base/why.h"
#include "proto/baton.pb-c.h"

struct loop;
struct membership;

enum {
	MEMBER_RECORD_MAX = 16384,
	MEMBERS_MAX = 4096,
	MEMBER_NAME_MAX = 63,
	MEMBER_URL_MAX = 255,
	MEMBER_MODELS_MAX = 4,
	MEMBER_MODEL_MAX = 127,
};

struct member {
	uint64_t node;        /* member_node_id(name) */
	uint64_t incarnation; /* grows with each start (net/claim.h) */
	Wire__Role role;
	uint32_t pid;
	bool has_compat;
	struct id128 compat;
	uint32_t block_tokens, context_max;
	uint32_t group_count;                 /* layer groups of the model; 0: said by nobody, one that sees all */
	uint32_t windows[LAYER_GROUPS_MAX];  /* tokens that a token sees in each; 0: all */
	double prefill_tokens_per_s, step_seconds; /* of the profile; 0: not measured yet */
	uint32_t model_count;
	char models[MEMBER_MODELS_MAX][MEMBER_MODEL_MAX + 1];
	char name[MEMBER_NAME_MAX + 1]; /* "prefill-1" */
	char url[MEMBER_URL_MAX + 1];   /* of its control streams: "tcp://10.0.0.7:4100" */
	uint32_t tensor_parallel_size;  /* devices that compute as one; 0: not said, or none */
	char device[64];                /* "cpu avx2, 2 threads" */
};

/* A name's id is its hash, so the same name is the same node after a restart. */
uint64_t member_node_id(const char *name);
const char *member_role_text(Wire__Role role); /* "prefill" */
/* JSON; ret_text has MEMBER_RECORD_MAX bytes. */
MUST_USE enum err member_format(const struct member *member, char *ret_text);
/* ERR_INVALID names the field. */
MUST_USE enum err member_parse(const char *text, size_t length, struct why *why, struct member *ret_member);

struct membership_options {
	struct etcd *etcd;             /* outlives the membership */
	const char *cluster;           /* NULL: "default" */
	const struct member *self;     /* copied; NULL: only watches */
	uint64_t life;                 /* that self's incarnation was claimed with */
	uint32_t ttl_s;                /* 0: 5 */
	void *context;
	/* A member is there or changed; it is gone (its key vanished). */
	void (*on_member)(void *context, const struct member *member);
	void (*on_gone)(void *context, uint64_t node);
	/* All members there were have been told, once or again after a gap; may be NULL. */
	void (*on_synced)(void *context);
	/* The others may be NULL.  registered: our record is in etcd under our lease. */
	void (*on_state)(void *context, bool registered);
	/* This process goes on under a higher number. */
	void (*on_renewed)(void *context, uint64_t incarnation);
	/* Another process has this name now, with that number: the end. */
	void (*on_replaced)(void *context, uint64_t incarnation);
};

enum { MEMBER_KEY_MAX = 192 };
/* "/baton/<cluster>/incarnations/<name>" */
void member_incarnation_key(const char *cluster, const char *name, char ret_key[MEMBER_KEY_MAX]);

MUST_USE enum err membership_create(struct loop *loop, const struct membership_options *options,
				    struct membership **ret_membership);
/* Changes what is announced (role, profile): put again. */
void membership_update(struct membership *membership, const struct member *self);
/* A peer refused this process for a later life of its name.  lives: that one is in session with the peer, so it is not for
 * us to go above it; it is only looked who has the name. */
void membership_outranked(struct membership *membership, uint64_t incarnation, bool lives);
/* Takes the record away, in the background: give the loop some turns before membership_destroy(). */
void membership_leave(struct membership *membership);
void membership_destroy(struct membership *membership);
#endif

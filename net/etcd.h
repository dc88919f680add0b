/* etcd - membership, leases, watches and election: a client of etcd v3 that never blocks the loop.
 *
 * etcd says who is a member; it is never asked on the path of a request, and its absence is normal: calls
 * then fail with ERR_UNAVAILABLE or ERR_DEADLINE, watches and elections try again by themselves, and
 * on_state tells.  After a write that ended with one of these two errors it is unknown whether it
 * happened.  Holding a lease proves nothing to a third party: the resource checks the epoch (DESIGN 13).
 *
 * Owns:   one gRPC channel per endpoint and one thread that only posts completions to the home loop.
 * Loop:   touch only from the loop given to etcd_create(); every callback runs there, never inside the call
 *         that started it.
 * Bounds: a reply has at most reply_bytes_max; a watch at most key_max keys; each call ends by call_timeout_ns.
 * Rules:  1 every call has its callback exactly once, also when cancelled;
 *         2 what a callback is given is valid until it returns;
 *         3 keys are text without NUL, at most ETCD_KEY_BYTES_MAX. */
#ifndef NET_ETCD_H
#define NET_ETCD_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"

struct loop;
struct etcd;

enum { ETCD_KEY_BYTES_MAX = 1024, ETCD_VALUE_BYTES_MAX = 1 << 20 };

struct etcd_options {
	const char *const *endpoints; /* "http://127.0.0.1:2379" or "https://…" */
	size_t endpoint_count;        /* 1 to 16; the next one is tried when one fails */
	uint64_t call_timeout_ns;     /* 0: 3 s */
	uint32_t reply_bytes_max;     /* 0: 16 MiB */
	const char *ca_file;          /* https: PEM; certificate and key for mutual TLS */
	const char *certificate_file;
	const char *key_file;
	const char *user;             /* with etcd's own authentication; NULL: none, or the certificate's common name */
	const char *password;         /* copied.  Calls before the first token, or with one that is over, end with ERR_AGAIN */
	/* etcd answered (up) or stopped answering (text says how); only on changes.  May be NULL. */
	void (*on_state)(struct etcd *etcd, bool up, const char *text, void *arg);
	void *arg;
};
/* Does not connect yet.  ERR_INVALID: an endpoint; ERR_IO: a certificate file. */
MUST_USE enum err etcd_create(struct loop *loop, const struct etcd_options *options, struct etcd **ret_etcd,
			      struct why *why);
/* Calls that are under way end with ERR_CANCELED before it returns.  Stop watches, keep-alives and elections
 * first; not from inside a callback.  NULL is fine. */
void etcd_destroy(struct etcd *etcd);

struct etcd_kv {
	const char *key; /* 0-terminated */
	const uint8_t *value;
	size_t key_length, value_length;
	int64_t create_revision, mod_revision;
	int64_t version; /* 1: just created */
	int64_t lease;   /* 0: none */
};

/* The fields that a call does not speak of are 0. */
struct etcd_reply {
	int64_t revision; /* of the store when it answered */
	const struct etcd_kv *kvs; /* get, range, transaction (all its gets, in order) */
	size_t kv_count;
	bool more;         /* range: there are further keys */
	bool succeeded;    /* transaction: the comparisons held */
	int64_t deleted;   /* delete, transaction */
	int64_t lease;     /* grant */
	uint32_t ttl_s;    /* grant: what the server really gave */
};
/* text says what was wrong and where; "" with ERR_OK.  reply is NULL unless e is ERR_OK.  Instead of a
 * function NULL may be given to each call: nobody wants to know. */
typedef void etcd_done_fn(struct etcd *etcd, enum err e, const char *text, const struct etcd_reply *reply,
			  void *arg);

/* Every call below returns its number, for etcd_cancel(). */
uint64_t etcd_put(struct etcd *etcd, const char *key, const void *value, size_t length, int64_t lease,
		  etcd_done_fn *done, void *arg);
/* ERR_NOT_FOUND when there is none. */
uint64_t etcd_get(struct etcd *etcd, const char *key, etcd_done_fn *done, void *arg);
struct etcd_range {
	const char *prefix;
	const char *after; /* the last key of the page before; NULL: the first page */
	uint32_t limit;    /* keys per page; 0: 500 */
	int64_t revision;  /* that of the first page, so that all pages are of one moment; 0: now */
	bool keys_only;
};
/* One page.  ERR_STALE: that revision was compacted. */
uint64_t etcd_range(struct etcd *etcd, const struct etcd_range *range, etcd_done_fn *done, void *arg);
uint64_t etcd_delete(struct etcd *etcd, const char *key, etcd_done_fn *done, void *arg);
uint64_t etcd_delete_prefix(struct etcd *etcd, const char *prefix, etcd_done_fn *done, void *arg);

enum etcd_target { ETCD_CREATE_REVISION, ETCD_MOD_REVISION, ETCD_VERSION, ETCD_VALUE };
enum etcd_relation { ETCD_EQUAL, ETCD_NOT_EQUAL, ETCD_GREATER, ETCD_LESS };
struct etcd_compare {
	const char *key;
	enum etcd_target target;
	enum etcd_relation relation;
	int64_t number; /* a key that does not exist has 0 for all three */
	const void *value;
	size_t value_length;
};
enum etcd_op_kind { ETCD_OP_PUT, ETCD_OP_GET, ETCD_OP_DELETE };
struct etcd_op {
	enum etcd_op_kind kind;
	const char *key;
	const void *value; /* put */
	size_t value_length;
	int64_t lease;
	bool prefix; /* get, delete: all keys that begin so */
};
struct etcd_txn {
	const struct etcd_compare *compares;
	size_t compare_count;
	const struct etcd_op *then_ops;
	size_t then_count;
	const struct etcd_op *else_ops;
	size_t else_count;
};
/* All or nothing; the arguments are copied. */
uint64_t etcd_txn(struct etcd *etcd, const struct etcd_txn *txn, etcd_done_fn *done, void *arg);

/* ttl_s >= 2: etcd raises smaller ones.  Granted is not kept: see etcd_keepalive_start(). */
uint64_t etcd_lease_grant(struct etcd *etcd, uint32_t ttl_s, etcd_done_fn *done, void *arg);
/* Deletes the keys under it.  ERR_NOT_FOUND: it is over already. */
uint64_t etcd_lease_revoke(struct etcd *etcd, int64_t lease, etcd_done_fn *done, void *arg);
/* Forgets history before this revision (tests, maintenance). */
uint64_t etcd_compact(struct etcd *etcd, int64_t revision, etcd_done_fn *done, void *arg);

/* The callback runs with ERR_CANCELED before this returns; nothing if it had run.  The server may still do it. */
void etcd_cancel(struct etcd *etcd, uint64_t call);

/* Keeps a lease: renews at ttl/3, reconnects as needed.  It is lost (once, terminal) when etcd says so
 * (ERR_NOT_FOUND) or when no renewal was confirmed in time, counted from the *sending* of the last confirmed
 * one on our clock, less a tenth of the ttl (ERR_DEADLINE): we stop before the holder counts us out. */
struct etcd_keepalive;
typedef void etcd_lost_fn(struct etcd_keepalive *keepalive, enum err e, const char *text, void *arg);
/* granted_ns: loop_now_ns() when the grant was asked for. */
MUST_USE enum err etcd_keepalive_start(struct etcd *etcd, int64_t lease, uint32_t ttl_s, uint64_t granted_ns,
				       etcd_lost_fn *on_lost, void *arg, struct etcd_keepalive **ret_keepalive);
/* loop_now_ns() until which the lease is ours as far as we can know; 0 when lost. */
uint64_t etcd_keepalive_until_ns(const struct etcd_keepalive *keepalive);
/* Stops renewing, in any state; the lease runs out or is revoked by the owner.  NULL is fine. */
void etcd_keepalive_stop(struct etcd_keepalive *keepalive);

/* Follows a prefix.  From revision 0: first what is there, as events, then on_synced, then what changes.
 * It goes on by itself after a lost connection, from the revision where it was; where history was compacted
 * meanwhile (or the store went back in time) it lists again and makes up the events that lead from what it
 * told before to what is there now.  Each key's events come in order; intermediate values may be left out. */
struct etcd_watch;
enum etcd_event_kind { ETCD_PUT, ETCD_DELETED };
struct etcd_event {
	enum etcd_event_kind kind;
	struct etcd_kv kv; /* DELETED: key and mod_revision only */
	bool made_up;      /* from a list, not from history */
};
struct etcd_watch_callbacks {
	void (*on_event)(struct etcd_watch *watch, const struct etcd_event *event, void *arg);
	/* What was there up to this revision has been told.  After each list. */
	void (*on_synced)(struct etcd_watch *watch, int64_t revision, void *arg); /* may be NULL */
	/* It cannot go on: DENIED, TOO_LARGE (more than key_max keys), INVALID.  Terminal. */
	void (*on_failed)(struct etcd_watch *watch, enum err e, const char *text, void *arg);
};
struct etcd_watch_options {
	const char *prefix;
	int64_t start_revision; /* 0: list first; else tell events from this revision on */
	uint32_t key_max;       /* 0: 65536 */
};
MUST_USE enum err etcd_watch_start(struct etcd *etcd, const struct etcd_watch_options *options,
				   const struct etcd_watch_callbacks *callbacks, void *arg,
				   struct etcd_watch **ret_watch);
struct etcd_watch_counts {
	uint64_t events, made_up;
	uint64_t connects, lists, compactions;
	uint32_t keys; /* now */
};
void etcd_watch_counts(const struct etcd_watch *watch, struct etcd_watch_counts *ret_counts);
/* In any state, also inside its callbacks; none comes any more.  NULL is fine. */
void etcd_watch_stop(struct etcd_watch *watch);

/* An election: each candidate has a key "<name>/<lease>" under its own lease, the oldest key leads, and its
 * create revision is the epoch: it only grows, and fences (a resource refuses a smaller one).  A candidate
 * that lost its lease steps down at once and stands again by itself. */
struct etcd_election;
struct etcd_leader {
	bool known; /* false: nobody leads, or we cannot know any more whether we do */
	bool mine;
	int64_t epoch;
	const char *value; /* what the leader said of itself: its address */
	size_t value_length;
};
typedef void etcd_leader_fn(struct etcd_election *election, const struct etcd_leader *leader, void *arg);
struct etcd_election_options {
	const char *name;
	const char *value; /* NULL: observe only */
	uint32_t ttl_s;    /* 0: 5 */
};
/* on_leader comes at every change.  While etcd is away the last leader stays known, except if it is us:
 * then our lease decides. */
MUST_USE enum err etcd_election_start(struct etcd *etcd, const struct etcd_election_options *options,
				      etcd_leader_fn *on_leader, void *arg,
				      struct etcd_election **ret_election);
/* Our key while we stand, for a comparison that goes with another write; NULL: none. */
const char *etcd_election_key(const struct etcd_election *election);
/* loop_now_ns() until which our lease is ours as far as we can know; 0 when we do not stand. */
uint64_t etcd_election_until_ns(const struct etcd_election *election);
/* Steps down (told by on_leader) and observes from now on; done when the key is gone, ERR_NOT_FOUND when there
 * was none.  done may be NULL. */
void etcd_election_resign(struct etcd_election *election, etcd_done_fn *done, void *arg);
/* In any state; no callback comes any more.  A lease held is revoked in the background: give the loop a
 * turn or two before etcd_destroy(), or the key stays for its ttl.  NULL is fine. */
void etcd_election_stop(struct etcd_election *election);
#endif

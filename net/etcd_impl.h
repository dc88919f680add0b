/* etcd_impl - the two streams of etcd's protocol as the C files see them.  Only net/etcd*.c* includes it.
 *
 * The shim (C++) knows gRPC and nothing else: it turns calls and streams into callbacks on the home loop.
 * What a lease, a watch and an election mean is C, above this page. */
#ifndef NET_ETCD_IMPL_H
#define NET_ETCD_IMPL_H
#include "net/etcd.h"

struct etcd_flow; /* one stream; the shim's */

struct etcd_watch_message {
	bool created, canceled;
	bool partial;             /* more events of the same revision follow in the next message */
	int64_t compact_revision; /* canceled, because history begins here now */
	int64_t revision;         /* of the store */
	uint64_t cluster;
	const char *cancel_reason;
	const struct etcd_event *events;
	size_t event_count;
};
typedef void etcd_watch_message_fn(void *arg, const struct etcd_watch_message *message);
/* ttl_s 0: there is no such lease any more. */
typedef void etcd_renewed_fn(void *arg, int64_t ttl_s);
/* The last callback of a flow, which is gone when it returns; e is never ERR_OK. */
typedef void etcd_flow_end_fn(void *arg, enum err e, const char *text);

struct etcd_flow *etcd_watch_flow_open(struct etcd *etcd, const char *prefix, int64_t start_revision,
				       etcd_watch_message_fn *on_message, etcd_flow_end_fn *on_end, void *arg);
struct etcd_flow *etcd_renew_flow_open(struct etcd *etcd, int64_t lease, etcd_renewed_fn *on_renewed,
				       etcd_flow_end_fn *on_end, void *arg);
/* Asks once more; nothing while the request before is still on its way out. */
void etcd_renew_flow_ask(struct etcd_flow *flow);
/* No callback comes any more.  Fine inside its callbacks and for NULL. */
void etcd_flow_close(struct etcd_flow *flow);
/* A flow that the caller gave up on (no answer in time): the next attempt goes to the next endpoint. */
void etcd_flow_give_up(struct etcd_flow *flow, const char *text);

struct loop *etcd_loop(struct etcd *etcd);
uint64_t etcd_call_timeout_ns(struct etcd *etcd);

/* Waiting times between attempts: 0.1 s doubling to 2 s, each shortened at random by up to a half, so that a
 * thousand nodes do not come back in step. */
uint64_t etcd_backoff_ns(uint32_t attempt, uint64_t seed);
/* True for errors that trying again cannot heal. */
bool etcd_is_final(enum err e);
#endif

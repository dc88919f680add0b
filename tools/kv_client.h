/* kv_client - `baton kv`'s standing with the stores of a cluster: it finds them in etcd, as members do, without becoming one,
 * has a session with each, asks, reads their memory and offers its own.
 *
 * Every call turns the loop until what it is about has happened, or its time is over.  A store that dies meanwhile ends the
 * call with PEER_GONE; a session that comes back is used by the next call.
 *
 * Owns:   the process parts (net/process.h), the sessions, the memory that blocks land in.
 * Thread: main's.  Bounds: KV_STORES_MAX stores, KV_LANDING_BYTES of blocks under way. */
#ifndef TOOLS_KV_CLIENT_H
#define TOOLS_KV_CLIENT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/id128.h"
#include "base/why.h"
#include "net/process.h"
#include "proto/codec.h"
#include "tools/kv_file.h"

enum { KV_STORES_MAX = 256, KV_LANDING_BYTES = KV_FILE_BLOCK_MAX, KV_OFFERS_MAX = 64 };

struct kv_client;

struct kv_client_options {
	const struct process_settings *process;
	uint64_t timeout_ns; /* of a question, and for a session */
};

/* UNAVAILABLE: there is no store. */
MUST_USE enum err kv_client_open(const struct kv_client_options *options, struct kv_client **ret_client, struct why *why);
void kv_client_close(struct kv_client *client);

/* Stores, in order of name. */
uint32_t kv_client_stores(const struct kv_client *client);
const char *kv_client_name(const struct kv_client *client, uint32_t store);
/* UINT32_MAX: no store has that name. */
uint32_t kv_client_find(const struct kv_client *client, const char *name);
/* An engine of this cluster that blocks of that compat are of use to; NULL: there is none. */
const char *kv_client_user(const struct kv_client *client, const struct id128 *compat);
/* Any engine at all? */
bool kv_client_has_engines(const struct kv_client *client);

/* The answer is good until the next question, and fits it (kv_answer.h; PROTOCOL: it does not).  DEADLINE, PEER_GONE, CANCELED (a signal came), or what the store says. */
MUST_USE enum err kv_client_ask(struct kv_client *client, uint32_t store, Wire__KvAsk *ask,
				const Wire__KvAnswer **ret_answer, struct why *why);

/* Reads blocks as an answer to GET names them, all at once: together at most KV_LANDING_BYTES, each rounded up to 4 KiB.
 * Each block's outcome: OK (every layer has its digest), CORRUPT, STALE (it went meanwhile), PEER_GONE, DEADLINE.
 * The bytes are good until the next call.  ret_bad: the first layer that is not OK. */
struct kv_client_block {
	const Wire__KvBlock *block;
	enum err e;
	uint32_t bad_layer;
	uint64_t bad_digest;  /* with CORRUPT */
	const uint8_t *bytes; /* [layers][layer_bytes] */
};
MUST_USE enum err kv_client_read(struct kv_client *client, uint32_t store, struct kv_client_block *blocks, uint32_t count,
				 struct why *why);

/* Offers each block to its first owner, which reads it here (law 2) and passes it on to the others; at most KV_OFFERS_MAX,
 * together KV_LANDING_BYTES.  answer: UNAVAILABLE where there was no store to ask. */
struct kv_client_offer {
	struct kv_file_block block;
	enum err answer;
	uint32_t store;
};
MUST_USE enum err kv_client_offer(struct kv_client *client, struct kv_client_offer *offers, uint32_t count, struct why *why);
#endif

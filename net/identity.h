/* identity - who the holder of a certificate is, and what that allows (DESIGN 11).  Pure.
 *
 * A certificate names its holder by one URI in the SPIFFE form, as cert-manager and SPIRE issue them:
 *
 *     spiffe://<cluster>/baton/<role>/<name>      role: coordinator, prefill, decode, both, engine, kvstore, operator
 *
 * An operator is a person's tool at the stores (`baton kv`).  "engine" may be prefill, decode or both, for nodes whose role flips.  The name is the node's --name.
 *
 * Bounds: cluster and name of at most IDENTITY_NAME_MAX characters of a-z, A-Z, 0-9, '.', '_', '-'.
 * Rule:   who may dial whom is one table, role_may_dial(); net/session.h rule 3 is where it comes from. */
#ifndef NET_IDENTITY_H
#define NET_IDENTITY_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"
#include "proto/baton.pb-c.h"

enum { IDENTITY_NAME_MAX = 63, IDENTITY_URI_MAX = 255 };

struct identity {
	char cluster[IDENTITY_NAME_MAX + 1];
	char role[16];
	char name[IDENTITY_NAME_MAX + 1];
	uint32_t roles; /* bit (1 << Wire__Role) for each that the holder may take */
};

/* Why a peer was not let in: what is counted, and the label of the metric. */
#define REFUSAL_MAP(X)                                                             \
	X(PLAINTEXT, "plaintext")           /* its first bytes are no TLS */       \
	X(VERSION, "version")               /* older than TLS 1.3 */               \
	X(NO_CERTIFICATE, "no_certificate") /* it showed none */                   \
	X(CA, "unknown_ca")                 /* nobody we trust signed it */        \
	X(EXPIRED, "expired")                                                      \
	X(NOT_YET_VALID, "not_yet_valid")                                          \
	X(IDENTITY, "malformed_identity")   /* no URI, several, or not our form */ \
	X(CLUSTER, "other_cluster")                                                \
	X(ROLE, "wrong_role")               /* that role may not do this */        \
	X(NAME, "wrong_name")               /* certificate and claim differ */     \
	X(HANDSHAKE, "handshake")           /* anything else about TLS */          \
	X(ABANDONED, "abandoned")           /* it hung up before it was done */    \
	X(TIMEOUT, "handshake_timeout")                                            \
	X(CROWDED, "crowded_out")           /* the oldest of too many handshakes */ \
	X(BY_PEER, "refused_by_peer")       /* the other side does not want us */   \
	X(NODES, "too_many_nodes")          /* there are --max-nodes sessions */

enum refusal {
#define X(name, text) REFUSAL_##name,
	REFUSAL_MAP(X)
#undef X
	REFUSAL_COUNT
};
const char *refusal_text(enum refusal refusal); /* "unknown_ca" */

struct env;
/* As a Load reports them; ret_counts has REFUSAL_COUNT places.  Returns how many were filled in: all, or none. */
size_t refusals_report(const struct env *env, uint64_t *ret_counts);

/* ERR_INVALID: why says what is wrong with it. */
MUST_USE enum err identity_parse(const char *uri, size_t length, struct why *why, struct identity *ret_identity);
/* ret_uri has IDENTITY_URI_MAX + 1 bytes. */
MUST_USE enum err identity_format(const char *cluster, const char *role, const char *name, struct why *why,
				  char *ret_uri);
/* The id that goes with the name (net/member.h). */
uint64_t identity_node(const struct identity *identity);
uint64_t identity_name_node(const char *name);
bool identity_has_role(const struct identity *identity, Wire__Role role);
/* Has one of dialer's roles any business with one of dialed's on a control stream? */
bool identity_may_dial(const struct identity *dialer, const struct identity *dialed);
/* May one read memory of the other?  Engines and stores of each other; an operator and a store. */
bool identity_may_read(const struct identity *one, const struct identity *other);
bool role_may_dial(Wire__Role dialer, Wire__Role dialed);
/* Is a Hello true of its sender?  REFUSAL_COUNT: yes. */
enum refusal identity_check_hello(const struct identity *identity, const Wire__Hello *hello);
#endif

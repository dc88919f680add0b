/* tls - our certificate and whom we trust, from PEM files; and who was refused.
 *
 * Mutual (control streams and bulk): TLS 1.3 only, both sides show a certificate of one CA that names them
 * (net/identity.h), and each is checked against cluster, role and name during the handshake.  Server only (the
 * API): TLS 1.2 or 1.3, the client shows none.  Client of the API: checks the server's certificate and host.  No session tickets, no early data: nothing can be replayed, and
 * each connection is judged by the certificates of its own time.
 *
 * The files are looked at before each handshake and read again when they changed: renewed certificates need no
 * restart.  Files that do not go together (half of a renewal) leave the old ones in use, with a warning.
 *
 * Owns:   the contexts and counters.  Key material stays inside OpenSSL, which erases it.
 * Loop:   any thread.
 * Bounds: 1 MiB a file; ten lines of log about refusals a second. */
#ifndef NET_TLS_H
#define NET_TLS_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"
#include "net/identity.h"

struct tls;

struct tls_options {
	const char *ca_file;          /* mutual, or alone: a client of the API */
	const char *certificate_file; /* with the chain up to the CA, leaf first */
	const char *key_file;
	const char *cluster;          /* mutual: its and ours must be this one; NULL: server only */
};

/* What a connection is for: decides which roles may have it (net/identity.h). */
enum tls_purpose { TLS_CONTROL, TLS_BULK, TLS_API };

/* ERR_IO, ERR_INVALID: why names the file.  Mutual: our own certificate must name us, in that cluster. */
MUST_USE enum err tls_create(const struct tls_options *options, struct tls **ret_tls, struct why *why);
/* Every channel of it is closed. */
void tls_destroy(struct tls *tls);
/* Whom our certificate names; NULL where it is not mutual. */
const struct identity *tls_self(const struct tls *tls);

/* Counts, and logs "peer refused: text". */
void tls_refuse(struct tls *tls, enum refusal refusal, const char *peer, const char *text);
uint64_t tls_refused(const struct tls *tls, enum refusal refusal);
#endif

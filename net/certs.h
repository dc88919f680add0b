/* certs - makes a CA and certificates of nodes (net/identity.h), for `baton certs`, `baton up --tls` and tests.
 *
 * A fleet has cert-manager or SPIRE for this.  Keys are EC P-256, files of keys get mode 0600.
 *
 * Loop: any thread; blocks on files. */
#ifndef NET_CERTS_H
#define NET_CERTS_H
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"

/* DIR/ca.pem and DIR/ca.key, unless both are there: then they stay. */
MUST_USE enum err certs_make_ca(const char *dir, const char *cluster, struct why *why);

struct certs_node {
	const char *cluster, *role, *name;
	const char *uri;            /* instead of what these three make: for tests of what is refused; "": none */
	const char *const *hosts;   /* names and addresses for clients of the API; localhost is always among them */
	size_t host_count;
	int64_t begin_s, end_s;     /* validity, from now; both 0: an hour ago to 90 days */
};
/* DIR/NAME.pem and DIR/NAME.key, signed by DIR/ca.key; replaces what is there, each file in one step. */
MUST_USE enum err certs_make_node(const char *dir, const struct certs_node *node, struct why *why);
#endif

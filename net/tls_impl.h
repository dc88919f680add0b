/* tls_impl - the OpenSSL session of one channel, and its judgement of the peer.  Only net/tls.c and net/channel.c include it. */
#ifndef NET_TLS_IMPL_H
#define NET_TLS_IMPL_H
#include <openssl/ssl.h>

#include "net/tls.h"

/* What is expected of the peer, and what was found.  Lives in the channel; the session points to it. */
struct tls_judgement {
	struct tls *tls;
	enum tls_purpose purpose;
	bool server;
	uint64_t expect_node; /* whom we dialled; 0: whoever may */
	const char *expect_host; /* client of the API: used during tls_session() only */
	/* found */
	bool is_identified;
	struct identity identity;
	bool is_refused; /* by our own check of its certificate */
	enum refusal refusal;
	char text[192];
};

/* judgement: filled in but for what is found; stays where it is as long as the session. */
MUST_USE enum err tls_session(struct tls_judgement *judgement, int fd, SSL **ret_ssl);
/* Why the handshake failed, where our check of the certificate did not refuse; empties OpenSSL's queue of errors. */
void tls_explain(struct tls_judgement *judgement, const SSL *ssl, int ssl_error);
#endif

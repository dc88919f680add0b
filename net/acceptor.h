/* acceptor - a listening socket that hands out channels whose handshake is done.
 *
 * Before its handshake a connection is a stranger: it has handshake_timeout_ns, and there are at most handshakes_max of
 * them.  When one more comes, the oldest is thrown out: who has a certificate is through in milliseconds, so a
 * flood of strangers crowds out strangers only.
 *
 * Owns:   the listening socket and the handshakes.
 * Loop:   the one given. */
#ifndef NET_ACCEPTOR_H
#define NET_ACCEPTOR_H
#include "net/channel.h"
#include "net/url.h"

struct loop;
struct acceptor;

struct acceptor_options {
	struct tls *tls; /* as in dialer.h */
	enum tls_purpose purpose;
	uint32_t handshakes_max;       /* 0: 128 */
	uint64_t handshake_timeout_ns; /* 0: 2 s */
	void *arg;
	/* The channel is yours. peer: "10.0.0.7:4100", for ipc the URL. */
	void (*accepted)(void *arg, struct channel *channel, const char *peer);
	/* accept() or memory failed.  May be NULL. */
	void (*failed)(void *arg);
};

/* ERR_BUSY: the address is taken; ERR_INVALID, ERR_UNSUPPORTED: the URL; ERR_IO. */
MUST_USE enum err acceptor_create(struct loop *loop, const char *url, const struct acceptor_options *options,
				  struct acceptor **ret_acceptor, struct why *why);
/* While paused newcomers wait in the kernel's queue. */
void acceptor_pause(struct acceptor *acceptor, bool paused);
uint16_t acceptor_port(const struct acceptor *acceptor);
void acceptor_destroy(struct acceptor *acceptor); /* NULL is fine */
#endif

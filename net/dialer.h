/* dialer - one connection being made: name, socket, TLS handshake; then a channel.
 *
 * Loop:   the one given; the callback runs there, never inside dialer_start().
 * Rules:  the callback runs once unless dialer_cancel() came first; the dialer is gone after either. */
#ifndef NET_DIALER_H
#define NET_DIALER_H
#include "net/channel.h"
#include "net/url.h"

struct loop;
struct dialer;

struct dialer_options {
	uint64_t timeout_ns; /* for all of it */
	struct tls *tls;     /* needed by tls+tcp://, refused by the others; outlives the channel */
	enum tls_purpose purpose;
	uint64_t expect_node;
};
/* ERR_OK: the channel is yours.  Else it is NULL, and text says why. */
typedef void dialer_fn(void *arg, enum err e, const char *text, struct channel *channel);

/* ERR_INVALID, ERR_UNSUPPORTED: the URL, or TLS where it does not belong or lacks. */
MUST_USE enum err dialer_start(struct loop *loop, const char *url, const struct dialer_options *options, dialer_fn *done,
			       void *arg, struct dialer **ret_dialer, struct why *why);
void dialer_cancel(struct dialer *dialer); /* NULL is fine */
/* The rule about TLS and URLs, for listeners too. */
MUST_USE enum err dialer_check_url(const char *text, bool has_tls, struct why *why, struct url *ret_url);
#endif

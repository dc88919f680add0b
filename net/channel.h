/* channel - the bytes of one connection: a nonblocking socket, plain or inside TLS.
 *
 * Owns:   the descriptor and the TLS session.
 * Loop:   one thread at a time; it waits for nothing and calls nobody.
 * Rules:  1 over TLS nothing is read or written before channel_handshake() said OK;
 *         2 whoever watches the descriptor asks for LOOP_WRITE also when channel_wants_write() says so, and tries
 *           both directions then: a TLS session may have to write before it can go on reading;
 *         3 after a read that had to stop early for fairness ask channel_pending(): what OpenSSL holds already
 *           makes no descriptor ready. */
#ifndef NET_CHANNEL_H
#define NET_CHANNEL_H
#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>
#include "net/tls.h"

struct channel;

enum { CHANNEL_WAKE_MAX = 128 << 10 };

struct channel_options {
	struct tls *tls; /* NULL: plain; outlives the channel */
	enum tls_purpose purpose;
	bool server;
	uint64_t expect_node; /* see net/tls_impl.h */
	const char *expect_host;
};

/* The descriptor, connected and nonblocking, is the channel's if this succeeds. */
MUST_USE enum err channel_create(int fd, const struct channel_options *options, struct channel **ret_channel);
/* ERR_OK: done; ERR_AGAIN: when the descriptor is ready; else it failed (ERR_DENIED, ERR_PEER_GONE): counted already,
 * channel_refusal() says why.  peer is for the log. */
MUST_USE enum err channel_handshake(struct channel *channel, const char *peer);
/* Gives up on a handshake under way, for that reason. */
void channel_refuse(struct channel *channel, enum refusal refusal, const char *peer, const char *text);
const char *channel_refusal(const struct channel *channel);
/* ERR_OK: *ret_count > 0; ERR_AGAIN; ERR_PEER_GONE; ERR_DENIED (the peer does not want our certificate). */
MUST_USE enum err channel_read(struct channel *channel, void *data, size_t length, size_t *ret_count);
/* Who waits for at least so many bytes: plain, the descriptor gets ready to be read not before they are there, or CHANNEL_WAKE_MAX, or
 * the end is.  Never more than are sure to come.  0 or 1: with the first, as it is from the start and always over TLS. */
void channel_wake_at(struct channel *channel, size_t bytes);
/* The same; what was not taken may be offered again from another address. */
MUST_USE enum err channel_write(struct channel *channel, const void *data, size_t length, size_t *ret_count);
/* The same of parts, none of them empty, in their order: plain in one call, over TLS the first alone. */
MUST_USE enum err channel_write_parts(struct channel *channel, const struct iovec *parts, size_t count, size_t *ret_count);
bool channel_wants_write(const struct channel *channel);
bool channel_pending(const struct channel *channel);
int channel_fd(const struct channel *channel);
/* The peer's, by its certificate; NULL: plain, or a client of the API. */
const struct identity *channel_identity(const struct channel *channel);
/* We send no more, and say so; reading goes on. */
void channel_end_sending(struct channel *channel);
/* When it is closed it ends by a reset and without TLS's farewell, so that nobody takes what came for the whole. */
void channel_abort(struct channel *channel);
/* At once; NULL is fine. */
void channel_close(struct channel *channel);
#endif

#include "net/channel.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/tls_impl.h"

struct channel {
	int fd;
	SSL *ssl; /* NULL: plain */
	struct tls_judgement judgement;
	bool is_open;     /* the handshake is done, or there is none */
	bool is_broken;   /* OpenSSL must not be asked for a farewell any more */
	bool wants_write;
	int wake_at; /* SO_RCVLOWAT */
};

enum err channel_create(int fd, const struct channel_options *options, struct channel **ret_channel)
{
	struct channel *channel = calloc(1, sizeof(*channel));
	if (!channel)
		return ERR_NOMEM;
	channel->fd = fd;
	channel->wake_at = 1;
	channel->judgement = (struct tls_judgement){
		.tls = options->tls,
		.purpose = options->purpose,
		.server = options->server,
		.expect_node = options->expect_node,
		.expect_host = options->expect_host,
	};
	channel->is_open = !options->tls;
	enum err e = options->tls ? tls_session(&channel->judgement, fd, &channel->ssl) : ERR_OK;
	if (e != ERR_OK) {
		free(channel);
		return e;
	}
	*ret_channel = channel;
	return ERR_OK;
}

enum err channel_handshake(struct channel *channel, const char *peer)
{
	if (channel->is_open)
		return ERR_OK;
	ERR_clear_error();
	int result = SSL_do_handshake(channel->ssl);
	if (result == 1) {
		channel->is_open = true;
		channel->wants_write = false;
		return ERR_OK;
	}
	int error = SSL_get_error(channel->ssl, result);
	channel->wants_write = error == SSL_ERROR_WANT_WRITE;
	if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
		return ERR_AGAIN;
	channel->is_broken = true;
	struct tls_judgement *judgement = &channel->judgement;
	tls_explain(judgement, channel->ssl, error);
	tls_refuse(judgement->tls, judgement->refusal, peer, judgement->text);
	return judgement->refusal == REFUSAL_ABANDONED ? ERR_PEER_GONE : ERR_DENIED;
}

void channel_refuse(struct channel *channel, enum refusal refusal, const char *peer, const char *text)
{
	if (channel->judgement.tls)
		tls_refuse(channel->judgement.tls, refusal, peer, text);
}

const char *channel_refusal(const struct channel *channel)
{
	return channel->judgement.text;
}

/* Alerts that say "not with this certificate". */
static bool is_denial(unsigned long code)
{
	switch (ERR_GET_REASON(code)) {
	case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
	case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
	case SSL_R_TLSV1_ALERT_ACCESS_DENIED:
	case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
	case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
	case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
	case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
	case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
	case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
		return true;
	default:
		return false;
	}
}

/* What a read or write of OpenSSL that gave nothing means. */
static enum err ssl_outcome(struct channel *channel, int error)
{
	if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
		return ERR_AGAIN;
	bool denied = error == SSL_ERROR_SSL && is_denial(ERR_peek_error());
	channel->is_broken = error != SSL_ERROR_ZERO_RETURN;
	ERR_clear_error();
	if (!denied)
		return ERR_PEER_GONE;
	tls_refuse(channel->judgement.tls, REFUSAL_BY_PEER, "a peer that we dialled",
		   "it does not accept our certificate, says its log");
	return ERR_DENIED;
}

static enum err socket_outcome(ssize_t n, size_t *ret_count)
{
	if (n > 0) {
		*ret_count = (size_t)n;
		return ERR_OK;
	}
	return n < 0 && (errno == EAGAIN || errno == EINTR) ? ERR_AGAIN : ERR_PEER_GONE;
}

enum err channel_read(struct channel *channel, void *data, size_t length, size_t *ret_count)
{
	if (!channel->ssl)
		return socket_outcome(recv(channel->fd, data, length, MSG_DONTWAIT), ret_count);
	ERR_clear_error();
	int result = SSL_read_ex(channel->ssl, data, length, ret_count);
	int error = result == 1 ? SSL_ERROR_NONE : SSL_get_error(channel->ssl, result);
	channel->wants_write = error == SSL_ERROR_WANT_WRITE;
	return result == 1 ? ERR_OK : ssl_outcome(channel, error);
}

void channel_wake_at(struct channel *channel, size_t bytes)
{
	int wanted = channel->ssl || bytes == 0 ? 1 : bytes < CHANNEL_WAKE_MAX ? (int)bytes : CHANNEL_WAKE_MAX;
	if (wanted != channel->wake_at && setsockopt(channel->fd, SOL_SOCKET, SO_RCVLOWAT, &wanted, sizeof(wanted)) == 0)
		channel->wake_at = wanted;
}

enum err channel_write(struct channel *channel, const void *data, size_t length, size_t *ret_count)
{
	if (!channel->ssl)
		return socket_outcome(send(channel->fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT), ret_count);
	ERR_clear_error();
	int result = SSL_write_ex(channel->ssl, data, length, ret_count);
	return result == 1 ? ERR_OK : ssl_outcome(channel, SSL_get_error(channel->ssl, result));
}

enum err channel_write_parts(struct channel *channel, const struct iovec *parts, size_t count, size_t *ret_count)
{
	if (channel->ssl)
		return channel_write(channel, parts[0].iov_base, parts[0].iov_len, ret_count);
	struct msghdr message = {.msg_iov = (struct iovec *)parts, .msg_iovlen = count}; /* sendmsg only reads them */
	return socket_outcome(sendmsg(channel->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT), ret_count);
}

bool channel_wants_write(const struct channel *channel)
{
	return channel->wants_write;
}

bool channel_pending(const struct channel *channel)
{
	return channel->ssl && SSL_has_pending(channel->ssl);
}

int channel_fd(const struct channel *channel)
{
	return channel->fd;
}

const struct identity *channel_identity(const struct channel *channel)
{
	return channel->judgement.is_identified ? &channel->judgement.identity : NULL;
}

void channel_end_sending(struct channel *channel)
{
	if (channel->ssl && channel->is_open && !channel->is_broken)
		SSL_shutdown(channel->ssl);
	ERR_clear_error();
	channel->is_broken = true; /* said: not again when it is closed */
	(void)shutdown(channel->fd, SHUT_WR);
}

void channel_abort(struct channel *channel)
{
	struct linger reset = {.l_onoff = 1};
	channel->is_broken = true;
	(void)setsockopt(channel->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
}

void channel_close(struct channel *channel)
{
	if (!channel)
		return;
	if (channel->ssl && channel->is_open && !channel->is_broken)
		SSL_shutdown(channel->ssl); /* says so once; nobody waits for an answer */
	ERR_clear_error();
	SSL_free(channel->ssl);
	close(channel->fd);
	free(channel);
}

/* The link over our own TCP, inside TLS or plain: pieces become reads of net/bulk.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "net/bulk.h"
#include "net/link_impl.h"

struct bulk_link {
	struct peer *peer;
	struct bulk_peer *bulk;
	bool is_ready;
};

static bool is_ready(struct peer *peer)
{
	return ((struct bulk_link *)peer->impl)->is_ready;
}

static struct piece *piece_of(struct bulk_read *read)
{
	return (struct piece *)((char *)read - offsetof(struct piece, read_bulk));
}

static void on_done(struct bulk_read *read)
{
	piece_settle(piece_of(read), read->err, read->digest);
}

static void on_canceled(struct bulk_read *read)
{
	piece_settle(piece_of(read), ERR_CANCELED, 0);
}

static void start(struct peer *peer, struct piece *piece)
{
	struct bulk_link *bl = peer->impl;
	piece->read_bulk = (struct bulk_read){
		.from = piece->from,
		.landing = piece->landing,
		.done = on_done,
		.canceled = on_canceled,
	};
	bulk_read_start(bl->bulk, &piece->read_bulk);
}

/* The thread may be writing: it answers a cancel at once.  Without the thread nobody is left to write. */
static bool forget(struct peer *peer, struct piece *piece)
{
	if (!peer->link->bulk_stopped) {
		bulk_read_cancel(&piece->read_bulk);
		return false;
	}
	bulk_read_forget(&piece->read_bulk);
	return true;
}

static void close_bulk(struct peer *peer)
{
	bulk_peer_close(((struct bulk_link *)peer->impl)->bulk);
}

static void fini(struct peer *peer)
{
	struct bulk_link *bl = peer->impl;
	bulk_peer_free(bl->bulk);
	free(bl);
}

static const char *name_of(const struct link *link)
{
	return link->options.tls ? "tls" : "tcp";
}

static void describe(const struct peer *peer, char *text, size_t text_bytes)
{
	const struct bulk_link *bl = peer->impl;
	snprintf(text, text_bytes, "%s", bl->is_ready ? name_of(peer->link) : "connecting");
}

static const struct transport transport_bulk = {
	.is_ready = is_ready,
	.start = start,
	.forget = forget,
	.close = close_bulk,
	.fini = fini,
	.describe = describe,
};

static void on_ready(void *arg)
{
	struct bulk_link *bl = arg;
	bl->is_ready = true;
	log_info("link > peer %016llx reached over %s", (unsigned long long)bl->peer->node, name_of(bl->peer->link));
	peer_wake(bl->peer);
}

static void on_lost(void *arg, enum err e)
{
	peer_lost(((struct bulk_link *)arg)->peer, e);
}

static void on_closed(void *arg)
{
	peer_closed(((struct bulk_link *)arg)->peer);
}

enum err bulk_link_open(struct peer *peer, const struct link_address *address, struct why *why)
{
	struct link *link = peer->link;
	bool tls = link->options.tls != NULL;
	if (address->bulk == LINK_BULK_NONE)
		return why_set(why, ERR_UNSUPPORTED, "peer offers no bulk port");
	/* Never in the clear to somebody who should have a certificate, whatever he offers. */
	if (tls != (address->bulk == LINK_BULK_TLS))
		return why_set(why, ERR_UNSUPPORTED, "peer's bulk port is %s TLS, ours is %s", tls ? "without" : "with",
			       tls ? "with" : "without");
	char url[320];
	bool six = strchr(address->bulk_host, ':') != NULL;
	snprintf(url, sizeof(url), "%s://%s%s%s:%u", tls ? "tls+tcp" : "tcp", six ? "[" : "", address->bulk_host,
		 six ? "]" : "", address->bulk_port);
	struct bulk_link *bl = calloc(1, sizeof(*bl));
	if (!bl)
		return ERR_NOMEM;
	bl->peer = peer;
	struct bulk_peer_options options = {
		.node = peer->node,
		.incarnation = peer->incarnation,
		.url = url,
		.arg = bl,
		.ready = on_ready,
		.lost = on_lost,
		.closed = on_closed,
	};
	enum err e = bulk_peer_open(link->bulk, &options, &bl->bulk);
	if (e != ERR_OK) {
		free(bl);
		return e;
	}
	peer->impl = bl;
	peer->transport = &transport_bulk;
	return ERR_OK;
}

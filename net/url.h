/* url - where a stream is: tcp://host:port, tls+tcp://host:port, ipc:///path.  And sockets made of it.
 *
 * Bounds: hosts of at most URL_HOST_MAX bytes, paths as a unix socket takes them. */
#ifndef NET_URL_H
#define NET_URL_H
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "base/err.h"
#include "base/why.h"

enum { URL_HOST_MAX = 253 };

struct url {
	bool is_ipc, is_tls;
	char host[URL_HOST_MAX + 1]; /* without the brackets of an IPv6 address */
	uint16_t port;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* of ipc */
};

/* ERR_UNSUPPORTED: another scheme; ERR_INVALID: host, port or path. */
MUST_USE enum err url_parse(const char *text, struct why *why, struct url *ret_url);

struct address {
	socklen_t length;
	struct sockaddr_storage any;
};
/* ERR_NOT_FOUND: the host is no number: net/resolve.h. */
MUST_USE enum err url_address(const struct url *url, struct address *ret_address);
void address_set_port(struct address *address, uint16_t port);
uint16_t address_port(const struct address *address);
bool address_is_loopback(const struct address *address); /* and unix sockets */
/* "10.0.0.7:4100", "[::1]:4100"; nothing for a unix socket. */
void address_text(const struct address *address, char *ret_text, size_t size);
/* Nonblocking, closed on exec; TCP with no delay and keep-alive. */
MUST_USE enum err address_socket(const struct address *address, int *ret_fd);
void address_tune(int fd);
#endif

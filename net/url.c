#include "net/url.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *after(const char *text, const char *prefix)
{
	size_t length = strlen(prefix);
	return strncmp(text, prefix, length) == 0 ? text + length : NULL;
}

static enum err take_path(const char *text, const char *path, struct why *why, struct url *url)
{
	url->is_ipc = true;
	if (path[0] != '/' || strlen(path) >= sizeof(url->path))
		return why_set(why, ERR_INVALID, "%s: expected ipc:// and an absolute path below %zu bytes", text,
			       sizeof(url->path));
	snprintf(url->path, sizeof(url->path), "%s", path);
	return ERR_OK;
}

enum err url_parse(const char *text, struct why *why, struct url *ret_url)
{
	struct url url = {0};
	const char *tls = after(text, "tls+tcp://"), *plain = after(text, "tcp://"), *ipc = after(text, "ipc://");
	if (ipc) {
		enum err e = take_path(text, ipc, why, &url);
		if (e == ERR_OK)
			*ret_url = url;
		return e;
	}
	const char *host = tls ? tls : plain;
	if (!host)
		return why_set(why, ERR_UNSUPPORTED, "%s: expected tcp://, tls+tcp:// or ipc://", text);
	url.is_tls = tls != NULL;
	const char *colon = strrchr(host, ':');
	size_t digits = colon ? strspn(colon + 1, "0123456789") : 0;
	if (!digits || digits > 5 || colon[1 + digits] || strtoul(colon + 1, NULL, 10) > 65535)
		return why_set(why, ERR_INVALID, "%s: expected a port of 0 to 65535 at the end", text);
	url.port = (uint16_t)strtoul(colon + 1, NULL, 10);
	size_t length = (size_t)(colon - host);
	if (length >= 2 && host[0] == '[' && host[length - 1] == ']') {
		host++;
		length -= 2;
	}
	if (length == 0 || length > URL_HOST_MAX)
		return why_set(why, ERR_INVALID, "%s: expected a host of 1 to %d bytes", text, URL_HOST_MAX);
	memcpy(url.host, host, length);
	*ret_url = url;
	return ERR_OK;
}

enum err url_address(const struct url *url, struct address *ret_address)
{
	struct address address = {0};
	struct sockaddr_in *v4 = (struct sockaddr_in *)&address.any;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&address.any;
	struct sockaddr_un *local = (struct sockaddr_un *)&address.any;
	if (url->is_ipc) {
		local->sun_family = AF_UNIX;
		memcpy(local->sun_path, url->path, sizeof(url->path));
		address.length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(url->path) + 1);
	} else if (inet_pton(AF_INET, url->host, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		address.length = sizeof(*v4);
	} else if (inet_pton(AF_INET6, url->host, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		address.length = sizeof(*v6);
	} else {
		return ERR_NOT_FOUND;
	}
	address_set_port(&address, url->port);
	*ret_address = address;
	return ERR_OK;
}

void address_set_port(struct address *address, uint16_t port)
{
	if (address->any.ss_family == AF_INET)
		((struct sockaddr_in *)&address->any)->sin_port = htons(port);
	else if (address->any.ss_family == AF_INET6)
		((struct sockaddr_in6 *)&address->any)->sin6_port = htons(port);
}

uint16_t address_port(const struct address *address)
{
	if (address->any.ss_family == AF_INET)
		return ntohs(((const struct sockaddr_in *)&address->any)->sin_port);
	return address->any.ss_family == AF_INET6 ? ntohs(((const struct sockaddr_in6 *)&address->any)->sin6_port) : 0;
}

bool address_is_loopback(const struct address *address)
{
	if (address->any.ss_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)&address->any)->sin_addr.s_addr) >> 24 == 127;
	if (address->any.ss_family == AF_INET6)
		return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)&address->any)->sin6_addr);
	return address->any.ss_family == AF_UNIX;
}

void address_text(const struct address *address, char *ret_text, size_t size)
{
	char host[INET6_ADDRSTRLEN] = "";
	if (address->any.ss_family == AF_INET) {
		inet_ntop(AF_INET, &((const struct sockaddr_in *)&address->any)->sin_addr, host, sizeof(host));
		snprintf(ret_text, size, "%s:%u", host, address_port(address));
	} else if (address->any.ss_family == AF_INET6) {
		inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)&address->any)->sin6_addr, host, sizeof(host));
		snprintf(ret_text, size, "[%s]:%u", host, address_port(address));
	} else {
		ret_text[0] = 0;
	}
}

void address_tune(int fd)
{
	int one = 1;
	/* A unix socket has no such options and says so: that is fine. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
}

enum err address_socket(const struct address *address, int *ret_fd)
{
	int fd = socket(address->any.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return ERR_IO;
	address_tune(fd);
	*ret_fd = fd;
	return ERR_OK;
}

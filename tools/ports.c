#include "tools/ports.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

/* Below those that the kernel gives to outgoing connections, so that a port found stays free until it is used. */
enum { PORT_FIRST = 20000, PORT_COUNT = 12000, PORTS_AT_ONCE_MAX = 16 };

/* A socket bound to the port; -1: it is taken. */
static int bound(uint16_t port)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int yes = 1;
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 1) == 0)
		return fd;
	close(fd);
	return -1;
}

enum err ports_find(uint16_t *ret_ports, uint32_t count)
{
	int fds[PORTS_AT_ONCE_MAX];
	uint32_t n = 0;
	uint32_t offset;
	if (count > PORTS_AT_ONCE_MAX || getrandom(&offset, sizeof(offset), 0) != (ssize_t)sizeof(offset))
		return ERR_BUSY;
	for (uint32_t tries = 0; tries < 1000 && n < count; tries++) {
		uint16_t port = (uint16_t)(PORT_FIRST + (offset + tries) % PORT_COUNT);
		fds[n] = bound(port);
		if (fds[n] >= 0)
			ret_ports[n++] = port;
	}
	for (uint32_t i = 0; i < n; i++)
		close(fds[i]);
	return n == count ? ERR_OK : ERR_BUSY;
}

enum err ports_check(uint16_t first, uint32_t count, struct why *why)
{
	for (uint32_t i = 0; i < count; i++) {
		int fd = bound((uint16_t)(first + i));
		if (fd < 0)
			return why_set(why, ERR_BUSY, "port %u is in use; choose another with --port", first + i);
		close(fd);
	}
	return ERR_OK;
}

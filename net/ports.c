#include "net/ports.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

/* Below those that the kernel gives to outgoing connections. */
enum { PORT_FIRST = 20000, PORT_COUNT = 12000 };

/* A socket of the port; -1: another has it. */
static int bound(int type, uint16_t port)
{
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
	int yes = 1;
	if (fd < 0)
		return -1;
	if (type == SOCK_STREAM) /* connections that have ended are in nobody's way; of UDP it would share the port */
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && (type == SOCK_DGRAM || listen(fd, 1) == 0))
		return fd;
	close(fd);
	return -1;
}

static bool can_be_listened_at(uint16_t port)
{
	int fd = bound(SOCK_STREAM, port);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* From now until the process ends; false: somebody else holds it. */
static bool hold(uint16_t port)
{
	return bound(SOCK_DGRAM, port) >= 0;
}

enum err ports_find(uint16_t *ret_ports, uint32_t count)
{
	uint32_t n = 0;
	uint32_t offset;
	if (count > PORTS_AT_ONCE_MAX || getrandom(&offset, sizeof(offset), 0) != (ssize_t)sizeof(offset))
		return ERR_BUSY;
	for (uint32_t tries = 0; tries < 1000 && n < count; tries++) {
		uint16_t port = (uint16_t)(PORT_FIRST + (offset + tries) % PORT_COUNT);
		if (hold(port) && can_be_listened_at(port))
			ret_ports[n++] = port;
	}
	return n == count ? ERR_OK : ERR_BUSY;
}

enum err ports_check(uint16_t first, uint32_t count, struct why *why)
{
	for (uint32_t i = 0; i < count; i++) {
		if (!can_be_listened_at((uint16_t)(first + i)))
			return why_set(why, ERR_BUSY, "port %u is in use; choose another with --port", first + i);
		(void)hold((uint16_t)(first + i)); /* whoever holds it may have told us to use it */
	}
	return ERR_OK;
}

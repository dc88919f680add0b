/* Any bytes as a server's reply, whole and line by line; what is said to be good has all its parts. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/http_client.h"

static bool on_line(void *context, const char *line, size_t length)
{
	size_t *count = context;
	if (memchr(line, '\n', length) || line[length] != 0)
		abort();
	return ++*count < 100;
}

static void exchange(const uint8_t *data, size_t length, const char *method, bool lines)
{
	int fds[2];
	size_t count = 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) < 0)
		abort();
	for (size_t at = 0; at < length;) {
		ssize_t n = send(fds[1], data + at, length - at, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n <= 0)
			break;
		at += (size_t)n;
	}
	shutdown(fds[1], SHUT_WR);
	struct http_client_request request = {.host = "h", .port = 1, .method = method, .path = "/", .context = &count,
					      .on_line = lines ? on_line : NULL};
	struct http_client_reply reply = {.body = {.limit = 1 << 20}};
	struct why why = {0};
	enum err e = http_client_exchange(fds[0], &request, &reply, &why);
	if (e == ERR_OK && (reply.status < 100 || reply.status > 999))
		abort();
	buf_fini(&reply.body);
	close(fds[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	exchange(data, length, "GET", false);
	exchange(data, length, "POST", true);
	exchange(data, length, "HEAD", false);
	return 0;
}

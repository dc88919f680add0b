/* The unix socket of a link: whoever connects, and runs as our user, gets the memfds of our regions (read-only
 * by their seal) and learns of our death by its end; who has a device gets the descriptors of their twins as well.  One datagram per
 * message, one descriptor per REGION and TWIN. */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "net/link_impl.h"

#define CONNECTIONS_MAX 4096
#define BACKLOG 1024

struct connection {
	struct local *local;
	struct connection *next;
	int fd;
	struct loop_watch *watch;
	uint64_t node; /* from its hello; 0 before */
	uint64_t incarnation;
	uint64_t ticket;
	bool takes_twins;
};

struct local {
	struct link *link;
	int fd;
	struct loop_watch *watch;
	struct connection *connections;
	size_t connection_count;
	char name[SOCKET_NAME_MAX + 1]; /* "@…": abstract */
};

/* ---- messages ---- */

static struct local_message message_of(const struct link *link, enum local_kind what)
{
	return (struct local_message){
		.magic = LOCAL_MAGIC,
		.version = LOCAL_VERSION,
		.what = (uint16_t)what,
		.node = link->options.node,
		.incarnation = link->options.incarnation,
	};
}

/* The socket's buffer holds a hello and all regions; who does not take them in time is cut off. */
static enum err send_message(int socket_fd, struct local_message *message, int fd)
{
	struct iovec iov = {.iov_base = message, .iov_len = sizeof(*message)};
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	if (fd >= 0) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
		struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cmsg), &fd, sizeof(int));
	}
	ssize_t sent = sendmsg(socket_fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	return sent == sizeof(*message) ? ERR_OK : ERR_PEER_GONE;
}

/* At most one descriptor is kept; a peer that sends more loses them and the connection. */
static enum err take_descriptors(struct msghdr *msg, int *ret_fd)
{
	int count = 0, kept = -1;
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg); cmsg; cmsg = CMSG_NXTHDR(msg, cmsg)) {
		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(int));
			if (count++ == 0)
				kept = fd;
			else
				close(fd);
		}
	}
	if (count > 1 || msg->msg_flags & (MSG_CTRUNC | MSG_TRUNC)) {
		if (kept >= 0)
			close(kept);
		return ERR_PROTOCOL;
	}
	*ret_fd = kept;
	return ERR_OK;
}

enum err local_receive(int socket_fd, struct local_message *ret_message, int *ret_fd)
{
	struct iovec iov = {.iov_base = ret_message, .iov_len = sizeof(*ret_message)};
	union {
		char bytes[CMSG_SPACE(4 * sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	*ret_fd = -1;
	ssize_t length = recvmsg(socket_fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (length < 0 && (errno == EAGAIN || errno == EINTR))
		return ERR_AGAIN;
	if (length <= 0)
		return ERR_PEER_GONE;
	enum err e = take_descriptors(&msg, ret_fd);
	if (e != ERR_OK)
		return e;
	if (length == sizeof(*ret_message) && ret_message->magic == LOCAL_MAGIC && ret_message->version == LOCAL_VERSION)
		return ERR_OK;
	if (*ret_fd >= 0)
		close(*ret_fd);
	*ret_fd = -1;
	return ERR_PROTOCOL;
}

/* ---- connecting ---- */

static socklen_t socket_address(const char *name, struct sockaddr_un *ret_address)
{
	*ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
	size_t length = strnlen(name, sizeof(ret_address->sun_path) - 1);
	memcpy(ret_address->sun_path, name, length);
	if (name[0] == '@')
		ret_address->sun_path[0] = 0;
	else
		length++;
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
}

/* Memory is handed to processes of the same user only, and taken from them only. */
static bool is_our_user(int fd)
{
	struct ucred credentials;
	socklen_t length = sizeof(credentials);
	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) == 0 && credentials.uid == geteuid();
}

enum err local_connect(const struct link *link, const char *name, uint64_t ticket, int *ret_fd)
{
	struct sockaddr_un address;
	if (!name[0])
		return ERR_UNSUPPORTED;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return ERR_IO;
	enum err e = ERR_OK;
	if (connect(fd, (struct sockaddr *)&address, socket_address(name, &address)) < 0)
		e = errno == EAGAIN ? ERR_AGAIN : ERR_PEER_GONE;
	else if (!is_our_user(fd))
		e = ERR_DENIED;
	struct local_message hello = message_of(link, LOCAL_HELLO);
	hello.ticket = ticket;
	hello.takes_twins = !ticket && twins_wanted(link);
	if (e == ERR_OK)
		e = send_message(fd, &hello, -1);
	if (e != ERR_OK) {
		close(fd);
		return e;
	}
	*ret_fd = fd;
	return ERR_OK;
}

/* ---- serving ---- */

static void connection_close(struct connection *connection)
{
	struct local *local = connection->local;
	for (struct connection **at = &local->connections; *at; at = &(*at)->next) {
		if (*at != connection)
			continue;
		*at = connection->next;
		local->connection_count--;
		break;
	}
	loop_watch_destroy(connection->watch);
	close(connection->fd);
	if (connection->ticket && local->link->ucx)
		ucx_client_gone(local->link->ucx, connection->node, connection->incarnation, connection->ticket);
	free(connection);
}

static enum err send_region(struct connection *connection, const struct region *region, enum local_kind what)
{
	const struct region_options *options = region_options(region);
	struct local_message message = message_of(connection->local->link, what);
	int fd = what == LOCAL_REGION ? region_fd(region) : what == LOCAL_TWIN ? region_twin(region)->fd : -1;
	message.rank = options->rank;
	message.kind = options->kind;
	message.index = options->index;
	message.slot_bytes = options->slot_bytes;
	message.slot_count = options->slot_count;
	return send_message(connection->fd, &message, fd);
}

/* To whoever can do something with it. */
static enum err send_twin(struct connection *connection, const struct region *region)
{
	if (!connection->takes_twins || region_twin(region)->fd < 0)
		return ERR_OK;
	return send_region(connection, region, LOCAL_TWIN);
}

/* One hello, of whoever connected. */
static enum err take_hello(struct connection *connection, const struct local_message *message)
{
	const struct link *link = connection->local->link;
	if (message->what != LOCAL_HELLO || connection->node)
		return ERR_PROTOCOL;
	connection->node = message->node;
	connection->incarnation = message->incarnation;
	connection->ticket = message->ticket;
	connection->takes_twins = message->takes_twins == 1;
	enum err e = ERR_OK;
	for (size_t i = 0; e == ERR_OK && i < link->region_count; i++)
		e = send_twin(connection, link->regions[i]);
	return e;
}

static void on_connection(struct loop_watch *watch, unsigned ready, void *arg)
{
	struct connection *connection = arg;
	struct local_message message;
	int fd = -1;
	enum err e = local_receive(connection->fd, &message, &fd);
	if (fd >= 0)
		close(fd);
	if (e == ERR_OK)
		e = take_hello(connection, &message);
	if (e != ERR_OK && e != ERR_AGAIN)
		connection_close(connection);
}

static enum err greet(struct connection *connection)
{
	const struct link *link = connection->local->link;
	struct local_message hello = message_of(link, LOCAL_HELLO), ready = message_of(link, LOCAL_READY);
	enum err e = send_message(connection->fd, &hello, -1);
	for (size_t i = 0; e == ERR_OK && i < link->region_count; i++)
		e = send_region(connection, link->regions[i], LOCAL_REGION);
	return e == ERR_OK ? send_message(connection->fd, &ready, -1) : e;
}

static enum err connection_open(struct local *local, int fd)
{
	if (!is_our_user(fd) || local->connection_count == CONNECTIONS_MAX)
		return ERR_DENIED;
	struct connection *connection = calloc(1, sizeof(*connection));
	if (!connection)
		return ERR_NOMEM;
	connection->local = local;
	connection->fd = fd;
	enum err e = loop_watch_create(local->link->loop, fd, LOOP_READ, on_connection, connection, &connection->watch);
	if (e == ERR_OK)
		e = greet(connection);
	if (e != ERR_OK) {
		loop_watch_destroy(connection->watch);
		free(connection);
		return e;
	}
	connection->next = local->connections;
	local->connections = connection;
	local->connection_count++;
	return ERR_OK;
}

static void on_accept(struct loop_watch *watch, unsigned ready, void *arg)
{
	struct local *local = arg;
	int fd = accept4(local->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	enum err e = connection_open(local, fd);
	if (e == ERR_OK)
		return;
	log_warn("link > local connection refused: %s", err_text(e));
	close(fd);
}

static enum err choose_name(struct local *local, struct why *why)
{
	uint64_t random = 0;
	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return ERR_IO;
	const char *dir = local->link->options.socket_dir;
	int length = snprintf(local->name, sizeof(local->name), "%s%sbaton-link-%016llx", dir ? dir : "@",
	                      dir ? "/" : "", (unsigned long long)random);
	if (length < 0 || (size_t)length >= sizeof(local->name))
		return why_set(why, ERR_INVALID, "socket folder '%s': name too long, expected below 80 bytes", dir);
	return ERR_OK;
}

static enum err start_listening(struct local *local, struct why *why)
{
	struct sockaddr_un address;
	local->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (local->fd < 0)
		return why_set(why, ERR_IO, "unix socket: %s", strerror(errno));
	if (bind(local->fd, (struct sockaddr *)&address, socket_address(local->name, &address)) == 0 &&
	    listen(local->fd, BACKLOG) == 0 &&
	    loop_watch_create(local->link->loop, local->fd, LOOP_READ, on_accept, local, &local->watch) == ERR_OK)
		return ERR_OK;
	why_set(why, ERR_IO, "listening on unix socket '%s': %s", local->name, strerror(errno));
	close(local->fd);
	return ERR_IO;
}

enum err local_create(struct link *link, struct local **ret_local, struct why *why)
{
	struct local *local = calloc(1, sizeof(*local));
	if (!local)
		return ERR_NOMEM;
	local->link = link;
	enum err e = choose_name(local, why);
	if (e == ERR_OK)
		e = start_listening(local, why);
	if (e != ERR_OK) {
		free(local);
		return e;
	}
	*ret_local = local;
	return ERR_OK;
}

void local_destroy(struct local *local)
{
	if (!local)
		return;
	while (local->connections)
		connection_close(local->connections);
	loop_watch_destroy(local->watch);
	close(local->fd);
	if (local->name[0] != '@')
		unlink(local->name);
	free(local);
}

const char *local_name(const struct local *local)
{
	return local->name;
}

static void tell_all(struct local *local, const struct region *region, enum local_kind what)
{
	for (struct connection *connection = local->connections, *next; connection; connection = next) {
		next = connection->next;
		enum err e = send_region(connection, region, what);
		if (e == ERR_OK && what == LOCAL_REGION)
			e = send_twin(connection, region);
		if (e != ERR_OK)
			connection_close(connection);
	}
}

void local_region_added(struct local *local, const struct region *region)
{
	tell_all(local, region, LOCAL_REGION);
}

void local_region_removed(struct local *local, const struct region *region)
{
	tell_all(local, region, LOCAL_REGION_GONE);
}

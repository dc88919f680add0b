/* pass_fd - a descriptor from one process to another, over a socket between them: who shares device memory hands it out so.
 *
 * Loop:   the caller's; both wait. */
#ifndef BENCH_GPU_PASS_FD_H
#define BENCH_GPU_PASS_FD_H
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

union fd_control {
	char bytes[CMSG_SPACE(sizeof(int))];
	struct cmsghdr align;
};

static inline bool pass_fd(int socket_fd, int fd)
{
	char byte = 'm';
	struct iovec iov = {&byte, 1};
	union fd_control control = {0};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	return sendmsg(socket_fd, &msg, 0) == 1;
}

/* -1: the other end has none to give. */
static inline int take_fd(int socket_fd)
{
	char byte;
	int fd = -1;
	struct iovec iov = {&byte, 1};
	union fd_control control;
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
	struct cmsghdr *cmsg = recvmsg(socket_fd, &msg, 0) == 1 ? CMSG_FIRSTHDR(&msg) : NULL;
	if (cmsg)
		memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
	return fd;
}
#endif

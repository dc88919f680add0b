/* The C library: memory, files, sockets, threads. */
#include <dirent.h>
#include <netdb.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "fail_impl.h"

/* ---- memory: also remembered */

#define WRAP_MEMORY(name, parameters, arguments)         \
	void *__real_##name parameters;                  \
	void *__wrap_##name parameters;                  \
	void *__wrap_##name parameters                   \
	{                                                \
		if (fail_now(FAIL_MEMORY, CALLER)) {     \
			errno = ENOMEM;                  \
			return NULL;                     \
		}                                        \
		return fail_given(__real_##name arguments, CALLER); \
	}

WRAP_MEMORY(malloc, (size_t size), (size))
WRAP_MEMORY(calloc, (size_t count, size_t size), (count, size))
WRAP_MEMORY(aligned_alloc, (size_t alignment, size_t size), (alignment, size))
WRAP_MEMORY(strdup, (const char *text), (text))

void *__real_realloc(void *memory, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_realloc(void *memory, size_t size)
{
	if (fail_now(FAIL_MEMORY, CALLER)) {
		errno = ENOMEM;
		return NULL;
	}
	fail_taken(memory);
	return fail_given(__real_realloc(memory, size), CALLER);
}

void __real_free(void *memory);
void __wrap_free(void *memory);
void __wrap_free(void *memory)
{
	fail_taken(memory);
	__real_free(memory);
}

/* ---- files */

#define EVENTFDS 4096
static bool is_eventfd[EVENTFDS];

int __real_eventfd(unsigned value, int flags);
int __wrap_eventfd(unsigned value, int flags);
int __wrap_eventfd(unsigned value, int flags)
{
	if (fail_now(FAIL_FILE, CALLER)) {
		errno = EMFILE;
		return -1;
	}
	int fd = __real_eventfd(value, flags);
	if (fd >= 0 && fd < EVENTFDS)
		is_eventfd[fd] = true;
	return fd;
}

int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_close(int fd)
{
	if (fd >= 0 && fd < EVENTFDS)
		is_eventfd[fd] = false;
	return __real_close(fd);
}

ssize_t __real_read(int fd, void *data, size_t length);
ssize_t __wrap_read(int fd, void *data, size_t length);
ssize_t __wrap_read(int fd, void *data, size_t length)
{
	if (!(fd >= 0 && fd < EVENTFDS && is_eventfd[fd]) && fail_now(FAIL_FILE, CALLER)) {
		errno = EIO;
		return -1;
	}
	return __real_read(fd, data, length);
}

ssize_t __real_write(int fd, const void *data, size_t length);
ssize_t __wrap_write(int fd, const void *data, size_t length);
ssize_t __wrap_write(int fd, const void *data, size_t length)
{
	if (!(fd >= 0 && fd < EVENTFDS && is_eventfd[fd]) && fail_now(FAIL_FILE, CALLER)) {
		errno = ENOSPC;
		return -1;
	}
	return __real_write(fd, data, length);
}

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...)
{
	va_list args;
	va_start(args, flags);
	int mode = va_arg(args, int);
	va_end(args);
	if (fail_now(FAIL_FILE, CALLER)) {
		errno = EMFILE;
		return -1;
	}
	return __real_open64(path, flags, mode);
}

/* Sealing only: the callers pass one number. */
int __real_fcntl64(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...)
{
	va_list args;
	va_start(args, command);
	long argument = va_arg(args, long);
	va_end(args);
	if (fail_now(FAIL_FILE, CALLER)) {
		errno = EPERM;
		return -1;
	}
	return __real_fcntl64(fd, command, argument);
}

int __real_openat64(int folder, const char *path, int flags, ...);
int __wrap_openat64(int folder, const char *path, int flags, ...);
int __wrap_openat64(int folder, const char *path, int flags, ...)
{
	va_list args;
	va_start(args, flags);
	int mode = va_arg(args, int);
	va_end(args);
	if (fail_now(FAIL_FILE, CALLER)) {
		errno = EACCES;
		return -1;
	}
	return __real_openat64(folder, path, flags, mode);
}

WRAP(int, fstat64, (int fd, struct stat *status), (fd, status), FAIL_FILE, EIO, -1)
WRAP(int, stat64, (const char *path, struct stat *status), (path, status), FAIL_FILE, EACCES, -1)
WRAP(int, ftruncate64, (int fd, off_t length), (fd, length), FAIL_FILE, ENOSPC, -1)
WRAP(int, access, (const char *path, int mode), (path, mode), FAIL_FILE, EACCES, -1)
WRAP(FILE *, fopen64, (const char *path, const char *mode), (path, mode), FAIL_FILE, EMFILE, NULL)
WRAP(FILE *, open_memstream, (char **text, size_t *length), (text, length), FAIL_MEMORY, ENOMEM, NULL)

size_t __real_fread(void *data, size_t size, size_t count, FILE *file);
size_t __wrap_fread(void *data, size_t size, size_t count, FILE *file);
size_t __wrap_fread(void *data, size_t size, size_t count, FILE *file)
{
	if (!fail_now(FAIL_FILE, CALLER))
		return __real_fread(data, size, count, file);
	file->_flags |= 0x20; /* what ferror() looks at, in glibc */
	errno = EIO;
	return 0;
}

WRAP(char *, realpath, (const char *path, char *resolved), (path, resolved), FAIL_FILE, EACCES, NULL)
WRAP(DIR *, opendir, (const char *path), (path), FAIL_FILE, EMFILE, NULL)
WRAP(void *, mmap64, (void *at, size_t length, int prot, int flags, int fd, off_t offset),
     (at, length, prot, flags, fd, offset), FAIL_FILE, ENOMEM, MAP_FAILED)
WRAP(int, memfd_create, (const char *name, unsigned flags), (name, flags), FAIL_FILE, EMFILE, -1)
WRAP(ssize_t, getrandom, (void *data, size_t length, unsigned flags), (data, length, flags), FAIL_FILE, EIO, -1)
WRAP(ssize_t, pread64, (int fd, void *data, size_t length, off_t at), (fd, data, length, at), FAIL_FILE, EIO, -1)
WRAP(int, fsync, (int fd), (fd), FAIL_FILE, EIO, -1)
WRAP(int, fdatasync, (int fd), (fd), FAIL_FILE, EIO, -1)
WRAP(int, fallocate64, (int fd, int mode, off_t at, off_t length), (fd, mode, at, length), FAIL_FILE, ENOSPC, -1)
WRAP(int, flock, (int fd, int operation), (fd, operation), FAIL_FILE, EWOULDBLOCK, -1)
WRAP(int, mkdir, (const char *path, mode_t mode), (path, mode), FAIL_FILE, EACCES, -1)
WRAP(ssize_t, preadv64, (int fd, const struct iovec *parts, int count, off_t at), (fd, parts, count, at), FAIL_FILE, EIO, -1)
WRAP(ssize_t, pwritev64, (int fd, const struct iovec *parts, int count, off_t at), (fd, parts, count, at), FAIL_FILE, ENOSPC, -1)
WRAP(int, timerfd_create, (int clock, int flags), (clock, flags), FAIL_FILE, EMFILE, -1)

/* ---- sockets */

WRAP(int, socket, (int domain, int type, int protocol), (domain, type, protocol), FAIL_SOCKET, EMFILE, -1)
WRAP(int, bind, (int fd, const struct sockaddr *address, socklen_t length), (fd, address, length), FAIL_SOCKET,
     EADDRINUSE, -1)
WRAP(int, listen, (int fd, int backlog), (fd, backlog), FAIL_SOCKET, EADDRINUSE, -1)
WRAP(int, accept4, (int fd, struct sockaddr *address, socklen_t *length, int flags), (fd, address, length, flags),
     FAIL_SOCKET, EMFILE, -1)
WRAP(int, connect, (int fd, const struct sockaddr *address, socklen_t length), (fd, address, length), FAIL_SOCKET,
     ECONNREFUSED, -1)
WRAP(ssize_t, send, (int fd, const void *data, size_t length, int flags), (fd, data, length, flags), FAIL_SOCKET,
     ECONNRESET, -1)
WRAP(ssize_t, recv, (int fd, void *data, size_t length, int flags), (fd, data, length, flags), FAIL_SOCKET,
     ECONNRESET, -1)
WRAP(ssize_t, sendmsg, (int fd, const struct msghdr *msg, int flags), (fd, msg, flags), FAIL_SOCKET, EPIPE, -1)
WRAP(ssize_t, recvmsg, (int fd, struct msghdr *msg, int flags), (fd, msg, flags), FAIL_SOCKET, ECONNRESET, -1)
WRAP(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t length),
     (fd, level, name, value, length), FAIL_SOCKET, EINVAL, -1)
WRAP(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *length), (fd, level, name, value, length),
     FAIL_SOCKET, EINVAL, -1)
WRAP(int, getsockname, (int fd, struct sockaddr *address, socklen_t *length), (fd, address, length), FAIL_SOCKET,
     ENOBUFS, -1)
WRAP(int, getnameinfo, (const struct sockaddr *address, socklen_t length, char *host, socklen_t host_bytes, char *service,
                        socklen_t service_bytes, int flags),
     (address, length, host, host_bytes, service, service_bytes, flags), FAIL_SOCKET, EIO, EAI_FAIL)
WRAP(int, getaddrinfo, (const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **list),
     (host, service, hints, list), FAIL_SOCKET, EIO, EAI_MEMORY)

/* ---- threads */

WRAP(int, pthread_create, (pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *), void *arg),
     (thread, attr, start, arg), FAIL_THREAD, EAGAIN, EAGAIN)

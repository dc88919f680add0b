/* shim - preloaded under a Baton program: a bad disk and a wrong clock.
 *
 *   FAULTS_FILE=KIND:NAME    files whose path ends with NAME.  eio: reading fails; flip: one bit in the middle is
 *                            another; short: the second half is missing; slow: each read takes 200 ms
 *   FAULTS_CLOCK=PATH        a file with a text number, looked at again and again: seconds that the wall clock is off.
 *                            The monotonic clock is never touched: it is the one that deadlines may use.
 * Built with 64-bit offsets like the programs: what reads `open` here is the symbol open64 that they call. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { FILES_MAX = 16 };

static int bad_files[FILES_MAX]; /* descriptors + 1 */

static const char *kind_of(const char *path)
{
	static char kind[16];
	const char *wanted = getenv("FAULTS_FILE"), *colon = wanted ? strchr(wanted, ':') : NULL;
	if (!colon || (size_t)(colon - wanted) >= sizeof(kind))
		return NULL;
	size_t name = strlen(colon + 1), length = strlen(path);
	if (length < name || strcmp(path + length - name, colon + 1) != 0)
		return NULL;
	snprintf(kind, sizeof(kind), "%.*s", (int)(colon - wanted), wanted);
	return kind;
}

static bool is_bad(int fd)
{
	for (int i = 0; i < FILES_MAX; i++)
		if (bad_files[i] == fd + 1)
			return true;
	return false;
}

static const char *kind_of_fd(int fd)
{
	char link[64], path[4096];
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t length = is_bad(fd) ? readlink(link, path, sizeof(path) - 1) : -1;
	if (length < 0)
		return NULL;
	path[length] = 0;
	return kind_of(path);
}

static int open_at(const char *path, int flags, int mode)
{
	int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
	for (int i = 0; fd >= 0 && kind_of(path) && i < FILES_MAX; i++)
		if (!bad_files[i] || bad_files[i] == fd + 1) {
			bad_files[i] = fd + 1;
			break;
		}
	return fd;
}

int open(const char *path, int flags, ...)
{
	va_list args;
	va_start(args, flags);
	int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, int) : 0;
	va_end(args);
	return open_at(path, flags, mode);
}

int __open64_2(const char *path, int flags);
int __open64_2(const char *path, int flags)
{
	return open_at(path, flags, 0);
}

ssize_t read(int fd, void *buffer, size_t size)
{
	const char *kind = kind_of_fd(fd);
	if (kind && strcmp(kind, "eio") == 0) {
		errno = EIO;
		return -1;
	}
	if (kind && strcmp(kind, "slow") == 0)
		usleep(200000);
	ssize_t n = syscall(SYS_read, fd, buffer, size);
	if (kind && strcmp(kind, "flip") == 0 && n > 0)
		((uint8_t *)buffer)[n / 2] ^= 1;
	if (kind && strcmp(kind, "short") == 0 && n > 1)
		return n / 2;
	return n;
}

ssize_t __read_chk(int fd, void *buffer, size_t size, size_t room);
ssize_t __read_chk(int fd, void *buffer, size_t size, size_t room)
{
	(void)room;
	return read(fd, buffer, size);
}

static long map(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
	return syscall(SYS_mmap, at, size, protection, flags, fd, offset);
}

void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
	const char *kind = fd >= 0 ? kind_of_fd(fd) : NULL;
	if (kind && strcmp(kind, "eio") == 0) {
		errno = EIO;
		return MAP_FAILED;
	}
	if (!kind || strcmp(kind, "flip") != 0)
		return (void *)map(at, size, protection, flags, fd, offset);
	/* A copy of our own, with one bit changed where the tensors are. */
	uint8_t *copy = (uint8_t *)map(at, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, offset);
	if (copy != MAP_FAILED)
		copy[size / 2] ^= 1;
	return copy;
}

/* The size that the program sees is that of the file: half of it is missing. */
int fstat(int fd, struct stat *ret_stat)
{
	long e = syscall(SYS_newfstatat, fd, "", ret_stat, 0x1000 /* AT_EMPTY_PATH */);
	const char *kind = e == 0 ? kind_of_fd(fd) : NULL;
	if (kind && strcmp(kind, "short") == 0)
		ret_stat->st_size /= 2;
	return (int)e;
}

int clock_gettime(clockid_t clock, struct timespec *ret_time)
{
	static char text[32];
	int e = (int)syscall(SYS_clock_gettime, clock, ret_time);
	const char *path = clock == CLOCK_REALTIME ? getenv("FAULTS_CLOCK") : NULL;
	if (e != 0 || !path)
		return e;
	long fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return e;
	ssize_t length = syscall(SYS_read, (int)fd, text, sizeof(text) - 1);
	syscall(SYS_close, (int)fd);
	if (length > 0) {
		text[length] = 0;
		ret_time->tv_sec += atol(text);
	}
	return e;
}

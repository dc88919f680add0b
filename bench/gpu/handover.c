#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/gpu/bench.h"
#include "bench/gpu/pass_fd.h"
#include "kernels/peer_memory.h"

/* KV between two processes on one GPU: read from the neighbour's memory, written into it, and by way of the host's as without either.
 * On one GPU all of it is HBM's; two GPUs of a machine show NVLink, which is what the choice between reading and writing is about. */
enum { POOL_BYTES = 64 << 20, BATCH_BYTES = 16 << 20, SOCKET_FD = 3 };

struct handover {
	struct bench *bench;
	struct dev_reader *reader;
	uint8_t *own, *theirs, *host;
	uint32_t piece_bytes;
	uint64_t digests[DEV_READ_PIECES_MAX];
};

/* Each call another quarter of the pools, so that no cache has it. */
static size_t offset_of(uint32_t index)
{
	return (size_t)(index % (POOL_BYTES / BATCH_BYTES)) * BATCH_BYTES;
}

static void move(struct handover *h, uint8_t *to, const uint8_t *from, uint32_t index)
{
	struct dev_piece pieces[DEV_READ_PIECES_MAX];
	uint32_t count = BATCH_BYTES / h->piece_bytes;
	for (uint32_t i = 0; i < count; i++) {
		size_t at = offset_of(index) + (size_t)i * h->piece_bytes;
		pieces[i] = (struct dev_piece){to + at, from + at, h->piece_bytes, NULL};
	}
	bench_check(dev_reader_read(h->reader, pieces, count, h->digests), "a neighbour's memory");
}

static void reading(void *context, uint32_t index)
{
	struct handover *h = context;
	move(h, h->own, h->theirs, index);
}

static void writing(void *context, uint32_t index)
{
	struct handover *h = context;
	move(h, h->theirs, h->own, index);
}

/* Down by the one, up by the other; the copy between their regions is the host's affair, and not counted. */
static void by_host(void *context, uint32_t index)
{
	struct handover *h = context;
	struct fetch_piece pieces[DEV_FETCH_PIECES_MAX];
	uint8_t *at = h->own + offset_of(index);
	for (uint32_t i = 0; i < BATCH_BYTES; i += h->piece_bytes)
		pieces[i / h->piece_bytes] = (struct fetch_piece){h->host + i, at + i, h->piece_bytes};
	dev_fetch(h->bench->device, pieces, BATCH_BYTES / h->piece_bytes);
	bench_check(device_wait(h->bench->device, device_mark(h->bench->device)), "copies");
	for (uint32_t i = 0; i < BATCH_BYTES; i += h->piece_bytes)
		bench_check(dev_copy(h->bench->device, at + i, h->host + i, h->piece_bytes), "copies");
}

static void measure(struct handover *h)
{
	static const uint32_t sizes[] = {64 << 10, 256 << 10, 1 << 20};
	const struct work twice = {.bytes = 2.0 * BATCH_BYTES}, once = {.bytes = BATCH_BYTES};
	char name[64];
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		h->piece_bytes = sizes[i];
		snprintf(name, sizeof(name), "handover/read/%u KiB", sizes[i] >> 10);
		bench_measure(h->bench, name, twice, reading, h);
		snprintf(name, sizeof(name), "handover/write/%u KiB", sizes[i] >> 10);
		bench_measure(h->bench, name, twice, writing, h);
		snprintf(name, sizeof(name), "handover/host/%u KiB", sizes[i] >> 10);
		bench_measure(h->bench, name, once, by_host, h);
	}
}

/* ---- the neighbour */

int bench_neighbour(void)
{
	struct device *device = NULL;
	struct why why = {0};
	void *pool = NULL;
	char byte;
	int fd = -1;
	const struct device_options options = {.kind = DEVICE_CUDA};
	enum err e = device_open(&options, &why, &device);
	if (e == ERR_OK)
		e = dev_alloc(device, MEM_SHARED, POOL_BYTES, &pool);
	if (e == ERR_OK)
		e = dev_export(device, pool, &fd, &why);
	if (e != ERR_OK || !pass_fd(SOCKET_FD, fd)) {
		fprintf(stderr, "bench_gpu: the neighbour: %s: %s\n", err_text(e), why.text);
		return 1;
	}
	return read(SOCKET_FD, &byte, 1) == 0 ? 0 : 1; /* the end */
}

static pid_t start_neighbour(int *ret_socket_fd)
{
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
		return -1;
	pid_t pid = fork();
	if (pid == 0) {
		/* The number it knows, without the flag that would close it. */
		if (ends[1] == SOCKET_FD)
			ends[1] = dup(ends[1]);
		dup2(ends[1], SOCKET_FD);
		execl("/proc/self/exe", "bench_gpu", "neighbour", (char *)NULL);
		_exit(127);
	}
	close(ends[1]);
	*ret_socket_fd = ends[0];
	return pid;
}

static void with_pools(struct handover *h, int fd)
{
	struct device *device = h->bench->device;
	struct why why = {0};
	void *host = NULL, *theirs = NULL;
	enum err e = dev_import(device, fd, POOL_BYTES, true, &theirs, &why);
	if (e != ERR_OK) {
		fprintf(stderr, "bench_gpu: a neighbour's memory: %s\n", why.text);
		return;
	}
	h->theirs = theirs;
	h->own = bench_alloc(h->bench, POOL_BYTES);
	bench_check(dev_alloc(device, MEM_PINNED, BATCH_BYTES, &host), "pinned memory");
	h->host = host;
	bench_check(dev_reader_create(device, &h->reader), "a reader");
	bench_fill_bf16(h->bench, h->own, POOL_BYTES / 2, 1);
	measure(h);
	dev_reader_destroy(h->reader);
	dev_free(device, MEM_PINNED, host, BATCH_BYTES);
	bench_free(h->bench, h->own, POOL_BYTES);
	dev_unimport(device, theirs, POOL_BYTES);
}

void bench_handover(struct bench *bench)
{
	struct handover h = {.bench = bench};
	int socket_fd = -1;
	pid_t pid = start_neighbour(&socket_fd);
	int fd = pid > 0 ? take_fd(socket_fd) : -1;
	if (fd >= 0) {
		with_pools(&h, fd);
		close(fd);
	}
	if (pid > 0) {
		close(socket_fd);
		waitpid(pid, NULL, 0);
	}
}

/* bench_link - GB/s of the link by transport and piece size, beside the limit of the same path in the same run:
 * memcpy of cold memory for mapped and shared memory, one raw TCP stream over loopback for TCP.
 * Also how late a 1 ms timer of the reader's loop came at worst: what a heartbeat would have waited.
 *
 * Prints one line per (way, size): median of 3 interleaved rounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/net/link_fixture.h"

#define REGION_BYTES (SLOT_BYTES * SLOT_COUNT)
#define ROUNDS 3
#define WINDOW 4
#define BATCH 16

static uint8_t *landing; /* [WINDOW][BATCH * piece] at most, cycled over twice REGION_BYTES */
static const uint64_t sizes[] = {4096, 65536, 1 << 20, SLOT_BYTES};
#define SIZES (sizeof(sizes) / sizeof(*sizes))

static double seconds(uint64_t from_ns)
{
	return (double)(wall_ns() - from_ns) / 1e9;
}

static uint64_t total_of(uint64_t size)
{
	return size < 65536 ? REGION_BYTES : 4 * REGION_BYTES;
}

/* At most 8 MiB a read. */
static size_t batch_of(uint64_t size)
{
	return size * BATCH <= 8 << 20 ? BATCH : (8 << 20) / size;
}

static void start_batch(struct pair *pair, struct probe *probe, uint64_t size, uint64_t at)
{
	struct handle handles[BATCH];
	void *landings[BATCH];
	for (size_t i = 0; i < batch_of(size); i++) {
		uint64_t offset = (at + i * size) % REGION_BYTES;
		handles[i] = handle_of(offset / SLOT_BYTES, offset % SLOT_BYTES, size);
		landings[i] = landing + (at + i * size) % (2 * REGION_BYTES);
	}
	if (probe_start(pair, probe, handles, landings, batch_of(size), 30000 * MS) != ERR_OK)
		abort();
}

struct beat {
	uint64_t due_ns, late_ns;
};

static void on_beat(struct loop_timer *timer, void *arg)
{
	struct beat *beat = arg;
	uint64_t now_ns = wall_ns(), late_ns = now_ns > beat->due_ns ? now_ns - beat->due_ns : 0;
	beat->late_ns = late_ns > beat->late_ns ? late_ns : beat->late_ns;
	beat->due_ns = now_ns + MS;
	loop_timer_arm(timer, MS);
}

/* GB/s; the worst lateness goes to *late_ns. */
static double run_link(struct pair *pair, uint64_t size, uint64_t *late_ns)
{
	struct probe probes[WINDOW];
	struct beat beat = {.due_ns = wall_ns() + MS};
	struct loop_timer *timer = NULL;
	if (loop_timer_create(pair->loop, on_beat, &beat, &timer) != ERR_OK)
		abort();
	loop_timer_arm(timer, MS);
	uint64_t total = total_of(size), step = batch_of(size) * size, at = 0, begin_ns = wall_ns();
	for (size_t i = 0; i < WINDOW; i++, at += step)
		start_batch(pair, &probes[i], size, at);
	for (size_t i = 0, ended = 0; ended * step < total; i = (i + 1) % WINDOW, ended++) {
		while (!probes[i].free_count)
			loop_turn(pair->loop, 10 * MS);
		if (probes[i].results[0].err != ERR_OK)
			abort();
		if (at < total) {
			start_batch(pair, &probes[i], size, at);
			at += step;
		} else {
			probes[i].free_count = 1;
		}
	}
	loop_timer_destroy(timer);
	*late_ns = beat.late_ns > *late_ns ? beat.late_ns : *late_ns;
	return (double)total / seconds(begin_ns) / 1e9;
}

static double run_memcpy(const uint8_t *source, uint64_t size)
{
	uint64_t total = total_of(size), begin_ns = wall_ns();
	for (uint64_t at = 0; at < total; at += size)
		memcpy(landing + at % (2 * REGION_BYTES), source + at % REGION_BYTES, size);
	return (double)total / seconds(begin_ns) / 1e9;
}

struct sender {
	int fd;
	const uint8_t *source;
	uint64_t size, total;
};

static void *send_all(void *arg)
{
	struct sender *sender = arg;
	for (uint64_t at = 0; at < sender->total;) {
		uint64_t offset = at % REGION_BYTES, part = sender->size - at % sender->size;
		ssize_t n = send(sender->fd, sender->source + offset, part, MSG_NOSIGNAL);
		if (n <= 0)
			break;
		at += (uint64_t)n;
	}
	return NULL;
}

static double run_tcp(const uint8_t *source, uint64_t size)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0), out = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(listener, (struct sockaddr *)&address, length) < 0 || listen(listener, 1) < 0 ||
	    getsockname(listener, (struct sockaddr *)&address, &length) < 0 ||
	    connect(out, (struct sockaddr *)&address, length) < 0)
		abort();
	int in = accept(listener, NULL, NULL);
	struct sender sender = {out, source, size, total_of(size)};
	pthread_t thread;
	uint64_t begin_ns = wall_ns();
	if (pthread_create(&thread, NULL, send_all, &sender) != 0)
		abort();
	for (uint64_t at = 0; at < sender.total;) {
		ssize_t n = recv(in, landing + at % (2 * REGION_BYTES), size - at % size, 0);
		if (n <= 0)
			abort();
		at += (uint64_t)n;
	}
	double rate = (double)sender.total / seconds(begin_ns) / 1e9;
	pthread_join(thread, NULL);
	close(in);
	close(out);
	close(listener);
	return rate;
}

static double median3(const double *v)
{
	double low = v[0] < v[1] ? v[0] : v[1], high = v[0] < v[1] ? v[1] : v[0];
	return v[2] < low ? low : v[2] > high ? high : v[2];
}

static void measure(const struct way *way, const uint8_t *source)
{
	struct pair pair;
	pair_open(&pair, way);
	for (size_t s = 0; s < SIZES; s++) {
		double link[ROUNDS], limit[ROUNDS];
		uint64_t late_ns = 0;
		for (size_t i = 0; i < ROUNDS; i++) {
			limit[i] = way->transport == LINK_UCX_TCP ? run_tcp(source, sizes[s]) : run_memcpy(source, sizes[s]);
			link[i] = run_link(&pair, sizes[s], &late_ns);
		}
		printf("%-28s %8llu B  %6.2f GB/s  limit %6.2f  ratio %.2f  timer late %6.0f us\n", way->name,
		       (unsigned long long)sizes[s], median3(link), median3(limit), median3(link) / median3(limit),
		       (double)late_ns / 1e3);
		fflush(stdout);
	}
	pair_close(&pair);
}

int main(int argc, char **argv)
{
	peer_main(argc, argv);
	uint8_t *source = malloc(REGION_BYTES);
	landing = malloc(2 * REGION_BYTES);
	if (!source || !landing)
		return 1;
	memset(source, 1, REGION_BYTES);
	memset(landing, 2, 2 * REGION_BYTES);
	for (size_t i = 0; i < way_count; i++)
		measure(&ways[i], source);
	free(source);
	free(landing);
	return 0;
}

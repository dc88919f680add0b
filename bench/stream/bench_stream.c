/* bench_stream - microseconds of a round trip over a control stream, by scheme and frame size.
 *
 * Two loops on two threads of this process, one frame on the way at a time.  Prints one line per (scheme, size):
 * median and 99th percentile of the round trips. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "net/loop.h"
#include "net/stream.h"

enum { ROUNDS = 5000 };

struct server {
	struct loop *loop;
	struct stream_listener *listener;
	struct loop_task close_task;
	char url[128];
};

struct client {
	struct loop *loop;
	struct stream *stream;
	size_t frame_bytes;
	uint8_t frame[65536];
	uint64_t sent_ns;
	uint64_t took_ns[ROUNDS];
	int round;
};

static uint64_t wall_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void check(enum err e, const char *what)
{
	if (e == ERR_OK)
		return;
	fprintf(stderr, "%s: %s\n", what, err_text(e));
	exit(1);
}

static void echo(struct stream *stream, const uint8_t *data, size_t length, void *arg)
{
	check(stream_send(stream, data, length), "echo");
}

static void on_end(struct stream *stream, enum err e, const char *text, void *arg)
{
}

static const struct stream_callbacks server_callbacks = {.on_frame = echo, .on_close = on_end};

static void on_accept(struct stream_listener *listener, struct stream *stream, void *arg)
{
	stream_accept(stream, &server_callbacks, arg);
}

static void next_round(struct client *client)
{
	client->sent_ns = wall_ns();
	check(stream_send(client->stream, client->frame, client->frame_bytes), "send");
}

static void on_open(struct stream *stream, void *arg)
{
	next_round(arg);
}

static void on_frame(struct stream *stream, const uint8_t *data, size_t length, void *arg)
{
	struct client *client = arg;
	client->took_ns[client->round++] = wall_ns() - client->sent_ns;
	if (client->round < ROUNDS)
		next_round(client);
	else
		loop_stop(client->loop);
}

static const struct stream_callbacks client_callbacks = {.on_open = on_open, .on_frame = on_frame, .on_close = on_end};

static void *serve(void *arg)
{
	loop_run(((struct server *)arg)->loop);
	return NULL;
}

static int by_time(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

static void measure(struct server *server, const char *scheme, size_t frame_bytes)
{
	struct client *client = calloc(1, sizeof(*client));
	struct why why;
	client->frame_bytes = frame_bytes;
	check(loop_create(&client->loop), "loop");
	check(stream_dial(client->loop, server->url, 1000000000, NULL, &client_callbacks, client, &client->stream, &why),
	      "dial");
	loop_run(client->loop);
	stream_close(client->stream);
	loop_destroy(client->loop);
	qsort(client->took_ns, ROUNDS, sizeof(client->took_ns[0]), by_time);
	printf("%-8s %6zu bytes  median %6.1f us  p99 %7.1f us\n", scheme, frame_bytes,
	       (double)client->took_ns[ROUNDS / 2] / 1e3, (double)client->took_ns[ROUNDS * 99 / 100] / 1e3);
	free(client);
}

static void run(const char *scheme, const char *listen_url)
{
	struct server server = {0};
	struct why why = {0};
	pthread_t thread;
	check(loop_create(&server.loop), "loop");
	if (stream_listen(server.loop, listen_url, NULL, on_accept, &server, &server.listener, &why) != ERR_OK) {
		fprintf(stderr, "%s\n", why.text);
		exit(1);
	}
	uint16_t port = stream_listener_port(server.listener);
	if (port)
		snprintf(server.url, sizeof(server.url), "tcp://127.0.0.1:%u", port);
	else
		snprintf(server.url, sizeof(server.url), "%s", listen_url);
	if (pthread_create(&thread, NULL, serve, &server) != 0)
		exit(1);
	measure(&server, scheme, 100);
	measure(&server, scheme, 10000);
	loop_stop(server.loop);
	pthread_join(thread, NULL);
	stream_listener_close(server.listener);
	loop_destroy(server.loop);
}

int main(void)
{
	char ipc[64];
	snprintf(ipc, sizeof(ipc), "ipc:///tmp/baton-bench-%d", (int)getpid());
	run("tcp", "tcp://127.0.0.1:0");
	run("ipc", ipc);
	unlink(ipc + 6);
	return 0;
}

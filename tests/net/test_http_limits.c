/* Clients that dribble, do not read, or come in crowds: cut in time, and nobody else is concerned. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/http.h"
#include "net/loop.h"

#define MS ((uint64_t)1000000)
#define H  "Host: x\r\n"

enum { CONNECTIONS_MAX = 4, STREAM_BYTES = 1 << 20 };

struct world {
	struct loop *loop;
	struct http_server *server;
	uint32_t handled, gone;
	size_t last_body;
};

static void echo(struct http_request *request, void *context)
{
	struct world *world = context;
	world->handled++;
	(void)http_body(request, &world->last_body);
	http_reply(request, 200, NULL, "ok", 2);
}

static void on_gone(struct http_request *request, void *context)
{
	struct world *world = context;
	world->gone++;
	http_abort(request);
}

/* More than any socket takes at once. */
static void flood(struct http_request *request, void *context)
{
	char *bytes = calloc(1, STREAM_BYTES);
	http_on_gone(request, on_gone, context);
	http_stream_start(request, 200, NULL);
	http_stream_write(request, bytes, STREAM_BYTES);
	free(bytes);
}

static int open_world(void **state, uint64_t write_timeout_ns)
{
	struct world *world = calloc(1, sizeof(*world));
	struct why why = {0};
	struct http_options options = {.header_max = 4096, .body_max = 60000, .bodies_max = 100000,
				       .connections_max = CONNECTIONS_MAX, .header_timeout_ns = 300 * MS,
				       .receive_timeout_ns = 300 * MS, .write_timeout_ns = write_timeout_ns, .send_buffer = 65536};
	assert_int_equal(loop_create(&world->loop), ERR_OK);
	assert_int_equal(http_server_create(world->loop, &options, &world->server, &why), ERR_OK);
	assert_int_equal(http_route(world->server, "POST", "/echo", echo, world), ERR_OK);
	assert_int_equal(http_route(world->server, "GET", "/flood", flood, world), ERR_OK);
	*state = world;
	return 0;
}

static int setup(void **state)
{
	return open_world(state, 400 * MS);
}

/* Where the client is this very thread, which may sleep longer than it means to. */
static int setup_patient(void **state)
{
	return open_world(state, 2000 * MS);
}

static int teardown(void **state)
{
	struct world *world = *state;
	assert_int_equal(http_server_requests_open(world->server), 0);
	http_server_destroy(world->server);
	loop_destroy(world->loop);
	free(world);
	return 0;
}

static int dial(struct world *world)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(http_server_port(world->server))};
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), segment = 1400;
	/* As on a network: with the 64 KiB of the loopback a window opens only once nearly all was read. */
	assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof(segment)), 0);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		assert_int_equal(errno, EINPROGRESS);
	loop_turn(world->loop, 20 * MS);
	loop_turn(world->loop, 0);
	return fd;
}

/* What has come, "" for nothing; NULL: the connection has ended. */
static const char *hear(struct world *world, int fd, char text[4096])
{
	for (int i = 0; i < 3; i++)
		loop_turn(world->loop, MS);
	ssize_t n = recv(fd, text, 4095, 0);
	text[n > 0 ? n : 0] = 0;
	return n == 0 || (n < 0 && errno != EAGAIN) ? NULL : text;
}

static void say(struct world *world, int fd, const char *text)
{
	(void)!send(fd, text, strlen(text), MSG_NOSIGNAL);
	loop_turn(world->loop, MS);
}

/* A byte of `text` (over and over) every 20 ms; returns what came back within `limit_ms`. */
static const char *dribble(struct world *world, int fd, const char *text, uint32_t limit_ms, char heard[4096])
{
	uint64_t end_ns = loop_now_ns(world->loop) + limit_ms * MS;
	for (size_t i = 0; loop_now_ns(world->loop) < end_ns; i++) {
		(void)!send(fd, text + i % strlen(text), 1, MSG_NOSIGNAL);
		usleep(20000);
		if (!hear(world, fd, heard) || heard[0])
			return heard;
	}
	return heard;
}

static void a_dribbled_head_is_cut_however_steady_it_comes(void **state)
{
	struct world *world = *state;
	char heard[4096];
	int fd = dial(world);
	say(world, fd, "POST /echo HTTP/1.1\r\n");
	assert_non_null(strstr(dribble(world, fd, "X-A: b\r\n", 3000, heard), "HTTP/1.1 408"));
	close(fd);
	/* One that is behind a request has no more time. */
	fd = dial(world);
	say(world, fd, "POST /echo HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\nPOST /ec");
	assert_non_null(strstr(hear(world, fd, heard), "HTTP/1.1 200"));
	assert_non_null(strstr(dribble(world, fd, "X", 3000, heard), "HTTP/1.1 408"));
	close(fd);
	loop_turn(world->loop, 20 * MS);
	assert_int_equal(world->handled, 1);
}

static void a_dribbled_body_is_cut_however_steady_it_comes(void **state)
{
	struct world *world = *state;
	char heard[4096];
	for (int chunked = 0; chunked < 2; chunked++) {
		int fd = dial(world);
		say(world, fd, chunked ? "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n" :
					 "POST /echo HTTP/1.1\r\n" H "Content-Length: 1000\r\n\r\n");
		assert_non_null(strstr(dribble(world, fd, "1\r\na\r\n", 3000, heard), "HTTP/1.1 408"));
		close(fd);
	}
	loop_turn(world->loop, 20 * MS);
	assert_int_equal(world->handled, 0);
}

static void a_large_body_has_the_time_that_it_needs(void **state)
{
	struct world *world = *state;
	char heard[4096], *part = malloc(10001);
	memset(part, 'a', 10000);
	part[10000] = 0;
	int fd = dial(world);
	say(world, fd, "POST /echo HTTP/1.1\r\n" H "Content-Length: 50000\r\n\r\n");
	for (int i = 0; i < 5; i++) { /* 0.75 s in all: more than 0.3 s, less than that and 3 s for its bytes */
		usleep(150000);
		assert_string_equal(hear(world, fd, heard), "");
		say(world, fd, part);
	}
	assert_non_null(strstr(hear(world, fd, heard), "HTTP/1.1 200"));
	assert_int_equal(world->last_body, 50000);
	free(part);
	close(fd);
	loop_turn(world->loop, 20 * MS);
}

static void who_takes_nothing_is_reset_and_counted(void **state)
{
	struct world *world = *state;
	int fd = dial(world);
	say(world, fd, "GET /flood HTTP/1.1\r\n" H "\r\n");
	assert_int_equal(http_server_requests_open(world->server), 1);
	for (int i = 0; i < 300 && !world->gone; i++) {
		usleep(10000);
		loop_turn(world->loop, MS);
	}
	assert_int_equal(world->gone, 1);
	assert_int_equal(http_server_stalled(world->server), 1);
	assert_int_equal(http_server_requests_open(world->server), 0);
	close(fd);
	loop_turn(world->loop, 20 * MS);
}

static void who_takes_a_little_now_and_then_goes_on(void **state)
{
	struct world *world = *state;
	char heard[4096], bytes[32768];
	size_t taken = 0;
	int fd = dial(world);
	say(world, fd, "GET /flood HTTP/1.1\r\n" H "\r\n");
	for (int i = 0; i < 30; i++) {
		usleep(100000);
		for (int n = 0; n < 4; n++)
			loop_turn(world->loop, MS);
		ssize_t n = recv(fd, bytes, sizeof(bytes), 0); /* nothing now and then: the window opens in steps */
		taken += n > 0 ? (size_t)n : 0;
		loop_turn(world->loop, MS);
	}
	assert_true(taken > sizeof(bytes));
	assert_int_equal(world->gone, 0);
	assert_int_equal(http_server_stalled(world->server), 0);
	close(fd);
	for (int i = 0; i < 20 && !world->gone; i++)
		(void)hear(world, dial(world), heard);
	assert_int_equal(world->gone, 1);
}

static void a_crowd_that_waits_makes_room_for_who_asks(void **state)
{
	struct world *world = *state;
	char heard[4096];
	int idle[CONNECTIONS_MAX + 2];
	for (int i = 0; i < CONNECTIONS_MAX; i++)
		idle[i] = dial(world);
	for (int i = CONNECTIONS_MAX; i < CONNECTIONS_MAX + 2; i++) {
		idle[i] = dial(world);
		say(world, idle[i], "POST /echo HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n");
		assert_non_null(strstr(hear(world, idle[i], heard), "HTTP/1.1 200"));
	}
	assert_null(hear(world, idle[0], heard)); /* those that came first went */
	assert_null(hear(world, idle[1], heard));
	assert_string_equal(hear(world, idle[2], heard), "");
	for (int i = 0; i < CONNECTIONS_MAX + 2; i++)
		close(idle[i]);
	for (int i = 0; i < 5; i++)
		loop_turn(world->loop, MS);
}

static void bodies_are_bounded_together(void **state)
{
	struct world *world = *state;
	char heard[4096], *part = malloc(50001);
	memset(part, 'a', 50000);
	part[50000] = 0;
	int first = dial(world), second = dial(world), third = dial(world);
	say(world, first, "POST /echo HTTP/1.1\r\n" H "Content-Length: 50001\r\n\r\n");
	say(world, first, part);
	say(world, second, "POST /echo HTTP/1.1\r\n" H "Content-Length: 49999\r\n\r\n");
	say(world, second, part + 2);
	assert_string_equal(hear(world, second, heard), "");
	say(world, third, "POST /echo HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabc");
	assert_non_null(strstr(hear(world, third, heard), "HTTP/1.1 503"));
	close(third);
	say(world, first, "b");
	assert_non_null(strstr(hear(world, first, heard), "HTTP/1.1 200"));
	third = dial(world);
	say(world, third, "POST /echo HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabc");
	assert_non_null(strstr(hear(world, third, heard), "HTTP/1.1 200"));
	free(part);
	close(first);
	close(second);
	close(third);
	for (int i = 0; i < 5; i++)
		loop_turn(world->loop, MS);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_dribbled_head_is_cut_however_steady_it_comes),
		T(a_dribbled_body_is_cut_however_steady_it_comes),
		T(a_large_body_has_the_time_that_it_needs),
		T(who_takes_nothing_is_reset_and_counted),
		cmocka_unit_test_setup_teardown(who_takes_a_little_now_and_then_goes_on, setup_patient, teardown),
		T(a_crowd_that_waits_makes_room_for_who_asks),
		T(bodies_are_bounded_together),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The server seen from raw sockets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "net/http.h"
#include "net/loop.h"

#define MS ((uint64_t)1000000)

struct world {
	struct loop *loop;
	struct http_server *server;
	struct http_request *open; /* by handlers that wait */
	int gone_count;
	int handled;
	bool end_when_gone;
};

static void echo(struct http_request *request, void *context)
{
	struct world *world = context;
	size_t length = 0;
	const char *body = http_body(request, &length);
	const char *name = http_query(request, "name"), *header = http_header(request, "x-thing");
	char text[1024];
	world->handled++;
	int n = snprintf(text, sizeof(text), "%s %s %s %s %zu:%.*s|", http_method(request), http_path(request),
	                 name ? name : "-", header ? header : "-", length, (int)(length < 500 ? length : 500), body);
	http_reply(request, 200, NULL, text, (size_t)n);
}

static void on_gone(struct http_request *request, void *context)
{
	struct world *world = context;
	world->gone_count++;
	if (world->end_when_gone) {
		http_abort(request);
		world->open = NULL;
	}
}

static void hold(struct http_request *request, void *context)
{
	struct world *world = context;
	world->handled++;
	world->open = request;
	http_on_gone(request, on_gone, world);
}

static void stream(struct http_request *request, void *context)
{
	static const struct http_field fields[] = {{"Content-Type", "text/event-stream"}, {NULL, NULL}};
	hold(request, context);
	http_stream_start(request, 200, fields);
}

static int setup(void **state)
{
	struct world *world = calloc(1, sizeof(*world));
	struct why why = {0};
	static const char *const origins[] = {"https://a.example", "https://b.example"};
	struct http_options options = {.header_max = 4096, .body_max = 100000, .idle_timeout_ns = 60000 * MS,
				       .receive_timeout_ns = 200 * MS, .header_timeout_ns = 200 * MS, .origins = origins, .origin_count = 2};
	assert_int_equal(loop_create(&world->loop), ERR_OK);
	assert_int_equal(http_server_create(world->loop, &options, &world->server, &why), ERR_OK);
	assert_int_equal(http_route(world->server, "GET", "/echo", echo, world), ERR_OK);
	assert_int_equal(http_route(world->server, "POST", "/echo", echo, world), ERR_OK);
	assert_int_equal(http_route(world->server, "GET", "/tree/*", echo, world), ERR_OK);
	assert_int_equal(http_route(world->server, "GET", "/hold", hold, world), ERR_OK);
	assert_int_equal(http_route(world->server, "GET", "/stream", stream, world), ERR_OK);
	*state = world;
	return 0;
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
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		assert_int_equal(errno, EINPROGRESS);
	loop_turn(world->loop, 20 * MS);
	return fd;
}

static void say(struct world *world, int fd, const char *text)
{
	size_t length = strlen(text);
	for (size_t at = 0; at < length;) {
		ssize_t n = send(fd, text + at, length - at, MSG_NOSIGNAL);
		if (n > 0)
			at += (size_t)n;
		loop_turn(world->loop, 0);
		if (n < 0 && errno != EAGAIN)
			return;
	}
}

/* Reads until `wanted` shows (NULL: until the end of the stream); -1: reset. */
static ssize_t hear(struct world *world, int fd, const char *wanted, char *text, size_t text_bytes)
{
	size_t length = 0;
	text[0] = 0;
	for (int i = 0; i < 500 && length + 1 < text_bytes; i++) {
		ssize_t n = recv(fd, text + length, text_bytes - 1 - length, 0);
		if (n == 0)
			return (ssize_t)length;
		if (n < 0 && errno != EAGAIN)
			return -1;
		length += n > 0 ? (size_t)n : 0;
		text[length] = 0;
		if (wanted && strstr(text, wanted))
			return (ssize_t)length;
		if (n < 0)
			loop_turn(world->loop, 10 * MS);
	}
	fail_msg("expected '%s' in: %s", wanted ? wanted : "(end of stream)", text);
	return -1;
}

static void turns(struct world *world, int count)
{
	for (int i = 0; i < count; i++)
		loop_turn(world->loop, 2 * MS);
}

static void expect_reply(struct world *world, const char *request, const char *status, const char *part)
{
	char text[8192];
	int fd = dial(world);
	say(world, fd, request);
	hear(world, fd, part, text, sizeof(text));
	if (strncmp(text, status, strlen(status)) != 0)
		fail_msg("expected '%s', got: %s", status, text);
	close(fd);
	turns(world, 3);
}

#define H "Host: a\r\n"

static void request_reaches_its_handler_whole(void **state)
{
	struct world *world = *state;
	expect_reply(world, "GET /echo?name=a%20b+c&x HTTP/1.1\r\n" H "X-Thing:  t \r\n\r\n", "HTTP/1.1 200 OK",
	             "GET /echo a b c t 0:|");
	expect_reply(world, "POST /echo HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhello", "HTTP/1.1 200 OK",
	             "POST /echo - - 5:hello|");
	expect_reply(world, "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nA: b\r\n\r\n",
	             "HTTP/1.1 200 OK", "POST /echo - - 5:hello|");
	expect_reply(world, "GET /tree/a/b%2fc HTTP/1.1\r\n" H "\r\n", "HTTP/1.1 200 OK", "GET /tree/a/b/c - - 0:|");
	expect_reply(world, "GET /echo HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK", "Connection: close");
	assert_int_equal(world->handled, 5);
}

static void body_may_come_byte_by_byte(void **state)
{
	struct world *world = *state;
	const char *request = "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n";
	char text[2048];
	int fd = dial(world);
	for (const char *c = request; *c; c++)
		say(world, fd, (char[]){*c, 0});
	hear(world, fd, "4:abcd|", text, sizeof(text));
	close(fd);
	turns(world, 3);
}

static void pipelined_requests_are_answered_in_order_on_one_connection(void **state)
{
	struct world *world = *state;
	char text[8192];
	int fd = dial(world);
	say(world, fd, "GET /echo?name=1 HTTP/1.1\r\n" H "\r\nPOST /echo?name=2 HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\nhi"
	               "GET /echo?name=3 HTTP/1.1\r\n" H "\r\n");
	hear(world, fd, "/echo 3 ", text, sizeof(text));
	assert_true(strstr(text, "/echo 1 ") < strstr(text, "/echo 2 "));
	assert_true(strstr(text, "/echo 2 ") < strstr(text, "/echo 3 "));
	say(world, fd, "GET /echo?name=4 HTTP/1.1\r\n" H "Connection: close\r\n\r\n");
	hear(world, fd, NULL, text, sizeof(text));
	assert_non_null(strstr(text, "/echo 4 "));
	close(fd);
	turns(world, 3);
}

static void unknown_paths_and_methods_are_refused_in_openai_s_shape(void **state)
{
	struct world *world = *state;
	expect_reply(world, "GET /nothing HTTP/1.1\r\n" H "\r\n", "HTTP/1.1 404 Not Found",
	             "{\"error\":{\"message\":\"There is no such path.\",\"type\":\"invalid_request_error\",\"param\":null,"
	             "\"code\":\"not_found\"}}");
	expect_reply(world, "DELETE /echo HTTP/1.1\r\n" H "\r\n", "HTTP/1.1 405", "method_not_allowed");
	assert_int_equal(world->handled, 0);
}

static void a_wrong_method_is_told_the_right_ones(void **state)
{
	struct world *world = *state;
	expect_reply(world, "DELETE /echo HTTP/1.1\r\n" H "\r\n", "HTTP/1.1 405", "Allow: GET, HEAD, POST, OPTIONS\r\n");
	expect_reply(world, "POST /tree/x HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n", "HTTP/1.1 405",
		     "Allow: GET, HEAD, OPTIONS\r\n");
	expect_reply(world, "OPTIONS /echo HTTP/1.1\r\n" H "\r\n", "HTTP/1.1 204", "Allow: GET, HEAD, POST, OPTIONS\r\n");
	expect_reply(world, "OPTIONS /nothing HTTP/1.1\r\n" H "\r\n", "HTTP/1.1 404", "not_found");
	assert_int_equal(world->handled, 0);
}

static void head_is_get_without_its_body(void **state)
{
	struct world *world = *state;
	char text[2048];
	int fd = dial(world);
	say(world, fd, "HEAD /echo HTTP/1.1\r\n" H "Connection: close\r\n\r\n");
	hear(world, fd, NULL, text, sizeof(text));
	assert_non_null(strstr(text, "HTTP/1.1 200 OK"));
	assert_non_null(strstr(text, "Content-Length: "));
	assert_string_equal(strstr(text, "\r\n\r\n"), "\r\n\r\n");
	close(fd);
	turns(world, 3);
}

static void every_reply_has_a_request_id(void **state)
{
	struct world *world = *state;
	static const char *const requests[] = {
		"GET /echo HTTP/1.1\r\n" H "\r\n",
		"GET /nothing HTTP/1.1\r\n" H "\r\n",
		"DELETE /echo HTTP/1.1\r\n" H "\r\n",
		"OPTIONS /echo HTTP/1.1\r\n" H "\r\n",
		"what is this\r\n\r\n",
		"GET / HTTP/9.9\r\n\r\n",
		"POST /echo HTTP/1.1\r\n" H "Content-Length: 999999\r\n\r\n",
		"GET /echo HTTP/1.1\r\n" H "x-request-id: not printable \xc3\xa4\r\n\r\n",
	};
	for (size_t i = 0; i < sizeof(requests) / sizeof(*requests); i++)
		expect_reply(world, requests[i], "HTTP/1.1 ", "x-request-id: req-");
	expect_reply(world, "GET /echo HTTP/1.1\r\n" H "X-Request-Id: mine-7\r\n\r\n", "HTTP/1.1 200",
		     "x-request-id: mine-7\r\n");
	expect_reply(world, "GET /nothing HTTP/1.1\r\n" H "X-Request-Id: mine-8\r\n\r\n", "HTTP/1.1 404",
		     "x-request-id: mine-8\r\n");
}

static void only_named_origins_may_read_replies(void **state)
{
	struct world *world = *state;
	char text[2048];
	expect_reply(world, "GET /echo HTTP/1.1\r\n" H "Origin: https://b.example\r\n\r\n", "HTTP/1.1 200",
		     "Access-Control-Allow-Origin: https://b.example\r\n");
	expect_reply(world,
		     "OPTIONS /echo HTTP/1.1\r\n" H "Origin: https://a.example\r\nAccess-Control-Request-Method: POST\r\n"
		     "Access-Control-Request-Headers: authorization\r\n\r\n",
		     "HTTP/1.1 204", "Access-Control-Allow-Headers: authorization\r\n");
	int fd = dial(world);
	say(world, fd, "GET /echo HTTP/1.1\r\n" H "Origin: https://evil.example\r\nConnection: close\r\n\r\n");
	hear(world, fd, NULL, text, sizeof(text));
	assert_null(strstr(text, "Access-Control"));
	close(fd);
	turns(world, 3);
}

static void a_request_that_does_not_come_whole_is_answered_408(void **state)
{
	struct world *world = *state;
	expect_reply(world, "POST /echo HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhel", "HTTP/1.1 408 Request Timeout",
		     "Connection: close");
	expect_reply(world, "GET /echo HTTP/1.1\r\nHos", "HTTP/1.1 408 Request Timeout", "Connection: close");
	assert_int_equal(world->handled, 0);
}

static void malformed_requests_are_refused_and_the_connection_ends(void **state)
{
	static const struct {
		const char *request, *status;
	} cases[] = {
		{"GET /echo HTTP/1.1\r\n\r\n", "HTTP/1.1 400"},                       /* no Host */
		{"GET /echo HTTP/2.0\r\n" H "\r\n", "HTTP/1.1 501"},
		{"GET echo HTTP/1.1\r\n" H "\r\n", "HTTP/1.1 400"},
		{"GET /%zz HTTP/1.1\r\n" H "\r\n", "HTTP/1.1 400"},
		{"GET /a%00b HTTP/1.1\r\n" H "\r\n", "HTTP/1.1 400"},
		{"GET /echo HTTP/1.1\r\n" H "A b: c\r\n\r\n", "HTTP/1.1 400"},        /* space in a name */
		{"GET /echo HTTP/1.1\r\n" H "A: b\r\n c\r\n\r\n", "HTTP/1.1 400"},    /* folded */
		{"GET /echo HTTP/1.1\r\n" H "A: b\nC: d\r\n\r\n", "HTTP/1.1 400"},    /* lone LF */
		{"POST /echo HTTP/1.1\r\n" H "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", "HTTP/1.1 400"},
		{"POST /echo HTTP/1.1\r\n" H "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\na", "HTTP/1.1 400"},
		{"POST /echo HTTP/1.1\r\n" H "Content-Length: -1\r\n\r\n", "HTTP/1.1 400"},
		{"POST /echo HTTP/1.1\r\n" H "Content-Length: 99999999999999999999\r\n\r\n", "HTTP/1.1 400"},
		{"POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: gzip\r\n\r\n", "HTTP/1.1 501"},
		{"POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\nzz\r\n", "HTTP/1.1 400"},
		{"POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n", "HTTP/1.1 400"},
	};
	struct world *world = *state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		char text[4096];
		int fd = dial(world);
		say(world, fd, cases[i].request);
		hear(world, fd, NULL, text, sizeof(text));
		if (strncmp(text, cases[i].status, strlen(cases[i].status)) != 0)
			fail_msg("case %zu: expected '%s', got: %s", i, cases[i].status, text);
		assert_non_null(strstr(text, "\"error\":{\"message\":"));
		close(fd);
	}
	turns(world, 3);
	assert_int_equal(world->handled, 0);
}

static void limits_answer_413_and_431(void **state)
{
	struct world *world = *state;
	char request[8192] = "GET /echo HTTP/1.1\r\n" H "X: ";
	memset(request + strlen(request), 'x', 5000);
	expect_reply(world, request, "HTTP/1.1 431", "too large");
	char many[4096] = "GET /echo HTTP/1.1\r\n" H;
	for (int i = 0; i < 120; i++)
		strcat(many, "A: b\r\n");
	strcat(many, "\r\n");
	expect_reply(world, many, "HTTP/1.1 431", "too many");
	expect_reply(world, "POST /echo HTTP/1.1\r\n" H "Content-Length: 100001\r\n\r\n", "HTTP/1.1 413", "too large");
	char *chunks = calloc(1, 200000);
	strcpy(chunks, "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1ffff\r\n");
	memset(chunks + strlen(chunks), 'x', 110000);
	expect_reply(world, chunks, "HTTP/1.1 413", "too large");
	free(chunks);
	assert_int_equal(world->handled, 0);
}

static void client_that_waits_for_100_gets_it(void **state)
{
	struct world *world = *state;
	char text[2048];
	int fd = dial(world);
	say(world, fd, "POST /echo HTTP/1.1\r\n" H "Content-Length: 2\r\nExpect: 100-continue\r\n\r\n");
	hear(world, fd, "HTTP/1.1 100 Continue\r\n\r\n", text, sizeof(text));
	say(world, fd, "ok");
	hear(world, fd, "2:ok|", text, sizeof(text));
	close(fd);
	turns(world, 3);
}

static void stream_arrives_in_chunks_and_the_connection_lives_on(void **state)
{
	struct world *world = *state;
	char text[4096];
	int fd = dial(world);
	say(world, fd, "GET /stream HTTP/1.1\r\n" H "\r\n");
	hear(world, fd, "Transfer-Encoding: chunked\r\n\r\n", text, sizeof(text));
	http_stream_write(world->open, "data: 1\n\n", 9);
	hear(world, fd, "9\r\ndata: 1\n\n\r\n", text, sizeof(text));
	http_stream_write(world->open, "data: 22\n\n", 10);
	http_stream_end(world->open);
	hear(world, fd, "a\r\ndata: 22\n\n\r\n0\r\n\r\n", text, sizeof(text));
	say(world, fd, "GET /echo HTTP/1.1\r\n" H "\r\n");
	hear(world, fd, "GET /echo", text, sizeof(text));
	close(fd);
	turns(world, 3);
	assert_int_equal(world->gone_count, 0);
}

static void aborted_stream_is_a_reset_not_an_end(void **state)
{
	struct world *world = *state;
	char text[4096];
	int fd = dial(world);
	say(world, fd, "GET /stream HTTP/1.1\r\n" H "\r\n");
	hear(world, fd, "\r\n\r\n", text, sizeof(text));
	http_abort(world->open);
	assert_int_equal(hear(world, fd, NULL, text, sizeof(text)), -1);
	close(fd);
	turns(world, 3);
	assert_int_equal(world->gone_count, 0);
}

/* Also with another request pipelined behind the open one. */
static void client_gone_while_waiting_or_streaming_is_told_once(void **state)
{
	struct world *world = *state;
	static const char *const requests[] = {
		"GET /hold HTTP/1.1\r\n" H "\r\n",
		"GET /stream HTTP/1.1\r\n" H "\r\n",
		"GET /hold HTTP/1.1\r\n" H "\r\nGET /echo HTTP/1.1\r\n" H "\r\n",
	};
	for (int i = 0; i < 3; i++) {
		int fd = dial(world);
		say(world, fd, requests[i]);
		turns(world, 3);
		assert_non_null(world->open);
		assert_int_equal(world->gone_count, i);
		close(fd);
		turns(world, 5);
		assert_int_equal(world->gone_count, i + 1);
		/* Still valid: writes are dropped until its owner ends it. */
		if (i == 1) {
			http_stream_write(world->open, "late", 4);
			assert_int_equal(http_queued_bytes(world->open), 0);
			http_stream_end(world->open);
		} else {
			http_reply(world->open, 200, NULL, "late", 4);
		}
		turns(world, 5);
		assert_int_equal(world->gone_count, i + 1);
		assert_int_equal(http_server_requests_open(world->server), 0);
	}
	assert_int_equal(world->handled, 3);
}

/* What is pipelined beyond the bound is not read, and the end of the stream behind it is noticed all the same. */
static void client_gone_behind_much_that_it_pipelined_is_told(void **state)
{
	struct world *world = *state;
	static char much[90000];
	memset(much, 'x', sizeof(much));
	world->end_when_gone = true;
	int fd = dial(world);
	say(world, fd, "GET /hold HTTP/1.1\r\n" H "\r\nPOST /echo HTTP/1.1\r\n" H "Content-Length: 99999\r\n\r\n");
	turns(world, 3);
	assert_non_null(world->open);
	assert_int_equal(send(fd, much, sizeof(much), MSG_NOSIGNAL), sizeof(much));
	turns(world, 5);
	assert_int_equal(world->gone_count, 0);
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	turns(world, 5);
	assert_int_equal(world->gone_count, 1);
	close(fd);
	turns(world, 5);
	assert_int_equal(world->gone_count, 1);
}

static void slow_reader_shows_in_the_queue_and_gets_everything(void **state)
{
	struct world *world = *state;
	static char block[65536];
	char text[4096];
	int fd = dial(world), small = 16384;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	say(world, fd, "GET /stream HTTP/1.1\r\n" H "\r\n");
	turns(world, 3);
	size_t sent = 0, seen = 0;
	memset(block, 'b', sizeof(block));
	while (http_queued_bytes(world->open) < 1 << 20) {
		http_stream_write(world->open, block, sizeof(block));
		sent += sizeof(block);
		assert_true(sent < 64 << 20);
	}
	http_stream_end(world->open);
	for (bool end = false; !end;) {
		ssize_t n = recv(fd, text, sizeof(text), 0);
		if (n < 0)
			loop_turn(world->loop, 10 * MS);
		for (ssize_t i = 0; i < n; i++)
			seen += text[i] == 'b';
		end = n >= 5 && memcmp(text + n - 5, "0\r\n\r\n", 5) == 0;
		assert_true(n != 0);
	}
	assert_in_range(seen, sent, sent + 64); /* and the b of a header or two */
	close(fd);
	turns(world, 3);
}

static void destroyed_server_tells_the_open_request(void **state)
{
	struct world *world = *state;
	int fd = dial(world);
	world->end_when_gone = true;
	say(world, fd, "GET /hold HTTP/1.1\r\n" H "\r\n");
	turns(world, 3);
	assert_int_equal(http_server_requests_open(world->server), 1);
	http_server_destroy(world->server);
	assert_int_equal(world->gone_count, 1);
	struct why why = {0};
	struct http_options options = {0};
	assert_int_equal(http_server_create(world->loop, &options, &world->server, &why), ERR_OK);
	close(fd);
}

static void drain_finishes_what_is_open_and_takes_no_more(void **state)
{
	struct world *world = *state;
	char text[2048];
	int fd = dial(world);
	say(world, fd, "GET /hold HTTP/1.1\r\n" H "\r\n");
	turns(world, 3);
	http_server_drain(world->server);
	http_reply(world->open, 200, NULL, "done", 4);
	hear(world, fd, NULL, text, sizeof(text));
	assert_non_null(strstr(text, "Connection: close"));
	assert_non_null(strstr(text, "done"));
	close(fd);
	turns(world, 3);
}

static void address_in_use_is_an_error_with_a_reason(void **state)
{
	struct world *world = *state;
	struct http_server *second = NULL;
	struct why why = {0};
	struct http_options same = {.port = http_server_port(world->server)}, odd = {.address = "nowhere"};
	assert_int_equal(http_server_create(world->loop, &same, &second, &why), ERR_BUSY);
	assert_non_null(strstr(why.text, "in use"));
	assert_int_equal(http_server_create(world->loop, &odd, &second, &why), ERR_INVALID);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(request_reaches_its_handler_whole),
		T(body_may_come_byte_by_byte),
		T(pipelined_requests_are_answered_in_order_on_one_connection),
		T(unknown_paths_and_methods_are_refused_in_openai_s_shape),
		T(a_wrong_method_is_told_the_right_ones),
		T(head_is_get_without_its_body),
		T(every_reply_has_a_request_id),
		T(only_named_origins_may_read_replies),
		T(a_request_that_does_not_come_whole_is_answered_408),
		T(malformed_requests_are_refused_and_the_connection_ends),
		T(limits_answer_413_and_431),
		T(client_that_waits_for_100_gets_it),
		T(stream_arrives_in_chunks_and_the_connection_lives_on),
		T(aborted_stream_is_a_reset_not_an_end),
		T(client_gone_while_waiting_or_streaming_is_told_once),
		T(client_gone_behind_much_that_it_pipelined_is_told),
		T(slow_reader_shows_in_the_queue_and_gets_everything),
		T(destroyed_server_tells_the_open_request),
		T(drain_finishes_what_is_open_and_takes_no_more),
		T(address_in_use_is_an_error_with_a_reason),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

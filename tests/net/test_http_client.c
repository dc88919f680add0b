/* The blocking client against our own server, which runs in a thread with a loop of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "net/http.h"
#include "net/http_client.h"
#include "net/loop.h"

struct world {
	struct loop *loop;
	struct http_server *server;
	pthread_t thread;
};

static void echo(struct http_request *request, void *context)
{
	size_t length = 0;
	const char *body = http_body(request, &length);
	http_reply(request, 200, NULL, body, length);
}

static void lines(struct http_request *request, void *context)
{
	http_stream_start(request, 200, NULL);
	http_stream_write(request, "one\r\ntw", 7);
	http_stream_write(request, "o\n\nthree\n", 9);
	http_stream_end(request);
}

static void broken(struct http_request *request, void *context)
{
	http_stream_start(request, 200, NULL);
	http_stream_write(request, "one\n", 4);
	http_abort(request);
}

static void *run(void *arg)
{
	loop_run(((struct world *)arg)->loop);
	return NULL;
}

static int setup(void **state)
{
	struct world *world = calloc(1, sizeof(*world));
	struct http_options options = {0};
	assert_int_equal(loop_create(&world->loop), ERR_OK);
	assert_int_equal(http_server_create(world->loop, &options, &world->server, NULL), ERR_OK);
	assert_int_equal(http_route(world->server, "POST", "/echo", echo, world), ERR_OK);
	assert_int_equal(http_route(world->server, "GET", "/lines", lines, world), ERR_OK);
	assert_int_equal(http_route(world->server, "GET", "/broken", broken, world), ERR_OK);
	assert_int_equal(pthread_create(&world->thread, NULL, run, world), 0);
	*state = world;
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;
	loop_stop(world->loop);
	pthread_join(world->thread, NULL);
	http_server_destroy(world->server);
	loop_destroy(world->loop);
	free(world);
	return 0;
}

struct heard {
	char text[256];
	int count, stop_at;
};

static bool on_line(void *context, const char *line, size_t length)
{
	struct heard *heard = context;
	assert_int_equal(strlen(line), length);
	strcat(heard->text, line);
	strcat(heard->text, "|");
	return ++heard->count != heard->stop_at;
}

static struct http_client_request request_of(const struct world *world, const char *method, const char *path)
{
	return (struct http_client_request){
		.host = "127.0.0.1",
		.port = http_server_port(world->server),
		.method = method,
		.path = path,
		.timeout_ns = (uint64_t)10 * 1000000000,
	};
}

static void whole_reply_comes_back(void **state)
{
	struct http_client_request request = request_of(*state, "POST", "/echo");
	struct http_client_reply reply = {.body.limit = 1 << 20};
	char *body = calloc(1, 300000);
	memset(body, 'x', 299999);
	request.body = body;
	request.body_length = 299999;
	assert_int_equal(http_client_call(&request, &reply, NULL), ERR_OK);
	assert_int_equal(reply.status, 200);
	assert_int_equal(reply.body.length, 299999);
	assert_string_equal(reply.body.data, body);
	buf_fini(&reply.body);
	struct http_client_reply small = {.body.limit = 1000};
	assert_int_equal(http_client_call(&request, &small, NULL), ERR_TOO_LARGE);
	buf_fini(&small.body);
	free(body);
}

static void streamed_lines_come_one_by_one_and_can_be_stopped(void **state)
{
	struct http_client_request request = request_of(*state, "GET", "/lines");
	struct http_client_reply reply = {0};
	struct heard heard = {0}, first = {.stop_at = 1};
	request.on_line = on_line;
	request.context = &heard;
	assert_int_equal(http_client_call(&request, &reply, NULL), ERR_OK);
	assert_string_equal(heard.text, "one|two||three|");
	request.context = &first;
	assert_int_equal(http_client_call(&request, &reply, NULL), ERR_OK);
	assert_string_equal(first.text, "one|");
}

static void broken_stream_and_error_status_show(void **state)
{
	struct http_client_request request = request_of(*state, "GET", "/broken");
	struct http_client_reply reply = {.body.limit = 4096};
	struct heard heard = {0};
	struct why why = {0};
	request.on_line = on_line;
	request.context = &heard;
	assert_int_equal(http_client_call(&request, &reply, &why), ERR_PEER_GONE);
	assert_string_not_equal(why.text, "");
	request.path = "/nothing";
	assert_int_equal(http_client_call(&request, &reply, &why), ERR_OK);
	assert_int_equal(reply.status, 404);
	assert_non_null(strstr(reply.body.data, "not_found"));
	buf_fini(&reply.body);
	request.port = 1;
	assert_int_equal(http_client_call(&request, &reply, &why), ERR_UNAVAILABLE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_reply_comes_back),
		cmocka_unit_test(streamed_lines_come_one_by_one_and_can_be_stopped),
		cmocka_unit_test(broken_stream_and_error_status_show),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}

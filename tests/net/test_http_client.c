/* The blocking client against our own server, which runs in a thread with a loop of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/certs.h"
#include "net/http.h"
#include "net/http_client.h"
#include "net/loop.h"
#include "net/tls.h"
#include "tests/scratch.h"

struct world {
	struct loop *loop;
	struct http_server *server;
	pthread_t thread;
	struct tls *tls; /* NULL: plain */
	char directory[64], ca_file[96];
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

/* Without chunks only the connection's end says where the answer ends: a broken one must not look like a whole one. */
static void broken_raw_stream_is_no_end(void **state)
{
	struct world *world = *state;
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(http_server_port(world->server))};
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	SSL *ssl = SSL_new(context);
	SSL_set_fd(ssl, fd);
	assert_int_equal(SSL_connect(ssl), 1);
	const char text[] = "GET /broken HTTP/1.0\r\n\r\n";
	assert_int_equal(SSL_write(ssl, text, sizeof(text) - 1), sizeof(text) - 1);
	char bytes[1024];
	int n;
	while ((n = SSL_read(ssl, bytes, sizeof(bytes))) > 0)
		;
	assert_int_not_equal(SSL_get_error(ssl, n), SSL_ERROR_ZERO_RETURN);
	SSL_free(ssl);
	SSL_CTX_free(context);
	close(fd);
}

static void *run(void *arg)
{
	loop_run(((struct world *)arg)->loop);
	return NULL;
}

static struct tls *make_tls(struct world *world)
{
	char certificate[96], key[96];
	struct why why = {0};
	struct tls *tls = NULL;
	assert_non_null(scratch_folder(world->directory, sizeof(world->directory), "https"));
	assert_int_equal(certs_make_ca(world->directory, "test", &why), ERR_OK);
	struct certs_node node = {.cluster = "test", .role = "coordinator", .name = "api"};
	assert_int_equal(certs_make_node(world->directory, &node, &why), ERR_OK);
	snprintf(world->ca_file, sizeof(world->ca_file), "%s/ca.pem", world->directory);
	snprintf(certificate, sizeof(certificate), "%s/api.pem", world->directory);
	snprintf(key, sizeof(key), "%s/api.key", world->directory);
	assert_int_equal(tls_create(&(struct tls_options){.certificate_file = certificate, .key_file = key}, &tls, &why), ERR_OK);
	return tls;
}

static int setup_world(void **state, bool tls)
{
	struct world *world = calloc(1, sizeof(*world));
	world->tls = tls ? make_tls(world) : NULL;
	struct http_options options = {.tls = world->tls};
	assert_int_equal(loop_create(&world->loop), ERR_OK);
	assert_int_equal(http_server_create(world->loop, &options, &world->server, NULL), ERR_OK);
	assert_int_equal(http_route(world->server, "POST", "/echo", echo, world), ERR_OK);
	assert_int_equal(http_route(world->server, "GET", "/lines", lines, world), ERR_OK);
	assert_int_equal(http_route(world->server, "GET", "/broken", broken, world), ERR_OK);
	assert_int_equal(pthread_create(&world->thread, NULL, run, world), 0);
	*state = world;
	return 0;
}

static int setup(void **state)
{
	return setup_world(state, false);
}

static int setup_tls(void **state)
{
	return setup_world(state, true);
}

static int teardown(void **state)
{
	struct world *world = *state;
	loop_stop(world->loop);
	pthread_join(world->thread, NULL);
	http_server_destroy(world->server);
	loop_destroy(world->loop);
	tls_destroy(world->tls);
	char command[128];
	snprintf(command, sizeof(command), "rm -rf %s", world->directory);
	assert_true(!world->tls || system(command) == 0);
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
		.ca_file = world->tls ? world->ca_file : NULL,
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

/* Nobody else's certificate, no other host's, and no plain HTTP. */
static void the_server_must_be_the_one_of_its_certificate(void **state)
{
	struct world *world = *state;
	struct http_client_request request = request_of(world, "GET", "/lines");
	struct http_client_reply reply = {.body.limit = 4096};
	struct why why = {0};
	char other[96];
	request.host = "localhost";
	assert_int_equal(http_client_call(&request, &reply, &why), ERR_OK);
	buf_fini(&reply.body);
	snprintf(other, sizeof(other), "%s/other", world->directory);
	assert_int_equal(mkdir(other, 0700), 0);
	assert_int_equal(certs_make_ca(other, "test", &why), ERR_OK);
	snprintf(other, sizeof(other), "%s/other/ca.pem", world->directory);
	request.host = "127.0.0.1";
	request.ca_file = other;
	assert_int_equal(http_client_call(&request, &reply, &why), ERR_DENIED);
	assert_non_null(strstr(why.text, "unable to get local issuer certificate"));
	request.ca_file = world->ca_file;
	request.host = "127.1"; /* reaches 127.0.0.1 under a name that is not in the certificate */
	assert_int_equal(http_client_call(&request, &reply, &why), ERR_DENIED);
	assert_non_null(strstr(why.text, "ostname mismatch"));
	request.host = "127.0.0.1";
	request.ca_file = NULL;
	assert_int_not_equal(http_client_call(&request, &reply, &why), ERR_OK);
	request.ca_file = world->ca_file;
	assert_int_equal(http_client_call(&request, &reply, &why), ERR_OK);
	buf_fini(&reply.body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_reply_comes_back),
		cmocka_unit_test(streamed_lines_come_one_by_one_and_can_be_stopped),
		cmocka_unit_test(broken_stream_and_error_status_show),
	};
	const struct CMUnitTest over_tls[] = {
		cmocka_unit_test(whole_reply_comes_back),
		cmocka_unit_test(streamed_lines_come_one_by_one_and_can_be_stopped),
		cmocka_unit_test(broken_stream_and_error_status_show),
		cmocka_unit_test(broken_raw_stream_is_no_end),
		cmocka_unit_test(the_server_must_be_the_one_of_its_certificate),
	};
	int failed = cmocka_run_group_tests_name("plain", tests, setup, teardown);
	return failed + cmocka_run_group_tests_name("tls", over_tls, setup_tls, teardown);
}

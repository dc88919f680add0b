/* Control streams: order, sizes, bounds, every kind of end; over tcp, ipc and tls. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/hash.h"
#include "net/certs.h"
#include "net/identity.h"
#include "net/loop.h"
#include "net/stream.h"
#include "net/tls.h"
#include "tests/scratch.h"

static const uint64_t second_ns = 1000000000;

struct end {
	struct stream *stream; /* NULL when gone */
	int opened, closed, rooms;
	enum err closed_with;
	char text[128];
	uint64_t frames, bytes;
	uint64_t digest; /* of the frames in their order */
	bool echo, close_on_frame;
};

struct pair {
	struct loop *loop;
	struct stream_listener *listener;
	struct end server, client;
	struct stream_options options;
	char url[160];
	char directory[64];
	bool refuse; /* new connections */
};

static void on_open(struct stream *stream, void *arg)
{
	((struct end *)arg)->opened++;
}

static void on_frame(struct stream *stream, const uint8_t *data, size_t length, void *arg)
{
	struct end *end = arg;
	end->frames++;
	end->bytes += length;
	end->digest = hash_xxh3(data, length, end->digest);
	if (end->echo)
		assert_int_equal(stream_send(stream, data, length), ERR_OK);
	if (end->close_on_frame) {
		end->stream = NULL;
		stream_close(stream);
	}
}

static void on_room(struct stream *stream, void *arg)
{
	((struct end *)arg)->rooms++;
}

static void on_close(struct stream *stream, enum err e, const char *text, void *arg)
{
	struct end *end = arg;
	end->closed++;
	end->closed_with = e;
	end->stream = NULL;
	snprintf(end->text, sizeof(end->text), "%s", text);
	stream_close(stream); /* allowed, does nothing */
}

static const struct stream_callbacks callbacks = {on_open, on_frame, on_room, on_close};

static void on_accept(struct stream_listener *listener, struct stream *stream, void *arg)
{
	struct pair *pair = arg;
	assert_true(stream_peer(stream)[0] != 0);
	if (pair->refuse)
		return;
	pair->server.stream = stream;
	pair->server.opened++;
	stream_accept(stream, &callbacks, &pair->server);
}

#define WAIT_FOR(pair, condition)                                                            \
	do {                                                                                 \
		uint64_t wait_until_ns = loop_now_ns((pair)->loop) + 20 * second_ns;              \
		while (!(condition)) {                                                       \
			loop_turn((pair)->loop, second_ns / 10);                             \
			if (loop_now_ns((pair)->loop) > wait_until_ns)                            \
				fail_msg("not within 20 s: %s", #condition);                 \
		}                                                                            \
	} while (0)

static void pair_listen(struct pair *pair, const char *scheme)
{
	struct why why = {0};
	assert_int_equal(loop_create(&pair->loop), ERR_OK);
	assert_non_null(scratch_folder(pair->directory, sizeof(pair->directory), "stream"));
	if (strcmp(scheme, "ipc") == 0)
		snprintf(pair->url, sizeof(pair->url), "ipc://%s/socket", pair->directory);
	else
		snprintf(pair->url, sizeof(pair->url), "%s://127.0.0.1:0", scheme);
	enum err e = stream_listen(pair->loop, pair->url, &pair->options, on_accept, pair, &pair->listener, &why);
	if (e != ERR_OK)
		fail_msg("%s", why.text);
	if (strcmp(scheme, "ipc") != 0) {
		assert_true(stream_listener_port(pair->listener) > 0);
		snprintf(pair->url, sizeof(pair->url), "%s://127.0.0.1:%u", scheme,
			 stream_listener_port(pair->listener));
	}
}

static void pair_dial(struct pair *pair)
{
	struct why why = {0};
	enum err e = stream_dial(pair->loop, pair->url, 5 * second_ns, &pair->options, &callbacks, &pair->client,
				 &pair->client.stream, &why);
	if (e != ERR_OK)
		fail_msg("%s", why.text);
}

static void pair_open(struct pair *pair, const char *scheme)
{
	pair_listen(pair, scheme);
	pair_dial(pair);
	WAIT_FOR(pair, pair->client.opened && pair->server.opened);
}

static void pair_fini(struct pair *pair)
{
	stream_close(pair->client.stream);
	stream_close(pair->server.stream);
	stream_listener_close(pair->listener);
	loop_destroy(pair->loop);
	char command[128];
	snprintf(command, sizeof(command), "rm -rf %s", pair->directory);
	assert_int_equal(system(command), 0);
}

static uint8_t *some_bytes(size_t length)
{
	uint8_t *bytes = malloc(length + 1);
	for (size_t i = 0; i < length; i++)
		bytes[i] = (uint8_t)(i * 131 + (i >> 8) + length);
	return bytes;
}

/* ---- what arrives ---- */

static const size_t sizes[] = {0, 1, 3, 4, 4095, 65531, 65532, 65533, 65536, 65537, 300000, 1 << 20, 0, 7};

static void exchange_sizes(const char *scheme, struct tls *tls)
{
	struct pair pair = {.options.tls = tls, .server.echo = true};
	pair_open(&pair, scheme);
	uint64_t digest = 0;
	size_t count = sizeof(sizes) / sizeof(sizes[0]);
	for (size_t i = 0; i < count; i++) {
		uint8_t *bytes = some_bytes(sizes[i]);
		digest = hash_xxh3(bytes, sizes[i], digest);
		size_t half = sizes[i] / 2;
		uint8_t *place;
		if (i % 3 == 1)
			assert_int_equal(stream_send(pair.client.stream, bytes, sizes[i]), ERR_OK);
		else if (i % 3 == 2) {
			assert_int_equal(stream_send_in_place(pair.client.stream, sizes[i], &place), ERR_OK);
			memcpy(place, bytes, sizes[i]);
		} else
			assert_int_equal(stream_send2(pair.client.stream, bytes, half, bytes + half, sizes[i] - half),
					 ERR_OK);
		free(bytes);
	}
	WAIT_FOR(&pair, pair.client.frames == count);
	assert_true(pair.server.digest == digest);
	assert_true(pair.client.digest == digest);
	assert_int_equal(stream_queued_bytes(pair.client.stream), 0);

	struct stream_counts counts;
	stream_listener_counts(pair.listener, &counts);
	assert_int_equal(counts.frames_in, count);
	assert_int_equal(counts.frames_out, count);
	assert_int_equal(counts.bytes_in, pair.server.bytes + 4 * count);
	assert_int_equal(counts.open, 1);
	pair_fini(&pair);
}

static void frames_of_all_sizes_come_back_over_tcp(void **state)
{
	exchange_sizes("tcp", NULL);
}

static void frames_of_all_sizes_come_back_over_ipc(void **state)
{
	exchange_sizes("ipc", NULL);
}

static void a_thousand_frames_keep_their_order(void **state)
{
	struct pair pair = {0};
	pair_listen(&pair, "tcp");
	pair_dial(&pair); /* sent while dialling: queued */
	uint64_t digest = 0;
	for (uint32_t i = 0; i < 1000; i++) {
		digest = hash_xxh3(&i, sizeof(i), digest);
		assert_int_equal(stream_send(pair.client.stream, &i, sizeof(i)), ERR_OK);
	}
	WAIT_FOR(&pair, pair.server.frames == 1000);
	assert_true(pair.server.digest == digest);
	pair_fini(&pair);
}

/* ---- bounds ---- */

static void the_queue_is_bounded_and_tells_when_there_is_room(void **state)
{
	struct pair pair = {.options.queue_bytes_max = 1 << 20};
	pair_open(&pair, "tcp");
	uint8_t *bytes = some_bytes(100000);
	uint64_t digest = 0, sent = 0;
	/* The loop does not turn, so nothing leaves but what the first write took. */
	while (stream_send(pair.client.stream, bytes, 100000) == ERR_OK) {
		digest = hash_xxh3(bytes, 100000, digest);
		assert_true(++sent < 100);
	}
	assert_int_equal(sent, 10);
	assert_int_equal(stream_queued_bytes(pair.client.stream), 10 * 100004);
	assert_int_equal(stream_send(pair.client.stream, bytes, 100000), ERR_AGAIN);
	WAIT_FOR(&pair, pair.client.rooms == 1);
	assert_true(stream_queued_bytes(pair.client.stream) <= 1 << 19);
	assert_int_equal(stream_send(pair.client.stream, bytes, 100000), ERR_OK);
	digest = hash_xxh3(bytes, 100000, digest);
	WAIT_FOR(&pair, pair.server.frames == 11);
	assert_true(pair.server.digest == digest);
	assert_int_equal(pair.client.rooms, 1);
	free(bytes);
	pair_fini(&pair);
}

static void an_own_frame_over_the_limit_is_refused_and_changes_nothing(void **state)
{
	struct pair pair = {.options.frame_bytes_max = 1000};
	pair_open(&pair, "tcp");
	uint8_t bytes[1001] = {0};
	assert_int_equal(stream_send(pair.client.stream, bytes, 1001), ERR_TOO_LARGE);
	assert_int_equal(stream_send2(pair.client.stream, bytes, 1, bytes, 1000), ERR_TOO_LARGE);
	assert_int_equal(stream_send2(pair.client.stream, bytes, SIZE_MAX, bytes, 2), ERR_TOO_LARGE);
	uint8_t *place = NULL;
	assert_int_equal(stream_send_in_place(pair.client.stream, 1001, &place), ERR_TOO_LARGE);
	assert_null(place);
	assert_int_equal(stream_send(pair.client.stream, bytes, 1000), ERR_OK);
	WAIT_FOR(&pair, pair.server.frames == 1);
	pair_fini(&pair);
}

/* A peer of another mind: a plain socket. */
static int raw_connect(const struct pair *pair)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(stream_listener_port(pair->listener))};
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void a_peers_frame_over_the_limit_ends_the_connection_and_is_counted(void **state)
{
	struct pair pair = {.options.frame_bytes_max = 1000};
	pair_listen(&pair, "tcp");
	int fd = raw_connect(&pair);
	const uint8_t bytes[] = {2, 0, 0, 0, 'o', 'k', 0xe9, 3, 0, 0, 'x'};
	assert_int_equal(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
	WAIT_FOR(&pair, pair.server.closed);
	assert_int_equal(pair.server.frames, 1);
	assert_int_equal(pair.server.closed_with, ERR_TOO_LARGE);
	assert_string_equal(pair.server.text, "a frame of 1001 bytes, at most 1000 are accepted");
	struct stream_counts counts;
	stream_listener_counts(pair.listener, &counts);
	assert_int_equal(counts.closed_too_large, 1);
	assert_int_equal(counts.open, 0);
	close(fd);
	pair_fini(&pair);
}

static void a_frame_that_comes_byte_by_byte_is_one_frame(void **state)
{
	struct pair pair = {0};
	pair_listen(&pair, "tcp");
	int fd = raw_connect(&pair);
	const uint8_t bytes[] = {3, 0, 0, 0, 'a', 'b', 'c', 0, 0, 0, 0};
	for (size_t i = 0; i < sizeof(bytes); i++) {
		assert_int_equal(write(fd, bytes + i, 1), 1);
		loop_turn(pair.loop, second_ns / 100);
	}
	WAIT_FOR(&pair, pair.server.frames == 2);
	assert_int_equal(pair.server.bytes, 3);
	close(fd);
	WAIT_FOR(&pair, pair.server.closed);
	assert_int_equal(pair.server.closed_with, ERR_PEER_GONE);
	pair_fini(&pair);
}

static void only_so_many_connections_are_open_at_once(void **state)
{
	struct pair pair = {.options.connection_max = 1};
	pair_open(&pair, "tcp");
	int fd = raw_connect(&pair); /* the kernel takes it, we do not */
	for (int i = 0; i < 5; i++)
		loop_turn(pair.loop, second_ns / 100);
	assert_int_equal(pair.server.opened, 1);
	stream_close(pair.client.stream);
	pair.client.stream = NULL;
	WAIT_FOR(&pair, pair.server.opened == 2);
	assert_int_equal(pair.server.closed, 1);
	close(fd);
	pair_fini(&pair);
}

/* ---- ends ---- */

static void finish_loses_nothing_and_both_sides_end_well(const char *scheme, struct tls *tls)
{
	struct pair pair = {.options.tls = tls};
	pair_open(&pair, scheme);
	uint8_t *bytes = some_bytes(200000);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(stream_send(pair.client.stream, bytes, 200000), ERR_OK);
		/* Unread data at the one who leaves: a bare close would reset. */
		assert_int_equal(stream_send(pair.server.stream, bytes, 200000), ERR_OK);
	}
	stream_finish(pair.client.stream, 10 * second_ns);
	assert_int_equal(stream_send(pair.client.stream, bytes, 1), ERR_PEER_GONE);
	WAIT_FOR(&pair, pair.client.closed && pair.server.closed);
	assert_int_equal(pair.server.frames, 20);
	assert_int_equal(pair.server.closed_with, ERR_OK);
	assert_int_equal(pair.client.closed_with, ERR_OK);
	free(bytes);
	pair_fini(&pair);
}

static void finish_over_tcp(void **state)
{
	finish_loses_nothing_and_both_sides_end_well("tcp", NULL);
}

static void finish_over_ipc(void **state)
{
	finish_loses_nothing_and_both_sides_end_well("ipc", NULL);
}

static void both_may_finish_at_once(void **state)
{
	struct pair pair = {0};
	pair_open(&pair, "tcp");
	uint8_t *bytes = some_bytes(500000);
	assert_int_equal(stream_send(pair.client.stream, bytes, 500000), ERR_OK);
	assert_int_equal(stream_send(pair.server.stream, bytes, 500000), ERR_OK);
	stream_finish(pair.client.stream, 10 * second_ns);
	stream_finish(pair.server.stream, 10 * second_ns);
	WAIT_FOR(&pair, pair.client.closed && pair.server.closed);
	assert_int_equal(pair.client.closed_with, ERR_OK);
	assert_int_equal(pair.server.closed_with, ERR_OK);
	assert_int_equal(pair.server.bytes, 500000);
	assert_int_equal(pair.client.bytes, 500000);
	free(bytes);
	pair_fini(&pair);
}

static void finish_gives_up_on_a_peer_that_does_not_read(void **state)
{
	struct pair pair = {0};
	pair_listen(&pair, "tcp");
	int fd = raw_connect(&pair);
	WAIT_FOR(&pair, pair.server.opened);
	uint8_t *bytes = some_bytes(8 << 20);
	assert_int_equal(stream_send(pair.server.stream, bytes, 8 << 20), ERR_OK);
	stream_finish(pair.server.stream, second_ns / 20);
	WAIT_FOR(&pair, pair.server.closed);
	assert_int_equal(pair.server.closed_with, ERR_DEADLINE);
	free(bytes);
	close(fd);
	pair_fini(&pair);
}

static void close_in_every_state_calls_nothing_any_more(void **state)
{
	for (int turns = 0; turns < 6; turns++) {
		struct pair pair = {0};
		pair_listen(&pair, "tcp");
		pair_dial(&pair);
		uint8_t *bytes = some_bytes(3 << 20);
		assert_int_equal(stream_send(pair.client.stream, bytes, 3 << 20), ERR_OK);
		for (int i = 0; i < turns; i++)
			loop_turn(pair.loop, second_ns / 100);
		if (turns == 5)
			stream_finish(pair.client.stream, second_ns);
		struct end before = pair.client;
		stream_close(pair.client.stream);
		pair.client.stream = NULL;
		if (pair.server.opened)
			WAIT_FOR(&pair, pair.server.closed);
		for (int i = 0; i < 3; i++)
			loop_turn(pair.loop, second_ns / 100);
		assert_int_equal(pair.client.opened, before.opened);
		assert_int_equal(pair.client.closed, 0);
		if (pair.server.closed && turns < 5) /* 5: the farewell may have gone out */
			assert_int_equal(pair.server.closed_with, ERR_PEER_GONE);
		free(bytes);
		pair_fini(&pair);
	}
}

static void close_inside_a_frame_ends_it_there(void **state)
{
	struct pair pair = {.server.close_on_frame = true};
	pair_open(&pair, "tcp");
	for (int i = 0; i < 3; i++)
		assert_int_equal(stream_send(pair.client.stream, "hello", 5), ERR_OK);
	WAIT_FOR(&pair, pair.client.closed);
	assert_int_equal(pair.server.frames, 1);
	assert_int_equal(pair.server.closed, 0);
	assert_int_equal(pair.client.closed_with, ERR_PEER_GONE);
	pair_fini(&pair);
}

static void a_connection_nobody_accepts_is_closed(void **state)
{
	struct pair pair = {.refuse = true};
	pair_listen(&pair, "tcp");
	pair_dial(&pair);
	WAIT_FOR(&pair, pair.client.closed);
	assert_int_equal(pair.client.closed_with, ERR_PEER_GONE);
	pair_fini(&pair);
}

static void a_dial_to_nobody_says_so(void **state)
{
	struct pair pair = {0};
	pair_listen(&pair, "tcp");
	stream_listener_close(pair.listener);
	pair.listener = NULL;
	pair_dial(&pair);
	WAIT_FOR(&pair, pair.client.closed);
	assert_int_equal(pair.client.opened, 0);
	assert_int_equal(pair.client.closed_with, ERR_PEER_GONE);
	pair_fini(&pair);
}

static void a_taken_address_and_strange_urls_are_refused_with_a_reason(void **state)
{
	struct pair pair = {0};
	struct why why;
	pair_listen(&pair, "tcp");
	struct stream_listener *other;
	assert_int_equal(stream_listen(pair.loop, pair.url, NULL, on_accept, &pair, &other, &why), ERR_BUSY);
	assert_non_null(strstr(why.text, pair.url));
	struct stream *stream;
	const char *const urls[] = {"ws://127.0.0.1:1", "inproc://x", "hello", ""};
	for (int i = 0; i < 4; i++)
		assert_int_equal(stream_dial(pair.loop, urls[i], second_ns, NULL, &callbacks, NULL, &stream, &why),
				 ERR_UNSUPPORTED);
	assert_int_equal(stream_dial(pair.loop, "tcp://127.0.0.1:99999", second_ns, NULL, &callbacks, NULL, &stream,
				     &why), ERR_INVALID);
	assert_int_equal(stream_dial(pair.loop, "tls+tcp://127.0.0.1:1", second_ns, NULL, &callbacks, NULL, &stream,
				     &why), ERR_INVALID);
	assert_non_null(strstr(why.text, "needs certificates"));
	pair_fini(&pair);
}

static void a_killed_peer_is_noticed(void **state)
{
	struct pair pair = {0};
	pair_listen(&pair, "tcp");
	pid_t child = fork();
	if (child == 0) { /* nothing but system calls in here: the parent has threads */
		struct sockaddr_in address = {.sin_family = AF_INET,
					      .sin_port = htons(stream_listener_port(pair.listener))};
		address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
			_exit(1);
		for (;;)
			pause();
	}
	WAIT_FOR(&pair, pair.server.opened);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	WAIT_FOR(&pair, pair.server.closed);
	assert_int_equal(pair.server.closed_with, ERR_PEER_GONE);
	pair_fini(&pair);
}

/* ---- tls ---- */

/* Two engines of one CA, and one of another. */
struct certificates {
	char directory[64], other[64];
	struct tls *tls, *stranger;
};

static struct tls *tls_of(const char *directory, const char *name)
{
	char ca[96], certificate[96], key[96];
	snprintf(ca, sizeof(ca), "%s/ca.pem", directory);
	snprintf(certificate, sizeof(certificate), "%s/%s.pem", directory, name);
	snprintf(key, sizeof(key), "%s/%s.key", directory, name);
	struct tls *tls = NULL;
	struct why why = {0};
	if (tls_create(&(struct tls_options){ca, certificate, key, "test"}, &tls, &why) != ERR_OK)
		fprintf(stderr, "%s\n", why.text);
	return tls;
}

static bool make_directory(char *directory)
{
	struct why why = {0};
	struct certs_node node = {.cluster = "test", .role = "engine", .name = "node"};
	if (scratch_folder(directory, 64, "tls") && certs_make_ca(directory, "test", &why) == ERR_OK &&
	    certs_make_node(directory, &node, &why) == ERR_OK)
		return true;
	fprintf(stderr, "%s\n", why.text);
	return false;
}

static int make_certificates(void **state)
{
	static struct certificates made;
	if (!make_directory(made.directory) || !make_directory(made.other))
		return -1;
	made.tls = tls_of(made.directory, "node");
	made.stranger = tls_of(made.other, "node");
	*state = &made;
	return made.tls && made.stranger ? 0 : -1;
}

static int remove_certificates(void **state)
{
	struct certificates *made = *state;
	char command[160];
	tls_destroy(made->tls);
	tls_destroy(made->stranger);
	snprintf(command, sizeof(command), "rm -rf %s %s", made->directory, made->other);
	return system(command);
}

static struct tls *good(void **state)
{
	return ((struct certificates *)*state)->tls;
}

static void frames_of_all_sizes_come_back_over_tls(void **state)
{
	exchange_sizes("tls+tcp", good(state));
}

static void finish_over_tls(void **state)
{
	finish_loses_nothing_and_both_sides_end_well("tls+tcp", good(state));
}

static void both_know_whom_they_talk_to(void **state)
{
	struct pair pair = {.options = {.tls = good(state), .expect_node = identity_name_node("node")}};
	pair_open(&pair, "tls+tcp");
	assert_string_equal(stream_identity(pair.client.stream)->name, "node");
	assert_string_equal(stream_identity(pair.server.stream)->role, "engine");
	assert_string_equal(stream_identity(pair.server.stream)->cluster, "test");
	pair_fini(&pair);
}

/* Nothing arrives, and the side that was wronged says so. */
static void dial_wrongly(void **state, struct tls *tls, uint64_t expect_node, enum refusal refusal, bool by_server)
{
	struct pair pair = {.options.tls = good(state)};
	struct tls *judge = by_server ? good(state) : tls;
	uint64_t before = tls_refused(judge, refusal);
	pair_listen(&pair, "tls+tcp");
	pair.options.tls = tls;
	pair.options.expect_node = expect_node;
	pair_dial(&pair);
	assert_int_equal(stream_send(pair.client.stream, "secret", 6), ERR_OK);
	WAIT_FOR(&pair, pair.client.closed && tls_refused(judge, refusal) == before + 1);
	assert_int_equal(pair.server.opened, 0);
	assert_int_equal(pair.client.closed_with, ERR_DENIED);
	pair_fini(&pair);
}

static void a_server_of_another_name_is_refused(void **state)
{
	dial_wrongly(state, good(state), identity_name_node("somebody-else"), REFUSAL_NAME, false);
}

static void a_server_of_another_ca_is_refused(void **state)
{
	dial_wrongly(state, ((struct certificates *)*state)->stranger, 0, REFUSAL_CA, false);
}

static void a_plain_peer_of_a_tls_listener_is_refused(void **state)
{
	struct pair pair = {.options.tls = good(state)};
	uint64_t before = tls_refused(good(state), REFUSAL_PLAINTEXT);
	pair_listen(&pair, "tls+tcp");
	int fd = raw_connect(&pair);
	assert_int_equal(write(fd, "\5\0\0\0hello\5\0\0\0hello", 18), 18);
	WAIT_FOR(&pair, tls_refused(good(state), REFUSAL_PLAINTEXT) == before + 1);
	assert_int_equal(pair.server.opened, 0);
	char byte[64];
	while (read(fd, byte, sizeof(byte)) > 0) /* an alert, then the end */
		;
	close(fd);
	pair_fini(&pair);
}

int main(void)
{
	const struct CMUnitTest plain[] = {
		cmocka_unit_test(frames_of_all_sizes_come_back_over_tcp),
		cmocka_unit_test(frames_of_all_sizes_come_back_over_ipc),
		cmocka_unit_test(a_thousand_frames_keep_their_order),
		cmocka_unit_test(the_queue_is_bounded_and_tells_when_there_is_room),
		cmocka_unit_test(an_own_frame_over_the_limit_is_refused_and_changes_nothing),
		cmocka_unit_test(a_peers_frame_over_the_limit_ends_the_connection_and_is_counted),
		cmocka_unit_test(a_frame_that_comes_byte_by_byte_is_one_frame),
		cmocka_unit_test(only_so_many_connections_are_open_at_once),
		cmocka_unit_test(finish_over_tcp),
		cmocka_unit_test(finish_over_ipc),
		cmocka_unit_test(both_may_finish_at_once),
		cmocka_unit_test(finish_gives_up_on_a_peer_that_does_not_read),
		cmocka_unit_test(close_in_every_state_calls_nothing_any_more),
		cmocka_unit_test(close_inside_a_frame_ends_it_there),
		cmocka_unit_test(a_connection_nobody_accepts_is_closed),
		cmocka_unit_test(a_dial_to_nobody_says_so),
		cmocka_unit_test(a_taken_address_and_strange_urls_are_refused_with_a_reason),
		cmocka_unit_test(a_killed_peer_is_noticed),
	};
	const struct CMUnitTest tls[] = {
		cmocka_unit_test(frames_of_all_sizes_come_back_over_tls),
		cmocka_unit_test(finish_over_tls),
		cmocka_unit_test(both_know_whom_they_talk_to),
		cmocka_unit_test(a_server_of_another_name_is_refused),
		cmocka_unit_test(a_server_of_another_ca_is_refused),
		cmocka_unit_test(a_plain_peer_of_a_tls_listener_is_refused),
	};
	int failed = cmocka_run_group_tests_name("stream", plain, NULL, NULL);
	return failed + cmocka_run_group_tests_name("stream over tls", tls, make_certificates, remove_certificates);
}

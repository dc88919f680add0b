/* Mutual TLS: who gets in, and how everybody else is refused, counted, and leaves nothing behind. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/ssl.h>

#include "net/certs.h"
#include "net/exposure.h"
#include "net/identity.h"
#include "net/loop.h"
#include "net/stream.h"
#include "net/tls.h"
#include "net/wire.h"
#include "proto/codec.h"
#include "proto/job.h"

static const uint64_t second_ns = 1000000000;
enum { HOUR = 3600, STRANGERS = 150 };

static char directory[64];

static void make_node(const char *folder, struct certs_node node)
{
	struct why why = {0};
	node.cluster = node.cluster ? node.cluster : "test";
	if (certs_make_node(folder, &node, &why) != ERR_OK)
		fail_msg("%s", why.text);
}

static struct tls *tls_open(const char *ca_folder, const char *folder, const char *name, const char *cluster)
{
	char ca[128], certificate[128], key[128];
	snprintf(ca, sizeof(ca), "%s/ca.pem", ca_folder);
	snprintf(certificate, sizeof(certificate), "%s/%s.pem", folder, name);
	snprintf(key, sizeof(key), "%s/%s.key", folder, name);
	struct tls *tls = NULL;
	struct why why = {0};
	if (tls_create(&(struct tls_options){ca, certificate, key, cluster}, &tls, &why) != ERR_OK)
		fail_msg("%s", why.text);
	return tls;
}

/* ---- a server, "prefill-1", and whoever comes ---- */

struct rig {
	struct loop *loop;
	struct tls *tls;
	struct stream_listener *listener;
	char url[64];
	struct stream *accepted;
	int opened, frames, server_closed;
	struct stream *client;
	int client_opened, client_closed;
	enum err closed_with;
};

static void server_frame(struct stream *stream, const uint8_t *data, size_t length, void *arg)
{
	((struct rig *)arg)->frames++;
}

static void server_close(struct stream *stream, enum err e, const char *text, void *arg)
{
	struct rig *rig = arg;
	rig->server_closed++;
	rig->accepted = NULL;
}

static void on_accept(struct stream_listener *listener, struct stream *stream, void *arg)
{
	static const struct stream_callbacks callbacks = {.on_frame = server_frame, .on_close = server_close};
	struct rig *rig = arg;
	rig->opened++;
	rig->accepted = stream;
	stream_accept(stream, &callbacks, rig);
}

static void client_open(struct stream *stream, void *arg)
{
	((struct rig *)arg)->client_opened++;
}

static void client_frame(struct stream *stream, const uint8_t *data, size_t length, void *arg)
{
}

static void client_close(struct stream *stream, enum err e, const char *text, void *arg)
{
	struct rig *rig = arg;
	rig->client_closed++;
	rig->closed_with = e;
	rig->client = NULL;
}

#define WAIT_FOR(rig, condition)                                                           \
	do {                                                                               \
		uint64_t until_ns = loop_now_ns((rig)->loop) + 20 * second_ns;             \
		while (!(condition)) {                                                     \
			loop_turn((rig)->loop, second_ns / 50);                            \
			if (loop_now_ns((rig)->loop) > until_ns)                           \
				fail_msg("not within 20 s: %s", #condition);               \
		}                                                                          \
	} while (0)

static void rig_open(struct rig *rig)
{
	struct why why = {0};
	*rig = (struct rig){.tls = tls_open(directory, directory, "prefill-1", "test")};
	assert_int_equal(loop_create(&rig->loop), ERR_OK);
	struct stream_options options = {.tls = rig->tls};
	if (stream_listen(rig->loop, "tls+tcp://127.0.0.1:0", &options, on_accept, rig, &rig->listener, &why) != ERR_OK)
		fail_msg("%s", why.text);
	snprintf(rig->url, sizeof(rig->url), "tls+tcp://127.0.0.1:%u", stream_listener_port(rig->listener));
}

static void rig_dial(struct rig *rig, struct tls *tls)
{
	static const struct stream_callbacks callbacks = {.on_open = client_open, .on_frame = client_frame, .on_close = client_close};
	struct why why = {0};
	struct stream_options options = {.tls = tls};
	if (stream_dial(rig->loop, rig->url, 5 * second_ns, &options, &callbacks, rig, &rig->client, &why) != ERR_OK)
		fail_msg("%s", why.text);
	assert_int_equal(stream_send(rig->client, "hello", 5), ERR_OK);
}

/* Nothing is held for anybody, and a coordinator that may come in still does. */
static void rig_close(struct rig *rig)
{
	struct stream_counts counts;
	stream_close(rig->client);
	rig->client = NULL;
	WAIT_FOR(rig, (stream_listener_counts(rig->listener, &counts), counts.open == 0));
	int frames = rig->frames;
	struct tls *good = tls_open(directory, directory, "coordinator-1", "test");
	rig_dial(rig, good);
	WAIT_FOR(rig, rig->frames == frames + 1);
	stream_close(rig->client);
	stream_close(rig->accepted);
	stream_listener_close(rig->listener);
	loop_destroy(rig->loop);
	tls_destroy(good);
	tls_destroy(rig->tls);
}

static uint64_t refused_in_all(const struct tls *tls)
{
	uint64_t sum = 0;
	for (int i = 0; i < REFUSAL_COUNT; i++)
		sum += tls_refused(tls, (enum refusal)i);
	return sum;
}

static void expect_refused(struct rig *rig, enum refusal refusal)
{
	WAIT_FOR(rig, refused_in_all(rig->tls) > 0);
	assert_int_equal(tls_refused(rig->tls, refusal), 1);
	assert_int_equal(refused_in_all(rig->tls), 1);
	assert_int_equal(rig->opened, 0);
	assert_int_equal(rig->frames, 0);
}

/* A client of ours with a certificate of some kind. */
static void refused_client(const char *folder, const char *name, const char *cluster, enum refusal refusal)
{
	struct rig rig;
	rig_open(&rig);
	struct tls *tls = tls_open(directory, folder, name, cluster);
	rig_dial(&rig, tls);
	expect_refused(&rig, refusal);
	WAIT_FOR(&rig, rig.client_closed);
	assert_int_equal(rig.closed_with, ERR_DENIED);
	assert_int_equal(tls_refused(tls, REFUSAL_BY_PEER), 1);
	rig_close(&rig);
	tls_destroy(tls);
}

static void a_client_of_another_ca_is_refused(void **state)
{
	char other[96];
	struct why why = {0};
	snprintf(other, sizeof(other), "%s/other", directory);
	assert_int_equal(certs_make_ca(other, "test", &why), ERR_OK);
	make_node(other, (struct certs_node){.role = "coordinator", .name = "coordinator-1"});
	refused_client(other, "coordinator-1", "test", REFUSAL_CA);
}

static void an_expired_certificate_is_refused(void **state)
{
	make_node(directory, (struct certs_node){.role = "coordinator", .name = "late", .begin_s = -2 * HOUR, .end_s = -HOUR});
	refused_client(directory, "late", "test", REFUSAL_EXPIRED);
}

static void a_certificate_of_tomorrow_is_refused(void **state)
{
	make_node(directory, (struct certs_node){.role = "coordinator", .name = "early", .begin_s = HOUR, .end_s = 2 * HOUR});
	refused_client(directory, "early", "test", REFUSAL_NOT_YET_VALID);
}

/* ---- clients that are not ours: OpenSSL by hand ---- */

struct raw {
	int fd;
	SSL_CTX *context;
	SSL *ssl;
	BIO *in, *out; /* what goes over the wire passes through memory, so that it can be kept */
	uint8_t sent[16384];
	size_t sent_length;
};

static int raw_connect(const struct rig *rig)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(stream_listener_port(rig->listener))};
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

static void raw_open(struct raw *raw, const struct rig *rig, const char *name, int version)
{
	*raw = (struct raw){.fd = raw_connect(rig), .context = SSL_CTX_new(TLS_client_method())};
	char path[128];
	assert_int_equal(SSL_CTX_set_max_proto_version(raw->context, version), 1);
	if (name) {
		snprintf(path, sizeof(path), "%s/%s.pem", directory, name);
		assert_int_equal(SSL_CTX_use_certificate_chain_file(raw->context, path), 1);
		snprintf(path, sizeof(path), "%s/%s.key", directory, name);
		assert_int_equal(SSL_CTX_use_PrivateKey_file(raw->context, path, SSL_FILETYPE_PEM), 1);
	}
	raw->ssl = SSL_new(raw->context);
	raw->in = BIO_new(BIO_s_mem());
	raw->out = BIO_new(BIO_s_mem());
	SSL_set_bio(raw->ssl, raw->in, raw->out);
	SSL_set_connect_state(raw->ssl);
}

static void raw_turn(struct raw *raw, struct rig *rig)
{
	uint8_t bytes[4096];
	int n;
	while ((n = BIO_read(raw->out, bytes, sizeof(bytes))) > 0) {
		assert_true(raw->sent_length + (size_t)n <= sizeof(raw->sent));
		memcpy(raw->sent + raw->sent_length, bytes, (size_t)n);
		raw->sent_length += (size_t)n;
		if (send(raw->fd, bytes, (size_t)n, MSG_NOSIGNAL) < 0)
			return;
	}
	loop_turn(rig->loop, second_ns / 100);
	ssize_t got = recv(raw->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	if (got > 0)
		BIO_write(raw->in, bytes, (int)got);
}

static bool raw_handshake(struct raw *raw, struct rig *rig)
{
	for (int i = 0; i < 100; i++) {
		int result = SSL_do_handshake(raw->ssl);
		if (result == 1)
			return true;
		bool waits = SSL_get_error(raw->ssl, result) == SSL_ERROR_WANT_READ;
		raw_turn(raw, rig);
		if (!waits)
			return false;
	}
	return false;
}

static void raw_close(struct raw *raw)
{
	SSL_free(raw->ssl);
	SSL_CTX_free(raw->context);
	close(raw->fd);
}

/* A client without scruples about whom it talks to, with that certificate or none. */
static void refused_raw(const char *name, enum refusal refusal)
{
	struct rig rig;
	struct raw raw;
	rig_open(&rig);
	raw_open(&raw, &rig, name, TLS1_3_VERSION);
	assert_true(raw_handshake(&raw, &rig)); /* for the client: it hears of the refusal with its first read */
	SSL_write(raw.ssl, "\5\0\0\0hello", 9);
	for (int i = 0; i < 5; i++)
		raw_turn(&raw, &rig);
	expect_refused(&rig, refusal);
	raw_close(&raw);
	rig_close(&rig);
}

static void a_client_without_a_certificate_is_refused(void **state)
{
	refused_raw(NULL, REFUSAL_NO_CERTIFICATE);
}

/* A store dials nobody, so its certificate opens no door of a prefill node. */
static void a_role_that_has_no_business_here_is_refused(void **state)
{
	refused_raw("kvstore-1", REFUSAL_ROLE);
}

static void a_node_of_another_cluster_is_refused(void **state)
{
	make_node(directory, (struct certs_node){.role = "coordinator", .name = "foreign", .cluster = "elsewhere"});
	refused_raw("foreign", REFUSAL_CLUSTER);
}

static void a_certificate_that_names_nobody_is_refused(void **state)
{
	make_node(directory, (struct certs_node){.name = "nobody", .uri = ""});
	refused_raw("nobody", REFUSAL_IDENTITY);
	make_node(directory, (struct certs_node){.name = "nobody", .uri = "spiffe://test/ns/x/sa/y"});
	refused_raw("nobody", REFUSAL_IDENTITY);
}

/* Each side judges the other: the client hangs up too. */
static void a_server_of_the_wrong_role_or_cluster_is_refused(void **state)
{
	struct rig rig;
	rig_open(&rig);
	struct tls *store = tls_open(directory, directory, "kvstore-1", "test");
	struct tls *foreign = tls_open(directory, directory, "foreign", "elsewhere");
	rig_dial(&rig, store);
	WAIT_FOR(&rig, rig.client_closed == 1);
	assert_int_equal(tls_refused(store, REFUSAL_ROLE), 1);
	rig_dial(&rig, foreign);
	WAIT_FOR(&rig, rig.client_closed == 2);
	assert_int_equal(tls_refused(foreign, REFUSAL_CLUSTER), 1);
	assert_int_equal(rig.opened, 0);
	rig_close(&rig);
	tls_destroy(store);
	tls_destroy(foreign);
}

static void a_tls_1_2_client_is_refused(void **state)
{
	struct rig rig;
	struct raw raw;
	rig_open(&rig);
	raw_open(&raw, &rig, "coordinator-1", TLS1_2_VERSION);
	assert_false(raw_handshake(&raw, &rig));
	expect_refused(&rig, REFUSAL_VERSION);
	raw_close(&raw);
	rig_close(&rig);
}

static void send_bytes(struct rig *rig, const void *bytes, size_t length, enum refusal refusal)
{
	rig_open(rig);
	int fd = raw_connect(rig);
	assert_int_equal(send(fd, bytes, length, MSG_NOSIGNAL), length);
	expect_refused(rig, refusal);
	close(fd);
	rig_close(rig);
}

static void plaintext_and_garbage_are_refused(void **state)
{
	struct rig rig;
	const char frame[] = "\x40\0\0\0\x0a\x02hihihihihihihihihi";
	send_bytes(&rig, frame, sizeof(frame), REFUSAL_PLAINTEXT);
	const char http[] = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
	send_bytes(&rig, http, sizeof(http) - 1, REFUSAL_PLAINTEXT);
	/* A record of the right kind with nonsense inside. */
	const char record[] = "\x16\x03\x01\0\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";
	send_bytes(&rig, record, sizeof(record) - 1, REFUSAL_HANDSHAKE);
}

static void a_recorded_connection_cannot_be_played_again(void **state)
{
	struct rig rig;
	struct raw raw;
	rig_open(&rig);
	raw_open(&raw, &rig, "coordinator-1", TLS1_3_VERSION);
	assert_true(raw_handshake(&raw, &rig));
	assert_int_equal(SSL_write(raw.ssl, "\5\0\0\0hello", 9), 9);
	for (int i = 0; i < 100 && rig.frames == 0; i++)
		raw_turn(&raw, &rig);
	assert_int_equal(rig.frames, 1);
	SSL_SESSION *session = SSL_get1_session(raw.ssl);
	assert_false(SSL_SESSION_is_resumable(session)); /* no tickets */
	SSL_SESSION_free(session);
	close(raw.fd);
	WAIT_FOR(&rig, rig.server_closed == 1);

	int fd = raw_connect(&rig);
	assert_int_equal(send(fd, raw.sent, raw.sent_length, MSG_NOSIGNAL), raw.sent_length);
	WAIT_FOR(&rig, refused_in_all(rig.tls) > 0);
	assert_int_equal(rig.opened, 1);
	assert_int_equal(rig.frames, 1);
	close(fd);
	raw.fd = dup(0);
	raw_close(&raw);
	rig_close(&rig);
}

static void who_says_nothing_is_thrown_out_in_time(void **state)
{
	struct rig rig;
	rig_open(&rig);
	int fd = raw_connect(&rig);
	assert_int_equal(send(fd, "\x16\x03\x01", 3, MSG_NOSIGNAL), 3); /* begins like TLS, then sleeps */
	expect_refused(&rig, REFUSAL_TIMEOUT);
	char byte;
	WAIT_FOR(&rig, recv(fd, &byte, 1, MSG_DONTWAIT) == 0);
	close(fd);
	rig_close(&rig);
}

/* More unfinished handshakes than there is room for: the newest stay, and who has a certificate comes in at once. */
static void a_crowd_of_strangers_keeps_nobody_out(void **state)
{
	struct rig rig;
	int fds[STRANGERS];
	rig_open(&rig);
	for (int i = 0; i < STRANGERS; i++) {
		fds[i] = raw_connect(&rig);
		loop_turn(rig.loop, 0);
	}
	struct tls *good = tls_open(directory, directory, "coordinator-1", "test");
	rig_dial(&rig, good);
	WAIT_FOR(&rig, rig.frames == 1);
	assert_true(tls_refused(rig.tls, REFUSAL_CROWDED) >= STRANGERS - 128);
	for (int i = 0; i < STRANGERS; i++)
		close(fds[i]);
	stream_close(rig.client);
	rig.client = NULL;
	rig_close(&rig);
	tls_destroy(good);
}

/* ---- files ---- */

static void renewed_certificates_are_used_without_a_restart(void **state)
{
	struct rig rig;
	rig_open(&rig);
	make_node(directory, (struct certs_node){.role = "coordinator", .name = "renewed", .begin_s = -2 * HOUR, .end_s = -HOUR});
	struct tls *tls = tls_open(directory, directory, "renewed", "test");
	rig_dial(&rig, tls);
	expect_refused(&rig, REFUSAL_EXPIRED);
	WAIT_FOR(&rig, rig.client_closed == 1);
	make_node(directory, (struct certs_node){.role = "coordinator", .name = "renewed"});
	rig_dial(&rig, tls);
	WAIT_FOR(&rig, rig.frames == 1);
	rig_close(&rig);
	tls_destroy(tls);
}

/* A key without its certificate, or the certificate of another: what was good stays in use. */
static void half_of_a_renewal_changes_nothing(void **state)
{
	char command[512];
	struct rig rig;
	rig_open(&rig);
	make_node(directory, (struct certs_node){.role = "coordinator", .name = "half"});
	struct tls *tls = tls_open(directory, directory, "half", "test");
	snprintf(command, sizeof(command), "cd %s && cp kvstore-1.key half.key", directory);
	assert_int_equal(system(command), 0);
	rig_dial(&rig, tls);
	WAIT_FOR(&rig, rig.frames == 1);
	stream_close(rig.client);
	snprintf(command, sizeof(command), "cd %s && cp kvstore-1.pem half.pem", directory);
	assert_int_equal(system(command), 0);
	rig_dial(&rig, tls);
	WAIT_FOR(&rig, rig.frames == 2);
	rig_close(&rig);
	tls_destroy(tls);
}

static void expect_no_tls(struct tls_options options, const char *reason)
{
	struct tls *tls = NULL;
	struct why why = {0};
	assert_int_not_equal(tls_create(&options, &tls, &why), ERR_OK);
	if (!strstr(why.text, reason))
		fail_msg("\"%s\" does not say \"%s\"", why.text, reason);
}

static void files_that_are_of_no_use_are_named(void **state)
{
	char ca[96], certificate[96], key[96], other[96], encrypted[96], command[512];
	snprintf(ca, sizeof(ca), "%s/ca.pem", directory);
	snprintf(certificate, sizeof(certificate), "%s/prefill-1.pem", directory);
	snprintf(key, sizeof(key), "%s/prefill-1.key", directory);
	snprintf(other, sizeof(other), "%s/kvstore-1.key", directory);
	snprintf(encrypted, sizeof(encrypted), "%s/encrypted.key", directory);
	snprintf(command, sizeof(command), "openssl ec -in %s -aes256 -passout pass:x -out %s 2>/dev/null", key, encrypted);
	assert_int_equal(system(command), 0);
	expect_no_tls((struct tls_options){ca, certificate, "/nonexistent/key.pem", "test"},
		      "/nonexistent/key.pem: No such file or directory");
	expect_no_tls((struct tls_options){ca, certificate, ca, "test"}, "ca.pem: no usable PEM");
	expect_no_tls((struct tls_options){ca, key, key, "test"}, "prefill-1.key: no usable PEM");
	expect_no_tls((struct tls_options){key, certificate, key, "test"}, "prefill-1.key: no usable PEM");
	expect_no_tls((struct tls_options){ca, certificate, other, "test"}, "kvstore-1.key: no usable PEM");
	expect_no_tls((struct tls_options){ca, certificate, encrypted, "test"}, "encrypted.key: no usable PEM");
	expect_no_tls((struct tls_options){"/dev/zero", certificate, key, "test"}, "expected a PEM file");
	expect_no_tls((struct tls_options){ca, certificate, key, "elsewhere"}, "is of cluster \"test\"");
	make_node(directory, (struct certs_node){.name = "nobody", .uri = ""});
	snprintf(certificate, sizeof(certificate), "%s/nobody.pem", directory);
	snprintf(key, sizeof(key), "%s/nobody.key", directory);
	expect_no_tls((struct tls_options){ca, certificate, key, "test"}, "0 URIs");
}

/* ---- identities ---- */

static void identities_are_read_strictly(void **state)
{
	struct identity identity;
	struct why why;
	const char *good = "spiffe://prod.eu-1/baton/engine/node_7.a";
	assert_int_equal(identity_parse(good, strlen(good), &why, &identity), ERR_OK);
	assert_string_equal(identity.cluster, "prod.eu-1");
	assert_string_equal(identity.name, "node_7.a");
	assert_true(identity_has_role(&identity, WIRE__ROLE__ROLE_DECODE));
	assert_false(identity_has_role(&identity, WIRE__ROLE__ROLE_KVSTORE));
	assert_false(identity_has_role(&identity, WIRE__ROLE__ROLE_COORDINATOR));
	static const char *const bad[] = {
		"", "spiffe://", "spiffe://c", "spiffe://c/baton", "spiffe://c/baton/prefill", "spiffe://c/baton/prefill/",
		"spiffe:///baton/prefill/a", "spiffe://c/bato/prefill/a", "spiffe://c/batons/prefill/a",
		"spiffe://c/baton/king/a", "spiffe://c/baton/prefill/a/", "spiffe://c/baton/prefill/a/b",
		"spiffe://c/baton/prefill/a b", "spiffe://c/baton/prefill/a%20", "spiffe://c/baton//a", "https://c/baton/prefill/a",
		"SPIFFE://c/baton/prefill/a", "spiffe://c/baton/prefillx/a",
		"spiffe://c/baton/prefill/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (identity_parse(bad[i], strlen(bad[i]), &why, &identity) == ERR_OK)
			fail_msg("accepted: %s", bad[i]);
	assert_int_equal(identity_parse("spiffe://c/baton/prefill/a\0b", 28, &why, &identity), ERR_INVALID);
	char name_63[] = "spiffe://c/baton/prefill/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
	assert_int_equal(identity_parse(name_63, strlen(name_63), &why, &identity), ERR_OK);
}

static void the_role_matrix_is_that_of_the_sessions(void **state)
{
	const Wire__Role roles[] = {WIRE__ROLE__ROLE_COORDINATOR, WIRE__ROLE__ROLE_PREFILL, WIRE__ROLE__ROLE_DECODE,
				    WIRE__ROLE__ROLE_BOTH, WIRE__ROLE__ROLE_KVSTORE, WIRE__ROLE__ROLE_OPERATOR};
	/* from each, to each */
	static const char *const may[] = {".xxxx.", ".xxxx.", ".xxxx.", ".xxxx.", "....x.", "....x."};
	for (int from = 0; from < 6; from++)
		for (int to = 0; to < 6; to++)
			assert_int_equal(role_may_dial(roles[from], roles[to]), may[from][to] == 'x');
	assert_false(role_may_dial(WIRE__ROLE__ROLE_NONE, WIRE__ROLE__ROLE_PREFILL));
	assert_false(role_may_dial((Wire__Role)77, (Wire__Role)99));
}

static void an_operator_shares_memory_with_stores_only(void **state)
{
	static const char *const roles[] = {"coordinator", "prefill", "decode", "both", "engine", "kvstore", "operator"};
	static const char *const may[] = {".......", ".xxxxx.", ".xxxxx.", ".xxxxx.", ".xxxxx.", ".xxxxxx", ".....x."};
	struct identity identities[7];
	struct why why;
	for (int i = 0; i < 7; i++) {
		char uri[IDENTITY_URI_MAX + 1];
		assert_int_equal(identity_format("c", roles[i], "name", &why, uri), ERR_OK);
		assert_int_equal(identity_parse(uri, strlen(uri), &why, &identities[i]), ERR_OK);
	}
	for (int one = 0; one < 7; one++)
		for (int other = 0; other < 7; other++)
			assert_int_equal(identity_may_read(&identities[one], &identities[other]), may[one][other] == 'x');
}

static void nothing_listens_beyond_this_machine_by_default(void **state)
{
	struct why why;
	static const struct {
		const char *host;
		bool tls, insecure, allowed;
	} cases[] = {
		{"127.0.0.1", false, false, true}, {"127.8.9.1", false, false, true}, {"::1", false, false, true},
		{"localhost", false, false, true}, {"0.0.0.0", false, false, false},  {"::", false, false, false},
		{"10.0.0.7", false, false, false}, {"fe80::1", false, false, false},  {"db.example", false, false, false},
		{"::ffff:10.0.0.7", false, false, false}, {"0.0.0.0", true, false, true}, {"0.0.0.0", false, true, true},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		enum err e = exposure_check("--listen", cases[i].host, cases[i].tls, cases[i].insecure, "--tls", &why);
		assert_int_equal(e, cases[i].allowed ? ERR_OK : ERR_DENIED);
	}
	assert_int_equal(exposure_check("--listen", "0.0.0.0", false, false, "--tls-ca-file", &why), ERR_DENIED);
	assert_non_null(strstr(why.text, "--insecure"));
	assert_non_null(strstr(why.text, "0.0.0.0"));
}

/* ---- what a Hello claims ---- */

struct greeting {
	struct rig rig; /* its loop and TLS */
	struct wire *wire;
	int opened, closed, messages;
};

static void wire_opened(void *context, uint32_t conn, uint64_t dialed)
{
	((struct greeting *)context)->opened++;
}

static void wire_closed(void *context, uint32_t conn)
{
	((struct greeting *)context)->closed++;
}

static void wire_dial_failed(void *context, uint64_t dialed)
{
}

static void wire_message(void *context, uint32_t conn, const Wire__Envelope *envelope)
{
	((struct greeting *)context)->messages++;
}

static void send_hello(struct greeting *g, struct tls *tls, const char *name, uint64_t node, Wire__Role role)
{
	Wire__Hello hello = WIRE__HELLO__INIT;
	hello.name = (char *)name;
	hello.node = node;
	hello.role = role;
	hello.incarnation = 7;
	hello.weight = hello.replicas = 1; /* which only a store has to say */
	PROTO_ENVELOPE(envelope, HELLO, hello, &hello);
	uint8_t packed[512];
	size_t length = codec_packed_size(&envelope);
	assert_true(length <= sizeof(packed));
	codec_pack(&envelope, packed);
	static const struct stream_callbacks callbacks = {.on_open = client_open, .on_frame = client_frame, .on_close = client_close};
	struct why why = {0};
	struct stream_options options = {.tls = tls};
	g->rig.client_closed = 0;
	assert_int_equal(stream_dial(g->rig.loop, g->rig.url, 5 * second_ns, &options, &callbacks, &g->rig, &g->rig.client, &why),
			 ERR_OK);
	assert_int_equal(stream_send(g->rig.client, packed, length), ERR_OK);
}

static void expect_hello_refused(struct greeting *g, struct tls *tls, const char *name, uint64_t node, Wire__Role role,
				 enum refusal refusal)
{
	uint64_t before = tls_refused(g->rig.tls, refusal);
	int messages = g->messages;
	send_hello(g, tls, name, node, role);
	WAIT_FOR(&g->rig, g->rig.client_closed);
	assert_int_equal(tls_refused(g->rig.tls, refusal), before + 1);
	assert_int_equal(g->messages, messages);
}

static void a_hello_must_say_what_the_certificate_says(void **state)
{
	struct greeting g = {.rig = {.tls = tls_open(directory, directory, "prefill-1", "test")}};
	struct tls *tls = tls_open(directory, directory, "engine-7", "test");
	uint64_t ours = identity_name_node("engine-7"), other = identity_name_node("engine-8");
	struct why why = {0};
	assert_int_equal(loop_create(&g.rig.loop), ERR_OK);
	struct wire_options options = {
		.listen_url = "tls+tcp://127.0.0.1:0",
		.tls = g.rig.tls,
		.callbacks = {.context = &g, .opened = wire_opened, .dial_failed = wire_dial_failed, .closed = wire_closed,
			      .message = wire_message},
	};
	assert_int_equal(wire_create(g.rig.loop, &options, &g.wire, &why), ERR_OK);
	snprintf(g.rig.url, sizeof(g.rig.url), "tls+tcp://127.0.0.1:%u", wire_port(g.wire));

	expect_hello_refused(&g, tls, "engine-8", other, WIRE__ROLE__ROLE_PREFILL, REFUSAL_NAME);
	expect_hello_refused(&g, tls, "engine-7", other, WIRE__ROLE__ROLE_PREFILL, REFUSAL_NAME);
	expect_hello_refused(&g, tls, "engine-8", ours, WIRE__ROLE__ROLE_PREFILL, REFUSAL_NAME);
	expect_hello_refused(&g, tls, "engine-7", ours, WIRE__ROLE__ROLE_COORDINATOR, REFUSAL_ROLE);
	expect_hello_refused(&g, tls, "engine-7", ours, WIRE__ROLE__ROLE_KVSTORE, REFUSAL_ROLE);
	assert_int_equal(g.closed, 5);
	send_hello(&g, tls, "engine-7", ours, WIRE__ROLE__ROLE_DECODE);
	WAIT_FOR(&g.rig, g.messages == 1);
	struct wire_counts counts;
	wire_counts(g.wire, &counts);
	assert_int_equal(counts.open, 1);

	stream_close(g.rig.client);
	wire_destroy(g.wire);
	loop_destroy(g.rig.loop);
	tls_destroy(tls);
	tls_destroy(g.rig.tls);
}

static int make_all(void **state)
{
	char other[96];
	struct why why = {0};
	snprintf(directory, sizeof(directory), "/tmp/baton-tls-XXXXXX");
	if (!mkdtemp(directory) || certs_make_ca(directory, "test", &why) != ERR_OK)
		return -1;
	snprintf(other, sizeof(other), "%s/other", directory);
	if (mkdir(other, 0700) != 0)
		return -1;
	make_node(directory, (struct certs_node){.role = "prefill", .name = "prefill-1"});
	make_node(directory, (struct certs_node){.role = "coordinator", .name = "coordinator-1"});
	make_node(directory, (struct certs_node){.role = "kvstore", .name = "kvstore-1"});
	make_node(directory, (struct certs_node){.role = "engine", .name = "engine-7"});
	return 0;
}

static int remove_all(void **state)
{
	char command[128];
	snprintf(command, sizeof(command), "rm -rf %s", directory);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_client_of_another_ca_is_refused),
		cmocka_unit_test(an_expired_certificate_is_refused),
		cmocka_unit_test(a_certificate_of_tomorrow_is_refused),
		cmocka_unit_test(a_role_that_has_no_business_here_is_refused),
		cmocka_unit_test(a_node_of_another_cluster_is_refused),
		cmocka_unit_test(a_client_without_a_certificate_is_refused),
		cmocka_unit_test(a_certificate_that_names_nobody_is_refused),
		cmocka_unit_test(a_server_of_the_wrong_role_or_cluster_is_refused),
		cmocka_unit_test(a_tls_1_2_client_is_refused),
		cmocka_unit_test(plaintext_and_garbage_are_refused),
		cmocka_unit_test(a_recorded_connection_cannot_be_played_again),
		cmocka_unit_test(who_says_nothing_is_thrown_out_in_time),
		cmocka_unit_test(a_crowd_of_strangers_keeps_nobody_out),
		cmocka_unit_test(renewed_certificates_are_used_without_a_restart),
		cmocka_unit_test(half_of_a_renewal_changes_nothing),
		cmocka_unit_test(files_that_are_of_no_use_are_named),
		cmocka_unit_test(identities_are_read_strictly),
		cmocka_unit_test(the_role_matrix_is_that_of_the_sessions),
		cmocka_unit_test(an_operator_shares_memory_with_stores_only),
		cmocka_unit_test(nothing_listens_beyond_this_machine_by_default),
		cmocka_unit_test(a_hello_must_say_what_the_certificate_says),
	};
	return cmocka_run_group_tests_name("tls", tests, make_all, remove_all);
}

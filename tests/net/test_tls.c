/* Mutual TLS: who gets in, and how everybody else is refused, counted, and leaves nothing behind. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/ssl.h>

#include "tls_rig.h"

enum { STRANGERS = 150 };

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

/* ---- clients that are not ours: OpenSSL by hand */

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
	};
	return cmocka_run_group_tests_name("tls", tests, make_all, remove_all);
}

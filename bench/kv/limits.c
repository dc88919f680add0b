/* bench_kv_limits - what the paths of bench/kv/run could reach at best: memcpy, raw sockets, TLS over raw sockets.
 *
 *   bench_kv_limits [CERTIFICATE KEY]     PEM files, for tls
 *
 * It is two processes, a server and, after fork(), a client that takes commands from standard input, a line each:
 *   copy BYTES TOTAL            memcpy of BYTES of cold memory at a time, in regions like those of the link   -> GB/s
 *   stream BYTES TOTAL          the fastest copy we know, around the caches (0 where the processor has none)  -> GB/s
 *   digest BYTES TOTAL          base/digest.h's copy with its digest, the same way                            -> GB/s
 *   tcp BYTES TOTAL STREAMS     the server sends, the client receives: a thread a stream on both sides        -> GB/s
 *   tcp+digest …                the same, digested as it comes, in the way of net/bulk_read.c                 -> GB/s
 *   tls …                       the same inside TLS 1.3 with AES-128-GCM, by OpenSSL on blocking sockets      -> GB/s
 *   rtt REQUEST REPLY COUNT     one there and back at a time, blocking                                        -> p50 p99 us
 */
#include <arpa/inet.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/digest.h"
#include "bench/kv/blocks.h"
#include "net/region.h"

#define WINDOW_BYTES ((uint64_t)512 << 20) /* twice the caches of what this was written on */
#define PART_BYTES ((uint64_t)256 << 10) /* received before it is digested */

enum { STREAMS_MAX = 8, SAMPLES_MAX = 100000 };

/* What a connection is for, said by the client. */
struct order {
	uint64_t bytes, total;
	uint32_t is_tls, is_digested;
	uint64_t reply; /* not 0: answers of so many bytes to requests of `bytes` */
};

static SSL_CTX *tls_server, *tls_client;
static struct sockaddr_in server_address = {.sin_family = AF_INET};
static uint8_t *window; /* of this process, WINDOW_BYTES */

static void die(const char *text)
{
	perror(text);
	exit(1);
}

static uint8_t *cold_memory(void)
{
	struct region_options options = {.slot_bytes = (uint64_t)16 << 20, .slot_count = WINDOW_BYTES >> 24, .touch = REGION_TOUCH};
	struct region *region;
	struct why why = {0};
	if (region_create(&options, &region, &why) != ERR_OK)
		die(why.text);
	uint8_t *memory = region_slot(region, 0);
	memset(memory, 1, WINDOW_BYTES);
	return memory;
}

/* ---- a connection of either kind ---- */

struct conn {
	int fd;
	SSL *ssl;
	struct order order;
	uint64_t window_at; /* its share of the window begins there */
	pthread_t thread;
};

static void send_all(const struct conn *conn, const uint8_t *data, size_t length)
{
	for (size_t at = 0; at < length;) {
		ssize_t n = conn->ssl ? SSL_write(conn->ssl, data + at, (int)(length - at)) : send(conn->fd, data + at, length - at, MSG_NOSIGNAL);
		if (n <= 0)
			die("send");
		at += (size_t)n;
	}
}

static size_t receive_some(const struct conn *conn, uint8_t *data, size_t length)
{
	ssize_t n = conn->ssl ? SSL_read(conn->ssl, data, (int)length) : recv(conn->fd, data, length, 0);
	if (n < 0)
		die("recv");
	return (size_t)n;
}

static bool receive_all(const struct conn *conn, uint8_t *data, size_t length)
{
	for (size_t at = 0, n; at < length; at += n)
		if ((n = receive_some(conn, data + at, length - at)) == 0)
			return false;
	return true;
}

static void start_tls(struct conn *conn, SSL_CTX *context)
{
	conn->ssl = SSL_new(context);
	SSL_set_fd(conn->ssl, conn->fd);
	if ((context == tls_server ? SSL_accept(conn->ssl) : SSL_connect(conn->ssl)) != 1)
		die("tls");
}

/* ---- the server ---- */

static void *serve(void *arg)
{
	struct conn *conn = arg;
	struct order *order = &conn->order;
	if (!receive_all(conn, (uint8_t *)order, sizeof(*order)))
		die("order");
	if (order->is_tls)
		start_tls(conn, tls_server);
	for (uint64_t at = 0; !order->reply && at < order->total; at += order->bytes)
		send_all(conn, window + (conn->window_at + at) % WINDOW_BYTES, order->bytes);
	while (order->reply && receive_all(conn, window, order->bytes))
		send_all(conn, window, order->reply);
	if (!order->reply && !conn->ssl)
		receive_some(conn, window, 1); /* until the client has it all */
	SSL_free(conn->ssl);
	close(conn->fd);
	free(conn);
	return NULL;
}

static void run_server(int listener)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	window = cold_memory();
	for (uint64_t index = 0;; index++) {
		struct conn *conn = calloc(1, sizeof(*conn));
		conn->fd = accept(listener, NULL, NULL);
		if (conn->fd < 0)
			die("accept");
		setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
		conn->window_at = index % 2 * WINDOW_BYTES / 2;
		if (pthread_create(&conn->thread, NULL, serve, conn) != 0)
			die("thread");
		pthread_detach(conn->thread);
	}
}

/* ---- the client ---- */

static void open_conn(struct conn *conn, const struct order *order)
{
	*conn = (struct conn){.fd = socket(AF_INET, SOCK_STREAM, 0), .order = *order};
	if (conn->fd < 0 || connect(conn->fd, (struct sockaddr *)&server_address, sizeof(server_address)) < 0)
		die("connect");
	setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
	send_all(conn, (const uint8_t *)order, sizeof(*order));
	if (order->is_tls)
		start_tls(conn, tls_client);
}

/* Through a buffer that stays in the nearest caches, whole leaves at a time. */
static void receive_digested(const struct conn *conn, uint8_t *landing)
{
	static _Thread_local uint8_t part[PART_BYTES];
	struct digest digest;
	uint64_t held = 0, left = conn->order.bytes;
	digest_init(&digest, left);
	while (left > 0) {
		uint64_t room = left < PART_BYTES - held ? left : PART_BYTES - held;
		size_t n = receive_some(conn, part + held, room);
		if (n == 0)
			die("end");
		left -= n;
		held += n;
		uint64_t whole = left == 0 ? held : held / DIGEST_LEAF_BYTES * DIGEST_LEAF_BYTES;
		digest_add_copy(&digest, landing, part, whole);
		landing += whole;
		held -= whole;
		memmove(part, part + whole, held);
	}
	if (digest_end(&digest) == 0)
		die("digest");
}

static void receive_block(const struct conn *conn, uint8_t *landing)
{
	if (conn->order.is_digested)
		receive_digested(conn, landing);
	else if (!receive_all(conn, landing, conn->order.bytes))
		die("end");
}

static void *receive_stream(void *arg)
{
	struct conn *conn = arg;
	for (uint64_t at = 0; at < conn->order.total; at += conn->order.bytes)
		receive_block(conn, window + (conn->window_at + at) % WINDOW_BYTES);
	return NULL;
}

static double run_streams(struct order order, uint64_t streams)
{
	struct conn conns[STREAMS_MAX];
	order.total = order.total / streams / order.bytes * order.bytes;
	for (uint64_t i = 0; i < streams; i++)
		conns[i].fd = -1;
	uint64_t begin_ns = bench_now_ns();
	for (uint64_t i = 0; i < streams; i++) {
		open_conn(&conns[i], &order);
		conns[i].window_at = i * WINDOW_BYTES / streams;
	}
	if (order.is_tls)
		begin_ns = bench_now_ns(); /* handshakes are not what is measured */
	for (uint64_t i = 0; i < streams; i++)
		if (pthread_create(&conns[i].thread, NULL, receive_stream, &conns[i]) != 0)
			die("thread");
	for (uint64_t i = 0; i < streams; i++)
		pthread_join(conns[i].thread, NULL);
	double seconds = (double)(bench_now_ns() - begin_ns) / 1e9;
	for (uint64_t i = 0; i < streams; i++) {
		SSL_free(conns[i].ssl);
		close(conns[i].fd);
	}
	return (double)(order.total * streams) / seconds / 1e9;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void run_rtt(uint64_t request, uint64_t reply, uint64_t count)
{
	static double samples[SAMPLES_MAX];
	struct conn conn;
	open_conn(&conn, &(struct order){.bytes = request, .reply = reply});
	count = count < SAMPLES_MAX ? count : SAMPLES_MAX;
	for (uint64_t i = 0; i < count; i++) {
		uint64_t begin_ns = bench_now_ns();
		send_all(&conn, window, request);
		if (!receive_all(&conn, window, reply))
			die("end");
		samples[i] = (double)(bench_now_ns() - begin_ns) / 1e3;
	}
	close(conn.fd);
	qsort(samples, count, sizeof(*samples), by_value);
	printf("rtt %.1f %.1f\n", samples[count / 2], samples[count * 99 / 100]);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static void stream_avx2(uint8_t *dst, const uint8_t *src, uint64_t bytes)
{
	for (uint64_t at = 0; at < bytes; at += 64) {
		_mm_prefetch((const char *)src + at + 2048, _MM_HINT_T0);
		_mm256_stream_si256((__m256i *)(dst + at), _mm256_loadu_si256((const __m256i *)(src + at)));
		_mm256_stream_si256((__m256i *)(dst + at + 32), _mm256_loadu_si256((const __m256i *)(src + at + 32)));
	}
	_mm_sfence();
}

static bool stream(uint8_t *dst, const uint8_t *src, uint64_t bytes)
{
	if (!__builtin_cpu_supports("avx2"))
		return false;
	stream_avx2(dst, src, bytes);
	return true;
}
#else
static bool stream(uint8_t *dst, const uint8_t *src, uint64_t bytes)
{
	return false;
}
#endif

static double run_copy(uint64_t bytes, uint64_t total, char way)
{
	static uint8_t *source;
	uint64_t sum = 0;
	source = source ? source : cold_memory();
	uint64_t begin_ns = bench_now_ns();
	for (uint64_t at = 0; at < total; at += bytes) {
		uint64_t place = at % WINDOW_BYTES;
		if (way == 'd')
			sum += digest_copy(window + place, source + place, bytes);
		else if (way == 'c')
			memcpy(window + place, source + place, bytes);
		else if (!stream(window + place, source + place, bytes))
			return 0;
	}
	double seconds = (double)(bench_now_ns() - begin_ns) / 1e9;
	if (way == 'd' && sum == 0)
		die("digest");
	return (double)total / seconds / 1e9;
}

static void run_command(const char *line)
{
	char word[16];
	unsigned long long bytes = 0, total = 0, third = 0;
	int words = sscanf(line, "%15s %llu %llu %llu", word, &bytes, &total, &third);
	struct order order = {.bytes = bytes, .total = total, .is_tls = words == 4 && strcmp(word, "tls") == 0,
			      .is_digested = words == 4 && strcmp(word, "tcp+digest") == 0};
	bool is_tcp = order.is_tls || order.is_digested || (words == 4 && strcmp(word, "tcp") == 0);
	if (words == 3 && (strcmp(word, "copy") == 0 || strcmp(word, "digest") == 0 || strcmp(word, "stream") == 0))
		printf("%s %.3f\n", word, run_copy(bytes, total, word[0]));
	else if (is_tcp && third >= 1 && third <= STREAMS_MAX)
		printf("%s %.3f\n", word, run_streams(order, third));
	else if (words == 4 && strcmp(word, "rtt") == 0)
		run_rtt(bytes, total, third);
	else
		fprintf(stderr, "bench_kv_limits: what is \"%s\"?\n", line);
	fflush(stdout);
}

static void open_tls(const char *certificate, const char *key)
{
	tls_server = SSL_CTX_new(TLS_server_method());
	tls_client = SSL_CTX_new(TLS_client_method());
	if (SSL_CTX_use_certificate_chain_file(tls_server, certificate) != 1 || SSL_CTX_use_PrivateKey_file(tls_server, key, SSL_FILETYPE_PEM) != 1)
		die(certificate);
	SSL_CTX_set_ciphersuites(tls_server, "TLS_AES_128_GCM_SHA256");
	SSL_CTX_set_read_ahead(tls_client, 1);
	SSL_CTX_set_default_read_buffer_len(tls_client, 64 << 10);
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	if (argc == 3)
		open_tls(argv[1], argv[2]);
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t length = sizeof(server_address);
	server_address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(listener, (struct sockaddr *)&server_address, length) < 0 || listen(listener, 64) < 0 ||
	    getsockname(listener, (struct sockaddr *)&server_address, &length) < 0)
		die("listen");
	pid_t pid = fork();
	if (pid == 0)
		run_server(listener);
	window = cold_memory();
	printf("ready\n");
	fflush(stdout);
	for (char line[256]; fgets(line, sizeof(line), stdin);)
		run_command(line);
	kill(pid, SIGKILL);
	return 0;
}

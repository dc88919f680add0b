/* bench_kv_lookups - how many look-ups a store answers, and how late: a client that costs little, so that the store is measured.
 *
 *   bench_kv_lookups PORT CLUSTER KEPT   a baton-kvstore of CLUSTER at 127.0.0.1:PORT, started with --time-factor 100, without TLS, which
 *                                  has the blocks 0..KEPT-1 of bench/kv/blocks.h (bench_kv_node's `keep`)
 *
 * Lines on standard input are commands, each answered by one line:
 *   look KEYS DEPTH COUNT     COUNT look-ups of KEYS blocks that follow each other, all there, DEPTH under way, each released
 *                             when it is answered         -> "look rate/s p50-us p99-us bytes-of-an-answer"
 *   miss KEYS DEPTH COUNT     the same of blocks that are not there
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/rng.h"
#include "bench/kv/blocks.h"
#include "proto/codec.h"

enum { DEPTH_MAX = 64, SAMPLES_MAX = 1 << 20, KEYS_MAX = 4096, OUT_BYTES = 4 << 20, IN_BYTES = 16 << 20, CHECKED = 64 };

static int fd;
static uint8_t out[OUT_BYTES], in[IN_BYTES];
static size_t out_length, in_length;
static struct id128 *keys;
static uint64_t kept, op_next = 1;
static struct rng rng = {.seed = 1};
static uint64_t sent_ns[DEPTH_MAX];
static double samples[SAMPLES_MAX];

static void die(const char *text)
{
	fprintf(stderr, "bench_kv_lookups: %s\n", text);
	exit(1);
}

static void add_frame(Wire__Envelope *envelope)
{
	envelope->version = PROTO_VERSION;
	size_t length = codec_packed_size(envelope);
	if (out_length + 4 + length > OUT_BYTES)
		die("too much to send");
	for (int i = 0; i < 4; i++)
		out[out_length++] = (uint8_t)(length >> 8 * i);
	out_length += codec_pack(envelope, out + out_length);
}

static void flush_out(void)
{
	for (size_t at = 0; at < out_length;) {
		ssize_t n = send(fd, out + at, out_length - at, MSG_NOSIGNAL);
		if (n <= 0)
			die("the store has closed");
		at += (size_t)n;
	}
	out_length = 0;
}

static void say_hello(char *cluster)
{
	Wire__Hello hello = WIRE__HELLO__INIT;
	hello.node = 0xbe4c;
	hello.incarnation = bench_now_ns();
	hello.role = WIRE__ROLE__ROLE_PREFILL;
	hello.name = (char *)"bench-lookups";
	hello.cluster = cluster;
	hello.compat = (ProtobufCBinaryData){PROTO_KEY_BYTES, (uint8_t *)bench_compat.bytes};
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_HELLO;
	envelope.hello = &hello;
	add_frame(&envelope);
}

static void look_up(uint32_t count, bool there)
{
	uint64_t first = rng_next(&rng) % (kept - count + 1);
	Wire__Lookup lookup = WIRE__LOOKUP__INIT;
	lookup.op = op_next++;
	lookup.keys = (ProtobufCBinaryData){(size_t)count * PROTO_KEY_BYTES, (uint8_t *)(keys + (there ? first : kept + first))};
	lookup.compat = (ProtobufCBinaryData){PROTO_KEY_BYTES, (uint8_t *)bench_compat.bytes};
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_LOOKUP;
	envelope.lookup = &lookup;
	add_frame(&envelope);
	sent_ns[lookup.op % DEPTH_MAX] = bench_now_ns();
}

static void let_go(uint64_t op)
{
	Wire__Release release = WIRE__RELEASE__INIT;
	release.op = op;
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_RELEASE;
	envelope.release = &release;
	add_frame(&envelope);
}

struct run {
	uint32_t key_count;
	bool there, is_checked;
	uint64_t count, started, answered, first_op;
	size_t answer_bytes;
};

static uint64_t take_varint(const uint8_t **at, const uint8_t *end)
{
	uint64_t value = 0;
	for (int shift = 0; *at < end && shift < 64; shift += 7) {
		uint8_t byte = *(*at)++;
		value |= (uint64_t)(byte & 0x7f) << shift;
		if (byte < 0x80)
			break;
	}
	return value;
}

/* Version, a number below 128, then the tag of Found, its length and op: that much is looked into without unpacking.  0: it is
 * something else. */
static uint64_t op_of_found(const uint8_t *frame, size_t length)
{
	uint32_t tag = WIRE__ENVELOPE__BODY_FOUND << 3 | 2;
	const uint8_t *at = frame + 4, *end = frame + length;
	if (length <= 4 || frame[2] != (uint8_t)(tag | 0x80) || frame[3] != tag >> 7)
		return 0;
	take_varint(&at, end);
	return at < end && *at++ == 1 << 3 ? take_varint(&at, end) : 0;
}

static void check_answer(const struct run *run, uint64_t op, const uint8_t *frame, size_t length)
{
	Wire__Envelope *envelope = wire__envelope__unpack(NULL, length, frame);
	if (!envelope || envelope->found->op != op || envelope->found->n_blocks != (run->there ? run->key_count : 0))
		die("not the answer to what was asked");
	wire__envelope__free_unpacked(envelope, NULL);
}

/* Answers come in the order of the look-ups; between them a Hello and beats. */
static void take_answer(struct run *run, const uint8_t *frame, size_t length)
{
	uint64_t now_ns = bench_now_ns(), op = run->first_op + run->answered, said = op_of_found(frame, length);
	if (said == 0)
		return;
	if (said != op || length < (run->there ? run->key_count * sizeof(uint64_t) : 0))
		die("not the answer to what was asked");
	if (run->is_checked)
		check_answer(run, op, frame, length);
	samples[run->answered++ % SAMPLES_MAX] = (double)(now_ns - sent_ns[op % DEPTH_MAX]) / 1e3;
	run->answer_bytes = length;
	if (run->started < run->count) {
		run->started++;
		look_up(run->key_count, run->there);
	}
	let_go(op);
}

static void receive(struct run *run)
{
	ssize_t n = recv(fd, in + in_length, IN_BYTES - in_length, 0);
	if (n <= 0)
		die("the store has closed");
	in_length += (size_t)n;
	size_t at = 0;
	while (in_length - at >= 4) {
		size_t length = (size_t)in[at] | (size_t)in[at + 1] << 8 | (size_t)in[at + 2] << 16 | (size_t)in[at + 3] << 24;
		if (in_length - at < 4 + length)
			break;
		take_answer(run, in + at + 4, length);
		at += 4 + length;
	}
	in_length -= at;
	memmove(in, in + at, in_length);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void go(struct run *run, uint64_t depth)
{
	run->first_op = op_next;
	for (; run->started < depth && run->started < run->count; run->started++)
		look_up(run->key_count, run->there);
	while (run->answered < run->count) {
		flush_out();
		receive(run);
	}
	flush_out();
}

/* What is found is looked at before the clock runs: unpacking an answer takes longer than the store has with it, and would be
 * measured with it and with those that come meanwhile. */
static void measure(const char *word, uint32_t key_count, uint64_t depth, uint64_t count)
{
	struct run run = {.key_count = key_count, .there = strcmp(word, "look") == 0, .count = CHECKED, .is_checked = true};
	go(&run, depth);
	run = (struct run){.key_count = key_count, .there = run.there, .count = count};
	uint64_t begin_ns = bench_now_ns();
	go(&run, depth);
	double seconds = (double)(bench_now_ns() - begin_ns) / 1e9;
	size_t taken = count < SAMPLES_MAX ? count : SAMPLES_MAX;
	qsort(samples, taken, sizeof(*samples), by_value);
	printf("%s %.0f %.1f %.1f %zu\n", word, (double)count / seconds, samples[taken / 2], samples[taken * 99 / 100], run.answer_bytes);
	fflush(stdout);
}

static void dial(uint16_t port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		die("no store at that port");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
}

int main(int argc, char **argv)
{
	if (argc != 4)
		die("PORT CLUSTER KEPT");
	kept = strtoull(argv[3], NULL, 10);
	keys = malloc(2 * kept * sizeof(*keys));
	if (!keys || kept < KEYS_MAX)
		die("4096 blocks or more, and memory for their keys");
	for (uint64_t i = 0; i < 2 * kept; i++)
		keys[i] = bench_key(i < kept ? i : i + ((uint64_t)1 << 50));
	dial((uint16_t)strtoul(argv[1], NULL, 10));
	say_hello(argv[2]);
	printf("ready\n");
	fflush(stdout);
	for (char line[256], word[16]; fgets(line, sizeof(line), stdin);) {
		unsigned key_count;
		unsigned long long depth, count;
		if (sscanf(line, "%15s %u %llu %llu", word, &key_count, &depth, &count) != 4 || key_count > KEYS_MAX || depth > DEPTH_MAX ||
		    (strcmp(word, "look") != 0 && strcmp(word, "miss") != 0))
			die(line);
		measure(word, key_count, depth, count);
	}
	return 0;
}

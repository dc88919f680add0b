/* bench_encode - what lossless encodings make of real KV blocks: size, speed of one core, and where that pays.
 *
 *     bench_encode MODEL_DIR TEXT [BLOCK_TOKENS [TOKENS [ROUNDS]]]
 *
 * The model reads the text; its blocks are encoded and decoded, and every byte compared.  Rounds go through all encodings in turn;
 * the rates are medians of the rounds, in CPU time of the one thread, by bytes that go in (encoding) and come out (decoding).
 * bench/encode/table.py runs it over models and widened copies. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/encode/blocks.h"
#include "bench/encode/encodings.h"

enum { ROUNDS_MAX = 32, ENCODINGS_MAX = 32 };

struct bench {
	const struct blocks_shape *shape;
	struct encoder *encoder;
	const struct part *parts;
	size_t part_count, bytes;
	uint8_t *encoded, *decoded; /* one part behind the other */
	size_t *lengths;            /* [part_count] of the encoded */
	uint32_t rounds;
};

struct result {
	double ratio; /* bytes as they were / encoded */
	double encode[ROUNDS_MAX], decode[ROUNDS_MAX]; /* GB/s */
};

static double now_s(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *must(void *memory)
{
	if (memory)
		return memory;
	fprintf(stderr, "bench_encode: no memory\n");
	exit(1);
}

static void compare(const struct bench *b, const struct encoding *encoding)
{
	size_t at = 0;
	for (size_t i = 0; i < b->part_count; at += b->parts[i++].length)
		if (memcmp(b->decoded + at, b->parts[i].bytes, b->parts[i].length) != 0) {
			fprintf(stderr, "bench_encode: %s: part %zu comes back as something else\n", encoding->name, i);
			exit(1);
		}
}

static void measure(struct bench *b, const struct encoding *encoding, uint32_t round, struct result *result)
{
	size_t used = 0, at = 0;
	double start = now_s();
	for (size_t i = 0; i < b->part_count; used += b->lengths[i++])
		b->lengths[i] = encoder_encode(b->encoder, encoding, b->parts[i].bytes, b->parts[i].length, b->encoded + used);
	double middle = now_s();
	for (size_t i = 0, from = 0; i < b->part_count; from += b->lengths[i], at += b->parts[i++].length)
		encoder_decode(b->encoder, encoding, b->encoded + from, b->decoded + at, b->parts[i].length);
	double end = now_s();
	compare(b, encoding);
	memset(b->decoded, 0xee, b->bytes);
	result->ratio = (double)b->bytes / (double)used;
	result->encode[round] = (double)b->bytes / (middle - start) / 1e9;
	result->decode[round] = (double)b->bytes / (end - middle) / 1e9;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double median(double *values, uint32_t count)
{
	qsort(values, count, sizeof(*values), ascending);
	return values[count / 2];
}

static double least(double a, double b)
{
	return a < b ? a : b;
}

/* How much faster bytes arrive over a link or disk of that many GB/s when each side has one core for it, and both and the link
 * are busy at once. */
static double speed_up(double ratio, double encode, double decode, double link)
{
	return least(link * ratio, least(encode, decode)) / link;
}

/* A part that is encoded, sent and decoded, one after the other, is there sooner below `alone` GB/s; one that lies encoded (a
 * disk's, which was written long before) below `stored`. */
static void print_row(const struct encoding *encoding, struct result *result, uint32_t rounds)
{
	double encode = median(result->encode, rounds), decode = median(result->decode, rounds);
	double saved = 1 - 1 / result->ratio;
	double alone = saved / (1 / encode + 1 / decode), stored = saved * decode;
	printf("| %s | %.3f | %.2f | %.2f | ", encoding->name, result->ratio, encode, decode);
	if (encoding->coder == CODER_COPY || saved <= 0.005)
		printf("never | never | – | – |\n");
	else
		printf("%.3f | %.2f | %.2f | %.2f |\n", alone, stored, speed_up(result->ratio, encode, decode, 0.125),
		       speed_up(result->ratio, encode, decode, 1.25));
}

/* The bits that exponents have, each coded alone by its frequency over all parts: what no coder without context is below. */
static double exponent_bits(const struct bench *b)
{
	double counts[256] = {0}, total = 0, bits = 0;
	for (size_t i = 0; i < b->part_count; i++)
		for (size_t at = 0; at < b->parts[i].length; at += b->shape->elem_bytes, total++) {
			const uint8_t *top = b->parts[i].bytes + at + b->shape->elem_bytes - 2;
			counts[(uint8_t)(top[1] << 1 | top[0] >> 7)]++;
		}
	for (int i = 0; i < 256; i++)
		if (counts[i] > 0)
			bits += counts[i] / total * log2(total / counts[i]);
	return bits;
}

static void bench_parts(struct bench *b, const char *unit)
{
	static struct result results[ENCODINGS_MAX];
	size_t part_max = 0;
	for (size_t i = b->bytes = 0; i < b->part_count; b->bytes += b->parts[i++].length)
		part_max = b->parts[i].length > part_max ? b->parts[i].length : part_max;
	b->encoded = must(malloc(b->bytes + b->part_count * encoder_room(0)));
	b->decoded = must(malloc(b->bytes));
	b->lengths = must(calloc(b->part_count, sizeof(*b->lengths)));
	b->encoder = encoder_create(part_max, b->shape->elem_bytes, b->shape->block_tokens, b->shape->head_dim);
	for (uint32_t r = 0; r < b->rounds; r++)
		for (size_t i = 0; i < encodings_count; i++)
			measure(b, &encodings[i], r, &results[i]);
	double bits = exponent_bits(b), width = 8.0 * b->shape->elem_bytes;
	printf("\n**%s, %u tokens a block, %s** of at most %.0f KiB: %.1f MB, %u rounds. Exponents have %.2f bits: %.3f with nothing else coded.\n\n"
	       "| encoding | smaller by | encode GB/s | decode GB/s | pays alone below GB/s | pays from disk below GB/s | at 1 GbE | at 10 GbE |\n"
	       "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
	       b->shape->model, b->shape->block_tokens, unit, (double)part_max / 1024, (double)b->bytes / 1e6, b->rounds, bits,
	       width / (width - 8 + bits));
	for (size_t i = 0; i < encodings_count; i++)
		print_row(&encodings[i], &results[i], b->rounds);
	encoder_destroy(b->encoder);
	free(b->lengths);
	free(b->decoded);
	free(b->encoded);
}

static uint32_t number(int argc, char **argv, int index, uint32_t otherwise)
{
	return argc > index ? (uint32_t)strtoul(argv[index], NULL, 10) : otherwise;
}

int main(int argc, char **argv)
{
	if (argc < 3) {
		fprintf(stderr, "usage: bench_encode MODEL_DIR TEXT [BLOCK_TOKENS [TOKENS [ROUNDS]]]\n");
		return 2;
	}
	struct blocks *blocks = blocks_compute(argv[1], argv[2], number(argc, argv, 3, 16), number(argc, argv, 4, 1024));
	struct bench bench = {.shape = blocks_shape(blocks), .rounds = number(argc, argv, 5, 5)};
	if (bench.rounds < 1 || bench.rounds > ROUNDS_MAX)
		bench.rounds = 5;
	printf("\n### %s, %s, %u tokens\n", bench.shape->model, bench.shape->numerics, bench.shape->token_count);
	struct part *parts;
	bench.part_count = blocks_layers(blocks, &parts);
	bench.parts = parts;
	bench_parts(&bench, "layers of blocks");
	free(parts);
	bench.part_count = blocks_whole(blocks, &parts);
	bench.parts = parts;
	bench_parts(&bench, "whole blocks");
	free(parts);
	blocks_destroy(blocks);
	return 0;
}

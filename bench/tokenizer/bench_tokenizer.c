/* bench_tokenizer - nanoseconds a byte of making tokens of a text, by tokenizer, kind of text and length.
 *
 * bench_tokenizer TOKENIZER.JSON...   Best of three for each length; the last column is what a byte of a megabyte costs
 * in bytes of a kilobyte: 1 is linear, 1000 is quadratic. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "model/tokenizer.h"

static const char prose[] = "The baton is handed from the first runner to the second, and the second runs on; 4711 metres, it's said. ";

static const struct {
	const char *name;
	const char *unit;
} kinds[] = {
	{"prose", prose},     {"one letter", "a"},		      {"spaces", " "},	{"newlines", "\n"},
	{"digits", "1"},      {"no spaces", "thebatonishandedfromthefirst"}, {"emoji", "\xf0\x9f\x98\x80"}, {"Chinese", "\xe6\x88\x91\xe8\x83\xbd\xe5\x90\x9e"},
	{"marks", "\xcc\x80\xcc\x96"}, {"no UTF-8", "\xff"},
};
static const size_t lengths[] = {1 << 10, 1 << 15, 1 << 20};
#define LENGTHS (sizeof(lengths) / sizeof(lengths[0]))

static double seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static double run(const struct tokenizer *tokenizer, const char *text, size_t length)
{
	static const struct tokenizer_encode_options options = {0};
	struct tokens tokens = {0};
	size_t rounds = length < 1 << 15 ? 64 : 1;
	double start = seconds();
	for (size_t i = 0; i < rounds; i++) {
		tokens_clear(&tokens);
		if (tokenizer_encode(tokenizer, text, length, &options, &tokens) != ERR_OK)
			exit(1);
	}
	tokens_fini(&tokens);
	return (seconds() - start) / (double)(rounds * length);
}

static void measure(const struct tokenizer *tokenizer, const char *name, const char *unit, char *text)
{
	double best[LENGTHS];
	size_t unit_length = strlen(unit);
	for (size_t l = 0; l < LENGTHS; l++) {
		size_t used = lengths[l] / unit_length * unit_length;
		best[l] = 1e9;
		for (size_t i = 0; i < used; i++)
			text[i] = unit[i % unit_length];
		for (int i = 0; i < 3; i++) {
			double took = run(tokenizer, text, used);
			best[l] = took < best[l] ? took : best[l];
		}
	}
	printf("| %s | %.0f | %.0f | %.0f | %.1f |\n", name, best[0] * 1e9, best[1] * 1e9, best[2] * 1e9, best[2] / best[0]);
}

int main(int argc, char **argv)
{
	char *text = malloc(lengths[LENGTHS - 1]);
	for (int i = 1; i < argc && text; i++) {
		struct why why = {0};
		struct tokenizer *tokenizer = NULL;
		double start = seconds();
		if (tokenizer_load(argv[i], &why, &tokenizer) != ERR_OK) {
			fprintf(stderr, "%s\n", why.text);
			return 1;
		}
		printf("\n%s: %u ids, loaded in %.2f s\n\n| text | 1 KiB ns/B | 32 KiB | 1 MiB | ratio |\n"
		       "| --- | ---: | ---: | ---: | ---: |\n", argv[i], tokenizer_vocab_size(tokenizer), seconds() - start);
		for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
			measure(tokenizer, kinds[k].name, kinds[k].unit, text);
		tokenizer_destroy(tokenizer);
	}
	free(text);
	return 0;
}

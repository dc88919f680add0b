#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/nibbles.h"
#include "base/rng.h"

enum { BYTES_MAX = 3 * NIBBLES_CHUNK_BYTES };

static uint8_t plain[BYTES_MAX], coded[BYTES_MAX + 64], decoded[BYTES_MAX + 64];

/* As keys and values are: each channel of its own scale, numbers in it around that, now and then one far out, and zeros. */
static float number(struct rng *rng, uint32_t channel)
{
	float sum = 0;
	for (int i = 0; i < 4; i++)
		sum += (float)rng_below(rng, 2001) / 1000 - 1;
	if (rng_below(rng, 200) == 0)
		return rng_below(rng, 2) ? 0 : sum * 1000;
	return sum / (float)(1 << rng_mix(channel) % 4);
}

static void fill_numbers(uint64_t seed, size_t length, uint32_t width)
{
	struct rng rng = {.seed = seed};
	for (size_t i = 0; i + width <= length; i += width) {
		float f = number(&rng, (uint32_t)(i / width % 64));
		uint8_t bytes[4];
		memcpy(bytes, &f, 4);
		memcpy(plain + i, bytes + 4 - width, width); /* bf16 is the upper half */
	}
	for (size_t i = length / width * width; i < length; i++)
		plain[i] = (uint8_t)i;
}

static void fill_random(uint64_t seed, size_t length, uint32_t values)
{
	struct rng rng = {.seed = seed};
	for (size_t i = 0; i < length; i++)
		plain[i] = (uint8_t)rng_below(&rng, values);
}

/* What it is encoded to, which must come back; nothing is written behind either. */
static size_t there_and_back(size_t length, size_t capacity)
{
	struct why why = {""};
	memset(coded, 0xa5, sizeof(coded));
	memset(decoded, 0x5a, sizeof(decoded));
	size_t bytes = nibbles_encode(plain, length, coded, capacity);
	assert_true(bytes <= capacity);
	for (size_t i = capacity; i < sizeof(coded); i++)
		assert_int_equal(coded[i], 0xa5);
	if (bytes == 0)
		return 0;
	assert_int_equal(nibbles_decode(coded, bytes, decoded, length, &why), ERR_OK);
	assert_memory_equal(decoded, plain, length);
	for (size_t i = length; i < sizeof(decoded); i++)
		assert_int_equal(decoded[i], 0x5a);
	return bytes;
}

static void numbers_become_as_small_as_was_measured(void **state)
{
	(void)state;
	fill_numbers(1, BYTES_MAX, 2);
	assert_in_range(there_and_back(BYTES_MAX, BYTES_MAX), BYTES_MAX * 74 / 100, BYTES_MAX * 78 / 100);
	fill_numbers(1, BYTES_MAX, 4);
	assert_in_range(there_and_back(BYTES_MAX, BYTES_MAX), BYTES_MAX * 87 / 100, BYTES_MAX * 89 / 100);
}

static void any_bytes_come_back(void **state)
{
	(void)state;
	struct rng rng = {.seed = 3};
	for (uint64_t seed = 0; seed < 400; seed++) {
		size_t length = 1 + rng_below(&rng, seed % 8 ? 600 : BYTES_MAX);
		if (seed % 3 == 0)
			fill_random(seed, length, seed % 2 ? 256 : 3);
		else
			fill_numbers(seed, length, seed % 3 == 1 ? 2 : 4);
		there_and_back(length, length);
		there_and_back(length, rng_below(&rng, length + 1));
		assert_true(there_and_back(length, length + 4 * (length / NIBBLES_CHUNK_BYTES + 1)) > 0); /* a head for each chunk */
	}
	assert_int_equal(there_and_back(0, 0), 0);
}

/* The first half numbers, the second noise, or chunks of different widths: each chunk as it is best. */
static void chunks_are_guessed_one_by_one(void **state)
{
	(void)state;
	static uint8_t all[BYTES_MAX];
	for (uint32_t i = 0; i < 3; i++) {
		if (i < 2)
			fill_numbers(7 + i, NIBBLES_CHUNK_BYTES, 2 + 2 * i);
		else
			fill_random(7, NIBBLES_CHUNK_BYTES, 256);
		memcpy(all + i * NIBBLES_CHUNK_BYTES, plain, NIBBLES_CHUNK_BYTES);
	}
	memcpy(plain, all, BYTES_MAX);
	size_t bytes = there_and_back(BYTES_MAX, BYTES_MAX), chunk = NIBBLES_CHUNK_BYTES;
	assert_in_range(bytes, chunk * 261 / 100, chunk * 267 / 100);
	assert_int_equal(coded[0], 2);
}

/* A sample that says nothing of the rest: not one byte more than a head a chunk is lost. */
static void what_deceives_the_sample_stays_as_it_is(void **state)
{
	(void)state;
	fill_random(9, NIBBLES_CHUNK_BYTES, 256);
	for (size_t i = 0; i < NIBBLES_CHUNK_BYTES / 2; i += 17)
		memcpy(plain + 2 * i, (uint16_t[]){0x3f80}, 2);
	assert_int_equal(there_and_back(NIBBLES_CHUNK_BYTES, NIBBLES_CHUNK_BYTES), 0);
	assert_int_equal(there_and_back(NIBBLES_CHUNK_BYTES, NIBBLES_CHUNK_BYTES + NIBBLES_HEAD_BYTES),
			 NIBBLES_CHUNK_BYTES + NIBBLES_HEAD_BYTES);
}

static void expect_refused(size_t bytes, size_t length, const char *text)
{
	struct why why = {""};
	assert_int_equal(nibbles_decode(coded, bytes, decoded, length, &why), ERR_CORRUPT);
	if (!strstr(why.text, text))
		fail_msg("\"%s\" does not say \"%s\"", why.text, text);
	assert_int_equal(nibbles_decode(coded, bytes, decoded, length, NULL), ERR_CORRUPT);
}

static void what_cannot_be_is_refused_by_name(void **state)
{
	(void)state;
	size_t length = NIBBLES_CHUNK_BYTES + 1000;
	fill_numbers(4, length, 2);
	size_t bytes = there_and_back(length, length);
	assert_true(bytes > 0);
	expect_refused(bytes - 1, length, "chunk 1 of 2: ");
	expect_refused(bytes + 1, length, "expected");
	expect_refused(3, length, "chunk 0 of 2: 3 bytes are left, expected its head of 4");
	expect_refused(bytes, NIBBLES_CHUNK_BYTES, "bytes, expected");
	coded[0] = 3;
	expect_refused(bytes, length, "chunk 0 of 2: numbers of 3 bytes, expected 2, 4, or 0");
	coded[0] = 2;
	coded[2]++;
	expect_refused(bytes, length, "other exponents, expected as many");
	coded[2] -= 2;
	expect_refused(bytes, length, "other exponents, expected as many");
}

/* Bits flipped anywhere: refused, or other bytes of the same length; never outside. */
static void spoilt_bytes_stay_within_bounds(void **state)
{
	(void)state;
	struct rng rng = {.seed = 6};
	uint32_t refused = 0;
	for (int i = 0; i < 2000; i++) {
		size_t length = 64 + rng_below(&rng, 1000);
		fill_numbers((uint64_t)i, length, i % 2 ? 2 : 4);
		size_t bytes = nibbles_encode(plain, length, coded, length);
		if (bytes == 0)
			continue;
		uint8_t *exact = malloc(bytes), *landing = malloc(length); /* so that a sanitizer sees each byte too many */
		memcpy(exact, coded, bytes);
		for (uint32_t k = 1 + (uint32_t)rng_below(&rng, 3); k > 0; k--)
			exact[rng_below(&rng, rng_below(&rng, 2) ? bytes : 4)] ^= (uint8_t)(1u << rng_below(&rng, 8));
		refused += nibbles_decode(exact, bytes, landing, length, NULL) == ERR_CORRUPT;
		free(exact);
		free(landing);
	}
	assert_in_range(refused, 500, 1990);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_become_as_small_as_was_measured),
		cmocka_unit_test(any_bytes_come_back),
		cmocka_unit_test(chunks_are_guessed_one_by_one),
		cmocka_unit_test(what_deceives_the_sample_stays_as_it_is),
		cmocka_unit_test(what_cannot_be_is_refused_by_name),
		cmocka_unit_test(spoilt_bytes_stay_within_bounds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

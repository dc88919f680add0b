/* How long a comparison takes says nothing about how much was right: Welch's t over interleaved tries, as dudect does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/rng.h"
#include "coordinator/keys.h"

enum { TRIES = 100000, REPEATS = 4, KEYS = 32 };

struct sums {
	double count, mean, squares;
};

static void add(struct sums *s, double x)
{
	double before = x - s->mean;
	s->count++;
	s->mean += before / s->count;
	s->squares += before * (x - s->mean);
}

static double welch(const struct sums *a, const struct sums *b)
{
	double va = a->squares / (a->count - 1) / a->count, vb = b->squares / (b->count - 1) / b->count;
	return (a->mean - b->mean) / sqrt(va + vb);
}

static double now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

/* Above this a measurement is an interrupt's. */
static double crop_of(const double *times)
{
	double *sorted = malloc(TRIES * sizeof(*sorted));
	memcpy(sorted, times, TRIES * sizeof(*sorted));
	qsort(sorted, TRIES, sizeof(*sorted), ascending);
	double crop = sorted[TRIES * 9 / 10];
	free(sorted);
	return crop;
}

struct compared {
	struct key_digest digests[KEYS];
	struct key_digest wanted[2]; /* none of its bytes right; 31 of 32 */
	_Alignas(64) struct key_digest presented; /* always in the same place: where it lies costs time too */
	uint32_t found;              /* so that nothing is left out */
};

/* Of two classes in random order. */
static double t_of(void (*one)(struct compared *c), struct compared *c)
{
	double *times = malloc(TRIES * sizeof(*times));
	bool *classes = malloc(TRIES * sizeof(*classes));
	struct rng rng = {.seed = 5};
	struct sums sums[2] = {{0}, {0}};
	for (int i = 0; i < TRIES; i++) {
		classes[i] = rng_next(&rng) >> 63;
		c->presented = c->wanted[classes[i]];
		double start = now_ns();
		for (int r = 0; r < REPEATS; r++)
			one(c);
		times[i] = now_ns() - start;
	}
	double crop = crop_of(times);
	for (int i = 0; i < TRIES; i++)
		if (times[i] <= crop)
			add(&sums[classes[i]], times[i]);
	free(times);
	free(classes);
	return welch(&sums[0], &sums[1]);
}

static void one_equal(struct compared *c)
{
	c->found += key_digest_equal(&c->digests[0], &c->presented);
}

static void one_find(struct compared *c)
{
	c->found += key_find(c->digests, KEYS, &c->presented);
}

static struct compared *make(void)
{
	struct compared *c = aligned_alloc(64, sizeof(*c));
	memset(c, 0, sizeof(*c));
	struct rng rng = {.seed = 7};
	for (int i = 0; i < KEYS; i++)
		for (int b = 0; b < 32; b++)
			c->digests[i].bytes[b] = (uint8_t)rng_next(&rng);
	for (int b = 0; b < 32; b++)
		c->wanted[0].bytes[b] = (uint8_t)~c->digests[0].bytes[b];
	c->wanted[1] = c->digests[0];
	c->wanted[1].bytes[31] ^= 1;
	return c;
}

static void assert_alike(void (*one)(struct compared *c))
{
	struct compared *c = make();
	double t = t_of(one, c);
	print_message("t = %.2f over %d tries of %d\n", t, TRIES, REPEATS);
	assert_true(fabs(t) < 4.5);
	free(c);
}

static void right_bytes_do_not_show_in_a_comparison(void **state)
{
	(void)state;
	assert_alike(one_equal);
}

static void right_bytes_do_not_show_in_a_search(void **state)
{
	(void)state;
	assert_alike(one_find);
}

static void one_early(struct compared *c)
{
	const volatile uint8_t *x = c->digests[0].bytes, *y = c->presented.bytes;
	uint32_t i = 0;
	while (i < 32 && x[i] == y[i])
		i++;
	c->found += i;
}

/* The control: with an early exit the same measurement sees it. */
static void an_early_exit_would_show(void **state)
{
	(void)state;
	struct compared *c = make();
	assert_true(fabs(t_of(one_early, c)) > 4.5);
	free(c);
}

static void every_place_is_found_and_a_stranger_is_not(void **state)
{
	(void)state;
	struct compared *c = make();
	for (uint32_t i = 0; i < KEYS; i++)
		assert_int_equal(key_find(c->digests, KEYS, &c->digests[i]), i);
	for (uint32_t i = 0; i < KEYS; i++)
		for (int bit = 0; bit < 256; bit++) {
			struct key_digest wrong = c->digests[i];
			wrong.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
			assert_int_equal(key_find(c->digests, KEYS, &wrong), KEY_NONE);
			assert_false(key_digest_equal(&c->digests[i], &wrong));
		}
	assert_int_equal(key_find(c->digests, 0, &c->digests[0]), KEY_NONE);
	free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_place_is_found_and_a_stranger_is_not),
		cmocka_unit_test(right_bytes_do_not_show_in_a_comparison),
		cmocka_unit_test(right_bytes_do_not_show_in_a_search),
		cmocka_unit_test(an_early_exit_would_show),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* fixture - what the tests of kernels/ share: every variant of this CPU in turn, and random numbers. */
#ifndef TESTS_KERNELS_FIXTURE_H
#define TESTS_KERNELS_FIXTURE_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/rng.h"
#include "kernels/device.h"
#include "kernels/ops.h"

static inline struct device *device_named(const char *variant, uint32_t thread_count)
{
	struct device *device;
	struct why why;
	struct device_options options = {.variant = variant, .thread_count = thread_count};
	enum err e = device_open(&options, &why, &device);
	if (e != ERR_OK)
		fail_msg("%s", why.text);
	return device;
}

/* Runs the test on each variant that this CPU has, and says which it has not. */
static inline void on_each_variant(void (*test)(struct device *device))
{
	static const char *const all[] = {"avx512bf16", "avx512", "avx2", "portable"};
	const char *names[DEVICE_VARIANTS_MAX];
	uint32_t count = device_variants(names);
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		const char *found = NULL;
		for (uint32_t j = 0; j < count; j++)
			if (strcmp(names[j], all[i]) == 0)
				found = names[j];
		if (!found) {
			print_message("           %s: skipped, this CPU has it not\n", all[i]);
			continue;
		}
		struct device *device = device_named(found, 2);
		test(device);
		device_close(device);
	}
}

/* Does this variant round the inputs of bf16 weights? (kernels/ops.h, rule 2) */
static inline int rounds_inputs(const struct device *device)
{
	return strcmp(device_props(device)->variant, "avx512bf16") == 0;
}

static inline float random_float(struct rng *rng) /* in (-1, 1) */
{
	return 2.0f * rng_unit(rng_next(rng)) - 1.0f;
}

static inline float *random_floats(struct rng *rng, size_t count)
{
	float *x = malloc(count * sizeof(*x));
	assert_non_null(x);
	for (size_t i = 0; i < count; i++)
		x[i] = random_float(rng);
	return x;
}

static inline float widened(uint16_t half)
{
	uint32_t bits = (uint32_t)half << 16;
	float x;
	memcpy(&x, &bits, sizeof(x));
	return x;
}

/* bf16 halves of random numbers: truncated, which is as good as any. */
static inline uint16_t *random_halves(struct rng *rng, size_t count)
{
	uint16_t *x = malloc(count * sizeof(*x));
	assert_non_null(x);
	for (size_t i = 0; i < count; i++) {
		float value = random_float(rng);
		uint32_t bits;
		memcpy(&bits, &value, sizeof(bits));
		x[i] = (uint16_t)(bits >> 16);
	}
	return x;
}

static inline void *filled_with_nan(size_t count)
{
	float *x = malloc(count * sizeof(*x));
	assert_non_null(x);
	memset(x, 0xff, count * sizeof(*x));
	return x;
}

#define assert_near(value, expected, tolerance)                                                        \
	do {                                                                                           \
		double value_ = (value), expected_ = (expected), off_ = value_ - expected_;            \
		if (!(off_ <= (tolerance) && -off_ <= (tolerance)))                                    \
			fail_msg("%s is %.9g, expected %.9g +- %g", #value, value_, expected_, (double)(tolerance)); \
	} while (0)
#endif

/* device_step - what tests of the device itself share: a step to queue, and whether anything is left. */
#ifndef TESTS_GPU_DEVICE_STEP_H
#define TESTS_GPU_DEVICE_STEP_H
#include "tests/gpu/fixture.h"
#if defined(__has_include) && __has_include("fake.h")
#include "fake.h"
#define ON_FAKE 1
#else
#define ON_FAKE 0
#endif

/* Of what the fake device counts. */
static inline void nothing_leaks(void)
{
#if ON_FAKE
	assert_int_equal(fake_device_used(), 0);
	assert_int_equal(fake_pinned_used(), 0);
	assert_int_equal(fake_object_count(), 0);
#endif
}

/* x += add, twice. */
static inline void queue_step(struct device *device, float *x, const float *add)
{
	op_add(device, x, add, 1, 64);
	op_add(device, x, add, 1, 64);
}
#endif

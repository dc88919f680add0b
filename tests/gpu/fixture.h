/* fixture - what the tests of the CUDA backend share: the device beside a CPU, and memory on both sides.
 *
 * The same tests run on a GPU (tests/gpu/run) and on the fake device (tests/gpu/fake), so nothing here looks into device memory. */
#ifndef TESTS_GPU_FIXTURE_H
#define TESTS_GPU_FIXTURE_H
#include "tests/kernels/fixture.h"

struct gpu {
	struct device *device;
	struct device *cpu; /* the oracle: of class cpu-fma-1 where this machine has it */
};

static inline struct device *gpu_open(uint32_t row_segments)
{
	struct device *device;
	struct why why;
	const struct device_options options = {.kind = DEVICE_CUDA, .row_segments = row_segments};
	if (device_open(&options, &why, &device) != ERR_OK)
		fail_msg("%s", why.text);
	return device;
}

static inline struct device *oracle_open(void)
{
	const char *names[DEVICE_VARIANTS_MAX];
	uint32_t count = device_variants(names);
	for (uint32_t i = 0; i < count; i++)
		if (strcmp(names[i], "avx2") == 0)
			return device_named("avx2", 1);
	return device_named("portable", 1);
}

static inline void *gpu_alloc(struct device *device, size_t bytes)
{
	void *memory;
	assert_int_equal(dev_alloc(device, MEM_DEVICE, bytes, &memory), ERR_OK);
	return memory;
}

/* A copy on the device. */
static inline void *gpu_put(struct device *device, const void *from, size_t bytes)
{
	void *memory = gpu_alloc(device, bytes);
	assert_int_equal(dev_copy(device, memory, from, bytes), ERR_OK);
	return memory;
}

/* Device memory full of NaN, to see what is written and what is not. */
static inline void *gpu_nan(struct device *device, size_t bytes)
{
	void *nan = malloc(bytes), *memory;
	assert_non_null(nan);
	memset(nan, 0xff, bytes);
	memory = gpu_put(device, nan, bytes);
	free(nan);
	return memory;
}

/* A copy on the host; the device's is given back. */
static inline void *gpu_take(struct device *device, void *from, size_t bytes)
{
	void *memory = malloc(bytes);
	assert_non_null(memory);
	assert_int_equal(dev_copy(device, memory, from, bytes), ERR_OK);
	dev_free(device, MEM_DEVICE, from, bytes);
	return memory;
}
#endif

/* cpu - the CPU device from inside: what its operations share. */
#ifndef KERNELS_CPU_CPU_H
#define KERNELS_CPU_CPU_H
#include "kernels/cpu/threads.h"
#include "kernels/cpu/variants.h"

struct device {
	struct device_props props;
	const struct kernel_ops *ops;
	struct threads *threads;
	uint8_t *scratch; /* [worker][SCRATCH_BYTES] */
};

static inline void *cpu_scratch(const struct device *device, uint32_t worker)
{
	return device->scratch + (size_t)worker * SCRATCH_BYTES;
}

/* Runs the items on the workers, or here when `work` (elements touched or multiplications, roughly) is too
 * small to be worth a call to others. */
void cpu_parallel(struct device *device, uint32_t count, uint64_t work, threads_fn *fn, void *arg);
#endif

/* fake_nvml - a management library for GPUs that are not there.  The test opens the very library that the doctor opens, and
 * fills in what it tells.
 *
 * Owns:   its one state, `fake_nvml`.
 * Bounds: FAKE_GPUS_MAX GPUs. */
#ifndef TESTS_TOOLS_FAKE_NVML_H
#define TESTS_TOOLS_FAKE_NVML_H

enum { FAKE_GPUS_MAX = 40, FAKE_LINKS = 18 };

struct fake_gpu {
	unsigned domain, bus;
	const char *name;
	unsigned long long memory_bytes;
	int major, minor;
	unsigned ecc, persistence, mig, remap_pending, remap_failed;
	unsigned long long ecc_uncorrected, throttle;
	unsigned power_mw, power_default_mw;
	unsigned link_count, links_down; /* bit i: link i is down */
	unsigned link_kind;              /* 0: a GPU is at the other end, 2: a switch */
};

struct fake_nvml {
	int init_error; /* 18: library and driver differ */
	int opened;     /* inits less shutdowns */
	const char *driver;
	int cuda;
	unsigned gpu_count;
	struct fake_gpu gpus[FAKE_GPUS_MAX];
};

extern struct fake_nvml fake_nvml;
#endif

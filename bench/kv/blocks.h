/* blocks - which blocks the benchmarks of this folder put and ask for: the same everywhere, by number. */
#ifndef BENCH_KV_BLOCKS_H
#define BENCH_KV_BLOCKS_H
#include <stdint.h>
#include <time.h>
#include "base/id128.h"

/* A key looks like a digest. */
static inline struct id128 bench_key(uint64_t number)
{
	struct id128 key;
	for (int half = 0; half < 2; half++) {
		uint64_t x = (number * 2 + (uint64_t)half + 1) * 0x9e3779b97f4a7c15u;
		x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
		x = (x ^ x >> 27) * 0x94d049bb133111ebu;
		x ^= x >> 31;
		memcpy(key.bytes + 8 * half, &x, sizeof(x));
	}
	return key;
}

static const struct id128 bench_compat = {{0xb3, 0x4c}};

static inline uint64_t bench_now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
#endif

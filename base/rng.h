/* rng - random numbers as a function of a counter: no state to carry, none to lose.
 *
 * rng_at(seed, stream, counter) is the same on every machine and in every order of calls, so sampling
 * depends on (seed, choice, position) alone (law 1).  Mixing: two rounds of the SplitMix64 finaliser
 * (Steele, Lea, Flood 2014) over the three words. */
#ifndef BASE_RNG_H
#define BASE_RNG_H
#include <stdint.h>

static inline uint64_t rng_mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

static inline uint64_t rng_at(uint64_t seed, uint64_t stream, uint64_t counter)
{
	return rng_mix(rng_mix(rng_mix(seed) ^ stream) ^ counter);
}

/* Uniform in [0, 1), 24 bits: exact in f32. */
static inline float rng_unit(uint64_t bits)
{
	return (float)(bits >> 40) * 0x1p-24f;
}

/* A sequential generator for tests, simulations and load: the state is the counter. */
struct rng {
	uint64_t seed;
	uint64_t counter;
};

static inline uint64_t rng_next(struct rng *rng)
{
	return rng_at(rng->seed, 0, rng->counter++);
}

/* Uniform in [0, bound); bound > 0.  The bias is below bound / 2^64. */
static inline uint64_t rng_below(struct rng *rng, uint64_t bound)
{
	return (uint64_t)(((unsigned __int128)rng_next(rng) * bound) >> 64);
}
#endif

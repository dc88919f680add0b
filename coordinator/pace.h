/* pace - how fast waiting work begins, measured while some waits: only then is it what the nodes can do.  Pure.
 *
 * Stretches in which work waits are added up: a queue that is kept so short that it runs empty now and then is measured
 * like one that never does.
 * Memory: the caller's; zeroed is new.  A wait is told once PACE_WINDOW_NS were measured; before, it is 0 (unknown). */
#ifndef COORDINATOR_PACE_H
#define COORDINATOR_PACE_H
#include <stdbool.h>
#include <stdint.h>

#define PACE_WINDOW_NS  1000000000ull
#define PACE_SILENCE_NS 8000000000ull /* so long without a beginning halves what is believed */

struct pace {
	uint64_t since_ns;  /* of the stretch; 0: nothing waits */
	uint64_t waited_ns; /* of the stretches before, in this window */
	uint64_t begun;     /* cost, in them */
	double cost_per_ns;
};

/* Work that waited begins. */
void pace_begin(struct pace *pace, uint64_t cost);
/* Every tick, and whenever the queue changes between empty and not. */
void pace_tick(struct pace *pace, bool some_wait, uint64_t now_ns);
uint64_t pace_wait_ns(const struct pace *pace, uint64_t cost_ahead);
#endif

/* pace - how fast waiting work begins, measured while some waits: only then is it what the nodes can do.  Pure.
 *
 * Memory: the caller's; zeroed is new.  A wait is told once a whole window was measured; before, it is 0 (unknown). */
#ifndef COORDINATOR_PACE_H
#define COORDINATOR_PACE_H
#include <stdbool.h>
#include <stdint.h>

#define PACE_WINDOW_NS  1000000000ull
#define PACE_SILENCE_NS 8000000000ull /* so long without a beginning halves what is believed */

struct pace {
	uint64_t since_ns; /* of the window; 0: none runs */
	uint64_t begun;    /* cost, in it */
	double cost_per_ns;
};

void pace_begin(struct pace *pace, uint64_t cost);
/* Every tick, and whenever the queue changes between empty and not. */
void pace_tick(struct pace *pace, bool some_wait, uint64_t now_ns);
uint64_t pace_wait_ns(const struct pace *pace, uint64_t cost_ahead);
#endif

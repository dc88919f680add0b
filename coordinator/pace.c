#include "coordinator/pace.h"

void pace_begin(struct pace *pace, uint64_t cost)
{
	pace->begun += cost;
}

static void take(struct pace *pace, uint64_t now_ns)
{
	double sample = (double)pace->begun / (double)(now_ns - pace->since_ns);
	if (!pace->begun)
		pace->cost_per_ns /= 2;
	else
		pace->cost_per_ns = pace->cost_per_ns > 0 ? 0.5 * pace->cost_per_ns + 0.5 * sample : sample;
	pace->since_ns = now_ns;
	pace->begun = 0;
}

void pace_tick(struct pace *pace, bool some_wait, uint64_t now_ns)
{
	if (!some_wait) {
		pace->since_ns = 0; /* a window with a gap says what was asked, not what could be done */
		return;
	}
	if (!pace->since_ns) {
		pace->since_ns = now_ns;
		pace->begun = 0;
	}
	if (now_ns - pace->since_ns >= (pace->begun ? PACE_WINDOW_NS : PACE_SILENCE_NS))
		take(pace, now_ns);
}

uint64_t pace_wait_ns(const struct pace *pace, uint64_t cost_ahead)
{
	double ns = pace->cost_per_ns > 0 ? (double)cost_ahead / pace->cost_per_ns : 0;
	return ns < 3.6e12 ? (uint64_t)ns : 3600000000000ull; /* an hour is as good as never */
}

#include "coordinator/pace.h"

void pace_begin(struct pace *pace, uint64_t cost)
{
	if (pace->since_ns)
		pace->begun += cost;
}

static void take(struct pace *pace)
{
	double sample = (double)pace->begun / (double)pace->waited_ns;
	if (!pace->begun)
		pace->cost_per_ns /= 2;
	else
		pace->cost_per_ns = pace->cost_per_ns > 0 ? 0.5 * pace->cost_per_ns + 0.5 * sample : sample;
	pace->waited_ns = 0;
	pace->begun = 0;
}

void pace_tick(struct pace *pace, bool some_wait, uint64_t now_ns)
{
	if (pace->since_ns)
		pace->waited_ns += now_ns - pace->since_ns;
	pace->since_ns = some_wait ? now_ns : 0;
	if (pace->waited_ns >= (pace->begun ? PACE_WINDOW_NS : PACE_SILENCE_NS))
		take(pace);
}

uint64_t pace_wait_ns(const struct pace *pace, uint64_t cost_ahead)
{
	double ns = pace->cost_per_ns > 0 ? (double)cost_ahead / pace->cost_per_ns : 0;
	return ns < 3.6e12 ? (uint64_t)ns : 3600000000000ull; /* an hour is as good as never */
}

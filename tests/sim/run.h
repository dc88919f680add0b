/* run - one seed: a drawn cluster, drawn requests, drawn faults; then the world heals and progress is demanded. */
#ifndef TESTS_SIM_RUN_H
#define TESTS_SIM_RUN_H
#include "tests/sim/clients.h"
#include "tests/sim/faults.h"

struct run_result {
	uint64_t digest;      /* of all that happened */
	uint32_t faults;
	uint64_t ended_ms;    /* virtual */
	struct sim_counters sim;
	struct client_counts clients;
	struct hit_table hits;
	uint64_t kills, renewals, directives, directives_refused, drains;
	struct disk_totals disks;
};

/* Does a store die in it when it writes a footer?  One seed in twelve. */
bool run_kills_at_footers(uint64_t seed);
/* Fails by cluster_fail(), with the seed and the story.  story: printed on standard output.  cut: NULL for all of it. */
void run_seed(uint64_t seed, bool story, const struct cluster_cut *cut, struct run_result *ret_result);
/* The cluster of the seed that is running, for who has to say why a core aborted; NULL: none. */
struct cluster *run_current(void);
#endif

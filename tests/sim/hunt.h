/* hunt - seeds in processes of their own, because they may abort: until a planted bug is found, and until what a
 * violation needs is found. */
#ifndef TESTS_SIM_HUNT_H
#define TESTS_SIM_HUNT_H
#include <stdbool.h>
#include <stdint.h>
#include "tests/sim/cluster.h"

struct hunt_options {
	uint32_t limit;    /* seeds for each bug */
	uint32_t jobs;     /* processes at a time */
	uint32_t at_least; /* that many must be found; 0: all */
};

/* What the seed says when it fails, up to HUNT_SAID_MAX bytes; false: it does not fail. */
enum { HUNT_SAID_MAX = 160 };
bool hunt_seed(uint64_t seed, const struct cluster_cut *cut, char *ret_said);
/* Leaves out faults and requests while it still fails by the same invariant; prints what is left.  0: it fails. */
int hunt_shrink(uint64_t seed, struct cluster_cut *ret_cut);
/* Every planted bug, until its first seed that fails; prints the table.  0: as many were found as must be. */
int hunt_all(const struct hunt_options *options);
#endif

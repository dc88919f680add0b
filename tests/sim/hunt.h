/* hunt - seeds in processes of their own: many at a time, and until a planted bug is found. */
#ifndef TESTS_SIM_HUNT_H
#define TESTS_SIM_HUNT_H
#include <stddef.h>
#include <stdint.h>

struct hunt_options {
	uint32_t limit;  /* seeds for each bug */
	uint32_t jobs;   /* processes at a time */
	uint32_t skip_s; /* a bug that is not found after that many seconds is given up, and said so; 0: never */
};

/* Every planting, until its first seed that fails; prints the table.  0: all were found that must be. */
int hunt_all(const struct hunt_options *options);
#endif

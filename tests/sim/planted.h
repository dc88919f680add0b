/* planted - which bugs of base/planted.h are switched on, and the list of what can be.  In the plain build: none.
 *
 * A planting is one bug, or two where one alone is caught by a second check and harmless: then both are named. */
#ifndef TESTS_SIM_PLANTED_H
#define TESTS_SIM_PLANTED_H
#include <stdbool.h>
#include <stdint.h>

enum { PLANTING_NAME_MAX = 63 };

struct planting {
	char name[PLANTING_NAME_MAX + 1];
	const char *text;
	const char *report;   /* where it was seen */
	const char *absorbed; /* why nobody can see it, and which planting shows it; NULL: it must be found */
	uint64_t bugs;        /* a bit each */
};

uint32_t plantings_count(void);
struct planting planting_at(uint32_t index);
/* Switches it on, and all others off; false: there is none of that name. */
bool planting_choose(const char *name);
#endif

/* planted - the list of bugs of base/planted.h, and the switch.  In the plain build: none. */
#ifndef TESTS_SIM_PLANTED_H
#define TESTS_SIM_PLANTED_H
#include <stdbool.h>
#include <stdint.h>

enum { PLANTED_NAME_MAX = 63 };

struct planted_line {
	char name[PLANTED_NAME_MAX + 1]; /* "status-dropped" */
	const char *text;
	const char *report;              /* where it was seen */
};

uint32_t planted_count(void);
struct planted_line planted_line(uint32_t index);
/* Switches it on, and all others off; false: there is none of that name. */
bool planted_choose(const char *name);
#endif

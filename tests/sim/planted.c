#include "tests/sim/planted.h"

#include <ctype.h>
#include <string.h>

#include "base/planted.h"

#ifdef BATON_PLANTED
static const struct planted_line lines[PLANTED_BUG_COUNT] = {
#define X(bug, what, where) {#bug, what, where},
	PLANTED_BUGS(X)
#undef X
};

static enum planted_bug chosen = PLANTED_BUG_COUNT; /* the switch: one for the process, set before a world begins */

bool planted_now(enum planted_bug bug)
{
	return chosen == bug;
}

uint32_t planted_count(void)
{
	return PLANTED_BUG_COUNT;
}

struct planted_line planted_line(uint32_t index)
{
	struct planted_line line = lines[index];
	for (char *at = line.name; *at; at++)
		*at = *at == '_' ? '-' : (char)tolower((unsigned char)*at);
	return line;
}

bool planted_choose(const char *name)
{
	for (uint32_t i = 0; i < PLANTED_BUG_COUNT; i++) {
		struct planted_line line = planted_line(i);
		if (strcmp(line.name, name) != 0)
			continue;
		chosen = (enum planted_bug)i;
		return true;
	}
	return false;
}
#else
uint32_t planted_count(void)
{
	return 0;
}

struct planted_line planted_line(uint32_t index)
{
	(void)index;
	return (struct planted_line){.name = ""};
}

bool planted_choose(const char *name)
{
	(void)name;
	return false;
}
#endif

#include "tests/sim/planted.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/planted.h"

#ifdef BATON_PLANTED
#define BIT(bug) (UINT64_C(1) << PLANTED_##bug)

static const struct planting singles[PLANTED_BUG_COUNT] = {
#define X(bug, what, where) {.name = #bug, .text = what, .report = where, .bugs = BIT(bug)},
	PLANTED_BUGS(X)
#undef X
};

/* Two checks guard against the same: one alone may go. */
static const struct {
	uint64_t bug;
	const char *why;
} absorbed[] = {
	{0, NULL},
};

static const struct planting pairs[] = {
	{.name = "", .bugs = 0},
};

enum { SINGLES = PLANTED_BUG_COUNT, PAIRS = sizeof(pairs) / sizeof(pairs[0]) - 1 };

static uint64_t chosen; /* the switch: one for the process, set before a world begins */

bool planted_now(enum planted_bug bug)
{
	return chosen >> bug & 1;
}

uint32_t plantings_count(void)
{
	return SINGLES + PAIRS;
}

struct planting planting_at(uint32_t index)
{
	struct planting p = index < SINGLES ? singles[index] : pairs[index - SINGLES];
	for (char *at = p.name; *at; at++)
		*at = *at == '_' ? '-' : (char)tolower((unsigned char)*at);
	for (size_t i = 0; i < sizeof(absorbed) / sizeof(absorbed[0]); i++)
		if (p.bugs == absorbed[i].bug)
			p.absorbed = absorbed[i].why;
	return p;
}

bool planting_choose(const char *name)
{
	for (uint32_t i = 0; i < plantings_count(); i++) {
		struct planting p = planting_at(i);
		if (strcmp(p.name, name) != 0)
			continue;
		chosen = p.bugs;
		return true;
	}
	return false;
}
#else
uint32_t plantings_count(void)
{
	return 0;
}

struct planting planting_at(uint32_t index)
{
	(void)index;
	return (struct planting){0};
}

bool planting_choose(const char *name)
{
	(void)name;
	return false;
}
#endif

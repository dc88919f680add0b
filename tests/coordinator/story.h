/* story - what the stories of requests are told with (test_jobs.c and its neighbours). */
#ifndef TESTS_COORDINATOR_STORY_H
#define TESTS_COORDINATOR_STORY_H
#include "tests/coordinator/world.h"

static const Wire__Half P = WIRE__HALF__HALF_PREFILL, D = WIRE__HALF__HALF_DECODE, BOTH = WIRE__HALF__HALF_BOTH;
static const Wire__Finish MORE = WIRE__FINISH__FINISH_NONE, STOP = WIRE__FINISH__FINISH_STOP,
			  LENGTH = WIRE__FINISH__FINISH_LENGTH;

/* The nodes of cluster(). */
enum { P1, D1, P2, D2 };

/* What a node needs of a Reserve, as a value. */
struct reserve {
	Wire__JobId job;
	uint32_t tokens, prompt_count, choices, choice_first, holders;
	uint32_t last_token;
	uint32_t scored;
};

/* Prefill 1 and decode 1 are up; spares: prefill 2 and decode 2 are members, and not up yet. */
void cluster(struct world *w, bool spares);
void spares_up(struct world *w);
struct reserve expect_reserve(struct world *w, uint32_t fake, Wire__Half half);
Wire__Cancel expect_cancel(struct world *w, uint32_t fake, const Wire__JobId *job);
/* Both reserve and are started. */
struct reserve started(struct world *w, uint32_t p, uint32_t d);
/* The right token for this position. */
void tell(struct world *w, uint32_t fake, const struct reserve *reserve, const struct seen *seen, uint32_t choice,
	  uint32_t position, Wire__Finish finish);
void expect_end(const struct seen *seen, enum err e);
/* No request is left, and no node has anything to do. */
void expect_empty(struct world *w);
#endif

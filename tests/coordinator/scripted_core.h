/* scripted_core - stands in for the core where the service is tested alone: it keeps what was submitted, and the test
 * says what comes of it.  Linked instead of the core's object files. */
#ifndef TESTS_COORDINATOR_SCRIPTED_CORE_H
#define TESTS_COORDINATOR_SCRIPTED_CORE_H
#include <stdbool.h>
#include <stdint.h>
#include "coordinator/core.h"

enum { SCRIPTED_REQUESTS_MAX = 64, SCRIPTED_TOKENS_MAX = 4096, SCRIPTED_SCORES_MAX = 64 };

struct scripted_request {
	void *user;
	char model[64];
	uint32_t tokens[SCRIPTED_TOKENS_MAX];
	uint32_t prompt_count, choice_count;
	uint32_t given[SAMPLING_CHOICES_MAX];
	struct sampling sampling;
	uint32_t salt_length;
	char structure[512]; /* the beginning */
	uint64_t deadline_ns;
	bool open, canceled;
};

/* The core behind the opaque name. */
struct coord {
	struct coord_hooks hooks;
	struct scripted_request requests[SCRIPTED_REQUESTS_MAX];
	uint32_t count;
	enum err refuse;  /* what the next submits say */
	uint32_t accept;  /* so many submits before it refuses */
	bool ready;       /* some pair lives */
	uint32_t context_max;
	bool in_hook;
};

/* A token of a choice; ENOUGH or MORE as the service says. */
enum coord_more scripted_token(struct coord *coord, uint32_t request, uint32_t choice, uint32_t token,
			       Wire__Finish finish, uint32_t stop_token);
/* What the model says of the prompt's tokens from `position` on. */
void scripted_scores(struct coord *coord, uint32_t request, uint32_t position, uint32_t count);
void scripted_end(struct coord *coord, uint32_t request, enum err e);
#endif

/* tool_structure - the structure (model/structure.h) of an answer that has to be a call of a tool, as a family writes calls.
 *
 * Owns nothing; the result is the caller's. */
#ifndef COORDINATOR_TOOL_STRUCTURE_H
#define COORDINATOR_TOOL_STRUCTURE_H
#include <jansson.h>
#include <stdbool.h>
#include "base/err.h"
#include "base/why.h"
#include "coordinator/speech.h"

struct tool_structure_options {
	enum tool_format format;
	const json_t *tools;
	const char *name; /* of the one that has to be called; NULL: any */
	bool one_call;
	bool names_first; /* Mistral's newer form: [TOOL_CALLS]NAME[ARGS]{...} */
};

/* ERR_UNSUPPORTED: calls of that format cannot be forced, or not of a tool; why says which.  ERR_NOMEM. */
MUST_USE enum err tool_structure(const struct tool_structure_options *options, struct why *why, json_t **ret_structure);

/* What comes before the structure that an answer keeps to. */
enum tool_precedence {
	TOOL_THOUGHT_ENDS,  /* the end of a thought that the prompt began */
	TOOL_CALL_CHANNEL,  /* in channels: one thought at most; the call brings its header */
	TOOL_FINAL_CHANNEL, /* in channels: one thought at most, then the final message's header */
};
/* The same behind that, for the caller to free. */
MUST_USE enum err tool_structure_precede(const char *structure, enum tool_precedence what, char **ret_structure);
#endif

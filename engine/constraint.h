/* constraint - what a sequence's answer must look like, for those who carry it from a request to the sampler.
 *
 * Opaque to them: the engine compiled it (constraints.h), and where an answer stands in it follows from the tokens
 * generated so far.  So a sequence that moves takes nothing along but its tokens and the structure's text. */
#ifndef ENGINE_CONSTRAINT_H
#define ENGINE_CONSTRAINT_H
#include <stddef.h>
#include "base/err.h"
#include "base/why.h"

struct constraint;

/* All NULL: structures are refused. */
struct constraint_hooks {
	void *context;
	/* The constraint of a structure's text (model/structure.h), with one reference.  INVALID, UNSUPPORTED, TOO_LARGE: why
	 * names the part; AGAIN: too many different ones are in use. */
	enum err (*take)(void *context, const char *structure, size_t length, struct why *why,
			 struct constraint **ret_constraint);
	void (*give)(void *context, struct constraint *constraint);
};

/* Of a request: "" has none, *ret_constraint is NULL then. */
static inline enum err constraint_take(const struct constraint_hooks *hooks, const char *structure, size_t length,
				       struct why *why, struct constraint **ret_constraint)
{
	if (length > 0 && !hooks->take)
		return why_set(why, ERR_UNSUPPORTED, "this node keeps answers to no structure");
	if (length > 0)
		return hooks->take(hooks->context, structure, length, why, ret_constraint);
	*ret_constraint = NULL;
	return ERR_OK;
}

static inline void constraint_give(const struct constraint_hooks *hooks, struct constraint *constraint)
{
	if (constraint)
		hooks->give(hooks->context, constraint);
}
#endif

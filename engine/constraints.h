/* constraints - the structures that answers must keep, compiled once each, and the masks of a step, made beside its layers.
 *
 *   loop:    take, give                        (constraint.h)
 *   compute: begin(plan) -> layers … -> wait -> allowed(run)
 *   masks:               -> each run's tokens are read, its mask is made
 *
 * Where an answer stands is what its generated tokens say; what was read of them is remembered for the next step, by
 * sequence, and believed only if the tokens are the same.
 *
 * Owns:   the vocabulary as a tree, the compiled structures, the thread that makes masks.
 * Loop:   as drawn.  A constraint is not given back while a plan in flight names it.
 * Bounds: CONSTRAINTS_MAX structures of CONSTRAINTS_BYTES_MAX together, those in no use kept while there is room.
 * Rules:  1 an end-of-text token is allowed exactly where the answer is whole; no other added token but those that the
 *           structure names;
 *         2 something is always allowed. */
#ifndef ENGINE_CONSTRAINTS_H
#define ENGINE_CONSTRAINTS_H
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"
#include "engine/constraint.h"
#include "engine/plan.h"

struct constraints;
struct tokenizer;

enum { CONSTRAINTS_MAX = 256, CONSTRAINTS_BYTES_MAX = 256 << 20 };

struct constraints_options {
	const struct tokenizer *tokenizer; /* stays until destroy */
	uint32_t vocab_size;               /* of the logits: at least the tokenizer's */
	const uint32_t *eos_ids;           /* stay too */
	uint32_t eos_count;
};

MUST_USE enum err constraints_create(const struct constraints_options *options, struct constraints **ret_constraints);
void constraints_destroy(struct constraints *constraints);
struct constraint_hooks constraints_hooks(struct constraints *constraints);

/* Starts on the masks of a plan; it and its sequences stay as they are until constraints_wait() has returned. */
void constraints_begin(struct constraints *constraints, const struct plan *plan);
/* ERR_NOMEM: the step cannot be sampled. */
MUST_USE enum err constraints_wait(struct constraints *constraints);
/* One bit for each token of vocab_size; NULL: the run's sequence is free.  Valid until the next begin. */
const uint64_t *constraints_allowed(const struct constraints *constraints, const struct plan *plan, const struct run *run);
#endif

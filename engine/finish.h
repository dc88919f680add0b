/* finish - does this token end the choice?  Pure. */
#ifndef ENGINE_FINISH_H
#define ENGINE_FINISH_H
#include "base/sampling.h"

struct finish_rules {
	const uint32_t *eos_ids;
	uint32_t eos_count;
	uint32_t context_max; /* tokens of a sequence */
};

/* generated: tokens of the choice including this one; length: of the sequence including it.  *ret_stop_index: which
 * of stop_ids it was, plus one; 0: an eos token, or none. */
enum finish finish_of(const struct finish_rules *rules, const struct sampling *sampling, uint32_t token,
		      uint32_t generated, uint32_t length, uint32_t *ret_stop_index);
#endif

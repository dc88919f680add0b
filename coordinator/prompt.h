/* prompt - the prompts of a request become token ids, and its lengths are settled against the model's context.
 *
 * A completion may bring several prompts; a chat is one, as the model's template renders it.
 * Owns:   the ids.  Bounds: API_CHOICES_MAX prompts, TOKENIZER_TEXT_MAX bytes of each. */
#ifndef COORDINATOR_PROMPT_H
#define COORDINATOR_PROMPT_H
#include <stdint.h>
#include "coordinator/request_parse.h"
#include "coordinator/served_model.h"
#include "model/tokenizer.h"

struct prompts {
	uint32_t count;
	struct tokens *list; /* [count] */
	char end[32];        /* of a chat's text: the last bytes, which say whether the answer begins in a thought */
	size_t end_length;
};

/* The ids alone, truncated where the request asks for it: what /tokenize and /render want. */
MUST_USE enum err prompts_encode(struct api_request *request, const struct served_model *model, uint32_t context_max,
				 struct prompts *ret_prompts, struct api_error *error);
/* The items of a list as ids; param: the list's name. */
MUST_USE enum err prompt_take_ids(const struct served_model *model, const json_t *list, struct tokens *tokens,
				  const char *param, struct api_error *error);
/* context_max: of the nodes that serve the model now.  Sets sampling.max_tokens where the client gave none.
 * On an error nothing is to be freed. */
MUST_USE enum err prompts_make(struct api_request *request, const struct served_model *model, uint32_t context_max,
			       struct prompts *ret_prompts, struct api_error *error);
void prompts_fini(struct prompts *prompts);
#endif

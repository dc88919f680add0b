/* prompt_impl - between prompt.c (texts, ids, lengths), prompt_chat.c (templates) and prompt_messages.c (messages). */
#ifndef COORDINATOR_PROMPT_IMPL_H
#define COORDINATOR_PROMPT_IMPL_H
#include "base/buf.h"
#include "coordinator/prompt.h"

MUST_USE enum err prompt_encode(const struct served_model *model, const char *text, size_t length, bool add_special,
				struct tokens *tokens, const char *param, struct api_error *error);
/* The first of `prompts`, and how its text ends. */
MUST_USE enum err prompt_chat(const struct api_request *request, const struct served_model *model, struct prompts *prompts,
			      struct api_error *error);

/* A copy as templates want it: contents are texts (or, with takes_parts, may be lists of text parts), arguments of calls are
 * objects, thoughts have all their names. */
MUST_USE enum err prompt_messages(const json_t *messages, bool takes_parts, json_t **ret_messages, struct api_error *error);
/* Where the last message goes on: it gets a mark before it is rendered, and the text ends there after. */
#define PROMPT_MARK "CONTINUE_FINAL_MESSAGE_TAG "
MUST_USE enum err prompt_mark_last(json_t *messages, struct api_error *error);
MUST_USE enum err prompt_cut_at_mark(struct buf *text, struct api_error *error);
#endif

/* prompt_impl - between prompt.c (texts, ids, lengths) and prompt_chat.c (messages). */
#ifndef COORDINATOR_PROMPT_IMPL_H
#define COORDINATOR_PROMPT_IMPL_H
#include "coordinator/prompt.h"

enum err prompt_encode(const struct served_model *model, const char *text, size_t length, bool add_special,
		       struct tokens *tokens, const char *param, struct api_error *error);
enum err prompt_chat(const struct api_request *request, const struct served_model *model, struct tokens *tokens,
		     struct api_error *error);
#endif

/* logprobs - the log-probabilities of a choice's tokens as JSON, in the two shapes of OpenAI's API.
 *
 * Written as the tokens come: what was added since the last logprobs_put() is one object.
 * Chat: {"content":[{token,logprob,bytes,top_logprobs}]}.  Completions: {tokens,token_logprobs,top_logprobs,text_offset}.
 * Owns its buffers; zeroed memory is an empty one. */
#ifndef COORDINATOR_LOGPROBS_H
#define COORDINATOR_LOGPROBS_H
#include "base/buf.h"
#include "base/err.h"
#include "base/sampling.h"
#include "coordinator/json_out.h"
#include "coordinator/request_parse.h"

struct tokenizer;

enum { LOGPROB_LISTS = 4 };

struct logprobs {
	struct buf list[LOGPROB_LISTS]; /* chat: only the first */
};

/* As the first token of a prompt has it: nothing came before, so nothing is said of it (completions only). */
MUST_USE enum err logprobs_add_unknown(struct logprobs *logprobs, const struct tokenizer *tokenizer, uint32_t token,
				       uint64_t offset);
/* vLLM's entry of one prompt token: {"17":{"logprob","rank","decoded_token"}, …}, it and the likeliest. */
MUST_USE enum err logprobs_put_prompt(const struct tokenizer *tokenizer, const struct sample *sample, uint32_t top_max,
				      struct json_out *out);
/* offset: characters of the text before this token. */
MUST_USE enum err logprobs_add(struct logprobs *logprobs, enum api_kind kind, const struct tokenizer *tokenizer,
			       const struct sample *sample, uint64_t offset);
/* Writes the object, and starts anew. */
void logprobs_put(struct logprobs *logprobs, enum api_kind kind, struct json_out *out);
void logprobs_fini(struct logprobs *logprobs);
#endif

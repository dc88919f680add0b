/* reply - what a client gets for a completion or a chat: one JSON body, or the events of a stream.
 *
 * Whole:  reply_whole().
 * Stream: for each answer reply_opening() once and reply_chunk() per token; then reply_last() once, then REPLY_DONE.
 *         Each appends one or more server-sent events, or nothing where there is nothing to say.
 * Owns nothing.  Loop: the service's. */
#ifndef COORDINATOR_REPLY_H
#define COORDINATOR_REPLY_H
#include <stdint.h>
#include "base/buf.h"
#include "base/err.h"
#include "coordinator/answer.h"
#include "coordinator/prompt.h"

#define REPLY_DONE "data: [DONE]\n\n"

struct reply {
	const struct api_request *request;
	const struct prompts *prompts;
	const char *model;
	char id[API_REQUEST_ID_MAX + 1];
	int64_t created;
	struct answer *answers; /* [answer_count]; those of a prompt lie together */
	uint32_t answer_count;
	uint64_t cached_tokens; /* of the prompts */
	const struct buf *prompt_logprobs; /* [prompts->count] entries with commas between; where the request asks for them */
	const struct buf *traces; /* what happened, an object a prompt with commas between (trace.h); NULL */
};

MUST_USE enum err reply_whole(const struct reply *reply, struct buf *out);
MUST_USE enum err reply_opening(const struct reply *reply, uint32_t answer, struct buf *out);
/* What the answer has since answer_sent(), which it calls. */
MUST_USE enum err reply_chunk(const struct reply *reply, uint32_t answer, struct buf *out);
MUST_USE enum err reply_last(const struct reply *reply, struct buf *out);
#endif

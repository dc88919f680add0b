/* answer - one choice on its way to the client: tokens go in, text and what goes with it come out.
 *
 * token -> detokenizer (whole characters) -> stopper (no stop string) -> speech (thoughts, calls) -> text
 *
 * What was added since the last answer_sent() is what the next chunk says; without streaming that is everything.
 * Owns its buffers.  Loop: the service's. */
#ifndef COORDINATOR_ANSWER_H
#define COORDINATOR_ANSWER_H
#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/err.h"
#include "base/sampling.h"
#include "coordinator/logprobs.h"
#include "coordinator/request_parse.h"
#include "coordinator/speech.h"
#include "coordinator/stop.h"
#include "model/detokenize.h"

struct answer {
	const struct api_request *request;
	struct detokenizer detokenizer;
	struct detokenizer echo; /* of the prompt, where it is echoed token by token */
	struct stopper stopper;
	bool speaks;             /* a chat of a model that thinks or calls: what it says is taken apart */
	struct speech speech;
	struct buf heard;        /* on its way from the stopper to it */
	struct buf text;
	struct buf reasoning;
	uint32_t calls_sent;     /* of the speech's: names that the client has */
	size_t arguments_sent;   /* of the last of those */
	uint64_t call_seed;      /* ids of calls are derived from it */
	uint32_t reasoning_tokens;
	struct buf ids;          /* "17,4,99" */
	struct logprobs logprobs;
	struct buf piece;        /* of the token at hand */
	uint32_t prompt;         /* which prompt it answers */
	uint32_t tokens;         /* generated */
	uint64_t characters;     /* of the text so far, before stop strings are cut off */
	enum finish finish;      /* not NONE: over */
	int stop_string;         /* of the request's set, or STOP_NONE */
	int64_t stop_token;      /* of stop_token_ids; -1: none */
	bool opened;             /* its first chunk was sent */
};

/* speech: how what it says is taken apart. */
void answer_init(struct answer *answer, const struct api_request *request, const struct tokenizer *tokenizer,
		 const struct speech_options *speech, uint32_t prompt);
void answer_fini(struct answer *answer);
/* Text in front of the answer (echo). */
MUST_USE enum err answer_echo(struct answer *answer, const uint32_t *ids, size_t count);
/* The same, token by token: what the model said of each but the first, whose sample is NULL. */
MUST_USE enum err answer_echo_token(struct answer *answer, uint32_t id, const struct sample *sample, bool last);
/* The next token.  finish: as the node says; the answer may be over by a stop string all the same.
 * stop_token: index into stop_token_ids plus 1, 0: none. */
MUST_USE enum err answer_token(struct answer *answer, const struct sample *sample, enum finish finish,
			       uint32_t stop_token);
/* What there was is with the client. */
void answer_sent(struct answer *answer);
#endif

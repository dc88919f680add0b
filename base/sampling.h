/* sampling - what a request asks of the sampler.  A value, the same at the API, on the wire and in the
 * engine.  Field names and meanings are OpenAI's and vLLM's. */
#ifndef BASE_SAMPLING_H
#define BASE_SAMPLING_H
#include <stdbool.h>
#include <stdint.h>

enum {
	SAMPLING_STOP_IDS_MAX = 16,
	SAMPLING_BIAS_MAX = 64,
	SAMPLING_TOP_LOGPROBS_MAX = 20,
	SAMPLING_CHOICES_MAX = 16,
};

struct sampling_bias {
	uint32_t token;
	float bias; /* added to the logit */
};

struct sampling {
	uint64_t seed;            /* always set: drawn once by the coordinator where the client gave none */
	float temperature;        /* 0: greedy */
	float top_p;              /* (0, 1]; 1: off */
	float min_p;              /* [0, 1]; 0: off */
	int32_t top_k;            /* <= 0: off */
	float presence_penalty;   /* over generated tokens, [-2, 2] */
	float frequency_penalty;  /* over generated tokens, [-2, 2] */
	float repetition_penalty; /* over prompt and generated tokens, (0, 2]; 1: off */
	uint32_t max_tokens;      /* generated tokens of a choice, >= 1 */
	uint32_t min_tokens;      /* stop tokens are masked before this many */
	int8_t logprobs;          /* -1: none; 0..20: of the chosen token and that many alternatives */
	uint8_t prompt_logprobs;  /* 0: none; else of each prompt token but the first, and one less alternatives: 1..21 */
	bool ignore_eos;
	bool structured;          /* the answer keeps a structure: an eos token comes only at its end, and then ends it */
	uint8_t stop_id_count;
	uint8_t bias_count;
	uint32_t stop_ids[SAMPLING_STOP_IDS_MAX]; /* stop_token_ids of the request */
	struct sampling_bias biases[SAMPLING_BIAS_MAX];
};

/* Why a choice ended, as the nodes know it (stop strings are the coordinator's).  The numbers are the wire's. */
enum finish { FINISH_NONE = 0, FINISH_STOP = 1, FINISH_LENGTH = 2 };

struct sample_top {
	uint32_t token;
	float logprob;
};

/* One token chosen for one choice, or one of the prompt that was scored.  Log-probabilities are of the model's raw distribution (before
 * temperature, penalties and cuts), as vLLM's default. */
struct sample {
	uint32_t token;
	float logprob;
	uint32_t rank; /* of a prompt token that was scored: 1 is the likeliest; else 0 */
	uint32_t top_count;
	struct sample_top top[SAMPLING_TOP_LOGPROBS_MAX]; /* most likely first; ties: lower token first */
};
#endif

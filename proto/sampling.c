#include <math.h>
#include <string.h>

#include "proto/codec.h"

void codec_sampling_put(const struct sampling *sampling, Wire__Sampling *wire, Wire__TokenBias *biases,
			Wire__TokenBias **bias_pointers)
{
	wire__sampling__init(wire);
	wire->seed = sampling->seed;
	wire->temperature = sampling->temperature;
	wire->top_p = sampling->top_p;
	wire->min_p = sampling->min_p;
	wire->top_k = sampling->top_k;
	wire->presence_penalty = sampling->presence_penalty;
	wire->frequency_penalty = sampling->frequency_penalty;
	wire->repetition_penalty = sampling->repetition_penalty;
	wire->max_tokens = sampling->max_tokens;
	wire->min_tokens = sampling->min_tokens;
	wire->logprobs = sampling->logprobs;
	wire->prompt_logprobs = sampling->prompt_logprobs;
	wire->ignore_eos = sampling->ignore_eos;
	wire->n_stop_ids = sampling->stop_id_count;
	wire->stop_ids = (uint32_t *)sampling->stop_ids; /* read only: packing does not write */
	for (uint8_t i = 0; i < sampling->bias_count; i++) {
		wire__token_bias__init(&biases[i]);
		biases[i].token = sampling->biases[i].token;
		biases[i].bias = sampling->biases[i].bias;
		bias_pointers[i] = &biases[i];
	}
	wire->n_biases = sampling->bias_count;
	wire->biases = bias_pointers;
}

static bool within(float value, float low, float high)
{
	return isfinite(value) && value >= low && value <= high;
}

static enum err check_ranges(const Wire__Sampling *wire, struct why *why)
{
	if (!within(wire->temperature, 0, 100))
		return why_set(why, ERR_INVALID, "temperature %g, expected 0 to 100", (double)wire->temperature);
	if (!within(wire->top_p, 0, 1) || wire->top_p <= 0)
		return why_set(why, ERR_INVALID, "top_p %g, expected above 0 and at most 1", (double)wire->top_p);
	if (!within(wire->min_p, 0, 1))
		return why_set(why, ERR_INVALID, "min_p %g, expected 0 to 1", (double)wire->min_p);
	if (!within(wire->presence_penalty, -2, 2) || !within(wire->frequency_penalty, -2, 2))
		return why_set(why, ERR_INVALID, "presence_penalty or frequency_penalty outside -2 to 2");
	if (!within(wire->repetition_penalty, 0, 100) || wire->repetition_penalty <= 0)
		return why_set(why, ERR_INVALID, "repetition_penalty %g, expected above 0",
			       (double)wire->repetition_penalty);
	if (wire->max_tokens < 1)
		return why_set(why, ERR_INVALID, "max_tokens 0, expected at least 1");
	if (wire->logprobs < -1 || wire->logprobs > SAMPLING_TOP_LOGPROBS_MAX)
		return why_set(why, ERR_INVALID, "logprobs %d, expected at most %d", wire->logprobs,
			       SAMPLING_TOP_LOGPROBS_MAX);
	if (wire->prompt_logprobs > SAMPLING_TOP_LOGPROBS_MAX + 1)
		return why_set(why, ERR_INVALID, "prompt_logprobs %u, expected at most %d", wire->prompt_logprobs,
			       SAMPLING_TOP_LOGPROBS_MAX + 1);
	if (wire->n_stop_ids > SAMPLING_STOP_IDS_MAX || wire->n_biases > SAMPLING_BIAS_MAX)
		return why_set(why, ERR_TOO_LARGE, "%zu stop tokens and %zu biases, at most %d and %d",
			       wire->n_stop_ids, wire->n_biases, SAMPLING_STOP_IDS_MAX, SAMPLING_BIAS_MAX);
	return ERR_OK;
}

enum err codec_sampling_get(const Wire__Sampling *wire, struct why *why, struct sampling *ret_sampling)
{
	enum err e = check_ranges(wire, why);
	if (e != ERR_OK)
		return e;
	*ret_sampling = (struct sampling){
		.seed = wire->seed,
		.temperature = wire->temperature,
		.top_p = wire->top_p,
		.min_p = wire->min_p,
		.top_k = wire->top_k,
		.presence_penalty = wire->presence_penalty,
		.frequency_penalty = wire->frequency_penalty,
		.repetition_penalty = wire->repetition_penalty,
		.max_tokens = wire->max_tokens,
		.min_tokens = wire->min_tokens,
		.logprobs = (int8_t)wire->logprobs,
		.prompt_logprobs = (uint8_t)wire->prompt_logprobs,
		.ignore_eos = wire->ignore_eos,
		.stop_id_count = (uint8_t)wire->n_stop_ids,
		.bias_count = (uint8_t)wire->n_biases,
	};
	if (wire->n_stop_ids)
		memcpy(ret_sampling->stop_ids, wire->stop_ids, wire->n_stop_ids * sizeof(uint32_t));
	for (size_t i = 0; i < wire->n_biases; i++)
		ret_sampling->biases[i] = (struct sampling_bias){wire->biases[i]->token, wire->biases[i]->bias};
	return ERR_OK;
}

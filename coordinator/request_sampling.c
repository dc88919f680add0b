/* request_sampling - the fields that say how tokens are drawn, how many, and what ends them. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/request_impl.h"

static void read_lengths(struct fields *f, struct api_request *r)
{
	struct sampling *s = &r->sampling;
	s->max_tokens = (uint32_t)field_integer(f, "max_tokens", 0, INT32_MAX, 0);
	if (field_get(f, "max_tokens") && s->max_tokens == 0) {
		r->echo_only = r->kind == API_COMPLETION && field_bool(f, "echo", false);
		if (!r->echo_only)
			field_refuse(f, "max_tokens", "is 0, expected at least 1; completions with \"echo\" take 0");
		s->max_tokens = 1;
	}
	if (r->kind == API_CHAT)
		s->max_tokens = (uint32_t)field_integer(f, "max_completion_tokens", 1, INT32_MAX, s->max_tokens);
	s->min_tokens = (uint32_t)field_integer(f, "min_tokens", 0, INT32_MAX, 0);
	if (s->max_tokens && s->min_tokens > s->max_tokens)
		field_refuse(f, "min_tokens", "is %u, over max_tokens %u", s->min_tokens, s->max_tokens);
}

static void read_numbers(struct fields *f, struct api_request *r)
{
	struct sampling *s = &r->sampling;
	s->temperature = (float)field_number(f, "temperature", 0, 2, 1);
	s->top_p = (float)field_above(f, "top_p", 0, 1, 1);
	s->top_k = (int32_t)field_integer(f, "top_k", -1, INT32_MAX, -1);
	s->min_p = (float)field_number(f, "min_p", 0, 1, 0);
	s->presence_penalty = (float)field_number(f, "presence_penalty", -2, 2, 0);
	s->frequency_penalty = (float)field_number(f, "frequency_penalty", -2, 2, 0);
	s->repetition_penalty = (float)field_above(f, "repetition_penalty", 0, 2, 1);
	s->ignore_eos = field_bool(f, "ignore_eos", false);
	r->has_seed = field_get(f, "seed") != NULL;
	s->seed = (uint64_t)field_integer(f, "seed", INT64_MIN, INT64_MAX, 0);
	r->n = (uint32_t)field_integer(f, "n", 1, SAMPLING_CHOICES_MAX, 1);
}

/* Of the prompt's own tokens: by name, or because the prompt is echoed with log-probabilities. */
static void read_prompt_logprobs(struct fields *f, struct api_request *r)
{
	int64_t named = field_integer(f, "prompt_logprobs", 0, SAMPLING_TOP_LOGPROBS_MAX, -1);
	bool echo = r->kind == API_COMPLETION && field_bool(f, "echo", false);
	int64_t echoed = echo ? r->sampling.logprobs : -1;
	r->prompt_logprobs = named >= 0;
	r->prompt_top = named > 0 ? (uint8_t)named : 0;
	r->sampling.prompt_logprobs = (uint8_t)(1 + (named > echoed ? named : echoed));
	if (named >= 0 && field_bool(f, "stream", false))
		field_refuse(f, "prompt_logprobs", "not together with \"stream\": true");
}

/* Chat: a yes, and a number beside it.  Else: a number. */
static void read_logprobs(struct fields *f, struct api_request *r)
{
	if (r->kind != API_CHAT) {
		r->sampling.logprobs = (int8_t)field_integer(f, "logprobs", 0, SAMPLING_TOP_LOGPROBS_MAX, -1);
		return;
	}
	bool wanted = field_bool(f, "logprobs", false);
	int64_t top = field_integer(f, "top_logprobs", 0, SAMPLING_TOP_LOGPROBS_MAX, 0);
	if (top > 0 && !wanted)
		field_refuse(f, "top_logprobs", "only with \"logprobs\": true");
	r->sampling.logprobs = wanted ? (int8_t)top : -1;
}

static void add_stop(struct fields *f, struct api_request *r, const json_t *text)
{
	struct stop_set *stop = &r->stop;
	size_t length = json_string_length(text);
	if (!json_is_string(text) || length == 0 || length > STOP_BYTES_MAX || stop->count == STOP_MAX) {
		char got[FIELD_GOT];
		const json_t *all = field_get(f, "stop");
		bool many = json_array_size(all) > STOP_MAX;
		field_refuse(f, "stop", "%s%s, expected a text of 1 to %d bytes, or a list of at most %d of them",
			     many ? "a list too long" : json_is_array(all) ? "an item " : "",
			     many ? "" : field_describe(text, got), STOP_BYTES_MAX, STOP_MAX);
		return;
	}
	stop->text[stop->count] = json_string_value(text);
	stop->length[stop->count++] = length;
}

static void read_stop(struct fields *f, struct api_request *r)
{
	const json_t *stop = field_get(f, "stop");
	size_t i;
	json_t *item;
	if (json_is_array(stop)) {
		json_array_foreach((json_t *)stop, i, item)
			add_stop(f, r, item);
	} else if (stop) {
		add_stop(f, r, stop);
	}
	r->stop.include = field_bool(f, "include_stop_str_in_output", false);
}

static void read_stop_ids(struct fields *f, struct api_request *r)
{
	const json_t *ids = field_get(f, "stop_token_ids");
	struct sampling *s = &r->sampling;
	if (!ids)
		return;
	bool good = json_is_array(ids) && json_array_size(ids) <= SAMPLING_STOP_IDS_MAX;
	for (size_t i = 0; good && i < json_array_size(ids); i++) {
		const json_t *id = json_array_get(ids, i);
		good = json_is_integer(id) && json_integer_value(id) >= 0 && json_integer_value(id) <= INT32_MAX;
		s->stop_ids[s->stop_id_count++] = (uint32_t)json_integer_value(id);
	}
	if (!good)
		field_refuse(f, "stop_token_ids", "is %s, expected a list of at most %d token ids",
			     json_is_array(ids) ? "a list too long, or of something else" : "no list", SAMPLING_STOP_IDS_MAX);
}

static int by_token(const void *a, const void *b)
{
	const struct sampling_bias *x = a, *y = b;
	return (x->token > y->token) - (x->token < y->token);
}

static void read_bias(struct fields *f, struct api_request *r)
{
	const json_t *biases = field_get(f, "logit_bias");
	struct sampling *s = &r->sampling;
	const char *key;
	json_t *value;
	if (!biases)
		return;
	if (!json_is_object(biases) || json_object_size(biases) > SAMPLING_BIAS_MAX) {
		char got[FIELD_GOT];
		field_refuse(f, "logit_bias", "%s, expected an object of at most %d token ids", field_describe(biases, got),
			     SAMPLING_BIAS_MAX);
		return;
	}
	json_object_foreach((json_t *)biases, key, value)
	{
		char *end;
		long long id = strtoll(key, &end, 10);
		double bias = json_number_value(value);
		if (key[0] < '0' || key[0] > '9' || *end || id > INT32_MAX)
			field_refuse(f, "logit_bias", "key \"%.40s\", expected a token id", key);
		else if (!json_is_number(value) || bias < -100 || bias > 100)
			field_refuse(f, "logit_bias", "of token %lld: expected a number from -100 to 100", id);
		else
			s->biases[s->bias_count++] = (struct sampling_bias){(uint32_t)id, (float)bias};
	}
	/* The order of an object's keys is nobody's business (law 1). */
	qsort(s->biases, s->bias_count, sizeof(s->biases[0]), by_token);
}

void request_read_sampling(struct fields *f, struct api_request *r)
{
	read_numbers(f, r);
	read_lengths(f, r);
	read_logprobs(f, r);
	read_prompt_logprobs(f, r);
	read_stop(f, r);
	read_stop_ids(f, r);
	read_bias(f, r);
}

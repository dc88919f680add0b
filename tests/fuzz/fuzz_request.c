/* Any bytes as the body of a completion and of a chat.  What is accepted must be what nodes accept (proto/codec.h), and its
 * stop strings cut any text, in any pieces, without holding anything back for ever. */
#include <stdlib.h>
#include <string.h>

#include "coordinator/request_parse.h"
#include "proto/codec.h"

static void check_sampling(const struct api_request *request)
{
	struct sampling sampling = request->sampling, again;
	Wire__Sampling wire;
	Wire__TokenBias biases[SAMPLING_BIAS_MAX], *pointers[SAMPLING_BIAS_MAX];
	struct why why;
	if (!sampling.max_tokens)
		sampling.max_tokens = 1; /* settled against the context later */
	codec_sampling_put(&sampling, &wire, biases, pointers);
	if (codec_sampling_get(&wire, &why, &again) != ERR_OK)
		abort();
}

static void check_stops(const struct api_request *request, const char *text, size_t length)
{
	struct stopper stopper;
	struct buf out = {0};
	int match = STOP_NONE;
	stopper_init(&stopper, &request->stop);
	for (size_t at = 0; at < length && match == STOP_NONE; at += 7)
		if (stopper_feed(&stopper, text + at, length - at < 7 ? length - at : 7, false, &out, &match) != ERR_OK)
			abort();
	if (match == STOP_NONE && (stopper_finish(&stopper, &out) != ERR_OK || out.length != length))
		abort();
	if (out.length && memcmp(out.data, text, out.length) != 0)
		abort();
	stopper_fini(&stopper);
	buf_fini(&out);
}

static void check_error(const struct api_error *error)
{
	struct buf body = {0};
	if (error->status != 400 || api_error_body(error, &body) != ERR_OK)
		abort();
	json_t *json = json_loadb(body.data, body.length, 0, NULL);
	if (!json_is_object(json_object_get(json, "error")))
		abort();
	json_decref(json);
	buf_fini(&body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	for (int kind = API_COMPLETION; kind < API_KINDS; kind++) {
		struct api_request request;
		struct api_error error = {0};
		if (api_request_parse((enum api_kind)kind, (const char *)data, length, &request, &error) != ERR_OK) {
			check_error(&error);
			continue;
		}
		check_sampling(&request);
		check_stops(&request, (const char *)data, length);
		api_request_fini(&request);
	}
	return 0;
}

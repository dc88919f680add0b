/* generate_format - a choice of /inference/v1/generate: tokens and no text, the same whole and in pieces. */
#include "coordinator/reply_impl.h"

void generate_choice(struct json_out *out, struct answer *answer)
{
	reply_logprobs(out, answer);
	reply_finish(out, answer);
	reply_ids(out, answer);
}

/* completion_format - a choice of /v1/completions: the same whole and in pieces. */
#include "coordinator/reply_impl.h"

void completion_choice(struct json_out *out, const struct reply *reply, struct answer *answer)
{
	json_out_key(out, "text");
	json_out_text(out, answer->text.data ? answer->text.data : "", answer->text.length);
	reply_logprobs(out, answer);
	reply_finish(out, answer);
	reply_ids(out, answer);
	if (answer->opened)
		return;
	reply_prompt_ids(out, reply, answer->prompt);
	reply_prompt_logprobs(out, reply, answer->prompt);
}

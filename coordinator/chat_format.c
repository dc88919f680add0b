/* chat_format - a choice of /v1/chat/completions. */
#include "coordinator/reply_impl.h"

static void put_content(struct json_out *out, const struct answer *answer)
{
	json_out_key(out, "content");
	json_out_text(out, answer->text.data ? answer->text.data : "", answer->text.length);
}

void chat_choice(struct json_out *out, struct answer *answer)
{
	json_put_open(out, "message", '{');
	json_put_text(out, "role", "assistant");
	put_content(out, answer);
	json_out_close(out, '}');
	reply_logprobs(out, answer);
	reply_finish(out, answer);
	reply_ids(out, answer);
}

void chat_opening(struct json_out *out)
{
	json_put_open(out, "delta", '{');
	json_put_text(out, "role", "assistant");
	json_put_text(out, "content", "");
	json_out_close(out, '}');
	json_put_null(out, "logprobs");
	json_put_null(out, "finish_reason");
}

void chat_delta(struct json_out *out, struct answer *answer)
{
	json_put_open(out, "delta", '{');
	put_content(out, answer);
	json_out_close(out, '}');
	reply_logprobs(out, answer);
	reply_finish(out, answer);
	reply_ids(out, answer);
}

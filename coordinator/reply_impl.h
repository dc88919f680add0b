/* reply_impl - the shapes of a choice, between the files of reply. */
#ifndef COORDINATOR_REPLY_IMPL_H
#define COORDINATOR_REPLY_IMPL_H
#include "coordinator/json_out.h"
#include "coordinator/reply.h"

/* Each writes the fields of a choice into an object that is open. */
void chat_choice(struct json_out *out, struct answer *answer);  /* message */
void chat_opening(struct json_out *out);                        /* delta with the role */
void chat_delta(struct json_out *out, struct answer *answer);   /* delta with what is new */
void completion_choice(struct json_out *out, const struct reply *reply, struct answer *answer);
void generate_choice(struct json_out *out, struct answer *answer);

/* Fields that all shapes end with. */
void reply_logprobs(struct json_out *out, struct answer *answer);
void reply_finish(struct json_out *out, const struct answer *answer);
void reply_ids(struct json_out *out, const struct answer *answer);
/* prompt_logprobs, where asked for: null for the first token, then an entry for each. */
void reply_prompt_logprobs(struct json_out *out, const struct reply *reply, uint32_t prompt);
void reply_prompt_ids(struct json_out *out, const struct reply *reply, uint32_t prompt);
#endif

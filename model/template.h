/* template - the chat template: messages become the text that a model was trained on.
 *
 * A subset of Jinja as Hugging Face configures it (trim_blocks, lstrip_blocks, loop controls): README
 * lists what is there.  What is not is refused when parsing, with its line.
 * Thread: any number may render one template at a time; nothing in it changes after parsing.
 * Bounds: source 1 MiB, nesting 100, and per rendering the limits of struct template_options. */
#ifndef MODEL_TEMPLATE_H
#define MODEL_TEMPLATE_H
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/err.h"
#include "base/why.h"

struct chat_template;

/* Zero in a field means its default: together at most some 50 ms and 16 MiB, and what the messages themselves take. */
struct template_options {
	uint64_t step_max;   /* nodes evaluated and items copied, some 20 ns each; 1,000,000 */
	uint64_t memory_max; /* bytes of intermediate values; 16 MiB, and eight times the texts that come in */
	uint64_t output_max; /* bytes of text; 16 MiB */
	int64_t now_s;       /* what strftime_now() tells, in UTC: seconds since 1970 */
};

MUST_USE enum err chat_template_parse(const char *source, size_t length, struct why *why,
				      struct chat_template **ret_template);
void chat_template_destroy(struct chat_template *chat_template);

/* Its source holds that text. */
bool chat_template_mentions(const struct chat_template *chat_template, const char *text);
/* It goes through a content that is a list of parts; of others, a content is one text. */
bool chat_template_takes_parts(const struct chat_template *chat_template);

/* Appends the text to `out`.  `variables` is an object: messages, add_generation_prompt, bos_token,
 * eos_token, tools and whatever else the template names; a name that is missing is undefined, as in Jinja.
 * ERR_INVALID: the template raised an exception or a value has the wrong kind: the reason says which;
 * ERR_TOO_LARGE: over a limit.  `out` is as before then. */
MUST_USE enum err chat_template_render(const struct chat_template *chat_template, const json_t *variables,
				       const struct template_options *options, struct why *why,
				       struct buf *out);
#endif

/* Any text as a chat template, rendered within tight limits. */
#include "model/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	struct why why;
	struct chat_template *chat_template;
	if (chat_template_parse((const char *)data, length, &why, &chat_template) != ERR_OK)
		return 0;
	json_t *variables = json_pack("{s:[{s:s,s:s}], s:b, s:s}", "messages", "role", "user", "content", "hi",
				      "add_generation_prompt", 1, "bos_token", "<s>");
	struct template_options limits = {.step_max = 100000, .memory_max = 16 << 20, .output_max = 1 << 16};
	struct buf out = {0};
	enum err e = chat_template_render(chat_template, variables, &limits, &why, &out);
	(void)e;
	buf_fini(&out);
	json_decref(variables);
	chat_template_destroy(chat_template);
	return 0;
}

/* template_set - the chat templates of a model directory, by name.
 *
 * Most have one; some have others for tools ("tool_use") and documents ("rag").  They are read from chat_template.jinja
 * and additional_chat_templates/NAME.jinja, else from tokenizer_config.json, else from chat_template.json.
 * Owns its templates and names.  Bounds: TEMPLATES_MAX templates. */
#ifndef MODEL_TEMPLATE_SET_H
#define MODEL_TEMPLATE_SET_H
#include <jansson.h>
#include <stdbool.h>
#include "base/err.h"
#include "base/why.h"
#include "model/template.h"

enum { TEMPLATES_MAX = 8 };

struct template_set {
	struct named_template {
		char *name;
		struct chat_template *chat_template;
	} list[TEMPLATES_MAX];
	uint32_t count; /* 0: the model has none */
};

/* config: what tokenizer_config.json holds; NULL: there is no such file. */
MUST_USE enum err template_set_read(struct template_set *set, const char *dir, const json_t *config, struct why *why);
void template_set_fini(struct template_set *set);

/* That of the name; NULL: there is none. */
const struct chat_template *template_set_find(const struct template_set *set, const char *name);
/* For a chat with or without tools, as transformers chooses; NULL: there is none for it. */
const struct chat_template *template_set_choose(const struct template_set *set, bool with_tools);
#endif

#include "model/template_set.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/json_in.h"

#define FILE_BYTES_MAX ((size_t)4 << 20)

static enum err add(struct template_set *set, const char *name, const char *source, size_t length, const char *file,
		    struct why *why)
{
	struct named_template entry = {0};
	if (set->count == TEMPLATES_MAX)
		return why_set(why, ERR_TOO_LARGE, "%s: over %d chat templates", file, TEMPLATES_MAX);
	enum err e = chat_template_parse(source, length, why, &entry.chat_template);
	if (e != ERR_OK) {
		why_prefix(why, "%s", file);
		return e;
	}
	entry.name = strdup(name);
	if (!entry.name) {
		chat_template_destroy(entry.chat_template);
		return ERR_NOMEM;
	}
	set->list[set->count++] = entry;
	return ERR_OK;
}

/* ERR_NOT_FOUND: there is no such file. */
static enum err read_part(const char *dir, const char *file, struct why *why, char **ret_data, size_t *ret_length)
{
	char path[PATH_MAX];
	if (snprintf(path, sizeof(path), "%s/%s", dir, file) >= (int)sizeof(path))
		return why_set(why, ERR_TOO_LARGE, "%s: path too long", dir);
	return file_read(path, FILE_BYTES_MAX, why, ret_data, ret_length);
}

static enum err add_file(struct template_set *set, const char *dir, const char *file, const char *name, struct why *why)
{
	char *text;
	size_t length;
	enum err e = read_part(dir, file, why, &text, &length);
	if (e != ERR_OK)
		return e;
	e = add(set, name, text, length, file, why);
	free(text);
	return e;
}

static enum err add_jinja_files(struct template_set *set, const char *dir, struct why *why)
{
	static const char *const further[] = {"tool_use", "rag"};
	enum err e = add_file(set, dir, "chat_template.jinja", "default", why);
	for (size_t i = 0; e == ERR_OK && i < sizeof(further) / sizeof(further[0]); i++) {
		char file[64];
		snprintf(file, sizeof(file), "additional_chat_templates/%s.jinja", further[i]);
		e = add_file(set, dir, file, further[i], why);
		e = e == ERR_NOT_FOUND ? ERR_OK : e;
	}
	return e;
}

/* One template, or a list of named ones. */
static enum err add_value(struct template_set *set, const json_t *value, const char *file, struct why *why)
{
	if (json_is_string(value))
		return add(set, "default", json_string_value(value), json_string_length(value), file, why);
	enum err e = ERR_OK;
	for (size_t i = 0; e == ERR_OK && i < json_array_size(value); i++) {
		const json_t *entry = json_array_get(value, i);
		const char *name = json_string_value(json_object_get(entry, "name"));
		const json_t *source = json_object_get(entry, "template");
		if (!name || !json_is_string(source))
			return why_set(why, ERR_INVALID, "%s: chat_template[%zu]: expected a name and a template", file, i);
		e = add(set, name, json_string_value(source), json_string_length(source), file, why);
	}
	return e;
}

static enum err add_json_file(struct template_set *set, const char *dir, struct why *why)
{
	char *text;
	size_t length;
	json_t *object = NULL;
	enum err e = read_part(dir, "chat_template.json", why, &text, &length);
	if (e != ERR_OK)
		return e;
	e = json_in_parse(text, length, "chat_template.json", why, &object);
	if (e == ERR_OK)
		e = add_value(set, json_object_get(object, "chat_template"), "chat_template.json", why);
	json_decref(object);
	free(text);
	return e;
}

enum err template_set_read(struct template_set *set, const char *dir, const json_t *config, struct why *why)
{
	*set = (struct template_set){0};
	enum err e = add_jinja_files(set, dir, why);
	if (e == ERR_NOT_FOUND)
		e = add_value(set, json_object_get(config, "chat_template"), "tokenizer_config.json", why);
	if (e == ERR_OK && set->count == 0)
		e = add_json_file(set, dir, why);
	if (e != ERR_OK && e != ERR_NOT_FOUND)
		template_set_fini(set);
	return e == ERR_NOT_FOUND ? ERR_OK : e;
}

void template_set_fini(struct template_set *set)
{
	for (uint32_t i = 0; i < set->count; i++) {
		chat_template_destroy(set->list[i].chat_template);
		free(set->list[i].name);
	}
	set->count = 0;
}

const struct chat_template *template_set_find(const struct template_set *set, const char *name)
{
	for (uint32_t i = 0; i < set->count; i++)
		if (strcmp(set->list[i].name, name) == 0)
			return set->list[i].chat_template;
	return NULL;
}

const struct chat_template *template_set_choose(const struct template_set *set, bool with_tools)
{
	const struct chat_template *for_tools = with_tools ? template_set_find(set, "tool_use") : NULL;
	return for_tools ? for_tools : template_set_find(set, "default");
}

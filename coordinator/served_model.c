#include "coordinator/served_model.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "model/model_dir.h"
#include "model/token_trie.h"

static uint32_t longest_token(const struct tokenizer *tokenizer)
{
	uint32_t longest = 1;
	for (uint32_t id = 0; id < tokenizer_vocab_size(tokenizer); id++) {
		const uint8_t *bytes;
		size_t length;
		if (tokenizer_token_bytes(tokenizer, id, &bytes, &length) == ERR_OK && length > longest)
			longest = (uint32_t)length;
	}
	return longest;
}

/* ---- how it speaks */

static bool mentions(const struct served_model *model, const char *text)
{
	if (model->chat_template)
		return chat_template_mentions(model->chat_template, text);
	const struct template_set *set = &model->dir->templates;
	for (uint32_t i = 0; i < set->count; i++)
		if (chat_template_mentions(set->list[i].chat_template, text))
			return true;
	return false;
}

/* By what the template writes of earlier calls; the first that fits. */
static enum tool_format guess_tools(const struct served_model *model)
{
	static const struct {
		const char *marker;
		enum tool_format format;
	} marks[] = {
		{"<|channel|>", TOOL_OPENAI}, {"<function=", TOOL_QWEN3_CODER}, {"<tool_call>", TOOL_HERMES},
		{"[TOOL_CALLS]", TOOL_MISTRAL}, {"<｜tool▁calls▁begin｜>", TOOL_DEEPSEEK_V3},
		{"<|python_tag|>", TOOL_LLAMA3_JSON}, {"functools", TOOL_PHI4_MINI}, {"<|tool|>", TOOL_PHI4_MINI},
	};
	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
		if (mentions(model, marks[i].marker))
			return marks[i].format;
	/* Llama 3.2 has no tag of its own. */
	return mentions(model, "<|start_header_id|>ipython") ? TOOL_LLAMA3_JSON : TOOL_NONE;
}

static enum reasoning_format guess_reasoning(const struct served_model *model)
{
	if (mentions(model, "<|channel|>"))
		return REASONING_OPENAI;
	return mentions(model, "</think>") || mentions(model, "<think>") ? REASONING_THINK : REASONING_NONE;
}

enum err served_model_formats(struct served_model *model, const char *tools, const char *reasoning, struct why *why)
{
	model->tool_format = tools && strcmp(tools, "auto") != 0 ? tool_format_find(tools) : guess_tools(model);
	model->reasoning_format = reasoning && strcmp(reasoning, "auto") != 0 ? reasoning_format_find(reasoning)
									      : guess_reasoning(model);
	model->names_first = mentions(model, "[ARGS]");
	if (model->tool_format == TOOL_FORMATS)
		return why_set(why, ERR_INVALID,
			       "--tool-call-parser %s: expected auto, none, hermes, qwen3_coder, llama3_json, mistral, "
			       "deepseek_v3, phi4_mini_json or openai", tools);
	if (model->reasoning_format == REASONING_FORMATS)
		return why_set(why, ERR_INVALID,
			       "--reasoning-parser %s: expected auto, none, qwen3, deepseek_r1 or openai_gptoss", reasoning);
	return ERR_OK;
}

/* ---- its directory */

enum err served_model_borrow(struct model_dir *dir, const char *name, uint32_t context_max, struct served_model *ret_model)
{
	uint32_t most = dir->config.position_max;
	struct token_trie *tokens;
	enum err e = token_trie_create(dir->tokenizer, &tokens);
	if (e != ERR_OK)
		return e;
	*ret_model = (struct served_model){
		.dir = dir,
		.tokens = tokens,
		.context_max = context_max && context_max < most ? context_max : most,
		.token_bytes_max = longest_token(dir->tokenizer),
		.created = (int64_t)time(NULL),
	};
	snprintf(ret_model->name, sizeof(ret_model->name), "%s", name && *name ? name : dir->name);
	return served_model_formats(ret_model, NULL, NULL, NULL);
}

void served_model_fini(struct served_model *model)
{
	token_trie_destroy(model->tokens);
	chat_template_destroy(model->chat_template);
	model->tokens = NULL;
	model->chat_template = NULL;
}

enum err served_model_open(const char *spec, uint32_t context_max, struct why *why, struct served_model *ret_model)
{
	const char *equals = strchr(spec, '=');
	const char *slash = strchr(spec, '/');
	if (slash && equals > slash)
		equals = NULL; /* of the path */
	char name[COORD_TEXT_MAX + 1] = "";
	if (equals && ((size_t)(equals - spec) >= sizeof(name) || equals == spec))
		return why_set(why, ERR_INVALID, "--model %s: the name before = wants 1 to %d bytes", spec, COORD_TEXT_MAX);
	if (equals)
		snprintf(name, sizeof(name), "%.*s", (int)(equals - spec), spec);
	static const struct model_dir_options options = {.without_weights = true};
	struct model_dir *dir;
	enum err e = model_dir_open(equals ? equals + 1 : spec, &options, why, &dir);
	if (e != ERR_OK)
		return e;
	e = served_model_borrow(dir, name, context_max, ret_model);
	if (e != ERR_OK)
		model_dir_close(dir);
	return e;
}

static enum err read_file(const char *path, struct why *why, struct buf *text)
{
	FILE *file = fopen(path, "rb");
	if (!file)
		return why_set(why, ERR_NOT_FOUND, "--chat-template %s: cannot be read", path);
	char piece[4096];
	enum err e = ERR_OK;
	for (size_t n; e == ERR_OK && (n = fread(piece, 1, sizeof(piece), file)) > 0; )
		e = buf_append(text, piece, n);
	fclose(file);
	return e == ERR_OK ? e : why_set(why, e, "--chat-template %s: over %zu bytes", path, text->limit);
}

enum err served_model_template(struct served_model *model, const char *template_or_path, struct why *why)
{
	struct buf text = {.limit = 1 << 20};
	bool inline_text = strpbrk(template_or_path, "{}\n");
	enum err e = inline_text ? buf_text(&text, template_or_path) : read_file(template_or_path, why, &text);
	if (e == ERR_OK)
		e = chat_template_parse(text.data ? text.data : "", text.length, why, &model->chat_template);
	if (e != ERR_OK && !inline_text)
		why_prefix(why, "%s", template_or_path);
	buf_fini(&text);
	return e;
}

void served_model_close(struct served_model *model)
{
	served_model_fini(model);
	model_dir_close(model->dir);
	model->dir = NULL;
}

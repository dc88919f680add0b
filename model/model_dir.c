#include "model/model_dir.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "model/json_in.h"
#include "model/tensors.h"

#define TOKENIZER_BYTES_MAX ((size_t)64 << 20)
#define CONFIG_BYTES_MAX    ((size_t)4 << 20)

static void hash_u64(struct sha256 *sha, uint64_t number)
{
	uint8_t bytes[8];
	for (int i = 0; i < 8; i++)
		bytes[i] = (uint8_t)(number >> (8 * i));
	sha256_add(sha, bytes, sizeof(bytes));
}

/* Length first, so that no two lists of files hash alike. */
static void hash_bytes(struct sha256 *sha, const void *data, size_t length)
{
	hash_u64(sha, length);
	sha256_add(sha, data, length);
}

static enum err read_part(const char *dir, const char *name, size_t max, struct why *why, char **ret_data,
			  size_t *ret_length)
{
	char path[PATH_MAX];
	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
		return why_set(why, ERR_TOO_LARGE, "%s: path too long", dir);
	return file_read(path, max, why, ret_data, ret_length);
}

/* Directories of the first years have SentencePiece's own file instead. */
static enum err read_tokenizer_json(const struct model_dir *dir, struct why *why, char **ret_json, size_t *ret_length)
{
	char other[PATH_MAX];
	enum err e = read_part(dir->path, "tokenizer.json", TOKENIZER_BYTES_MAX, why, ret_json, ret_length);
	if (e != ERR_NOT_FOUND || snprintf(other, sizeof(other), "%s/tokenizer.model", dir->path) >= (int)sizeof(other) ||
	    access(other, F_OK) != 0)
		return e;
	return why_set(why, ERR_UNSUPPORTED, "%s: expected a tokenizer.json; make it with Python's transformers: "
		       "AutoTokenizer.from_pretrained(\"DIR\", use_fast=True).save_pretrained(\"DIR\")", other);
}

static enum err open_tokenizer(struct model_dir *dir, struct why *why)
{
	char *json, *config;
	size_t length, config_length;
	enum err e = read_tokenizer_json(dir, why, &json, &length);
	if (e != ERR_OK)
		return e;
	e = tokenizer_parse(json, length, why, &dir->tokenizer);
	if (e == ERR_OK && tokenizer_limit(dir->tokenizer, dir->config.vocab_size) != ERR_OK)
		e = why_set(why, ERR_MISMATCH, "tokenizer.json: has ids up to %u, config.json: vocab_size is %u",
			    tokenizer_vocab_size(dir->tokenizer) - 1, dir->config.vocab_size);
	if (e == ERR_OK)
		e = read_part(dir->path, "config.json", CONFIG_BYTES_MAX, why, &config, &config_length);
	if (e == ERR_OK) {
		struct sha256 sha;
		sha256_init(&sha);
		hash_bytes(&sha, config, config_length);
		hash_bytes(&sha, json, length);
		sha256_end(&sha, dir->text_fingerprint);
		free(config);
	}
	free(json);
	return e;
}

/* "<s>", or an added token's object that holds it. */
static enum err read_spelling(const json_t *config, const char *key, char **ret_spelling)
{
	const json_t *value = json_object_get(config, key);
	const char *text = json_string_value(json_is_object(value) ? json_object_get(value, "content") : value);
	*ret_spelling = text ? strdup(text) : NULL;
	return text && !*ret_spelling ? ERR_NOMEM : ERR_OK;
}

/* One template, or a list of named ones of which "default" counts. */
static const json_t *find_template(const json_t *config)
{
	const json_t *value = json_object_get(config, "chat_template");
	for (size_t i = 0; i < json_array_size(value); i++) {
		const json_t *entry = json_array_get(value, i);
		const char *name = json_string_value(json_object_get(entry, "name"));
		if (name && strcmp(name, "default") == 0)
			return json_object_get(entry, "template");
	}
	return json_is_string(value) ? value : NULL;
}

static enum err read_tokenizer_config(struct model_dir *dir, const char *json, size_t length, struct why *why)
{
	json_t *config = NULL;
	enum err e = json_in_parse(json, length, "tokenizer_config.json", why, &config);
	if (e != ERR_OK)
		return e;
	e = read_spelling(config, "bos_token", &dir->bos_token);
	if (e == ERR_OK)
		e = read_spelling(config, "eos_token", &dir->eos_token);
	const json_t *source = find_template(config);
	if (e == ERR_OK && source && !dir->chat_template)
		e = chat_template_parse(json_string_value(source), json_string_length(source), why,
					&dir->chat_template);
	json_decref(config);
	return e;
}

/* chat_template.jinja, as newer directories have it, wins over tokenizer_config.json. */
static enum err open_template(struct model_dir *dir, struct why *why)
{
	char *text = NULL;
	size_t length;
	enum err e = read_part(dir->path, "chat_template.jinja", CONFIG_BYTES_MAX, why, &text, &length);
	if (e == ERR_OK) {
		e = chat_template_parse(text, length, why, &dir->chat_template);
		free(text);
	}
	if (e != ERR_OK && e != ERR_NOT_FOUND)
		return e;
	e = read_part(dir->path, "tokenizer_config.json", CONFIG_BYTES_MAX, why, &text, &length);
	if (e != ERR_OK)
		return e == ERR_NOT_FOUND ? ERR_OK : e;
	e = read_tokenizer_config(dir, text, length, why);
	free(text);
	return e;
}

/* By name and tensor by tensor, each with a digest of its own: shards do not show, and big weights may be
 * hashed in parallel without changing the result. */
static void hash_weights(struct model_dir *dir)
{
	struct sha256 sha, one;
	uint8_t digest[32];
	sha256_init(&sha);
	hash_bytes(&sha, dir->text_fingerprint, sizeof(dir->text_fingerprint));
	for (size_t i = 0; i < weights_count(dir->weights); i++) {
		const struct tensor *tensor = weights_at(dir->weights, i);
		const char *dtype = tensor_dtype_name(tensor->dtype);
		hash_bytes(&sha, tensor->name, strlen(tensor->name));
		hash_bytes(&sha, dtype, strlen(dtype));
		hash_u64(&sha, tensor->dim_count);
		for (uint32_t d = 0; d < tensor->dim_count; d++)
			hash_u64(&sha, tensor->dims[d]);
		sha256_init(&one);
		sha256_add(&one, tensor->data, tensor->bytes);
		sha256_end(&one, digest);
		hash_bytes(&sha, digest, sizeof(digest));
	}
	sha256_end(&sha, dir->fingerprint);
}

static enum err open_weights(struct model_dir *dir, struct why *why)
{
	enum err e = weights_open(dir->path, why, &dir->weights);
	if (e == ERR_OK)
		e = model_tensors_check(&dir->config, dir->weights, why);
	if (e == ERR_OK)
		hash_weights(dir);
	return e;
}

/* "models/demo/" is served as "demo"; "." as the name of the folder that it is. */
static char *base_name(const char *path)
{
	char *full = realpath(path, NULL);
	const char *slash = full ? strrchr(full, '/') : NULL;
	char *name = slash && slash[1] ? strdup(slash + 1) : full ? strdup("model") : NULL;
	free(full);
	return name;
}

static enum err open_parts(struct model_dir *dir, const struct model_dir_options *options, struct why *why)
{
	enum err e = model_config_read(dir->path, why, &dir->config);
	if (e == ERR_OK)
		e = open_tokenizer(dir, why);
	if (e == ERR_OK)
		e = open_template(dir, why);
	if (e == ERR_OK && !options->without_weights)
		e = open_weights(dir, why);
	return e;
}

enum err model_dir_open(const char *path, const struct model_dir_options *options, struct why *why,
			struct model_dir **ret_dir)
{
	static const struct model_dir_options defaults = {0};
	char *name = base_name(path);
	if (!name)
		return why_set(why, ERR_NOT_FOUND, "%s: no such directory", path);
	struct model_dir *dir = calloc(1, sizeof(*dir));
	if (!dir) {
		free(name);
		return ERR_NOMEM;
	}
	dir->name = name;
	dir->path = strdup(path);
	enum err e = dir->path ? open_parts(dir, options ? options : &defaults, why) : ERR_NOMEM;
	if (e != ERR_OK) {
		if (why && strncmp(why->text, path, strlen(path)) != 0)
			why_prefix(why, "%s", path);
		model_dir_close(dir);
		return e;
	}
	if (why)
		why->text[0] = 0; /* of files that need not be there */
	*ret_dir = dir;
	return ERR_OK;
}

void model_dir_close(struct model_dir *dir)
{
	if (!dir)
		return;
	weights_close(dir->weights);
	chat_template_destroy(dir->chat_template);
	tokenizer_destroy(dir->tokenizer);
	free(dir->eos_token);
	free(dir->bos_token);
	free(dir->name);
	free(dir->path);
	free(dir);
}

static int set_token(json_t *variables, const char *key, const char *spelling)
{
	return spelling ? json_object_set_new(variables, key, json_string(spelling)) : 0;
}

enum err model_dir_chat(const struct model_dir *dir, const json_t *messages, bool add_generation_prompt,
			const json_t *extra, struct why *why, struct buf *out)
{
	if (!dir->chat_template)
		return why_set(why, ERR_UNSUPPORTED, "model %s has no chat template", dir->name);
	return model_dir_chat_with(dir, dir->chat_template, NULL, messages, add_generation_prompt, extra, why, out);
}

enum err model_dir_chat_with(const struct model_dir *dir, const struct chat_template *chat_template,
			     const struct template_limits *limits, const json_t *messages, bool add_generation_prompt,
			     const json_t *extra, struct why *why, struct buf *out)
{
	json_t *variables = json_object();
	if (!variables)
		return ERR_NOMEM;
	int failed = extra ? json_object_update(variables, (json_t *)extra) : 0;
	failed |= json_object_set(variables, "messages", (json_t *)messages);
	failed |= json_object_set_new(variables, "add_generation_prompt", json_boolean(add_generation_prompt));
	failed |= set_token(variables, "bos_token", dir->bos_token);
	failed |= set_token(variables, "eos_token", dir->eos_token);
	enum err e = failed ? ERR_NOMEM
			    : chat_template_render(chat_template, variables, limits, why, out);
	json_decref(variables);
	return e;
}

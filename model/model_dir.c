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
static int keep_spelling(json_t *special_tokens, const json_t *config, const char *key)
{
	const json_t *value = json_object_get(config, key);
	json_t *text = json_is_object(value) ? json_object_get(value, "content") : (json_t *)value;
	return json_is_string(text) ? json_object_set(special_tokens, key, text) : 0;
}

static enum err keep_spellings(struct model_dir *dir, const json_t *config)
{
	static const char *const keys[] = {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token",
					   "mask_token"};
	dir->special_tokens = json_object();
	int failed = !dir->special_tokens;
	for (size_t i = 0; !failed && i < sizeof(keys) / sizeof(keys[0]); i++)
		failed = keep_spelling(dir->special_tokens, config, keys[i]);
	return failed ? ERR_NOMEM : ERR_OK;
}

/* tokenizer_config.json: how special tokens are spelt, and often the chat template. */
static enum err open_templates(struct model_dir *dir, struct why *why)
{
	char *text = NULL;
	size_t length;
	json_t *config = NULL;
	enum err e = read_part(dir->path, "tokenizer_config.json", CONFIG_BYTES_MAX, why, &text, &length);
	if (e == ERR_OK)
		e = json_in_parse(text, length, "tokenizer_config.json", why, &config);
	if (e == ERR_OK || e == ERR_NOT_FOUND)
		e = keep_spellings(dir, config);
	if (e == ERR_OK)
		e = template_set_read(&dir->templates, dir->path, config, why);
	json_decref(config);
	free(text);
	return e;
}

static void hash_tensor(const struct tensor *tensor, uint8_t ret_digest[32])
{
	struct sha256 sha;
	sha256_init(&sha);
	sha256_add(&sha, tensor->data, tensor->bytes);
	sha256_end(&sha, ret_digest);
}

void model_dir_outline(const struct model_dir *dir, uint8_t ret_outline[MODEL_OUTLINE_BYTES])
{
	struct sha256 sha;
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
	}
	sha256_end(&sha, digest);
	memcpy(ret_outline, digest, MODEL_OUTLINE_BYTES);
}

/* In the order of names and tensor by tensor, each with a digest of its own: shards do not show, and big weights are hashed in
 * parallel without changing the result. */
void model_dir_fingerprint(const struct model_dir *dir, const uint8_t (*digests)[32],
			   uint8_t ret_fingerprint[MODEL_FINGERPRINT_BYTES])
{
	struct sha256 sha;
	uint8_t digest[32];
	model_dir_outline(dir, ret_fingerprint);
	sha256_init(&sha);
	hash_bytes(&sha, ret_fingerprint, MODEL_OUTLINE_BYTES);
	for (size_t i = 0; i < weights_count(dir->weights); i++) {
		if (digests)
			memcpy(digest, digests[i], sizeof(digest));
		else
			hash_tensor(weights_at(dir->weights, i), digest);
		hash_bytes(&sha, digest, sizeof(digest));
	}
	sha256_end(&sha, digest);
	memcpy(ret_fingerprint + MODEL_OUTLINE_BYTES, digest, MODEL_FINGERPRINT_BYTES - MODEL_OUTLINE_BYTES);
}

static enum err open_weights(struct model_dir *dir, struct why *why)
{
	enum err e = weights_open(dir->path, why, &dir->weights);
	if (e == ERR_OK)
		e = model_tensors_check(&dir->config, dir->weights, why);
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

static enum err keep_quantised(struct model_config *config, const char *quantization, struct why *why)
{
	if (!quantization || strcmp(quantization, "none") == 0)
		return ERR_OK;
	if (strcmp(quantization, "fp8") != 0)
		return why_set(why, ERR_INVALID, "quantization %s: expected none or fp8", quantization);
	if (!config->fp8_blocks)
		return why_set(why, ERR_UNSUPPORTED, "quantization fp8: the model is not published in it (config.json: "
			       "quantization_config with quant_method fp8 and weight_block_size [128, 128])");
	config->fp8_kept = true;
	return ERR_OK;
}

static enum err open_parts(struct model_dir *dir, const struct model_dir_options *options, struct why *why)
{
	enum err e = model_config_read(dir->path, why, &dir->config);
	if (e == ERR_OK)
		e = keep_quantised(&dir->config, options->quantization, why);
	if (e == ERR_OK)
		e = open_tokenizer(dir, why);
	if (e == ERR_OK)
		e = open_templates(dir, why);
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
	template_set_fini(&dir->templates);
	json_decref(dir->special_tokens);
	tokenizer_destroy(dir->tokenizer);
	free(dir->name);
	free(dir->path);
	free(dir);
}

/* Tools and documents that are not there are none, not undefined. */
static int set_list(json_t *variables, const char *key, const json_t *list)
{
	return list ? json_object_set(variables, key, (json_t *)list) : json_object_set_new(variables, key, json_null());
}

static json_t *make_variables(const struct model_dir *dir, const json_t *messages, const struct chat_options *options)
{
	json_t *variables = json_copy(dir->special_tokens);
	if (!variables)
		return NULL;
	int failed = options->variables ? json_object_update(variables, (json_t *)options->variables) : 0;
	failed |= json_object_set(variables, "messages", (json_t *)messages);
	failed |= set_list(variables, "tools", options->tools);
	failed |= set_list(variables, "documents", options->documents);
	failed |= json_object_set_new(variables, "add_generation_prompt", json_boolean(options->add_generation_prompt));
	if (!failed)
		return variables;
	json_decref(variables);
	return NULL;
}

enum err model_dir_chat(const struct model_dir *dir, const json_t *messages, const struct chat_options *options,
			struct why *why, struct buf *out)
{
	const struct chat_template *chosen = options->chat_template;
	if (!chosen)
		chosen = template_set_choose(&dir->templates, options->tools != NULL);
	if (!chosen)
		return why_set(why, ERR_UNSUPPORTED, "model %s has no chat template%s", dir->name,
			       dir->templates.count ? " of the name \"default\"" : "");
	json_t *variables = make_variables(dir, messages, options);
	if (!variables)
		return ERR_NOMEM;
	enum err e = chat_template_render(chosen, variables, options->limits, why, out);
	json_decref(variables);
	return e;
}

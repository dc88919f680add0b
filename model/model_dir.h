/* model_dir - a Hugging Face directory opened as a whole: everything that says what a model is.
 *
 * Owns:   all that its fields point to, until model_dir_close().
 * Thread: any, once opened: nothing changes.
 * Rules:  1 the parts were checked against each other: every tensor that the config asks for is there
 *           with its shape and none is left over; the tokenizer's ids are below vocab_size;
 *         2 equal fingerprints mean equal config.json, tokenizer.json and weights, however the weights
 *           are cut into shards. */
#ifndef MODEL_MODEL_DIR_H
#define MODEL_MODEL_DIR_H
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/err.h"
#include "base/why.h"
#include "model/config.h"
#include "model/safetensors.h"
#include "model/template_set.h"
#include "model/tokenizer.h"

struct model_dir {
	char *path;
	char *name; /* served name: the folder's base name */
	struct model_config config;
	struct tokenizer *tokenizer;
	struct template_set templates;
	json_t *special_tokens; /* spellings by name ("bos_token"), for the templates */
	struct weights *weights; /* NULL when opened without */
	uint8_t text_fingerprint[32]; /* over config.json and tokenizer.json alone: always there */
};

/* Zeroed: everything. */
struct model_dir_options {
	bool without_weights; /* a coordinator needs no tensors */
	/* NULL or "none": weights of 8 bits become bf16; "fp8": they are computed with as they are, and ERR_UNSUPPORTED
	 * where the model has none. */
	const char *quantization;
};

MUST_USE enum err model_dir_open(const char *path, const struct model_dir_options *options, struct why *why,
				 struct model_dir **ret_dir);
void model_dir_close(struct model_dir *dir);

/* A fingerprint is of what the model is: the first half, its outline, of config.json, tokenizer.json and the names, types and shapes of
 * its tensors, which are known before any weight is read; the second half, of these and of every byte of the weights. */
enum { MODEL_FINGERPRINT_BYTES = 32, MODEL_OUTLINE_BYTES = 16 };
void model_dir_outline(const struct model_dir *dir, uint8_t ret_outline[MODEL_OUTLINE_BYTES]);
/* digests: [weights_count] SHA-256 of each tensor's bytes, from whoever read them (engine/weights.h); NULL:
 * they are read here, one after the other. */
void model_dir_fingerprint(const struct model_dir *dir, const uint8_t (*digests)[32],
			   uint8_t ret_fingerprint[MODEL_FINGERPRINT_BYTES]);

/* What a chat is rendered with. */
struct chat_options {
	const struct chat_template *chat_template; /* NULL: the model's own for a chat with or without tools */
	const struct template_options *limits;     /* NULL: the defaults */
	const json_t *tools, *documents;           /* lists; NULL: none */
	const json_t *variables;                   /* an object of further ones, which win over special tokens; NULL: none */
	bool add_generation_prompt;
};

/* Renders the chat template with messages (an array of objects) and the model's own tokens.
 * ERR_UNSUPPORTED: the model has no chat template. */
MUST_USE enum err model_dir_chat(const struct model_dir *dir, const json_t *messages, const struct chat_options *options,
				 struct why *why, struct buf *out);
#endif

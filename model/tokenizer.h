/* tokenizer - text to token ids and back, for byte-level BPE as tokenizer.json describes it.
 *
 * The ids are those of the Hugging Face tokenizers library, id for id (tests/golden/tokenizer compares).
 * Thread: any number may use one tokenizer at a time; nothing in it changes after loading.
 * Bounds: tokenizer.json <= 64 MiB, vocabulary <= 2^21 ids, text <= TOKENIZER_TEXT_MAX; time is
 *         O(n log n) in the text, memory about 40 bytes per byte of its longest piece.
 * Rules:  1 text that is not UTF-8 is read as Unicode 3.9 "maximal subparts" say: each becomes U+FFFD;
 *         2 what tokenizer.json asks for and we lack is refused when loading, by name. */
#ifndef MODEL_TOKENIZER_H
#define MODEL_TOKENIZER_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"

#define TOKENIZER_TEXT_MAX ((size_t)16 << 20)

/* A growing list of ids.  Zeroed memory is an empty one. */
struct tokens {
	uint32_t *ids;
	size_t count;
	size_t capacity;
};
MUST_USE enum err tokens_add(struct tokens *tokens, uint32_t id);
void tokens_clear(struct tokens *tokens); /* keeps the memory */
void tokens_fini(struct tokens *tokens);

struct tokenizer;

/* Zeroed: plain text, in which "<|eot|>" is seven characters and nothing is added. */
struct tokenizer_encode_options {
	bool add_special_tokens; /* what the post-processor adds: a beginning-of-text token */
	bool parse_special;      /* special tokens written in the text are those tokens */
};

/* PATH is a tokenizer.json. */
MUST_USE enum err tokenizer_load(const char *path, struct why *why, struct tokenizer **ret_tokenizer);
MUST_USE enum err tokenizer_parse(const char *json, size_t length, struct why *why,
				  struct tokenizer **ret_tokenizer);
void tokenizer_destroy(struct tokenizer *tokenizer);

/* Appends the ids of the text.  ERR_TOO_LARGE over TOKENIZER_TEXT_MAX; ERR_UNSUPPORTED when the
 * pre-tokenizer's expression went over its match limit; tokens are as before then. */
MUST_USE enum err tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t length,
				   const struct tokenizer_encode_options *options, struct tokens *tokens);

/* One above the greatest id, added tokens included.  Ids below it may be unused. */
uint32_t tokenizer_vocab_size(const struct tokenizer *tokenizer);

/* The bytes that the id adds to a text that has begun; they need not be whole characters ("<0xE2>" is one byte,
 * "▁the" is " the").  A text's own start may lose a space (detokenize.h).  Constant time, no copy: what
 * wants a table of the whole vocabulary calls it for each id.  ERR_NOT_FOUND: unused id. */
MUST_USE enum err tokenizer_token_bytes(const struct tokenizer *tokenizer, uint32_t id,
					const uint8_t **ret_bytes, size_t *ret_length);
bool tokenizer_is_special(const struct tokenizer *tokenizer, uint32_t id);
/* Special or not: one of added_tokens, which stand for themselves rather than for their text. */
bool tokenizer_is_added(const struct tokenizer *tokenizer, uint32_t id);

/* The id of a token by its spelling in tokenizer.json, such as "<|im_end|>".  ERR_NOT_FOUND. */
MUST_USE enum err tokenizer_find(const struct tokenizer *tokenizer, const char *spelling, uint32_t *ret_id);
#endif

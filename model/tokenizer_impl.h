/* tokenizer_impl - the tokenizer's fields, for tokenizer.c and piece.c (use) and tokenizer_load*.c (making). */
#ifndef MODEL_TOKENIZER_IMPL_H
#define MODEL_TOKENIZER_IMPL_H
#include "model/added.h"
#include "model/bpe.h"
#include "model/decoder.h"
#include "model/normalizer.h"
#include "model/pretokenize.h"
#include "model/tokenizer.h"
#include "model/unigram.h"
#include "model/vocab.h"

#define TOKENIZER_AFFIX_MAX 16

struct tokenizer {
	struct vocab vocab;
	struct bpe *bpe;        /* NULL: the unigram model */
	struct unigram unigram;
	uint32_t byte_ids[256]; /* byte-level: its letter; with byte fallback "<0x41>", or VOCAB_NONE */
	bool byte_fallback;     /* a character that is no token is its bytes, if they all are */
	bool fuse_unknown;      /* unknown characters side by side are one token */
	uint32_t unknown;       /* VOCAB_NONE: unknown characters are left out */
	struct normalizer normalizer;
	struct pretokenizer pre;
	struct decoder decoder;
	struct added_set added_raw;        /* looked for in the text as it came */
	struct added_set added_normalized; /* looked for in what the normalizer made of it */
	bool ignore_merges; /* a piece that is a token as a whole is that token */
	bool has_template;
	uint32_t prefix[TOKENIZER_AFFIX_MAX]; /* what add_special_tokens puts around the text */
	uint32_t prefix_count;
	uint32_t suffix[TOKENIZER_AFFIX_MAX];
	uint32_t suffix_count;
};

/* tokenizer.json's model, once the pre-tokenizer is known.  `root` is the whole file. */
MUST_USE enum err tokenizer_load_model(struct tokenizer *tokenizer, const json_t *root, struct why *why);
#endif

/* tokenizer_impl - the tokenizer's fields, for tokenizer.c (use) and tokenizer_load.c (making). */
#ifndef MODEL_TOKENIZER_IMPL_H
#define MODEL_TOKENIZER_IMPL_H
#include "model/added.h"
#include "model/bpe.h"
#include "model/decoder.h"
#include "model/pretokenize.h"
#include "model/tokenizer.h"
#include "model/vocab.h"

#define TOKENIZER_AFFIX_MAX 16

struct tokenizer {
	struct vocab vocab;
	struct bpe *bpe;
	struct pretokenizer pre;
	struct decoder decoder;
	struct added_set added_raw;        /* looked for in the text as it came */
	struct added_set added_normalized; /* looked for in what the normalizer made of it */
	bool nfc;
	bool ignore_merges; /* a piece that is a token as a whole is that token */
	uint32_t prefix[TOKENIZER_AFFIX_MAX]; /* what add_special_tokens puts around the text */
	uint32_t prefix_count;
	uint32_t suffix[TOKENIZER_AFFIX_MAX];
	uint32_t suffix_count;
};
#endif

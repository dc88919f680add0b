/* pretokenize - cuts a text into the pieces that BPE may not merge across.
 *
 * The chain of steps that tokenizer.json calls pre_tokenizer: Split, Digits, Punctuation, then ByteLevel.
 * Only this room; read-only after loading. */
#ifndef MODEL_PRETOKENIZE_H
#define MODEL_PRETOKENIZE_H
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "model/regex.h"

#define PRETOKENIZE_STEPS_MAX 8

enum split_behavior {
	SPLIT_REMOVED,
	SPLIT_ISOLATED,
	SPLIT_MERGED_WITH_PREVIOUS,
	SPLIT_MERGED_WITH_NEXT,
	SPLIT_CONTIGUOUS,
};

struct pretokenize_step {
	bool add_prefix_space; /* before the split */
	struct regex *regex;   /* NULL: no split */
	enum split_behavior behavior;
	bool invert; /* the matches are the pieces, what lies between is the delimiter */
};

struct pretokenizer {
	struct pretokenize_step steps[PRETOKENIZE_STEPS_MAX];
	uint32_t step_count;
	bool byte_level; /* a ByteLevel step has been read: it must be the last */
};

/* `config` is tokenizer.json's pre_tokenizer. On failure the pretokenizer is to be finished all the same. */
MUST_USE enum err pretokenizer_load(struct pretokenizer *pre, const json_t *config, struct why *why);
void pretokenizer_fini(struct pretokenizer *pre);

/* Takes one piece; a piece is not empty. */
struct piece_sink {
	enum err (*take)(void *arg, const char *piece, size_t length);
	void *arg;
};

/* Text must be valid UTF-8. */
MUST_USE enum err pretokenize(const struct pretokenizer *pre, struct regex_scratch *scratch, const char *text,
			      size_t length, struct piece_sink sink);
#endif

/* pretokenize - cuts a text into the pieces that tokens may not reach across.
 *
 * The chain of steps that tokenizer.json calls pre_tokenizer.  Each may put something before a piece, write its
 * spaces as another character, and split it.  Without a step the text is one piece.
 * Only this room; read-only after loading. */
#ifndef MODEL_PRETOKENIZE_H
#define MODEL_PRETOKENIZE_H
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "model/pattern.h"

#define PRETOKENIZE_STEPS_MAX 8

enum split_behavior {
	SPLIT_REMOVED,
	SPLIT_ISOLATED,
	SPLIT_MERGED_WITH_PREVIOUS,
	SPLIT_MERGED_WITH_NEXT,
	SPLIT_CONTIGUOUS,
};

enum prepend_scheme {
	PREPEND_NEVER,
	PREPEND_FIRST, /* to the piece that the whole text begins with */
	PREPEND_ALWAYS,
};

struct pretokenize_step {
	enum prepend_scheme prepend;
	char prefix[8];    /* put before a piece that does not begin with it */
	bool spaces;       /* before that, spaces become the prefix */
	struct pattern pattern; /* not set: no split */
	enum split_behavior behavior;
	bool invert; /* the matches are the pieces, what lies between is the delimiter */
};

struct pretokenizer {
	struct pretokenize_step steps[PRETOKENIZE_STEPS_MAX];
	uint32_t step_count;
	bool byte_level; /* the last step is ByteLevel: bytes of a piece are letters of a vocabulary's spelling */
};

/* `config` is tokenizer.json's pre_tokenizer. On failure the pretokenizer is to be finished all the same. */
MUST_USE enum err pretokenizer_load(struct pretokenizer *pre, const json_t *config, struct why *why);
void pretokenizer_fini(struct pretokenizer *pre);

/* Takes one piece; a piece is not empty. */
struct piece_sink {
	enum err (*take)(void *arg, const char *piece, size_t length);
	void *arg;
};

/* Text must be valid UTF-8; from_start: the whole text begins with it. */
MUST_USE enum err pretokenize(const struct pretokenizer *pre, struct regex_scratch *scratch, const char *text,
			      size_t length, bool from_start, struct piece_sink sink);
#endif

/* normalizer - the chain of steps that tokenizer.json calls normalizer.
 *
 * Only this room; read-only after loading.  Time is linear in the text, but for a Replace by an expression
 * that is not (regex.h). */
#ifndef MODEL_NORMALIZER_H
#define MODEL_NORMALIZER_H
#include "base/buf.h"
#include "model/charsmap.h"
#include "model/normalize.h"
#include "model/pattern.h"

#define NORMALIZER_STEPS_MAX 16
#define NORMAL_TEXT_MAX      ((size_t)128 << 20) /* what the steps may make of a text */

enum normalizer_step_kind {
	NORMALIZER_FORM,
	NORMALIZER_LOWERCASE,
	NORMALIZER_STRIP,
	NORMALIZER_STRIP_ACCENTS,
	NORMALIZER_REPLACE,
	NORMALIZER_PREPEND,
	NORMALIZER_CHARSMAP,
};

struct normalizer_step {
	enum normalizer_step_kind kind;
	enum normal_form form;
	bool strip_left;
	bool strip_right;
	struct pattern pattern; /* Replace */
	char *content;          /* Replace, Prepend */
	struct charsmap charsmap;
};

struct normalizer {
	struct normalizer_step steps[NORMALIZER_STEPS_MAX];
	uint32_t step_count;
};

/* `config` is tokenizer.json's normalizer, or NULL.  On failure the normalizer is to be finished all the same. */
MUST_USE enum err normalizer_load(struct normalizer *normalizer, const json_t *config, struct why *why);
void normalizer_fini(struct normalizer *normalizer);

/* A text on its way.  Zeroed memory is an empty one. */
struct normal_text {
	struct buf text;
	struct buf spare;
	bool from_start; /* the first character stands for the first one of the whole text */
};
void normal_text_fini(struct normal_text *normal);

/* Puts the text, valid UTF-8, in normal->text as it is, then as each step makes it; from_start is the caller's
 * to set before. */
MUST_USE enum err normalizer_run(const struct normalizer *normalizer, struct regex_scratch *scratch,
				 const char *text, size_t length, struct normal_text *normal);
#endif

/* decoder - what the decoder of tokenizer.json makes of a token's spelling.
 *
 * Of two kinds.  ByteLevel: the letters of a spelling are bytes, and the text is the bytes of all tokens,
 * read as UTF-8.  Otherwise a token is text, changed by a few steps (Replace, Metaspace, Strip); with
 * ByteFallback "<0x41>" is one byte, and neighbours of that kind are a text together if they are UTF-8 and
 * one U+FFFD each if they are not.  A Strip behind Fuse takes characters off the start of the whole text.
 * A plain value; only this room.  Pure but for memory.
 * Bounds: DECODER_STEPS_MAX steps of DECODER_TEXT_MAX bytes. */
#ifndef MODEL_DECODER_H
#define MODEL_DECODER_H
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/why.h"

#define DECODER_STEPS_MAX 8
#define DECODER_TEXT_MAX  63

enum decoder_step_kind { DECODER_REPLACE, DECODER_METASPACE, DECODER_STRIP };

struct decoder_step {
	enum decoder_step_kind kind;
	char pattern[DECODER_TEXT_MAX + 1]; /* Metaspace and Strip: one character */
	char content[DECODER_TEXT_MAX + 1];
	bool drops_first;     /* Metaspace: nothing in place of the pattern in the first token */
	uint32_t strip_left;  /* Strip: as often at most */
	uint32_t strip_right;
};

struct decoder {
	bool byte_level;
	bool byte_fallback;
	bool fused;
	bool drops_first;          /* a step makes something else of the first token */
	bool drops_first_behind;   /* ... and stands behind ByteFallback */
	uint32_t step_count;
	uint32_t fallback_at; /* steps from here on also change the text of a run of bytes */
	struct decoder_step steps[DECODER_STEPS_MAX];
	struct decoder_step strip; /* behind Fuse: strip_left of the whole text */
};

/* `config` is tokenizer.json's decoder; decoder is zeroed. */
MUST_USE enum err decoder_load(struct decoder *decoder, const json_t *config, struct why *why);

/* The byte that a spelling stands for, or -1. */
int decoder_byte(const struct decoder *decoder, const char *spelling, size_t length);

/* Appends what a token that is not the first adds to the text: bytes that need not be whole characters. */
MUST_USE enum err decoder_spell(const struct decoder *decoder, const char *spelling, size_t length,
				struct buf *bytes);
/* The same for the first token; it is text. */
MUST_USE enum err decoder_spell_first(const struct decoder *decoder, const char *spelling, size_t length,
				      struct buf *text);
/* Appends what the steps behind ByteFallback make of a run of bytes that is text. */
MUST_USE enum err decoder_spell_run(const struct decoder *decoder, const char *run, size_t length, bool first,
				    struct buf *text);
#endif

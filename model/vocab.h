/* vocab - spellings and bytes of the tokens, by id and by spelling.
 *
 * A spelling is what tokenizer.json writes: in byte-level models each byte of text is one character of
 * a 256-letter alphabet, so that "Ġa" spells the bytes " a".  Only this room; read-only after loading.
 * Bounds: VOCAB_IDS_MAX ids; spellings of 64 KiB. */
#ifndef MODEL_VOCAB_H
#define MODEL_VOCAB_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/err.h"

#define VOCAB_IDS_MAX      ((uint32_t)1 << 21)
#define VOCAB_SPELLING_MAX ((size_t)64 << 10)
#define VOCAB_NONE         UINT32_MAX

struct vocab_entry {
	uint32_t spelling_at; /* in vocab.text; 0-terminated there */
	uint32_t spelling_length;
	uint32_t shown_at; /* what the decoder sees: of a normalized added token its normal form */
	uint32_t shown_length;
	uint32_t bytes_at; /* what it adds to a text */
	uint32_t bytes_length;
	bool used;
	bool special;
	bool hidden; /* left out of a text without special tokens */
	bool listed; /* among the added tokens */
	bool added;  /* no part of the model's own vocabulary: only an added token */
	bool is_byte; /* one byte of a run that is text only as a whole */
};

struct vocab {
	struct buf text;
	struct vocab_entry *entries; /* [id_limit] */
	uint32_t id_limit;           /* one above the greatest id used */
	uint32_t id_capacity;
	uint32_t *slots; /* [slot_count]: ids by hash of the spelling */
	uint32_t slot_count; /* a power of two */
	uint32_t used_count;
	uint32_t spelling_longest;
};

/* ERR_EXISTS when the id has another spelling, or the spelling another id. */
MUST_USE enum err vocab_add(struct vocab *vocab, const char *spelling, size_t length, uint32_t id);
/* What the decoder sees, and what the id adds to a text; the spelling until that is said. */
MUST_USE enum err vocab_set_shown(struct vocab *vocab, uint32_t id, const char *shown, size_t length);
MUST_USE enum err vocab_set_bytes(struct vocab *vocab, uint32_t id, const char *bytes, size_t length);
/* VOCAB_NONE: there is none. */
uint32_t vocab_find(const struct vocab *vocab, const char *spelling, size_t length);
/* NULL for an unused id. */
const struct vocab_entry *vocab_entry(const struct vocab *vocab, uint32_t id);
void vocab_fini(struct vocab *vocab);

/* The letter for a byte (below U+0144), and back: -1 for a character outside the alphabet. */
uint32_t byte_level_char(uint8_t byte);
int byte_level_byte(uint32_t character);
/* Appends the bytes' spelling. */
MUST_USE enum err byte_level_spell(struct buf *spelling, const char *bytes, size_t length);
#endif

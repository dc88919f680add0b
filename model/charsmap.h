/* charsmap - the table of replacements that SentencePiece compiles into its models ("Precompiled").
 *
 * The file holds base64 of: the table's size (4 bytes, little endian), a double-array trie in the layout of
 * darts-clone (4 bytes a unit), and the replacements, each ended by a zero byte, at the offsets that the
 * trie has as values.  As the Hugging Face library applies it: a grapheme cluster below 6 bytes is
 * replaced as a whole by what its shortest prefix in the table says; otherwise each of its characters is.
 * Only this room; read-only after loading.  Time is linear in the text.
 * Bounds: CHARSMAP_BYTES_MAX; every index of the table is checked when it is followed. */
#ifndef MODEL_CHARSMAP_H
#define MODEL_CHARSMAP_H
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/why.h"

#define CHARSMAP_BYTES_MAX ((size_t)16 << 20)

struct charsmap {
	uint32_t *units; /* [unit_count] */
	size_t unit_count;
	char *texts;     /* of `texts_length` bytes, 0-terminated */
	size_t texts_length;
};

MUST_USE enum err charsmap_load(struct charsmap *map, const char *base64, struct why *why);
void charsmap_fini(struct charsmap *map);

/* Appends the text, valid UTF-8, replaced. */
MUST_USE enum err charsmap_apply(const struct charsmap *map, const char *text, size_t length, struct buf *out);
#endif

/* added - tokens that are found in the text as they are written, before anything else cuts it.
 *
 * Leftmost, then longest; with what lstrip, rstrip and single_word ask for around them.
 * Only this room; read-only after loading.  Time: text times the longest token at worst.
 * Bounds: ADDED_MAX tokens of ADDED_BYTES_MAX bytes. */
#ifndef MODEL_ADDED_H
#define MODEL_ADDED_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "model/trie.h"

#define ADDED_MAX       65536
#define ADDED_BYTES_MAX 1024

struct added_token {
	uint32_t id;
	bool special;
	bool lstrip;
	bool rstrip;
	bool single_word;
};

struct added_set {
	struct added_token *tokens; /* [token_count] */
	uint32_t token_count;
	uint32_t token_capacity;
	struct trie trie;   /* to indices in tokens */
	bool begins[256];   /* some token begins with the byte */
};

/* Content is not empty.  Of equal contents the first stays. */
MUST_USE enum err added_add(struct added_set *set, const char *content, size_t length,
			    const struct added_token *token);
void added_fini(struct added_set *set);

/* Takes what lies between tokens (token NULL) and the tokens, in order. */
struct added_sink {
	enum err (*take)(void *arg, const struct added_token *token, const char *text, size_t length);
	void *arg;
};

/* skip_special: special tokens are plain text. */
MUST_USE enum err added_split(const struct added_set *set, const char *text, size_t length, bool skip_special,
			      struct added_sink sink);
#endif

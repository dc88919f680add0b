/* structure - what an answer must look like, as a JSON text that travels with its request, and the grammar it asks for.
 *
 *   {"json": SCHEMA}                  a JSON document of the schema (schema.h); {"json": {"type": "object"}}: any object
 *   {"json": SCHEMA, "in_markup": true}  the same without a raw "<", so that no tag is in it; what only a "<" could be
 *                                     written with is no document then
 *   {"bare": SCHEMA}                  a text of the schema without its quotes, of characters that JSON writes as they are,
 *                                     and without "<"
 *   {"regex": "[a-z]+"}               a text that matches as a whole (expression.h)
 *   {"literal": "<call>"}             exactly this text
 *   {"token": "<|call|>"}             this added token; where the vocabulary has none of that name, its text
 *   {"sequence": [S, …]}              one after the other
 *   {"choice": [S, …]}                one of them
 *   {"repeat": S, "min": 1, "max": 8} so often; without max: at least min times; between two comes "separator", a literal
 *
 * A forced call of one of two tools, in a family that writes {"name": …, "arguments": …} between two tokens:
 *
 *   {"sequence": [{"token": "<tool_call>"}, {"literal": "\n"}, {"choice": [
 *       {"sequence": [{"literal": "{\"name\": \"weather\", \"arguments\": "}, {"json": SCHEMA}, {"literal": "}"}]},
 *       {"sequence": [{"literal": "{\"name\": \"time\", \"arguments\": "}, {"json": SCHEMA}, {"literal": "}"}]}]},
 *     {"literal": "\n"}, {"token": "</tool_call>"}]}
 *
 * Literals are read together with what stands around them: "{" of one and "}" of another may be one token of the model.
 *
 * Owns nothing.  Bounds: STRUCTURE_BYTES_MAX of text, STRUCTURE_DEPTH_MAX of nesting, those of grammar.h: whatever the
 * text says, some 20 ms and 16 MiB.  Any thread. */
#ifndef MODEL_STRUCTURE_H
#define MODEL_STRUCTURE_H
#include <stddef.h>
#include "base/err.h"
#include "base/why.h"
#include "model/grammar.h"
#include "model/token_trie.h"

struct tokenizer;

enum { STRUCTURE_BYTES_MAX = 128 << 10, STRUCTURE_DEPTH_MAX = 64 };

/* Whose tokens the answer is made of: bytes that no token spells alone are not asked for.  NULL: all bytes, no names. */
struct structure_tokens {
	const struct tokenizer *tokenizer;
	const struct token_trie *trie;
};

/* ERR_INVALID, ERR_UNSUPPORTED, ERR_TOO_LARGE: why names the part. */
MUST_USE enum err structure_compile(const char *text, size_t length, const struct structure_tokens *tokens,
				    struct why *why, struct grammar **ret_grammar);
#endif

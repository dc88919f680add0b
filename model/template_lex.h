/* template_lex - a template's source as tokens: text to copy, and the words of its tags.
 *
 * Whitespace control happens here: {%- -%}, trim_blocks, lstrip_blocks, the last newline.
 * Only this room.  Bounds: one token per byte of source at most. */
#ifndef MODEL_TEMPLATE_LEX_H
#define MODEL_TEMPLATE_LEX_H
#include "base/why.h"
#include "model/template_value.h"

enum token_kind {
	TOKEN_DATA,        /* text to copy */
	TOKEN_BLOCK_BEGIN, /* {% */
	TOKEN_BLOCK_END,
	TOKEN_PRINT_BEGIN, /* {{ */
	TOKEN_PRINT_END,
	TOKEN_NAME,
	TOKEN_TEXT,  /* a string literal, its escapes resolved */
	TOKEN_INT,
	TOKEN_FLOAT,
	TOKEN_OPERATOR,
	TOKEN_END,
};

struct token {
	enum token_kind kind;
	uint32_t line;
	struct text text;
};

struct token_list {
	struct token *tokens; /* [count]; the last is TOKEN_END */
	size_t count;
	size_t capacity;
};

/* Texts point into `source`, which must stay, or into the arena. */
MUST_USE enum err template_lex(struct arena *arena, const char *source, size_t length, struct why *why,
			       struct token_list *ret_list);
#endif

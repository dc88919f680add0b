/* template_parse - the tokens of a chat template as a tree.
 *
 * Only this room.  Bounds: nesting TEMPLATE_DEPTH_MAX; the tree lives in the arena. */
#ifndef MODEL_TEMPLATE_PARSE_H
#define MODEL_TEMPLATE_PARSE_H
#include "model/template_lex.h"

#define TEMPLATE_DEPTH_MAX 100

enum node_kind {
	/* statements */
	NODE_DATA,     /* text */
	NODE_PRINT,    /* a */
	NODE_IF,       /* a: condition, items: then, other: else */
	NODE_FOR,      /* names, a: what, b: its "if" or NULL, items: body, other: else */
	NODE_SET,      /* names, a: value; or b: namespace and text: its field */
	NODE_SET_BLOCK, /* names, items: body, a: its filters or NULL */
	NODE_WITH,      /* other: NODE_SETs, items: body */
	NODE_FILTER_BLOCK, /* a: filters around NODE_CAPTURED, items: body */
	NODE_MACRO,     /* text: name, names: parameters, other: their defaults, items: body */
	NODE_CALL_BLOCK, /* a: the call, b: a NODE_MACRO that is the caller */
	NODE_BREAK,
	NODE_CONTINUE,
	/* expressions */
	NODE_CONSTANT, /* constant */
	NODE_NAME,     /* text */
	NODE_CAPTURED, /* what a filter's block printed */
	NODE_LIST,     /* items */
	NODE_TUPLE,    /* items */
	NODE_MAP,      /* items: key, value, key, value */
	NODE_ATTRIBUTE, /* a . text */
	NODE_ITEM,     /* a [ b ] */
	NODE_SLICE,    /* a [ items[0] : items[1] : items[2] ], NULL where absent */
	NODE_CALL,     /* a ( items ) */
	NODE_FILTER,   /* a | text ( items ) */
	NODE_TEST,     /* a is text ( items ); negated */
	NODE_NAMED,    /* text = a: an argument by name */
	NODE_NOT,      /* a */
	NODE_NEGATE,   /* a */
	NODE_AND,      /* a, b */
	NODE_OR,
	NODE_CHOICE,   /* b if a else items[0] */
	NODE_BINARY,   /* a text b: + - * / // % ** ~ == != < <= > >= in */
};

struct node_list {
	struct node **items; /* [count] */
	size_t count;
	size_t capacity;
};

struct node {
	enum node_kind kind;
	uint32_t line;
	bool negated;
	struct node *a;
	struct node *b;
	struct text text;
	struct value constant;
	struct node_list items;
	struct node_list other;
	struct text *names; /* [name_count]: targets of for and set, parameters of a macro */
	uint32_t name_count;
	bool uses_caller; /* a macro */
};

MUST_USE enum err template_parse(struct arena *arena, const struct token_list *tokens, struct why *why,
				 struct node_list *ret_body);
#endif

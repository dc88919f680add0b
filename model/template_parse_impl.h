/* template_parse_impl - what the two halves of the parser share.  The first error stays in `e`; after it
 * nothing is accepted any more, so that every loop ends. */
#ifndef MODEL_TEMPLATE_PARSE_IMPL_H
#define MODEL_TEMPLATE_PARSE_IMPL_H
#include <stdio.h>

#include "model/template_parse.h"

struct parser {
	struct arena *arena;
	const struct token *at;
	struct why *why;
	enum err e;
	uint32_t depth;
	uint32_t loops;
	uint32_t elif_count;
	struct node *macro;  /* the innermost one that is being read; NULL */
	struct node nothing; /* what parse_new() gives when there is no memory */
};

struct node *parse_new(struct parser *p, enum node_kind kind);
void parse_fail(struct parser *p, enum err e, const char *what);
void parse_push(struct parser *p, struct node_list *list, struct node *item);
bool parse_enter(struct parser *p); /* false: too deep, or an error; p->depth-- when done */
bool parse_is(const struct parser *p, enum token_kind kind, const char *text);
bool parse_accept(struct parser *p, enum token_kind kind, const char *text);
void parse_expect(struct parser *p, enum token_kind kind, const char *text);
struct text parse_name(struct parser *p);

struct node *parse_expression(struct parser *p); /* with "a if b else c" */
struct node *parse_or(struct parser *p);         /* without */
struct node *parse_tuple(struct parser *p);      /* a, b, c without brackets is a list */
struct node *parse_filters(struct parser *p, struct node *node); /* all that follow: | name(...) */
struct node *parse_filter(struct parser *p, struct node *node);  /* name(...) */

/* template_parse_blocks.c, behind the tag's name. */
struct node *parse_macro(struct parser *p);
struct node *parse_call_block(struct parser *p);
struct node *parse_filter_block(struct parser *p);
struct node *parse_with(struct parser *p);

/* template_parse.c */
void parse_body(struct parser *p, struct node_list *body); /* up to a tag that ends it */
void parse_block_end(struct parser *p);
void parse_end_tag(struct parser *p, const char *name);
void parse_add_name(struct parser *p, struct node *node, struct text name);
#endif

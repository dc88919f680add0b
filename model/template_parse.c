/* Statements; template_parse_blocks.c has the rarer ones, template_parse_expr.c the expressions. */
#include "model/template_parse.h"

#include "model/template_parse_impl.h"

enum { NAMES_MAX = 16 };

struct node *parse_new(struct parser *p, enum node_kind kind)
{
	struct node *node = arena_take(p->arena, sizeof(*node));
	if (!node) {
		parse_fail(p, ERR_TOO_LARGE, "the template is too large");
		return &p->nothing;
	}
	*node = (struct node){.kind = kind, .line = p->at->line};
	return node;
}

void parse_fail(struct parser *p, enum err e, const char *what)
{
	if (p->e != ERR_OK)
		return;
	p->e = why_set(p->why, e, "chat template: line %u: \"%.*s\": %s", p->at->line,
		       (int)(p->at->text.length < 40 ? p->at->text.length : 40), p->at->text.data, what);
}

void parse_push(struct parser *p, struct node_list *list, struct node *item)
{
	if (list->count == list->capacity) {
		size_t capacity = list->capacity ? list->capacity * 2 : 4;
		struct node **items = arena_take(p->arena, capacity * sizeof(*items));
		if (!items) {
			parse_fail(p, ERR_TOO_LARGE, "the template is too large");
			return;
		}
		if (list->count)
			memcpy(items, list->items, list->count * sizeof(*items));
		list->items = items;
		list->capacity = capacity;
	}
	list->items[list->count++] = item;
}

bool parse_enter(struct parser *p)
{
	if (++p->depth > TEMPLATE_DEPTH_MAX)
		parse_fail(p, ERR_TOO_LARGE, "nested more than 100 deep");
	return p->e == ERR_OK;
}

bool parse_is(const struct parser *p, enum token_kind kind, const char *text)
{
	return p->e == ERR_OK && p->at->kind == kind && text_is(p->at->text, text);
}

bool parse_accept(struct parser *p, enum token_kind kind, const char *text)
{
	if (!parse_is(p, kind, text))
		return false;
	p->at++;
	return true;
}

void parse_expect(struct parser *p, enum token_kind kind, const char *text)
{
	if (parse_accept(p, kind, text))
		return;
	char what[64];
	snprintf(what, sizeof(what), "expected \"%s\"", text);
	parse_fail(p, ERR_INVALID, what);
}

struct text parse_name(struct parser *p)
{
	if (p->e == ERR_OK && p->at->kind == TOKEN_NAME)
		return (p->at++)->text;
	parse_fail(p, ERR_INVALID, "expected a name");
	return (struct text){"", 0};
}

void parse_block_end(struct parser *p)
{
	parse_expect(p, TOKEN_BLOCK_END, "%}");
}

/* The tag that ends a body: its name has been seen, but not taken. */
static bool at_end_tag(const struct parser *p)
{
	static const char *const ends[] = {"elif",     "else",    "endif",     "endfor", "endset", "endgeneration",
					   "endmacro", "endcall", "endfilter", "endwith"};
	if (p->at->kind != TOKEN_BLOCK_BEGIN || p->at[1].kind != TOKEN_NAME)
		return false;
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		if (text_is(p->at[1].text, ends[i]))
			return true;
	return false;
}

static bool accept_tag(struct parser *p, const char *name)
{
	if (p->e != ERR_OK || p->at->kind != TOKEN_BLOCK_BEGIN || !text_is(p->at[1].text, name))
		return false;
	p->at += 2;
	return true;
}

void parse_end_tag(struct parser *p, const char *name)
{
	char what[64];
	snprintf(what, sizeof(what), "expected {%% %s %%}", name);
	if (!accept_tag(p, name))
		parse_fail(p, ERR_INVALID, what);
	parse_block_end(p);
}

/* {% if a %} ... {% elif b %} ... {% else %} ... {% endif %}: an elif is an if within the else. */
static struct node *parse_if(struct parser *p)
{
	struct node *first = parse_new(p, NODE_IF), *node = first;
	node->a = parse_expression(p);
	parse_block_end(p);
	parse_body(p, &node->items);
	while (accept_tag(p, "elif")) {
		struct node *next = parse_new(p, NODE_IF);
		next->a = parse_expression(p);
		parse_block_end(p);
		parse_body(p, &next->items);
		parse_push(p, &node->other, next);
		node = next;
		if (++p->elif_count > 1000)
			parse_fail(p, ERR_TOO_LARGE, "over 1000 elif");
	}
	if (accept_tag(p, "else")) {
		parse_block_end(p);
		parse_body(p, &node->other);
	}
	parse_end_tag(p, "endif");
	return first;
}

void parse_add_name(struct parser *p, struct node *node, struct text name)
{
	if (!node->names)
		node->names = arena_take(p->arena, NAMES_MAX * sizeof(*node->names));
	if (!node->names || node->name_count == NAMES_MAX)
		parse_fail(p, ERR_UNSUPPORTED, "at most 16 names here");
	else
		node->names[node->name_count++] = name;
}

static void parse_targets(struct parser *p, struct node *node)
{
	do
		parse_add_name(p, node, parse_name(p));
	while (p->e == ERR_OK && parse_accept(p, TOKEN_OPERATOR, ","));
}

static struct node *parse_for(struct parser *p)
{
	struct node *node = parse_new(p, NODE_FOR);
	bool bracket = parse_accept(p, TOKEN_OPERATOR, "(");
	parse_targets(p, node);
	if (bracket)
		parse_expect(p, TOKEN_OPERATOR, ")");
	parse_expect(p, TOKEN_NAME, "in");
	node->a = parse_or(p); /* an "if" behind it is the loop's own */
	if (parse_accept(p, TOKEN_NAME, "if"))
		node->b = parse_expression(p);
	if (parse_is(p, TOKEN_NAME, "recursive"))
		parse_fail(p, ERR_UNSUPPORTED, "loops that call themselves are not supported");
	parse_block_end(p);
	p->loops++;
	parse_body(p, &node->items);
	p->loops--;
	if (accept_tag(p, "else")) {
		parse_block_end(p);
		parse_body(p, &node->other);
	}
	parse_end_tag(p, "endfor");
	return node;
}

static struct node *parse_set(struct parser *p)
{
	struct node *node = parse_new(p, NODE_SET);
	if (p->at->kind == TOKEN_NAME && p->at[1].kind == TOKEN_OPERATOR && text_is(p->at[1].text, ".")) {
		node->b = parse_new(p, NODE_NAME);
		node->b->text = parse_name(p);
		p->at++;
		node->text = parse_name(p);
	} else {
		parse_targets(p, node);
	}
	if (!node->b && node->name_count == 1 && !parse_is(p, TOKEN_OPERATOR, "=")) {
		node->kind = NODE_SET_BLOCK;
		if (parse_is(p, TOKEN_OPERATOR, "|"))
			node->a = parse_filters(p, parse_new(p, NODE_CAPTURED));
		parse_block_end(p);
		parse_body(p, &node->items);
		parse_end_tag(p, "endset");
		return node;
	}
	parse_expect(p, TOKEN_OPERATOR, "=");
	node->a = parse_tuple(p);
	parse_block_end(p);
	return node;
}

static struct node *parse_jump(struct parser *p, enum node_kind kind)
{
	struct node *node = parse_new(p, kind);
	if (p->loops == 0)
		parse_fail(p, ERR_INVALID, "outside of a for");
	parse_block_end(p);
	return node;
}

/* The body between these two is what a model is trained on; here it is only text, in a scope of its own. */
static struct node *parse_generation(struct parser *p)
{
	struct node *node = parse_new(p, NODE_WITH);
	parse_block_end(p);
	parse_body(p, &node->items);
	parse_end_tag(p, "endgeneration");
	return node;
}

static void parse_block(struct parser *p, struct node_list *body)
{
	p->at++;
	if (parse_accept(p, TOKEN_NAME, "if"))
		parse_push(p, body, parse_if(p));
	else if (parse_accept(p, TOKEN_NAME, "for"))
		parse_push(p, body, parse_for(p));
	else if (parse_accept(p, TOKEN_NAME, "set"))
		parse_push(p, body, parse_set(p));
	else if (parse_accept(p, TOKEN_NAME, "break"))
		parse_push(p, body, parse_jump(p, NODE_BREAK));
	else if (parse_accept(p, TOKEN_NAME, "continue"))
		parse_push(p, body, parse_jump(p, NODE_CONTINUE));
	else if (parse_accept(p, TOKEN_NAME, "generation"))
		parse_push(p, body, parse_generation(p));
	else if (parse_accept(p, TOKEN_NAME, "macro"))
		parse_push(p, body, parse_macro(p));
	else if (parse_accept(p, TOKEN_NAME, "call"))
		parse_push(p, body, parse_call_block(p));
	else if (parse_accept(p, TOKEN_NAME, "filter"))
		parse_push(p, body, parse_filter_block(p));
	else if (parse_accept(p, TOKEN_NAME, "with"))
		parse_push(p, body, parse_with(p));
	else
		parse_fail(p, ERR_UNSUPPORTED,
			   "this tag is not supported: there are if, for, set, macro, call, filter, with, raw, break, "
			   "continue and generation");
}

static struct node *parse_print(struct parser *p)
{
	p->at++;
	struct node *node = parse_new(p, NODE_PRINT);
	node->a = parse_tuple(p);
	parse_expect(p, TOKEN_PRINT_END, "}}");
	return node;
}

/* Up to the tag that ends it, or the end of the source. */
void parse_body(struct parser *p, struct node_list *body)
{
	if (!parse_enter(p))
		return;
	while (p->e == ERR_OK && p->at->kind != TOKEN_END && !at_end_tag(p)) {
		if (p->at->kind == TOKEN_DATA) {
			struct node *node = parse_new(p, NODE_DATA);
			node->text = (p->at++)->text;
			parse_push(p, body, node);
		} else if (p->at->kind == TOKEN_PRINT_BEGIN) {
			parse_push(p, body, parse_print(p));
		} else {
			parse_block(p, body);
		}
	}
	p->depth--;
}

enum err template_parse(struct arena *arena, const struct token_list *tokens, struct why *why,
			struct node_list *ret_body)
{
	struct parser parser = {.arena = arena, .at = tokens->tokens, .why = why};
	*ret_body = (struct node_list){0};
	parse_body(&parser, ret_body);
	if (parser.e == ERR_OK && parser.at->kind != TOKEN_END) {
		parser.at++;
		parse_fail(&parser, ERR_INVALID, "a tag that nothing opened");
	}
	return parser.e;
}

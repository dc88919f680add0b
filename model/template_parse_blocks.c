/* Statements that hold what they print: macro, call, filter, with. */
#include "model/template_parse_impl.h"

/* Behind the bracket: a, b=1, c="x".  Defaults are those of the last names. */
static void parse_parameters(struct parser *p, struct node *macro)
{
	while (p->e == ERR_OK && !parse_is(p, TOKEN_OPERATOR, ")")) {
		parse_add_name(p, macro, parse_name(p));
		if (parse_accept(p, TOKEN_OPERATOR, "="))
			parse_push(p, &macro->other, parse_expression(p));
		else if (macro->other.count)
			parse_fail(p, ERR_INVALID, "expected a default, as the parameter before has one");
		if (!parse_accept(p, TOKEN_OPERATOR, ","))
			break;
	}
	parse_expect(p, TOKEN_OPERATOR, ")");
}

/* The body of a macro is a world of its own: no break of a loop outside of it. */
static void parse_macro_body(struct parser *p, struct node *macro, const char *end)
{
	uint32_t loops = p->loops;
	struct node *outer = p->macro;
	p->loops = 0;
	p->macro = macro;
	parse_body(p, &macro->items);
	parse_end_tag(p, end);
	p->loops = loops;
	p->macro = outer;
}

struct node *parse_macro(struct parser *p)
{
	struct node *macro = parse_new(p, NODE_MACRO);
	macro->text = parse_name(p);
	parse_expect(p, TOKEN_OPERATOR, "(");
	parse_parameters(p, macro);
	parse_block_end(p);
	parse_macro_body(p, macro, "endmacro");
	return macro;
}

/* {% call(a, b) some_macro(...) %} ... {% endcall %}: the body is a macro that some_macro knows as "caller". */
struct node *parse_call_block(struct parser *p)
{
	struct node *call = parse_new(p, NODE_CALL_BLOCK);
	call->b = parse_new(p, NODE_MACRO);
	call->b->text = (struct text){"caller", 6};
	if (parse_accept(p, TOKEN_OPERATOR, "("))
		parse_parameters(p, call->b);
	call->a = parse_expression(p);
	if (p->e == ERR_OK && call->a->kind != NODE_CALL)
		parse_fail(p, ERR_INVALID, "expected a call");
	parse_block_end(p);
	parse_macro_body(p, call->b, "endcall");
	return call;
}

struct node *parse_filter_block(struct parser *p)
{
	struct node *block = parse_new(p, NODE_FILTER_BLOCK);
	block->a = parse_filter(p, parse_new(p, NODE_CAPTURED));
	block->a = parse_filters(p, block->a);
	parse_block_end(p);
	parse_body(p, &block->items);
	parse_end_tag(p, "endfilter");
	return block;
}

struct node *parse_with(struct parser *p)
{
	struct node *with = parse_new(p, NODE_WITH);
	while (p->e == ERR_OK && !parse_is(p, TOKEN_BLOCK_END, "%}")) {
		struct node *set = parse_new(p, NODE_SET);
		parse_add_name(p, set, parse_name(p));
		parse_expect(p, TOKEN_OPERATOR, "=");
		set->a = parse_expression(p);
		parse_push(p, &with->other, set);
		if (!parse_accept(p, TOKEN_OPERATOR, ","))
			break;
	}
	parse_block_end(p);
	parse_body(p, &with->items);
	parse_end_tag(p, "endwith");
	return with;
}

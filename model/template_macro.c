/* Statements that capture what they print: macro, call, filter, and set and with. */
#include "model/template_eval.h"

/* In a scope of its own, as Jinja has it. */
static enum err capture(struct eval *ev, const struct node_list *body, struct value *ret_text)
{
	struct buf *outer = ev->out, inner = {.limit = ev->limits.output_max + 1};
	struct scope *before;
	enum err e = eval_enter_scope(ev, ev->scope, &before);
	if (e != ERR_OK)
		return e;
	ev->out = &inner;
	e = eval_body(ev, body);
	ev->out = outer;
	eval_leave_scope(ev, before);
	if (e == ERR_OK)
		e = value_copy_text(&ev->arena, inner.data, inner.length, ret_text);
	if (e == ERR_OK)
		e = eval_step(ev, inner.length / 64);
	buf_fini(&inner);
	return e;
}

enum err eval_capture(struct eval *ev, const struct node_list *body, const struct node *filters,
		      struct value *ret_text)
{
	struct value text;
	enum err e = capture(ev, body, &text);
	if (e != ERR_OK)
		return e;
	*ret_text = text;
	if (!filters)
		return ERR_OK;
	const struct value *before = ev->captured;
	ev->captured = &text;
	e = eval_expression(ev, filters, ret_text);
	ev->captured = before;
	return e;
}

static enum err print(struct eval *ev, const struct value *text)
{
	enum err e = value_print(ev->out, text);
	if (e == ERR_OK && ev->out->length > ev->limits.output_max)
		e = eval_fail(ev, ERR_TOO_LARGE, "over %llu bytes of text", (unsigned long long)ev->limits.output_max);
	return e;
}

/* ---- macros */

static enum err make_macro(struct eval *ev, const struct node *node, struct value *ret_macro)
{
	struct macro *macro = arena_take(&ev->arena, sizeof(*macro));
	if (!macro)
		return ERR_TOO_LARGE;
	*macro = (struct macro){.node = node, .scope = ev->scope};
	*ret_macro = (struct value){.kind = VALUE_MACRO, .macro = macro};
	return ERR_OK;
}

enum err eval_macro(struct eval *ev, const struct node *node)
{
	struct value macro;
	enum err e = make_macro(ev, node, &macro);
	return e == ERR_OK ? eval_assign(ev, node->text, &macro) : e;
}

static bool is_parameter(const struct node *node, struct text name)
{
	for (uint32_t i = 0; i < node->name_count; i++)
		if (text_equal(node->names[i], name))
			return true;
	return node->uses_caller && text_is(name, "caller");
}

static enum err check_arguments(struct eval *ev, const struct node *node, const struct arguments *arguments)
{
	for (size_t i = 0; i < arguments->count; i++) {
		bool named = arguments->names[i].data;
		if (named ? !is_parameter(node, arguments->names[i]) : i >= node->name_count)
			return eval_fail(ev, ERR_INVALID, "macro %.*s takes no %s%.*s", (int)node->text.length,
					 node->text.data, named ? "argument " : "further argument",
					 (int)arguments->names[i].length, named ? arguments->names[i].data : "");
	}
	return ERR_OK;
}

/* In the scope of the call: defaults may name the parameters before. */
static enum err bind(struct eval *ev, const struct node *node, const struct arguments *arguments)
{
	enum err e = ERR_OK;
	size_t defaults_from = node->name_count - node->other.count;
	for (uint32_t i = 0; e == ERR_OK && i < node->name_count; i++) {
		struct value value = {.kind = VALUE_UNDEFINED, .text = node->names[i]};
		const struct value *given = NULL;
		if (i < arguments->count && !arguments->names[i].data)
			given = &arguments->values[i];
		for (size_t k = 0; !given && k < arguments->count; k++)
			if (arguments->names[k].data && text_equal(arguments->names[k], node->names[i]))
				given = &arguments->values[k];
		if (given)
			value = *given;
		else if (i >= defaults_from)
			e = eval_expression(ev, node->other.items[i - defaults_from], &value);
		if (e == ERR_OK)
			e = eval_assign(ev, node->names[i], &value);
	}
	const struct value *caller = eval_argument(arguments, SIZE_MAX, "caller");
	return e == ERR_OK && caller ? eval_assign(ev, (struct text){"caller", 6}, caller) : e;
}

enum err eval_call_macro(struct eval *ev, const struct macro *macro, const struct arguments *arguments,
			 struct value *ret_value)
{
	struct scope *before;
	enum jump jump = ev->jump;
	enum err e = check_arguments(ev, macro->node, arguments);
	if (e == ERR_OK)
		e = eval_enter_scope(ev, macro->scope, &before);
	if (e != ERR_OK)
		return e;
	ev->jump = JUMP_NONE;
	e = bind(ev, macro->node, arguments);
	if (e == ERR_OK)
		e = eval_capture(ev, &macro->node->items, NULL, ret_value);
	ev->jump = jump;
	eval_leave_scope(ev, before);
	return e;
}

enum err eval_call_block(struct eval *ev, const struct node *node)
{
	struct value callee, caller, text;
	struct arguments arguments;
	enum err e = eval_expression(ev, node->a->a, &callee);
	if (e == ERR_OK)
		e = eval_arguments(ev, &node->a->items, &arguments);
	if (e == ERR_OK)
		e = make_macro(ev, node->b, &caller);
	if (e == ERR_OK && arguments.count == EVAL_ARGUMENTS_MAX)
		e = eval_fail(ev, ERR_TOO_LARGE, "over %d arguments", EVAL_ARGUMENTS_MAX - 1);
	if (e != ERR_OK)
		return e;
	arguments.names[arguments.count] = (struct text){"caller", 6};
	arguments.values[arguments.count++] = caller;
	e = eval_call_value(ev, &callee, &arguments, &text);
	return e == ERR_OK ? print(ev, &text) : e;
}

/* ---- the others */

enum err eval_filter_block(struct eval *ev, const struct node *node)
{
	struct value text;
	enum err e = eval_capture(ev, &node->items, node->a, &text);
	return e == ERR_OK ? print(ev, &text) : e;
}

/* The values are those of the scope outside: {% with a=1, b=a %} does not know the new a. */
enum err eval_with(struct eval *ev, const struct node *node)
{
	struct arguments values = {0};
	struct scope *before;
	enum err e = ERR_OK;
	if (node->other.count > EVAL_ARGUMENTS_MAX)
		return eval_fail(ev, ERR_TOO_LARGE, "over %d names", EVAL_ARGUMENTS_MAX);
	for (size_t i = 0; e == ERR_OK && i < node->other.count; i++)
		e = eval_expression(ev, node->other.items[i]->a, &values.values[i]);
	if (e == ERR_OK)
		e = eval_enter_scope(ev, ev->scope, &before);
	if (e != ERR_OK)
		return e;
	for (size_t i = 0; e == ERR_OK && i < node->other.count; i++)
		e = eval_assign(ev, node->other.items[i]->names[0], &values.values[i]);
	if (e == ERR_OK)
		e = eval_body(ev, &node->items);
	eval_leave_scope(ev, before);
	return e;
}

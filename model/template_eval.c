#include "model/template_eval.h"

#include <stdarg.h>
#include <stdio.h>

enum err eval_fail(struct eval *ev, enum err e, const char *format, ...)
{
	char text[400];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return why_set(ev->why, e, "chat template: line %u: %s", ev->line, text);
}

enum err eval_step(struct eval *ev, uint64_t count)
{
	ev->steps += count;
	if (ev->steps > ev->limits.step_max)
		return eval_fail(ev, ERR_TOO_LARGE, "over %llu steps", (unsigned long long)ev->limits.step_max);
	return ERR_OK;
}

static enum err enter(struct eval *ev)
{
	if (++ev->depth > EVAL_DEPTH_MAX)
		return eval_fail(ev, ERR_TOO_LARGE, "nested more than %d deep", EVAL_DEPTH_MAX);
	return eval_step(ev, 1);
}

const struct value *eval_argument(const struct arguments *arguments, size_t position, const char *name)
{
	if (position < arguments->count && !arguments->names[position].data)
		return &arguments->values[position];
	for (size_t i = 0; i < arguments->count; i++)
		if (arguments->names[i].data && text_is(arguments->names[i], name))
			return &arguments->values[i];
	return NULL;
}

static void look_up(const struct eval *ev, struct text name, struct value *ret_value)
{
	for (const struct scope *scope = ev->scope; scope; scope = scope->parent) {
		const struct value *value = value_map_get(scope->names, name);
		if (value) {
			*ret_value = *value;
			return;
		}
	}
	*ret_value = (struct value){.kind = eval_is_function(name) ? VALUE_FUNCTION : VALUE_UNDEFINED, .text = name};
}

static enum err eval_list(struct eval *ev, const struct node *node, struct value *ret_value)
{
	enum err e = value_list_new(&ev->arena, ret_value);
	for (size_t i = 0; e == ERR_OK && i < node->items.count; i++) {
		struct value item;
		e = eval_expression(ev, node->items.items[i], &item);
		if (e == ERR_OK)
			e = value_list_add(&ev->arena, ret_value->list, item);
	}
	return e;
}

static enum err eval_map(struct eval *ev, const struct node *node, struct value *ret_value)
{
	enum err e = value_map_new(&ev->arena, ret_value);
	for (size_t i = 0; e == ERR_OK && i + 1 < node->items.count; i += 2) {
		struct value key, value;
		e = eval_expression(ev, node->items.items[i], &key);
		if (e == ERR_OK && key.kind != VALUE_TEXT)
			e = eval_fail(ev, ERR_UNSUPPORTED, "a key is %s, expected a string", value_kind_name(&key));
		if (e == ERR_OK)
			e = eval_expression(ev, node->items.items[i + 1], &value);
		if (e == ERR_OK)
			e = eval_step(ev, ret_value->map->count);
		if (e == ERR_OK)
			e = value_map_set(&ev->arena, ret_value->map, key.text, value);
	}
	return e;
}

static enum err eval_arguments(struct eval *ev, const struct node_list *list, struct arguments *arguments)
{
	*arguments = (struct arguments){0};
	if (list->count > EVAL_ARGUMENTS_MAX)
		return eval_fail(ev, ERR_TOO_LARGE, "over %d arguments", EVAL_ARGUMENTS_MAX);
	for (size_t i = 0; i < list->count; i++) {
		const struct node *node = list->items[i];
		if (node->kind == NODE_NAMED) {
			arguments->names[i] = node->text;
			node = node->a;
		}
		enum err e = eval_expression(ev, node, &arguments->values[i]);
		if (e != ERR_OK)
			return e;
		arguments->count++;
	}
	return ERR_OK;
}

static enum err eval_call(struct eval *ev, const struct node *node, struct value *ret_value)
{
	struct arguments arguments;
	struct value object;
	bool method = node->a->kind == NODE_ATTRIBUTE;
	enum err e = eval_expression(ev, method ? node->a->a : node->a, &object);
	if (e == ERR_OK)
		e = eval_arguments(ev, &node->items, &arguments);
	if (e != ERR_OK)
		return e;
	if (method)
		return eval_method(ev, &object, node->a->text, &arguments, ret_value);
	if (object.kind == VALUE_FUNCTION)
		return eval_function(ev, object.text, &arguments, ret_value);
	if (object.kind == VALUE_UNDEFINED)
		return eval_fail(ev, ERR_INVALID, "'%.*s' is undefined", (int)object.text.length, object.text.data);
	return eval_fail(ev, ERR_INVALID, "%s is no function", value_kind_name(&object));
}

static enum err eval_filtered(struct eval *ev, const struct node *node, struct value *ret_value)
{
	struct value value;
	struct arguments arguments;
	enum err e = eval_expression(ev, node->a, &value);
	if (e == ERR_OK)
		e = eval_arguments(ev, &node->items, &arguments);
	return e == ERR_OK ? eval_filter_find(node->text)(ev, &value, &arguments, ret_value) : e;
}

static enum err eval_tested(struct eval *ev, const struct node *node, struct value *ret_value)
{
	struct value value;
	struct arguments arguments;
	enum err e = eval_expression(ev, node->a, &value);
	if (e == ERR_OK)
		e = eval_arguments(ev, &node->items, &arguments);
	if (e != ERR_OK)
		return e;
	struct value nothing = {.kind = VALUE_UNDEFINED};
	bool yes = eval_test_find(node->text)(&value, arguments.count ? &arguments.values[0] : &nothing);
	*ret_value = value_bool(yes != node->negated);
	return ERR_OK;
}

static enum err eval_subscript(struct eval *ev, const struct node *node, struct value *ret_value)
{
	struct value object, parts[3] = {{0}, {0}, {0}};
	enum err e = eval_expression(ev, node->a, &object);
	if (e == ERR_OK && node->kind == NODE_ITEM) {
		e = eval_expression(ev, node->b, &parts[0]);
		return e == ERR_OK ? eval_item(ev, &object, &parts[0], ret_value) : e;
	}
	for (size_t i = 0; e == ERR_OK && i < 3; i++)
		if (node->items.items[i])
			e = eval_expression(ev, node->items.items[i], &parts[i]);
	return e == ERR_OK ? eval_slice(ev, &object, parts, ret_value) : e;
}

/* and, or: the value that decided, as in Python. */
static enum err eval_logic(struct eval *ev, const struct node *node, struct value *ret_value)
{
	enum err e = eval_expression(ev, node->a, ret_value);
	if (e != ERR_OK || value_truth(ret_value) == (node->kind == NODE_OR))
		return e;
	return eval_expression(ev, node->b, ret_value);
}

static enum err eval_choice(struct eval *ev, const struct node *node, struct value *ret_value)
{
	struct value condition;
	enum err e = eval_expression(ev, node->a, &condition);
	if (e != ERR_OK)
		return e;
	if (value_truth(&condition))
		return eval_expression(ev, node->b, ret_value);
	if (node->items.count)
		return eval_expression(ev, node->items.items[0], ret_value);
	*ret_value = (struct value){.kind = VALUE_UNDEFINED};
	return ERR_OK;
}

static enum err eval_unary(struct eval *ev, const struct node *node, struct value *ret_value)
{
	struct value value;
	enum err e = eval_expression(ev, node->a, &value);
	if (e != ERR_OK)
		return e;
	if (node->kind == NODE_NOT) {
		*ret_value = value_bool(!value_truth(&value));
		return ERR_OK;
	}
	if (value.kind == VALUE_FLOAT) { /* 0 - 0.0 is not -0.0 */
		*ret_value = (struct value){.kind = VALUE_FLOAT, .number = -value.number};
		return ERR_OK;
	}
	struct value zero = value_int(0);
	return eval_binary(ev, (struct text){"-", 1}, &zero, &value, ret_value);
}

static enum err eval_operation(struct eval *ev, const struct node *node, struct value *ret_value)
{
	struct value a, b;
	enum err e = eval_expression(ev, node->a, &a);
	if (e == ERR_OK)
		e = eval_expression(ev, node->b, &b);
	if (e == ERR_OK)
		e = eval_binary(ev, node->text, &a, &b, ret_value);
	if (e == ERR_OK && node->negated)
		*ret_value = value_bool(!value_truth(ret_value));
	return e;
}

static enum err eval_kind(struct eval *ev, const struct node *node, struct value *ret_value)
{
	struct value object;
	enum err e;
	switch (node->kind) {
	case NODE_CONSTANT:
		*ret_value = node->constant;
		return ERR_OK;
	case NODE_NAME:
		look_up(ev, node->text, ret_value);
		return ERR_OK;
	case NODE_LIST:
		return eval_list(ev, node, ret_value);
	case NODE_MAP:
		return eval_map(ev, node, ret_value);
	case NODE_ATTRIBUTE:
		e = eval_expression(ev, node->a, &object);
		return e == ERR_OK ? eval_attribute(ev, &object, node->text, ret_value) : e;
	case NODE_ITEM:
	case NODE_SLICE:
		return eval_subscript(ev, node, ret_value);
	case NODE_CALL:
		return eval_call(ev, node, ret_value);
	case NODE_FILTER:
		return eval_filtered(ev, node, ret_value);
	case NODE_TEST:
		return eval_tested(ev, node, ret_value);
	case NODE_NOT:
	case NODE_NEGATE:
		return eval_unary(ev, node, ret_value);
	case NODE_AND:
	case NODE_OR:
		return eval_logic(ev, node, ret_value);
	case NODE_CHOICE:
		return eval_choice(ev, node, ret_value);
	case NODE_BINARY:
		return eval_operation(ev, node, ret_value);
	default:
		return eval_fail(ev, ERR_INVALID, "this is no expression");
	}
}

enum err eval_expression(struct eval *ev, const struct node *node, struct value *ret_value)
{
	ev->line = node->line;
	enum err e = enter(ev);
	if (e == ERR_OK)
		e = eval_kind(ev, node, ret_value);
	ev->depth--;
	return e;
}

static enum err check_output(struct eval *ev)
{
	return ev->out->length <= ev->limits.output_max
		       ? ERR_OK
		       : eval_fail(ev, ERR_TOO_LARGE, "over %llu bytes of text",
				   (unsigned long long)ev->limits.output_max);
}

static enum err run_print(struct eval *ev, const struct node *node)
{
	struct value value;
	enum err e = eval_expression(ev, node->a, &value);
	if (e == ERR_OK)
		e = value_print(ev->out, &value);
	return e == ERR_OK ? check_output(ev) : e;
}

static enum err run_if(struct eval *ev, const struct node *node)
{
	for (;;) {
		struct value condition;
		enum err e = eval_expression(ev, node->a, &condition);
		if (e != ERR_OK)
			return e;
		if (value_truth(&condition))
			return eval_body(ev, &node->items);
		if (node->other.count != 1 || node->other.items[0]->kind != NODE_IF)
			return eval_body(ev, &node->other);
		node = node->other.items[0]; /* elif */
	}
}

/* Names take a value: one name all of it, several one item each. */
static enum err assign(struct eval *ev, const struct node *node, const struct value *value)
{
	if (node->name_count == 1)
		return value_map_set(&ev->arena, ev->scope->names, node->names[0], *value);
	if (value->kind != VALUE_LIST || value->list->count != node->name_count)
		return eval_fail(ev, ERR_INVALID, "expected a list of %u items to unpack", node->name_count);
	enum err e = ERR_OK;
	for (uint32_t i = 0; i < node->name_count && e == ERR_OK; i++)
		e = value_map_set(&ev->arena, ev->scope->names, node->names[i], value->list->items[i]);
	return e;
}

static enum err run_set(struct eval *ev, const struct node *node)
{
	struct value value, space;
	enum err e = eval_expression(ev, node->a, &value);
	if (e != ERR_OK || !node->b)
		return e == ERR_OK ? assign(ev, node, &value) : e;
	look_up(ev, node->b->text, &space);
	if (space.kind != VALUE_MAP || !space.map->is_namespace)
		return eval_fail(ev, ERR_INVALID, "%.*s is no namespace", (int)node->b->text.length,
				 node->b->text.data);
	return value_map_set(&ev->arena, space.map, node->text, value);
}

static enum err run_set_block(struct eval *ev, const struct node *node)
{
	struct buf *outer = ev->out, inner = {0};
	struct value text;
	ev->out = &inner;
	enum err e = eval_body(ev, &node->items);
	ev->out = outer;
	if (e == ERR_OK)
		e = value_copy_text(&ev->arena, inner.data, inner.length, &text);
	buf_fini(&inner);
	return e == ERR_OK ? assign(ev, node, &text) : e;
}

/* What "loop" says in the iteration `index` of `items`. */
static enum err set_loop(struct eval *ev, struct value_map *loop, const struct value_list *items, size_t index)
{
	const struct value nothing = {.kind = VALUE_UNDEFINED, .text = {"loop item", 9}};
	const struct value_pair pairs[] = {
		{{"index", 5}, value_int((int64_t)index + 1)},
		{{"index0", 6}, value_int((int64_t)index)},
		{{"revindex", 8}, value_int((int64_t)(items->count - index))},
		{{"revindex0", 9}, value_int((int64_t)(items->count - index - 1))},
		{{"first", 5}, value_bool(index == 0)},
		{{"last", 4}, value_bool(index + 1 == items->count)},
		{{"length", 6}, value_int((int64_t)items->count)},
		{{"previtem", 8}, index ? items->items[index - 1] : nothing},
		{{"nextitem", 8}, index + 1 < items->count ? items->items[index + 1] : nothing},
	};
	enum err e = ERR_OK;
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]) && e == ERR_OK; i++)
		e = value_map_set(&ev->arena, loop, pairs[i].key, pairs[i].value);
	return e;
}

/* The items for which the loop's own "if" holds. */
static enum err select_items(struct eval *ev, const struct node *node, struct value *items)
{
	struct value chosen, condition;
	enum err e = value_list_new(&ev->arena, &chosen);
	for (size_t i = 0; e == ERR_OK && i < items->list->count; i++) {
		ev->scope->names->count = 0;
		e = assign(ev, node, &items->list->items[i]);
		if (e == ERR_OK)
			e = eval_expression(ev, node->b, &condition);
		if (e == ERR_OK && value_truth(&condition))
			e = value_list_add(&ev->arena, chosen.list, items->list->items[i]);
	}
	*items = chosen;
	return e;
}

static enum err run_iterations(struct eval *ev, const struct node *node, const struct value_list *items)
{
	struct value loop;
	enum err e = value_map_new(&ev->arena, &loop);
	for (size_t i = 0; e == ERR_OK && i < items->count && ev->jump != JUMP_BREAK; i++) {
		ev->jump = JUMP_NONE;
		ev->scope->names->count = 0; /* what the last iteration set is gone */
		e = set_loop(ev, loop.map, items, i);
		if (e == ERR_OK)
			e = value_map_set(&ev->arena, ev->scope->names, (struct text){"loop", 4}, loop);
		if (e == ERR_OK)
			e = assign(ev, node, &items->items[i]);
		if (e == ERR_OK)
			e = eval_body(ev, &node->items);
	}
	ev->jump = JUMP_NONE;
	return e;
}

static enum err run_for(struct eval *ev, const struct node *node)
{
	struct value iterated, items, names;
	enum err e = eval_expression(ev, node->a, &iterated);
	if (e == ERR_OK)
		e = eval_items(ev, &iterated, &items);
	if (e == ERR_OK)
		e = value_map_new(&ev->arena, &names);
	if (e != ERR_OK)
		return e;
	struct scope scope = {.parent = ev->scope, .names = names.map};
	ev->scope = &scope;
	if (node->b)
		e = select_items(ev, node, &items);
	if (e == ERR_OK)
		e = run_iterations(ev, node, items.list);
	ev->scope = scope.parent;
	return e == ERR_OK && items.list->count == 0 ? eval_body(ev, &node->other) : e;
}

static enum err run(struct eval *ev, const struct node *node)
{
	enum err e;
	switch (node->kind) {
	case NODE_DATA:
		e = buf_append(ev->out, node->text.data, node->text.length);
		return e == ERR_OK ? check_output(ev) : e;
	case NODE_PRINT:
		return run_print(ev, node);
	case NODE_IF:
		return run_if(ev, node);
	case NODE_FOR:
		return run_for(ev, node);
	case NODE_SET:
		return run_set(ev, node);
	case NODE_SET_BLOCK:
		return run_set_block(ev, node);
	case NODE_BREAK:
	case NODE_CONTINUE:
		ev->jump = node->kind == NODE_BREAK ? JUMP_BREAK : JUMP_CONTINUE;
		return ERR_OK;
	default:
		return eval_fail(ev, ERR_INVALID, "this is no statement");
	}
}

enum err eval_body(struct eval *ev, const struct node_list *body)
{
	enum err e = enter(ev);
	for (size_t i = 0; e == ERR_OK && i < body->count && ev->jump == JUMP_NONE; i++) {
		ev->line = body->items[i]->line;
		e = eval_step(ev, 1);
		if (e == ERR_OK)
			e = run(ev, body->items[i]);
	}
	ev->depth--;
	return e;
}

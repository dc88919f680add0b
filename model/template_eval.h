/* template_eval - walks a template's tree; and the filters, tests, functions and methods it may call.
 *
 * Only this room.  Bounds: struct template_options, and EVAL_DEPTH_MAX nested evaluations. */
#ifndef MODEL_TEMPLATE_EVAL_H
#define MODEL_TEMPLATE_EVAL_H
#include "model/template.h"
#include "model/template_parse.h"

#define EVAL_DEPTH_MAX     400
#define EVAL_ARGUMENTS_MAX 16

struct scope {
	struct scope *parent;
	struct value_map *names;
};

enum jump { JUMP_NONE, JUMP_BREAK, JUMP_CONTINUE };

struct eval {
	struct arena arena;
	struct template_options limits;
	uint64_t steps;
	uint32_t depth;
	uint32_t line; /* of the statement that runs */
	struct scope *scope;
	enum jump jump;
	struct buf *out;
	struct why *why;
	const struct value *captured; /* what the block of the filter at hand printed */
};

/* A macro where it was defined: what it does not know it asks there. */
struct macro {
	const struct node *node;
	struct scope *scope;
};

/* Arguments of a call: by position first, names where given. */
struct arguments {
	struct value values[EVAL_ARGUMENTS_MAX];
	struct text names[EVAL_ARGUMENTS_MAX]; /* data NULL: by position */
	size_t count;
};

/* template_macro.c: statements that capture what they print. */
MUST_USE enum err eval_macro(struct eval *ev, const struct node *node); /* defines it */
MUST_USE enum err eval_call_macro(struct eval *ev, const struct macro *macro, const struct arguments *arguments,
				  struct value *ret_value);
MUST_USE enum err eval_call_block(struct eval *ev, const struct node *node);
MUST_USE enum err eval_filter_block(struct eval *ev, const struct node *node);
MUST_USE enum err eval_with(struct eval *ev, const struct node *node);
/* What a body prints; through `filters` unless NULL. */
MUST_USE enum err eval_capture(struct eval *ev, const struct node_list *body, const struct node *filters,
			       struct value *ret_text);

/* template_eval.c: a scope within the one at hand; eval_leave_scope() ends it. */
MUST_USE enum err eval_enter_scope(struct eval *ev, struct scope *parent, struct scope **ret_before);
void eval_leave_scope(struct eval *ev, struct scope *before);
MUST_USE enum err eval_assign(struct eval *ev, struct text name, const struct value *value);
MUST_USE enum err eval_arguments(struct eval *ev, const struct node_list *list, struct arguments *arguments);

MUST_USE enum err eval_body(struct eval *ev, const struct node_list *body);
MUST_USE enum err eval_expression(struct eval *ev, const struct node *node, struct value *ret_value);

/* The reason gets the line in front; returns e. */
enum err eval_fail(struct eval *ev, enum err e, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* `count` units of work are done; ERR_TOO_LARGE over the limit. */
MUST_USE enum err eval_step(struct eval *ev, uint64_t count);

/* The argument at that position or of that name; NULL: not given. */
const struct value *eval_argument(const struct arguments *arguments, size_t position, const char *name);

typedef enum err eval_filter(struct eval *ev, const struct value *value, const struct arguments *arguments,
			     struct value *ret_value);
/* argument: UNDEFINED where there is none. */
typedef enum err eval_test(struct eval *ev, const struct value *value, const struct value *argument, bool *ret_yes);

MUST_USE enum err eval_equal(struct eval *ev, const struct value *a, const struct value *b, bool *ret_equal);
/* < 0, 0, > 0; ERR_INVALID: they have no order. */
MUST_USE enum err eval_order(struct eval *ev, struct text operator, const struct value *a, const struct value *b,
			     int *ret_order);
MUST_USE enum err eval_contains(struct eval *ev, const struct value *item, const struct value *container,
				bool *ret_found);

/* NULL: there is none of that name. */
eval_filter *eval_filter_find(struct text name);
eval_test *eval_test_find(struct text name);
MUST_USE enum err eval_method(struct eval *ev, const struct value *object, struct text name,
			      const struct arguments *arguments, struct value *ret_value);
bool eval_is_function(struct text name);
/* Python's name of something that such a value can do: x.name without a call. */
bool eval_is_method(const struct value *object, struct text name);
/* A macro, or a function by name. */
MUST_USE enum err eval_call_value(struct eval *ev, const struct value *callee, const struct arguments *arguments,
				  struct value *ret_value);
/* datetime.strftime() of ev->limits.now_s in UTC. */
MUST_USE enum err eval_strftime(struct eval *ev, struct text format, struct value *ret_text);

/* a OP b, where OP is one of + - * / // % ** ~ == != < <= > >= in. */
MUST_USE enum err eval_binary(struct eval *ev, struct text operator, const struct value *a, const struct value *b,
			      struct value *ret_value);
/* x.name: undefined where there is no such attribute. */
MUST_USE enum err eval_attribute(struct eval *ev, const struct value *object, struct text name,
				 struct value *ret_value);
MUST_USE enum err eval_item(struct eval *ev, const struct value *object, const struct value *key,
			    struct value *ret_value);
/* x.a.b, x.0: as the attribute="..." of filters has it. */
MUST_USE enum err eval_path(struct eval *ev, const struct value *object, struct text path, struct value *ret_value);
/* start, stop, step: undefined where absent. */
MUST_USE enum err eval_slice(struct eval *ev, const struct value *object, const struct value parts[3],
			     struct value *ret_value);
/* What a for goes through: a list of items, of a map's keys, of a text's characters. */
MUST_USE enum err eval_items(struct eval *ev, const struct value *value, struct value *ret_list);
/* Counts what it costs to print; before it is printed. */
MUST_USE enum err eval_charge(struct eval *ev, const struct value *value);
/* The text that {{ value }} prints, as a value. */
MUST_USE enum err eval_to_text(struct eval *ev, const struct value *value, struct value *ret_text);
#endif

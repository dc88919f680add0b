/* template_eval - walks a template's tree; and the filters, tests, functions and methods it may call.
 *
 * Only this room.  Bounds: struct template_limits, and EVAL_DEPTH_MAX nested evaluations. */
#ifndef MODEL_TEMPLATE_EVAL_H
#define MODEL_TEMPLATE_EVAL_H
#include "model/template.h"
#include "model/template_parse.h"

#define EVAL_DEPTH_MAX     400
#define EVAL_ARGUMENTS_MAX 8

struct scope {
	struct scope *parent;
	struct value_map *names;
};

enum jump { JUMP_NONE, JUMP_BREAK, JUMP_CONTINUE };

struct eval {
	struct arena arena;
	struct template_limits limits;
	uint64_t steps;
	uint32_t depth;
	uint32_t line; /* of the statement that runs */
	struct scope *scope;
	enum jump jump;
	struct buf *out;
	struct why *why;
};

/* Arguments of a call: by position first, names where given. */
struct arguments {
	struct value values[EVAL_ARGUMENTS_MAX];
	struct text names[EVAL_ARGUMENTS_MAX]; /* data NULL: by position */
	size_t count;
};

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
typedef bool eval_test(const struct value *value, const struct value *argument);

/* NULL: there is none of that name. */
eval_filter *eval_filter_find(struct text name);
eval_test *eval_test_find(struct text name);
MUST_USE enum err eval_function(struct eval *ev, struct text name, const struct arguments *arguments,
				struct value *ret_value);
MUST_USE enum err eval_method(struct eval *ev, const struct value *object, struct text name,
			      const struct arguments *arguments, struct value *ret_value);
bool eval_is_function(struct text name);

/* a OP b, where OP is one of + - * / // % ** ~ == != < <= > >= in. */
MUST_USE enum err eval_binary(struct eval *ev, struct text operator, const struct value *a, const struct value *b,
			      struct value *ret_value);
/* Undefined where there is no such attribute. */
MUST_USE enum err eval_attribute(struct eval *ev, const struct value *object, struct text name,
				 struct value *ret_value);
MUST_USE enum err eval_item(struct eval *ev, const struct value *object, const struct value *key,
			    struct value *ret_value);
/* start, stop, step: undefined where absent. */
MUST_USE enum err eval_slice(struct eval *ev, const struct value *object, const struct value parts[3],
			     struct value *ret_value);
/* What a for goes through: a list of items, of a map's keys, of a text's characters. */
MUST_USE enum err eval_items(struct eval *ev, const struct value *value, struct value *ret_list);
/* The text that {{ value }} prints, as a value. */
MUST_USE enum err eval_to_text(struct eval *ev, const struct value *value, struct value *ret_text);
#endif

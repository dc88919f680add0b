/* template_text - operations on texts that filters and methods share.  Only this room. */
#ifndef MODEL_TEMPLATE_TEXT_H
#define MODEL_TEMPLATE_TEXT_H
#include "model/template_eval.h"

enum strip_side { STRIP_LEFT = 1, STRIP_RIGHT = 2, STRIP_BOTH = 3 };
/* Without the characters of `set`, or without whitespace where set is NULL; not copied. */
struct text text_strip(struct text text, const struct text *set, enum strip_side side);

enum text_case { CASE_UPPER, CASE_LOWER, CASE_CAPITALIZE, CASE_TITLE };
MUST_USE enum err text_change_case(struct eval *ev, struct text text, enum text_case to, struct value *ret_value);
MUST_USE enum err text_replace(struct eval *ev, struct text text, struct text from, struct text to,
			       int64_t count_max, struct value *ret_value);
/* By whitespace where separator is NULL. */
MUST_USE enum err text_split(struct eval *ev, struct text text, const struct text *separator, int64_t count_max,
			     struct value *ret_value);
/* From the right: the first part holds the rest. */
MUST_USE enum err text_rsplit(struct eval *ev, struct text text, const struct text *separator, int64_t count_max,
			      struct value *ret_value);
/* At every end of a line that Python knows. */
MUST_USE enum err text_split_lines(struct eval *ev, struct text text, bool keep_ends, struct value *ret_value);
/* NULL: it is not there. */
const char *text_find(struct text text, struct text part);
const char *text_find_last(struct text text, struct text part);

typedef enum err eval_text_method(struct eval *ev, const struct value *object, const struct arguments *arguments,
				  struct value *ret_value);
/* NULL: there is none of that name. */
eval_text_method *eval_text_method_find(struct text name);
MUST_USE enum err text_join(struct eval *ev, const struct value *items, struct text separator,
			    struct value *ret_value);
#endif

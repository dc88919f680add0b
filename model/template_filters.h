/* template_filters - the filters of lists, and what they share with the others.  Only this room. */
#ifndef MODEL_TEMPLATE_FILTERS_H
#define MODEL_TEMPLATE_FILTERS_H
#include "model/template_eval.h"

#define FILTER(name)                                                                                    \
	enum err filter_##name(struct eval *ev, const struct value *value, const struct arguments *arguments, \
			       struct value *ret_value)

/* The argument as text; the fallback where it is absent. */
MUST_USE enum err filter_text_argument(struct eval *ev, const struct arguments *arguments, size_t position,
				       const char *name, const char *fallback, struct text *ret_text);

eval_filter filter_trim;
eval_filter filter_tojson;
eval_filter filter_length;
eval_filter filter_default;
eval_filter filter_upper;
eval_filter filter_lower;
eval_filter filter_capitalize;
eval_filter filter_title;
eval_filter filter_string;
eval_filter filter_int;
eval_filter filter_float;
eval_filter filter_abs;
eval_filter filter_safe;
eval_filter filter_replace;
eval_filter filter_indent;
eval_filter filter_join;
eval_filter filter_list;
eval_filter filter_first;
eval_filter filter_last;
eval_filter filter_reverse;
eval_filter filter_items;
eval_filter filter_map;
eval_filter filter_select;
eval_filter filter_reject;
eval_filter filter_selectattr;
eval_filter filter_rejectattr;
eval_filter filter_sort;
eval_filter filter_unique;
eval_filter filter_dictsort;
eval_filter filter_sum;
eval_filter filter_min;
eval_filter filter_max;
#endif

#include "model/pattern.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "model/utf8.h"

void pattern_set_regex(struct pattern *pattern, struct json_in *in, const char *regex)
{
	if (in->e != ERR_OK)
		return;
	in->e = regex_compile(regex, strlen(regex), in->why, &pattern->regex);
	if (in->e != ERR_OK)
		why_prefix(in->why, "%s", in->file);
}

void pattern_set_literal(struct pattern *pattern, struct json_in *in, const char *text)
{
	if (in->e != ERR_OK)
		return;
	pattern->literal = strdup(text);
	pattern->length = strlen(text);
	if (!pattern->literal)
		in->e = ERR_NOMEM;
}

void pattern_load(struct pattern *pattern, struct json_in *in)
{
	const json_t *value = json_in_get(in, "pattern");
	const char *regex = json_string_value(json_object_get(value, "Regex"));
	const char *literal = json_string_value(json_object_get(value, "String"));
	if (regex)
		pattern_set_regex(pattern, in, regex);
	else if (literal && literal[0])
		pattern_set_literal(pattern, in, literal);
	else
		json_in_refuse(in, ERR_INVALID, "pattern", "{\"Regex\": ...}, or {\"String\": ...} that is not empty");
}

bool pattern_is_set(const struct pattern *pattern)
{
	return pattern->literal || pattern->regex;
}

void pattern_fini(struct pattern *pattern)
{
	free(pattern->literal);
	regex_destroy(pattern->regex);
	*pattern = (struct pattern){0};
}

void pattern_search_init(struct pattern_search *search, const struct pattern *pattern,
			 struct regex_scratch *scratch, const char *text, size_t length)
{
	*search = (struct pattern_search){.pattern = pattern, .scratch = scratch, .text = text, .length = length,
					  .match_end = SIZE_MAX};
}

static enum err next_literal(struct pattern_search *search, size_t *ret_begin, size_t *ret_end)
{
	const struct pattern *pattern = search->pattern;
	const char *found = memmem(search->text + search->at, search->length - search->at, pattern->literal,
				   pattern->length);
	if (!found)
		return ERR_NOT_FOUND;
	*ret_begin = (size_t)(found - search->text);
	*ret_end = search->at = *ret_begin + pattern->length;
	return ERR_OK;
}

enum err pattern_next(struct pattern_search *search, size_t *ret_begin, size_t *ret_end)
{
	if (search->pattern->literal)
		return next_literal(search, ret_begin, ret_end);
	while (search->at <= search->length) {
		size_t begin, end;
		enum err e = regex_next(search->pattern->regex, search->scratch, search->text, search->length,
					search->at, &begin, &end);
		if (e != ERR_OK)
			return e;
		if (begin != end || end != search->match_end) {
			*ret_begin = begin;
			*ret_end = search->at = search->match_end = end;
			return ERR_OK;
		}
		/* An empty match right behind a match is none. */
		uint32_t character;
		search->at += search->at < search->length
				      ? (size_t)utf8_step((const uint8_t *)search->text + search->at,
							  search->length - search->at, &character)
				      : 1;
	}
	return ERR_NOT_FOUND;
}

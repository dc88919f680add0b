#include "coordinator/request_fields.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const json_t *field_get(const struct fields *fields, const char *key)
{
	const json_t *value = json_object_get(fields->object, key);
	return json_is_null(value) ? NULL : value;
}

void field_refuse(struct fields *fields, const char *key, const char *format, ...)
{
	if (fields->e != ERR_OK)
		return;
	char name[64], text[400];
	snprintf(name, sizeof(name), "%s%s", fields->prefix ? fields->prefix : "", key);
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	fields->e = api_error_field(fields->error, name, "%s: %s", name, text);
}

double field_number(struct fields *fields, const char *key, double min, double max, double fallback)
{
	const json_t *value = field_get(fields, key);
	if (!value)
		return fallback;
	double number = json_number_value(value);
	if (json_is_number(value) && number >= min && number <= max)
		return number;
	field_refuse(fields, key, "expected a number from %g to %g", min, max);
	return fallback;
}

double field_above(struct fields *fields, const char *key, double low, double max, double fallback)
{
	double number = field_number(fields, key, low, max, fallback);
	if (number > low)
		return number;
	field_refuse(fields, key, "is %g, expected a number above %g, at most %g", number, low, max);
	return fallback;
}

int64_t field_integer(struct fields *fields, const char *key, int64_t min, int64_t max, int64_t fallback)
{
	const json_t *value = field_get(fields, key);
	if (!value)
		return fallback;
	int64_t number = json_integer_value(value);
	if (json_is_integer(value) && number >= min && number <= max)
		return number;
	field_refuse(fields, key, "expected an integer from %lld to %lld", (long long)min, (long long)max);
	return fallback;
}

bool field_bool(struct fields *fields, const char *key, bool fallback)
{
	const json_t *value = field_get(fields, key);
	if (value && !json_is_boolean(value))
		field_refuse(fields, key, "expected true or false");
	return json_is_boolean(value) ? json_is_true(value) : fallback;
}

const char *field_text(struct fields *fields, const char *key, size_t length_max, const char *fallback)
{
	const json_t *value = field_get(fields, key);
	if (!value)
		return fallback;
	if (json_is_string(value) && json_string_length(value) <= length_max)
		return json_string_value(value);
	field_refuse(fields, key, "expected a text of at most %zu bytes", length_max);
	return fallback;
}

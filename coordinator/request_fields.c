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

const char *field_describe(const json_t *value, char text[FIELD_GOT])
{
	static const char *const kinds[] = {[JSON_OBJECT] = "an object", [JSON_ARRAY] = "a list", [JSON_TRUE] = "true",
					    [JSON_FALSE] = "false", [JSON_NULL] = "null"};
	switch (json_typeof(value)) {
	case JSON_INTEGER:
		snprintf(text, FIELD_GOT, "is %lld", (long long)json_integer_value(value));
		break;
	case JSON_REAL:
		snprintf(text, FIELD_GOT, "is %g", json_real_value(value));
		break;
	case JSON_STRING:
		snprintf(text, FIELD_GOT, "is a text of %zu bytes", json_string_length(value));
		break;
	default:
		snprintf(text, FIELD_GOT, "is %s", kinds[json_typeof(value)]);
		break;
	}
	return text;
}

double field_number(struct fields *fields, const char *key, double min, double max, double fallback)
{
	const json_t *value = field_get(fields, key);
	if (!value)
		return fallback;
	double number = json_number_value(value);
	if (json_is_number(value) && number >= min && number <= max)
		return number;
	char got[FIELD_GOT];
	field_refuse(fields, key, "%s, expected a number from %g to %g", field_describe(value, got), min, max);
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
	char got[FIELD_GOT];
	field_refuse(fields, key, "%s, expected an integer from %lld to %lld", field_describe(value, got), (long long)min,
		     (long long)max);
	return fallback;
}

bool field_bool(struct fields *fields, const char *key, bool fallback)
{
	const json_t *value = field_get(fields, key);
	char got[FIELD_GOT];
	if (value && !json_is_boolean(value))
		field_refuse(fields, key, "%s, expected true or false", field_describe(value, got));
	return json_is_boolean(value) ? json_is_true(value) : fallback;
}

const char *field_text(struct fields *fields, const char *key, size_t length_max, const char *fallback)
{
	const json_t *value = field_get(fields, key);
	if (!value)
		return fallback;
	if (json_is_string(value) && json_string_length(value) <= length_max)
		return json_string_value(value);
	char got[FIELD_GOT];
	field_refuse(fields, key, "%s, expected a text of at most %zu bytes", field_describe(value, got), length_max);
	return fallback;
}

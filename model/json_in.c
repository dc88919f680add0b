#include "model/json_in.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static enum err read_all(int fd, char *data, size_t length, const char *path, struct why *why)
{
	size_t done = 0;
	while (done < length) {
		ssize_t n = read(fd, data + done, length - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return why_set(why, ERR_IO, "%s: read failed: %s", path,
				       n < 0 ? strerror(errno) : "the file became shorter");
		done += (size_t)n;
	}
	return ERR_OK;
}

enum err file_read(const char *path, size_t length_max, struct why *why, char **ret_data, size_t *ret_length)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe would wait for its writer */
	if (fd < 0)
		return why_set(why, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s: %s", path, strerror(errno));
	struct stat st;
	enum err e = ERR_OK;
	char *data = NULL;
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		e = why_set(why, ERR_IO, "%s: not a regular file", path);
		goto close_file;
	}
	if (st.st_size < 0 || (uint64_t)st.st_size > length_max) {
		e = why_set(why, ERR_TOO_LARGE, "%s: %lld bytes, expected at most %zu", path,
			    (long long)st.st_size, length_max);
		goto close_file;
	}
	data = malloc((size_t)st.st_size + 1);
	if (!data) {
		e = ERR_NOMEM;
		goto close_file;
	}
	e = read_all(fd, data, (size_t)st.st_size, path, why);
	if (e != ERR_OK) {
		free(data);
		goto close_file;
	}
	data[st.st_size] = 0;
	*ret_data = data;
	*ret_length = (size_t)st.st_size;
close_file:
	close(fd);
	return e;
}

/* jansson itself recurses up to 2048 deep; ask for less before it starts. */
static bool depth_ok(const char *json, size_t length)
{
	size_t depth = 0;
	bool in_text = false;
	for (size_t i = 0; i < length; i++) {
		char c = json[i];
		if (in_text) {
			if (c == '\\')
				i++;
			else if (c == '"')
				in_text = false;
		} else if (c == '"') {
			in_text = true;
		} else if (c == '{' || c == '[') {
			if (++depth > JSON_IN_DEPTH_MAX)
				return false;
		} else if ((c == '}' || c == ']') && depth > 0) {
			depth--;
		}
	}
	return true;
}

enum err json_in_parse(const char *json, size_t length, const char *file, struct why *why, json_t **ret_object)
{
	if (!depth_ok(json, length))
		return why_set(why, ERR_TOO_LARGE, "%s: nested more than %d deep", file, JSON_IN_DEPTH_MAX);
	json_error_t error;
	json_t *object = json_loadb(json, length, JSON_REJECT_DUPLICATES, &error);
	/* tokenizer_config.json says 1e30 in digits where it means "no limit". */
	if (!object && json_error_code(&error) == json_error_numeric_overflow)
		object = json_loadb(json, length, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &error);
	if (!object && json_error_code(&error) == json_error_out_of_memory)
		return why_set(why, ERR_NOMEM, "%s: no memory to read it", file);
	if (!object)
		return why_set(why, ERR_INVALID, "%s: line %d: %s", file, error.line, error.text);
	if (!json_is_object(object)) {
		json_decref(object);
		return why_set(why, ERR_INVALID, "%s: expected an object", file);
	}
	*ret_object = object;
	return ERR_OK;
}

const json_t *json_in_get(const struct json_in *in, const char *key)
{
	const json_t *value = json_object_get(in->object, key);
	return json_is_null(value) ? NULL : value;
}

bool json_in_has(const struct json_in *in, const char *key)
{
	return json_in_get(in, key) != NULL;
}

void json_in_refuse(struct json_in *in, enum err e, const char *key, const char *expected)
{
	if (in->e != ERR_OK)
		return;
	in->e = e;
	const json_t *value = json_object_get(in->object, key);
	if (!value) {
		why_set(in->why, e, "%s: %s is missing, expected %s", in->file, key, expected);
		return;
	}
	char text[120];
	size_t length = json_dumpb(value, text, sizeof(text) - 1, JSON_ENCODE_ANY | JSON_COMPACT);
	if (length > sizeof(text) - 1) {
		length = sizeof(text) - 1;
		memcpy(text + length - 3, "...", 3);
	}
	text[length] = 0;
	why_set(in->why, e, "%s: %s is %s, expected %s", in->file, key, text, expected);
}

uint32_t json_in_u32(struct json_in *in, const char *key, uint32_t min, uint32_t max, const uint32_t *fallback)
{
	const json_t *value = json_in_get(in, key);
	if (!value && fallback)
		return *fallback;
	json_int_t number = json_integer_value(value);
	if (json_is_integer(value) && number >= (json_int_t)min && number <= (json_int_t)max)
		return (uint32_t)number;
	char expected[64];
	snprintf(expected, sizeof(expected), "a whole number from %u to %u", min, max);
	json_in_refuse(in, ERR_INVALID, key, expected);
	return min;
}

double json_in_f64(struct json_in *in, const char *key, double min, double max, const double *fallback)
{
	const json_t *value = json_in_get(in, key);
	if (!value && fallback)
		return *fallback;
	double number = json_number_value(value);
	if (json_is_number(value) && number >= min && number <= max)
		return number;
	char expected[64];
	snprintf(expected, sizeof(expected), "a number from %g to %g", min, max);
	json_in_refuse(in, ERR_INVALID, key, expected);
	return min;
}

bool json_in_bool(struct json_in *in, const char *key, bool fallback)
{
	const json_t *value = json_in_get(in, key);
	if (!value)
		return fallback;
	if (!json_is_boolean(value))
		json_in_refuse(in, ERR_INVALID, key, "true or false");
	return json_is_true(value);
}

const char *json_in_text(struct json_in *in, const char *key)
{
	const json_t *value = json_in_get(in, key);
	if (!value)
		return NULL;
	if (!json_is_string(value))
		json_in_refuse(in, ERR_INVALID, key, "a string");
	return json_string_value(value);
}

static enum err walk(const struct json_in_steps *steps, const json_t *config, int depth, struct why *why)
{
	struct json_in in = {.object = config, .file = steps->file, .why = why};
	const char *type = json_in_text(&in, "type");
	if (!type)
		json_in_refuse(&in, ERR_INVALID, "type", "a string");
	if (in.e != ERR_OK)
		return in.e;
	if (strcmp(type, "Sequence") != 0) {
		steps->take(steps->context, &in, type);
		return in.e;
	}
	const json_t *list = json_in_get(&in, steps->list);
	if (!json_is_array(list) || depth > JSON_IN_STEPS_DEPTH)
		json_in_refuse(&in, ERR_INVALID, steps->list, "a list, nested at most 4 deep");
	for (size_t i = 0; in.e == ERR_OK && i < json_array_size(list); i++)
		in.e = walk(steps, json_array_get(list, i), depth + 1, why);
	return in.e;
}

enum err json_in_walk(const struct json_in_steps *steps, const json_t *config, struct why *why)
{
	return walk(steps, config, 0, why);
}

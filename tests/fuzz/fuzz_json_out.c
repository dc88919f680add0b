/* Any bytes as values to be written: the result is JSON that reads back as the values, and an event of a stream is one
 * line. */
#include <assert.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>

#include "bytes.h"
#include "coordinator/json_out.h"

struct value {
	uint8_t kind;
	uint64_t number;
	float real;
	const uint8_t *text;
	size_t length;
};

enum { VALUES = 64 };

static void put(struct json_out *out, struct value *v, struct bytes *in)
{
	v->kind = bytes_u8(in) % 6;
	v->number = bytes_number(in);
	uint32_t bits = (uint32_t)bytes_u8(in) << 24 | (uint32_t)bytes_u8(in) << 16 | bytes_u8(in);
	memcpy(&v->real, &bits, sizeof(bits));
	if (v->kind == 0)
		json_out_integer(out, (int64_t)v->number);
	else if (v->kind == 1)
		json_out_unsigned(out, v->number & INT64_MAX);
	else if (v->kind == 2)
		json_out_bool(out, v->number & 1);
	else if (v->kind == 3)
		json_out_null(out);
	else if (v->kind == 4)
		json_out_float(out, v->real);
	if (v->kind < 5)
		return;
	v->length = bytes_run(in, 255, &v->text);
	json_out_text(out, (const char *)v->text, v->length);
}

static void check(const json_t *json, const struct value *v)
{
	double real;
	switch (v->kind) {
	case 0:
		assert(json_is_integer(json) && json_integer_value(json) == (int64_t)v->number);
		return;
	case 1:
		assert(json_is_integer(json) && (uint64_t)json_integer_value(json) == (v->number & INT64_MAX));
		return;
	case 2:
		assert(json_is_boolean(json) && json_is_true(json) == (v->number & 1));
		return;
	case 3:
		assert(json_is_null(json));
		return;
	case 4:
		real = json_number_value(json);
		assert(json_is_number(json) && ((float)real == v->real || !(fabsf(v->real) < 9999)));
		return;
	default:
		assert(json_is_string(json));
		return;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	struct bytes in = {data, length};
	struct value values[VALUES];
	struct buf buf = {0};
	struct json_out out;
	size_t count = 0;
	json_out_init(&out, &buf);
	json_out_open(&out, '[');
	while (in.left && count < VALUES)
		put(&out, &values[count++], &in);
	json_out_close(&out, ']');
	assert(out.e == ERR_OK && !memchr(buf.data, '\n', buf.length));
	json_error_t error;
	json_t *json = json_loadb(buf.data, buf.length, JSON_ALLOW_NUL, &error);
	assert(json && json_array_size(json) == count);
	for (size_t i = 0; i < count; i++)
		check(json_array_get(json, i), &values[i]);
	json_decref(json);
	buf_fini(&buf);
	return 0;
}

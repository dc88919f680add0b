#include "tests/engine/f32_copy.h"

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/safetensors.h"

static void check(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "f32_copy: %s\n", what);
	abort();
}

static json_t *load(const char *folder, const char *name)
{
	char path[512];
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	json_t *object = json_load_file(path, 0, NULL);
	check(object != NULL, path);
	return object;
}

static void store(json_t *object, const char *folder, const char *name)
{
	char path[512];
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	check(json_dump_file(object, path, 0) == 0, path);
	json_decref(object);
}

static uint64_t count_of(const struct tensor *tensor)
{
	uint64_t count = 1;
	for (uint32_t i = 0; i < tensor->dim_count; i++)
		count *= tensor->dims[i];
	return count;
}

static char *header_of(const struct weights *weights)
{
	json_t *header = json_object();
	uint64_t at = 0;
	for (size_t i = 0; i < weights_count(weights); i++) {
		const struct tensor *tensor = weights_at(weights, i);
		uint64_t end = at + 4 * count_of(tensor);
		json_t *shape = json_array();
		for (uint32_t d = 0; d < tensor->dim_count; d++)
			json_array_append_new(shape, json_integer((json_int_t)tensor->dims[d]));
		json_object_set_new(header, tensor->name, json_pack("{s:s, s:o, s:[I, I]}", "dtype", "F32", "shape", shape,
								    "data_offsets", (json_int_t)at, (json_int_t)end));
		at = end;
	}
	char *text = json_dumps(header, JSON_COMPACT);
	json_decref(header);
	return text;
}

/* An f16 by its definition: fraction * 2^(exponent - 25), the first bit of a normal one being implied. */
static float f16(uint16_t half)
{
	int exponent = half >> 10 & 31, fraction = half & 1023;
	double value = exponent ? __builtin_ldexp(fraction + 1024, exponent - 25) : __builtin_ldexp(fraction, -24);
	return (float)(half & 0x8000 ? -value : value);
}

static float number_at(const struct tensor *tensor, uint64_t i)
{
	uint16_t half;
	float value;
	if (tensor->dtype == TENSOR_F32) {
		memcpy(&value, (const uint8_t *)tensor->data + 4 * i, 4);
		return value;
	}
	memcpy(&half, (const uint8_t *)tensor->data + 2 * i, 2);
	if (tensor->dtype == TENSOR_F16)
		return f16(half);
	uint32_t bits = (uint32_t)half << 16;
	memcpy(&value, &bits, 4);
	return value;
}

static void store_weights(const struct weights *weights, const char *folder)
{
	char path[512];
	snprintf(path, sizeof(path), "%s/model.safetensors", folder);
	FILE *file = fopen(path, "wb");
	check(file != NULL, path);
	char *header = header_of(weights);
	uint64_t length = strlen(header);
	fwrite(&length, sizeof(length), 1, file);
	fwrite(header, 1, length, file);
	free(header);
	for (size_t i = 0; i < weights_count(weights); i++) {
		const struct tensor *tensor = weights_at(weights, i);
		for (uint64_t j = 0; j < count_of(tensor); j++) {
			float value = number_at(tensor, j);
			fwrite(&value, sizeof(value), 1, file);
		}
	}
	check(fclose(file) == 0, path);
}

void f32_copy(const char *from, const char *to)
{
	json_t *config = load(from, "config.json");
	json_object_set_new(config, "torch_dtype", json_string("float32"));
	store(config, to, "config.json");
	store(load(from, "tokenizer.json"), to, "tokenizer.json");
	struct weights *weights;
	check(weights_open(from, NULL, &weights) == ERR_OK, from);
	store_weights(weights, to);
	weights_close(weights);
}

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

/* MXFP4: a tensor NAME_blocks, with its NAME_scales, is written as the NAME that it stands for. */
static size_t packed_length(const struct tensor *tensor)
{
	const char *suffix = strstr(tensor->name, "_blocks");
	return suffix && tensor->dim_count == 4 ? (size_t)(suffix - tensor->name) : 0;
}

static int is_scale(const struct tensor *tensor)
{
	return strstr(tensor->name, "_scales") != NULL;
}

static const struct tensor *scale_of(const struct weights *weights, const struct tensor *tensor)
{
	char name[600];
	snprintf(name, sizeof(name), "%.*s_scales", (int)packed_length(tensor), tensor->name);
	check(weights_find(weights, name) != NULL, name);
	return weights_find(weights, name);
}

/* What tensor becomes: its name and shape. */
static struct tensor plain_of(const struct tensor *tensor, char name[600])
{
	struct tensor plain = *tensor;
	snprintf(name, 600, "%s", tensor->name);
	plain.name = name;
	if (packed_length(tensor) == 0)
		return plain;
	name[packed_length(tensor)] = 0;
	plain.dim_count = 3;
	plain.dims[1] = 32 * tensor->dims[2];
	plain.dims[2] = tensor->dims[1];
	return plain;
}

/* Number i of [expert][inputs][outputs] by the definition: E2M1 times 2^(scale - 127). */
static float unpacked_at(const struct tensor *blocks, const struct tensor *scales, uint64_t i)
{
	static const double values[] = {0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0};
	uint64_t outputs = blocks->dims[1], inputs = 32 * blocks->dims[2], input = i / outputs % inputs;
	uint64_t row = i / outputs / inputs * outputs + i % outputs, at = row * inputs + input;
	uint32_t byte = ((const uint8_t *)blocks->data)[at / 2], code = at % 2 ? byte >> 4 : byte & 15;
	double value = __builtin_ldexp(values[code & 7], ((const uint8_t *)scales->data)[at / 32] - 127);
	return (float)(code & 8 ? -value : value);
}

static char *header_of(const struct weights *weights)
{
	json_t *header = json_object();
	uint64_t at = 0;
	for (size_t i = 0; i < weights_count(weights); i++) {
		char name[600];
		const struct tensor plain = plain_of(weights_at(weights, i), name), *tensor = &plain;
		if (is_scale(tensor))
			continue;
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
		char name[600];
		const struct tensor *tensor = weights_at(weights, i), plain = plain_of(tensor, name);
		const struct tensor *scale = packed_length(tensor) > 0 ? scale_of(weights, tensor) : NULL;
		for (uint64_t j = 0; j < count_of(&plain) && !is_scale(tensor); j++) {
			float value = scale ? unpacked_at(tensor, scale, j) : number_at(tensor, j);
			fwrite(&value, sizeof(value), 1, file);
		}
	}
	check(fclose(file) == 0, path);
}

void f32_copy(const char *from, const char *to)
{
	json_t *config = load(from, "config.json");
	json_object_set_new(config, "torch_dtype", json_string("float32"));
	json_object_del(config, "quantization_config");
	store(config, to, "config.json");
	store(load(from, "tokenizer.json"), to, "tokenizer.json");
	struct weights *weights;
	check(weights_open(from, NULL, &weights) == ERR_OK, from);
	store_weights(weights, to);
	weights_close(weights);
}

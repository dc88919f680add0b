#include "tests/engine/wide_model.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bf16.h"
#include "base/rng.h"
#include "model/config.h"
#include "model/tensors.h"

static void check(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "wide_model: %s\n", what);
	abort();
}

static void copy_json(const char *from, const char *to, const char *name, uint32_t head_count)
{
	char path[512];
	snprintf(path, sizeof(path), "%s/%s", from, name);
	json_t *object = json_load_file(path, 0, NULL);
	check(object != NULL, path);
	if (head_count > 0)
		json_object_set_new(object, "num_attention_heads", json_integer(head_count));
	snprintf(path, sizeof(path), "%s/%s", to, name);
	check(json_dump_file(object, path, 0) == 0, path);
	json_decref(object);
}

struct list {
	json_t *header;
	uint64_t bytes;
};

/* A stack of experts is listed with the first of them. */
static enum err list_tensor(void *arg, const struct tensor_spec *spec)
{
	struct list *list = arg;
	uint64_t begin = list->bytes, count = spec->stack > 0 ? spec->stack : 1;
	json_t *shape = json_array();
	if (spec->stack > 0 && spec->expert > 0) {
		json_decref(shape);
		return ERR_OK;
	}
	if (spec->stack > 0)
		json_array_append_new(shape, json_integer(spec->stack));
	for (uint32_t i = 0; i < spec->dim_count; i++) {
		uint32_t at = spec->stack > 0 ? spec->dim_count - 1 - i : i; /* as stored: inputs first */
		json_array_append_new(shape, json_integer((json_int_t)spec->dims[at]));
		count *= spec->dims[i];
	}
	list->bytes += count * 2;
	json_object_set_new(list->header, spec->name, json_pack("{s:s, s:o, s:[I, I]}", "dtype", "BF16", "shape", shape, "data_offsets",
								(json_int_t)begin, (json_int_t)list->bytes));
	return ERR_OK;
}

static void store_weights(const struct model_config *config, const char *folder)
{
	char path[512];
	struct list list = {.header = json_object()};
	struct rng rng = {.seed = 12};
	check(model_tensors_each(config, list_tensor, &list) == ERR_OK, "tensors");
	snprintf(path, sizeof(path), "%s/model.safetensors", folder);
	FILE *file = fopen(path, "wb");
	check(file != NULL, path);
	char *header = json_dumps(list.header, JSON_COMPACT);
	uint64_t length = strlen(header);
	fwrite(&length, sizeof(length), 1, file);
	fwrite(header, 1, length, file);
	for (uint64_t i = 0; i < list.bytes / 2; i++) {
		uint16_t half = bf16_round(((float)rng_below(&rng, 2001) - 1000.0f) / 4000.0f);
		fwrite(&half, sizeof(half), 1, file);
	}
	check(fclose(file) == 0, path);
	free(header);
	json_decref(list.header);
}

void wide_model(const char *from, uint32_t head_count, const char *to)
{
	struct model_config config;
	struct why why = {""};
	copy_json(from, to, "config.json", head_count);
	copy_json(from, to, "tokenizer.json", 0);
	check(model_config_read(to, &why, &config) == ERR_OK, why.text);
	store_weights(&config, to);
}

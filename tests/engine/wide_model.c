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

static void copy_json(const char *from, const char *to, const char *name, const struct wide_size *sizes)
{
	char path[512];
	snprintf(path, sizeof(path), "%s/%s", from, name);
	json_t *object = json_load_file(path, 0, NULL);
	check(object != NULL, path);
	for (; sizes && sizes->key; sizes++)
		json_object_set_new(object, sizes->key, json_integer(sizes->value));
	snprintf(path, sizeof(path), "%s/%s", to, name);
	check(json_dump_file(object, path, 0) == 0, path);
	json_decref(object);
}

/* What a tensor is made of. */
enum kind { HALVES, CODES, SCALES };
static const char *const dtypes[] = {[HALVES] = "BF16", [CODES] = "F8_E4M3", [SCALES] = "F32"};

struct list {
	const struct model_config *config;
	json_t *header;
	uint64_t bytes;
	FILE *file; /* NULL: the header is made */
	struct rng rng;
};

/* No code of NaN; scales that make of codes what halves are. */
static void write_number(struct list *list, enum kind kind)
{
	uint64_t random = rng_below(&list->rng, 2001);
	uint16_t half = bf16_round(((float)random - 1000.0f) / 4000.0f);
	uint8_t code = (uint8_t)((random % 2 ? 0x80 : 0) | random % 0x7f);
	float scale = 0.0005f + (float)random * 1e-7f;
	const void *const numbers[] = {[HALVES] = &half, [CODES] = &code, [SCALES] = &scale};
	static const size_t sizes[] = {[HALVES] = 2, [CODES] = 1, [SCALES] = 4};
	fwrite(numbers[kind], sizes[kind], 1, list->file);
}

static void put(struct list *list, const char *name, enum kind kind, const uint64_t *dims, uint32_t dim_count)
{
	uint64_t count = 1, begin = list->bytes;
	json_t *shape = json_array();
	for (uint32_t i = 0; i < dim_count; i++) {
		json_array_append_new(shape, json_integer((json_int_t)dims[i]));
		count *= dims[i];
	}
	list->bytes += count * (kind == HALVES ? 2 : kind == CODES ? 1 : 4);
	for (uint64_t i = 0; list->file && i < count; i++)
		write_number(list, kind);
	json_object_set_new(list->header, name, json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtypes[kind], "shape", shape, "data_offsets",
							  (json_int_t)begin, (json_int_t)list->bytes));
}

static int is_fp8(const struct list *list, const struct tensor_spec *spec)
{
	return list->config->fp8_blocks && spec->dim_count == 2 && spec->role != TENSOR_EMBEDDING && spec->role != TENSOR_HEAD &&
	       spec->role != TENSOR_ROUTER && spec->role != TENSOR_SHARED_GATE;
}

/* A stack of experts comes with the first of them, inputs before outputs. */
static enum err put_tensor(void *arg, const struct tensor_spec *spec)
{
	struct list *list = arg;
	uint64_t stack[3] = {spec->stack, spec->dims[spec->dim_count - 1], spec->dims[0]}, blocks[2];
	char name[160];
	if (spec->stack > 0) {
		if (spec->expert == 0)
			put(list, spec->name, HALVES, stack, spec->dim_count + 1);
		return ERR_OK;
	}
	put(list, spec->name, is_fp8(list, spec) ? CODES : HALVES, spec->dims, spec->dim_count);
	if (!is_fp8(list, spec))
		return ERR_OK;
	for (int i = 0; i < 2; i++)
		blocks[i] = (spec->dims[i] + TENSOR_SCALE_BLOCK - 1) / TENSOR_SCALE_BLOCK;
	snprintf(name, sizeof(name), "%s_scale_inv", spec->name);
	put(list, name, SCALES, blocks, 2);
	return ERR_OK;
}

static void store_weights(const struct model_config *config, const char *folder)
{
	char path[512];
	struct list list = {.config = config, .header = json_object(), .rng = {.seed = 12}};
	check(model_tensors_each(config, put_tensor, &list) == ERR_OK, "tensors");
	snprintf(path, sizeof(path), "%s/model.safetensors", folder);
	char *header = json_dumps(list.header, JSON_COMPACT);
	uint64_t length = strlen(header);
	list.file = fopen(path, "wb");
	list.bytes = 0;
	check(list.file != NULL, path);
	fwrite(&length, sizeof(length), 1, list.file);
	fwrite(header, 1, length, list.file);
	check(model_tensors_each(config, put_tensor, &list) == ERR_OK, "tensors");
	check(fclose(list.file) == 0, path);
	free(header);
	json_decref(list.header);
}

void wide_model(const char *from, const struct wide_size *sizes, const char *to)
{
	struct model_config config;
	struct why why = {""};
	copy_json(from, to, "config.json", sizes);
	copy_json(from, to, "tokenizer.json", NULL);
	check(model_config_read(to, &why, &config) == ERR_OK, why.text);
	store_weights(&config, to);
}

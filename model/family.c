#include <stdio.h>
#include <string.h>

#include "model/family_impl.h"

static const struct family *const lists[] = {families_dense, families_moe, families_latent};

enum { LISTS = sizeof(lists) / sizeof(lists[0]) };

const struct family *family_find(const char *name)
{
	for (int i = 0; i < LISTS; i++)
		for (const struct family *family = lists[i]; family->name; family++)
			if (strcmp(family->name, name) == 0)
				return family;
	return NULL;
}

void family_list(char *text, size_t size)
{
	size_t at = (size_t)snprintf(text, size, "one of");
	for (int i = 0; i < LISTS; i++)
		for (const struct family *family = lists[i]; family->name && at < size; family++)
			at += (size_t)snprintf(text + at, size - at, "%s %s", at > 6 ? "," : "", family->name);
}

void family_want_text(struct json_in *in, const char *key, const char *value)
{
	const char *text = json_in_text(in, key);
	char expected[64];
	snprintf(expected, sizeof(expected), "\"%s\"", value);
	if (text && strcmp(text, value) != 0)
		json_in_refuse(in, ERR_UNSUPPORTED, key, expected);
}

/* --- weights of 8 bits --------------------------------------------------------------------------------- */

void family_read_fp8(struct json_in *whole, struct model_config *config)
{
	struct json_in in = *whole;
	in.object = json_in_get(whole, "quantization_config");
	in.file = "config.json: quantization_config";
	if (!in.object)
		return;
	const json_t *block = json_in_get(&in, "weight_block_size");
	bool square = json_array_size(block) == 2;
	for (size_t i = 0; i < json_array_size(block); i++)
		square = square && json_integer_value(json_array_get(block, i)) == 128;
	if (!json_in_has(&in, "quant_method"))
		json_in_refuse(&in, ERR_UNSUPPORTED, "quant_method", "\"fp8\"");
	family_want_text(&in, "quant_method", "fp8");
	family_want_text(&in, "fmt", "e4m3");
	family_want_text(&in, "activation_scheme", "dynamic");
	if (!square)
		json_in_refuse(&in, ERR_UNSUPPORTED, "weight_block_size", "[128, 128]");
	if (in.e == ERR_OK && config->dtype != MODEL_BF16)
		json_in_refuse(&in, ERR_UNSUPPORTED, "quant_method", "none in a model that is not bfloat16");
	config->fp8_blocks = in.e == ERR_OK;
	whole->e = in.e;
}

/* --- groups of layers -------------------------------------------------------------------------------- */

/* What "layer_types" says of a layer. */
static bool is_listed_windowed(struct json_in *in, const json_t *types, uint32_t layer)
{
	const char *type = json_string_value(json_array_get(types, layer));
	bool windowed = type && strcmp(type, "sliding_attention") == 0;
	if (!windowed && (!type || strcmp(type, "full_attention") != 0))
		json_in_refuse(in, ERR_UNSUPPORTED, "layer_types",
			       "\"full_attention\" or \"sliding_attention\" for each of num_hidden_layers");
	return windowed;
}

/* The group of layers that see so many tokens; made where there is none yet, with the rope of the first. */
static uint8_t group_of(struct model_config *config, uint32_t window)
{
	uint8_t group = 0;
	while (group < config->group_count && config->groups[group].window != window)
		group++;
	if (group == config->group_count) {
		config->groups[group] = (struct model_layer_group){.window = window, .rope = config->groups[0].rope};
		config->group_count++;
	}
	config->groups[group].layer_count++;
	return group;
}

uint32_t family_window(struct json_in *in)
{
	static const uint32_t none = 0;
	return json_in_u32(in, "sliding_window", 1, UINT32_MAX, &none);
}

void family_read_windows(struct json_in *in, struct model_config *config, uint32_t window,
			 bool (*is_windowed)(const struct json_in *in, uint32_t layer))
{
	const json_t *types = json_in_get(in, "layer_types");
	if (types && json_array_size(types) != config->layer_count)
		json_in_refuse(in, ERR_INVALID, "layer_types", "a list of num_hidden_layers kinds");
	config->group_count = 0;
	for (uint32_t i = 0; in->e == ERR_OK && i < config->layer_count; i++) {
		bool windowed = types ? is_listed_windowed(in, types, i) : window && is_windowed(in, i);
		if (windowed && window == 0)
			json_in_refuse(in, ERR_UNSUPPORTED, "layer_types", "no \"sliding_attention\" without a window");
		config->layers[i].group = group_of(config, windowed ? window : 0);
	}
}

#include <stdio.h>
#include <string.h>

#include "base/exact.h"
#include "model/family_impl.h"

/* How far a model's positions are stretched, in the spellings of all generations of config.json: rope_theta beside
 * rope_scaling (or null), or all in rope_parameters. What depends on the length of the text so far is refused:
 * the same token would get other keys (law 1). */

static const double one = 1.0, zero = 0.0;

/* The attention factor of YaRN for a scale, by one of two weights. */
static double yarn_factor(double scale, double weight)
{
	return scale <= 1.0 ? 1.0 : 0.1 * weight * exact_log(scale) + 1.0;
}

static void read_llama3(struct json_in *in, struct model_rope *rope)
{
	rope->scaling = MODEL_ROPE_LLAMA3;
	rope->low_freq_factor = json_in_f64(in, "low_freq_factor", 1e-3, 1e6, NULL);
	rope->high_freq_factor = json_in_f64(in, "high_freq_factor", 1e-3, 1e6, NULL);
	if (rope->high_freq_factor <= rope->low_freq_factor)
		json_in_refuse(in, ERR_INVALID, "high_freq_factor", "more than low_freq_factor");
}

static void read_yarn(struct json_in *in, struct model_rope *rope)
{
	static const double fast = 32.0, slow = 1.0;
	rope->scaling = MODEL_ROPE_YARN;
	rope->beta_fast = json_in_f64(in, "beta_fast", 1e-3, 1e6, &fast);
	rope->beta_slow = json_in_f64(in, "beta_slow", 1e-3, 1e6, &slow);
	rope->truncate = json_in_bool(in, "truncate", true);
	double weight = json_in_f64(in, "mscale", 0.0, 100.0, &zero);
	double weight_all = json_in_f64(in, "mscale_all_dim", 0.0, 100.0, &zero);
	double factor = yarn_factor(rope->factor, 1.0);
	if (weight != 0.0 && weight_all != 0.0)
		factor = yarn_factor(rope->factor, weight) / yarn_factor(rope->factor, weight_all);
	rope->attention_factor = json_in_f64(in, "attention_factor", 1e-3, 1e3, &factor);
	rope->score_factor = yarn_factor(rope->factor, weight_all) * yarn_factor(rope->factor, weight_all);
}

/* Models are served up to their greatest length, so it decides which factors they have, for all lengths. */
static void read_long(struct json_in *in, uint32_t position_max, struct model_rope *rope)
{
	const char *key = position_max > rope->original_position_max ? "long_factor" : "short_factor";
	const json_t *list = json_in_get(in, key);
	char expected[64];
	rope->scaling = MODEL_ROPE_LONG;
	snprintf(expected, sizeof(expected), "a list of %u numbers from 0.001 to 1000000", rope->dim / 2);
	if (json_array_size(list) != rope->dim / 2)
		json_in_refuse(in, ERR_INVALID, key, expected);
	for (uint32_t i = 0; in->e == ERR_OK && i < rope->dim / 2; i++) {
		double number = json_number_value(json_array_get(list, i));
		if (!(number >= 1e-3 && number <= 1e6))
			json_in_refuse(in, ERR_INVALID, key, expected);
		else
			rope->factors[i] = (float)number;
	}
	double stretch = (double)position_max / rope->original_position_max;
	stretch = json_in_f64(in, "factor", 1e-3, 1e6, &stretch);
	double factor = 1.0;
	if (stretch > 1.0)
		factor = __builtin_sqrt(1.0 + exact_log(stretch) / exact_log(rope->original_position_max));
	rope->attention_factor = json_in_f64(in, "attention_factor", 1e-3, 1e3, &factor);
}

/* Where a model began: in the object, or beside it, which then counts (Phi-3); else as long as it is. */
static uint32_t read_original(struct json_in *in, struct json_in *whole, uint32_t position_max)
{
	static const char key[] = "original_max_position_embeddings";
	uint32_t inside = json_in_u32(in, key, 2, 1 << 26, &position_max);
	uint32_t beside = json_in_u32(whole, key, 2, 1 << 26, &inside);
	if (in->e == ERR_OK)
		in->e = whole->e;
	return beside;
}

static const char *type_of(const struct json_in *in)
{
	const json_t *type = json_in_get(in, "rope_type");
	return json_string_value(type ? type : json_in_get(in, "type"));
}

static void read_scaling(struct json_in *in, struct json_in *whole, struct model_rope *rope)
{
	const char *type = type_of(in);
	bool typed = json_in_has(in, "rope_type") || json_in_has(in, "type");
	if (!typed || (type && strcmp(type, "default") == 0))
		return;
	uint32_t position_max = json_in_u32(whole, "max_position_embeddings", 1, 1 << 26, NULL);
	rope->original_position_max = read_original(in, whole, position_max);
	if (type && (strcmp(type, "longrope") == 0 || strcmp(type, "su") == 0)) {
		read_long(in, position_max, rope);
		return;
	}
	rope->factor = json_in_f64(in, "factor", 1.0, 1e6, NULL);
	if (type && strcmp(type, "linear") == 0)
		rope->scaling = MODEL_ROPE_LINEAR;
	else if (type && strcmp(type, "llama3") == 0)
		read_llama3(in, rope);
	else if (type && strcmp(type, "yarn") == 0)
		read_yarn(in, rope);
	else
		json_in_refuse(in, ERR_UNSUPPORTED, json_in_has(in, "rope_type") ? "rope_type" : "type",
			       "\"default\", \"linear\", \"llama3\", \"yarn\" or \"longrope\"");
}

void family_read_rope_object(struct json_in *whole, const char *key, const json_t *object, double theta,
			     struct model_rope *rope)
{
	char file[64];
	snprintf(file, sizeof(file), "%s: %s", whole->file, key);
	if (object && !json_is_object(object))
		json_in_refuse(whole, ERR_INVALID, key, "an object, or null");
	struct json_in in = {.object = object, .file = file, .why = whole->why, .e = whole->e};
	rope->scaling = MODEL_ROPE_PLAIN;
	rope->factor = rope->attention_factor = rope->score_factor = 1.0;
	rope->theta = json_in_f64(&in, "rope_theta", 2.0, 1e12, &theta);
	if (in.e == ERR_OK)
		read_scaling(&in, whole, rope);
	whole->e = in.e;
}

void family_read_rope(struct json_in *in, struct model_rope *rope)
{
	static const double usual = 10000.0;
	const char *key = json_in_has(in, "rope_scaling") ? "rope_scaling" : "rope_parameters";
	double theta = json_in_f64(in, "rope_theta", 2.0, 1e12, &usual);
	family_read_rope_object(in, key, json_in_get(in, key), theta, rope);
}

uint32_t family_rotary_dim(struct json_in *in, uint32_t head_dim, bool partial)
{
	static const char key[] = "partial_rotary_factor";
	struct json_in inside = *in;
	inside.object = json_in_get(in, "rope_parameters");
	struct json_in *where = json_in_has(&inside, key) ? &inside : in;
	double part = json_in_f64(where, key, 0.0, 1.0, &one);
	uint32_t dim = (uint32_t)(head_dim * part);
	if (part < one && !partial)
		json_in_refuse(where, ERR_UNSUPPORTED, key, "1");
	if (dim == 0 || dim % 2 != 0)
		json_in_refuse(where, ERR_INVALID, key, "a part of head_dim that is even");
	in->e = where->e;
	return dim;
}

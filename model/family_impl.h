/* family - what an architecture's name says that its config.json does not, and how the keys of its own are read.
 *
 * A family is a row of data and, where it has keys of its own, a function that reads them into the description.
 * Rules: 1 `defaults` are what the Hugging Face library takes for keys that are left out, not for null, which
 *          says "none";
 *        2 a key that changes the arithmetic is read or refused, in every family (config.c: read_refused). */
#ifndef MODEL_FAMILY_IMPL_H
#define MODEL_FAMILY_IMPL_H
#include "model/config.h"
#include "model/json_in.h"

struct family {
	const char *name;     /* in "architectures" */
	const char *defaults; /* a JSON object, or NULL */
	const struct model_names *names;
	bool wrapped;  /* what the model computes stands in "text_config" */
	bool qkv_bias; /* without being said */
	bool qk_norm;
	bool norm_plus_one;
	bool embedding_scaled;
	bool partial_rotary;    /* heads may turn only in part */
	const char *activation_key; /* NULL: hidden_act */
	/* Keys that other families must not have (config.c) and that `read` reads: NULL-terminated, or NULL. */
	const char *const *keys;
	/* After everything else is read; NULL: there is nothing of its own.  Who reads sliding_window groups the
	 * layers (family_read_windows); otherwise all are in one group. */
	void (*read)(struct json_in *in, struct model_config *config);
};

/* Each list ends with a row without a name. */
extern const struct family families_dense[], families_moe[], families_latent[];
extern const struct model_names family_names_llama;

/* NULL where no family has the name. */
const struct family *family_find(const char *name);
/* "one of LlamaForCausalLM, MistralForCausalLM, ...", for messages. */
void family_list(char *text, size_t size);

/* How many of a head's dimensions turn; all, unless `partial` heads are known to the family. */
uint32_t family_rotary_dim(struct json_in *in, uint32_t head_dim, bool partial);
/* rope_scaling and rope_theta, or rope_parameters.  rope->dim is set before, here and below. */
void family_read_rope(struct json_in *in, struct model_rope *rope);
/* What one object says (NULL: nothing); `theta` is for one without rope_theta. */
void family_read_rope_object(struct json_in *whole, const char *key, const json_t *object, double theta,
			     struct model_rope *rope);

/* Groups the layers by what they see, in the order of their first layers: "layer_types" says which have the
 * window (0: none has), or is_windowed() where config.json leaves it to the library.  All groups get the rope
 * of the first. */
void family_read_windows(struct json_in *in, struct model_config *config, uint32_t window,
			 bool (*is_windowed)(const struct json_in *in, uint32_t layer));
/* How many experts there are, under the family's key for it, and how many a token asks: by softmax, one group. */
void family_read_experts(struct json_in *in, struct model_config *config, const char *count);
/* A text, where there is one, must be this. */
void family_want_text(struct json_in *in, const char *key, const char *value);
/* quantization_config, where there is one: weights of 8 bits in blocks of 128 x 128, or it is refused. */
void family_read_fp8(struct json_in *in, struct model_config *config);
/* sliding_window; 0: null. */
uint32_t family_window(struct json_in *in);
#endif

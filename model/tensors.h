/* tensors - which tensors a model of a given config consists of: names, shapes, dtype.
 *
 * Pure.  One list serves the check of a directory and the engine's loading. */
#ifndef MODEL_TENSORS_H
#define MODEL_TENSORS_H
#include "model/config.h"
#include "model/safetensors.h"

struct tensor_spec {
	char name[128];
	uint32_t dim_count;
	uint64_t dims[2];
};

/* Calls `each` for every tensor of the model in a fixed order; stops at the first error and returns it. */
MUST_USE enum err model_tensors_each(const struct model_config *config,
				     enum err (*each)(void *arg, const struct tensor_spec *spec), void *arg);

/* Every tensor is there with its dtype and shape, and none is left over.  A tied lm_head.weight and
 * stored rotary tables (".rotary_emb.inv_freq") may be there and are not used. */
MUST_USE enum err model_tensors_check(const struct model_config *config, const struct weights *weights,
				      struct why *why);

enum tensor_dtype model_tensor_dtype(const struct model_config *config);
#endif

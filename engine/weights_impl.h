/* weights_impl - one load of weights: what the files that fill struct engine_weights share. */
#ifndef ENGINE_WEIGHTS_IMPL_H
#define ENGINE_WEIGHTS_IMPL_H
#include "engine/shard.h"
#include "engine/weights.h"

struct load_piece;
struct load_plan;
struct tensor_spec;

/* Where tensors go: to one rank.  Each is met twice or more: without a piece room is made for it, then it comes piece by piece
 * (engine/load_reader.h), in any order. */
struct load {
	struct engine_weights *to;
	struct shard shard;
	const struct model_config *config;
	const struct weights *from;
	struct why *why;
};

/* `name` is for the reason. */
MUST_USE enum err load_create(struct load *load, const char *name, const struct linear_shape *shape,
			      struct linear **ret_linear);

/* What the linear of a tensor is made of, and its segments, where its inputs may be shared out, of all ranks together: e4m3 is never cut
 * within a group. */
enum elem load_elem(const struct load *load, const struct tensor_spec *spec);
uint32_t load_segments(const struct load *load, const struct tensor_spec *spec);
/* Inputs of the weights that the rank has. */
struct rank_share load_inputs(const struct load *load, const struct tensor_spec *spec);
/* The scales of a piece of e4m3, and a look at both: ERR_INVALID for what is no number. */
MUST_USE enum err load_scales(struct load *load, const struct load_piece *piece, struct linear *linear);
/* Outputs that share a scale wherever they lie in a rank's linear. */
uint32_t load_scale_outputs(const struct model_config *config, struct shard shard);

/* Which output of its role a row of the tensor is.  Gate and up may take turns.  Latent attention wants the parts of queries that turn apart from
 * those that do not, and the halves of what turns apart (kernels/ops.h: rope). */
uint32_t load_output(const struct model_config *config, const struct tensor_spec *spec, uint32_t row);
/* The same among the rank's; SHARD_NONE: it has not this one. */
uint32_t load_local_output(const struct load *load, const struct tensor_spec *spec, uint32_t row);

/* kv_b_proj, head by head, the keys' part transposed. */
MUST_USE enum err load_latent_heads(struct load *load, const struct tensor_spec *spec, const struct load_piece *piece,
				    struct layer_weights *layer);
#endif

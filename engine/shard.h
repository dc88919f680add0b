/* shard - what a rank of a tensor-parallel engine has of a model.  Pure.
 *
 *   by outputs    queries, keys, values (whole heads), gate and up, the head (rows of the vocabulary)
 *   by inputs     the output of attention, down: parts of a sum (engine/ranks.h), so many segments of it
 *   at every rank embedding, norms, routers, latents
 *
 * Of fewer KV heads than ranks each is at several: rank r has head r / (ranks / heads), as kvstore/shards.h has it. */
#ifndef ENGINE_SHARD_H
#define ENGINE_SHARD_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"
#include "engine/ranks.h"
#include "model/tensors.h"

struct shard {
	uint32_t rank, count;
};

/* A model is shared out among `count` ranks of a device that sums in row_segments segments, or `why` says which of its numbers does
 * not divide.  ERR_INVALID, ERR_UNSUPPORTED. */
MUST_USE enum err shard_check(const struct model_config *config, uint32_t count, uint32_t row_segments, struct why *why);
/* The model as any rank of them has it: its own heads and inner sizes. */
void shard_config(const struct model_config *config, uint32_t count, struct model_config *ret_config);
/* How many ranks have the same KV heads; those that do follow each other. */
uint32_t shard_replicas(const struct model_config *config, uint32_t count);
struct rank_share shard_heads(const struct model_config *config, struct shard shard);
struct rank_share shard_kv_heads(const struct model_config *config, struct shard shard);

/* A tensor of weights whose inputs are shared out. */
bool shard_by_inputs(enum tensor_role role);
/* The outputs of the tensor's role that the rank has, in the order in which it has them; returns how many pieces. */
#define SHARD_PIECES_MAX 3
uint32_t shard_outputs(const struct model_config *config, struct shard shard, const struct tensor_spec *spec,
		       struct rank_share ret_pieces[SHARD_PIECES_MAX]);
uint32_t shard_output_count(const struct model_config *config, struct shard shard, const struct tensor_spec *spec);
/* Where the rank has an output of the role; SHARD_NONE: it has not. */
#define SHARD_NONE UINT32_MAX
uint32_t shard_output(const struct model_config *config, struct shard shard, const struct tensor_spec *spec, uint32_t output);
#endif

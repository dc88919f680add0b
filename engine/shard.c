#include "engine/shard.h"

#include <assert.h>

#include "model/config.h"

static struct rank_share some(uint32_t total, struct shard shard)
{
	return rank_share(&(struct ranks){.count = shard.count}, total, shard.rank);
}

static bool is_latent(const struct model_config *config)
{
	return config->attention == MODEL_ATTENTION_LATENT;
}

/* --- sizes -------------------------------------------------------------------------------------------- */

static uint32_t kv_head_count(const struct model_config *config)
{
	return is_latent(config) ? 1 : config->kv_head_count;
}

uint32_t shard_replicas(const struct model_config *config, uint32_t count)
{
	return count > kv_head_count(config) ? count / kv_head_count(config) : 1;
}

struct rank_share shard_heads(const struct model_config *config, struct shard shard)
{
	return some(config->head_count, shard);
}

struct rank_share shard_kv_heads(const struct model_config *config, struct shard shard)
{
	uint32_t replicas = shard_replicas(config, shard.count);
	return some(kv_head_count(config), (struct shard){shard.rank / replicas, shard.count / replicas});
}

static enum err divides(const char *what, uint32_t size, uint32_t count, struct why *why)
{
	if (size % count == 0)
		return ERR_OK;
	return why_set(why, ERR_UNSUPPORTED, "tensor-parallel-size %u: %s %u does not divide into so many", count, what, size);
}

enum err shard_check(const struct model_config *config, uint32_t count, uint32_t row_segments, struct why *why)
{
	uint32_t kv = kv_head_count(config);
	if (count == 0 || count > DEVICES_MAX || (count & (count - 1)) != 0)
		return why_set(why, ERR_INVALID, "tensor-parallel-size %u; expected 1, 2, 4 or 8", count);
	if (row_segments % count != 0)
		return why_set(why, ERR_INVALID, "tensor-parallel-size %u: this device sums in %u segments; expected --row-segments %u or more",
			       count, row_segments, count);
	if (kv % count != 0 && count % kv != 0)
		return why_set(why, ERR_UNSUPPORTED, "tensor-parallel-size %u: %u KV heads neither divide into so many nor divide it", count,
			       kv);
	enum err e = divides("the number of heads,", config->head_count, count, why);
	for (uint32_t i = 0; i < config->layer_count && e == ERR_OK; i++)
		if (config->layers[i].mlp == MODEL_MLP_DENSE)
			e = divides("the inner size of an MLP,", config->intermediate_size, count, why);
	if (e == ERR_OK)
		e = divides("the inner size of an expert,", config->experts.intermediate_size, count, why);
	return e == ERR_OK ? divides("the inner size of the shared expert,", config->experts.shared_intermediate_size, count, why) : e;
}

void shard_config(const struct model_config *config, uint32_t count, struct model_config *ret_config)
{
	*ret_config = *config;
	ret_config->head_count = config->head_count / count;
	ret_config->kv_head_count = is_latent(config) ? config->kv_head_count / count
						      : shard_kv_heads(config, (struct shard){0, count}).count;
	ret_config->intermediate_size = config->intermediate_size / count;
	ret_config->experts.intermediate_size = config->experts.intermediate_size / count;
	ret_config->experts.shared_intermediate_size = config->experts.shared_intermediate_size / count;
}

/* --- weights ------------------------------------------------------------------------------------------ */

bool shard_by_inputs(enum tensor_role role)
{
	return role == TENSOR_OUTPUT || role == TENSOR_DOWN || role == TENSOR_SHARED_DOWN || role == TENSOR_EXPERT_DOWN;
}

/* Of each of some heads `size` outputs, which begin at `first`. */
static struct rank_share of_heads(struct rank_share heads, uint32_t size, uint32_t first)
{
	return (struct rank_share){first + heads.first * size, heads.count * size};
}

/* The parts that do not turn, of all heads, then those that do (load_output()). */
static uint32_t latent_queries(const struct model_config *config, struct shard shard, struct rank_share *ret_pieces)
{
	struct rank_share heads = shard_heads(config, shard);
	uint32_t nope = config->latent.qk_nope_head_dim;
	ret_pieces[0] = of_heads(heads, nope, 0);
	ret_pieces[1] = of_heads(heads, config->latent.qk_rope_head_dim, config->head_count * nope);
	return 2;
}

static uint32_t queries_keys_values(const struct model_config *config, struct shard shard, uint32_t total,
				    struct rank_share *ret_pieces)
{
	uint32_t dim = config->head_dim, queries = config->head_count * dim;
	if (is_latent(config) && config->latent.q_lora_rank > 0) {
		ret_pieces[0] = (struct rank_share){0, total};
		return 1;
	}
	if (is_latent(config)) {
		latent_queries(config, shard, ret_pieces);
		ret_pieces[2] = (struct rank_share){queries, total - queries};
		return 3;
	}
	ret_pieces[0] = of_heads(shard_heads(config, shard), dim, 0);
	ret_pieces[1] = of_heads(shard_kv_heads(config, shard), dim, queries);
	ret_pieces[2] = of_heads(shard_kv_heads(config, shard), dim, queries + config->kv_head_count * dim);
	return 3;
}

static uint32_t gate_and_up(uint32_t total, struct shard shard, struct rank_share *ret_pieces)
{
	ret_pieces[0] = ret_pieces[1] = some(total / 2, shard);
	ret_pieces[1].first += total / 2;
	return 2;
}

uint32_t shard_outputs(const struct model_config *config, struct shard shard, const struct tensor_spec *spec,
		       struct rank_share ret_pieces[SHARD_PIECES_MAX])
{
	switch (spec->role) {
	case TENSOR_HEAD:
		ret_pieces[0] = some(spec->total, shard);
		return 1;
	case TENSOR_QKV:
	case TENSOR_QKV_BIAS:
		return queries_keys_values(config, shard, spec->total, ret_pieces);
	case TENSOR_QUERY_UP:
		return latent_queries(config, shard, ret_pieces);
	case TENSOR_SINKS:
		ret_pieces[0] = shard_heads(config, shard);
		return 1;
	case TENSOR_GATE_UP:
	case TENSOR_GATE_UP_BIAS:
	case TENSOR_SHARED_GATE_UP:
	case TENSOR_EXPERT_GATE_UP:
	case TENSOR_EXPERT_GATE_UP_BIAS:
		return gate_and_up(spec->total, shard, ret_pieces);
	default:
		ret_pieces[0] = (struct rank_share){0, spec->total};
		return 1;
	}
}

uint32_t shard_output_count(const struct model_config *config, struct shard shard, const struct tensor_spec *spec)
{
	struct rank_share pieces[SHARD_PIECES_MAX];
	uint32_t piece_count = shard_outputs(config, shard, spec, pieces), count = 0;
	for (uint32_t i = 0; i < piece_count; i++)
		count += pieces[i].count;
	return count;
}

uint32_t shard_output(const struct model_config *config, struct shard shard, const struct tensor_spec *spec, uint32_t output)
{
	struct rank_share pieces[SHARD_PIECES_MAX];
	uint32_t piece_count = shard_outputs(config, shard, spec, pieces), before = 0;
	for (uint32_t i = 0; i < piece_count; before += pieces[i++].count)
		if (output - pieces[i].first < pieces[i].count)
			return before + output - pieces[i].first;
	return SHARD_NONE;
}

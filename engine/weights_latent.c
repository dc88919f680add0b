#include <stdlib.h>
#include <string.h>

#include "engine/load_reader.h"
#include "engine/weights_impl.h"
#include "model/config.h"
#include "model/tensors.h"

/* --- the order of outputs ------------------------------------------------------------------------------ */

/* What turns together lies half apart, as op_rope wants it. */
static uint32_t turned(const struct model_latent *latent, uint32_t i)
{
	return latent->interleaved ? i % 2 * (latent->qk_rope_head_dim / 2) + i / 2 : i;
}

static uint32_t query_output(const struct model_config *config, uint32_t row)
{
	const struct model_latent *latent = &config->latent;
	uint32_t head = row / config->head_dim, i = row % config->head_dim;
	if (i < latent->qk_nope_head_dim)
		return head * latent->qk_nope_head_dim + i;
	return config->head_count * latent->qk_nope_head_dim + head * latent->qk_rope_head_dim +
	       turned(latent, i - latent->qk_nope_head_dim);
}

static uint32_t latent_output(const struct model_latent *latent, uint32_t row)
{
	return row < latent->kv_lora_rank ? row : latent->kv_lora_rank + turned(latent, row - latent->kv_lora_rank);
}

/* Gate and up come in turn and become gate, then up. */
static uint32_t untwined(const struct tensor_spec *spec, uint32_t row)
{
	return row % 2 * (spec->total / 2) + row / 2;
}

uint32_t load_output(const struct model_config *config, const struct tensor_spec *spec, uint32_t row)
{
	bool latent = config->attention == MODEL_ATTENTION_LATENT;
	if (spec->role == TENSOR_EXPERT_GATE_UP || spec->role == TENSOR_EXPERT_GATE_UP_BIAS)
		return config->experts.interleaved ? untwined(spec, row) : spec->first + row;
	if (spec->role == TENSOR_QUERY_UP || (latent && spec->role == TENSOR_QKV && spec->first == 0 &&
					      config->latent.q_lora_rank == 0))
		return query_output(config, row);
	if (latent && spec->role == TENSOR_QKV && spec->first > 0)
		return spec->first + latent_output(&config->latent, row);
	return spec->first + row;
}

/* --- heads --------------------------------------------------------------------------------------------- */

/* rows [n][k] to columns [k][n] */
static void transpose(const uint8_t *rows, uint32_t n, uint32_t k, size_t bytes, uint8_t *ret_columns)
{
	for (uint32_t row = 0; row < n; row++)
		for (uint32_t column = 0; column < k; column++)
			memcpy(ret_columns + ((size_t)column * n + row) * bytes,
			       rows + ((size_t)row * k + column) * bytes, bytes);
}

static enum err create_head(struct load *load, const struct tensor_spec *spec, struct latent_head *head)
{
	const struct model_latent *latent = &load->config->latent;
	uint32_t nope = latent->qk_nope_head_dim, kv = latent->kv_lora_rank;
	const struct linear_shape key = {.n = kv, .k = nope, .elem = load->to->elem, .segments = 1};
	const struct linear_shape value = {.n = latent->v_head_dim, .k = kv, .elem = load->to->elem, .segments = 1};
	enum err e = load_create(load, spec->name, &key, &head->key);
	return e == ERR_OK ? load_create(load, spec->name, &value, &head->value) : e;
}

static enum err create_heads(struct load *load, const struct tensor_spec *spec, struct layer_weights *layer)
{
	uint32_t head_count = load->config->head_count;
	enum err e = ERR_OK;
	layer->heads = calloc(head_count, sizeof(*layer->heads));
	if (!layer->heads)
		return why_set(load->why, ERR_NOMEM, "%s: no memory for %u heads", spec->name, head_count);
	for (uint32_t i = 0; i < head_count && e == ERR_OK; i++)
		e = create_head(load, spec, &layer->heads[i]);
	return e;
}

/* rows: [nope + v][kv_lora] of the head; columns is room for the keys' part. */
static void fill_head(const struct load *load, const uint8_t *rows, uint8_t *columns, struct latent_head *head)
{
	const struct model_latent *latent = &load->config->latent;
	size_t bytes = elem_bytes(load->to->elem);
	uint32_t nope = latent->qk_nope_head_dim, kv = latent->kv_lora_rank;
	transpose(rows, nope, kv, bytes, columns);
	linear_fill(head->key, 0, kv, columns, nope);
	linear_fill(head->value, 0, latent->v_head_dim, rows + (size_t)nope * kv * bytes, kv);
}

enum err load_latent_heads(struct load *load, const struct tensor_spec *spec, const struct load_piece *piece,
			   struct layer_weights *layer)
{
	const struct model_latent *latent = &load->config->latent;
	uint32_t head_rows = latent->qk_nope_head_dim + latent->v_head_dim;
	size_t row_bytes = latent->kv_lora_rank * elem_bytes(load->to->elem);
	if (!piece)
		return create_heads(load, spec, layer);
	uint8_t *columns = malloc(latent->qk_nope_head_dim * row_bytes);
	if (!columns)
		return why_set(load->why, ERR_NOMEM, "%s: no memory to turn a head", spec->name);
	for (uint32_t row = 0; row < piece->count; row += head_rows)
		fill_head(load, (const uint8_t *)piece->rows + row * row_bytes, columns,
			  &layer->heads[(piece->first + row) / head_rows]);
	free(columns);
	return ERR_OK;
}

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "engine/load_reader.h"
#include "engine/tensor_rows.h"
#include "engine/weights_impl.h"
#include "model/config.h"
#include "model/safetensors.h"
#include "model/tensors.h"

_Static_assert(TENSOR_SCALE_BLOCK == LINEAR_GROUP, "weights are computed with as they are stored");

enum elem load_elem(const struct load *load, const struct tensor_spec *spec)
{
	const struct tensor *stored = weights_find(load->from, spec->name); /* stacks of experts have other names: they are not of 8 bits */
	return stored ? load_part_elem(load->config, spec, stored, load->to->elem) : load->to->elem;
}

uint32_t load_segments(const struct load *load, const struct tensor_spec *spec)
{
	uint32_t segments = device_props(load->to->device)->row_segments;
	while (load_elem(load, spec) == ELEM_E4M3 && segments > 1 && spec->dims[1] % (segments * LINEAR_GROUP) != 0)
		segments /= 2;
	return segments;
}

/* Where parts of a linear begin and what load_output() moves together are multiples of these sizes. */
uint32_t load_scale_outputs(const struct model_config *config, struct shard shard)
{
	const struct model_latent *latent = &config->latent;
	const uint32_t sizes[] = {config->head_dim, config->intermediate_size / shard.count,
				  config->experts.intermediate_size / shard.count,
				  config->experts.shared_intermediate_size / shard.count, latent->q_lora_rank, latent->kv_lora_rank,
				  latent->qk_nope_head_dim, latent->qk_rope_head_dim};
	uint32_t together = LINEAR_GROUP;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		while (sizes[i] % together != 0)
			together /= 2;
	return together;
}

/* --- a look at the numbers ----------------------------------------------------------------------------- */

static enum err refuse_nan(struct load *load, const struct load_piece *piece)
{
	const uint8_t *codes = piece->rows;
	uint64_t columns = piece->spec->dims[1];
	for (uint32_t row = 0; row < piece->count; row++, codes += columns) {
		uint32_t bad = 0;
		for (uint64_t k = 0; k < columns; k++)
			bad |= (codes[k] & 0x7f) == 0x7f;
		if (bad)
			return why_set(load->why, ERR_INVALID, "%s: row %u has a weight that is no number", piece->spec->name,
				       piece->first + row);
	}
	return ERR_OK;
}

/* [row of blocks][group]; the caller's to free. */
static enum err read_scales(struct load *load, const struct load_piece *piece, float **ret_scales)
{
	size_t count = piece->scales->dims[0] * piece->scales->dims[1];
	float *scales = malloc(count * sizeof(*scales));
	if (!scales)
		return why_set(load->why, ERR_NOMEM, "%s: no memory for %zu scales", piece->spec->name, count);
	tensor_widen(piece->scales, 0, count, scales);
	for (size_t i = 0; i < count; i++)
		if (!isfinite(scales[i])) {
			free(scales);
			return why_set(load->why, ERR_INVALID, "%s: a scale of rows %u to %u is no number", piece->scales->name,
				       piece->first, piece->first + piece->count - 1);
		}
	*ret_scales = scales;
	return ERR_OK;
}

/* --- where scales go ----------------------------------------------------------------------------------- */

#define NOBODY UINT32_MAX

/* Which row of blocks of the piece each `together` of the rank's outputs are of; they must be of one. */
static enum err find_owners(struct load *load, const struct load_piece *piece, const struct linear_shape *shape, uint32_t *owners)
{
	const struct tensor_spec *spec = piece->spec;
	for (uint32_t i = 0; i < (shape->n - 1) / shape->scale_outputs + 1; i++)
		owners[i] = NOBODY;
	for (uint32_t row = 0; row < piece->count; row++) {
		uint32_t output = load_local_output(load, spec, piece->first + row), block = row / TENSOR_SCALE_BLOCK;
		if (output == SHARD_NONE)
			continue;
		uint32_t *owner = &owners[output / shape->scale_outputs];
		if (*owner != NOBODY && *owner != block)
			return why_set(load->why, ERR_UNSUPPORTED,
				       "%s: row %u and others of another block of %d become outputs beside each other", spec->name,
				       piece->first + row, TENSOR_SCALE_BLOCK);
		*owner = block;
	}
	return ERR_OK;
}

/* Neighbours of one owner at once. */
static void fill_scales(struct linear *linear, const uint32_t *owners, const float *scales, uint64_t groups)
{
	const struct linear_shape *shape = linear_shape(linear);
	uint32_t together = shape->scale_outputs, count = (shape->n - 1) / together + 1;
	for (uint32_t i = 0, end; i < count; i = end) {
		for (end = i + 1; end < count && owners[end] == owners[i];)
			end++;
		uint32_t first = i * together, stop = end * together < shape->n ? end * together : shape->n;
		if (owners[i] != NOBODY)
			linear_fill_scales(linear, first, stop - first, scales + owners[i] * groups);
	}
}

enum err load_scales(struct load *load, const struct load_piece *piece, struct linear *linear)
{
	const struct linear_shape *shape = linear_shape(linear);
	uint32_t *owners = malloc(((shape->n - 1) / shape->scale_outputs + 1) * sizeof(*owners));
	float *scales = NULL;
	assert(piece->first % TENSOR_SCALE_BLOCK == 0);
	enum err e = refuse_nan(load, piece);
	if (e == ERR_OK)
		e = read_scales(load, piece, &scales);
	if (e == ERR_OK && !owners)
		e = why_set(load->why, ERR_NOMEM, "%s: no memory for the order of its scales", piece->spec->name);
	if (e == ERR_OK)
		e = find_owners(load, piece, shape, owners);
	if (e == ERR_OK)
		fill_scales(linear, owners, scales + load_inputs(load, piece->spec).first / LINEAR_GROUP, piece->scales->dims[1]);
	free(owners);
	free(scales);
	return e;
}

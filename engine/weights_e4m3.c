#include <math.h>
#include <stdlib.h>

#include "engine/tensor_rows.h"
#include "engine/weights_impl.h"
#include "model/config.h"
#include "model/tensors.h"

_Static_assert(TENSOR_SCALE_BLOCK == LINEAR_GROUP, "weights are computed with as they are stored");

enum elem load_elem(const struct load *load, const struct tensor_found *found)
{
	return load->config->fp8_kept && tensor_rows_plain(found, ELEM_E4M3) ? ELEM_E4M3 : load->to->elem;
}

uint32_t load_row_segments(const struct load *load, const struct tensor_spec *spec, const struct tensor_found *found)
{
	uint32_t segments = device_props(load->to->device)->row_segments;
	while (load_elem(load, found) == ELEM_E4M3 && segments > 1 && spec->dims[1] % (segments * LINEAR_GROUP) != 0)
		segments /= 2;
	return segments;
}

/* Where parts of a linear begin and what load_output() moves together are multiples of these sizes. */
uint32_t load_scale_outputs(const struct model_config *config)
{
	const struct model_latent *latent = &config->latent;
	const uint32_t sizes[] = {config->head_dim, config->intermediate_size, config->experts.intermediate_size,
				  config->experts.shared_intermediate_size, latent->q_lora_rank, latent->kv_lora_rank,
				  latent->qk_nope_head_dim, latent->qk_rope_head_dim};
	uint32_t together = LINEAR_GROUP;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		while (sizes[i] % together != 0)
			together /= 2;
	return together;
}

/* --- a look at the numbers ----------------------------------------------------------------------------- */

static enum err refuse_nan(struct load *load, const struct tensor_spec *spec, const struct tensor_found *found)
{
	const uint8_t *codes = found->tensor->data;
	for (uint64_t row = 0; row < spec->dims[0]; row++, codes += spec->dims[1]) {
		uint32_t bad = 0;
		for (uint64_t k = 0; k < spec->dims[1]; k++)
			bad |= (codes[k] & 0x7f) == 0x7f;
		if (bad)
			return why_set(load->why, ERR_INVALID, "%s: row %llu has a weight that is no number", spec->name,
				       (unsigned long long)row);
	}
	return ERR_OK;
}

/* [row of blocks][group]; the caller's to free. */
static enum err read_scales(struct load *load, const struct tensor_spec *spec, const struct tensor_found *found,
			    float **ret_scales)
{
	size_t count = found->scale->dims[0] * found->scale->dims[1];
	float *scales = malloc(count * sizeof(*scales));
	if (!scales)
		return why_set(load->why, ERR_NOMEM, "%s: no memory for %zu scales", spec->name, count);
	tensor_widen(found->scale, 0, count, scales);
	for (size_t i = 0; i < count; i++)
		if (!isfinite(scales[i])) {
			free(scales);
			return why_set(load->why, ERR_INVALID, "%s: scale %zu is no number", found->scale->name, i);
		}
	*ret_scales = scales;
	return ERR_OK;
}

/* --- where scales go ----------------------------------------------------------------------------------- */

#define NOBODY UINT32_MAX

/* Which row of blocks each `together` outputs are of; they must be of one. */
static enum err find_owners(struct load *load, const struct tensor_spec *spec, uint32_t together, uint32_t *owners)
{
	for (uint32_t i = 0; i < (spec->total - 1) / together + 1; i++)
		owners[i] = NOBODY;
	for (uint32_t row = 0; row < spec->dims[0]; row++) {
		uint32_t *owner = &owners[load_output(load->config, spec, row) / together], block = row / TENSOR_SCALE_BLOCK;
		if (*owner != NOBODY && *owner != block)
			return why_set(load->why, ERR_UNSUPPORTED,
				       "%s: rows %u and others of another block of %d become outputs beside each other", spec->name, row,
				       TENSOR_SCALE_BLOCK);
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

enum err load_scales(struct load *load, const struct tensor_spec *spec, const struct tensor_found *found,
		     struct linear *linear)
{
	uint32_t together = linear_shape(linear)->scale_outputs;
	uint32_t *owners = malloc(((spec->total - 1) / together + 1) * sizeof(*owners));
	float *scales = NULL;
	enum err e = refuse_nan(load, spec, found);
	if (e == ERR_OK)
		e = read_scales(load, spec, found, &scales);
	if (e == ERR_OK && !owners)
		e = why_set(load->why, ERR_NOMEM, "%s: no memory for the order of its scales", spec->name);
	if (e == ERR_OK)
		e = find_owners(load, spec, together, owners);
	if (e == ERR_OK)
		fill_scales(linear, owners, scales, found->scale->dims[1]);
	free(owners);
	free(scales);
	return e;
}

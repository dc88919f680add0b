/* latent - multi-head latent attention (DeepSeek) over a batch of rows, in the absorbed form at every number of rows.
 *
 * A token's KV is one vector for all heads: the latent, normalised, and the part of the key that turns. A head's key
 * would be W_k latent and its value W_v latent; instead its query becomes W_k^T q, a query over latents, and W_v is
 * applied to the weighted sum. Neither keys nor values are ever made, for one row or for a thousand, so that a row's
 * bits do not depend on which (docs/decisions/latent-attention-is-absorbed.md).
 *
 * Loop: the compute thread; called by layers.c. */
#ifndef ENGINE_LATENT_H
#define ENGINE_LATENT_H
#include <stddef.h>
#include <stdint.h>

struct layers;
struct model_config;

/* Outputs of the first linear: queries, or what they are made of, then latent and turning key. */
uint32_t latent_input_size(const struct model_config *config);
/* Queries over latents that are kept at once, rows times heads. */
size_t latent_absorbed_max(const struct model_config *config, uint32_t rows_max);

/* Queries and latents of a layer from layers->normed; the latents are written into their blocks. */
void latent_project(struct layers *layers, uint32_t layer);
/* layers->attended: of each head its v_head_dim. */
void latent_attend(struct layers *layers, uint32_t layer);
#endif

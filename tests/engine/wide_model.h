/* wide_model - a model of a family with more heads and random weights: for what takes more heads than stored models have.
 *
 * Of no use for comparing with others: nobody has computed it. */
#ifndef TESTS_ENGINE_WIDE_MODEL_H
#define TESTS_ENGINE_WIDE_MODEL_H
#include <stdint.h>

/* Writes config.json (that of the folder `from` with so many heads), its tokenizer.json and a model.safetensors into the folder
 * `to`, which is there.  Weights are bf16.  Aborts when something fails. */
void wide_model(const char *from, uint32_t head_count, const char *to);
#endif

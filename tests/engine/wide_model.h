/* wide_model - a model of a family in other sizes, with random weights: for what stored models are too small for.
 *
 * Of no use for comparing with others: nobody has computed it. */
#ifndef TESTS_ENGINE_WIDE_MODEL_H
#define TESTS_ENGINE_WIDE_MODEL_H
#include <stdint.h>

struct wide_size {
	const char *key; /* of config.json; NULL ends them */
	int value;
};

/* Writes config.json (that of the folder `from` with these sizes), its tokenizer.json and a model.safetensors into the folder
 * `to`, which is there.  Weights are bf16, or F8_E4M3 with scales where the config says so.  Aborts when something fails. */
void wide_model(const char *from, const struct wide_size *sizes, const char *to);
#endif

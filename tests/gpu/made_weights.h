/* made_weights - random weights of a model that a test describes, in a file that the engine loads: where model/safetensors.c would open
 * a directory of somebody's. GPU machines have no library that reads JSON.
 *
 * Owns:   the file, until weights_close(). */
#ifndef TESTS_GPU_MADE_WEIGHTS_H
#define TESTS_GPU_MADE_WEIGHTS_H
#include "model/config.h"
#include "model/safetensors.h"

/* The tensors of `config`, as its dtype and fp8_blocks say; the same numbers each time. */
struct weights *made_weights(const struct model_config *config);
#endif

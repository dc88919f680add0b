/* Any bytes as a safetensors file: every tensor that is accepted lies inside it. */
#include <stdlib.h>

#include "model/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	struct why why;
	struct weights *weights;
	if (weights_parse(data, length, &why, &weights) != ERR_OK)
		return 0;
	for (size_t i = 0; i < weights_count(weights); i++) {
		const struct tensor *tensor = weights_at(weights, i);
		const uint8_t *bytes = tensor->data;
		if (bytes < data || (size_t)(bytes - data) > length || tensor->bytes > length - (size_t)(bytes - data))
			abort();
	}
	weights_close(weights);
	return 0;
}

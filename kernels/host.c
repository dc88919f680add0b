/* What is computed on the host, whatever the device. */
#include <assert.h>

#include "base/exact.h"
#include "kernels/ops.h"

/* Hugging Face computes 1 / theta^(2i / dim) in f32 and multiplies positions in f32; models are trained so.
 * The power itself is ours, in double, rounded where theirs is. */
void rope_frequencies(double theta, uint32_t dim, float *ret_frequency)
{
	assert(theta > 0 && dim % 2 == 0);
	double log_theta = exact_log(theta);
	for (uint32_t i = 0; i < dim / 2; i++) {
		float exponent = (float)(2 * i) / (float)dim;
		ret_frequency[i] = 1.0f / (float)exact_exp(exponent * log_theta);
	}
}

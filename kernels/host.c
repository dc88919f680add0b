/* What is computed on the host, whatever the device. */
#include <assert.h>
#include <stdbool.h>

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

/* --- top k ------------------------------------------------------------------------------------------- */

/* a comes before b in the result. */
static bool before(const float *logits, uint32_t a, uint32_t b)
{
	return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
}

/* A heap whose root is the last of those kept. */
static void sift_down(const float *logits, uint32_t *heap, uint32_t count, uint32_t at)
{
	for (;;) {
		uint32_t child = 2 * at + 1;
		if (child >= count)
			return;
		if (child + 1 < count && before(logits, heap[child], heap[child + 1]))
			child++;
		if (before(logits, heap[child], heap[at]))
			return;
		uint32_t index = heap[at];
		heap[at] = heap[child];
		heap[child] = index;
		at = child;
	}
}

void logits_top_k(const float *logits, uint32_t n, uint32_t k, uint32_t *ret_index, float *ret_value)
{
	assert(k <= n);
	if (k == 0)
		return;
	for (uint32_t i = 0; i < k; i++)
		ret_index[i] = i;
	for (uint32_t i = k / 2; i-- > 0;)
		sift_down(logits, ret_index, k, i);
	for (uint32_t i = k; i < n; i++)
		if (logits[i] > logits[ret_index[0]]) { /* an equal one comes later, and so after */
			ret_index[0] = i;
			sift_down(logits, ret_index, k, 0);
		}
	/* Take the last out to the end until all are in order. */
	for (uint32_t count = k; count > 1; count--) {
		uint32_t last = ret_index[0];
		ret_index[0] = ret_index[count - 1];
		ret_index[count - 1] = last;
		sift_down(logits, ret_index, count - 1, 0);
	}
	for (uint32_t i = 0; i < k; i++)
		ret_value[i] = logits[ret_index[i]];
}

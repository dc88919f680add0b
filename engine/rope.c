#include "engine/rope.h"

#include "base/exact.h"
#include "kernels/ops.h"
#include "model/config.h"

#define PI 3.14159265358979323846

static float between(float low, float x, float high)
{
	return x < low ? low : x > high ? high : x;
}

/* Slow ones (long waves) are divided, fast ones stay, between them a ramp over original / wavelength. */
static void stretch_llama3(const struct model_rope *rope, float *frequency)
{
	float factor = (float)rope->factor, low = (float)rope->low_freq_factor, high = (float)rope->high_freq_factor;
	float original = (float)rope->original_position_max;
	for (uint32_t i = 0; i < rope->dim / 2; i++) {
		float wave = (float)(2 * PI) / frequency[i];
		float kept = (original / wave - low) / (float)(rope->high_freq_factor - rope->low_freq_factor);
		if (wave > original / low)
			frequency[i] /= factor;
		else if (wave >= original / high)
			frequency[i] = (1.0f - kept) * frequency[i] / factor + kept * frequency[i];
	}
}

/* The dimension (of dim / 2, not whole) that turns so many times within the original length. */
static double dimension_of(const struct model_rope *rope, double rotations)
{
	return rope->dim * exact_log(rope->original_position_max / (rotations * 2 * PI)) / (2 * exact_log(rope->theta));
}

/* Dimensions that turn often stay, those that turn seldom are divided, between them a ramp over the dimensions. */
static void stretch_yarn(const struct model_rope *rope, float *frequency)
{
	double low = dimension_of(rope, rope->beta_fast), high = dimension_of(rope, rope->beta_slow);
	if (rope->truncate) {
		low = __builtin_floor(low);
		high = __builtin_ceil(high);
	}
	low = low < 0 ? 0 : low;
	high = high > rope->dim - 1 ? rope->dim - 1 : high;
	high = low == high ? high + 0.001 : high;
	for (uint32_t i = 0; i < rope->dim / 2; i++) {
		float kept = 1.0f - between(0.0f, ((float)i - (float)low) / (float)(high - low), 1.0f);
		frequency[i] = frequency[i] / (float)rope->factor * (1.0f - kept) + frequency[i] * kept;
	}
}

void rope_of_model(const struct model_rope *rope, float *ret_frequency)
{
	rope_frequencies(rope->theta, rope->dim, ret_frequency);
	switch (rope->scaling) {
	case MODEL_ROPE_PLAIN:
		return;
	case MODEL_ROPE_LLAMA3:
		stretch_llama3(rope, ret_frequency);
		return;
	case MODEL_ROPE_YARN:
		stretch_yarn(rope, ret_frequency);
		return;
	case MODEL_ROPE_LINEAR:
	case MODEL_ROPE_LONG:
		for (uint32_t i = 0; i < rope->dim / 2; i++)
			ret_frequency[i] /= rope->scaling == MODEL_ROPE_LONG ? rope->factors[i] : (float)rope->factor;
	}
}

/* expert_exchange - where the rows of a mixture-of-experts layer meet their experts.
 *
 * The engine routes rows and hands them here with the numbers and weights of their experts; what comes back
 * is each row's weighted sum of the answers.  Experts may be in this process (the engine's own exchange) or on
 * other hosts (experts/): nobody can tell from the bits, because of the rules.
 *
 * Memory: the device's.
 * Thread: the engine's compute thread, one call at a time, in the order of layers and steps.
 * Rules:  1 an expert gets its rows rounded to bf16, and its answers are rounded to bf16, near or far;
 *         2 a row's sum starts from zero and adds weight * answer in ascending order of experts, in f32. */
#ifndef ENGINE_EXPERT_EXCHANGE_H
#define ENGINE_EXPERT_EXCHANGE_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "kernels/device.h"

struct expert_rows {
	uint32_t layer;
	uint32_t row_count;
	uint32_t top_k;
	uint32_t dim;
	const void *x;          /* [row][dim] of `elem`: the layer's input, after its norm */
	enum elem elem;
	const uint32_t *expert; /* [row][top_k] ascending */
	const float *weight;    /* [row][top_k] of those */
	float *sum;             /* [row][dim] out */
};

struct expert_exchange {
	void *context;
	bool queued; /* it queues operations on the device and does nothing else: a step with it may be recorded */
	/* Blocks until every row has its sum, or returns what ends the step: ERR_DEADLINE, ERR_UNAVAILABLE.
	 * The memory is the engine's and valid during the call.  rows: [rank_count], the same at every rank of the engine, which
	 * wants the sums at each. */
	enum err (*run)(void *context, const struct expert_rows *rows, uint32_t rank_count);
};
#endif

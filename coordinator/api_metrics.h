/* api_metrics - what the API counts of each model, under vLLM's names, so that dashboards and scalers work unchanged.
 *
 * Owns its numbers; zeroed memory counts nothing yet.  Loop: the service's. */
#ifndef COORDINATOR_API_METRICS_H
#define COORDINATOR_API_METRICS_H
#include <stdbool.h>
#include <stdint.h>
#include "coordinator/core.h"
#include "coordinator/metrics_text.h"
#include "coordinator/served_model.h"

enum api_end { API_END_STOP, API_END_LENGTH, API_END_ABORT, API_END_ERROR, API_ENDS };

enum api_histogram {
	API_TTFT,
	API_ITL,
	API_E2E,
	API_QUEUE,
	API_PREFILL,
	API_DECODE,
	API_PER_TOKEN,
	API_PROMPT_TOKENS,
	API_GENERATION_TOKENS,
	API_N,
	API_MAX_TOKENS,
	API_HISTOGRAMS,
};

struct api_metrics {
	uint64_t running, waiting; /* gauges: filled in when shown */
	uint64_t prompt_tokens, cached_tokens, generation_tokens;
	uint64_t computed, reused, fetched; /* of prompts, at prefill: where they came from */
	uint64_t decode_computed, decode_reused, decode_transferred;
	uint64_t bytes_read[2];             /* at prefill, at decode */
	uint64_t misses[5];                 /* blocks: not found, deadline, digest, generation, gone */
	uint64_t ends[API_ENDS];
	struct histogram histograms[API_HISTOGRAMS];
};

void api_metrics_observe(struct api_metrics *metrics, enum api_histogram which, double value);
/* A request is over: its sums go in.  aborted: its client left, or was given up, before. */
void api_metrics_outcome(struct api_metrics *metrics, const struct coord_outcome *outcome, bool aborted);
/* metrics: [count], of the model with the same index. */
void api_metrics_show(const struct api_metrics *metrics, const struct served_model *models, uint32_t count,
		      struct metrics_text *text);
#endif

#include "coordinator/api_metrics.h"

/* vLLM's buckets; below its 10 ms for the time between tokens three of ours, because ours are shorter. */
static const struct histogram_bounds ttft = {22, {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5,
						  10, 20, 40, 80, 160, 640, 2560}};
static const struct histogram_bounds itl = {21, {.001, .002, .005, .01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75,
						 1, 2.5, 5, 7.5, 10, 40, 80}};
static const struct histogram_bounds e2e = {20, {.3, .5, .8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240,
						 480, 960, 7680}};
static const struct histogram_bounds tokens = {18, {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000,
						    50000, 100000, 200000, 500000}};
static const struct histogram_bounds choices = {6, {1, 2, 5, 10, 20, 50}};

static const struct {
	const char *name;
	const char *help;
	const struct histogram_bounds *bounds;
} histograms[API_HISTOGRAMS] = {
	[API_TTFT] = {"vllm:time_to_first_token_seconds", "From the request to its first token.", &ttft},
	[API_ITL] = {"vllm:inter_token_latency_seconds", "Between two tokens of a choice.", &itl},
	[API_E2E] = {"vllm:e2e_request_latency_seconds", "From the request to its end.", &e2e},
	[API_QUEUE] = {"vllm:request_queue_time_seconds", "Waiting for a pair of nodes.", &e2e},
	[API_PREFILL] = {"vllm:request_prefill_time_seconds", "From the start to the first token.", &e2e},
	[API_DECODE] = {"vllm:request_decode_time_seconds", "From the first token to the end.", &e2e},
	[API_PER_TOKEN] = {"vllm:request_time_per_output_token_seconds", "Mean over a request.", &itl},
	[API_PROMPT_TOKENS] = {"vllm:request_prompt_tokens", "Tokens of a prompt.", &tokens},
	[API_GENERATION_TOKENS] = {"vllm:request_generation_tokens", "Tokens generated for a prompt.", &tokens},
	[API_N] = {"vllm:request_params_n", "Choices asked for.", &choices},
	[API_MAX_TOKENS] = {"vllm:request_params_max_tokens", "Most tokens of a choice.", &tokens},
};

void api_metrics_observe(struct api_metrics *metrics, enum api_histogram which, double value)
{
	histogram_add(&metrics->histograms[which], histograms[which].bounds, value);
}

static void add_misses(struct api_metrics *m, const struct coord_accounting *a)
{
	m->misses[0] += a->miss_not_found;
	m->misses[1] += a->miss_deadline;
	m->misses[2] += a->miss_digest;
	m->misses[3] += a->miss_generation;
	m->misses[4] += a->miss_gone;
}

static void count_ends(struct api_metrics *m, const struct coord_outcome *o, bool aborted)
{
	for (uint32_t i = 0; i < o->choice_count; i++) {
		if (aborted)
			m->ends[API_END_ABORT]++;
		else if (o->error != ERR_OK && o->finish[i] == WIRE__FINISH__FINISH_NONE)
			m->ends[API_END_ERROR]++;
		else
			m->ends[o->finish[i] == WIRE__FINISH__FINISH_LENGTH ? API_END_LENGTH : API_END_STOP]++;
	}
}

static void observe_times(struct api_metrics *m, const struct coord_outcome *o, uint64_t generated)
{
	const struct coord_timings *t = &o->timings;
	api_metrics_observe(m, API_E2E, (double)t->total_ns * 1e-9);
	api_metrics_observe(m, API_QUEUE, (double)t->queue_ns * 1e-9);
	if (!t->first_token_ns)
		return;
	double decode_s = (double)(t->total_ns - t->first_token_ns) * 1e-9;
	api_metrics_observe(m, API_TTFT, (double)t->first_token_ns * 1e-9);
	api_metrics_observe(m, API_PREFILL, (double)t->prefill_ns * 1e-9);
	api_metrics_observe(m, API_DECODE, decode_s);
	if (generated > o->choice_count)
		api_metrics_observe(m, API_PER_TOKEN, decode_s * o->choice_count / (double)(generated - o->choice_count));
}

void api_metrics_outcome(struct api_metrics *m, const struct coord_outcome *o, bool aborted)
{
	uint64_t generated = 0;
	for (uint32_t i = 0; i < o->choice_count; i++)
		generated += o->generated[i];
	m->cached_tokens += o->cached_tokens;
	m->computed += o->prefill.computed;
	m->reused += o->prefill.reused;
	m->fetched += o->prefill.fetched;
	m->decode_computed += o->decode.computed;
	m->decode_reused += o->decode.reused;
	m->decode_transferred += o->decode.transferred;
	m->bytes_read[0] += o->prefill.bytes_read;
	m->bytes_read[1] += o->decode.bytes_read;
	add_misses(m, &o->prefill);
	add_misses(m, &o->decode);
	count_ends(m, o, aborted);
	observe_times(m, o, generated);
	api_metrics_observe(m, API_GENERATION_TOKENS, (double)generated);
}

/* ---- text */

struct showing {
	const struct api_metrics *metrics;
	const struct served_model *models;
	uint32_t count;
	struct metrics_text *text;
};

/* One line a model; `offset` says where the number lies in struct api_metrics. */
static void show_number(const struct showing *s, const char *name, const char *type, const char *help, size_t offset)
{
	metrics_family(s->text, name, type, help);
	for (uint32_t i = 0; i < s->count; i++) {
		const char *labels[] = {"model_name", s->models[i].name, "engine", "0", NULL};
		metrics_line(s->text, labels, (double)*(const uint64_t *)((const char *)&s->metrics[i] + offset));
	}
}

struct kind {
	const char *value;
	size_t offset;
};

static void show_kinds(const struct showing *s, const char *name, const char *help, const char *label,
		       const struct kind *kinds, uint32_t kind_count)
{
	metrics_family(s->text, name, "counter", help);
	for (uint32_t i = 0; i < s->count; i++)
		for (uint32_t k = 0; k < kind_count; k++) {
			const char *labels[] = {"model_name", s->models[i].name, "engine", "0", label, kinds[k].value, NULL};
			metrics_line(s->text, labels,
				     (double)*(const uint64_t *)((const char *)&s->metrics[i] + kinds[k].offset));
		}
}

#define AT(field) offsetof(struct api_metrics, field)

static void show_numbers(const struct showing *s)
{
	show_number(s, "vllm:num_requests_running", "gauge", "Requests that have their nodes.", AT(running));
	show_number(s, "vllm:num_requests_waiting", "gauge", "Requests that wait for nodes.", AT(waiting));
	show_number(s, "vllm:prompt_tokens_total", "counter", "Tokens of prompts.", AT(prompt_tokens));
	show_number(s, "vllm:prompt_tokens_cached_total", "counter", "Of them not computed.", AT(cached_tokens));
	show_number(s, "vllm:generation_tokens_total", "counter", "Tokens generated.", AT(generation_tokens));
	show_number(s, "vllm:prefix_cache_queries_total", "counter", "Tokens looked up.", AT(prompt_tokens));
	show_number(s, "vllm:prefix_cache_hits_total", "counter", "Tokens found on the prefill node.", AT(reused));
	show_number(s, "vllm:external_prefix_cache_hits_total", "counter", "Tokens read from stores or other nodes.",
		    AT(fetched));
}

static void show_families(const struct showing *s)
{
	static const struct kind sources[] = {{"local_compute", AT(computed)}, {"local_cache_hit", AT(reused)},
					      {"external_kv_transfer", AT(fetched)}};
	static const struct kind ends[] = {{"stop", AT(ends[API_END_STOP])}, {"length", AT(ends[API_END_LENGTH])},
					   {"abort", AT(ends[API_END_ABORT])}, {"error", AT(ends[API_END_ERROR])}};
	static const struct kind misses[] = {{"not_found", AT(misses[0])}, {"deadline", AT(misses[1])},
					     {"digest", AT(misses[2])}, {"generation", AT(misses[3])}, {"gone", AT(misses[4])}};
	static const struct kind read[] = {{"prefill", AT(bytes_read[0])}, {"decode", AT(bytes_read[1])}};
	static const struct kind decode[] = {{"computed", AT(decode_computed)}, {"reused", AT(decode_reused)},
					     {"transferred", AT(decode_transferred)}};
	show_kinds(s, "vllm:prompt_tokens_by_source_total", "Where prompts came from, at prefill.", "source", sources, 3);
	show_kinds(s, "vllm:request_success_total", "Choices that ended.", "finished_reason", ends, API_ENDS);
	show_kinds(s, "baton_decode_context_tokens_total", "Where contexts came from, at decode.", "source", decode, 3);
	show_kinds(s, "baton_block_misses_total", "Blocks asked for and not got.", "cause", misses, 5);
	show_kinds(s, "baton_kv_bytes_read_total", "KV bytes that a half read from others.", "half", read, 2);
}

void api_metrics_show(const struct api_metrics *metrics, const struct served_model *models, uint32_t count,
		      struct metrics_text *text)
{
	struct showing s = {metrics, models, count, text};
	show_numbers(&s);
	show_families(&s);
	for (int h = 0; h < API_HISTOGRAMS; h++) {
		metrics_family(text, histograms[h].name, "histogram", histograms[h].help);
		for (uint32_t i = 0; i < count; i++) {
			const char *labels[] = {"model_name", models[i].name, "engine", "0", NULL};
			metrics_histogram(text, labels, histograms[h].bounds, &metrics[i].histograms[h]);
		}
	}
}

/* bench_engine - prefill and decode rates of one model on this machine, beside the limit of its memory.
 *
 *     bench_engine MODEL_DIR [THREADS [REPEATS [PROMPT_MAX [cpu]]]]
 *
 * Prints one Markdown row a measurement: least, median and greatest of the repeats.  Limits are measured in the
 * same run, next to what they bound: a machine's other guests change the figures by the minute.  With "cpu" the
 * time is the process's CPU time: for one thread on a machine that others keep busy. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/layer_groups.h"
#include "engine/engine.h"
#include "kernels/device.h"
#include "model/model_dir.h"

enum { BLOCK_TOKENS = 16, BATCH = 512, CONTEXT_MAX = 2304, STREAMS_MAX = 8, REPEATS_MAX = 64 };

struct bench {
	struct model_dir *model;
	struct engine *engine;
	struct device *device; /* a second one, for the read rate */
	uint32_t thread_count;
	uint32_t repeats;
	uint32_t prompt_max;
	clockid_t clock;
	uint8_t *memory[LAYER_GROUPS_MAX];
	pthread_mutex_t lock;
	pthread_cond_t turn;
	bool done;
	struct sampling sampling;
	struct sequence streams[STREAMS_MAX];
	uint32_t tokens[STREAMS_MAX][CONTEXT_MAX];
	uint32_t blocks[LAYER_GROUPS_MAX][STREAMS_MAX][CONTEXT_MAX / BLOCK_TOKENS];
	struct sample samples[PLAN_SAMPLES_MAX];
	struct plan plan;
};

static double now_s(const struct bench *bench)
{
	struct timespec t;
	clock_gettime(bench->clock, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void check(enum err e, const struct why *why)
{
	if (e == ERR_OK)
		return;
	fprintf(stderr, "bench_engine: %s: %s\n", err_text(e), why->text);
	exit(1);
}

static void on_step_done(void *context, const struct plan *plan, const struct sample *samples, enum err e)
{
	struct bench *bench = context;
	check(e, &(struct why){"step"});
	pthread_mutex_lock(&bench->lock);
	memcpy(bench->samples, samples, plan->sample_count * sizeof(*samples));
	bench->done = true;
	pthread_cond_signal(&bench->turn);
	pthread_mutex_unlock(&bench->lock);
}

static void open_group(struct bench *bench, uint32_t g)
{
	struct why why = {""};
	struct kv_geometry geometry;
	engine_geometry(bench->engine, g, &geometry);
	uint32_t block_count = STREAMS_MAX * CONTEXT_MAX / BLOCK_TOKENS;
	bench->memory[g] = aligned_alloc(64, ((size_t)block_count * geometry.block_bytes + 63) / 64 * 64);
	check(engine_set_kv(bench->engine, g, bench->memory[g], block_count), &why);
	for (uint32_t i = 0; i < STREAMS_MAX; i++)
		for (uint32_t j = 0; j < CONTEXT_MAX / BLOCK_TOKENS; j++)
			bench->blocks[g][i][j] = g * block_count + i * (CONTEXT_MAX / BLOCK_TOKENS) + j;
}

static void bench_open(struct bench *bench, const char *path)
{
	struct why why = {""};
	pthread_mutex_init(&bench->lock, NULL);
	pthread_cond_init(&bench->turn, NULL);
	bench->sampling = (struct sampling){.top_p = 1, .repetition_penalty = 1, .max_tokens = 1, .logprobs = -1};
	check(model_dir_open(path, &(struct model_dir_options){false}, &why, &bench->model), &why);
	const struct engine_options options = {.model = bench->model, .thread_count = bench->thread_count,
					       .block_tokens = BLOCK_TOKENS, .batch_tokens_max = BATCH,
					       .callbacks = {.context = bench, .on_step_done = on_step_done}};
	check(engine_create(&options, &why, &bench->engine), &why);
	const struct device_options device = {.kind = DEVICE_CPU, .thread_count = bench->thread_count};
	check(device_open(&device, &why, &bench->device), &why);
	for (uint32_t g = 0; g < engine_group_count(bench->engine); g++)
		open_group(bench, g);
}

static void begin_stream(struct bench *bench, uint32_t index, uint32_t prompt)
{
	for (uint32_t i = 0; i < prompt; i++)
		bench->tokens[index][i] = (i * 7919 + index * 104729) % bench->model->config.vocab_size;
	bench->streams[index] = (struct sequence){
		.sampling = &bench->sampling,
		.tokens = bench->tokens[index],
		.token_count = prompt,
		.prompt_count = prompt,
		.tables = {{bench->blocks[0][index], 0, CONTEXT_MAX / BLOCK_TOKENS},
			   {bench->blocks[1][index], 0, CONTEXT_MAX / BLOCK_TOKENS}},
		.choice_count = 1,
	};
}

/* One step over the first `count` streams, up to `chunk` tokens of each. */
static void step(struct bench *bench, uint32_t count, uint32_t chunk)
{
	struct plan *plan = &bench->plan;
	plan->run_count = plan->token_count = plan->sample_count = 0;
	for (uint32_t i = 0; i < count; i++) {
		struct sequence *sequence = &bench->streams[i];
		uint32_t left = sequence->token_count - sequence->computed;
		uint32_t size = left < chunk ? left : chunk;
		plan->runs[plan->run_count++] = (struct run){.sequence = sequence, .first = sequence->computed, .count = size,
							     .sample_count = size == left, .sample_first = plan->sample_count,
							     .digest = chunk > 1};
		plan->token_count += size;
		plan->sample_count += size == left;
	}
	bench->done = false;
	check(engine_submit(bench->engine, plan), &(struct why){"submit"});
	pthread_mutex_lock(&bench->lock);
	while (!bench->done)
		pthread_cond_wait(&bench->turn, &bench->lock);
	pthread_mutex_unlock(&bench->lock);
	for (uint32_t i = 0; i < plan->run_count; i++) {
		struct run *run = &plan->runs[i];
		run->sequence->computed += run->count;
		if (run->sample_count)
			run->sequence->tokens[run->sequence->token_count++] = bench->samples[run->sample_first].token;
	}
}

/* Tokens a second of reading one prompt. */
static double prefill(struct bench *bench, uint32_t prompt)
{
	begin_stream(bench, 0, prompt);
	double start = now_s(bench);
	while (bench->streams[0].computed < prompt)
		step(bench, 1, BATCH);
	return prompt / (now_s(bench) - start);
}

/* Seconds a step of decoding `streams` answers after prompts of 128 tokens. */
static double decode(struct bench *bench, uint32_t streams, uint32_t steps)
{
	for (uint32_t i = 0; i < streams; i++)
		begin_stream(bench, i, 128);
	while (bench->streams[0].computed < 128)
		step(bench, streams, BATCH / STREAMS_MAX);
	step(bench, streams, 1);
	double start = now_s(bench);
	for (uint32_t i = 0; i < steps; i++)
		step(bench, streams, 1);
	return (now_s(bench) - start) / steps;
}

/* Bytes of weights that the computation of one token reads: every linear, and the top experts. */
static double token_bytes(const struct model_dir *model)
{
	double bytes = 0;
	for (size_t i = 0; i < weights_count(model->weights); i++) {
		const struct tensor *tensor = weights_at(model->weights, i);
		const struct model_config *c = &model->config;
		if (strstr(tensor->name, ".experts."))
			bytes += (double)tensor->bytes * c->experts.top / c->experts.count;
		else if (c->tie_word_embeddings || strcmp(tensor->name, "model.embed_tokens.weight") != 0)
			bytes += (double)tensor->bytes;
	}
	return bytes;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double report(const char *what, const char *unit, double *values, uint32_t count)
{
	qsort(values, count, sizeof(*values), ascending);
	printf("| %s | %.4g / **%.4g** / %.4g %s |\n", what, values[0], values[count / 2], values[count - 1], unit);
	fflush(stdout);
	return values[count / 2];
}

static void measure_prefill(struct bench *bench)
{
	static const uint32_t prompts[] = {128, 512, 2048};
	double values[REPEATS_MAX];
	char name[64];
	prefill(bench, 128);
	for (size_t i = 0; i < sizeof(prompts) / sizeof(prompts[0]) && prompts[i] <= bench->prompt_max; i++) {
		for (uint32_t r = 0; r < bench->repeats; r++)
			values[r] = prefill(bench, prompts[i]);
		snprintf(name, sizeof(name), "prefill of %u tokens", prompts[i]);
		report(name, "tokens/s", values, bench->repeats);
	}
}

/* One row, eight rows and the limit take turns, so that the ratios are of the same moments. */
static void measure_decode(struct bench *bench)
{
	double one[REPEATS_MAX], eight[REPEATS_MAX], cost[REPEATS_MAX], rate[REPEATS_MAX], ratio[REPEATS_MAX];
	double bytes = token_bytes(bench->model);
	uint32_t steps = bytes > 50e6 ? 8 : 200;
	for (uint32_t r = 0; r < bench->repeats; r++) {
		rate[r] = device_read_rate(bench->device) / 1e9;
		double single = decode(bench, 1, steps);
		double batch = decode(bench, 8, steps);
		one[r] = 1 / single;
		eight[r] = 8 / batch;
		cost[r] = batch / single;
		ratio[r] = bytes / single / (rate[r] * 1e9);
	}
	report("decode of 1 stream", "tokens/s", one, bench->repeats);
	report("decode of 8 streams", "tokens/s", eight, bench->repeats);
	report("8 rows cost, of 1 row", "", cost, bench->repeats);
	report("memory read rate (wall)", "GB/s", rate, bench->repeats);
	if (bench->clock == CLOCK_MONOTONIC) /* the read rate is in wall time */
		report("1 stream, of the read limit", "", ratio, bench->repeats);
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "usage: bench_engine MODEL_DIR [THREADS [REPEATS [PROMPT_MAX [cpu]]]]\n");
		return 2;
	}
	struct bench *bench = calloc(1, sizeof(*bench));
	if (!bench)
		return 1;
	bench->thread_count = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 0;
	bench->repeats = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 5;
	if (bench->repeats < 1 || bench->repeats > REPEATS_MAX)
		bench->repeats = 5;
	bench->prompt_max = argc > 4 ? (uint32_t)strtoul(argv[4], NULL, 10) : UINT32_MAX;
	bench->clock = argc > 5 && strcmp(argv[5], "cpu") == 0 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC;
	bench_open(bench, argv[1]);
	const struct device_props *props = device_props(bench->device);
	printf("\n%s, %u threads of %s (%s), %s; %.1f MB of weights a token; %s time; least / **median** / greatest of %u\n\n"
	       "| measure | value |\n|---|---|\n", bench->model->name, props->thread_count, props->name, props->variant,
	       engine_numerics_class(bench->engine), token_bytes(bench->model) / 1e6,
	       bench->clock == CLOCK_MONOTONIC ? "wall" : "CPU", bench->repeats);
	measure_prefill(bench);
	measure_decode(bench);
	engine_destroy(bench->engine);
	device_close(bench->device);
	model_dir_close(bench->model);
	free(bench->memory[0]);
	free(bench->memory[1]);
	free(bench);
	return 0;
}

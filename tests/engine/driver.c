#include "tests/engine/driver.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/device.h"
#include "model/model_dir.h"

#ifndef DRIVER_DEVICE /* tests/gpu/ has another */
#define DRIVER_DEVICE "cpu"
#endif

static void on_layer_done(void *context, const struct plan *plan, uint32_t layer)
{
	struct driver *driver = context;
	if (layer != driver->layers_seen++)
		abort();
}

static void on_step_done(void *context, const struct plan *plan, const struct sample *samples, enum err e)
{
	struct driver *driver = context;
	pthread_mutex_lock(&driver->lock);
	memcpy(driver->samples, samples, plan->sample_count * sizeof(*samples));
	driver->result = e;
	driver->done = true;
	pthread_cond_signal(&driver->turn);
	pthread_mutex_unlock(&driver->lock);
}

static void check(enum err e, const struct why *why)
{
	if (e == ERR_OK)
		return;
	fprintf(stderr, "driver: %s: %s\n", err_text(e), why->text);
	abort();
}

const char *driver_isa_of_f32_rows(void)
{
	const char *names[DEVICE_VARIANTS_MAX];
	uint32_t count = device_variants(names);
	for (uint32_t i = 0; i < count; i++)
		if (strcmp(names[i], "avx512bf16") != 0)
			return names[i];
	return "portable";
}

static void open_group(struct driver *driver, uint32_t g)
{
	uint32_t count = driver->options.block_count;
	engine_geometry(driver->engine, g, &driver->geometry[g]);
	size_t bytes = (size_t)count * driver->geometry[g].block_bytes;
	driver->memory[g] = aligned_alloc(64, (bytes + 63) / 64 * 64);
	driver->free[g] = calloc(count, sizeof(uint32_t));
	if (!driver->memory[g] || !driver->free[g])
		abort();
	memset(driver->memory[g], 0, bytes);
	for (uint32_t i = 0; i < count; i++)
		driver->free[g][driver->free_count[g]++] = g * count + count - 1 - i;
	check(engine_set_kv(driver->engine, g, driver->memory[g], count), &(struct why){"set_kv"});
}

void driver_open(struct driver *driver, const struct driver_options *options)
{
	struct why why = {""};
	memset(driver, 0, sizeof(*driver));
	driver->options = *options;
	pthread_mutex_init(&driver->lock, NULL);
	pthread_cond_init(&driver->turn, NULL);
	check(model_dir_open(options->path, &(struct model_dir_options){.quantization = options->quantization}, &why, &driver->model), &why);
	const struct engine_options engine = {
		.model = driver->model,
		.device = DRIVER_DEVICE,
		.isa = options->isa,
		.numerics = options->numerics,
		.thread_count = options->thread_count,
		.block_tokens = options->block_tokens,
		.batch_tokens_max = options->batch_tokens_max,
		.experts = options->experts,
		.tensor_parallel_size = options->tensor_parallel_size,
		.row_segments = options->row_segments,
		.callbacks = {driver, on_layer_done, on_step_done},
	};
	check(engine_create(&engine, &why, &driver->engine), &why);
	driver->group_count = engine_group_count(driver->engine);
	for (uint32_t g = 0; g < driver->group_count; g++)
		open_group(driver, g);
}

void driver_close(struct driver *driver)
{
	engine_destroy(driver->engine);
	model_dir_close(driver->model);
	for (uint32_t g = 0; g < driver->group_count; g++) {
		free(driver->memory[g]);
		free(driver->free[g]);
	}
	pthread_cond_destroy(&driver->turn);
	pthread_mutex_destroy(&driver->lock);
}

uint8_t *driver_block(const struct driver *driver, uint32_t block)
{
	uint32_t g = block / driver->options.block_count;
	return driver->memory[g] + (size_t)(block % driver->options.block_count) * driver->geometry[g].block_bytes;
}

static void shuffle_group(struct driver *driver, uint32_t g, struct rng *rng)
{
	uint32_t *blocks = driver->free[g];
	for (uint32_t i = driver->free_count[g]; i > 1; i--) {
		uint32_t j = (uint32_t)rng_below(rng, i);
		uint32_t block = blocks[i - 1];
		blocks[i - 1] = blocks[j];
		blocks[j] = block;
	}
	for (uint32_t i = 0; i < driver->free_count[g]; i++)
		memset(driver_block(driver, blocks[i]), (int)rng_below(rng, 256), driver->geometry[g].block_bytes);
}

void driver_shuffle(struct driver *driver, struct rng *rng)
{
	for (uint32_t g = 0; g < driver->group_count; g++)
		shuffle_group(driver, g, rng);
}

enum err driver_try(struct driver *driver, struct plan *plan)
{
	driver->done = false;
	driver->layers_seen = 0;
	enum err e = engine_submit(driver->engine, plan);
	if (e != ERR_OK)
		return e;
	pthread_mutex_lock(&driver->lock);
	while (!driver->done)
		pthread_cond_wait(&driver->turn, &driver->lock);
	pthread_mutex_unlock(&driver->lock);
	return driver->result;
}

void driver_step(struct driver *driver, struct plan *plan)
{
	check(driver_try(driver, plan), &(struct why){"step"});
	if (driver->layers_seen != engine_layer_count(driver->engine))
		abort();
	for (uint32_t i = 0; i < plan->run_count; i++)
		plan->runs[i].sequence->computed += plan->runs[i].count;
}

void stream_open(struct stream *stream, struct driver *driver, const uint32_t *prompt, uint32_t prompt_count,
		 uint32_t tokens_max)
{
	uint32_t block_tokens = driver->geometry[0].block_tokens;
	memset(stream, 0, sizeof(*stream));
	stream->tokens_max = tokens_max;
	stream->blocks_max = (tokens_max + block_tokens - 1) / block_tokens;
	stream->sampling = (struct sampling){.top_p = 1, .repetition_penalty = 1, .max_tokens = tokens_max, .logprobs = 5};
	stream->sequence = (struct sequence){
		.sampling = &stream->sampling,
		.tokens = calloc(tokens_max, sizeof(uint32_t)),
		.token_count = prompt_count,
		.prompt_count = prompt_count,
		.choice_count = 1,
	};
	if (!stream->sequence.tokens)
		abort();
	memcpy(stream->sequence.tokens, prompt, prompt_count * sizeof(uint32_t));
	for (uint32_t g = 0; g < driver->group_count; g++) {
		struct sequence_table *table = &stream->sequence.tables[g];
		*table = (struct sequence_table){.blocks = calloc(stream->blocks_max, sizeof(uint32_t)),
						 .count = stream->blocks_max};
		if (!table->blocks || driver->free_count[g] < stream->blocks_max)
			abort();
		for (uint32_t i = 0; i < stream->blocks_max; i++)
			table->blocks[i] = driver->free[g][--driver->free_count[g]];
	}
}

static void give_back(struct sequence_table *table, struct driver *driver, uint32_t g, uint32_t first, uint32_t end)
{
	for (uint32_t i = end; i-- > first;) {
		driver->free[g][driver->free_count[g]++] = table->blocks[i];
		table->blocks[i] = KV_BLOCK_NONE;
	}
}

void stream_close(struct stream *stream, struct driver *driver)
{
	for (uint32_t g = 0; g < driver->group_count; g++) {
		struct sequence_table *table = &stream->sequence.tables[g];
		give_back(table, driver, g, table->first, table->count);
		free(table->blocks);
	}
	free(stream->sequence.tokens);
}

void stream_release(struct stream *stream, struct driver *driver)
{
	for (uint32_t g = 0; g < driver->group_count; g++) {
		struct sequence_table *table = &stream->sequence.tables[g];
		uint32_t window = driver->geometry[g].window, next = stream->sequence.computed;
		uint32_t first = window > 0 && next + 1 > window ? (next + 1 - window) / driver->geometry[g].block_tokens : 0;
		give_back(table, driver, g, table->first, first);
		table->first = first;
	}
}

void stream_append(struct stream *stream, uint32_t token)
{
	assert(stream->sequence.token_count < stream->tokens_max);
	stream->sequence.tokens[stream->sequence.token_count++] = token;
}

void plan_add(struct plan *plan, struct stream *stream, uint32_t count)
{
	struct sequence *sequence = &stream->sequence;
	uint32_t left = sequence->token_count - sequence->computed;
	uint32_t size = count < left ? count : left;
	if (size == 0)
		return;
	uint16_t samples = size == left ? sequence->choice_count : 0;
	uint32_t end = sequence->computed + size < sequence->score_end ? sequence->computed + size : sequence->score_end;
	uint32_t scores = end > sequence->computed ? end - sequence->computed : 0;
	plan->runs[plan->run_count++] = (struct run){.sequence = sequence, .first = sequence->computed, .count = size,
						     .sample_count = samples, .sample_first = plan->sample_count,
						     .score_first = sequence->computed, .score_count = scores,
						     .score_index = plan->sample_count + samples, .digest = true};
	plan->token_count += size;
	plan->token_bucket = plan_bucket(plan->token_count);
	plan->sample_count += samples + scores;
	plan->score_count += scores;
}

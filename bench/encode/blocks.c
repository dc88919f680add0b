#include "bench/encode/blocks.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/layer_groups.h"
#include "engine/engine.h"
#include "model/model_dir.h"

enum { BATCH = 512 };

struct blocks {
	struct model_dir *model;
	struct engine *engine;
	struct blocks_shape shape;
	uint32_t group_count, block_count;
	struct kv_geometry geometry[LAYER_GROUPS_MAX];
	uint8_t *memory[LAYER_GROUPS_MAX];
	uint32_t *table[LAYER_GROUPS_MAX];
	struct tokens tokens;
	pthread_mutex_t lock;
	pthread_cond_t turn;
	bool done;
};

static void *must(void *memory)
{
	if (memory)
		return memory;
	fprintf(stderr, "bench_encode: no memory\n");
	exit(1);
}

static void check(enum err e, const char *what)
{
	if (e == ERR_OK)
		return;
	fprintf(stderr, "bench_encode: %s: %s\n", err_text(e), what);
	exit(1);
}

static void on_step_done(void *context, const struct plan *plan, const struct sample *samples, enum err e)
{
	struct blocks *b = context;
	check(e, "step");
	pthread_mutex_lock(&b->lock);
	b->done = true;
	pthread_cond_signal(&b->turn);
	pthread_mutex_unlock(&b->lock);
}

static void read_text(struct blocks *b, const char *path)
{
	static const struct tokenizer_encode_options options = {.add_special_tokens = true};
	char *text = must(malloc(TOKENIZER_TEXT_MAX));
	FILE *file = fopen(path, "rb");
	check(file ? ERR_OK : ERR_NOT_FOUND, path);
	size_t length = fread(text, 1, TOKENIZER_TEXT_MAX, file);
	fclose(file);
	check(tokenizer_encode(b->model->tokenizer, text, length, &options, &b->tokens), path);
	free(text);
}

static void open_groups(struct blocks *b)
{
	for (uint32_t g = 0; g < b->group_count; g++) {
		engine_geometry(b->engine, g, &b->geometry[g]);
		size_t bytes = (size_t)b->block_count * b->geometry[g].block_bytes;
		b->memory[g] = must(aligned_alloc(64, (bytes + 63) / 64 * 64));
		b->table[g] = must(calloc(b->block_count, sizeof(uint32_t)));
		for (uint32_t i = 0; i < b->block_count; i++)
			b->table[g][i] = g * b->block_count + i;
		check(engine_set_kv(b->engine, g, b->memory[g], b->block_count), "blocks");
	}
}

static void step(struct blocks *b, struct sequence *sequence, struct plan *plan)
{
	uint32_t left = sequence->token_count - sequence->computed, size = left < BATCH ? left : BATCH;
	*plan = (struct plan){.run_count = 1, .token_count = size, .sample_count = size == left};
	plan->runs[0] = (struct run){.sequence = sequence, .first = sequence->computed, .count = size, .sample_count = size == left};
	b->done = false;
	check(engine_submit(b->engine, plan), "submit");
	pthread_mutex_lock(&b->lock);
	while (!b->done)
		pthread_cond_wait(&b->turn, &b->lock);
	pthread_mutex_unlock(&b->lock);
	sequence->computed += size;
}

static void read_all(struct blocks *b)
{
	static const struct sampling greedy = {.top_p = 1, .repetition_penalty = 1, .max_tokens = 1, .logprobs = -1};
	struct sequence *sequence = must(calloc(1, sizeof(*sequence)));
	struct plan *plan = must(calloc(1, sizeof(*plan)));
	*sequence = (struct sequence){.sampling = &greedy, .tokens = b->tokens.ids, .token_count = b->shape.token_count,
				      .prompt_count = b->shape.token_count, .choice_count = 1};
	for (uint32_t g = 0; g < b->group_count; g++)
		sequence->tables[g] = (struct sequence_table){.blocks = b->table[g], .count = b->block_count};
	while (sequence->computed < sequence->token_count)
		step(b, sequence, plan);
	free(plan);
	free(sequence);
}

struct blocks *blocks_compute(const char *model_path, const char *text_path, uint32_t block_tokens, uint32_t token_max)
{
	struct blocks *b = must(calloc(1, sizeof(*b)));
	struct why why = {""};
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->turn, NULL);
	enum err e = model_dir_open(model_path, &(struct model_dir_options){false}, &why, &b->model);
	check(e, why.text);
	check(b->model->config.attention == MODEL_ATTENTION_LATENT ? ERR_UNSUPPORTED : ERR_OK, "a model with latents");
	read_text(b, text_path);
	uint32_t tokens = b->tokens.count < token_max ? (uint32_t)b->tokens.count : token_max;
	b->block_count = tokens / block_tokens;
	check(b->block_count > 0 ? ERR_OK : ERR_INVALID, "the text is shorter than a block");
	const struct engine_options options = {.model = b->model, .thread_count = 1, .block_tokens = block_tokens,
					       .batch_tokens_max = BATCH,
					       .callbacks = {.context = b, .on_step_done = on_step_done}};
	e = engine_create(&options, &why, &b->engine);
	check(e, why.text);
	b->group_count = engine_group_count(b->engine);
	open_groups(b);
	const struct model_config *config = &b->model->config;
	b->shape = (struct blocks_shape){
		.model = b->model->name, .numerics = engine_numerics_class(b->engine), .token_count = b->block_count * block_tokens,
		.block_tokens = block_tokens, .head_dim = config->head_dim,
		.elem_bytes = b->geometry[0].layer_bytes / (2 * config->kv_head_count * block_tokens * config->head_dim),
	};
	read_all(b);
	return b;
}

void blocks_destroy(struct blocks *b)
{
	engine_destroy(b->engine);
	model_dir_close(b->model);
	tokens_fini(&b->tokens);
	for (uint32_t g = 0; g < b->group_count; g++) {
		free(b->memory[g]);
		free(b->table[g]);
	}
	free(b);
}

const struct blocks_shape *blocks_shape(const struct blocks *b)
{
	return &b->shape;
}

static size_t cut(const struct blocks *b, bool layers, struct part **ret_parts)
{
	size_t count = 0, at = 0;
	for (uint32_t g = 0; g < b->group_count; g++)
		count += (size_t)b->block_count * (layers ? b->geometry[g].layer_count : 1);
	struct part *parts = must(calloc(count, sizeof(*parts)));
	for (uint32_t g = 0; g < b->group_count; g++) {
		size_t length = layers ? b->geometry[g].layer_bytes : b->geometry[g].block_bytes;
		size_t bytes = (size_t)b->block_count * b->geometry[g].block_bytes;
		for (size_t offset = 0; offset < bytes; offset += length)
			parts[at++] = (struct part){b->memory[g] + offset, length};
	}
	*ret_parts = parts;
	return count;
}

size_t blocks_layers(const struct blocks *b, struct part **ret_parts)
{
	return cut(b, true, ret_parts);
}

size_t blocks_whole(const struct blocks *b, struct part **ret_parts)
{
	return cut(b, false, ret_parts);
}

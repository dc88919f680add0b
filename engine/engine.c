#include "engine/engine.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/layer_groups.h"
#include "base/log.h"
#include "engine/constraints.h"
#include "engine/experts_local.h"
#include "engine/forward.h"
#include "engine/kv_neighbour.h"
#include "engine/kv_ranks.h"
#include "engine/ranks.h"
#include "engine/sampler.h"
#include "engine/weights.h"
#include "kernels/device.h"
#include "model/model_dir.h"

/* Counts changes of what layers.c, forward.c and sampler.c compute: part of the numerics class. */
#define ENGINE_NUMERICS_VERSION 2

struct engine {
	struct engine_options options;
	const struct model_config *config;
	struct ranks ranks;
	struct device *device; /* the first rank's: what it waits for is all ranks' */
	struct engine_weights *weights[DEVICES_MAX];
	struct experts_local *experts; /* NULL: dense, or the caller's exchange */
	struct forward *forward;
	struct sampler *sampler;
	struct constraints *constraints;
	struct group {
		struct kv_memory kv; /* the caller's */
		uint32_t block_count;
		uint64_t *digests; /* [block][layer], MEM_PINNED */
		struct kv_ranks of_ranks;
	} groups[LAYER_GROUPS_MAX];
	struct kv_neighbour *neighbour; /* NULL: nobody asked, or there is none */
	struct sample *samples; /* [PLAN_SAMPLES_MAX], MEM_PINNED */
	char numerics[96];

	pthread_t thread; /* computes; everything above is its own while a plan is in flight */
	bool thread_started;
	pthread_mutex_t lock; /* of the three below */
	pthread_cond_t turn;
	const struct plan *plan; /* NULL: none waits to be run */
	bool busy;
	bool stop;
};

/* --- a step, on the compute thread ----------------------------------------------------------------- */

static void on_kv(void *context, const struct plan *plan, uint32_t layer)
{
	struct engine *engine = context;
	if (engine->options.callbacks.on_layer_done)
		engine->options.callbacks.on_layer_done(engine->options.callbacks.context, plan, layer);
}

static void sample_run(struct engine *engine, const struct plan *plan, const struct run *run)
{
	const struct sequence *sequence = run->sequence;
	const struct sampler_row row = {
		.sampling = sequence->sampling,
		.tokens = sequence->tokens,
		.token_count = sequence->token_count,
		.prompt_count = sequence->prompt_count,
		.choices = sequence->choices,
		.choice_count = run->sample_count,
		.allowed = constraints_allowed(engine->constraints, plan, run),
	};
	sampler_sample(engine->sampler, &row, engine->samples + run->sample_first);
}

static void score_row(struct engine *engine, const struct run *run, uint32_t i)
{
	const struct sequence *sequence = run->sequence;
	sampler_score(engine->sampler, sequence->tokens[run->score_first + i + 1], sequence->sampling->prompt_logprobs - 1u,
		      engine->samples + run->score_index + i);
}

/* A row whose logits are wanted: its run, and which of its scores; the run's score_count stands for its samples. */
struct wanted {
	const struct run *run;
	uint32_t score;
};

static uint32_t list_wanted(const struct plan *plan, struct wanted *wanted)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < plan->run_count; i++) {
		const struct run *run = &plan->runs[i];
		for (uint32_t k = 0; k < run->score_count; k++)
			wanted[count++] = (struct wanted){run, k};
		if (run->sample_count > 0)
			wanted[count++] = (struct wanted){run, run->score_count};
	}
	return count;
}

static enum err sample_all(struct engine *engine, const struct plan *plan)
{
	struct wanted wanted[PLAN_SAMPLES_MAX + PLAN_RUNS_MAX];
	uint32_t count = list_wanted(plan, wanted), rows_max = forward_logits_rows(engine->forward);
	for (uint32_t first = 0; first < count; first += rows_max) {
		uint32_t rows = count - first < rows_max ? count - first : rows_max;
		const float *logits;
		enum err e = forward_logits(engine->forward, first, rows, &logits);
		if (e != ERR_OK)
			return e;
		sampler_begin(engine->sampler, logits);
		for (uint32_t i = 0; i < rows; i++) {
			const struct wanted *w = &wanted[first + i];
			if (w->score < w->run->score_count)
				score_row(engine, w->run, w->score);
			else
				sample_run(engine, plan, w->run);
		}
		sampler_end(engine->sampler);
	}
	return ERR_OK;
}

static void run_step(struct engine *engine, const struct plan *plan)
{
	constraints_begin(engine->constraints, plan);
	enum err e = forward_step(engine->forward, plan);
	enum err masks = constraints_wait(engine->constraints);
	if (e == ERR_OK)
		e = masks;
	if (e == ERR_OK)
		e = sample_all(engine, plan);
	enum err last = forward_end(engine->forward, plan);
	if (e == ERR_OK)
		e = last;
	if (e != ERR_OK)
		log_error("engine: step %llu failed: %s", (unsigned long long)plan->number, err_text(e));
	/* Free for the next plan before the news: the loop may submit it at once. */
	pthread_mutex_lock(&engine->lock);
	engine->busy = false;
	pthread_mutex_unlock(&engine->lock);
	engine->options.callbacks.on_step_done(engine->options.callbacks.context, plan, engine->samples, e);
}

static void *compute(void *argument)
{
	struct engine *engine = argument;
	for (;;) {
		pthread_mutex_lock(&engine->lock);
		while (!engine->plan && !engine->stop)
			pthread_cond_wait(&engine->turn, &engine->lock);
		const struct plan *plan = engine->plan;
		engine->plan = NULL;
		pthread_mutex_unlock(&engine->lock);
		if (!plan)
			return NULL;
		run_step(engine, plan);
	}
}

/* --- from the node's loop ---------------------------------------------------------------------------- */

/* The run's blocks are there: those that it writes, and of those before all that a window leaves. */
static void check_blocks(const struct engine *engine, const struct run *run)
{
	for (uint32_t g = 0; g < engine->config->group_count; g++) {
		const struct group *group = &engine->groups[g];
		const struct sequence_table *table = &run->sequence->tables[g];
		uint32_t block_tokens = group->kv.layout.block_tokens, window = engine->config->groups[g].window;
		uint32_t seen = window > 0 && run->first + 1 > window ? (run->first + 1 - window) / block_tokens : 0;
		assert(table->first <= seen && (uint64_t)table->count * block_tokens >= run->first + run->count);
		for (uint32_t i = seen; i <= (run->first + run->count - 1) / block_tokens; i++)
			assert(table->blocks[i] - group->kv.block_first < group->block_count);
	}
}

static enum err check_run(const struct engine *engine, const struct run *run)
{
	const struct sequence *sequence = run->sequence;
	assert(run->count > 0 && run->first + run->count <= sequence->token_count);
	assert(run->sample_count == 0 || run->first + run->count == sequence->token_count);
	assert(run->sample_count <= sequence->choice_count);
	assert(run->sample_first + run->sample_count <= PLAN_SAMPLES_MAX);
	assert(run->score_count == 0 || (run->score_first >= run->first && sequence->sampling->prompt_logprobs > 0));
	assert(run->score_count <= run->count && run->score_index + run->score_count <= PLAN_SAMPLES_MAX);
	assert(run->score_count == 0 || run->score_first + run->score_count < sequence->prompt_count);
	check_blocks(engine, run);
	/* Tokens come from clients: what nobody checked before is refused here. */
	for (uint32_t i = run->first; i < run->first + run->count; i++)
		if (sequence->tokens[i] >= engine->config->vocab_size) {
			log_error("engine: sequence %llu: token %u at %u is beyond the vocabulary of %u",
				  (unsigned long long)sequence->id, sequence->tokens[i], i,
				  engine->config->vocab_size);
			return ERR_INVALID;
		}
	return ERR_OK;
}

enum err engine_submit(struct engine *engine, const struct plan *plan)
{
	assert(engine->groups[engine->config->group_count - 1].kv.base);
	assert(plan->run_count > 0 && plan->run_count <= PLAN_RUNS_MAX);
	assert(plan->token_count <= engine->options.batch_tokens_max);
	for (uint32_t i = 0; i < plan->run_count; i++) {
		enum err e = check_run(engine, &plan->runs[i]);
		if (e != ERR_OK)
			return e;
	}
	enum err e = ERR_BUSY;
	pthread_mutex_lock(&engine->lock);
	if (!engine->busy) {
		engine->busy = true;
		engine->plan = plan;
		pthread_cond_signal(&engine->turn);
		e = ERR_OK;
	}
	pthread_mutex_unlock(&engine->lock);
	return e;
}

struct constraint_hooks engine_constraints(struct engine *engine)
{
	return constraints_hooks(engine->constraints);
}

uint32_t engine_group_count(const struct engine *engine)
{
	return engine->config->group_count;
}

uint32_t engine_layer_count(const struct engine *engine)
{
	return engine->config->layer_count;
}

uint32_t engine_layer_group(const struct engine *engine, uint32_t layer, uint32_t *ret_place)
{
	assert(layer < engine->config->layer_count);
	*ret_place = forward_place(engine->forward, layer);
	return engine->config->layers[layer].group;
}

static uint32_t group_number(const struct engine *engine, uint32_t block)
{
	uint32_t g = engine->config->group_count - 1;
	while (block < engine->groups[g].kv.block_first)
		g--;
	return g;
}

static struct group *group_of_block(struct engine *engine, uint32_t block)
{
	return &engine->groups[group_number(engine, block)];
}

uint64_t engine_block_digest(const struct engine *engine, uint32_t block, uint32_t place)
{
	const struct group *group = &engine->groups[group_number(engine, block)];
	uint32_t index = block - group->kv.block_first;
	assert(index < group->block_count && place < group->kv.layout.layer_count);
	return group->digests[(size_t)index * group->kv.layout.layer_count + place];
}

static size_t digest_bytes(const struct group *group, uint32_t block_count)
{
	return (size_t)block_count * group->kv.layout.layer_count * sizeof(uint64_t);
}

enum err engine_set_kv(struct engine *engine, uint32_t g, void *memory, uint32_t block_count)
{
	assert(g < engine->config->group_count);
	struct group *group = &engine->groups[g];
	assert(!group->kv.base && memory && (uintptr_t)memory % 64 == 0 && block_count > 0);
	assert(g == 0 || group[-1].kv.base);
	group->block_count = block_count;
	enum err e = dev_alloc(engine->device, MEM_PINNED, digest_bytes(group, block_count), (void **)&group->digests);
	if (e != ERR_OK)
		return e;
	group->kv.base = memory;
	group->kv.block_first = g > 0 ? group[-1].kv.block_first + group[-1].block_count : 0;
	e = kv_ranks_create(&group->of_ranks, &engine->ranks, engine->config, &group->kv, block_count,
			    engine->config->groups[g].window);
	return e == ERR_OK ? forward_set_kv(engine->forward, g, &group->of_ranks, group->digests) : e;
}

enum err engine_warm(struct engine *engine, uint32_t rows_most)
{
	uint32_t count = 0;
	if (device_props(engine->device)->queued)
		log_info("engine: steps of up to %u decode rows are recorded", rows_most);
	enum err e = forward_warm(engine->forward, rows_most, &count);
	if (count > 0 && e == ERR_OK)
		log_info("engine: %u kinds of steps have run", count);
	return e;
}

void engine_block_landing(struct engine *engine, uint32_t block, uint32_t place)
{
	kv_ranks_landing(&group_of_block(engine, block)->of_ranks, block, place);
}

void engine_block_copy(struct engine *engine, uint32_t from, uint32_t to)
{
	struct group *group = group_of_block(engine, from);
	assert(group == group_of_block(engine, to));
	memcpy(kv_block_at(&group->kv, to), kv_block_at(&group->kv, from), kv_block_bytes(&group->kv.layout));
	kv_ranks_copied(&group->of_ranks, from, to);
}

enum err engine_neighbour(struct engine *engine, struct why *why, struct kv_neighbour **ret_neighbour)
{
	struct kv_mirror *mirrors[LAYER_GROUPS_MAX];
	for (uint32_t g = 0; g < engine->config->group_count; g++)
		mirrors[g] = engine->groups[g].of_ranks.mirrors[0];
	if (!mirrors[0])
		return ERR_NOT_FOUND;
	if (engine->ranks.count > 1)
		return why_set(why, ERR_UNSUPPORTED, "blocks of %u GPUs each have a part of are read from the host's memory", engine->ranks.count);
	enum err e = ERR_OK;
	if (!engine->neighbour)
		e = kv_neighbour_create(engine->device, mirrors, engine->config->group_count, why, &engine->neighbour);
	*ret_neighbour = engine->neighbour;
	return e;
}

void engine_geometry(const struct engine *engine, uint32_t group, struct kv_geometry *ret_geometry)
{
	assert(group < engine->config->group_count);
	const struct kv_layout *layout = &engine->groups[group].kv.layout;
	*ret_geometry = (struct kv_geometry){.layer_count = layout->layer_count, .block_tokens = layout->block_tokens,
					     .layer_bytes = (uint32_t)kv_layer_bytes(layout),
					     .block_bytes = (uint32_t)kv_block_bytes(layout),
					     .window = engine->config->groups[group].window};
}

uint32_t engine_tensor_parallel_size(const struct engine *engine)
{
	return engine->ranks.count;
}

const char *engine_numerics_class(const struct engine *engine)
{
	return engine->numerics;
}


/* --- life -------------------------------------------------------------------------------------------- */

static struct kv_layout layout_of(const struct engine *engine, uint32_t group)
{
	const struct model_config *c = engine->config;
	struct kv_layout layout = {.layer_count = c->groups[group].layer_count, .head_kv_count = c->kv_head_count,
				   .head_dim = c->head_dim, .block_tokens = engine->options.block_tokens,
				   .elem = engine->weights[0]->elem};
	if (c->attention == MODEL_ATTENTION_LATENT) {
		layout.kind = KV_LATENT;
		layout.head_kv_count = 1;
		layout.head_dim = c->latent.kv_lora_rank + c->latent.qk_rope_head_dim;
		layout.value_dim = c->latent.kv_lora_rank;
	}
	return layout;
}

static enum err set_layouts(struct engine *engine, struct why *why)
{
	for (uint32_t g = 0; g < engine->config->group_count; g++) {
		struct kv_memory *kv = &engine->groups[g].kv;
		kv->layout = layout_of(engine, g);
		kv->layer_stride = kv_layer_bytes(&kv->layout);
		kv->block_stride = kv_block_bytes(&kv->layout);
		if (kv->block_stride > INT32_MAX)
			return why_set(why, ERR_UNSUPPORTED, "a block of %u tokens would have %zu bytes, at most 2 GiB",
				       engine->options.block_tokens, kv->block_stride);
	}
	return ERR_OK;
}

static bool wants_fast(const struct engine *engine)
{
	return engine->options.numerics && strcmp(engine->options.numerics, "fast") == 0;
}

/* Each rank is a part of the same device. */
static enum err open_cpu(struct engine *engine, struct why *why)
{
	const struct device_options options = {.kind = DEVICE_CPU, .variant = engine->options.isa,
					       .thread_count = engine->options.thread_count, .fast = wants_fast(engine)};
	enum err e = device_open(&options, why, &engine->device);
	for (uint32_t i = 0; i < engine->ranks.count; i++)
		engine->ranks.devices[i] = engine->device;
	return e;
}

static enum err open_gpus(struct engine *engine, struct why *why)
{
	uint32_t size = engine->ranks.count;
	struct device_options options = {.kind = DEVICE_CUDA, .fast = wants_fast(engine),
					 .row_segments = engine->options.row_segments ? engine->options.row_segments : size};
	enum err e = ERR_OK;
	for (; options.index < size && e == ERR_OK; options.index++)
		e = device_open(&options, why, &engine->ranks.devices[options.index]);
	engine->device = engine->ranks.devices[0];
	return e == ERR_OK ? device_join(engine->ranks.devices, size, why) : e;
}

static enum err check_size(struct engine *engine, struct why *why)
{
	uint32_t size = engine->options.tensor_parallel_size;
	engine->ranks.count = size > 0 ? size : 1;
	if (size > DEVICES_MAX || (size & (size - 1)) != 0)
		return why_set(why, ERR_INVALID, "tensor-parallel-size %u; expected 1, 2, 4 or 8", size);
	if (size > 1 && engine->options.experts)
		return why_set(why, ERR_UNSUPPORTED, "tensor-parallel-size %u with experts on other hosts", size);
	return ERR_OK;
}

/* "auto" passes over a GPU that is not there or not one that we can use, and over no other trouble with it: a fleet of GPUs must
 * not go on by itself on CPUs.  Who names an instruction set means the CPU. */
static enum err open_device(struct engine *engine, struct why *why)
{
	const char *name = engine->options.device ? engine->options.device : "auto";
	bool automatic = strcmp(name, "auto") == 0, gpu = strcmp(name, "cuda") == 0;
	if (!automatic && !gpu && strcmp(name, "cpu") != 0)
		return why_set(why, ERR_INVALID, "device \"%s\": unknown; expected auto, cpu or cuda", name);
	if (engine->options.numerics && !wants_fast(engine) && strcmp(engine->options.numerics, "exact") != 0)
		return why_set(why, ERR_INVALID, "numerics \"%s\": unknown; expected exact or fast", engine->options.numerics);
	enum err e = check_size(engine, why);
	if (e != ERR_OK)
		return e;
	if (gpu)
		return open_gpus(engine, why);
	e = automatic && !engine->options.isa ? open_gpus(engine, why) : ERR_UNSUPPORTED;
	return e == ERR_UNSUPPORTED && !engine->device ? open_cpu(engine, why) : e;
}

void engine_make_device_current(const char *device, const char *isa)
{
	bool automatic = !device || strcmp(device, "auto") == 0;
	if ((automatic && !isa) || (device && strcmp(device, "cuda") == 0))
		device_make_current(DEVICE_CUDA, 0);
}

static enum err create_forward(struct engine *engine, struct why *why)
{
	const struct engine_options *o = &engine->options;
	struct forward_options options = {.ranks = &engine->ranks, .config = engine->config,
					  .weights = engine->weights, .rows_max = o->batch_tokens_max,
					  .experts = o->experts, .context = engine, .on_kv = on_kv};
	enum err e = ERR_OK;
	if (engine->config->experts.count > 0 && !o->experts) {
		e = experts_local_create(&engine->ranks, engine->config, engine->weights, o->batch_tokens_max,
					 &engine->experts);
		if (e == ERR_OK)
			options.experts = experts_local_exchange(engine->experts);
	}
	if (e == ERR_OK)
		e = forward_create(&options, &engine->forward);
	if (e != ERR_OK)
		why_set(why, e, "no memory for the activations of %u tokens", o->batch_tokens_max);
	return e;
}

static enum err create_sampler(struct engine *engine, struct why *why)
{
	const struct sampler_options options = {.device = engine->device, .vocab_size = engine->config->vocab_size,
						.eos_ids = engine->config->eos_ids,
						.eos_count = engine->config->eos_count};
	enum err e = sampler_create(&options, &engine->sampler);
	if (e == ERR_OK)
		e = dev_alloc(engine->device, MEM_PINNED, PLAN_SAMPLES_MAX * sizeof(*engine->samples), (void **)&engine->samples);
	if (e != ERR_OK)
		why_set(why, e, e == ERR_UNSUPPORTED ? "a vocabulary of %u tokens: more than the device can choose among"
						    : "no memory for the sampler of %u tokens", options.vocab_size);
	return e;
}

static enum err create_constraints(struct engine *engine, struct why *why)
{
	const struct constraints_options options = {.tokenizer = engine->options.model->tokenizer,
						    .vocab_size = engine->config->vocab_size,
						    .eos_ids = engine->config->eos_ids,
						    .eos_count = engine->config->eos_count};
	enum err e = constraints_create(&options, &engine->constraints);
	if (e != ERR_OK)
		why_set(why, e, "no memory for the vocabulary as a tree");
	return e;
}

static enum err start_thread(struct engine *engine, struct why *why)
{
	if (pthread_create(&engine->thread, NULL, compute, engine) != 0)
		return why_set(why, ERR_NOMEM, "the system gives no compute thread");
	engine->thread_started = true;
	return ERR_OK;
}

static void name_numerics(struct engine *engine)
{
	const struct engine_weights *weights = engine->weights[0];
	snprintf(engine->numerics, sizeof(engine->numerics), "%s/engine-%d/weights-%s/kv-%s",
		 device_props(engine->device)->numerics, ENGINE_NUMERICS_VERSION, engine_weights_format(weights),
		 weights->elem == ELEM_BF16 ? "bf16" : "f32");
}

static enum err open_all(struct engine *engine, struct why *why)
{
	enum err e = open_device(engine, why);
	if (e == ERR_OK)
		e = engine_weights_create(&engine->ranks, engine->config, engine->options.model->weights,
					  engine->options.digests, why, engine->weights);
	if (e == ERR_OK)
		e = set_layouts(engine, why);
	if (e == ERR_OK)
		e = create_forward(engine, why);
	if (e == ERR_OK)
		e = create_sampler(engine, why);
	if (e == ERR_OK)
		e = create_constraints(engine, why);
	if (e == ERR_OK)
		e = start_thread(engine, why);
	return e;
}

enum err engine_create(const struct engine_options *options, struct why *why, struct engine **ret_engine)
{
	assert(options->block_tokens > 0 && options->batch_tokens_max > 0);
	assert(options->callbacks.on_step_done);
	struct engine *engine = calloc(1, sizeof(*engine));
	if (!engine)
		return why_set(why, ERR_NOMEM, "no memory for the engine");
	engine->options = *options;
	engine->config = &options->model->config;
	pthread_mutex_init(&engine->lock, NULL);
	pthread_cond_init(&engine->turn, NULL);
	enum err e = options->model->weights
			     ? open_all(engine, why)
			     : why_set(why, ERR_INVALID, "%s: the model was opened without its weights",
				       options->model->path);
	if (e != ERR_OK) {
		engine_destroy(engine);
		return e;
	}
	name_numerics(engine);
	const struct device_props *props = device_props(engine->device);
	log_info("engine: %s on %u x %s, %u threads, %.1f MiB of weights each, numerics %s", options->model->name,
		 engine->ranks.count, props->name, props->thread_count,
		 (double)engine_weights_bytes(engine->weights[0]) / (1 << 20), engine->numerics);
	*ret_engine = engine;
	return ERR_OK;
}

static void stop_thread(struct engine *engine)
{
	pthread_mutex_lock(&engine->lock);
	engine->stop = true;
	pthread_cond_signal(&engine->turn);
	pthread_mutex_unlock(&engine->lock);
	pthread_join(engine->thread, NULL);
}

void engine_destroy(struct engine *engine)
{
	if (!engine)
		return;
	if (engine->thread_started)
		stop_thread(engine);
	constraints_destroy(engine->constraints);
	sampler_destroy(engine->sampler);
	forward_destroy(engine->forward);
	experts_local_destroy(engine->experts);
	for (uint32_t i = 0; i < DEVICES_MAX; i++)
		engine_weights_destroy(engine->weights[i]);
	kv_neighbour_destroy(engine->neighbour);
	for (uint32_t g = 0; g < LAYER_GROUPS_MAX; g++)
		kv_ranks_destroy(&engine->groups[g].of_ranks);
	for (uint32_t g = 0; g < LAYER_GROUPS_MAX; g++)
		if (engine->groups[g].digests)
			dev_free(engine->device, MEM_PINNED, engine->groups[g].digests,
				 digest_bytes(&engine->groups[g], engine->groups[g].block_count));
	if (engine->samples)
		dev_free(engine->device, MEM_PINNED, engine->samples, PLAN_SAMPLES_MAX * sizeof(*engine->samples));
	/* On a CPU all ranks are one device. */
	for (uint32_t i = 0; i < DEVICES_MAX; i++)
		if (i == 0 || engine->ranks.devices[i] != engine->ranks.devices[0])
			device_close(engine->ranks.devices[i]);
	pthread_cond_destroy(&engine->turn);
	pthread_mutex_destroy(&engine->lock);
	free(engine);
}

#include "engine/forward.h"

#include <assert.h>
#include <stdlib.h>

#include "engine/expert_exchange.h"
#include "engine/kv_mirror.h"
#include "engine/layers.h"
#include "engine/sequence.h"
#include "model/config.h"

/* Enough rows to read the head's weights once for most steps: 32 MiB of logits at 128 k tokens, and 128 MiB where a row more costs
 * nothing. */
enum { LOGITS_ROWS = 64, LOGITS_ROWS_QUEUED = 256 };

struct forward {
	struct forward_options options;
	struct layers layers;
	uint32_t wanted_count;
	uint32_t wanted[PLAN_SAMPLES_MAX + PLAN_RUNS_MAX]; /* [wanted_count] the rows that sample or are scored */
	uint32_t logits_rows;              /* room of those below, as forward_logits_rows() says */
	uint32_t *last_rows;               /* [logits_rows] of `wanted`, where the device reads them */
	float *last_x;                     /* [logits_rows][hidden] */
	float *last_delta;                 /* [logits_rows][hidden] */
	float *logits;                     /* [logits_rows][vocab] */
	uint64_t *digests[LAYER_GROUPS_MAX]; /* [block][layer] of each group, the caller's */
	struct kv_mirror *mirrors[LAYER_GROUPS_MAX]; /* NULL: host and device share the blocks */
	uint64_t marks[MODEL_LAYERS_MAX];  /* KV of the layer is written and digested */
	bool unannounced;                  /* all layers, until the last one's mark */
};

static size_t hidden_bytes(const struct forward *forward)
{
	return (size_t)forward->logits_rows * forward->options.config->hidden_size * sizeof(float);
}

static size_t logits_bytes(const struct forward *forward)
{
	return (size_t)forward->logits_rows * forward->options.config->vocab_size * sizeof(float);
}

static enum err allocate(struct forward *f)
{
	struct device *device = f->options.device;
	enum err e = layers_init(&f->layers, device, f->options.config, f->options.weights, f->options.rows_max);
	if (e == ERR_OK)
		e = dev_alloc(device, MEM_DEVICE, hidden_bytes(f), (void **)&f->last_x);
	if (e == ERR_OK)
		e = dev_alloc(device, MEM_DEVICE, hidden_bytes(f), (void **)&f->last_delta);
	if (e == ERR_OK)
		e = dev_alloc(device, MEM_DEVICE, f->logits_rows * sizeof(uint32_t), (void **)&f->last_rows);
	if (e == ERR_OK)
		e = dev_alloc(device, MEM_DEVICE, logits_bytes(f), (void **)&f->logits);
	return e;
}

enum err forward_create(const struct forward_options *options, struct forward **ret_forward)
{
	struct forward *forward = calloc(1, sizeof(*forward));
	if (!forward)
		return ERR_NOMEM;
	forward->options = *options;
	uint32_t rows = device_props(options->device)->queued ? LOGITS_ROWS_QUEUED : LOGITS_ROWS;
	forward->logits_rows = options->rows_max < rows ? options->rows_max : rows;
	enum err e = allocate(forward);
	if (e != ERR_OK) {
		forward_destroy(forward);
		return e;
	}
	forward->layers.experts = options->experts;
	*ret_forward = forward;
	return ERR_OK;
}

void forward_destroy(struct forward *forward)
{
	if (!forward)
		return;
	struct device *device = forward->options.device;
	dev_free(device, MEM_DEVICE, forward->last_x, hidden_bytes(forward));
	dev_free(device, MEM_DEVICE, forward->last_delta, hidden_bytes(forward));
	dev_free(device, MEM_DEVICE, forward->last_rows, forward->logits_rows * sizeof(uint32_t));
	dev_free(device, MEM_DEVICE, forward->logits, logits_bytes(forward));
	layers_fini(&forward->layers);
	free(forward);
}

enum err forward_set_kv(struct forward *forward, uint32_t group, const struct kv_memory *kv, uint64_t *digests,
			struct kv_mirror *mirror)
{
	forward->digests[group] = digests;
	forward->mirrors[group] = mirror;
	return layers_set_kv(&forward->layers, group, kv);
}

uint32_t forward_place(const struct forward *forward, uint32_t layer)
{
	return forward->layers.place[layer];
}

static void add_run(struct forward *forward, const struct run *run)
{
	struct batch *batch = &forward->layers.batch;
	for (uint32_t g = 0; g < forward->options.config->group_count; g++)
		batch->runs[g][batch->run_count] = (struct kv_run){.blocks = run->sequence->tables[g].blocks,
								   .first_position = run->first,
								   .row_first = batch->row_count, .row_count = run->count,
								   .digest = run->digest};
	batch->run_count++;
	for (uint32_t i = 0; i < run->score_count; i++)
		forward->wanted[forward->wanted_count++] = batch->row_count + run->score_first - run->first + i;
	for (uint32_t i = 0; i < run->count; i++) {
		batch->tokens[batch->row_count] = run->sequence->tokens[run->first + i];
		batch->positions[batch->row_count++] = run->first + i;
	}
	if (run->sample_count > 0)
		forward->wanted[forward->wanted_count++] = batch->row_count - 1;
}

static bool wants_digests(const struct plan *plan)
{
	for (uint32_t i = 0; i < plan->run_count; i++)
		if (plan->runs[i].digest)
			return true;
	return false;
}

static void digest(struct forward *forward, uint32_t layer)
{
	struct layers *layers = &forward->layers;
	uint32_t group = layers_group(layers, layer);
	op_kv_digest(forward->options.device, &layers->kv[group], layers->place[layer], layers->on_device.runs[group],
		     forward->digests[group]);
}

/* What was digested comes to where others read it. */
static void fetch(struct forward *forward, uint32_t layer)
{
	struct layers *layers = &forward->layers;
	uint32_t group = layers_group(layers, layer);
	if (forward->mirrors[group])
		kv_mirror_fetch(forward->mirrors[group], layers->place[layer], layers->batch.runs[group],
				layers->batch.run_count);
}

/* The layer's KV is written: the caller hears of it once that has run. */
static enum err announce(struct forward *forward, const struct plan *plan, uint32_t layer)
{
	enum err e = device_wait(forward->options.device, forward->marks[layer]);
	if (e == ERR_OK)
		forward->options.on_kv(forward->options.context, plan, layer);
	return e;
}

/* Of decode rows alone: the same operations for every step of so many rows. */
static bool may_be_recorded(const struct forward *forward, const struct plan *plan)
{
	for (uint32_t i = 0; i < plan->run_count; i++)
		if (plan->runs[i].count != 1)
			return false;
	return !forward->options.experts || forward->options.experts->queued;
}

/* All layers at once, recorded or run again where the device can. */
static enum err queue_step(struct forward *forward, const struct plan *plan, bool digests)
{
	struct device *device = forward->options.device;
	enum err e = ERR_OK;
	if (device_replay(device, plan->token_count * 2 + digests))
		return ERR_OK;
	for (uint32_t layer = 0; layer < forward->options.config->layer_count && e == ERR_OK; layer++) {
		layers_kv(&forward->layers, layer);
		if (digests)
			digest(forward, layer);
		e = layers_rest(&forward->layers, layer);
	}
	device_recorded(device);
	return e;
}

/* A step of decode rows on a device that runs behind us: it gets the whole of it, and blocks are announced by forward_end(). */
static enum err run_whole(struct forward *forward, const struct plan *plan)
{
	bool digests = wants_digests(plan);
	uint32_t layer_count = forward->options.config->layer_count;
	enum err e = queue_step(forward, plan, digests);
	for (uint32_t layer = 0; layer < layer_count && e == ERR_OK && digests; layer++)
		fetch(forward, layer);
	forward->marks[layer_count - 1] = device_mark(forward->options.device);
	forward->unannounced = e == ERR_OK;
	return e;
}

/* A device that runs behind us gets the rest of a layer to do before we wait for its beginning. */
static enum err run_layers(struct forward *forward, const struct plan *plan)
{
	struct device *device = forward->options.device;
	bool queued = device_props(device)->queued, digests = wants_digests(plan);
	enum err e = ERR_OK;
	for (uint32_t layer = 0; layer < forward->options.config->layer_count && e == ERR_OK; layer++) {
		layers_kv(&forward->layers, layer);
		if (digests) {
			digest(forward, layer);
			fetch(forward, layer);
		}
		forward->marks[layer] = device_mark(device);
		if (!queued)
			e = announce(forward, plan, layer);
		if (e == ERR_OK)
			e = layers_rest(&forward->layers, layer);
		if (e == ERR_OK && queued)
			e = announce(forward, plan, layer);
	}
	return e;
}

enum err forward_step(struct forward *forward, const struct plan *plan)
{
	struct layers *layers = &forward->layers;
	assert(plan->token_count <= forward->options.rows_max && plan->run_count <= PLAN_RUNS_MAX);
	layers->batch.row_count = layers->batch.run_count = forward->wanted_count = 0;
	for (uint32_t i = 0; i < plan->run_count; i++)
		add_run(forward, &plan->runs[i]);
	assert(layers->batch.row_count == plan->token_count);

	enum err e = ERR_OK;
	for (uint32_t g = 0; g < forward->options.config->group_count && e == ERR_OK; g++)
		if (forward->mirrors[g])
			e = kv_mirror_begin(forward->mirrors[g], layers->batch.runs[g], layers->batch.run_count);
	if (e == ERR_OK)
		e = layers_begin(layers);
	if (e != ERR_OK)
		return e;
	if (device_props(forward->options.device)->queued && may_be_recorded(forward, plan))
		return run_whole(forward, plan);
	return run_layers(forward, plan);
}

enum err forward_end(struct forward *forward, const struct plan *plan)
{
	uint32_t layer_count = forward->options.config->layer_count;
	enum err e = ERR_OK;
	if (forward->unannounced)
		e = device_wait(forward->options.device, forward->marks[layer_count - 1]);
	for (uint32_t layer = 0; layer < layer_count && e == ERR_OK && forward->unannounced; layer++)
		forward->options.on_kv(forward->options.context, plan, layer);
	forward->unannounced = false;
	enum err last = device_sync(forward->options.device);
	return e == ERR_OK ? last : e;
}

uint32_t forward_logits_rows(const struct forward *forward)
{
	return forward->logits_rows;
}

enum err forward_logits(struct forward *forward, uint32_t first, uint32_t count, const float **ret_logits)
{
	const struct model_config *c = forward->options.config;
	struct device *device = forward->options.device;
	const uint32_t *rows = forward->last_rows;
	assert(count <= forward->logits_rows && first + count <= forward->wanted_count);
	enum err e = dev_copy(device, forward->last_rows, forward->wanted + first, count * sizeof(uint32_t));
	if (e != ERR_OK)
		return e;
	op_gather(device, forward->layers.x, c->hidden_size, rows, count, c->hidden_size, forward->last_x);
	op_gather(device, forward->layers.delta, c->hidden_size, rows, count, c->hidden_size, forward->last_delta);
	const struct norm_call norm = {.x = forward->last_x, .add = forward->last_delta,
				       .weight = forward->options.weights->final_norm, .out = forward->last_x,
				       .rows = count, .dim = c->hidden_size, .eps = (float)c->norm_eps};
	op_rmsnorm(device, &norm);
	const struct linear_call head = {.linear = forward->options.weights->head, .x = forward->last_x,
					 .x_stride = c->hidden_size, .y = forward->logits,
					 .y_stride = c->vocab_size, .rows = count};
	op_linear(device, &head, 1);
	if (c->logit_cap > 0)
		op_soft_cap(device, forward->logits, c->vocab_size, count, c->vocab_size, (float)c->logit_cap);
	*ret_logits = forward->logits;
	return ERR_OK;
}

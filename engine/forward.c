#include "engine/forward.h"

#include <assert.h>
#include <stdlib.h>

#include "engine/expert_exchange.h"
#include "engine/kv_ranks.h"
#include "engine/layers.h"
#include "engine/ranks.h"
#include "engine/sequence.h"
#include "engine/shard.h"
#include "model/config.h"

/* Enough rows to read the head's weights once for most steps: 32 MiB of logits at 128 k tokens, and 128 MiB where a row more costs
 * nothing. */
enum { LOGITS_ROWS = 64, LOGITS_ROWS_QUEUED = 256 };

/* The rows whose logits are wanted, on their way to the head. */
struct head {
	struct rank_share vocab; /* what the rank has of it */
	uint32_t *rows;          /* [logits_rows] of `wanted`, where the device reads them */
	float *x;                /* [logits_rows][hidden] */
	float *delta;            /* [logits_rows][hidden] */
	float *logits;           /* [logits_rows][vocab.count]; of the first rank all of the vocabulary */
};

struct forward {
	struct forward_options options;
	struct ranks ranks;
	struct model_config config; /* as a rank has it */
	struct batch batch;
	struct layers layers[DEVICES_MAX];
	struct head heads[DEVICES_MAX];
	uint32_t wanted_count;
	uint32_t wanted[PLAN_SAMPLES_MAX + PLAN_RUNS_MAX]; /* [wanted_count] the rows that sample or are scored */
	uint32_t logits_rows;              /* room of the heads, as forward_logits_rows() says */
	uint64_t *digests[LAYER_GROUPS_MAX]; /* [block][layer] of each group, the caller's */
	struct kv_ranks *kv[LAYER_GROUPS_MAX];
	uint64_t marks[MODEL_LAYERS_MAX];  /* KV of the layer is written and digested */
	bool unannounced;                  /* all layers, until the last one's mark */
	uint32_t recorded_max;             /* steps of more rows run as they come */
};

/* Of the first rank: what it waits for is all ranks'. */
static struct device *first(const struct forward *forward)
{
	return forward->ranks.devices[0];
}

static size_t hidden_bytes(const struct forward *forward)
{
	return (size_t)forward->logits_rows * forward->config.hidden_size * sizeof(float);
}

static size_t logits_bytes(const struct forward *forward, uint32_t vocab)
{
	return (size_t)forward->logits_rows * vocab * sizeof(float);
}

static uint32_t logits_width(const struct forward *forward, uint32_t rank)
{
	return rank == 0 ? forward->config.vocab_size : forward->heads[rank].vocab.count;
}

static enum err create_rank(struct forward *f, uint32_t rank)
{
	struct device *device = f->ranks.devices[rank];
	struct head *head = &f->heads[rank];
	const struct layers_options options = {.device = device, .config = &f->config, .weights = f->options.weights[rank],
					       .batch = &f->batch, .rows_max = f->options.rows_max, .parts = f->ranks.count > 1};
	enum err e = layers_init(&f->layers[rank], &options);
	head->vocab = rank_share(&f->ranks, f->config.vocab_size, rank);
	if (e == ERR_OK)
		e = dev_alloc(device, MEM_DEVICE, hidden_bytes(f), (void **)&head->x);
	if (e == ERR_OK)
		e = dev_alloc(device, MEM_DEVICE, hidden_bytes(f), (void **)&head->delta);
	if (e == ERR_OK)
		e = dev_alloc(device, MEM_DEVICE, f->logits_rows * sizeof(uint32_t), (void **)&head->rows);
	if (e == ERR_OK)
		e = dev_alloc(device, MEM_DEVICE, logits_bytes(f, logits_width(f, rank)), (void **)&head->logits);
	return e;
}

static void destroy_rank(struct forward *f, uint32_t rank)
{
	struct device *device = f->ranks.devices[rank];
	struct head *head = &f->heads[rank];
	dev_free(device, MEM_DEVICE, head->x, hidden_bytes(f));
	dev_free(device, MEM_DEVICE, head->delta, hidden_bytes(f));
	dev_free(device, MEM_DEVICE, head->rows, f->logits_rows * sizeof(uint32_t));
	dev_free(device, MEM_DEVICE, head->logits, logits_bytes(f, logits_width(f, rank)));
	if (f->layers[rank].device)
		layers_fini(&f->layers[rank]);
}

static enum err allocate(struct forward *f)
{
	enum err e = batch_create(&f->batch, first(f), f->config.group_count, f->options.rows_max);
	for (uint32_t i = 0; i < f->ranks.count && e == ERR_OK; i++)
		e = create_rank(f, i);
	return e;
}

enum err forward_create(const struct forward_options *options, struct forward **ret_forward)
{
	struct forward *forward = calloc(1, sizeof(*forward));
	if (!forward)
		return ERR_NOMEM;
	forward->options = *options;
	forward->ranks = *options->ranks;
	shard_config(options->config, options->ranks->count, &forward->config);
	forward->recorded_max = options->rows_max;
	uint32_t rows = device_props(first(forward))->queued ? LOGITS_ROWS_QUEUED : LOGITS_ROWS;
	forward->logits_rows = options->rows_max < rows ? options->rows_max : rows;
	enum err e = allocate(forward);
	if (e != ERR_OK) {
		forward_destroy(forward);
		return e;
	}
	*ret_forward = forward;
	return ERR_OK;
}

void forward_destroy(struct forward *forward)
{
	if (!forward)
		return;
	for (uint32_t i = 0; i < forward->ranks.count; i++)
		destroy_rank(forward, i);
	batch_destroy(&forward->batch, first(forward));
	free(forward);
}

enum err forward_set_kv(struct forward *forward, uint32_t group, struct kv_ranks *kv, uint64_t *digests)
{
	enum err e = ERR_OK;
	forward->digests[group] = digests;
	forward->kv[group] = kv;
	for (uint32_t i = 0; i < forward->ranks.count && e == ERR_OK; i++)
		e = layers_set_kv(&forward->layers[i], group, &kv->kv[i]);
	return e;
}

uint32_t forward_place(const struct forward *forward, uint32_t layer)
{
	return forward->layers[0].place[layer];
}

static void empty(struct forward *forward)
{
	forward->batch.row_count = forward->batch.padding = forward->batch.run_count = forward->wanted_count = 0;
}

static void add_run(struct forward *forward, const struct run *run)
{
	struct batch *batch = &forward->batch;
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
	const struct layers *layers = forward->layers;
	uint32_t group = layers_group(layers, layer);
	struct kv_runs *runs[DEVICES_MAX];
	for (uint32_t i = 0; i < forward->ranks.count; i++)
		runs[i] = layers[i].on_device.runs[group];
	kv_ranks_digest(forward->kv[group], layers->place[layer], runs, forward->digests[group]);
}

/* What was digested comes to where others read it: of a layer, or of all. */
static void fetch(struct forward *forward, uint32_t layer)
{
	uint32_t group = layers_group(forward->layers, layer), place = forward->layers->place[layer];
	kv_ranks_fetch(forward->kv[group], place, place + 1, forward->batch.runs[group], forward->batch.run_count);
}

static void fetch_whole(struct forward *forward)
{
	for (uint32_t g = 0; g < forward->config.group_count; g++)
		kv_ranks_fetch(forward->kv[g], 0, forward->config.groups[g].layer_count, forward->batch.runs[g],
			       forward->batch.run_count);
}

static void write_kv(struct forward *forward, uint32_t layer)
{
	for (uint32_t i = 0; i < forward->ranks.count; i++)
		layers_kv(&forward->layers[i], layer);
}

static enum err rest(struct forward *forward, uint32_t layer)
{
	return layers_rest(forward->layers, &forward->ranks, forward->options.experts, layer);
}

/* The layer's KV is written: the caller hears of it once that has run. */
static enum err announce(struct forward *forward, const struct plan *plan, uint32_t layer)
{
	enum err e = device_wait(first(forward), forward->marks[layer]);
	if (e == ERR_OK)
		forward->options.on_kv(forward->options.context, plan, layer);
	return e;
}

static bool records(const struct forward *forward)
{
	return device_props(first(forward))->queued && (!forward->options.experts || forward->options.experts->queued);
}

/* Of decode rows alone: the same operations for every step of so many rows. */
static bool may_be_recorded(const struct forward *forward, const struct plan *plan)
{
	for (uint32_t i = 0; i < plan->run_count; i++)
		if (plan->runs[i].count != 1)
			return false;
	return records(forward);
}

static uint32_t rows_of_bucket(const struct forward *forward, uint32_t bucket)
{
	return bucket < forward->options.rows_max ? bucket : forward->options.rows_max;
}

/* Nobody's rows, up to so many. */
static void pad(struct forward *forward, uint32_t rows)
{
	struct batch *batch = &forward->batch;
	for (; batch->row_count < rows; batch->row_count++, batch->padding++)
		batch->tokens[batch->row_count] = batch->positions[batch->row_count] = 0;
}

static enum err queue_layers(struct forward *forward, bool digests)
{
	enum err e = ERR_OK;
	for (uint32_t layer = 0; layer < forward->options.config->layer_count && e == ERR_OK; layer++) {
		write_kv(forward, layer);
		if (digests)
			digest(forward, layer);
		e = rest(forward, layer);
	}
	return e;
}

/* All layers at once, recorded or run again where the device can. */
static enum err queue_step(struct forward *forward, bool digests)
{
	struct device *device = first(forward);
	uint32_t rows = forward->batch.row_count;
	if (rows > forward->recorded_max)
		return queue_layers(forward, digests);
	bool runs = device_replay(device, (uint64_t)rows * 2 + digests);
	enum err e = ERR_OK;
	while (!runs && e == ERR_OK) {
		e = queue_layers(forward, digests);
		runs = device_recorded(device);
	}
	return e;
}

/* A step of decode rows on a device that runs behind us: it gets the whole of it, and blocks are announced by forward_end(). */
static enum err run_whole(struct forward *forward, const struct plan *plan)
{
	bool digests = wants_digests(plan);
	uint32_t layer_count = forward->options.config->layer_count;
	enum err e = queue_step(forward, digests);
	if (e == ERR_OK && digests)
		fetch_whole(forward);
	forward->marks[layer_count - 1] = device_mark(first(forward));
	forward->unannounced = e == ERR_OK;
	return e;
}

/* A device that runs behind us gets the rest of a layer to do before we wait for its beginning. */
static enum err run_layers(struct forward *forward, const struct plan *plan)
{
	struct device *device = first(forward);
	bool queued = device_props(device)->queued, digests = wants_digests(plan);
	enum err e = ERR_OK;
	for (uint32_t layer = 0; layer < forward->options.config->layer_count && e == ERR_OK; layer++) {
		write_kv(forward, layer);
		if (digests) {
			digest(forward, layer);
			fetch(forward, layer);
		}
		forward->marks[layer] = device_mark(device);
		if (!queued)
			e = announce(forward, plan, layer);
		if (e == ERR_OK)
			e = rest(forward, layer);
		if (e == ERR_OK && queued)
			e = announce(forward, plan, layer);
	}
	return e;
}

static enum err begin(struct forward *forward)
{
	enum err e = ERR_OK;
	for (uint32_t g = 0; g < forward->config.group_count && e == ERR_OK; g++)
		e = kv_ranks_begin(forward->kv[g], forward->batch.runs[g], forward->batch.run_count);
	for (uint32_t i = 0; i < forward->ranks.count && e == ERR_OK; i++)
		e = layers_begin(&forward->layers[i]);
	return e;
}

enum err forward_step(struct forward *forward, const struct plan *plan)
{
	assert(plan->token_count <= forward->options.rows_max && plan->run_count <= PLAN_RUNS_MAX);
	bool whole = may_be_recorded(forward, plan);
	empty(forward);
	for (uint32_t i = 0; i < plan->run_count; i++)
		add_run(forward, &plan->runs[i]);
	assert(forward->batch.row_count == plan->token_count);
	uint32_t rows = rows_of_bucket(forward, plan->token_bucket);
	if (whole && rows <= forward->recorded_max)
		pad(forward, rows);

	enum err e = begin(forward);
	if (e != ERR_OK)
		return e;
	return whole ? run_whole(forward, plan) : run_layers(forward, plan);
}

/* The first time loads kernels, the second records. */
static enum err warm(struct forward *forward, uint32_t rows, bool digests)
{
	enum err e = ERR_OK;
	for (int time = 0; time < 2 && e == ERR_OK; time++) {
		empty(forward);
		pad(forward, rows);
		e = begin(forward);
		if (e == ERR_OK)
			e = queue_step(forward, digests);
		enum err last = device_sync(first(forward));
		e = e == ERR_OK ? last : e;
	}
	return e;
}

enum err forward_warm(struct forward *forward, uint32_t rows_most, uint32_t *ret_count)
{
	enum err e = ERR_OK;
	uint32_t count = 0, bucket = 0;
	if (records(forward))
		forward->recorded_max = rows_of_bucket(forward, plan_bucket(rows_most));
	for (uint32_t rows = 0; records(forward) && rows < forward->recorded_max && e == ERR_OK; count += 2) {
		bucket = plan_bucket(bucket + 1);
		rows = rows_of_bucket(forward, bucket);
		e = warm(forward, rows, false);
		if (e == ERR_OK)
			e = warm(forward, rows, true);
	}
	*ret_count = count;
	return e;
}

enum err forward_end(struct forward *forward, const struct plan *plan)
{
	uint32_t layer_count = forward->config.layer_count;
	enum err e = ERR_OK;
	if (forward->unannounced)
		e = device_wait(first(forward), forward->marks[layer_count - 1]);
	for (uint32_t layer = 0; layer < layer_count && e == ERR_OK && forward->unannounced; layer++)
		forward->options.on_kv(forward->options.context, plan, layer);
	forward->unannounced = false;
	enum err last = device_sync(first(forward));
	return e == ERR_OK ? last : e;
}

uint32_t forward_logits_rows(const struct forward *forward)
{
	return forward->logits_rows;
}

/* The rank's part of the vocabulary for the rows in `wanted`. */
static enum err run_head(struct forward *forward, uint32_t rank, const uint32_t *wanted, uint32_t count)
{
	const struct model_config *c = &forward->config;
	const struct layers *layers = &forward->layers[rank];
	const struct engine_weights *weights = forward->options.weights[rank];
	struct device *device = forward->ranks.devices[rank];
	struct head *head = &forward->heads[rank];
	enum err e = dev_copy(device, head->rows, wanted, count * sizeof(uint32_t));
	if (e != ERR_OK)
		return e;
	op_gather(device, layers->x, c->hidden_size, head->rows, count, c->hidden_size, head->x);
	op_gather(device, layers->delta, c->hidden_size, head->rows, count, c->hidden_size, head->delta);
	const struct norm_call norm = {.x = head->x, .add = head->delta, .weight = weights->final_norm, .out = head->x,
				       .rows = count, .dim = c->hidden_size, .eps = (float)c->norm_eps};
	op_rmsnorm(device, &norm);
	const struct linear_call call = {.linear = weights->head, .x = head->x, .x_stride = c->hidden_size, .y = head->logits,
					 .y_stride = logits_width(forward, rank), .rows = count};
	op_linear(device, &call, 1);
	return ERR_OK;
}

/* The first rank gets what the others have. */
static void gather_logits(struct forward *forward, uint32_t count)
{
	size_t row_bytes = forward->config.vocab_size * sizeof(float);
	device_meet(first(forward));
	for (uint32_t i = 1; i < forward->ranks.count; i++) {
		const struct head *head = &forward->heads[i];
		size_t bytes = head->vocab.count * sizeof(float);
		const struct copy_lines rows = {.to = forward->heads[0].logits + head->vocab.first, .to_stride = row_bytes,
						.from = head->logits, .from_stride = bytes, .bytes = bytes, .count = count};
		dev_copy_lines(first(forward), &rows);
	}
	/* And has it before they write there again. */
	device_meet(first(forward));
}

enum err forward_logits(struct forward *forward, uint32_t first_row, uint32_t count, const float **ret_logits)
{
	const struct model_config *c = &forward->config;
	float *logits = forward->heads[0].logits;
	enum err e = ERR_OK;
	assert(count <= forward->logits_rows && first_row + count <= forward->wanted_count);
	for (uint32_t i = 0; i < forward->ranks.count && e == ERR_OK; i++)
		e = run_head(forward, i, forward->wanted + first_row, count);
	if (e != ERR_OK)
		return e;
	if (forward->ranks.count > 1)
		gather_logits(forward, count);
	if (c->logit_cap > 0)
		op_soft_cap(first(forward), logits, c->vocab_size, count, c->vocab_size, (float)c->logit_cap);
	*ret_logits = logits;
	return ERR_OK;
}

#include "node/engine_port.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/layer_groups.h"
#include "base/log.h"
#include "kvstore/key.h"
#include "model/model_dir.h"
#include "net/loop.h"

struct engine_port {
	struct loop *loop;
	struct engine *engine;
	struct node *node;
	struct loop_task news;
	atomic_uint layers_done;  /* of the step in flight */
	atomic_bool step_done;
	uint32_t layers_told;     /* loop only */
	enum err step_error;      /* written before step_done */
	struct sample samples[PLAN_SAMPLES_MAX];
	uint8_t fingerprint[32];
};

/* Layers first, then the end of the step: that the node may start the next one is the last thing it learns. */
static void tell(void *arg)
{
	struct engine_port *port = arg;
	bool done = atomic_load(&port->step_done);
	uint32_t layers = atomic_load(&port->layers_done);
	for (; port->layers_told < layers; port->layers_told++)
		node_layer_done(port->node, port->layers_told, loop_now_ns(port->loop));
	if (!done)
		return;
	port->layers_told = 0;
	atomic_store(&port->layers_done, 0);
	atomic_store(&port->step_done, false);
	node_step_done(port->node, port->samples, port->step_error, loop_now_ns(port->loop));
}

static void on_layer_done(void *context, const struct plan *plan, uint32_t layer)
{
	(void)plan;
	struct engine_port *port = context;
	atomic_store(&port->layers_done, layer + 1);
	loop_post(port->loop, &port->news);
}

static void on_step_done(void *context, const struct plan *plan, const struct sample *samples, enum err e)
{
	struct engine_port *port = context;
	if (e == ERR_OK)
		memcpy(port->samples, samples, plan->sample_count * sizeof(*samples));
	port->step_error = e;
	atomic_store(&port->step_done, true);
	loop_post(port->loop, &port->news);
}

/* Weights are read once: for the engine, and for the fingerprint. */
static enum err open_engine(struct engine_port *port, struct engine_options *options, struct why *why)
{
	const struct model_dir *model = options->model;
	options->digests = calloc(model->weights ? weights_count(model->weights) : 1, sizeof(*options->digests));
	if (!options->digests)
		return why_set(why, ERR_NOMEM, "no memory for the weights' digests");
	enum err e = engine_create(options, why, &port->engine);
	if (e == ERR_OK)
		model_dir_fingerprint(model, (const uint8_t (*)[32])options->digests, port->fingerprint);
	free(options->digests);
	return e;
}

enum err engine_port_create(struct loop *loop, const struct engine_options *options, struct why *why,
			    struct engine_port **ret_port)
{
	struct engine_port *port = calloc(1, sizeof(*port));
	if (!port)
		return ERR_NOMEM;
	port->loop = loop;
	loop_task_init(&port->news, tell, port);
	struct engine_options own = *options;
	own.callbacks = (struct engine_callbacks){.context = port, .on_layer_done = on_layer_done,
						  .on_step_done = on_step_done};
	enum err e = open_engine(port, &own, why);
	if (e != ERR_OK) {
		free(port);
		return e;
	}
	*ret_port = port;
	return ERR_OK;
}

void engine_port_destroy(struct engine_port *port)
{
	if (!port)
		return;
	engine_destroy(port->engine); /* joins its thread: nobody posts after this */
	loop_task_cancel(port->loop, &port->news);
	free(port);
}

struct engine *engine_port_engine(struct engine_port *port)
{
	return port->engine;
}

void engine_port_attach(struct engine_port *port, struct node *node)
{
	port->node = node;
}

void engine_port_submit(void *context, const struct plan *plan)
{
	struct engine_port *port = context;
	enum err e = engine_submit(port->engine, plan);
	if (e == ERR_OK)
		return;
	log_error("engine refuses step %llu: %s", (unsigned long long)plan->number, err_text(e));
	port->step_error = e;
	atomic_store(&port->step_done, true);
	loop_post(port->loop, &port->news);
}

uint64_t engine_port_digest(void *context, uint32_t block, uint32_t layer)
{
	struct engine_port *port = context;
	return engine_block_digest(port->engine, block, layer);
}

const uint8_t *engine_port_fingerprint(const struct engine_port *port)
{
	return port->fingerprint;
}

enum err engine_port_kv(struct engine_port *port, struct why *why, struct engine_kv *ret_kv)
{
	const struct engine *engine = port->engine;
	struct engine_kv kv = {.group_count = engine_group_count(engine), .layer_count = engine_layer_count(engine)};
	if (kv.layer_count > PROTO_LAYERS_MAX)
		return why_set(why, ERR_TOO_LARGE, "the model has %u layers, at most %d", kv.layer_count, PROTO_LAYERS_MAX);
	uint32_t windows[LAYER_GROUPS_MAX], layers[LAYER_GROUPS_MAX];
	for (uint32_t g = 0; g < kv.group_count; g++) {
		engine_geometry(engine, g, &kv.groups[g]);
		windows[g] = kv.groups[g].window;
		layers[g] = kv.groups[g].layer_count;
	}
	for (uint32_t i = 0; i < kv.layer_count; i++) {
		uint32_t place, group = engine_layer_group(engine, i, &place);
		kv.layers[i] = (struct kv_layer){(uint16_t)group, (uint16_t)place};
	}
	struct kv_compat_parts parts = {
		.fingerprint = port->fingerprint,
		.numerics_class = engine_numerics_class(engine),
		.block_tokens = kv.groups[0].block_tokens,
		.layer_count = kv.layer_count,
		.layer_bytes = kv.groups[0].layer_bytes,
		.group_count = kv.group_count,
		.windows = windows,
		.layers = layers,
	};
	kv_compat(&parts, &kv.compat);
	*ret_kv = kv;
	return ERR_OK;
}

enum { BLOCKS_MIN = 64 };

/* Bytes of a group that a sequence of so many tokens holds. */
static uint64_t demand_of(const struct kv_geometry *group, uint32_t tokens, uint32_t chunk_tokens)
{
	uint64_t blocks = (tokens + group->block_tokens - 1) / group->block_tokens, keep = kv_keep(group->window, group->block_tokens);
	uint64_t span = keep + (chunk_tokens + group->block_tokens - 1) / group->block_tokens;
	return (span < blocks ? span : blocks) * group->block_bytes;
}

enum err engine_kv_divide(const struct engine_kv *kv, uint64_t kv_bytes, uint32_t context_max, uint32_t chunk_tokens,
			  struct why *why, uint32_t ret_block_counts[LAYER_GROUPS_MAX])
{
	uint64_t demand[LAYER_GROUPS_MAX], sum = 0;
	uint32_t tokens = context_max / 4 > 0 ? context_max / 4 : 1;
	for (uint32_t g = 0; g < kv->group_count; g++)
		sum += demand[g] = demand_of(&kv->groups[g], tokens, chunk_tokens);
	uint32_t counts[LAYER_GROUPS_MAX] = {0};
	for (uint32_t g = 0; g < kv->group_count; g++) {
		double share = (double)demand[g] / (double)sum;
		uint64_t bytes = kv->group_count > 1 ? (uint64_t)((double)kv_bytes * share) : kv_bytes;
		uint64_t blocks = bytes / kv->groups[g].block_bytes;
		if (blocks < BLOCKS_MIN || blocks > UINT32_MAX / 4)
			return why_set(why, ERR_INVALID, "--kv-bytes %llu give layer group %u of %u %llu blocks of %u bytes, expected at "
				       "least %d", (unsigned long long)kv_bytes, g, kv->group_count, (unsigned long long)blocks,
				       kv->groups[g].block_bytes, BLOCKS_MIN);
		counts[g] = (uint32_t)blocks;
	}
	memcpy(ret_block_counts, counts, sizeof(counts));
	return ERR_OK;
}

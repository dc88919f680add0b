#include "tools/solo_node.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/layer_groups.h"
#include "engine/engine.h"
#include "model/model_dir.h"
#include "net/loop.h"
#include "node/core.h"
#include "node/engine_port.h"

enum { SOLO_NODE_ID = 2, SOLO_SEQS = 64, BLOCK_ALIGN = 64, TIME_FACTOR = 10 };

struct solo_node {
	struct solo_node_options options;
	struct engine_port *port;
	struct engine_kv kv;
	uint32_t block_counts[LAYER_GROUPS_MAX];
	uint8_t *memory_of[LAYER_GROUPS_MAX];      /* [block_count][block_bytes] of each layer group */
	uint64_t *generations[LAYER_GROUPS_MAX]; /* [block_count] */
	void *memory;
	struct node *node;
};

/* ---- what the core asks for */

static void submit(void *context, const struct plan *plan)
{
	engine_port_submit(((struct solo_node *)context)->port, plan);
}

static uint64_t block_digest(void *context, uint32_t block, uint32_t layer)
{
	return engine_port_digest(((struct solo_node *)context)->port, block, layer);
}

static void copy_block(void *context, uint32_t from, uint32_t to)
{
	engine_block_copy(engine_port_engine(((struct solo_node *)context)->port), from, to);
}

/* ---- making it */

static enum err open_engine(struct solo_node *solo, struct loop *loop, struct why *why)
{
	struct engine_options options = {
		.model = solo->options.model,
		.device = solo->options.device,
		.numerics = solo->options.numerics,
		.isa = solo->options.isa,
		.thread_count = solo->options.threads,
		.tensor_parallel_size = solo->options.tensor_parallel_size,
		.row_segments = solo->options.row_segments,
		.block_tokens = solo->options.block_tokens,
		.batch_tokens_max = solo->options.batch_tokens_max,
	};
	enum err e = engine_port_create(loop, &options, why, &solo->port);
	if (e != ERR_OK)
		return e;
	return engine_port_kv(solo->port, why, &solo->kv);
}

static enum err open_group(struct solo_node *solo, uint32_t g, struct why *why)
{
	uint64_t blocks = solo->block_counts[g];
	size_t bytes = blocks * solo->kv.groups[g].block_bytes;
	solo->memory_of[g] = aligned_alloc(BLOCK_ALIGN, (bytes + BLOCK_ALIGN - 1) / BLOCK_ALIGN * BLOCK_ALIGN);
	solo->generations[g] = calloc(blocks, sizeof(*solo->generations[g]));
	if (!solo->memory_of[g] || !solo->generations[g])
		return why_set(why, ERR_NOMEM, "no memory for %llu blocks", (unsigned long long)blocks);
	return engine_set_kv(engine_port_engine(solo->port), g, solo->memory_of[g], solo->block_counts[g]);
}

static enum err open_kv(struct solo_node *solo, struct why *why)
{
	enum err e = engine_kv_divide(&solo->kv, solo->options.kv_bytes, solo->options.context_max, solo->options.chunk_tokens,
				      why, solo->block_counts);
	for (uint32_t g = 0; e == ERR_OK && g < solo->kv.group_count; g++)
		e = open_group(solo, g, why);
	return e;
}

static struct node_group node_group(const struct solo_node *solo, uint32_t g)
{
	return (struct node_group){
		.layer_count = solo->kv.groups[g].layer_count,
		.layer_bytes = solo->kv.groups[g].layer_bytes,
		.window = solo->kv.groups[g].window,
		.block_count = solo->block_counts[g],
		.offer_max = 8,
		.hold_max = 8,
		.generations = solo->generations[g],
	};
}

static struct node_options node_options(struct solo_node *solo)
{
	return (struct node_options){
		.node = SOLO_NODE_ID,
		.incarnation = 1,
		.role = WIRE__ROLE__ROLE_BOTH,
		.name = "solo",
		.compat = solo->kv.compat,
		.block_tokens = solo->kv.groups[0].block_tokens,
		.group_count = solo->kv.group_count,
		.groups = {node_group(solo, 0)},
		.layers = solo->kv.layers,
		.peer_max = 4,
		.job_max = SOLO_SEQS,
		.seq_max = SOLO_SEQS,
		.context_max = solo->options.context_max,
		.batch_tokens_max = solo->options.batch_tokens_max,
		.chunk_tokens = solo->options.chunk_tokens,
		.read_max = 64,
		.time_factor = TIME_FACTOR,
		.eos_ids = solo->options.model->config.eos_ids,
		.eos_count = solo->options.model->config.eos_count,
		.vocab_size = solo->options.model->config.vocab_size,
		.constraints = engine_constraints(engine_port_engine(solo->port)),
		.env = solo->options.env,
		.context = solo,
		.submit = submit,
		.block_digest = block_digest,
		.copy_block = copy_block,
	};
}

enum err solo_node_create(struct loop *loop, const struct solo_node_options *options, struct solo_node **ret_node,
			  struct why *why)
{
	struct solo_node *solo = calloc(1, sizeof(*solo));
	if (!solo)
		return ERR_NOMEM;
	solo->options = *options;
	enum err e = open_engine(solo, loop, why);
	if (e == ERR_OK)
		e = open_kv(solo, why);
	if (e == ERR_OK)
		e = engine_warm(engine_port_engine(solo->port), SOLO_SEQS);
	if (e == ERR_OK) {
		struct node_options core = node_options(solo);
		for (uint32_t g = 1; g < solo->kv.group_count; g++)
			core.groups[g] = node_group(solo, g);
		solo->memory = calloc(1, node_bytes(&core));
		if (solo->memory)
			solo->node = node_init(solo->memory, &core);
		else
			e = ERR_NOMEM;
	}
	if (e != ERR_OK) {
		solo_node_destroy(solo);
		return e;
	}
	engine_port_attach(solo->port, solo->node);
	*ret_node = solo;
	return ERR_OK;
}

void solo_node_destroy(struct solo_node *solo)
{
	if (!solo)
		return;
	engine_port_destroy(solo->port);
	free(solo->memory);
	for (uint32_t g = 0; g < LAYER_GROUPS_MAX; g++) {
		free(solo->generations[g]);
		free(solo->memory_of[g]);
	}
	free(solo);
}

void solo_node_member(const struct solo_node *solo, struct coord_member *ret_member)
{
	*ret_member = (struct coord_member){
		.node = SOLO_NODE_ID,
		.incarnation = 1,
		.role = WIRE__ROLE__ROLE_BOTH,
		.name = "solo",
		.pid = (uint32_t)getpid(),
		.compat = solo->kv.compat,
		.model_count = 1,
		.block_tokens = solo->kv.groups[0].block_tokens,
		.group_count = solo->kv.group_count,
		.context_max = solo->options.context_max,
	};
	for (uint32_t g = 0; g < solo->kv.group_count; g++)
		ret_member->windows[g] = solo->kv.groups[g].window;
	snprintf(ret_member->models[0], sizeof(ret_member->models[0]), "%s", solo->options.model->name);
}

/* ---- its events */

static void opened(void *core, uint32_t conn, uint64_t dialed, uint64_t now_ns)
{
	node_opened(core, conn, dialed, now_ns);
}

static void dial_failed(void *core, uint64_t dialed, uint64_t now_ns)
{
	node_dial_failed(core, dialed, now_ns);
}

static void closed(void *core, uint32_t conn, uint64_t now_ns)
{
	node_closed(core, conn, now_ns);
}

static void message(void *core, uint32_t conn, const Wire__Envelope *envelope, uint64_t now_ns)
{
	node_message(core, conn, envelope, now_ns);
}

static void tick(void *core, uint64_t now_ns)
{
	node_tick(core, now_ns);
}

struct shell_core solo_node_core(struct solo_node *solo)
{
	return (struct shell_core){.core = solo->node, .opened = opened, .dial_failed = dial_failed, .closed = closed,
				   .message = message, .tick = tick};
}

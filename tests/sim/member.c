/* member - a node of the simulated cluster: how its core is made, fed with events, and its memory read. */
#include "base/layer_groups.h"
#include "tests/sim/cluster_impl.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/clients.h"
#include "tests/sim/faults.h"
#include "tests/sim/promises.h"

enum { CHECK_EVERY = 6, OFFER_MAX = 12, HOLD_MAX = 12 };

const struct id128 cluster_compat = {{0xc0, 1, 2, 3}};
static const uint32_t eos_ids[] = {TOY_EOS};

/* ---- the world's view of a member */

static struct member *as_member(void *core)
{
	return core;
}

void member_after_event(struct member *m)
{
	if (m->kind == COORDINATOR)
		lead_check_coordinator(m);
	faults_event(m->cluster->faults, m->index);
}

#define CALL(m, coord_call, node_call, store_call) \
	do {                                       \
		if ((m)->kind == COORDINATOR)      \
			coord_call;                \
		else if ((m)->kind == ENGINE)      \
			node_call;                 \
		else                               \
			store_call;                \
		member_after_event(m);                    \
	} while (0)

static void on_opened(void *core, uint32_t conn, uint64_t node, uint64_t now)
{
	struct member *m = as_member(core);
	CALL(m, coord_opened(m->coord, conn, node, now), node_opened(m->engine, conn, node, now),
	     store_opened(m->store, conn, node, now));
}

static void on_closed(void *core, uint32_t conn, uint64_t now)
{
	struct member *m = as_member(core);
	CALL(m, coord_closed(m->coord, conn, now), node_closed(m->engine, conn, now), store_closed(m->store, conn, now));
}

static void on_dial_failed(void *core, uint64_t node, uint64_t now)
{
	struct member *m = as_member(core);
	CALL(m, coord_dial_failed(m->coord, node, now), node_dial_failed(m->engine, node, now),
	     store_dial_failed(m->store, node, now));
}

static void on_message(void *core, uint32_t conn, const Wire__Envelope *envelope, uint64_t now)
{
	struct member *m = as_member(core);
	CALL(m, coord_message(m->coord, conn, envelope, now), node_message(m->engine, conn, envelope, now),
	     store_message(m->store, conn, envelope, now));
}

static void on_read_done(void *core, uint64_t op, enum err e, uint64_t digest, uint64_t now)
{
	struct member *m = as_member(core);
	CALL(m, abort(), node_read_outcome(m->engine, op, e, digest, now), store_read_done(m->store, op, e, digest, now));
}

static void on_landing_free(void *core, uint64_t op, uint64_t now)
{
	struct member *m = as_member(core);
	CALL(m, abort(), node_landing_free(m->engine, op, now), store_landing_free(m->store, op, now));
}

static void check_engine(const struct member *m)
{
	node_check(m->engine);
	assert(!node_idle(m->engine) || m->structures == 0);
}

static void on_tick(void *core, uint64_t now)
{
	struct member *m = as_member(core);
	CALL(m, coord_tick(m->coord, now), node_tick(m->engine, now), store_tick(m->store, now));
	promises_check(m->cluster->promises, m->index);
	if (m->kind == STORE) {
		struct store_status status;
		store_status(m->store, &status);
		cluster_check_misses(m->cluster, status.counters.read_corrupt);
		pins_check(m);
		disk_check_store(m);
	}
	if (m->ticks++ % CHECK_EVERY)
		return;
	if (m->kind != COORDINATOR)
		lead_check_node(m);
	if (m->kind == COORDINATOR)
		coord_check(m->coord);
	else if (m->kind == ENGINE)
		check_engine(m);
	else
		store_check(m->store);
}

static uint8_t *on_landing(void *core, uint32_t landing, uint32_t offset, uint32_t length)
{
	struct member *m = as_member(core);
	if (m->kind == ENGINE) {
		uint32_t first = cluster_block_count(m->cluster, 0), g = landing >= first;
		uint32_t bytes = toy_block_bytes(m->cluster->options.kind, g);
		landing -= g * first;
		assert(landing < cluster_block_count(m->cluster, g) && offset + length <= bytes);
		return toy_memory(m->toy, g) + (size_t)landing * bytes + offset;
	}
	uint32_t slab = landing / SLAB_SLOTS;
	assert(slab < SLABS && m->slab_regions[slab] != UINT32_MAX && offset + length <= m->slab_slot_bytes[slab]);
	return m->slabs + (size_t)slab * SLAB_BYTES + (size_t)(landing % SLAB_SLOTS) * m->slab_slot_bytes[slab] + offset;
}

static const uint8_t *engine_memory(struct member *m, uint32_t region, uint64_t offset, uint32_t length,
				    uint64_t *ret_generation)
{
	if (region >= toy_group_count(m->cluster->options.kind))
		return NULL;
	uint32_t bytes = toy_block_bytes(m->cluster->options.kind, region);
	uint64_t block = offset / bytes;
	if (block >= cluster_block_count(m->cluster, region) || offset % bytes + length > bytes)
		return NULL;
	*ret_generation = m->generations[region][block];
	return toy_memory(m->toy, region) + offset;
}

static const uint8_t *on_memory(void *core, uint32_t region, uint64_t offset, uint32_t length,
				uint64_t *ret_generation)
{
	struct member *m = as_member(core);
	if (m->kind == ENGINE)
		return engine_memory(m, region, offset, length, ret_generation);
	for (uint32_t slab = 0; m->kind == STORE && slab < SLABS; slab++) {
		if (m->slab_regions[slab] != region)
			continue;
		uint64_t slot = offset / m->slab_slot_bytes[slab];
		bool inside = offset % m->slab_slot_bytes[slab] + length <= m->slab_slot_bytes[slab] &&
			      (slot + 1) * m->slab_slot_bytes[slab] <= SLAB_BYTES;
		if (!inside)
			return NULL;
		*ret_generation = m->slab_generations[slab][slot];
		return m->slabs + (size_t)slab * SLAB_BYTES + offset;
	}
	return NULL;
}

const struct sim_node_ops member_ops = {
	.opened = on_opened,
	.closed = on_closed,
	.dial_failed = on_dial_failed,
	.message = on_message,
	.read_done = on_read_done,
	.landing_free = on_landing_free,
	.tick = on_tick,
	.landing = on_landing,
	.memory = on_memory,
};

/* ---- starting the cores */

static void start_coordinator(struct member *m)
{
	struct coord_options options = {
		.node = m->node,
		.incarnation = m->incarnation,
		.name = m->name,
		.nodes_max = 16,
		.requests_max = 64,
		.choices_max = 4,
		.queue_max = 32,
		.context_max = TOY_CONTEXT_MAX,
		.tokens_max = 1 << 16,
		.blocks_max = 2048,
		.held_max = 64,
		.prefill_ns = 3000 * MS,
		.decode_ns = 3000 * MS,
		.move_ns = 100 * MS,
		.opening_ns = 1000 * MS,
		.lead_context = m,
		.claim_epoch = member_claim_epoch,
		.env = sim_env(m->cluster->sim, m->index),
		.hooks = clients_hooks(m->cluster),
	};
	m->memory = malloc(coord_bytes(&options));
	assert(m->memory);
	m->coord = coord_init(m->memory, &options);
}

static void toy_layer_done(void *context, uint32_t layer)
{
	struct member *m = context;
	node_layer_done(m->engine, layer, sim_local(m->cluster->sim, m->index));
	member_after_event(m);
}

static void toy_step_done(void *context, const struct sample *samples)
{
	struct member *m = context;
	node_step_done(m->engine, samples, ERR_OK, sim_local(m->cluster->sim, m->index));
	member_after_event(m);
}

static void on_submit(void *context, const struct plan *plan)
{
	toy_submit(((struct member *)context)->toy, plan);
}

static uint64_t on_digest(void *context, uint32_t block, uint32_t layer)
{
	return toy_block_digest(((struct member *)context)->toy, block, layer);
}

static void on_copy(void *context, uint32_t from, uint32_t to)
{
	toy_copy_block(((struct member *)context)->toy, from, to);
}

/* Constraints are only counted: what is taken is given back. */
static enum err on_structure(void *context, const char *structure, size_t length, struct why *why,
			     struct constraint **ret_constraint)
{
	struct member *m = context;
	assert(length == strlen(TOY_STRUCTURE) && strcmp(structure, TOY_STRUCTURE) == 0);
	m->structures++;
	*ret_constraint = (struct constraint *)m; /* opaque to all but the engine */
	return ERR_OK;
}

static void on_structure_back(void *context, struct constraint *constraint)
{
	struct member *m = context;
	assert(m->structures > 0 && constraint == (struct constraint *)m);
	m->structures--;
}

static struct node_group group_of(struct member *m, uint32_t g)
{
	enum toy_kind kind = m->cluster->options.kind;
	uint32_t count = cluster_block_count(m->cluster, g);
	m->generations[g] = calloc(count, sizeof(*m->generations[g]));
	assert(m->generations[g]);
	return (struct node_group){.layer_count = toy_block_bytes(kind, g) / TOY_LAYER_BYTES, .layer_bytes = TOY_LAYER_BYTES,
				   .window = toy_window(kind, g), .block_count = count, .offer_max = OFFER_MAX,
				   .hold_max = HOLD_MAX, .generations = m->generations[g]};
}

static void start_engine(struct member *m)
{
	const struct cluster_options *o = &m->cluster->options;
	struct toy_options toy = {
		.sim = m->cluster->sim,
		.index = m->index,
		.kind = o->kind,
		.block_counts = {cluster_block_count(m->cluster, 0), cluster_block_count(m->cluster, 1)},
		.layer_ns = o->layer_ns,
		.token_ns = o->layer_ns / 16,
		.context = m,
		.layer_done = toy_layer_done,
		.step_done = toy_step_done,
	};
	m->toy = toy_create(&toy);
	m->structures = 0;
	struct node_options options = {
		.node = m->node,
		.incarnation = m->incarnation,
		.role = m->role,
		.name = m->name,
		.compat = cluster_compat,
		.block_tokens = TOY_BLOCK_TOKENS,
		.group_count = toy_group_count(o->kind),
		.layers = toy_layers(o->kind),
		.peer_max = 12,
		.job_max = 6,
		.seq_max = o->seq_max,
		.context_max = TOY_CONTEXT_MAX,
		.batch_tokens_max = 24,
		.chunk_tokens = o->chunk_tokens,
		.read_max = 48,
		.fetch_deadline_ns = 500 * MS,
		.read_deadline_ns = 900 * MS,
		.wait_deadline_ns = 1500 * MS,
		.eos_ids = eos_ids,
		.eos_count = 1,
		.constraints = {.context = m, .take = on_structure, .give = on_structure_back},
		.env = sim_env(m->cluster->sim, m->index),
		.context = m,
		.submit = on_submit,
		.block_digest = on_digest,
		.copy_block = on_copy,
	};
	for (uint32_t g = 0; g < options.group_count; g++)
		options.groups[g] = group_of(m, g);
	m->memory = malloc(node_bytes(&options));
	assert(m->memory);
	m->engine = node_init(m->memory, &options);
}

static enum err open_slab(void *context, uint32_t slab, uint32_t slot_bytes, uint32_t slot_count,
			  struct slab_region *ret_region)
{
	struct member *m = context;
	assert(slot_count <= SLAB_SLOTS);
	m->slab_regions[slab] = m->region_next++;
	m->slab_slot_bytes[slab] = slot_bytes;
	memset(m->slab_generations[slab], 0, sizeof(m->slab_generations[slab]));
	*ret_region = (struct slab_region){m->slab_regions[slab], m->slab_generations[slab]};
	return ERR_OK;
}

static void close_slab(void *context, uint32_t slab)
{
	((struct member *)context)->slab_regions[slab] = UINT32_MAX;
}

/* By the seed: a tenant with room for a few blocks, one with none, all others with half of the store. */
static uint32_t draw_quotas(const struct member *m, struct tenant_quota *ret_quotas)
{
	const struct cluster_options *o = &m->cluster->options;
	const struct tenant_quota few = {"ant", 6 * TOY_LAYERS * TOY_LAYER_BYTES}, half = {"*", o->store_slabs * SLAB_BYTES / 2}, none = {"bee", 0};
	ret_quotas[0] = few;
	ret_quotas[1] = half;
	ret_quotas[2] = none;
	return o->seed % 3 == 0 ? 0 : o->seed % 6 == 1 ? 3 : 2;
}

uint32_t member_store_weight(const struct member *m)
{
	return 2 + m->index % 3;
}

static void start_store(struct member *m)
{
	struct tenant_quota quotas[3];
	struct disk_options disk = m->disk ? disk_start(m) : (struct disk_options){0};
	struct store_options options = {
		.node = m->node,
		.incarnation = m->incarnation,
		.name = m->name,
		.peer_max = 12,
		/* With a disk less memory, so that it is needed. */
		.ledger = {.slabs = {.slab_count = m->disk ? (m->cluster->options.store_slabs + 1) / 2 : m->cluster->options.store_slabs,
				     .slab_bytes = SLAB_BYTES, .slot_bytes_min = 64, .context = m,
				     .open = open_slab, .close = close_slab},
			   .entry_max = cluster_store_entries(m->cluster), .layers_max = TOY_LAYERS, .quotas = quotas,
			   .quota_count = draw_quotas(m, quotas), .pin_bytes_max = PINNED_MAX * TOY_LAYERS * TOY_LAYER_BYTES},
		.offer_max = 24,
		.reading_max = 4,
		.lookup_max = 32,
		.hold_max = 96,
		.found_max = 64,
		.weight = member_store_weight(m),
		.replicas = m->cluster->options.replicas,
		.copies_max = 8,
		.rebalance_rate = 1 << 20,
		.grace_ns = STORE_GRACE_MS * MS,
		.disk = m->disk ? &disk : NULL,
		.persist = m->cluster->options.disks_ack ? STORE_PERSIST_ACK : STORE_PERSIST_BEHIND,
		.disk_context = m,
		.disk_gone = disk_gone,
		.env = sim_env(m->cluster->sim, m->index),
	};
	for (uint32_t i = 0; i < SLABS; i++)
		m->slab_regions[i] = UINT32_MAX;
	m->region_next = 0;
	m->slabs = malloc(SLABS * SLAB_BYTES);
	m->memory = calloc(1, store_bytes(&options));
	assert(m->memory && m->slabs);
	memset(m->slabs, 0xdd, SLABS * SLAB_BYTES);
	m->store = store_init(m->memory, &options);
	m->pinned_count = 0;
}

/* ---- life */

void member_start(struct member *m)
{
	if (m->kind == COORDINATOR)
		start_coordinator(m);
	else if (m->kind == ENGINE)
		start_engine(m);
	else
		start_store(m);
}

void member_renew(struct member *m)
{
	uint64_t now = sim_local(m->cluster->sim, m->index);
	if (m->kind == COORDINATOR)
		coord_renew(m->coord, m->incarnation, now);
	else if (m->kind == ENGINE)
		node_renew(m->engine, m->incarnation, NULL, 0, now);
	else
		store_renew(m->store, m->incarnation, NULL, 0, now);
	member_after_event(m);
}

void member_free(struct member *m)
{
	disk_sum_up(m);
	free(m->memory);
	free(m->slabs);
	for (uint32_t g = 0; g < LAYER_GROUPS_MAX; g++) {
		free(m->generations[g]);
		m->generations[g] = NULL;
	}
	toy_destroy(m->toy);
	m->memory = m->slabs = NULL;
	m->toy = NULL;
	m->coord = NULL;
	m->engine = NULL;
	m->store = NULL;
}

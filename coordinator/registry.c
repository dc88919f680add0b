#include "coordinator/registry.h"

#include <assert.h>
#include <string.h>

#include "base/layer_groups.h"

size_t registry_bytes(uint32_t nodes_max)
{
	return nodes_max * sizeof(struct registry_node);
}

void registry_init(struct registry *registry, void *memory, uint32_t nodes_max)
{
	*registry = (struct registry){.nodes = memory, .nodes_max = nodes_max};
	for (uint32_t i = 0; i < nodes_max; i++)
		registry->nodes[i].id = 0;
}

uint32_t registry_find(const struct registry *registry, uint64_t id)
{
	for (uint32_t i = 0; i < registry->count_max; i++)
		if (registry->nodes[i].id == id)
			return i;
	return NODE_NONE;
}

static enum err take_slot(struct registry *registry, uint64_t id, uint32_t *ret_slot)
{
	assert(id != 0);
	uint32_t slot = registry_find(registry, id);
	if (slot != NODE_NONE) {
		*ret_slot = slot;
		return ERR_OK;
	}
	slot = registry_find(registry, 0);
	if (slot == NODE_NONE && registry->count_max < registry->nodes_max)
		slot = registry->count_max++;
	if (slot == NODE_NONE)
		return ERR_AGAIN;
	registry->nodes[slot] = (struct registry_node){.id = id, .peer = PEER_NONE};
	*ret_slot = slot;
	return ERR_OK;
}

enum err registry_member_set(struct registry *registry, const struct coord_member *member, uint32_t *ret_slot)
{
	uint32_t slot;
	enum err e = take_slot(registry, member->node, &slot);
	if (e != ERR_OK)
		return e;
	struct registry_node *node = &registry->nodes[slot];
	node->member = true;
	node->announced = *member;
	if (node->peer == PEER_NONE) {
		node->role = member->role;
		node->compat = member->compat;
		node->incarnation = member->incarnation;
	}
	*ret_slot = slot;
	return ERR_OK;
}

/* The slot is free when neither key nor session is left. */
static void give_slot(struct registry_node *node)
{
	if (!node->member && node->peer == PEER_NONE)
		node->id = 0;
}

void registry_member_remove(struct registry *registry, uint32_t slot)
{
	registry->nodes[slot].member = false;
	give_slot(&registry->nodes[slot]);
}

enum err registry_up(struct registry *registry, const struct session_peer *info, uint32_t peer, uint32_t *ret_slot)
{
	uint32_t slot;
	enum err e = take_slot(registry, info->node, &slot);
	if (e != ERR_OK)
		return e;
	struct registry_node *node = &registry->nodes[slot];
	struct registry_node fresh = {
		.id = node->id,
		.member = node->member,
		.announced = node->announced,
		.peer = peer,
		.incarnation = info->incarnation,
		.role = info->role,
		.compat = info->has_compat ? info->compat : node->announced.compat,
	};
	/* A directive is for this life of the node: another begins undrained. */
	if (node->incarnation == info->incarnation)
		fresh.wish = node->wish;
	if (!fresh.member)
		memcpy(fresh.announced.name, info->name, sizeof(fresh.announced.name));
	*node = fresh;
	*ret_slot = slot;
	return ERR_OK;
}

void registry_down(struct registry *registry, uint32_t slot)
{
	struct registry_node *node = &registry->nodes[slot];
	node->peer = PEER_NONE;
	node->draining = false;
	node->suspect_until_ns = node->full_until_ns = node->resync_ns = 0;
	node->other = (struct work){0};
	give_slot(node);
}

void registry_draining(struct registry_node *node, bool draining, uint64_t now_ns)
{
	if (draining && !node->draining)
		node->draining_since_ns = now_ns;
	node->draining = draining;
}

static uint64_t beyond(uint64_t reported, uint64_t own)
{
	return reported > own ? reported - own : 0;
}

static void copy_text(char *out, size_t size, const char *text)
{
	size_t length = strnlen(text, size - 1);
	memcpy(out, text, length);
	out[length] = 0;
}

static void load_transports(struct registry_node *node, const Wire__Load *load)
{
	node->transport_count = 0;
	for (size_t i = 0; i < load->n_transports && i < COORD_TRANSPORTS_MAX; i++) {
		struct coord_transport *transport = &node->transports[node->transport_count++];
		copy_text(transport->peer, sizeof(transport->peer), load->transports[i]->peer);
		copy_text(transport->name, sizeof(transport->name), load->transports[i]->name);
		transport->bytes_read = load->transports[i]->bytes_read;
		transport->device_bytes_read = load->transports[i]->device_bytes_read;
	}
	node->links_refused_count = 0;
	for (size_t i = 0; i < load->n_transports && node->links_refused_count < REGISTRY_REFUSED_MAX; i++) {
		if (strcmp(load->transports[i]->name, ENV_LINK_REFUSED) != 0)
			continue;
		node->links_refused[node->links_refused_count].node = load->transports[i]->node;
		node->links_refused[node->links_refused_count++].incarnation = load->transports[i]->incarnation;
	}
	copy_text(node->links_required, sizeof(node->links_required), load->required);
}

static void load_disk(struct registry_node *node, const Wire__DiskLoad *disk)
{
	node->disk = (struct coord_disk){.present = disk != NULL};
	if (!disk)
		return;
	node->disk = (struct coord_disk){
		.present = true,
		.ready = disk->ready,
		.stopped = disk->stopped,
		.blocks = disk->blocks,
		.bytes_used = disk->bytes_used,
		.bytes_total = disk->bytes_total,
		.lag = disk->lag,
		.lag_bytes = disk->lag_bytes,
		.loads = disk->loads,
		.loads_failed = disk->loads_failed,
		.bytes_written = disk->bytes_written,
		.bytes_written_plain = disk->bytes_written_plain,
		.bytes_stored = disk->bytes_stored,
		.bytes_plain = disk->bytes_plain,
		.bytes_moved = disk->bytes_moved,
		.bytes_read = disk->bytes_read,
		.gone_room = disk->gone_room,
		.gone_bad = disk->gone_bad,
		.unwritten = disk->unwritten,
		.errors = disk->errors,
	};
}

static void load_refused(struct registry_node *node, const Wire__Load *load)
{
	for (size_t i = 0; i < REFUSAL_COUNT; i++)
		node->refused[i] = i < load->n_refused ? load->refused[i] : 0;
}

static void load_groups(struct registry_node *node, const Wire__Load *load)
{
	if (load->n_groups == 0) { /* a store: all its blocks are alike */
		node->group_count = 1;
		node->groups[0] = (struct coord_blocks){.used = load->blocks_used, .cached = load->blocks_cached,
							.reserved = load->blocks_reserved, .total = load->blocks_total};
		return;
	}
	node->group_count = load->n_groups < LAYER_GROUPS_MAX ? (uint32_t)load->n_groups : LAYER_GROUPS_MAX;
	for (uint32_t g = 0; g < node->group_count; g++) {
		const Wire__BlockLoad *blocks = load->groups[g];
		uint32_t window = g < node->announced.group_count ? node->announced.windows[g] : 0;
		node->groups[g] = (struct coord_blocks){.window = window, .used = blocks->used, .cached = blocks->cached,
							.reserved = blocks->reserved, .total = blocks->total,
							.reservable = blocks->reservable};
	}
}

static void load_replica(struct registry_node *node, const Wire__ReplicaLoad *load)
{
	if (!load)
		return;
	node->replica = (struct coord_replica){
		.missing = load->missing,
		.lag_blocks = load->lag_blocks,
		.lag_bytes = load->lag_bytes,
		.in_flight = load->in_flight,
		.spare = load->spare,
		.copies = load->copies,
		.copied_bytes = load->copied_bytes,
		.moved_bytes = load->moved_bytes,
		.given_up = load->given_up,
	};
}

void registry_load(struct registry_node *node, const Wire__Load *load, uint64_t now_ns)
{
	node->load_ns = now_ns;
	node->other.tokens = beyond(load->tokens_waiting, node->own.tokens);
	node->other.sequences = (uint32_t)beyond(load->sequences, node->own.sequences);
	node->other.jobs = (uint32_t)beyond(load->jobs, node->own.jobs);
	node->jobs_max = load->jobs_max;
	node->blocks_used = load->blocks_used;
	node->blocks_cached = load->blocks_cached;
	node->blocks_total = load->blocks_total;
	node->blocks_reserved = load->blocks_reserved;
	load_groups(node, load);
	node->sessions = load->sessions;
	node->steps = load->steps;
	node->offer_lag = load->offer_lag;
	node->prefill_tokens_per_s = load->prefill_tokens_per_s;
	node->step_seconds = load->step_seconds;
	node->epoch = load->epoch;
	node->directives_refused = load->directives_refused;
	registry_draining(node, load->draining, now_ns);
	if (load->role != WIRE__ROLE__ROLE_NONE)
		node->role = load->role;
	load_replica(node, load->replica);
	load_transports(node, load);
	load_refused(node, load);
	load_disk(node, load->disk);
}

bool node_serves(const struct registry_node *node, const char *model)
{
	for (uint32_t i = 0; i < node->announced.model_count; i++)
		if (strcmp(node->announced.models[i], model) == 0)
			return true;
	return false;
}

bool node_refuses(const struct registry_node *reader, const struct registry_node *owner)
{
	for (uint32_t i = 0; i < reader->links_refused_count; i++)
		if (reader->links_refused[i].node == owner->id && reader->links_refused[i].incarnation == owner->incarnation)
			return true;
	return false;
}

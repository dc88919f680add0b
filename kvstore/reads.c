#include "kvstore/reads.h"

#include <assert.h>

#include "base/carve.h"
#include "base/planted.h"

struct read {
	uint64_t op;       /* 0: free; the low 32 bits are the slot's number */
	bool answered;     /* its outcome came: only the landing is awaited */
	bool good;         /* and what landed is what was announced: to be told when the landing is free */
	bool abandoned;
	uint32_t landing;
	uint32_t layer;
	uint64_t node;     /* whose bytes */
	uint64_t digest;
	struct kv_read_owner owner;
};

/* What came from a peer, by its place among the sessions; another node in that place begins anew. */
struct source {
	uint64_t node;
	uint64_t bytes;
};

struct kv_reads {
	struct kv_local *local;
	uint32_t read_max;
	uint32_t count;
	uint32_t next;     /* where to look for a free slot */
	uint64_t serial;
	struct read *reads;
	struct source *sources; /* [peer_max] */
};

static struct kv_reads *layout(struct carve *carve, uint32_t read_max, uint32_t peer_max)
{
	struct kv_reads *r = carve_take(carve, 1, sizeof(*r));
	struct read *reads = carve_take(carve, read_max, sizeof(*reads));
	struct source *sources = carve_take(carve, peer_max, sizeof(*sources));
	if (r) {
		r->reads = reads;
		r->read_max = read_max;
		r->sources = sources;
	}
	return r;
}

size_t kv_reads_bytes(uint32_t read_max, uint32_t peer_max)
{
	struct carve carve = {0};
	layout(&carve, read_max, peer_max);
	return carve.used;
}

struct kv_reads *kv_reads_init(void *memory, uint32_t read_max, uint32_t peer_max, struct kv_local *local)
{
	struct carve carve = {.memory = memory};
	struct kv_reads *r = layout(&carve, read_max, peer_max);
	r->local = local;
	return r;
}

static struct read *take_slot(struct kv_reads *r)
{
	if (r->count == r->read_max)
		return NULL;
	while (r->reads[r->next].op)
		r->next = (r->next + 1) % r->read_max;
	r->count++;
	return &r->reads[r->next];
}

enum err kv_reads_start(struct kv_reads *r, const struct kv_read_request *request)
{
	struct read *read = take_slot(r);
	if (!read)
		return ERR_AGAIN;
	*read = (struct read){
		.op = ++r->serial << 32 | (uint32_t)(read - r->reads),
		.landing = request->landing,
		.layer = request->layer,
		.node = request->node,
		.digest = request->digest,
		.owner = request->owner,
	};
	if (!planted(LANDING_REUSED))
		kv_pool_ref(r->local->pool, read->landing);
	uint32_t layer_bytes = r->local->groups[kv_local_group(r->local, request->landing)].layer_bytes;
	struct env_read out = {
		.op = read->op,
		.node = request->node,
		.region = request->region,
		.offset = request->offset + (uint64_t)request->layer * layer_bytes,
		.length = layer_bytes,
		.generation = request->generation,
		.landing = request->landing,
		.landing_offset = request->layer * layer_bytes,
		.digest = request->digest,
		.deadline_ns = request->deadline_ns,
	};
	r->local->env->read(r->local->env->context, &out);
	return ERR_OK;
}

void kv_reads_abandon(struct kv_reads *r, uint8_t module, uint32_t job, uint32_t serial)
{
	for (uint32_t i = 0; i < r->read_max; i++) {
		struct read *read = &r->reads[i];
		if (!read->op || read->abandoned || read->owner.module != module || read->owner.job != job ||
		    read->owner.serial != serial)
			continue;
		read->abandoned = true;
		if (!read->answered)
			r->local->env->read_cancel(r->local->env->context, read->op);
	}
}

static struct read *find(struct kv_reads *r, uint64_t op)
{
	uint32_t slot = (uint32_t)op;
	return slot < r->read_max && r->reads[slot].op == op && op ? &r->reads[slot] : NULL;
}

static void count_bytes(struct kv_reads *r, const struct read *read)
{
	uint64_t node = read->node;
	uint32_t peer = sessions_find(r->local->sessions, node);
	if (peer == PEER_NONE)
		return;
	struct source *source = &r->sources[peer];
	if (source->node != node)
		*source = (struct source){.node = node};
	source->bytes += r->local->groups[kv_local_group(r->local, read->landing)].layer_bytes;
}

bool kv_reads_outcome(struct kv_reads *r, uint64_t op, enum err e, uint64_t digest,
		      struct kv_read_owner *ret_owner, enum err *ret_verdict)
{
	struct read *read = find(r, op);
	assert(read && !read->answered);
	read->answered = true;
	if (read->abandoned)
		return false;
	bool other = digest != read->digest && !planted(DIGEST_NOT_CHECKED);
	enum err verdict = e == ERR_OK && other ? ERR_CORRUPT : e;
	if (planted(STATUS_DROPPED))
		verdict = ERR_OK;
	if (verdict == ERR_OK) {
		kv_local_digests(r->local, read->landing)[read->layer] = digest;
		read->good = true;
		count_bytes(r, read);
		return false;
	}
	*ret_owner = read->owner;
	*ret_verdict = verdict;
	return true;
}

bool kv_reads_landing_free(struct kv_reads *r, uint64_t op, struct kv_read_owner *ret_owner, enum err *ret_verdict)
{
	struct read *read = find(r, op);
	assert(read && read->answered);
	if (!planted(LANDING_REUSED))
		kv_pool_unref(r->local->pool, read->landing);
	read->op = 0;
	r->count--;
	if (!read->good || read->abandoned)
		return false;
	*ret_owner = read->owner;
	*ret_verdict = ERR_OK;
	return true;
}

uint32_t kv_reads_count(const struct kv_reads *r)
{
	return r->count;
}

uint32_t kv_reads_room(const struct kv_reads *r)
{
	return r->read_max - r->count;
}

uint64_t kv_reads_bytes_from(const struct kv_reads *r, uint32_t peer)
{
	const struct session_peer *info = sessions_peer(r->local->sessions, peer);
	return info && r->sources[peer].node == info->node ? r->sources[peer].bytes : 0;
}

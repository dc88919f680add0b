#include <assert.h>

#include "base/layer_groups.h"
#include "kvstore/fetch_impl.h"

static bool has_copy(const struct fetch_block *block)
{
	for (uint32_t c = block->copy_next; c < FETCH_COPIES; c++)
		if (block->copies[c].peer != PEER_NONE)
			return true;
	return false;
}

/* The first block of a group that is read for the goal. */
static uint32_t goal_first(const struct kv_fetches *f, const struct fetch *fetch, uint32_t group)
{
	uint32_t first = kv_keep_first(f->local->groups[group].keep, fetch->goal);
	return first > fetch->front ? first : fetch->front;
}

/* Of what comes, it keeps what its job has room for: of a windowed group not while the job holds blocks of its own. */
static bool keeps(const struct kv_fetches *f, const struct fetch *fetch, uint32_t group, uint32_t i)
{
	bool room = f->local->groups[group].keep == KV_KEEP_ALL || fetch->front == fetch->have;
	return room && i >= goal_first(f, fetch, group) && i < fetch->goal;
}

static void give_to_pool(struct kv_fetches *f, struct fetch_block *block)
{
	kv_pool_unref(f->local->pool, block->block);
	block->block = KV_BLOCK_NONE;
	block->done = false;
	block->have = true;
}

static void drop_unneeded(struct kv_fetches *f, struct fetch *fetch, uint32_t group)
{
	for (uint32_t i = 0; i < fetch->key_count; i++) {
		struct fetch_block *block = &fetch->blocks[group][i];
		if (block->done && !keeps(f, fetch, group, i))
			give_to_pool(f, block);
	}
}

static void aim(struct kv_fetches *f, struct fetch *fetch)
{
	fetch->goal = fetch_waits_for_more(f, fetch) ? fetch->key_count : fetch->run;
	fetch->missing = 0;
	for (uint32_t g = 0; g < f->local->group_count; g++) {
		fetch->issue_end[g] = fetch->goal;
		for (uint32_t i = goal_first(f, fetch, g); i < fetch->goal; i++)
			fetch->missing += !fetch->blocks[g][i].have && !fetch->blocks[g][i].done;
		drop_unneeded(f, fetch, g);
	}
}

void fetch_plan(struct kv_fetches *f, struct fetch *fetch)
{
	struct kv_presence groups[LAYER_GROUPS_MAX];
	for (uint32_t g = 0; g < f->local->group_count; g++) {
		for (uint32_t i = 0; i < fetch->key_count; i++) {
			const struct fetch_block *block = &fetch->blocks[g][i];
			f->present[g][i] = i < fetch->front || block->have || block->done || block->reading || has_copy(block);
		}
		groups[g] = (struct kv_presence){f->present[g], f->local->groups[g].keep};
	}
	fetch->run = kv_prefix(groups, f->local->group_count, fetch->key_count);
	aim(f, fetch);
}

void fetch_advance(struct kv_fetches *f, struct fetch *fetch, uint32_t n)
{
	fetch->front = n < fetch->key_count ? n : fetch->key_count;
	fetch_plan(f, fetch);
}

void fetch_begin_reading(struct kv_fetches *f, struct fetch *fetch)
{
	assert(fetch->state == FETCH_ASKING);
	fetch->state = FETCH_READING;
	fetch_plan(f, fetch);
	fetch->counts.miss_not_found = fetch->key_count - fetch->run;
	fetch_issue(f, fetch);
}

void fetch_extend(struct kv_fetches *f, struct fetch *fetch)
{
	uint32_t run = fetch->run;
	fetch_plan(f, fetch);
	if (fetch->run > run)
		fetch->counts.miss_not_found = fetch->key_count - fetch->run;
	fetch_issue(f, fetch);
}

/* A landing, also where an earlier try left one. */
static bool take_landing(struct kv_fetches *f, uint32_t group, struct fetch_block *block)
{
	return block->block != KV_BLOCK_NONE || kv_pool_take(f->local->pool, group, &block->block) == ERR_OK;
}

/* All layers of one block from its next copy; false when there is no room for them now. */
static bool issue_block(struct kv_fetches *f, struct fetch *fetch, uint32_t group, uint32_t i)
{
	struct fetch_block *block = &fetch->blocks[group][i];
	uint32_t layer_count = f->local->groups[group].layer_count;
	if (kv_reads_room(f->local->reads) < layer_count || !take_landing(f, group, block))
		return false;
	uint32_t c = block->copy_next;
	while (block->copies[c].peer == PEER_NONE)
		c++;
	block->copy_next = (uint8_t)(c + 1);
	block->layers_left = layer_count;
	block->reading = true;
	block->failed = false;
	fetch->reading++;
	const struct fetch_copy *copy = &block->copies[c];
	for (uint32_t layer = 0; layer < layer_count; layer++) {
		struct kv_read_request request = {
			.node = copy->node,
			.region = copy->region,
			.offset = copy->offset,
			.generation = copy->generation,
			.landing = block->block,
			.layer = layer,
			.digest = fetch_digests(f, fetch, group, i, c)[layer],
			.deadline_ns = fetch->deadline_ns,
			.owner = {KV_FETCH_MODULE, fetch_index(f, fetch), fetch->serial, group, i, layer},
		};
		enum err e = kv_reads_start(f->local->reads, &request);
		assert(e == ERR_OK);
		(void)e;
	}
	return true;
}

static void issue_group(struct kv_fetches *f, struct fetch *fetch, uint32_t group)
{
	uint32_t first = goal_first(f, fetch, group);
	for (uint32_t *end = &fetch->issue_end[group]; *end > first; (*end)--) {
		const struct fetch_block *block = &fetch->blocks[group][*end - 1];
		bool wanted = !block->have && !block->done && !block->reading && has_copy(block);
		if (wanted && !issue_block(f, fetch, group, *end - 1))
			return;
	}
}

void fetch_issue(struct kv_fetches *f, struct fetch *fetch)
{
	bool more = fetch_waits_for_more(f, fetch);
	if (!more && fetch->goal != fetch->run)
		fetch_plan(f, fetch); /* no more is hoped for */
	for (uint32_t g = 0; g < f->local->group_count; g++)
		issue_group(f, fetch, g);
	if (fetch->front < fetch->goal && (fetch->reading > 0 || more))
		return;
	/* It is all here; or nothing is under way and nothing can be, since there is no room: better to compute than to wait. */
	fetch_end(f, fetch, true);
}

static void count_miss(struct kv_fetch_counts *counts, enum err e)
{
	switch (e) {
	case ERR_CORRUPT:
		counts->miss_digest++;
		break;
	case ERR_STALE:
		counts->miss_generation++;
		break;
	case ERR_DEADLINE:
		counts->miss_deadline++;
		break;
	default:
		counts->miss_gone++;
	}
}

static void block_arrived(struct kv_fetches *f, struct fetch *fetch, uint32_t group, uint32_t i)
{
	struct fetch_block *block = &fetch->blocks[group][i];
	block->done = true;
	fetch->counts.blocks_read++;
	fetch->counts.bytes_read += (uint64_t)f->local->groups[group].layer_count * f->local->groups[group].layer_bytes;
	enum err e = kv_pool_seal(f->local->pool, block->block, &fetch->keys[group][i]);
	(void)e; /* EXISTS: another request brought it meanwhile, and what is found under the key serves this one as well */
	fetch->missing -= i >= goal_first(f, fetch, group) && i < fetch->goal;
	if (!keeps(f, fetch, group, i))
		give_to_pool(f, block);
}

/* The landing of a failed try may still be written to: a new try needs a new one. */
static void block_failed(struct kv_fetches *f, struct fetch *fetch, uint32_t group, uint32_t i)
{
	struct fetch_block *block = &fetch->blocks[group][i];
	kv_pool_unref(f->local->pool, block->block);
	block->block = KV_BLOCK_NONE;
	if (has_copy(block)) {
		if (issue_block(f, fetch, group, i))
			return;
		block->copy_next = FETCH_COPIES; /* no room: this one is computed */
	}
	fetch_plan(f, fetch);
}

void kv_fetch_read_done(struct kv_fetches *f, const struct kv_read_owner *owner, enum err verdict)
{
	struct fetch *fetch = &f->fetches[owner->job];
	assert(fetch->state == FETCH_READING && fetch->serial == owner->serial);
	struct fetch_block *block = &fetch->blocks[owner->group][owner->block_index];
	if (verdict != ERR_OK && !block->failed) {
		block->failed = true;
		count_miss(&fetch->counts, verdict);
	}
	if (--block->layers_left > 0)
		return;
	block->reading = false;
	fetch->reading--;
	if (block->failed)
		block_failed(f, fetch, owner->group, owner->block_index);
	else
		block_arrived(f, fetch, owner->group, owner->block_index);
	fetch_issue(f, fetch);
}

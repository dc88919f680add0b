#include <assert.h>

#include "base/layer_groups.h"
#include "base/planted.h"
#include "decode/job.h"

/* Leading full blocks that this node has already need not be moved; nor those that no token after the context sees. */
static void reuse(struct decode *d, struct decode_job *job, uint32_t g)
{
	struct decode_table *table = &job->tables[g];
	table->first = table->count = kv_keep_first(d->local->groups[g].keep, job->full_count);
	for (; table->count < job->full_count; table->count++) {
		uint32_t block = kv_pool_find(d->local->pool, &table->keys[table->count]);
		if (block == KV_BLOCK_NONE)
			break;
		kv_pool_ref(d->local->pool, block);
		table->blocks[table->count] = block;
	}
	table->have = table->count;
	/* A token counts as moved when KV of any layer of it is; where no group sees all, all do when nothing was here. */
	bool nothing = d->local->group_count == 1 && table->have == table->first;
	uint32_t tokens = nothing ? 0 : table->have * d->local->block_tokens;
	job->account.reused = g == 0 || tokens < job->account.reused ? tokens : job->account.reused;
}

/* Every further choice writes on in its own copy of a partial last block. */
bool decode_take_spares(struct decode *d, struct decode_job *job, uint32_t g)
{
	struct decode_table *table = &job->tables[g];
	uint32_t wanted = job->context % d->local->block_tokens ? job->choice_count - 1 : 0;
	for (; table->spare_count < wanted; table->spare_count++)
		if (kv_pool_take(d->local->pool, g, &table->spares[table->spare_count]) != ERR_OK)
			return false;
	return true;
}

static bool take_blocks(struct decode *d, struct decode_job *job, uint32_t g)
{
	struct decode_table *table = &job->tables[g];
	for (; table->count < job->context_blocks; table->count++)
		if (kv_pool_take(d->local->pool, g, &table->blocks[table->count]) != ERR_OK)
			return false;
	return decode_take_spares(d, job, g);
}

static void expect(struct decode *d, struct decode_job *job, uint32_t g)
{
	struct decode_table *table = &job->tables[g];
	memset(table->pieces, PIECE_NONE, (size_t)job->context_blocks * d->local->groups[g].layer_count);
	memset(table->layers_done, 0, job->context_blocks * sizeof(*table->layers_done));
	job->blocks_missing += job->context_blocks - table->have;
}

static void send_attach(struct decode *d, struct decode_job *job)
{
	Wire__JobId id = job_key_wire(&job->key);
	Wire__Attach attach = WIRE__ATTACH__INIT;
	uint32_t have[LAYER_GROUPS_MAX];
	attach.job = &id;
	attach.compat = (ProtobufCBinaryData){PROTO_KEY_BYTES, d->local->compat.bytes};
	attach.n_have = d->local->group_count;
	attach.have = have;
	for (uint32_t g = 0; g < d->local->group_count; g++)
		have[g] = job->tables[g].have;
	PROTO_ENVELOPE(envelope, ATTACH, attach, &attach);
	sessions_send(d->local->sessions, job->prefill_peer, &envelope);
}

void decode_try_attach(struct decode *d, struct decode_job *job)
{
	uint32_t peer = sessions_find(d->local->sessions, job->partner);
	if (peer == PEER_NONE)
		return;
	for (uint32_t g = 0; !job->looked && g < d->local->group_count; g++)
		reuse(d, job, g);
	job->looked = true;
	for (uint32_t g = 0; g < d->local->group_count; g++)
		if (!take_blocks(d, job, g))
			return;
	job->blocks_missing = job->reading = 0;
	for (uint32_t g = 0; g < d->local->group_count; g++)
		expect(d, job, g);
	job->prefill_peer = peer;
	decode_move(job, DECODE_RECEIVING);
	send_attach(d, job);
}

/* Where a layer of a block is in pieces and digests. */
static size_t piece_of(const struct decode *d, uint32_t g, uint32_t block, uint32_t layer)
{
	return (size_t)block * d->local->groups[g].layer_count + layer;
}

/* Starts the read of an announced piece; it stays announced while there is no room. */
static bool issue(struct decode *d, struct decode_job *job, uint32_t g, uint32_t block, uint32_t layer)
{
	struct decode_table *table = &job->tables[g];
	const struct decode_place *place = &table->places[block];
	struct kv_read_request request = {
		.node = job->partner,
		.region = place->region,
		.offset = place->offset,
		.generation = place->generation,
		.landing = table->blocks[block],
		.layer = layer,
		.digest = table->digests[piece_of(d, g, block, layer)],
		.deadline_ns = d->local->now_ns + d->options.read_deadline_ns,
		.owner = {DECODE_READ_MODULE, decode_job_index(d, job), job->serial, g, block, layer},
	};
	if (kv_reads_start(d->local->reads, &request) != ERR_OK)
		return false;
	if (job->reading++ == 0)
		job->progress_ns = d->local->now_ns;
	table->pieces[piece_of(d, g, block, layer)] = PIECE_READING;
	return true;
}

/* False when there is no more room. */
static bool issue_block(struct decode *d, struct decode_job *job, uint32_t g, uint32_t block)
{
	for (uint32_t layer = 0; layer < d->local->groups[g].layer_count; layer++) {
		if (job->tables[g].pieces[piece_of(d, g, block, layer)] != PIECE_ANNOUNCED)
			continue;
		if (!issue(d, job, g, block, layer))
			return false;
		job->waiting--;
	}
	return true;
}

void decode_issue_waiting(struct decode *d, struct decode_job *job)
{
	for (uint32_t g = 0; g < d->local->group_count; g++)
		for (uint32_t block = job->tables[g].have; job->waiting > 0 && block < job->context_blocks; block++)
			if (!issue_block(d, job, g, block))
				return;
}

/* One announced layer of one block. */
struct announced {
	uint32_t group, block, layer;
	const Wire__Place *place;
	uint64_t digest;
};

static void take_piece(struct decode *d, struct decode_job *job, const struct announced *a)
{
	struct decode_table *table = &job->tables[a->group];
	size_t piece = piece_of(d, a->group, a->block, a->layer);
	if (a->block < table->have || table->pieces[piece] != PIECE_NONE)
		return; /* not wanted, or announced again */
	table->places[a->block] = (struct decode_place){a->place->region, a->place->offset, a->place->generation};
	table->digests[piece] = a->digest;
	table->pieces[piece] = PIECE_ANNOUNCED;
	if (!issue(d, job, a->group, a->block, a->layer))
		job->waiting++;
}

void decode_announce(struct decode *d, uint32_t peer, const Wire__Announce *announce)
{
	Wire__JobId id = *announce->job;
	struct decode_job *job = decode_find(d, &id);
	while (planted(LATE_ANNOUNCEMENT_USED) && !job && ++id.attempt < announce->job->attempt + 8)
		job = decode_find(d, &id);
	if (!job || job->prefill_peer != peer || job->state != DECODE_RECEIVING)
		return;
	uint32_t g = announce->layer_group;
	bool fits = announce->section == WIRE__SECTION__SECTION_KV && g < d->local->group_count &&
		    announce->layer < d->local->groups[g].layer_count &&
		    (uint64_t)announce->block_first + announce->n_places <= job->context_blocks;
	if (!fits) {
		decode_end(d, job, ERR_PROTOCOL);
		return;
	}
	for (uint32_t i = 0; i < announce->n_places; i++)
		take_piece(d, job, &(struct announced){g, announce->block_first + i, announce->layer, announce->places[i],
						       announce->digests[i]});
}

static void begin_when_whole(struct decode *d, struct decode_job *job)
{
	bool whole = job->blocks_missing == 0 || planted(INCOMPLETE_TRANSFER_USED);
	if (!job->prefilled || !whole)
		return;
	job->account.transferred = job->context - job->account.reused;
	job->account.transfer_ns = d->local->now_ns - job->started_ns;
	const char *name = d->local->env->link_name ? d->local->env->link_name(d->local->env->context, job->partner) : NULL;
	job->account.transport = (char *)(name ? name : "");
	decode_send_transfer_end(d, job, ERR_OK);
	env_trace(d->local->env, "join batch, job %llu.%u: %u tokens transferred, %u reused",
		  (unsigned long long)job->key.number, job->key.attempt, job->account.transferred, job->account.reused);
	decode_run(d, job);
}

void decode_prefilled(struct decode *d, uint32_t peer, const Wire__Prefilled *prefilled)
{
	struct decode_job *job = decode_find(d, prefilled->job);
	if (!job || job->prefill_peer != peer || job->state != DECODE_RECEIVING || job->prefilled)
		return;
	if (prefilled->block_count != job->context_blocks || prefilled->n_first != job->choice_count) {
		decode_end(d, job, ERR_PROTOCOL);
		return;
	}
	for (uint32_t i = 0; i < job->choice_count; i++) {
		job->first[i] = (struct sample){.token = prefilled->first[i]->token};
		job->first_finish[i] = (enum finish)prefilled->first[i]->finish;
	}
	job->prefilled = true;
	begin_when_whole(d, job);
}

static void count_miss(Wire__Accounting *account, enum err e)
{
	if (e == ERR_CORRUPT)
		account->miss_digest++;
	else if (e == ERR_STALE)
		account->miss_generation++;
	else if (e == ERR_DEADLINE)
		account->miss_deadline++;
	else
		account->miss_gone++;
}

/* Jobs of one prefill node share the way: what comes for one is a sign for all. */
static void note_progress(struct decode *d, uint64_t partner)
{
	for (uint32_t i = 0; i < d->options.job_max; i++)
		if (d->jobs[i].state == DECODE_RECEIVING && d->jobs[i].partner == partner)
			d->jobs[i].progress_ns = d->local->now_ns;
}

/* A later attempt is more patient: where every way is slow, the last one must get through. */
static uint64_t stall_ns(const struct decode *d, const struct decode_job *job)
{
	uint32_t tries = job->key.attempt > 0 ? job->key.attempt - 1 : 0;
	return d->options.stall_ns << (tries < 4 ? tries : 4);
}

bool decode_stalls(const struct decode *d, const struct decode_job *job)
{
	if (job->state == DECODE_WAITING)
		return sessions_find(d->local->sessions, job->partner) == PEER_NONE &&
		       d->local->now_ns >= job->started_ns + stall_ns(d, job);
	return job->state == DECODE_RECEIVING && job->reading > 0 &&
	       d->local->now_ns >= job->progress_ns + stall_ns(d, job);
}

static void block_whole(struct decode *d, struct decode_job *job, uint32_t g, uint32_t block)
{
	const struct decode_table *table = &job->tables[g];
	job->blocks_missing--;
	job->account.blocks_read++;
	if (block < job->full_count) {
		enum err e = kv_pool_seal(d->local->pool, table->blocks[block], &table->keys[block]);
		(void)e; /* EXISTS: another job brought it meanwhile */
	}
}

void decode_read_done(struct decode *d, const struct kv_read_owner *owner, enum err verdict)
{
	struct decode_job *job = &d->jobs[owner->job];
	assert(job->state == DECODE_RECEIVING && job->serial == owner->serial);
	if (planted(PARTIAL_BLOCK_DIGEST_IGNORED) && owner->block_index >= job->full_count && verdict == ERR_CORRUPT)
		verdict = ERR_OK;
	if (verdict != ERR_OK) {
		count_miss(&job->account, verdict);
		decode_end(d, job, verdict);
		return;
	}
	const struct kv_group *group = &d->local->groups[owner->group];
	struct decode_table *table = &job->tables[owner->group];
	job->reading--;
	note_progress(d, job->partner);
	table->pieces[piece_of(d, owner->group, owner->block_index, owner->layer)] = PIECE_DONE;
	job->account.bytes_read += group->layer_bytes;
	if (++table->layers_done[owner->block_index] == group->layer_count)
		block_whole(d, job, owner->group, owner->block_index);
	if (job->waiting > 0)
		decode_issue_waiting(d, job);
	begin_when_whole(d, job);
}

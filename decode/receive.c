#include <assert.h>

#include "base/planted.h"
#include "decode/job.h"

/* Leading full blocks that this node has already need not be moved. */
static void reuse(struct decode *d, struct decode_job *job)
{
	while (job->block_count < job->full_count) {
		uint32_t block = kv_pool_find(d->local->pool, &job->keys[job->block_count]);
		if (block == KV_BLOCK_NONE)
			break;
		kv_pool_ref(d->local->pool, block);
		job->blocks[job->block_count++] = block;
	}
	job->blocks_have = job->blocks_done = job->block_count;
	job->account.reused = job->block_count * d->local->block_tokens;
}

/* Every further choice writes on in its own copy of a partial last block. */
static uint32_t spares_wanted(const struct decode *d, const struct decode_job *job)
{
	return job->context % d->local->block_tokens ? job->choice_count - 1 : 0;
}

static bool take_blocks(struct decode *d, struct decode_job *job)
{
	while (job->block_count < job->context_blocks) {
		if (kv_pool_take(d->local->pool, &job->blocks[job->block_count]) != ERR_OK)
			return false;
		job->block_count++;
	}
	while (job->spare_count < spares_wanted(d, job)) {
		if (kv_pool_take(d->local->pool, &job->spares[job->spare_count]) != ERR_OK)
			return false;
		job->spare_count++;
	}
	return true;
}

void decode_try_attach(struct decode *d, struct decode_job *job)
{
	uint32_t peer = sessions_find(d->local->sessions, job->partner);
	if (peer == PEER_NONE)
		return;
	if (job->block_count == 0)
		reuse(d, job);
	if (!take_blocks(d, job))
		return;
	size_t layers = d->local->layer_count;
	memset(job->pieces, PIECE_NONE, job->context_blocks * layers);
	memset(job->layers_done, 0, job->context_blocks * sizeof(*job->layers_done));
	job->reading = 0;
	job->prefill_peer = peer;
	decode_move(job, DECODE_RECEIVING);
	Wire__JobId id = job_key_wire(&job->key);
	Wire__Attach attach = WIRE__ATTACH__INIT;
	attach.job = &id;
	attach.compat = (ProtobufCBinaryData){PROTO_KEY_BYTES, d->local->compat.bytes};
	attach.blocks_have = job->blocks_have;
	PROTO_ENVELOPE(envelope, ATTACH, attach, &attach);
	sessions_send(d->local->sessions, peer, &envelope);
}

static uint8_t *piece_at(const struct decode *d, const struct decode_job *job, uint32_t block, uint32_t layer)
{
	return &job->pieces[(size_t)block * d->local->layer_count + layer];
}

/* Starts the read of an announced piece; it stays announced while there is no room. */
static bool issue(struct decode *d, struct decode_job *job, uint32_t block, uint32_t layer)
{
	const struct decode_place *place = &job->places[block];
	struct kv_read_request request = {
		.node = job->partner,
		.region = place->region,
		.offset = place->offset,
		.generation = place->generation,
		.landing = job->blocks[block],
		.layer = layer,
		.digest = job->digests[(size_t)block * d->local->layer_count + layer],
		.deadline_ns = d->local->now_ns + d->options.read_deadline_ns,
		.owner = {DECODE_READ_MODULE, decode_job_index(d, job), job->serial, block, layer},
	};
	if (kv_reads_start(d->local->reads, &request) != ERR_OK)
		return false;
	if (job->reading++ == 0)
		job->progress_ns = d->local->now_ns;
	*piece_at(d, job, block, layer) = PIECE_READING;
	return true;
}

void decode_issue_waiting(struct decode *d, struct decode_job *job)
{
	for (uint32_t block = job->blocks_have; job->waiting > 0 && block < job->context_blocks; block++) {
		for (uint32_t layer = 0; layer < d->local->layer_count; layer++) {
			if (*piece_at(d, job, block, layer) != PIECE_ANNOUNCED)
				continue;
			if (!issue(d, job, block, layer))
				return;
			job->waiting--;
		}
	}
}

static void take_piece(struct decode *d, struct decode_job *job, uint32_t block, uint32_t layer, const Wire__Place *place,
		       uint64_t digest)
{
	uint8_t *piece = piece_at(d, job, block, layer);
	if (*piece != PIECE_NONE)
		return; /* announced again */
	job->places[block] = (struct decode_place){place->region, place->offset, place->generation};
	job->digests[(size_t)block * d->local->layer_count + layer] = digest;
	*piece = PIECE_ANNOUNCED;
	if (!issue(d, job, block, layer))
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
	bool fits = announce->section == WIRE__SECTION__SECTION_KV && announce->layer_group == 0 &&
		    announce->layer < d->local->layer_count &&
		    (uint64_t)announce->block_first + announce->n_places <= job->context_blocks;
	if (!fits) {
		decode_end(d, job, ERR_PROTOCOL);
		return;
	}
	for (uint32_t i = 0; i < announce->n_places; i++)
		if (announce->block_first + i >= job->blocks_have)
			take_piece(d, job, announce->block_first + i, announce->layer, announce->places[i],
				   announce->digests[i]);
}

static void begin_when_whole(struct decode *d, struct decode_job *job)
{
	bool whole = job->blocks_done == job->context_blocks || planted(INCOMPLETE_TRANSFER_USED);
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

static void block_whole(struct decode *d, struct decode_job *job, uint32_t block)
{
	job->blocks_done++;
	job->account.blocks_read++;
	if (block < job->full_count) {
		enum err e = kv_pool_seal(d->local->pool, job->blocks[block], &job->keys[block]);
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
	job->reading--;
	note_progress(d, job->partner);
	*piece_at(d, job, owner->block_index, owner->layer) = PIECE_DONE;
	job->account.bytes_read += d->local->layer_bytes;
	if (++job->layers_done[owner->block_index] == d->local->layer_count)
		block_whole(d, job, owner->block_index);
	if (job->waiting > 0)
		decode_issue_waiting(d, job);
	begin_when_whole(d, job);
}

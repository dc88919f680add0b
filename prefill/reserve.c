/* A job comes in: what it may have is promised, or refused with a reason. */
#include "kvstore/key.h"
#include "prefill/job.h"

static struct prefill_job *free_job(struct prefill *p)
{
	for (uint32_t i = 0; i < p->options.job_max; i++)
		if (p->jobs[i].state == PREFILL_FREE)
			return &p->jobs[i];
	return NULL;
}

static void take_context(struct prefill *p, struct prefill_job *job, const Wire__Reserve *reserve)
{
	uint32_t count = (uint32_t)reserve->n_tokens;
	memcpy(job->tokens, reserve->tokens, count * sizeof(uint32_t));
	job->sequence = (struct sequence){
		.id = job->key.number,
		.sampling = &job->sampling,
		.constraint = job->constraint,
		.tokens = job->tokens,
		.token_count = count,
		.prompt_count = reserve->prompt_count,
		.score_first = reserve->scored,
		.score_end = job->sampling.prompt_logprobs ? reserve->prompt_count - 1 : 0,
		.choice_count = (uint16_t)reserve->n_choices,
		.arrival = p->arrival_next++,
		.handed_over = true,
	};
	for (size_t i = 0; i < reserve->n_choices; i++)
		job->sequence.choices[i] = (uint16_t)reserve->choices[i];
	job->full_count = count / p->local->block_tokens;
	job->block_need = kv_local_blocks(p->local, count);
	for (uint32_t g = 0; g < p->local->group_count; g++) {
		struct id128 root;
		kv_key_root(&p->local->compat, g, reserve->tenant_salt.data, reserve->tenant_salt.len, &root);
		kv_key_chain(&root, job->tokens, job->full_count, p->local->block_tokens, job->keys[g]);
		job->sequence.tables[g].blocks = job->blocks[g];
	}
}

static void take_holders(struct prefill_job *job, const Wire__Reserve *reserve)
{
	job->holder_count = reserve->n_holders < PREFILL_HOLDERS_MAX ? reserve->n_holders : PREFILL_HOLDERS_MAX;
	for (size_t i = 0; i < job->holder_count; i++) {
		job->holders[i] = *reserve->holders[i];
		job->holder_pointers[i] = &job->holders[i];
	}
}

enum err prefill_reserve(struct prefill *p, uint32_t peer, const Wire__Reserve *reserve, struct why *why)
{
	if (prefill_find(p, reserve->job))
		return why_set(why, ERR_EXISTS, "this job and attempt is reserved already");
	if (reserve->n_tokens >= p->options.context_max)
		return why_set(why, ERR_TOO_LARGE, "context of %zu tokens, at most %u with room for an answer",
			       reserve->n_tokens, p->options.context_max - 1);
	/* A local job's blocks are promised by its decode half, which takes them over. */
	bool local = reserve->half == WIRE__HALF__HALF_BOTH;
	uint32_t need[LAYER_GROUPS_MAX] = {0};
	for (uint32_t g = 0; g < p->local->group_count; g++) {
		const struct kv_group *group = &p->local->groups[g];
		uint32_t blocks = kv_local_blocks(p->local, (uint32_t)reserve->n_tokens);
		need[g] = local ? 0 : kv_group_span(p->local, g, p->options.chunk_tokens, blocks);
		if (group->reserved + need[g] > group->budget)
			return why_set(why, ERR_AGAIN, "%u blocks wanted, %u of %u are reserved", need[g], group->reserved,
				       group->budget);
	}
	struct prefill_job *job = free_job(p);
	if (!job)
		return why_set(why, ERR_AGAIN, "all %u places of the queue are taken", p->options.job_max);
	struct sampling sampling;
	struct constraint *constraint;
	enum err e = codec_sampling_get(reserve->sampling, why, &sampling);
	if (e == ERR_OK)
		e = constraint_take(&p->options.constraints, reserve->structure, strlen(reserve->structure), why, &constraint);
	if (e != ERR_OK)
		return e;
	sampling.structured = constraint != NULL;
	struct prefill_job kept = {.serial = job->serial + 1, .tokens = job->tokens};
	memcpy(kept.blocks, job->blocks, sizeof(kept.blocks));
	memcpy(kept.keys, job->keys, sizeof(kept.keys));
	*job = kept;
	job->key = job_key_of(reserve->job);
	job->coordinator = peer;
	job->partner = reserve->partner;
	kv_tenant_take(&job->tenant, reserve);
	job->local = local;
	memcpy(job->promised, need, sizeof(need));
	job->decode_peer = PEER_NONE;
	job->sampling = sampling;
	job->constraint = constraint;
	job->reserved_ns = p->local->now_ns;
	take_context(p, job, reserve);
	take_holders(job, reserve);
	for (uint32_t g = 0; g < p->local->group_count; g++)
		p->local->groups[g].reserved += need[g];
	p->count++;
	prefill_move(job, PREFILL_RESERVED);
	return ERR_OK;
}

#include "base/planted.h"
#include "prefill/job.h"

void prefill_announce(struct prefill *p, struct prefill_job *job, uint32_t layer, uint32_t first, uint32_t count)
{
	if (job->decode_peer == PEER_NONE)
		return;
	const struct kv_layer *at = &p->local->layers[layer];
	uint32_t end = first + count, seen = kv_keep_first(p->local->groups[at->group].keep, job->full_count);
	first = first > job->blocks_have[at->group] ? first : job->blocks_have[at->group];
	first = first > seen ? first : seen; /* what lies before, no token after the context sees */
	if (first >= end)
		return;
	const uint32_t *blocks = job->blocks[at->group];
	for (uint32_t i = first; i < end; i++) {
		kv_local_place(p->local, blocks[i], &p->places[i - first]);
		p->place_pointers[i - first] = &p->places[i - first];
		p->digests[i - first] = kv_local_digests(p->local, blocks[i])[at->place];
	}
	Wire__JobId id = job_key_wire(&job->key);
	Wire__Announce announce = WIRE__ANNOUNCE__INIT;
	announce.job = &id;
	announce.layer_group = at->group;
	announce.layer = at->place;
	announce.block_first = first;
	announce.n_places = announce.n_digests = end - first;
	announce.places = p->place_pointers;
	announce.digests = p->digests;
	PROTO_ENVELOPE(envelope, ANNOUNCE, announce, &announce);
	sessions_send(p->local->sessions, job->decode_peer, &envelope);
}

void prefill_announce_all(struct prefill *p, struct prefill_job *job)
{
	for (uint32_t layer = 0; layer < p->local->layer_count; layer++) {
		prefill_announce(p, job, layer, 0, job->blocks_complete);
		if (layer < job->chunk_layers)
			prefill_announce(p, job, layer, job->chunk_first, job->chunk_count);
	}
}

static void build_token(struct prefill *p, const struct prefill_job *job, uint32_t i)
{
	const struct sample *sample = &job->first[i];
	Wire__Token *token = &p->token_values[i];
	wire__token__init(token);
	token->job = &p->token_job;
	token->choice = job->sequence.choices[i];
	token->position = job->sequence.token_count;
	token->token = sample->token;
	token->logprob = sample->logprob;
	for (uint32_t k = 0; k < sample->top_count; k++) {
		p->top_tokens[i][k] = sample->top[k].token;
		p->top_logprobs[i][k] = sample->top[k].logprob;
	}
	token->n_top_tokens = token->n_top_logprobs = sample->top_count;
	token->top_tokens = p->top_tokens[i];
	token->top_logprobs = p->top_logprobs[i];
	token->finish = (Wire__Finish)job->first_finish[i];
	token->stop_token = job->first_stop[i];
	p->token_pointers[i] = token;
}

void prefill_build_first(struct prefill *p, struct prefill_job *job)
{
	p->token_job = job_key_wire(&job->key);
	for (uint32_t i = 0; i < job->sequence.choice_count; i++)
		build_token(p, job, i);
}

void prefill_send_first(struct prefill *p, struct prefill_job *job)
{
	if (job->decode_peer == PEER_NONE)
		return;
	prefill_build_first(p, job);
	Wire__Prefilled prefilled = WIRE__PREFILLED__INIT;
	prefilled.job = &p->token_job;
	prefilled.block_count = job->block_need;
	prefilled.n_first = job->sequence.choice_count;
	prefilled.first = p->token_pointers;
	PROTO_ENVELOPE(envelope, PREFILLED, prefilled, &prefilled);
	sessions_send(p->local->sessions, job->decode_peer, &envelope);
}

void prefill_send_transfer_end(struct prefill *p, struct prefill_job *job, enum err e)
{
	if (job->decode_peer == PEER_NONE || planted(PREFILL_ABORT_NOT_TOLD))
		return;
	Wire__JobId id = job_key_wire(&job->key);
	Wire__TransferEnd transfer_end = WIRE__TRANSFER_END__INIT;
	transfer_end.job = &id;
	transfer_end.error = e;
	PROTO_ENVELOPE(envelope, TRANSFER_END, transfer_end, &transfer_end);
	sessions_send(p->local->sessions, job->decode_peer, &envelope);
	job->decode_peer = PEER_NONE;
}

/* The blocks of a job: which of its context are here already, which it holds, and when they become everybody's. */
#include "base/planted.h"
#include "prefill/job.h"

/* Leading blocks that need not be computed.  The last token always is, its logits are wanted; and so is every row that
 * is scored. */
uint32_t prefill_blocks_reusable(const struct prefill *p, const struct prefill_job *job)
{
	const struct sequence *s = &job->sequence;
	uint32_t tokens = s->score_first < s->score_end ? s->score_first : s->token_count - !planted(WHOLE_CONTEXT_REUSED);
	return tokens / p->local->block_tokens;
}

/* Relative to `from`, what is needed of the blocks behind it is what kv_prefix() demands: of those before, a job has what any
 * boundary behind them wants. */
uint32_t prefill_blocks_usable(struct prefill *p, const struct prefill_job *job, uint32_t from)
{
	uint32_t limit = prefill_blocks_reusable(p, job);
	struct kv_presence groups[LAYER_GROUPS_MAX];
	for (uint32_t g = 0; g < p->local->group_count; g++) {
		uint32_t keep = p->local->groups[g].keep;
		for (uint32_t n = from; n < limit; n++) {
			p->present[g][n - from] = kv_pool_find(p->local->pool, &job->keys[g][n]) != KV_BLOCK_NONE;
			if (!p->present[g][n - from] && keep == KV_KEEP_ALL)
				limit = n; /* nobody can use what follows */
		}
		groups[g] = (struct kv_presence){p->present[g], planted(WINDOW_NOT_LOOKED_UP) && keep != KV_KEEP_ALL ? 0 : keep};
	}
	return limit > from ? from + kv_prefix(groups, p->local->group_count, limit - from) : from;
}

/* Gives back what lies before `first`. */
static void release_before(struct prefill *p, struct sequence_table *table, uint32_t first)
{
	for (; table->first < first; table->first++)
		if (table->first < table->count) {
			kv_pool_unref(p->local->pool, table->blocks[table->first]);
			table->blocks[table->first] = KV_BLOCK_NONE;
		}
}

static void refer_group(struct prefill *p, struct prefill_job *job, uint32_t g, uint32_t from, uint32_t n)
{
	struct sequence_table *table = &job->sequence.tables[g];
	uint32_t kept = planted(SKIPPED_BLOCKS_KEPT) ? n : from;
	for (; table->count > kept && table->count > table->first; table->count--)
		kv_pool_unref(p->local->pool, table->blocks[table->count - 1]);
	release_before(p, table, kv_keep_first(p->local->groups[g].keep, n));
	if (table->count < table->first)
		table->count = table->first;
	for (; table->count < n; table->count++) {
		table->blocks[table->count] = kv_pool_find(p->local->pool, &job->keys[g][table->count]);
		kv_pool_ref(p->local->pool, table->blocks[table->count]);
	}
}

void prefill_blocks_refer(struct prefill *p, struct prefill_job *job, uint32_t from, uint32_t n)
{
	for (uint32_t g = 0; g < p->local->group_count; g++)
		refer_group(p, job, g, from, n);
}

/* While it fetches, a job refers to what it has of global groups; what a windowed one needs depends on the end. */
uint32_t prefill_blocks_refer_early(struct prefill *p, struct prefill_job *job)
{
	uint32_t n = prefill_blocks_usable(p, job, 0);
	for (uint32_t g = 0; g < p->local->group_count; g++)
		if (p->local->groups[g].keep == KV_KEEP_ALL)
			refer_group(p, job, g, 0, n);
	job->reused = n * p->local->block_tokens;
	return n;
}

/* Not more than the next chunk writes to: what lies behind may yet be brought, or computed by another job. */
static bool take_blocks(struct prefill *p, struct prefill_job *job, uint32_t g)
{
	struct sequence_table *table = &job->sequence.tables[g];
	uint32_t end = kv_local_blocks(p->local, job->sequence.computed + p->options.chunk_tokens);
	for (end = end < job->block_need ? end : job->block_need; table->count < end; table->count++)
		if (kv_pool_take(p->local->pool, g, &table->blocks[table->count]) != ERR_OK)
			return false;
	return true;
}

bool prefill_blocks_take(struct prefill *p, struct prefill_job *job)
{
	for (uint32_t g = 0; g < p->local->group_count; g++)
		if (!take_blocks(p, job, g))
			return false;
	return true;
}

void prefill_blocks_free(struct prefill *p, struct prefill_job *job)
{
	/* Tails first, so that the beginning of a chain is evicted last. */
	for (uint32_t g = 0; g < p->local->group_count; g++) {
		struct sequence_table *table = &job->sequence.tables[g];
		for (uint32_t i = table->count; i > table->first; i--)
			kv_pool_unref(p->local->pool, table->blocks[i - 1]);
		table->first = table->count = 0;
	}
}

/* The first block that is worth offering to the store: of a windowed group what a token after the longest beginning sees
 * that another prompt, or this one again, can use; what lies before is of use to nobody. */
static uint32_t offered_first(const struct prefill *p, const struct prefill_job *job, uint32_t g)
{
	return kv_keep_first(p->local->groups[g].keep, (job->sequence.token_count - 1) / p->local->block_tokens);
}

/* Blocks that the chunk filled become findable, and are offered to the store. */
static void publish_group(struct prefill *p, struct prefill_job *job, uint32_t g)
{
	const struct id128 *keys = job->keys[g];
	uint32_t filled = job->sequence.computed / p->local->block_tokens;
	for (uint32_t i = job->blocks_complete; i < job->full_count && i < filled; i++)
		if (kv_pool_seal(p->local->pool, job->blocks[g][i], &keys[i]) == ERR_OK && i >= offered_first(p, job, g))
			kv_offer_block(p->options.offers, job->blocks[g][i], &keys[i], i > 0 ? &keys[i - 1] : NULL, &job->tenant);
}

/* What no token still to be computed sees is given back: what was sealed stays cached as long as there is room. */
static void release(struct prefill *p, struct prefill_job *job, uint32_t g)
{
	uint32_t keep = p->local->groups[g].keep - planted(WINDOW_RELEASED_EARLY);
	release_before(p, &job->sequence.tables[g], kv_keep_first(keep, job->sequence.computed / p->local->block_tokens));
}

void prefill_blocks_publish(struct prefill *p, struct prefill_job *job)
{
	for (uint32_t g = 0; g < p->local->group_count; g++) {
		publish_group(p, job, g);
		release(p, job, g);
	}
	job->blocks_complete = kv_local_blocks(p->local, job->sequence.computed);
	job->chunk_count = job->chunk_layers = 0;
}

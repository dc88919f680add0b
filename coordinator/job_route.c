/* job_route - candidates for a job, from registry and index, and the choice among them. */
#include <assert.h>
#include <string.h>

#include "base/layer_groups.h"
#include "coordinator/core_impl.h"
#include "kvstore/key.h"
#include "kvstore/prefix.h"

struct pool_of_nodes {
	struct id128 compat;
	uint32_t block_tokens;
	uint32_t group_count;
	uint32_t keep[LAYER_GROUPS_MAX]; /* kvstore/prefix.h */
};

static void chain_keys(struct coord *coord, const struct request *request, const struct pool_of_nodes *pool, uint32_t g,
		       uint32_t known, uint32_t blocks)
{
	struct id128 *keys = coord->scratch.keys[g], parent;
	if (known)
		parent = keys[known - 1];
	else
		kv_key_root(&pool->compat, g, request->salt, request->salt_length, &parent);
	if (blocks > known)
		kv_key_chain(&parent, coord->scratch.tokens + (size_t)known * pool->block_tokens, blocks - known,
			     pool->block_tokens, keys + known);
}

/* Keys of the prompt's full blocks are kept with the request: computed once for a compat.  Returns how many there are of
 * each group in scratch.keys, and of how many groups. */
static uint32_t keep_prompt_keys(struct coord *coord, struct request *request, const struct pool_of_nodes *pool,
				 uint32_t *ret_groups)
{
	/* What was promised for keys at the request's acceptance. */
	uint32_t blocks = request->prompt_count / pool->block_tokens, blocks_max = request->prompt_count / BLOCK_TOKENS_MIN;
	uint32_t groups = blocks * pool->group_count <= blocks_max ? pool->group_count : 1;
	blocks = blocks < blocks_max ? blocks : blocks_max;
	*ret_groups = groups;
	if (request->keys.count && id128_equal(&request->keys_compat, &pool->compat)) {
		tokens_copy(&coord->pool, &request->keys, (uint32_t *)coord->scratch.kept);
		for (uint32_t g = 0; g < groups; g++)
			memcpy(coord->scratch.keys[g], coord->scratch.kept + (size_t)g * blocks, blocks * sizeof(struct id128));
		return blocks;
	}
	tokens_free(&coord->pool, &request->keys);
	request->keys_compat = pool->compat;
	for (uint32_t g = 0; g < groups; g++) {
		chain_keys(coord, request, pool, g, 0, blocks);
		tokens_append(&coord->pool, &request->keys, (const uint32_t *)coord->scratch.keys[g], blocks * 4);
	}
	return blocks;
}

/* Keys of the context in scratch.tokens, into scratch.keys; returns their count. */
static uint32_t context_keys(struct coord *coord, struct request *request, uint32_t context,
			     const struct pool_of_nodes *pool)
{
	uint32_t kept, known = keep_prompt_keys(coord, request, pool, &kept), blocks = context / pool->block_tokens;
	if (blocks > coord->keys_max)
		blocks = coord->keys_max;
	for (uint32_t g = 0; g < pool->group_count; g++)
		chain_keys(coord, request, pool, g, g < kept ? known : 0, blocks);
	return blocks;
}

/* scratch.tokens and room for its last page; returns the count. */
static uint32_t context_tokens(struct coord *coord, const struct job *job)
{
	const struct request *request = job->request;
	uint32_t *tokens = coord->scratch.tokens;
	tokens_copy(&coord->pool, &request->prompt, tokens);
	const struct choice *choice = &request->choices[__builtin_ctz(job->choices)];
	tokens_copy(&coord->pool, &choice->tokens, tokens + request->prompt.count);
	return request->prompt.count + choice->tokens.count;
}

static struct pool_of_nodes pool_of(const struct registry_node *node)
{
	uint32_t groups = node->announced.group_count;
	struct pool_of_nodes pool = {.compat = node->compat, .block_tokens = node->announced.block_tokens,
				     .group_count = groups > 0 ? groups : 1};
	for (uint32_t g = 0; g < pool.group_count; g++)
		pool.keep[g] = kv_keep(node->announced.windows[g], pool.block_tokens);
	return pool;
}

/* The distinct compats under the model's name. */
static uint32_t find_pools(const struct coord *coord, const struct request *request,
			   struct pool_of_nodes pools[COMPATS_MAX])
{
	struct wanted wanted = request_wants(request);
	uint32_t count = 0;
	for (uint32_t i = 0; i < coord->registry.count_max; i++) {
		const struct registry_node *node = &coord->registry.nodes[i];
		if (!node_takes(node, &wanted))
			continue;
		uint32_t p = 0;
		while (p < count && !id128_equal(&pools[p].compat, &node->compat))
			p++;
		if (p == count && count < COMPATS_MAX)
			pools[count++] = pool_of(node);
	}
	return count;
}

static void fill_depths(struct coord *coord, uint32_t key_count, const struct pool_of_nodes *pool)
{
	struct index_chain chains[LAYER_GROUPS_MAX];
	for (uint32_t g = 0; g < pool->group_count; g++)
		chains[g] = (struct index_chain){coord->scratch.keys[g], pool->keep[g]};
	memset(coord->scratch.depths, 0, coord->registry.count_max * sizeof(uint32_t));
	uint32_t count = index_match_groups(coord->index, chains, pool->group_count, key_count, coord->scratch.matches);
	for (uint32_t i = 0; i < count; i++)
		coord->scratch.depths[coord->scratch.matches[i].node] = coord->scratch.matches[i].depth;
}

static uint32_t avoid_of(const struct coord *coord, const struct job *job, uint32_t slot, uint64_t now_ns)
{
	const struct registry_node *node = &coord->registry.nodes[slot];
	return job_avoids(coord, job, slot) + (now_ns < node->full_until_ns ? 1 : 0) +
	       (now_ns < node->suspect_until_ns ? 2 : 0);
}

static struct route_candidate candidate_of(const struct coord *coord, const struct job *job, uint32_t slot,
					   uint32_t block_tokens, uint64_t now_ns)
{
	const struct registry_node *node = &coord->registry.nodes[slot];
	struct work work = node_work(node);
	struct route_candidate candidate = {
		.node = slot,
		.prefill = node_prefills(node),
		.decode = node_decodes(node),
		.avoid = avoid_of(coord, job, slot, now_ns),
		.queue_tokens = work.tokens,
		.cached_tokens = coord->scratch.depths[slot] * block_tokens,
		.sequences = work.sequences,
	};
	for (uint32_t g = 0; g < node->group_count; g++) {
		/* As the node does when it is asked (decode/decode.c): what look-ups and write-behind pin has a share of its own. */
		const struct coord_blocks *blocks = &node->groups[g];
		candidate.blocks_total[g] = blocks->reservable;
		candidate.blocks_free[g] = blocks->reservable > blocks->reserved ? blocks->reservable - blocks->reserved : 0;
	}
	return candidate;
}

/* Willing nodes of the pool; one that has all the jobs it takes is none now, but it lives. */
static uint32_t gather(struct coord *coord, const struct job *job, const struct pool_of_nodes *pool, uint64_t now_ns,
		       bool *ret_refusals)
{
	struct wanted wanted = request_wants(job->request);
	wanted.compat = &pool->compat;
	uint32_t count = 0;
	*ret_refusals = false;
	for (uint32_t i = 0; i < coord->registry.count_max; i++) {
		const struct registry_node *node = &coord->registry.nodes[i];
		if (!node_takes(node, &wanted) || job_avoids(coord, job, i) >= AVOID_ALWAYS)
			continue;
		*ret_refusals |= node->links_refused_count > 0;
		/* jobs_max is per half. */
		uint32_t halves = node->role == WIRE__ROLE__ROLE_BOTH ? 2 : 1;
		if (node->jobs_max && node_work(node).jobs >= node->jobs_max * halves)
			continue;
		coord->scratch.candidates[count++] = candidate_of(coord, job, i, pool->block_tokens, now_ns);
	}
	return count;
}

static void blocks_needed(const struct job *job, uint32_t context, const struct pool_of_nodes *pool,
			  uint32_t ret_needed[LAYER_GROUPS_MAX])
{
	const struct sampling *sampling = &job->request->sampling;
	uint32_t generated = context - job->request->prompt_count, block_tokens = pool->block_tokens;
	uint32_t rest = sampling->max_tokens > generated ? sampling->max_tokens - generated : 0;
	uint32_t choices = (uint32_t)__builtin_popcount(job->choices);
	uint32_t all = (context + block_tokens - 1) / block_tokens + choices * ((rest + block_tokens - 1) / block_tokens);
	for (uint32_t g = 0; g < pool->group_count; g++) {
		uint64_t seen = ((uint64_t)pool->keep[g] + 1) * choices;
		ret_needed[g] = seen < all ? (uint32_t)seen : all;
	}
}

static bool better(const struct route_record *a, const struct route_record *b)
{
	return b->prefill == ROUTE_NONE || a->avoid < b->avoid || (a->avoid == b->avoid && a->cost < b->cost);
}

/* The best pair over all pools of the model; scratch.depths and .tokens are then the chosen pool's. */
static bool choose(struct coord *coord, struct job *job, uint64_t now_ns, struct route_record *ret_best,
		   bool *ret_lives)
{
	struct request *request = job->request;
	struct pool_of_nodes pools[COMPATS_MAX];
	uint32_t pool_count = find_pools(coord, request, pools), best_pool = 0;
	uint32_t context = context_tokens(coord, job);
	struct route_apart apart[APART_MAX];
	uint32_t apart_count = pairs_apart(coord, now_ns, apart);
	struct wanted wanted = request_wants(request);
	wanted.job = job;
	*ret_best = (struct route_record){.prefill = ROUTE_NONE, .decode = ROUTE_NONE};
	*ret_lives = false;
	for (uint32_t p = 0; p < pool_count; p++) {
		bool refusals;
		fill_depths(coord, context_keys(coord, request, context, &pools[p]), &pools[p]);
		uint32_t count = gather(coord, job, &pools[p], now_ns, &refusals);
		wanted.compat = &pools[p].compat;
		*ret_lives |= pairs_live(coord, &wanted, NULL);
		struct route_query query = {.context = context, .turn = coord->turn, .apart = apart, .apart_count = apart_count,
					    .refused = refusals ? pair_is_refused : NULL, .refused_context = coord};
		blocks_needed(job, context, &pools[p], query.blocks_needed);
		struct route_record record;
		if (!route_choose(&coord->options.weights, &query, coord->scratch.candidates, count, &record) ||
		    !better(&record, ret_best))
			continue;
		*ret_best = record;
		best_pool = p;
	}
	if (pool_count > 1 && ret_best->prefill != ROUTE_NONE)
		fill_depths(coord, context_keys(coord, request, context, &pools[best_pool]), &pools[best_pool]);
	return ret_best->prefill != ROUTE_NONE;
}

enum try_result job_try(struct coord *coord, struct job *job, uint64_t now_ns)
{
	struct route_record record;
	bool lives;
	bool found = choose(coord, job, now_ns, &record, &lives);
	job->nobody_ns = lives ? 0 : job->nobody_ns ? job->nobody_ns : now_ns;
	if (!found || (record.avoid && now_ns < job->retry_ns))
		return lives ? TRY_LATER : TRY_NOBODY;
	coord->turn++;
	coord->counters.route_decisions++;
	coord->counters.route_both += record.prefill == record.decode;
	job->request->route = record;
	if (coord->options.hooks.on_route)
		coord->options.hooks.on_route(coord->options.hooks.context, job->request->number, job->request->user,
					      &record);
	job_ask(coord, job, &record, now_ns);
	return TRY_ASKED;
}

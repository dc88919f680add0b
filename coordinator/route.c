#include "coordinator/route.h"

#include <stddef.h>
#include <string.h>

#include "base/layer_groups.h"

enum { AVOID_APART = 2 }; /* like a suspect node */

struct route_weights route_weights_default(void)
{
	return (struct route_weights){
		.queue = 1,
		.uncached = 1,
		/* A sequence more slows every step of that node a little: worth about two blocks of prefill. */
		.sequence = 32,
		.fill = 2048,
		/* Moving a token's KV costs a fraction of computing it, and overlaps with that. */
		.transfer = 0.05f,
	};
}

/* Order: willingly first, then cheaper, then less loaded, then in turn. */
struct rank {
	struct route_line line;
	uint32_t order;
};

static bool before(const struct rank *a, const struct rank *b)
{
	if (a->line.avoid != b->line.avoid)
		return a->line.avoid < b->line.avoid;
	if (a->line.cost != b->line.cost)
		return a->line.cost < b->line.cost;
	if (a->line.load != b->line.load)
		return a->line.load < b->line.load;
	return a->order < b->order;
}

/* The best few of one half, in order. */
struct best {
	struct rank rank[ROUTE_LISTED];
	uint32_t listed;
	uint32_t count;
};

static void insert(struct best *best, const struct rank *rank)
{
	best->count++;
	uint32_t i = best->listed;
	if (i == ROUTE_LISTED) {
		if (!before(rank, &best->rank[--i]))
			return;
	} else {
		best->listed++;
	}
	for (; i > 0 && before(rank, &best->rank[i - 1]); i--)
		best->rank[i] = best->rank[i - 1];
	best->rank[i] = *rank;
}

static uint32_t load_of(uint64_t tokens)
{
	return tokens < UINT32_MAX ? (uint32_t)tokens : UINT32_MAX;
}

static float prefill_cost(const struct route_weights *w, const struct route_query *q,
			  const struct route_candidate *c)
{
	/* The last token is always computed: it gives the first answer. */
	uint32_t uncached = c->cached_tokens < q->context ? q->context - c->cached_tokens : 1;
	return w->queue * (float)c->queue_tokens + w->uncached * (float)uncached;
}

static float fill_of(const struct route_query *q, const struct route_candidate *c)
{
	float fullest = 0;
	for (uint32_t g = 0; g < LAYER_GROUPS_MAX; g++) {
		if (!c->blocks_total[g])
			continue;
		float after = (float)c->blocks_total[g] - (float)c->blocks_free[g] + (float)q->blocks_needed[g];
		float fill = after / (float)c->blocks_total[g];
		fullest = fill > fullest ? fill : fullest;
	}
	return fullest;
}

static float decode_cost(const struct route_weights *w, const struct route_query *q,
			 const struct route_candidate *c, bool moved)
{
	uint32_t missing = c->cached_tokens < q->context ? q->context - c->cached_tokens : 0;
	return w->sequence * (float)c->sequences + w->fill * fill_of(q, c) + (moved ? w->transfer * (float)missing : 0);
}

static uint32_t decode_avoid(const struct route_query *q, const struct route_candidate *c)
{
	bool full = false;
	for (uint32_t g = 0; g < LAYER_GROUPS_MAX; g++)
		full |= c->blocks_total[g] && c->blocks_free[g] < q->blocks_needed[g];
	return c->avoid + (full ? 1 : 0);
}

static struct rank rank_of(const struct route_candidate *c, uint32_t avoid, uint32_t load, float cost, uint32_t order)
{
	return (struct rank){{c->node, avoid, load, c->cached_tokens, cost}, order};
}

static void consider(const struct route_weights *w, const struct route_query *q, const struct route_candidate *c,
		     uint32_t order, struct best best[3])
{
	float prefill = prefill_cost(w, q, c);
	if (c->prefill) {
		struct rank rank = rank_of(c, c->avoid, load_of(c->queue_tokens), prefill, order);
		insert(&best[0], &rank);
	}
	if (c->decode) {
		float cost = decode_cost(w, q, c, true);
		struct rank rank = rank_of(c, decode_avoid(q, c), c->sequences, cost, order);
		insert(&best[1], &rank);
	}
	if (c->prefill && c->decode) {
		float cost = prefill + decode_cost(w, q, c, false);
		struct rank rank = rank_of(c, decode_avoid(q, c), c->sequences, cost, order);
		insert(&best[2], &rank);
	}
}

struct pair {
	uint32_t prefill, decode;
	uint32_t avoid, cached;
	float cost;
};

static bool pair_before(const struct pair *a, const struct pair *b)
{
	return b->prefill == ROUTE_NONE || a->avoid < b->avoid || (a->avoid == b->avoid && a->cost < b->cost);
}

static bool are_apart(const struct route_query *q, uint32_t prefill, uint32_t decode)
{
	for (uint32_t i = 0; i < q->apart_count; i++)
		if (q->apart[i].prefill == prefill && q->apart[i].decode == decode)
			return true;
	return false;
}

static void offer_pair(const struct route_query *q, struct pair *pair, const struct route_line *p,
		       const struct route_line *d)
{
	uint32_t avoid = p->avoid > d->avoid ? p->avoid : d->avoid;
	avoid += are_apart(q, p->node, d->node) ? AVOID_APART : 0;
	struct pair found = {p->node, d->node, avoid, p->cached, p == d ? p->cost : p->cost + d->cost};
	if (pair_before(&found, pair))
		*pair = found;
}

/* The best of each half; where that is one node, or the two cannot reach each other, one of them gives way to its next,
 * or a node does both. */
static struct pair best_pair(const struct route_query *q, const struct best best[3])
{
	struct pair pair = {.prefill = ROUTE_NONE, .decode = ROUTE_NONE};
	uint32_t tries = q->apart_count ? ROUTE_LISTED : 2;
	for (uint32_t p = 0; p < best[0].listed && p < tries; p++)
		for (uint32_t d = 0; d < best[1].listed && d < tries; d++)
			if (best[0].rank[p].line.node != best[1].rank[d].line.node)
				offer_pair(q, &pair, &best[0].rank[p].line, &best[1].rank[d].line);
	if (best[2].listed)
		offer_pair(q, &pair, &best[2].rank[0].line, &best[2].rank[0].line);
	return pair;
}

bool route_choose(const struct route_weights *weights, const struct route_query *query,
		  const struct route_candidate *candidates, uint32_t count, struct route_record *ret_record)
{
	struct best best[3];
	for (int i = 0; i < 3; i++)
		best[i].listed = best[i].count = 0;
	for (uint32_t i = 0; i < count; i++)
		consider(weights, query, &candidates[i], (i + count - query->turn % count) % count, best);
	struct pair pair = best_pair(query, best);
	*ret_record = (struct route_record){
		.prefill = pair.prefill,
		.decode = pair.decode,
		.cost = pair.cost,
		.avoid = pair.avoid,
		.cached = pair.cached,
		.context = query->context,
		.prefill_count = best[0].count,
		.decode_count = best[1].count,
		.both_count = best[2].count,
		.prefill_listed = best[0].listed,
		.decode_listed = best[1].listed,
	};
	for (uint32_t i = 0; i < best[0].listed; i++)
		ret_record->prefill_line[i] = best[0].rank[i].line;
	for (uint32_t i = 0; i < best[1].listed; i++)
		ret_record->decode_line[i] = best[1].rank[i].line;
	return pair.prefill != ROUTE_NONE;
}

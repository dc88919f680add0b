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

static uint32_t turn_of(const struct route_query *q, uint32_t index, uint32_t count)
{
	return (index + count - q->turn % count) % count;
}

static struct rank prefill_rank(const struct route_weights *w, const struct route_query *q, const struct route_candidate *c,
				uint32_t order)
{
	return rank_of(c, c->avoid, load_of(c->queue_tokens), prefill_cost(w, q, c), order);
}

static struct rank decode_rank(const struct route_weights *w, const struct route_query *q, const struct route_candidate *c,
			       uint32_t order)
{
	return rank_of(c, decode_avoid(q, c), c->sequences, decode_cost(w, q, c, true), order);
}

static void consider(const struct route_weights *w, const struct route_query *q, const struct route_candidate *c,
		     uint32_t order, struct best best[3])
{
	if (c->prefill) {
		struct rank rank = prefill_rank(w, q, c, order);
		insert(&best[0], &rank);
	}
	if (c->decode) {
		struct rank rank = decode_rank(w, q, c, order);
		insert(&best[1], &rank);
	}
	if (c->prefill && c->decode) {
		float cost = prefill_cost(w, q, c) + decode_cost(w, q, c, false);
		struct rank rank = rank_of(c, decode_avoid(q, c), c->sequences, cost, order);
		insert(&best[2], &rank);
	}
}

struct pair {
	struct rank prefill, decode;
	uint32_t avoid;
	float cost;
	bool found;
};

static bool pair_before(const struct pair *a, const struct pair *b)
{
	if (!b->found || a->avoid != b->avoid)
		return !b->found || a->avoid < b->avoid;
	if (a->cost != b->cost)
		return a->cost < b->cost;
	if (a->prefill.line.node != b->prefill.line.node)
		return before(&a->prefill, &b->prefill);
	return before(&a->decode, &b->decode);
}

static bool are_apart(const struct route_query *q, uint32_t prefill, uint32_t decode)
{
	for (uint32_t i = 0; i < q->apart_count; i++)
		if (q->apart[i].prefill == prefill && q->apart[i].decode == decode)
			return true;
	return false;
}

static void offer_pair(const struct route_query *q, struct pair *pair, const struct rank *p, const struct rank *d)
{
	if (p->line.node == d->line.node || (q->refused && q->refused(q->refused_context, p->line.node, d->line.node)))
		return;
	uint32_t avoid = p->line.avoid > d->line.avoid ? p->line.avoid : d->line.avoid;
	avoid += are_apart(q, p->line.node, d->line.node) ? AVOID_APART : 0;
	struct pair found = {*p, *d, avoid, p->line.cost + d->line.cost, true};
	if (pair_before(&found, pair))
		*pair = found;
}

/* The best of each half; where that is one node, one of the halves gives way to its next. */
static struct pair pair_of_best(const struct route_query *q, const struct best best[3])
{
	struct pair pair = {.found = false};
	for (uint32_t p = 0; p < best[0].listed && p < 2; p++)
		for (uint32_t d = 0; d < best[1].listed && d < 2; d++)
			offer_pair(q, &pair, &best[0].rank[p], &best[1].rank[d]);
	return pair;
}

/* Where some cannot reach each other, the best of each half say little about the best pair. */
static struct pair pair_of_all(const struct route_weights *w, const struct route_query *q, const struct route_candidate *c,
			       uint32_t count)
{
	struct pair pair = {.found = false};
	for (uint32_t p = 0; p < count; p++) {
		if (!c[p].prefill)
			continue;
		struct rank prefill = prefill_rank(w, q, &c[p], turn_of(q, p, count));
		for (uint32_t d = 0; d < count; d++) {
			if (!c[d].decode)
				continue;
			struct rank decode = decode_rank(w, q, &c[d], turn_of(q, d, count));
			offer_pair(q, &pair, &prefill, &decode);
		}
	}
	return pair;
}

/* One node does both where that is better. */
static struct pair best_pair(const struct route_weights *w, const struct route_query *q, const struct route_candidate *candidates,
			     uint32_t count, const struct best best[3])
{
	struct pair pair = q->refused || q->apart_count ? pair_of_all(w, q, candidates, count) : pair_of_best(q, best);
	const struct rank *one = &best[2].rank[0];
	if (best[2].listed && (!pair.found || one->line.avoid < pair.avoid ||
			       (one->line.avoid == pair.avoid && one->line.cost < pair.cost)))
		pair = (struct pair){*one, *one, one->line.avoid, one->line.cost, true};
	return pair;
}

bool route_choose(const struct route_weights *weights, const struct route_query *query,
		  const struct route_candidate *candidates, uint32_t count, struct route_record *ret_record)
{
	struct best best[3];
	for (int i = 0; i < 3; i++)
		best[i].listed = best[i].count = 0;
	for (uint32_t i = 0; i < count; i++)
		consider(weights, query, &candidates[i], turn_of(query, i, count), best);
	struct pair pair = best_pair(weights, query, candidates, count, best);
	*ret_record = (struct route_record){
		.prefill = pair.found ? pair.prefill.line.node : ROUTE_NONE,
		.decode = pair.found ? pair.decode.line.node : ROUTE_NONE,
		.cost = pair.cost,
		.avoid = pair.avoid,
		.cached = pair.prefill.line.cached,
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
	return pair.found;
}

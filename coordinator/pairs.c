/* pairs - which two nodes can do a context together: who takes it, who can read whom, whose hand-over just failed. */
#include "base/planted.h"
#include "coordinator/core_impl.h"

/* ---- who takes it */

struct wanted request_wants(const struct request *request)
{
	return (struct wanted){
		.model = request->model,
		.tokens = request->prompt_count + request->sampling.max_tokens,
		.compat = request->pinned ? &request->compat : NULL,
	};
}

bool node_takes(const struct registry_node *node, const struct wanted *wanted)
{
	return node_lives(node) && !node->draining && node_serves(node, wanted->model) &&
	       (node_prefills(node) || node_decodes(node)) &&
	       (!wanted->compat || id128_equal(&node->compat, wanted->compat)) &&
	       (!node->announced.context_max || wanted->tokens <= node->announced.context_max);
}

static const struct registry_node *taker(const struct coord *coord, const struct wanted *wanted, uint32_t slot)
{
	const struct registry_node *node = &coord->registry.nodes[slot];
	bool never = wanted->job && job_avoids(coord, wanted->job, slot) >= AVOID_ALWAYS;
	return node_takes(node, wanted) && !never ? node : NULL;
}

/* ---- who can read whom */

bool pair_is_refused(const void *context, uint32_t prefill, uint32_t decode)
{
	const struct coord *coord = context;
	const struct registry_node *nodes = coord->registry.nodes;
	return prefill != decode && !planted(REFUSED_LINK_CHOSEN) && node_refuses(&nodes[decode], &nodes[prefill]);
}

/* A decode node for this prefill node; or NULL, and perhaps one that would be, could it read it. */
static const struct registry_node *partner(const struct coord *coord, const struct wanted *wanted, uint32_t prefill,
					   const struct registry_node **refusing)
{
	for (uint32_t d = 0; d < coord->registry.count_max; d++) {
		const struct registry_node *node = taker(coord, wanted, d);
		if (!node || !node_decodes(node) || !id128_equal(&node->compat, &coord->registry.nodes[prefill].compat))
			continue;
		if (!pair_is_refused(coord, prefill, d))
			return node;
		*refusing = node;
	}
	return NULL;
}

/* They live, and nothing of one is anything to the other. */
static void say_apart(const struct wanted *wanted, const struct registry_node *prefills, const struct registry_node *decodes, struct why *why)
{
	const struct coord_member *a = &prefills->announced, *b = &decodes->announced;
	if (a->block_tokens != b->block_tokens)
		why_set(why, ERR_UNAVAILABLE, "no two nodes of model %s share KV: %s has blocks of %u tokens, %s of %u (--block-size)", wanted->model,
			a->name, a->block_tokens, b->name, b->block_tokens);
	else
		why_set(why, ERR_UNAVAILABLE, "no two nodes of model %s share KV: %s is of %s, %s of %s, or their weights differ", wanted->model, a->name,
			a->device, b->name, b->device);
}

bool pairs_live(const struct coord *coord, const struct wanted *wanted, struct why *why)
{
	const struct registry_node *prefills = NULL, *decodes = NULL;
	for (uint32_t i = 0; i < coord->registry.count_max; i++) {
		const struct registry_node *node = taker(coord, wanted, i);
		prefills = node && node_prefills(node) ? node : prefills;
		decodes = node && node_decodes(node) ? node : decodes;
	}
	const struct registry_node *refusing = NULL, *refused = NULL;
	for (uint32_t p = 0; prefills && decodes && p < coord->registry.count_max; p++) {
		const struct registry_node *node = taker(coord, wanted, p), *before = refusing;
		if (!node || !node_prefills(node))
			continue;
		if (partner(coord, wanted, p, &refusing))
			return true;
		refused = refusing != before ? node : refused;
	}
	if (refused)
		why_set(why, ERR_UNAVAILABLE, "no two nodes of model %s can exchange KV: %s reads over %s only (--require-transport), and none of "
			"that reaches %s; `baton doctor` on both says what is missing", wanted->model, refusing->announced.name,
			refusing->links_required, refused->announced.name);
	else if (prefills && decodes)
		say_apart(wanted, prefills, decodes, why);
	else
		why_set(why, ERR_UNAVAILABLE, "no %s node of model %s is available", prefills ? "decode" : "prefill", wanted->model);
	return false;
}

/* ---- whose hand-over just failed */

#define APART_NS 5000000000ull

static bool still_apart(const struct coord *coord, const struct apart *apart, uint64_t now_ns)
{
	const struct registry_node *nodes = coord->registry.nodes;
	return now_ns < apart->until_ns && nodes[apart->pair.prefill].incarnation == apart->incarnation[0] &&
	       nodes[apart->pair.decode].incarnation == apart->incarnation[1];
}

void job_set_apart(struct coord *coord, struct job *job, uint64_t now_ns)
{
	struct route_apart pair = {job->half[0].node, job->half[1].node};
	struct apart *apart = NULL;
	for (uint32_t i = 0; i < APART_MAX && !apart; i++)
		if (coord->apart[i].pair.prefill == pair.prefill && coord->apart[i].pair.decode == pair.decode)
			apart = &coord->apart[i];
	if (!apart)
		apart = &coord->apart[coord->apart_next++ % APART_MAX];
	*apart = (struct apart){
		.pair = pair,
		.incarnation = {core_node(coord, pair.prefill)->incarnation, core_node(coord, pair.decode)->incarnation},
		.until_ns = now_ns + APART_NS * coord->options.time_factor,
	};
	job_avoid(coord, job, pair.prefill, AVOID_FAILED);
	job_avoid(coord, job, pair.decode, AVOID_FAILED);
}

uint32_t pairs_apart(const struct coord *coord, uint64_t now_ns, struct route_apart out[APART_MAX])
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < APART_MAX; i++)
		if (still_apart(coord, &coord->apart[i], now_ns))
			out[count++] = coord->apart[i].pair;
	return count;
}

#include "bench/kv/replay.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/rng.h"
#include "kvstore/ledger.h"
#include "kvstore/place.h"

enum { SLOT_BYTES = 64 };

struct stores {
	uint32_t count;
	struct ledger *ledgers[REPLAY_NODES_MAX];
	uint64_t *generations[REPLAY_NODES_MAX];
	struct id128 *keys; /* [distinct] */
	uint8_t *owners;    /* [distinct] */
	uint32_t *found;    /* [id_count of the longest request]: entries of the request, LEDGER_NONE: missing */
};

static const struct id128 compat = {{1}};

static enum err open_slab(void *context, uint32_t slab, uint32_t slot_bytes, uint32_t slot_count,
			  struct slab_region *ret_region)
{
	(void)slab;
	(void)slot_bytes;
	(void)slot_count;
	*ret_region = (struct slab_region){.generations = context};
	return ERR_OK;
}

static void close_slab(void *context, uint32_t slab)
{
	(void)context;
	(void)slab;
}

static bool stores_open(struct stores *s, const struct trace *trace, const struct replay_options *o)
{
	struct place_member members[REPLAY_NODES_MAX];
	s->count = o->nodes;
	s->keys = malloc(trace->distinct * sizeof(*s->keys));
	s->owners = malloc(trace->distinct);
	s->found = malloc((size_t)trace->id_count * sizeof(*s->found));
	for (uint32_t i = 0; i < o->nodes; i++) {
		uint32_t capacity = o->capacity / o->nodes;
		members[i] = (struct place_member){i + 1, 1};
		s->generations[i] = calloc(capacity, sizeof(uint64_t));
		struct ledger_options options = {
			.slabs = {.slab_count = 1, .slab_bytes = (uint64_t)capacity * SLOT_BYTES,
				  .slot_bytes_min = SLOT_BYTES, .context = s->generations[i], .open = open_slab,
				  .close = close_slab},
			.entry_max = capacity + 1, /* the one that is offered while all others are there */
			.layers_max = 1,
			.policy = o->policy,
		};
		void *memory = calloc(1, ledger_bytes(&options));
		s->ledgers[i] = memory && s->generations[i] ? ledger_init(memory, &options) : NULL;
		if (!s->ledgers[i])
			return false;
	}
	if (!s->keys || !s->owners || !s->found)
		return false;
	for (uint32_t id = 0; id < trace->distinct; id++) {
		uint64_t words[2] = {rng_at(1, 0, id), rng_at(2, 0, id)}, node;
		memcpy(s->keys[id].bytes, words, sizeof(words));
		place_owners(members, o->nodes, &s->keys[id], 1, &node);
		s->owners[id] = (uint8_t)(node - 1);
	}
	return true;
}

static void stores_close(struct stores *s)
{
	for (uint32_t i = 0; i < s->count; i++) {
		free(s->ledgers[i]);
		free(s->generations[i]);
	}
	free(s->keys);
	free(s->owners);
	free(s->found);
}

static void look_up(struct stores *s, const uint32_t *ids, uint32_t count, struct replay_result *r)
{
	uint32_t found = 0, prefix = 0;
	for (uint32_t i = 0; i < count; i++) {
		struct ledger *ledger = s->ledgers[s->owners[ids[i]]];
		s->found[i] = ledger_find(ledger, &s->keys[ids[i]], &compat);
		if (s->found[i] == LEDGER_NONE)
			continue;
		ledger_hold(ledger, s->found[i]);
		prefix += found == i;
		found++;
	}
	r->hits += prefix;
	r->stranded += found - prefix;
	for (uint32_t i = count; i > 0; i--) /* as holds.c does: the last one first */
		if (s->found[i - 1] != LEDGER_NONE)
			ledger_release(s->ledgers[s->owners[ids[i - 1]]], s->found[i - 1]);
}

static void offer(struct stores *s, const uint32_t *ids, uint32_t count, struct replay_result *r)
{
	uint64_t digest = 0;
	for (uint32_t i = 0; i < count; i++) {
		if (s->found[i] != LEDGER_NONE)
			continue;
		struct ledger *ledger = s->ledgers[s->owners[ids[i]]];
		struct ledger_block block = {.key = s->keys[ids[i]], .compat = compat, .layer_count = 1,
					     .layer_bytes = SLOT_BYTES, .digests = &digest};
		uint32_t entry;
		if (ledger_offer(ledger, &block, &entry) != ERR_OK) {
			r->refused++;
		} else if (ledger_read(ledger, entry) != ERR_OK) {
			ledger_withdraw(ledger, entry);
			r->refused++;
		} else {
			ledger_seal(ledger, entry);
		}
	}
}

static uint64_t cpu_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

enum err replay(const struct trace *trace, const struct replay_options *options, struct replay_result *ret_result)
{
	struct stores stores = {0};
	struct replay_result result = {0};
	enum err e = stores_open(&stores, trace, options) ? ERR_OK : ERR_NOMEM;
	uint64_t start = cpu_ns();
	for (uint32_t i = 0; e == ERR_OK && i < trace->request_count; i++) {
		const uint32_t *ids = trace->ids + trace->starts[i];
		uint32_t count = trace->starts[i + 1] - trace->starts[i];
		look_up(&stores, ids, count, &result);
		offer(&stores, ids, count, &result);
	}
	result.cpu_ns = cpu_ns() - start;
	stores_close(&stores);
	if (e == ERR_OK)
		*ret_result = result;
	return e;
}

/* ---- the optimum */

/* Places in the trace, the one that is asked for latest on top; a block is kept by its last place. */
struct later {
	const uint32_t *next; /* [id_count]: request of the next use */
	uint32_t *heap;
	uint32_t count;
};

/* Places of one request lie in the order of the chain, so the later place is the child. */
static bool goes_before(const struct later *l, uint32_t a, uint32_t b)
{
	return l->next[a] != l->next[b] ? l->next[a] > l->next[b] : a > b;
}

static void later_push(struct later *l, uint32_t place)
{
	uint32_t at = l->count++;
	for (; at > 0 && goes_before(l, place, l->heap[(at - 1) / 2]); at = (at - 1) / 2)
		l->heap[at] = l->heap[(at - 1) / 2];
	l->heap[at] = place;
}

static uint32_t later_pop(struct later *l)
{
	uint32_t top = l->heap[0], last = l->heap[--l->count], at = 0;
	for (uint32_t child; (child = 2 * at + 1) < l->count; at = child) {
		child += child + 1 < l->count && goes_before(l, l->heap[child + 1], l->heap[child]);
		if (goes_before(l, last, l->heap[child]))
			break;
		l->heap[at] = l->heap[child];
	}
	l->heap[at] = last;
	return top;
}

static void find_next(const struct trace *trace, uint32_t *next, uint32_t *of_id)
{
	memset(of_id, 0xff, trace->distinct * sizeof(*of_id));
	for (uint32_t r = trace->request_count; r > 0; r--)
		for (uint32_t i = trace->starts[r - 1]; i < trace->starts[r]; i++) {
			next[i] = of_id[trace->ids[i]];
			of_id[trace->ids[i]] = r - 1;
		}
}

static uint64_t count_optimum(const struct trace *trace, uint32_t capacity, struct later *l, uint32_t *kept)
{
	uint64_t hits = 0;
	uint32_t kept_count = 0;
	memset(kept, 0xff, trace->distinct * sizeof(*kept));
	for (uint32_t r = 0; r < trace->request_count; r++) {
		for (uint32_t i = trace->starts[r]; i < trace->starts[r + 1]; i++) {
			uint32_t *place = &kept[trace->ids[i]];
			hits += *place != UINT32_MAX;
			kept_count += *place == UINT32_MAX;
			*place = i;
			later_push(l, i);
		}
		while (kept_count > capacity) {
			uint32_t place = later_pop(l);
			if (kept[trace->ids[place]] != place)
				continue; /* it was used since */
			kept[trace->ids[place]] = UINT32_MAX;
			kept_count--;
		}
	}
	return hits;
}

enum err replay_optimum(const struct trace *trace, uint32_t capacity, uint64_t *ret_hits)
{
	uint32_t *next = malloc(trace->id_count * sizeof(*next));
	uint32_t *kept = malloc(trace->distinct * sizeof(*kept));
	struct later later = {.next = next, .heap = malloc(trace->id_count * sizeof(*later.heap))};
	bool room = next && kept && later.heap;
	if (room) {
		find_next(trace, next, kept);
		*ret_hits = count_optimum(trace, capacity, &later, kept);
	}
	free(next);
	free(kept);
	free(later.heap);
	return room ? ERR_OK : ERR_NOMEM;
}

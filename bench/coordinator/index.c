/* index - how fast the coordinator's block index answers: the longest leading prefix of each node, for long chains.
 *
 *   meson compile -C build bench_coordinator_index && build/bench/coordinator/bench_coordinator_index [blocks_max]
 *
 * A pool of nodes holds conversations: every node has the shared first blocks (a system prompt), and each chain of
 * `depth` blocks is wholly on a few nodes and partly on others.  Look-ups draw chains at random, so that the table
 * does not sit in a cache.  Time is CPU time of the one thread, so that what else runs on a shared machine counts
 * only through its caches; events are applied between look-ups in the mixed run. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/rng.h"
#include "coordinator/index.h"

enum { SHARED = 8, LOOKUPS = 4000, HOLDERS = 3 };

static uint64_t now_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Keys are digests, so random bytes stand for them. */
static struct id128 key_of(uint32_t chain, uint32_t depth)
{
	uint32_t owner = depth < SHARED ? 0 : chain + 1;
	struct id128 key;
	uint64_t words[2] = {rng_at(1, owner, depth), rng_at(2, owner, depth)};
	memcpy(key.bytes, words, sizeof(key.bytes));
	return key;
}

static void add(struct block_index *index, uint32_t node, uint64_t *sequence, const struct id128 *keys, uint32_t count)
{
	struct index_events events = {.sequence = ++sequence[node], .reset = sequence[node] == 1,
				      .added = (const uint8_t *)keys, .added_count = count};
	if (index_events(index, node, &events) != ERR_OK)
		abort();
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

struct setup {
	struct block_index *index;
	uint32_t nodes, depth, chains;
	uint64_t *sequence;
	struct id128 *keys; /* [depth] */
	struct rng rng;
};

static void load_chain(struct setup *s, uint32_t chain)
{
	for (uint32_t i = 0; i < s->depth; i++)
		s->keys[i] = key_of(chain, i);
	for (uint32_t h = 0; h < HOLDERS; h++) {
		uint32_t node = (uint32_t)rng_below(&s->rng, s->nodes);
		uint32_t count = h == 0 ? s->depth : (uint32_t)rng_below(&s->rng, s->depth);
		add(s->index, node, s->sequence, s->keys, count);
	}
}

/* Every node has the shared blocks; then chains until the table is three quarters full. */
static void load(struct setup *s, uint32_t blocks_max)
{
	for (uint32_t i = 0; i < SHARED; i++)
		s->keys[i] = key_of(0, i);
	for (uint32_t node = 0; node < s->nodes; node++) {
		index_node_up(s->index, node);
		add(s->index, node, s->sequence, s->keys, SHARED);
	}
	s->chains = (uint32_t)((uint64_t)blocks_max * 3 / 4 / s->depth);
	for (uint32_t chain = 0; chain < s->chains; chain++)
		load_chain(s, chain);
}

static void report(const char *what, const struct setup *s, uint64_t *times, uint64_t total)
{
	qsort(times, LOOKUPS, sizeof(*times), compare);
	printf("%-6s %5u nodes, %4u blocks: mean %7.1f us, P50 %7.1f, P99 %7.1f, max %7.1f; %5.1f M blocks/s\n", what,
	       s->nodes, s->depth, (double)total / LOOKUPS / 1e3, (double)times[LOOKUPS / 2] / 1e3,
	       (double)times[LOOKUPS * 99 / 100] / 1e3, (double)times[LOOKUPS - 1] / 1e3,
	       (double)s->depth * LOOKUPS / (double)total * 1e3);
}

static void look_up(struct setup *s, bool mixed)
{
	static uint64_t times[LOOKUPS];
	struct index_match *matches = malloc(s->nodes * sizeof(*matches));
	uint64_t total = 0, found = 0;
	for (uint32_t i = 0; i < LOOKUPS; i++) {
		uint32_t chain = (uint32_t)rng_below(&s->rng, s->chains);
		for (uint32_t k = 0; k < s->depth; k++)
			s->keys[k] = key_of(chain, k);
		uint64_t start = now_ns();
		found += index_match(s->index, s->keys, s->depth, matches);
		times[i] = now_ns() - start;
		total += times[i];
		if (mixed && i % 8 == 0)
			load_chain(s, s->chains + i);
	}
	if (found < LOOKUPS)
		abort();
	report(mixed ? "mixed" : "read", s, times, total);
	free(matches);
}

static void drop(struct setup *s)
{
	uint64_t start = now_ns();
	index_node_down(s->index, 0);
	uint64_t down = now_ns() - start, worst = 0;
	for (int i = 0; i < 256; i++) {
		start = now_ns();
		index_sweep(s->index, 16384); /* as a tick does */
		uint64_t took = now_ns() - start;
		worst = took > worst ? took : worst;
	}
	printf("drop   %5u nodes: a node is forgotten in %.1f us; the worst tick of the sweep takes %.1f us\n", s->nodes,
	       (double)down / 1e3, (double)worst / 1e3);
}

static void run(uint32_t nodes, uint32_t depth, uint32_t blocks_max)
{
	struct index_options options = {nodes, blocks_max};
	void *memory = malloc(index_bytes(&options));
	struct setup s = {.index = index_init(memory, &options), .nodes = nodes, .depth = depth, .rng = {.seed = 3}};
	s.sequence = calloc(nodes, sizeof(*s.sequence));
	s.keys = malloc(depth * sizeof(*s.keys));
	uint64_t start = now_ns();
	load(&s, blocks_max);
	struct index_counters counters;
	index_counters(s.index, &counters);
	printf("load   %5u nodes, %u keys, %zu MiB: %.1f M key events/s\n", nodes, counters.blocks,
	       index_bytes(&options) >> 20, (double)counters.added / (double)(now_ns() - start) * 1e3);
	look_up(&s, false);
	look_up(&s, true);
	drop(&s);
	free(s.keys);
	free(s.sequence);
	free(memory);
}

int main(int argc, char **argv)
{
	uint32_t blocks_max = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1u << 20;
	run(8, 1000, blocks_max);
	run(1000, 1000, blocks_max);
	run(7000, 1000, blocks_max);
	return 0;
}

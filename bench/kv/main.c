/* bench_kv_replay - hit rates of every eviction policy on a trace of requests, beside the offline optimum.
 *
 *   meson compile -C build bench_kv_replay
 *   zstd -dc conversation_trace.jsonl.zst | build/bench/kv/bench_kv_replay /dev/stdin
 *   build/bench/kv/bench_kv_replay [--nodes N] [--seed S] [--check] [FILE]
 *
 * Without FILE the trace is made up from the seed.  --check: fail when the default policy is not what
 * bench/results/evict.md says of it (on a made-up trace, so that it runs everywhere). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/options.h"
#include "bench/kv/replay.h"

enum { CAPACITIES = 6, REQUESTS_MADE = 12000 };
static const double capacities[CAPACITIES] = {1, 2, 5, 10, 20, 50}; /* percent of the distinct blocks */

struct table {
	double hits[EVICT_POLICIES][CAPACITIES];     /* percent of all blocks asked for */
	double stranded[EVICT_POLICIES][CAPACITIES];
	double ns[EVICT_POLICIES][CAPACITIES];       /* CPU a block asked for */
	double optimum[CAPACITIES];
};

static enum err measure(const struct trace *trace, uint32_t nodes, struct table *t)
{
	for (int c = 0; c < CAPACITIES; c++) {
		uint32_t capacity = (uint32_t)(trace->distinct * capacities[c] / 100);
		uint64_t best;
		enum err e = replay_optimum(trace, capacity, &best);
		t->optimum[c] = 100.0 * (double)best / trace->id_count;
		for (int p = 0; p < EVICT_POLICIES && e == ERR_OK; p++) {
			struct replay_result r;
			e = replay(trace, &(struct replay_options){evict_policies[p], capacity, nodes}, &r);
			if (e != ERR_OK)
				break;
			t->hits[p][c] = 100.0 * (double)r.hits / trace->id_count;
			t->stranded[p][c] = 100.0 * (double)r.stranded / trace->id_count;
			t->ns[p][c] = (double)r.cpu_ns / trace->id_count;
		}
		if (e != ERR_OK)
			return e;
	}
	return ERR_OK;
}

static void print_row(const char *name, const double *values, const char *format)
{
	printf("| %s |", name);
	for (int c = 0; c < CAPACITIES; c++)
		printf(format, values[c]);
	printf("\n");
}

static void print_head(const char *what)
{
	printf("\n| %s |", what);
	for (int c = 0; c < CAPACITIES; c++)
		printf(" %g %% |", capacities[c]);
	printf("\n|---|---|---|---|---|---|---|\n");
}

static void print(const struct trace *trace, uint32_t nodes, const struct table *t)
{
	printf("%u requests, %u blocks asked for, %u distinct; %u store%s; capacity in %% of the distinct blocks\n",
	       trace->request_count, trace->id_count, trace->distinct, nodes, nodes == 1 ? "" : "s");
	print_head("hit rate, %");
	for (int p = 0; p < EVICT_POLICIES; p++)
		print_row(evict_policies[p]->name, t->hits[p], " %.2f |");
	print_row("offline optimum", t->optimum, " %.2f |");
	print_head("found behind a gap, %");
	for (int p = 0; p < EVICT_POLICIES; p++)
		print_row(evict_policies[p]->name, t->stranded[p], " %.2f |");
	print_head("CPU a block asked for, ns");
	for (int p = 0; p < EVICT_POLICIES; p++)
		print_row(evict_policies[p]->name, t->ns[p], " %.0f |");
}

/* Within 3 points of the best at every capacity; the optimum is above all. */
static enum err check(const struct table *t)
{
	for (int c = 0; c < CAPACITIES; c++)
		for (int p = 0; p < EVICT_POLICIES; p++)
			if (t->hits[p][c] > t->optimum[c] || t->hits[0][c] < t->hits[p][c] - 3) {
				fprintf(stderr, "at %g %%: %s hits %.2f %%, the default %.2f %%, the optimum %.2f %%\n",
					capacities[c], evict_policies[p]->name, t->hits[p][c], t->hits[0][c],
					t->optimum[c]);
				return ERR_CORRUPT;
			}
	return ERR_OK;
}

static enum err run(const char *path, uint64_t seed, uint32_t nodes, bool must_check, struct why *why)
{
	struct trace trace;
	struct table table = {0};
	enum err e = path ? trace_load(path, &trace, why) : trace_make(seed, REQUESTS_MADE, &trace);
	if (e != ERR_OK)
		return e;
	if (trace.distinct / 100 < nodes)
		e = why_set(why, ERR_INVALID, "%u distinct blocks are too few for %u stores", trace.distinct, nodes);
	if (e == ERR_OK)
		e = measure(&trace, nodes, &table);
	if (e == ERR_OK)
		print(&trace, nodes, &table);
	if (e == ERR_OK && must_check)
		e = check(&table);
	trace_fini(&trace);
	return e;
}

int main(int argc, char **argv, char **environment)
{
	uint64_t nodes = 1, seed = 1;
	bool must_check = false;
	struct option table[] = {
		{"nodes", OPTION_COUNT, &nodes, 1, REPLAY_NODES_MAX, "N", "stores that share the blocks"},
		{"seed", OPTION_COUNT, &seed, 0, 0, "S", "of the made-up trace"},
		{"check", OPTION_FLAG, &must_check, 0, 0, NULL, "fail when the default policy is behind"},
	};
	struct options options = {.program = "bench_kv_replay", .usage = "[options] [FILE]", .table = table,
				  .count = sizeof(table) / sizeof(table[0]), .environment = environment,
				  .positional = true};
	struct why why = {0};
	enum err e = options_parse(&options, argc, argv, &why);
	if (e == ERR_OK && options.help)
		options_print_help(&options);
	else if (e == ERR_OK)
		e = run(options.words.count ? options.words.items[0] : NULL, seed, (uint32_t)nodes, must_check, &why);
	if (e != ERR_OK)
		fprintf(stderr, "bench_kv_replay: %s%s%s\n", err_text(e), why.text[0] ? ": " : "", why.text);
	options_fini(&options);
	return e == ERR_OK ? 0 : 1;
}

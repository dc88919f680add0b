/* simcluster - seeds of the simulated cluster.
 *
 *   simcluster --seeds A..B   runs them, replays every 64th and compares bit for bit, prints totals and the hit table;
 *                             fails when a pair of (fault, state) was never hit (with --full)
 *                             -j: in that many processes
 *   simcluster --seed N       runs one and prints its story; --shrink: leaves out faults and requests as long as it
 *                             fails in the same way, then the story of what is left
 *   simcluster-planted --bug NAME …  the same with one planted bug (base/planted.h)
 *   simcluster-planted --all         each of them until the first seed that fails, and the table */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/hunt.h"
#include "tests/sim/planted.h"
#include "tests/sim/run.h"

enum { REPLAY_EVERY = 64, JOBS_MAX = 64 };

/* A core's assertion names no seed: we do. */
static void on_abort(int number)
{
	(void)number;
	struct cluster *c = run_current();
	if (c && c->options.story) {
		const char *text = sim_text(c->sim);
		size_t length = strlen(text);
		while (length > 0) {
			ssize_t n = write(STDOUT_FILENO, text, length);
			if (n <= 0)
				break;
			text += n;
			length -= (size_t)n;
		}
	}
	if (c)
		fprintf(stderr, "simcluster: aborted in seed %llu; replay: simcluster --seed %llu\n",
			(unsigned long long)c->options.seed, (unsigned long long)c->options.seed);
}

#define TOTALS(X) \
	X(events) X(faults) X(frames) X(reads) X(read_faults) X(stale_reads) X(late_writes) X(kills) X(virtual_ms) \
	X(renewals) X(directives) X(directives_refused) X(drains) \
	X(disk_puts) X(disk_hits) X(disk_kept) X(disk_gone) X(disk_bad) X(disk_recovered) X(disk_kills) X(disk_struck)
struct totals {
#define X(name) uint64_t name;
	TOTALS(X)
#undef X
	struct client_counts clients;
	struct hit_table hits;
};

static void add_counts(struct client_counts *sum, const struct client_counts *c)
{
	sum->requests += c->requests;
	sum->done += c->done;
	sum->canceled += c->canceled;
	sum->submitted += c->submitted;
	sum->refused += c->refused;
	sum->failed += c->failed;
	sum->lost += c->lost;
	sum->tokens += c->tokens;
	sum->recoveries += c->recoveries;
	sum->reused += c->reused;
	sum->fetched += c->fetched;
	sum->computed += c->computed;
	sum->transferred += c->transferred;
	sum->misses += c->misses;
}

static void add(struct totals *t, const struct run_result *r)
{
	t->events += r->sim.events;
	t->faults += r->faults;
	t->frames += r->sim.frames;
	t->reads += r->sim.reads;
	t->stale_reads += r->sim.stale_reads;
	t->late_writes += r->sim.late_writes;
	t->kills += r->kills;
	t->renewals += r->renewals;
	t->disk_puts += r->disks.puts;
	t->disk_hits += r->disks.hits;
	t->disk_kept += r->disks.kept;
	t->disk_gone += r->disks.gone;
	t->disk_bad += r->disks.bad;
	t->disk_recovered += r->disks.recovered;
	t->disk_kills += r->disks.kills;
	t->disk_struck += r->disks.struck;
	t->directives += r->directives;
	t->directives_refused += r->directives_refused;
	t->drains += r->drains;
	t->virtual_ms += r->ended_ms;
	for (int i = 0; i < SIM_READ_FAULTS; i++)
		t->read_faults += r->sim.read_faults[i];
	add_counts(&t->clients, &r->clients);
	hit_table_add(&t->hits, &r->hits);
}

static void print_totals(const struct totals *t, uint64_t seeds, double seconds)
{
#define N(x) ((unsigned long long)(x))
	const struct client_counts *c = &t->clients;
	printf("%llu seeds in %.1f s (%.0f/s), %llu s of virtual time: %.0f times as fast\n", N(seeds), seconds,
	       (double)seeds / seconds, N(t->virtual_ms / 1000), (double)t->virtual_ms / 1000 / seconds);
	printf("events %llu, frames %llu, reads %llu of which faulted %llu and stale %llu, late writes %llu; faults %llu, kills %llu\n",
	       N(t->events), N(t->frames), N(t->reads), N(t->read_faults), N(t->stale_reads), N(t->late_writes), N(t->faults), N(t->kills));
	printf("directives taken %llu, refused %llu; drains %llu; lives renewed %llu\n", N(t->directives),
	       N(t->directives_refused), N(t->drains), N(t->renewals));
	printf("disks: %llu blocks put, %llu kept, %llu gone for room, %llu bad, %llu found at a start; %llu keys answered; "
	       "%llu stores killed while they wrote, %llu faults\n",
	       N(t->disk_puts), N(t->disk_kept), N(t->disk_gone), N(t->disk_bad), N(t->disk_recovered), N(t->disk_hits),
	       N(t->disk_kills), N(t->disk_struck));
	printf("requests %llu: done %llu, canceled %llu, submitted %llu, refused %llu, failed and tried again %llu, lost with "
	       "their coordinator %llu\n",
	       N(c->requests), N(c->done), N(c->canceled), N(c->submitted), N(c->refused), N(c->failed), N(c->lost));
	printf("tokens %llu, none wrong; recoveries %llu; contexts: computed %llu, reused %llu, fetched %llu, transferred "
	       "%llu; block misses %llu\n",
	       N(c->tokens), N(c->recoveries), N(c->computed), N(c->reused), N(c->fetched), N(c->transferred),
	       N(c->misses));
}

static double seconds_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void replay(uint64_t seed, uint64_t digest)
{
	struct run_result again;
	run_seed(seed, false, NULL, &again);
	if (again.digest == digest)
		return;
	fprintf(stderr, "simcluster: seed %llu does not replay bit for bit\n", N(seed));
	exit(1);
}

struct arguments {
	unsigned long long from, to;
	bool one, full, all, shrink;
	struct hunt_options hunt;
};

/* Every jobs-th seed, from the first on. */
static void run_some(uint64_t first, const struct arguments *a, struct totals *totals)
{
	for (uint64_t seed = first; seed < a->to; seed += a->hunt.jobs) {
		struct run_result result;
		run_seed(seed, false, NULL, &result);
		if (seed % REPLAY_EVERY == 0)
			replay(seed, result.digest);
		add(totals, &result);
	}
}

static void add_totals(struct totals *sum, const struct totals *more)
{
#define X(name) sum->name += more->name;
	TOTALS(X)
#undef X
	add_counts(&sum->clients, &more->clients);
	hit_table_add(&sum->hits, &more->hits);
}

/* In a process of its own, which tells its totals through the pipe. */
static void start_worker(uint64_t first, const struct arguments *a, int pipes[2])
{
	int e = pipe(pipes);
	fflush(NULL);
	if (e != 0 || fork() != 0)
		return;
	static struct totals totals;
	run_some(first, a, &totals);
	_exit(write(pipes[1], &totals, sizeof(totals)) != sizeof(totals));
}

static bool run_workers(const struct arguments *a, struct totals *totals)
{
	int pipes[JOBS_MAX][2];
	bool good = true;
	for (uint32_t i = 0; i < a->hunt.jobs; i++)
		start_worker(a->from + i, a, pipes[i]);
	for (uint32_t i = 0; i < a->hunt.jobs; i++) {
		static struct totals part;
		close(pipes[i][1]);
		good &= read(pipes[i][0], &part, sizeof(part)) == sizeof(part); /* shorter: it failed, and has said so */
		add_totals(totals, &part);
		close(pipes[i][0]);
	}
	return good;
}

static int run_many(const struct arguments *a)
{
	static struct totals totals;
	double start = seconds_now();
	bool good = true;
	if (a->hunt.jobs > 1)
		good = run_workers(a, &totals);
	else
		run_some(a->from, a, &totals);
	if (!good)
		return 1;
	print_totals(&totals, a->to - a->from, seconds_now() - start);
	uint32_t never = hit_table_print(&totals.hits);
	printf("pairs of (fault, state) never hit: %u\n", never);
	return a->full && never > 0;
}

static int usage(const char *program)
{
	fprintf(stderr,
		"usage: %s [--bug NAME] [--seeds A..B [--full] [-j PROCESSES] | --seed N [--shrink]]\n"
		"       %s --all [--limit SEEDS] [--at-least BUGS] [-j PROCESSES]\n",
		program, program);
	return 2;
}

static bool parse_one(struct arguments *a, const char *name, const char *value)
{
	if (strcmp(name, "--seed") == 0) {
		a->one = true;
		return sscanf(value, "%llu", &a->from) == 1;
	}
	if (strcmp(name, "--seeds") == 0)
		return sscanf(value, "%llu..%llu", &a->from, &a->to) == 2 && a->from < a->to;
	if (strcmp(name, "--bug") == 0)
		return planted_choose(value);
	if (strcmp(name, "--limit") == 0)
		return sscanf(value, "%u", &a->hunt.limit) == 1;
	if (strcmp(name, "--at-least") == 0)
		return sscanf(value, "%u", &a->hunt.at_least) == 1;
	if (strcmp(name, "-j") == 0)
		return sscanf(value, "%u", &a->hunt.jobs) == 1 && a->hunt.jobs > 0 && a->hunt.jobs <= JOBS_MAX;
	return false;
}

static bool parse(struct arguments *a, int argc, char **argv)
{
	*a = (struct arguments){.to = 200, .hunt = {.limit = 500, .jobs = 1}};
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--full") == 0)
			a->full = true;
		else if (strcmp(argv[i], "--all") == 0)
			a->all = true;
		else if (strcmp(argv[i], "--shrink") == 0)
			a->shrink = true;
		else if (i + 1 == argc || !parse_one(a, argv[i], argv[i + 1]))
			return false;
		else
			i++;
	}
	return true;
}

static int run_one(uint64_t seed, const struct cluster_cut *cut)
{
	struct run_result result;
	run_seed(seed, true, cut, &result);
	printf("digest %016llx, %u faults, %llu events, %llu ms\n", N(result.digest), result.faults, N(result.sim.events),
	       N(result.ended_ms));
	return 0;
}

/* The story of what is left. */
static int shrink(uint64_t seed)
{
	struct cluster_cut cut;
	int status = hunt_shrink(seed, &cut);
	fflush(stdout);
	return status ? status : run_one(seed, &cut);
}

int main(int argc, char **argv)
{
	struct arguments a;
	if (!parse(&a, argc, argv))
		return usage(argv[0]);
	signal(SIGABRT, on_abort);
	if (a.all)
		return hunt_all(&a.hunt);
	if (a.one)
		return a.shrink ? shrink(a.from) : run_one(a.from, NULL);
	return run_many(&a);
}

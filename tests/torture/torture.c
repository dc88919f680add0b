/* torture: see torture.h.  Prints a table, a line for each scenario and mode.
 *
 *   torture                  every call of every scenario, once and from then on
 *   torture --sample N       at most N of each, spread over all
 *   torture --only TEXT      scenarios whose name has it
 *   torture --at K [--forever]  one call of --only, in this process (for a debugger) */
#include "torture.h"

#include <dirent.h>
#include <execinfo.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "fail.h"
#include "net/loop.h"

enum { PATIENCE_S = 90, WRONG_EXIT = 87 };

int __lsan_do_recoverable_leak_check(void) __attribute__((weak));
#ifdef TORTURE_COVERAGE
void __gcov_dump(void);
#else
static void __gcov_dump(void)
{
}
#endif
const char *__asan_default_options(void);
const char *__lsan_default_suppressions(void);

/* Failing is what is wanted: an allocator that is asked for too much says so, and each run looks for leaks itself. */
const char *__asan_default_options(void)
{
	return "allocator_may_return_null=1:leak_check_at_exit=0:exitcode=86:detect_stack_use_after_return=0";
}

/* What libraries keep for the life of the process. */
const char *__lsan_default_suppressions(void)
{
	return "leak:libucp\nleak:libuct\nleak:libucs\nleak:libucm\nleak:libgrpc\nleak:libnng\n";
}

struct options {
	uint64_t sample, at;
	const char *only;
	bool forever;
};

/* What a child tells; it survives the child. */
struct progress {
	uint64_t k;
	bool again;    /* the run after the failed one */
	bool finished; /* fewer than k calls */
	uint64_t injected, runs, errors, leaks, unusable, silent;
};

struct total {
	uint64_t scenarios, injected, crashes, hangs, leaks, unusable, silent;
};

_Noreturn void torture_wrong(const char *file, int line, const char *text)
{
	fprintf(stderr, "%s:%d: wrong: %s\n", file, line, text);
	_exit(WRONG_EXIT);
}

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t torture_patience_ns(void)
{
	return fail_happened() ? 400000000u : 30000000000u;
}

enum err torture_wait(struct loop *loop, const int *done, struct why *why)
{
	uint64_t start_ns = now_ns();
	while (!*done) {
		loop_turn(loop, 10000000);
		if (now_ns() - start_ns > torture_patience_ns())
			return why_set(why, ERR_DEADLINE, "it did not end in time");
	}
	return ERR_OK;
}

static int descriptors(void)
{
	int count = 0;
	fail_pause();
	DIR *dir = opendir("/proc/self/fd");
	while (readdir(dir))
		count++;
	closedir(dir);
	fail_resume();
	return count;
}

/* Libraries with threads of their own close a little later. */
static bool descriptors_settle(int wanted)
{
	for (int i = 0; i < 1000; i++) {
		if (descriptors() <= wanted)
			return true;
		usleep(1000);
	}
	return false;
}

static void say_site(const struct scenario *scenario, uint64_t k, bool forever, const char *what, void *site)
{
	fprintf(stderr, "%s, call %llu%s: %s; failed at ", scenario->name, (unsigned long long)k, forever ? " on" : "", what);
	fflush(stderr);
	if (site)
		backtrace_symbols_fd(&site, 1, 2);
	else
		fprintf(stderr, "?\n");
}

/* One failure, then the same without.  False: there are fewer calls than k. */
static bool run_one(const struct scenario *scenario, uint64_t k, bool forever, struct progress *progress)
{
	struct why why = {0}, why_again = {0};
	size_t live = fail_live();
	uint64_t mark = fail_mark();
	int fds = descriptors();
	progress->k = k;
	progress->again = false;
	alarm(PATIENCE_S);
	fail_arm(k, forever);
	enum err e = scenario->run(&why);
	uint64_t injected = fail_disarm();
	void *site = fail_site();
	if (k && !injected)
		return false;
	progress->injected += injected;
	progress->runs++;
	progress->errors += e != ERR_OK;
	if (scenario->explains && e != ERR_OK && e != ERR_NOMEM && !why.text[0]) {
		progress->silent++;
		say_site(scenario, k, forever, "an error without a reason", site);
	}
	progress->again = true;
	if (scenario->run(&why_again) != ERR_OK) {
		progress->unusable++;
		say_site(scenario, k, forever, why_again.text[0] ? why_again.text : "not usable afterwards", site);
	}
	bool closed = descriptors_settle(fds);
	if (fail_live() != live || !closed) {
		progress->leaks++;
		say_site(scenario, k, forever, closed ? "memory stays" : "a descriptor stays open", site);
		fail_print_live(mark);
	}
	return true;
}

/* The first run loads what libraries keep. */
static void begin(const struct scenario *scenario)
{
	struct why why = {0};
	log_init("torture", LOG_ERROR, false);
	if (scenario->begin)
		scenario->begin();
	alarm(PATIENCE_S);
	enum err e = scenario->run(&why);
	if (e == ERR_OK)
		return;
	fprintf(stderr, "%s fails by itself: %s: %s\n", scenario->name, err_text(e), why.text);
	_exit(WRONG_EXIT);
}

static void child(const struct scenario *scenario, uint64_t k, uint64_t step, bool forever, struct progress *progress)
{
	unsigned batch = scenario->batch ? scenario->batch : 64;
	begin(scenario);
	for (unsigned i = 0; i < batch && !progress->finished; i++)
		progress->finished = !run_one(scenario, k + i * step, forever, progress);
	if (__lsan_do_recoverable_leak_check && __lsan_do_recoverable_leak_check()) {
		fprintf(stderr, "%s: a leak, between calls %llu and %llu\n", scenario->name, (unsigned long long)k,
			(unsigned long long)progress->k);
		progress->leaks++;
	}
	__gcov_dump(); /* _exit() would lose what was counted */
	_exit(0);
}

/* How many calls of each kind there are, told by a child. */
static void count_calls(const struct scenario *scenario, uint64_t *ret_counts)
{
	uint64_t *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		struct why why = {0};
		begin(scenario);
		fail_arm(0, false);
		enum err e = scenario->run(&why);
		fail_disarm();
		for (int kind = 0; kind < FAIL_KINDS; kind++)
			shared[kind] = fail_counted((enum fail_kind)kind);
		_exit(e == ERR_OK ? 0 : WRONG_EXIT);
	}
	int status = 0;
	waitpid(pid, &status, 0);
	shared[FAIL_KINDS] = status != 0;
	memcpy(ret_counts, shared, (FAIL_KINDS + 1) * sizeof(*shared));
	munmap(shared, 4096);
}

static void end_of_child(const struct scenario *scenario, int status, const struct progress *progress, bool forever,
			 struct total *total)
{
	char text[128];
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return;
	bool hung = WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM;
	*(hung ? &total->hangs : &total->crashes) += 1;
	snprintf(text, sizeof(text), "%s%s (%s %d)", hung ? "HANG" : "CRASH", progress->again ? " in the run after it" : "",
		 WIFSIGNALED(status) ? "signal" : "status", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	say_site(scenario, progress->k, forever, text, NULL);
}

static void add(struct total *total, const struct progress *progress)
{
	total->injected += progress->injected;
	total->leaks += progress->leaks;
	total->unusable += progress->unusable;
	total->silent += progress->silent;
}

static void run_mode(const struct scenario *scenario, uint64_t calls, const struct options *options, bool forever,
		     struct progress *progress, struct total *total)
{
	unsigned batch = scenario->batch ? scenario->batch : 64;
	uint64_t step = options->sample && calls > options->sample ? calls / options->sample : 1;
	uint64_t runs = 0;
	struct total here = {0};
	for (uint64_t k = 1; k <= calls;) {
		memset(progress, 0, sizeof(*progress));
		fflush(NULL);
		pid_t pid = fork();
		if (pid == 0)
			child(scenario, k, step, forever, progress);
		int status = 0;
		waitpid(pid, &status, 0);
		end_of_child(scenario, status, progress, forever, &here);
		runs += progress->runs;
		add(&here, progress);
		if (progress->finished)
			break;
		k = (status ? progress->k : k + (batch - 1) * step) + step;
	}
	printf("%-28s %-12s %8llu %8llu %7llu %5llu %6llu %8llu %7llu\n", scenario->name, forever ? "from then on" : "once",
	       (unsigned long long)runs, (unsigned long long)here.injected, (unsigned long long)here.crashes,
	       (unsigned long long)here.hangs, (unsigned long long)here.leaks, (unsigned long long)here.unusable,
	       (unsigned long long)here.silent);
	fflush(stdout);
	total->injected += here.injected;
	total->crashes += here.crashes;
	total->hangs += here.hangs;
	total->leaks += here.leaks;
	total->unusable += here.unusable;
	total->silent += here.silent;
}

static void run_scenario(const struct scenario *scenario, const struct options *options, struct progress *progress,
			 struct total *total)
{
	uint64_t counts[FAIL_KINDS + 1], calls = 0;
	if (scenario->prepare)
		scenario->prepare();
	count_calls(scenario, counts);
	printf("%-28s", scenario->name);
	for (int kind = 0; kind < FAIL_KINDS; kind++) {
		calls += counts[kind];
		if (counts[kind])
			printf(" %s %llu", fail_kind_name((enum fail_kind)kind), (unsigned long long)counts[kind]);
	}
	printf("\n");
	total->scenarios++;
	if (counts[FAIL_KINDS])
		total->crashes++; /* it does not work by itself */
	/* Threads make the number vary a little: a few further calls end the search by themselves. */
	for (int forever = 0; forever < 2 && !counts[FAIL_KINDS]; forever++)
		run_mode(scenario, calls + (options->sample ? 0 : calls / 10 + 4), options, forever, progress, total);
	if (scenario->finish)
		scenario->finish();
}

static int run_at(const struct scenario *scenario, const struct options *options)
{
	struct progress progress = {0};
	if (scenario->prepare)
		scenario->prepare();
	begin(scenario);
	bool there = run_one(scenario, options->at, options->forever, &progress);
	printf("%s, call %llu: %s, %llu errors, %llu leaks, %llu unusable\n", scenario->name, (unsigned long long)options->at,
	       there ? "failed" : "no such call", (unsigned long long)progress.errors, (unsigned long long)progress.leaks,
	       (unsigned long long)progress.unusable);
	return progress.leaks || progress.unusable;
}

static bool parse(int argc, char **argv, struct options *options)
{
	for (int i = 1; i < argc; i++) {
		bool more = i + 1 < argc;
		if (strcmp(argv[i], "--sample") == 0 && more)
			options->sample = strtoull(argv[++i], NULL, 10);
		else if (strcmp(argv[i], "--at") == 0 && more)
			options->at = strtoull(argv[++i], NULL, 10);
		else if (strcmp(argv[i], "--only") == 0 && more)
			options->only = argv[++i];
		else if (strcmp(argv[i], "--forever") == 0)
			options->forever = true;
		else
			return false;
	}
	return true;
}

int main(int argc, char **argv)
{
	const struct scenario *const groups[] = {parser_scenarios, store_scenarios, stream_scenarios, http_scenarios,
						 link_scenarios, disk_scenarios, etcd_scenarios, request_scenarios};
	struct options options = {0};
	struct total total = {0};
	if (!parse(argc, argv, &options)) {
		fprintf(stderr, "usage: torture [--sample N] [--only TEXT] [--at K [--forever]]\n");
		return 2;
	}
	fail_install();
	signal(SIGPIPE, SIG_IGN);
	struct progress *progress = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!options.at)
		printf("%-28s %-12s %8s %8s %7s %5s %6s %8s %7s\n", "scenario", "fails", "runs", "injected", "crashes", "hangs",
		       "leaks", "unusable", "silent");
	for (size_t group = 0; group < sizeof(groups) / sizeof(*groups); group++)
		for (const struct scenario *scenario = groups[group]; scenario->name; scenario++) {
			if (options.only && !strstr(scenario->name, options.only))
				continue;
			if (options.at)
				return run_at(scenario, &options);
			run_scenario(scenario, &options, progress, &total);
		}
	printf("%llu scenarios, %llu failures injected: %llu crashes, %llu hangs, %llu leaks, %llu unusable, %llu silent\n",
	       (unsigned long long)total.scenarios, (unsigned long long)total.injected, (unsigned long long)total.crashes,
	       (unsigned long long)total.hangs, (unsigned long long)total.leaks, (unsigned long long)total.unusable,
	       (unsigned long long)total.silent);
	return total.crashes || total.hangs || total.leaks || total.unusable || total.silent || !total.injected;
}

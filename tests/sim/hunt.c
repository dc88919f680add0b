#define _POSIX_C_SOURCE 200809L
#include "tests/sim/hunt.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/planted.h"
#include "tests/sim/run.h"

enum { BUGS_MAX = 96, WORDS_MAX = 1024 };

struct prey {
	struct planted_line bug;
	pid_t pid; /* 0: not running */
	FILE *said;
	double started_s, took_s;
	bool over, found;
	unsigned long long seed;
	char by[HUNT_SAID_MAX];
};

static double seconds_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Seeds that cannot show a bug which is rare enough without them are not tried for it. */
static bool may_show(const char *bug, uint64_t seed)
{
	return strcmp(bug, "disk-torn-footer-accepted") != 0 || run_kills_at_footers(seed);
}

/* In a process of its own: a bug may crash, or write where it should not. */
static void run_seeds(const struct prey *prey, const struct hunt_options *o)
{
	dup2(fileno(prey->said), STDERR_FILENO);
	bool there = planted_choose(prey->bug.name);
	assert(there);
	(void)there;
	for (uint64_t seed = 0, tried = 0; tried < o->limit; seed++) {
		struct run_result result;
		if (!may_show(prey->bug.name, seed))
			continue;
		tried++;
		run_seed(seed, false, NULL, &result);
	}
	_exit(0);
}

static void start(struct prey *prey, const struct hunt_options *o)
{
	prey->said = tmpfile();
	assert(prey->said);
	prey->started_s = seconds_now();
	fflush(NULL);
	prey->pid = fork();
	assert(prey->pid >= 0);
	if (prey->pid == 0)
		run_seeds(prey, o);
}

/* What an invariant or an assertion said: "… seed N fails at T ms: WHAT", or "FILE:LINE: … Assertion `WHAT' failed". */
static void take_line(const char *line, unsigned long long *seed, char *said)
{
	const char *fails = strstr(line, " fails at "), *what = fails ? strstr(fails, " ms: ") : NULL;
	const char *named = strstr(line, "seed "), *assertion = strstr(line, ": Assertion `"), *file = strstr(line, "../");
	if (named && (what || strstr(line, "aborted in seed")))
		sscanf(named, "seed %llu", seed);
	if (what)
		snprintf(said, HUNT_SAID_MAX, "%s", what + 5);
	else if (assertion && !said[0])
		snprintf(said, HUNT_SAID_MAX, "I8: %s", file && file < assertion ? file + 3 : assertion + 2);
}

static void take_words(FILE *file, unsigned long long *seed, char *said)
{
	char line[WORDS_MAX];
	rewind(file);
	while (fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = 0;
		take_line(line, seed, said);
	}
	fclose(file);
}

static void finish(struct prey *prey, int status)
{
	prey->over = true;
	prey->pid = 0;
	prey->took_s = seconds_now() - prey->started_s;
	prey->found = !WIFEXITED(status) || WEXITSTATUS(status) != 0;
	take_words(prey->said, &prey->seed, prey->by);
	if (prey->found && !prey->by[0])
		snprintf(prey->by, sizeof(prey->by), "I8: ended with status %d", status);
}

static void print(const struct prey *prey)
{
	printf("%-32s %s (%s)\n", prey->bug.name, prey->bug.text, prey->bug.report);
	if (prey->found)
		printf("    seed %3llu, %.1f s, %s\n", prey->seed, prey->took_s, prey->by);
	else
		printf("    not found, %.1f s\n", prey->took_s);
	fflush(stdout);
}

static void reap(struct prey *list, uint32_t count)
{
	int status;
	pid_t pid = wait(&status);
	for (uint32_t i = 0; i < count; i++)
		if (list[i].pid == pid && pid > 0)
			finish(&list[i], status);
}

int hunt_all(const struct hunt_options *o)
{
	static struct prey list[BUGS_MAX];
	uint32_t count = planted_count(), next = 0, running = 0, printed = 0, found = 0;
	assert(count <= BUGS_MAX);
	double started_s = seconds_now();
	for (uint32_t i = 0; i < count; i++)
		list[i].bug = planted_line(i);
	while (printed < count) {
		for (; running < o->jobs && next < count; running++)
			start(&list[next++], o);
		reap(list, count);
		running--;
		for (; printed < count && list[printed].over; printed++) {
			print(&list[printed]);
			found += list[printed].found;
		}
	}
	printf("%u of %u planted bugs found within %u seeds each, %.1f s\n", found, count, o->limit,
	       seconds_now() - started_s);
	return count == 0 || found < (o->at_least ? o->at_least : count);
}

/* ---- what a violation needs */

bool hunt_seed(uint64_t seed, const struct cluster_cut *cut, char *ret_said)
{
	FILE *said = tmpfile();
	assert(said);
	fflush(NULL);
	pid_t pid = fork();
	assert(pid >= 0);
	if (pid == 0) {
		struct run_result result;
		dup2(fileno(said), STDERR_FILENO);
		run_seed(seed, false, cut, &result);
		_exit(0);
	}
	int status;
	unsigned long long named;
	pid_t ended = waitpid(pid, &status, 0);
	assert(ended == pid);
	(void)ended;
	ret_said[0] = 0;
	take_words(said, &named, ret_said);
	return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

/* Still the same kind of violation: its name, like "I7", and the words up to the first number. */
static bool alike(const char *a, const char *b)
{
	return strncmp(a, b, 3) == 0;
}

static uint32_t leave_out(uint64_t seed, struct cluster_cut *cut, uint64_t *bits, const char *first)
{
	uint32_t kept = 0;
	char said[HUNT_SAID_MAX];
	for (int i = 0; i < 64; i++) {
		uint64_t before = *bits;
		*bits |= UINT64_C(1) << i;
		if (hunt_seed(seed, cut, said) && alike(said, first))
			continue;
		*bits = before;
		kept++;
	}
	return kept;
}

int hunt_shrink(uint64_t seed, struct cluster_cut *ret_cut)
{
	char first[HUNT_SAID_MAX];
	struct cluster_cut cut = {0};
	if (!hunt_seed(seed, &cut, first)) {
		printf("seed %llu does not fail\n", (unsigned long long)seed);
		return 1;
	}
	printf("seed %llu: %s\n", (unsigned long long)seed, first);
	uint32_t faults = leave_out(seed, &cut, &cut.faults, first);
	uint32_t requests = leave_out(seed, &cut, &cut.requests[0], first);
	requests += leave_out(seed, &cut, &cut.requests[1], first);
	faults = leave_out(seed, &cut, &cut.faults, first); /* some were needed only by requests that are gone */
	char said[HUNT_SAID_MAX];
	bool fails = hunt_seed(seed, &cut, said);
	printf("%u faults and %u requests are enough: %s\n", faults, requests, said);
	*ret_cut = cut;
	return !fails;
}

#define _POSIX_C_SOURCE 200809L
#include "tests/sim/hunt.h"

#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/planted.h"
#include "tests/sim/run.h"

enum { PLANTINGS_MAX = 96, SAID_MAX = 160 };

struct prey {
	struct planting planting;
	pid_t pid; /* 0: not running */
	FILE *said;
	double started_s, took_s;
	bool over, found, given_up;
	unsigned long long seed;
	char by[SAID_MAX];
};

static double seconds_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* In a process of its own: a bug may crash, or write where it should not. */
static void run_seeds(const struct prey *prey, const struct hunt_options *o)
{
	dup2(fileno(prey->said), STDERR_FILENO);
	if (o->skip_s)
		alarm(o->skip_s);
	bool there = planting_choose(prey->planting.name);
	assert(there);
	(void)there;
	for (uint64_t seed = 0; seed < o->limit; seed++) {
		struct run_result result;
		run_seed(seed, false, &result);
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

/* What an invariant or an assertion said: "… seed N fails at T ms: WHAT", or "Assertion `WHAT' failed". */
static void take_word(struct prey *prey, const char *line)
{
	const char *fails = strstr(line, " fails at "), *what = fails ? strstr(fails, " ms: ") : NULL;
	const char *seed = strstr(line, "seed ");
	if (seed && (what || strstr(line, "aborted in seed")))
		sscanf(seed, "seed %llu", &prey->seed);
	const char *assertion = strstr(line, "Assertion `");
	if (what)
		snprintf(prey->by, sizeof(prey->by), "%s", what + 5);
	else if (assertion && !prey->by[0])
		snprintf(prey->by, sizeof(prey->by), "I8: %s", assertion);
}

static void finish(struct prey *prey, int status)
{
	prey->over = true;
	prey->pid = 0;
	prey->took_s = seconds_now() - prey->started_s;
	prey->given_up = WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM;
	prey->found = !prey->given_up && !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	char line[1024];
	rewind(prey->said);
	while (fgets(line, sizeof(line), prey->said)) {
		line[strcspn(line, "\n")] = 0;
		take_word(prey, line);
	}
	fclose(prey->said);
	if (prey->found && !prey->by[0])
		snprintf(prey->by, sizeof(prey->by), "I8: ended with status %d", status);
}

static void print(const struct prey *prey)
{
	const struct planting *p = &prey->planting;
	if (prey->found)
		printf("%-32s seed %3llu  %6.1f s  %s\n", p->name, prey->seed, prey->took_s, prey->by);
	else
		printf("%-32s %s  %6.1f s  %s\n", p->name, prey->given_up ? "given up" : "not found", prey->took_s,
		       p->absorbed ? p->absorbed : "");
	printf("%34s%s (%s)\n", "", p->text, p->report);
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
	static struct prey list[PLANTINGS_MAX];
	uint32_t count = plantings_count(), next = 0, running = 0, printed = 0, found = 0, missed = 0;
	assert(count <= PLANTINGS_MAX);
	double started_s = seconds_now();
	for (uint32_t i = 0; i < count; i++)
		list[i].planting = planting_at(i);
	while (printed < count) {
		for (; running < o->jobs && next < count; running++)
			start(&list[next++], o);
		reap(list, count);
		running--;
		for (; printed < count && list[printed].over; printed++) {
			print(&list[printed]);
			found += list[printed].found;
			missed += !list[printed].found && !list[printed].planting.absorbed && !list[printed].given_up;
		}
	}
	printf("%u of %u planted bugs found within %u seeds each, %u missed, %.1f s\n", found, count, o->limit, missed,
	       seconds_now() - started_s);
	return missed > 0 || found == 0;
}

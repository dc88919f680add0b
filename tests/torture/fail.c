#include "fail.h"

#include <execinfo.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "fail_impl.h"

enum { PLACES = 1 << 20 };

static struct {
	uint64_t k; /* 0: none */
	uint64_t count, failed;
	uint64_t counted[FAIL_KINDS];
	void *site;
	bool armed, forever;
} state;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local int paused;

const char *fail_kind_name(enum fail_kind kind)
{
	static const char *const names[FAIL_KINDS] = {"memory", "file", "socket", "thread", "library", "tls", "ucx"};
	return names[kind];
}

void fail_arm(uint64_t k, bool forever)
{
	pthread_mutex_lock(&lock);
	memset(&state, 0, sizeof(state));
	state.k = k;
	state.forever = forever;
	state.armed = true;
	pthread_mutex_unlock(&lock);
}

uint64_t fail_disarm(void)
{
	pthread_mutex_lock(&lock);
	state.armed = false;
	uint64_t failed = state.failed;
	pthread_mutex_unlock(&lock);
	return failed;
}

uint64_t fail_counted(enum fail_kind kind)
{
	return state.counted[kind];
}

void *fail_site(void)
{
	return state.site;
}

bool fail_happened(void)
{
	return state.armed && state.failed;
}

void fail_pause(void)
{
	paused++;
}

void fail_resume(void)
{
	paused--;
}

bool fail_now(enum fail_kind kind, void *caller)
{
	if (!state.armed || paused)
		return false;
	pthread_mutex_lock(&lock);
	state.count++;
	state.counted[kind]++;
	bool fails = state.k && (state.count == state.k || (state.forever && state.count > state.k));
	if (fails && state.failed++ == 0)
		state.site = caller;
	pthread_mutex_unlock(&lock);
	return fails;
}

/* ---- what lives: open addressing, deletion by marking (a process of the test does not live long) */

static struct {
	const void *memory; /* NULL: free; &places: was given back */
	void *caller;
	uint64_t number;
} places[PLACES];
static size_t live_count;
static uint64_t given_count;

static size_t place_of(const void *memory)
{
	return ((uintptr_t)memory >> 4) * 0x9e3779b97f4a7c15u >> 44;
}

void *fail_given(void *memory, void *caller)
{
	if (!memory || paused)
		return memory;
	pthread_mutex_lock(&lock);
	size_t at = place_of(memory);
	while (places[at].memory && places[at].memory != (void *)&places)
		at = (at + 1) % PLACES;
	places[at].memory = memory;
	places[at].caller = caller;
	places[at].number = ++given_count;
	live_count++;
	pthread_mutex_unlock(&lock);
	return memory;
}

void fail_taken(const void *memory)
{
	if (!memory)
		return;
	pthread_mutex_lock(&lock);
	for (size_t at = place_of(memory); places[at].memory; at = (at + 1) % PLACES) {
		if (places[at].memory != memory)
			continue;
		bool is_last = !places[(at + 1) % PLACES].memory;
		places[at].memory = is_last ? NULL : (void *)&places;
		live_count--;
		break;
	}
	pthread_mutex_unlock(&lock);
}

size_t fail_live(void)
{
	return live_count;
}

uint64_t fail_mark(void)
{
	return given_count;
}

void fail_print_live(uint64_t since)
{
	int printed = 0;
	for (size_t at = 0; at < PLACES && printed < 8; at++) {
		if (!places[at].memory || places[at].memory == (void *)&places || places[at].number <= since)
			continue;
		fprintf(stderr, "  lives, asked for by ");
		fflush(stderr);
		backtrace_symbols_fd(&places[at].caller, 1, 2);
		printed++;
	}
}

#include "kernels/cpu/threads.h"
#include <assert.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* About 30 us on the slowest `pause` we know (140 cycles, Skylake): longer than the gaps between the
 * operations of one step, shorter than anybody's notice of an idle node. */
#define SPIN_MAX 1000

/* The gate: a bit that says open, below it the number of workers inside. */
#define GATE_OPEN   (UINT32_C(1) << 31)
#define GATE_INSIDE (GATE_OPEN - 1)

struct threads {
	_Alignas(64) _Atomic uint32_t gate;
	_Alignas(64) _Atomic uint32_t next; /* item of the job that nobody has taken */
	_Alignas(64) _Atomic uint32_t call; /* the futex: counts jobs, and the end */
	_Atomic uint32_t sleeper_count;
	_Atomic bool stop;
	threads_fn *fn; /* the job: written while the gate is shut and nobody inside */
	void *arg;
	uint32_t item_count;
	uint32_t thread_count;
	struct worker {
		struct threads *threads;
		uint32_t index;
		pthread_t thread;
	} *workers; /* [thread_count], 0 unused: it is the caller */
};

static void relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static void futex_wait(_Atomic uint32_t *word, uint32_t seen)
{
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void futex_wake_all(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void run_items(struct threads *threads, uint32_t worker)
{
	for (;;) {
		uint32_t index = atomic_fetch_add_explicit(&threads->next, 1, memory_order_relaxed);
		if (index >= threads->item_count)
			return;
		threads->fn(threads->arg, index, worker);
	}
}

/* Goes in if the gate is open; false: the job has ended, or there was none. */
static bool gate_enter(struct threads *threads)
{
	uint32_t gate = atomic_load_explicit(&threads->gate, memory_order_acquire);
	while (gate & GATE_OPEN)
		if (atomic_compare_exchange_weak_explicit(&threads->gate, &gate, gate + 1, memory_order_acquire,
							  memory_order_acquire))
			return true;
	return false;
}

/* Returns when threads->call is no longer `seen`. */
static void await_call(struct threads *threads, uint32_t seen)
{
	for (int i = 0; i < SPIN_MAX; i++) {
		if (atomic_load_explicit(&threads->call, memory_order_acquire) != seen)
			return;
		relax();
	}
	/* Counted before the futex looks at the word: either the caller sees the sleeper, or the sleeper
	 * sees the new word. */
	atomic_fetch_add(&threads->sleeper_count, 1);
	while (atomic_load(&threads->call) == seen)
		futex_wait(&threads->call, seen);
	atomic_fetch_sub(&threads->sleeper_count, 1);
}

static void *worker_main(void *arg)
{
	struct worker *worker = arg;
	struct threads *threads = worker->threads;
	uint32_t seen = 0;
	for (;;) {
		await_call(threads, seen);
		seen = atomic_load_explicit(&threads->call, memory_order_acquire);
		if (atomic_load(&threads->stop))
			return NULL;
		if (gate_enter(threads)) {
			run_items(threads, worker->index);
			atomic_fetch_sub_explicit(&threads->gate, 1, memory_order_release);
		}
	}
}

static void call_workers(struct threads *threads)
{
	atomic_fetch_add(&threads->call, 1);
	if (atomic_load(&threads->sleeper_count) > 0)
		futex_wake_all(&threads->call);
}

void threads_run(struct threads *threads, uint32_t count, threads_fn *fn, void *arg)
{
	assert(count <= INT32_MAX); /* `next` runs past the end by one for each worker */
	if (threads->thread_count == 1 || count <= 1) {
		for (uint32_t index = 0; index < count; index++)
			fn(arg, index, 0);
		return;
	}
	threads->fn = fn;
	threads->arg = arg;
	threads->item_count = count;
	atomic_store_explicit(&threads->next, 0, memory_order_relaxed);
	atomic_fetch_or_explicit(&threads->gate, GATE_OPEN, memory_order_release);
	call_workers(threads);
	run_items(threads, 0);
	atomic_fetch_and_explicit(&threads->gate, ~GATE_OPEN, memory_order_acquire);
	for (int i = 0; atomic_load_explicit(&threads->gate, memory_order_acquire) & GATE_INSIDE; i++) {
		if (i < SPIN_MAX)
			relax();
		else
			sched_yield(); /* more threads than CPUs: let the one inside finish */
	}
}

uint32_t threads_count(const struct threads *threads)
{
	return threads->thread_count;
}

static void workers_join(struct threads *threads, uint32_t count)
{
	atomic_store(&threads->stop, true);
	call_workers(threads);
	for (uint32_t i = 1; i < count; i++)
		pthread_join(threads->workers[i].thread, NULL);
}

enum err threads_create(uint32_t thread_count, struct threads **ret_threads)
{
	assert(thread_count > 0);
	struct threads *threads = aligned_alloc(64, sizeof(*threads));
	if (!threads)
		return ERR_NOMEM;
	*threads = (struct threads){.thread_count = thread_count};
	threads->workers = calloc(thread_count, sizeof(*threads->workers));
	if (!threads->workers)
		goto free_threads;
	for (uint32_t i = 1; i < thread_count; i++) {
		threads->workers[i] = (struct worker){.threads = threads, .index = i};
		if (pthread_create(&threads->workers[i].thread, NULL, worker_main, &threads->workers[i]) != 0) {
			workers_join(threads, i);
			goto free_workers;
		}
	}
	*ret_threads = threads;
	return ERR_OK;

free_workers:
	free(threads->workers);
free_threads:
	free(threads);
	return ERR_NOMEM;
}

void threads_destroy(struct threads *threads)
{
	if (!threads)
		return;
	workers_join(threads, threads->thread_count);
	free(threads->workers);
	free(threads);
}

/* threads - a fixed set of workers that share one indexed job at a time.
 *
 * Owns:   its worker threads.
 * Loop:   threads_run() from one thread at a time; that thread works too, as worker 0.
 * Bounds: thread_count - 1 workers, set at create.
 * Rules:  1 an idle worker spins for some tens of microseconds, then sleeps on a futex;
 *         2 a worker that wakes late finds the job closed: nobody waits for sleepers, only for those
 *           who have begun. */
#ifndef KERNELS_CPU_THREADS_H
#define KERNELS_CPU_THREADS_H
#include <stdint.h>
#include "base/err.h"

struct threads;

/* Runs item `index` of the job as worker `worker` (0 .. thread_count - 1, for scratch memory). */
typedef void threads_fn(void *arg, uint32_t index, uint32_t worker);

/* ERR_NOMEM, also when the system gives no more threads. */
MUST_USE enum err threads_create(uint32_t thread_count, struct threads **ret_threads);
void threads_destroy(struct threads *threads); /* NULL is fine */
uint32_t threads_count(const struct threads *threads);
/* Runs items 0 .. count - 1, each once, in no order; returns when all have run. */
void threads_run(struct threads *threads, uint32_t count, threads_fn *fn, void *arg);
#endif

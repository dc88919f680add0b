/* copy - copies and digests memory off the loop: one thread, or bounded slices on the loop.
 *
 * Owns:   its thread and the order of jobs.  A job's memory is the caller's, until its `done` ran.
 * Loop:   touch only from the loop given to copy_create(); done runs there, never inside copy_submit().
 * Bounds: the caller's: jobs are embedded in what they are about. */
#ifndef NET_COPY_H
#define NET_COPY_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

struct loop;
struct copy;

struct copy_job {
	void *dst;
	const void *src; /* NULL: dst has landed already and is digested only */
	size_t length;
	const uint64_t *generation; /* looked at before and after the copy; NULL: not */
	uint64_t generation_wanted;
	void (*work)(struct copy_job *job); /* done instead of a copy, in one go; NULL: none */
	void (*done)(struct copy_job *job);
	void *arg;
	/* results */
	enum err err; /* ERR_OK, ERR_STALE */
	uint64_t digest;
	struct copy_job *next; /* copy.c only */
};

/* on_loop: no thread; at most 256 KiB at a time, then the loop turns. */
MUST_USE enum err copy_create(struct loop *loop, bool on_loop, struct copy **ret_copy);
/* Finishes the job under way, calls done of those that ran; none may be queued: cancel them first. */
void copy_destroy(struct copy *copy);
void copy_submit(struct copy *copy, struct copy_job *job);
/* True: the job was still waiting and is out; done will not run.  False: it runs or has run. */
bool copy_cancel(struct copy *copy, struct copy_job *job);
/* Waits until nothing is queued or under way: the sources may go away after it.  without a thread done
 * runs inside, else from the loop. */
void copy_flush(struct copy *copy);
/* The same work here and now; done is not called. */
void copy_now(struct copy_job *job);
#endif

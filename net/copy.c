#include "net/copy.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/digest.h"
#include "net/loop.h"
#include "net/region_impl.h"

/* 256 KiB: 20..60 us of a loop's time on one core (bench/link), less than a wake-up of an idle CPU. */
#define SLICE_BYTES ((size_t)256 << 10)

struct job_queue {
	struct copy_job *head;
	struct copy_job **tail;
};

struct copy {
	struct loop *loop;
	struct loop_task finished_task; /* thread -> loop: the finished queue has something */
	struct loop_task slice_task;    /* without a thread: the next slice */
	bool on_loop;
	pthread_t thread;
	pthread_mutex_t lock; /* guards waiting, finished and stop */
	pthread_cond_t wake;
	struct job_queue waiting;
	struct job_queue finished;
	bool stop;
	bool busy; /* the thread is in a job */
	pthread_cond_t idle;
	struct digest slice_digest; /* of the job at the head of waiting, without a thread */
	size_t slice_at;
};

static void queue_init(struct job_queue *queue)
{
	queue->head = NULL;
	queue->tail = &queue->head;
}

static void queue_push(struct job_queue *queue, struct copy_job *job)
{
	job->next = NULL;
	*queue->tail = job;
	queue->tail = &job->next;
}

static struct copy_job *queue_pop(struct job_queue *queue)
{
	struct copy_job *job = queue->head;
	if (!job)
		return NULL;
	queue->head = job->next;
	if (!queue->head)
		queue->tail = &queue->head;
	return job;
}

static bool queue_remove(struct job_queue *queue, struct copy_job *job)
{
	for (struct copy_job **link = &queue->head; *link; link = &(*link)->next) {
		if (*link != job)
			continue;
		*link = job->next;
		if (!job->next)
			queue->tail = link;
		return true;
	}
	return false;
}

static bool is_current_before(const struct copy_job *job)
{
	return !job->generation || region_generation_before(job->generation) == job->generation_wanted;
}

static bool is_current_after(const struct copy_job *job)
{
	return !job->generation || region_generation_after(job->generation) == job->generation_wanted;
}

void copy_now(struct copy_job *job)
{
	if (job->work) {
		job->work(job);
		job->err = ERR_OK;
		return;
	}
	if (!is_current_before(job)) {
		job->err = ERR_STALE;
		return;
	}
	job->digest = job->src ? digest_copy(job->dst, job->src, job->length) : digest_of(job->dst, job->length);
	job->err = is_current_after(job) ? ERR_OK : ERR_STALE;
}

/* ---- with a thread ---- */

static void *copy_main(void *arg)
{
	struct copy *copy = arg;
	pthread_mutex_lock(&copy->lock);
	while (true) {
		struct copy_job *job = queue_pop(&copy->waiting);
		if (!job && copy->stop)
			break;
		if (!job) {
			pthread_cond_signal(&copy->idle);
			pthread_cond_wait(&copy->wake, &copy->lock);
			continue;
		}
		copy->busy = true;
		pthread_mutex_unlock(&copy->lock);
		copy_now(job);
		pthread_mutex_lock(&copy->lock);
		copy->busy = false;
		queue_push(&copy->finished, job);
		loop_post(copy->loop, &copy->finished_task);
	}
	pthread_mutex_unlock(&copy->lock);
	return NULL;
}

static void call_done(struct job_queue *queue)
{
	for (struct copy_job *job = queue->head, *next; job; job = next) {
		next = job->next;
		job->done(job);
	}
}

static void finish_jobs(void *arg)
{
	struct copy *copy = arg;
	pthread_mutex_lock(&copy->lock);
	struct job_queue finished = copy->finished;
	queue_init(&copy->finished);
	pthread_mutex_unlock(&copy->lock);
	call_done(&finished);
}

/* ---- without ---- */

static void run_slice(void *arg)
{
	struct copy *copy = arg;
	for (size_t room = SLICE_BYTES; room > 0 && copy->waiting.head;) {
		struct copy_job *job = copy->waiting.head;
		if (job->work) {
			copy_now(job);
			queue_pop(&copy->waiting);
			job->done(job);
			break;
		}
		if (copy->slice_at == 0) {
			job->err = is_current_before(job) ? ERR_OK : ERR_STALE;
			digest_init(&copy->slice_digest, job->length);
		}
		size_t rest = job->err == ERR_OK ? job->length - copy->slice_at : 0;
		size_t part = rest < room ? rest : room;
		uint8_t *dst = (uint8_t *)job->dst + copy->slice_at;
		if (part && job->src)
			digest_add_copy(&copy->slice_digest, dst, (const uint8_t *)job->src + copy->slice_at, part);
		else if (part)
			digest_add(&copy->slice_digest, dst, part);
		copy->slice_at += part;
		/* Whole leaves only: the next portion must begin at one. */
		room = room - part < DIGEST_LEAF_BYTES ? 0 : (room - part) / DIGEST_LEAF_BYTES * DIGEST_LEAF_BYTES;
		if (part < rest)
			break;
		job->digest = digest_end(&copy->slice_digest);
		if (job->err == ERR_OK && !is_current_after(job))
			job->err = ERR_STALE;
		copy->slice_at = 0;
		queue_pop(&copy->waiting);
		job->done(job);
	}
	if (copy->waiting.head)
		loop_post(copy->loop, &copy->slice_task);
}

/* ---- both ---- */

enum err copy_create(struct loop *loop, bool on_loop, struct copy **ret_copy)
{
	struct copy *copy = aligned_alloc(64, (sizeof(*copy) + 63) / 64 * 64);
	if (!copy)
		return ERR_NOMEM;
	*copy = (struct copy){.loop = loop, .on_loop = on_loop};
	queue_init(&copy->waiting);
	queue_init(&copy->finished);
	loop_task_init(&copy->finished_task, finish_jobs, copy);
	loop_task_init(&copy->slice_task, run_slice, copy);
	pthread_mutex_init(&copy->lock, NULL);
	pthread_cond_init(&copy->wake, NULL);
	pthread_cond_init(&copy->idle, NULL);
	if (!on_loop && pthread_create(&copy->thread, NULL, copy_main, copy) != 0) {
		pthread_cond_destroy(&copy->wake);
		pthread_cond_destroy(&copy->idle);
		pthread_mutex_destroy(&copy->lock);
		free(copy);
		return ERR_NOMEM;
	}
	*ret_copy = copy;
	return ERR_OK;
}

void copy_destroy(struct copy *copy)
{
	if (!copy)
		return;
	if (!copy->on_loop) {
		pthread_mutex_lock(&copy->lock);
		assert(!copy->waiting.head);
		copy->stop = true;
		pthread_cond_signal(&copy->wake);
		pthread_mutex_unlock(&copy->lock);
		pthread_join(copy->thread, NULL);
	}
	loop_task_cancel(copy->loop, &copy->finished_task);
	loop_task_cancel(copy->loop, &copy->slice_task);
	finish_jobs(copy);
	pthread_cond_destroy(&copy->wake);
	pthread_cond_destroy(&copy->idle);
	pthread_mutex_destroy(&copy->lock);
	free(copy);
}

void copy_submit(struct copy *copy, struct copy_job *job)
{
	if (copy->on_loop) {
		queue_push(&copy->waiting, job);
		loop_post(copy->loop, &copy->slice_task);
		return;
	}
	pthread_mutex_lock(&copy->lock);
	bool idle = !copy->waiting.head;
	queue_push(&copy->waiting, job);
	if (idle)
		pthread_cond_signal(&copy->wake);
	pthread_mutex_unlock(&copy->lock);
}

void copy_flush(struct copy *copy)
{
	if (copy->on_loop) {
		while (copy->waiting.head)
			run_slice(copy);
		return;
	}
	pthread_mutex_lock(&copy->lock);
	while (copy->waiting.head || copy->busy)
		pthread_cond_wait(&copy->idle, &copy->lock);
	pthread_mutex_unlock(&copy->lock);
}

bool copy_cancel(struct copy *copy, struct copy_job *job)
{
	pthread_mutex_lock(&copy->lock);
	bool was_head = copy->waiting.head == job;
	bool removed = queue_remove(&copy->waiting, job);
	pthread_mutex_unlock(&copy->lock);
	/* Without a thread nobody is inside the head job between two slices: it may go half done. */
	if (removed && was_head)
		copy->slice_at = 0;
	return removed;
}

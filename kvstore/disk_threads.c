/* disk_threads - the plain shell: a few threads, each with one call under way. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kvstore/disk_shell_impl.h"

/* A queue of some reads and writes keeps a disk busy; each thread is a stack and nothing else. */
enum { THREADS = 8 };

struct threads {
	struct disk_shell *shell;
	pthread_t threads[THREADS];
	int thread_count;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t wake;
	struct disk_request *first, *last; /* waiting */
	struct disk_request *finished;
	bool stop;
	struct loop_task task; /* finished has something */
};

static int sync_file(int fd)
{
	while (fdatasync(fd) != 0)
		if (errno != EINTR)
			return errno;
	return 0;
}

static int trim_file(int fd, const struct disk_request *r)
{
	uint64_t bytes = r->shell->options.segment_bytes;
	if (fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, (off_t)r->at, (off_t)bytes) == 0)
		return 0;
	return errno == EOPNOTSUPP ? 0 : errno;
}

static int transfer(int fd, struct disk_request *r)
{
	disk_request_sign(r);
	while (r->left > 0 && !r->error) {
		ssize_t bytes = r->io.kind == DISK_READ ? preadv(fd, r->parts, r->part_count, (off_t)r->at)
							: pwritev(fd, r->parts, r->part_count, (off_t)r->at);
		if (bytes < 0 && errno == EINTR)
			continue;
		if (bytes <= 0)
			return bytes < 0 ? errno : EIO; /* 0: the file is shorter than it was made */
		disk_request_advance(r, (size_t)bytes);
	}
	disk_request_arrived(r);
	disk_request_digest(r);
	return r->error;
}

static void perform(struct disk_request *r)
{
	int fd = r->shell->fd;
	if (r->error)
		return;
	if (r->io.kind == DISK_SYNC)
		r->error = sync_file(fd);
	else if (r->io.kind == DISK_TRIM)
		r->error = trim_file(fd, r);
	else if (r->io.kind == DISK_ENCODE)
		disk_request_encode(r);
	else
		r->error = transfer(fd, r);
}

static void *work(void *arg)
{
	struct threads *t = arg;
	pthread_mutex_lock(&t->lock);
	for (;;) {
		while (!t->first && !t->stop)
			pthread_cond_wait(&t->wake, &t->lock);
		struct disk_request *r = t->first;
		if (!r)
			break;
		t->first = r->next;
		pthread_mutex_unlock(&t->lock);
		perform(r);
		pthread_mutex_lock(&t->lock);
		r->next = t->finished;
		t->finished = r;
		loop_post(t->shell->loop, &t->task);
	}
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

static void finish(void *arg)
{
	struct threads *t = arg;
	pthread_mutex_lock(&t->lock);
	struct disk_request *r = t->finished;
	t->finished = NULL;
	pthread_mutex_unlock(&t->lock);
	while (r) {
		struct disk_request *next = r->next;
		disk_request_done(r);
		r = next;
	}
}

static void threads_submit(struct disk_shell *shell, struct disk_request *r)
{
	struct threads *t = shell->state;
	r->next = NULL;
	pthread_mutex_lock(&t->lock);
	if (t->first)
		t->last->next = r;
	else
		t->first = r;
	t->last = r;
	pthread_cond_signal(&t->wake);
	pthread_mutex_unlock(&t->lock);
}

static void threads_destroy(struct disk_shell *shell)
{
	struct threads *t = shell->state;
	pthread_mutex_lock(&t->lock);
	t->stop = true;
	pthread_cond_broadcast(&t->wake);
	pthread_mutex_unlock(&t->lock);
	for (int i = 0; i < t->thread_count; i++)
		pthread_join(t->threads[i], NULL);
	loop_task_cancel(shell->loop, &t->task);
	finish(t);
	pthread_cond_destroy(&t->wake);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

static enum err threads_create(struct disk_shell *shell, struct why *why)
{
	struct threads *t = calloc(1, sizeof(*t));
	if (!t)
		return ERR_NOMEM;
	t->shell = shell;
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->wake, NULL);
	loop_task_init(&t->task, finish, t);
	shell->state = t;
	for (int i = 0; i < THREADS; i++) {
		int error = pthread_create(&t->threads[i], NULL, work, t);
		if (error) {
			threads_destroy(shell);
			return why_set(why, ERR_NOMEM, "no thread for the disk: %s", strerror(error));
		}
		t->thread_count++;
	}
	return ERR_OK;
}

const struct disk_backend disk_threads = {"threads", threads_create, threads_submit, threads_destroy};

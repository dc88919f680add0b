/* disk_uring - the shell over io_uring: operations are queued with the kernel; what is to be written is signed, what has landed is
 * decoded and digested by one thread.  Blocks are encoded by another, so that no reader waits for that. */
#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "kvstore/disk_shell_impl.h"

struct uring {
	struct disk_shell *shell;
	struct io_uring ring;
	int event_fd; /* readable when something is over */
	struct loop_watch *watch;
	struct loop_timer *again; /* the kernel did not take all that is in the ring */
	struct copy *copy;
	struct copy *coder;
	uint32_t queued; /* in the ring or with the kernel */
};

static const uint64_t AGAIN_NS = 1000000;

/* ---- one operation */

/* The kernel may take nothing now, for want of memory: what is in the ring stays there, and is given to it again. */
static void submit(struct uring *u)
{
	if (io_uring_submit(&u->ring) < 0 || io_uring_sq_ready(&u->ring) > 0)
		loop_timer_arm(u->again, AGAIN_NS);
}

static void on_again(struct loop_timer *timer, void *arg)
{
	(void)timer;
	submit(arg);
}

static void queue(struct uring *u, struct disk_request *r)
{
	struct disk_shell *s = u->shell;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring); /* the ring is as deep as there are requests */
	switch (r->io.kind) {
	case DISK_READ:
		io_uring_prep_readv(sqe, s->fd, r->parts, (unsigned)r->part_count, r->at);
		break;
	case DISK_WRITE:
		io_uring_prep_writev(sqe, s->fd, r->parts, (unsigned)r->part_count, r->at);
		break;
	case DISK_SYNC:
		io_uring_prep_fsync(sqe, s->fd, IORING_FSYNC_DATASYNC);
		break;
	case DISK_TRIM:
		io_uring_prep_fallocate(sqe, s->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, (off_t)r->at,
					(off_t)s->options.segment_bytes);
		break;
	case DISK_ENCODE: /* never comes here: uring_submit() */
		assert(false);
	}
	io_uring_sqe_set_data(sqe, r);
	u->queued++;
	submit(u);
}

static void digest_now(struct copy_job *job)
{
	disk_request_digest(job->arg);
}

static void sign_now(struct copy_job *job)
{
	disk_request_sign(job->arg);
}

static void encode_now(struct copy_job *job)
{
	disk_request_encode(job->arg);
}

static void job_over(struct copy_job *job)
{
	disk_request_done(job->arg);
}

static void signed_now(struct copy_job *job)
{
	struct disk_request *r = job->arg;
	if (r->error || r->shell->closing)
		disk_request_done(r);
	else
		queue(r->shell->state, r);
}

/* Off the loop. */
static void begin_job(struct copy *copy, struct disk_request *r, void (*work)(struct copy_job *), void (*done)(struct copy_job *))
{
	r->job = (struct copy_job){.work = work, .done = done, .arg = r};
	copy_submit(copy, &r->job);
}

static void over(struct uring *u, struct disk_request *r, int result)
{
	bool moves = r->io.kind == DISK_READ || r->io.kind == DISK_WRITE;
	if (result == -EINTR || result == -EAGAIN || (moves && result > 0 && !disk_request_advance(r, (size_t)result))) {
		queue(u, r); /* the rest of it */
		return;
	}
	bool ignored = r->io.kind == DISK_TRIM && result == -EOPNOTSUPP;
	if (result < 0 && !ignored)
		r->error = -result;
	else if (moves && r->left > 0)
		r->error = EIO; /* the file is shorter than it was made */
	if (r->error || r->io.kind != DISK_READ || r->io.landing_bytes == 0 || u->shell->closing) {
		disk_request_done(r);
		return;
	}
	disk_request_arrived(r);
	begin_job(u->copy, r, digest_now, job_over);
}

static void reap(struct uring *u)
{
	struct io_uring_cqe *cqe;
	while (io_uring_peek_cqe(&u->ring, &cqe) == 0) {
		struct disk_request *r = io_uring_cqe_get_data(cqe);
		int result = cqe->res;
		io_uring_cqe_seen(&u->ring, cqe);
		u->queued--;
		over(u, r, result);
	}
}

static void on_ready(struct loop_watch *watch, unsigned ready, void *arg)
{
	struct uring *u = arg;
	uint64_t count;
	(void)watch, (void)ready;
	if (read(u->event_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		return;
	reap(u);
}

static void uring_submit(struct disk_shell *shell, struct disk_request *r)
{
	struct uring *u = shell->state;
	if (r->error) { /* no memory for it: told like any other outcome, by the loop */
		r->io.kind = DISK_SYNC;
		r->left = 0;
	}
	if (r->io.kind == DISK_ENCODE)
		begin_job(u->coder, r, encode_now, job_over);
	else if (r->io.kind == DISK_WRITE && r->io.tag)
		begin_job(u->copy, r, sign_now, signed_now);
	else
		queue(u, r);
}

/* ---- life */

static void uring_destroy(struct disk_shell *shell)
{
	struct uring *u = shell->state;
	struct io_uring_cqe *cqe;
	while (u->queued > 0) {
		(void)io_uring_submit(&u->ring); /* what it has not taken yet */
		if (io_uring_sq_ready(&u->ring) == 0 && io_uring_wait_cqe(&u->ring, &cqe) == 0)
			reap(u);
	}
	if (u->copy)
		copy_flush(u->copy);
	copy_destroy(u->copy); /* ends what was being digested */
	if (u->coder)
		copy_flush(u->coder);
	copy_destroy(u->coder);
	loop_watch_destroy(u->watch);
	loop_timer_destroy(u->again);
	if (u->event_fd >= 0)
		close(u->event_fd);
	io_uring_queue_exit(&u->ring);
	free(u);
}

static bool has_all(struct io_uring *ring)
{
	static const int needed[] = {IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_FALLOCATE};
	struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
	bool all = probe != NULL;
	for (size_t i = 0; all && i < sizeof(needed) / sizeof(*needed); i++)
		all = io_uring_opcode_supported(probe, needed[i]);
	io_uring_free_probe(probe);
	return all;
}

static enum err uring_create(struct disk_shell *shell, struct why *why)
{
	struct uring *u = calloc(1, sizeof(*u));
	if (!u)
		return ERR_NOMEM;
	u->shell = shell;
	int result = io_uring_queue_init(shell->options.depth, &u->ring, 0);
	if (result < 0) {
		free(u);
		return why_set(why, ERR_UNSUPPORTED, "the kernel refuses io_uring: %s", strerror(-result));
	}
	shell->state = u;
	u->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	enum err e = ERR_OK;
	if (!has_all(&u->ring))
		e = why_set(why, ERR_UNSUPPORTED, "the kernel's io_uring lacks an operation");
	else if (u->event_fd < 0 || io_uring_register_eventfd(&u->ring, u->event_fd) != 0)
		e = why_set(why, ERR_UNSUPPORTED, "no event of io_uring: %s", strerror(errno));
	if (e == ERR_OK)
		e = copy_create(shell->loop, false, &u->copy);
	if (e == ERR_OK)
		e = copy_create(shell->loop, false, &u->coder);
	if (e == ERR_OK)
		e = loop_timer_create(shell->loop, on_again, u, &u->again);
	if (e == ERR_OK)
		e = loop_watch_create(shell->loop, u->event_fd, LOOP_READ, on_ready, u, &u->watch);
	if (e != ERR_OK)
		uring_destroy(shell);
	return e;
}

const struct disk_backend disk_uring = {"io_uring", uring_create, uring_submit, uring_destroy};

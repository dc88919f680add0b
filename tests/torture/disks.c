/* A block on its way to a file and back, by each way of writing: the shell below the SSD tier. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "fail.h"
#include "kvstore/disk_shell.h"
#include "net/loop.h"
#include "tests/scratch.h"
#include "torture.h"

enum { SEGMENTS = 4, SEGMENT_PAGES = 4, LAYERS = 2, LAYER_BYTES = 3000, LANDING_BYTES = LAYERS * LAYER_BYTES };

struct world {
	struct loop *loop;
	struct disk_shell *shell;
	char path[64];
	uint8_t *head, *landing; /* beside a page, so that it is copied */
	uint64_t digests[LAYERS];
	int done;
	enum err e;
};

static void *landing_of(void *context, uint32_t landing, uint32_t offset)
{
	return ((struct world *)context)->landing + offset;
}

static void on_done(void *context, uint64_t op, enum err e)
{
	struct world *w = context;
	torture_check(!w->done && op == 7);
	w->done = 1;
	w->e = e;
}

static enum err perform(struct world *w, enum disk_io_kind kind, const char *what, struct why *why)
{
	bool moves = kind == DISK_READ || kind == DISK_WRITE;
	struct disk_io io = {.op = 7, .kind = kind, .segment = 2, .head = w->head, .head_bytes = moves ? DISK_PAGE_BYTES : 0,
			     .landing_bytes = moves ? LANDING_BYTES : 0, .layer_bytes = LAYER_BYTES, .ret_digests = w->digests};
	const struct disk_file *file = disk_shell_file(w->shell);
	w->done = 0;
	file->submit(file->context, &io);
	enum err e = torture_wait(w->loop, &w->done, why);
	if (e == ERR_OK && w->e != ERR_OK)
		e = why_set(why, w->e, "%s", what);
	return e;
}

/* Written, durable, read, given back; what comes back is what was written. */
static enum err there_and_back(struct world *w, struct why *why)
{
	memset(w->head, 1, DISK_PAGE_BYTES);
	memset(w->landing, 2, LANDING_BYTES);
	enum err e = perform(w, DISK_WRITE, "write", why);
	if (e == ERR_OK)
		e = perform(w, DISK_SYNC, "sync", why);
	memset(w->head, 0, DISK_PAGE_BYTES);
	memset(w->landing, 0, LANDING_BYTES);
	if (e == ERR_OK)
		e = perform(w, DISK_READ, "read", why);
	if (e != ERR_OK)
		return e;
	for (size_t i = 0; i < DISK_PAGE_BYTES; i++)
		torture_check(w->head[i] == 1);
	for (size_t i = 0; i < LANDING_BYTES; i++)
		torture_check(w->landing[i] == 2);
	for (int i = 0; i < LAYERS; i++)
		torture_check(w->digests[i] == digest_of(w->landing + i * LAYER_BYTES, LAYER_BYTES));
	return perform(w, DISK_TRIM, "trim", why);
}

static void make_place(struct world *w)
{
	fail_pause();
	scratch_path(w->path, sizeof(w->path), "torture-disk");
	w->head = aligned_alloc(DISK_PAGE_BYTES, 4 * DISK_PAGE_BYTES);
	w->landing = w->head + DISK_PAGE_BYTES + 64;
	fail_resume();
}

static void remove_place(struct world *w)
{
	char name[80];
	static const char *const files[] = {"blocks", "lock"};
	fail_pause();
	for (int i = 0; i < 2; i++) {
		snprintf(name, sizeof(name), "%s/%s", w->path, files[i]);
		unlink(name);
	}
	rmdir(w->path);
	free(w->head);
	fail_resume();
}

static enum err disk(const char *io, struct why *why)
{
	struct world w = {0};
	struct disk_shell_options options = {.path = w.path, .io = io, .segment_count = SEGMENTS,
					     .segment_bytes = SEGMENT_PAGES * DISK_PAGE_BYTES, .depth = 4, .context = &w,
					     .landing = landing_of, .done = on_done};
	make_place(&w);
	enum err e = loop_create(&w.loop);
	if (e == ERR_OK)
		e = disk_shell_create(w.loop, &options, &w.shell, why);
	if (e == ERR_OK)
		e = there_and_back(&w, why);
	disk_shell_destroy(w.shell);
	loop_destroy(w.loop);
	remove_place(&w);
	return e == ERR_OK || why->text[0] ? e : why_set(why, e, "disk");
}

static enum err plain(struct why *why)
{
	return disk("plain", why);
}

/* io_uring, or threads where the kernel refuses it. */
static enum err automatic(struct why *why)
{
	return disk("auto", why);
}

const struct scenario disk_scenarios[] = {
	{"disk, threads", plain, NULL, 16, true},
	{"disk, io_uring", automatic, NULL, 16, true},
	{0},
};

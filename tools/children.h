/* children - the processes that `baton up` starts: each with its log file, each ended in order.
 *
 * Owns:   the processes and their log files' names.  A child dies with this process (PR_SET_PDEATHSIG), also when
 *         this process is killed.
 * Loop:   none; children_reap() looks without waiting.
 * Bounds: CHILDREN_MAX. */
#ifndef TOOLS_CHILDREN_H
#define TOOLS_CHILDREN_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/err.h"
#include "base/why.h"

enum { CHILDREN_MAX = 128, CHILD_ARGS_MAX = 64 };

struct child {
	pid_t pid;       /* 0: ended */
	char name[64];
	char log[256];
	int status;      /* as waitpid() gave it, once ended */
};

struct children {
	const char *folder; /* for logs */
	uint32_t count;
	struct child list[CHILDREN_MAX];
};

/* argv ends with NULL; argv[0] is the program's path. */
MUST_USE enum err children_start(struct children *children, const char *name, char *const *argv, struct why *why);
/* A child that ended since the last call, or NULL. */
struct child *children_reap(struct children *children);
/* "exited with 1", "was killed by signal 9" */
void child_end_text(const struct child *child, char *text, uint32_t size);
/* Signals those whose name begins so. */
void children_signal(struct children *children, const char *prefix, int signal);
/* Waits until all whose name begins so have ended, at most that long; then kills them. */
void children_wait(struct children *children, const char *prefix, uint32_t timeout_ms);
/* The last lines of its log, to standard error. */
void child_show_log(const struct child *child, int lines);
#endif

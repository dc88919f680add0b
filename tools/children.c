#include "tools/children.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void become(const struct child *child, char *const *argv, pid_t parent)
{
	int log = open(child->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (log < 0 || null < 0)
		_exit(126);
	dup2(null, 0);
	dup2(log, 1);
	dup2(log, 2);
	setpgid(0, 0); /* a Ctrl-C is for the parent, which ends the children in order */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(125); /* it died before we could ask to die with it */
	execv(argv[0], argv);
	fprintf(stderr, "cannot run %s\n", argv[0]);
	_exit(127);
}

enum err children_start(struct children *children, const char *name, char *const *argv, struct why *why)
{
	if (children->count == CHILDREN_MAX)
		return why_set(why, ERR_TOO_LARGE, "over %d processes", CHILDREN_MAX);
	struct child *child = &children->list[children->count];
	*child = (struct child){0};
	snprintf(child->name, sizeof(child->name), "%s", name);
	snprintf(child->log, sizeof(child->log), "%s/%s.log", children->folder, name);
	pid_t parent = getpid();
	pid_t pid = fork();
	if (pid < 0)
		return why_set(why, ERR_IO, "cannot start %s", name);
	if (pid == 0)
		become(child, argv, parent);
	child->pid = pid;
	children->count++;
	return ERR_OK;
}

struct child *children_reap(struct children *children)
{
	for (uint32_t i = 0; i < children->count; i++) {
		struct child *child = &children->list[i];
		if (child->pid && waitpid(child->pid, &child->status, WNOHANG) == child->pid) {
			child->pid = 0;
			return child;
		}
	}
	return NULL;
}

void child_end_text(const struct child *child, char *text, uint32_t size)
{
	if (WIFSIGNALED(child->status))
		snprintf(text, size, "was killed by signal %d", WTERMSIG(child->status));
	else
		snprintf(text, size, "exited with %d", WEXITSTATUS(child->status));
}

static bool begins(const struct child *child, const char *prefix)
{
	return strncmp(child->name, prefix, strlen(prefix)) == 0;
}

void children_signal(struct children *children, const char *prefix, int signal)
{
	for (uint32_t i = 0; i < children->count; i++)
		if (children->list[i].pid && begins(&children->list[i], prefix))
			kill(children->list[i].pid, signal);
}

static bool any_alive(struct children *children, const char *prefix)
{
	while (children_reap(children))
		continue;
	for (uint32_t i = 0; i < children->count; i++)
		if (children->list[i].pid && begins(&children->list[i], prefix))
			return true;
	return false;
}

void children_wait(struct children *children, const char *prefix, uint32_t timeout_ms)
{
	for (uint32_t waited = 0; any_alive(children, prefix) && waited < timeout_ms; waited += 20)
		poll(NULL, 0, 20);
	children_signal(children, prefix, SIGKILL);
	for (int i = 0; any_alive(children, prefix) && i < 250; i++)
		poll(NULL, 0, 20);
}

void child_show_log(const struct child *child, int lines)
{
	FILE *file = fopen(child->log, "r");
	if (!file)
		return;
	char ring[32][512];
	int count = 0;
	while (fgets(ring[count % 32], sizeof(ring[0]), file))
		count++;
	fclose(file);
	lines = lines < 32 ? lines : 32;
	for (int i = count > lines ? count - lines : 0; i < count; i++)
		fprintf(stderr, "  %s", ring[i % 32]);
}

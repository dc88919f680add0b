/* Trials: UCX is asked, a file is written as a store would, ports are listened at, the clock is compared. */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "net/ports.h"
#include "tools/doctor_facts.h"

enum { PAGE = 4096, ETCD_PORT = 2379, ETCD_TIMEOUT_S = 3 };

struct ucx_answer {
	enum err e;
	struct why why;
	bool cuda, rma_rails;
	uint32_t count;
	struct ucx_lane lanes[DOCTOR_LANES_MAX];
};

/* ---- UCX ---- */

/* In a process of its own: it may write to stdout, and drivers may end it. */
static void ask_ucx(int fd)
{
	struct ucx_answer answer = {0};
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (null < 0 || dup2(null, STDOUT_FILENO) < 0 || dup2(null, STDERR_FILENO) < 0)
		_exit(1);
	answer.e = ucx_view(answer.lanes, DOCTOR_LANES_MAX, &answer.count, &answer.cuda, &answer.rma_rails, &answer.why);
	const char *at = (const char *)&answer;
	for (size_t left = sizeof(answer); left > 0;) {
		ssize_t n = write(fd, at, left);
		if (n <= 0)
			_exit(1);
		at += n;
		left -= (size_t)n;
	}
	_exit(0);
}

static bool read_whole(int fd, void *to, size_t size)
{
	for (size_t at = 0; at < size;) {
		ssize_t n = read(fd, (char *)to + at, size - at);
		if (n <= 0)
			return false;
		at += (size_t)n;
	}
	return true;
}

static void take_ucx(const struct ucx_answer *answer, struct doctor_live *live)
{
	if (answer->e != ERR_OK) {
		snprintf(live->ucx_error, sizeof(live->ucx_error), "%.*s", (int)sizeof(live->ucx_error) - 1,
			 answer->why.text[0] ? answer->why.text : err_text(answer->e));
		return;
	}
	snprintf(live->ucx_version, sizeof(live->ucx_version), "%s", ucx_view_version());
	live->ucx_cuda = answer->cuda;
	live->ucx_rma_rails = answer->rma_rails;
	live->lane_count = answer->count;
	memcpy(live->lanes, answer->lanes, answer->count * sizeof(live->lanes[0]));
}

static void try_ucx(struct doctor_live *live)
{
	struct ucx_answer answer = {0};
	int ends[2], status = 0;
	if (pipe2(ends, O_CLOEXEC) != 0) {
		snprintf(live->ucx_error, sizeof(live->ucx_error), "no pipe: %s", strerror(errno));
		return;
	}
	fflush(NULL);
	pid_t child = fork();
	if (child == 0)
		ask_ucx(ends[1]);
	close(ends[1]);
	bool told = child > 0 && read_whole(ends[0], &answer, sizeof(answer)) && answer.count <= DOCTOR_LANES_MAX;
	close(ends[0]);
	if (child > 0)
		(void)waitpid(child, &status, 0);
	if (told)
		take_ucx(&answer, live);
	else if (child > 0 && WIFSIGNALED(status))
		snprintf(live->ucx_error, sizeof(live->ucx_error), "it ended by signal %d", WTERMSIG(status));
	else
		snprintf(live->ucx_error, sizeof(live->ucx_error), "it was not to be asked");
}

/* ---- disk ---- */

static int write_file(const char *path, int flags)
{
	char *page = aligned_alloc(PAGE, PAGE);
	int fd = page ? open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | flags, 0600) : -1;
	int error = page ? errno : ENOMEM;
	if (fd < 0) {
		free(page);
		return error;
	}
	memset(page, 0, PAGE);
	error = pwrite(fd, page, PAGE, 0) == PAGE && fdatasync(fd) == 0 ? 0 : errno ? errno : EIO;
	close(fd);
	unlink(path);
	free(page);
	return error;
}

static int try_uring(void)
{
	struct io_uring_params params = {0};
	long fd = syscall(SYS_io_uring_setup, 1, &params);
	if (fd < 0)
		return errno;
	close((int)fd);
	return 0;
}

static void try_disk(const char *folder, struct doctor_live *live)
{
	char path[sizeof(live->disk) + 64];
	snprintf(live->disk, sizeof(live->disk), "%s", folder);
	snprintf(path, sizeof(path), "%s/.baton-doctor-%ld", live->disk, (long)getpid());
	live->disk_error = write_file(path, 0);
	live->direct_error = live->disk_error ? 0 : write_file(path, O_DIRECT);
}

/* ---- clock ---- */

static void try_clock(struct doctor_live *live)
{
	struct timex state = {0};
	int result = adjtimex(&state);
	live->clock_set = result < 0 ? DOCTOR_UNKNOWN : state.status & STA_UNSYNC ? DOCTOR_NO : DOCTOR_YES;
}

static int dial(const char *host, const char *port)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *all = NULL;
	const struct timeval patience = {.tv_sec = ETCD_TIMEOUT_S};
	int fd = -1;
	if (getaddrinfo(host, port, &hints, &all) != 0)
		return -1;
	for (const struct addrinfo *at = all; at && fd < 0; at = at->ai_next) {
		fd = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, 0);
		if (fd < 0)
			continue;
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
		if (connect(fd, at->ai_addr, at->ai_addrlen) == 0)
			continue;
		close(fd);
		fd = -1;
	}
	freeaddrinfo(all);
	return fd;
}

/* "Date: Sun, 06 Nov 1994 08:49:37 GMT", as every HTTP server tells it. */
static bool ask_date(int fd, const char *host, time_t *ret_date)
{
	char text[PAGE];
	size_t length = 0;
	int n = snprintf(text, sizeof(text), "GET /version HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host);
	if (n <= 0 || (size_t)n >= sizeof(text) || send(fd, text, (size_t)n, MSG_NOSIGNAL) != n)
		return false;
	for (ssize_t got; length + 1 < sizeof(text) && (got = recv(fd, text + length, sizeof(text) - 1 - length, 0)) > 0;)
		length += (size_t)got;
	text[length] = 0;
	const char *date = strcasestr(text, "\r\nDate:");
	struct tm tm = {0};
	if (!date || !strptime(date + strlen("\r\nDate:"), " %a, %d %b %Y %H:%M:%S GMT", &tm))
		return false;
	*ret_date = timegm(&tm);
	return true;
}

static void try_etcd(const char *url, struct doctor_live *live)
{
	char host[256], port[8] = "";
	time_t date = 0;
	int end = 0;
	live->etcd = url;
	if (sscanf(url, "http://%255[^:/]%n", host, &end) != 1 || end == 0) {
		snprintf(live->etcd_error, sizeof(live->etcd_error), "expected http://host:port");
		return;
	}
	if (url[end] != ':' || sscanf(url + end, ":%7[0-9]", port) != 1)
		snprintf(port, sizeof(port), "%d", ETCD_PORT);
	int fd = dial(host, port);
	if (fd < 0) {
		snprintf(live->etcd_error, sizeof(live->etcd_error), "it does not answer: %s", strerror(errno));
		return;
	}
	live->has_skew = ask_date(fd, host, &date);
	live->skew_s = live->has_skew ? (int64_t)(time(NULL) - date) : 0;
	if (!live->has_skew)
		snprintf(live->etcd_error, sizeof(live->etcd_error), "it does not tell its time");
	close(fd);
}

void doctor_try(const struct doctor_trials *trials, struct doctor_live *ret_live)
{
	*ret_live = (struct doctor_live){.tried = true};
	try_ucx(ret_live);
	ret_live->uring_error = try_uring();
	try_clock(ret_live);
	if (trials->disk)
		try_disk(trials->disk, ret_live);
	if (trials->etcd)
		try_etcd(trials->etcd, ret_live);
	for (uint32_t i = 0; i < trials->port_count && i < DOCTOR_TRIED_PORTS_MAX; i++) {
		ret_live->ports[i].number = trials->ports[i];
		ret_live->ports[i].taken = ports_check(trials->ports[i], 1, NULL) != ERR_OK;
		ret_live->port_count++;
	}
}

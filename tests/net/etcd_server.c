#include "etcd_server.h"
#include "net/ports.h"
#include "tests/scratch.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { EXTRA_MAX = 16, EXTRA_BYTES = 256 };

struct etcd_server {
	char binary[512];
	char directory[64];
	char name[16], cluster[320];
	char url[64], peer_url[64], metrics_url[64];
	uint16_t metrics_port; /* plain HTTP whatever the clients speak: for /health */
	char extra[EXTRA_MAX][EXTRA_BYTES];
	int extra_count;
	pid_t pid; /* 0: does not run */
};

/* In the child, between fork and exec: system calls only. */
static void become_etcd(struct etcd_server *server, char *const argv[], char *const envp[], int log_fd, pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(126);
	dup2(log_fd, STDOUT_FILENO);
	dup2(log_fd, STDERR_FILENO);
	execve(server->binary, argv, envp);
	_exit(127);
}

static pid_t spawn(struct etcd_server *server)
{
	char data[128], log[128];
	snprintf(data, sizeof(data), "%s/data", server->directory);
	snprintf(log, sizeof(log), "%s/log", server->directory);
	char *argv[32 + EXTRA_MAX] = {
			server->binary, "--name", server->name, "--data-dir", data,
			"--listen-metrics-urls", server->metrics_url,
			"--listen-client-urls", server->url, "--advertise-client-urls", server->url,
			"--listen-peer-urls", server->peer_url, "--initial-advertise-peer-urls", server->peer_url,
			"--initial-cluster", server->cluster, "--unsafe-no-fsync", "--log-level", "warn",
			"--heartbeat-interval", "50", "--election-timeout", "500"};
	int argc = 0;
	while (argv[argc])
		argc++;
	for (int i = 0; i < server->extra_count; i++)
		argv[argc++] = server->extra[i];
	char *envp[] = {"PATH=/usr/bin:/bin", NULL};
	int log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (log_fd < 0)
		return -1;
	pid_t parent = getpid();
	pid_t pid = fork();
	if (pid == 0)
		become_etcd(server, argv, envp, log_fd, parent);
	close(log_fd);
	return pid;
}

/* GET /health: true when it answers "true". */
static bool is_healthy(uint16_t port)
{
	static const char request[] = "GET /health HTTP/1.0\r\n\r\n";
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	struct timeval patience = {.tv_sec = 1};
	char reply[2048];
	size_t filled = 0;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
	    send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) > 0)
		for (ssize_t n; filled < sizeof(reply) - 1; filled += (size_t)n)
			if ((n = read(fd, reply + filled, sizeof(reply) - 1 - filled)) <= 0)
				break;
	close(fd);
	reply[filled] = 0;
	return strstr(reply, "\"true\"") != NULL;
}

static void print_log(const struct etcd_server *server)
{
	char command[160];
	snprintf(command, sizeof(command), "tail -n 20 %s/log >&2", server->directory);
	if (system(command) != 0)
		fprintf(stderr, "etcd left no log\n");
}

static int wait_healthy(struct etcd_server *server)
{
	const struct timespec pause = {.tv_nsec = 50000000};
	for (int i = 0; i < 400; i++) {
		if (is_healthy(server->metrics_port))
			return 0;
		if (waitpid(server->pid, NULL, WNOHANG) == server->pid) {
			server->pid = 0;
			break;
		}
		nanosleep(&pause, NULL);
	}
	print_log(server);
	return -1;
}

int etcd_server_restart(struct etcd_server *server)
{
	server->pid = spawn(server);
	if (server->pid <= 0) {
		server->pid = 0;
		return -1;
	}
	return wait_healthy(server);
}

const char *etcd_server_binary(void)
{
	return access("/usr/bin/etcd", X_OK) == 0 ? "/usr/bin/etcd" : NULL;
}

static struct etcd_server *prepare(const char *binary, const char *name, int tls)
{
	struct etcd_server *server = calloc(1, sizeof(*server));
	uint16_t ports[3];
	if (!server)
		return NULL;
	snprintf(server->binary, sizeof(server->binary), "%s", binary);
	snprintf(server->name, sizeof(server->name), "%s", name);
	if (ports_find(ports, 3) != ERR_OK || !scratch_folder(server->directory, sizeof(server->directory), "etcd")) {
		free(server);
		return NULL;
	}
	snprintf(server->url, sizeof(server->url), "%s://127.0.0.1:%u", tls ? "https" : "http", ports[0]);
	snprintf(server->peer_url, sizeof(server->peer_url), "http://127.0.0.1:%u", ports[1]);
	snprintf(server->metrics_url, sizeof(server->metrics_url), "http://127.0.0.1:%u", ports[2]);
	server->metrics_port = ports[2];
	snprintf(server->cluster, sizeof(server->cluster), "%s=%s", name, server->peer_url);
	return server;
}

struct etcd_server *etcd_server_start_with(const char *binary, const char *const *arguments, int tls)
{
	struct etcd_server *server = prepare(binary, "test", tls);
	if (!server)
		return NULL;
	for (; arguments && *arguments && server->extra_count < EXTRA_MAX; arguments++)
		snprintf(server->extra[server->extra_count++], EXTRA_BYTES, "%s", *arguments);
	if (etcd_server_restart(server) != 0) {
		etcd_server_stop(server);
		return NULL;
	}
	return server;
}

struct etcd_server *etcd_server_start(const char *binary)
{
	return etcd_server_start_with(binary, NULL, 0);
}

int etcd_server_start_three(const char *binary, struct etcd_server *ret_servers[3])
{
	static const char *const names[] = {"one", "two", "three"};
	char cluster[sizeof(ret_servers[0]->cluster)] = "";
	for (int i = 0; i < 3; i++) {
		ret_servers[i] = prepare(binary, names[i], 0);
		if (!ret_servers[i])
			return -1;
		size_t used = strlen(cluster);
		snprintf(cluster + used, sizeof(cluster) - used, "%s%.96s", i ? "," : "", ret_servers[i]->cluster);
	}
	int result = 0;
	for (int i = 0; i < 3; i++) {
		memcpy(ret_servers[i]->cluster, cluster, sizeof(cluster));
		ret_servers[i]->pid = spawn(ret_servers[i]);
	}
	for (int i = 0; i < 3; i++)
		result |= ret_servers[i]->pid > 0 ? wait_healthy(ret_servers[i]) : -1;
	return result;
}

const char *etcd_server_url(const struct etcd_server *server)
{
	return server->url;
}

void etcd_server_kill(struct etcd_server *server)
{
	if (server->pid <= 0)
		return;
	kill(server->pid, SIGKILL);
	while (waitpid(server->pid, NULL, 0) < 0 && errno == EINTR)
		;
	server->pid = 0;
}

void etcd_server_pause(struct etcd_server *server)
{
	kill(server->pid, SIGSTOP);
	/* The signal is only on its way when kill() returns: wait until all threads stand. */
	while (waitpid(server->pid, NULL, WUNTRACED) < 0 && errno == EINTR)
		;
}

void etcd_server_resume(struct etcd_server *server)
{
	kill(server->pid, SIGCONT);
}

static void remove_below(const struct etcd_server *server, const char *name)
{
	char command[128];
	snprintf(command, sizeof(command), "rm -rf %s%s", server->directory, name);
	if (system(command) != 0)
		fprintf(stderr, "%s failed\n", command);
}

void etcd_server_wipe(struct etcd_server *server)
{
	remove_below(server, "/data");
}

void etcd_server_stop(struct etcd_server *server)
{
	if (!server)
		return;
	etcd_server_kill(server);
	remove_below(server, "");
	free(server);
}

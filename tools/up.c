/* baton up: a whole cluster on this machine: etcd, stores, engine nodes and coordinators as processes of their own. */
#include <ftw.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/options.h"
#include "net/certs.h"
#include "net/http_client.h"
#include "net/ports.h"
#include "tools/children.h"
#include "tools/commands.h"

enum { UP_OPTIONS = 30 };

struct up {
	/* Settings. */
	struct option_list models;
	uint64_t prefill, decode, kvstore, coordinator, port, threads, prefill_degree, decode_degree;
	struct option_list etcd, tenant_quotas;
	const char *etcd_program;
	const char *run_dir;
	const char *link_transport, *require_transport;
	const char *store_persist, *store_disk_key;
	bool tls;
	const char *log_level;
	const char *keys_file, *tenant_salt_file;
	bool metrics_public;
	const char *quantization;
	uint64_t kv_bytes, store_bytes, store_disk_bytes, chunk_tokens, time_factor, start_timeout_s, seq_max;
	/* Running. */
	char folder[PATH_MAX / 2];
	bool folder_is_ours;
	bool went_wrong;       /* the start failed, or a child ended by itself: its log may say why */
	const char *temporary; /* TMPDIR, or /tmp */
	char programs[PATH_MAX / 2];
	char tls_folder[PATH_MAX / 2 + 8], ca_file[PATH_MAX / 2 + 16];
	char etcd_url[64];
	struct children children;
	struct timespec started;
};

static volatile sig_atomic_t stopping;

static void on_signal(int number)
{
	(void)number;
	stopping = 1;
}

static double elapsed_s(const struct up *up)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - up->started.tv_sec) + (double)(now.tv_nsec - up->started.tv_nsec) * 1e-9;
}

static void say(const struct up *up, const char *what)
{
	printf("[%5.1f s] %s\n", elapsed_s(up), what);
	fflush(stdout);
}

/* Beside this program where installed, in the rooms' folders of a build tree otherwise. */
static enum err find_program(const struct up *up, const char *room, const char *name, char *ret_path, size_t size,
			     struct why *why)
{
	snprintf(ret_path, size, "%s/%s", up->programs, name);
	if (access(ret_path, X_OK) == 0)
		return ERR_OK;
	snprintf(ret_path, size, "%s/../%s/%s", up->programs, room, name);
	if (access(ret_path, X_OK) == 0)
		return ERR_OK;
	return why_set(why, ERR_NOT_FOUND, "%s is neither in %s nor in its build folder", name, up->programs);
}

static enum err own_folder(struct up *up, struct why *why)
{
	ssize_t length = readlink("/proc/self/exe", up->programs, sizeof(up->programs) - 1);
	if (length <= 0)
		return why_set(why, ERR_IO, "/proc/self/exe cannot be read");
	up->programs[length] = 0;
	*strrchr(up->programs, '/') = 0;
	return ERR_OK;
}

static enum err make_folder(struct up *up, struct why *why)
{
	if (up->run_dir) {
		snprintf(up->folder, sizeof(up->folder), "%s", up->run_dir);
		if (mkdir(up->folder, 0700) != 0 && access(up->folder, W_OK) != 0)
			return why_set(why, ERR_IO, "--run-dir %s cannot be written", up->run_dir);
	} else {
		snprintf(up->folder, sizeof(up->folder), "%s/baton-up-XXXXXX", up->temporary);
		if (strlen(up->temporary) > PATH_MAX / 2 || !mkdtemp(up->folder))
			return why_set(why, ERR_IO, "no folder can be made in %s", up->temporary);
		up->folder_is_ours = true;
	}
	up->children.folder = up->folder;
	return ERR_OK;
}

static enum err check_models(struct up *up, struct why *why)
{
	if (up->models.count == 0) {
		static char demo[PATH_MAX];
		snprintf(demo, sizeof(demo), "%s/../../models/demo", up->programs);
		up->models.items[up->models.count++] = demo;
	}
	for (size_t i = 0; i < up->models.count; i++) {
		char config[PATH_MAX];
		snprintf(config, sizeof(config), "%s/config.json", up->models.items[i]);
		if (access(config, R_OK) != 0)
			return why_set(why, ERR_NOT_FOUND, "--model %s: no config.json there; expected a Hugging Face directory",
				       up->models.items[i]);
	}
	return ERR_OK;
}

/* --- etcd ----------------------------------------------------------------------------------------------- */

static enum err wait_for_etcd(struct up *up, uint16_t port, struct why *why)
{
	for (int i = 0; i < 500 && !stopping; i++) {
		struct http_client_request request = {.host = "127.0.0.1", .port = port, .method = "GET", .path = "/health",
						      .timeout_ns = 1000000000};
		struct http_client_reply reply = {0};
		struct why ignored;
		enum err e = http_client_call(&request, &reply, &ignored);
		buf_fini(&reply.body);
		if (e == ERR_OK && reply.status == 200)
			return ERR_OK;
		if (children_reap(&up->children))
			break;
		poll(NULL, 0, 20);
	}
	return why_set(why, ERR_UNAVAILABLE, "etcd did not start; see %s/etcd.log", up->folder);
}

static enum err start_etcd(struct up *up, struct why *why)
{
	if (up->etcd.count > 0)
		return ERR_OK; /* one that runs already */
	uint16_t ports[2];
	enum err e = ports_find(ports, 2);
	if (e != ERR_OK)
		return why_set(why, e, "no free port for etcd");
	char data[PATH_MAX], client[64], peer[64], cluster[96];
	snprintf(data, sizeof(data), "%s/etcd", up->folder);
	snprintf(client, sizeof(client), "http://127.0.0.1:%u", ports[0]);
	snprintf(peer, sizeof(peer), "http://127.0.0.1:%u", ports[1]);
	snprintf(cluster, sizeof(cluster), "default=%s", peer);
	char *argv[] = {(char *)up->etcd_program,      "--data-dir", data, "--listen-client-urls", client,
			"--advertise-client-urls",     client,       "--listen-peer-urls", peer,
			"--initial-advertise-peer-urls", peer,       "--initial-cluster", cluster,
			"--logger", "zap", "--log-level", "warn", NULL};
	e = children_start(&up->children, "etcd", argv, why);
	if (e != ERR_OK)
		return e;
	snprintf(up->etcd_url, sizeof(up->etcd_url), "%s", client);
	up->etcd.items[up->etcd.count++] = up->etcd_url;
	e = wait_for_etcd(up, ports[0], why);
	if (e == ERR_OK)
		say(up, "etcd answers");
	return e;
}

/* --- certificates ---------------------------------------------------------------------------------------- */

static enum err make_ca(struct up *up, struct why *why)
{
	if (!up->tls)
		return ERR_OK;
	snprintf(up->tls_folder, sizeof(up->tls_folder), "%s/tls", up->folder);
	snprintf(up->ca_file, sizeof(up->ca_file), "%s/ca.pem", up->tls_folder);
	if (mkdir(up->tls_folder, 0700) != 0 && access(up->tls_folder, W_OK) != 0)
		return why_set(why, ERR_IO, "%s cannot be made", up->tls_folder);
	enum err e = certs_make_ca(up->tls_folder, "default", why);
	struct certs_node operator = {.cluster = "default", .role = "operator", .name = "operator"}; /* for `baton kv` */
	return e == ERR_OK ? certs_make_node(up->tls_folder, &operator, why) : e;
}

/* --- nodes ---------------------------------------------------------------------------------------------- */

struct arguments {
	char *argv[CHILD_ARGS_MAX];
	int count;
	char numbers[16][32];
	int number_count;
	char etcd[4096];
	char certificate[PATH_MAX], key[PATH_MAX], disk[PATH_MAX];
};

static void add(struct arguments *a, const char *flag, const char *value)
{
	if (!value || a->count + 3 > CHILD_ARGS_MAX)
		return;
	a->argv[a->count++] = (char *)flag;
	a->argv[a->count++] = (char *)value;
}

static void add_number(struct arguments *a, const char *flag, uint64_t value)
{
	char *text = a->numbers[a->number_count++];
	snprintf(text, sizeof(a->numbers[0]), "%llu", (unsigned long long)value);
	add(a, flag, text);
}

/* Makes the node's certificate too. */
static enum err common(struct up *up, struct arguments *a, const char *program, const char *role, const char *name,
		       struct why *why)
{
	*a = (struct arguments){.argv = {(char *)program}, .count = 1};
	for (size_t i = 0; i < up->etcd.count; i++)
		snprintf(a->etcd + strlen(a->etcd), sizeof(a->etcd) - strlen(a->etcd), "%s%s", i ? "," : "",
			 up->etcd.items[i]);
	add(a, "--name", name);
	add(a, "--etcd", a->etcd);
	add(a, "--log-level", up->log_level);
	add_number(a, "--time-factor", up->time_factor);
	add_number(a, "--shutdown-timeout", 5);
	if (!up->tls)
		return ERR_OK;
	snprintf(a->certificate, sizeof(a->certificate), "%s/%s.pem", up->tls_folder, name);
	snprintf(a->key, sizeof(a->key), "%s/%s.key", up->tls_folder, name);
	add(a, "--tls-ca-file", up->ca_file);
	add(a, "--tls-cert-file", a->certificate);
	add(a, "--tls-key-file", a->key);
	struct certs_node node = {.cluster = "default", .role = role, .name = name};
	return certs_make_node(up->tls_folder, &node, why);
}

/* UCX, and KV in the clear beside certificates, are for networks that nobody else reaches: here, this machine's own. */
static void add_link(const struct up *up, struct arguments *a)
{
	add(a, "--link-transport", up->link_transport);
	add(a, "--require-transport", up->require_transport);
	if (strncmp(up->link_transport, "ucx-", 4) == 0 || (up->tls && strcmp(up->link_transport, "tcp") == 0))
		add(a, "--link-network", "lo");
}

/* A folder of the store's own, in 64 segments at most. */
static void add_disk(const struct up *up, struct arguments *a, const char *name)
{
	uint64_t segment_bytes = 1 << 20;
	while (segment_bytes < (64 << 20) && up->store_disk_bytes / segment_bytes > 64)
		segment_bytes *= 2;
	snprintf(a->disk, sizeof(a->disk), "%s/%s.disk", up->folder, name);
	add(a, "--disk-path", a->disk);
	add_number(a, "--disk-bytes", up->store_disk_bytes);
	add_number(a, "--disk-segment-bytes", segment_bytes);
	add(a, "--persist", up->store_persist);
	if (up->store_disk_key)
		add(a, "--disk-key", up->store_disk_key);
}

static enum err start_stores(struct up *up, struct why *why)
{
	char program[PATH_MAX];
	if (up->tenant_quotas.count > 16)
		return why_set(why, ERR_TOO_LARGE, "--tenant-quota: over 16 tenants");
	enum err e = find_program(up, "kvstore", "baton-kvstore", program, sizeof(program), why);
	for (uint64_t i = 0; i < up->kvstore && e == ERR_OK; i++) {
		char name[64];
		snprintf(name, sizeof(name), "kvstore-%llu", (unsigned long long)i + 1);
		struct arguments a;
		e = common(up, &a, program, "kvstore", name, why);
		add_link(up, &a);
		add_number(&a, "--kv-bytes", up->store_bytes);
		add_number(&a, "--slab-bytes", up->store_bytes / 8);
		for (size_t q = 0; q < up->tenant_quotas.count; q++)
			add(&a, "--tenant-quota", up->tenant_quotas.items[q]);
		if (up->store_disk_bytes)
			add_disk(up, &a, name);
		if (e == ERR_OK)
			e = children_start(&up->children, name, a.argv, why);
	}
	return e;
}

static enum err start_engine(struct up *up, const char *role, const char *model, uint64_t number, struct why *why)
{
	char program[PATH_MAX], program_name[32], name[64];
	snprintf(program_name, sizeof(program_name), "baton-%s", role);
	enum err e = find_program(up, "node", program_name, program, sizeof(program), why);
	if (e != ERR_OK)
		return e;
	snprintf(name, sizeof(name), "%s-%llu", role, (unsigned long long)number);
	struct arguments a;
	e = common(up, &a, program, role, name, why);
	add(&a, "--model", model);
	add_link(up, &a);
	add_number(&a, "--kv-bytes", up->kv_bytes);
	add_number(&a, "--threads", up->threads);
	add_number(&a, "--tensor-parallel-size", strcmp(role, "prefill") == 0 ? up->prefill_degree : up->decode_degree);
	add(&a, "--quantization", up->quantization);
	add_number(&a, "--prefill-chunk-tokens", up->chunk_tokens);
	add_number(&a, "--max-num-seqs", up->seq_max);
	return e == ERR_OK ? children_start(&up->children, name, a.argv, why) : e;
}

static enum err start_engines(struct up *up, struct why *why)
{
	uint64_t prefill = 0, decode = 0;
	enum err e = ERR_OK;
	for (size_t m = 0; m < up->models.count && e == ERR_OK; m++) {
		for (uint64_t i = 0; i < up->prefill && e == ERR_OK; i++)
			e = start_engine(up, "prefill", up->models.items[m], ++prefill, why);
		for (uint64_t i = 0; i < up->decode && e == ERR_OK; i++)
			e = start_engine(up, "decode", up->models.items[m], ++decode, why);
	}
	return e;
}

static enum err start_coordinators(struct up *up, struct why *why)
{
	char program[PATH_MAX];
	enum err e = find_program(up, "coordinator", "baton-coordinator", program, sizeof(program), why);
	for (uint64_t i = 0; i < up->coordinator && e == ERR_OK; i++) {
		char name[64];
		snprintf(name, sizeof(name), "coordinator-%llu", (unsigned long long)i + 1);
		struct arguments a;
		e = common(up, &a, program, "coordinator", name, why);
		if (up->tls) {
			add(&a, "--ssl-certfile", a.certificate);
			add(&a, "--ssl-keyfile", a.key);
		}
		for (size_t m = 0; m < up->models.count; m++)
			add(&a, "--model", up->models.items[m]);
		add_number(&a, "--port", up->port + i);
		add(&a, "--api-keys-file", up->keys_file);
		add(&a, "--tenant-salt-file", up->tenant_salt_file);
		if (up->metrics_public)
			a.argv[a.count++] = "--metrics-public";
		if (e == ERR_OK)
			e = children_start(&up->children, name, a.argv, why);
	}
	return e;
}

/* --- waiting and ending --------------------------------------------------------------------------------- */

/* A child that ended by itself while we wait: nothing good. */
static enum err check_children(struct up *up, struct why *why)
{
	struct child *child = children_reap(&up->children);
	if (!child)
		return ERR_OK;
	char text[64];
	child_end_text(child, text, sizeof(text));
	fprintf(stderr, "%s %s; its last lines:\n", child->name, text);
	child_show_log(child, 8);
	return why_set(why, ERR_UNAVAILABLE, "%s %s during start", child->name, text);
}

static bool ready(const struct up *up, uint16_t port)
{
	struct http_client_request request = {.host = "127.0.0.1", .port = port, .method = "GET", .path = "/readyz",
					      .ca_file = up->tls ? up->ca_file : NULL, .timeout_ns = 2000000000};
	struct http_client_reply reply = {0};
	struct why why;
	enum err e = http_client_call(&request, &reply, &why);
	buf_fini(&reply.body);
	return e == ERR_OK && reply.status == 200;
}

static enum err wait_ready(struct up *up, struct why *why)
{
	for (uint64_t i = 0; i < up->coordinator; i++) {
		while (!stopping && !ready(up, (uint16_t)(up->port + i))) {
			enum err e = check_children(up, why);
			if (e != ERR_OK)
				return e;
			if (elapsed_s(up) > (double)up->start_timeout_s)
				return why_set(why, ERR_DEADLINE, "not ready after %llu s; logs are in %s",
					       (unsigned long long)up->start_timeout_s, up->folder);
			poll(NULL, 0, 50);
		}
	}
	return ERR_OK;
}

static void say_ready(const struct up *up)
{
	char text[PATH_MAX];
	snprintf(text, sizeof(text), "ready: %s://127.0.0.1:%llu/v1  (%llu prefill, %llu decode, %llu kvstore; logs in %s)",
		 up->tls ? "https" : "http", (unsigned long long)up->port, (unsigned long long)(up->prefill * up->models.count),
		 (unsigned long long)(up->decode * up->models.count), (unsigned long long)up->kvstore, up->folder);
	say(up, text);
	printf("          try: baton chat --port %llu%s%s        end with Ctrl-C\n", (unsigned long long)up->port,
	       up->tls ? " --ca-file " : "", up->tls ? up->ca_file : "");
	printf("          or:  baton kv stat --etcd %s", up->etcd.items[0]);
	if (up->tls)
		printf(" --tls-ca-file %s --tls-cert-file %s/operator.pem --tls-key-file %s/operator.key", up->ca_file, up->tls_folder,
		       up->tls_folder);
	printf("\n");
	fflush(stdout);
}

static void watch(struct up *up)
{
	while (!stopping) {
		struct child *child = children_reap(&up->children);
		if (child) {
			char text[64], line[192];
			child_end_text(child, text, sizeof(text));
			snprintf(line, sizeof(line), "%s %s; the cluster goes on without it", child->name, text);
			up->went_wrong = true;
			say(up, line);
		}
		poll(NULL, 0, 50);
	}
}

static int remove_all(const char *path, const struct stat *stat, int kind, struct FTW *walk)
{
	(void)stat, (void)kind, (void)walk;
	(void)remove(path); /* what cannot be removed is nobody's loss but the disk's */
	return 0;
}

/* Who asks what went wrong reads logs; blocks and etcd's data are of no use to anybody. */
static int remove_but_logs(const char *path, const struct stat *stat, int kind, struct FTW *walk)
{
	size_t length = strlen(path);
	return length > 4 && strcmp(path + length - 4, ".log") == 0 ? 0 : remove_all(path, stat, kind, walk);
}

static void end_all(struct up *up)
{
	say(up, "ending: coordinators, engines, stores, etcd");
	static const char *const order[] = {"coordinator", "decode", "prefill", "kvstore", "etcd"};
	for (int i = 0; i < 5; i++) {
		children_signal(&up->children, order[i], SIGTERM);
		children_wait(&up->children, order[i], 8000);
	}
	if (up->folder_is_ours)
		nftw(up->folder, up->went_wrong ? remove_but_logs : remove_all, 16, FTW_DEPTH | FTW_PHYS);
	char text[PATH_MAX];
	snprintf(text, sizeof(text), "ended%s%s", up->folder_is_ours && up->went_wrong ? "; logs stay in " : "",
		 up->folder_is_ours && up->went_wrong ? up->folder : "");
	say(up, text);
}

static enum err start_all(struct up *up, struct why *why)
{
	enum err e = make_ca(up, why);
	if (e == ERR_OK)
		e = start_etcd(up, why);
	if (e == ERR_OK)
		e = start_stores(up, why);
	if (e == ERR_OK)
		e = start_engines(up, why);
	if (e == ERR_OK)
		e = start_coordinators(up, why);
	if (e == ERR_OK)
		say(up, "processes started; loading models");
	return e == ERR_OK ? wait_ready(up, why) : e;
}

static enum err run(struct up *up, struct why *why)
{
	clock_gettime(CLOCK_MONOTONIC, &up->started);
	enum err e = own_folder(up, why);
	if (e == ERR_OK)
		e = check_models(up, why);
	if (e == ERR_OK)
		e = ports_check((uint16_t)up->port, (uint32_t)up->coordinator, why);
	if (e == ERR_OK)
		e = make_folder(up, why);
	if (e != ERR_OK)
		return e;
	struct sigaction action = {.sa_handler = on_signal};
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	e = start_all(up, why);
	if (e == ERR_OK && !stopping) {
		say_ready(up);
		watch(up);
	}
	up->went_wrong |= e != ERR_OK;
	end_all(up);
	return e;
}

static void fill_table(struct up *up, struct option *table)
{
	const struct option rows[UP_OPTIONS] = {
		{"model", OPTION_LIST, &up->models, 0, 0, "DIR", "Hugging Face directory; may be given several times"},
		{"prefill", OPTION_COUNT, &up->prefill, 1, 16, "N", "prefill nodes of each model"},
		{"decode", OPTION_COUNT, &up->decode, 1, 16, "N", "decode nodes of each model"},
		{"kvstore", OPTION_COUNT, &up->kvstore, 0, 16, "N", "KV-store nodes"},
		{"coordinator", OPTION_COUNT, &up->coordinator, 1, 8, "N", "coordinators, at ports from --port on"},
		{"port", OPTION_COUNT, &up->port, 1, 65000, "PORT", "of the API"},
		{"threads", OPTION_COUNT, &up->threads, 0, 1024, "N", "compute threads of each engine"},
		{"prefill-tensor-parallel-size", OPTION_COUNT, &up->prefill_degree, 1, 8, "N", "as of baton-prefill"},
		{"decode-tensor-parallel-size", OPTION_COUNT, &up->decode_degree, 1, 8, "N", "as of baton-decode"},
		{"kv-bytes", OPTION_BYTES, &up->kv_bytes, 1 << 20, 0, "BYTES", "KV memory of each engine"},
		{"store-bytes", OPTION_BYTES, &up->store_bytes, 8 << 20, 0, "BYTES", "memory of each store"},
		{"tenant-quota", OPTION_LIST, &up->tenant_quotas, 0, 0, "TENANT=BYTES", "as of baton-kvstore"},
		{"store-disk-bytes", OPTION_BYTES, &up->store_disk_bytes, 0, 0, "BYTES", "disk of each store, in the run directory; 0: none"},
		{"store-disk-key", OPTION_TEXT, &up->store_disk_key, 0, 0, "FILE", "secret under which records on their disks are signed"},
		{"store-persist", OPTION_TEXT, &up->store_persist, 0, 0, "WHEN", "behind or ack: when a store with a disk has taken a block"},
		{"quantization", OPTION_TEXT, &up->quantization, 0, 0, "NAME", "none, or fp8 of models that are published in it"},
		{"prefill-chunk-tokens", OPTION_COUNT, &up->chunk_tokens, 16, 65536, "N", "most tokens of a prompt in a step"},
		{"max-num-seqs", OPTION_COUNT, &up->seq_max, 1, 256, "N", "sequences at once on each engine"},
		{"require-transport", OPTION_TEXT, &up->require_transport, 0, 0, "KIND,…", "refuse links over anything but these: mapped, rdma, ucx-shm, ucx-tcp, tls, tcp"},
		{"link-transport", OPTION_TEXT, &up->link_transport, 0, 0, "KIND", "auto, mapped, tls, tcp, ucx-tcp, ucx-shm"},
		{"tls", OPTION_FLAG, &up->tls, 0, 0, NULL, "TLS everywhere, with a CA of its own in the run directory"},
		{"etcd", OPTION_LIST, &up->etcd, 0, 0, "URL,…", "an etcd that runs already"},
		{"etcd-program", OPTION_TEXT, &up->etcd_program, 0, 0, "PATH", "etcd to start"},
		{"run-dir", OPTION_TEXT, &up->run_dir, 0, 0, "DIR", "logs and etcd's data; default: a new one in TMPDIR, removed at the end but for logs of what went wrong"},
		{"log-level", OPTION_TEXT, &up->log_level, 0, 0, "LEVEL", "of the nodes' logs"},
		{"time-factor", OPTION_COUNT, &up->time_factor, 1, 100, "N", "stretches heartbeats on slow machines"},
		{"api-keys-file", OPTION_TEXT, &up->keys_file, 0, 0, "FILE", "as of baton-coordinator"},
		{"tenant-salt-file", OPTION_TEXT, &up->tenant_salt_file, 0, 0, "FILE", "as of baton-coordinator"},
		{"metrics-public", OPTION_FLAG, &up->metrics_public, 0, 0, NULL, "as of baton-coordinator"},
		{"start-timeout", OPTION_COUNT, &up->start_timeout_s, 1, 86400, "S", "seconds until all must be ready"},
	};
	memcpy(table, rows, sizeof(rows));
}

int command_up(int argc, char **argv, char **environment)
{
	struct up up = {.prefill = 1, .decode = 1, .kvstore = 2, .coordinator = 1, .port = 8000, .threads = 1,
			.prefill_degree = 1, .decode_degree = 1,
			.kv_bytes = 128 << 20, .store_bytes = 64 << 20, .chunk_tokens = 256, .seq_max = 64, .time_factor = 1,
			.start_timeout_s = 600, .link_transport = "auto", .store_persist = "behind", .log_level = "info",
			.etcd_program = "/usr/bin/etcd", .temporary = "/tmp"};
	struct option table[UP_OPTIONS];
	fill_table(&up, table);
	struct options options = {.program = "baton up", .usage = "[--model DIR]… [--prefill N] [--decode N] [--kvstore N]",
				  .table = table, .count = UP_OPTIONS, .environment = environment};
	for (char **variable = environment; *variable; variable++)
		if (strncmp(*variable, "TMPDIR=", 7) == 0 && (*variable)[7] == '/')
			up.temporary = *variable + 7;
	struct why why = {0};
	enum err e = options_parse(&options, argc, argv, &why);
	if (e == ERR_OK && options.help)
		options_print_help(&options);
	else if (e == ERR_OK)
		e = run(&up, &why);
	if (e != ERR_OK)
		fprintf(stderr, "baton up: %s%s%s\n", err_text(e), why.text[0] ? ": " : "", why.text);
	options_fini(&options);
	return e == ERR_OK ? 0 : 1;
}

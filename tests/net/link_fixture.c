#include "link_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/rng.h"
#include "net/certs.h"
#include "net/tls.h"
#include "tests/scratch.h"

const struct way ways[] = {
	{"mapped", LINK_MAPPED, false, false},
	{"mapped, copied on the loop", LINK_MAPPED, false, true},
	{"ucx-tcp", LINK_UCX_TCP, false, false},
	{"ucx-shm", LINK_UCX_SHM, false, false},
	{"ucx-tcp one-sided", LINK_UCX_TCP, true, false},
	{"ucx-shm one-sided", LINK_UCX_SHM, true, false},
	{"tls", LINK_TLS, false, false},
	{"tcp", LINK_TCP, false, false},
};
const size_t way_count = sizeof(ways) / sizeof(*ways);

uint64_t wall_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void expected_bytes(uint64_t offset, size_t length, void *ret_bytes)
{
	uint64_t *words = ret_bytes;
	for (size_t i = 0; i < length / 8; i++)
		words[i] = rng_mix(offset / 8 + i);
	uint64_t last = rng_mix(offset / 8 + length / 8);
	memcpy(words + length / 8, &last, length % 8);
}

struct handle handle_of(uint64_t slot, uint64_t offset, uint64_t length)
{
	return (struct handle){
		.node = PEER_NODE,
		.incarnation = PEER_INCARNATION,
		.region = 3,
		.offset = slot * SLOT_BYTES + offset,
		.length = length,
		.generation = 1,
	};
}

/* ---- certificates ---- */

static void make_certificates(struct pair *pair)
{
	struct why why = {0};
	assert_non_null(scratch_folder(pair->directory, sizeof(pair->directory), "link"));
	const char *const names[] = {"peer", "reader"};
	enum err e = certs_make_ca(pair->directory, "test", &why);
	for (int i = 0; i < 2 && e == ERR_OK; i++)
		e = certs_make_node(pair->directory, &(struct certs_node){.cluster = "test", .role = "engine", .name = names[i]},
				    &why);
	if (e != ERR_OK)
		fail_msg("%s", why.text);
}

static enum err load_certificates(const char *directory, const char *name, struct tls **ret_tls, struct why *why)
{
	char ca[96], certificate[96], key[96];
	snprintf(ca, sizeof(ca), "%s/ca.pem", directory);
	snprintf(certificate, sizeof(certificate), "%s/%s.pem", directory, name);
	snprintf(key, sizeof(key), "%s/%s.key", directory, name);
	return tls_create(&(struct tls_options){ca, certificate, key, "test"}, ret_tls, why);
}

/* ---- the peer ---- */

struct server {
	struct loop *loop;
	struct region *region;
	int control;
};

static void on_command(struct loop_watch *watch, unsigned ready, void *arg)
{
	struct server *server = arg;
	uint64_t slot;
	if (read(server->control, &slot, sizeof(slot)) != sizeof(slot)) {
		loop_stop(server->loop);
		return;
	}
	uint64_t generation = region_slot_renew(server->region, slot);
	if (write(server->control, &generation, sizeof(generation)) != sizeof(generation))
		abort();
}

static void check(enum err e, const struct why *why)
{
	if (e == ERR_OK)
		return;
	fprintf(stderr, "peer: %s: %s\n", err_text(e), why->text);
	exit(1);
}

static int serve(const struct way *way, int control, const char *directory)
{
	struct server server = {.control = control};
	struct why why = {0};
	struct link *link = NULL;
	struct loop_watch *watch = NULL;
	struct buf address = {0};
	struct region_options region_options = {.index = 3, .slot_bytes = SLOT_BYTES, .slot_count = SLOT_COUNT, .touch = REGION_TOUCH};
	struct link_options options = {
		.node = PEER_NODE,
		.incarnation = PEER_INCARNATION,
		.transport = way->transport,
		.one_sided = way->one_sided,
	};
	if (way->transport == LINK_TLS)
		check(load_certificates(directory, "peer", &options.tls, &why), &why);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	check(loop_create(&server.loop), &why);
	check(region_create(&region_options, &server.region, &why), &why);
	expected_bytes(0, SLOT_BYTES * SLOT_COUNT, region_slot(server.region, 0));
	check(link_create(server.loop, &options, &link, &why), &why);
	check(link_region_add(link, server.region, &why), &why);
	check(link_local_address(link, &address), &why);
	check(loop_watch_create(server.loop, control, LOOP_READ, on_command, &server, &watch), &why);
	uint64_t length = address.length;
	if (write(control, &length, sizeof(length)) < 0 || write(control, address.data, length) < 0)
		return 1;
	loop_run(server.loop);
	loop_watch_destroy(watch);
	link_destroy(link);
	tls_destroy(options.tls);
	region_destroy(server.region);
	loop_destroy(server.loop);
	buf_fini(&address);
	return 0;
}

void peer_main(int argc, char **argv)
{
	if (argc == 5 && strcmp(argv[1], "peer") == 0)
		exit(serve(&ways[atoi(argv[2])], atoi(argv[3]), argv[4]));
}

/* ---- the reader ---- */

static void read_exactly(int fd, void *data, size_t length)
{
	for (size_t at = 0; at < length;) {
		ssize_t n = read(fd, (char *)data + at, length - at);
		assert_true(n > 0);
		at += (size_t)n;
	}
}

static void start_peer(struct pair *pair, const struct way *way)
{
	int fds[2];
	char index[16], fd[16];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	snprintf(index, sizeof(index), "%d", (int)(way - ways));
	snprintf(fd, sizeof(fd), "%d", fds[1]);
	pair->pid = fork();
	assert_true(pair->pid >= 0);
	if (pair->pid == 0) {
		close(fds[0]);
		execl("/proc/self/exe", "test-peer", "peer", index, fd, pair->directory, (char *)NULL);
		_exit(1);
	}
	close(fds[1]);
	pair->control = fds[0];
}

void pair_open(struct pair *pair, const struct way *way)
{
	struct why why = {0};
	struct link_options options = {
		.node = READER_NODE,
		.incarnation = 11,
		.transport = way->transport,
		.one_sided = way->one_sided,
		.copy_on_loop = way->copy_on_loop,
	};
	*pair = (struct pair){0};
	if (way->transport == LINK_TLS) {
		make_certificates(pair);
		if (load_certificates(pair->directory, "reader", &pair->tls, &why) != ERR_OK)
			fail_msg("%s", why.text);
		options.tls = pair->tls;
	}
	start_peer(pair, way);
	assert_int_equal(loop_create(&pair->loop), ERR_OK);
	if (link_create(pair->loop, &options, &pair->link, &why) != ERR_OK)
		fail_msg("%s: %s", way->name, why.text);
	uint64_t length;
	read_exactly(pair->control, &length, sizeof(length));
	assert_int_equal(buf_reserve(&pair->address, length), ERR_OK);
	read_exactly(pair->control, pair->address.data, length);
	pair->address.length = length;
	if (link_peer_open(pair->link, PEER_NODE, PEER_INCARNATION, pair->address.data, length, &why) != ERR_OK)
		fail_msg("%s: %s", way->name, why.text);
}

void pair_close(struct pair *pair)
{
	link_destroy(pair->link);
	loop_destroy(pair->loop);
	tls_destroy(pair->tls);
	close(pair->control);
	kill(pair->pid, SIGCONT);
	uint64_t end = wall_ns() + 3000 * MS;
	while (waitpid(pair->pid, NULL, WNOHANG) == 0) {
		if (wall_ns() > end)
			kill(pair->pid, SIGKILL);
		usleep(1000);
	}
	buf_fini(&pair->address);
	char command[128];
	snprintf(command, sizeof(command), "rm -rf %s", pair->directory);
	if (pair->directory[0] && system(command) != 0)
		fail_msg("%s", command);
}

uint64_t pair_renew(struct pair *pair, uint64_t slot)
{
	uint64_t generation = 0;
	assert_int_equal(write(pair->control, &slot, sizeof(slot)), sizeof(slot));
	read_exactly(pair->control, &generation, sizeof(generation));
	return generation;
}

static void on_done(void *context, const struct link_result *results, size_t count)
{
	struct probe *probe = context;
	probe->done_count++;
	probe->done_ns = wall_ns();
	probe->count = count;
	memcpy(probe->results, results, count * sizeof(*results));
}

static void on_free(void *context)
{
	struct probe *probe = context;
	probe->free_before_done |= probe->done_count == 0;
	probe->free_count++;
}

enum err probe_start(struct pair *pair, struct probe *probe, const struct handle *handles, void *const *landings,
                     size_t count, uint64_t timeout_ns)
{
	*probe = (struct probe){0};
	struct link_read_options options = {
		.node = PEER_NODE,
		.handles = handles,
		.landings = landings,
		.count = count,
		.timeout_ns = timeout_ns,
		.done = on_done,
		.landing_free = on_free,
		.context = probe,
	};
	return link_read(pair->link, &options, &probe->read);
}

bool turn_until(struct loop *loop, const int *count, int wanted, uint64_t limit_ns)
{
	for (uint64_t end = wall_ns() + limit_ns; *count < wanted && wall_ns() < end;)
		loop_turn(loop, 20 * MS);
	return *count >= wanted;
}

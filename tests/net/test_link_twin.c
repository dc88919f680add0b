/* Reads from device to device, over a device that is none: its memory is the host's, and its hooks wait, fail or find other bytes when they
 * are told to.  Over UCX it is registered as what it is: one-sided reads of a GPU's differ in that alone.  e2e/device has the real hooks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/digest.h"
#include "link_fixture.h"

enum { SLOTS = 4, SLOT = 64 << 10, PIECE = 4096, BYTES = SLOTS * SLOT, ALIGN = 16 };

/* ---- the device */

struct fake {
	int imports, unimports, reads, landed; /* calls of import and unimport, pieces */
	enum err import_err, read_err;
	bool waits;           /* in each read, until it is let go */
	sem_t entered, go;
};

static enum err import(void *context, int fd, uint64_t bytes, void **ret_memory, struct why *why)
{
	struct fake *fake = context;
	if (fake->import_err != ERR_OK)
		return why_set(why, fake->import_err, "it takes none");
	void *memory = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(memory, MAP_FAILED);
	fake->imports++;
	*ret_memory = memory;
	return ERR_OK;
}

static void unimport(void *context, void *memory, uint64_t bytes)
{
	((struct fake *)context)->unimports++;
	munmap(memory, bytes);
}

static enum err read_arrivals(void *context, struct link_arrival *arrivals, size_t count)
{
	struct fake *fake = context;
	if (fake->waits) {
		sem_post(&fake->entered);
		sem_wait(&fake->go);
	}
	for (size_t i = 0; i < count; i++) {
		fake->reads++;
		if (fake->read_err != ERR_OK)
			continue;
		if (arrivals[i].from)
			memcpy(arrivals[i].to, arrivals[i].from, arrivals[i].length);
		memcpy(arrivals[i].landing, arrivals[i].to, arrivals[i].length);
		arrivals[i].landed = digest_of(arrivals[i].to, arrivals[i].length) == arrivals[i].digest;
		fake->landed += arrivals[i].landed;
	}
	return fake->read_err;
}

/* ---- an owner with a region and its twin, a reader with a device, in one process */

/* Over what: its name when the device is in use begins so. */
struct how {
	const char *name, *plain;
	enum link_transport transport;
	uint8_t kind; /* of the owner's twin */
};
static const struct how mapped = {"mapped+device", "mapped", LINK_MAPPED, MEMORY_HOST}, tcp = {"ucx+device:tcp", "ucx:tcp", LINK_UCX_TCP, MEMORY_HOST},
			shm = {"ucx+device:posix", "ucx:posix", LINK_UCX_SHM, MEMORY_HOST}, cuda = {"ucx+device:tcp", "ucx:tcp", LINK_UCX_TCP, MEMORY_CUDA};

struct two {
	const struct how *how;
	struct loop *loop;
	struct link *owner, *reader;
	struct region *region;
	uint8_t *twin; /* as the owner's device has it */
	struct buf address;
	struct fake fake;
	struct pair pair;
	uint8_t landing[SLOTS][PIECE] __attribute__((aligned(64))), on_device[SLOTS][PIECE] __attribute__((aligned(64)));
	struct probe probe;
	enum err lost;
};

static void on_lost(void *context, uint64_t node, uint64_t incarnation, enum err e)
{
	((struct two *)context)->lost = e;
}

static const struct link_device hooks = {.import = import, .unimport = unimport, .read = read_arrivals, .arrivals_max = 3, .align = ALIGN};

static void make_region(struct two *two)
{
	const struct region_options options = {.slot_bytes = SLOT, .slot_count = SLOTS, .index = 3};
	int fd = memfd_create("twin", MFD_CLOEXEC);
	assert_int_equal(ftruncate(fd, BYTES), 0);
	two->twin = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_int_equal(region_create(&options, &two->region, NULL), ERR_OK);
	region_set_twin(two->region, &(struct region_twin){.fd = fd, .memory = two->twin, .kind = two->how->kind});
	expected_bytes(0, BYTES, region_slot(two->region, 0));
	expected_bytes(0, BYTES, two->twin);
}

static struct two *begin(const struct how *how, const struct link_device *device)
{
	struct two *two = aligned_alloc(64, (sizeof(*two) + 63) / 64 * 64);
	*two = (struct two){.how = how};
	struct link_options owner = {.node = PEER_NODE, .incarnation = PEER_INCARNATION, .transport = how->transport, .one_sided = true},
			    reader = {.node = READER_NODE, .incarnation = 1, .transport = how->transport, .one_sided = true,
				      .on_peer_lost = on_lost, .context = two};
	sem_init(&two->fake.entered, 0, 0);
	sem_init(&two->fake.go, 0, 0);
	make_region(two);
	assert_int_equal(loop_create(&two->loop), ERR_OK);
	assert_int_equal(link_create(two->loop, &owner, &two->owner, NULL), ERR_OK);
	assert_int_equal(link_create(two->loop, &reader, &two->reader, NULL), ERR_OK);
	assert_int_equal(link_region_add(two->owner, two->region, NULL), ERR_OK);
	assert_int_equal(link_local_address(two->owner, &two->address), ERR_OK);
	two->pair = (struct pair){.loop = two->loop, .link = two->reader};
	if (device) {
		struct link_device own = *device;
		own.context = &two->fake;
		assert_int_equal(link_use_device(two->reader, &own), ERR_OK);
	}
	return two;
}

static void end(struct two *two)
{
	if (two->reader)
		link_destroy(two->reader);
	link_destroy(two->owner);
	region_destroy(two->region);
	munmap(two->twin, BYTES);
	loop_destroy(two->loop);
	buf_fini(&two->address);
	assert_int_equal(two->fake.unimports, two->fake.imports);
	sem_destroy(&two->fake.entered);
	sem_destroy(&two->fake.go);
	free(two);
}

static void open_peer(struct two *two)
{
	assert_int_equal(link_peer_open(two->reader, PEER_NODE, PEER_INCARNATION, two->address.data, two->address.length, NULL), ERR_OK);
}

static void on_done(void *context, const struct link_result *results, size_t count)
{
	struct two *two = context;
	two->probe.done_count++;
	memcpy(two->probe.results, results, count * sizeof(*results));
}

static void on_free(void *context)
{
	((struct two *)context)->probe.free_count++;
}

static uint64_t digest_at(uint64_t offset)
{
	uint8_t bytes[PIECE];
	expected_bytes(offset, PIECE, bytes);
	return digest_of(bytes, PIECE);
}

/* A piece of each slot, from `offset` on; whatever lies in the landings goes. */
static void start(struct two *two, uint64_t offset, struct link_read **ret_read)
{
	struct handle handles[SLOTS];
	void *landings[SLOTS], *twins[SLOTS];
	uint64_t digests[SLOTS];
	two->probe = (struct probe){0};
	memset(two->landing, 0, sizeof(two->landing));
	memset(two->on_device, 0, sizeof(two->on_device));
	for (int i = 0; i < SLOTS; i++) {
		uint64_t at = (uint64_t)i * SLOT + offset;
		handles[i] = (struct handle){.node = PEER_NODE, .incarnation = PEER_INCARNATION, .region = 3, .offset = at, .length = PIECE, .generation = 1};
		landings[i] = two->landing[i];
		twins[i] = two->on_device[i];
		digests[i] = digest_at(at);
	}
	const struct link_read_options options = {.node = PEER_NODE, .handles = handles, .landings = landings, .twins = twins, .digests = digests,
						  .count = SLOTS, .timeout_ns = 20000 * MS, .done = on_done, .landing_free = on_free,
						  .context = two};
	assert_int_equal(link_read(two->reader, &options, ret_read), ERR_OK);
}

static void finish(struct two *two)
{
	assert_true(turn_until(two->loop, &two->probe.free_count, 1, 12000 * MS));
	assert_int_equal(two->probe.done_count, 1);
}

static bool says(struct two *two, const char *transport)
{
	char text[64] = "";
	link_peer_transport(two->reader, PEER_NODE, text, sizeof(text));
	bool whole = two->how->transport == LINK_MAPPED;
	return whole ? strcmp(text, transport) == 0 : strncmp(text, transport, strlen(transport)) == 0;
}

/* Descriptors come behind what else is said, keys when they are asked for: reads before go the host's way. */
static void wait_for(struct two *two, const char *transport)
{
	for (uint64_t limit = wall_ns() + 10000 * MS; !says(two, transport) && wall_ns() < limit;) {
		if (two->how->transport != LINK_MAPPED) {
			start(two, 0, NULL);
			finish(two);
		}
		loop_turn(two->loop, 5 * MS);
	}
	assert_true(says(two, transport));
	two->fake.reads = two->fake.landed = 0;
}

static void wait_for_device(struct two *two)
{
	wait_for(two, two->how->name);
}

static struct link_counters counters_of(struct two *two)
{
	struct link_counters counters;
	assert_int_equal(link_peer_counters(two->reader, PEER_NODE, &counters), ERR_OK);
	return counters;
}

/* Reads, and says how many of the pieces came from device to device: those are in both memories, the others in the host's. */
static int read_all(struct two *two, uint64_t offset)
{
	uint64_t before = counters_of(two).device_bytes;
	start(two, offset, NULL);
	finish(two);
	int came = (int)((counters_of(two).device_bytes - before) / PIECE), on_device = 0;
	for (int i = 0; i < SLOTS; i++) {
		uint8_t expected[PIECE];
		expected_bytes((uint64_t)i * SLOT + offset, PIECE, expected);
		assert_int_equal(two->probe.results[i].err, ERR_OK);
		assert_true(two->probe.results[i].digest == digest_of(expected, PIECE));
		assert_memory_equal(two->landing[i], expected, PIECE);
		on_device += memcmp(two->on_device[i], expected, PIECE) == 0;
	}
	/* A NIC may have brought more, which nobody vouches for. */
	assert_true(two->how->transport == LINK_MAPPED ? on_device == came : on_device >= came);
	return came;
}

/* ---- what it does */

static void pieces_go_from_device_to_device(void **state)
{
	struct two *two = begin(*state, &hooks);
	open_peer(two);
	wait_for_device(two);
	const struct link_counters before = counters_of(two);
	assert_int_equal(read_all(two, 0), SLOTS);
	assert_int_equal(read_all(two, SLOT - PIECE), SLOTS);
	assert_int_equal(counters_of(two).device_bytes - before.device_bytes, 2 * SLOTS * PIECE);
	assert_int_equal(counters_of(two).bytes - before.bytes, 2 * SLOTS * PIECE);
	/* Off the device's step, and of landings that it does not have: through the host's memory. */
	assert_int_equal(read_all(two, 8), 0);
	struct handle handle = {.node = PEER_NODE, .incarnation = PEER_INCARNATION, .region = 3, .length = PIECE, .generation = 1};
	assert_int_equal(probe_start(&two->pair, &two->probe, &handle, (void *[]){two->landing}, 1, 10000 * MS), ERR_OK);
	finish(two);
	assert_int_equal(counters_of(two).device_bytes - before.device_bytes, 2 * SLOTS * PIECE);
	end(two);
}

/* The owner's device is behind its host, say: a block that came from a store, and no step has read yet. */
static void what_the_device_does_not_have_is_read_from_the_host(void **state)
{
	struct two *two = begin(*state, &hooks);
	memset(two->twin + 2 * SLOT, 0x55, SLOT);
	open_peer(two);
	wait_for_device(two);
	assert_int_equal(read_all(two, 0), SLOTS - 1);
	assert_true(says(two, two->how->name));
	end(two);
}

static void device_that_fails_is_not_asked_again(void **state)
{
	struct two *two = begin(*state, &hooks);
	open_peer(two);
	wait_for_device(two);
	two->fake.read_err = ERR_DEVICE;
	assert_int_equal(read_all(two, 0), 0);
	assert_int_equal(two->fake.reads, 1); /* the first piece was a batch of its own */
	two->fake.read_err = ERR_OK;
	assert_int_equal(read_all(two, 0), 0);
	assert_int_equal(two->fake.reads, 1);
	assert_true(says(two, two->how->plain));
	end(two);
}

static void memory_that_cannot_be_imported_leaves_the_host_s_way(void **state)
{
	struct two *two = begin(*state, &hooks);
	two->fake.import_err = ERR_PROTOCOL;
	open_peer(two);
	wait_for(two, two->how->plain);
	for (int i = 0; i < 20; i++)
		loop_turn(two->loop, 2 * MS);
	assert_int_equal(read_all(two, 0), 0);
	assert_true(says(two, two->how->plain));
	end(two);
}

/* A UCX without CUDA registers no memory of a GPU: nobody is given a key. */
static void without_cuda_the_host_s_memory_is_read(void **state)
{
	struct two *two = begin(*state, &hooks);
	open_peer(two);
	wait_for(two, two->how->plain);
	for (int i = 0; i < 3; i++)
		assert_int_equal(read_all(two, 0), 0);
	assert_true(says(two, two->how->plain));
	end(two);
}

static void who_has_no_device_is_sent_no_descriptor(void **state)
{
	struct two *two = begin(*state, NULL);
	open_peer(two);
	wait_for(two, two->how->plain);
	assert_int_equal(read_all(two, 0), 0);
	assert_true(says(two, two->how->plain));
	end(two);
}

static void generation_that_is_over_is_stale_on_the_device_too(void **state)
{
	struct two *two = begin(*state, &hooks);
	open_peer(two);
	wait_for_device(two);
	region_slot_renew(two->region, 1);
	start(two, 0, NULL);
	finish(two);
	for (int i = 0; i < SLOTS; i++)
		assert_int_equal(two->probe.results[i].err, i == 1 ? ERR_STALE : ERR_OK);
	assert_int_equal(two->fake.reads, SLOTS - 1);
	/* During the read as well: what landed is not to be trusted, though its digest may be right.  Over UCX it was looked at before. */
	if (two->how->transport != LINK_MAPPED) {
		end(two);
		return;
	}
	two->fake.waits = true;
	start(two, PIECE, NULL);
	while (sem_trywait(&two->fake.entered) != 0)
		loop_turn(two->loop, 2 * MS);
	region_slot_renew(two->region, 0);
	two->fake.waits = false;
	sem_post(&two->fake.go);
	finish(two);
	assert_int_equal(two->probe.results[0].err, ERR_STALE);
	assert_int_equal(two->probe.results[2].err, ERR_OK);
	end(two);
}

/* Starts a read whose first batch is held up in the device, the rest waiting behind it. */
static void start_and_hold(struct two *two, struct link_read **ret_read)
{
	open_peer(two);
	wait_for_device(two);
	two->fake.waits = true;
	start(two, 0, ret_read);
	while (sem_trywait(&two->fake.entered) != 0)
		loop_turn(two->loop, 2 * MS);
}

static void let_go(struct two *two)
{
	two->fake.waits = false;
	sem_post(&two->fake.go);
}

static void landings_of_a_cancelled_read_come_back_behind_the_device(void **state)
{
	struct two *two = begin(*state, &hooks);
	struct link_read *read = NULL;
	start_and_hold(two, &read);
	link_read_cancel(read);
	assert_true(turn_until(two->loop, &two->probe.done_count, 1, 5000 * MS));
	assert_int_equal(two->probe.results[0].err, ERR_CANCELED);
	for (int i = 0; i < 10; i++)
		loop_turn(two->loop, 2 * MS);
	assert_int_equal(two->probe.free_count, 0);
	assert_true(counters_of(two).pieces_quarantined > 0);
	let_go(two);
	finish(two);
	end(two);
}

static void closed_peer_is_gone_behind_the_device(void **state)
{
	struct two *two = begin(*state, &hooks);
	start_and_hold(two, NULL);
	link_peer_close(two->reader, PEER_NODE);
	assert_true(turn_until(two->loop, &two->probe.done_count, 1, 5000 * MS));
	assert_int_equal(two->probe.results[SLOTS - 1].err, ERR_PEER_GONE);
	assert_int_equal(two->probe.free_count + two->fake.unimports, 0);
	let_go(two);
	finish(two);
	/* It may come back at once. */
	open_peer(two);
	wait_for_device(two);
	assert_int_equal(read_all(two, 0), SLOTS);
	end(two);
}

/* Its owner needs the device for itself: what waits goes the host's way. */
static void device_may_be_taken_away(void **state)
{
	struct two *two = begin(*state, &hooks);
	start_and_hold(two, NULL);
	let_go(two);
	link_drop_device(two->reader);
	int reads = two->fake.reads;
	assert_int_equal(two->fake.unimports, two->fake.imports);
	finish(two);
	assert_int_equal(two->probe.results[SLOTS - 1].err, ERR_OK);
	assert_int_equal(read_all(two, 0), 0);
	assert_int_equal(two->fake.reads, reads);
	assert_true(says(two, two->how->plain));
	end(two);
}

static void link_may_be_destroyed_under_a_read(void **state)
{
	struct two *two = begin(*state, &hooks);
	start_and_hold(two, NULL);
	let_go(two);
	link_destroy(two->reader);
	two->reader = NULL;
	assert_int_equal(two->probe.done_count, 1);
	assert_int_equal(two->probe.free_count, 1);
	end(two);
}

static void region_that_is_taken_back_takes_its_twin_along(void **state)
{
	struct two *two = begin(*state, &hooks);
	open_peer(two);
	wait_for_device(two);
	link_region_remove(two->owner, two->region);
	wait_for(two, two->how->plain);
	start(two, 0, NULL);
	finish(two);
	assert_int_equal(two->probe.results[0].err, ERR_DENIED);
	assert_int_equal(link_region_add(two->owner, two->region, NULL), ERR_OK);
	wait_for_device(two);
	assert_int_equal(read_all(two, 0), SLOTS);
	end(two);
}

/* ---- an owner that does not keep to it: we stand between, and change what is said */

enum { MESSAGE_MAX = 256, WHAT_AT = 6, TAKES_TWINS_AT = 27, INDEX_AT = 28, SLOT_COUNT_AT = 40, TWIN = 5 };

struct between {
	int owner_fd, reader_fd;
};

static int seqpacket(void)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	return fd;
}

static socklen_t named(const char *name, struct sockaddr_un *ret_address)
{
	*ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(ret_address->sun_path + 1, name + 1, strlen(name) - 1);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
}

/* Passes one message on.  0: none comes. */
static int pass(int from, int to, void (*change)(uint8_t *message, int *fd, int *times))
{
	uint8_t message[MESSAGE_MAX];
	char control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = {message, sizeof(message)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	ssize_t length = recvmsg(from, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (length <= 0)
		return 0;
	int fd = -1, times = 1, what = message[WHAT_AT];
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	if (cmsg)
		memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
	int own = fd;
	change(message, &fd, &times);
	iov.iov_len = (size_t)length;
	if (fd < 0)
		msg.msg_control = NULL, msg.msg_controllen = 0;
	else if (cmsg)
		msg.msg_controllen = CMSG_SPACE(sizeof(int));
	for (; times > 0; times--)
		if (sendmsg(to, &msg, MSG_NOSIGNAL) != length)
			break;
	if (own >= 0)
		close(own);
	return what;
}

static void claim(uint8_t *message, int *fd, int *times);

/* Opens the peer by way of us, and says as what it was lost; ERR_OK: it is there, which is not waited for where it is to be lost. */
static enum err open_between(struct two *two, void (*change)(uint8_t *message, int *fd, int *times), enum err wanted)
{
	struct between b = {seqpacket(), -1};
	struct sockaddr_un address;
	char *name = memmem(two->address.data, two->address.length, "@baton-link-", 12), owner[64] = "", ours[64] = "";
	assert_non_null(name);
	size_t length = strlen("@baton-link-") + 16;
	memcpy(owner, name, length);
	snprintf(ours, sizeof(ours), "@baton-test-%016lx", (unsigned long)getpid());
	memcpy(name, ours, length);
	int listener = seqpacket();
	assert_int_equal(bind(listener, (struct sockaddr *)&address, named(ours, &address)), 0);
	assert_int_equal(listen(listener, 1), 0);
	open_peer(two);
	b.reader_fd = accept(listener, NULL, NULL);
	assert_int_equal(connect(b.owner_fd, (struct sockaddr *)&address, named(owner, &address)), 0);
	two->lost = ERR_OK;
	uint64_t limit = wall_ns() + 10000 * MS;
	for (int what = 0; what != TWIN && wall_ns() < limit;) {
		(void)pass(b.reader_fd, b.owner_fd, claim);
		loop_turn(two->loop, 1 * MS); /* the owner's, too */
		what = pass(b.owner_fd, b.reader_fd, change);
	}
	while (two->lost == ERR_OK && (wanted != ERR_OK || !says(two, two->how->name)) && wall_ns() < limit)
		loop_turn(two->loop, 5 * MS);
	close(b.owner_fd);
	enum err lost = two->lost;
	close(b.reader_fd);
	close(listener);
	return lost;
}

static void keep(uint8_t *message, int *fd, int *times)
{
}

static void twice(uint8_t *message, int *fd, int *times)
{
	*times = message[WHAT_AT] == TWIN ? 2 : 1;
}

static void without(uint8_t *message, int *fd, int *times)
{
	*fd = message[WHAT_AT] == TWIN ? -1 : *fd;
}

static void of_another_region(uint8_t *message, int *fd, int *times)
{
	message[INDEX_AT] += message[WHAT_AT] == TWIN;
}

static void of_another_shape(uint8_t *message, int *fd, int *times)
{
	message[SLOT_COUNT_AT] += message[WHAT_AT] == TWIN;
}

/* The reader's hello: it has a device, whatever it says. */
static void claim(uint8_t *message, int *fd, int *times)
{
	message[TAKES_TWINS_AT] = 1;
}

static void descriptors_that_nobody_asked_for_end_the_link(void **state)
{
	static const struct {
		void (*change)(uint8_t *message, int *fd, int *times);
		bool device;
		enum err lost;
	} cases[] = {{keep, true, ERR_OK}, {keep, false, ERR_PROTOCOL}, {twice, true, ERR_PROTOCOL}, {without, true, ERR_PROTOCOL},
		     {of_another_region, true, ERR_PROTOCOL}, {of_another_shape, true, ERR_PROTOCOL}};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct two *two = begin(*state, cases[i].device ? &hooks : NULL);
		assert_int_equal(open_between(two, cases[i].change, cases[i].lost), cases[i].lost);
		end(two);
	}
}

#define ON(how, test) cmocka_unit_test_prestate(test, (void *)&how)

int main(int argc, char **argv)
{
	peer_main(argc, argv);
	const struct CMUnitTest on_this_host[] = {
		ON(mapped, pieces_go_from_device_to_device),
		ON(mapped, what_the_device_does_not_have_is_read_from_the_host),
		ON(mapped, device_that_fails_is_not_asked_again),
		ON(mapped, memory_that_cannot_be_imported_leaves_the_host_s_way),
		ON(mapped, who_has_no_device_is_sent_no_descriptor),
		ON(mapped, generation_that_is_over_is_stale_on_the_device_too),
		ON(mapped, landings_of_a_cancelled_read_come_back_behind_the_device),
		ON(mapped, closed_peer_is_gone_behind_the_device),
		ON(mapped, device_may_be_taken_away),
		ON(mapped, link_may_be_destroyed_under_a_read),
		ON(mapped, region_that_is_taken_back_takes_its_twin_along),
		ON(mapped, descriptors_that_nobody_asked_for_end_the_link),
	};
	const struct CMUnitTest one_sided[] = {
		ON(tcp, pieces_go_from_device_to_device),
		ON(shm, pieces_go_from_device_to_device),
		ON(tcp, what_the_device_does_not_have_is_read_from_the_host),
		ON(tcp, device_that_fails_is_not_asked_again),
		ON(tcp, generation_that_is_over_is_stale_on_the_device_too),
		ON(tcp, landings_of_a_cancelled_read_come_back_behind_the_device),
		ON(tcp, closed_peer_is_gone_behind_the_device),
		ON(tcp, device_may_be_taken_away),
		ON(tcp, link_may_be_destroyed_under_a_read),
		ON(tcp, who_has_no_device_is_sent_no_descriptor),
		ON(cuda, without_cuda_the_host_s_memory_is_read),
	};
	int failed = cmocka_run_group_tests(on_this_host, NULL, NULL);
	return failed + cmocka_run_group_tests(one_sided, NULL, NULL);
}

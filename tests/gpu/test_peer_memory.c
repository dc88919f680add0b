/* Device memory between two processes: the owner is this program, executed anew, and knows of the reader only its socket. */
#include "tests/gpu/fixture.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/digest.h"
#include "bench/gpu/pass_fd.h"
#include "kernels/peer_memory.h"
#if __has_include("fake.h")
#include "fake.h"
#define ON_FAKE 1
#endif

enum { POOL_BYTES = 3 << 20, SOCKET_FD = 3, SALT = 77 };

/* What stands at a place of a pool that was filled `round` times. */
static uint64_t word_at(uint64_t index, uint64_t round)
{
	return rng_mix(index * 1000003 + round * SALT);
}

static uint64_t *pattern(size_t bytes, size_t offset, uint64_t round)
{
	uint64_t *words = malloc(bytes);
	for (size_t i = 0; words && i < bytes / 8; i++)
		words[i] = word_at(offset / 8 + i, round);
	return words;
}

/* ---- the other process */

/* Fills its pool, hands it out, and fills it again for each byte that comes. */
static int owner_main(void)
{
	struct device *device = NULL;
	struct why why = {0};
	void *pool = NULL;
	int fd = -1;
	const struct device_options options = {.kind = DEVICE_CUDA};
	if (device_open(&options, &why, &device) != ERR_OK || dev_alloc(device, MEM_SHARED, POOL_BYTES, &pool) != ERR_OK ||
	    dev_export(device, pool, &fd, &why) != ERR_OK)
		return 1;
	for (uint64_t round = 0;; round++) {
		char byte = 'r';
		uint64_t *words = pattern(POOL_BYTES, 0, round);
		if (!words || dev_copy(device, pool, words, POOL_BYTES) != ERR_OK || device_sync(device) != ERR_OK)
			return 2;
		free(words);
		if (round == 0 ? !pass_fd(SOCKET_FD, fd) : write(SOCKET_FD, &byte, 1) != 1)
			return 3;
		if (read(SOCKET_FD, &byte, 1) != 1)
			break;
	}
	close(fd);
	dev_free(device, MEM_SHARED, pool, POOL_BYTES);
	device_close(device);
	return 0;
}

struct owner {
	pid_t pid;
	int socket_fd;
	int fd; /* of its pool */
};

static struct owner owner_start(void)
{
	int ends[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	pid_t pid = fork();
	if (pid == 0) {
		if (ends[0] != SOCKET_FD)
			close(ends[0]);
		dup2(ends[1], SOCKET_FD);
		execl("/proc/self/exe", "owner", "owner", (char *)NULL);
		_exit(127);
	}
	close(ends[1]);
	struct owner owner = {.pid = pid, .socket_fd = ends[0], .fd = take_fd(ends[0])};
	assert_true(owner.fd >= 0);
	return owner;
}

static void owner_refill(const struct owner *owner)
{
	char byte = 'f';
	assert_int_equal(write(owner->socket_fd, &byte, 1), 1);
	assert_int_equal(read(owner->socket_fd, &byte, 1), 1);
}

static void owner_end(struct owner *owner, bool by_force)
{
	int status = 0;
	if (by_force)
		kill(owner->pid, SIGKILL);
	close(owner->socket_fd);
	assert_int_equal(waitpid(owner->pid, &status, 0), owner->pid);
	assert_true(by_force ? WIFSIGNALED(status) : WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* gVisor, whose kernel always says this version, may know the driver's descriptors by halves. */
static bool is_gvisor(void)
{
	struct utsname name;
	return uname(&name) == 0 && strcmp(name.release, "4.4.0") == 0;
}

/* What a driver or a sandbox around it cannot do is no fault of ours: this test is skipped, and says why. */
static struct device *open_sharing(void)
{
	struct device *device = gpu_open(1);
	struct why why = {0};
	void *pool = NULL, *twin = NULL;
	int fd = -1;
	const char *what = NULL;
	enum err e = dev_alloc(device, MEM_SHARED, POOL_BYTES, &pool);
	if (e != ERR_OK) {
		what = e == ERR_UNSUPPORTED || is_gvisor() ? "no memory that has descriptors is to be had" : NULL;
	} else if ((e = dev_export(device, pool, &fd, &why)) != ERR_OK) {
		what = "memory gets no descriptor";
	} else if ((e = dev_import(device, fd, POOL_BYTES, false, &twin, &why)) != ERR_OK && is_gvisor()) {
		what = "a descriptor cannot be mapped on gVisor";
	}
	dev_unimport(device, twin, POOL_BYTES);
	if (fd >= 0)
		close(fd);
	dev_free(device, MEM_SHARED, pool, POOL_BYTES);
	if (what) {
		print_message("           skipped: %s: %s%s%s\n", what, err_text(e), why.text[0] ? ", " : "", why.text);
		device_close(device);
		skip();
	}
	if (e != ERR_OK)
		fail_msg("memory for neighbours: %s, %s", err_text(e), why.text);
	return device;
}

/* ---- reading */

static void *import(struct device *device, int fd, size_t bytes)
{
	void *memory = NULL;
	struct why why = {0};
	if (dev_import(device, fd, bytes, false, &memory, &why) != ERR_OK)
		fail_msg("%s", why.text);
	return memory;
}

/* Pieces of all sizes, one after the other, from `from`, which was filled `round` times. */
static void read_pieces(struct device *device, struct dev_reader *reader, const uint8_t *from, uint64_t round)
{
	static const size_t sizes[] = {16, 32, 128, 256, 1024, 4080, 4096, 4112, 3 * 4096, 32 * 4096 + 48, 256 << 10};
	enum { PIECES = sizeof(sizes) / sizeof(*sizes) };
	struct dev_piece pieces[PIECES];
	uint64_t digests[PIECES];
	size_t total = 0;
	for (size_t i = 0; i < PIECES; i++)
		total += sizes[i];
	uint8_t *landing = gpu_nan(device, total);
	void *host = NULL;
	assert_int_equal(dev_alloc(device, MEM_PINNED, total, &host), ERR_OK);
	assert_int_equal(device_sync(device), ERR_OK);
	for (size_t i = 0, at = 0; i < PIECES; at += sizes[i++])
		pieces[i] = (struct dev_piece){landing + at, from + at, sizes[i], i % 2 ? (uint8_t *)host + at : NULL};
	assert_int_equal(dev_reader_read(reader, pieces, PIECES, digests), ERR_OK);
	uint64_t *expected = pattern(total, 0, round);
	for (size_t i = 0, at = 0; i < PIECES; at += sizes[i++]) {
		assert_int_equal(digests[i], digest_of((uint8_t *)expected + at, sizes[i]));
		for (size_t k = 0; k < sizes[i]; k++)
			assert_int_equal(((uint8_t *)host)[at + k], i % 2 ? ((uint8_t *)expected)[at + k] : 0);
	}
	dev_free(device, MEM_PINNED, host, total);
	uint8_t *landed = gpu_take(device, landing, total);
	assert_memory_equal(landed, expected, total);
	free(landed);
	free(expected);
}

static void own_memory_is_read_with_its_digest(void **state)
{
	struct device *device = gpu_open(1);
	struct dev_reader *reader = NULL;
	uint64_t *words = pattern(1 << 20, 0, 5);
	void *memory = gpu_put(device, words, 1 << 20);
	assert_int_equal(device_sync(device), ERR_OK);
	assert_int_equal(dev_reader_create(device, &reader), ERR_OK);
	read_pieces(device, reader, memory, 5);
	assert_int_equal(dev_reader_read(reader, NULL, 0, NULL), ERR_OK);
	/* What is there already is digested, and goes to the host. */
	void *host = NULL;
	uint64_t digest = 0;
	assert_int_equal(dev_alloc(device, MEM_PINNED, 8192, &host), ERR_OK);
	const struct dev_piece there = {(uint8_t *)memory + 4096, NULL, 8192, host};
	assert_int_equal(dev_reader_read(reader, &there, 1, &digest), ERR_OK);
	assert_true(digest == digest_of(words + 512, 8192));
	assert_memory_equal(host, words + 512, 8192);
	dev_free(device, MEM_PINNED, host, 8192);
	dev_reader_destroy(reader);
	dev_free(device, MEM_DEVICE, memory, 1 << 20);
	free(words);
	device_close(device);
}

static void neighbour_is_read_as_it_is_now(void **state)
{
	struct device *device = open_sharing();
	struct owner owner = owner_start();
	struct dev_reader *reader = NULL;
	assert_int_equal(dev_reader_create(device, &reader), ERR_OK);
	void *pool = import(device, owner.fd, POOL_BYTES);
	close(owner.fd); /* what is mapped keeps it */
	read_pieces(device, reader, pool, 0);
	for (uint64_t round = 1; round < 3; round++) {
		owner_refill(&owner);
		read_pieces(device, reader, pool, round);
	}
	/* Copies in order with operations know it too. */
	uint64_t *words = pattern(4096, 0, 2), *copy = malloc(4096);
	assert_int_equal(dev_copy(device, copy, pool, 4096), ERR_OK);
	assert_memory_equal(copy, words, 4096);
	free(words);
	free(copy);
	dev_unimport(device, pool, POOL_BYTES);
	owner_end(&owner, false);
	dev_reader_destroy(reader);
	device_close(device);
}

/* As with mapped memory: its blocks are good until their session ends. */
static void dead_owner_can_still_be_read(void **state)
{
	struct device *device = open_sharing();
	struct owner owner = owner_start();
	struct dev_reader *reader = NULL;
	assert_int_equal(dev_reader_create(device, &reader), ERR_OK);
	void *pool = import(device, owner.fd, POOL_BYTES);
	close(owner.fd);
	owner_end(&owner, true);
	read_pieces(device, reader, pool, 0);
	dev_unimport(device, pool, POOL_BYTES);
	dev_reader_destroy(reader);
	device_close(device);
}

static void what_is_no_memory_of_a_device_is_refused(void **state)
{
	struct device *device = open_sharing();
	struct owner owner = owner_start();
	struct why why = {0};
	void *memory = NULL;
	int fd = memfd_create("host", MFD_CLOEXEC);
	assert_int_equal(ftruncate(fd, POOL_BYTES), 0);
	assert_int_equal(dev_import(device, fd, POOL_BYTES, false, &memory, &why), ERR_PROTOCOL);
	assert_non_null(strstr(why.text, "of no device memory"));
	assert_int_equal(dev_import(device, 9999, POOL_BYTES, false, &memory, &why), ERR_PROTOCOL);
	assert_int_equal(dev_import(device, owner.fd, 2 * POOL_BYTES, false, &memory, &why), ERR_PROTOCOL);
	assert_non_null(strstr(why.text, "expected 6291456 bytes"));
	assert_int_equal(dev_import(device, owner.fd, 0, false, &memory, &why), ERR_PROTOCOL);
	assert_null(memory);
	/* Memory that was not allocated to be shared has no descriptor. */
	void *own = gpu_alloc(device, 4096);
	assert_int_equal(dev_export(device, own, &fd, &why), ERR_UNSUPPORTED);
	dev_free(device, MEM_DEVICE, own, 4096);
	owner_end(&owner, false);
	close(owner.fd);
	device_close(device);
	/* Nor has a CPU's. */
	struct device *cpu = oracle_open();
	struct dev_reader *reader;
	assert_int_equal(dev_alloc(cpu, MEM_SHARED, 4096, &own), ERR_OK);
	assert_int_equal(dev_export(cpu, own, &fd, &why), ERR_UNSUPPORTED);
	assert_int_equal(dev_import(cpu, 0, 4096, false, &memory, &why), ERR_UNSUPPORTED);
	assert_int_equal(dev_reader_create(cpu, &reader), ERR_UNSUPPORTED);
	dev_free(cpu, MEM_SHARED, own, 4096);
	device_close(cpu);
}

#ifdef ON_FAKE

static void nothing_leaks(void)
{
	assert_int_equal(fake_device_used(), 0);
	assert_int_equal(fake_pinned_used(), 0);
	assert_int_equal(fake_object_count(), 0);
}

/* Law 2, held by the mapping. */
static void neighbour_cannot_be_written(void **state)
{
	struct owner owner = owner_start();
	struct device *device = gpu_open(1);
	void *pool = import(device, owner.fd, POOL_BYTES);
	int status = 0;
	pid_t pid = fork();
	if (pid == 0) {
		signal(SIGSEGV, SIG_DFL);
		uint64_t one = 1;
		enum err e = dev_copy(device, pool, &one, sizeof(one));
		_exit(e == ERR_OK ? device_sync(device) != ERR_OK : 2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
	void *writable = NULL; /* the bench's way */
	assert_int_equal(dev_import(device, owner.fd, POOL_BYTES, true, &writable, NULL), ERR_OK);
	uint64_t two = 2, seen = 0;
	assert_int_equal(dev_copy(device, writable, &two, sizeof(two)), ERR_OK);
	assert_int_equal(dev_copy(device, &seen, pool, sizeof(seen)), ERR_OK);
	assert_int_equal(seen, 2);
	dev_unimport(device, writable, POOL_BYTES);
	dev_unimport(device, pool, POOL_BYTES);
	close(owner.fd);
	owner_end(&owner, false);
	device_close(device);
	nothing_leaks();
}

/* Allocate, export, import, reader: what fails, fails alone. */
static enum err share(struct device *device)
{
	void *pool = NULL, *twin = NULL;
	int fd = -1;
	struct dev_reader *reader = NULL;
	enum err e = dev_alloc(device, MEM_SHARED, POOL_BYTES, &pool);
	if (e == ERR_OK)
		e = dev_export(device, pool, &fd, NULL);
	if (e == ERR_OK)
		e = dev_import(device, fd, POOL_BYTES, false, &twin, NULL);
	if (e == ERR_OK)
		e = dev_reader_create(device, &reader);
	dev_reader_destroy(reader);
	dev_unimport(device, twin, POOL_BYTES);
	if (fd >= 0)
		close(fd);
	dev_free(device, MEM_SHARED, pool, POOL_BYTES);
	return e;
}

static void any_call_may_fail(void **state)
{
	static const char *const calls[] = {"cuMemCreate", "cuMemAddressReserve", "cuMemMap", "cuMemSetAccess", "cuMemRetainAllocationHandle",
					    "cuMemExportToShareableHandle", "cuMemImportFromShareableHandle", "cudaHostAlloc",
					    "cudaStreamCreateWithFlags", "cudaMemsetAsync"};
	enum { NO_MEMORY = 2 };
	uint32_t failures = 0;
	struct device *device = gpu_open(1);
	size_t before = fake_object_count(), used = fake_device_used(), pinned = fake_pinned_used();
	for (size_t c = 0; c < sizeof(calls) / sizeof(*calls); c++) {
		fake_heal();
		assert_int_equal(share(device), ERR_OK);
		uint64_t times = fake_call_count(calls[c]);
		assert_true(times > 0);
		for (uint32_t nth = 1; nth <= times; nth++) {
			fake_heal();
			fake_fail(calls[c], nth, NO_MEMORY);
			failures += share(device) != ERR_OK;
			assert_int_equal(fake_object_count(), before);
			assert_int_equal(fake_device_used(), used);
			assert_int_equal(fake_pinned_used(), pinned);
		}
	}
	assert_true(failures >= 12);
	fake_heal();
	device_close(device);
	nothing_leaks();
}

/* Whichever device the thread was at before. */
static void every_gpu_shares_its_own(void **state)
{
	struct fake_options options = *fake_now();
	options.devices = 2;
	struct fake_options before = fake_configure(&options);
	const struct device_options second = {.kind = DEVICE_CUDA, .index = 1};
	struct device *one = gpu_open(1), *two = NULL;
	assert_int_equal(device_open(&second, NULL, &two), ERR_OK);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(share(one), ERR_OK);
		assert_int_equal(share(two), ERR_OK);
	}
	device_close(two);
	device_close(one);
	fake_configure(&before);
	nothing_leaks();
}

static void drivers_without_it_say_so(void **state)
{
	struct fake_options options = *fake_now();
	struct device *device = gpu_open(1);
	struct why why = {0};
	void *pool = NULL;
	options.no_rdma = true; /* no NIC may register it: neighbours may read it all the same */
	struct fake_options before = fake_configure(&options);
	assert_int_equal(share(device), ERR_OK);
	options.no_peers = true;
	fake_configure(&options);
	assert_int_equal(dev_alloc(device, MEM_SHARED, POOL_BYTES, &pool), ERR_UNSUPPORTED);
	assert_int_equal(dev_import(device, 0, POOL_BYTES, false, &pool, &why), ERR_UNSUPPORTED);
	assert_non_null(strstr(why.text, "its driver cannot share memory"));
	fake_configure(&before);
	device_close(device);
	nothing_leaks();
}

static void failed_read_is_an_error_and_stays_one(void **state)
{
	enum { LAUNCH_FAILURE = 719 };
	struct device *device = gpu_open(1);
	struct dev_reader *reader = NULL;
	void *memory = gpu_alloc(device, 8192);
	uint64_t digest = 0;
	const struct dev_piece piece = {(uint8_t *)memory + 4096, memory, 4096, NULL};
	assert_int_equal(device_sync(device), ERR_OK);
	assert_int_equal(dev_reader_create(device, &reader), ERR_OK);
	fake_fail("launch", 1, LAUNCH_FAILURE);
	assert_int_equal(dev_reader_read(reader, &piece, 1, &digest), ERR_DEVICE);
	fake_heal();
	assert_int_equal(dev_reader_read(reader, &piece, 1, &digest), ERR_DEVICE);
	dev_reader_destroy(reader);
	dev_free(device, MEM_DEVICE, memory, 8192);
	device_close(device);
	nothing_leaks();
}
#endif

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "owner") == 0)
		return owner_main();
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(own_memory_is_read_with_its_digest),
		cmocka_unit_test(neighbour_is_read_as_it_is_now),
		cmocka_unit_test(dead_owner_can_still_be_read),
		cmocka_unit_test(what_is_no_memory_of_a_device_is_refused),
#ifdef ON_FAKE
		cmocka_unit_test(neighbour_cannot_be_written),
		cmocka_unit_test(any_call_may_fail),
		cmocka_unit_test(every_gpu_shares_its_own),
		cmocka_unit_test(drivers_without_it_say_so),
		cmocka_unit_test(failed_read_is_an_error_and_stays_one),
#endif
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

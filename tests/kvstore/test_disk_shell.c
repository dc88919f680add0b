/* The SSD tier over real files: test_kvstore_disk_shell plain|uring FOLDER KILLS.  77: the kernel refuses io_uring. */
#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/log.h"
#include "base/rng.h"
#include "kvstore/disk.h"
#include "kvstore/disk_key.h"
#include "kvstore/disk_shell.h"
#include "net/loop.h"

enum { LANDINGS = 8, LANDING_BYTES = 96 << 10, LAYERS = 3, SEGMENT_BYTES = 1 << 20, SEGMENTS = 6, ACKS_MAX = 4096, LAST = 24, OUT_OF_TIME_S = 60 };

static const char *io_name;
static char folder[512];
static uint32_t kills, encode_max;
static struct disk_key *disk_key; /* of all records */

struct world {
	struct loop *loop;
	struct disk_shell *shell;
	struct disk *disk;
	void *memory;
	uint8_t *landings; /* [LANDINGS][LANDING_BYTES + 64] */
	uint32_t skew;     /* bytes that a landing is beside a page */
	uint32_t durable, failed, loaded;
	enum err last;
	int acks; /* where durable blocks are told, or -1 */
};

/* Three layers whose size is no multiple of a page, or is. */
static uint32_t layer_bytes(uint32_t block)
{
	return block % 3 ? 64 * (1 + block % 400) : 16384;
}

static void *landing_of(void *context, uint32_t landing, uint32_t offset)
{
	struct world *w = context;
	return w->landings + (size_t)landing * (LANDING_BYTES + DISK_PAGE_BYTES) + w->skew + offset;
}

/* Of each five one is noise; what all others are of can be encoded. */
static void fill(uint8_t *data, uint32_t block)
{
	for (uint32_t i = 0; i < LAYERS * layer_bytes(block); i += 8) {
		uint64_t word = rng_at(3, block, i);
		if (block % 5)
			word = (word & 0x83ff83ff83ff83ffu) | 0x3c003c003c003c00u;
		memcpy(data + i, &word, 8);
	}
}

static void on_io(void *context, uint64_t op, enum err e)
{
	struct world *w = context;
	disk_done(w->disk, op, e, loop_now_ns(w->loop));
}

static void on_written(void *context, uint64_t cookie)
{
	(void)context, (void)cookie;
}

static void on_durable(void *context, uint64_t cookie, enum err e)
{
	struct world *w = context;
	w->durable += e == ERR_OK;
	w->failed += e != ERR_OK;
	w->last = e;
	uint32_t block = (uint32_t)(cookie >> 32);
	if (w->acks >= 0 && e == ERR_OK && write(w->acks, &block, sizeof(block)) != sizeof(block))
		_exit(1);
}

static void on_loaded(void *context, uint64_t cookie, enum err e, const struct ledger_block *block)
{
	static uint8_t wanted[LANDING_BYTES];
	struct world *w = context;
	(void)block;
	w->last = e;
	w->loaded++;
	if (e != ERR_OK)
		return;
	fill(wanted, (uint32_t)(cookie >> 32));
	assert_memory_equal(wanted, landing_of(w, (uint32_t)cookie, 0), LAYERS * layer_bytes((uint32_t)(cookie >> 32)));
}

static enum err open_shell(struct world *w, const char *io, uint32_t segments, struct why *why)
{
	struct disk_shell_options options = {.path = folder, .io = io, .segment_count = segments, .segment_bytes = SEGMENT_BYTES,
					     .depth = 16, .key = disk_key, .context = w, .landing = landing_of, .done = on_io};
	return disk_shell_create(w->loop, &options, &w->shell, why);
}

static void start(struct world *w)
{
	struct why why = {0};
	assert_int_equal(open_shell(w, io_name, SEGMENTS, &why), ERR_OK);
	struct disk_options options = {
		.segment_count = SEGMENTS, .segment_bytes = SEGMENT_BYTES, .block_max = 512,
		.record_bytes_max = LANDING_BYTES + DISK_PAGE_BYTES, .put_max = 8, .write_max = 4, .encode_max = encode_max, .load_max = 8, .read_max = 4,
		.keep_percent = 50, .note_max = 64, .sync_delay_ns = 1000000, .file = disk_shell_file(w->shell), .context = w,
		.written = on_written, .durable = on_durable, .loaded = on_loaded,
	};
	assert_int_equal(disk_shell_id(&options.id, &why), ERR_OK);
	w->memory = malloc(disk_bytes(&options));
	w->disk = disk_init(w->memory, &options, loop_now_ns(w->loop));
}

static void stop(struct world *w)
{
	disk_shell_destroy(w->shell);
	free(w->memory);
	w->memory = NULL;
	w->disk = NULL;
}

static struct world *world_create(void)
{
	struct world *w = calloc(1, sizeof(*w));
	w->acks = -1;
	w->landings = aligned_alloc(DISK_PAGE_BYTES, (size_t)LANDINGS * (LANDING_BYTES + DISK_PAGE_BYTES));
	assert_int_equal(loop_create(&w->loop), ERR_OK);
	return w;
}

static void world_destroy(struct world *w)
{
	loop_destroy(w->loop);
	free(w->landings);
	free(w);
}

static void remove_folder(void)
{
	char name[600];
	snprintf(name, sizeof(name), "%s/blocks", folder);
	unlink(name);
	snprintf(name, sizeof(name), "%s/lock", folder);
	unlink(name);
	rmdir(folder);
}

static int setup_plain(void **state)
{
	encode_max = 0;
	remove_folder();
	struct world *w = world_create();
	start(w);
	*state = w;
	return 0;
}

static int setup_encoding(void **state)
{
	int result = setup_plain(state);
	struct world *w = *state;
	encode_max = 4;
	stop(w);
	start(w);
	return result;
}

static int teardown(void **state)
{
	struct world *w = *state;
	if (w->disk)
		stop(w);
	world_destroy(w);
	remove_folder();
	return 0;
}

static struct disk_status status_of(const struct world *w)
{
	struct disk_status status;
	disk_status(w->disk, &status);
	return status;
}

static void turn(struct world *w)
{
	loop_turn(w->loop, 2000000);
	disk_tick(w->disk, loop_now_ns(w->loop));
}

static void until(struct world *w, uint32_t *counter, uint32_t value)
{
	while (*counter < value)
		turn(w);
}

static void until_ready(struct world *w)
{
	while (!status_of(w).ready)
		turn(w);
}

static struct id128 key_of(uint32_t block)
{
	struct id128 id = {{(uint8_t)block, (uint8_t)(block >> 8), (uint8_t)(block >> 16), 9}};
	return id;
}

static enum err put(struct world *w, uint32_t block, uint32_t landing)
{
	uint64_t digests[LAYERS];
	uint8_t *data = landing_of(w, landing, 0);
	fill(data, block);
	for (uint32_t i = 0; i < LAYERS; i++)
		digests[i] = digest_of(data + (size_t)i * layer_bytes(block), layer_bytes(block));
	struct ledger_block info = {.key = key_of(block), .layer_count = LAYERS, .layer_bytes = layer_bytes(block), .digests = digests};
	return disk_put(w->disk, &info, landing, (uint64_t)block << 32 | landing);
}

static void put_now(struct world *w, uint32_t block)
{
	uint32_t before = w->durable;
	assert_int_equal(put(w, block, 0), ERR_OK);
	until(w, &w->durable, before + 1);
}

static enum err load_now(struct world *w, uint32_t block)
{
	uint32_t before = w->loaded;
	struct id128 id = key_of(block);
	memset(landing_of(w, 1, 0), 0xaa, LANDING_BYTES);
	enum err e = disk_load(w->disk, &id, 1, (uint64_t)block << 32 | 1);
	if (e != ERR_OK)
		return e;
	until(w, &w->loaded, before + 1);
	return w->last;
}

static void blocks_come_back_after_a_start(void **state)
{
	struct world *w = *state;
	assert_non_null(strstr(disk_shell_name(w->shell), strcmp(io_name, "plain") == 0 ? "threads" : "io_uring"));
	until_ready(w);
	for (uint32_t i = 0; i < 60; i++)
		put_now(w, i);
	for (int life = 0; life < 2; life++) {
		stop(w);
		start(w);
		until_ready(w);
		assert_true(status_of(w).counters.recovered >= 30);
		for (uint32_t i = 40; i < 60; i++)
			assert_int_equal(load_now(w, i), ERR_OK);
	}
}

static void what_is_encoded_takes_less(void **state)
{
	struct world *w = *state;
	until_ready(w);
	for (uint32_t i = 200; i < 260; i++)
		put_now(w, i);
	const struct disk_counters c = status_of(w).counters;
	assert_in_range(c.bytes_put, c.bytes_put_plain * 75 / 100, c.bytes_put_plain * 85 / 100);
}

static void landings_beside_a_page_are_right_too(void **state)
{
	struct world *w = *state;
	w->skew = 64;
	until_ready(w);
	for (uint32_t i = 0; i < 10; i++) {
		put_now(w, i);
		assert_int_equal(load_now(w, i), ERR_OK);
	}
}

static void many_at_once_and_more_than_there_is_room_for(void **state)
{
	struct world *w = *state;
	until_ready(w);
	for (uint32_t i = 0; i < 400; i += LANDINGS) {
		uint32_t before = w->durable;
		for (uint32_t k = 0; k < LANDINGS; k++)
			assert_int_equal(put(w, i + k, k), ERR_OK);
		until(w, &w->durable, before + LANDINGS);
		assert_int_equal(load_now(w, i + 1), ERR_OK);
		disk_check(w->disk);
	}
	assert_int_equal(w->failed, 0);
	assert_true(status_of(w).counters.segments_emptied > 5);
}

static void bytes_that_changed_on_disk_are_not_served(void **state)
{
	struct world *w = *state;
	until_ready(w);
	put_now(w, 3);
	char name[600];
	snprintf(name, sizeof(name), "%s/blocks", folder);
	int fd = open(name, O_RDWR);
	uint8_t byte;
	assert_int_equal(pread(fd, &byte, 1, 2 * DISK_PAGE_BYTES + 100), 1);
	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, 2 * DISK_PAGE_BYTES + 100), 1);
	fsync(fd);
	close(fd);
	assert_int_equal(load_now(w, 3), ERR_CORRUPT);
	assert_int_equal(load_now(w, 3), ERR_NOT_FOUND);
}

static struct disk_key *make_key(const char *secret)
{
	char path[600];
	struct disk_key *made;
	struct why why = {0};
	snprintf(path, sizeof(path), "%s.key", folder);
	FILE *file = fopen(path, "wb");
	assert_true(file && fputs(secret, file) >= 0 && fclose(file) == 0);
	assert_int_equal(disk_key_read(path, &made, &why), ERR_OK);
	unlink(path);
	return made;
}

static void blocks_of_another_key_are_not_served(void **state)
{
	struct world *w = *state;
	struct disk_key *right = disk_key;
	until_ready(w);
	for (uint32_t i = 0; i < LANDINGS; i++)
		assert_int_equal(put(w, i, i), ERR_OK);
	until(w, &w->durable, LANDINGS);
	stop(w);
	disk_key = make_key("another sixteen bytes");
	start(w);
	until_ready(w);
	for (uint32_t i = 0; i < LANDINGS; i++)
		assert_int_not_equal(load_now(w, i), ERR_OK);
	stop(w);
	disk_key_destroy(disk_key);
	disk_key = NULL; /* digests alone: whoever may write there is trusted */
	start(w);
	until_ready(w);
	put_now(w, 100);
	stop(w);
	disk_key = right;
	start(w);
	until_ready(w);
	assert_int_not_equal(load_now(w, 100), ERR_OK); /* it has no tag */
}

static void folder_of_another_is_refused(void **state)
{
	struct world *w = *state;
	struct world *other = world_create();
	struct why why = {0};
	assert_int_equal(open_shell(other, io_name, SEGMENTS, &why), ERR_BUSY);
	assert_non_null(strstr(why.text, folder));
	world_destroy(other);
	assert_non_null(w->disk);
}

static void disk_without_room_says_so(void **state)
{
	struct world *w = *state;
	struct why why = {0};
	stop(w);
	assert_int_equal(open_shell(w, io_name, 1u << 26, &why), ERR_IO); /* 64 TiB */
	assert_non_null(strstr(why.text, folder));
}

static void unknown_way_is_refused_and_auto_finds_one(void **state)
{
	struct world *w = *state;
	struct why why = {0};
	stop(w);
	assert_int_equal(open_shell(w, "fast", SEGMENTS, &why), ERR_INVALID);
	assert_non_null(strstr(why.text, "auto, uring or plain"));
	assert_int_equal(open_shell(w, "auto", SEGMENTS, &why), ERR_OK);
	disk_shell_destroy(w->shell);
}

/* ---- a kernel without memory: the linker puts this before liburing's */

static uint32_t submits_refused; /* the next so many */

int __real_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_submit(struct io_uring *ring)
{
	if (submits_refused == 0)
		return __real_io_uring_submit(ring);
	submits_refused--;
	return -EAGAIN;
}

static void what_the_kernel_does_not_take_is_given_to_it_again(void **state)
{
	struct world *w = *state;
	until_ready(w);
	for (uint32_t i = 0; i < 12; i++) {
		submits_refused = i % 4;
		put_now(w, i);
		submits_refused = i % 3;
		assert_int_equal(load_now(w, i), ERR_OK);
	}
	submits_refused = 2;
	assert_int_equal(put(w, 100, 0), ERR_OK);
	disk_tick(w->disk, loop_now_ns(w->loop));
	stop(w); /* with it still in the ring */
	submits_refused = 0;
	start(w);
}

/* What is under way when the shell goes is over when the call returns, and told nobody. */
static void shell_may_go_at_any_time(void **state)
{
	struct world *w = *state;
	for (uint32_t i = 0; i < 20; i++) {
		until_ready(w);
		for (uint32_t k = 0; k < 4; k++)
			assert_int_equal(put(w, 100 * i + k, k), ERR_OK);
		disk_tick(w->disk, loop_now_ns(w->loop));
		for (uint32_t k = 0; k < i; k++)
			turn(w);
		stop(w);
		start(w);
	}
}

/* A process that writes and is killed: all it said to be durable is there. */
static void writer(int acks, uint32_t from)
{
	struct world *w = world_create();
	start(w);
	w->acks = acks;
	until_ready(w);
	for (uint32_t block = from;; block += LANDINGS) {
		uint32_t before = w->durable;
		for (uint32_t k = 0; k < LANDINGS; k++)
			if (put(w, block + k, k) != ERR_OK)
				_exit(1);
		until(w, &w->durable, before + LANDINGS);
	}
}

static void killed_writer_keeps_its_word(void **state)
{
	struct world *w = *state;
	uint32_t checked = 0;
	for (uint32_t round = 0; round < kills; round++) {
		int pipe_fds[2];
		stop(w);
		assert_int_equal(pipe(pipe_fds), 0);
		pid_t child = fork();
		if (child == 0) {
			alarm(OUT_OF_TIME_S);
			writer(pipe_fds[1], (round + 1) << 16);
		}
		close(pipe_fds[1]);
		uint32_t acked[ACKS_MAX], count = 0, wanted = 1 + (uint32_t)(rng_mix(round) % 40);
		while (count < wanted && read(pipe_fds[0], &acked[count], sizeof(acked[0])) == sizeof(acked[0]))
			count++;
		assert_int_equal(count, wanted); /* it lives until it is killed */
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		while (count < ACKS_MAX && read(pipe_fds[0], &acked[count], sizeof(acked[0])) == sizeof(acked[0]))
			count++;
		close(pipe_fds[0]);
		start(w);
		until_ready(w);
		for (uint32_t i = count < LAST ? 0 : count - LAST; i < count; i++, checked++) /* older ones may have made room */
			assert_int_equal(load_now(w, acked[i]), ERR_OK);
	}
	assert_true(checked > 8 * kills);
	printf("%u kills, %u blocks found again\n", kills, checked);
}

int main(int argc, char **argv)
{
	assert(argc == 4);
	io_name = argv[1];
	kills = (uint32_t)strtoul(argv[3], NULL, 10);
	snprintf(folder, sizeof(folder), "%s", argv[2]);
	log_init("test", LOG_ERROR, false);
	disk_key = make_key("sixteen bytes are enough");
	struct world *probe = world_create();
	struct why why = {0};
	remove_folder();
	enum err e = open_shell(probe, io_name, SEGMENTS, &why);
	if (e == ERR_OK)
		disk_shell_destroy(probe->shell);
	world_destroy(probe);
	remove_folder();
	if (e == ERR_UNSUPPORTED) {
		printf("%s\n", why.text);
		disk_key_destroy(disk_key);
		return 77;
	}
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup_plain, teardown)
#define E(name) cmocka_unit_test_setup_teardown(name, setup_encoding, teardown)
		T(blocks_come_back_after_a_start),
		T(landings_beside_a_page_are_right_too),
		T(many_at_once_and_more_than_there_is_room_for),
		T(bytes_that_changed_on_disk_are_not_served),
		T(blocks_of_another_key_are_not_served),
		T(folder_of_another_is_refused),
		T(disk_without_room_says_so),
		T(unknown_way_is_refused_and_auto_finds_one),
		T(what_the_kernel_does_not_take_is_given_to_it_again),
		T(shell_may_go_at_any_time),
		T(killed_writer_keeps_its_word),
		E(what_is_encoded_takes_less),
		E(blocks_come_back_after_a_start),
		E(landings_beside_a_page_are_right_too),
		E(many_at_once_and_more_than_there_is_room_for),
		E(bytes_that_changed_on_disk_are_not_served),
		E(blocks_of_another_key_are_not_served),
		E(shell_may_go_at_any_time),
		E(killed_writer_keeps_its_word),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	disk_key_destroy(disk_key);
	return failed;
}

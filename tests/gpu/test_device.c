/* The device itself: memory, copies, marks, recorded steps, and several devices that meet. */
#include <sys/mman.h>
#include <unistd.h>

#include "tests/gpu/device_step.h"

static void it_says_what_it_is(void **state)
{
	const struct device_options wrong = {.kind = DEVICE_CUDA, .row_segments = 3};
	struct device *device = gpu_open(4);
	const struct device_props *props = device_props(device);
	assert_int_equal(props->kind, DEVICE_CUDA);
	assert_true(props->queued && props->input == ELEM_BF16 && props->row_segments == 4);
	assert_string_equal(props->numerics, "cuda-bf16wgmma-1/s4");
	assert_true(device_read_rate(device) > 0);
	device_close(device);
	struct why why;
	assert_int_equal(device_open(&wrong, &why, &device), ERR_INVALID);
	assert_non_null(strstr(why.text, "expected 1, 2, 4 or 8"));
	nothing_leaks();
}

static void memory_is_zero(void **state)
{
	struct device *device = gpu_open(1);
	for (int kind = MEM_HOST; kind <= MEM_DEVICE; kind++) {
		uint8_t *memory, host[999];
		assert_int_equal(dev_alloc(device, kind, 999, (void **)&memory), ERR_OK);
		memset(host, 1, sizeof(host));
		assert_int_equal(dev_copy(device, host, memory, 999), ERR_OK);
		for (int i = 0; i < 999; i++)
			assert_int_equal(host[i], 0);
		dev_free(device, kind, memory, 999);
	}
	void *memory;
	assert_int_equal(dev_alloc(device, MEM_DEVICE, (size_t)2 << 40, &memory), ERR_NOMEM);
	assert_int_equal(device_sync(device), ERR_OK); /* the error was the caller's alone */
	device_close(device);
}

static uint8_t pattern(uint32_t i)
{
	return (uint8_t)((i * 2654435761u) >> 24); /* it does not repeat from piece to piece */
}

/* Plain memory of the host may change as soon as it was copied from, however large it is: pinned pieces hold what travels. */
static void what_was_copied_may_change_at_once(void **state)
{
	enum { BYTES = (19 << 20) + 12345 };
	struct device *device = gpu_open(1);
	uint8_t *from = malloc(BYTES), *back = malloc(BYTES);
	for (int i = 0; i < BYTES; i++)
		from[i] = pattern((uint32_t)i);
	void *memory = gpu_alloc(device, BYTES);
	assert_int_equal(dev_copy(device, memory, from, BYTES), ERR_OK);
	memset(from, 0xee, BYTES);
	assert_int_equal(dev_copy(device, back, memory, BYTES), ERR_OK);
	for (int i = 0; i < BYTES; i++)
		if (back[i] != pattern((uint32_t)i))
			fail_msg("byte %d", i);
	dev_free(device, MEM_DEVICE, memory, BYTES);
	free(from);
	free(back);
	device_close(device);
}

/* A fetch is there when a mark after it has been waited for; memory of the host that was pinned takes it. */
static void a_fetch_is_there_behind_its_mark(void **state)
{
	enum { COUNT = 1024 };
	struct device *device = gpu_open(1);
	float *host = aligned_alloc(64, COUNT * sizeof(float)), one[COUNT];
	assert_int_equal(dev_pin(device, host, COUNT * sizeof(float)), ERR_OK);
	for (int i = 0; i < COUNT; i++)
		one[i] = (float)i;
	float *x = gpu_put(device, one, sizeof(one)), *add = gpu_put(device, one, sizeof(one));
	for (int round = 0; round < 600; round++) { /* more than marks in the ring */
		op_add(device, x, add, 1, COUNT);
		dev_fetch(device, &(struct fetch_piece){host, x, sizeof(one)}, 1);
		uint64_t mark = device_mark(device);
		assert_int_equal(device_wait(device, mark), ERR_OK);
		assert_true(host[5] == 5.0f * (float)(round + 2) && host[COUNT - 1] == (COUNT - 1.0f) * (float)(round + 2));
	}
	dev_unpin(device, host, COUNT * sizeof(float));
	dev_free(device, MEM_DEVICE, x, sizeof(one));
	dev_free(device, MEM_DEVICE, add, sizeof(one));
	free(host);
	device_close(device);
	nothing_leaks();
}

/* Memory as a node's regions are: a file that others map. What the device fetched is there for them, and what they wrote the device gets; copies
 * go beside operations that take longer. */
static void a_file_in_memory_may_be_pinned(void **state)
{
	enum { BYTES = 1 << 20, COUNT = BYTES / sizeof(uint32_t), HALF = BYTES / 2, ROUNDS = 6 };
	struct device *device = gpu_open(1);
	int fd = memfd_create("region", MFD_CLOEXEC);
	assert_true(fd >= 0 && ftruncate(fd, BYTES) == 0);
	uint32_t *ours = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), *theirs = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(ours != MAP_FAILED && theirs != MAP_FAILED);
	assert_int_equal(dev_pin(device, ours, BYTES), ERR_OK);
	uint32_t *there = gpu_nan(device, BYTES);
	float *x = gpu_nan(device, BYTES), *add = gpu_nan(device, BYTES);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		for (uint32_t i = 0; i < HALF / sizeof(uint32_t); i++)
			theirs[i] = i * 2654435761u + round;
		for (int i = 0; i < 3; i++)
			op_add(device, x, add, COUNT / 64, 64);
		const struct copy_lines lines = {.to = there, .from = ours, .to_stride = HALF / 4, .from_stride = HALF / 4, .bytes = HALF / 4, .count = 4};
		dev_copy_lines(device, &lines);
		dev_fetch(device, &(struct fetch_piece){(uint8_t *)ours + HALF, there, HALF}, 1);
		for (int i = 0; i < 3; i++)
			op_add(device, x, add, COUNT / 64, 64);
		assert_int_equal(device_wait(device, device_mark(device)), ERR_OK);
		assert_memory_equal((uint8_t *)theirs + HALF, theirs, HALF);
	}
	dev_unpin(device, ours, BYTES);
	dev_free(device, MEM_DEVICE, there, BYTES);
	dev_free(device, MEM_DEVICE, x, BYTES);
	dev_free(device, MEM_DEVICE, add, BYTES);
	munmap(ours, BYTES);
	munmap(theirs, BYTES);
	close(fd);
	device_close(device);
	nothing_leaks();
}

static void a_step_is_recorded_and_runs_again(void **state)
{
	struct device *device = gpu_open(1);
	float one[64], zero[64] = {0}, result[64];
	for (int i = 0; i < 64; i++)
		one[i] = 1;
	float *x = gpu_put(device, zero, sizeof(zero)), *add = gpu_put(device, one, sizeof(one));
	uint32_t queued = 0;
	for (int round = 1; round <= 10; round++) {
		if (!device_replay(device, 7)) {
			queue_step(device, x, add);
			assert_true(device_recorded(device));
			queued++;
		}
		assert_int_equal(dev_copy(device, result, x, sizeof(result)), ERR_OK);
		assert_true(result[0] == 2.0f * (float)round && result[63] == 2.0f * (float)round);
	}
	assert_int_equal(queued, 2); /* the first time it runs as it is, the second it is recorded */
	assert_false(device_replay(device, 8)); /* another key is another step */
	queue_step(device, x, add);
	assert_true(device_recorded(device));
	dev_free(device, MEM_DEVICE, x, sizeof(zero));
	dev_free(device, MEM_DEVICE, add, sizeof(one));
	device_close(device);
	nothing_leaks();
}

/* A row of parts from both, summed on each, step after step: who ran ahead would read what is not there yet. */
static void queue_meeting(struct device *const *devices, float *const *parts, float *const *sums, const float *const *adds)
{
	const struct tree_call tree[2] = {{.parts = (const float *const *)parts, .part_count = 2, .rows = 1, .n = 64, .out = sums[0]},
					  {.parts = (const float *const *)parts, .part_count = 2, .rows = 1, .n = 64, .out = sums[1]}};
	for (int i = 0; i < 2; i++)
		op_add(devices[i], parts[i], adds[i], 1, 64);
	device_meet(devices[0]);
	for (int i = 0; i < 2; i++)
		op_tree_sum(devices[i], &tree[i]);
	device_meet(devices[0]);
}

static enum err open_second(struct device **ret_device)
{
#if ON_FAKE
	struct fake_options options = *fake_now();
	options.devices = 2;
	fake_configure(&options);
#endif
	struct why why;
	return device_open(&(struct device_options){.kind = DEVICE_CUDA, .index = 1}, &why, ret_device);
}

static void devices_meet(void **state)
{
	struct device *devices[2];
	struct why why;
	float *parts[2], *sums[2];
	const float *adds[2];
	float one[64], zero[64] = {0}, result[64];
	if (open_second(&devices[1]) != ERR_OK) {
		print_message("           skipped: there is one GPU\n");
		skip();
	}
	devices[0] = gpu_open(0);
	enum err e = device_join(devices, 2, &why);
	if (e == ERR_UNSUPPORTED) {
		print_message("           skipped: %s\n", why.text);
		skip();
	}
	assert_int_equal(e, ERR_OK);
	for (int i = 0; i < 64; i++)
		one[i] = 1;
	for (int i = 0; i < 2; i++) {
		parts[i] = gpu_put(devices[i], zero, sizeof(zero));
		sums[i] = gpu_put(devices[i], zero, sizeof(zero));
		adds[i] = gpu_put(devices[i], one, sizeof(one));
	}
	for (int round = 1; round <= 30; round++) {
		if (!device_replay(devices[0], 3)) {
			queue_meeting(devices, parts, sums, adds);
			assert_true(device_recorded(devices[0]));
		}
		assert_int_equal(device_wait(devices[0], device_mark(devices[0])), ERR_OK);
		for (int i = 0; i < 2; i++) {
			assert_int_equal(dev_copy(devices[i], result, sums[i], sizeof(result)), ERR_OK);
			assert_true(result[0] == 2.0f * (float)round && result[63] == 2.0f * (float)round);
		}
	}
	for (int i = 0; i < 2; i++) {
		dev_free(devices[i], MEM_DEVICE, parts[i], sizeof(zero));
		dev_free(devices[i], MEM_DEVICE, sums[i], sizeof(zero));
		dev_free(devices[i], MEM_DEVICE, (void *)adds[i], sizeof(one));
	}
	for (int i = 0; i < 2; i++)
		device_close(devices[i]);
	nothing_leaks();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_says_what_it_is),
		cmocka_unit_test(memory_is_zero),
		cmocka_unit_test(what_was_copied_may_change_at_once),
		cmocka_unit_test(a_fetch_is_there_behind_its_mark),
		cmocka_unit_test(a_file_in_memory_may_be_pinned),
		cmocka_unit_test(a_step_is_recorded_and_runs_again),
		cmocka_unit_test(devices_meet),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The device itself, on the fake: memory, copies, marks, recorded steps, and what becomes of failures. */
#include "fake.h"
#include "tests/gpu/fixture.h"

enum { LAUNCH_FAILURE = 719, NO_MEMORY = 2 }; /* of CUDA */

static void nothing_leaks(void)
{
	assert_int_equal(fake_device_used(), 0);
	assert_int_equal(fake_pinned_used(), 0);
	assert_int_equal(fake_object_count(), 0);
}

static struct device *open_with(struct why *why, enum err *ret_e)
{
	struct device *device = NULL;
	const struct device_options options = {.kind = DEVICE_CUDA};
	*ret_e = device_open(&options, why, &device);
	return device;
}

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

static void it_says_how_much_of_its_memory_is_free(void **state)
{
	enum { BYTES = 1 << 20 };
	struct device *device = gpu_open(1);
	uint64_t before = dev_memory_free(device);
	void *memory;
	assert_true(before > 0 && before <= device_props(device)->memory_bytes);
	assert_int_equal(dev_alloc(device, MEM_DEVICE, BYTES, &memory), ERR_OK);
	assert_int_equal(dev_memory_free(device), before - BYTES);
	dev_free(device, MEM_DEVICE, memory, BYTES);
	assert_int_equal(dev_memory_free(device), before);
	device_close(device);
	nothing_leaks();
}

static void without_a_gpu_it_is_unsupported(void **state)
{
	struct fake_options options = *fake_now();
	options.absent = true;
	struct fake_options before = fake_configure(&options);
	struct why why;
	enum err e;
	assert_null(open_with(&why, &e));
	assert_int_equal(e, ERR_UNSUPPORTED);
	assert_non_null(strstr(why.text, "no GPU"));
	fake_configure(&before);
}

/* Each call of an opening fails in its turn: an error, and nothing is left. */
static void any_call_of_an_opening_may_fail(void **state)
{
	static const char *const calls[] = {"cudaMalloc", "cudaMallocHost", "cudaHostAlloc", "cudaMemsetAsync",
					    "cudaStreamSynchronize", "cudaStreamCreateWithFlags",
					    "cudaEventCreateWithFlags", "cudaGetDeviceProperties", "cudaFuncSetAttribute",
					    "cudaGetDriverEntryPointByVersion"};
	uint32_t failures = 0;
	for (size_t c = 0; c < sizeof(calls) / sizeof(*calls); c++) {
		fake_heal();
		device_close(gpu_open(1));
		uint64_t times = fake_call_count(calls[c]);
		for (uint32_t nth = 1; nth <= times; nth += nth < 6 ? 1 : 97) {
			struct why why;
			enum err e;
			fake_heal();
			fake_fail(calls[c], nth, NO_MEMORY);
			struct device *device = open_with(&why, &e);
			fake_heal();
			if (device) { /* what failed was of the closing, which goes on */
				device_close(device);
				continue;
			}
			failures++;
			assert_int_equal(e, ERR_NOMEM);
			nothing_leaks();
		}
	}
	assert_true(failures > 20);
}

static void memory_is_zero_and_counted(void **state)
{
	struct device *device = gpu_open(1);
	size_t device_before = fake_device_used(), pinned_before = fake_pinned_used();
	for (int kind = MEM_HOST; kind <= MEM_DEVICE; kind++) {
		uint8_t *memory, host[999];
		assert_int_equal(dev_alloc(device, kind, 999, (void **)&memory), ERR_OK);
		memset(host, 1, sizeof(host));
		assert_int_equal(dev_copy(device, host, memory, 999), ERR_OK);
		for (int i = 0; i < 999; i++)
			assert_int_equal(host[i], 0);
		dev_free(device, kind, memory, 999);
	}
	assert_int_equal(fake_device_used(), device_before);
	assert_int_equal(fake_pinned_used(), pinned_before);
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
		dev_fetch(device, host, x, sizeof(one));
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

/* A step: x += add, twice. */
static void queue_step(struct device *device, float *x, const float *add)
{
	op_add(device, x, add, 1, 64);
	op_add(device, x, add, 1, 64);
}

static void a_step_is_recorded_and_runs_again(void **state)
{
	struct device *device = gpu_open(1);
	float one[64], zero[64] = {0}, result[64];
	for (int i = 0; i < 64; i++)
		one[i] = 1;
	float *x = gpu_put(device, zero, sizeof(zero)), *add = gpu_put(device, one, sizeof(one));
	fake_heal();
	uint32_t queued = 0;
	for (int round = 1; round <= 10; round++) {
		if (!device_replay(device, 7)) {
			queue_step(device, x, add);
			device_recorded(device);
			queued++;
		}
		assert_int_equal(dev_copy(device, result, x, sizeof(result)), ERR_OK);
		assert_true(result[0] == 2.0f * (float)round && result[63] == 2.0f * (float)round);
	}
	assert_int_equal(queued, 2); /* the first time it runs as it is, the second it is recorded */
	assert_int_equal(fake_call_count("cudaGraphInstantiate"), 1);
	assert_int_equal(fake_call_count("cudaGraphLaunch"), 9);
	assert_false(device_replay(device, 8)); /* another key is another step */
	queue_step(device, x, add);
	device_recorded(device);
	dev_free(device, MEM_DEVICE, x, sizeof(zero));
	dev_free(device, MEM_DEVICE, add, sizeof(one));
	device_close(device);
	nothing_leaks();
}

/* An error lets nobody wait any more, and what was queued before is on its way still: it has ended when its memory goes. */
static void pinned_memory_goes_after_its_copies_also_after_an_error(void **state)
{
	fake_heal();
	struct device *device = gpu_open(1);
	float one[1024] = {1};
	float *x = gpu_put(device, one, sizeof(one));
	void *pinned = NULL;
	assert_int_equal(dev_alloc(device, MEM_PINNED, sizeof(one), &pinned), ERR_OK);
	assert_int_equal(device_sync(device), ERR_OK);
	dev_fetch(device, pinned, x, sizeof(one));
	assert_int_equal(dev_copy(device, x, pinned, sizeof(one)), ERR_OK);
	fake_fail("launch", 1, LAUNCH_FAILURE);
	queue_step(device, x, x);
	assert_int_equal(device_sync(device), ERR_DEVICE);
	dev_free(device, MEM_PINNED, pinned, sizeof(one));
	dev_free(device, MEM_DEVICE, x, sizeof(one));
	device_close(device);
	fake_heal();
	nothing_leaks();
}

/* The first failure stays, is given by every wait, and what is queued afterwards does nothing. */
static void fail_call(const char *call, uint32_t rounds)
{
	fake_heal();
	struct device *device = gpu_open(1);
	float one[64] = {1};
	float *x = gpu_put(device, one, sizeof(one)), *add = gpu_put(device, one, sizeof(one));
	assert_int_equal(device_sync(device), ERR_OK);
	fake_fail(call, 1, LAUNCH_FAILURE);
	enum err e = ERR_OK;
	for (uint32_t round = 0; round < rounds; round++) {
		if (!device_replay(device, 7)) {
			queue_step(device, x, add);
			device_recorded(device);
		}
		e = device_wait(device, device_mark(device));
	}
	if (e != ERR_DEVICE)
		fail_msg("%s: %s", call, err_text(e));
	uint64_t launches = fake_call_count("launch");
	queue_step(device, x, add);
	assert_int_equal(fake_call_count("launch"), launches);
	assert_int_equal(device_sync(device), ERR_DEVICE);
	assert_int_equal(dev_copy(device, one, x, sizeof(one)), ERR_DEVICE);
	fake_heal();
	assert_int_equal(device_sync(device), ERR_DEVICE);
	dev_free(device, MEM_DEVICE, x, sizeof(one));
	dev_free(device, MEM_DEVICE, add, sizeof(one));
	device_close(device);
	nothing_leaks();
}

static void a_failure_stays(void **state)
{
	fail_call("launch", 1);
	fail_call("kernel", 1);
	fail_call("cudaEventRecord", 1);
	fail_call("cudaEventSynchronize", 1);
	fail_call("cudaStreamBeginCapture", 2);
	fail_call("cudaStreamEndCapture", 2);
	fail_call("cudaGraphInstantiate", 2);
	fail_call("cudaGraphLaunch", 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_says_what_it_is),
		cmocka_unit_test(it_says_how_much_of_its_memory_is_free),
		cmocka_unit_test(without_a_gpu_it_is_unsupported),
		cmocka_unit_test(any_call_of_an_opening_may_fail),
		cmocka_unit_test(memory_is_zero_and_counted),
		cmocka_unit_test(what_was_copied_may_change_at_once),
		cmocka_unit_test(a_fetch_is_there_behind_its_mark),
		cmocka_unit_test(pinned_memory_goes_after_its_copies_also_after_an_error),
		cmocka_unit_test(a_step_is_recorded_and_runs_again),
		cmocka_unit_test(a_failure_stays),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

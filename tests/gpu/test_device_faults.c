/* The device on the fake alone: what becomes of failures, and what is left of what was taken. */
#include "fake.h"
#include "tests/gpu/device_step.h"

enum { LAUNCH_FAILURE = 719, NO_MEMORY = 2 }; /* of CUDA */

static struct device *open_with(struct why *why, enum err *ret_e)
{
	struct device *device = NULL;
	const struct device_options options = {.kind = DEVICE_CUDA};
	*ret_e = device_open(&options, why, &device);
	return device;
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

/* Before it is opened, and where there is none: whoever opens it then hears of it. */
static void a_thread_may_have_it_current_first(void **state)
{
	fake_heal();
	device_make_current(DEVICE_CPU, 0);
	assert_int_equal(fake_call_count("cudaSetDevice"), 0);
	device_make_current(DEVICE_CUDA, 0);
	assert_int_equal(fake_call_count("cudaSetDevice"), 1);
	device_close(gpu_open(1));
	fake_fail("cudaSetDevice", 1, LAUNCH_FAILURE);
	device_make_current(DEVICE_CUDA, 0);
	struct device *device = gpu_open(1);
	assert_int_equal(device_sync(device), ERR_OK); /* nothing of it is left */
	device_close(device);
	nothing_leaks();
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

static void memory_is_counted(void **state)
{
	struct device *device = gpu_open(1);
	size_t device_before = fake_device_used(), pinned_before = fake_pinned_used();
	for (int kind = MEM_HOST; kind <= MEM_DEVICE; kind++) {
		void *memory;
		assert_int_equal(dev_alloc(device, kind, 999, &memory), ERR_OK);
		assert_int_equal(fake_device_used() > device_before, kind == MEM_DEVICE);
		assert_int_equal(fake_pinned_used() > pinned_before, kind == MEM_PINNED);
		dev_free(device, kind, memory, 999);
	}
	assert_int_equal(fake_device_used(), device_before);
	assert_int_equal(fake_pinned_used(), pinned_before);
	device_close(device);
}

/* One recording serves nine of ten steps. */
static void a_recorded_step_is_one_call(void **state)
{
	struct device *device = gpu_open(1);
	float zero[64] = {0};
	float *x = gpu_put(device, zero, sizeof(zero));
	fake_heal();
	for (int round = 0; round < 10; round++) {
		if (!device_replay(device, 7)) {
			queue_step(device, x, x);
			assert_true(device_recorded(device));
		}
		assert_int_equal(device_sync(device), ERR_OK);
	}
	assert_int_equal(fake_call_count("cudaGraphInstantiate"), 1);
	assert_int_equal(fake_call_count("cudaGraphLaunch"), 9);
	dev_free(device, MEM_DEVICE, x, sizeof(zero));
	device_close(device);
	nothing_leaks();
}

/* Memory that is full is no failure: the step runs once, those that are recorded go on, others run as they come. */
static void without_memory_steps_run_unrecorded(void **state)
{
	static const char *const calls[] = {"cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate", "cudaGraphLaunch"};
	for (size_t c = 0; c < sizeof(calls) / sizeof(*calls); c++) {
		fake_heal();
		struct device *device = gpu_open(1);
		float one[64], zero[64] = {0}, result[64];
		for (int i = 0; i < 64; i++)
			one[i] = 1;
		float *x = gpu_put(device, zero, sizeof(zero)), *add = gpu_put(device, one, sizeof(one));
		uint32_t queued = 0;
		for (int round = 1; round <= 12; round++) {
			if (round == 6)
				fake_fail(calls[c], 1, NO_MEMORY);
			for (bool runs = device_replay(device, round <= 4 ? 7 : 7 + round % 2); !runs; queued++) {
				queue_step(device, x, add);
				runs = device_recorded(device);
			}
			assert_int_equal(dev_copy(device, result, x, sizeof(result)), ERR_OK);
			if (result[0] != 2.0f * (float)round || result[63] != 2.0f * (float)round)
				fail_msg("%s: round %d", calls[c], round);
		}
		assert_int_equal(device_sync(device), ERR_OK);
		/* Of 7 the first two, of 8 all; one twice where it is recorded before it fails. */
		if (strcmp(calls[c], "cudaGraphLaunch") != 0) {
			assert_int_equal(queued, 2 + 4 + (strcmp(calls[c], "cudaStreamBeginCapture") != 0));
			assert_int_equal(fake_call_count("cudaGraphInstantiate"), strcmp(calls[c], "cudaGraphInstantiate") == 0 ? 2 : 1);
		}
		dev_free(device, MEM_DEVICE, x, sizeof(zero));
		dev_free(device, MEM_DEVICE, add, sizeof(one));
		device_close(device);
		fake_heal();
		nothing_leaks();
	}
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
	dev_fetch(device, &(struct fetch_piece){pinned, x, sizeof(one)}, 1);
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
			assert_true(device_recorded(device));
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
		cmocka_unit_test(without_a_gpu_it_is_unsupported),
		cmocka_unit_test(a_thread_may_have_it_current_first),
		cmocka_unit_test(any_call_of_an_opening_may_fail),
		cmocka_unit_test(memory_is_counted),
		cmocka_unit_test(a_recorded_step_is_one_call),
		cmocka_unit_test(pinned_memory_goes_after_its_copies_also_after_an_error),
		cmocka_unit_test(without_memory_steps_run_unrecorded),
		cmocka_unit_test(a_failure_stays),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

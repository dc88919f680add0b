#include "tests/kernels/fixture.h"
#include <stdatomic.h>
#include <sys/resource.h>
#include <time.h>
#include "kernels/cpu/threads.h"

struct count_job {
	atomic_uint seen[1000];
	atomic_bool stranger; /* cmocka asserts on the main thread only */
	uint32_t worker_max;
};

static void count_item(void *arg, uint32_t index, uint32_t worker)
{
	struct count_job *job = arg;
	if (worker >= job->worker_max)
		job->stranger = true;
	atomic_fetch_add(&job->seen[index], 1);
}

static void each_item_runs_once(void **state)
{
	for (uint32_t thread_count = 1; thread_count <= 4; thread_count++) {
		struct threads *threads;
		assert_int_equal(threads_create(thread_count, &threads), ERR_OK);
		assert_int_equal(threads_count(threads), thread_count);
		for (uint32_t round = 0; round < 500; round++) {
			struct count_job job = {.worker_max = thread_count};
			uint32_t count = round * 2;
			threads_run(threads, count, count_item, &job);
			assert_false(job.stranger);
			for (uint32_t i = 0; i < 1000; i++)
				assert_int_equal(job.seen[i], i < count ? 1 : 0);
		}
		threads_destroy(threads);
	}
	threads_destroy(NULL);
}

/* CPU time of the process over 100 ms of doing nothing: the workers must be asleep. */
static void idle_workers_use_no_cpu(void **state)
{
	struct device *device = device_named(NULL, 4);
	struct timespec begin, end, pause = {.tv_nsec = 5 * 1000 * 1000};
	nanosleep(&pause, NULL); /* longer than any worker spins */
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
	pause.tv_nsec = 100 * 1000 * 1000;
	nanosleep(&pause, NULL);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
	double used_ms = (double)(end.tv_sec - begin.tv_sec) * 1e3 + (double)(end.tv_nsec - begin.tv_nsec) * 1e-6;
	assert_near(used_ms, 0, 10);
	device_close(device);
}

static void variants_are_chosen_by_name_or_best_first(void **state)
{
	const char *names[DEVICE_VARIANTS_MAX];
	uint32_t count = device_variants(names);
	assert_true(count >= 1);
	assert_string_equal(names[count - 1], "portable");
	for (uint32_t i = 0; i < count; i++) {
		struct device *device = device_named(names[i], 3);
		assert_string_equal(device_props(device)->variant, names[i]);
		assert_int_equal(device_props(device)->thread_count, 3);
		device_close(device);
	}
	struct device *best = device_named(NULL, 0);
	assert_string_equal(device_props(best)->variant, names[0]);
	assert_true(device_props(best)->thread_count >= 1 && device_props(best)->memory_bytes > 0);
	assert_int_equal(device_sync(best), ERR_OK);
	device_close(best);
	device_close(NULL);
}

static void unknown_devices_are_refused_with_a_reason(void **state)
{
	struct device *device;
	struct why why = {{0}};
	struct device_options options = {.variant = "avx3"};
	assert_int_equal(device_open(&options, &why, &device), ERR_UNSUPPORTED);
	assert_non_null(strstr(why.text, "avx3"));
	options = (struct device_options){.kind = DEVICE_CUDA};
	assert_int_equal(device_open(&options, NULL, &device), ERR_UNSUPPORTED);
	options = (struct device_options){.thread_count = DEVICE_THREADS_MAX + 1};
	assert_int_equal(device_open(&options, NULL, &device), ERR_INVALID);
}

static void memory_is_zero_and_aligned(void **state)
{
	static const size_t sizes[] = {1, 100, 4097, (2 << 20) - 1, 2 << 20, (5 << 20) + 3};
	struct device *device = device_named(NULL, 1);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		uint8_t *memory;
		assert_int_equal(dev_alloc(device, MEM_DEVICE, sizes[i], (void **)&memory), ERR_OK);
		assert_int_equal((uintptr_t)memory % (sizes[i] < (2 << 20) ? 64 : 2 << 20), 0);
		assert_true(memory[0] == 0 && memory[sizes[i] / 2] == 0 && memory[sizes[i] - 1] == 0);
		memset(memory, 1, sizes[i]);
		assert_int_equal(dev_copy(device, memory, "x", 1), ERR_OK);
		assert_int_equal(memory[0], 'x');
		dev_free(device, MEM_DEVICE, memory, sizes[i]);
	}
	void *memory;
	assert_int_equal(dev_alloc(device, MEM_DEVICE, 0, &memory), ERR_NOMEM);
	assert_int_equal(dev_alloc(device, MEM_DEVICE, SIZE_MAX - 1, &memory), ERR_NOMEM);
	device_close(device);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_item_runs_once),
		cmocka_unit_test(idle_workers_use_no_cpu),
		cmocka_unit_test(variants_are_chosen_by_name_or_best_first),
		cmocka_unit_test(unknown_devices_are_refused_with_a_reason),
		cmocka_unit_test(memory_is_zero_and_aligned),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

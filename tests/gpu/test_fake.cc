/* The fake runtime: what is queued runs when it is waited for, graphs run again, limits hold, failures come where they are asked for. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <thread>
extern "C" {
#include <cmocka.h>
}
#include "kernels/cuda/simt.h"
#include "tests/gpu/fake/fake.h"

#define ok(call)	   assert_int_equal(call, cudaSuccess)
#define gives(error, call) assert_int_equal(call, error)

SIMT_KERNEL(count_up)(uint32_t *at, uint32_t by)
{
	if (threadIdx.x == 0)
		*at += by;
}

static cudaStream_t stream, other;
static uint32_t *pinned, *device;

static int begin(void **)
{
	ok(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
	ok(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
	ok(cudaMallocHost(&pinned, 64));
	ok(cudaMalloc(&device, 64));
	ok(cudaMemset(device, 0, 64));
	memset(pinned, 0, 64);
	fake_heal(); /* counts begin here */
	return 0;
}

static int end(void **)
{
	fake_heal();
	ok(cudaStreamDestroy(stream));
	ok(cudaStreamDestroy(other));
	ok(cudaFreeHost(pinned));
	ok(cudaFree(device));
	assert_int_equal(fake_object_count(), 0);
	assert_int_equal(fake_device_used(), 0);
	assert_int_equal(fake_pinned_used(), 0);
	return 0;
}

static cudaError_t add_on(cudaStream_t on, uint32_t *at, uint32_t by)
{
	return SIMT_LAUNCH(count_up, 1, 32, 0, on, at, by);
}

static uint32_t device_value()
{
	uint32_t value;
	ok(cudaMemcpy(&value, device, 4, cudaMemcpyDeviceToHost));
	return value;
}

static void queued_operations_run_when_waited_for(void **)
{
	ok(add_on(stream, pinned, 1));
	assert_int_equal(*pinned, 0);
	gives(cudaErrorNotReady, cudaStreamQuery(stream));
	ok(cudaStreamSynchronize(stream));
	assert_int_equal(*pinned, 1);
	ok(cudaStreamQuery(stream));
	struct fake_options options = *fake_now();
	options.late_streams = false;
	struct fake_options before = fake_configure(&options);
	ok(add_on(stream, pinned, 1));
	assert_int_equal(*pinned, 2);
	fake_configure(&before);
}

/* Pinned memory is read when the copy runs, pageable memory when it is queued. */
static void copies_read_pinned_memory_late(void **)
{
	uint32_t pageable = 5;
	*pinned = 5;
	ok(cudaMemcpyAsync(device, pinned, 4, cudaMemcpyHostToDevice, stream));
	*pinned = 6;
	ok(cudaStreamSynchronize(stream));
	assert_int_equal(device_value(), 6);
	ok(cudaMemcpyAsync(device, &pageable, 4, cudaMemcpyHostToDevice, stream));
	pageable = 7;
	ok(cudaStreamSynchronize(stream));
	assert_int_equal(device_value(), 5);
	gives(cudaErrorInvalidValue, cudaMemcpyAsync(device, pinned, 65, cudaMemcpyHostToDevice, stream));
	gives(cudaErrorInvalidValue, cudaMemsetAsync(&device[15], 0, 8, stream));
}

static void events_order_streams(void **)
{
	cudaEvent_t event;
	ok(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
	ok(cudaEventQuery(event));
	ok(add_on(stream, pinned, 3));
	ok(cudaEventRecord(event, stream));
	ok(add_on(stream, pinned, 10));
	ok(cudaStreamWaitEvent(other, event));
	ok(cudaMemcpyAsync(&pinned[1], pinned, 4, cudaMemcpyDefault, other));
	gives(cudaErrorNotReady, cudaEventQuery(event));
	ok(cudaStreamSynchronize(other));
	assert_int_equal(pinned[1], 3); /* what was behind the event has not run */
	ok(cudaEventQuery(event));
	ok(cudaEventRecord(event, stream));
	ok(cudaEventSynchronize(event));
	assert_int_equal(*pinned, 13);
	ok(cudaEventDestroy(event));
}

static void graphs_run_again_with_what_lies_in_memory(void **)
{
	cudaGraph_t graph;
	cudaGraphExec_t exec;
	cudaEvent_t fork, join;
	ok(cudaEventCreateWithFlags(&fork, cudaEventDisableTiming));
	ok(cudaEventCreateWithFlags(&join, cudaEventDisableTiming));
	ok(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
	ok(cudaMemcpyAsync(device, pinned, 4, cudaMemcpyHostToDevice, stream));
	ok(cudaEventRecord(fork, stream));
	ok(cudaStreamWaitEvent(other, fork));
	ok(add_on(other, device, 100));
	ok(cudaEventRecord(join, other));
	ok(cudaStreamWaitEvent(stream, join));
	ok(cudaStreamEndCapture(stream, &graph));
	ok(cudaGraphInstantiate(&exec, graph));
	ok(cudaGraphDestroy(graph));
	assert_int_equal(device_value(), 0); /* recorded is not run */
	for (uint32_t i = 0; i < 3; i++) {
		*pinned = i;
		ok(cudaGraphLaunch(exec, stream));
		ok(cudaStreamSynchronize(stream));
		assert_int_equal(device_value(), 100 + i);
	}
	ok(cudaGraphExecDestroy(exec));
	ok(cudaEventDestroy(fork));
	ok(cudaEventDestroy(join));
}

/* What a capture cannot hold spoils it. */
static void captures_refuse_what_cannot_be_recorded(void **)
{
	cudaGraph_t graph;
	void *memory;
	uint32_t pageable = 0;
	for (int i = 0; i < 5; i++) {
		ok(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
		ok(add_on(stream, device, 1));
		cudaError_t e = i == 0 ? cudaStreamSynchronize(stream) :
				i == 1 ? cudaMalloc(&memory, 16) :
				i == 2 ? cudaMemcpyAsync(device, &pageable, 4, cudaMemcpyDefault, stream) :
				i == 3 ? cudaMemcpyAsync(&pageable, device, 4, cudaMemcpyDefault, stream) :
					 cudaDeviceSynchronize();
		gives(cudaErrorStreamCaptureUnsupported, e);
		gives(cudaErrorStreamCaptureInvalidated, cudaStreamEndCapture(stream, &graph));
		assert_null(graph);
	}
	/* Another thread may ask for memory meanwhile, but not wait for the device. */
	ok(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
	std::thread([&] {
		ok(cudaMalloc(&memory, 16));
		ok(cudaFree(memory));
		gives(cudaErrorStreamCaptureUnsupported, cudaDeviceSynchronize());
	}).join();
	gives(cudaErrorStreamCaptureInvalidated, cudaStreamEndCapture(stream, &graph));
	cudaEvent_t fork;
	ok(cudaEventCreateWithFlags(&fork, cudaEventDisableTiming));
	ok(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
	ok(cudaEventRecord(fork, stream));
	ok(cudaStreamWaitEvent(other, fork));
	ok(add_on(other, device, 1)); /* and nobody waits for it */
	gives(cudaErrorStreamCaptureUnjoined, cudaStreamEndCapture(stream, &graph));
	ok(cudaEventDestroy(fork));
	assert_int_equal(device_value(), 0);
}

SIMT_KERNEL(wants_memory)()
{
}

static void limits_are_a_gpus(void **)
{
	void *memory;
	int count;
	gives(cudaErrorMemoryAllocation, cudaMalloc(&memory, fake_now()->device_bytes));
	gives(cudaErrorInvalidConfiguration, SIMT_LAUNCH(wants_memory, 1, 2048, 0, stream));
	gives(cudaErrorInvalidConfiguration, SIMT_LAUNCH(wants_memory, 0, 32, 0, stream));
	gives(cudaErrorInvalidConfiguration, SIMT_LAUNCH(wants_memory, dim3(1, 65536), 32, 0, stream));
	gives(cudaErrorInvalidConfiguration, SIMT_LAUNCH_CLUSTER(wants_memory, 4, 6, 32, 0, stream));
	gives(cudaErrorInvalidConfiguration, SIMT_LAUNCH(wants_memory, 1, 32, 100 << 10, stream));
	gives(cudaErrorInvalidValue, cudaFuncSetAttribute(wants_memory, cudaFuncAttributeMaxDynamicSharedMemorySize, 228 << 10));
	ok(cudaFuncSetAttribute(wants_memory, cudaFuncAttributeMaxDynamicSharedMemorySize, 100 << 10));
	ok(SIMT_LAUNCH(wants_memory, 1, 32, 100 << 10, stream));
	assert_int_equal(cudaGetLastError(), cudaErrorInvalidValue);
	assert_int_equal(cudaGetLastError(), cudaSuccess);
	struct fake_options options = *fake_now();
	options.absent = true;
	struct fake_options before = fake_configure(&options);
	gives(cudaErrorNoDevice, cudaGetDeviceCount(&count));
	fake_configure(&before);
}

static void calls_fail_where_they_are_told_to(void **)
{
	void *first, *second;
	fake_fail("cudaMalloc", 2, cudaErrorMemoryAllocation);
	ok(cudaMalloc(&first, 16));
	gives(cudaErrorMemoryAllocation, cudaMalloc(&second, 16));
	ok(cudaMalloc(&second, 16));
	ok(cudaFree(first));
	ok(cudaFree(second));
	assert_int_equal(fake_call_count("cudaMalloc"), 3);
	fake_fail("launch", 1, cudaErrorInvalidConfiguration);
	gives(cudaErrorInvalidConfiguration, add_on(stream, pinned, 1));
	ok(add_on(stream, pinned, 1));
	ok(cudaStreamSynchronize(stream));
	assert_int_equal(*pinned, 1);
}

/* The kernel that fails is the second; nothing behind it runs, and every call says so. */
static void a_lost_device_stays_lost(void **)
{
	void *memory;
	fake_fail("kernel", 2, cudaErrorLaunchFailure);
	for (int i = 0; i < 3; i++)
		ok(add_on(stream, pinned, 1));
	gives(cudaErrorLaunchFailure, cudaStreamSynchronize(stream));
	assert_int_equal(*pinned, 1);
	gives(cudaErrorLaunchFailure, cudaMalloc(&memory, 16));
	gives(cudaErrorLaunchFailure, add_on(stream, pinned, 1));
	gives(cudaErrorLaunchFailure, cudaGetLastError());
	gives(cudaErrorLaunchFailure, cudaGetLastError());
	fake_heal();
	fake_fail("copy", 1, cudaErrorECCUncorrectable);
	ok(cudaMemcpyAsync(device, pinned, 4, cudaMemcpyHostToDevice, stream));
	gives(cudaErrorECCUncorrectable, cudaStreamSynchronize(stream));
}

static void the_host_faults_on_device_memory(void **)
{
	fflush(nullptr);
	pid_t child = fork();
	if (child == 0) {
		int quiet = freopen("/dev/null", "w", stderr) == nullptr;
		signal(SIGSEGV, SIG_DFL);
		*device = (uint32_t)quiet;
		_exit(0);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
}

#define fake_test(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main()
{
	const struct CMUnitTest tests[] = {
		fake_test(queued_operations_run_when_waited_for),
		fake_test(copies_read_pinned_memory_late),
		fake_test(events_order_streams),
		fake_test(graphs_run_again_with_what_lies_in_memory),
		fake_test(captures_refuse_what_cannot_be_recorded),
		fake_test(limits_are_a_gpus),
		fake_test(calls_fail_where_they_are_told_to),
		fake_test(a_lost_device_stays_lost),
		fake_test(the_host_faults_on_device_memory),
	};
	return cmocka_run_group_tests(tests, nullptr, nullptr);
}

/* own_kernels - what tests share whose kernels stand in the test itself, without kernels/device.h. */
#ifndef TESTS_GPU_OWN_KERNELS_H
#define TESTS_GPU_OWN_KERNELS_H
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
extern "C" {
#include <cmocka.h>
}
#include "kernels/cuda/simt_wgmma.h"
#if __has_include("fake.h")
#include "fake.h"
#define ON_FAKE 1
#else
#define ON_FAKE 0
#endif

#define ok(call) assert_int_equal(call, cudaSuccess)

#if ON_FAKE
/* Runs what may end the process in one of its own: waitpid()'s status of it. */
static int run_apart(void (*run)(void *), void *arg)
{
	fflush(nullptr);
	pid_t child = fork();
	if (child == 0) {
		if (!freopen("/dev/null", "w", stderr))
			_exit(0);
		signal(SIGABRT, SIG_DFL);
		signal(SIGSEGV, SIG_DFL);
		run(arg);
		_exit(0);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}
#endif

template <typename T> static T *device_copy(const T *from, size_t count)
{
	T *memory;
	ok(cudaMalloc(&memory, count * sizeof(T)));
	if (from)
		ok(cudaMemcpy(memory, from, count * sizeof(T), cudaMemcpyHostToDevice));
	return memory;
}
#endif

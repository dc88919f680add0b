/* join - several devices behind one caller: their streams wait for each other by events, their kernels read each other's memory.
 *
 * A stream that waits for one whose device is lost may wait for ever, so the host does not: it looks at every joined device while it
 * waits, and gives up on all when one fails. */
#include <assert.h>
#include <sched.h>
#include "kernels/cuda/cuda.h"

/* --- together ------------------------------------------------------------------------------------------------ */

/* Allows the first to read the second's memory. */
static enum err allow(struct cuda_device *device, struct cuda_device *other, struct why *why)
{
	int can = 0;
	if (!CUDA_TRY(device, cudaDeviceCanAccessPeer(&can, device->index, other->index)) || !cuda_enter(device))
		return why_set(why, device->failed, "device %d: it cannot be set up", device->index);
	if (!can)
		return why_set(why, ERR_UNSUPPORTED, "device: GPU %d cannot read the memory of GPU %d, as tensor parallelism needs it",
			       device->index, other->index);
	cudaError_t error = cudaDeviceEnablePeerAccess(other->index, 0);
	if (error == cudaErrorPeerAccessAlreadyEnabled)
		(void)cudaGetLastError();
	else if (!cuda_check(device, error, "cudaDeviceEnablePeerAccess"))
		return why_set(why, device->failed, "device %d: it gets no access to GPU %d", device->index, other->index);
	return ERR_OK;
}

enum err cuda_join(struct device *const *devices, uint32_t count, struct why *why)
{
	enum err e = ERR_OK;
	for (uint32_t i = 0; i < count && e == ERR_OK; i++)
		for (uint32_t j = 0; j < count && e == ERR_OK; j++)
			if (i != j)
				e = allow(cuda_of(devices[i]), cuda_of(devices[j]), why);
	for (uint32_t i = 0; i < count && e == ERR_OK; i++) {
		struct cuda_device *device = cuda_of(devices[i]);
		device->joined_count = count;
		for (uint32_t j = 0; j < count; j++)
			device->joined[j] = cuda_of(devices[j]);
	}
	return e;
}

static bool record_met(struct cuda_device *device)
{
	return cuda_alive(&device->base) && CUDA_TRY(device, cudaEventRecord(device->met, device->stream));
}

static void follow(struct cuda_device *device, struct cuda_device *other)
{
	if (device != other && cuda_alive(&device->base))
		CUDA_TRY(device, cudaStreamWaitEvent(device->stream, other->met, 0));
}

void cuda_meet(struct device *base)
{
	struct cuda_device *device = cuda_of(base);
	uint32_t count = device->joined_count;
	for (uint32_t i = 0; i < count && count > 1; i++)
		if (!record_met(device->joined[i]))
			return;
	for (uint32_t i = 0; i < count; i++)
		for (uint32_t j = 0; j < count; j++)
			follow(device->joined[i], device->joined[j]);
}

void cuda_gather(struct cuda_device *first)
{
	for (uint32_t i = 0; i < first->joined_count; i++)
		if (first->joined[i] != first && record_met(first->joined[i]))
			follow(first, first->joined[i]);
}

void cuda_release(struct cuda_device *first)
{
	if (first->joined_count == 1 || !record_met(first))
		return;
	for (uint32_t i = 0; i < first->joined_count; i++)
		follow(first->joined[i], first);
}

/* --- waiting -------------------------------------------------------------------------------------------------- */

/* false: one of them failed, and so did all. */
static bool all_live(struct cuda_device *device)
{
	for (uint32_t i = 0; i < device->joined_count; i++) {
		struct cuda_device *one = device->joined[i];
		if (!cuda_alive(&one->base))
			return false;
		cudaError_t error = cudaStreamQuery(one->stream);
		if (error != cudaErrorNotReady && !cuda_check(one, error, "what is queued"))
			return false;
	}
	(void)cudaGetLastError(); /* "not ready" is no error */
	return true;
}

bool cuda_await(struct cuda_device *device, cudaEvent_t event)
{
	if (!cuda_alive(&device->base))
		return false;
	if (device->joined_count == 1)
		return CUDA_TRY(device, cudaEventSynchronize(event));
	cudaError_t error;
	while ((error = cudaEventQuery(event)) == cudaErrorNotReady) {
		if (!all_live(device) || !cuda_enter(device))
			return false;
		sched_yield();
	}
	return cuda_check(device, error, "cudaEventQuery");
}

bool cuda_await_stream(struct cuda_device *device, cudaStream_t stream)
{
	if (!cuda_alive(&device->base))
		return false;
	if (device->joined_count == 1)
		return CUDA_TRY(device, cudaStreamSynchronize(stream));
	cudaError_t error;
	while ((error = cudaStreamQuery(stream)) == cudaErrorNotReady) {
		if (!all_live(device) || !cuda_enter(device))
			return false;
		sched_yield();
	}
	return cuda_check(device, error, "cudaStreamQuery");
}

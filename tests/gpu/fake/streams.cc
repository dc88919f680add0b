/* Streams, events and graphs: queues of things that run when somebody waits. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <thread>
#include <vector>
#include "tests/gpu/fake/fake.h"
#include "tests/gpu/fake/runtime.h"
#include "tests/gpu/fake/simt_block.h"

#define GRID_MAX_YZ 65535
#define SHARED_USUAL ((size_t)48 << 10)

struct operation {
	enum { RUN, RECORD, WAIT } kind;
	std::function<void()> run;
	cudaEvent_t event;
	uint64_t ticket; /* of the event */
	bool kernel;     /* it sees what memory its device may read */
	int device;
	const void *to = nullptr, *from = nullptr; /* of a copy */
};

struct capture {
	cudaStream_t origin;
	bool spoilt;
	bool global; /* other threads spoil it, too */
	std::thread::id thread;
	std::vector<operation> operations;
};

struct CUstream_st {
	int device;
	std::deque<operation> queue;
	struct capture *capture;
	bool joined; /* a stream drawn into a capture: all of it is waited for */
};

struct CUevent_st {
	int device;
	uint64_t asked, done; /* records */
	cudaStream_t stream;
	struct capture *capture;
	double time_ms;
};

struct CUgraph_st {
	std::vector<operation> operations;
};

struct CUgraphExec_st {
	std::vector<operation> operations;
};

static CUstream_st default_stream;
static std::set<cudaStream_t> streams = {&default_stream};
static std::set<cudaEvent_t> events;
static size_t object_count;
static std::map<const void *, size_t> shared_allowed;

static cudaStream_t resolved(cudaStream_t stream)
{
	return stream ? stream : &default_stream;
}

size_t fake_object_count()
{
	std::lock_guard<std::recursive_mutex> lock(fake_lock);
	return object_count + fake_virtual_count();
}

/* --- running ------------------------------------------------------------------------------------------------- */

static double now_ms()
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

static bool run_next(cudaStream_t stream);

/* false: it never comes. */
static bool run_until(cudaEvent_t event, uint64_t ticket)
{
	while (event->done < ticket && !event->stream->queue.empty())
		if (!run_next(event->stream))
			return false;
	return event->done >= ticket;
}

/* What runs on a lost device does nothing, and its events do not come. */
static void run_here(operation &next)
{
	bool lost = fake_device_lost(next.device);
	if (next.kind == operation::RECORD && !lost) {
		next.event->done = next.ticket;
		next.event->time_ms = now_ms();
	} else if (next.kind == operation::RUN && !lost) {
		fake_view_memory(next.kernel ? next.device : -1);
		next.run();
	}
}

/* The first of the queue; false: it waits for ever, for an event, or for a lost device's part of a graph. */
static bool run_next(cudaStream_t stream)
{
	operation &first = stream->queue.front();
	if (first.kind == operation::WAIT && !fake_device_lost(stream->device) && !run_until(first.event, first.ticket))
		return false;
	if (first.device != stream->device && fake_device_lost(first.device) && !fake_device_lost(stream->device))
		return false;
	operation next = std::move(stream->queue.front());
	stream->queue.pop_front();
	run_here(next);
	return true;
}

static bool drain(cudaStream_t stream)
{
	bool ended = true;
	fake_open_memory();
	while (!stream->queue.empty() && ended)
		ended = run_next(stream);
	fake_close_memory();
	return ended;
}

static void wait_for(bool ended, const char *call)
{
	if (ended || fake_device_lost(fake_current()))
		return;
	fprintf(stderr, "%s waits for ever: for a device that is lost\n", call);
	abort();
}

void fake_complete_events()
{
	for (cudaEvent_t event : events)
		event->done = event->asked;
}

/* One step on, of several devices: whoever only looks gets there, too. */
static void look(cudaStream_t stream)
{
	if (fake_now()->devices == 1 || stream->queue.empty())
		return;
	fake_open_memory();
	(void)run_next(stream);
	fake_close_memory();
}

bool fake_copies_queued(const void *memory, size_t bytes)
{
	const uint8_t *begin = static_cast<const uint8_t *>(memory);
	auto within = [=](const void *at) { return at >= begin && at < begin + bytes; };
	for (int device = 0; device < fake_now()->devices; device++)
		if (fake_device_lost(device))
			return false; /* what waits for it never runs */
	for (cudaStream_t stream : streams)
		for (const operation &queued : stream->queue)
			if (within(queued.to) || within(queued.from))
				return true;
	return false;
}

void fake_drain_all()
{
	for (cudaStream_t stream : streams)
		(void)drain(stream);
}

static void queue(cudaStream_t stream, operation added)
{
	if (stream->capture) {
		stream->joined = false;
		stream->capture->operations.push_back(std::move(added));
		return;
	}
	if (stream == &default_stream) /* which stands behind all others */
		fake_drain_all();
	stream->queue.push_back(std::move(added));
	if (!fake_now()->late_streams || stream->device == fake_now()->ahead || stream == &default_stream)
		(void)drain(stream);
}

static void add(cudaStream_t stream, operation added)
{
	added.device = stream->device;
	queue(stream, std::move(added));
}

/* --- streams --------------------------------------------------------------------------------------------------- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned)
{
	FAKE_CALL("cudaStreamCreateWithFlags");
	*stream = new CUstream_st();
	(*stream)->device = fake_current();
	streams.insert(*stream);
	object_count++;
	return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
	return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int)
{
	return cudaStreamCreateWithFlags(stream, flags);
}

/* Also of a lost device: what is queued is dropped then. */
cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
	std::lock_guard<std::recursive_mutex> lock(fake_lock);
	assert(streams.count(stream) && stream != &default_stream);
	drain(stream);
	streams.erase(stream);
	delete stream;
	object_count--;
	return fake_enter("cudaStreamDestroy");
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
	FAKE_CALL("cudaStreamSynchronize");
	if (resolved(stream)->capture)
		return fake_spoil_captures();
	wait_for(drain(resolved(stream)), "cudaStreamSynchronize");
	return fake_enter("(after synchronize)");
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
	FAKE_CALL("cudaStreamQuery");
	if (resolved(stream)->capture)
		return fake_spoil_captures();
	look(resolved(stream));
	if (fake_device_lost(fake_current()))
		return fake_enter("(after look)");
	return resolved(stream)->queue.empty() ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, void (*fn)(void *arg), void *arg)
{
	FAKE_CALL("cudaLaunchHostFunc");
	add(resolved(stream), {operation::RUN, [=] { fn(arg); }, nullptr, 0, false, 0});
	return cudaSuccess;
}

/* --- events ------------------------------------------------------------------------------------------------------ */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
	FAKE_CALL("cudaEventCreateWithFlags");
	*event = new CUevent_st();
	(*event)->device = fake_current();
	events.insert(*event);
	object_count++;
	return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
	return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
	std::lock_guard<std::recursive_mutex> lock(fake_lock);
	if (event->stream && streams.count(event->stream))
		fake_drain_all(); /* nothing queued names it any more */
	events.erase(event);
	delete event;
	object_count--;
	return fake_enter("cudaEventDestroy");
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
	FAKE_CALL("cudaEventRecord");
	stream = resolved(stream);
	if (event->device != stream->device)
		return fake_error(cudaErrorInvalidResourceHandle);
	event->stream = stream;
	event->capture = stream->capture;
	if (!stream->capture) /* one in a graph is a dependency alone: operations stand in an order that keeps it */
		add(stream, {operation::RECORD, nullptr, event, ++event->asked, false, 0});
	return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
	FAKE_CALL("cudaStreamWaitEvent");
	stream = resolved(stream);
	if (event->capture) {
		if (!stream->capture)
			stream->capture = event->capture;
		event->stream->joined = true;
		return cudaSuccess;
	}
	if (stream->capture)
		return fake_spoil_captures();
	if (event->asked > 0)
		add(stream, {operation::WAIT, nullptr, event, event->asked, false, 0});
	return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
	FAKE_CALL("cudaEventQuery");
	if (event->capture)
		return fake_spoil_captures();
	if (event->done < event->asked)
		look(event->stream);
	if (fake_device_lost(fake_current()))
		return fake_enter("(after look)");
	return event->done >= event->asked ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
	FAKE_CALL("cudaEventSynchronize");
	if (event->capture)
		return fake_spoil_captures();
	fake_open_memory();
	bool ended = event->asked <= event->done || run_until(event, event->asked);
	fake_close_memory();
	wait_for(ended, "cudaEventSynchronize");
	return fake_enter("(after synchronize)");
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t first, cudaEvent_t last)
{
	FAKE_CALL("cudaEventElapsedTime");
	if (first->done < first->asked || last->done < last->asked)
		return cudaErrorNotReady;
	*ms = (float)(last->time_ms - first->time_ms);
	return cudaSuccess;
}

/* --- graphs -------------------------------------------------------------------------------------------------------- */

bool fake_any_capture()
{
	for (cudaStream_t stream : streams)
		if (stream->capture && (stream->capture->global || stream->capture->thread == std::this_thread::get_id()))
			return true;
	return false;
}

bool fake_is_capturing()
{
	for (cudaStream_t stream : streams)
		if (stream->capture)
			return true;
	return false;
}

cudaError_t fake_spoil_captures()
{
	for (cudaStream_t stream : streams)
		if (stream->capture)
			stream->capture->spoilt = true;
	return fake_error(cudaErrorStreamCaptureUnsupported);
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
	FAKE_CALL("cudaStreamBeginCapture");
	if (!stream || stream->capture)
		return fake_error(cudaErrorStreamCaptureUnsupported);
	stream->capture = new capture{stream, false, mode == cudaStreamCaptureModeGlobal, std::this_thread::get_id(), {}};
	return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
	std::lock_guard<std::recursive_mutex> lock(fake_lock);
	struct capture *ended = stream->capture;
	if (!ended || ended->origin != stream)
		return fake_error(cudaErrorInvalidValue);
	bool unjoined = false;
	for (cudaStream_t other : streams)
		if (other->capture == ended) {
			unjoined |= other != stream && !other->joined;
			other->capture = nullptr;
		}
	for (cudaEvent_t event : events)
		if (event->capture == ended)
			event->capture = nullptr;
	cudaError_t error = fake_enter("cudaStreamEndCapture");
	if (!error && (ended->spoilt || unjoined))
		error = fake_error(ended->spoilt ? cudaErrorStreamCaptureInvalidated : cudaErrorStreamCaptureUnjoined);
	if (!error) {
		*graph = new CUgraph_st{std::move(ended->operations)};
		object_count++;
	} else {
		*graph = nullptr;
	}
	delete ended;
	return error;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status)
{
	FAKE_CALL("cudaStreamIsCapturing");
	struct capture *now = resolved(stream)->capture;
	*status = !now ? cudaStreamCaptureStatusNone :
		  now->spoilt ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
	return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
	FAKE_CALL("cudaGraphInstantiate");
	*exec = new CUgraphExec_st{graph->operations};
	object_count++;
	return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t)
{
	FAKE_CALL("cudaGraphUpload");
	return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
	FAKE_CALL("cudaGraphLaunch");
	for (const operation &one : exec->operations)
		queue(resolved(stream), one);
	return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
	std::lock_guard<std::recursive_mutex> lock(fake_lock);
	delete graph;
	object_count--;
	return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
	std::lock_guard<std::recursive_mutex> lock(fake_lock);
	delete exec;
	object_count--;
	return cudaSuccess;
}

/* --- copies -------------------------------------------------------------------------------------------------------- */

static void run_copy(int device, const std::function<void()> &copy)
{
	cudaError_t error = fake_enter("copy");
	if (error)
		fake_lose_device(device, error);
	else
		copy();
}

/* Lines of `width` bytes.  Pageable memory is read at once, and written only after everything before. */
static cudaError_t copy_lines(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
			      cudaStream_t stream)
{
	if (height == 0 || width == 0)
		return cudaSuccess;
	size_t to_bytes = to_pitch * (height - 1) + width, from_bytes = from_pitch * (height - 1) + width;
	if (!fake_memory_holds(to, to_bytes) || !fake_memory_holds(from, from_bytes))
		return fake_error(cudaErrorInvalidValue);
	bool staged = fake_memory_of(from) == FAKE_PAGEABLE, waits = fake_memory_of(to) == FAKE_PAGEABLE;
	if (stream->capture && (staged || waits))
		return fake_spoil_captures();
	int device = stream->device;
	std::vector<uint8_t> kept;
	if (staged)
		kept.assign(static_cast<const uint8_t *>(from), static_cast<const uint8_t *>(from) + from_bytes);
	add(stream, {operation::RUN,
		     [=, kept = std::move(kept)] {
			     run_copy(device, [&] {
				     const uint8_t *source = staged ? kept.data() : static_cast<const uint8_t *>(from);
				     for (size_t i = 0; i < height; i++)
					     memmove(static_cast<uint8_t *>(to) + i * to_pitch, source + i * from_pitch, width);
			     });
		     },
		     nullptr, 0, false, 0, to, staged ? nullptr : from});
	if (waits)
		(void)drain(stream);
	return fake_enter("(after copy)");
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind, cudaStream_t stream)
{
	FAKE_CALL("cudaMemcpyAsync");
	return copy_lines(to, bytes, from, bytes, bytes, 1, resolved(stream));
}

/* In no order that is promised: backwards. */
cudaError_t cudaMemcpyBatchAsync(void *const *to, const void *const *from, const size_t *bytes, size_t count,
				 struct cudaMemcpyAttributes *attributes, size_t *firsts, size_t attribute_count, cudaStream_t stream)
{
	FAKE_CALL("cudaMemcpyBatchAsync");
	if (!stream || count == 0 || attribute_count != 1 || firsts[0] != 0 ||
	    attributes->srcAccessOrder != cudaMemcpySrcAccessOrderStream)
		return fake_error(cudaErrorInvalidValue);
	for (size_t i = count; i-- > 0;)
		if (cudaError_t error = copy_lines(to[i], bytes[i], from[i], bytes[i], bytes[i], 1, stream))
			return error;
	return cudaSuccess;
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
			      enum cudaMemcpyKind, cudaStream_t stream)
{
	FAKE_CALL("cudaMemcpy2DAsync");
	return copy_lines(to, to_pitch, from, from_pitch, width, height, resolved(stream));
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind)
{
	FAKE_CALL("cudaMemcpy");
	return copy_lines(to, bytes, from, bytes, bytes, 1, &default_stream);
}

cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream)
{
	FAKE_CALL("cudaMemsetAsync");
	if (fake_memory_of(memory) == FAKE_PAGEABLE || !fake_memory_holds(memory, bytes))
		return fake_error(cudaErrorInvalidValue);
	int device = resolved(stream)->device;
	add(resolved(stream), {operation::RUN, [=] { run_copy(device, [&] { fake_set_memory(memory, value, bytes); }); }, nullptr, 0, false, 0});
	return cudaSuccess;
}

cudaError_t cudaMemset(void *memory, int value, size_t bytes)
{
	return cudaMemsetAsync(memory, value, bytes, nullptr);
}

/* --- kernels --------------------------------------------------------------------------------------------------------- */

cudaError_t fake_function_attribute(const void *kernel, enum cudaFuncAttribute attribute, int value)
{
	FAKE_CALL("cudaFuncSetAttribute");
	if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) {
		if (value < 0 || (size_t)value > SHARED_BYTES_MAX)
			return fake_error(cudaErrorInvalidValue);
		shared_allowed[kernel] = (size_t)value;
	}
	return cudaSuccess;
}

cudaError_t fake_occupancy(int *blocks, int threads, size_t shared_bytes)
{
	FAKE_CALL("cudaOccupancyMaxActiveBlocksPerMultiprocessor");
	size_t by_shared = ((size_t)228 << 10) / (shared_bytes + SHARED_RESERVED);
	*blocks = 2048 / threads < (int)by_shared ? 2048 / threads : (int)by_shared;
	return cudaSuccess;
}

static bool is_sound(const struct simt_launch &launch)
{
	auto allowed = shared_allowed.find(launch.kernel);
	size_t shared_max = allowed == shared_allowed.end() ? SHARED_USUAL : allowed->second;
	uint64_t threads = (uint64_t)launch.block.x * launch.block.y * launch.block.z;
	return launch.grid.x > 0 && launch.grid.y > 0 && launch.grid.z > 0 && launch.grid.x <= INT32_MAX &&
	       launch.grid.y <= GRID_MAX_YZ && launch.grid.z <= GRID_MAX_YZ && threads > 0 && threads <= THREADS_MAX &&
	       threads % SIMT_LANES == 0 && launch.shared_bytes <= shared_max && launch.cluster > 0 &&
	       launch.cluster <= CLUSTER_MAX && launch.grid.x % launch.cluster == 0;
}

cudaError_t simt_queue(const struct simt_launch &launch, cudaStream_t stream)
{
	FAKE_CALL("launch");
	if (!is_sound(launch))
		return fake_error(cudaErrorInvalidConfiguration);
	stream = resolved(stream);
	if (stream->device != fake_current())
		return fake_error(cudaErrorInvalidResourceHandle);
	add(stream, {operation::RUN,
		     [launch, device = stream->device] {
			     cudaError_t error = fake_enter("kernel");
			     if (error)
				     fake_lose_device(device, error);
			     else
				     simt_run(launch);
		     },
		     nullptr, 0, true, 0});
	return cudaSuccess;
}

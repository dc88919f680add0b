#include "kernels/cuda/cuda.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/linear.h"

/* --- errors ------------------------------------------------------------------------------------------------ */

bool cuda_check(struct cuda_device *device, cudaError_t error, const char *what)
{
	if (error == cudaSuccess)
		return true;
	(void)cudaGetLastError(); /* what is remembered here need not be found again by the next launch */
	if (device->failed == ERR_OK) {
		enum err e = error == cudaErrorMemoryAllocation ? ERR_NOMEM : ERR_DEVICE;
		for (uint32_t i = 0; i < device->joined_count; i++)
			if (device->joined[i]->failed == ERR_OK)
				device->joined[i]->failed = e;
		log_error("device %d, %s: %.80s: %s", device->index, device->base.props.name, what, cudaGetErrorString(error));
	}
	return false;
}

bool cuda_enter(struct cuda_device *device)
{
	static thread_local int entered = -1;
	if (entered == device->index)
		return true;
	entered = -1;
	if (!CUDA_TRY(device, cudaSetDevice(device->index)))
		return false;
	entered = device->index;
	return true;
}

void cuda_launched(struct cuda_device *device, const char *kernel)
{
	cuda_check(device, cudaGetLastError(), kernel);
}

void cuda_allow_shared(struct cuda_device *device, const void *kernel, size_t bytes)
{
	assert(bytes <= device->shared_max);
	CUDA_TRY(device, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes));
}

void *cuda_scratch(struct device *device, size_t bytes)
{
	assert(bytes <= CUDA_SCRATCH_BYTES);
	return cuda_of(device)->scratch;
}

/* --- waiting ------------------------------------------------------------------------------------------------- */

static enum err sync_device(struct device *base)
{
	struct cuda_device *device = cuda_of(base);
	for (uint32_t i = 0; i < device->joined_count; i++) {
		struct cuda_device *one = device->joined[i];
		if (cuda_await_stream(one, one->stream))
			(void)cuda_await_stream(one, one->fetch_stream);
	}
	return device->failed;
}

static void mark_one(struct cuda_device *device, uint32_t at)
{
	device->marked[at] = device->fetched[at] = false;
	if (cuda_alive(&device->base) && !device->recording)
		device->marked[at] = CUDA_TRY(device, cudaEventRecord(device->marks[at], device->stream));
	if (cuda_alive(&device->base) && device->fetching)
		device->fetched[at] = CUDA_TRY(device, cudaEventRecord(device->fetch_marks[at], device->fetch_stream));
	device->fetching = false;
}

static uint64_t mark(struct device *base)
{
	struct cuda_device *device = cuda_of(base);
	uint64_t number = device->mark_count++;
	for (uint32_t i = 0; i < device->joined_count; i++)
		mark_one(device->joined[i], number % CUDA_MARKS);
	return number;
}

static enum err wait_for(struct device *base, uint64_t number)
{
	struct cuda_device *device = cuda_of(base);
	uint32_t at = number % CUDA_MARKS;
	assert(number < device->mark_count && !device->recording);
	for (uint32_t i = 0; i < device->joined_count && device->failed == ERR_OK; i++) {
		struct cuda_device *one = device->joined[i];
		if (!one->marked[at])
			return sync_device(base);
		if (cuda_await(one, one->marks[at]) && one->fetched[at])
			(void)cuda_await(one, one->fetch_marks[at]);
	}
	return device->failed;
}

/* --- read rate: of a copy within the device, which reads as much as it writes --------------------------------- */

#define RATE_BYTES (UINT64_C(256) << 20) /* twice that is beyond any second-level cache */

static double seconds_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static double copies_rate(struct cuda_device *device, uint8_t *memory)
{
	enum { COPIES = 8 };
	double best = 0;
	for (int pass = 0; pass < 3; pass++) {
		double begin = seconds_now();
		for (int i = 0; i < COPIES; i++)
			CUDA_TRY(device, cudaMemcpyAsync(memory, memory + RATE_BYTES / 2, RATE_BYTES / 2,
							 cudaMemcpyDeviceToDevice, device->stream));
		if (sync_device(&device->base) != ERR_OK)
			return 0;
		double rate = COPIES * (double)RATE_BYTES / (seconds_now() - begin);
		best = rate > best ? rate : best;
	}
	return best;
}

static double read_rate(struct device *base)
{
	void *memory;
	if (sync_device(base) != ERR_OK || dev_alloc(base, MEM_DEVICE, RATE_BYTES, &memory) != ERR_OK)
		return 0;
	double rate = copies_rate(cuda_of(base), (uint8_t *)memory);
	dev_free(base, MEM_DEVICE, memory, RATE_BYTES);
	return rate;
}

/* --- life ------------------------------------------------------------------------------------------------------ */

static void destroy_event(cudaEvent_t event)
{
	if (event)
		(void)cudaEventDestroy(event);
}

static void destroy_stream(cudaStream_t stream)
{
	if (stream)
		(void)cudaStreamDestroy(stream);
}

/* The others go on without it. */
static void leave(struct cuda_device *device)
{
	for (uint32_t i = 0; i < device->joined_count; i++)
		if (device->joined[i] != device) {
			device->joined[i]->joined[0] = device->joined[i];
			device->joined[i]->joined_count = 1;
		}
	device->joined[0] = device;
	device->joined_count = 1;
}

static void close_device(struct device *base)
{
	struct cuda_device *device = cuda_of(base);
	if (device->failed == ERR_OK && device->stream && cuda_await_stream(device, device->stream) && device->fetch_stream)
		(void)cuda_await_stream(device, device->fetch_stream);
	leave(device);
	for (uint32_t i = 0; i < device->graph_count; i++)
		if (device->graphs[i].exec)
			(void)cudaGraphExecDestroy(device->graphs[i].exec);
	for (uint32_t i = 0; i < CUDA_MARKS; i++)
		destroy_event(device->marks[i]), destroy_event(device->fetch_marks[i]);
	destroy_event(device->fetch_from);
	destroy_event(device->met);
	for (uint32_t i = 0; i < CUDA_STAGES; i++) {
		dev_free(base, MEM_PINNED, device->stages[i].memory, CUDA_STAGE_BYTES);
		destroy_event(device->stages[i].done);
	}
	dev_free(base, MEM_DEVICE, device->scratch, CUDA_SCRATCH_BYTES);
	dev_free(base, MEM_DEVICE, device->entries, CUDA_LINEARS_MAX * sizeof(struct linear_entry));
	free(device->entries_used);
	destroy_stream(device->memory_stream);
	destroy_stream(device->fetch_stream);
	destroy_stream(device->stream);
	pthread_mutex_destroy(&device->lock);
	free(device->ranges);
	free(device);
}

static enum err props_fill(struct cuda_device *device, uint32_t segments, struct why *why)
{
	struct cudaDeviceProp prop;
	struct device_props *props = &device->base.props;
	if (!CUDA_TRY(device, cudaGetDeviceProperties(&prop, device->index)))
		return why_set(why, device->failed, "device: CUDA says nothing about its GPU");
	if (prop.major != 9)
		return why_set(why, ERR_UNSUPPORTED, "device %s: compute capability %d.%d; expected 9.0 (H100, H200)", prop.name,
			       prop.major, prop.minor);
	props->kind = DEVICE_CUDA;
	snprintf(props->name, sizeof(props->name), "%.60s", prop.name);
	snprintf(props->variant, sizeof(props->variant), "sm_%d%d", prop.major, prop.minor);
	if (device->fast)
		snprintf(props->numerics, sizeof(props->numerics), "cuda-bf16wgmma-1/fast");
	else
		snprintf(props->numerics, sizeof(props->numerics), "cuda-bf16wgmma-1/s%u", segments);
	props->input = ELEM_BF16;
	props->input_e4m3 = true;
	props->queued = true;
	props->row_segments = segments;
	props->thread_count = device->sm_count = (uint32_t)prop.multiProcessorCount;
	props->memory_bytes = prop.totalGlobalMem;
	device->shared_max = prop.sharedMemPerBlockOptin;
	return ERR_OK;
}

static bool create_events(struct cuda_device *device)
{
	bool ok = CUDA_TRY(device, cudaEventCreateWithFlags(&device->fetch_from, cudaEventDisableTiming)) &&
		  CUDA_TRY(device, cudaEventCreateWithFlags(&device->met, cudaEventDisableTiming));
	for (uint32_t i = 0; i < CUDA_MARKS && ok; i++)
		ok = CUDA_TRY(device, cudaEventCreateWithFlags(&device->marks[i], cudaEventDisableTiming)) &&
		     CUDA_TRY(device, cudaEventCreateWithFlags(&device->fetch_marks[i], cudaEventDisableTiming));
	for (uint32_t i = 0; i < CUDA_STAGES && ok; i++)
		ok = CUDA_TRY(device, cudaEventCreateWithFlags(&device->stages[i].done, cudaEventDisableTiming));
	return ok;
}

static enum err allocate(struct cuda_device *device)
{
	struct device *base = &device->base;
	if (!cuda_enter(device) || !CUDA_TRY(device, cudaStreamCreateWithFlags(&device->stream, cudaStreamNonBlocking)) ||
	    !CUDA_TRY(device, cudaStreamCreateWithFlags(&device->memory_stream, cudaStreamNonBlocking)) ||
	    !CUDA_TRY(device, cudaStreamCreateWithFlags(&device->fetch_stream, cudaStreamNonBlocking)) || !create_events(device))
		return device->failed;
	enum err e = dev_alloc(base, MEM_DEVICE, CUDA_SCRATCH_BYTES, &device->scratch);
	if (e == ERR_OK)
		e = dev_alloc(base, MEM_DEVICE, CUDA_LINEARS_MAX * sizeof(struct linear_entry), (void **)&device->entries);
	for (uint32_t i = 0; i < CUDA_STAGES && e == ERR_OK; i++)
		e = dev_alloc(base, MEM_PINNED, CUDA_STAGE_BYTES, (void **)&device->stages[i].memory);
	device->entries_used = (uint8_t *)calloc(CUDA_LINEARS_MAX, 1);
	return e == ERR_OK && !device->entries_used ? ERR_NOMEM : e;
}

static const struct backend *cuda_backend(void);

static enum err check_options(const struct device_options *options, struct why *why)
{
	uint32_t segments = options->row_segments;
	if (segments > LINEAR_SEGMENTS || (segments & (segments - 1)) != 0)
		return why_set(why, ERR_INVALID, "device: %u row segments; expected 1, 2, 4 or 8", segments);
	int count = 0;
	cudaError_t error = cudaGetDeviceCount(&count);
	if (error != cudaSuccess || count == 0) {
		(void)cudaGetLastError();
		return why_set(why, ERR_UNSUPPORTED, "device: no GPU that CUDA can use: %s",
			       error == cudaSuccess ? "there is none" : cudaGetErrorString(error));
	}
	if (options->index >= (uint32_t)count)
		return why_set(why, ERR_UNSUPPORTED, "device: GPU %u of %d that CUDA can use (CUDA_VISIBLE_DEVICES)", options->index, count);
	return ERR_OK;
}

enum err cuda_device_open(const struct device_options *options, struct why *why, struct device **ret_device)
{
	enum err e = check_options(options, why);
	if (e != ERR_OK)
		return e;
	struct cuda_device *device = (struct cuda_device *)calloc(1, sizeof(*device));
	if (!device)
		return why_set(why, ERR_NOMEM, "device: out of memory");
	device->base.backend = cuda_backend();
	device->index = (int)options->index;
	device->joined[0] = device;
	device->joined_count = 1;
	device->fast = options->fast;
	pthread_mutex_init(&device->lock, NULL);
	e = props_fill(device, options->row_segments ? options->row_segments : 1, why);
	if (e == ERR_OK) {
		e = allocate(device);
		if (e == ERR_OK)
			e = linear_prepare(device);
		if (e == ERR_OK)
			e = attention_prepare(device);
		if (e == ERR_OK)
			e = moe_prepare(device);
		if (e != ERR_OK)
			why_set(why, e, "device %s: %s", device->base.props.name,
				e == ERR_NOMEM ? "no memory for its scratch" : "it cannot be set up");
	}
	if (e != ERR_OK) {
		close_device(&device->base);
		return e;
	}
	*ret_device = &device->base;
	return ERR_OK;
}

/* Freeing nothing makes the context, which older runtimes put off. */
void cuda_device_make_current(uint32_t index)
{
	if (cudaSetDevice((int)index) == cudaSuccess)
		(void)cudaFree(NULL);
	(void)cudaGetLastError();
}

/* --- the backend --------------------------------------------------------------------------------------------- */

static const struct backend *cuda_backend(void)
{
	static const struct backend backend = {
		.close = close_device,
		.join = cuda_join,
		.meet = cuda_meet,
		.sync = sync_device,
		.mark = mark,
		.wait = wait_for,
		.replay = cuda_replay,
		.recorded = cuda_recorded,
		.read_rate = read_rate,
		.alloc = cuda_alloc,
		.free = cuda_free,
		.copy = cuda_copy,
		.copy_lines = cuda_copy_lines,
		.fetch = cuda_fetch,
		.pin = cuda_pin,
		.unpin = cuda_unpin,
		.zero = cuda_zero,
		.export_memory = cuda_export,
		.import_memory = cuda_import,
		.unimport_memory = cuda_unimport,
		.reader_create = cuda_reader_create,
		.reader_destroy = cuda_reader_destroy,
		.reader_read = cuda_reader_read,
		.linear_create = cuda_linear_create,
		.linear_destroy = cuda_linear_destroy,
		.linear_fill = cuda_linear_fill,
		.linear_fill_scales = cuda_linear_fill_scales,
		.linear_fill_bias = cuda_linear_fill_bias,
		.linear = cuda_linear,
		.tree_sum = cuda_tree_sum,
		.collect = cuda_collect,
		.embed = cuda_embed,
		.embed_linear = cuda_embed_linear,
		.rmsnorm = cuda_rmsnorm,
		.head_norm = cuda_head_norm,
		.add = cuda_add,
		.scale = cuda_scale,
		.glu = cuda_glu,
		.gather = cuda_gather,
		.rope_angles = cuda_rope_angles,
		.rope = cuda_rope,
		.kv_runs_create = cuda_kv_runs_create,
		.kv_runs_destroy = cuda_kv_runs_destroy,
		.kv_runs_set = cuda_kv_runs_set,
		.kv_write = cuda_kv_write,
		.qkv = cuda_qkv,
		.kv_digest = cuda_kv_digest,
		.attention = cuda_attention,
		.moe_route = cuda_moe_route,
		.moe_group = cuda_moe_group,
		.moe_gather = cuda_moe_gather,
		.moe_linear = cuda_moe_linear,
		.moe_scatter = cuda_moe_scatter,
		.moe_combine = cuda_moe_combine,
		.add_gated = cuda_add_gated,
		.to_bf16 = cuda_to_bf16,
		.from_bf16 = cuda_from_bf16,
		.soft_cap = cuda_soft_cap,
		.exp = cuda_exp,
		.sample_create = cuda_sample_create,
		.sample_destroy = cuda_sample_destroy,
		.sample = cuda_sample,
	};
	return &backend;
}

#include "kernels/device.h"
#include <assert.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "kernels/cpu/cpu.h"
#if defined(__x86_64__)
#include <cpuid.h>
#endif

/* About 15 us of one worker: calling another costs some 5 us when it sleeps. */
#define WORK_MIN (UINT64_C(128) << 10)

#define HUGE_PAGE_BYTES (UINT64_C(2) << 20)

struct variant {
	const struct kernel_ops *ops;
	bool runs;
};

#define VARIANT_MAX 4

/* Best first. Clang and gcc ask the CPU and also whether the system keeps the registers (XGETBV). */
static uint32_t variants_find(struct variant variants[VARIANT_MAX])
{
	uint32_t count = 0;
#if defined(__x86_64__)
	bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
		      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
	bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
	bool bf16 = avx512 && __builtin_cpu_supports("avx512bf16");
	variants[count++] = (struct variant){&kernel_ops_avx512bf16, bf16};
	variants[count++] = (struct variant){&kernel_ops_avx512, avx512};
	variants[count++] = (struct variant){&kernel_ops_avx2, avx2};
#endif
	variants[count++] = (struct variant){&kernel_ops_portable, true};
	return count;
}

uint32_t device_variants(const char *ret_names[DEVICE_VARIANTS_MAX])
{
	struct variant variants[VARIANT_MAX];
	uint32_t count = variants_find(variants), found = 0;
	for (uint32_t i = 0; i < count; i++)
		if (variants[i].runs)
			ret_names[found++] = variants[i].ops->name;
	return found;
}

static enum err variant_choose(const char *name, struct why *why, const struct kernel_ops **ret_ops)
{
	struct variant variants[VARIANT_MAX];
	uint32_t count = variants_find(variants);
	for (uint32_t i = 0; i < count; i++) {
		bool named = name && strcmp(name, variants[i].ops->name) == 0;
		if (named && !variants[i].runs)
			return why_set(why, ERR_UNSUPPORTED, "kernel variant \"%s\": this CPU cannot run it", name);
		if (named || (!name && variants[i].runs)) {
			*ret_ops = variants[i].ops;
			return ERR_OK;
		}
	}
	return why_set(why, ERR_UNSUPPORTED,
		       "kernel variant \"%s\": unknown; expected portable, avx2, avx512 or avx512bf16", name);
}

static void cpu_name(char name[64])
{
	strcpy(name, "CPU");
#if defined(__x86_64__)
	uint32_t words[12];
	if (__get_cpuid_max(0x80000000, NULL) < 0x80000004)
		return;
	for (uint32_t i = 0; i < 3; i++)
		__get_cpuid(0x80000002 + i, &words[4 * i], &words[4 * i + 1], &words[4 * i + 2], &words[4 * i + 3]);
	memcpy(name, words, sizeof(words));
	name[sizeof(words)] = 0;
#endif
}

static uint32_t cpus_allowed(void)
{
	cpu_set_t set;
	if (sched_getaffinity(0, sizeof(set), &set) != 0)
		return 1;
	return (uint32_t)CPU_COUNT(&set);
}

static void props_fill(struct device_props *props, const struct kernel_ops *ops, uint32_t thread_count)
{
	props->kind = DEVICE_CPU;
	cpu_name(props->name);
	strncpy(props->variant, ops->name, sizeof(props->variant) - 1);
	strncpy(props->numerics, ops->numerics, sizeof(props->numerics) - 1);
	props->row_segments = LINEAR_SEGMENTS;
	props->thread_count = thread_count;
	props->memory_bytes = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void close_device(struct device *base)
{
	struct cpu_device *device = (struct cpu_device *)base;
	threads_destroy(device->threads);
	dev_free(base, MEM_HOST, device->scratch, (size_t)base->props.thread_count * SCRATCH_BYTES);
	free(device);
}

static enum err join(struct device *const *devices, uint32_t count, struct why *why)
{
	return why_set(why, ERR_UNSUPPORTED, "device: CPUs of one machine are one device");
}

static void meet(struct device *device)
{
}

/* A CPU's operations have run when they return, and do not fail. */
static enum err sync_device(struct device *device)
{
	return ERR_OK;
}

static uint64_t mark(struct device *device)
{
	return 0;
}

static enum err wait_for(struct device *device, uint64_t at)
{
	return ERR_OK;
}

/* A call costs next to nothing here: there is nothing to record. */
static bool replay(struct device *device, uint64_t key)
{
	return false;
}

static bool recorded(struct device *device)
{
	return true;
}

void cpu_parallel(struct device *device, uint32_t count, uint64_t work, threads_fn *fn, void *arg)
{
	if (work < WORK_MIN)
		for (uint32_t index = 0; index < count; index++)
			fn(arg, index, 0);
	else
		threads_run(((struct cpu_device *)device)->threads, count, fn, arg);
}

/* --- memory -------------------------------------------------------------------------------------- */

/* Small things get cache lines of their own, large ones huge pages: a TLB miss for every 4 KiB of weights
 * shows in the rate of a GEMV. */
static size_t mapped_bytes(size_t bytes)
{
	size_t unit = bytes < HUGE_PAGE_BYTES ? 4096 : HUGE_PAGE_BYTES;
	return (bytes + unit - 1) / unit * unit;
}

static enum err alloc(struct device *device, enum mem_kind kind, size_t bytes, void **ret_memory)
{
	size_t length = mapped_bytes(bytes), slack = bytes < HUGE_PAGE_BYTES ? 0 : HUGE_PAGE_BYTES;
	uint8_t *mapping = mmap(NULL, length + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mapping == MAP_FAILED)
		return ERR_NOMEM;
	size_t before = slack ? (HUGE_PAGE_BYTES - (uintptr_t)mapping % HUGE_PAGE_BYTES) % HUGE_PAGE_BYTES : 0;
	if (before > 0)
		munmap(mapping, before);
	if (slack > before)
		munmap(mapping + before + length, slack - before);
	if (slack > 0)
		madvise(mapping + before, length, MADV_HUGEPAGE); /* advice: may be refused */
	*ret_memory = mapping + before;
	return ERR_OK;
}

static void free_memory(struct device *device, enum mem_kind kind, void *memory, size_t bytes)
{
	munmap(memory, mapped_bytes(bytes));
}

static enum err copy(struct device *device, void *to, const void *from, size_t bytes)
{
	if (bytes > 0)
		memcpy(to, from, bytes);
	return ERR_OK;
}

static void copy_lines(struct device *device, const struct copy_lines *lines)
{
	for (size_t i = 0; i < lines->count; i++)
		memcpy((uint8_t *)lines->to + i * lines->to_stride, (const uint8_t *)lines->from + i * lines->from_stride,
		       lines->bytes);
}

static void fetch(struct device *device, const struct fetch_piece *pieces, size_t count)
{
	for (size_t i = 0; i < count; i++)
		memcpy(pieces[i].to, pieces[i].from, pieces[i].bytes);
}

static enum err pin(struct device *device, void *memory, size_t bytes)
{
	return ERR_OK;
}

static void unpin(struct device *device, void *memory, size_t bytes)
{
}

static void zero(struct device *device, void *memory, size_t bytes)
{
	memset(memory, 0, bytes);
}

/* --- read rate ----------------------------------------------------------------------------------- */

#define RATE_BYTES (UINT64_C(256) << 20) /* more than the last cache of most */
#define RATE_ITEMS 64

struct rate_job {
	const uint64_t *memory;
	uint64_t sums[RATE_ITEMS];
};

static void rate_item(void *arg, uint32_t index, uint32_t worker)
{
	struct rate_job *job = arg;
	size_t words = RATE_BYTES / RATE_ITEMS / sizeof(uint64_t);
	const uint64_t *memory = job->memory + index * words;
	uint64_t sums[8] = {0};
	for (size_t i = 0; i < words; i += 8)
		for (size_t j = 0; j < 8; j++)
			sums[j] += memory[i + j];
	for (size_t j = 0; j < 8; j++)
		job->sums[index] += sums[j];
}

static double seconds_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static double read_rate(struct device *device)
{
	void *memory;
	if (dev_alloc(device, MEM_HOST, RATE_BYTES, &memory) != ERR_OK)
		return 0;
	memset(memory, 1, RATE_BYTES);
	double best = 0;
	for (int pass = 0; pass < 3; pass++) {
		struct rate_job job = {.memory = memory};
		double begin = seconds_now();
		threads_run(((struct cpu_device *)device)->threads, RATE_ITEMS, rate_item, &job);
		double rate = (double)RATE_BYTES / (seconds_now() - begin);
		/* The sums are looked at, so that no compiler drops the reads. */
		for (uint32_t i = 0; i < RATE_ITEMS; i++)
			assert(job.sums[i] != 0);
		best = rate > best ? rate : best;
	}
	dev_free(device, MEM_HOST, memory, RATE_BYTES);
	return best;
}

/* --- the backend --------------------------------------------------------------------------------- */

static const struct backend backend = {
	.close = close_device,
	.join = join,
	.meet = meet,
	.sync = sync_device,
	.mark = mark,
	.wait = wait_for,
	.replay = replay,
	.recorded = recorded,
	.read_rate = read_rate,
	.alloc = alloc,
	.free = free_memory,
	.copy = copy,
	.copy_lines = copy_lines,
	.fetch = fetch,
	.pin = pin,
	.unpin = unpin,
	.zero = zero,
	.linear_create = cpu_linear_create,
	.linear_destroy = cpu_linear_destroy,
	.linear_fill = cpu_linear_fill,
	.linear_fill_scales = cpu_linear_fill_scales,
	.linear_fill_bias = cpu_linear_fill_bias,
	.linear = cpu_linear,
	.tree_sum = cpu_tree_sum,
	.collect = cpu_collect,
	.embed = cpu_embed,
	.embed_linear = cpu_embed_linear,
	.rmsnorm = cpu_rmsnorm,
	.head_norm = cpu_head_norm,
	.add = cpu_add,
	.scale = cpu_scale,
	.glu = cpu_glu,
	.gather = cpu_gather,
	.rope_angles = cpu_rope_angles,
	.rope = cpu_rope,
	.kv_runs_create = cpu_kv_runs_create,
	.kv_runs_destroy = cpu_kv_runs_destroy,
	.kv_runs_set = cpu_kv_runs_set,
	.kv_write = cpu_kv_write,
	.qkv = cpu_qkv,
	.kv_digest = cpu_kv_digest,
	.attention = cpu_attention,
	.moe_route = cpu_moe_route,
	.moe_group = cpu_moe_group,
	.moe_gather = cpu_moe_gather,
	.moe_linear = cpu_moe_linear,
	.moe_scatter = cpu_moe_scatter,
	.moe_combine = cpu_moe_combine,
	.add_gated = cpu_add_gated,
	.to_bf16 = cpu_to_bf16,
	.from_bf16 = cpu_from_bf16,
	.soft_cap = cpu_soft_cap,
	.exp = cpu_exp,
	.sample_create = cpu_sample_create,
	.sample_destroy = cpu_sample_destroy,
	.sample = cpu_sample,
};

enum err cpu_device_open(const struct device_options *options, struct why *why, struct device **ret_device)
{
	if (options->thread_count > DEVICE_THREADS_MAX)
		return why_set(why, ERR_INVALID, "device: %u threads, at most %u", options->thread_count,
			       DEVICE_THREADS_MAX);
	if (options->fast)
		return why_set(why, ERR_UNSUPPORTED, "device: the class \"fast\" is a GPU's; on a CPU the exact one costs nothing");
	const struct kernel_ops *ops = NULL;
	enum err e = variant_choose(options->variant, why, &ops);
	if (e != ERR_OK)
		return e;
	uint32_t thread_count = options->thread_count ? options->thread_count : cpus_allowed();
	if (thread_count > DEVICE_THREADS_MAX)
		thread_count = DEVICE_THREADS_MAX;

	struct cpu_device *device = calloc(1, sizeof(*device));
	if (!device)
		return why_set(why, ERR_NOMEM, "device: out of memory");
	device->base.backend = &backend;
	device->ops = ops;
	props_fill(&device->base.props, ops, thread_count);
	void *scratch;
	e = dev_alloc(&device->base, MEM_HOST, (size_t)thread_count * SCRATCH_BYTES, &scratch);
	if (e != ERR_OK) {
		why_set(why, e, "device: no memory for %u workers", thread_count);
		goto free_device;
	}
	device->scratch = scratch;
	e = threads_create(thread_count, &device->threads);
	if (e != ERR_OK) {
		why_set(why, e, "device: cannot start %u threads", thread_count);
		goto free_scratch;
	}
	*ret_device = &device->base;
	return ERR_OK;

free_scratch:
	dev_free(&device->base, MEM_HOST, scratch, (size_t)thread_count * SCRATCH_BYTES);
free_device:
	free(device);
	return e;
}

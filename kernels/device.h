/* device - the machine that computes: memory, threads or streams, and what it can do.
 *
 * Owns:   its worker threads and scratch memory; memory from dev_alloc() belongs to the caller.
 * Loop:   one caller at a time (the engine's compute thread); dev_alloc(), dev_free() any thread.
 * Bounds: thread_count workers, DEVICE_THREADS_MAX; scratch is fixed at open; no operation allocates.
 * Rules:  1 an operation (kernels/ops.h) is queued in order on the device's one stream; on a CPU it has
 *           run when it returns, on an accelerator device_sync() waits and gives the first error;
 *         2 the bits of a result depend on device_props.numerics and the inputs of its row, on nothing
 *           else: not on rows in the call, their order, thread_count, or the CPU within the class.  A class whose
 *           name says "fast" gives this up for speed. */
#ifndef KERNELS_DEVICE_H
#define KERNELS_DEVICE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"
#ifdef __cplusplus
extern "C" {
#endif

#define DEVICE_THREADS_MAX 256

struct device;

/* ELEM_E4M3 is of linears alone: weights with scales beside them, and rows that only such weights read (kernels/ops.h). */
enum elem { ELEM_F32, ELEM_BF16, ELEM_E4M3 };

enum device_kind { DEVICE_CPU, DEVICE_CUDA };

enum mem_kind {
	MEM_HOST,   /* DRAM, 64-byte aligned, huge pages advised */
	MEM_PINNED, /* DRAM that an accelerator can read by itself; on a CPU as MEM_HOST */
	MEM_DEVICE, /* where operations read fastest: HBM; on a CPU as MEM_HOST */
	MEM_SHARED, /* MEM_DEVICE that other processes of this machine may read (kernels/peer_memory.h); on a CPU as MEM_HOST */
};

struct device_options {
	enum device_kind kind;
	const char *variant;   /* "portable", "avx2", "avx512", "avx512bf16"; NULL: the best that runs here */
	uint32_t thread_count; /* 0: one per CPU that the process may use */
	uint32_t index;        /* of a GPU: which of those that CUDA_VISIBLE_DEVICES leaves */
	uint32_t row_segments; /* 0: the device's own; a GPU's may be 1, 2, 4 or 8: tensor-parallel degrees up to that share a class */
	bool fast; /* a GPU's class of its own, in which bits may depend on a row's company (rule 2 but for that, law 1) */
};

struct device_props {
	enum device_kind kind;
	char name[64];     /* "AMD EPYC 7571", as the CPU says it */
	char variant[16];  /* "avx2" */
	char numerics[32]; /* "cpu-fma-1": the part of the numerics class that kernels decide (law 1) */
	enum elem input;    /* what rows that only linears of bf16 weights read are written as (kernels/ops.h, rule 2) */
	bool input_e4m3;    /* rows that only linears of e4m3 weights read may be written as such, with the same bits in the end */
	uint32_t row_segments; /* of K in which row-parallel weights are summed (kernels/ops.h): part of the class */
	bool queued;        /* operations run behind their caller, in memory that the host cannot read: device_sync() */
	uint32_t thread_count;
	uint64_t memory_bytes; /* of the whole machine; of an accelerator its own */
};

/* ERR_UNSUPPORTED: no such device or variant here; `why` says which there are. */
MUST_USE enum err device_open(const struct device_options *options, struct why *why,
			      struct device **ret_device);
void device_close(struct device *device); /* NULL is fine */
/* Before device_open(): what else the calling thread begins works with this GPU; libraries that look for one when they begin (UCX)
 * find it.  A CPU needs none; what fails here, device_open() says. */
void device_make_current(enum device_kind kind, uint32_t index);
const struct device_props *device_props(const struct device *device);
/* GPUs of one class become one for their caller: operations of each read the memory of all, where ops.h says so, and
 * device_sync(), _mark(), _wait(), _replay() and _recorded() of the first are for all.  What fails on one fails on all.  Once, before
 * the first operation; they are closed together.  ERR_UNSUPPORTED, and `why` names two that cannot.  A CPU's parts share its memory, and
 * are one device. */
#define DEVICES_MAX 8
MUST_USE enum err device_join(struct device *const *devices, uint32_t count, struct why *why);
/* What is queued on any of the devices joined with it from here on runs after what was queued on all of them so far. */
void device_meet(struct device *device);
/* Waits for all operations queued so far; the first error among them, once. */
MUST_USE enum err device_sync(struct device *device);
/* A point in the order of operations; device_wait() returns once all that was queued before it has run, with the first
 * error among that.  Waits are in the order of marks. */
uint64_t device_mark(struct device *device);
MUST_USE enum err device_wait(struct device *device, uint64_t mark);

/* A step whose operations are the same each time, but for what lies in memory, may be recorded under a key that names all that
 * they depend on: shapes, addresses, kernels.  true: what was recorded under it is queued, and that was the step.  false:
 * the caller queues its operations, then says device_recorded().  Between the two are no waits and no copies from or to the host, and
 * marks say nothing.  Under a key that comes the first time they run as they are, the second time they are recorded, too. */
MUST_USE bool device_replay(struct device *device, uint64_t key);
/* true: they run.  false: they do not, for there was no memory to record them: the caller queues them once more, and they run as they
 * are, as do all steps that are not recorded yet. */
MUST_USE bool device_recorded(struct device *device);

/* The names of the variants that run on this machine, best first, "portable" last; returns how many. */
#define DEVICE_VARIANTS_MAX 4
uint32_t device_variants(const char *ret_names[DEVICE_VARIANTS_MAX]);

/* Bytes a second that all workers together read from memory, measured now (under a second; 256 MiB for
 * its time). 0: no memory for it. */
double device_read_rate(struct device *device);

/* Zeroed memory. ERR_NOMEM. */
MUST_USE enum err dev_alloc(struct device *device, enum mem_kind kind, size_t bytes, void **ret_memory);
void dev_free(struct device *device, enum mem_kind kind, void *memory, size_t bytes); /* NULL is fine */
/* Between memories of any kind, in order with operations.  Memory of the host has the bytes when it returns; MEM_PINNED that is
 * copied from stays as it is until operations up to here have run, other memory of the host may change at once. */
MUST_USE enum err dev_copy(struct device *device, void *to, const void *from, size_t bytes);
struct copy_lines {
	void *to;
	const void *from;
	size_t to_stride, from_stride; /* bytes */
	size_t bytes;                  /* of a line */
	uint32_t count;
};
/* To MEM_DEVICE, from it or MEM_PINNED, or from a device joined with it; in order with operations; the source stays as it is until
 * they have run. */
void dev_copy_lines(struct device *device, const struct copy_lines *lines);
struct fetch_piece {
	void *to;         /* MEM_PINNED */
	const void *from; /* MEM_DEVICE */
	size_t bytes;
};
#define DEV_FETCH_PIECES_MAX 256
/* From the device to the host, behind operations queued so far and beside those that follow: the bytes are there when a mark taken
 * later has been waited for, and the source stays as it is until then.  Any piece may come first, at most DEV_FETCH_PIECES_MAX. */
void dev_fetch(struct device *device, const struct fetch_piece *pieces, size_t count);
/* Memory of the host that the caller owns becomes MEM_PINNED, until dev_unpin(). */
MUST_USE enum err dev_pin(struct device *device, void *memory, size_t bytes);
void dev_unpin(struct device *device, void *memory, size_t bytes);
void dev_zero(struct device *device, void *memory, size_t bytes); /* in order with operations */

#ifdef __cplusplus
}
#endif
#endif

/* cuda - the CUDA device from inside: what its operations share.
 *
 * Owns:   one stream for operations and one for memory, pinned staging, scratch, the table of linears, recorded graphs.
 * Loop:   as device.h; only memory.cu is entered by any thread.  Of joined devices (join.cu) one caller queues on all.
 * Bounds: everything is allocated at open; an operation neither allocates nor waits.
 * Rules:  1 a call that fails is remembered and said once, operations after it do nothing, and device_sync() gives it;
 *         2 an operation takes its shapes from the host, and from device memory what the host does not know when a
 *           recorded step runs again: runs, tables of blocks, rows of experts, tokens and positions. */
#ifndef KERNELS_CUDA_CUDA_H
#define KERNELS_CUDA_CUDA_H
#include <cuda_runtime.h>
#include <pthread.h>
#include "kernels/backend.h"

/* --- the device ------------------------------------------------------------------------------------------ */

#define CUDA_MARKS	   256			 /* more than layers of a model: a wait for an older mark waits for a newer one */
#define CUDA_SCRATCH_BYTES (UINT64_C(256) << 20) /* of one operation at a time: inputs rounded, partial attention */
#define CUDA_STAGE_BYTES   (UINT64_C(4) << 20)	 /* host memory travels in such pieces, while the one before is copied */
#define CUDA_STAGES	   4
#define CUDA_GRAPHS_MAX	   512 /* a step of each number of rows, digested or not */
#define CUDA_SHARED_USUAL  ((size_t)48 << 10) /* what a block has without cuda_allow_shared() */
#define CUDA_LINEARS_MAX   65536 /* 60 layers of 384 experts with two linears each, and what else there is */

/* Memory that dev_alloc() gave out: what is not there belongs to the caller and is of the host. */
struct cuda_range {
	uint8_t *begin;
	size_t bytes;
	enum mem_kind kind;
};

struct cuda_stage {
	uint8_t *memory; /* CUDA_STAGE_BYTES, pinned */
	cudaEvent_t done;
	bool used; /* since `done` was last waited for */
};

struct cuda_graph {
	uint64_t key;
	cudaGraphExec_t exec; /* NULL: the key came once, and its operations ran unrecorded: that loaded their kernels */
};

struct linear_entry;

struct cuda_device {
	struct device base;
	int index;
	struct cuda_device *joined[DEVICES_MAX]; /* [joined_count] in order, itself among them: what fails on one fails on all */
	uint32_t joined_count;
	cudaEvent_t met; /* where of operations the others wait for */
	cudaStream_t stream;
	cudaStream_t memory_stream; /* zeroes new memory beside operations */
	cudaStream_t fetch_stream;  /* copies to the host beside operations */
	cudaEvent_t fetch_from;	    /* where of operations the newest of them begin */
	bool fetching;		    /* since the last mark */
	enum err failed;	    /* the first error of a call, ERR_OK: none; it stays */
	uint32_t sm_count;
	size_t shared_max; /* bytes that a block may ask for */
	bool fast;	   /* sums may be cut as suits the number of rows: the class says so */

	pthread_mutex_t lock; /* of the ranges */
	struct cuda_range *ranges; /* [range_count] by address */
	size_t range_count, range_room;

	struct cuda_stage stages[CUDA_STAGES];
	uint32_t stage_next;
	cudaEvent_t marks[CUDA_MARKS];
	cudaEvent_t fetch_marks[CUDA_MARKS]; /* the same of fetches */
	bool fetched[CUDA_MARKS]; /* there were some since the mark before */
	bool marked[CUDA_MARKS]; /* false: taken while a graph was recorded, and nothing to wait for alone */
	uint64_t mark_count;

	void *scratch; /* CUDA_SCRATCH_BYTES */
	struct linear_entry *entries; /* [CUDA_LINEARS_MAX] device memory: what kernels must know of each linear */
	uint8_t *entries_used; /* [CUDA_LINEARS_MAX] */
	uint32_t entries_first; /* none below is free */
	void *encode_map;	/* the driver's cuTensorMapEncodeTiled */

	struct cuda_graph graphs[CUDA_GRAPHS_MAX];
	uint32_t graph_count;
	bool graphs_refused; /* there was no memory for one: no more are recorded */
	struct cuda_graph *recording; /* NULL: operations run as they come */
};

static inline struct cuda_device *cuda_of(struct device *device)
{
	return (struct cuda_device *)device;
}

/* The thread's calls are for this device from here on: where it is asked before, a call costs nothing. */
bool cuda_enter(struct cuda_device *device);
/* Remembers and logs the first error; false: it failed. */
bool cuda_check(struct cuda_device *device, cudaError_t error, const char *what);
#define CUDA_TRY(device, call) cuda_check(device, call, #call)
/* After each launch. */
void cuda_launched(struct cuda_device *device, const char *kernel);
/* Operations begin with it: false after a failure, and there is nothing to do. */
static inline bool cuda_alive(struct device *device)
{
	return cuda_of(device)->failed == ERR_OK && cuda_enter(cuda_of(device));
}

static inline cudaStream_t cuda_stream(struct device *device)
{
	return cuda_of(device)->stream;
}

/* Waits for all that is before the event, or queued on the stream; what another of the joined devices may never do again it does not wait
 * for.  false after a failure. */
bool cuda_await(struct cuda_device *device, cudaEvent_t event);
bool cuda_await_stream(struct cuda_device *device, cudaStream_t stream);
/* One goes on behind all others, or all others behind it. */
void cuda_gather(struct cuda_device *first);
void cuda_release(struct cuda_device *first);

/* Scratch of the operation that asks, until it returns; the next one's kernels run after its own. */
void *cuda_scratch(struct device *device, size_t bytes);

/* MEM_SHARED, not zeroed; any thread (peer_memory.cu). */
enum err cuda_shared_take(size_t bytes, void **ret_memory);
void cuda_shared_give_back(void *memory, size_t bytes);
/* Memory of a device that dev_alloc() did not give out, so that copies know it (memory.cu).  false: no memory for that. */
bool cuda_range_add(struct cuda_device *device, void *memory, size_t bytes);
void cuda_range_remove(struct cuda_device *device, const void *memory);

/* Lets blocks of a kernel have so much dynamic shared memory (above 48 KiB it must be asked for).  At open, or where else the device has
 * nothing to do: it may wait until running copies end. */
void cuda_allow_shared(struct cuda_device *device, const void *kernel, size_t bytes);
/* At open: shared memory of moe_route (moe_route.cu). */
enum err moe_prepare(struct cuda_device *device);

/* Host memory on its way: a pinned piece of CUDA_STAGE_BYTES to fill, and its copy to the device in order with operations. NULL
 * after a failure. */
uint8_t *cuda_stage_begin(struct cuda_device *device);
void cuda_stage_end(struct cuda_device *device, void *to, size_t bytes);

/* --- runs, as kernels see them --------------------------------------------------------------------------- */

struct cuda_run {
	uint32_t first_position;
	uint32_t row_first;
	uint32_t row_count;
	uint32_t table; /* the run's blocks are tables[table + position / block_tokens] */
	uint32_t digest;
};

#define CUDA_RUN_NONE UINT32_MAX

/* What lies in view.counts. */
enum {
	CUDA_COUNT_RUNS,
	CUDA_COUNT_ROWS,	 /* of all runs */
	CUDA_COUNT_ROWS_LONGEST, /* of a run */
	CUDA_COUNT_POSITIONS,	 /* the greatest first_position + row_count of a run */
	CUDA_COUNT_ROW_END,	 /* the greatest row_first + row_count of a run: run_of_row beyond it has none */
	CUDA_COUNT_TILES,	 /* of 64 positions, that runs see or write: of all together */
	CUDA_COUNTS = 8,
};

/* In device memory, at addresses that stay for the life of the runs: by value to kernels. */
struct cuda_runs_view {
	const uint32_t *counts;	      /* [CUDA_COUNTS] */
	const struct cuda_run *runs;  /* [runs_max] */
	const uint32_t *run_of_row;   /* [rows_max] by row of the batch; CUDA_RUN_NONE: no run has it */
	const uint32_t *tables;	      /* blocks of all runs */
};

struct cuda_runs {
	struct kv_runs base;
	struct cuda_runs_view view;
	uint8_t *memory;  /* of the view: one piece, MEM_DEVICE */
	uint8_t *staged;  /* [2] such pieces, MEM_PINNED */
	size_t bytes;	  /* of one */
	cudaEvent_t done[2];
	bool used[2];
	uint32_t next;
	uint32_t rows_longest;	   /* of a run, as last set */
	uint32_t positions_longest; /* greatest first_position + row_count of a run, as last set */
};

static inline const struct cuda_runs *cuda_runs_of(const struct kv_runs *runs)
{
	return (const struct cuda_runs *)runs;
}

/* --- behind kernels/backend.h, each as there --------------------------------------------------------------- */

enum err cuda_export(struct device *device, const void *memory, int *ret_fd, struct why *why);
enum err cuda_import(struct device *device, int fd, size_t bytes, bool writable, void **ret_memory, struct why *why);
void cuda_unimport(struct device *device, void *memory, size_t bytes);
enum err cuda_reader_create(struct device *device, struct dev_reader **ret_reader);
void cuda_reader_destroy(struct dev_reader *reader);
enum err cuda_reader_read(struct dev_reader *reader, const struct dev_piece *pieces, size_t count, uint64_t *ret_digests);
enum err cuda_alloc(struct device *device, enum mem_kind kind, size_t bytes, void **ret_memory);
void cuda_free(struct device *device, enum mem_kind kind, void *memory, size_t bytes);
enum err cuda_copy(struct device *device, void *to, const void *from, size_t bytes);
enum err cuda_join(struct device *const *devices, uint32_t count, struct why *why);
void cuda_meet(struct device *device);
void cuda_copy_lines(struct device *device, const struct copy_lines *lines);
void cuda_fetch(struct device *device, const struct fetch_piece *pieces, size_t count);
enum err cuda_pin(struct device *device, void *memory, size_t bytes);
void cuda_unpin(struct device *device, void *memory, size_t bytes);
void cuda_zero(struct device *device, void *memory, size_t bytes);
bool cuda_replay(struct device *device, uint64_t key);
bool cuda_recorded(struct device *device);
enum err cuda_linear_create(struct device *device, const struct linear_shape *shape, struct linear **ret_linear);
void cuda_linear_destroy(struct linear *linear);
void cuda_linear_fill(struct linear *linear, uint32_t first, uint32_t count, const void *source, size_t source_stride);
void cuda_linear_fill_scales(struct linear *linear, uint32_t first, uint32_t count, const float *source);
enum err cuda_linear_fill_bias(struct linear *linear, uint32_t first, uint32_t count, const float *source);
void cuda_linear(struct device *device, const struct linear_call *calls, size_t call_count);
void cuda_tree_sum(struct device *device, const struct tree_call *call);
void cuda_collect(struct device *device, const struct collect_call *call);
void cuda_embed(struct device *device, const void *table, enum elem elem, uint32_t dim, const uint32_t *tokens,
	       uint32_t rows, float *out);
void cuda_embed_linear(struct device *device, const struct linear *table, const uint32_t *tokens, uint32_t rows,
		      float *out);
void cuda_rmsnorm(struct device *device, const struct norm_call *call);
void cuda_head_norm(struct device *device, float *x, size_t x_stride, uint32_t rows, uint32_t head_count,
		   uint32_t dim, const float *weight, float eps);
void cuda_add(struct device *device, float *x, const float *add, uint32_t rows, uint32_t dim);
void cuda_scale(struct device *device, float *x, float by, uint32_t rows, uint32_t dim);
void cuda_glu(struct device *device, const struct glu_call *call);
void cuda_gather(struct device *device, const float *x, size_t x_stride, const uint32_t *index, uint32_t count,
		uint32_t dim, float *out);
void cuda_rope_angles(struct device *device, const uint32_t *positions, uint32_t rows, const float *frequency,
		     uint32_t half, float factor, float *ret_cos, float *ret_sin);
void cuda_rope(struct device *device, float *x, size_t x_stride, uint32_t rows, uint32_t head_count, uint32_t dim,
	      uint32_t half, const float *cos, const float *sin);
enum err cuda_kv_runs_create(struct device *device, const struct kv_runs_bounds *bounds, struct kv_runs **ret_runs);
void cuda_kv_runs_destroy(struct kv_runs *runs);
void cuda_kv_runs_set(struct kv_runs *runs);
void cuda_kv_write(struct device *device, const struct kv_write_call *call);
void cuda_qkv(struct device *device, const struct qkv_call *call);
void cuda_kv_digest(struct device *device, const struct kv_digest_call *call);
void cuda_attention(struct device *device, const struct attention_call *call);
void cuda_moe_route(struct device *device, const struct moe_route_call *call);
void cuda_moe_group(struct device *device, const uint32_t *expert, uint32_t slot_count, uint32_t expert_count,
		   uint32_t *ret_first, uint32_t *ret_slot);
void cuda_moe_gather(struct device *device, const struct moe_gather_call *call);
void cuda_moe_linear(struct device *device, const struct moe_linear_call *call);
void cuda_moe_scatter(struct device *device, const struct moe_scatter_call *call);
void cuda_moe_combine(struct device *device, const uint16_t *answer, const float *weight, uint32_t rows,
		     uint32_t top_k, uint32_t dim, float *out);
void cuda_add_gated(struct device *device, float *x, const float *add, const float *gate, uint32_t rows, uint32_t dim);
void cuda_to_bf16(struct device *device, const float *x, size_t count, uint16_t *out);
void cuda_from_bf16(struct device *device, const uint16_t *x, size_t count, float *out);
void cuda_soft_cap(struct device *device, float *x, size_t x_stride, uint32_t rows, uint32_t n, float cap);
void cuda_exp(struct device *device, const float *x, float shift, uint32_t n, float *out);
enum err cuda_sample_create(struct device *device, uint32_t vocab_size, struct sample_scratch **ret_scratch);
void cuda_sample_destroy(struct sample_scratch *scratch);
void cuda_sample(struct sample_scratch *scratch, const struct sample_call *call);
#endif

#include <assert.h>
#include <string.h>
#include "kernels/cuda/linear_plan.h"
#include "kernels/cuda/linear_tile_e4m3.h"
#include "kernels/cuda/tensor_map.h"

#define SPLIT_THREADS 256

/* --- tensor maps ----------------------------------------------------------------------------------------------- */

bool linear_map(struct cuda_device *device, const struct linear_tensor *tensor, uint32_t box_rows, CUtensorMap *ret_map)
{
	const bool e4m3 = tensor->elem == ELEM_E4M3;
	const cuuint64_t size = elem_bytes(tensor->elem), dims[3] = {tensor->k, tensor->segments, tensor->rows};
	/* Of one segment there is no next; each stride must be a multiple of the one before. */
	size_t segment_stride = tensor->segments > 1 ? tensor->segment_stride : tensor->row_stride;
	const cuuint64_t strides[2] = {segment_stride * size, tensor->row_stride * size};
	const cuuint32_t box[3] = {(cuuint32_t)(LINEAR_LINE / size), 1, box_rows};
	return tensor_map_3d(device, e4m3 ? CU_TENSOR_MAP_DATA_TYPE_UINT8 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, tensor->data, dims,
			     strides, box, ret_map);
}

static bool scales_map(struct cuda_device *device, const void *scales, const struct linear_tensor *inputs, uint32_t groups,
		       uint32_t box_rows, CUtensorMap *ret_map)
{
	const cuuint64_t dims[2] = {groups, inputs->rows}, strides[1] = {inputs->row_stride};
	const cuuint32_t box[2] = {LINEAR_SCALES, box_rows}, ones[2] = {1, 1};
	CUresult result = ((encode_fn *)device->encode_map)(
		ret_map, CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 2, const_cast<void *>(scales), dims, strides, box, ones,
		CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_L2_PROMOTION_NONE,
		CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
	return cuda_check(device, result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue, "cuTensorMapEncodeTiled");
}

/* --- the kernels, by width ------------------------------------------------------------------------------------- */

template <int width, int groups, bool segmented, int slot_count>
static cudaError_t launch(const struct linear_launch *l, const struct linear_job &job)
{
	linear_slots<slot_count> list = {};
	memcpy(list.at, l->slots, job.group_count * sizeof(*l->slots));
	return SIMT_LAUNCH((linear_tiles<width, groups, segmented, slot_count>), dim3(l->grid), dim3(groups * 128 + 32), l->shared,
			   l->stream, l->weights, l->inputs, job, list);
}

#define MANY MOE_EXPERTS_MAX
#define VARIANT(width, groups, segmented, many)                                             \
	{width, groups, segmented, (many) > 1, launch<width, groups, segmented, many>,      \
	 reinterpret_cast<const void *>(linear_tiles<width, groups, segmented, many>)}
#define BOTH(width, groups, segmented) VARIANT(width, groups, segmented, 1), VARIANT(width, groups, segmented, MANY)

const struct linear_variant linear_variants_bf16[] = {
	BOTH(8, 1, false), BOTH(16, 1, false), BOTH(32, 1, false), BOTH(64, 1, false), BOTH(128, 1, false), BOTH(128, 2, false),
	BOTH(256, 2, false), BOTH(8, 1, true), BOTH(16, 1, true), BOTH(32, 1, true), BOTH(64, 1, true), {},
};

/* What a block has beside its stages: barriers, the reach of a low tile, the tiles before each group, and alignment. */
static size_t stage_room(const struct cuda_device *device, bool many)
{
	size_t fixed = LINEAR_HEAD_BYTES + LINEAR_TAIL_BYTES + 1024 + (many ? (MANY + 1) * sizeof(uint32_t) + 1024 : 64);
	return (device->shared_max - fixed) / 1024 * 1024;
}

static void allow_shared(struct cuda_device *device, const struct linear_variant *all)
{
	for (; all->width > 0; all++)
		cuda_allow_shared(device, all->kernel, LINEAR_HEAD_BYTES + stage_room(device, all->many) + LINEAR_TAIL_BYTES);
}

enum err linear_prepare(struct cuda_device *device)
{
	enum cudaDriverEntryPointQueryResult found;
	if (!CUDA_TRY(device, cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &device->encode_map, 12000,
							       cudaEnableDefault, &found)))
		return device->failed;
	if (found != cudaDriverEntryPointSuccess)
		return ERR_UNSUPPORTED;
	allow_shared(device, linear_variants_bf16);
	allow_shared(device, linear_variants_e4m3);
	return device->failed;
}

/* --- splits of K (class "fast") --------------------------------------------------------------------------------- */

/* K as `splits` segments that lie one behind the other. */
static struct linear_tensor split(struct linear_tensor tensor, uint32_t splits)
{
	tensor.k /= splits;
	tensor.segments = splits;
	tensor.segment_stride = tensor.k;
	return tensor;
}

/* Sums of splits go behind the inputs in the scratch, if these are there. */
static float *split_sums(struct cuda_device *device, const struct linear_tensor *inputs)
{
	uint8_t *scratch = (uint8_t *)device->scratch, *data = (uint8_t *)inputs->data;
	bool inside = data >= scratch && data < scratch + CUDA_SCRATCH_BYTES;
	size_t used = inside ? (data - scratch) + inputs->rows * inputs->row_stride * sizeof(uint16_t) : 0;
	return (float *)(scratch + (used + 255) / 256 * 256);
}

/* What the product's memory allows: strides of the copy engine, room for sums. */
static uint32_t splits_max(struct cuda_device *device, const struct linear_job *job, const struct linear_tensor *weights,
			   const struct linear_tensor *inputs)
{
	uint32_t splits = LINEAR_SPLITS_MAX, k = weights->k;
	if (!device->fast || job->group_count > 1 || job->segments > 1 || weights->row_stride != k)
		return 1;
	uint8_t *sums = (uint8_t *)split_sums(device, inputs), *end = (uint8_t *)device->scratch + CUDA_SCRATCH_BYTES;
	size_t room = end > sums ? end - sums : 0, each = (size_t)job->rows * job->n * sizeof(float);
	while (splits > 1 && (k % (splits * LINEAR_BOX_K) != 0 || inputs->row_stride % (k / splits) != 0 || each * splits > room))
		splits /= 2;
	return splits;
}

struct split_job {
	const float *sums; /* [split][row][n] */
	const float *bias;
	void *y;
	size_t y_stride, step;
	uint32_t n, splits;
	bool y_bf16;
};

/* One thread an output of a row: splits in order, then the bias. */
SIMT_KERNEL_OF(split_sum, SPLIT_THREADS, 4)(const split_job job)
{
	size_t row = blockIdx.y;
	uint32_t out = blockIdx.x * SPLIT_THREADS + threadIdx.x;
	if (out >= job.n)
		return;
	const float *from = job.sums + row * job.n + out;
	float sum = from[0];
	SIMT_UNROLL
	for (uint32_t split = 1; split < LINEAR_SPLITS_MAX; split++)
		sum += split < job.splits ? from[split * job.step] : 0.0f;
	if (job.bias)
		sum += job.bias[out];
	if (job.y_bf16)
		((uint16_t *)job.y)[row * job.y_stride + out] = simt_bf16_round(sum);
	else
		((float *)job.y)[row * job.y_stride + out] = sum;
}

/* The product writes its sums beside each other; returns what makes y of them. */
static struct split_job split_product(struct cuda_device *device, struct linear_job *job, struct linear_tensor *weights,
				      struct linear_tensor *inputs, uint32_t splits)
{
	float *sums = split_sums(device, inputs);
	size_t step = (size_t)job->rows * job->n;
	const struct split_job then = {sums, job->bias, job->y, job->y_stride, step, job->n, splits, job->y_bf16};
	*weights = split(*weights, splits);
	*inputs = split(*inputs, splits);
	job->segment_k = weights->k;
	job->splits = splits;
	job->y = sums;
	job->y_stride = job->n;
	job->y_split_step = step;
	job->y_bf16 = false;
	job->bias = NULL;
	return then;
}

/* --- the call ----------------------------------------------------------------------------------------------------- */

static const struct linear_variant *find_variant(const struct linear_plan *plan, const struct linear_job *job, bool e4m3)
{
	const struct linear_variant *v = e4m3 ? linear_variants_e4m3 : linear_variants_bf16;
	while (v->width != plan->width || v->groups != plan->groups || v->segmented != (job->segments > 1) ||
	       v->many != (job->group_count > 1))
		v++;
	return v;
}

static struct linear_plan plan_of(struct cuda_device *device, const struct linear_job *job, const struct linear_tensor *weights,
				  const struct linear_tensor *inputs, bool e4m3)
{
	const struct linear_plan_shape shape = {job->n,
						inputs->rows,
						job->group_count,
						job->segments,
						device->sm_count,
						weights->k,
						e4m3 ? 1u : splits_max(device, job, weights, inputs),
						e4m3 ? LINEAR_E4M3_WIDTH_MAX : 0u};
	return linear_plan(&shape);
}

void linear_tiles_run(struct cuda_device *device, struct linear_job *job, const struct linear_tensor *all_weights,
		      const struct linear_tensor *all_inputs, const void *scales, const uint16_t *slots)
{
	const bool e4m3 = scales != NULL;
	struct linear_tensor whole[2] = {*all_weights, *all_inputs}, *weights = &whole[0], *inputs = &whole[1];
	const struct linear_plan plan = plan_of(device, job, weights, inputs, e4m3);
	struct split_job then = {};
	if (plan.splits > 1)
		then = split_product(device, job, weights, inputs, plan.splits);
	uint32_t boxes = e4m3 ? linear_e4m3_boxes(plan.width) : linear_boxes(plan.width, plan.groups);
	size_t tile = (size_t)boxes * (plan.height + plan.width) * LINEAR_LINE;
	size_t stage = tile + (e4m3 ? LINEAR_SCALES * plan.width * sizeof(float) : 0), room = stage_room(device, job->group_count > 1);
	job->height = plan.height;
	job->out_tiles = (job->n + plan.height - 1) / plan.height;
	job->stages = room / stage < LINEAR_STAGES_MAX ? (uint32_t)(room / stage) : LINEAR_STAGES_MAX;
	struct linear_launch l = {};
	l.shared = LINEAR_HEAD_BYTES + job->stages * stage + LINEAR_TAIL_BYTES;
	l.stream = device->stream;
	l.slots = slots;
	if (!linear_map(device, weights, plan.height, &l.weights) || !linear_map(device, inputs, plan.width, &l.inputs))
		return;
	if (e4m3 && !scales_map(device, scales, inputs, job->scale_groups, plan.width, &l.scales))
		return;
	/* No more blocks than tiles, where the host knows their number. */
	size_t tiles = (size_t)job->out_tiles * ((job->rows + plan.width - 1) / plan.width) * (job->first ? 1 : job->group_count);
	tiles *= plan.splits;
	l.grid = tiles < device->sm_count && !job->first ? (uint32_t)tiles : device->sm_count;
	cuda_check(device, find_variant(&plan, job, e4m3)->launch(&l, *job), e4m3 ? "linear_tiles_e4m3" : "linear_tiles");
	if (plan.splits > 1)
		cuda_check(device,
			   SIMT_LAUNCH(split_sum, dim3((job->n + SPLIT_THREADS - 1) / SPLIT_THREADS, job->rows), dim3(SPLIT_THREADS), 0,
				       device->stream, then),
			   "split_sum");
}

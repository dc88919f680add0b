#include <assert.h>
#include "kernels/cuda/linear.h"
#include "kernels/cuda/linear_plan.h"
#include "kernels/cuda/simt.h"
#include "kernels/cuda/tensor_map.h"

#define SPLIT_THREADS 256
#define LINE_K	      (LINEAR_LINE / (uint32_t)sizeof(uint16_t))

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
		       uint32_t box_groups, uint32_t box_rows, CUtensorMap *ret_map)
{
	const cuuint64_t dims[2] = {groups, inputs->rows}, strides[1] = {inputs->row_stride};
	const cuuint32_t box[2] = {box_groups, box_rows}, ones[2] = {1, 1};
	CUresult result = ((encode_fn *)device->encode_map)(
		ret_map, CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 2, const_cast<void *>(scales), dims, strides, box, ones,
		CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_L2_PROMOTION_NONE,
		CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
	return cuda_check(device, result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue, "cuTensorMapEncodeTiled");
}

/* --- shared memory ----------------------------------------------------------------------------------------------- */

static size_t head_bytes(bool many)
{
	return many ? linear_head_bytes<MOE_EXPERTS_MAX> : linear_head_bytes<1>;
}

/* Of a block, for stages. */
static size_t stage_room(const struct cuda_device *device, bool many)
{
	return (device->shared_max - head_bytes(many) - LINEAR_TAIL_BYTES) / 1024 * 1024;
}

static void allow_shared(struct cuda_device *device, const struct linear_variant *all)
{
	for (; all->width > 0; all++)
		cuda_allow_shared(device, all->kernel, head_bytes(all->many) + stage_room(device, all->many) + LINEAR_TAIL_BYTES);
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
	while (splits > 1 && (k % (splits * LINE_K) != 0 || inputs->row_stride % (k / splits) != 0 || each * splits > room))
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

/* Two warpgroups want one scale for the 16 outputs of a warp. */
static bool wants_one_group(const struct linear_job *job)
{
	return job->scale_outputs % 16 != 0;
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
						e4m3 && wants_one_group(job)};
	return linear_plan(&shape);
}

/* As many as have tiles, where the host knows that, and whole clusters. */
static uint32_t grid_of(const struct cuda_device *device, const struct linear_job *job, const struct linear_plan *plan)
{
	uint32_t blocks = LINEAR_BLOCKS(plan->width), most = device->sm_count / blocks;
	size_t tiles = (size_t)job->out_tiles * ((job->rows + plan->width - 1) / plan->width) * job->group_count * plan->splits;
	return (tiles < most && !job->first ? (uint32_t)tiles : most) * blocks;
}

/* What the copy engine brings to a block at once: the outputs of its tile, of the rows its share. */
static bool describe(struct cuda_device *device, const struct linear_plan *plan, const struct linear_tensor *weights,
		     const struct linear_tensor *inputs, struct linear_launch *launch)
{
	return linear_map(device, weights, plan->height, &launch->weights) &&
	       linear_map(device, inputs, plan->width / LINEAR_BLOCKS(plan->width), &launch->inputs);
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
	const struct linear_variant *variant = find_variant(&plan, job, e4m3);
	size_t stage = (size_t)variant->boxes * (plan.height + plan.width) * LINEAR_LINE + variant->row_bytes * plan.width;
	size_t room = stage_room(device, variant->many);
	uint32_t together = plan.height * LINEAR_BLOCKS(plan.width);
	job->height = plan.height;
	job->out_tiles = (job->n + together - 1) / together;
	job->stages = room / stage < LINEAR_STAGES_MAX ? (uint32_t)(room / stage) : LINEAR_STAGES_MAX;
	struct linear_launch l = {};
	l.grid = grid_of(device, job, &plan);
	l.shared = head_bytes(variant->many) + job->stages * stage + LINEAR_TAIL_BYTES;
	l.stream = device->stream;
	l.slots = slots;
	if (!describe(device, &plan, weights, inputs, &l))
		return;
	if (e4m3 && !scales_map(device, scales, inputs, job->scale_groups, variant->row_bytes / (uint32_t)sizeof(float),
				plan.width / LINEAR_BLOCKS(plan.width), &l.scales))
		return;
	cuda_check(device, variant->launch(&l, *job), "linear_tiles");
	if (plan.splits > 1)
		cuda_check(device,
			   SIMT_LAUNCH(split_sum, dim3((job->n + SPLIT_THREADS - 1) / SPLIT_THREADS, job->rows), dim3(SPLIT_THREADS), 0,
				       device->stream, then),
			   "split_sum");
}

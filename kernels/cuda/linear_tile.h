/* linear_tile - the kernel of products on the tensor cores, of any kind of weights: a warp of the copy engine fills stages of shared
 * memory, one or two warpgroups multiply what is there and write sums.  Persistent: blocks take tiles in their turn, and the copies
 * for the next begin while the sums of the last are written.
 *
 *   full[stage]    the stage's bytes are there            [producer expects them, the copy engine brings them]
 *   empty[stage]   nobody multiplies by them any more     [each warp of the warpgroups arrives, of all blocks that share]
 *
 * Where rows are many two blocks are a cluster (linear_plan.h): their tiles are of the same rows and of neighbouring outputs, and each
 * brings half of the rows' lines into the memory of both.  So a stage is filled again only when both have given it back, both walk the same
 * tiles (of outputs beyond the last a block multiplies zeros, and writes nothing), and neither ends before the other.
 *
 * A kind of products (linear_bf16, linear_e4m3) says what a stage has and how it is multiplied:
 *   line_k                    inputs in a line of 128 bytes
 *   row_bytes                 what a stage has of each row beside its lines
 *   boxes<width, groups>      boxes of lines in a stage, of each operand
 *   widest                    rows of one wgmma
 *   struct outputs, find()    what a thread keeps of its tile's outputs
 *   fetch_rows()              the copies of a stage's rows
 *   multiply()                one segment into sums
 *
 * A tile of less than 64 outputs leaves the last lines of the A operand to whatever lies behind it in shared memory: a row of
 * A reaches its own row of sums alone, and those are not written.  A stage is always multiplied whole: beyond the end of a
 * segment the copy engine brings zeros, whose products change nothing but the sign of a sum that is 0, and that is made +. */
#ifndef KERNELS_CUDA_LINEAR_TILE_H
#define KERNELS_CUDA_LINEAR_TILE_H
#include <string.h>
#include "kernels/cuda/linear.h"
#include "kernels/cuda/linear_plan.h"
#include "kernels/cuda/simt_wgmma.h"

/* One warp copies.  Beside two warpgroups it is of a third, which leaves its registers to them. */
#define LINEAR_THREADS(groups) ((groups) == 2 ? 384 : (groups) * 128 + 32)
#define LINEAR_COPYING	       40
#define LINEAR_COMPUTING       232
static_assert(LINEAR_COPYING + 2 * LINEAR_COMPUTING <= 512, "registers of a multiprocessor, 128 times");

#define LINEAR_BAND 12u /* outputs' tiles that are walked beside each other: their weights stay in the second-level cache */

struct linear_tile {
	uint32_t group;
	uint32_t out_first;
	uint32_t row_first, row_end; /* of x; the end is the group's */
	uint32_t split;		     /* of K: a tile each (class "fast") */
};

/* The rows of group g. */
SIMT_DEVICE uint32_t linear_row_first(const struct linear_job &job, uint32_t g)
{
	if (!job.first)
		return g * job.rows;
	return job.first[g] > job.window_first ? job.first[g] : job.window_first;
}

SIMT_DEVICE uint32_t linear_row_end(const struct linear_job &job, uint32_t g)
{
	if (!job.first)
		return (g + 1) * job.rows;
	uint32_t first = linear_row_first(job, g), end = job.first[g + 1] < job.window_end ? job.first[g + 1] : job.window_end;
	return end > first ? end : first;
}

/* What a cluster of so many blocks takes at once: number `index` within a group's, in bands of outputs, within them rows outside, outputs
 * inside; and of that the block's own. */
template <int blocks>
SIMT_DEVICE void linear_place(const struct linear_job &job, uint32_t width, uint32_t index, struct linear_tile *tile)
{
	constexpr uint32_t band = LINEAR_BAND / blocks;
	uint32_t row_tiles = (tile->row_end - tile->row_first + width - 1) / width;
	uint32_t out = index / (band * row_tiles) * band, rest = index % (band * row_tiles);
	uint32_t across = job.out_tiles - out < band ? job.out_tiles - out : band;
	tile->out_first = (out + rest % across) * blocks * job.height;
	if (blocks > 1)
		tile->out_first += simt_cluster_rank() * job.height;
	tile->row_first += rest / across * width;
}

/* Tiles before group g, for all g: by the first warp, 32 groups at a time. */
SIMT_DEVICE void linear_count_tiles(const struct linear_job &job, uint32_t width, uint32_t *before)
{
	uint32_t sum = 0;
	if (simt_warp() != 0)
		return;
	for (uint32_t first = 0; first < job.group_count; first += SIMT_LANES) {
		uint32_t g = first + simt_lane(), tiles = 0;
		if (g < job.group_count)
			tiles = (linear_row_end(job, g) - linear_row_first(job, g) + width - 1) / width * job.out_tiles;
		for (uint32_t by = 1; by < SIMT_LANES; by *= 2) {
			uint32_t other = simt_shuffle_up(tiles, by);
			tiles += simt_lane() >= by ? other : 0;
		}
		if (g < job.group_count)
			before[g + 1] = sum + tiles;
		sum += simt_shuffle(tiles, SIMT_LANES - 1);
	}
	if (simt_lane() == 0)
		before[0] = 0;
}

/* false: there are fewer tiles. */
template <int blocks, int slot_count>
SIMT_DEVICE bool linear_tile_at(const struct linear_job &job, uint32_t width, const uint32_t *before, uint32_t index,
				struct linear_tile *tile)
{
	if (slot_count == 1) {
		uint32_t tiles = (job.rows + width - 1) / width * job.out_tiles;
		*tile = {0, 0, 0, job.rows, index / tiles};
		if (tile->split >= job.splits)
			return false;
		linear_place<blocks>(job, width, index % tiles, tile);
		return true;
	}
	uint32_t low = 0, high = job.group_count;
	if (index >= before[high])
		return false;
	while (low + 1 < high) {
		uint32_t middle = (low + high) / 2;
		if (before[middle] <= index)
			low = middle;
		else
			high = middle;
	}
	tile->group = low;
	tile->split = 0;
	tile->row_first = linear_row_first(job, low);
	tile->row_end = linear_row_end(job, low);
	linear_place<blocks>(job, width, index - before[low], tile);
	return true;
}

/* --- stages ------------------------------------------------------------------------------------------------------ */

/* The same steps for who fills and who empties them. */
struct linear_turn {
	uint32_t stage, parity;
};

struct linear_stages {
	uint8_t *memory; /* [stages][boxes][height lines], then as many of `width` lines */
	uint64_t *full, *empty;
	uint32_t count;
	uint32_t a_bytes, b_bytes, bytes; /* of a box of each, and of all boxes of a stage */
	float *scales;			  /* [stages][width], row_bytes each */
};

SIMT_DEVICE void linear_turn_next(struct linear_turn *turn, const struct linear_stages &s)
{
	if (++turn->stage == s.count) {
		turn->stage = 0;
		turn->parity ^= 1;
	}
}

/* A box that all blocks of the cluster get. */
template <int blocks>
SIMT_DEVICE void linear_load(void *to, const CUtensorMap *map, uint64_t *full, int x, int y, int z)
{
	if (blocks == 1)
		simt_tma_load_3d(to, map, full, x, y, z);
	else
		simt_tma_load_3d_cluster(to, map, full, x, y, z, (1 << blocks) - 1);
}

/* A warp has read what it needs of the stage. */
template <int blocks> SIMT_DEVICE void linear_give_back(const struct linear_stages &s, uint32_t stage)
{
	if (blocks == 1 && simt_lane() == 0)
		simt_mbarrier_arrive(&s.empty[stage]);
	if (blocks > 1 && simt_lane() < blocks)
		simt_mbarrier_arrive_at(&s.empty[stage], simt_lane());
}

template <class kind, int width, int groups>
SIMT_DEVICE void linear_fetch(const struct linear_job &job, const struct linear_stages &s, const CUtensorMap *weights,
			      const CUtensorMap *inputs, const CUtensorMap *scales, const struct linear_tile &tile,
			      struct linear_turn *turn)
{
	constexpr uint32_t boxes = kind::template boxes<width, groups>;
	for (uint32_t segment = tile.split; segment < tile.split + job.segments; segment++)
		for (uint32_t k = 0; k < job.segment_k; k += boxes * kind::line_k) {
			uint64_t *full = &s.full[turn->stage];
			uint8_t *a = s.memory + turn->stage * s.bytes;
			simt_mbarrier_wait(&s.empty[turn->stage], turn->parity ^ 1);
			simt_mbarrier_arrive_expect(full, s.bytes + width * kind::row_bytes);
			SIMT_UNROLL
			for (uint32_t box = 0; box < boxes; box++)
				simt_tma_load_3d(a + box * s.a_bytes, weights, full, (int)(k + box * kind::line_k), (int)segment,
						 (int)tile.out_first);
			kind::template fetch_rows<width, groups>(job, s, inputs, scales, turn->stage, segment, k,
								 (int)(tile.row_first - job.window_first));
			linear_turn_next(turn, s);
		}
}

/* --- the warpgroups ------------------------------------------------------------------------------------------ */

/* Each segment joined with its neighbours as soon as they are whole: the tree of ops.h. */
template <int width> struct linear_tree {
	float one[width / 2], two[width / 2], four[width / 2];
};

template <int width>
SIMT_DEVICE void linear_join(uint32_t segment, struct linear_tree<width> *tree, float (&sums)[width / 2])
{
	bool joins[3] = {(segment & 1) == 1, (segment & 3) == 3, (segment & 7) == 7};
	SIMT_UNROLL
	for (int i = 0; i < width / 2; i++) {
		sums[i] = joins[0] ? tree->one[i] + sums[i] : sums[i];
		sums[i] = joins[1] ? tree->two[i] + sums[i] : sums[i];
		sums[i] = joins[2] ? tree->four[i] + sums[i] : sums[i];
		tree->one[i] = !joins[0] ? sums[i] : tree->one[i];
		tree->two[i] = joins[0] && !joins[1] ? sums[i] : tree->two[i];
		tree->four[i] = joins[1] && !joins[2] ? sums[i] : tree->four[i];
	}
}

template <class kind, int width, int groups, bool segmented>
SIMT_DEVICE void linear_multiply(const struct linear_job &job, const struct linear_stages &s, struct linear_turn *turn,
				 const typename kind::outputs &outputs, float (&sums)[width / 2])
{
	if (!segmented) {
		kind::template multiply<width, groups>(job, s, turn, outputs, 0, sums);
		return;
	}
	linear_tree<width> tree = {};
	for (uint32_t segment = 0; segment < job.segments; segment++) {
		kind::template multiply<width, groups>(job, s, turn, outputs, segment, sums);
		linear_join<width>(segment, &tree, sums);
	}
}

SIMT_DEVICE void linear_put(float *to, float sum)
{
	*to = sum;
}

SIMT_DEVICE void linear_put(uint16_t *to, float sum)
{
	*to = simt_bf16_round(sum);
}

/* A thread has outputs o and o + 8 of two neighbouring rows in each 8: eight threads write 32 bytes of one row.  Adding 0, or a bias
 * that is not -0, makes a sum of -0 one of +0. */
template <typename T, int width>
SIMT_DEVICE void linear_write(const struct linear_job &job, const struct linear_tile &tile, const float *bias,
			      const float (&sums)[width / 2])
{
	const uint32_t within = threadIdx.x / SIMT_LANES * 16 + simt_lane() / 4, out = tile.out_first + within;
	const uint32_t row = tile.row_first + simt_lane() % 4 * 2;
	const int64_t column = (int64_t)tile.group * job.y_group_step + (int64_t)(tile.split * job.y_split_step) + out;
	const size_t next = simt_anew(job.y_stride), next_two = simt_anew(7 * job.y_stride);
	T *at = (T *)job.y + (int64_t)(row * job.y_stride) + column;
	int rows[2]; /* of each output, from the thread's first on */
	float add[2];
	SIMT_UNROLL
	for (uint32_t i = 0; i < 2; i++) {
		bool there = within + 8 * i < job.height && out + 8 * i < job.n;
		rows[i] = there ? (int)(tile.row_end - row) : 0;
		add[i] = there && bias ? bias[out + 8 * i] + 0.0f : 0.0f;
	}
	SIMT_UNROLL
	for (uint32_t j = 0; j < width / 4; j++) {
		SIMT_UNROLL
		for (uint32_t i = 0; i < 2; i++)
			if ((int)(j / 2 * 8 + j % 2) < rows[i])
				linear_put(at + 8 * i, sums[j / 2 * 4 + 2 * i + j % 2] + add[i]);
		at += j % 2 == 0 ? next : next_two;
	}
}

/* --- the kernel ---------------------------------------------------------------------------------------------- */

SIMT_DEVICE void linear_begin(const struct linear_stages &s, uint32_t warps)
{
	if (threadIdx.x == 0) {
		for (uint32_t i = 0; i < s.count; i++) {
			simt_mbarrier_init(&s.full[i], 1);
			simt_mbarrier_init(&s.empty[i], warps);
		}
		simt_mbarrier_fence_init();
	}
	simt_sync();
}

template <class kind, int width, int groups, bool segmented, int slot_count>
SIMT_KERNEL_OF(linear_tiles, LINEAR_THREADS(groups), 1)(SIMT_GRID_CONSTANT CUtensorMap weights, SIMT_GRID_CONSTANT CUtensorMap inputs,
						   SIMT_GRID_CONSTANT CUtensorMap scales, const linear_job job,
						   const linear_slots<slot_count> slots)
{
	constexpr int blocks = LINEAR_BLOCKS(width);
	SIMT_DYNAMIC_SHARED(uint8_t, shared);
	uint64_t *barriers = (uint64_t *)shared;
	uint32_t *before = (uint32_t *)(shared + LINEAR_BARRIER_BYTES); /* [slot_count + 1], where there are many */
	linear_stages s = {shared + linear_head_bytes<slot_count>, barriers, barriers + LINEAR_STAGES_MAX, job.stages,
			   job.height * LINEAR_LINE, width * LINEAR_LINE, 0, nullptr};
	s.bytes = kind::template boxes<width, groups> * (s.a_bytes + s.b_bytes);
	s.scales = (float *)(s.memory + s.count * s.bytes + LINEAR_TAIL_BYTES);
	if (slot_count > 1)
		linear_count_tiles(job, width, before);
	linear_begin(s, groups * 4 * blocks);
	if (blocks > 1)
		simt_cluster_sync();

	const uint32_t first = blockIdx.x / blocks, step = gridDim.x / blocks;
	linear_turn turn = {0, 0};
	linear_tile tile;
	if (threadIdx.x / 128 == groups) {
		if constexpr (groups == 2)
			simt_registers_lower<LINEAR_COPYING>();
		uint32_t known = UINT32_MAX; /* the group whose map the copy engine has seen */
		for (uint32_t i = first; threadIdx.x == groups * 128 && linear_tile_at<blocks, slot_count>(job, width, before, i, &tile); i += step) {
			const CUtensorMap *map = slot_count > 1 ? &job.entries[slots.at[tile.group]].maps[groups - 1] : &weights;
			if (slot_count > 1 && tile.group != known)
				simt_tma_acquire(map);
			known = tile.group;
			linear_fetch<kind, width, groups>(job, s, map, &inputs, &scales, tile, &turn);
		}
		simt_sync_warp();
	} else {
		if constexpr (groups == 2)
			simt_registers_raise<LINEAR_COMPUTING>();
		for (uint32_t i = first; linear_tile_at<blocks, slot_count>(job, width, before, i, &tile); i += step) {
			const linear_entry *entry = slot_count > 1 ? &job.entries[slots.at[tile.group]] : nullptr;
			const float *bias = slot_count > 1 ? entry->bias : job.bias;
			float sums[width / 2] = {};
			typename kind::outputs outputs;
			kind::find(job, tile, slot_count > 1 ? entry->scales : job.scales, &outputs);
			linear_multiply<kind, width, groups, segmented>(job, s, &turn, outputs, sums);
			if (job.y_bf16)
				linear_write<uint16_t, width>(job, tile, bias, sums);
			else
				linear_write<float, width>(job, tile, bias, sums);
		}
	}
	if (blocks > 1)
		simt_cluster_sync();
}

/* --- its launch ------------------------------------------------------------------------------------------------ */

template <class kind, int width, int groups, bool segmented, int slot_count>
static cudaError_t linear_start(const struct linear_launch *l, const struct linear_job &job)
{
	linear_slots<slot_count> list = {};
	memcpy(list.at, l->slots, job.group_count * sizeof(*l->slots));
	return SIMT_LAUNCH_CLUSTER((linear_tiles<kind, width, groups, segmented, slot_count>), LINEAR_BLOCKS(width), dim3(l->grid),
				   dim3(LINEAR_THREADS(groups)), l->shared, l->stream, l->weights, l->inputs, l->scales, job, list);
}

#define LINEAR_VARIANT(kind, width, groups, segmented, slots)                                          \
	{width, groups, segmented, (slots) > 1, kind::boxes<width, groups>, kind::row_bytes,             \
	 linear_start<kind, width, groups, segmented, slots>,                                           \
	 reinterpret_cast<const void *>(linear_tiles<kind, width, groups, segmented, slots>)}
/* Of one linear, and of as many as there may be. */
#define LINEAR_VARIANTS(kind, width, groups, segmented) \
	LINEAR_VARIANT(kind, width, groups, segmented, 1), LINEAR_VARIANT(kind, width, groups, segmented, MOE_EXPERTS_MAX)
#endif

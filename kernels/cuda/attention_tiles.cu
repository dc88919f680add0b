/* attention_tiles - attention over bf16 KV on tensor cores: one kernel for decode rows, prompt chunks and latents.
 *
 * A block takes items (attention_plan.h) one after the other. 64 packed rows (rows of a run times the heads of a kv head's group)
 * are the M of every product, for one row as for a thousand: so the bits of a row are the same in all. For each tile of 64
 * positions: S = Q K^T (wgmma m64n64k16, head_dim ascending), the weights relative to a level that the split's scores
 * set (struct softening), rounded to bf16 in registers, and sums += P V. Warpgroups share tiles of keys and values: they differ in their rows, or,
 * where a value is too wide for the registers of one, in their columns of it; those then take turns at scores (latents of up to
 * 576 dimensions), or compute the same scores each. */
#include <assert.h>
#include "kernels/cuda/attention_tiles.h"
#include "kernels/cuda/simt_wgmma.h"

#define SCORES	      (ATTENTION_TILE / 2) /* of a thread */
#define KEY_STEP      16		   /* dimensions of one wgmma */
#define OCTET_BYTES   1024		   /* 8 lines of a panel */
#define OPERAND_UNIT  16		   /* bytes that 1 more in an operand's address is */
#define GROUP_BARRIER 1			   /* named, of row group 0; the next group's follow */
#define LATENT_PANELS 9			   /* to 576 dimensions: tiles that are keys and values at once, and a block holds two */
#define ROWS_FEW      256		   /* packed rows of a run that the small block takes, in tiles of 64 */

/* head_dim of at most 64 panels dimensions; a warpgroup computes `columns` of the value; rows: tiles of 64 packed rows. */
template <int panels, int columns, int rows, int values> struct form {
	static constexpr int groups = rows * values;
	static constexpr int threads = WARPGROUP * (groups + 1);
	static constexpr bool half = groups == 1 && columns <= 128; /* of a multiprocessor */
	static constexpr int blocks = half ? 2 : 1;
	static constexpr bool totals_far = columns > 128; /* the walk's sums lie in memory: two sets fill no registers */
	static constexpr bool moves_registers = half || groups > 1;
	/* 65536 registers: 2 x (40 + 216) x 128, (40 + 2 x 232) x 128 or (56 + 2 x 224) x 128. */
	static constexpr int load_registers = columns > 128 ? 56 : 40;
	static constexpr int compute_registers = half ? 216 : columns > 128 ? 224 : 232;
	static constexpr int launch_registers = 65536 / (blocks * threads) / 8 * 8;
	static_assert(!moves_registers || load_registers + groups * compute_registers <= (groups + 1) * launch_registers,
		      "a warpgroup that raises its registers waits until the block has as many");
};

/* What a thread computes: rows r and r + 8 of its warp's 16, of each 8 columns two. */
struct thread_rows {
	uint32_t packed[2]; /* of the run */
	uint32_t low[2], end[2]; /* positions that each sees; none: 0, 0 */
	uint32_t group_low, group_end; /* that any row of the 64 sees */
	uint32_t all_low, all_end;     /* that all see */
	uint32_t first, count;	       /* of the 64 packed rows, those that there are */
	bool idle;		       /* the warp has no row */
};

SIMT_DEVICE struct thread_rows rows_of(const struct attention_job *job, const struct plan_item *item, uint32_t row_group)
{
	struct thread_rows rows = {};
	uint32_t before = row_group * ATTENTION_TILE, warp_row = simt_warp() % LOAD_WARPS * WARP_ROWS;
	rows.first = item->row_first + before;
	rows.count = item->row_count > before ? item->row_count - before : 0;
	rows.count = rows.count < ATTENTION_TILE ? rows.count : ATTENTION_TILE;
	rows.idle = warp_row >= rows.count;
	if (rows.count == 0)
		return rows;
	uint32_t position = item->run.first_position + rows.first / job->group;
	uint32_t last = item->run.first_position + (rows.first + rows.count - 1) / job->group;
	rows.group_low = attention_low(job, position);
	rows.group_end = last + 1;
	rows.all_low = attention_low(job, last);
	rows.all_end = position + 1;
	SIMT_UNROLL
	for (int i = 0; i < 2; i++) {
		uint32_t row = warp_row + simt_lane() / 4 + 8 * i;
		rows.packed[i] = rows.first + row;
		if (row >= rows.count)
			continue;
		position = item->run.first_position + rows.packed[i] / job->group;
		rows.low[i] = attention_low(job, position);
		rows.end[i] = position + 1;
	}
	return rows;
}

/* --- one tile ------------------------------------------------------------------------------------------------ */

/* An operand of wgmma and those some bytes behind it: the address is in the low word, and the high word is a constant. */
struct operand {
	uint32_t low, high;
};

SIMT_DEVICE struct operand operand_of(const uint8_t *tile, uint32_t leading_bytes)
{
	uint64_t whole = simt_wgmma_operand(tile, leading_bytes, OCTET_BYTES);
	return {simt_anew((uint32_t)whole), (uint32_t)(whole >> 32)};
}

SIMT_DEVICE uint64_t operand_at(struct operand operand, uint32_t bytes)
{
	return (uint64_t)operand.high << 32 | (operand.low + bytes / OPERAND_UNIT);
}

/* All panels whole: dimensions that a head has not are zeros in both. */
template <int panels>
SIMT_DEVICE void scores(const uint8_t *queries, const uint8_t *keys, float (&s)[SCORES])
{
	struct operand a = operand_of(queries, 0), b = operand_of(keys, 0);
	simt_wgmma_fence();
	SIMT_UNROLL
	for (int i = 0; i < 4 * panels; i++) {
		uint32_t offset = i / 4 * PANEL_BYTES + i % 4 * 2 * KEY_STEP;
		simt_wgmma<ATTENTION_TILE>(s, operand_at(a, offset), operand_at(b, offset), i > 0);
	}
	simt_wgmma_commit();
}

/* cap * tanh(score / cap), tanh by exp2: good to some 1e-7 of the cap. */
SIMT_DEVICE float capped(float score, float cap)
{
	float x = score / cap, e = simt_exp2_fast(-2.0f * LOG2_E * fabsf(x)), tanh = (1.0f - e) / (1.0f + e);
	return cap * (x < 0.0f ? -tanh : tanh);
}

SIMT_DEVICE void hide(const struct thread_rows *rows, uint32_t tile, float (&s)[SCORES])
{
	SIMT_UNROLL
	for (int i = 0; i < SCORES; i++) {
		uint32_t position = tile + i / 4 * 8 + simt_lane() % 4 * 2 + i % 2;
		bool seen = position >= rows->low[i / 2 % 2] && position < rows->end[i / 2 % 2];
		s[i] = seen ? s[i] : -INFINITY;
	}
}

/* Of the split so far: rows r and r + 8. The level, in units of log 2, is that of the first score seen; it moves to the greatest
 * of a tile that is over it by more than LEVEL_STEP. So weights are at most 2^LEVEL_STEP, as exact as others, and sums need
 * seldom be multiplied. It follows from the row's own scores. */
#define LEVEL_STEP 8.0f
struct softening {
	float level[2];
	float sum[2];	/* of this thread's columns */
};

/* Scores to weights in bf16, as the A operand of four products; returns what sums so far are multiplied by. */
SIMT_DEVICE void soften(float unit, float (&s)[SCORES], struct softening *so_far, uint32_t (&weights)[4][4], float (&ret_by)[2])
{
	SIMT_UNROLL
	for (int row = 0; row < 2; row++) {
		float greatest = -INFINITY, even = 0.0f, odd = 0.0f;
		SIMT_UNROLL
		for (int i = 0; i < SCORES; i += 4)
			greatest = fmaxf(greatest, fmaxf(s[i + 2 * row], s[i + 2 * row + 1]));
		greatest = fmaxf(greatest, simt_shuffle_xor(greatest, 1));
		greatest = fmaxf(greatest, simt_shuffle_xor(greatest, 2));
		float old = so_far->level[row], level = greatest * unit;
		level = level > old + LEVEL_STEP || old == -INFINITY ? level : old;
		float base = level == -INFINITY ? 0.0f : level;
		ret_by[row] = old == -INFINITY ? 1.0f : simt_exp2_fast(old - base); /* 1: of nothing */
		SIMT_UNROLL
		for (int i = 0; i < SCORES; i += 4) {
			const float *pair = &s[i + 2 * row];
			uint32_t halves = simt_bf16_pair(simt_exp2_fast(simt_fma(pair[0], unit, -base)),
							 simt_exp2_fast(simt_fma(pair[1], unit, -base)));
			even += simt_bf16_low(halves); /* as values are weighted, so that the whole is 1 */
			odd += simt_bf16_high(halves);
			weights[i / 8][i % 8 / 4 * 2 + row] = halves;
		}
		so_far->level[row] = level;
		so_far->sum[row] = simt_fma(so_far->sum[row], ret_by[row], even + odd);
	}
}

template <int count> SIMT_DEVICE void rescale(float (&sums)[count], const float (&by)[2])
{
	if (!simt_any(by[0] != 1.0f || by[1] != 1.0f))
		return; /* no bit changes: for most tiles of a long split */
	SIMT_UNROLL
	for (int i = 0; i < count; i++)
		sums[i] *= by[i / 2 % 2];
}

template <int columns>
SIMT_DEVICE void add_values(const uint32_t (&weights)[4][4], const uint8_t *values, float (&sums)[columns / 2])
{
	struct operand b = operand_of(values, PANEL_BYTES);
	simt_wgmma_fence();
	SIMT_UNROLL
	for (int k = 0; k < 4; k++)
		simt_wgmma_registers<columns, SIMT_MN_MAJOR>(sums, weights[k], operand_at(b, k * 2 * OCTET_BYTES), true);
	simt_wgmma_commit();
}

/* --- a warpgroup that computes --------------------------------------------------------------------------------- */

struct computer {
	const struct attention_job *job;
	const struct tiles_shape *shape;
	struct tiles_memory memory;
	struct ring next;
	uint8_t *queries;      /* of its row group */
	uint32_t thread;       /* of the warpgroup */
	uint32_t value_offset; /* bytes in a tile to its columns of the values */
	uint32_t column_first;
	float *totals; /* [columns / 2][128]: sums of the walk, where they are not in registers */
};

SIMT_DEVICE const uint8_t *slot_wait(const struct computer *computer)
{
	simt_mbarrier_wait(&computer->memory.tail->full[computer->next.slot], computer->next.parity);
	return computer->memory.slots + computer->next.slot * computer->shape->panels * PANEL_BYTES;
}

SIMT_DEVICE void slot_release(struct computer *computer)
{
	simt_sync_warp();
	if (simt_lane() == 0)
		simt_mbarrier_arrive(&computer->memory.tail->empty[computer->next.slot]);
	ring_next(&computer->next, computer->shape->slots);
}

/* Lets the tile pass: no row of the warpgroup sees it. */
SIMT_DEVICE void pass(struct computer *computer)
{
	slot_wait(computer);
	slot_release(computer);
	if (computer->job->value_offset > 0) {
		slot_wait(computer);
		slot_release(computer);
	}
}

/* From a tile's scores, which it may change: the weights, the state after them, and what the sums before it are multiplied by. */
SIMT_DEVICE void weigh_scores(const struct attention_job *job, const struct thread_rows *rows, uint32_t tile, float (&s)[SCORES],
			      struct softening *so_far, uint32_t (&weights)[4][4], float (&by)[2])
{
	float unit = job->cap > 0.0f ? LOG2_E : job->scale * LOG2_E;
	if (job->cap > 0.0f) {
		SIMT_UNROLL
		for (int i = 0; i < SCORES; i++)
			s[i] = capped(s[i] * job->scale, job->cap);
	}
	if (tile < rows->all_low || tile + ATTENTION_TILE > rows->all_end)
		hide(rows, tile, s);
	soften(unit, s, so_far, weights, by);
}

template <int panels, int columns>
SIMT_DEVICE void do_tile(struct computer *computer, const struct thread_rows *rows, uint32_t tile, struct softening *so_far,
			 float (&sums)[columns / 2])
{
	const struct attention_job *job = computer->job;
	float s[SCORES], by[2] = {1.0f, 1.0f};
	uint32_t weights[4][4] = {};
	const uint8_t *at = slot_wait(computer);
	scores<panels>(computer->queries, at, s);
	simt_wgmma_wait<0>();
	simt_wgmma_hold(s);
	if (job->value_offset > 0)
		slot_release(computer);
	if (!rows->idle) {
		weigh_scores(job, rows, tile, s, so_far, weights, by);
		rescale(sums, by);
	}
	if (job->value_offset > 0)
		at = slot_wait(computer);
	add_values<columns>(weights, at + computer->value_offset, sums);
	simt_wgmma_wait<0>();
	simt_wgmma_hold(sums);
	slot_release(computer);
}

/* --- one tile, by two warpgroups -------------------------------------------------------------------------------- */

/* Two warpgroups with the same rows and a half of the columns each take turns at scores: one computes a tile's weights and goes on
 * with them as usual, and the other gets them by mail: a thread from the one of its own number, with the state of its rows, for the
 * next tile's weights follow from it. Mail lies in the second-level cache, for queries and two tiles of latents fill shared
 * memory. A warpgroup has two letter boxes and writes into them in turn: into one again after the other's letter of two tiles
 * later has come, which was sent after this one was read. So it needs no barrier to say that it is empty. */
#define MAIL_BARRIER (GROUP_BARRIER + 2) /* of the first warpgroup's letters; the other's follows */

/* Of the two slots each has a warpgroup that computes the weights of what is in it. */
SIMT_DEVICE uint32_t own_slot(const struct computer *computer)
{
	return computer->value_offset > 0;
}

/* Of the tile at a place in the ring: four boxes by turns, each warpgroup two. */
SIMT_DEVICE uint32_t *letter_of(const struct computer *computer, struct ring place)
{
	uint32_t box = blockIdx.x * 4 + place.parity * 2 + place.slot;
	return computer->job->mail + (size_t)box * ATTENTION_MAIL_WORDS * WARPGROUP + computer->thread;
}

SIMT_DEVICE void send(const struct computer *computer, struct ring place, const struct softening &so_far,
		      const uint32_t (&weights)[4][4], const float (&by)[2])
{
	uint32_t *to = letter_of(computer, place);
	SIMT_UNROLL
	for (int i = 0; i < 16; i++)
		to[i * WARPGROUP] = weights[i / 4][i % 4];
	SIMT_UNROLL
	for (int row = 0; row < 2; row++) {
		to[(16 + row) * WARPGROUP] = simt_bits(so_far.level[row]);
		to[(18 + row) * WARPGROUP] = simt_bits(so_far.sum[row]);
		to[(20 + row) * WARPGROUP] = simt_bits(by[row]);
	}
	simt_barrier_arrive(MAIL_BARRIER + (int)place.slot, 2 * WARPGROUP);
}

/* The letter of the oldest tile has come: the state after it. */
SIMT_DEVICE void receive(const struct computer *computer, struct softening *so_far)
{
	const uint32_t *from = letter_of(computer, computer->next);
	simt_barrier_sync(MAIL_BARRIER + (int)computer->next.slot, 2 * WARPGROUP);
	SIMT_UNROLL
	for (int row = 0; row < 2; row++) {
		so_far->level[row] = simt_float(from[(16 + row) * WARPGROUP]);
		so_far->sum[row] = simt_float(from[(18 + row) * WARPGROUP]);
	}
}

/* The oldest tile that the warpgroup holds, by its weights. */
template <int columns>
SIMT_DEVICE void weigh(struct computer *computer, const uint32_t (&weights)[4][4], const float (&by)[2], float (&sums)[columns / 2])
{
	rescale(sums, by);
	add_values<columns>(weights, slot_wait(computer) + computer->value_offset, sums);
	simt_wgmma_wait<0>();
	simt_wgmma_hold(sums);
	slot_release(computer);
}

template <int columns> SIMT_DEVICE void weigh_by_letter(struct computer *computer, float (&sums)[columns / 2])
{
	const uint32_t *from = letter_of(computer, computer->next);
	const float by[2] = {simt_float(from[20 * WARPGROUP]), simt_float(from[21 * WARPGROUP])};
	uint32_t weights[4][4];
	SIMT_UNROLL
	for (int i = 0; i < 16; i++)
		weights[i / 4][i % 4] = from[i * WARPGROUP];
	weigh<columns>(computer, weights, by, sums);
}

/* Scores of the warpgroup's own tile first: they wait for nobody. Then the state after the tile before, the weights of its own, and
 * the values of both. */
template <int panels, int columns>
SIMT_DEVICE void do_own_tile(struct computer *computer, const struct thread_rows *rows, uint32_t tile, bool owed,
			     struct softening *so_far, float (&sums)[columns / 2])
{
	const struct attention_job *job = computer->job;
	float s[SCORES], by[2] = {1.0f, 1.0f};
	uint32_t weights[4][4] = {};
	const struct ring place = {own_slot(computer), computer->next.parity ^ (computer->next.slot & (uint32_t)owed)};
	simt_mbarrier_wait(&computer->memory.tail->full[place.slot], place.parity);
	scores<panels>(computer->queries, computer->memory.slots + place.slot * (panels * PANEL_BYTES), s);
	simt_wgmma_wait<0>();
	simt_wgmma_hold(s);
	if (owed)
		receive(computer, so_far);
	if (!rows->idle)
		weigh_scores(job, rows, tile, s, so_far, weights, by);
	send(computer, place, *so_far, weights, by);
	if (owed)
		weigh_by_letter<columns>(computer, sums);
	weigh<columns>(computer, weights, by, sums);
}

/* Of one row group, all of whose tiles some row sees. */
template <int panels, int columns>
SIMT_DEVICE void do_tiles_in_turn(struct computer *computer, const struct thread_rows *rows, uint32_t first, uint32_t end,
				  struct softening *so_far, float (&sums)[columns / 2])
{
	bool owed = false; /* a letter of the other's */
	for (uint32_t tile = first; tile < end; tile += ATTENTION_TILE) {
		bool own = (computer->next.slot + owed) % 2 == own_slot(computer);
		if (own)
			do_own_tile<panels, columns>(computer, rows, tile, owed, so_far, sums);
		owed = !own;
	}
	if (owed) {
		receive(computer, so_far);
		weigh_by_letter<columns>(computer, sums);
	}
}

template <int panels, int columns>
SIMT_DEVICE void do_split(struct computer *computer, const struct plan_item *item, const struct thread_rows *rows, uint32_t split,
			  struct attention_sum (&ret_sum)[2], float (&sums)[columns / 2])
{
	struct softening so_far = {{-INFINITY, -INFINITY}, {0.0f, 0.0f}};
	uint32_t positions = attention_split(computer->job), first = split * positions, end = first + positions;
	uint32_t low = item->low / ATTENTION_TILE * ATTENTION_TILE;
	first = first > low ? first : low;
	end = end < item->end ? end : item->end;
	SIMT_UNROLL
	for (int i = 0; i < columns / 2; i++)
		sums[i] = 0.0f;
	if constexpr (panels == LATENT_PANELS)
		do_tiles_in_turn<panels, columns>(computer, rows, first, end, &so_far, sums);
	for (uint32_t tile = first; panels != LATENT_PANELS && tile < end; tile += ATTENTION_TILE) {
		if (tile + ATTENTION_TILE > rows->group_low && tile < rows->group_end)
			do_tile<panels, columns>(computer, rows, tile, &so_far, sums);
		else
			pass(computer);
	}
	SIMT_UNROLL
	for (int row = 0; row < 2; row++) {
		float sum = so_far.sum[row];
		sum += simt_shuffle_xor(sum, 1);
		sum += simt_shuffle_xor(sum, 2);
		ret_sum[row] = {so_far.level[row], sum};
	}
}

/* Column and row of sum i of a thread. */
SIMT_DEVICE uint32_t column_of(const struct computer *computer, int i)
{
	return computer->column_first + i / 4 * 8 + simt_lane() % 4 * 2;
}

template <int columns>
SIMT_DEVICE void write_partial(const struct computer *computer, const struct plan_item *item, const struct thread_rows *rows,
			       const struct attention_sum (&sum)[2], const float (&sums)[columns / 2])
{
	const struct attention_job *job = computer->job;
	SIMT_UNROLL
	for (int row = 0; row < 2; row++) {
		if (rows->end[row] == 0)
			continue;
		size_t partial = item->partial + rows->packed[row] - item->row_first;
		if (simt_lane() % 4 == 0 && computer->column_first == 0)
			job->stats[partial] = make_float2(sum[row].level, sum[row].sum);
		SIMT_UNROLL
		for (int i = 2 * row; i < columns / 2; i += 4) {
			uint32_t column = column_of(computer, i);
			if (column < job->value_dim)
				*(float2 *)&job->values[partial * job->value_dim + column] = make_float2(sums[i], sums[i + 1]);
		}
	}
}

SIMT_DEVICE void write_pair(const struct attention_job *job, size_t at, float first, float second)
{
	if (job->out_bf16)
		*(uint32_t *)((uint16_t *)job->out + at) = simt_bf16_pair(first, second);
	else
		*(float2 *)((float *)job->out + at) = make_float2(first, second);
}

/* The sums of a walk take those of a split in. They are in registers, or in memory where two sets fill no registers. */
template <int columns, bool far>
SIMT_DEVICE void join_totals(const struct computer *computer, float (&total)[far ? 1 : columns / 2],
			     const float (&sums)[columns / 2], const struct attention_factors (&by)[2], bool is_first)
{
	SIMT_UNROLL
	for (int i = 0; i < columns / 2; i++) {
		float *at = far ? computer->totals + i * WARPGROUP + computer->thread : &total[far ? 0 : i];
		*at = attention_join_value(is_first ? 0.0f : *at, sums[i], by[i / 2 % 2]);
	}
}

template <int columns, bool far>
SIMT_DEVICE void write_answer(const struct computer *computer, const struct plan_item *item, const struct thread_rows *rows,
			      const struct attention_sum (&sum)[2], const float (&total)[far ? 1 : columns / 2])
{
	const struct attention_job *job = computer->job;
	SIMT_UNROLL
	for (int row = 0; row < 2; row++) {
		if (rows->end[row] == 0)
			continue;
		uint32_t head = item->head_kv * job->group + rows->packed[row] % job->group;
		size_t batch_row = item->run.row_first + rows->packed[row] / job->group;
		size_t at = batch_row * job->out_stride + (size_t)head * job->value_dim;
		float share = attention_share(job, sum[row], head);
		SIMT_UNROLL
		for (int i = 2 * row; i < columns / 2; i += 4) {
			const float *pair = far ? computer->totals + i * WARPGROUP + computer->thread : &total[far ? 0 : i];
			uint32_t column = column_of(computer, i);
			if (column < job->value_dim)
				write_pair(job, at + column, pair[0] * share, pair[far ? WARPGROUP : 1] * share);
		}
	}
}

template <int panels, int columns, bool far>
SIMT_DEVICE void do_item(struct computer *computer, const struct plan_item *item, uint32_t row_group)
{
	struct thread_rows rows = rows_of(computer->job, item, row_group);
	struct attention_sum all[2] = {{-INFINITY, 0.0f}, {-INFINITY, 0.0f}}, sum[2];
	float total[far ? 1 : columns / 2], sums[columns / 2];
	for (uint32_t split = item->split_first; split < item->split_end; split++) {
		do_split<panels, columns>(computer, item, &rows, split, sum, sums);
		if (item->partial != ATTENTION_WALKED) { /* the only one */
			write_partial<columns>(computer, item, &rows, sum, sums);
			return;
		}
		const struct attention_factors by[2] = {attention_join(&all[0], sum[0]), attention_join(&all[1], sum[1])};
		join_totals<columns, far>(computer, total, sums, by, split == item->split_first);
	}
	write_answer<columns, far>(computer, item, &rows, all, total);
}

/* --- the kernel -------------------------------------------------------------------------------------------------- */

template <int panels, int columns, int rows, int values>
SIMT_DEVICE void compute(const struct attention_job *job, const struct tiles_shape *shape, const struct plan_limits *limits,
			 struct tiles_memory memory, uint32_t item_count)
{
	using form = form<panels, columns, rows, values>;
	uint32_t group = threadIdx.x / WARPGROUP - 1, row_group = group / values, value_group = group % values;
	struct computer computer = {job, shape, memory, {0, 0}};
	computer.queries = memory.queries + row_group * shape->panels * PANEL_BYTES;
	computer.thread = threadIdx.x % WARPGROUP;
	computer.column_first = value_group * columns;
	computer.value_offset = value_group * (columns / PANEL_DIM) * PANEL_BYTES;
	computer.totals = job->totals + (size_t)(blockIdx.x * form::groups + group) * (columns / 2) * WARPGROUP;
	for (uint32_t number = blockIdx.x; number < item_count; number += gridDim.x) {
		struct plan_item item = plan_item_at(job, limits, &memory.tail->plan, number);
		if (item.split_first == item.split_end)
			continue;
		uint32_t first = item.row_first + row_group * ATTENTION_TILE, end = item.row_first + item.row_count;
		/* Both warpgroups of the rows are through with the queries of before. */
		simt_barrier_sync(GROUP_BARRIER + (int)row_group, WARPGROUP * values);
		queries_load(job, &item, first, first < end ? end - first : 0, computer.queries,
			     value_group * WARPGROUP + computer.thread, WARPGROUP * values);
		simt_barrier_sync(GROUP_BARRIER + (int)row_group, WARPGROUP * values);
		do_item<panels, columns, form::totals_far>(&computer, &item, row_group);
	}
}

template <int panels>
SIMT_DEVICE void load(const struct attention_job *job, const struct tiles_shape *shape, const struct plan_limits *limits,
		      struct tiles_memory memory, uint32_t item_count)
{
	struct loader loader = {job, shape, memory, {0, 0}, {0, 0}, 0};
	for (uint32_t number = blockIdx.x; number < item_count; number += gridDim.x) {
		struct plan_item item = plan_item_at(job, limits, &memory.tail->plan, number);
		loader_item<panels>(&loader, &item);
	}
	loader_end(&loader);
}

SIMT_DEVICE void clear(uint8_t *from, const void *to)
{
	for (uint4 *at = (uint4 *)from + threadIdx.x; (const void *)at < to; at += blockDim.x)
		*at = make_uint4(0, 0, 0, 0);
	simt_fence_async();
}

template <int panels, int columns, int rows, int values>
SIMT_KERNEL_OF(attention_kernel, (form<panels, columns, rows, values>::threads),
	       (form<panels, columns, rows, values>::blocks))
(SIMT_GRID_CONSTANT struct attention_job job, SIMT_GRID_CONSTANT struct tiles_shape shape,
 SIMT_GRID_CONSTANT struct plan_limits limits)
{
	using form = form<panels, columns, rows, values>;
	SIMT_DYNAMIC_SHARED(uint8_t, shared);
	struct tiles_memory memory = tiles_memory_of(shared, &shape, rows);
	if (threadIdx.x < shape.slots) {
		simt_mbarrier_init(&memory.tail->full[threadIdx.x], LOAD_WARPS);
		simt_mbarrier_init(&memory.tail->empty[threadIdx.x], form::groups * LOAD_WARPS);
		simt_mbarrier_fence_init();
	}
	if (job.head_dim < panels * PANEL_DIM)
		clear(memory.queries, memory.tail); /* what no copy writes is zero: dimensions that a head has not */
	uint32_t item_count = plan_make(&job, &limits, &memory.tail->plan); /* and a barrier of all */
	if (threadIdx.x < WARPGROUP) {
		if (form::moves_registers)
			simt_registers_lower<form::load_registers>();
		load<panels>(&job, &shape, &limits, memory, item_count);
	} else {
		if (form::moves_registers)
			simt_registers_raise<form::compute_registers>();
		compute<panels, columns, rows, values>(&job, &shape, &limits, memory, item_count);
	}
}

/* --- the host's side ------------------------------------------------------------------------------------------------ */

#define SHARED_BLOCK_EXTRA 1024 /* that a block takes besides */

/* As many slots as fit; half the multiprocessor's memory if that is enough for a ring that flows. */
static struct tiles_shape shape_of(const struct cuda_device *device, uint32_t panels, uint32_t row_groups, bool half,
				   size_t *ret_bytes)
{
	size_t tile = (size_t)panels * PANEL_BYTES, fixed = row_groups * tile + sizeof(struct tiles_tail), room = device->shared_max;
	size_t halved = (room + SHARED_BLOCK_EXTRA) / 2 - SHARED_BLOCK_EXTRA;
	room = half ? halved : room;
	assert(room >= fixed + tile);
	size_t slots = (room - fixed) / tile;
	slots = slots < TILE_SLOTS_MAX ? slots : TILE_SLOTS_MAX;
	*ret_bytes = fixed + slots * tile;
	return {panels, (uint32_t)slots};
}

template <int panels, int columns, int rows, int values>
static void launch(struct cuda_device *device, const struct attention_job *job, struct plan_limits limits)
{
	using form = form<panels, columns, rows, values>;
	size_t bytes, totals = form::totals_far ? sizeof(float) * columns / 2 * WARPGROUP * form::groups : 1;
	struct tiles_shape shape = shape_of(device, panels, rows, form::half, &bytes);
	size_t grid = (size_t)device->sm_count * form::blocks, grid_max = ATTENTION_TOTAL_BYTES / totals;
	assert(panels != LATENT_PANELS || (shape.slots == 2 && job->value_offset == 0));
	assert(panels != LATENT_PANELS || grid * 4 * ATTENTION_MAIL_WORDS * WARPGROUP * sizeof(uint32_t) <= ATTENTION_MAIL_BYTES);
	limits.tile_rows = rows * ATTENTION_TILE;
	cuda_allow_shared(device, (const void *)attention_kernel<panels, columns, rows, values>, bytes);
	SIMT_LAUNCH((attention_kernel<panels, columns, rows, values>), dim3(grid < grid_max ? grid : grid_max),
		    dim3(form::threads), bytes, device->stream, *job, shape, limits);
	cuda_launched(device, "attention");
}

/* Runs of few rows through the small block, the others through that with two row groups. */
template <int panels>
static void launch_both(struct cuda_device *device, const struct attention_job *job, uint32_t rows_longest)
{
	uint32_t half = job->partial_rows / 2;
	if (rows_longest <= ROWS_FEW) {
		launch<panels, panels * PANEL_DIM, 1, 1>(device, job, {0, ROWS_FEW, 0, 0, job->partial_rows});
		return;
	}
	launch<panels, panels * PANEL_DIM, 1, 1>(device, job, {0, ROWS_FEW, 0, 0, half});
	launch<panels, panels * PANEL_DIM, 2, 1>(device, job, {ROWS_FEW, UINT32_MAX, 0, half, half});
}

void attention_tiles(struct device *base, const struct attention_job *job, uint32_t rows_longest)
{
	struct cuda_device *device = cuda_of(base);
	const struct plan_limits all = {0, UINT32_MAX, 0, 0, job->partial_rows};
	uint32_t packed = rows_longest * job->group, panels = (job->head_dim + PANEL_DIM - 1) / PANEL_DIM;
	if (panels <= 1)
		launch_both<1>(device, job, packed);
	else if (panels <= 2)
		launch_both<2>(device, job, packed);
	else if (panels <= 4)
		launch_both<4>(device, job, packed);
	else if (panels <= 8)
		launch<8, 256, 1, 2>(device, job, all);
	else if (panels <= 9)
		launch<9, 256, 1, 2>(device, job, all);
	else
		launch<10, 256, 1, 2>(device, job, all);
}

/* attention_tiles - attention over bf16 KV on tensor cores: one kernel for decode rows, prompt chunks and latents.
 *
 * A block takes items (attention_plan.h) one after the other. 64 packed rows (rows of a run times the heads of a kv head's group)
 * are the M of every product, for one row as for a thousand: so the bits of a row are the same in all. For each tile of 64
 * positions: S = Q K^T (wgmma m64n64k16, head_dim ascending), the weights (attention_weights.h), rounded to bf16 in registers,
 * and sums += P V. Warpgroups share tiles of keys and values: they differ in their rows, or,
 * where a value is too wide for the registers of one, in their columns of it; those then take turns at scores (latents of up to
 * 576 dimensions), or compute the same scores each. */
#include <assert.h>
#include "kernels/cuda/attention_load.h"
#include "kernels/cuda/attention_weights.h"
#include "kernels/cuda/simt_wgmma.h"
#include "kernels/cuda/tensor_map.h"

#define KEY_STEP      16		   /* dimensions of one wgmma */
#define OCTET_BYTES   1024		   /* 8 lines of a panel */
#define OPERAND_UNIT  16		   /* bytes that 1 more in an operand's address is */
#define GROUP_BARRIER 1			   /* named, of row group 0; the next group's follow */
#define LATENT_PANELS 9			   /* to 576 dimensions: tiles that are keys and values at once, and a block holds two */
#define SLOTS_PANELS_MAX 9		   /* of more a block holds one slot */
#define ROWS_FEW      256		   /* packed rows of a run that the small block takes, in tiles of 64 */

/* head_dim of at most 64 panels dimensions; a warpgroup computes `columns` of the value; rows: tiles of 64 packed rows. */
template <int panels, int columns, int rows, int values> struct form {
	static constexpr int groups = rows * values;
	static constexpr int threads = WARPGROUP * (groups + 1);
	static constexpr bool half = groups == 1 && columns <= 128; /* of a multiprocessor */
	static constexpr int blocks = half ? 2 : 1;
	static constexpr bool totals_far = columns > 128; /* the walk's sums lie in memory: two sets fill no registers */
	static constexpr bool holds = panels == 1 || (panels == 2 && !half); /* where registers have room for a panel of queries */
	static constexpr bool moves_registers = half || groups > 1;
	/* 65536 registers: 2 x (48 + 208) x 128, (56 + 2 x 224) x 128 or (56 + 3 x 152) x 128. */
	static constexpr int load_registers = half ? 48 : 56;
	static constexpr int compute_registers = half ? 208 : groups == 3 ? 152 : 224;
	static constexpr int launch_registers = 65536 / (blocks * threads) / 8 * 8;
	static_assert(!moves_registers || load_registers + groups * compute_registers <= (groups + 1) * launch_registers,
		      "a warpgroup that raises its registers waits until the block has as many");
};

SIMT_DEVICE struct thread_rows rows_of(const struct attention_job *job, const struct plan_item *item, uint32_t row_group)
{
	struct thread_rows rows = {};
	uint32_t before = row_group * ATTENTION_TILE;
	rows.first = item->row_first + before;
	rows.count = item->row_count > before ? item->row_count - before : 0;
	rows.count = rows.count < ATTENTION_TILE ? rows.count : ATTENTION_TILE;
	if (rows.count == 0)
		return rows;
	rows.position = item->run.first_position + rows.first / job->group;
	rows.last = item->run.first_position + (rows.first + rows.count - 1) / job->group;
	SIMT_UNROLL
	for (int i = 0; i < 2; i++)
		if (thread_row(i) < rows.count)
			rows.end[i] = item->run.first_position + (rows.first + thread_row(i)) / job->group + 1;
	return rows;
}

/* The warp has no row. */
SIMT_DEVICE bool is_idle(const struct thread_rows *rows)
{
	return simt_warp() % LOAD_WARPS * WARP_ROWS >= rows->count;
}

/* --- one tile ------------------------------------------------------------------------------------------------ */

/* An operand of wgmma and those some bytes behind it: the address is in the low word, and the high word is a constant. */
struct operand {
	uint32_t low, high;
};

SIMT_DEVICE struct operand operand_of(const uint8_t *tile, uint32_t leading_bytes)
{
	uint64_t whole = simt_wgmma_operand(tile, leading_bytes, OCTET_BYTES);
	return {(uint32_t)whole, (uint32_t)(whole >> 32)};
}

SIMT_DEVICE struct operand operand_behind(struct operand operand, uint32_t bytes)
{
	return {simt_anew(operand.low + bytes / OPERAND_UNIT), operand.high};
}

SIMT_DEVICE uint64_t operand_at(struct operand operand, uint32_t bytes)
{
	return (uint64_t)operand.high << 32 | (operand.low + bytes / OPERAND_UNIT);
}

/* A panel of queries as A operands: rows of the warp, 16 dimensions each. */
SIMT_DEVICE void hold_queries(const uint8_t *queries, uint32_t (&held)[4][4])
{
	uint32_t row = simt_warp() % LOAD_WARPS * WARP_ROWS + simt_lane() % 16, half = simt_lane() / 16;
	SIMT_UNROLL
	for (uint32_t k = 0; k < 4; k++)
		simt_ldmatrix_x4(held[k], queries + tile_offset(row, 2 * k + half));
}

/* All panels whole: dimensions that a head has not are zeros in both. The first panel of queries may be held. */
template <int panels, bool held_first>
SIMT_DEVICE void scores(const uint32_t (&held)[4][4], struct operand a, struct operand b, float (&s)[SCORES])
{
	simt_wgmma_fence();
	SIMT_UNROLL
	for (int i = 0; i < 4 * panels; i++) {
		uint32_t offset = i / 4 * PANEL_BYTES + i % 4 * 2 * KEY_STEP;
		if (held_first && i < 4)
			simt_wgmma_registers<ATTENTION_TILE>(s, held[i % 4], operand_at(b, offset), i > 0);
		else
			simt_wgmma<ATTENTION_TILE>(s, operand_at(a, offset), operand_at(b, offset), i > 0);
	}
	simt_wgmma_commit();
}

template <int columns>
SIMT_DEVICE void add_values(const uint32_t (&weights)[4][4], struct operand b, float (&sums)[columns / 2])
{
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
	struct operand queries;	     /* of its row group, in shared memory */
	uint32_t held[4][4];	     /* their first panel in registers: products then read shared memory for keys alone */
	struct operand keys, values; /* of the first slot; of the values its columns */
	uint32_t thread;	     /* of the warpgroup */
	uint32_t column_first;
	float *totals; /* [columns / 2][128]: sums of the walk, where they are not in registers */
};

SIMT_DEVICE void slot_wait(const struct computer *computer, struct ring place)
{
	simt_mbarrier_wait(&computer->memory.tail->full[place.slot], place.parity);
}

SIMT_DEVICE void slot_release(struct computer *computer)
{
	simt_sync_warp();
	if (simt_lane() == 0)
		simt_mbarrier_arrive(&computer->memory.tail->empty[computer->next.slot]);
	ring_next(&computer->next, computer->shape->slots);
}

SIMT_DEVICE struct ring ring_after(const struct computer *computer)
{
	struct ring next = computer->next;
	ring_next(&next, computer->shape->slots);
	return next;
}

/* Lets the tile pass: no row of the warpgroup sees it. */
SIMT_DEVICE void pass(struct computer *computer)
{
	slot_wait(computer, computer->next);
	slot_release(computer);
	if (computer->job->value_offset > 0) {
		slot_wait(computer, computer->next);
		slot_release(computer);
	}
}

/* Scores of the keys at a place of the ring, from here on beside the threads. */
template <int panels, bool held> SIMT_DEVICE void begin_scores(const struct computer *computer, struct ring place, float (&s)[SCORES])
{
	slot_wait(computer, place);
	struct operand keys = operand_behind(computer->keys, place.slot * (panels * PANEL_BYTES));
	scores<panels, held>(computer->held, operand_behind(computer->queries, 0), keys, s);
}

/* The values of the oldest tile, the same. */
template <int panels, int columns>
SIMT_DEVICE void begin_values(const struct computer *computer, const uint32_t (&weights)[4][4], float (&sums)[columns / 2])
{
	slot_wait(computer, computer->next);
	add_values<columns>(weights, operand_behind(computer->values, computer->next.slot * (panels * PANEL_BYTES)), sums);
}

/* The scores have come: the weights, and sums of before as these want them. */
template <int columns>
SIMT_DEVICE void finish_scores(struct computer *computer, const struct thread_rows *rows, uint32_t tile, float (&s)[SCORES],
			       struct softening *so_far, uint32_t (&weights)[4][4], float (&sums)[columns / 2])
{
	float by[2];
	simt_wgmma_wait<0>();
	simt_wgmma_hold(s);
	if (computer->job->value_offset > 0)
		slot_release(computer);
	if (!is_idle(rows))
		weigh_scores<true>(computer->job, rows, tile, s, so_far, weights, by, sums);
}

/* Tiles [first, end), all of which some row sees. The scores of a tile are begun behind the values of the one before: the tensor
 * cores have both, while the threads of another warpgroup compute weights. */
template <int panels, int columns, bool held>
SIMT_DEVICE void do_tiles(struct computer *computer, const struct thread_rows *rows, uint32_t first, uint32_t end,
			  struct softening *so_far, float (&sums)[columns / 2])
{
	constexpr bool ahead = panels <= SLOTS_PANELS_MAX; /* else one slot has room for one thing */
	float s[SCORES];
	uint32_t weights[4][4] = {}, tile = first;
	begin_scores<panels, held>(computer, computer->next, s);
	for (; tile + ATTENTION_TILE < end; tile += ATTENTION_TILE) {
		finish_scores<columns>(computer, rows, tile, s, so_far, weights, sums);
		begin_values<panels, columns>(computer, weights, sums);
		if (ahead)
			begin_scores<panels, held>(computer, ring_after(computer), s);
		simt_wgmma_wait<ahead>();
		simt_wgmma_hold(sums);
		slot_release(computer);
		if (!ahead)
			begin_scores<panels, held>(computer, computer->next, s);
	}
	finish_scores<columns>(computer, rows, tile, s, so_far, weights, sums);
	begin_values<panels, columns>(computer, weights, sums);
	simt_wgmma_wait<0>();
	simt_wgmma_hold(sums);
	slot_release(computer);
}

/* Those of the tiles that a row of the warpgroup sees are one stretch. */
template <int panels, int columns, bool held>
SIMT_DEVICE void do_tiles_seen(struct computer *computer, const struct thread_rows *rows, uint32_t first, uint32_t end,
			       struct softening *so_far, float (&sums)[columns / 2])
{
	uint32_t tile = first, low = attention_low(computer->job, rows->position), last = rows->count > 0 ? rows->last + 1 : 0;
	last = last < end ? last : end;
	for (; tile < end && tile + ATTENTION_TILE <= low; tile += ATTENTION_TILE)
		pass(computer);
	if (tile < last)
		do_tiles<panels, columns, held>(computer, rows, tile, last, so_far, sums);
	while (tile < last)
		tile += ATTENTION_TILE;
	for (; tile < end; tile += ATTENTION_TILE)
		pass(computer);
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
	return computer->column_first > 0;
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
template <int panels, int columns>
SIMT_DEVICE void weigh(struct computer *computer, const uint32_t (&weights)[4][4], const float (&by)[2], float (&sums)[columns / 2])
{
	SIMT_UNROLL
	for (int row = 0; row < 2; row++)
		if (simt_any(by[row] != 1.0f))
			rescale(sums, row, by[row]);
	begin_values<panels, columns>(computer, weights, sums);
	simt_wgmma_wait<0>();
	simt_wgmma_hold(sums);
	slot_release(computer);
}

template <int panels, int columns> SIMT_DEVICE void weigh_by_letter(struct computer *computer, float (&sums)[columns / 2])
{
	const uint32_t *from = letter_of(computer, computer->next);
	const float by[2] = {simt_float(from[20 * WARPGROUP]), simt_float(from[21 * WARPGROUP])};
	uint32_t weights[4][4];
	SIMT_UNROLL
	for (int i = 0; i < 16; i++)
		weights[i / 4][i % 4] = from[i * WARPGROUP];
	weigh<panels, columns>(computer, weights, by, sums);
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
	begin_scores<panels, false>(computer, place, s);
	simt_wgmma_wait<0>();
	simt_wgmma_hold(s);
	if (owed)
		receive(computer, so_far);
	if (!is_idle(rows))
		weigh_scores<false>(job, rows, tile, s, so_far, weights, by, sums);
	send(computer, place, *so_far, weights, by);
	if (owed)
		weigh_by_letter<panels, columns>(computer, sums);
	weigh<panels, columns>(computer, weights, by, sums);
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
		weigh_by_letter<panels, columns>(computer, sums);
	}
}

template <int panels, int columns, bool held>
SIMT_DEVICE void do_split(struct computer *computer, const struct plan_item *item, const struct thread_rows *rows, uint32_t split,
			  struct attention_sum (&ret_sum)[2], float (&sums)[columns / 2])
{
	struct softening so_far = {};
	uint32_t positions = attention_split(computer->job), first = split * positions, end = first + positions;
	uint32_t low = item->low / ATTENTION_TILE * ATTENTION_TILE;
	first = first > low ? first : low;
	end = end < item->end ? end : item->end;
	SIMT_UNROLL
	for (int i = 0; i < columns / 2; i++)
		sums[i] = 0.0f;
	if constexpr (panels == LATENT_PANELS)
		do_tiles_in_turn<panels, columns>(computer, rows, first, end, &so_far, sums);
	else
		do_tiles_seen<panels, columns, held>(computer, rows, first, end, &so_far, sums);
	SIMT_UNROLL
	for (int row = 0; row < 2; row++)
		ret_sum[row] = softening_end(&so_far, row);
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
		size_t partial = item->partial + rows->first + thread_row(row) - item->row_first;
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

/* The sums of a walk are in registers, or in memory where two sets fill no registers. */
template <int columns, bool far>
SIMT_DEVICE float *total_at(const struct computer *computer, float (&total)[far ? 1 : columns / 2], int i)
{
	return far ? computer->totals + i * WARPGROUP + computer->thread : &total[far ? 0 : i];
}

/* They take those of a split in. Factors of 1 are most splits', and the same bits without them. */
template <int columns, bool far>
SIMT_DEVICE void join_totals(const struct computer *computer, float (&total)[far ? 1 : columns / 2],
			     const float (&sums)[columns / 2], const struct attention_factors (&by)[2], bool is_first)
{
	if (is_first) {
		SIMT_UNROLL
		for (int i = 0; i < columns / 2; i++)
			*total_at<columns, far>(computer, total, i) = attention_join_value(0.0f, sums[i], by[i / 2 % 2]);
	} else if (!simt_any(by[0].old != 1.0f || by[0].add != 1.0f || by[1].old != 1.0f || by[1].add != 1.0f)) {
		SIMT_UNROLL
		for (int i = 0; i < columns / 2; i++)
			*total_at<columns, far>(computer, total, i) += sums[i];
	} else {
		SIMT_UNROLL
		for (int i = 0; i < columns / 2; i++) {
			float *at = total_at<columns, far>(computer, total, i);
			*at = attention_join_value(*at, sums[i], by[i / 2 % 2]);
		}
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
		uint32_t packed = rows->first + thread_row(row), head = item->head_kv * job->group + packed % job->group;
		size_t batch_row = item->run.row_first + packed / job->group;
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

template <int panels, int columns, bool held, bool far>
SIMT_DEVICE void do_item(struct computer *computer, const struct plan_item *item, uint32_t row_group)
{
	struct thread_rows rows = rows_of(computer->job, item, row_group);
	struct attention_sum all[2] = {{-INFINITY, 0.0f}, {-INFINITY, 0.0f}}, sum[2];
	float total[far ? 1 : columns / 2], sums[columns / 2];
	for (uint32_t split = item->split_first; split < item->split_end; split++) {
		do_split<panels, columns, held>(computer, item, &rows, split, sum, sums);
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
	uint32_t group = simt_shuffle(threadIdx.x / WARPGROUP, 0) - 1, row_group = group / values, value_group = group % values;
	struct computer computer = {job, shape, memory, {0, 0}};
	uint8_t *queries = memory.queries + row_group * (panels * PANEL_BYTES);
	computer.queries = operand_of(queries, 0);
	computer.keys = operand_of(memory.slots, 0);
	computer.values = operand_of(memory.slots + value_group * (columns / PANEL_DIM) * PANEL_BYTES, PANEL_BYTES);
	computer.thread = threadIdx.x % WARPGROUP;
	computer.column_first = value_group * columns;
	computer.totals = job->totals + (size_t)(blockIdx.x * form::groups + group) * (columns / 2) * WARPGROUP;
	for (uint32_t round = 0; plan_number(round) < item_count; round++) {
		struct plan_item item = plan_item_at(job, limits, &memory.tail->plan, plan_number(round));
		if (item.split_first == item.split_end)
			continue;
		uint32_t first = item.row_first + row_group * ATTENTION_TILE, end = item.row_first + item.row_count;
		/* Both warpgroups of the rows are through with the queries of before. */
		simt_barrier_sync(GROUP_BARRIER + (int)row_group, WARPGROUP * values);
		if (computer.thread == 0 && value_group == 0)
			memory.tail->items[row_group] = item;
		queries_load(job, &item, first, first < end ? end - first : 0, queries,
			     value_group * WARPGROUP + computer.thread, WARPGROUP * values);
		simt_barrier_sync(GROUP_BARRIER + (int)row_group, WARPGROUP * values);
		if (form::holds)
			hold_queries(queries, computer.held);
		do_item<panels, columns, form::holds, form::totals_far>(&computer, &memory.tail->items[row_group], row_group);
	}
}

template <int panels>
SIMT_DEVICE void load(const struct attention_job *job, const struct tiles_shape *shape, const struct plan_limits *limits,
		      struct tiles_memory memory, const CUtensorMap *map, uint32_t item_count)
{
	struct loader loader = {job, shape, memory, map, {0, 0}, {0, 0}, 0, 0};
	bool alone = shape->box_rows > 0; /* then a warp for keys, and one for values */
	if (alone && simt_warp() >= (job->value_offset > 0 ? 2 : 1))
		return;
	for (uint32_t round = 0; plan_number(round) < item_count; round++) {
		struct plan_item *item = &memory.tail->loaded[simt_warp()];
		simt_sync_warp();
		if (simt_lane() == 0)
			*item = plan_item_at(job, limits, &memory.tail->plan, plan_number(round));
		simt_sync_warp();
		if (alone)
			loader_item_alone(&loader, item);
		else
			loader_item<panels>(&loader, item);
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
 SIMT_GRID_CONSTANT struct plan_limits limits, SIMT_GRID_CONSTANT CUtensorMap map)
{
	using form = form<panels, columns, rows, values>;
	SIMT_DYNAMIC_SHARED(uint8_t, shared);
	struct tiles_memory memory = tiles_memory_of(shared, &shape, rows);
	if (threadIdx.x < shape.slots) {
		simt_mbarrier_init(&memory.tail->full[threadIdx.x], shape.box_rows > 0 ? 1 : LOAD_WARPS);
		simt_mbarrier_init(&memory.tail->empty[threadIdx.x], form::groups * LOAD_WARPS);
		simt_mbarrier_fence_init();
	}
	if (job.head_dim < panels * PANEL_DIM)
		clear(memory.queries, memory.tail); /* what no copy writes is zero: dimensions that a head has not */
	uint32_t item_count = plan_make(&job, &limits, &memory.tail->plan); /* and a barrier of all */
	if (threadIdx.x < WARPGROUP) {
		if (form::moves_registers)
			simt_registers_lower<form::load_registers>();
		load<panels>(&job, &shape, &limits, memory, &map, item_count);
	} else {
		if (form::moves_registers)
			simt_registers_raise<form::compute_registers>();
		compute<panels, columns, rows, values>(&job, &shape, &limits, memory, item_count);
	}
}

/* --- the host's side ------------------------------------------------------------------------------------------------ */

#define SHARED_BLOCK_EXTRA 1024 /* that a block takes besides */

/* Rows of a tile that lie behind each other in a block, wherever the tile begins: 8 lines are what a swizzled box may begin at.
 * Lines and blocks must lie as the engine's manual wants them. */
static uint32_t box_rows_of(const struct attention_job *job)
{
	uint32_t rows = job->block_tokens & -job->block_tokens;
	bool can = rows >= 8 && job->vector_bytes % 16 == 0 && job->block_stride % job->vector_bytes == 0;
	return !can ? 0 : rows < ATTENTION_TILE ? rows : ATTENTION_TILE;
}

#define POOL_BYTES_MAX (UINT64_C(1) << 40) /* the pool's end is not known here: no device has as much */

/* What lies beyond a head's dimensions becomes zeros. */
static bool map_of(struct cuda_device *device, const struct attention_job *job, uint32_t box_rows, CUtensorMap *ret_map)
{
	const cuuint64_t lines = job->head_kv_count * (job->head_bytes / job->vector_bytes);
	const cuuint64_t dims[3] = {job->head_dim, lines, POOL_BYTES_MAX / job->block_stride};
	const cuuint64_t strides[2] = {job->vector_bytes, job->block_stride};
	const cuuint32_t box[3] = {PANEL_DIM, box_rows, 1};
	return tensor_map_3d(device, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, job->keys, dims, strides, box, ret_map);
}

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
	assert(panels > SLOTS_PANELS_MAX || shape.slots > 1);
	assert(panels != LATENT_PANELS || grid * 4 * ATTENTION_MAIL_WORDS * WARPGROUP * sizeof(uint32_t) <= ATTENTION_MAIL_BYTES);
	limits.tile_rows = rows * ATTENTION_TILE;
	shape.box_rows = box_rows_of(job);
	shape.box_shift = shape.box_rows > 0 ? (uint32_t)__builtin_ctz(shape.box_rows) : 0;
	shape.value_lines = job->value_offset / job->vector_bytes;
	CUtensorMap map = {};
	if (shape.box_rows > 0 && !map_of(device, job, shape.box_rows, &map))
		return;
	SIMT_LAUNCH((attention_kernel<panels, columns, rows, values>), dim3(grid < grid_max ? grid : grid_max),
		    dim3(form::threads), bytes, device->stream, *job, shape, limits, map);
	cuda_launched(device, "attention");
}

/* Shared memory of a form: at open, for asking may wait until running copies end. */
template <int panels, int columns, int rows, int values> static void prepare(struct cuda_device *device)
{
	size_t bytes;
	(void)shape_of(device, panels, rows, form<panels, columns, rows, values>::half, &bytes);
	cuda_allow_shared(device, (const void *)attention_kernel<panels, columns, rows, values>, bytes);
}

template <int panels> static constexpr int rows_many = panels == 1 ? 3 : 2; /* row groups of the block for long runs */

template <int panels> static void prepare_both(struct cuda_device *device)
{
	prepare<panels, panels * PANEL_DIM, 1, 1>(device);
	prepare<panels, panels * PANEL_DIM, rows_many<panels>, 1>(device);
}

enum err attention_prepare(struct cuda_device *device)
{
	prepare_both<1>(device);
	prepare_both<2>(device);
	prepare_both<4>(device);
	prepare<8, 256, 1, 2>(device);
	prepare<9, 256, 1, 2>(device);
	prepare<10, 256, 1, 2>(device);
	return device->failed;
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
	launch<panels, panels * PANEL_DIM, rows_many<panels>, 1>(device, job, {ROWS_FEW, UINT32_MAX, 0, half, half});
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

/* The choice of tokens: one kernel, a cluster of blocks for each row, which reads the row's logits once. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/rng.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/sample_cut.h"

#define MINUS_INFINITY simt_float(0xff800000u)
#define LOADS	       4 /* quads of a thread in flight */

/* --- the row into shared memory ------------------------------------------------------------------------------ */

/* Past the row's end is -inf, behind every token. */
template <bool wide> SIMT_DEVICE sample_best load_row(const sample_job &job, const sample_place &p, const float *x, bool keep)
{
	sample_best best = {MINUS_INFINITY, SAMPLE_NONE};
	uint32_t end = (simt_warp() + 1) * p.part;
	for (uint32_t at = simt_warp() * p.part + simt_lane() * QUAD; at < end; at += LOADS * SAMPLE_STEP) {
		quad q[LOADS] = {};
		SIMT_UNROLL
		for (uint32_t j = 0; j < LOADS; j++) {
			uint32_t token = p.first + at + j * SAMPLE_STEP;
			if (at + j * SAMPLE_STEP < end && token < job.n)
				q[j] = quad_load<wide>(x + token, job.n - token);
		}
		SIMT_UNROLL
		for (uint32_t j = 0; j < LOADS; j++) {
			uint32_t here = at + j * SAMPLE_STEP;
			SIMT_UNROLL
			for (uint32_t i = 0; i < QUAD; i++) {
				bool there = here < end && p.first + here + i < job.n;
				q[j].at[i] = there ? q[j].at[i] : MINUS_INFINITY;
				if (there)
					sample_take(&best, q[j].at[i], p.first + here + i);
			}
			if (keep && here < end)
				quad_store<true>(p.scores + here, q[j], QUAD);
		}
	}
	return best;
}

/* --- log-probabilities, of the row as the model made it ------------------------------------------------------- */

/* The likeliest k: each block lists its own, the first block's first warp puts them in order. */
SIMT_DEVICE void list_top(const packed_row &row, sample_place &p, const float *x, float greatest, float logsumexp, uint32_t k)
{
	uint64_t last = sample_last<SAMPLE_ALL>(p, greatest, k);
	sample_each(p, [&](float score, uint32_t token) {
		uint64_t order = sample_order(score, greatest, token);
		if (order >= last)
			p.shared->listed[simt_atomic_add(&p.shared->listed_count, 1)] = order;
	});
	simt_cluster_sync();
	if (p.rank != 0 || simt_warp() != 0)
		return;
	uint64_t order = 0;
	uint32_t before = 0, at = 0, results = row.choice_count > 0 ? row.choice_count : 1;
	for (uint32_t r = 0; r < p.blocks; r++) {
		const sample_shared *other = reinterpret_cast<const sample_shared *>(simt_cluster_map(p.shared, r));
		if (simt_lane() >= before && simt_lane() - before < other->listed_count)
			order = other->listed[simt_lane() - before];
		before += other->listed_count;
	}
	for (uint32_t j = 0; j < k; j++)
		at += simt_shuffle(order, (int)j) > order;
	uint32_t token = sample_order_token(order);
	for (uint32_t i = 0; i < results && simt_lane() < k; i++) {
		row.samples[i].top[at] = {token, sample_logprob(x[token], logsumexp)};
		row.samples[i].top_count = k;
	}
}

SIMT_DEVICE void score(const packed_row &row, sample_place &p, const float *x, float greatest, float logsumexp)
{
	uint64_t mine = sample_order(x[row.token], greatest, row.token), before = 0;
	sample_each(p, [&](float other, uint32_t token) { before += sample_order(other, greatest, token) > mine; });
	before = sample_cluster_sum(p, before, NULL);
	if (p.rank == 0 && threadIdx.x == 0) {
		row.samples->token = row.token;
		row.samples->rank = (uint32_t)before + 1;
		row.samples->logprob = row.logprobs >= 0 ? sample_logprob(x[row.token], logsumexp) : 0.0f;
	}
}

/* Returns log(sum(exp(x))). */
SIMT_DEVICE float describe(const sample_job &job, const packed_row &row, sample_place &p, const float *x, float greatest)
{
	float logsumexp = MINUS_INFINITY;
	uint32_t k = (uint32_t)row.logprobs < job.n ? (uint32_t)row.logprobs : job.n;
	if (greatest > MINUS_INFINITY) {
		uint64_t sum = 0;
		sample_each(p, [&](float score, uint32_t) { sum += sample_value<SAMPLE_MASSES>(score, greatest); });
		logsumexp = sample_logsumexp(greatest, sample_cluster_sum(p, sum, NULL));
	}
	if (k > 0)
		list_top(row, p, x, greatest, logsumexp, k);
	return logsumexp;
}

/* --- scores: what the request changes in the logits ------------------------------------------------------------- */

template <typename T> SIMT_DEVICE const T *in_piece(const sample_job &job, uint32_t place)
{
	return reinterpret_cast<const T *>(job.piece + place);
}

/* Of a token in the block's own slice; NULL: it is in another. */
SIMT_DEVICE float *score_of(const sample_job &job, const sample_place &p, uint32_t token)
{
	bool own = token >= p.first && token - p.first < SAMPLE_WARPS * p.part && token < job.n;
	return own ? p.scores + (token - p.first) : NULL;
}

/* Biases of one token are added in their order. */
SIMT_DEVICE void add_biases(const sample_job &job, const packed_row &row, const sample_place &p)
{
	const sampling_bias *biases = in_piece<sampling_bias>(job, row.biases);
	float *own = threadIdx.x < row.bias_count ? score_of(job, p, biases[threadIdx.x].token) : NULL;
	for (uint32_t i = 0; i < threadIdx.x && own; i++)
		if (biases[i].token == biases[threadIdx.x].token)
			own = NULL; /* another thread's */
	for (uint32_t i = threadIdx.x; i < row.bias_count && own; i++)
		if (biases[i].token == biases[threadIdx.x].token)
			*own += biases[i].bias;
}

SIMT_DEVICE void penalise(const sample_job &job, const packed_row &row, const sample_place &p)
{
	const sample_seen *seen = in_piece<sample_seen>(job, row.seen);
	for (uint32_t i = threadIdx.x; i < row.seen_count; i += SAMPLE_THREADS) {
		float *own = score_of(job, p, seen[i].token);
		if (!own)
			continue;
		float score = *own > 0 ? *own / row.repetition : *own * row.repetition;
		if (seen[i].count > 0) {
			score -= row.frequency * (float)seen[i].count;
			score -= row.presence;
		}
		*own = score;
	}
}

SIMT_DEVICE void change_scores(const sample_job &job, const packed_row &row, const sample_place &p)
{
	add_biases(job, row, p); /* all have met since scores were loaded */
	simt_sync();
	penalise(job, row, p);
	simt_sync();
	if (threadIdx.x < row.masked_count) {
		float *own = score_of(job, p, in_piece<uint32_t>(job, row.masked)[threadIdx.x]);
		if (own)
			*own = MINUS_INFINITY;
	}
	simt_sync();
	if (row.allowed == SAMPLE_NONE)
		return;
	const uint32_t *allowed = in_piece<uint32_t>(job, row.allowed);
	sample_change(p, [&](float score, uint32_t token) {
		return token < job.n && allowed[token / 32] >> token % 32 & 1 ? score : MINUS_INFINITY;
	});
}

SIMT_DEVICE sample_best best_of(const sample_job &job, sample_place &p)
{
	sample_best best = {MINUS_INFINITY, SAMPLE_NONE};
	sample_each(p, [&](float score, uint32_t token) {
		if (token < job.n)
			sample_take(&best, score, token);
	});
	return sample_cluster_best(p, best);
}

/* --- the choice ---------------------------------------------------------------------------------------------------- */

struct sample_pick {
	const packed_row *row;
	const float *x;
	float logsumexp;
};

SIMT_DEVICE void write_choice(const sample_pick &pick, uint32_t choice, uint32_t token)
{
	pick.row->samples[choice].token = token;
	if (pick.row->logprobs >= 0)
		pick.row->samples[choice].logprob = sample_logprob(pick.x[token], pick.logsumexp);
}

/* The token in the warp's part where the running sum, `sum` so far, exceeds the target. */
SIMT_DEVICE void find_drawn(const sample_place &p, const sample_pick &pick, float greatest, uint64_t sum, uint64_t target,
			    uint32_t choice)
{
	for (uint32_t at = simt_warp() * p.part + simt_lane() * QUAD;; at += SAMPLE_STEP) {
		quad q = quad_load<true>(p.scores + at, QUAD);
		uint64_t mass[QUAD], own = 0, upto;
		SIMT_UNROLL
		for (uint32_t i = 0; i < QUAD; i++)
			own += mass[i] = sample_value<SAMPLE_MASSES>(q.at[i], greatest);
		upto = own;
		SIMT_UNROLL
		for (uint32_t by = 1; by < SIMT_LANES; by *= 2) {
			uint64_t other = simt_shuffle_up(upto, by);
			upto += simt_lane() >= by ? other : 0;
		}
		uint64_t running = sum + upto - own;
		if (running <= target && target < sum + upto) {
			uint32_t i = 0;
			for (; i < QUAD - 1 && running + mass[i] <= target; i++)
				running += mass[i];
			write_choice(pick, choice, p.first + at + i);
		}
		sum += simt_shuffle(upto, SIMT_LANES - 1);
		if (sum > target)
			return;
	}
}

/* Each draw falls into the part of one warp of the row. */
SIMT_DEVICE void draw(const sample_job &job, sample_place &p, const sample_pick &pick, float greatest)
{
	const uint64_t *draws = in_piece<uint64_t>(job, pick.row->draws);
	uint64_t own = 0, before, all;
	sample_each(p, [&](float score, uint32_t) { own += sample_value<SAMPLE_MASSES>(score, greatest); });
	all = sample_cluster_sum(p, own, &before);
	own = sample_warp_sum(own);
	for (uint32_t i = 0; i < pick.row->choice_count; i++) {
		uint64_t target = sample_draw_target(draws[i], all);
		if (target >= before && target - before < own)
			find_drawn(p, pick, greatest, before, target, i);
	}
}

SIMT_DEVICE void cut(const sample_job &job, const packed_row &row, sample_place &p, float greatest)
{
	if (row.top_k > 0 && (uint32_t)row.top_k < job.n)
		sample_keep<SAMPLE_DRAWN>(p, greatest, (uint64_t)row.top_k);
	if (row.top_p < 1.0f) {
		uint64_t sum = 0;
		sample_each(p, [&](float score, uint32_t) { sum += sample_value<SAMPLE_MASSES>(score, greatest); });
		sum = sample_cluster_sum(p, sum, NULL);
		sample_keep<SAMPLE_MASSES>(p, greatest, sample_top_p_target(row.top_p, sum));
	}
}

SIMT_DEVICE void choose(const sample_job &job, sample_place &p, const sample_pick &pick, sample_best best)
{
	const packed_row &row = *pick.row;
	if (row.changed) {
		change_scores(job, row, p);
		best = best_of(job, p);
	}
	if (row.greedy || best.greatest == MINUS_INFINITY) {
		if (p.rank == 0 && threadIdx.x < row.choice_count)
			write_choice(pick, threadIdx.x, best.index);
		return;
	}
	float temperature = row.temperature, min_p = row.min_p, greatest = best.greatest / temperature;
	sample_change(p, [&](float score, uint32_t) {
		float scaled = score / temperature;
		return min_p > 0.0f && elementary_exp(scaled - greatest) < min_p ? MINUS_INFINITY : scaled;
	});
	cut(job, row, p, greatest);
	draw(job, p, pick, greatest);
}

/* 4 bytes a logit; where a request cuts, up to 15 more passes over shared memory. */
template <bool wide> SIMT_KERNEL_OF(sample_rows, SAMPLE_THREADS, 2)(const sample_job job)
{
	SIMT_DYNAMIC_SHARED(sample_shared, shared);
	uint32_t index = blockIdx.x / job.blocks, rank = simt_cluster_rank();
	const packed_row &row = in_piece<packed_row>(job, 0)[index];
	sample_place p = {shared, reinterpret_cast<float *>(shared + 1), rank * SAMPLE_WARPS * job.part, job.part, rank, job.blocks, 0};
	const float *x = job.logits + index * job.stride;
	if (threadIdx.x == 0)
		shared->listed_count = 0;
	bool plain = row.choice_count > 0 && row.greedy && !row.changed && row.logprobs < 0;
	sample_best best = sample_cluster_best(p, load_row<wide>(job, p, x, !plain));
	float logsumexp = row.logprobs >= 0 ? describe(job, row, p, x, best.greatest) : 0.0f;
	if (row.choice_count > 0)
		choose(job, p, {&row, x, logsumexp}, best);
	else
		score(row, p, x, best.greatest, logsumexp);
	simt_cluster_sync(); /* nobody goes while others read of it */
}

/* --- the scratch ----------------------------------------------------------------------------------------------------- */

struct cuda_scratch_of_samples {
	struct sample_scratch base;
	uint8_t *piece; /* CUDA_STAGE_BYTES of device memory: what is asked of the rows */
	uint32_t blocks, part;
	size_t shared_bytes;
};

static struct cuda_scratch_of_samples *scratch_of(struct sample_scratch *base)
{
	return (struct cuda_scratch_of_samples *)base;
}

static size_t words_bytes(uint32_t vocab_size)
{
	return ((size_t)vocab_size + 63) / 64 * sizeof(uint64_t);
}

/* What a row needs of a piece at most. */
static size_t row_bytes_max(uint32_t vocab_size)
{
	return sizeof(packed_row) + (size_t)vocab_size * sizeof(sample_seen) + SAMPLING_BIAS_MAX * sizeof(sampling_bias) +
	       SAMPLE_MASKED_MAX * sizeof(uint32_t) + words_bytes(vocab_size) + SAMPLING_CHOICES_MAX * sizeof(uint64_t) + 64;
}

static void share_out(struct cuda_scratch_of_samples *scratch, uint32_t vocab_size)
{
	scratch->blocks = 1;
	while (scratch->blocks < SAMPLE_BLOCKS_MAX && scratch->blocks * SAMPLE_SLICE < vocab_size)
		scratch->blocks *= 2;
	uint32_t each = scratch->blocks * SAMPLE_UNIT;
	scratch->part = (vocab_size + each - 1) / each * SAMPLE_STEP;
	scratch->shared_bytes = sizeof(sample_shared) + (size_t)SAMPLE_WARPS * scratch->part * sizeof(float);
}

enum err cuda_sample_create(struct device *device, uint32_t vocab_size, struct sample_scratch **ret_scratch)
{
	struct cuda_scratch_of_samples layout = {};
	share_out(&layout, vocab_size);
	if (layout.shared_bytes > cuda_of(device)->shared_max || row_bytes_max(vocab_size) > CUDA_STAGE_BYTES)
		return ERR_UNSUPPORTED;
	struct cuda_scratch_of_samples *scratch = (struct cuda_scratch_of_samples *)calloc(1, sizeof(*scratch));
	if (!scratch)
		return ERR_NOMEM;
	*scratch = layout;
	enum err e = dev_alloc(device, MEM_DEVICE, CUDA_STAGE_BYTES, (void **)&scratch->piece);
	if (e != ERR_OK) {
		free(scratch);
		return e;
	}
	if (layout.shared_bytes > CUDA_SHARED_USUAL) {
		cuda_allow_shared(cuda_of(device), (const void *)sample_rows<true>, layout.shared_bytes);
		cuda_allow_shared(cuda_of(device), (const void *)sample_rows<false>, layout.shared_bytes);
	}
	*ret_scratch = &scratch->base;
	return ERR_OK;
}

void cuda_sample_destroy(struct sample_scratch *base)
{
	dev_free(base->device, MEM_DEVICE, scratch_of(base)->piece, CUDA_STAGE_BYTES);
	free(base);
}

/* --- packing ------------------------------------------------------------------------------------------------------------ */

struct packing {
	uint8_t *piece;
	size_t used;
};

/* Bytes into the piece, at a multiple of 8; returns where. */
static uint32_t put(struct packing *packing, const void *from, size_t bytes)
{
	size_t at = packing->used;
	if (bytes > 0)
		memcpy(packing->piece + at, from, bytes);
	packing->used = at + (bytes + 7) / 8 * 8;
	return (uint32_t)at;
}

static size_t bytes_of(const struct sample_row *row, uint32_t vocab_size)
{
	return row->seen_count * sizeof(*row->seen) + (row->sampling ? row->sampling->bias_count : 0) * sizeof(sampling_bias) +
	       (row->masked_count + 1) * sizeof(*row->masked) + (row->allowed ? words_bytes(vocab_size) : 0) +
	       row->choice_count * sizeof(uint64_t);
}

static packed_row pack_choice(struct packing *packing, const struct sample_row *row, uint32_t vocab_size)
{
	const struct sampling *s = row->sampling;
	uint64_t draws[SAMPLING_CHOICES_MAX];
	packed_row packed = {};
	for (uint32_t i = 0; i < row->choice_count; i++)
		draws[i] = rng_at(s->seed, row->choices[i], row->position);
	packed.temperature = s->temperature;
	packed.top_p = s->top_p;
	packed.min_p = s->min_p;
	packed.top_k = s->top_k;
	packed.repetition = s->repetition_penalty;
	packed.frequency = s->frequency_penalty;
	packed.presence = s->presence_penalty;
	packed.greedy = !(s->temperature >= SAMPLE_GREEDY_BELOW);
	packed.changed = s->bias_count > 0 || row->seen_count > 0 || row->masked_count > 0 || row->allowed;
	packed.choice_count = row->choice_count;
	packed.draws = put(packing, draws, row->choice_count * sizeof(*draws));
	packed.seen_count = row->seen_count;
	packed.seen = put(packing, row->seen, row->seen_count * sizeof(*row->seen));
	packed.bias_count = s->bias_count;
	packed.biases = put(packing, s->biases, s->bias_count * sizeof(*s->biases));
	packed.masked_count = row->masked_count;
	packed.masked = put(packing, row->masked, row->masked_count * sizeof(*row->masked));
	packed.allowed = row->allowed ? put(packing, row->allowed, words_bytes(vocab_size)) : SAMPLE_NONE;
	return packed;
}

/* As many rows as the piece has room for; returns how many, at least 1. */
static uint32_t pack(struct packing *packing, const struct sample_row *rows, uint32_t count, uint32_t vocab_size)
{
	uint32_t taken = 0;
	count = count < CUDA_STAGE_BYTES / 4 / sizeof(packed_row) ? count : CUDA_STAGE_BYTES / 4 / sizeof(packed_row);
	packed_row *packed = (packed_row *)packing->piece;
	/* The first row has room whatever it asks, if the others' places do not take it. */
	if (count > 1 && count * sizeof(packed_row) + row_bytes_max(vocab_size) > CUDA_STAGE_BYTES)
		count = 1;
	packing->used = count * sizeof(packed_row);
	for (; taken < count && packing->used + bytes_of(&rows[taken], vocab_size) + 64 <= CUDA_STAGE_BYTES; taken++) {
		const struct sample_row *row = &rows[taken];
		packed[taken] = row->sampling ? pack_choice(packing, row, vocab_size) : packed_row{};
		packed[taken].token = row->token;
		packed[taken].logprobs = row->logprobs;
		packed[taken].samples = row->ret_samples;
		memset(row->ret_samples, 0, (row->sampling ? row->choice_count : 1) * sizeof(*row->ret_samples));
	}
	assert(taken > 0);
	return taken;
}

/* --- the operation ---------------------------------------------------------------------------------------------------------- */

static void launch(struct cuda_scratch_of_samples *scratch, const sample_job &job, uint32_t rows)
{
	struct device *device = scratch->base.device;
	bool wide = quad_wide(job.logits, job.stride * sizeof(float)) && job.n % QUAD == 0;
	dim3 grid(rows * job.blocks), block(SAMPLE_THREADS);
	cuda_check(cuda_of(device),
		   wide ? SIMT_LAUNCH_CLUSTER(sample_rows<true>, job.blocks, grid, block, scratch->shared_bytes, cuda_stream(device), job)
			: SIMT_LAUNCH_CLUSTER(sample_rows<false>, job.blocks, grid, block, scratch->shared_bytes, cuda_stream(device), job),
		   "sample");
}

void cuda_sample(struct sample_scratch *base, const struct sample_call *call)
{
	struct cuda_scratch_of_samples *scratch = scratch_of(base);
	struct cuda_device *device = cuda_of(base->device);
	for (uint32_t first = 0, count; first < call->row_count && cuda_alive(base->device); first += count) {
		struct packing packing = {cuda_stage_begin(device), 0};
		if (!packing.piece)
			return;
		count = pack(&packing, call->rows + first, call->row_count - first, base->vocab_size);
		cuda_stage_end(device, scratch->piece, packing.used);
		launch(scratch,
		       {call->logits + first * call->stride, call->stride, base->vocab_size, scratch->blocks, scratch->part,
			scratch->piece},
		       count);
	}
}

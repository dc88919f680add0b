/* Tensor cores: each product of two bf16 or e4m3 is exact in f32, and sums are of one term after the other, K ascending. */
#include <string.h>
#include "tests/gpu/fake/fake.h"
#include "tests/gpu/fake/simt_block.h"

#define M 64
#define K 16
#define K_MAX 32 /* of e4m3 */
#define N_MAX 256

static float half_at(const void *at)
{
	uint16_t half;
	memcpy(&half, at, sizeof(half));
	return bf16_widen(half);
}

static float half_of(uint32_t word, int i)
{
	return bf16_widen((uint16_t)(word >> 16 * i));
}

/* --- a warp ------------------------------------------------------------------------------------------------ */

struct matrix_rows {
	const uint8_t *row;
	bool transposed;
};

static void load_matrices(const struct simt_meeting *meeting)
{
	auto in = [&](uint32_t lane) { return static_cast<const matrix_rows *>(meeting->in[lane]); };
	for (uint32_t lane = 0; lane < meeting->count; lane++) {
		uint32_t *ret = static_cast<uint32_t *>(meeting->out[lane]);
		for (uint32_t i = 0; i < 4; i++) {
			uint16_t halves[2];
			for (uint32_t j = 0; j < 2; j++) {
				uint32_t row = lane / 4, column = lane % 4 * 2 + j;
				if (in(lane)->transposed)
					row = lane % 4 * 2 + j, column = lane / 4;
				memcpy(&halves[j], in(8 * i + row)->row + 2 * column, 2);
			}
			ret[i] = halves[0] | (uint32_t)halves[1] << 16;
		}
	}
}

void simt_ldmatrix(uint32_t *ret, const void *row, bool transposed)
{
	if ((uintptr_t)row % 16 != 0)
		simt_fault("ldmatrix of a row at %p", row);
	matrix_rows in = {static_cast<const uint8_t *>(row), transposed};
	simt_meet_warp("ldmatrix", &in, ret, load_matrices);
}

struct mma_words {
	uint32_t a[4], b[2];
};

/* Columns of a fragment of 16 x 16: word i of lane l. */
template <int columns> static void place_a(const uint32_t *a, uint32_t lane, float (*ret)[columns])
{
	for (uint32_t i = 0; i < 4; i++)
		for (int j = 0; j < 2; j++)
			ret[lane / 4 + i % 2 * 8][lane % 4 * 2 + i / 2 * 8 + j] = half_of(a[i], j);
}

static void multiply_warp(const struct simt_meeting *meeting)
{
	float a[16][K], b[8][K];
	for (uint32_t lane = 0; lane < meeting->count; lane++) {
		const mma_words *in = static_cast<const mma_words *>(meeting->in[lane]);
		place_a(in->a, lane, a);
		for (uint32_t i = 0; i < 2; i++)
			for (int j = 0; j < 2; j++)
				b[lane / 4][lane % 4 * 2 + i * 8 + j] = half_of(in->b[i], j);
	}
	for (uint32_t lane = 0; lane < meeting->count; lane++) {
		float *d = static_cast<float *>(meeting->out[lane]);
		for (uint32_t i = 0; i < 4; i++) {
			const float *row = a[lane / 4 + i / 2 * 8], *column = b[lane % 4 * 2 + i % 2];
			for (int k = 0; k < K; k++)
				d[i] += row[k] * column[k];
		}
	}
}

void simt_mma_m16n8k16_bf16(float *d, const uint32_t *a, const uint32_t *b)
{
	mma_words in;
	memcpy(in.a, a, sizeof(in.a));
	memcpy(in.b, b, sizeof(in.b));
	simt_meet_warp("mma", &in, d, multiply_warp);
}

/* --- a warpgroup --------------------------------------------------------------------------------------------- */

/* 16 bytes of an operand as numbers: 8 bf16 or 16 e4m3, `step` apart. */
static void read_unit(const uint8_t *at, bool e4m3, float *ret, size_t step)
{
	static float widened[256];
	if (e4m3 && widened[0x38] == 0.0f) /* 1 */
		for (uint32_t code = 0; code < 256; code++)
			widened[code] = e4m3_widen((uint8_t)code);
	for (uint32_t i = 0; i < (e4m3 ? 16u : 8u); i++)
		ret[i * step] = e4m3 ? widened[at[i]] : half_at(at + 2 * i);
}

/* The elements of an operand: row (of M or N) r and k at ret[r * row_step + k * k_step].  A unit of 16 bytes lies whole, wherever
 * the swizzle puts it. */
static void read_operand(uint64_t operand, int major, uint32_t rows, bool e4m3, float *ret, size_t row_step, size_t k_step)
{
	uint32_t base = (uint32_t)(operand & 0x3fff) << 4, leading = (uint32_t)(operand >> 16 & 0x3fff) << 4;
	uint32_t stride = (uint32_t)(operand >> 32 & 0x3fff) << 4;
	const uint8_t *shared = simt_self()->block_of->shared;
	for (uint32_t i = 0; i < rows * 2; i++) {
		uint32_t row = i / 2, k = i % 2 * (e4m3 ? 16 : 8), address = base + row / 8 * stride + row % 8 * 128 + i % 2 * 16;
		if (major == SIMT_MN_MAJOR) {
			row = i / 16 * 8, k = i % 16;
			address = base + row / 64 * leading + k / 8 * stride + k % 8 * 128 + row % 64 * 2;
		}
		read_unit(shared + (address ^ (address >> 7 & 7) << 4), e4m3, ret + row * row_step + k * k_step,
			  major == SIMT_MN_MAJOR ? row_step : k_step);
	}
}

/* All that the operand is: 32 bytes of each of `rows` lines, or of 16 lines 2 * rows. */
static void each_piece(uint64_t operand, int major, uint32_t rows, void (*call)(uint32_t address))
{
	uint32_t address = (uint32_t)(operand & 0x3fff) << 4, leading = (uint32_t)(operand >> 16 & 0x3fff) << 4;
	uint32_t stride = (uint32_t)(operand >> 32 & 0x3fff) << 4;
	for (uint32_t i = 0; i < rows * 2; i++) {
		uint32_t at = address + i / 2 / 8 * stride + i / 2 % 8 * 128 + i % 2 * 16;
		if (major == SIMT_MN_MAJOR) {
			uint32_t row = i / 16 * 8, k = i % 16;
			at = address + row / 64 * leading + k / 8 * stride + k % 8 * 128 + row % 64 * 2;
		}
		call(at ^ (at >> 7 & 7) << 4);
	}
}

static void each_piece_of(const struct simt_product *product, void (*call)(uint32_t address))
{
	each_piece(product->b_operand, product->b_major, product->n, call);
	if (!product->a)
		each_piece(product->a_operand, product->a_major, M, call);
}

/* The same of bytes. */
template <int columns> static void place_a_e4m3(const uint32_t *a, uint32_t lane, float (*ret)[columns])
{
	for (uint32_t i = 0; i < 4; i++)
		for (uint32_t j = 0; j < 4; j++)
			ret[lane / 4 + i % 2 * 8][lane % 4 * 4 + i / 2 * 16 + j] = e4m3_widen((uint8_t)(a[i] >> 8 * j));
}

static inline __attribute__((always_inline)) void add_row_as(const float *a, const float (*b)[N_MAX], uint32_t n, uint32_t k_count, float *c)
{
	for (uint32_t k = 0; k < k_count; k++)
		for (uint32_t i = 0; i < n; i++)
			c[i] += a[k] * b[k][i];
}

#ifdef __x86_64__
/* The same bits, twice as fast: nothing is fused. */
__attribute__((target("avx2"))) static void add_row_avx2(const float *a, const float (*b)[N_MAX], uint32_t n, uint32_t k_count, float *c)
{
	add_row_as(a, b, n, k_count, c);
}
#endif

static void add_row(const float *a, const float (*b)[N_MAX], uint32_t n, uint32_t k_count, float *c)
{
#ifdef __x86_64__
	static const bool avx2 = __builtin_cpu_supports("avx2");
	if (avx2)
		return add_row_avx2(a, b, n, k_count, c);
#endif
	add_row_as(a, b, n, k_count, c);
}

static void run_product(const queued_product *product)
{
	static float a[M][K_MAX], b[K_MAX][N_MAX], c[N_MAX];
	const struct simt_product *of = product->of;
	uint32_t n = of->n, k_count = of->e4m3 ? K_MAX : K;
	for (uint32_t t = 0; of->a && t < SIMT_MEMBERS_MAX; t++)
		(of->e4m3 ? place_a_e4m3<K_MAX> : place_a<K_MAX>)(product->a[t], t % 32, a + t / 32 * 16);
	read_operand(of->b_operand, of->b_major, n, of->e4m3, b[0], 1, N_MAX);
	if (!of->a)
		read_operand(of->a_operand, of->a_major, M, of->e4m3, a[0], K_MAX, 1);
	for (uint32_t m = 0; m < M; m++) {
		/* Row m lies in 4 threads, two columns of every 8 in each. */
		const struct simt_product *four = of + m / 16 * 32 + m % 8 * 4;
		uint32_t half = m % 16 / 8 * 2;
		for (uint32_t i = 0; i < n; i++)
			c[i] = of->accumulate ? four[i % 8 / 2].d[i / 8 * 4 + half + i % 2] : 0.0f;
		add_row(a[m], b, n, k_count, c);
		for (uint32_t i = 0; i < n; i++)
			four[i % 8 / 2].d[i / 8 * 4 + half + i % 2] = c[i];
	}
	each_piece_of(of, simt_proxy_read_over);
}

static struct warpgroup *own_warpgroup()
{
	simt_thread *self = simt_self();
	return &self->block_of->warpgroups[self->index / SIMT_MEMBERS_MAX];
}

/* The pattern of the swizzle begins at multiples of 1024, or the operand would have to say where. */
static void check_operand(uint64_t operand)
{
	if (operand >> 62 != 1 || (operand >> 49 & 7) != 0)
		simt_fault("an operand of wgmma that is not in 128-byte swizzle: %016llx", (unsigned long long)operand);
	if ((operand << 4 & 0x380) != 0)
		simt_fault("an operand of wgmma begins at %u, within 8 lines of a swizzle", (uint32_t)(operand & 0x3fff) << 4);
}

/* --- sums on their way: NaNs lie where they will be, and nobody reads or writes them ----------------------------- */

static void hold(struct warpgroup *group, const queued_product &product)
{
	uint32_t count = product.of->n / 2;
	for (const held_sums &held : group->held)
		if (held.at[0] == product.of->d)
			return;
	held_sums sums = {{}, count, {}};
	for (uint32_t t = 0; t < SIMT_MEMBERS_MAX; t++) {
		float *d = sums.at[t] = product.of[t].d;
		sums.values.insert(sums.values.end(), d, d + count);
		memset(d, 0xff, count * sizeof(*d));
	}
	group->held.push_back(std::move(sums));
}

static void give_back(const held_sums &held, uint32_t thread)
{
	float *d = held.at[thread];
	for (uint32_t i = 0; i < held.count; i++)
		if (simt_bits(d[i]) != UINT32_MAX)
			simt_fault("sums of wgmma were written before it was waited for");
	memcpy(d, &held.values[(size_t)thread * held.count], held.count * sizeof(*d));
}

static void give_back_all(struct warpgroup *group)
{
	for (const held_sums &held : group->held)
		for (uint32_t t = 0; t < SIMT_MEMBERS_MAX; t++)
			give_back(held, t);
	group->held.clear();
}

static void queue_product(const struct simt_meeting *meeting)
{
	queued_product product;
	for (uint32_t t = 0; t < meeting->count; t++) {
		product.of[t] = *static_cast<const struct simt_product *>(meeting->in[t]);
		const struct simt_product *one = &product.of[t], *first = &product.of[0];
		if (one->n != first->n || one->b_operand != first->b_operand || !one->a != !first->a ||
		    one->a_operand != first->a_operand || one->e4m3 != first->e4m3 || one->accumulate != first->accumulate)
			simt_fault("threads of a warpgroup give different operands to wgmma");
		if (one->a)
			memcpy(product.a[t], one->a, sizeof(product.a[t]));
	}
	struct warpgroup *group = own_warpgroup();
	if (!group->fenced)
		simt_fault("wgmma without simt_wgmma_fence() since its sums were another's");
	check_operand(product.of[0].b_operand);
	if (!product.of[0].a)
		check_operand(product.of[0].a_operand);
	each_piece_of(&product.of[0], simt_proxy_read);
	product.group = group->group;
	if (!fake_now()->late_copies) {
		run_product(&product);
		return;
	}
	hold(group, product);
	group->products.push_back(product);
}

void simt_wgmma_queue(const struct simt_product *product)
{
	simt_meet_warpgroup("wgmma", product, nullptr, queue_product);
}

void simt_wgmma_fence()
{
	simt_meet_warpgroup("wgmma_fence", nullptr, nullptr, [](const struct simt_meeting *) { own_warpgroup()->fenced = true; });
}

void simt_wgmma_commit()
{
	simt_meet_warpgroup("wgmma_commit", nullptr, nullptr, [](const struct simt_meeting *) { own_warpgroup()->group++; });
}

void simt_wgmma_left(uint32_t left)
{
	simt_meet_warpgroup("wgmma_wait", &left, nullptr, [](const struct simt_meeting *meeting) {
		struct warpgroup *group = own_warpgroup();
		uint32_t end = group->group - *static_cast<const uint32_t *>(meeting->in[0]);
		size_t ran = 0;
		give_back_all(group);
		group->fenced = false;
		while (ran < group->products.size() && (int32_t)(group->products[ran].group - end) < 0)
			run_product(&group->products[ran++]);
		group->products.erase(group->products.begin(), group->products.begin() + (ptrdiff_t)ran);
		for (const queued_product &left : group->products)
			hold(group, left);
	});
}

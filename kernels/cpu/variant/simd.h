/* simd - 16 lanes of f32 on whatever registers the variant has: 4 x 128, 2 x 256 or 1 x 512 bits.
 *
 * Every kernel is written once over this and compiled once per variant (kernels/meson.build), with
 * KERNEL_ISA 0 portable, 1 AVX2 + FMA, 2 AVX-512, 3 AVX-512 with bf16 dot products.
 * Rules: 1 a lane never meets another but in v_sum() and v_greatest(), whose tree is the same everywhere,
 *          so 1 and 2 give equal bits; 0 has no fused multiply-add and so is a class of its own;
 *        2 nothing here reads or writes past the lanes it is asked for. */
#ifndef KERNELS_CPU_VARIANT_SIMD_H
#define KERNELS_CPU_VARIANT_SIMD_H
#include <stdint.h>
#include <string.h>
#if KERNEL_ISA >= 1
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline, unused))

#if KERNEL_ISA >= 2
typedef __m512 vreg;
#define REG_LANES 16
#elif KERNEL_ISA == 1
typedef __m256 vreg;
#define REG_LANES 8
#else
typedef float vreg __attribute__((vector_size(16)));
typedef int32_t ireg __attribute__((vector_size(16)));
typedef uint32_t ureg __attribute__((vector_size(16)));
#define REG_LANES 4
#endif
#define LANES 16
#define REGS  (LANES / REG_LANES) /* registers for 16 lanes */

/* --- one register -------------------------------------------------------------------------------- */

#if KERNEL_ISA >= 2
INLINE vreg r_set(float x) { return _mm512_set1_ps(x); }
INLINE vreg r_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void r_store(float *p, vreg a) { _mm512_storeu_ps(p, a); }
INLINE vreg r_fma(vreg a, vreg b, vreg c) { return _mm512_fmadd_ps(a, b, c); }
INLINE vreg r_max(vreg a, vreg b) { return _mm512_max_ps(a, b); }
INLINE vreg r_min(vreg a, vreg b) { return _mm512_min_ps(a, b); }
INLINE vreg r_low_half(const uint32_t *p)
{
	return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16));
}
INLINE vreg r_high_half(const uint32_t *p)
{
	return _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), _mm512_set1_epi32(-65536)));
}
INLINE vreg r_widen(const uint16_t *p)
{
	__m256i halves = _mm256_loadu_si256((const void *)p);
	return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}
/* Of the sign, exponent and fraction of e4m3 in their places in f32, the exponent less by 120: times 2^120. */
INLINE vreg r_e4m3(const uint8_t *p)
{
	__m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)p));
	__m512i sign = _mm512_slli_epi32(_mm512_and_si512(bytes, _mm512_set1_epi32(0x80)), 24);
	__m512i rest = _mm512_slli_epi32(_mm512_and_si512(bytes, _mm512_set1_epi32(0x7f)), 20);
	return _mm512_mul_ps(_mm512_castsi512_ps(_mm512_or_si512(sign, rest)), _mm512_set1_ps(0x1p120f));
}
/* a * 2^n, n the low bits of `n` */
INLINE vreg r_scale(vreg a, vreg n)
{
	__m512i shifted = _mm512_slli_epi32(_mm512_castps_si512(n), 23);
	return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), shifted));
}
/* a where x >= bound, 0 elsewhere */
INLINE vreg r_zero_below(vreg a, vreg x, vreg bound)
{
	return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, bound, _CMP_GE_OQ), a);
}
#elif KERNEL_ISA == 1
INLINE vreg r_set(float x) { return _mm256_set1_ps(x); }
INLINE vreg r_load(const float *p) { return _mm256_loadu_ps(p); }
INLINE void r_store(float *p, vreg a) { _mm256_storeu_ps(p, a); }
INLINE vreg r_fma(vreg a, vreg b, vreg c) { return _mm256_fmadd_ps(a, b, c); }
INLINE vreg r_max(vreg a, vreg b) { return _mm256_max_ps(a, b); }
INLINE vreg r_min(vreg a, vreg b) { return _mm256_min_ps(a, b); }
INLINE vreg r_low_half(const uint32_t *p)
{
	return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_loadu_si256((const void *)p), 16));
}
INLINE vreg r_high_half(const uint32_t *p)
{
	__m256i words = _mm256_loadu_si256((const void *)p);
	return _mm256_castsi256_ps(_mm256_and_si256(words, _mm256_set1_epi32(-65536)));
}
INLINE vreg r_widen(const uint16_t *p)
{
	__m128i halves = _mm_loadu_si128((const void *)p);
	return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}
INLINE vreg r_e4m3(const uint8_t *p)
{
	__m256i bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)p));
	__m256i sign = _mm256_slli_epi32(_mm256_and_si256(bytes, _mm256_set1_epi32(0x80)), 24);
	__m256i rest = _mm256_slli_epi32(_mm256_and_si256(bytes, _mm256_set1_epi32(0x7f)), 20);
	return _mm256_castsi256_ps(_mm256_or_si256(sign, rest)) * _mm256_set1_ps(0x1p120f);
}
INLINE vreg r_scale(vreg a, vreg n)
{
	__m256i shifted = _mm256_slli_epi32(_mm256_castps_si256(n), 23);
	return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), shifted));
}
INLINE vreg r_zero_below(vreg a, vreg x, vreg bound)
{
	return _mm256_and_ps(_mm256_cmp_ps(x, bound, _CMP_GE_OQ), a);
}
#else
INLINE vreg r_set(float x) { return (vreg){x, x, x, x}; }
INLINE vreg r_load(const float *p)
{
	vreg a;
	memcpy(&a, p, sizeof(a));
	return a;
}
INLINE void r_store(float *p, vreg a) { memcpy(p, &a, sizeof(a)); }
INLINE vreg r_fma(vreg a, vreg b, vreg c) { return a * b + c; }
INLINE vreg r_choose(ireg mask, vreg a, vreg b) { return (vreg)((mask & (ireg)a) | (~mask & (ireg)b)); }
INLINE vreg r_max(vreg a, vreg b) { return r_choose(a > b, a, b); }
INLINE vreg r_min(vreg a, vreg b) { return r_choose(a < b, a, b); }
INLINE ureg r_words(const uint32_t *p)
{
	ureg words;
	memcpy(&words, p, sizeof(words));
	return words;
}
INLINE vreg r_low_half(const uint32_t *p) { return (vreg)(r_words(p) << 16); }
INLINE vreg r_high_half(const uint32_t *p) { return (vreg)(r_words(p) & 0xffff0000u); }
INLINE vreg r_widen(const uint16_t *p) { return (vreg)((ureg){p[0], p[1], p[2], p[3]} << 16); }
INLINE vreg r_e4m3(const uint8_t *p)
{
	ureg bytes = {p[0], p[1], p[2], p[3]};
	return (vreg)((bytes & 0x80) << 24 | (bytes & 0x7f) << 20) * r_set(0x1p120f);
}
INLINE vreg r_scale(vreg a, vreg n) { return (vreg)((ureg)a + ((ureg)n << 23)); }
INLINE vreg r_zero_below(vreg a, vreg x, vreg bound) { return (vreg)((x >= bound) & (ireg)a); }
#endif

/* acc + w0 * x0 + w1 * x1 in each lane, w and x words of two bf16 */
INLINE vreg r_dot(vreg acc, vreg w, vreg x)
{
#if KERNEL_ISA == 3
	return _mm512_dpbf16_ps(acc, (__m512bh)_mm512_castps_si512(w), (__m512bh)_mm512_castps_si512(x));
#else
	(void)w, (void)x; /* no variant but the third runs TILE_DOT */
	return acc;
#endif
}

/* --- 16 lanes -------------------------------------------------------------------------------------- */

struct v16 {
	vreg r[REGS];
};

#define V16_EACH(result, expression)       \
	struct v16 result;                 \
	for (int i = 0; i < REGS; i++)     \
		result.r[i] = (expression)

INLINE struct v16 v_set(float x) { V16_EACH(v, r_set(x)); return v; }
INLINE struct v16 v_load(const float *p) { V16_EACH(v, r_load(p + i * REG_LANES)); return v; }
INLINE struct v16 v_widen(const uint16_t *p) { V16_EACH(v, r_widen(p + i * REG_LANES)); return v; }
INLINE struct v16 v_add(struct v16 a, struct v16 b) { V16_EACH(v, a.r[i] + b.r[i]); return v; }
INLINE struct v16 v_sub(struct v16 a, struct v16 b) { V16_EACH(v, a.r[i] - b.r[i]); return v; }
INLINE struct v16 v_mul(struct v16 a, struct v16 b) { V16_EACH(v, a.r[i] * b.r[i]); return v; }
INLINE struct v16 v_div(struct v16 a, struct v16 b) { V16_EACH(v, a.r[i] / b.r[i]); return v; }
INLINE struct v16 v_max(struct v16 a, struct v16 b) { V16_EACH(v, r_max(a.r[i], b.r[i])); return v; }
INLINE struct v16 v_min(struct v16 a, struct v16 b) { V16_EACH(v, r_min(a.r[i], b.r[i])); return v; }
INLINE struct v16 v_fma(struct v16 a, struct v16 b, struct v16 c)
{
	V16_EACH(v, r_fma(a.r[i], b.r[i], c.r[i]));
	return v;
}

INLINE void v_store(float *p, struct v16 a)
{
	for (int i = 0; i < REGS; i++)
		r_store(p + i * REG_LANES, a.r[i]);
}

/* The first n lanes of p, `rest` in the others. */
INLINE struct v16 v_load_part(const float *p, uint32_t n, float rest)
{
	float lanes[LANES];
	for (uint32_t i = 0; i < LANES; i++)
		lanes[i] = i < n ? p[i] : rest;
	return v_load(lanes);
}

INLINE void v_store_part(float *p, struct v16 a, uint32_t n)
{
	float lanes[LANES];
	v_store(lanes, a);
	memcpy(p, lanes, n * sizeof(*p));
}

/* Lane i with i + 8, then + 4, + 2, + 1. */
INLINE float v_sum(struct v16 a)
{
	float lanes[LANES];
	v_store(lanes, a);
	for (int half = LANES / 2; half > 0; half /= 2)
		for (int i = 0; i < half; i++)
			lanes[i] += lanes[i + half];
	return lanes[0];
}

INLINE float v_greatest(struct v16 a)
{
	float lanes[LANES];
	v_store(lanes, a);
	float greatest = lanes[0];
	for (int i = 1; i < LANES; i++)
		greatest = lanes[i] > greatest ? lanes[i] : greatest;
	return greatest;
}

#define EXP_LEAST    (-87.0f) /* below it 0: the results would be denormal, which some CPUs flush */
#define EXP_GREATEST 88.0f    /* above it stays at exp(88), about 1.7e38 */

/* exp, 2 ulp: x = n ln 2 + r, |r| <= ln 2 / 2, Taylor to r^7 / 7!. */
INLINE struct v16 v_exp(struct v16 x)
{
	static const float over_factorial[] = {1.0f / 5040, 1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
	struct v16 result;
	for (int i = 0; i < REGS; i++) {
		vreg a = r_min(r_max(x.r[i], r_set(EXP_LEAST)), r_set(EXP_GREATEST));
		vreg n = r_fma(a, r_set(1.44269504f), r_set(0x1.8p23f)); /* the integer is in the low bits */
		vreg whole = n - r_set(0x1.8p23f);
		vreg r = r_fma(whole, r_set(-0.693359375f), a); /* ln 2 in two parts, the first exact times n */
		r = r_fma(whole, r_set(2.12194440e-4f), r);
		vreg sum = r_set(over_factorial[0]);
		for (int j = 1; j < 8; j++)
			sum = r_fma(sum, r, r_set(over_factorial[j]));
		result.r[i] = r_zero_below(r_scale(sum, n), x.r[i], r_set(EXP_LEAST));
	}
	return result;
}
#define TANH_SMALL 0.5f

/* tanh, 2 ulp: from 0.5 on (e - 1) / (e + 1) of e = exp(2x); below, where that would cancel, Taylor to x^17. */
INLINE struct v16 v_tanh(struct v16 x)
{
	static const float taylor[] = {6404582.0f / 10854718875.0f, -929569.0f / 638512875.0f, 21844.0f / 6081075.0f,
				       -1382.0f / 155925.0f, 62.0f / 2835.0f, -17.0f / 315.0f, 2.0f / 15.0f,
				       -1.0f / 3.0f, 1.0f};
	struct v16 e = v_exp(v_add(x, x)), one = v_set(1.0f), result;
	struct v16 large = v_div(v_sub(e, one), v_add(e, one));
	for (int i = 0; i < REGS; i++) {
		vreg square = x.r[i] * x.r[i], sum = r_set(taylor[0]), bound = r_set(TANH_SMALL * TANH_SMALL);
		for (int j = 1; j < 9; j++)
			sum = r_fma(sum, square, r_set(taylor[j]));
		vreg small = sum * x.r[i];
		/* One of the two is taken, the other adds nothing. */
		result.r[i] = r_zero_below(large.r[i], square, bound) + (small - r_zero_below(small, square, bound));
	}
	return result;
}

/* cap * tanh(x / cap) */
INLINE struct v16 v_soft_cap(struct v16 x, float cap)
{
	return v_mul(v_set(cap), v_tanh(v_div(x, v_set(cap))));
}
#endif

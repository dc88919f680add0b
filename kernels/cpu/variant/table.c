#include "kernels/cpu/variant/kernels.h"

#define TEXT2(x) #x
#define TEXT(x)	 TEXT2(x)

/* The class is one where the bits are: AVX2 and AVX-512 differ in the width of registers only. A change
 * of any order of summation, of v_exp or of a rounding point raises the number. */
#if KERNEL_ISA == 3
#define NUMERICS "cpu-bf16dot-1"
#elif KERNEL_ISA >= 1
#define NUMERICS "cpu-fma-1"
#else
#define NUMERICS "cpu-mul-1"
#endif

const struct kernel_ops kernel_ops_variant = {
	.name = TEXT(KERNEL_VARIANT),
	.numerics = NUMERICS,
	.linear_block = kernel_linear,
	.attention = kernel_attention,
	.rmsnorm = kernel_rmsnorm,
	.head_norm = kernel_head_norm,
	.rope = kernel_rope,
	.glu = {[GLU_SILU] = kernel_swiglu, [GLU_GELU_TANH] = kernel_geglu, [GLU_CLAMPED] = kernel_clamped_glu},
	.soft_cap = kernel_soft_cap,
	.exp = kernel_exp,
	.combine = kernel_combine,
	.greatest = kernel_greatest,
	.exp_sum = kernel_exp_sum,
	.masses = kernel_masses,
};

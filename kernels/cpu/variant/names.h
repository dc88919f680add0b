/* names - gives the external functions of this folder their variant's suffix: tile_run_avx2. */
#ifndef KERNELS_CPU_VARIANT_NAMES_H
#define KERNELS_CPU_VARIANT_NAMES_H
#define VARIANT_JOIN2(name, suffix) name##_##suffix
#define VARIANT_JOIN(name, suffix)  VARIANT_JOIN2(name, suffix)
#define VARIANT(name)		    VARIANT_JOIN(name, KERNEL_VARIANT)

#define tile_run	   VARIANT(tile_run)
#define tile_widen	   VARIANT(tile_widen)
#define tile_widen_e4m3	   VARIANT(tile_widen_e4m3)
#define tile_rows_max	   VARIANT(tile_rows_max)
#define kernel_linear	   VARIANT(kernel_linear)
#define kernel_linear_e4m3 VARIANT(kernel_linear_e4m3)
#define kernel_attention   VARIANT(kernel_attention)
#define kernel_rmsnorm	   VARIANT(kernel_rmsnorm)
#define kernel_head_norm   VARIANT(kernel_head_norm)
#define kernel_rope	   VARIANT(kernel_rope)
#define kernel_swiglu	   VARIANT(kernel_swiglu)
#define kernel_geglu	   VARIANT(kernel_geglu)
#define kernel_clamped_glu VARIANT(kernel_clamped_glu)
#define kernel_soft_cap	   VARIANT(kernel_soft_cap)
#define kernel_exp	   VARIANT(kernel_exp)
#define kernel_combine	   VARIANT(kernel_combine)
#define kernel_greatest	   VARIANT(kernel_greatest)
#define kernel_exp_sum	   VARIANT(kernel_exp_sum)
#define kernel_masses	   VARIANT(kernel_masses)
#define kernel_ops_variant VARIANT(kernel_ops)
#endif

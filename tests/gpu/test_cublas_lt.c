/* What bench/gpu/cublas_lt.h declares of cuBLASLt is what its header has; and where the library is, it takes our descriptions, which needs no
 * GPU. */
#include <cublasLt.h>
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "bench/gpu/cublas_lt.h"

#define same(ours, theirs) _Static_assert((int)(ours) == (int)(theirs), #theirs)
same(LT_TYPE_F32, CUDA_R_32F);
same(LT_TYPE_BF16, CUDA_R_16BF);
same(LT_TYPE_E4M3, CUDA_R_8F_E4M3);
same(LT_COMPUTE_F32, CUBLAS_COMPUTE_32F);
same(LT_TRANSPOSED, CUBLAS_OP_T);
same(LT_DESC_TRANS_A, CUBLASLT_MATMUL_DESC_TRANSA);
same(LT_DESC_SCALE_A, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER);
same(LT_DESC_SCALE_B, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER);
same(LT_DESC_FAST_SUM, CUBLASLT_MATMUL_DESC_FAST_ACCUM);
same(LT_DESC_SCALE_MODE_A, CUBLASLT_MATMUL_DESC_A_SCALE_MODE);
same(LT_DESC_SCALE_MODE_B, CUBLASLT_MATMUL_DESC_B_SCALE_MODE);
same(LT_SCALE_OF_ROW_128, CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F);
same(LT_SCALE_OF_BLOCK_128, CUBLASLT_MATMUL_MATRIX_SCALE_BLK128x128_32F);
same(LT_PREF_WORKSPACE_BYTES, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
same(sizeof(struct lt_algo), sizeof(cublasLtMatmulAlgo_t));
same(sizeof(struct lt_candidate), sizeof(cublasLtMatmulHeuristicResult_t));
same(offsetof(struct lt_candidate, workspace_bytes), offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize));
same(offsetof(struct lt_candidate, state), offsetof(cublasLtMatmulHeuristicResult_t, state));

static void the_library_takes_attributes_of_our_sizes(void **state)
{
	void *library = dlopen("libcublasLt.so.13", RTLD_NOW), *desc = NULL, *preference = NULL, *address = &library;
	if (!library)
		skip();
	int (*create)(void **, int, int) = (int (*)(void **, int, int))dlsym(library, "cublasLtMatmulDescCreate");
	int (*set)(void *, int, const void *, size_t) = (int (*)(void *, int, const void *, size_t))dlsym(library, "cublasLtMatmulDescSetAttribute");
	int (*destroy)(void *) = (int (*)(void *))dlsym(library, "cublasLtMatmulDescDestroy");
	assert_true(create && set && destroy);
	const int32_t word = LT_TRANSPOSED, blocks = LT_SCALE_OF_BLOCK_128, rows = LT_SCALE_OF_ROW_128;
	const int8_t fast = 1;
	assert_int_equal(create(&desc, LT_COMPUTE_F32, LT_TYPE_F32), 0);
	assert_int_equal(set(desc, LT_DESC_TRANS_A, &word, sizeof(word)), 0);
	assert_int_equal(set(desc, LT_DESC_SCALE_A, &address, sizeof(address)), 0);
	assert_int_equal(set(desc, LT_DESC_SCALE_B, &address, sizeof(address)), 0);
	assert_int_equal(set(desc, LT_DESC_SCALE_MODE_A, &blocks, sizeof(blocks)), 0);
	assert_int_equal(set(desc, LT_DESC_SCALE_MODE_B, &rows, sizeof(rows)), 0);
	assert_int_equal(set(desc, LT_DESC_FAST_SUM, &fast, sizeof(fast)), 0);
	assert_int_not_equal(set(desc, LT_DESC_FAST_SUM, &fast, 3), 0); /* so sizes are looked at */
	destroy(desc);

	int (*preference_create)(void **) = (int (*)(void **))dlsym(library, "cublasLtMatmulPreferenceCreate");
	int (*preference_set)(void *, int, const void *, size_t) =
		(int (*)(void *, int, const void *, size_t))dlsym(library, "cublasLtMatmulPreferenceSetAttribute");
	const uint64_t room = 1 << 20;
	assert_true(preference_create && preference_set);
	assert_int_equal(preference_create(&preference), 0);
	assert_int_equal(preference_set(preference, LT_PREF_WORKSPACE_BYTES, &room, sizeof(room)), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(the_library_takes_attributes_of_our_sizes)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

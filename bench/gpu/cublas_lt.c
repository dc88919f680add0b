#include "bench/gpu/cublas_lt.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A first look at each candidate, and then the best of them as all figures are measured. */
enum { CANDIDATES_MAX = 32, FINAL_MAX = 2, WORKSPACE_BYTES = 64 << 20, SCALES_BYTES = 16 << 20 };
#define LOOK_SECONDS  0.001
#define FINAL_SECONDS 0.015

/* What dlsym() finds is called through these. */
struct lt_functions {
	int (*create)(void **handle);
	int (*destroy)(void *handle);
	size_t (*version)(void);
	int (*desc_create)(void **desc, int compute, int scale_type);
	int (*desc_destroy)(void *desc);
	int (*desc_set)(void *desc, int attribute, const void *value, size_t bytes);
	int (*layout_create)(void **layout, int type, uint64_t rows, uint64_t cols, int64_t ld);
	int (*layout_destroy)(void *layout);
	int (*preference_create)(void **preference);
	int (*preference_destroy)(void *preference);
	int (*preference_set)(void *preference, int attribute, const void *value, size_t bytes);
	int (*heuristic)(void *handle, void *desc, void *a, void *b, void *c, void *d, void *preference, int asked,
			 struct lt_candidate *ret_found, int *ret_count);
	int (*matmul)(void *handle, void *desc, const void *alpha, const void *a, void *a_layout, const void *b, void *b_layout,
		      const void *beta, const void *c, void *c_layout, void *d, void *d_layout, const struct lt_algo *algo,
		      void *workspace, size_t workspace_bytes, void *stream);
};

struct lt {
	struct bench *bench;
	void *library, *handle, *preference;
	struct lt_functions f;
	void *workspace, *scales; /* on the device; all scales are 1 */
};

/* A product as the library sees it: columns of y are rows of ours. */
struct call {
	struct lt *lt;
	const struct lt_product *product;
	void *desc, *a, *b, *d;
	const struct lt_candidate *candidate;
	int status; /* the first that was not 0 */
};

static const struct {
	const char *name;
	size_t at;
} symbols[] = {
	{"cublasLtCreate", offsetof(struct lt_functions, create)},
	{"cublasLtDestroy", offsetof(struct lt_functions, destroy)},
	{"cublasLtGetVersion", offsetof(struct lt_functions, version)},
	{"cublasLtMatmulDescCreate", offsetof(struct lt_functions, desc_create)},
	{"cublasLtMatmulDescDestroy", offsetof(struct lt_functions, desc_destroy)},
	{"cublasLtMatmulDescSetAttribute", offsetof(struct lt_functions, desc_set)},
	{"cublasLtMatrixLayoutCreate", offsetof(struct lt_functions, layout_create)},
	{"cublasLtMatrixLayoutDestroy", offsetof(struct lt_functions, layout_destroy)},
	{"cublasLtMatmulPreferenceCreate", offsetof(struct lt_functions, preference_create)},
	{"cublasLtMatmulPreferenceDestroy", offsetof(struct lt_functions, preference_destroy)},
	{"cublasLtMatmulPreferenceSetAttribute", offsetof(struct lt_functions, preference_set)},
	{"cublasLtMatmulAlgoGetHeuristic", offsetof(struct lt_functions, heuristic)},
	{"cublasLtMatmul", offsetof(struct lt_functions, matmul)},
};

/* --- the library ------------------------------------------------------------------------------------------------- */

static struct lt *missing(struct lt *lt, const char *why)
{
	printf("{\"missing\": \"cublasLt\", \"why\": \"%s\"}\n", why);
	fflush(stdout);
	fprintf(stderr, "bench_gpu: no cublasLt: %s\n", why);
	lt_close(lt);
	return NULL;
}

/* The name of what it lacks, or NULL. */
static const char *find_symbols(struct lt *lt)
{
	for (size_t i = 0; i < sizeof(symbols) / sizeof(*symbols); i++) {
		void *symbol = dlsym(lt->library, symbols[i].name);
		if (!symbol)
			return symbols[i].name;
		memcpy((uint8_t *)&lt->f + symbols[i].at, &symbol, sizeof(symbol));
	}
	return NULL;
}

static void make_memory(struct lt *lt)
{
	static float ones[SCALES_BYTES / sizeof(float)];
	for (size_t i = 0; i < SCALES_BYTES / sizeof(float); i++)
		ones[i] = 1;
	lt->workspace = bench_alloc(lt->bench, WORKSPACE_BYTES);
	lt->scales = bench_alloc(lt->bench, SCALES_BYTES);
	bench_check(dev_copy(lt->bench->device, lt->scales, ones, SCALES_BYTES), "copy");
}

struct lt *lt_open(struct bench *bench)
{
	const uint64_t room = WORKSPACE_BYTES;
	struct lt *lt = calloc(1, sizeof(*lt));
	lt->bench = bench;
	lt->library = dlopen("libcublasLt.so.13", RTLD_NOW);
	if (!lt->library)
		return missing(lt, "libcublasLt.so.13 is not found (LD_LIBRARY_PATH)");
	if (find_symbols(lt))
		return missing(lt, "the library lacks a function of cuBLAS 13");
	if (lt->f.create(&lt->handle) != 0)
		return missing(lt, "cublasLtCreate refuses");
	if (lt->f.preference_create(&lt->preference) != 0 ||
	    lt->f.preference_set(lt->preference, LT_PREF_WORKSPACE_BYTES, &room, sizeof(room)) != 0)
		return missing(lt, "its preferences refuse the workspace");
	make_memory(lt);
	printf("{\"other\": \"cublasLt\", \"version\": \"%zu\"}\n", lt->f.version());
	return lt;
}

void lt_close(struct lt *lt)
{
	if (!lt)
		return;
	bench_free(lt->bench, lt->workspace, WORKSPACE_BYTES);
	bench_free(lt->bench, lt->scales, SCALES_BYTES);
	if (lt->preference)
		lt->f.preference_destroy(lt->preference);
	if (lt->handle)
		lt->f.destroy(lt->handle);
	if (lt->library)
		dlclose(lt->library);
	free(lt);
}

/* --- a product ----------------------------------------------------------------------------------------------------- */

static bool set(struct call *call, int attribute, const void *value, size_t bytes)
{
	return call->lt->f.desc_set(call->desc, attribute, value, bytes) == 0;
}

static bool set_scales(struct call *call)
{
	const int32_t of_blocks = LT_SCALE_OF_BLOCK_128, of_rows = LT_SCALE_OF_ROW_128;
	const int8_t fast = 1;
	if (call->product->scales == LT_SCALES_NONE)
		return true;
	if (!set(call, LT_DESC_SCALE_A, &call->lt->scales, sizeof(void *)) || !set(call, LT_DESC_SCALE_B, &call->lt->scales, sizeof(void *)))
		return false;
	if (call->product->scales == LT_SCALES_ONE)
		return set(call, LT_DESC_FAST_SUM, &fast, sizeof(fast));
	return set(call, LT_DESC_SCALE_MODE_A, &of_blocks, sizeof(of_blocks)) && set(call, LT_DESC_SCALE_MODE_B, &of_rows, sizeof(of_rows));
}

static bool describe(struct call *call)
{
	const struct lt_product *p = call->product;
	const struct lt_functions *f = &call->lt->f;
	const int32_t transposed = LT_TRANSPOSED;
	const int type = p->elem == ELEM_E4M3 ? LT_TYPE_E4M3 : LT_TYPE_BF16;
	return f->desc_create(&call->desc, LT_COMPUTE_F32, LT_TYPE_F32) == 0 &&
	       set(call, LT_DESC_TRANS_A, &transposed, sizeof(transposed)) && set_scales(call) &&
	       f->layout_create(&call->a, type, p->k, p->n, p->k) == 0 && f->layout_create(&call->b, type, p->k, p->rows, p->k) == 0 &&
	       f->layout_create(&call->d, LT_TYPE_BF16, p->n, p->rows, p->n) == 0;
}

static void forget(struct call *call)
{
	const struct lt_functions *f = &call->lt->f;
	if (call->desc)
		f->desc_destroy(call->desc);
	for (int i = 0; i < 3; i++) {
		void *layout = i == 0 ? call->a : i == 1 ? call->b : call->d;
		if (layout)
			f->layout_destroy(layout);
	}
}

static void multiply(void *context, uint32_t index)
{
	static const float one = 1, zero = 0;
	struct call *call = context;
	const struct lt_product *p = call->product;
	int status = call->lt->f.matmul(call->lt->handle, call->desc, &one, p->weights[index % p->copies], call->a, p->x, call->b, &zero,
					p->y, call->d, p->y, call->d, &call->candidate->algo, call->lt->workspace,
					call->candidate->workspace_bytes, NULL);
	call->status = call->status ? call->status : status;
}

/* Seconds, or a thousand for a candidate that does not run. */
static double time_of(struct call *call, const struct lt_candidate *candidate, int rounds, double pass_s)
{
	call->candidate = candidate;
	call->status = 0;
	double seconds = bench_time(call->lt->bench, rounds, pass_s, multiply, call);
	return call->status ? 1e3 : seconds;
}

/* The least of the candidates' times, the first few of a first look measured again. */
static double best_of(struct call *call, const struct lt_candidate *found, int count, int *ret_at)
{
	double looks[CANDIDATES_MAX], best = 1e3;
	for (int i = 0; i < count; i++)
		looks[i] = found[i].state == 0 ? time_of(call, &found[i], 1, LOOK_SECONDS) : 1e3;
	for (int turn = 0; turn < FINAL_MAX && turn < count; turn++) {
		int at = 0;
		for (int i = 1; i < count; i++)
			at = looks[i] < looks[at] ? i : at;
		double seconds = looks[at] < 1e3 ? time_of(call, &found[at], 5, FINAL_SECONDS) : 1e3;
		looks[at] = 1e3;
		*ret_at = seconds < best ? at : *ret_at;
		best = seconds < best ? seconds : best;
	}
	return best;
}

static void print_best(struct call *call, const char *name, const char *by)
{
	static struct lt_candidate found[CANDIDATES_MAX];
	const struct lt *lt = call->lt;
	int count = 0, at = 0;
	int status = lt->f.heuristic(lt->handle, call->desc, call->a, call->b, call->d, call->d, lt->preference, CANDIDATES_MAX, found, &count);
	double seconds = status == 0 && count > 0 ? best_of(call, found, count, &at) : 1e3;
	printf("{\"name\": \"%s\", \"by\": \"%s\"", name, by);
	if (seconds < 1e3)
		printf(", \"us\": %.2f, \"candidates\": %d, \"candidate\": %d, \"tflops\": %.1f}\n", seconds * 1e6, count, at,
		       2.0 * call->product->n * call->product->k * call->product->rows / seconds * 1e-12);
	else
		printf(", \"why\": \"no algorithm (status %d, %d named)\"}\n", status, count);
}

void lt_measure(struct lt *lt, const char *name, const char *by, const struct lt_product *product)
{
	if (!lt || bench_over(lt->bench, name))
		return;
	struct call call = {.lt = lt, .product = product};
	if (describe(&call))
		print_best(&call, name, by);
	else
		printf("{\"name\": \"%s\", \"by\": \"%s\", \"why\": \"the library refuses the description\"}\n", name, by);
	fflush(stdout);
	forget(&call);
}

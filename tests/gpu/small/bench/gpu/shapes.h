/* shapes - of the benchmarks on the fake device: everything once, nothing large (bench/gpu/shapes.h says what each is). */
#ifndef BENCH_GPU_SHAPES_H
#define BENCH_GPU_SHAPES_H

#define SHAPES_ROUNDS	    1
#define SHAPES_PASS_SECONDS 0.0
#define SHAPES_CACHE_BYTES  (UINT64_C(1) << 18)

#define SHAPES_PRODUCTS	    {"qkv", 96, 256}, {"head", 200, 256},
#define SHAPES_PRODUCT_ROWS {20, true}, {1, true}, {8, false},
#define SHAPES_PRODUCT_ROWS_MAX 20
#define SHAPES_HEAD_ROWS_MAX	8
#define SHAPES_HEAD_N		200

enum { SHAPES_EXPERTS = 8, SHAPES_EXPERT_N = 128, SHAPES_EXPERT_K = 128, SHAPES_SLOTS = 32 };

#define SHAPES_ATTENTION                                                                                                              \
	{"attention/prefill/128", 1, 128, 128}, {"attention/decode/3 x 192", 3, 192, 1}, {"attention/chunk/64 of 256", 1, 256, 64},

#define SHAPES_MODELS                                                                                                                 \
	{"bf16", 2, 128, 256, 4, 2, 64, 512, ELEM_BF16}, {"fp8", 1, 128, 256, 4, 2, 64, 512, ELEM_E4M3},
#define SHAPES_BATCHES 1, 3
#define SHAPES_PROMPTS 128, 64
enum { SHAPES_BATCH_MAX = 3, SHAPES_CONTEXT = 128, SHAPES_CHUNK = 128 };

enum { SHAPES_ROWS = 4, SHAPES_HIDDEN = 128, SHAPES_INNER = 256, SHAPES_VOCABULARY = 2048 };
#define SHAPES_SAMPLED 1, 3
enum { SHAPES_SAMPLED_MAX = 3 };

enum { SHAPES_POOL_BYTES = 2 << 20, SHAPES_BATCH_BYTES = 128 << 10 };
#define SHAPES_PIECES	 64 << 10
#define SHAPES_PIN_BYTES ((size_t)1 << 20)

#define SHAPES_LAYERS	  {"qkv", 96, 256, 1}, {"experts", 64, 128, SHAPES_EXPERTS},
#define SHAPES_SWEEP_ROWS 1, 20
enum { SHAPES_SWEEP_ROWS_MAX = 20, SHAPES_TOP_K = 2 };
#define SHAPES_SWEEP_CACHE_BYTES (UINT64_C(1) << 17)
#define SHAPES_LOOK_SECONDS  0.0
#define SHAPES_AGAIN_SECONDS 0.0
#endif

/* shapes - what is measured on a GPU.  tests/gpu/small/ has another of this name in front of it: the same benchmarks, so small that they run on the
 * fake device. */
#ifndef BENCH_GPU_SHAPES_H
#define BENCH_GPU_SHAPES_H

#define SHAPES_ROUNDS	    5
#define SHAPES_PASS_SECONDS 0.02
/* What is read comes from memory where calls take turns at so many bytes: the second-level cache has 50 or 60 MB. */
#define SHAPES_CACHE_BYTES  (UINT64_C(400) << 20)

/* Weights of an 8B model's layer, and its head, which is not published in 8 bits: name, n, k. */
#define SHAPES_PRODUCTS                                                                                                               \
	{"qkv", 6144, 4096}, {"output", 4096, 4096}, {"gate_up", 28672, 4096}, {"down", 4096, 14336}, {"head", 128256, 4096},
/* Those with targets first; whether others are asked too. */
#define SHAPES_PRODUCT_ROWS                                                                                                           \
	{256, true}, {1024, true}, {4096, true}, {8192, true}, {1, true}, {8, false}, {16, true}, {32, false}, {64, false}, {128, false},
#define SHAPES_PRODUCT_ROWS_MAX 8192
#define SHAPES_HEAD_ROWS_MAX	256
#define SHAPES_HEAD_N		128256

/* Experts of a 30B-A3B model: 128 of 768 inner, 8 of them for each row. */
enum { SHAPES_EXPERTS = 128, SHAPES_EXPERT_N = 1536, SHAPES_EXPERT_K = 2048, SHAPES_SLOTS = 32768 };

/* Name, sequences, positions of each, the last rows of which are queries. */
#define SHAPES_ATTENTION                                                                                                              \
	{"attention/prefill/8192", 1, 8192, 8192}, {"attention/decode/1 x 8192", 1, 8192, 1},                                        \
	{"attention/decode/16 x 8192", 16, 8192, 1}, {"attention/decode/64 x 4096", 64, 4096, 1},                                    \
	{"attention/decode/256 x 4096", 256, 4096, 1}, {"attention/prefill/2048", 1, 2048, 2048},                                    \
	{"attention/chunk/2048 of 32768", 1, 32768, 2048},

/* Name, layers, hidden, inner, heads, heads of keys, head_dim, vocabulary, weights. */
#define SHAPES_MODELS                                                                                                                 \
	{"8b", 32, 4096, 14336, 32, 8, 128, 128256, ELEM_BF16}, {"1b", 16, 2048, 8192, 32, 8, 64, 128256, ELEM_BF16},                 \
	{"8b-fp8", 32, 4096, 14336, 32, 8, 128, 128256, ELEM_E4M3},
#define SHAPES_BATCHES 1, 8, 16, 64, 256
#define SHAPES_PROMPTS 1024, 256
enum { SHAPES_BATCH_MAX = 256, SHAPES_CONTEXT = 1024, SHAPES_CHUNK = 8192 };

/* What memory bounds, and the choice of tokens. */
enum { SHAPES_ROWS = 8192, SHAPES_HIDDEN = 4096, SHAPES_INNER = 14336, SHAPES_VOCABULARY = 128256 };
#define SHAPES_SAMPLED 1, 16, 256
enum { SHAPES_SAMPLED_MAX = 256 };

/* Bytes of a hand-over's pool and of a batch of reads; pieces. */
enum { SHAPES_POOL_BYTES = 64 << 20, SHAPES_BATCH_BYTES = 16 << 20 };
#define SHAPES_PIECES	 64 << 10, 256 << 10, 1 << 20
#define SHAPES_PIN_BYTES ((size_t)1 << 30)

/* The sweep of tiles: name, n, k, experts; rows. */
#define SHAPES_LAYERS                                                                                                                 \
	{"8b/qkv", 6144, 4096, 1}, {"8b/output", 4096, 4096, 1}, {"8b/gate_up", 28672, 4096, 1}, {"8b/down", 4096, 14336, 1},         \
	{"30b-a3b/qkv", 5120, 2048, 1}, {"30b-a3b/output", 2048, 4096, 1}, {"30b-a3b/experts gate_up", 1536, 2048, SHAPES_EXPERTS},   \
	{"30b-a3b/experts down", 2048, 768, SHAPES_EXPERTS}, {"70b/qkv", 10240, 8192, 1}, {"70b/output", 8192, 8192, 1},              \
	{"70b/gate_up", 57344, 8192, 1}, {"70b/down", 8192, 28672, 1}, {"1b/qkv", 3072, 2048, 1}, {"1b/output", 2048, 2048, 1},       \
	{"1b/gate_up", 16384, 2048, 1}, {"1b/down", 2048, 8192, 1},
#define SHAPES_SWEEP_ROWS 1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192
enum { SHAPES_SWEEP_ROWS_MAX = 8192, SHAPES_TOP_K = 8 };
#define SHAPES_SWEEP_CACHE_BYTES (UINT64_C(200) << 20)
#define SHAPES_LOOK_SECONDS  0.0015
#define SHAPES_AGAIN_SECONDS 0.005
#endif

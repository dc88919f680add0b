/* blocks - KV blocks with real contents: what a model's engine writes while it reads a text.
 *
 * Owns:   the model, its engine and the memory of the blocks.  Aborts with a message when something fails: a benchmark's. */
#ifndef BENCH_ENCODE_BLOCKS_H
#define BENCH_ENCODE_BLOCKS_H
#include <stddef.h>
#include <stdint.h>

struct blocks;

/* A run of bytes that is encoded as one. */
struct part {
	const uint8_t *bytes; /* [layer][kv_head][k|v][token][head_dim] */
	size_t length;
};

struct blocks_shape {
	const char *model;
	const char *numerics;
	uint32_t token_count;  /* read: whole blocks */
	uint32_t block_tokens;
	uint32_t head_dim;     /* numbers of a token side by side */
	uint32_t elem_bytes;   /* 2: bf16, 4: f32 */
};

/* Reads at most token_max tokens of the text. */
struct blocks *blocks_compute(const char *model_path, const char *text_path, uint32_t block_tokens, uint32_t token_max);
void blocks_destroy(struct blocks *blocks);
const struct blocks_shape *blocks_shape(const struct blocks *blocks);

/* The layers of all full blocks, one by one as nodes read them, or whole blocks as a disk keeps them; ret_parts is the
 * caller's to free. */
size_t blocks_layers(const struct blocks *blocks, struct part **ret_parts);
size_t blocks_whole(const struct blocks *blocks, struct part **ret_parts);
#endif

#include "node/sizes.h"

#include "engine/plan.h"

enum { BLOCK_TOKENS_LEAST = 4 };
#define KV_BYTES_CPU (UINT64_C(256) << 20)

/* Products and attention of a GPU reach what they are planned for at 2,048 rows (docs/gpu.md); its steps are those of vLLM on an H100. */
static const struct node_sizes on_cpu = {.block_tokens = 16, .seq_max = 64, .batch_tokens_max = 512, .chunk_tokens = 256};
static const struct node_sizes on_gpu = {.block_tokens = 64, .seq_max = PLAN_RUNS_MAX, .batch_tokens_max = 8192, .chunk_tokens = 2048};

static void choose(uint64_t *value, uint64_t chosen, uint64_t most)
{
	if (*value == 0)
		*value = chosen < most ? chosen : most;
}

static enum err check(const struct node_sizes *s, struct why *why)
{
	if (s->block_tokens < BLOCK_TOKENS_LEAST)
		return why_set(why, ERR_INVALID, "--block-size %llu, expected at least %d", (unsigned long long)s->block_tokens, BLOCK_TOKENS_LEAST);
	if (s->batch_tokens_max < s->seq_max || s->batch_tokens_max < s->block_tokens)
		return why_set(why, ERR_INVALID, "--max-num-batched-tokens %llu is below --max-num-seqs %llu or --block-size %llu",
			       (unsigned long long)s->batch_tokens_max, (unsigned long long)s->seq_max, (unsigned long long)s->block_tokens);
	if (s->chunk_tokens % s->block_tokens != 0)
		return why_set(why, ERR_INVALID, "--prefill-chunk-tokens %llu is no multiple of --block-size %llu",
			       (unsigned long long)s->chunk_tokens, (unsigned long long)s->block_tokens);
	return ERR_OK;
}

enum err node_sizes_choose(struct node_sizes *sizes, bool gpu, struct why *why)
{
	const struct node_sizes *usual = gpu ? &on_gpu : &on_cpu;
	struct node_sizes s = *sizes;
	choose(&s.block_tokens, usual->block_tokens, UINT64_MAX);
	choose(&s.batch_tokens_max, usual->batch_tokens_max, UINT64_MAX);
	choose(&s.seq_max, usual->seq_max, s.batch_tokens_max);
	choose(&s.chunk_tokens, usual->chunk_tokens / s.block_tokens * s.block_tokens, s.batch_tokens_max / s.block_tokens * s.block_tokens);
	if (s.chunk_tokens == 0)
		s.chunk_tokens = s.block_tokens; /* of blocks that are longer than the usual chunk */
	enum err e = check(&s, why);
	if (e == ERR_OK)
		*sizes = s;
	return e;
}

static enum err check_asked(const struct kv_room *room, struct why *why)
{
	uint64_t least = room->device_all < room->host ? room->device_all : room->host;
	if (room->asked <= least)
		return ERR_OK;
	return why_set(why, ERR_NOMEM, "--kv-bytes asks for %llu MiB, and %s has room for %llu MiB of KV blocks beside what it holds", (unsigned long long)room->asked >> 20,
		       least == room->host ? "the host" : "the GPU", (unsigned long long)least >> 20);
}

enum err node_kv_bytes(const struct kv_room *room, struct why *why, uint64_t *ret_bytes, const char **ret_bound)
{
	bool gpu = room->device != UINT64_MAX;
	uint64_t bytes = gpu ? room->device : KV_BYTES_CPU;
	const char *bound = gpu ? "the GPU's memory and --gpu-memory-utilization" : "the default of CPUs, --kv-bytes";
	enum err e = check_asked(room, why);
	if (e != ERR_OK)
		return e;
	if (room->asked > 0) {
		bytes = room->asked;
		bound = "--kv-bytes";
	} else if (bytes > room->host) {
		bytes = room->host;
		bound = "the host's memory, where every block is as well";
	}
	*ret_bytes = bytes;
	*ret_bound = bound;
	return ERR_OK;
}

#include "engine/kv_ranks.h"

#include "engine/shard.h"
#include "model/config.h"

/* The rank's heads in whole blocks. */
static struct kv_memory view_of(const struct kv_memory *whole, struct rank_share heads)
{
	struct kv_memory view = *whole;
	view.layout.head_kv_count = heads.count;
	view.base = (uint8_t *)whole->base + heads.first * kv_head_bytes(&whole->layout);
	return view;
}

/* Heads in order: one of the ranks that have the same; latents are whole at each. */
static void list_parts(struct kv_ranks *k)
{
	k->part_count = 0;
	for (uint32_t i = 0; i < k->ranks->count; i += k->replicas)
		k->parts[k->part_count++] = k->kv[i];
}

static enum err create_mirrors(struct kv_ranks *k, uint32_t block_count, uint32_t window)
{
	enum err e = dev_pin(k->ranks->devices[0], k->whole.base, k->bytes);
	k->pinned = e == ERR_OK;
	for (uint32_t i = 0; i < k->ranks->count && e == ERR_OK; i++) {
		e = kv_mirror_create(k->ranks->devices[i], &k->kv[i], block_count, window, k->ranks->count == 1, &k->mirrors[i]);
		if (e == ERR_OK)
			k->kv[i] = *kv_mirror_memory(k->mirrors[i]);
	}
	return e;
}

enum err kv_ranks_create(struct kv_ranks *k, const struct ranks *ranks, const struct model_config *config,
			 const struct kv_memory *kv, uint32_t block_count, uint32_t window)
{
	*k = (struct kv_ranks){.ranks = ranks, .whole = *kv, .bytes = block_count * kv->block_stride,
			       .replicas = shard_replicas(config, ranks->count)};
	for (uint32_t i = 0; i < ranks->count; i++)
		k->kv[i] = view_of(kv, shard_kv_heads(config, (struct shard){i, ranks->count}));
	if (!device_props(ranks->devices[0])->queued) {
		k->parts[0] = *kv;
		k->part_count = 1;
		return ERR_OK;
	}
	enum err e = create_mirrors(k, block_count, window);
	if (e == ERR_OK)
		list_parts(k);
	else
		kv_ranks_destroy(k);
	return e;
}

void kv_ranks_destroy(struct kv_ranks *k)
{
	for (uint32_t i = 0; i < DEVICES_MAX; i++)
		kv_mirror_destroy(k->mirrors[i]);
	if (k->pinned)
		dev_unpin(k->ranks->devices[0], k->whole.base, k->bytes);
	*k = (struct kv_ranks){0};
}

void kv_ranks_landing(struct kv_ranks *k, uint32_t block, uint32_t layer)
{
	for (uint32_t i = 0; i < DEVICES_MAX && k->mirrors[i]; i++)
		kv_mirror_landing(k->mirrors[i], block, layer);
}

void kv_ranks_copied(struct kv_ranks *k, uint32_t from, uint32_t to)
{
	for (uint32_t i = 0; i < DEVICES_MAX && k->mirrors[i]; i++)
		kv_mirror_copied(k->mirrors[i], from, to);
}

enum err kv_ranks_begin(struct kv_ranks *k, const struct kv_run *runs, uint32_t run_count)
{
	enum err e = ERR_OK;
	for (uint32_t i = 0; i < DEVICES_MAX && k->mirrors[i] && e == ERR_OK; i++)
		e = kv_mirror_begin(k->mirrors[i], runs, run_count);
	return e;
}

void kv_ranks_fetch(struct kv_ranks *k, uint32_t first, uint32_t end, const struct kv_run *runs, uint32_t run_count)
{
	for (uint32_t i = 0; i < DEVICES_MAX && k->mirrors[i]; i++) {
		uint32_t turn = (i + k->replicas - first % k->replicas) % k->replicas; /* its layers % replicas are i % replicas */
		kv_mirror_fetch(k->mirrors[i], (struct kv_layers){first + turn, end, k->replicas}, runs, run_count);
	}
}

void kv_ranks_digest(const struct kv_ranks *k, uint32_t layer, struct kv_runs *const *runs, uint64_t *ret_digests)
{
	struct kv_digest_call call = {.parts = k->parts, .part_count = k->part_count, .layer = layer, .turns = 1,
				      .ret_digests = ret_digests};
	bool queued = k->mirrors[0] != NULL;
	if (queued && k->part_count > 1)
		device_meet(k->ranks->devices[0]);
	call.turns = queued ? k->ranks->count : 1;
	for (uint32_t i = 0; i < call.turns; i++) {
		call.turn = i;
		call.runs = runs[i];
		if (k->part_count == 1 && queued)
			call.parts = &k->kv[i];
		op_kv_digest(k->ranks->devices[i], &call);
	}
}

#include "engine/kv_mirror.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct kv_mirror {
	struct device *device;
	struct kv_memory host, kv; /* the host's blocks and the device's */
	uint32_t block_count, window;
	pthread_mutex_t lock; /* of what is below */
	uint8_t *landed; /* [block_count] the host's is newer */
	uint32_t landed_count;
	uint32_t copies[KV_MIRROR_COPIES_MAX][2]; /* from, to */
	uint32_t copy_count;
};

static size_t blocks_bytes(const struct kv_mirror *mirror)
{
	return mirror->block_count * mirror->kv.block_stride;
}

enum err kv_mirror_create(struct device *device, const struct kv_memory *kv, uint32_t block_count, uint32_t window,
			  struct kv_mirror **ret_mirror)
{
	struct kv_mirror *mirror = calloc(1, sizeof(*mirror));
	if (!mirror)
		return ERR_NOMEM;
	mirror->device = device;
	mirror->host = mirror->kv = *kv;
	mirror->kv.base = NULL;
	mirror->kv.layer_stride = kv_layer_bytes(&kv->layout);
	mirror->kv.block_stride = kv_block_bytes(&kv->layout);
	mirror->block_count = block_count;
	mirror->window = window;
	pthread_mutex_init(&mirror->lock, NULL);
	mirror->landed = calloc(block_count, 1);
	enum err e = mirror->landed ? ERR_OK : ERR_NOMEM;
	if (e == ERR_OK)
		e = dev_alloc(device, MEM_DEVICE, blocks_bytes(mirror), &mirror->kv.base);
	if (e != ERR_OK) {
		kv_mirror_destroy(mirror);
		return e;
	}
	*ret_mirror = mirror;
	return ERR_OK;
}

void kv_mirror_destroy(struct kv_mirror *mirror)
{
	if (!mirror)
		return;
	dev_free(mirror->device, MEM_DEVICE, mirror->kv.base, blocks_bytes(mirror));
	pthread_mutex_destroy(&mirror->lock);
	free(mirror->landed);
	free(mirror);
}

const struct kv_memory *kv_mirror_memory(const struct kv_mirror *mirror)
{
	return &mirror->kv;
}

/* --- what the host changed ------------------------------------------------------------------------------ */

void kv_mirror_landing(struct kv_mirror *mirror, uint32_t block)
{
	uint32_t index = block - mirror->host.block_first;
	assert(index < mirror->block_count);
	pthread_mutex_lock(&mirror->lock);
	mirror->landed_count += !mirror->landed[index];
	mirror->landed[index] = 1;
	pthread_mutex_unlock(&mirror->lock);
}

void kv_mirror_copied(struct kv_mirror *mirror, uint32_t from, uint32_t to)
{
	uint32_t first = mirror->host.block_first;
	assert(from - first < mirror->block_count && to - first < mirror->block_count);
	pthread_mutex_lock(&mirror->lock);
	assert(mirror->copy_count < KV_MIRROR_COPIES_MAX);
	mirror->copies[mirror->copy_count][0] = from;
	mirror->copies[mirror->copy_count++][1] = to;
	pthread_mutex_unlock(&mirror->lock);
}

static void upload(struct kv_mirror *mirror, uint32_t block)
{
	uint32_t index = block - mirror->host.block_first;
	if (!mirror->landed[index])
		return;
	mirror->landed[index] = 0;
	mirror->landed_count--;
	const struct copy_lines layers = {.to = kv_block_at(&mirror->kv, block), .to_stride = mirror->kv.layer_stride,
					  .from = kv_block_at(&mirror->host, block), .from_stride = mirror->host.layer_stride,
					  .bytes = kv_layer_bytes(&mirror->kv.layout), .count = mirror->kv.layout.layer_count};
	dev_copy_lines(mirror->device, &layers);
}

static enum err do_copies(struct kv_mirror *mirror)
{
	enum err e = ERR_OK;
	for (uint32_t i = 0; i < mirror->copy_count && e == ERR_OK; i++) {
		uint32_t from = mirror->copies[i][0], to = mirror->copies[i][1];
		upload(mirror, from);
		e = dev_copy(mirror->device, kv_block_at(&mirror->kv, to), kv_block_at(&mirror->kv, from),
			     kv_block_bytes(&mirror->kv.layout));
		/* Had something been about to land there, it did not come. */
		mirror->landed_count -= mirror->landed[to - mirror->host.block_first];
		mirror->landed[to - mirror->host.block_first] = 0;
	}
	mirror->copy_count = 0;
	return e;
}

/* Blocks outside every window were given back: they may be anybody's, and something may be landing in them now. */
static void upload_table(struct kv_mirror *mirror, const struct kv_run *run)
{
	uint32_t end = run->first_position + run->row_count, size = mirror->host.layout.block_tokens, first = 0;
	if (mirror->window > 0 && run->first_position + 1 > mirror->window)
		first = (run->first_position + 1 - mirror->window) / size;
	for (uint32_t i = first; i < (end + size - 1) / size && mirror->landed_count > 0; i++)
		upload(mirror, run->blocks[i]);
}

enum err kv_mirror_begin(struct kv_mirror *mirror, const struct kv_run *runs, uint32_t run_count)
{
	pthread_mutex_lock(&mirror->lock);
	enum err e = do_copies(mirror);
	for (uint32_t i = 0; i < run_count && e == ERR_OK; i++)
		upload_table(mirror, &runs[i]);
	pthread_mutex_unlock(&mirror->lock);
	return e;
}

/* --- what the device wrote -------------------------------------------------------------------------------- */

void kv_mirror_fetch(struct kv_mirror *mirror, uint32_t layer, const struct kv_run *runs, uint32_t run_count)
{
	size_t bytes = kv_layer_bytes(&mirror->kv.layout);
	uint32_t size = mirror->kv.layout.block_tokens;
	for (uint32_t i = 0; i < run_count; i++) {
		const struct kv_run *run = &runs[i];
		uint32_t last = (run->first_position + run->row_count - 1) / size;
		for (uint32_t block = run->first_position / size; run->digest && block <= last; block++)
			dev_fetch(mirror->device, kv_layer_at(&mirror->host, run->blocks[block], layer),
				  kv_layer_at(&mirror->kv, run->blocks[block], layer), bytes);
	}
}

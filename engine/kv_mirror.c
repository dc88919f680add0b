#include "engine/kv_mirror.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "engine/kv_side.h"

struct kv_mirror {
	struct device *device;
	struct kv_memory host, kv; /* the host's blocks and the device's */
	enum mem_kind kind;        /* of the device's */
	uint32_t block_count, window;
	pthread_mutex_t lock; /* of what is below */
	uint8_t *sides;       /* [block_count][layer] enum kv_side */
	uint32_t differ_count; /* of those that are not KV_SAME */
	uint32_t copies[KV_MIRROR_COPIES_MAX][2]; /* from, to */
	uint32_t copy_count;
};

static size_t blocks_bytes(const struct kv_mirror *mirror)
{
	return mirror->block_count * mirror->kv.block_stride;
}

/* Neighbours cost the host's way where this memory is not to be had. */
static enum err take_blocks(struct kv_mirror *mirror, bool share)
{
	enum err e = ERR_OK;
	mirror->kind = MEM_SHARED;
	if (share)
		e = dev_alloc(mirror->device, mirror->kind, blocks_bytes(mirror), &mirror->kv.base);
	if (share && e == ERR_OK)
		return ERR_OK;
	if (share)
		log_warn("%s: no memory that neighbours can read (%s): they read KV blocks from the host's",
			 device_props(mirror->device)->name, e == ERR_UNSUPPORTED ? "its driver shares none" : err_text(e));
	mirror->kind = MEM_DEVICE;
	return dev_alloc(mirror->device, mirror->kind, blocks_bytes(mirror), &mirror->kv.base);
}

enum err kv_mirror_create(struct device *device, const struct kv_memory *kv, uint32_t block_count, uint32_t window, bool share,
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
	mirror->sides = calloc(block_count, kv->layout.layer_count);
	enum err e = mirror->sides ? take_blocks(mirror, share) : ERR_NOMEM;
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
	dev_free(mirror->device, mirror->kind, mirror->kv.base, blocks_bytes(mirror));
	pthread_mutex_destroy(&mirror->lock);
	free(mirror->sides);
	free(mirror);
}

const struct kv_memory *kv_mirror_memory(const struct kv_mirror *mirror)
{
	return &mirror->kv;
}

const struct kv_memory *kv_mirror_host(const struct kv_mirror *mirror)
{
	return &mirror->host;
}

bool kv_mirror_is_shared(const struct kv_mirror *mirror, size_t *ret_bytes)
{
	*ret_bytes = blocks_bytes(mirror);
	return mirror->kind == MEM_SHARED;
}

/* --- what the host changed, or a neighbour brought --------------------------------------------------------- */

static uint8_t *sides_of(struct kv_mirror *mirror, uint32_t block)
{
	uint32_t index = block - mirror->host.block_first;
	assert(index < mirror->block_count);
	return mirror->sides + (size_t)index * mirror->kv.layout.layer_count;
}

/* Under the lock. */
static void move(struct kv_mirror *mirror, uint8_t *side, enum kv_side_event event)
{
	enum kv_side next = KV_SAME;
	bool may = kv_side_move((enum kv_side)*side, event, &next);
	assert(may);
	(void)may;
	mirror->differ_count += (uint32_t)(next != KV_SAME) - (uint32_t)(*side != KV_SAME);
	*side = (uint8_t)next;
}

static void move_layer(struct kv_mirror *mirror, uint32_t block, uint32_t layer, enum kv_side_event event)
{
	assert(layer < mirror->kv.layout.layer_count);
	pthread_mutex_lock(&mirror->lock);
	move(mirror, sides_of(mirror, block) + layer, event);
	pthread_mutex_unlock(&mirror->lock);
}

void kv_mirror_landing(struct kv_mirror *mirror, uint32_t block, uint32_t layer)
{
	move_layer(mirror, block, layer, KV_LANDING);
}

void kv_mirror_arriving(struct kv_mirror *mirror, uint32_t block, uint32_t layer)
{
	move_layer(mirror, block, layer, KV_ARRIVING);
}

void kv_mirror_arrived(struct kv_mirror *mirror, uint32_t block, uint32_t layer, bool in_both)
{
	move_layer(mirror, block, layer, in_both ? KV_ARRIVED : KV_MISSED);
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

/* Layers side by side in one call. */
static void upload_layers(struct kv_mirror *mirror, uint32_t block, uint32_t first, uint32_t count)
{
	const struct copy_lines layers = {.to = kv_layer_at(&mirror->kv, block, first), .to_stride = mirror->kv.layer_stride,
					  .from = kv_layer_at(&mirror->host, block, first), .from_stride = mirror->host.layer_stride,
					  .bytes = kv_layer_bytes(&mirror->kv.layout), .count = count};
	dev_copy_lines(mirror->device, &layers);
}

static void upload(struct kv_mirror *mirror, uint32_t block)
{
	uint8_t *sides = sides_of(mirror, block);
	uint32_t layer_count = mirror->kv.layout.layer_count;
	for (uint32_t layer = 0, first; layer < layer_count; layer++) {
		for (first = layer; layer < layer_count && sides[layer] != KV_SAME; layer++)
			move(mirror, &sides[layer], KV_UPLOADED); /* which nothing may be arriving in */
		if (layer > first)
			upload_layers(mirror, block, first, layer - first);
	}
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
		for (uint32_t layer = 0; layer < mirror->kv.layout.layer_count; layer++)
			move(mirror, sides_of(mirror, to) + layer, KV_REPLACED);
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
	for (uint32_t i = first; i < (end + size - 1) / size && mirror->differ_count > 0; i++)
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

/* What is to be fetched: a call for many pieces costs the host little more than one for a piece. */
struct fetch {
	struct fetch_piece pieces[DEV_FETCH_PIECES_MAX]; /* [count] */
	size_t count;
};

static void fetch_all(struct kv_mirror *mirror, struct fetch *fetch)
{
	dev_fetch(mirror->device, fetch->pieces, fetch->count);
	fetch->count = 0;
}

/* Layers and blocks that lie side by side in both memories are one piece. */
static void fetch_layer(struct kv_mirror *mirror, struct fetch *fetch, uint32_t block, uint32_t layer)
{
	size_t bytes = kv_layer_bytes(&mirror->kv.layout);
	uint8_t *to = kv_layer_at(&mirror->host, block, layer);
	const uint8_t *from = kv_layer_at(&mirror->kv, block, layer);
	struct fetch_piece *last = fetch->count > 0 ? &fetch->pieces[fetch->count - 1] : NULL;
	if (last && (uint8_t *)last->to + last->bytes == to && (const uint8_t *)last->from + last->bytes == from) {
		last->bytes += bytes;
		return;
	}
	if (fetch->count == DEV_FETCH_PIECES_MAX)
		fetch_all(mirror, fetch);
	fetch->pieces[fetch->count++] = (struct fetch_piece){to, from, bytes};
}

void kv_mirror_fetch(struct kv_mirror *mirror, struct kv_layers layers, const struct kv_run *runs, uint32_t run_count)
{
	struct fetch fetch;
	uint32_t size = mirror->kv.layout.block_tokens;
	fetch.count = 0;
	for (uint32_t i = 0; i < run_count; i++) {
		const struct kv_run *run = &runs[i];
		uint32_t last = (run->first_position + run->row_count - 1) / size;
		for (uint32_t block = run->first_position / size; run->digest && block <= last; block++)
			for (uint32_t layer = layers.first; layer < layers.end; layer += layers.step)
				fetch_layer(mirror, &fetch, run->blocks[block], layer);
	}
	fetch_all(mirror, &fetch);
}

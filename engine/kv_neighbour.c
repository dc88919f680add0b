#include "engine/kv_neighbour.h"

#include <assert.h>
#include <stdlib.h>

#include "base/layer_groups.h"
#include "engine/kv_mirror.h"
#include "kernels/peer_memory.h"

_Static_assert(KV_NEIGHBOUR_READS_MAX == DEV_READ_PIECES_MAX, "one call of the device");

/* A layer of a block. */
struct place {
	struct kv_mirror *mirror;
	uint32_t block, layer;
};

struct kv_neighbour {
	struct device *device;
	struct dev_reader *reader;
	struct kv_mirror *mirrors[LAYER_GROUPS_MAX];
	uint32_t group_count;
	struct place places[KV_NEIGHBOUR_READS_MAX]; /* of the call under way */
	struct dev_piece pieces[KV_NEIGHBOUR_READS_MAX];
	uint64_t digests[KV_NEIGHBOUR_READS_MAX];
};

enum err kv_neighbour_create(struct device *device, struct kv_mirror *const *mirrors, uint32_t group_count, struct why *why,
			     struct kv_neighbour **ret_neighbour)
{
	size_t bytes;
	for (uint32_t g = 0; g < group_count; g++)
		if (!mirrors[g] || !kv_mirror_is_shared(mirrors[g], &bytes))
			return why_set(why, ERR_UNSUPPORTED, "%s: its KV blocks are in no memory that has descriptors", device_props(device)->name);
	struct kv_neighbour *n = calloc(1, sizeof(*n));
	if (!n)
		return ERR_NOMEM;
	n->device = device;
	n->group_count = group_count;
	for (uint32_t g = 0; g < group_count; g++)
		n->mirrors[g] = mirrors[g];
	enum err e = dev_reader_create(device, &n->reader);
	if (e != ERR_OK) {
		free(n);
		return why_set(why, e, "%s: no stream for a neighbour's memory", device_props(device)->name);
	}
	*ret_neighbour = n;
	return ERR_OK;
}

void kv_neighbour_destroy(struct kv_neighbour *n)
{
	if (!n)
		return;
	dev_reader_destroy(n->reader);
	free(n);
}

enum err kv_neighbour_export(struct kv_neighbour *n, uint32_t group, void **ret_memory, int *ret_fd, struct why *why)
{
	assert(group < n->group_count);
	*ret_memory = kv_mirror_memory(n->mirrors[group])->base;
	return dev_export(n->device, *ret_memory, ret_fd, why);
}

enum err kv_neighbour_import(struct kv_neighbour *n, int fd, size_t bytes, void **ret_memory, struct why *why)
{
	return dev_import(n->device, fd, bytes, false, ret_memory, why);
}

void kv_neighbour_unimport(struct kv_neighbour *n, void *memory, size_t bytes)
{
	dev_unimport(n->device, memory, bytes);
}

static struct kv_mirror *mirror_of_block(const struct kv_neighbour *n, uint32_t block)
{
	uint32_t g = n->group_count - 1;
	while (block < kv_mirror_memory(n->mirrors[g])->block_first)
		g--;
	return n->mirrors[g];
}

void *kv_neighbour_twin(const struct kv_neighbour *n, uint32_t block, uint32_t layer)
{
	const struct kv_memory *kv = kv_mirror_memory(mirror_of_block(n, block));
	size_t bytes = kv_layer_bytes(&kv->layout);
	return bytes % 16 == 0 && bytes <= DEV_READ_BYTES_MAX ? kv_layer_at(kv, block, layer) : NULL;
}

static struct place place_of(const struct kv_neighbour *n, const void *to)
{
	for (uint32_t g = 0; g < n->group_count; g++) {
		const struct kv_memory *kv = kv_mirror_memory(n->mirrors[g]);
		size_t bytes, offset = (size_t)((const uint8_t *)to - (const uint8_t *)kv->base);
		(void)kv_mirror_is_shared(n->mirrors[g], &bytes);
		if (offset < bytes)
			return (struct place){n->mirrors[g], kv->block_first + (uint32_t)(offset / kv->block_stride),
					      (uint32_t)(offset % kv->block_stride / kv->layer_stride)};
	}
	assert(!"a twin");
	return (struct place){0};
}

enum err kv_neighbour_read(struct kv_neighbour *n, struct kv_arrival *arrivals, size_t count)
{
	assert(count <= KV_NEIGHBOUR_READS_MAX);
	for (size_t i = 0; i < count; i++) {
		struct place *p = &n->places[i];
		*p = place_of(n, arrivals[i].to);
		n->pieces[i] = (struct dev_piece){.to = arrivals[i].to, .from = arrivals[i].from,
						  .bytes = kv_layer_bytes(&kv_mirror_memory(p->mirror)->layout),
						  .host = kv_layer_at(kv_mirror_host(p->mirror), p->block, p->layer)};
		kv_mirror_arriving(p->mirror, p->block, p->layer);
	}
	enum err e = dev_reader_read(n->reader, n->pieces, count, n->digests);
	for (size_t i = 0; i < count; i++) {
		arrivals[i].landed = e == ERR_OK && n->digests[i] == arrivals[i].digest;
		kv_mirror_arrived(n->places[i].mirror, n->places[i].block, n->places[i].layer, arrivals[i].landed);
	}
	return e;
}

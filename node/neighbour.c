#include "node/neighbour.h"

#include <assert.h>

#include "base/log.h"
#include "engine/engine.h"
#include "engine/kv_neighbour.h"
#include "net/link.h"
#include "net/region.h"

enum { ALIGN = 16 };

static enum err import(void *context, int fd, uint64_t bytes, void **ret_memory, struct why *why)
{
	return kv_neighbour_import(context, fd, bytes, ret_memory, why);
}

static void unimport(void *context, void *memory, uint64_t bytes)
{
	kv_neighbour_unimport(context, memory, bytes);
}

/* Landings are of whole layers: the engine knows how long they are. */
static enum err read_arrivals(void *context, struct link_arrival *arrivals, size_t count)
{
	struct kv_arrival list[KV_NEIGHBOUR_READS_MAX];
	assert(count <= KV_NEIGHBOUR_READS_MAX);
	for (size_t i = 0; i < count; i++)
		list[i] = (struct kv_arrival){.to = arrivals[i].to, .from = arrivals[i].from, .digest = arrivals[i].digest};
	enum err e = kv_neighbour_read(context, list, count);
	for (size_t i = 0; i < count; i++)
		arrivals[i].landed = list[i].landed;
	return e;
}

static enum err export_regions(struct kv_neighbour *neighbour, struct region *const *regions, uint32_t group_count, struct why *why)
{
	enum err e = ERR_OK;
	for (uint32_t g = 0; g < group_count && e == ERR_OK; g++) {
		struct region_twin twin = {.kind = MEMORY_CUDA};
		e = kv_neighbour_export(neighbour, g, &twin.memory, &twin.fd, why);
		if (e == ERR_OK)
			region_set_twin(regions[g], &twin);
	}
	return e;
}

enum err neighbour_open(struct engine *engine, struct link *link, struct region *const *regions, uint32_t group_count, struct why *why,
			struct kv_neighbour **ret_neighbour)
{
	struct kv_neighbour *neighbour = NULL;
	enum err e = engine_neighbour(engine, why, &neighbour);
	if (e == ERR_OK)
		e = export_regions(neighbour, regions, group_count, why);
	*ret_neighbour = NULL;
	if (e == ERR_UNSUPPORTED)
		log_info("KV goes through the host's memory: %s", why->text);
	if (e == ERR_UNSUPPORTED || e == ERR_NOT_FOUND)
		return ERR_OK;
	if (e != ERR_OK)
		return e;
	const struct link_device device = {.context = neighbour, .kind = MEMORY_CUDA, .import = import, .unimport = unimport, .read = read_arrivals,
					   .arrivals_max = KV_NEIGHBOUR_READS_MAX, .align = ALIGN};
	e = link_use_device(link, &device);
	if (e == ERR_OK)
		*ret_neighbour = neighbour;
	return e;
}

/* A region and a read of it over each transport: server and reader in one process, so both sides are tortured. */
#include <stdlib.h>
#include <string.h>

#include "fail.h"
#include "net/link.h"
#include "net/loop.h"
#include "net/region.h"
#include "torture.h"

enum { PIECES = 3, SLOT_BYTES = 65536, SLOTS = 4, OWNER = 2, READER = 1 };

struct world {
	struct loop *loop;
	struct region *region;
	struct link *owner, *reader;
	struct buf address;
	uint8_t *landing;
	int done, freed;
	enum err e;
};

static void on_done(void *context, const struct link_result *results, size_t count)
{
	struct world *w = context;
	torture_check(!w->done && count == PIECES);
	for (size_t i = 0; i < count; i++)
		w->e = w->e == ERR_OK ? results[i].err : w->e;
	w->done = 1;
}

static void on_free(void *context)
{
	struct world *w = context;
	torture_check(w->done && !w->freed);
	w->freed = 1;
}

static enum err open_owner(struct world *w, enum link_transport transport, bool one_sided, struct why *why)
{
	struct region_options region = {.index = 3, .slot_bytes = SLOT_BYTES, .slot_count = SLOTS};
	struct link_options options = {.node = OWNER, .incarnation = 22, .transport = transport, .one_sided = one_sided};
	enum err e = region_create(&region, &w->region, why);
	if (e != ERR_OK)
		return e;
	for (size_t i = 0; i < SLOT_BYTES * SLOTS; i++)
		((uint8_t *)region_slot(w->region, 0))[i] = (uint8_t)(i % 251);
	e = link_create(w->loop, &options, &w->owner, why);
	if (e == ERR_OK)
		e = link_region_add(w->owner, w->region, why);
	return e == ERR_OK ? link_local_address(w->owner, &w->address) : e;
}

static enum err read_pieces(struct world *w, struct why *why)
{
	struct handle handles[PIECES];
	void *landings[PIECES];
	for (size_t i = 0; i < PIECES; i++) {
		handles[i] = (struct handle){.node = OWNER, .incarnation = 22, .region = 3, .offset = i * SLOT_BYTES,
					     .length = i == 0 ? 4096 : SLOT_BYTES, .generation = 1};
		landings[i] = w->landing + i * SLOT_BYTES;
	}
	struct link_read_options options = {.node = OWNER, .handles = handles, .landings = landings, .count = PIECES,
					    .timeout_ns = torture_patience_ns(), .done = on_done, .landing_free = on_free,
					    .context = w};
	enum err e = link_read(w->reader, &options, NULL);
	if (e != ERR_OK)
		return why_set(why, e, "read refused");
	e = torture_wait(w->loop, &w->done, why);
	if (e == ERR_OK && w->e != ERR_OK)
		e = why_set(why, w->e, "read failed");
	for (size_t i = 0; e == ERR_OK && i < PIECES; i++)
		torture_check(memcmp(landings[i], region_slot(w->region, i), handles[i].length) == 0);
	return e;
}

static void close_all(struct world *w)
{
	bool reading = w->done && !w->freed;
	link_destroy(w->reader);
	torture_check(!reading || w->freed);
	link_destroy(w->owner);
	region_destroy(w->region);
	loop_destroy(w->loop);
	buf_fini(&w->address);
	free(w->landing);
}

static enum err transfer(enum link_transport transport, bool one_sided, struct why *why)
{
	struct world w = {0};
	struct link_options options = {.node = READER, .incarnation = 11, .transport = transport, .one_sided = one_sided};
	fail_pause();
	w.landing = malloc(PIECES * SLOT_BYTES);
	fail_resume();
	enum err e = loop_create(&w.loop);
	if (e == ERR_OK)
		e = open_owner(&w, transport, one_sided, why);
	if (e == ERR_OK)
		e = link_create(w.loop, &options, &w.reader, why);
	if (e == ERR_OK)
		e = link_peer_open(w.reader, OWNER, 22, w.address.data, w.address.length, why);
	if (e == ERR_OK)
		e = read_pieces(&w, why);
	close_all(&w);
	return e == ERR_OK || why->text[0] ? e : why_set(why, e, "transfer");
}

static enum err mapped(struct why *why)
{
	return transfer(LINK_MAPPED, false, why);
}

static enum err ucx_tcp(struct why *why)
{
	return transfer(LINK_UCX_TCP, false, why);
}

static enum err ucx_shm(struct why *why)
{
	return transfer(LINK_UCX_SHM, false, why);
}

static enum err ucx_tcp_one_sided(struct why *why)
{
	return transfer(LINK_UCX_TCP, true, why);
}

static enum err bulk_tcp(struct why *why)
{
	return transfer(LINK_TCP, false, why);
}

const struct scenario link_scenarios[] = {
	{"link, mapped", mapped, NULL, 32, true},
	{"link, bulk over TCP", bulk_tcp, NULL, 8, true},
	{"link, UCX over TCP", ucx_tcp, NULL, 8, true},
	{"link, UCX shared memory", ucx_shm, NULL, 8, true},
	{"link, UCX one-sided", ucx_tcp_one_sided, NULL, 8, true},
	{0},
};

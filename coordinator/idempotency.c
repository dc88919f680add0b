#include "coordinator/idempotency.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/map.h"

struct slot {
	struct id128 key, request;
	uint64_t given_ns;
	bool used, runs;
};

/* Slots are given in a circle: the next one is the oldest, unless it runs. */
struct idempotency {
	struct map map; /* key -> slot */
	uint32_t next;
	struct slot slots[IDEMPOTENCY_KEYS_MAX];
	void *map_memory;
};

enum err idempotency_create(struct idempotency **ret_table)
{
	struct idempotency *table = calloc(1, sizeof(*table));
	void *memory = malloc(map_bytes(IDEMPOTENCY_KEYS_MAX));
	if (!table || !memory) {
		free(table);
		free(memory);
		return ERR_NOMEM;
	}
	table->map_memory = memory;
	map_init(&table->map, memory, IDEMPOTENCY_KEYS_MAX);
	*ret_table = table;
	return ERR_OK;
}

void idempotency_destroy(struct idempotency *table)
{
	if (!table)
		return;
	free(table->map_memory);
	free(table);
}

static struct slot *take_slot(struct idempotency *table)
{
	for (uint32_t i = 0; i < IDEMPOTENCY_KEYS_MAX; i++) {
		struct slot *slot = &table->slots[table->next];
		table->next = (table->next + 1) % IDEMPOTENCY_KEYS_MAX;
		if (slot->runs)
			continue;
		if (slot->used)
			map_remove(&table->map, &slot->key);
		return slot;
	}
	return NULL;
}

static struct slot *find_slot(struct idempotency *table, const struct id128 *key, uint64_t now_ns)
{
	uint32_t index = map_get(&table->map, key);
	struct slot *slot = index == MAP_NONE ? NULL : &table->slots[index];
	return slot && (slot->runs || now_ns < slot->given_ns + IDEMPOTENCY_AGE_NS) ? slot : NULL;
}

enum err idempotency_begin(struct idempotency *table, const struct id128 *key, const struct id128 *request,
			   uint64_t now_ns, uint32_t *ret_ticket)
{
	struct slot *slot = find_slot(table, key, now_ns);
	*ret_ticket = IDEMPOTENCY_NONE;
	if (slot && !id128_equal(&slot->request, request))
		return ERR_EXISTS;
	if (slot && slot->runs)
		return ERR_BUSY;
	if (!slot) {
		uint32_t stale = map_get(&table->map, key);
		slot = stale != MAP_NONE ? &table->slots[stale] : take_slot(table);
	}
	if (!slot)
		return ERR_OK;
	uint32_t index = (uint32_t)(slot - table->slots);
	*slot = (struct slot){.key = *key, .request = *request, .given_ns = now_ns, .used = true, .runs = true};
	enum err e = map_put(&table->map, key, index);
	assert(e == ERR_OK); /* as many places as slots */
	(void)e;
	*ret_ticket = index + 1;
	return ERR_OK;
}

void idempotency_end(struct idempotency *table, uint32_t ticket)
{
	if (ticket != IDEMPOTENCY_NONE)
		table->slots[ticket - 1].runs = false;
}

/* Any bytes as events of nodes' caches: what the index says of a chain is what the events say, or less. */
#include <assert.h>
#include <stdlib.h>

#include "bytes.h"
#include "coordinator/index.h"

enum { NODES = 12, BLOCKS = 24, KEYS = 48, RUN = 12 };

struct model {
	bool up[NODES], synced[NODES];
	uint64_t sequence[NODES];
	bool holds[NODES][KEYS];
};

static uint32_t keys_of(struct bytes *in, uint8_t *keys, uint8_t *numbers)
{
	uint32_t count = bytes_below(in, RUN);
	memset(keys, 0, RUN * 16);
	for (uint32_t i = 0; i < count; i++) {
		numbers[i] = (uint8_t)bytes_below(in, KEYS);
		keys[i * 16] = numbers[i];
		keys[i * 16 + 9] = numbers[i];
	}
	return count;
}

static void events(struct block_index *index, struct model *m, struct bytes *in)
{
	uint32_t node = bytes_below(in, NODES);
	uint8_t added[RUN * 16], removed[RUN * 16], added_numbers[RUN], removed_numbers[RUN];
	if (!m->up[node])
		return;
	struct index_events e = {.reset = bytes_below(in, 8) == 7, .added = added, .removed = removed};
	bool gap = bytes_below(in, 16) == 15;
	e.sequence = gap ? bytes_number(in) : m->sequence[node] + 1;
	e.added_count = keys_of(in, added, added_numbers);
	e.removed_count = keys_of(in, removed, removed_numbers);
	bool old = e.sequence <= m->sequence[node];
	bool next = e.reset || (m->synced[node] && e.sequence == m->sequence[node] + 1);
	enum err told = index_events(index, node, &e);
	assert(told == ERR_OK || (told == ERR_STALE && !old && !next));
	if (old)
		return;
	m->synced[node] = next;
	if (!next)
		return;
	m->sequence[node] = e.sequence;
	if (e.reset)
		memset(m->holds[node], 0, sizeof(m->holds[node]));
	for (uint32_t i = 0; i < e.removed_count; i++)
		m->holds[node][removed_numbers[i]] = false;
	for (uint32_t i = 0; i < e.added_count; i++)
		m->holds[node][added_numbers[i]] = true;
}

/* Never more than the node said; its own removals are in the events already. */
static void match(const struct block_index *index, const struct model *m, struct bytes *in)
{
	struct id128 chain[RUN];
	struct index_match out[NODES];
	uint8_t numbers[RUN], keys[RUN * 16];
	uint32_t count = keys_of(in, keys, numbers);
	memcpy(chain, keys, sizeof(chain));
	uint32_t found = index_match(index, chain, count, out);
	assert(found <= NODES);
	for (uint32_t i = 0; i < found; i++) {
		assert(out[i].node < NODES && m->up[out[i].node] && out[i].depth >= 1 && out[i].depth <= count);
		for (uint32_t k = 0; k < out[i].depth && m->synced[out[i].node]; k++)
			assert(m->holds[out[i].node][numbers[k]]);
	}
}

static void one(struct block_index *index, struct model *m, struct bytes *in)
{
	uint32_t node;
	switch (bytes_below(in, 6)) {
	case 0:
		node = bytes_below(in, NODES);
		index_node_up(index, node);
		m->up[node] = true;
		m->synced[node] = false;
		m->sequence[node] = 0;
		memset(m->holds[node], 0, sizeof(m->holds[node]));
		break;
	case 1:
		node = bytes_below(in, NODES);
		if (m->up[node])
			index_node_down(index, node);
		m->up[node] = m->synced[node] = false;
		break;
	case 2:
		index_sweep(index, bytes_below(in, 64));
		break;
	case 3:
		match(index, m, in);
		break;
	default:
		events(index, m, in);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	struct index_options options = {.nodes_max = NODES, .blocks_max = BLOCKS};
	struct bytes in = {data, length};
	struct model m = {0};
	void *memory = aligned_alloc(64, (index_bytes(&options) + 63) / 64 * 64);
	struct block_index *index = index_init(memory, &options);
	while (in.left) {
		one(index, &m, &in);
		index_check(index);
	}
	free(memory);
	return 0;
}

/* pins - operators at the stores: what they say, and whether it is kept. */
#include <string.h>

#include "tests/sim/cluster_impl.h"

enum { WAYS = 8 };

static uint32_t find(const struct member *m, const struct id128 *key)
{
	uint32_t i = 0;
	while (i < m->pinned_count && !id128_equal(&m->pinned[i], key))
		i++;
	return i;
}

void pins_check(struct member *m)
{
	for (uint32_t i = 0; i < m->pinned_count; i++) {
		enum ledger_pin pin = LEDGER_UNPINNED;
		enum err e = store_pinned(m->store, &m->pinned[i], &pin);
		if (e != ERR_OK || pin != LEDGER_PINNED_HARD)
			cluster_fail(m->cluster, "I13: %s has lost a block that is pinned, or its pin: %s", m->name, err_name(e));
	}
	if (m->pinned_count > PINNED_MAX * 3) /* a block of one layer is a third of what pins are counted in */
		cluster_fail(m->cluster, "I13: %s has %u blocks pinned", m->name, m->pinned_count);
}

static void pin(struct member *m, const struct id128 *key, enum ledger_pin how)
{
	uint32_t at = find(m, key);
	uint64_t note;
	enum err e = store_pin(m->store, key, how, &note);
	m->cluster->pins += e == ERR_OK;
	m->cluster->pins_refused += e != ERR_OK;
	if (e != ERR_OK)
		return;
	if (how == LEDGER_PINNED_HARD && at == m->pinned_count)
		m->pinned[m->pinned_count++] = *key;
	else if (how != LEDGER_PINNED_HARD && at < m->pinned_count)
		m->pinned[at] = m->pinned[--m->pinned_count];
}

static void evict(struct member *m, const struct id128 *key)
{
	bool pinned = find(m, key) < m->pinned_count;
	uint64_t note;
	enum err e = store_evict(m->store, key, &note);
	if (e == ERR_OK)
		disk_evicted(m, key, note);
	if (e == ERR_OK && pinned)
		cluster_fail(m->cluster, "I13: %s evicts a pinned block by command", m->name);
}

/* A word about some block; mostly that it stays. */
static void on_operator(void *context, uint64_t number)
{
	struct member *m = context;
	uint32_t at = 0;
	const struct ledger_block *block = store_next(m->store, (uint32_t)(number >> 8), &at);
	block = block ? block : store_next(m->store, 0, &at);
	if (!block)
		return;
	struct id128 key = block->key;
	uint32_t way = (uint32_t)(number & 0xff);
	if (way == 0)
		evict(m, &key);
	else
		pin(m, &key, way == 1 ? LEDGER_UNPINNED : way == 2 ? LEDGER_PINNED_SOFT : LEDGER_PINNED_HARD);
	pins_check(m);
}

void pins_draw(struct cluster *c, uint32_t count, uint64_t from_ns, uint64_t to_ns)
{
	for (uint32_t i = 0; i < count; i++) {
		uint32_t store = c->member_count - 1 - (uint32_t)sim_random(c->sim, c->options.stores);
		uint64_t number = sim_random(c->sim, 96) << 8 | sim_random(c->sim, WAYS);
		sim_at(c->sim, from_ns + sim_random(c->sim, to_ns - from_ns), store, on_operator, &c->members[store], number);
	}
}

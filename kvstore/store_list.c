/* store_list - pages of the blocks that a store has, in memory or on disk, in the order of listing.h. */
#include <string.h>

#include "kvstore/listing.h"
#include "kvstore/store_impl.h"

enum {
	HOMES_SEEN_MAX = 1 << 13, /* of one page, so that a list for a rare tenant does not keep others waiting: about 2 ms */
};

/* A place in the order: behind a key, or before all. */
struct cursor {
	bool begun;
	struct id128 after;
};

/* The next block of a page. */
struct candidate {
	bool found;
	uint32_t entry; /* LEDGER_NONE: it is on disk only */
	struct id128 key;
};

static void consider(const struct cursor *at, const struct id128 *key, uint32_t entry, struct candidate *best)
{
	if (at->begun && listing_compare(key, &at->after) <= 0)
		return;
	if (!best->found || listing_compare(key, &best->key) < 0)
		*best = (struct candidate){true, entry, *key};
}

/* The first behind the cursor, of the keys with this home among so many. */
static struct candidate first_at(const struct store *s, const struct cursor *at, uint32_t home, uint32_t homes)
{
	struct candidate best = {.found = false};
	uint32_t step = 0, entry;
	while ((entry = ledger_at_home(s->ledger, home & (ledger_homes(s->ledger) - 1), &step)) != LEDGER_NONE) {
		const struct id128 *key = &ledger_block(s->ledger, entry)->key;
		if (((uint32_t)id128_hash(key) & (homes - 1)) == home && store_served(s, key) == entry)
			consider(at, key, entry, &best);
	}
	struct id128 key;
	step = 0;
	while (s->d.disk && disk_at_home(s->d.disk, home & (disk_homes(s->d.disk) - 1), &step, &key))
		if (((uint32_t)id128_hash(&key) & (homes - 1)) == home && store_served(s, &key) == LEDGER_NONE)
			consider(at, &key, LEDGER_NONE, &best);
	return best;
}

static bool is_wanted(const Wire__KvAsk *ask, const char *tenant)
{
	return !ask->one_tenant || strcmp(tenant, ask->tenant) == 0;
}

static void add(struct store *s, const Wire__KvAsk *ask, const struct candidate *block, Wire__KvAnswer *answer)
{
	struct disk_found found;
	if (block->entry != LEDGER_NONE && is_wanted(ask, ledger_block(s->ledger, block->entry)->tenant))
		operate_add_block(s, block->entry, false, answer);
	else if (block->entry == LEDGER_NONE && disk_find(s->d.disk, &block->key, &found) && is_wanted(ask, found.tenant))
		operate_add_found(s, &block->key, &found, answer);
}

static void go_on_after(struct store *s, const struct id128 *key, Wire__KvAnswer *answer)
{
	s->operate->after = *key;
	answer->after = (ProtobufCBinaryData){PROTO_KEY_BYTES, s->operate->after.bytes};
}

/* The last place before a home: homes follow each other by their number with its bits reversed. */
static struct id128 place_before(uint32_t number, unsigned bits)
{
	struct id128 place;
	uint64_t hash = listing_reverse(((uint64_t)number << (64 - bits)) - 1);
	memset(place.bytes, 0xff, sizeof(place.bytes));
	memcpy(place.bytes, &hash, sizeof(hash));
	return place;
}

void operate_list(struct store *s, const Wire__KvAsk *ask, Wire__KvAnswer *answer)
{
	uint32_t homes = ledger_homes(s->ledger);
	if (s->d.disk && disk_homes(s->d.disk) > homes)
		homes = disk_homes(s->d.disk);
	unsigned bits = (unsigned)__builtin_ctz(homes); /* at least 4: a table has 16 slots */
	struct cursor at = {.begun = ask->after.len > 0};
	if (at.begun)
		memcpy(at.after.bytes, ask->after.data, PROTO_KEY_BYTES);
	uint32_t number = at.begun ? (uint32_t)(listing_reverse(id128_hash(&at.after)) >> (64 - bits)) : 0;
	for (uint32_t seen = 0; number < homes; number++, seen++) {
		if (seen == HOMES_SEEN_MAX) {
			struct id128 place = place_before(number, bits);
			go_on_after(s, &place, answer);
			return;
		}
		uint32_t home = (uint32_t)(listing_reverse(number) >> (64 - bits));
		for (struct candidate next; (next = first_at(s, &at, home, homes)).found; at = (struct cursor){true, next.key}) {
			if (answer->n_blocks == ask->limit) {
				go_on_after(s, &at.after, answer);
				return;
			}
			add(s, ask, &next, answer);
		}
	}
}

/* Look-ups: what is found is held for who asked, until it is released. */
#include "kvstore/store_impl.h"
#include "proto/job.h"

void store_release(struct store *s, uint32_t lookup)
{
	uint32_t entry;
	store_disk_close_lookup(s, lookup);
	while (holds_pop(s->holds, lookup, &entry))
		ledger_release(s->ledger, entry);
}

void store_add_found(struct store *s, size_t count, uint32_t index, uint32_t entry)
{
	const struct ledger_block *block = ledger_block(s->ledger, entry);
	struct slot_place place;
	ledger_place(s->ledger, entry, &place);
	wire__place__init(&s->found_places[count]);
	s->found_places[count].region = place.region;
	s->found_places[count].offset = place.offset;
	s->found_places[count].generation = place.generation;
	wire__found_block__init(&s->found[count]);
	s->found[count].index = index;
	s->found[count].place = &s->found_places[count];
	s->found[count].more_copies = replicate_more(s->replicate, entry);
	s->found[count].n_digests = block->layer_count;
	s->found[count].digests = (uint64_t *)block->digests; /* the packer only reads */
	s->found_list[count] = &s->found[count];
}

void store_send_found(struct store *s, uint32_t peer, uint64_t op, size_t count, bool more)
{
	Wire__Found found = WIRE__FOUND__INIT;
	found.op = op;
	found.n_blocks = count;
	found.blocks = s->found_list;
	found.more = more;
	PROTO_ENVELOPE(envelope, FOUND, found, &found);
	sessions_send(s->sessions, peer, &envelope);
}

/* Keys between the steps of a find (ledger.h): about as long is memory's answer awaited. */
enum { AHEAD = 8 };

/* What memory lacks, from the end: who asks may compute from the beginning meanwhile (kvstore/fetch.h). */
static void want_blocks(struct store *s, const Wire__Lookup *lookup, uint32_t list, uint32_t lacking)
{
	uint32_t asked = (uint32_t)(lookup->keys.len / PROTO_KEY_BYTES);
	for (uint32_t i = asked; s->d.disk && lacking > 0 && i-- > 0;) {
		struct id128 key = codec_key(&lookup->keys, i);
		store_disk_want(s, list, i, &key);
	}
}

/* The blocks of the answer, held as they are found; digests point into the ledger.  What is on disk comes later. */
static size_t find_blocks(struct store *s, const Wire__Lookup *lookup, uint32_t list, uint64_t *ret_bytes)
{
	struct id128 compat = codec_key(&lookup->compat, 0);
	uint32_t asked = (uint32_t)(lookup->keys.len / PROTO_KEY_BYTES);
	uint32_t entries[2 * AHEAD] = {0}; /* found ahead */
	size_t count = 0;
	for (uint32_t step = 0; step < asked + 3 * AHEAD && count < s->options.found_max; step++) {
		/* Those before the first are beyond the last. */
		uint32_t found = step - AHEAD, expected = step - 2 * AHEAD, i = step - 3 * AHEAD;
		struct id128 key;
		if (step < asked) {
			key = codec_key(&lookup->keys, step);
			ledger_expect_key(s->ledger, &key);
		}
		uint32_t entry = entries[found % (2 * AHEAD)];
		if (found < asked) {
			key = codec_key(&lookup->keys, found);
			entries[found % (2 * AHEAD)] = ledger_find_ahead(s->ledger, &key);
		}
		if (expected < asked)
			ledger_expect_block(s->ledger, entries[expected % (2 * AHEAD)]);
		if (i >= asked)
			continue;
		key = codec_key(&lookup->keys, i);
		if (!ledger_serves(s->ledger, entry, &key, &compat))
			continue;
		if (holds_add(s->holds, list, entry) != ERR_OK)
			break;
		ledger_hold(s->ledger, entry);
		replicate_found(s->replicate, entry, s->now_ns);
		*ret_bytes += ledger_block_bytes(ledger_block(s->ledger, entry));
		store_add_found(s, count++, i, entry);
	}
	want_blocks(s, lookup, list, asked - (uint32_t)count);
	return count;
}

/* Who asks is whose blocks are found: keys bear the tenant's salt. */
static void account_asked(struct store *s, uint32_t account, uint64_t asked)
{
	ledger_tenants(s->ledger)->list[account].use.keys_asked += asked;
	s->counters.keys_asked += asked;
}

void store_account_found(struct store *s, uint32_t account, uint64_t found, uint64_t bytes)
{
	struct tenant_use *use = &ledger_tenants(s->ledger)->list[account].use;
	use->keys_found += found;
	use->bytes_found += bytes;
	s->counters.keys_found += found;
	s->counters.bytes_found += bytes;
}

void store_take_lookup(struct store *s, uint32_t peer, const Wire__Lookup *lookup)
{
	uint32_t old = holds_find(s->holds, peer, lookup->op);
	if (old != UINT32_MAX)
		store_release(s, old); /* asked anew: the older answer is void */
	uint32_t list;
	size_t count = 0;
	uint64_t bytes = 0;
	bool more = false;
	uint32_t account = tenants_account(ledger_tenants(s->ledger), lookup->tenant);
	if (holds_open(s->holds, peer, lookup->op, &list) == ERR_OK) {
		struct id128 compat = codec_key(&lookup->compat, 0);
		store_disk_open_lookup(s, list, peer, lookup->op, &compat, account);
		count = find_blocks(s, lookup, list, &bytes);
		more = store_disk_expects(s, list, count);
		if (count == 0 && !more)
			store_release(s, list);
	}
	uint32_t asked = (uint32_t)(lookup->keys.len / PROTO_KEY_BYTES);
	s->counters.lookups++;
	account_asked(s, account, asked);
	store_account_found(s, account, count, bytes);
	env_trace(s->options.env, "found %zu of %u blocks for %s%s", count, asked, sessions_peer(s->sessions, peer)->name,
		  more ? ", more on disk" : "");
	store_send_found(s, peer, lookup->op, count, more);
}

void store_take_release(struct store *s, uint32_t peer, const Wire__Release *release)
{
	uint32_t lookup = holds_find(s->holds, peer, release->op);
	if (lookup != UINT32_MAX)
		store_release(s, lookup);
}

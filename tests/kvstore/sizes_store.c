#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "sizes_store.h"

const uint32_t block_bytes[SIZES] = {SMALL, LARGE};
static const struct id128 compat = {{1}};

static enum err open_slab(void *context, uint32_t slab, uint32_t slot_bytes, uint32_t slot_count,
			  struct slab_region *ret_region)
{
	struct sizes_store *s = context;
	assert_true(s->slab_sizes[slab] == 0 && slot_count == SLAB_BYTES / slot_bytes && s->regions < REGIONS_MAX);
	s->slab_sizes[slab] = slot_bytes;
	*ret_region = (struct slab_region){.region = s->regions++, .generations = s->generations[slab]};
	return ERR_OK;
}

static void close_slab(void *context, uint32_t slab)
{
	((struct sizes_store *)context)->slab_sizes[slab] = 0;
}

struct sizes_store *sizes_store_create(uint32_t slabs, const struct evict_policy *policy)
{
	struct sizes_store *s = calloc(1, sizeof(*s));
	struct ledger_options options = {
		.slabs = {.slab_count = slabs, .slab_bytes = SLAB_BYTES, .slot_bytes_min = SMALL, .context = s,
			  .open = open_slab, .close = close_slab},
		.entry_max = slabs * SLOTS_MAX * 2,
		.layers_max = 1,
		.policy = policy,
		.pin_bytes_max = SLAB_BYTES,
	};
	s->ledger = ledger_init(calloc(1, ledger_bytes(&options)), &options);
	return s;
}

void sizes_store_destroy(struct sizes_store *s)
{
	ledger_check(s->ledger);
	free(s->ledger);
	free(s);
}

uint32_t slabs_of(const struct sizes_store *s, int size)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < SLABS; i++)
		count += s->slab_sizes[i] == block_bytes[size];
	return count;
}

struct ledger_block block_of(int size, uint32_t key)
{
	static const uint64_t digest = 5;
	struct ledger_block block = {.compat = compat, .layer_count = 1, .layer_bytes = block_bytes[size], .digests = &digest};
	uint64_t words[2] = {rng_mix(key * SIZES + (uint32_t)size), key};
	memcpy(block.key.bytes, words, sizeof(words));
	return block;
}

uint32_t find(const struct sizes_store *s, int size, uint32_t key)
{
	struct ledger_block block = block_of(size, key);
	return ledger_find(s->ledger, &block.key, &compat);
}

static uint32_t put(struct sizes_store *s, int size, uint32_t key)
{
	struct ledger_block block = block_of(size, key);
	uint32_t entry;
	assert_int_equal(ledger_offer(s->ledger, &block, &entry), ERR_OK);
	assert_int_equal(ledger_read(s->ledger, entry), ERR_OK);
	ledger_seal(s->ledger, entry);
	return entry;
}

bool use(struct sizes_store *s, int size, uint32_t key)
{
	uint32_t entry = find(s, size, key);
	if (entry == LEDGER_NONE) {
		put(s, size, key);
		return false;
	}
	ledger_hold(s->ledger, entry);
	ledger_release(s->ledger, entry);
	return true;
}

uint32_t draw(struct rng *rng, uint32_t count)
{
	uint64_t a = rng_below(rng, count), b = rng_below(rng, count), c = rng_below(rng, count);
	uint64_t low = a < b ? a : b;
	return (uint32_t)(low < c ? low : c);
}

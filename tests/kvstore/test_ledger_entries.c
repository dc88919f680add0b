/* What a ledger costs before there are blocks, and what goes where it has fewer entries than slots. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/rng.h"
#include "kvstore/ledger.h"
#include "kvstore/store.h"

enum { LARGE = 1024, SMALL = 64, SLABS = 4, SLAB_BYTES = 16 * LARGE, ENTRIES = 12, SLOTS_MAX = 1 << 14 };

static const struct id128 compat = {{1}};

struct fixture {
	struct ledger *ledger;
	uint64_t generations[SLOTS_MAX];
	uint32_t regions;
};

/* All slabs share the generations, which nobody looks at here. */
static enum err open_slab(void *context, uint32_t slab, uint32_t slot_bytes, uint32_t slot_count, struct slab_region *ret_region)
{
	struct fixture *f = context;
	(void)slab, (void)slot_bytes;
	assert_true(slot_count <= SLOTS_MAX);
	*ret_region = (struct slab_region){.region = f->regions++, .generations = f->generations};
	return ERR_OK;
}

static void close_slab(void *context, uint32_t slab)
{
	(void)context, (void)slab;
}

static struct fixture *fixture_create(void)
{
	static const struct tenant_quota quotas[] = {{"small", 3 * SMALL}};
	struct fixture *f = calloc(1, sizeof(*f));
	struct ledger_options options = {
		.slabs = {.slab_count = SLABS, .slab_bytes = SLAB_BYTES, .slot_bytes_min = SMALL, .context = f, .open = open_slab,
			  .close = close_slab},
		.entry_max = ENTRIES,
		.layers_max = 1,
		.policy = &evict_lru,
		.quotas = quotas,
		.quota_count = 1,
	};
	f->ledger = ledger_init(calloc(1, ledger_bytes(&options)), &options);
	return f;
}

static void fixture_destroy(struct fixture *f)
{
	ledger_check(f->ledger);
	free(f->ledger);
	free(f);
}

static struct ledger_block block_of(uint32_t key, uint32_t bytes, const char *tenant)
{
	static const uint64_t digests[1] = {5};
	uint64_t words[2] = {rng_mix(key), key};
	struct ledger_block block = {.compat = compat, .layer_count = 1, .layer_bytes = bytes, .digests = digests, .tenant = tenant};
	memcpy(block.key.bytes, words, sizeof(words));
	return block;
}

static uint32_t put(struct fixture *f, uint32_t key, uint32_t bytes, const char *tenant)
{
	struct ledger_block block = block_of(key, bytes, tenant);
	uint32_t entry;
	assert_int_equal(ledger_offer(f->ledger, &block, &entry), ERR_OK);
	assert_int_equal(ledger_read(f->ledger, entry), ERR_OK);
	ledger_seal(f->ledger, entry);
	return entry;
}

static uint32_t find(const struct fixture *f, uint32_t key)
{
	struct ledger_block block = block_of(key, 1, "");
	return ledger_find(f->ledger, &block.key, &compat);
}

static bool has(const struct fixture *f, uint32_t key)
{
	return find(f, key) != LEDGER_NONE;
}

static struct ledger_counts counts_of(const struct fixture *f)
{
	struct ledger_counts counts;
	ledger_counts(f->ledger, &counts);
	return counts;
}

/* ---- fewer entries than slots */

static void the_block_used_longest_ago_goes_whatever_its_size(void **state)
{
	(void)state;
	struct fixture *f = fixture_create();
	for (uint32_t key = 0; key < ENTRIES; key++)
		put(f, key, key % 2 ? LARGE : SMALL, "");
	uint32_t used = find(f, 0);
	ledger_hold(f->ledger, used);
	ledger_release(f->ledger, used);
	for (uint32_t key = 1; key < ENTRIES; key++) {
		put(f, 100 + key, SMALL, "");
		assert_false(has(f, key));
		assert_true(has(f, 0));
		assert_true(key + 1 == ENTRIES || has(f, key + 1));
	}
	put(f, 200, LARGE, "");
	assert_false(has(f, 0));
	struct ledger_counts counts = counts_of(f);
	assert_int_equal(counts.evicted[LEDGER_FOR_BLOCKS], ENTRIES);
	assert_int_equal(counts.evicted[LEDGER_FOR_ROOM] + counts.evicted[LEDGER_FOR_SLAB] + counts.evicted[LEDGER_FOR_QUOTA], 0);
	fixture_destroy(f);
}

static void what_is_low_goes_first_and_what_is_held_stays(void **state)
{
	(void)state;
	struct fixture *f = fixture_create();
	for (uint32_t key = 0; key < ENTRIES - 1; key++)
		ledger_hold(f->ledger, put(f, key, key % 2 ? LARGE : SMALL, ""));
	struct ledger_block low = block_of(50, LARGE, ""), more = block_of(52, SMALL, "");
	uint32_t entry;
	low.priority = LEDGER_LOW;
	ledger_release(f->ledger, 0); /* the first entry there is: the oldest, but of normal priority */
	assert_int_equal(ledger_offer(f->ledger, &low, &entry), ERR_OK);
	assert_int_equal(ledger_read(f->ledger, entry), ERR_OK);
	ledger_seal(f->ledger, entry);
	put(f, 51, SMALL, "");
	assert_true(has(f, 0) && !has(f, 50));
	ledger_hold(f->ledger, 0);
	ledger_hold(f->ledger, find(f, 51));
	assert_int_equal(ledger_offer(f->ledger, &more, &entry), ERR_AGAIN);
	assert_int_equal(counts_of(f).evicted[LEDGER_FOR_BLOCKS], 1);
	fixture_destroy(f);
}

static void a_tenant_over_its_quota_takes_nobody_elses_entry(void **state)
{
	(void)state;
	struct fixture *f = fixture_create();
	for (uint32_t key = 0; key < ENTRIES - 3; key++)
		put(f, key, LARGE, "");
	for (uint32_t key = 100; key < 110; key++)
		put(f, key, SMALL, "small");
	for (uint32_t key = 0; key < ENTRIES - 3; key++)
		assert_true(has(f, key));
	assert_true(has(f, 107) && has(f, 108) && has(f, 109));
	struct ledger_counts counts = counts_of(f);
	assert_int_equal(counts.evicted[LEDGER_FOR_QUOTA], 7);
	assert_int_equal(counts.evicted[LEDGER_FOR_BLOCKS], 0);
	fixture_destroy(f);
}

/* ---- an empty one */

static size_t resident(void *memory, size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = (bytes + page - 1) / page, count = 0;
	unsigned char *in_memory = malloc(pages);
	assert_int_equal(mincore(memory, bytes, in_memory), 0);
	for (size_t i = 0; i < pages; i++)
		count += in_memory[i] & 1;
	free(in_memory);
	return count * page;
}

static void *pages(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(memory != MAP_FAILED);
	(void)madvise(memory, bytes, MADV_NOHUGEPAGE); /* small ones, to be counted */
	return memory;
}

static struct ledger_options great(struct fixture *f, const struct evict_policy *policy)
{
	return (struct ledger_options){
		.slabs = {.slab_count = 64, .slab_bytes = 64 << 20, .slot_bytes_min = 4096, .context = f, .open = open_slab,
			  .close = close_slab},
		.entry_max = 1 << 20,
		.layers_max = 128,
		.policy = policy,
	};
}

static void a_ledger_touches_what_its_blocks_need(void **state)
{
	(void)state;
	for (int i = 0; i < EVICT_POLICIES; i++) {
		struct fixture f = {.regions = 0};
		struct ledger_options options = great(&f, evict_policies[i]);
		size_t bytes = ledger_bytes(&options), empty;
		void *memory = pages(bytes);
		assert_true(bytes > 1 << 30);
		f.ledger = ledger_init(memory, &options);
		empty = resident(memory, bytes);
		assert_true(empty < 256 << 10);
		for (uint32_t key = 0; key < 100; key++)
			put(&f, key, 64 << 10, "");
		assert_true(resident(memory, bytes) < empty + (4 << 20));
		assert_int_equal(ledger_entries(f.ledger), 100);
		munmap(memory, bytes);
	}
}

/* Of all parts of a store. */
static size_t started(uint32_t entry_max, size_t *ret_bytes)
{
	struct fixture f = {.regions = 0};
	struct env env = {.context = NULL};
	struct store_options options = {.node = 1, .name = "store", .peer_max = 4, .ledger = great(&f, NULL), .offer_max = 8,
					.reading_max = 2, .lookup_max = 4, .hold_max = 16, .found_max = 16, .copies_max = 8, .env = &env};
	options.ledger.entry_max = entry_max;
	*ret_bytes = store_bytes(&options);
	void *memory = pages(*ret_bytes);
	(void)store_init(memory, &options);
	size_t touched = resident(memory, *ret_bytes);
	munmap(memory, *ret_bytes);
	return touched;
}

static void a_store_of_a_million_blocks_starts_as_small_as_one_of_a_thousand(void **state)
{
	(void)state;
	size_t few_bytes, many_bytes;
	size_t few = started(1 << 10, &few_bytes), many = started(1 << 20, &many_bytes);
	assert_true(many_bytes > few_bytes + (1 << 30));
	assert_true(many < few + (256 << 10)); /* pages at the edges of parts */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_block_used_longest_ago_goes_whatever_its_size),
		cmocka_unit_test(what_is_low_goes_first_and_what_is_held_stays),
		cmocka_unit_test(a_tenant_over_its_quota_takes_nobody_elses_entry),
		cmocka_unit_test(a_ledger_touches_what_its_blocks_need),
		cmocka_unit_test(a_store_of_a_million_blocks_starts_as_small_as_one_of_a_thousand),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

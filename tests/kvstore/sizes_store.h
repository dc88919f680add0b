/* sizes_store - a ledger for blocks of two sizes, and whose its slabs are. */
#ifndef TESTS_KVSTORE_SIZES_STORE_H
#define TESTS_KVSTORE_SIZES_STORE_H
#include "base/rng.h"
#include "kvstore/ledger.h"

enum {
	SLABS = 16,
	SLAB_BYTES = 3840,
	SMALL = 64,  /* 60 slots a slab */
	LARGE = 320, /* 12 */
	SLOTS_MAX = SLAB_BYTES / SMALL,
	SIZES = 2,
	REGIONS_MAX = 4096,
};

extern const uint32_t block_bytes[SIZES];

struct sizes_store {
	struct ledger *ledger;
	uint64_t generations[SLABS][SLOTS_MAX];
	uint32_t regions;           /* that there were */
	uint32_t slab_sizes[SLABS]; /* 0: closed */
};

/* At most SLABS slabs. */
struct sizes_store *sizes_store_create(uint32_t slabs, const struct evict_policy *policy);
/* Checks it first. */
void sizes_store_destroy(struct sizes_store *store);
uint32_t slabs_of(const struct sizes_store *store, int size);
struct ledger_block block_of(int size, uint32_t key);
uint32_t find(const struct sizes_store *store, int size, uint32_t key);
/* A look-up, and an offer when it found nothing; was it found? */
bool use(struct sizes_store *store, int size, uint32_t key);
/* Of keys 0 to count - 1, the lower the more often. */
uint32_t draw(struct rng *rng, uint32_t count);
#endif

/* fleet - stores as the real cores in the simulated world, with one engine that does nothing but offer blocks and look
 * them up.  Membership is told at once, by the test.  What ought to be where is reckoned naively from place.h. */
#ifndef TESTS_KVSTORE_FLEET_H
#define TESTS_KVSTORE_FLEET_H
#include <stdbool.h>
#include <stdint.h>
#include "kvstore/place.h"
#include "kvstore/store.h"
#include "net/sim.h"

#define MS UINT64_C(1000000)

enum {
	FLEET_STORES_MAX = 12,
	FLEET_LAYERS = 2,
	FLEET_LAYER_BYTES = 128,
	FLEET_BLOCK_BYTES = FLEET_LAYERS * FLEET_LAYER_BYTES,
	FLEET_SLABS = 16,
	FLEET_SLAB_SLOTS = 128,
	FLEET_BLOCKS_MAX = 4096,
};

struct fleet_options {
	uint32_t stores;    /* there may be; none is up yet */
	uint32_t replicas;
	uint32_t weights[FLEET_STORES_MAX];
	uint64_t rate;      /* bytes a second */
	uint32_t slabs;     /* of each store; 0: FLEET_SLABS */
	uint32_t entries;   /* more than there are slots, of each store's ledger; 0: 64 */
};

struct fleet;

struct fleet *fleet_create(const struct fleet_options *options);
void fleet_destroy(struct fleet *fleet);
struct sim *fleet_sim(struct fleet *fleet);
void fleet_start(struct fleet *fleet, uint32_t store);
void fleet_kill(struct fleet *fleet, uint32_t store);
/* The others hear that it is no member any more. */
void fleet_forget(struct fleet *fleet, uint32_t store);
/* The engine is 0 of the world, store i is i + 1. */
void fleet_cut(struct fleet *fleet, uint32_t a, uint32_t b);
void fleet_run(struct fleet *fleet, uint64_t ms);
struct store *fleet_store(struct fleet *fleet, uint32_t store); /* NULL: it is down */
uint64_t fleet_local(struct fleet *fleet, uint32_t store);

struct id128 fleet_key(uint32_t block);
/* Blocks first..first+count-1, each to the first owner of those that are up and do not drain; until all are answered. */
void fleet_offer(struct fleet *fleet, uint32_t first, uint32_t count);
/* The same, at low priority; or once more, at normal priority. */
void fleet_offer_low(struct fleet *fleet, uint32_t first, uint32_t count);
void fleet_offer_again(struct fleet *fleet, uint32_t first, uint32_t count);
/* Looks a block up at a store, and releases it. */
void fleet_look_up(struct fleet *fleet, uint32_t store, uint32_t block);
/* Until every store that is up says that nothing is missing or under way; fails the test after so long. */
void fleet_settle(struct fleet *fleet, uint64_t ms);

bool fleet_has(struct fleet *fleet, uint32_t store, uint32_t block);
bool fleet_has_spare(struct fleet *fleet, uint32_t store, uint32_t block);
/* Is the store among the first `replicas` (of a block of low priority: one) of those that are up and do not drain? */
bool fleet_owns(struct fleet *fleet, uint32_t store, uint32_t block);
/* Bytes that stores have copied from each other: all, and of these because of comings and goings. */
uint64_t fleet_copied(struct fleet *fleet);
/* Offers that stores of this life have heard, the engine's and each other's. */
uint64_t fleet_offers(struct fleet *fleet);
uint64_t fleet_moved(struct fleet *fleet);
#endif

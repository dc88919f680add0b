/* offer - write-behind: finished blocks are offered to their owners, which read them when they have room.  Pure.
 *
 * A block in the queue holds a reference until every owner has answered or its session is gone.  What the store has not
 * read when this node dies is lost: a bounded lag, exported.  When the queue is full, further blocks are not offered and
 * counted as dropped: they stay in this node's cache.
 *
 * Memory: the caller's.  Loop: the node's.  Bounds: offer_max entries (block, owner) of each layer group, window under way
 * per store. */
#ifndef KVSTORE_OFFER_H
#define KVSTORE_OFFER_H
#include "kvstore/local.h"

struct kv_offers;

struct kv_offer_options {
	uint32_t peer_max; /* sessions */
	uint32_t window;   /* Offers sent to one store and not answered yet */
	struct kv_local *local;
};

size_t kv_offers_bytes(const struct kv_offer_options *options);
struct kv_offers *kv_offers_init(void *memory, const struct kv_offer_options *options);
/* A sealed block of this node; parent NULL: the first of its chain. */
void kv_offer_block(struct kv_offers *offers, uint32_t block, const struct id128 *key, const struct id128 *parent,
		    const struct kv_tenant *tenant);
void kv_offer_done(struct kv_offers *offers, uint32_t peer, const Wire__OfferDone *done);
void kv_offer_peer_down(struct kv_offers *offers, uint32_t peer);
/* Sends what the windows allow. */
void kv_offer_tick(struct kv_offers *offers);
uint32_t kv_offer_lag(const struct kv_offers *offers); /* entries not answered */
uint64_t kv_offer_dropped(const struct kv_offers *offers);
#endif

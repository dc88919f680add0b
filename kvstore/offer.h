/* offer - write-behind: a finished block is offered to its first owner, which reads it when it has room and makes the other
 * copies (kvstore/replicate.h).  Pure.
 *
 * A block in the queue holds a reference until the owner has answered.  When its session ends first, or it drains, or its
 * read failed for the first time, the block is offered to whoever is the first owner then.  What the store has not read when
 * this node dies is lost: a bounded lag, exported.  When the queue is full, further blocks are not offered and counted as
 * dropped: they stay in this node's cache.
 *
 * Memory: the caller's.  Loop: the node's.  Bounds: offer_max blocks of each layer group, window under way per store. */
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

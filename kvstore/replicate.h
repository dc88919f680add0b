/* replicate - the further copies of what this store has sealed, and their way when stores come and go.  Pure.
 *
 * An engine offers a block to the first owner only.  That store offers it to the other owners with the same Offer, and
 * lends them the block until OfferDone or the end of their session.  So further copies are read from the first one.
 *
 *   sealed --> fresh --------------+--> lent to an owner --OK, EXISTS--> known to be there
 *   looked at, a copy missing --> paced --+      |
 *                          ^                     +--AGAIN, a failed read, the session's end--+
 *                          +-----------------------------------------------------------------+
 *
 * Owners are the first `replicas` of all stores by weighted rendezvous (place.h), among this store and those it has a
 * session with or lost less than a grace ago, without those that drain.  Of those who have a block, as far as they know
 * of each other, the best in rank makes the missing copies.
 *
 * Rules: 1 when a store has come, is lost for good or drains, every block is looked at once, and a while later a second
 *          time: then also by those who are not the best in rank, since who is may have evicted it (EXISTS is cheap);
 *        2 what is offered is a copy that is missing: a store that comes or goes moves its own share and no more;
 *        3 copies made because of rule 1 are paced (rate_bytes, a quarter of it while others are served), copies of
 *          what was just sealed are not; both are bounded by sent_max, and by window for each store;
 *        4 a block that all its owners have, and this store does not own, is spare: the first to go (ledger.h);
 *        5 a store that drains hands over what only it has, as fast as it can; the others copy what becomes scarce.
 *          It waits for a member that it has no session with: in a rolling restart that is the one before it.
 *
 * A block of low priority has one copy, at the first owner (it is a loss when its store is lost: it is computed again).
 * Blocks that many look-ups find have one or two copies more, at the next in rank, where they are spare; whoever finds one is
 * told, and asks there too the next time (hot.h).
 *
 * Memory: the caller's.  Loop: the store's.  Bounds: entry_max blocks in the lists (each block is in at most one, so
 * no list overflows), sent_max offers under way, REPLICATE_STORES_MAX other stores. */
#ifndef KVSTORE_REPLICATE_H
#define KVSTORE_REPLICATE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "kvstore/ledger.h"
#include "kvstore/place.h"
#include "net/session.h"

enum {
	REPLICATE_STORES_MAX = 250,
	REPLICATE_HOT_MAX = 2,       /* copies more of a hot block */
	REPLICATE_HOT_FINDS = 64,    /* look-ups in about a minute that make it hot; four times as many: hotter */
};
#define REPLICATE_GRACE_NS UINT64_C(3000000000)
#define REPLICATE_RATE_MAX (UINT64_C(1) << 40)

struct replicate_options {
	uint64_t node;
	uint32_t weight;      /* of this store; as session_options */
	uint32_t replicas;    /* copies of each block but those of low priority, this one among them; 0: 1 */
	uint32_t entry_max;   /* of the ledger */
	uint32_t peer_max;
	uint32_t sent_max;    /* offers under way; 0: nothing is copied */
	uint32_t window;      /* of them to one store */
	uint64_t rate_bytes;  /* a second, at most REPLICATE_RATE_MAX; 0: no bound */
	uint64_t grace_ns;    /* for which a lost store may come back before its blocks are copied; 0: REPLICATE_GRACE_NS */
	const struct env *env;
};

struct replicate_status {
	uint64_t lag_blocks, lag_bytes; /* sealed, and not yet copied for the first time */
	uint64_t missing;               /* blocks not known to have all their copies, to be copied from here; all while a store is
					 * lost and may come back, and until they are looked at */
	uint32_t in_flight;
	uint64_t copies, copied_bytes;  /* that others took */
	uint64_t moved_bytes;           /* of these, by rule 1 */
	uint64_t given_up;
	uint32_t stores;                /* that count, without this one */
};

struct replicate;

size_t replicate_bytes(const struct replicate_options *options);
/* `ledger` and `sessions` outlive it. */
struct replicate *replicate_init(void *memory, const struct replicate_options *options, struct ledger *ledger,
				 struct sessions *sessions);

/* Membership: a store is there, or gone.  Who leaves waits for those it has no session with yet. */
void replicate_member(struct replicate *replicate, uint64_t node, bool is_there);
/* A session with a store began; ended (all that was lent to it is back when this returns); it drains or not. */
void replicate_up(struct replicate *replicate, uint32_t peer, uint64_t now_ns);
void replicate_down(struct replicate *replicate, uint32_t peer, uint64_t now_ns);
void replicate_peer_draining(struct replicate *replicate, uint32_t peer, bool draining, uint64_t now_ns);
/* A block was sealed that this peer offered. */
void replicate_sealed(struct replicate *replicate, uint32_t entry, uint32_t peer, uint64_t now_ns);
/* A block came back from this store's disk: the other owners are asked whether they have it. */
void replicate_loaded(struct replicate *replicate, uint32_t entry, uint64_t now_ns);
/* The peer offers what is sealed here: if it is a store, it has the block. */
void replicate_known(struct replicate *replicate, uint32_t entry, uint32_t peer);
/* A sealed block is of low priority no more, as the peer that offers it says: it gets the copies of all others, and who has one
 * already hears of it. */
void replicate_raised(struct replicate *replicate, uint32_t entry, uint32_t peer, uint64_t now_ns);
/* A look-up found the block. */
void replicate_found(struct replicate *replicate, uint32_t entry, uint64_t now_ns);
/* Copies that the block gets beyond `replicas`. */
uint32_t replicate_more(const struct replicate *replicate, uint32_t entry);
/* Among whom owners are chosen now; and a number that is another one when they change. */
uint32_t replicate_members(const struct replicate *replicate, struct place_member ret_members[REPLICATE_STORES_MAX + 1]);
uint64_t replicate_change(const struct replicate *replicate);
/* Is the block to be offered, or being read by others? */
bool replicate_waits(const struct replicate *replicate, uint32_t entry);
/* Is it not known that the store has the block?  Does the block wait for the pace only? */
bool replicate_lacks(const struct replicate *replicate, uint32_t entry, uint64_t node);
bool replicate_waits_for_pace(const struct replicate *replicate, uint32_t entry);
/* Is a store lost that may come back? */
bool replicate_any_lost(const struct replicate *replicate);
/* Blocks, ever, that memory let go before they were copied: seen when their turn comes, or when another block has their entry.
 * Of what came back from disk only what was offered and not taken. */
uint64_t replicate_evicted(const struct replicate *replicate);
/* false: nobody waits for it. */
bool replicate_done(struct replicate *replicate, uint32_t peer, const Wire__OfferDone *done, uint64_t now_ns);
/* busy: others are being served. */
void replicate_tick(struct replicate *replicate, bool busy, uint64_t now_ns);
/* This store takes no new blocks, or takes them again. */
void replicate_drain(struct replicate *replicate, bool draining, uint64_t now_ns);
/* Nothing is under way, and nothing is here only that another store could have, or one that is a member and not met yet. */
bool replicate_drained(const struct replicate *replicate);

void replicate_status(const struct replicate *replicate, struct replicate_status *ret_status);
/* Blocks that this peer reads. */
uint32_t replicate_lent_to(const struct replicate *replicate, uint32_t peer);
void replicate_check(const struct replicate *replicate);
#endif

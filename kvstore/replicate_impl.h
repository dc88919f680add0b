/* replicate_impl - what replicate.c (who has what), replicate_look.c (what is missing when stores come and go) and
 * replicate_send.c (lists and offers) share; nobody else includes it. */
#ifndef KVSTORE_REPLICATE_IMPL_H
#define KVSTORE_REPLICATE_IMPL_H
#include "kvstore/place.h"
#include "kvstore/replicate.h"

enum {
	SELF = REPLICATE_STORES_MAX, /* this store, among the numbers of stores */
	NOBODY = 255,
	FAILURES_MAX = 32,   /* then a block is given up until the next look; a refusal counts 1 */
	FAILED_READ = 4,     /* a read that failed so many */
};

enum copy_list {
	LIST_NONE,
	LIST_FRESH, /* not paced */
	LIST_PACED,
	LISTS,
};

/* What is known of the copies of a ledger entry; void from the entry's end to its next seal. */
struct copy {
	uint32_t prev, next; /* in its list */
	uint32_t bytes;    /* as counted in the list */
	uint8_t list;      /* enum copy_list */
	bool loaded;       /* from this store's disk */
	bool verify;       /* looked at a second time: it is offered also by who is not the best in rank */
	uint8_t failures;  /* since it was looked at, sealed or copied last */
	uint16_t finds;    /* by look-ups; halved once a period */
	uint8_t known[PLACE_REPLICAS_MAX]; /* numbers of stores that have it; NOBODY: free */
};

/* Another store, of a life that we had a session with. */
struct other {
	uint64_t node;
	uint64_t incarnation;
	uint32_t weight;
	uint32_t peer;    /* PEER_NONE: no session */
	uint64_t lost_ns; /* without a session: since when */
	bool gone;        /* for longer than the grace */
	bool draining;
	uint32_t window;  /* offers under way */
	uint32_t refusals; /* and failures in a row; counted to DOUBLINGS_MAX */
	uint64_t retry_ns;
};

/* A block that is lent to another store. */
struct sent {
	bool used;
	uint8_t other;
	bool paced, verify; /* as it was in its list */
	uint32_t entry;
	uint32_t next_free;
	uint64_t op;
};

struct list {
	uint32_t first, last; /* LEDGER_NONE: empty */
	uint32_t count;
	uint64_t bytes;
};

struct replicate {
	struct replicate_options options;
	struct ledger *ledger;
	struct sessions *sessions;
	uint64_t now_ns;
	bool draining;
	struct copy *copies; /* [entry_max] */
	struct sent *sent;   /* [sent_max] */
	uint32_t sent_free, sent_count;
	uint64_t op_next;
	struct list lists[LISTS];
	uint32_t verify_count; /* in the paced list only to be verified */
	int64_t allowance;     /* bytes that the pace allows now; negative: a debt */
	uint64_t refilled_ns;

	struct other others[REPLICATE_STORES_MAX];
	uint32_t other_count; /* numbers ever given */
	struct place_member members[REPLICATE_STORES_MAX + 1];
	uint32_t member_count;
	uint64_t changes; /* of these */

	uint64_t expected[REPLICATE_STORES_MAX]; /* other stores by membership */
	uint32_t expected_count;

	bool changed;        /* rule 1: since then not every block was looked at */
	bool verifying;      /* the look under way is a second one */
	uint32_t look_next;  /* the entry to be looked at */
	uint32_t look_left;  /* as many entries; 0: no look is under way */
	uint64_t look_at_ns; /* when the next look begins; UINT64_MAX: there is nothing to look for */

	uint64_t copied, copied_bytes, moved_bytes, given_up;
	uint64_t given_up_now; /* since the last look began */
	uint64_t evicted; /* while they waited, or when they had been given up */
};

/* replicate.c */
/* Who the owners are chosen among, anew. */
void count_members(struct replicate *r);
/* Of a node: NOBODY when it has none. */
uint8_t copies_number(const struct replicate *r, uint64_t node);
/* The owners of the block, best first: numbers of stores; returns how many. */
uint32_t copies_owners(const struct replicate *r, uint32_t entry, uint8_t ret_owners[PLACE_REPLICAS_MAX]);
bool copies_known(const struct copy *copy, uint8_t other);
void copies_learn(struct replicate *r, struct copy *copy, uint8_t other);
void copies_forget(struct copy *copy, uint8_t other);
/* Notes whether the block is here only for as long as nobody wants the room (rule 4). */
void copies_settle_spare(struct replicate *r, uint32_t entry, const uint8_t *owners, uint32_t count);
/* Does nobody who stays have it, as far as is known? */
bool copies_only_here(const struct replicate *r, const struct copy *copy);
/* Is it for this store to make the copies that are missing? */
bool copies_ours(const struct replicate *r, uint32_t entry, const uint8_t *owners, uint32_t count);
static inline bool other_lives(const struct other *other)
{
	return other->peer != PEER_NONE;
}
/* Cached or held: its bytes are all there. */
static inline bool copies_served(const struct replicate *r, uint32_t entry)
{
	enum ledger_state state = ledger_state(r->ledger, entry);
	return state == LEDGER_SEALED || state == LEDGER_CACHED || state == LEDGER_HELD;
}

/* replicate_look.c: all blocks are to be looked at, after a while or as soon as possible. */
void look_anew(struct replicate *r, uint64_t delay_ns);

/* replicate_send.c */
void lists_init(struct replicate *r);
/* Puts the entry where it will be served from; nothing when it is in a list already. */
void lists_push(struct replicate *r, uint32_t entry, enum copy_list list, bool verify);
/* The entry is another block's now: what waited there went before it was copied. */
void lists_forget(struct replicate *r, uint32_t entry);
/* Offers what there is room for. */
void lists_pump(struct replicate *r);
/* All that was lent to it is back. */
void sent_end_all(struct replicate *r, uint8_t other);
#endif

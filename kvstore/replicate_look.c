/* replicate_look - rule 1: every block is looked at when stores have come or gone; the pace; and when this store may leave. */
#include "base/planted.h"
#include "kvstore/replicate_impl.h"

enum {
	LOOK_BLOCKS = 2048,           /* a tick: a millisecond of ten stores, 100,000 blocks a second */
	LOOK_BLOCKS_BUSY = 64,        /* while others are served, who would wait that long: 3,200 a second */
	LOOK_BLOCKS_LEAVING = 16384,
	LOOK_EMPTY = 32,              /* entries without a block cost as much as one with */
	VERIFY_GRACES = 3,            /* until they are looked at a second time */
	PERIOD_GRACES = 20,           /* and again, should something have been given up */
	REFILL_PER_S = 10,            /* the pace may be caught up on for this part of a second */
	BUSY_PARTS = 4,               /* of the pace, while others are served */
};

static bool any_missing(const struct copy *copy, const uint8_t *owners, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (owners[i] != SELF && !copies_known(copy, owners[i]))
			return true;
	return false;
}

static void look_at(struct replicate *r, uint32_t entry)
{
	struct copy *copy = &r->copies[entry];
	uint8_t owners[PLACE_REPLICAS_MAX];
	if (r->verifying)
		copy->finds /= 2;
	if (planted(LOOK_FORGETS_A_BLOCK) && ledger_block(r->ledger, entry)->key.bytes[0] % 8 == 0)
		return;
	uint32_t count = copies_owners(r, entry, owners);
	copies_settle_spare(r, entry, owners, count);
	if (!any_missing(copy, owners, count))
		return;
	copy->failures = 0;
	if (copies_ours(r, entry, owners, count))
		lists_push(r, entry, r->draining ? LIST_FRESH : LIST_PACED, false);
	else if (r->verifying && !r->draining)
		lists_push(r, entry, LIST_PACED, true);
}

/* All are to be looked at, after a while or as soon as possible. */
void look_anew(struct replicate *r, uint64_t delay_ns)
{
	count_members(r);
	if (r->look_left > 0) {
		r->look_left = r->fresh; /* goes on where it is, once around */
	} else if (!r->changed || r->look_at_ns > r->now_ns + delay_ns) {
		r->look_at_ns = r->now_ns + delay_ns;
	}
	r->changed = true;
	r->verifying = false;
}

static void end_look(struct replicate *r)
{
	uint64_t graces = r->verifying ? PERIOD_GRACES : VERIFY_GRACES;
	r->changed = r->verifying = false;
	r->look_at_ns = r->now_ns + graces * r->options.grace_ns;
}

static void begin_look(struct replicate *r)
{
	r->verifying = !r->changed;
	r->look_at_ns = UINT64_MAX;
	r->look_left = r->fresh;
	r->given_up_now = 0;
	if (r->changed)
		env_trace(r->options.env, "look at all blocks: %u stores", r->member_count);
	if (r->look_left == 0)
		end_look(r); /* there was never a block */
}

static void go_on_looking(struct replicate *r, bool busy)
{
	if (r->look_left == 0 && r->now_ns >= r->look_at_ns)
		begin_look(r);
	uint32_t most = (r->draining ? LOOK_BLOCKS_LEAVING : busy ? LOOK_BLOCKS_BUSY : LOOK_BLOCKS) * LOOK_EMPTY;
	for (uint32_t cost = 0; r->look_left > 0 && cost < most; cost++) {
		if (copies_served(r, r->look_next)) {
			look_at(r, r->look_next);
			cost += LOOK_EMPTY - 1;
		}
		r->look_next = (r->look_next + 1) % r->fresh;
		if (--r->look_left == 0)
			end_look(r);
	}
}

/* ---- time */

static void give_up_the_lost(struct replicate *r)
{
	for (uint32_t i = 0; i < r->other_count; i++) {
		struct other *other = &r->others[i];
		bool waits = other->peer == PEER_NONE && !other->gone;
		if (!waits || r->now_ns < other->lost_ns + r->options.grace_ns)
			continue;
		other->gone = true;
		look_anew(r, 0);
	}
}

/* A store that is alone for long has no more at hand than one that is not. */
static void refill(struct replicate *r, bool busy)
{
	uint64_t rate = busy ? r->options.rate_bytes / BUSY_PARTS : r->options.rate_bytes;
	uint64_t passed_us = (r->now_ns - r->refilled_ns) / 1000;
	int64_t most = (int64_t)(rate / REFILL_PER_S);
	r->refilled_ns += passed_us * 1000;
	if (passed_us > 1000000)
		passed_us = 1000000;
	r->allowance += (int64_t)(rate * passed_us / 1000000);
	if (r->allowance > most)
		r->allowance = most;
}

void replicate_tick(struct replicate *r, bool busy, uint64_t now_ns)
{
	r->now_ns = now_ns;
	refill(r, busy);
	give_up_the_lost(r);
	go_on_looking(r, busy);
	lists_pump(r);
}

/* Could anybody have what is here: a store that stays, or one that is to be met? */
static bool anybody_stays(const struct replicate *r)
{
	for (uint32_t i = 0; i < r->other_count; i++)
		if (other_lives(&r->others[i]) && !r->others[i].draining)
			return true;
	for (uint32_t i = 0; i < r->expected_count; i++) {
		uint8_t number = copies_number(r, r->expected[i]);
		if (number == NOBODY || !other_lives(&r->others[number]))
			return true;
	}
	return false;
}

/* By what is known of each other. */
static bool all_elsewhere(const struct replicate *r)
{
	for (uint32_t i = 0; i < r->fresh; i++)
		if (copies_served(r, i) && copies_only_here(r, &r->copies[i]))
			return false;
	return true;
}

bool replicate_drained(const struct replicate *r)
{
	if (r->sent_count > 0)
		return false;
	bool waits = r->changed || r->lists[LIST_FRESH].count > 0 || r->lists[LIST_PACED].count > 0;
	if (!anybody_stays(r) || planted(LEAVES_WITH_THE_ONLY_COPY))
		return true;
	return !waits && all_elsewhere(r);
}

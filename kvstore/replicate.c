#include "kvstore/replicate.h"

#include <assert.h>
#include <string.h>

#include "base/carve.h"
#include "base/planted.h"
#include "kvstore/replicate_impl.h"

enum {
	LOOK_ENTRIES = 2048,          /* a tick: a millisecond of ten stores, 100,000 blocks a second */
	LOOK_ENTRIES_LEAVING = 16384,
	SETTLE_PARTS = 6,             /* of a grace, for more stores to come up before blocks are looked at */
	VERIFY_GRACES = 3,            /* until they are looked at a second time */
	PERIOD_GRACES = 20,           /* and again, should something have been given up */
	REFILL_PER_S = 10,            /* the pace may be caught up on for this part of a second */
	BUSY_PARTS = 4,
};

static struct replicate *layout(struct carve *carve, const struct replicate_options *o)
{
	struct replicate *r = carve_take(carve, 1, sizeof(*r));
	struct copy *copies = carve_take(carve, o->entry_max, sizeof(*copies));
	struct sent *sent = carve_take(carve, o->sent_max, sizeof(*sent));
	if (r)
		*r = (struct replicate){.options = *o, .copies = copies, .sent = sent};
	return r;
}

size_t replicate_bytes(const struct replicate_options *options)
{
	struct carve carve = {0};
	layout(&carve, options);
	return carve.used;
}

static void count_members(struct replicate *r)
{
	r->member_count = 0;
	if (!r->draining)
		r->members[r->member_count++] = (struct place_member){r->options.node, r->options.weight};
	for (uint32_t i = 0; i < r->other_count; i++) {
		const struct other *other = &r->others[i];
		if (!other->gone && !other->draining)
			r->members[r->member_count++] = (struct place_member){other->node, other->weight};
	}
}

struct replicate *replicate_init(void *memory, const struct replicate_options *options, struct ledger *ledger,
				 struct sessions *sessions)
{
	struct carve carve = {.memory = memory};
	struct replicate *r = layout(&carve, options);
	r->ledger = ledger;
	r->sessions = sessions;
	if (r->options.replicas == 0)
		r->options.replicas = 1;
	assert(r->options.replicas + REPLICATE_HOT_MAX <= PLACE_REPLICAS_MAX && options->weight > 0);
	assert(options->rate_bytes <= REPLICATE_RATE_MAX);
	if (r->options.grace_ns == 0)
		r->options.grace_ns = REPLICATE_GRACE_NS;
	r->look_at_ns = UINT64_MAX;
	lists_init(r);
	count_members(r);
	return r;
}

/* ---- who has a block, and who should */

bool copies_known(const struct copy *copy, uint8_t other)
{
	return memchr(copy->known, other, sizeof(copy->known)) != NULL;
}

/* More than there is room for: one that is not there is forgotten, or any. */
void copies_learn(struct replicate *r, struct copy *copy, uint8_t other)
{
	if (copies_known(copy, other))
		return;
	uint8_t *at = memchr(copy->known, NOBODY, sizeof(copy->known));
	for (uint32_t i = 0; !at && i < PLACE_REPLICAS_MAX; i++)
		if (!other_lives(&r->others[copy->known[i]]))
			at = &copy->known[i];
	*(at ? at : &copy->known[other % PLACE_REPLICAS_MAX]) = other;
}

void copies_forget(struct copy *copy, uint8_t other)
{
	uint8_t *at = memchr(copy->known, other, sizeof(copy->known));
	if (at)
		*at = NOBODY;
}

static uint8_t number_of(const struct replicate *r, uint64_t node)
{
	for (uint32_t i = 0; i < r->other_count; i++)
		if (r->others[i].node == node)
			return (uint8_t)i;
	return node == r->options.node ? SELF : NOBODY;
}

static uint8_t other_of(const struct replicate *r, uint32_t peer)
{
	for (uint32_t i = 0; i < r->other_count; i++)
		if (r->others[i].peer == peer)
			return (uint8_t)i;
	return NOBODY;
}

static uint32_t more_copies(const struct copy *copy)
{
	return (copy->finds >= REPLICATE_HOT_FINDS) + (copy->finds >= 4 * REPLICATE_HOT_FINDS);
}

uint32_t copies_owners(const struct replicate *r, uint32_t entry, uint8_t ret_owners[PLACE_REPLICAS_MAX])
{
	uint64_t nodes[PLACE_REPLICAS_MAX];
	uint32_t replicas = r->options.replicas + more_copies(&r->copies[entry]);
	uint32_t count = place_owners(r->members, r->member_count, &ledger_block(r->ledger, entry)->key, replicas, nodes);
	for (uint32_t i = 0; i < count; i++)
		ret_owners[i] = number_of(r, nodes[i]);
	return count;
}

static bool has_and_stays(const struct replicate *r, const struct copy *copy, uint8_t number)
{
	return copies_known(copy, number) && other_lives(&r->others[number]) && !r->others[number].draining;
}

/* No owner has it: the best in rank of those who have. */
static bool best_of_the_rest(const struct replicate *r, uint32_t entry)
{
	struct place_member holders[PLACE_REPLICAS_MAX + 1] = {{r->options.node, r->options.weight}};
	uint32_t count = 1;
	const struct copy *copy = &r->copies[entry];
	for (uint32_t i = 0; i < PLACE_REPLICAS_MAX; i++) {
		uint8_t number = copy->known[i];
		if (number != NOBODY && has_and_stays(r, copy, number))
			holders[count++] = (struct place_member){r->others[number].node, r->others[number].weight};
	}
	uint64_t best = r->options.node;
	uint32_t found = place_owners(holders, count, &ledger_block(r->ledger, entry)->key, 1, &best);
	(void)found; /* there is this store */
	return best == r->options.node;
}

/* Of a store that drains: does nobody who stays have it? */
static bool only_here(const struct replicate *r, const struct copy *copy)
{
	for (uint32_t i = 0; i < PLACE_REPLICAS_MAX; i++)
		if (copy->known[i] != NOBODY && has_and_stays(r, copy, copy->known[i]))
			return false;
	return true;
}

bool copies_ours(const struct replicate *r, uint32_t entry, const uint8_t *owners, uint32_t count)
{
	const struct copy *copy = &r->copies[entry];
	if (r->draining)
		return only_here(r, copy);
	for (uint32_t i = 0; i < count; i++) {
		if (owners[i] == SELF)
			return true;
		if (has_and_stays(r, copy, owners[i]))
			return false;
	}
	return best_of_the_rest(r, entry);
}

void copies_settle_spare(struct replicate *r, uint32_t entry, const uint8_t *owners, uint32_t count)
{
	bool spare = count > 0 && !r->draining;
	for (uint32_t i = 0; spare && i < count; i++)
		spare = owners[i] != SELF && has_and_stays(r, &r->copies[entry], owners[i]);
	ledger_spare(r->ledger, entry, spare);
}

/* ---- every block is looked at (rule 1) */

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
	if (!copies_served(r, entry))
		return;
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
static void look_anew(struct replicate *r, uint64_t delay_ns)
{
	count_members(r);
	if (r->look_left > 0) {
		r->look_left = r->options.entry_max; /* goes on where it is, once around */
	} else if (!r->changed || r->look_at_ns > r->now_ns + delay_ns) {
		r->look_at_ns = r->now_ns + delay_ns;
	}
	r->changed = true;
	r->verifying = false;
}

static void begin_look(struct replicate *r)
{
	r->verifying = !r->changed;
	r->look_at_ns = UINT64_MAX;
	r->look_left = r->options.entry_max;
	if (r->changed)
		env_trace(r->options.env, "look at all blocks: %u stores", r->member_count);
}

static void end_look(struct replicate *r)
{
	uint64_t graces = r->verifying ? PERIOD_GRACES : VERIFY_GRACES;
	r->changed = r->verifying = false;
	r->look_at_ns = r->now_ns + graces * r->options.grace_ns;
}

static void go_on_looking(struct replicate *r)
{
	if (r->look_left == 0 && r->now_ns >= r->look_at_ns)
		begin_look(r);
	uint32_t most = r->draining ? LOOK_ENTRIES_LEAVING : LOOK_ENTRIES;
	for (uint32_t i = 0; r->look_left > 0 && i < most; i++) {
		look_at(r, r->look_next);
		r->look_next = (r->look_next + 1) % r->options.entry_max;
		if (--r->look_left == 0)
			end_look(r);
	}
}

/* ---- stores come and go */

static void forget_everywhere(struct replicate *r, uint8_t number)
{
	for (uint32_t i = 0; i < r->options.entry_max; i++)
		copies_forget(&r->copies[i], number);
}

/* A number for a store that has none yet: a free one, or that of the one that is gone for longest. */
static uint8_t take_number(struct replicate *r)
{
	uint8_t oldest = NOBODY;
	if (r->other_count < REPLICATE_STORES_MAX)
		return (uint8_t)r->other_count++;
	for (uint32_t i = 0; i < r->other_count; i++) {
		const struct other *other = &r->others[i];
		if (other->gone && (oldest == NOBODY || other->lost_ns < r->others[oldest].lost_ns))
			oldest = (uint8_t)i;
	}
	return oldest;
}

void replicate_up(struct replicate *r, uint32_t peer, uint64_t now_ns)
{
	r->now_ns = now_ns;
	const struct session_peer *info = sessions_peer(r->sessions, peer);
	uint8_t number = number_of(r, info->node);
	if (number == NOBODY)
		number = take_number(r);
	if (number == NOBODY)
		return; /* more stores than there are numbers: this one gets no copies from here */
	struct other *other = &r->others[number];
	if (other->node && (other->node != info->node || other->incarnation != info->incarnation))
		forget_everywhere(r, number); /* another life: what the last one had is not there */
	*other = (struct other){.node = info->node, .incarnation = info->incarnation, .weight = info->weight, .peer = peer,
				.draining = info->draining};
	if (planted(JOINED_STORE_NOT_TOLD))
		count_members(r);
	else
		look_anew(r, r->options.grace_ns / SETTLE_PARTS);
}

void replicate_down(struct replicate *r, uint32_t peer, uint64_t now_ns)
{
	r->now_ns = now_ns;
	uint8_t number = other_of(r, peer);
	if (number == NOBODY)
		return;
	struct other *other = &r->others[number];
	sent_end_all(r, number);
	other->peer = PEER_NONE;
	other->lost_ns = now_ns;
	if (other->draining) { /* it meant to go */
		other->gone = true;
		look_anew(r, 0);
	}
}

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

void replicate_peer_draining(struct replicate *r, uint32_t peer, bool draining, uint64_t now_ns)
{
	r->now_ns = now_ns;
	uint8_t number = other_of(r, peer);
	if (number == NOBODY || r->others[number].draining == draining)
		return;
	r->others[number].draining = draining;
	look_anew(r, 0);
}

void replicate_drain(struct replicate *r, bool draining, uint64_t now_ns)
{
	if (r->draining == draining)
		return;
	r->now_ns = now_ns;
	r->draining = draining;
	look_anew(r, 0);
}

/* ---- blocks come, and are found */

void replicate_sealed(struct replicate *r, uint32_t entry, uint32_t peer, uint64_t now_ns)
{
	r->now_ns = now_ns;
	struct copy *copy = &r->copies[entry];
	copy->failures = 0;
	copy->finds = 0;
	memset(copy->known, NOBODY, sizeof(copy->known));
	replicate_known(r, entry, peer);
	lists_push(r, entry, LIST_FRESH, false);
	lists_pump(r);
}

void replicate_known(struct replicate *r, uint32_t entry, uint32_t peer)
{
	uint8_t number = other_of(r, peer);
	if (number != NOBODY)
		copies_learn(r, &r->copies[entry], number);
}

uint32_t replicate_more(const struct replicate *r, uint32_t entry)
{
	uint32_t wanted = r->options.replicas + more_copies(&r->copies[entry]);
	uint32_t most = wanted < r->member_count ? wanted : r->member_count;
	return most > r->options.replicas ? most - r->options.replicas : 0;
}

void replicate_found(struct replicate *r, uint32_t entry, uint64_t now_ns)
{
	r->now_ns = now_ns;
	struct copy *copy = &r->copies[entry];
	uint32_t before = more_copies(copy);
	if (copy->finds < UINT16_MAX)
		copy->finds++;
	if (more_copies(copy) != before)
		lists_push(r, entry, LIST_PACED, false);
}

/* ---- time */

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
	go_on_looking(r);
	lists_pump(r);
}

static bool anybody_stays(const struct replicate *r)
{
	for (uint32_t i = 0; i < r->other_count; i++)
		if (other_lives(&r->others[i]) && !r->others[i].draining)
			return true;
	return false;
}

bool replicate_drained(const struct replicate *r)
{
	if (r->sent_count > 0)
		return false;
	bool waits = r->changed || r->lists[LIST_FRESH].count > 0 || r->lists[LIST_PACED].count > 0;
	return !waits || !anybody_stays(r) || planted(LEAVES_WITH_THE_ONLY_COPY);
}

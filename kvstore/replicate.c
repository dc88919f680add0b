#include "kvstore/replicate.h"

#include <assert.h>
#include <string.h>

#include "base/carve.h"
#include "base/planted.h"
#include "kvstore/replicate_impl.h"

enum { SETTLE_PARTS = 6 }; /* of a grace, for more stores to come up before blocks are looked at */

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

void count_members(struct replicate *r)
{
	r->member_count = 0;
	r->changes++;
	if (!r->draining)
		r->members[r->member_count++] = (struct place_member){r->options.node, r->options.weight};
	for (uint32_t i = 0; i < r->other_count; i++) {
		const struct other *other = &r->others[i];
		if (!other->gone && !other->draining)
			r->members[r->member_count++] = (struct place_member){other->node, other->weight};
	}
}

uint32_t replicate_members(const struct replicate *r, struct place_member ret_members[REPLICATE_STORES_MAX + 1])
{
	memcpy(ret_members, r->members, r->member_count * sizeof(*ret_members));
	return r->member_count;
}

uint64_t replicate_change(const struct replicate *r)
{
	return r->changes;
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

uint8_t copies_number(const struct replicate *r, uint64_t node)
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

/* Of low priority: one, beyond which there are only those of a hot block. */
static uint32_t wanted_copies(const struct replicate *r, uint32_t entry)
{
	bool low = ledger_block(r->ledger, entry)->priority == LEDGER_LOW;
	return (low ? 1 : r->options.replicas) + more_copies(&r->copies[entry]);
}

uint32_t copies_owners(const struct replicate *r, uint32_t entry, uint8_t ret_owners[PLACE_REPLICAS_MAX])
{
	uint64_t nodes[PLACE_REPLICAS_MAX];
	uint32_t count = place_owners(r->members, r->member_count, &ledger_block(r->ledger, entry)->key, wanted_copies(r, entry),
				      nodes);
	for (uint32_t i = 0; i < count; i++)
		ret_owners[i] = copies_number(r, nodes[i]);
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
bool copies_only_here(const struct replicate *r, const struct copy *copy)
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
		return copies_only_here(r, copy);
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

void replicate_member(struct replicate *r, uint64_t node, bool is_there)
{
	uint32_t i = 0;
	while (i < r->expected_count && r->expected[i] != node)
		i++;
	if (is_there && i == r->expected_count && i < REPLICATE_STORES_MAX)
		r->expected[r->expected_count++] = node;
	else if (!is_there && i < r->expected_count)
		r->expected[i] = r->expected[--r->expected_count];
}

void replicate_up(struct replicate *r, uint32_t peer, uint64_t now_ns)
{
	r->now_ns = now_ns;
	const struct session_peer *info = sessions_peer(r->sessions, peer);
	uint8_t number = copies_number(r, info->node);
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
		look_anew(r, r->draining ? 0 : r->options.grace_ns / SETTLE_PARTS);
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

/* Whatever was known belonged to the entry's last block. */
static void begin(struct replicate *r, uint32_t entry, bool loaded)
{
	struct copy *copy = &r->copies[entry];
	lists_forget(r, entry);
	copy->loaded = loaded;
	copy->failures = 0;
	copy->finds = 0;
	memset(copy->known, NOBODY, sizeof(copy->known));
}

void replicate_sealed(struct replicate *r, uint32_t entry, uint32_t peer, uint64_t now_ns)
{
	r->now_ns = now_ns;
	begin(r, entry, false);
	replicate_known(r, entry, peer);
	lists_push(r, entry, LIST_FRESH, false);
	lists_pump(r);
}

void replicate_loaded(struct replicate *r, uint32_t entry, uint64_t now_ns)
{
	r->now_ns = now_ns;
	begin(r, entry, true);
	lists_push(r, entry, LIST_PACED, false);
}

void replicate_known(struct replicate *r, uint32_t entry, uint32_t peer)
{
	uint8_t number = other_of(r, peer);
	if (number != NOBODY)
		copies_learn(r, &r->copies[entry], number);
}

void replicate_raised(struct replicate *r, uint32_t entry, uint32_t peer, uint64_t now_ns)
{
	r->now_ns = now_ns;
	memset(r->copies[entry].known, NOBODY, sizeof(r->copies[entry].known));
	replicate_known(r, entry, peer);
	lists_push(r, entry, LIST_FRESH, false);
	lists_pump(r);
}

uint32_t replicate_more(const struct replicate *r, uint32_t entry)
{
	uint32_t wanted = wanted_copies(r, entry);
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

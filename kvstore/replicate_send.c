/* replicate_send - the lists of blocks whose copies are missing, and the offers of them. */
#include <assert.h>
#include <string.h>

#include "base/planted.h"
#include "kvstore/replicate_impl.h"
#include "proto/job.h"

enum {
	MISSES_MAX = 16,   /* blocks in a row that nobody can take now */
	PUMPED_MAX = 4096, /* blocks looked at in one go */
	DOUBLINGS_MAX = 6, /* of RETRY_NS */
};
/* After a refusal or a failure the store is left alone for a moment, twice as long after each more in a row: it may be full, or
 * it may be only this block that it does not take. */
#define RETRY_NS UINT64_C(1000000)

void lists_init(struct replicate *r)
{
	for (int i = 0; i < LISTS; i++)
		r->lists[i] = (struct list){.first = LEDGER_NONE, .last = LEDGER_NONE};
	for (uint32_t i = 0; i < r->options.entry_max; i++) {
		r->copies[i] = (struct copy){.prev = LEDGER_NONE, .next = LEDGER_NONE};
		memset(r->copies[i].known, NOBODY, sizeof(r->copies[i].known));
	}
	r->sent_free = r->options.sent_max > 0 ? 0 : LEDGER_NONE;
	for (uint32_t i = 0; i < r->options.sent_max; i++)
		r->sent[i] = (struct sent){.next_free = i + 1 < r->options.sent_max ? i + 1 : LEDGER_NONE};
}

/* ---- lists */

static uint32_t bytes_of(const struct replicate *r, uint32_t entry)
{
	const struct ledger_block *block = ledger_block(r->ledger, entry);
	return block->layer_count * block->layer_bytes;
}

static void append(struct replicate *r, uint32_t entry, enum copy_list which)
{
	struct copy *copy = &r->copies[entry];
	struct list *list = &r->lists[which];
	copy->prev = list->last;
	copy->next = LEDGER_NONE;
	copy->list = (uint8_t)which;
	if (list->last == LEDGER_NONE)
		list->first = entry;
	else
		r->copies[list->last].next = entry;
	list->last = entry;
	list->count++;
	list->bytes += copy->bytes;
	r->verify_count += copy->verify;
}

void lists_push(struct replicate *r, uint32_t entry, enum copy_list which, bool verify)
{
	struct copy *copy = &r->copies[entry];
	if (copy->list != LIST_NONE) {
		if (copy->verify && !verify) {
			copy->verify = false;
			r->verify_count--;
		}
		return;
	}
	copy->bytes = bytes_of(r, entry);
	copy->verify = verify;
	append(r, entry, which);
}

static void take_out(struct replicate *r, uint32_t entry)
{
	struct copy *copy = &r->copies[entry];
	struct list *list = &r->lists[copy->list];
	*(copy->prev == LEDGER_NONE ? &list->first : &r->copies[copy->prev].next) = copy->next;
	*(copy->next == LEDGER_NONE ? &list->last : &r->copies[copy->next].prev) = copy->prev;
	list->count--;
	list->bytes -= copy->bytes;
	r->verify_count -= copy->verify;
	copy->list = LIST_NONE;
	copy->prev = copy->next = LEDGER_NONE;
}

/* Its block has gone: is it one that some store lacks, for all that is known?  What came from disk is asked about when stores come
 * and go. */
static bool went_uncopied(const struct copy *copy, bool waited)
{
	return copy->failures >= FAILURES_MAX || (waited && (!copy->loaded || copy->failures > 0));
}

void lists_forget(struct replicate *r, uint32_t entry)
{
	struct copy *copy = &r->copies[entry];
	bool waited = copy->list != LIST_NONE;
	if (waited)
		take_out(r, entry);
	r->evicted += went_uncopied(copy, waited);
}

/* ---- offers */

static void say_offer(struct replicate *r, const struct sent *sent)
{
	const struct ledger_block *block = ledger_block(r->ledger, sent->entry);
	struct slot_place at;
	ledger_place(r->ledger, sent->entry, &at);
	Wire__Place place = WIRE__PLACE__INIT;
	place.region = at.region;
	place.offset = at.offset;
	place.generation = at.generation;
	Wire__Offer offer = WIRE__OFFER__INIT;
	offer.op = sent->op;
	offer.key = (ProtobufCBinaryData){PROTO_KEY_BYTES, (uint8_t *)block->key.bytes}; /* the packer only reads */
	offer.parent = (ProtobufCBinaryData){block->has_parent ? PROTO_KEY_BYTES : 0, (uint8_t *)block->parent.bytes};
	offer.place = &place;
	offer.n_digests = block->layer_count;
	offer.digests = (uint64_t *)block->digests;
	offer.layer_bytes = block->layer_bytes;
	offer.compat = (ProtobufCBinaryData){PROTO_KEY_BYTES, (uint8_t *)block->compat.bytes};
	offer.tenant = (char *)block->tenant;
	offer.priority = block->priority == LEDGER_LOW ? WIRE__PRIORITY__PRIORITY_LOW : WIRE__PRIORITY__PRIORITY_NORMAL;
	offer.pin = (Wire__KvPin)ledger_pinned(r->ledger, sent->entry);
	PROTO_ENVELOPE(envelope, OFFER, offer, &offer);
	sessions_send(r->sessions, r->others[sent->other].peer, &envelope);
}

/* It counts as known from now on, so that it is not offered twice; when it comes to nothing that is forgotten. */
static void lend_to(struct replicate *r, uint32_t entry, uint8_t other, bool paced)
{
	uint32_t index = r->sent_free;
	struct sent *sent = &r->sent[index];
	r->sent_free = sent->next_free;
	r->sent_count++;
	*sent = (struct sent){.used = true, .other = other, .paced = paced, .verify = r->copies[entry].verify, .entry = entry,
			      .op = ++r->op_next << 32 | index};
	r->others[other].window++;
	copies_learn(r, &r->copies[entry], other);
	ledger_lend(r->ledger, entry);
	if (paced)
		r->allowance -= bytes_of(r, entry);
	say_offer(r, sent);
	if (planted(COPY_RETURNED_EARLY))
		ledger_return(r->ledger, entry);
}

static bool takes_offers(const struct replicate *r, const struct other *other)
{
	return r->sent_free != LEDGER_NONE && other->window < r->options.window && r->now_ns >= other->retry_ns;
}

/* Offers what is missing and can be offered; false: not all of it. */
static bool serve(struct replicate *r, uint32_t entry, bool paced)
{
	struct copy *copy = &r->copies[entry];
	uint8_t owners[PLACE_REPLICAS_MAX];
	bool all = true;
	if (!copies_served(r, entry)) {
		r->evicted += went_uncopied(copy, true);
		copy->failures = 0; /* counted */
		return true;
	}
	uint32_t count = copies_owners(r, entry, owners);
	copies_settle_spare(r, entry, owners, count);
	if ((!copy->verify || r->draining) && !copies_ours(r, entry, owners, count))
		return true;
	for (uint32_t i = 0; i < count; i++) {
		if (owners[i] == SELF || copies_known(copy, owners[i]))
			continue;
		const struct other *other = &r->others[owners[i]];
		if (!other_lives(other))
			continue; /* looked at again when it is back, or gone */
		if (takes_offers(r, other))
			lend_to(r, entry, owners[i], paced);
		else
			all = false;
		if (r->draining && all)
			break; /* one who stays has it soon, and makes the other copies */
	}
	return all;
}

/* There are others, and none of them takes anything now: nothing is to be looked for. */
static bool all_busy(const struct replicate *r)
{
	bool any = false;
	for (uint32_t i = 0; i < r->other_count; i++) {
		if (other_lives(&r->others[i]) && takes_offers(r, &r->others[i]))
			return false;
		any |= other_lives(&r->others[i]);
	}
	return any;
}

static bool within_pace(const struct replicate *r, enum copy_list which)
{
	bool paced = which == LIST_PACED && r->options.rate_bytes > 0 && !r->draining;
	return !paced || r->allowance > 0;
}

static bool may_go_on(const struct replicate *r, enum copy_list which)
{
	return r->sent_free != LEDGER_NONE && within_pace(r, which);
}

void lists_pump(struct replicate *r)
{
	for (enum copy_list which = LIST_FRESH; which < LISTS; which++) {
		if (all_busy(r))
			return;
		uint32_t misses = 0, left = r->lists[which].count < PUMPED_MAX ? r->lists[which].count : PUMPED_MAX;
		for (; left > 0 && misses < MISSES_MAX && may_go_on(r, which); left--) {
			uint32_t entry = r->lists[which].first;
			take_out(r, entry);
			if (serve(r, entry, which == LIST_PACED))
				continue;
			append(r, entry, which);
			misses++;
		}
	}
}

/* ---- answers */

static void end_sent(struct replicate *r, struct sent *sent)
{
	if (!planted(COPY_RETURNED_EARLY))
		ledger_return(r->ledger, sent->entry);
	r->others[sent->other].window--;
	sent->used = false;
	sent->next_free = r->sent_free;
	r->sent_free = (uint32_t)(sent - r->sent);
	r->sent_count--;
}

static void again(struct replicate *r, const struct sent *sent)
{
	if (planted(COPY_COUNT_LOST))
		return;
	copies_forget(&r->copies[sent->entry], sent->other);
	lists_push(r, sent->entry, sent->paced ? LIST_PACED : LIST_FRESH, sent->verify);
}

static void failed(struct replicate *r, const struct sent *sent, enum err e)
{
	struct copy *copy = &r->copies[sent->entry];
	struct other *other = &r->others[sent->other];
	other->retry_ns = r->now_ns + (RETRY_NS << other->refusals);
	if (other->refusals < DOUBLINGS_MAX)
		other->refusals++;
	if (copy->failures < FAILURES_MAX)
		copy->failures += e == ERR_AGAIN ? 1 : FAILED_READ;
	if (copy->failures >= FAILURES_MAX && !r->draining) {
		copies_forget(copy, sent->other);
		r->given_up++;
		r->given_up_now++;
		return;
	}
	again(r, sent);
}

static void finish(struct replicate *r, struct sent *sent, uint32_t peer, enum err e)
{
	const struct sent was = *sent;
	uint32_t bytes = bytes_of(r, was.entry);
	const struct ledger_block *block = ledger_block(r->ledger, was.entry);
	end_sent(r, sent);
	if (e == ERR_DRAINING)
		replicate_peer_draining(r, peer, true, r->now_ns);
	if (e != ERR_OK && e != ERR_EXISTS && e != ERR_TOO_LARGE) {
		failed(r, &was, e);
		return;
	}
	r->copies[was.entry].failures = 0;
	r->others[was.other].refusals = 0;
	if (e == ERR_OK) {
		env_trace(r->options.env, "copied block %02x%02x%02x to %s", block->key.bytes[0], block->key.bytes[1],
			  block->key.bytes[2], sessions_peer(r->sessions, peer)->name);
		r->copied++;
		r->copied_bytes += bytes;
		r->moved_bytes += was.paced ? bytes : 0;
	} else if (was.paced) {
		r->allowance += bytes; /* nothing moved */
	}
	uint8_t owners[PLACE_REPLICAS_MAX];
	uint32_t count = copies_owners(r, was.entry, owners);
	copies_settle_spare(r, was.entry, owners, count);
}

bool replicate_done(struct replicate *r, uint32_t peer, const Wire__OfferDone *done, uint64_t now_ns)
{
	uint32_t index = (uint32_t)done->op;
	if (index >= r->options.sent_max)
		return false;
	struct sent *sent = &r->sent[index];
	if (!sent->used || sent->op != done->op || r->others[sent->other].peer != peer)
		return false;
	r->now_ns = now_ns;
	finish(r, sent, peer, (enum err)done->error);
	lists_pump(r);
	return true;
}

void sent_end_all(struct replicate *r, uint8_t other)
{
	for (uint32_t i = 0; i < r->options.sent_max; i++) {
		struct sent *sent = &r->sent[i];
		if (!sent->used || sent->other != other)
			continue;
		const struct sent was = *sent;
		if (planted(LOAN_RETURNED_TWICE))
			ledger_return(r->ledger, was.entry);
		end_sent(r, sent);
		again(r, &was);
	}
}

/* ---- being looked at */

uint32_t replicate_lent_to(const struct replicate *r, uint32_t peer)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < r->options.sent_max; i++)
		count += r->sent[i].used && r->others[r->sent[i].other].peer == peer;
	return count;
}

uint64_t replicate_evicted(const struct replicate *r)
{
	return r->evicted;
}

bool replicate_waits(const struct replicate *r, uint32_t entry)
{
	bool waits = r->copies[entry].list != LIST_NONE;
	for (uint32_t i = 0; i < r->options.sent_max && !waits; i++)
		waits = r->sent[i].used && r->sent[i].entry == entry;
	return waits;
}

bool replicate_lacks(const struct replicate *r, uint32_t entry, uint64_t node)
{
	uint8_t number = copies_number(r, node);
	bool lacks = number == NOBODY || !copies_known(&r->copies[entry], number);
	for (uint32_t i = 0; i < r->options.sent_max && !lacks; i++)
		lacks = r->sent[i].used && r->sent[i].entry == entry && r->sent[i].other == number;
	return lacks;
}

bool replicate_waits_for_pace(const struct replicate *r, uint32_t entry)
{
	return r->copies[entry].list == LIST_PACED && !within_pace(r, LIST_PACED);
}

bool replicate_any_lost(const struct replicate *r)
{
	for (uint32_t i = 0; i < r->other_count; i++)
		if (!other_lives(&r->others[i]) && !r->others[i].gone)
			return true;
	return false;
}

static uint64_t not_looked_at(const struct replicate *r)
{
	struct ledger_counts counts;
	ledger_counts(r->ledger, &counts);
	uint64_t served = counts.entries[LEDGER_SEALED] + counts.entries[LEDGER_CACHED] + counts.entries[LEDGER_HELD];
	if (replicate_any_lost(r))
		return served;
	if (!r->changed)
		return 0;
	return r->look_left > 0 && r->look_left < served ? r->look_left : served;
}

void replicate_status(const struct replicate *r, struct replicate_status *ret_status)
{
	*ret_status = (struct replicate_status){
		.lag_blocks = r->lists[LIST_FRESH].count,
		.lag_bytes = r->lists[LIST_FRESH].bytes,
		.missing = r->lists[LIST_FRESH].count + r->lists[LIST_PACED].count - r->verify_count + r->given_up_now +
			   not_looked_at(r),
		.in_flight = r->sent_count,
		.copies = r->copied,
		.copied_bytes = r->copied_bytes,
		.moved_bytes = r->moved_bytes,
		.given_up = r->given_up,
	};
	for (uint32_t i = 0; i < r->options.sent_max; i++) {
		const struct sent *sent = &r->sent[i];
		bool fresh = sent->used && !sent->paced;
		ret_status->lag_blocks += fresh;
		ret_status->lag_bytes += fresh ? bytes_of(r, sent->entry) : 0;
		ret_status->missing += sent->used && !sent->verify;
	}
	for (uint32_t i = 0; i < r->other_count; i++)
		ret_status->stores += !r->others[i].gone && !r->others[i].draining;
}

static void check_list(const struct replicate *r, enum copy_list which, uint32_t *verify)
{
	uint32_t count = 0;
	uint64_t bytes = 0;
	uint32_t prev = LEDGER_NONE;
	for (uint32_t i = r->lists[which].first; i != LEDGER_NONE; prev = i, i = r->copies[i].next) {
		assert(r->copies[i].list == which && r->copies[i].prev == prev);
		assert(!copies_served(r, i) || r->copies[i].bytes == bytes_of(r, i)); /* else it waits to be forgotten */
		count++;
		bytes += r->copies[i].bytes;
		*verify += r->copies[i].verify;
	}
	assert(prev == r->lists[which].last && count == r->lists[which].count && bytes == r->lists[which].bytes);
}

void replicate_check(const struct replicate *r)
{
	uint32_t used = 0, verify = 0, windows[REPLICATE_STORES_MAX] = {0};
	for (uint32_t i = 0; i < r->options.sent_max; i++) {
		const struct sent *sent = &r->sent[i];
		if (!sent->used)
			continue;
		used++;
		windows[sent->other]++;
		assert(other_lives(&r->others[sent->other]) && copies_served(r, sent->entry));
	}
	for (uint32_t i = 0; i < r->other_count; i++)
		assert(windows[i] == r->others[i].window);
	struct ledger_counts counts;
	ledger_counts(r->ledger, &counts);
	assert(used == r->sent_count && counts.lent == used);
	check_list(r, LIST_FRESH, &verify);
	check_list(r, LIST_PACED, &verify);
	assert(verify == r->verify_count);
}

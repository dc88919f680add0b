/* What a store says of itself: to coordinators and peers, to its process, to people. */
#include <stdio.h>

#include "kvstore/store_impl.h"
#include "proto/job.h"

static void fill_replica_load(const struct store *s, uint32_t spare, Wire__ReplicaLoad *ret_load)
{
	struct replicate_status status;
	replicate_status(s->replicate, &status);
	wire__replica_load__init(ret_load);
	ret_load->lag_blocks = status.lag_blocks;
	ret_load->lag_bytes = status.lag_bytes;
	ret_load->missing = status.missing + sweep_status(s).missing;
	ret_load->in_flight = status.in_flight;
	ret_load->spare = spare;
	ret_load->copies = status.copies;
	ret_load->copied_bytes = status.copied_bytes;
	ret_load->moved_bytes = status.moved_bytes;
	ret_load->given_up = status.given_up;
}

static uint64_t bytes_read_of(const void *context, uint32_t peer)
{
	const struct store *s = context;
	const struct session_peer *info = sessions_peer(s->sessions, peer);
	return info && s->read_from[peer].node == info->node ? s->read_from[peer].bytes : 0;
}

void store_load(struct store *s, uint64_t now_ns, Wire__Load *ret_load)
{
	struct ledger_counts counts;
	ledger_counts(s->ledger, &counts);
	Wire__Load load = WIRE__LOAD__INIT;
	load.role = WIRE__ROLE__ROLE_KVSTORE;
	load.jobs = s->offer_count;
	load.jobs_max = s->options.offer_max;
	load.blocks_total = counts.slots;
	load.blocks_cached = counts.entries[LEDGER_CACHED];
	load.blocks_used = counts.slots - counts.slots_free - load.blocks_cached;
	load.blocks_reserved = counts.entries[LEDGER_READING];
	load.sessions = sessions_count(s->sessions);
	load.draining = s->draining;
	load.epoch = s->fence.epoch;
	load.directives_refused = s->fence.refused;
	load.steps = s->counters.offers_taken;
	fill_replica_load(s, counts.spare, &s->operate->replica);
	load.replica = &s->operate->replica;
	wire__disk_load__init(&s->operate->disk);
	store_disk_report(s, &s->operate->disk);
	load.disk = s->d.disk ? &s->operate->disk : NULL;
	load.n_refused = refusals_report(s->options.env, s->operate->refused);
	load.refused = s->operate->refused;
	link_report(s->options.env, s->sessions, bytes_read_of, s, &s->operate->links, &load);
	load.store = (Wire__StoreLoad *)operate_load(s, now_ns); /* the packer only reads */
	*ret_load = load;
}

/* To coordinators always, and all of it; to stores always, so that an older word which comes late is soon mended: they would make no
 * copies here; to the others that this store drains, and once that it drains no more. */
void store_report(struct store *s, uint64_t now_ns)
{
	Wire__Load load, less;
	store_load(s, now_ns, &load);
	less = load;
	less.store = NULL;
	less.n_transports = 0;
	PROTO_ENVELOPE(envelope, LOAD, load, &load);
	bool to_all = s->draining || s->told_draining;
	s->told_draining = s->draining;
	for (uint32_t i = 0; i < sessions_max(s->sessions); i++) {
		const struct session_peer *peer = sessions_peer(s->sessions, i);
		bool always = peer && (peer->role == WIRE__ROLE__ROLE_COORDINATOR || peer->role == WIRE__ROLE__ROLE_KVSTORE);
		if (!peer || !(to_all || always))
			continue;
		envelope.load = peer->role == WIRE__ROLE__ROLE_COORDINATOR ? &load : &less;
		sessions_send(s->sessions, i, &envelope);
	}
}

void store_status(const struct store *s, struct store_status *ret_status)
{
	*ret_status = (struct store_status){
		.counters = s->counters,
		.offers = s->offer_count,
		.reading = s->reading_count,
		.lookups = holds_lookups(s->holds),
		.holds = holds_count(s->holds),
		.sessions = sessions_count(s->sessions),
		.draining = s->draining,
		.epoch = s->fence.epoch,
		.directives_refused = s->fence.refused,
	};
	ledger_counts(s->ledger, &ret_status->ledger);
	replicate_status(s->replicate, &ret_status->replicate);
	ret_status->sweep = sweep_status(s);
	ret_status->has_disk = s->d.disk != NULL;
	if (s->d.disk)
		disk_status(s->d.disk, &ret_status->disk);
}

static int dump_disk(const struct store_status *t, char *text, size_t capacity)
{
	const struct disk_status *d = &t->disk;
	const struct disk_counters *c = &d->counters;
	return snprintf(
		text, capacity,
		"disk %s%s: %u blocks in %u segments of %u, %u free; %u blocks (%llu bytes) not yet durable\n"
		"put %llu bytes, of %llu before they were encoded, moved %llu; blocks take %llu of %llu; loads right %llu, failed %llu; gone for room %llu, bad %llu, forgotten %llu\n"
		"unwritten %llu, keys answered from disk %llu, failed operations %llu; %u notes\n"
		"copies of what is on disk only: %llu keys asked for, %llu blocks loaded, %u missing%s\n",
		d->ready ? "ready" : "starting", d->stopped ? ", writing stopped" : "", d->blocks, d->segments - d->segments_free,
		d->segments, d->segments_free, d->puts, (unsigned long long)d->put_bytes, (unsigned long long)c->bytes_put,
		(unsigned long long)c->bytes_put_plain, (unsigned long long)c->bytes_moved, (unsigned long long)d->bytes_stored,
		(unsigned long long)d->bytes_plain, (unsigned long long)c->loads_good, (unsigned long long)c->loads_failed,
		(unsigned long long)c->gone[DISK_GONE_ROOM], (unsigned long long)c->gone[DISK_GONE_BAD],
		(unsigned long long)c->gone[DISK_GONE_FORGOTTEN], (unsigned long long)t->counters.disk_unwritten,
		(unsigned long long)t->counters.disk_hits, (unsigned long long)c->errors, d->notes,
		(unsigned long long)t->sweep.asked, (unsigned long long)t->sweep.loaded, t->sweep.missing,
		t->sweep.over ? "" : ", under way");
}

size_t store_dump(const struct store *s, char *text, size_t capacity)
{
	struct store_status t;
	store_status(s, &t);
	const struct store_counters *c = &t.counters;
	int length = snprintf(
		text, capacity,
		"store %s%s: %u sessions, eviction policy %s\n"
		"slots %u, free %u; blocks offered %u, reading %u, cached %u, held %u, quarantined %u\n"
		"sealed %llu, evicted %llu for room, %llu for a slab, %llu for a quota, %llu by command; pinned %u softly, %u hard\n"
		"%llu bytes of %u tenants; open: %u offers, %u readings, %u look-ups holding %u blocks\n"
		"looked up %llu keys, found %llu; offers %llu: taken %llu, existing %llu, refused %llu\n"
		"failed reads: corrupt %llu, stale %llu, deadline %llu, peer gone %llu, other %llu\n"
		"copies: %u other stores; missing %llu, lag %llu, in flight %u, spare %u; made %llu, given up %llu\n",
		s->options.name, t.draining ? " (draining)" : "", t.sessions,
		ledger_policy(s->ledger)->name, t.ledger.slots, t.ledger.slots_free,
		t.ledger.entries[LEDGER_OFFERED], t.ledger.entries[LEDGER_READING], t.ledger.entries[LEDGER_CACHED],
		t.ledger.entries[LEDGER_HELD], t.ledger.entries[LEDGER_EVICTED], (unsigned long long)t.ledger.sealed,
		(unsigned long long)t.ledger.evicted[LEDGER_FOR_ROOM],
		(unsigned long long)t.ledger.evicted[LEDGER_FOR_SLAB],
		(unsigned long long)t.ledger.evicted[LEDGER_FOR_QUOTA],
		(unsigned long long)t.ledger.evicted[LEDGER_FOR_COMMAND], t.ledger.pinned_soft, t.ledger.pinned_hard,
		(unsigned long long)t.ledger.bytes, ledger_tenants(s->ledger)->count, t.offers, t.reading, t.lookups, t.holds,
		(unsigned long long)c->keys_asked, (unsigned long long)c->keys_found, (unsigned long long)c->offers,
		(unsigned long long)c->offers_taken, (unsigned long long)c->offers_existing,
		(unsigned long long)c->offers_refused, (unsigned long long)c->read_corrupt,
		(unsigned long long)c->read_stale, (unsigned long long)c->read_deadline,
		(unsigned long long)c->read_gone, (unsigned long long)c->read_other, t.replicate.stores,
		(unsigned long long)t.replicate.missing, (unsigned long long)t.replicate.lag_blocks, t.replicate.in_flight,
		t.ledger.spare, (unsigned long long)t.replicate.copies, (unsigned long long)t.replicate.given_up);
	if (length >= 0 && t.has_disk && (size_t)length < capacity)
		length += dump_disk(&t, text + length, capacity - (size_t)length);
	if (length < 0 || capacity == 0)
		return 0;
	return (size_t)length < capacity ? (size_t)length : capacity - 1;
}

#include "tests/sim/cluster.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/clients.h"
#include "tests/sim/cluster_impl.h"
#include "tests/sim/faults.h"
#include "tests/sim/promises.h"

enum { DEAD_MS = 2800 };

/* ---- life */

static void start_when_claimed(void *context, uint64_t index)
{
	struct cluster *c = context;
	struct member *m = &c->members[index];
	if (!etcd_first_claim(m)) {
		sim_at(c->sim, sim_now(c->sim) + 100 * MS, UINT32_MAX, start_when_claimed, c, index);
		return;
	}
	m->starting = false;
	m->life++;
	m->epoch_seen = 0;
	m->lead_told_ns = 0;
	m->told_ns = 0;
	member_start(m);
	sim_story(c->sim, (uint32_t)index, "starts, incarnation %llu", (unsigned long long)m->incarnation);
	sim_start(c->sim, (uint32_t)index, m->incarnation, &member_ops, m);
	etcd_watch(c, (uint32_t)index);
}

void cluster_start(struct cluster *c, uint32_t index)
{
	struct member *m = &c->members[index];
	if (m->starting)
		return;
	assert(!sim_up(c->sim, index) && !m->memory);
	m->starting = true;
	start_when_claimed(c, index);
}

/* Law 3: silence is death at 2 s, and all is free at 2.5 s; with ticks and a clock that is 5 % slow, DEAD_MS.  Counted
 * from what was last delivered: words may be on their way for long. */
static void judge_silent(struct cluster *c, const struct member *dead, uint64_t now_ns)
{
	for (uint32_t i = 0; i < c->member_count; i++) {
		const struct member *m = &c->members[i];
		uint64_t heard_ns = c->heard_ns[dead->index][i];
		bool awake = m->silent_since_ns == 0 && now_ns >= m->awake_since_ns + 200 * MS;
		if (m == dead || !awake || !sim_up(c->sim, i) || sim_stopped(c->sim, i) || now_ns < heard_ns + DEAD_MS * MS)
			continue;
		if (m->kind == ENGINE && sessions_find(node_sessions(m->engine), dead->node) != PEER_NONE)
			cluster_fail(c, "I6: %s has a session with %s, silent for %d ms", m->name, dead->name, DEAD_MS);
		if (m->kind == STORE && store_held_for(m->store, dead->node) > 0)
			cluster_fail(c, "I6: %s holds blocks for %s, silent for %d ms", m->name, dead->name, DEAD_MS);
	}
}

static void watch_silence(void *context, uint64_t number)
{
	struct cluster *c = context;
	uint64_t now_ns = sim_now(c->sim);
	(void)number;
	sim_at(c->sim, now_ns + 100 * MS, UINT32_MAX, watch_silence, c, 0);
	for (uint32_t i = 0; i < c->member_count; i++) {
		struct member *m = &c->members[i];
		bool silent = !sim_up(c->sim, i) || sim_stopped(c->sim, i);
		if (!silent && m->silent_since_ns)
			m->awake_since_ns = now_ns;
		if (!silent)
			m->silent_since_ns = 0;
		else if (m->silent_since_ns == 0 || m->silent_incarnation != m->incarnation)
			m->silent_since_ns = now_ns;
		m->silent_incarnation = m->incarnation;
		if (silent && now_ns >= m->silent_since_ns + DEAD_MS * MS)
			judge_silent(c, m, now_ns);
	}
}

void cluster_kill(struct cluster *c, uint32_t index)
{
	if (!sim_up(c->sim, index))
		return;
	c->kills++;
	sim_kill(c->sim, index);
	promises_died(c->promises, index);
	memset(c->lives[index], 0, sizeof(c->lives[index]));
	member_free(&c->members[index]);
	if (c->members[index].kind == COORDINATOR)
		clients_coordinator_died(c->clients, index);
}
static void add(struct cluster *c, enum member_kind kind, Wire__Role role, uint64_t node, const char *name, uint32_t number)
{
	assert(c->member_count < MEMBERS_MAX);
	struct member *m = &c->members[c->member_count];
	*m = (struct member){.cluster = c, .kind = kind, .role = role, .node = node};
	snprintf(m->name, sizeof(m->name), "%s %u", name, number);
	m->index = sim_add(c->sim, node, m->name);
	assert(m->index == c->member_count);
	if (kind == STORE && c->options.disks)
		disk_create(m);
	c->member_count++;
}

/* I7: where no fault changes bytes, the generation says all, and the digest is right. */
void cluster_check_misses(struct cluster *c, uint64_t digest_misses)
{
	if (digest_misses == 0)
		return;
	struct sim_counters counters;
	sim_counters(c->sim, &counters);
	const uint64_t *faults = counters.read_faults;
	if (faults[SIM_READ_CORRUPT] + faults[SIM_READ_TORN] + faults[SIM_READ_STALE] + faults[SIM_READ_FOREIGN] == 0)
		cluster_fail(c, "I7: a digest is wrong, and no fault has changed a byte");
}

static void see_sent(void *context, uint32_t from, uint32_t to, const Wire__Envelope *envelope)
{
	struct cluster *c = context;
	promises_sent(c->promises, from, to, envelope);
	links_said(c, from, to, envelope);
	disk_said(&c->members[from], to, envelope);
}

static void see_parted(void *context, uint32_t node, uint32_t peer)
{
	promises_parted(((struct cluster *)context)->promises, node, peer);
}

/* I6: of two lives of a process the later one counts, for good. */
static void see_linked(void *context, uint32_t node, uint32_t peer, uint64_t incarnation)
{
	struct cluster *c = context;
	if (incarnation < c->lives[node][peer])
		cluster_fail(c, "I6: %s has a session with incarnation %llu of %s after one with %llu", c->members[node].name,
			     (unsigned long long)incarnation, c->members[peer].name,
			     (unsigned long long)c->lives[node][peer]);
	c->lives[node][peer] = incarnation;
	links_begun(c, node, peer);
}

static void see_reading(void *context, uint32_t reader, uint32_t owner, const struct env_read *read)
{
	promises_reading(((struct cluster *)context)->promises, reader, owner, read);
}

static void see_frame(void *context, uint32_t from, uint32_t to, bool alive, const Wire__Envelope *envelope)
{
	struct cluster *c = context;
	c->heard_ns[from][to] = sim_now(c->sim);
	if (c->options.frames)
		cluster_note_frame(c, from, to, envelope);
	if (alive)
		cluster_check_claims(c, from, envelope);
	promises_heard(c->promises, from, to, envelope);
	links_heard(c, from, to, envelope);
	disk_heard(&c->members[to], from, envelope);
	if (envelope->body_case == WIRE__ENVELOPE__BODY_JOB_END)
		cluster_check_misses(c, envelope->job_end->accounting->miss_digest);
	if (envelope->body_case == WIRE__ENVELOPE__BODY_DIRECTIVE_DONE)
		lead_see_frame(c, to, envelope);
	if (envelope->body_case != WIRE__ENVELOPE__BODY_RESERVE)
		return;
	const Wire__JobId *job = envelope->reserve->job;
	c->jobs[c->job_next++ % JOBS_SEEN_MAX] = (struct job_seen){job->coordinator, job->number, job->attempt, to};
}

/* I7, law 2: what is no longer the promised block is a miss, already before anybody looks at digests. */
static void see_broken_link(void *context, uint32_t reader, uint32_t owner)
{
	struct cluster *c = context;
	cluster_fail(c, "I7: %s is told that its read of %s is good, and the slot was given to another block",
		     c->members[reader].name, c->members[owner].name);
}

static void see_read_fault(void *context, uint32_t reader, uint32_t owner, enum sim_read_fault fault)
{
	struct cluster *c = context;
	faults_read_hit(c->faults, reader, owner, fault);
}

static void see_outranked(void *context, uint32_t index, uint64_t incarnation, bool lives)
{
	struct cluster *c = context;
	etcd_outranked(&c->members[index], incarnation, lives);
}

uint32_t cluster_block_count(const struct cluster *c, uint32_t group)
{
	return toy_window(c->options.kind, group) > 0 ? c->options.block_count / 2 : c->options.block_count;
}

uint32_t cluster_store_entries(const struct cluster *c)
{
	return c->options.store_slabs * 24; /* of slots of 64 bytes there are more */
}

struct cluster *cluster_create(const struct cluster_options *options)
{
	struct cluster *c = calloc(1, sizeof(*c));
	assert(c);
	c->options = *options;
	if (c->options.store_slabs == 0)
		c->options.store_slabs = SLABS;
	struct sim_options sim = {
		.seed = options->seed,
		.jitter_ns = 300000,
		.mapped = options->seed & 1,
		.digest = toy_digest,
		.story = options->story,
		.tap = see_frame,
		.sent = see_sent,
		.parted = see_parted,
		.linked = see_linked,
		.reading = see_reading,
		.broken_link = see_broken_link,
		.read_fault = see_read_fault,
		.outranked = see_outranked,
		.context = c,
	};
	c->sim = sim_create(&sim);
	assert(c->sim);
	c->clients = clients_create(c);
	c->faults = faults_create(c);
	c->promises = promises_create(c);
	uint64_t prefill = options->decode_dials ? 30 : 10, decode = 20;
	for (uint32_t i = 0; i < options->coordinators; i++)
		add(c, COORDINATOR, WIRE__ROLE__ROLE_COORDINATOR, 1 + i, "coordinator", i + 1);
	for (uint32_t i = 0; i < options->prefills; i++)
		add(c, ENGINE, WIRE__ROLE__ROLE_PREFILL, prefill + i, "prefill", i + 1);
	for (uint32_t i = 0; i < options->decodes; i++)
		add(c, ENGINE, WIRE__ROLE__ROLE_DECODE, decode + i, "decode", i + 1);
	for (uint32_t i = 0; i < options->boths; i++)
		add(c, ENGINE, WIRE__ROLE__ROLE_BOTH, 40 + i, "both", i + 1);
	for (uint32_t i = 0; i < options->stores; i++)
		add(c, STORE, WIRE__ROLE__ROLE_KVSTORE, 50 + i, "kvstore", i + 1);
	links_refuse(c);
	etcd_start(c);
	watch_silence(c, 0);
	for (uint32_t i = 0; i < c->member_count; i++)
		cluster_start(c, i);
	return c;
}

void cluster_destroy(struct cluster *c)
{
	if (!c)
		return;
	for (uint32_t i = 0; i < c->member_count; i++)
		member_free(&c->members[i]);
	sim_destroy(c->sim);
	for (uint32_t i = 0; i < c->member_count; i++)
		disk_destroy(&c->members[i]);
	clients_destroy(c->clients);
	faults_destroy(c->faults);
	promises_destroy(c->promises);
	free(c);
}

/* ---- judging */

static bool engine_quiet(const struct member *m, char *why, size_t why_bytes)
{
	struct node_status s;
	node_status(m->engine, &s);
	snprintf(why, why_bytes,
		 "%s: %u prefill and %u decode jobs, %u sequences, %u reads, %u holds, %u fetches, %u offers, %u blocks "
		 "used, %u reserved",
		 m->name, s.prefill_jobs, s.decode_jobs, s.sequences, s.reads, s.holds, s.fetches, s.offer_lag,
		 s.blocks_used, s.blocks_reserved);
	if (s.blocks_free + s.blocks_cached + s.blocks_used != s.blocks_total)
		return false;
	return !(s.prefill_jobs || s.decode_jobs || s.sequences || s.reads || s.holds || s.fetches || s.offer_lag ||
		 s.blocks_used || s.blocks_reserved);
}

static bool store_quiet(const struct member *m, char *why, size_t why_bytes)
{
	struct store_status s;
	store_status(m->store, &s);
	store_dump(m->store, why, why_bytes);
	const uint32_t *entries = s.ledger.entries;
	return s.offers == 0 && s.reading == 0 && s.lookups == 0 && s.holds == 0 && s.replicate.in_flight == 0 &&
	       entries[LEDGER_HELD] == 0 && entries[LEDGER_EVICTED] == 0 && s.ledger.slots_free + entries[LEDGER_CACHED] == s.ledger.slots;
}

bool cluster_quiet(const struct cluster *c, char *why, size_t why_bytes)
{
	for (uint32_t i = 0; i < c->member_count; i++) {
		const struct member *m = &c->members[i];
		if (!sim_up(c->sim, i))
			continue;
		if (m->kind == ENGINE && !engine_quiet(m, why, why_bytes))
			return false;
		if (m->kind == STORE && !store_quiet(m, why, why_bytes))
			return false;
		if (m->kind == COORDINATOR && coord_requests(m->coord) > 0) {
			snprintf(why, why_bytes, "%s: %u requests", m->name, coord_requests(m->coord));
			return false;
		}
	}
	return true;
}

/* Sessions as seen by the side that answers a status without a list: engines and stores count theirs. */
bool cluster_whole(const struct cluster *c, char *why, size_t why_bytes)
{
	for (uint32_t i = 0; i < c->member_count; i++) {
		const struct member *m = &c->members[i];
		if (!sim_up(c->sim, i)) {
			snprintf(why, why_bytes, "%s is down", m->name);
			return false;
		}
		uint32_t sessions = 0, expected = c->member_count - 1;
		if (m->kind == ENGINE) {
			sessions = sessions_count(node_sessions(m->engine));
		} else if (m->kind == STORE) {
			struct store_status s;
			store_status(m->store, &s);
			sessions = s.sessions;
		} else {
			struct coord_counters counters;
			coord_counters(m->coord, &counters);
			sessions = counters.sessions;
			expected -= c->options.coordinators - 1;
		}
		snprintf(why, why_bytes, "%s has %u sessions of %u", m->name, sessions, expected);
		if (sessions != expected)
			return false;
	}
	return true;
}

bool cluster_indexed(const struct cluster *c, char *why, size_t why_bytes)
{
	for (uint32_t i = 0; i < c->member_count; i++) {
		struct coord_node nodes[MEMBERS_MAX];
		const struct member *m = &c->members[i];
		uint32_t count = m->kind == COORDINATOR ? coord_nodes(m->coord, sim_local(c->sim, i), nodes, MEMBERS_MAX) : 0;
		for (uint32_t n = 0; n < count; n++) {
			const struct member *at = c->members;
			while (at->node != nodes[n].id)
				at++;
			struct node_status s = {0};
			if (at->kind == ENGINE)
				node_status(at->engine, &s);
			if (nodes[n].blocks_indexed == s.blocks_cached)
				continue;
			snprintf(why, why_bytes, "%s thinks that %s has %u blocks, it has %u", m->name, at->name,
				 nodes[n].blocks_indexed, s.blocks_cached);
			return false;
		}
	}
	return true;
}

/* ---- copies of blocks */

/* From memory or its disk, for room, by an operator, or because the disk has spoilt it; or it had no room for a tenant.  A store
 * of one slab cannot have both sizes of blocks at all. */
static bool evicted_something(const struct member *m)
{
	struct store_status s;
	store_status(m->store, &s);
	uint64_t gone = s.ledger.refused + s.counters.disk_unwritten;
	for (int why = 0; s.has_disk && why < DISK_GONE_REASONS; why++)
		gone += s.disk.counters.gone[why];
	/* What was written to a disk goes from memory, and is there. */
	for (int reason = 0; !s.has_disk && reason < LEDGER_REASONS; reason++)
		gone += s.ledger.evicted[reason];
	return gone > 0 || m->cluster->options.store_slabs == 1;
}

static bool store_serves(const struct member *m, const struct ledger_block *block)
{
	return ledger_find(store_ledger(m->store), &block->key, &block->compat) != LEDGER_NONE || store_on_disk(m->store, &block->key);
}

/* The block of that entry, NULL when it is not served. */
static const struct ledger_block *block_at(const struct member *m, uint32_t entry)
{
	const struct ledger *ledger = store_ledger(m->store);
	enum ledger_state state = ledger_state(ledger, entry);
	return state == LEDGER_SEALED || state == LEDGER_CACHED || state == LEDGER_HELD ? ledger_block(ledger, entry) : NULL;
}

static const struct member *store_of(const struct cluster *c, uint64_t node)
{
	const struct member *m = c->members;
	while (m->node != node)
		m++;
	return m;
}

static bool has_key(const struct member *m, const struct id128 *key)
{
	return ledger_lookup(store_ledger(m->store), key) != LEDGER_NONE || store_on_disk(m->store, key);
}

/* Has every owner of the key it, but who had to let something go? */
static bool is_copied(const struct cluster *c, const struct place_member *stores, uint32_t count, const struct member *m,
		      const struct id128 *key, enum ledger_priority priority, char *why, size_t why_bytes)
{
	uint64_t owners[PLACE_REPLICAS_MAX];
	uint32_t owned = place_owners(stores, count, key, priority == LEDGER_LOW ? 1 : c->options.replicas, owners);
	for (uint32_t k = 0; k < owned; k++) {
		const struct member *owner = store_of(c, owners[k]);
		if (has_key(owner, key) || evicted_something(owner))
			continue;
		snprintf(why, why_bytes, "%s has block %02x%02x%02x, and %s, which owns it, has not", m->name, key->bytes[0],
			 key->bytes[1], key->bytes[2], owner->name);
		return false;
	}
	return true;
}

/* In memory or on disk. */
bool cluster_copied(const struct cluster *c, char *why, size_t why_bytes)
{
	struct place_member stores[MEMBERS_MAX];
	uint32_t count = 0;
	for (uint32_t i = 0; i < c->member_count; i++)
		if (c->members[i].kind == STORE && sim_up(c->sim, i))
			stores[count++] = (struct place_member){c->members[i].node, member_store_weight(&c->members[i])};
	for (uint32_t i = 0; i < c->member_count; i++) {
		const struct member *m = &c->members[i];
		for (uint32_t entry = 0; m->store && entry < cluster_store_entries(c); entry++) {
			const struct ledger_block *block = block_at(m, entry);
			if (block && !is_copied(c, stores, count, m, &block->key, block->priority, why, why_bytes))
				return false;
		}
		struct id128 key;
		struct disk_found found;
		for (uint32_t at = 0; m->store && store_next_on_disk(m->store, at, &at, &key, &found);)
			if (!is_copied(c, stores, count, m, &key, found.priority, why, why_bytes))
				return false;
	}
	return true;
}

static void begin_to_leave(void *context, uint64_t index)
{
	struct cluster *c = context;
	store_drain(c->members[index].store, sim_local(c->sim, (uint32_t)index));
	sim_story(c->sim, (uint32_t)index, "begins to leave");
}

void cluster_leave(struct cluster *c, uint32_t index)
{
	sim_at(c->sim, sim_now(c->sim), index, begin_to_leave, c, index);
}

static bool somebody_else_serves(const struct cluster *c, const struct member *leaver, const struct ledger_block *block)
{
	for (uint32_t i = 0; i < c->member_count; i++) {
		const struct member *m = &c->members[i];
		if (m->store && m != leaver && (store_serves(m, block) || evicted_something(m)))
			return true;
	}
	return false;
}

bool cluster_left(struct cluster *c, uint32_t index)
{
	const struct member *m = &c->members[index];
	if (!store_drained(m->store))
		return false;
	for (uint32_t entry = 0; entry < cluster_store_entries(c); entry++) {
		const struct ledger_block *block = block_at(m, entry);
		if (block && c->options.stores > 1 && !somebody_else_serves(c, m, block))
			cluster_fail(c, "I12: %s leaves with the only copy of block %02x%02x%02x", m->name, block->key.bytes[0],
				     block->key.bytes[1], block->key.bytes[2]);
	}
	cluster_kill(c, index);
	return true;
}

void cluster_fail(struct cluster *c, const char *format, ...)
{
	fflush(stdout);
	fputs(sim_text(c->sim), stderr);
	fprintf(stderr, "simulated cluster: seed %llu fails at %llu ms: ", (unsigned long long)c->options.seed,
		(unsigned long long)(sim_now(c->sim) / MS));
	va_list arguments;
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fprintf(stderr, "\nreplay: simcluster --seed %llu\n", (unsigned long long)c->options.seed);
	abort();
}

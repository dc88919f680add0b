/* disk - the disks of simulated stores (tests/kvstore/crash_disk.h): they outlive the process, answer in any order, and what was
 * not durable may be lost with it.
 *
 * I13: what a store said to be durable, and did not give up for room, is on its disk when it has started again, unless the disk
 *      itself spoilt or misplaced bytes; and what an operator evicted, once that was noted, is not, until it is offered again. */
#include <assert.h>
#include <stdlib.h>

#include "tests/sim/cluster_impl.h"

enum { RECORD_PAGES_MAX = 2, OP_NS_LEAST = 30000, RESTART_MS = 300, KILLS_TO_MS = 4000 };

static uint8_t *landing(void *context, uint32_t landing)
{
	return member_ops.landing(context, landing, 0, 0);
}

/* One of the operations under way is over.  Of the world, not of the node: a store asks its disk before it is up. */
static void on_over(void *context, uint64_t life)
{
	struct member *m = context;
	struct sim *sim = m->cluster->sim;
	uint64_t op;
	enum err e;
	if (life != m->disk_life)
		return;
	if (sim_stopped(sim, m->index) || !sim_up(sim, m->index)) {
		sim_at(sim, sim_now(sim) + MS, UINT32_MAX, on_over, m, life);
		return;
	}
	bool any = crash_disk_step(m->disk, &op, &e);
	assert(any);
	(void)any;
	store_disk_done(m->store, op, e, sim_local(sim, m->index));
	member_after_event(m);
}

static void start_again(void *context, uint64_t index)
{
	struct cluster *c = context;
	if (!sim_up(c->sim, (uint32_t)index) && !c->members[index].starting)
		cluster_start(c, (uint32_t)index);
}

static void kill_now(void *context, uint64_t index)
{
	struct cluster *c = context;
	if (!sim_up(c->sim, (uint32_t)index))
		return;
	c->disk_totals.kills++;
	sim_note(c->sim, (uint32_t)index, "dies while it writes");
	cluster_kill(c, (uint32_t)index);
	sim_at(c->sim, sim_now(c->sim) + RESTART_MS * MS, UINT32_MAX, start_again, c, index);
}

static bool is_footer(const struct disk_io *io)
{
	return io->kind == DISK_WRITE && io->offset > 0 && io->landing_bytes == 0 &&
	       io->offset + io->head_bytes == (uint64_t)DISK_SEGMENT_PAGES * DISK_PAGE_BYTES;
}

static void on_submitted(void *context, const struct disk_io *io)
{
	struct member *m = context;
	struct cluster *c = m->cluster;
	uint64_t lasts_ns = OP_NS_LEAST + sim_random(c->sim, MS);
	sim_at(c->sim, sim_now(c->sim) + lasts_ns, UINT32_MAX, on_over, m, m->disk_life);
	bool counts = c->options.disk_kill_footer ? is_footer(io) : io->kind != DISK_READ;
	if (!counts || m->disk_kill_at == 0 || --m->disk_kill_at > 0)
		return;
	sim_at(c->sim, sim_now(c->sim) + sim_random(c->sim, 2 * lasts_ns), UINT32_MAX, kill_now, c, m->index);
}

void disk_create(struct member *m)
{
	const struct cluster_options *o = &m->cluster->options;
	struct crash_disk_options options = {
		.seed = o->seed + m->index,
		.segment_count = o->disk_segments,
		.segment_bytes = DISK_SEGMENT_PAGES * DISK_PAGE_BYTES,
		.landing_count = SLABS * SLAB_SLOTS,
		.landing_bytes = TOY_LAYERS * TOY_LAYER_BYTES,
		.context = m,
		.landing = landing,
		.digest = toy_digest,
		.submitted = on_submitted,
	};
	m->disk = malloc(sizeof(*m->disk));
	assert(m->disk);
	crash_disk_init(m->disk, &options);
}

void disk_destroy(struct member *m)
{
	if (m->disk)
		crash_disk_fini(m->disk);
	free(m->disk);
	m->disk = NULL;
}

struct disk_options disk_start(struct member *m)
{
	const struct cluster_options *o = &m->cluster->options;
	m->disk->faults = o->disk_faults;
	m->disk_checked = false;
	/* The first store, until the world heals; at footers in every life anew. */
	bool dies = m->node % 10 == 0 && sim_now(m->cluster->sim) < KILLS_TO_MS * MS;
	m->disk_kill_at = dies && (o->disk_kill_footer || m->disk_life == 0) ? o->disk_kill_at : 0;
	return (struct disk_options){
		.segment_count = o->disk_segments,
		.segment_bytes = DISK_SEGMENT_PAGES * DISK_PAGE_BYTES,
		.block_max = 1024,
		.record_bytes_max = RECORD_PAGES_MAX * DISK_PAGE_BYTES,
		.put_max = 8,
		.write_max = 3,
		.load_max = 12,
		.read_max = 4,
		.scrub_rate = o->seed % 3 == 0 ? 1 << 20 : 0,
		.keep_percent = 50, .note_max = 64, .pin_bytes_max = 16 * DISK_PAGE_BYTES,
		.sync_delay_ns = o->disks_ack ? 0 : 2 * MS,
		.id = 7 + m->node,
		.file = &m->disk->file,
	};
}

static void add_totals(struct disk_totals *t, const struct member *m)
{
	struct store_status s;
	store_status(m->store, &s);
	t->hits += s.counters.disk_hits;
	t->puts += s.disk.counters.puts_durable;
	t->kept += s.disk.counters.kept;
	t->gone += s.disk.counters.gone[DISK_GONE_ROOM];
	t->bad += s.disk.counters.gone[DISK_GONE_BAD];
	t->recovered += s.disk.counters.recovered;
	t->struck += m->disk->struck;
}

struct disk_totals cluster_disks(const struct cluster *c)
{
	struct disk_totals t = c->disk_totals;
	for (uint32_t i = 0; i < c->member_count; i++)
		if (c->members[i].disk && c->members[i].store)
			add_totals(&t, &c->members[i]);
	return t;
}

static void forget_dead(struct member *m, uint32_t i)
{
	m->dead[i] = m->dead[--m->dead_count];
}

void disk_evicted(struct member *m, const struct id128 *key, uint64_t note)
{
	if (m->disk && m->dead_count < DEAD_MAX)
		m->dead[m->dead_count++] = (struct disk_dead){*key, note};
}

/* What is under way happens in part, before its memory is gone. */
void disk_sum_up(struct member *m)
{
	struct cluster *c = m->cluster;
	if (!m->disk || !m->store)
		return;
	for (uint32_t i = 0; i < m->dead_count;) {
		if (store_noted(m->store, m->dead[i].note))
			m->dead[i++].note = 0;
		else
			forget_dead(m, i);
	}
	add_totals(&c->disk_totals, m);
	m->disk->struck = 0;
	m->disk_life++;
	if (sim_random(c->sim, 2))
		crash_disk_crash(m->disk);
	else
		crash_disk_kill(m->disk);
}

/* ---- what was acknowledged */

static uint32_t find_acked(const struct member *m, const struct id128 *key)
{
	uint32_t i = 0;
	while (i < m->acked_count && !id128_equal(&m->acked[i], key))
		i++;
	return i;
}

void disk_gone(void *context, const struct id128 *key, enum disk_gone why)
{
	struct member *m = context;
	const struct crash_disk_faults *f = &m->cluster->options.disk_faults;
	bool faulty = f->fail + f->flip_read + f->flip_rest + f->misdirect_read + f->misdirect_write > 0;
	if (why == DISK_GONE_BAD && !faulty)
		cluster_fail(m->cluster, "I13: %s finds a block bad on a disk without faults", m->name);
	uint32_t i = find_acked(m, key);
	if (i < m->acked_count)
		m->acked[i] = m->acked[--m->acked_count];
}

void disk_heard(struct member *m, uint32_t from, const Wire__Envelope *e)
{
	if (!m->disk || e->body_case != WIRE__ENVELOPE__BODY_OFFER)
		return;
	struct disk_offer *offer = &m->offers[m->offer_next++ % DISK_OFFERS_MAX];
	*offer = (struct disk_offer){.from = from, .op = e->offer->op};
	memcpy(offer->key.bytes, e->offer->key.data, sizeof(offer->key.bytes));
	for (uint32_t i = 0; i < m->dead_count;)
		if (id128_equal(&m->dead[i].key, &offer->key))
			forget_dead(m, i);
		else
			i++;
}

void disk_said(struct member *m, uint32_t to, const Wire__Envelope *e)
{
	if (!m->disk || !m->cluster->options.disks_ack || e->body_case != WIRE__ENVELOPE__BODY_OFFER_DONE)
		return;
	if (e->offer_done->error != ERR_OK && e->offer_done->error != ERR_EXISTS)
		return;
	/* The newest of that number: a peer that starts again counts anew. */
	const struct disk_offer *offer = NULL;
	for (uint32_t i = 1; i <= DISK_OFFERS_MAX && !offer; i++) {
		const struct disk_offer *o = &m->offers[(m->offer_next - i) % DISK_OFFERS_MAX];
		if (o->from == to && o->op == e->offer_done->op)
			offer = o;
	}
	if (!offer)
		return;
	if (!store_on_disk(m->store, &offer->key))
		cluster_fail(m->cluster, "I13: %s says that a block is durable which is not on its disk", m->name);
	if (m->acked_count < ACKED_MAX && find_acked(m, &offer->key) == m->acked_count)
		m->acked[m->acked_count++] = offer->key;
}

void disk_check_store(struct member *m)
{
	struct store_status s;
	const struct crash_disk_faults *f = &m->cluster->options.disk_faults;
	if (!m->disk || m->disk_checked)
		return;
	store_status(m->store, &s);
	if (!s.disk.ready)
		return;
	m->disk_checked = true;
	if (f->flip_read + f->flip_rest + f->misdirect_read + f->misdirect_write > 0)
		return;
	for (uint32_t i = 0; i < m->acked_count; i++)
		if (!store_on_disk(m->store, &m->acked[i]))
			cluster_fail(m->cluster, "I13: %s said that a block is durable, and has started without it", m->name);
	for (uint32_t i = 0; i < m->dead_count; i++)
		if (m->dead[i].note == 0 && store_on_disk(m->store, &m->dead[i].key))
			cluster_fail(m->cluster, "I13: %s has a block on disk again that an operator evicted", m->name);
}

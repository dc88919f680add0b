/* sim_read - the data plane of the simulated world: one node reads another's memory, and what may go wrong.
 *
 * A read samples the owner's memory in two halves at two instants and writes them into the landing as it goes.  The
 * generation of the slot is compared at both.  The outcome carries the digest of what lies in the landing then. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/planted.h"
#include "net/sim_impl.h"

static uint64_t number_of(const struct sim *sim, const struct sim_read *r)
{
	return (uint64_t)r->serial << 32 | (uint64_t)(r - sim->reads);
}

static struct sim_read *read_of(struct sim *sim, uint64_t number)
{
	struct sim_read *r = &sim->reads[(uint32_t)number];
	return r->used && r->serial == number >> 32 ? r : NULL;
}

static void end_read(struct sim_read *r)
{
	r->used = false;
	free(r->bounce);
	r->bounce = NULL;
}

void sim_reads_free(struct sim *sim)
{
	for (size_t i = 0; i < sim->read_count; i++)
		free(sim->reads[i].bounce);
	free(sim->reads);
}

static struct sim_read *new_read(struct sim *sim)
{
	for (size_t i = 0; i < sim->read_count; i++)
		if (!sim->reads[i].used)
			return &sim->reads[i];
	if (sim->read_count == sim->read_capacity) {
		sim->read_capacity = sim->read_capacity ? 2 * sim->read_capacity : 64;
		sim->reads = sim_need(realloc(sim->reads, sim->read_capacity * sizeof(*sim->reads)));
	}
	sim->reads[sim->read_count] = (struct sim_read){0};
	return &sim->reads[sim->read_count++];
}

void sim_env_link_open(void *context, uint64_t node, uint64_t incarnation, const uint8_t *address, size_t length)
{
	struct sim_node *n = context;
	(void)address, (void)length;
	uint32_t index = sim_index(n->sim, node);
	if (index == SIM_WORLD)
		return;
	n->linked[index] = incarnation;
	if (n->sim->options.linked)
		n->sim->options.linked(n->sim->options.context, n->index, index, incarnation);
}

static void answer(struct sim *sim, struct sim_read *r, enum err e, uint64_t digest)
{
	assert(!r->answered);
	r->answered = true;
	struct sim_event *event = sim_push(sim, sim->now_ns, SIM_READ_DONE, r->reader);
	event->number = r->read.op;
	event->err = e;
	event->digest = digest;
}

/* The core may have the landing back then; until then bytes may still fall into it. */
static void free_landing(struct sim *sim, struct sim_read *r, uint64_t at_ns)
{
	assert(r->answered && !r->freeing);
	r->freeing = true;
	struct sim_event *event = sim_push(sim, at_ns, SIM_LANDING_FREE, r->reader);
	event->number = r->read.op;
	event->digest = number_of(sim, r);
}

void sim_read_freed(struct sim *sim, const struct sim_event *event)
{
	struct sim_read *r = read_of(sim, event->digest);
	assert(r);
	end_read(r);
}

/* The endpoint is closed and flushed: outcomes at once, landings a moment later. */
static void end_reads(struct sim *sim, uint32_t reader, uint32_t owner)
{
	for (size_t i = 0; i < sim->read_count; i++) {
		struct sim_read *r = &sim->reads[i];
		if (!r->used || r->reader != reader || r->owner != owner || r->freeing)
			continue;
		if (!r->answered)
			answer(sim, r, ERR_PEER_GONE, 0);
		free_landing(sim, r, sim->now_ns + rng_below(&sim->rng, 50000000));
	}
}

void sim_env_link_close(void *context, uint64_t node)
{
	struct sim_node *n = context;
	struct sim *sim = n->sim;
	uint32_t owner = sim_index(sim, node);
	if (owner == SIM_WORLD)
		return;
	n->linked[owner] = 0;
	end_reads(sim, n->index, owner);
}

void sim_break_link(struct sim *sim, uint32_t reader, uint32_t owner, uint64_t until_ns)
{
	sim->pairs[reader][owner].broken_until_ns = until_ns;
	end_reads(sim, reader, owner);
}

void sim_refuse_link(struct sim *sim, uint32_t reader, uint32_t owner)
{
	sim->pairs[reader][owner].refused = true;
}

bool sim_refuses_link(const struct sim *sim, uint32_t reader, uint32_t owner)
{
	return sim->pairs[reader][owner].refused;
}

const char *sim_env_link_name(void *context, uint64_t node)
{
	const struct sim_node *n = context;
	uint32_t owner = sim_index(n->sim, node);
	return owner != SIM_WORLD && n->sim->pairs[n->index][owner].refused ? ENV_LINK_REFUSED : "simulated";
}

const char *sim_env_link_required(void *context)
{
	(void)context;
	return "simulated";
}

static int draw_fault(struct sim *sim, uint32_t reader, uint32_t owner)
{
	const struct sim_pair *pair = &sim->pairs[reader][owner];
	for (int fault = 0; fault < SIM_READ_FAULTS; fault++)
		if (sim->now_ns < pair->reads[fault].until_ns &&
		    rng_below(&sim->rng, 1000) < pair->reads[fault].per_thousand)
			return fault;
	return -1;
}

/* The two instants of sampling. */
static void schedule_samples(struct sim *sim, struct sim_read *r, uint64_t deadline_ns)
{
	struct sim_node *reader = &sim->nodes[r->reader];
	uint64_t first_ns = sim->now_ns + sim_latency(sim, r->reader, r->owner);
	uint64_t second_ns = first_ns + rng_below(&sim->rng, sim->options.latency_ns);
	if (sim->now_ns < reader->reorder_until_ns)
		first_ns += rng_below(&sim->rng, reader->reorder_ns + 1);
	if (r->fault == SIM_READ_LATE)
		first_ns = deadline_ns + rng_below(&sim->rng, 300000000);
	if (r->fault == SIM_READ_STALE) {
		first_ns += rng_below(&sim->rng, 100000000);
		second_ns = first_ns + rng_below(&sim->rng, 100000000);
	}
	if (second_ns < first_ns)
		second_ns = first_ns;
	sim_push(sim, first_ns, SIM_SAMPLE, SIM_WORLD)->number = number_of(sim, r);
	sim_push(sim, second_ns, SIM_SAMPLE, SIM_WORLD)->number = number_of(sim, r);
}

void sim_env_read(void *context, const struct env_read *read)
{
	struct sim_node *n = context;
	struct sim *sim = n->sim;
	struct sim_read *r = new_read(sim);
	uint32_t owner = sim_index(sim, read->node);
	assert(owner != SIM_WORLD);
	*r = (struct sim_read){
		.used = true, .serial = r->serial + 1, .reader = n->index, .reader_life = n->life, .owner = owner,
		.owner_life = sim->nodes[owner].life, .read = *read, .fault = draw_fault(sim, n->index, owner),
	};
	sim->counters.reads++;
	if (sim->options.reading)
		sim->options.reading(sim->options.context, n->index, owner, read);
	const struct sim_pair *pair = &sim->pairs[n->index][owner];
	bool broken = pair->refused || sim->now_ns < pair->broken_until_ns;
	if (broken || n->linked[owner] == 0 || n->linked[owner] != sim->nodes[owner].incarnation) {
		answer(sim, r, ERR_PEER_GONE, 0);
		free_landing(sim, r, sim->now_ns);
		return;
	}
	if (r->fault >= 0) {
		sim->counters.read_faults[r->fault]++;
		if (sim->options.read_fault)
			sim->options.read_fault(sim->options.context, n->index, owner, (enum sim_read_fault)r->fault);
	}
	uint64_t deadline_ns = sim_world_time(sim, n->index, read->deadline_ns);
	sim_push(sim, deadline_ns, SIM_DEADLINE, SIM_WORLD)->number = number_of(sim, r);
	if (r->fault != SIM_READ_DROP)
		schedule_samples(sim, r, deadline_ns);
}

void sim_env_read_cancel(void *context, uint64_t op)
{
	struct sim_node *n = context;
	struct sim *sim = n->sim;
	for (size_t i = 0; i < sim->read_count; i++) {
		struct sim_read *r = &sim->reads[i];
		if (!r->used || r->answered || r->reader != n->index || r->reader_life != n->life || r->read.op != op)
			continue;
		answer(sim, r, ERR_CANCELED, 0);
		if (r->fault == SIM_READ_DROP)
			free_landing(sim, r, sim->now_ns + rng_below(&sim->rng, 500000000));
		return;
	}
}

void sim_on_deadline(struct sim *sim, const struct sim_event *event)
{
	struct sim_read *r = read_of(sim, event->number);
	if (!r || r->answered)
		return;
	answer(sim, r, ERR_DEADLINE, 0);
	if (r->fault == SIM_READ_DROP) /* the transport never hears of it: gives up after a while */
		free_landing(sim, r, sim->now_ns + rng_below(&sim->rng, 500000000));
}

/* Puts a sample off; 0: it can be taken now. */
static uint64_t not_before(const struct sim *sim, const struct sim_read *r)
{
	uint64_t out_ns = sim->pairs[r->reader][r->owner].block_until_ns;
	uint64_t back_ns = sim->pairs[r->owner][r->reader].block_until_ns;
	uint64_t until_ns = out_ns > back_ns ? out_ns : back_ns;
	if (until_ns > sim->now_ns)
		return until_ns;
	return sim->nodes[r->owner].stopped && !sim->options.mapped ? sim->now_ns + 10000000 : 0;
}

/* Other bytes of the same region, where there are any. */
static const uint8_t *foreign(const struct sim_node *owner, const struct sim_read *r, const uint8_t *from)
{
	uint64_t generation;
	const uint8_t *next =
		owner->ops->memory(owner->core, r->read.region, r->read.offset + r->read.length, r->read.length, &generation);
	return next ? next : from;
}

/* Copies one half into the landing, and remembers whether it was the promised block. */
static void take_half(struct sim *sim, struct sim_read *r, bool second)
{
	const struct sim_node *owner = &sim->nodes[r->owner];
	const struct sim_node *reader = &sim->nodes[r->reader];
	uint64_t generation;
	const uint8_t *from =
		owner->ops->memory(owner->core, r->read.region, r->read.offset, r->read.length, &generation);
	if (!from) {
		r->denied = true;
		return;
	}
	bool other = generation != r->read.generation && r->fault != SIM_READ_STALE;
	r->met_other = r->met_other || other;
	r->stale = r->stale || (other && !planted(GENERATION_NOT_CHECKED));
	if (second && r->fault == SIM_READ_TORN)
		return;
	if (r->fault == SIM_READ_FOREIGN)
		from = foreign(owner, r, from);
	uint32_t begin = second ? r->read.length / 2 : 0;
	uint32_t length = second ? r->read.length - begin : r->read.length / 2;
	uint8_t *to = reader->ops->landing(reader->core, r->read.landing, r->read.landing_offset, r->read.length);
	memcpy(to + begin, from + begin, length);
	if (second && r->fault == SIM_READ_CORRUPT) {
		uint64_t bit = rng_below(&sim->rng, 8ull * r->read.length);
		to[bit / 8] ^= (uint8_t)(1u << (bit % 8));
	}
	sim->counters.late_writes += r->answered;
}

static uint64_t digest_of_landing(const struct sim *sim, const struct sim_read *r)
{
	const struct sim_node *reader = &sim->nodes[r->reader];
	const uint8_t *bytes = reader->ops->landing(reader->core, r->read.landing, r->read.landing_offset, r->read.length);
	return sim->options.digest ? sim->options.digest(bytes, r->read.length) : hash_xxh3(bytes, r->read.length, 0);
}

static void land_again(void *context, uint64_t number)
{
	struct sim *sim = context;
	struct sim_read *r = read_of(sim, number);
	if (!r)
		return;
	const struct sim_node *reader = &sim->nodes[r->reader];
	memcpy(reader->ops->landing(reader->core, r->read.landing, r->read.landing_offset, r->read.length), r->bounce,
	       r->read.length);
	sim->counters.late_writes++;
}

/* Keeps a copy of what landed, to land it once more between outcome and landing-free. */
static uint64_t land_twice(struct sim *sim, struct sim_read *r)
{
	const struct sim_node *reader = &sim->nodes[r->reader];
	r->bounce = sim_need(malloc(r->read.length));
	memcpy(r->bounce, reader->ops->landing(reader->core, r->read.landing, r->read.landing_offset, r->read.length),
	       r->read.length);
	uint64_t again_ns = sim->now_ns + rng_below(&sim->rng, 50000000);
	sim_at(sim, again_ns, SIM_WORLD, land_again, sim, number_of(sim, r));
	return again_ns;
}

static void complete(struct sim *sim, struct sim_read *r)
{
	enum err e = r->denied ? ERR_DENIED : r->stale ? ERR_STALE : ERR_OK;
	uint64_t free_ns = sim->now_ns;
	if (r->fault == SIM_READ_DUP && !r->denied)
		free_ns = land_twice(sim, r) + 1;
	if (e == ERR_OK && r->met_other && !r->answered && sim->options.broken_link)
		sim->options.broken_link(sim->options.context, r->reader, r->owner);
	sim->counters.stale_reads += r->stale && !r->answered;
	if (!r->answered)
		answer(sim, r, e, e == ERR_OK ? digest_of_landing(sim, r) : 0);
	free_landing(sim, r, free_ns);
}

void sim_on_sample(struct sim *sim, const struct sim_event *event)
{
	struct sim_read *r = read_of(sim, event->number);
	if (!r || r->freeing)
		return;
	uint64_t later_ns = not_before(sim, r);
	if (later_ns) {
		sim_push(sim, later_ns, SIM_SAMPLE, SIM_WORLD)->number = event->number;
		return;
	}
	const struct sim_node *owner = &sim->nodes[r->owner];
	if (!owner->core || owner->life != r->owner_life) {
		if (!r->answered)
			answer(sim, r, ERR_PEER_GONE, 0);
		free_landing(sim, r, sim->now_ns);
		return;
	}
	take_half(sim, r, r->samples > 0);
	if (++r->samples == 2)
		complete(sim, r);
}

/* Its own reads end with it; reads of its memory find nobody. */
void sim_reads_kill(struct sim *sim, uint32_t index)
{
	for (size_t i = 0; i < sim->read_count; i++)
		if (sim->reads[i].used && sim->reads[i].reader == index)
			end_read(&sim->reads[i]);
}

/* sim_fault - what may be wrong with the ways between nodes of the simulated world. */
#include <assert.h>

#include "net/sim_impl.h"

bool sim_blocked(const struct sim *sim, uint32_t from, uint32_t to)
{
	return sim->now_ns < sim->pairs[from][to].block_until_ns;
}

uint64_t sim_latency(struct sim *sim, uint32_t from, uint32_t to)
{
	const struct sim_pair *pair = &sim->pairs[from][to];
	uint64_t ns = sim->options.latency_ns;
	if (sim->options.jitter_ns)
		ns += rng_below(&sim->rng, sim->options.jitter_ns);
	return sim->now_ns < pair->extra_until_ns ? ns + pair->extra_ns : ns;
}

static void resume(void *context, uint64_t number)
{
	(void)number;
	sim_streams_resume(context);
}

void sim_block(struct sim *sim, uint32_t from, uint32_t to, uint64_t until_ns)
{
	struct sim_pair *pair = &sim->pairs[from][to];
	if (until_ns > pair->block_until_ns)
		pair->block_until_ns = until_ns;
	sim_at(sim, until_ns, SIM_WORLD, resume, sim, 0);
}

void sim_delay(struct sim *sim, uint32_t a, uint32_t b, uint64_t extra_ns, uint64_t until_ns)
{
	struct sim_pair *pairs[2] = {&sim->pairs[a][b], &sim->pairs[b][a]};
	for (int i = 0; i < 2; i++) {
		pairs[i]->extra_ns = extra_ns;
		pairs[i]->extra_until_ns = until_ns;
	}
}

void sim_reorder(struct sim *sim, uint32_t node, uint64_t extra_ns, uint64_t until_ns)
{
	sim->nodes[node].reorder_ns = extra_ns;
	sim->nodes[node].reorder_until_ns = until_ns;
}

void sim_echo(struct sim *sim, uint32_t node, uint32_t per_thousand, uint64_t late_ns, uint64_t until_ns)
{
	sim->nodes[node].echo_per_thousand = per_thousand;
	sim->nodes[node].echo_late_ns = late_ns;
	sim->nodes[node].echo_until_ns = until_ns;
}

void sim_read_faults(struct sim *sim, uint32_t reader, uint32_t owner, enum sim_read_fault fault,
		     uint32_t per_thousand, uint64_t until_ns)
{
	assert(fault < SIM_READ_FAULTS);
	sim->pairs[reader][owner].reads[fault].per_thousand = per_thousand;
	sim->pairs[reader][owner].reads[fault].until_ns = until_ns;
}

void sim_heal(struct sim *sim)
{
	for (uint32_t i = 0; i < sim->node_count; i++) {
		for (uint32_t j = 0; j < sim->node_count; j++)
			sim->pairs[i][j] = (struct sim_pair){0};
		sim->nodes[i].reorder_until_ns = sim->nodes[i].echo_until_ns = 0;
		if (sim->nodes[i].clock_rate != SIM_RATE_ONE)
			sim_skew(sim, i, SIM_RATE_ONE);
		sim_continue(sim, i);
	}
	sim_streams_resume(sim);
}

#include "tests/sim/run.h"

#include <stdio.h>

#include "base/rng.h"

/* QUIET_MS: a sweep of what is only on disk waits 2 s for a store that gives no answer and 2 s for one that takes nothing, in each of two
 * passes (kvstore/store_sweep.c). */
enum { FAULTS_FROM_MS = 400, FAULTS_TO_MS = 4000, HEAL_MS = 5000, PROGRESS_MS = 15000, QUIET_MS = 10000,
       INDEX_MS = 3000, COPIES_MS = 20000, LEAVE_MS = 10000 };

static struct cluster *current;

struct cluster *run_current(void)
{
	return current;
}

/* Every seed aims one fault at one state, in turn over all pairs. */
static enum fault_kind kind_of(uint64_t seed)
{
	return (enum fault_kind)(seed % FAULT_COUNT);
}

static enum hit_state state_of(uint64_t seed)
{
	return (enum hit_state)(seed / FAULT_COUNT % HIT_COUNT);
}

/* Scenes around a hand-over that takes long, so that what was said outlives what it was said of. */
enum scene {
	SCENE_NONE,
	SCENE_SAME_PAIR, /* the next attempt has the same two nodes */
	SCENE_REUSE,     /* sessions break, and the blocks are wanted by others at once */
};

static enum scene scene_of(uint64_t seed)
{
	enum hit_state state = state_of(seed);
	if (state == HIT_D_RECEIVING || state == HIT_P_HANDING)
		return seed % 2 ? SCENE_SAME_PAIR : SCENE_REUSE;
	bool busy = state == HIT_P_COMPUTING || state == HIT_D_RUNNING || state == HIT_P_FETCHING;
	return busy && seed % 2 == 0 ? SCENE_REUSE : SCENE_NONE;
}

static struct cluster_options draw_cluster(uint64_t seed, bool story)
{
	struct rng rng = {.seed = rng_mix(seed)};
	struct cluster_options options = {
		.seed = seed,
		.story = story,
		.kind = seed % 5 == 1 || seed % 5 == 3 ? TOY_MIXED : seed % 10 == 4 ? TOY_WINDOWED : TOY_GLOBAL,
		.frames = story,
		.coordinators = 2 + (rng_below(&rng, 4) == 0),
		.prefills = 1 + (uint32_t)rng_below(&rng, 2),
		.decodes = 1 + (uint32_t)rng_below(&rng, 2),
		.boths = rng_below(&rng, 3) == 0,
		.stores = 1 + (uint32_t)rng_below(&rng, 3),
		.store_slabs = rng_below(&rng, 2) ? 4 : SLABS, /* some are full soon */
		.block_count = 76 + (uint32_t)rng_below(&rng, 80), /* the largest request fits */
		.chunk_tokens = TOY_BLOCK_TOKENS * (1 + (uint32_t)rng_below(&rng, 3)),
		.layer_ns = MS / 4 + rng_below(&rng, 2 * MS),
		.replicas = 1 + (uint32_t)rng_below(&rng, 2),
		.decode_dials = rng_below(&rng, 2),
		.seq_max = 4 + (uint32_t)rng_below(&rng, 9),
	};
	if (options.kind == TOY_MIXED && seed % 4 == 1)
		options.store_slabs = 1; /* for two sizes of blocks: it changes its class all the time */
	if (state_of(seed) == HIT_D_LOCAL)
		options.boths = 1;
	if (scene_of(seed) == SCENE_SAME_PAIR)
		options.prefills = options.decodes = 1, options.boths = 0, options.layer_ns = 4 * MS,
		options.chunk_tokens = TOY_BLOCK_TOKENS; /* prefill speaks for longer than a word is on its way */
	if (scene_of(seed) == SCENE_REUSE) {
		options.prefills = 1, options.decodes = 2, options.boths = 0;
		options.seq_max = 4;
	}
	if (state_of(seed) == HIT_P_BLOCKED) { /* more prompts at a node than its schedule takes */
		options.prefills = 1;
		options.decodes = 2;
		options.boths = 0;
		options.seq_max = 3;
		options.layer_ns = 3 * MS;
	}
	bool spare = scene_of(seed) == SCENE_NONE && options.prefills + options.decodes > 2; /* another pair is there */
	options.refused_link = spare && rng_below(&rng, 4) == 0;
	return options;
}

/* A third of the seeds have stores with disks, some of them bad ones; in half of these a store dies while it writes. */
static void draw_disks(uint64_t seed, struct cluster_options *options)
{
	struct rng rng = {.seed = rng_mix(seed) + 1};
	if (seed % 3 != 2)
		return;
	options->disks = true;
	options->block_count = 76; /* little room elsewhere */
	options->disks_ack = rng_below(&rng, 2);
	options->disk_kill_footer = rng_below(&rng, 2);
	options->disk_kill_at = rng_below(&rng, 2) ? 1 + rng_below(&rng, options->disk_kill_footer ? 3 : 120) : 0;
	options->disk_segments = rng_below(&rng, 2) ? DISK_SEGMENTS : DISK_SEGMENTS_MANY; /* or so large that nothing goes for room */
	switch (rng_below(&rng, 6)) {
	case 0:
		options->disk_faults.fail = 400;
		break;
	case 1:
	case 2:
		options->disk_faults.flip_rest = 3000;
		options->disk_faults.flip_read = 12000;
		break;
	case 3:
		options->disk_faults.misdirect_read = options->disk_faults.misdirect_write = 1500;
		break;
	}
}

/* What the seed aims at, and the scene that makes it likely. */
static void aim(struct cluster *c, uint64_t seed)
{
	uint64_t at_ns = (500 + sim_random(c->sim, 1500)) * MS;
	if (state_of(seed) == HIT_P_BLOCKED)
		clients_draw(c->clients, 10, at_ns, at_ns + 10 * MS);
	if (state_of(seed) == HIT_OFFERING || state_of(seed) == HIT_HOLDING) { /* stores that are busy, and soon full */
		clients_draw(c->clients, 14, at_ns, at_ns + 500 * MS);
		for (uint32_t i = 0; i < 3; i++)
			faults_aim(c->faults, FAULT_LATE, HIT_OFFERING, at_ns + sim_random(c->sim, 1000 * MS));
	}
	if (state_of(seed) == HIT_D_WAITING) {
		faults_part_engines(c->faults, at_ns - 100 * MS, (400 + sim_random(c->sim, 1500)) * MS);
		clients_draw(c->clients, 6, at_ns, at_ns + 200 * MS);
	}
	if (scene_of(seed) != SCENE_NONE)
		faults_slow_decode(c->faults, scene_of(seed) == SCENE_REUSE, at_ns - 100 * MS, (400 + sim_random(c->sim, 1500)) * MS);
	for (uint32_t i = 0; scene_of(seed) == SCENE_SAME_PAIR && i < 4; i++)
		faults_aim(c->faults, FAULT_LINK, HIT_D_RECEIVING, at_ns + i * (50 + sim_random(c->sim, 200)) * MS);
	if (scene_of(seed) == SCENE_SAME_PAIR)
		clients_draw(c->clients, 8, at_ns, at_ns + 400 * MS);
	if (scene_of(seed) == SCENE_REUSE) {
		faults_spare_bytes(c->faults);
		clients_draw(c->clients, 14, at_ns, at_ns + 300 * MS);
		for (uint32_t i = 0; i < 8; i++)
			faults_half_open(c->faults, at_ns + sim_random(c->sim, 1000 * MS), (100 + sim_random(c->sim, 300)) * MS);
	}
	faults_aim(c->faults, kind_of(seed), state_of(seed), at_ns);
}

/* Progress: every request ends, then all that was held is free, then everybody has found everybody. */
static void demand_progress(struct cluster *c)
{
	char why[1024] = "";
	uint64_t until_ns = sim_now(c->sim) + PROGRESS_MS * MS;
	while (!clients_done(c->clients)) {
		sim_run(c->sim, sim_now(c->sim) + 50 * MS);
		if (sim_now(c->sim) < until_ns)
			continue;
		clients_print(c->clients);
		cluster_fail(c, "I4: requests have not ended %d ms after the world healed", PROGRESS_MS);
	}
	until_ns = sim_now(c->sim) + QUIET_MS * MS;
	while (!cluster_quiet(c, why, sizeof(why))) {
		sim_run(c->sim, sim_now(c->sim) + 50 * MS);
		if (sim_now(c->sim) > until_ns)
			cluster_fail(c, "I3: no request is left, and after %d ms still: %s", QUIET_MS, why);
	}
	while (!cluster_whole(c, why, sizeof(why))) {
		sim_run(c->sim, sim_now(c->sim) + 50 * MS);
		if (sim_now(c->sim) > until_ns)
			cluster_fail(c, "I10: %d ms later still: %s", QUIET_MS, why);
	}
	until_ns = sim_now(c->sim) + INDEX_MS * MS;
	while (!cluster_indexed(c, why, sizeof(why))) {
		sim_run(c->sim, sim_now(c->sim) + 50 * MS);
		if (sim_now(c->sim) > until_ns)
			cluster_fail(c, "I10: after %d ms of quiet %s", INDEX_MS, why);
	}
}

/* Every block has its copies again, wherever stores were lost, and a while later still. */
static void demand_copies(struct cluster *c)
{
	char why[256] = "";
	uint64_t until_ns = sim_now(c->sim) + COPIES_MS * MS;
	while (!cluster_copied(c, why, sizeof(why))) {
		sim_run(c->sim, sim_now(c->sim) + 100 * MS);
		if (sim_now(c->sim) > until_ns)
			cluster_fail(c, "I12: after %d ms of quiet %s", COPIES_MS, why);
	}
}

/* In some seeds a store leaves in the end, and comes back as another life. */
static void demand_leaving(struct cluster *c)
{
	char why[256] = "";
	uint32_t leaver = c->member_count - 1 - (uint32_t)sim_random(c->sim, c->options.stores);
	uint64_t until_ns = sim_now(c->sim) + LEAVE_MS * MS;
	cluster_leave(c, leaver);
	do {
		sim_run(c->sim, sim_now(c->sim) + 5 * MS); /* as soon as it may, it is gone */
		if (sim_now(c->sim) > until_ns)
			cluster_fail(c, "I12: %s has not handed over in %d ms", c->members[leaver].name, LEAVE_MS);
	} while (!cluster_left(c, leaver));
	cluster_start(c, leaver);
	until_ns = sim_now(c->sim) + QUIET_MS * MS;
	while (!cluster_whole(c, why, sizeof(why))) {
		sim_run(c->sim, sim_now(c->sim) + 50 * MS);
		if (sim_now(c->sim) > until_ns)
			cluster_fail(c, "I10: after a store left and came back: %s", why);
	}
	demand_copies(c);
}

bool run_kills_at_footers(uint64_t seed)
{
	struct cluster_options options = {0};
	draw_disks(seed, &options);
	return options.disk_kill_footer && options.disk_kill_at > 0;
}

void run_seed(uint64_t seed, bool story, const struct cluster_cut *cut, struct run_result *ret_result)
{
	struct cluster_options options = draw_cluster(seed, story);
	if (cut)
		options.cut = *cut;
	draw_disks(seed, &options);
	struct cluster *c = current = cluster_create(&options);
	clients_draw(c->clients, 12 + (uint32_t)sim_random(c->sim, 16), 300 * MS, FAULTS_TO_MS * MS);
	aim(c, seed);
	pins_draw(c, 24, FAULTS_FROM_MS * MS, HEAL_MS * MS);
	lead_draw_drains(c, 1 + (uint32_t)sim_random(c->sim, 3), FAULTS_FROM_MS * MS, FAULTS_TO_MS * MS);
	faults_draw(c->faults, scene_of(seed) != SCENE_NONE ? 1 : 4 + (uint32_t)sim_random(c->sim, 9), FAULTS_FROM_MS * MS, FAULTS_TO_MS * MS);
	sim_run(c->sim, HEAL_MS * MS);
	faults_heal(c->faults);
	/* Sessions are back within a redial and the lease's time; then nothing may fail any more. */
	sim_run(c->sim, sim_now(c->sim) + 3000 * MS);
	lead_undrain_all(c);
	clients_demand(c->clients);
	clients_draw(c->clients, 4, sim_now(c->sim), sim_now(c->sim) + 500 * MS);
	demand_progress(c);
	demand_copies(c);
	if (seed % 4 == 2)
		demand_leaving(c);

	*ret_result = (struct run_result){
		.digest = sim_digest(c->sim),
		.faults = faults_struck(c->faults),
		.ended_ms = sim_now(c->sim) / MS,
		.hits = *faults_hits(c->faults),
		.kills = c->kills,
		.disks = cluster_disks(c),
		.renewals = c->renewals,
		.directives = c->directives,
		.directives_refused = c->directives_refused,
		.drains = c->drains,
	};
	sim_counters(c->sim, &ret_result->sim);
	clients_counts(c->clients, &ret_result->clients);
	if (story)
		fputs(sim_text(c->sim), stdout);
	if ((ret_result->faults < 1 && !cut) || ret_result->sim.events < 200)
		cluster_fail(c, "only %u faults and %llu events", ret_result->faults,
			     (unsigned long long)ret_result->sim.events);
	current = NULL;
	cluster_destroy(c);
}

#include "tests/sim/faults.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/cluster_impl.h"

enum { FAULTS_MAX = 32 };
#define HIT_NONE HIT_COUNT

struct fault {
	struct faults *all;
	enum fault_kind kind;
	uint32_t a, b;         /* members */
	enum hit_state aim;    /* waits for it; HIT_NONE: strikes at once */
	uint64_t lasts_ns;
	uint64_t waits_ns;     /* for what it aims at */
	bool anywhere;         /* takes the first node that is in the state */
	bool armed;
	bool struck;
};

struct faults {
	bool spare_bytes, slow_to_all;
	struct cluster *cluster;
	struct fault list[FAULTS_MAX];
	uint32_t count, armed, struck;
	bool healed;
	struct hit_table table;
};

static const char *const kind_names[FAULT_COUNT] = {
#define X(name) #name,
	FAULT_KINDS(X)
#undef X
};

static const char *const state_names[HIT_COUNT] = {
#define X(name, text) #name,
	HIT_STATES(X)
#undef X
};

static const char *const state_texts[HIT_COUNT] = {
#define X(name, text) text,
	HIT_STATES(X)
#undef X
};

const char *fault_name(enum fault_kind kind)
{
	return kind_names[kind];
}

struct faults *faults_create(struct cluster *cluster)
{
	struct faults *f = calloc(1, sizeof(*f));
	assert(f);
	f->cluster = cluster;
	return f;
}

void faults_destroy(struct faults *f)
{
	free(f);
}

uint32_t faults_struck(const struct faults *f)
{
	return f->struck;
}

const struct hit_table *faults_hits(const struct faults *f)
{
	return &f->table;
}

/* ---- what goes on at a node */

static bool job_in(const struct member *m, const struct job_seen *job, enum hit_state state)
{
	bool decode = state >= HIT_D_RESERVED;
	const char *text = node_job_state(m->engine, job->coordinator, job->number, job->attempt,
					  decode ? WIRE__HALF__HALF_DECODE : WIRE__HALF__HALF_PREFILL);
	return text && strcmp(text, state_texts[state]) == 0;
}

static bool offering_or_holding(const struct member *m, bool offering)
{
	if (m->kind == STORE) {
		struct store_status s;
		store_status(m->store, &s);
		return offering ? s.offers > 0 : s.holds > 0;
	}
	struct node_status s;
	node_status(m->engine, &s);
	return offering ? s.offer_lag > 0 : s.holds > 0;
}

/* Is something of this node in that state?  Of a coordinator: one of its jobs, wherever. */
static bool in_state(const struct faults *f, uint32_t member, enum hit_state state)
{
	const struct cluster *c = f->cluster;
	const struct member *m = &c->members[member];
	if (!sim_up(c->sim, member))
		return false;
	if (state >= HIT_OFFERING)
		return m->kind != COORDINATOR && offering_or_holding(m, state == HIT_OFFERING);
	for (uint32_t i = 0; i < JOBS_SEEN_MAX; i++) {
		const struct job_seen *job = &c->jobs[i];
		const struct member *at = &c->members[job->member];
		bool concerned = job->number && (job->member == member ||
						 (m->kind == COORDINATOR && job->coordinator == m->node));
		if (concerned && at->engine && job_in(at, job, state))
			return true;
	}
	return false;
}

static void count_hits(struct faults *f, enum fault_kind kind, uint32_t member)
{
	for (int state = 0; state < HIT_COUNT; state++)
		f->table.hits[kind][state] += in_state(f, member, (enum hit_state)state);
}

/* ---- the kinds */

static void strike_reads(struct fault *fault, uint64_t until_ns)
{
	static const enum sim_read_fault reads[] = {
		[FAULT_DROP] = SIM_READ_DROP,       [FAULT_LATE] = SIM_READ_LATE, [FAULT_DUP] = SIM_READ_DUP,
		[FAULT_CORRUPT] = SIM_READ_CORRUPT, [FAULT_TORN] = SIM_READ_TORN, [FAULT_STALE] = SIM_READ_STALE,
		[FAULT_FOREIGN] = SIM_READ_FOREIGN,
	};
	struct cluster *c = fault->all->cluster;
	uint32_t often = sim_random(c->sim, 2) ? 1000 : 300;
	for (uint32_t i = 0; i < c->member_count; i++) {
		sim_read_faults(c->sim, fault->a, i, reads[fault->kind], often, until_ns);
		sim_read_faults(c->sim, i, fault->a, reads[fault->kind], often, until_ns);
	}
}

/* The link breaks while the session lives: nobody's control plane notices. */
static void strike_link(struct fault *fault, uint64_t until_ns)
{
	struct cluster *c = fault->all->cluster;
	for (uint32_t i = 0; i < c->member_count; i++) {
		if (i == fault->a)
			continue;
		sim_break_link(c->sim, fault->a, i, until_ns);
		sim_break_link(c->sim, i, fault->a, until_ns);
	}
}

static void strike_delay(struct fault *fault, uint64_t until_ns)
{
	struct sim *sim = fault->all->cluster->sim;
	sim_delay(sim, fault->a, fault->b, 1 * MS + sim_random(sim, 400 * MS), until_ns);
}

static void strike_reorder(struct fault *fault, uint64_t until_ns)
{
	struct sim *sim = fault->all->cluster->sim;
	sim_reorder(sim, fault->a, 1 * MS + sim_random(sim, 200 * MS), until_ns);
}

static void cut(void *context, uint64_t pair)
{
	struct cluster *c = ((struct faults *)context)->cluster;
	uint32_t a = (uint32_t)(pair >> 32), b = (uint32_t)pair;
	if (sim_random(c->sim, 2))
		sim_cut(c->sim, a, b);
	else
		sim_cut_half(c->sim, b, a, 50 * MS + sim_random(c->sim, 500 * MS));
}

/* One pair, or everything of a node; at once, or after a while in which it was slow: reads are out then. */
static void strike_cut(struct fault *fault, uint64_t until_ns)
{
	struct cluster *c = fault->all->cluster;
	(void)until_ns;
	bool all = sim_random(c->sim, 2), slow = sim_random(c->sim, 2);
	uint64_t now_ns = sim_now(c->sim), extra_ns = 20 * MS + sim_random(c->sim, 200 * MS);
	for (uint32_t i = 0; i < c->member_count; i++) {
		if (i == fault->a || (!all && i != fault->b))
			continue;
		if (slow)
			sim_delay(c->sim, fault->a, i, extra_ns, now_ns + 2 * extra_ns);
		uint64_t after_ns = slow ? sim_random(c->sim, 2 * extra_ns) : 0;
		sim_at(c->sim, now_ns + after_ns, UINT32_MAX, cut, fault->all, (uint64_t)fault->a << 32 | i);
	}
}

static void strike_silence(struct fault *fault, uint64_t until_ns)
{
	struct cluster *c = fault->all->cluster;
	bool all = sim_random(c->sim, 2);
	for (uint32_t i = 0; i < c->member_count; i++) {
		if (i == fault->a || (!all && i != fault->b))
			continue;
		sim_block(c->sim, fault->a, i, until_ns);
		sim_block(c->sim, i, fault->a, until_ns);
	}
}

static void strike_one_way(struct fault *fault, uint64_t until_ns)
{
	struct cluster *c = fault->all->cluster;
	bool out = sim_random(c->sim, 2), all = sim_random(c->sim, 2);
	for (uint32_t i = 0; i < c->member_count; i++)
		if (i != fault->a && (all || i == fault->b))
			sim_block(c->sim, out ? fault->a : i, out ? i : fault->a, until_ns);
}

static void wake_up(void *context, uint64_t member)
{
	sim_continue(((struct faults *)context)->cluster->sim, (uint32_t)member);
}

static void strike_stop(struct fault *fault, uint64_t until_ns)
{
	struct sim *sim = fault->all->cluster->sim;
	sim_stop(sim, fault->a);
	sim_at(sim, until_ns, UINT32_MAX, wake_up, fault->all, fault->a);
}

static void start_again(void *context, uint64_t member)
{
	struct faults *f = context;
	if (!sim_up(f->cluster->sim, (uint32_t)member))
		cluster_start(f->cluster, (uint32_t)member);
}

static void strike_kill(struct fault *fault, uint64_t until_ns)
{
	struct cluster *c = fault->all->cluster;
	cluster_kill(c, fault->a);
	sim_at(c->sim, until_ns, UINT32_MAX, start_again, fault->all, fault->a);
}

/* What it says is heard twice: at once, or again when all has changed. */
static void strike_echo(struct fault *fault, uint64_t until_ns)
{
	struct sim *sim = fault->all->cluster->sim;
	uint64_t late_ns = sim_random(sim, 3) ? 1 * MS + sim_random(sim, 400 * MS) : 0;
	sim_echo(sim, fault->a, sim_random(sim, 2) ? 1000 : 200, late_ns, until_ns);
}

/* Dies and comes again and again, at once, while what it says takes many ways: words of earlier lives arrive late. */
static void flap(void *context, uint64_t member)
{
	struct faults *f = context;
	if (f->healed)
		return;
	cluster_kill(f->cluster, (uint32_t)member);
	start_again(f, member);
}

static void strike_flap(struct fault *fault, uint64_t until_ns)
{
	struct cluster *c = fault->all->cluster;
	uint64_t at_ns = sim_now(c->sim);
	sim_reorder(c->sim, fault->a, 1 * MS + sim_random(c->sim, 200 * MS), until_ns);
	for (uint32_t times = 2 + (uint32_t)sim_random(c->sim, 4); times > 0; times--) {
		sim_at(c->sim, at_ns, UINT32_MAX, flap, fault->all, fault->a);
		at_ns += 1 * MS + sim_random(c->sim, 80 * MS);
	}
}

/* Its clock goes forward, by a moment or an hour. */
static void strike_step(struct fault *fault, uint64_t until_ns)
{
	struct sim *sim = fault->all->cluster->sim;
	(void)until_ns;
	sim_step(sim, fault->a, sim_random(sim, 2) ? sim_random(sim, 3000 * MS) : 3600 * 1000 * MS);
}

/* 5 % either way: far more than crystals drift, less than the margin of law 3 (12 %). */
static void strike_skew(struct fault *fault, uint64_t until_ns)
{
	struct sim *sim = fault->all->cluster->sim;
	(void)until_ns;
	sim_skew(sim, fault->a, (uint32_t)((1 << 20) * (950 + sim_random(sim, 101)) / 1000));
}

static void strike_etcd(struct fault *fault, uint64_t until_ns)
{
	if (until_ns > fault->all->cluster->etcd_away_until_ns)
		fault->all->cluster->etcd_away_until_ns = until_ns;
}

static void strike_wipe(struct fault *fault, uint64_t until_ns)
{
	strike_etcd(fault, until_ns);
	cluster_wipe_etcd(fault->all->cluster);
}

static void strike_revoke(struct fault *fault, uint64_t until_ns)
{
	(void)until_ns;
	cluster_revoke(fault->all->cluster, fault->a);
}

/* The machine comes back with its wall clock an hour behind; sometimes etcd has lost its data as well. */
static void strike_clock(struct fault *fault, uint64_t until_ns)
{
	struct cluster *c = fault->all->cluster;
	c->members[fault->a].wall_back_ms += 3600000;
	strike_kill(fault, until_ns);
	if (sim_random(c->sim, 2))
		cluster_wipe_etcd(c);
}

/* A coordinator: as often as not the one that leads. */
static void pick_coordinator(struct fault *fault)
{
	struct cluster *c = fault->all->cluster;
	uint32_t pick = (uint32_t)sim_random(c->sim, c->options.coordinators);
	bool leader = sim_random(c->sim, 2);
	for (uint32_t i = 0; leader && i < c->options.coordinators; i++)
		if (c->members[i].candidacy && c->members[i].candidacy == c->leader_candidacy)
			pick = i;
	fault->a = pick;
}

static void strike_co_kill(struct fault *fault, uint64_t until_ns)
{
	pick_coordinator(fault);
	strike_kill(fault, until_ns);
}

static void strike_co_stop(struct fault *fault, uint64_t until_ns)
{
	pick_coordinator(fault);
	strike_stop(fault, until_ns);
}

static void strike_co_etcd(struct fault *fault, uint64_t until_ns)
{
	pick_coordinator(fault);
	struct member *m = &fault->all->cluster->members[fault->a];
	if (until_ns > m->etcd_cut_until_ns)
		m->etcd_cut_until_ns = until_ns;
}

static const struct {
	void (*strike)(struct fault *fault, uint64_t until_ns);
	uint32_t lasts_ms_max;
	bool everybody; /* hits the jobs of all nodes */
	bool changes_bytes;
} kinds[FAULT_COUNT] = {
	[FAULT_DROP] = {strike_reads, 600},
	[FAULT_LATE] = {strike_reads, 600},
	[FAULT_DUP] = {strike_reads, 600},
	[FAULT_CORRUPT] = {strike_reads, 600, .changes_bytes = true},
	[FAULT_TORN] = {strike_reads, 600, .changes_bytes = true},
	[FAULT_STALE] = {strike_reads, 600, .changes_bytes = true},
	[FAULT_FOREIGN] = {strike_reads, 600, .changes_bytes = true},
	[FAULT_LINK] = {strike_link, 300},
	[FAULT_DELAY] = {strike_delay, 1500},
	[FAULT_REORDER] = {strike_reorder, 1500},
	[FAULT_ECHO] = {strike_echo, 2000},
	[FAULT_CUT] = {strike_cut, 1},
	[FAULT_SILENCE] = {strike_silence, 4000},
	[FAULT_ONE_WAY] = {strike_one_way, 4000},
	[FAULT_STOP] = {strike_stop, 4000},
	[FAULT_KILL] = {strike_kill, 2000},
	[FAULT_FLAP] = {strike_flap, 1000},
	[FAULT_SKEW] = {strike_skew, 1},
	[FAULT_STEP] = {strike_step, 1},
	[FAULT_ETCD] = {strike_etcd, 5000, true},
	[FAULT_WIPE] = {strike_wipe, 3000, true},
	[FAULT_REVOKE] = {strike_revoke, 1},
	[FAULT_CLOCK] = {strike_clock, 2000},
	[FAULT_CO_KILL] = {strike_co_kill, 2000, true},
	[FAULT_CO_STOP] = {strike_co_stop, 6000, true},
	[FAULT_CO_ETCD] = {strike_co_etcd, 6000, true},
};

static void set_node(struct fault *fault, uint32_t member)
{
	fault->a = member;
	if (fault->b == member)
		fault->b = (member + 1) % fault->all->cluster->member_count;
}

static void strike(struct fault *fault)
{
	struct faults *f = fault->all;
	struct cluster *c = f->cluster;
	if (fault->struck || f->healed || c->options.cut.faults >> (fault - f->list) & 1)
		return;
	for (uint32_t i = 0; i < c->member_count && !sim_up(c->sim, fault->a); i++)
		set_node(fault, (fault->a + 1) % c->member_count); /* the dead feel nothing: the next one */
	if (!sim_up(c->sim, fault->a))
		return;
	fault->struck = true;
	f->armed -= fault->armed;
	fault->armed = false;
	f->struck++;
	sim_story(c->sim, fault->a, "FAULT %s with %s for %llu ms", kind_names[fault->kind], c->members[fault->b].name,
		  (unsigned long long)(fault->lasts_ns / MS));
	for (uint32_t i = 0; i < c->member_count; i++)
		if (i == fault->a || kinds[fault->kind].everybody)
			count_hits(f, fault->kind, i);
	kinds[fault->kind].strike(fault, sim_now(c->sim) + fault->lasts_ns);
}

void faults_read_hit(struct faults *f, uint32_t reader, uint32_t owner, enum sim_read_fault fault)
{
	static const enum fault_kind kind_of[SIM_READ_FAULTS] = {FAULT_DROP,    FAULT_LATE, FAULT_DUP,
								 FAULT_CORRUPT, FAULT_TORN, FAULT_STALE,
								 FAULT_FOREIGN};
	count_hits(f, kind_of[fault], reader);
	count_hits(f, kind_of[fault], owner);
}

/* ---- the plan */

static void strike_now(void *context, uint64_t number)
{
	struct faults *f = context;
	strike(&f->list[number]);
}

static void on_due(void *context, uint64_t number)
{
	struct faults *f = context;
	struct fault *fault = &f->list[number];
	if (fault->aim == HIT_NONE || in_state(f, fault->a, fault->aim)) {
		strike(fault);
		return;
	}
	fault->armed = true;
	f->armed++;
	/* What it waits for may not come. */
	sim_at(f->cluster->sim, sim_now(f->cluster->sim) + fault->waits_ns, UINT32_MAX, strike_now, f, number);
}

void faults_event(struct faults *f, uint32_t member)
{
	for (uint32_t i = 0; f->armed > 0 && i < f->count; i++) {
		struct fault *fault = &f->list[i];
		bool here = fault->armed && (fault->anywhere || fault->a == member);
		if (!here || !in_state(f, member, fault->aim))
			continue;
		set_node(fault, member);
		/* Not inside the core's call: right after it. */
		fault->armed = false;
		f->armed--;
		sim_at(f->cluster->sim, sim_now(f->cluster->sim), UINT32_MAX, strike_now, f, i);
	}
}

static enum hit_state draw_aim(struct cluster *c, uint32_t member)
{
	if (sim_random(c->sim, 3) == 0)
		return HIT_NONE;
	enum hit_state from = HIT_P_RESERVED, to = HIT_D_RUNNING;
	if (c->members[member].kind == STORE)
		from = HIT_OFFERING, to = HIT_HOLDING;
	else if (c->members[member].role == WIRE__ROLE__ROLE_PREFILL)
		to = sim_random(c->sim, 4) ? HIT_P_HANDING : HIT_HOLDING;
	else if (c->members[member].role == WIRE__ROLE__ROLE_DECODE)
		from = HIT_D_RESERVED, to = HIT_HOLDING;
	return from + (enum hit_state)sim_random(c->sim, to - from + 1);
}

/* Swarm: most worlds know only some of the kinds, and so more of each, and of what happens without the others. */
static uint32_t draw_kinds(struct cluster *c, enum fault_kind ret_kinds[FAULT_COUNT])
{
	uint32_t count = 0;
	bool all = sim_random(c->sim, 4) == 0;
	for (int kind = 0; kind < FAULT_COUNT; kind++)
		if ((all || sim_random(c->sim, 2)) && !(c->faults->spare_bytes && kinds[kind].changes_bytes))
			ret_kinds[count++] = (enum fault_kind)kind;
	if (count == 0)
		ret_kinds[count++] = FAULT_KILL;
	return count;
}

void faults_spare_bytes(struct faults *f)
{
	f->spare_bytes = true;
}

void faults_draw(struct faults *f, uint32_t count, uint64_t from_ns, uint64_t to_ns)
{
	struct cluster *c = f->cluster;
	enum fault_kind drawn[FAULT_COUNT];
	uint32_t drawn_count = draw_kinds(c, drawn);
	for (uint32_t i = 0; i < count; i++) {
		assert(f->count < FAULTS_MAX);
		struct fault *fault = &f->list[f->count];
		*fault = (struct fault){
			.all = f,
			.kind = drawn[sim_random(c->sim, drawn_count)],
			.a = (uint32_t)sim_random(c->sim, c->member_count),
			.b = (uint32_t)sim_random(c->sim, c->member_count),
			.waits_ns = 1000 * MS,
		};
		set_node(fault, fault->a);
		fault->aim = draw_aim(c, fault->a);
		fault->lasts_ns = (1 + sim_random(c->sim, kinds[fault->kind].lasts_ms_max)) * MS;
		sim_at(c->sim, from_ns + sim_random(c->sim, to_ns - from_ns), UINT32_MAX, on_due, f, f->count++);
	}
}

void faults_aim(struct faults *f, enum fault_kind kind, enum hit_state state, uint64_t from_ns)
{
	struct cluster *c = f->cluster;
	assert(f->count < FAULTS_MAX);
	struct fault *fault = &f->list[f->count];
	*fault = (struct fault){
		.all = f,
		.kind = kind,
		.a = c->options.coordinators, /* the first engine, should nobody ever be in that state */
		.b = (uint32_t)sim_random(c->sim, c->member_count),
		.aim = state,
		.anywhere = true,
		.waits_ns = 3000 * MS,
		.lasts_ns = (1 + sim_random(c->sim, kinds[kind].lasts_ms_max)) * MS,
	};
	set_node(fault, fault->a);
	sim_at(c->sim, from_ns, UINT32_MAX, on_due, f, f->count++);
}

static void part_engines(void *context, uint64_t lasts_ns)
{
	struct faults *f = context;
	struct cluster *c = f->cluster;
	for (uint32_t i = 0; i < c->member_count; i++)
		for (uint32_t j = 0; j < c->member_count; j++) {
			if (i == j || c->members[i].kind != ENGINE || c->members[j].kind != ENGINE)
				continue;
			sim_block(c->sim, i, j, sim_now(c->sim) + lasts_ns);
			sim_cut(c->sim, i, j);
		}
	sim_story(c->sim, c->options.coordinators, "FAULT engines are parted for %llu ms",
		  (unsigned long long)(lasts_ns / MS));
}

static void slow_decode(void *context, uint64_t lasts_ns)
{
	struct faults *f = context;
	struct cluster *c = f->cluster;
	uint64_t extra_ns = f->slow_to_all ? 10 * MS + sim_random(c->sim, sim_random(c->sim, 2) ? 60 * MS : 250 * MS)
						 : 60 * MS + sim_random(c->sim, 100 * MS);
	for (uint32_t i = 0; i < c->member_count; i++)
		for (uint32_t j = 0; j < c->member_count; j++)
			if (c->members[i].role == WIRE__ROLE__ROLE_DECODE && i != j &&
			    (f->slow_to_all || c->members[j].kind == ENGINE))
				sim_delay(c->sim, i, j, extra_ns, sim_now(c->sim) + lasts_ns);
	sim_story(c->sim, c->options.coordinators, "FAULT decode nodes are slow for %llu ms",
		  (unsigned long long)(lasts_ns / MS));
}

/* A decode node's connections to other engines break, and it is the last to hear of it. */
static void half_open(void *context, uint64_t after_ns)
{
	struct faults *f = context;
	struct cluster *c = f->cluster;
	uint32_t first = c->options.coordinators + c->options.prefills;
	uint32_t late = first + (uint32_t)sim_random(c->sim, c->options.decodes);
	sim_story(c->sim, late, "FAULT connections to engines are half open for %llu ms", (unsigned long long)(after_ns / MS));
	for (uint32_t i = c->options.coordinators; i < c->member_count; i++)
		if (i != late && c->members[i].kind == ENGINE)
			sim_cut_half(c->sim, i, late, after_ns);
}

void faults_half_open(struct faults *f, uint64_t at_ns, uint64_t after_ns)
{
	sim_at(f->cluster->sim, at_ns, UINT32_MAX, half_open, f, after_ns);
}

void faults_slow_decode(struct faults *f, bool to_all, uint64_t from_ns, uint64_t lasts_ns)
{
	f->slow_to_all = to_all;
	sim_at(f->cluster->sim, from_ns, UINT32_MAX, slow_decode, f, lasts_ns);
}

void faults_part_engines(struct faults *f, uint64_t from_ns, uint64_t lasts_ns)
{
	sim_at(f->cluster->sim, from_ns, UINT32_MAX, part_engines, f, lasts_ns);
}

void faults_heal(struct faults *f)
{
	struct cluster *c = f->cluster;
	f->healed = true;
	f->armed = 0;
	for (uint32_t i = 0; i < f->count; i++)
		f->list[i].armed = false;
	c->etcd_away_until_ns = c->etcd_away_until_ns ? sim_now(c->sim) : 0;
	sim_story(c->sim, 0, "(the world heals)");
	sim_heal(c->sim);
	for (uint32_t i = 0; i < c->member_count; i++) {
		if (c->members[i].etcd_cut_until_ns > sim_now(c->sim))
			c->members[i].etcd_cut_until_ns = sim_now(c->sim);
		start_again(f, i);
	}
}

/* ---- the table */

void hit_table_add(struct hit_table *sum, const struct hit_table *more)
{
	for (int kind = 0; kind < FAULT_COUNT; kind++)
		for (int state = 0; state < HIT_COUNT; state++)
			sum->hits[kind][state] += more->hits[kind][state];
}

uint32_t hit_table_print(const struct hit_table *table)
{
	uint32_t never = 0;
	printf("%-9s", "fault");
	for (int state = 0; state < HIT_COUNT; state++)
		printf(" %11s", state_names[state]);
	printf("\n");
	for (int kind = 0; kind < FAULT_COUNT; kind++) {
		printf("%-9s", kind_names[kind]);
		for (int state = 0; state < HIT_COUNT; state++) {
			printf(" %11llu", (unsigned long long)table->hits[kind][state]);
			never += table->hits[kind][state] == 0;
		}
		printf("\n");
	}
	return never;
}

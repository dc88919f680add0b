/* Runs blocks one after the other, the blocks of a cluster together: each thread until it waits, then the next. */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <algorithm>
#include "tests/gpu/fake/fake.h"
#include "tests/gpu/fake/simt_block.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, bytes)   ((void)(at), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#endif

/* Turns of all threads without an event before a loop on memory counts as one that never ends. */
#define IDLE_TURNS_MAX 1000

struct simt_place *simt_here;
struct simt_group simt_group;
static simt_thread threads[CLUSTER_MAX * THREADS_MAX];
static uint8_t states[CLUSTER_MAX * THREADS_MAX]; /* enum thread_state of each: side by side, for all are looked at in every turn */
static std::vector<uint32_t> order;

static uint8_t &state_of(const simt_thread *thread)
{
	return states[thread - threads];
}

void simt_fault(const char *format, ...)
{
	va_list list;
	va_start(list, format);
	fprintf(stderr, "kernel %s", simt_group.launch ? simt_group.launch->name : "(none)");
	if (simt_here)
		fprintf(stderr, ", block (%u, %u, %u), thread %u", simt_here->block.x, simt_here->block.y, simt_here->block.z,
			simt_self()->index);
	fprintf(stderr, ": ");
	vfprintf(stderr, format, list);
	fprintf(stderr, "\n");
	va_end(list);
	abort();
}

void *simt_dynamic_shared()
{
	return simt_self()->block_of->shared + SHARED_RESERVED;
}

void simt_wait(enum thread_state state, const char *waits_for)
{
	simt_thread *self = simt_self();
	state_of(self) = (uint8_t)state;
	self->waits_for = waits_for;
	fiber_yield(&self->fiber);
}

void simt_poll()
{
	simt_wait(THREAD_POLLS, "memory");
}

/* --- meetings ---------------------------------------------------------------------------------------------- */

static void meet(struct gathering *g, uint32_t place, uint32_t count, const char *what, const void *in, void *out,
		 simt_meeting_fn *fn)
{
	if (g->arrived > 0 && g->what != what && strcmp(g->what, what) != 0)
		simt_fault("is at %s, others of its warp or warpgroup are at %s", what, g->what);
	g->what = what;
	g->meeting.in[place] = in;
	g->meeting.out[place] = out;
	g->members[place] = simt_self();
	if (++g->arrived < count) {
		simt_wait(THREAD_MEETS, what);
		return;
	}
	g->arrived = 0;
	g->meeting.count = count;
	fn(&g->meeting);
	for (uint32_t i = 0; i < count; i++)
		state_of(g->members[i]) = THREAD_READY;
	simt_group.events++;
}

void simt_meet_warp(const char *what, const void *in, void *out, simt_meeting_fn *fn)
{
	simt_thread *self = simt_self();
	meet(&self->block_of->warps[self->index / SIMT_LANES], self->index % SIMT_LANES, SIMT_LANES, what, in, out, fn);
}

void simt_meet_warpgroup(const char *what, const void *in, void *out, simt_meeting_fn *fn)
{
	simt_thread *self = simt_self();
	meet(&self->block_of->warpgroups[self->index / SIMT_MEMBERS_MAX].gathering, self->index % SIMT_MEMBERS_MAX,
	     SIMT_MEMBERS_MAX, what, in, out, fn);
}

void simt_sync_warp()
{
	simt_meet_warp("sync_warp", nullptr, nullptr, [](const struct simt_meeting *) {});
}

static void ballot(const struct simt_meeting *meeting)
{
	uint32_t bits = 0;
	for (uint32_t lane = 0; lane < meeting->count; lane++)
		bits |= (uint32_t) * static_cast<const bool *>(meeting->in[lane]) << lane;
	for (uint32_t lane = 0; lane < meeting->count; lane++)
		*static_cast<uint32_t *>(meeting->out[lane]) = bits;
}

uint32_t simt_ballot(bool value)
{
	uint32_t bits;
	simt_meet_warp("ballot", &value, &bits, ballot);
	return bits;
}

bool simt_any(bool value)
{
	uint32_t bits;
	simt_meet_warp("any", &value, &bits, ballot);
	return bits != 0;
}

uint32_t simt_match(uint32_t value)
{
	uint32_t bits;
	simt_meet_warp("match", &value, &bits, [](const struct simt_meeting *meeting) {
		for (uint32_t i = 0; i < meeting->count; i++) {
			uint32_t same = 0;
			for (uint32_t j = 0; j < meeting->count; j++)
				if (memcmp(meeting->in[i], meeting->in[j], sizeof(uint32_t)) == 0)
					same |= UINT32_C(1) << j;
			*static_cast<uint32_t *>(meeting->out[i]) = same;
		}
	});
	return bits;
}

/* --- registers ----------------------------------------------------------------------------------------------- */

#define REGISTERS 65536 /* of a multiprocessor */

struct register_wish {
	int registers;
	bool raises;
};

static void move_registers(const struct simt_meeting *meeting)
{
	const register_wish *first = static_cast<const register_wish *>(meeting->in[0]);
	simt_block *block = simt_self()->block_of;
	struct warpgroup *own = &block->warpgroups[simt_self()->index / SIMT_MEMBERS_MAX];
	uint32_t groups = block->thread_count / SIMT_MEMBERS_MAX, sum = 0;
	for (uint32_t i = 0; i < meeting->count; i++)
		if (static_cast<const register_wish *>(meeting->in[i])->registers != first->registers)
			simt_fault("threads of a warpgroup wish for different registers");
	if (own->registers > 0 && (own->registers < first->registers) != first->raises)
		simt_fault("%d registers are to become %d", own->registers, first->registers);
	own->registers = first->registers;
	for (uint32_t g = 0; g < groups; g++)
		sum += block->warpgroups[g].registers > 0 ? block->warpgroups[g].registers * SIMT_MEMBERS_MAX : 0;
	if (block->thread_count % SIMT_MEMBERS_MAX != 0 || sum > REGISTERS)
		simt_fault("%u registers for warpgroups of %u threads", sum, block->thread_count);
}

void simt_registers_move(int registers, bool raises)
{
	register_wish wish = {registers, raises};
	simt_meet_warpgroup("setmaxnreg", &wish, nullptr, move_registers);
}

/* --- barriers ------------------------------------------------------------------------------------------------ */

static void open_if_full(struct barrier *barrier)
{
	if (barrier->arrived < barrier->expected)
		return;
	barrier->arrived = 0;
	for (simt_thread *thread : barrier->waiting)
		state_of(thread) = THREAD_READY;
	barrier->waiting.clear();
	simt_group.events++;
}

static struct barrier *arrive(int id, int expected)
{
	struct barrier *barrier = &simt_self()->block_of->barriers[id];
	if (id < 0 || id >= BARRIERS_MAX)
		simt_fault("barrier %d, of 0 .. %d", id, BARRIERS_MAX - 1);
	if (barrier->arrived > 0 && barrier->expected != expected)
		simt_fault("expects %d threads at barrier %d, others expect %d", expected, id, barrier->expected);
	barrier->expected = expected;
	barrier->arrived++;
	return barrier;
}

static void wait_at(int id, int expected)
{
	struct barrier *barrier = arrive(id, expected);
	if (barrier->arrived == expected) {
		open_if_full(barrier);
		return;
	}
	barrier->waiting.push_back(simt_self());
	simt_self()->barrier = id;
	simt_wait(THREAD_AT_BARRIER, id == 0 ? "sync" : "barrier_sync");
}

void simt_sync()
{
	/* Threads that have ended are not waited for. */
	wait_at(0, (int)simt_self()->block_of->live);
}

static void check_named(int id, int count)
{
	if (id < 1 || count <= 0 || count % SIMT_LANES != 0)
		simt_fault("barrier %d of %d threads: named ones are 1 .. 15, of whole warps", id, count);
}

void simt_barrier_sync(int id, int count)
{
	check_named(id, count);
	wait_at(id, count);
}

void simt_barrier_arrive(int id, int count)
{
	check_named(id, count);
	open_if_full(arrive(id, count));
}

void simt_cluster_sync()
{
	uint32_t all = 0;
	for (uint32_t b = 0; b < simt_group.block_count; b++)
		all += simt_group.blocks[b].thread_count;
	if (++simt_group.cluster_arrived < (int)all) {
		simt_group.cluster_waiting.push_back(simt_self());
		simt_wait(THREAD_AT_BARRIER, "cluster_sync");
		return;
	}
	simt_group.cluster_arrived = 0;
	for (simt_thread *thread : simt_group.cluster_waiting)
		state_of(thread) = THREAD_READY;
	simt_group.cluster_waiting.clear();
	simt_group.meetings++;
	simt_group.events++;
	for (simt_block &block : simt_group.blocks)
		block.reached = nullptr;
}

void simt_reach(uint32_t rank, const char *how)
{
	if (rank >= simt_group.block_count)
		simt_fault("block %u of a cluster of %u", rank, simt_group.block_count);
	if (rank == simt_here->rank)
		return;
	if (simt_group.meetings == 0)
		simt_fault("%s: block %u, before the cluster met", how, rank);
	simt_group.blocks[rank].reached = how;
}

void *simt_cluster_map(void *shared, uint32_t rank)
{
	simt_reach(rank, "looked into its memory");
	return simt_group.blocks[rank].shared + simt_shared_address(shared);
}

/* --- running ------------------------------------------------------------------------------------------------- */

static void thread_main()
{
	fiber_entered();
	simt_thread *self = simt_self();
	simt_group.launch->body();
	simt_land_all_of(self);
	state_of(self) = THREAD_DONE;
	simt_block *block = self->block_of;
	block->live--;
	simt_group.events++;
	if (block->barriers[0].arrived > 0) {
		block->barriers[0].expected = (int)block->live;
		open_if_full(&block->barriers[0]);
	}
	fiber_leave(&self->fiber);
}

static uint8_t *shared_memory()
{
	static uint8_t *memory;
	if (memory)
		return memory;
	size_t bytes = (CLUSTER_MAX + 1) * SHARED_STRIDE;
	void *mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert(mapped != MAP_FAILED);
	memory = reinterpret_cast<uint8_t *>(((uintptr_t)mapped + SHARED_STRIDE - 1) / SHARED_STRIDE * SHARED_STRIDE);
	return memory;
}

static void begin_block(uint32_t rank, uint32_t number)
{
	const struct simt_launch *launch = simt_group.launch;
	simt_block *block = &simt_group.blocks[rank];
	block->thread_count = block->live = launch->block.x * launch->block.y * launch->block.z;
	block->threads = &threads[rank * THREADS_MAX];
	block->reached = nullptr;
	block->shared = shared_memory() + rank * SHARED_STRIDE;
	ASAN_POISON_MEMORY_REGION(block->shared, SHARED_STRIDE);
	ASAN_UNPOISON_MEMORY_REGION(block->shared + SHARED_RESERVED, launch->shared_bytes);
	memset(block->shared + SHARED_RESERVED, 0xff, launch->shared_bytes); /* NaN */
	simt_proxy_begin(block, rank, launch->shared_bytes);
	for (struct barrier &barrier : block->barriers) {
		barrier.arrived = 0;
		barrier.waiting.clear();
	}
	for (struct gathering &gathering : block->warps)
		gathering.arrived = 0;
	for (struct warpgroup &group : block->warpgroups) {
		group.gathering.arrived = 0;
		group.products.clear();
		group.held.clear();
		group.fenced = false;
		group.registers = 0;
	}
	for (uint32_t i = 0; i < block->thread_count; i++) {
		simt_thread *t = &block->threads[i];
		t->thread = {i % launch->block.x, i / launch->block.x % launch->block.y, i / (launch->block.x * launch->block.y)};
		t->block = {number % launch->grid.x, number / launch->grid.x % launch->grid.y,
			    number / (launch->grid.x * launch->grid.y)};
		t->block_dim = launch->block;
		t->grid_dim = launch->grid;
		t->rank = rank;
		t->block_of = block;
		t->index = i;
		state_of(t) = THREAD_READY;
		t->copies.clear();
		t->unfenced.clear();
		t->barriers_set.clear();
		t->maps_acquired.clear();
		fiber_begin(&t->fiber, thread_main);
	}
}

/* The threads of the group in the order in which they take turns. */
static void set_order()
{
	const struct fake_options *options = fake_now();
	static uint32_t groups;
	enum fake_order way = options->order == FAKE_TURNS ? (enum fake_order)(groups++ % FAKE_TURNS) : options->order;
	uint32_t count = simt_group.blocks[0].thread_count;
	order.clear();
	for (uint32_t rank = 0; rank < simt_group.block_count; rank++)
		for (uint32_t i = 0; i < count; i++)
			order.push_back(rank * THREADS_MAX + i);
	if (way == FAKE_BACKWARD)
		std::reverse(order.begin(), order.end());
	if (way == FAKE_SHUFFLED) {
		static uint64_t state;
		state = state * UINT64_C(6364136223846793005) + options->seed * 2 + 1;
		uint64_t x = state;
		for (size_t i = order.size(); i > 1; i--) {
			x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
			std::swap(order[i - 1], order[(x >> 33) % i]);
		}
	}
}

static bool may_go_on(uint32_t i)
{
	switch (states[i]) {
	case THREAD_READY:
	case THREAD_POLLS:
		return true;
	case THREAD_AT_MBARRIER:
		return simt_mbarrier_over(threads[i].mbarrier, threads[i].parity);
	default:
		return false;
	}
}

/* One turn; are there threads left? */
static bool turn()
{
	bool left = false;
	for (uint32_t i : order) {
		left |= states[i] != THREAD_DONE;
		if (!may_go_on(i))
			continue;
		if (states[i] != THREAD_POLLS)
			simt_group.events++;
		states[i] = THREAD_READY;
		simt_here = &threads[i];
		fiber_resume(&threads[i].fiber);
		simt_here = nullptr;
	}
	return left;
}

static void report_standstill()
{
	fprintf(stderr, "kernel %s stands still:\n", simt_group.launch->name);
	uint32_t said = 0;
	for (uint32_t i : order) {
		const simt_thread *t = &threads[i];
		if (states[i] != THREAD_DONE && said++ < 16)
			fprintf(stderr, "  block (%u, %u, %u), thread %u waits for %s %d\n", t->block.x, t->block.y, t->block.z,
				t->index, t->waits_for,
				states[i] == THREAD_AT_BARRIER ? t->barrier : (int)t->parity);
	}
	abort();
}

static void run_group()
{
	uint64_t idle = 0;
	for (;;) {
		uint64_t before = simt_group.events;
		if (!turn())
			break;
		if (simt_group.events != before || simt_land_oldest())
			idle = 0;
		else if (++idle > IDLE_TURNS_MAX)
			report_standstill();
	}
	for (uint32_t b = 0; b < simt_group.block_count; b++)
		if (simt_group.blocks[b].reached)
			simt_fault("block %u of the cluster may end before another %s", b, simt_group.blocks[b].reached);
	if (!simt_group.copies.empty())
		simt_fault("ends with a copy to shared memory that nobody waited for");
	for (uint32_t b = 0; b < simt_group.block_count; b++)
		for (const struct warpgroup &group : simt_group.blocks[b].warpgroups)
			if (!group.products.empty())
				simt_fault("ends with a wgmma that nobody waited for");
}

void simt_run(const struct simt_launch &launch)
{
	uint32_t blocks = launch.grid.x * launch.grid.y * launch.grid.z;
	simt_group.launch = &launch;
	simt_group.block_count = launch.cluster;
	for (uint32_t first = 0; first < blocks; first += launch.cluster) {
		for (uint32_t rank = 0; rank < launch.cluster; rank++)
			begin_block(rank, first + rank);
		simt_group.cluster_arrived = 0;
		simt_group.meetings = 0;
		simt_group.cluster_waiting.clear();
		set_order();
		run_group();
	}
	simt_group.launch = nullptr;
}

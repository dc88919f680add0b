/* Random events among nodes that behave (or die, or repeat themselves), with every invariant checked on the way:
 * no request lost or ended twice, no token wrong or out of order, nothing left behind at a node that lives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "tests/coordinator/world.h"

enum { JOBS_MAX = 256, STEPS = 20000, SEEDS = 8 };

/* One half at one node. */
struct part {
	bool used, running, hung;
	bool over_said; /* decode: it has read everything */
	Wire__JobId job;
	Wire__Half half;
	uint32_t first, context, prompt_count, max_tokens;
	uint32_t choices;                         /* bit mask, unfinished */
	uint32_t position[SAMPLING_CHOICES_MAX];  /* next */
	uint64_t partner;
};

struct model {
	struct world w;
	struct rng rng;
	struct part parts[NODES_MAX][JOBS_MAX];
	uint32_t submitted, deaths, held_back;
};

static uint32_t below(struct model *m, uint32_t bound)
{
	return (uint32_t)rng_below(&m->rng, bound);
}

static struct part *find(struct model *m, uint32_t fake, const Wire__JobId *job)
{
	for (uint32_t i = 0; i < JOBS_MAX; i++) {
		struct part *part = &m->parts[fake][i];
		if (part->used && part->job.number == job->number && part->job.attempt == job->attempt)
			return part;
	}
	return NULL;
}

static struct part *partner_of(struct model *m, const struct part *part)
{
	return part->partner ? find(m, (uint32_t)part->partner - 1, &part->job) : NULL;
}

static struct part *new_part(struct model *m, uint32_t fake)
{
	for (uint32_t i = 0; i < JOBS_MAX; i++)
		if (!m->parts[fake][i].used)
			return &m->parts[fake][i];
	fail_msg("a node holds %d jobs", JOBS_MAX);
	return NULL;
}

/* The context must be the prompt and what was forwarded of that choice. */
static void check_context(const Wire__Reserve *reserve)
{
	uint32_t first = reserve->tokens[0], choice = reserve->choices[0];
	for (uint32_t i = 0; i < reserve->n_tokens; i++) {
		uint32_t expected = i < reserve->prompt_count ? first + i : token_of(first, choice, i);
		assert_int_equal(reserve->tokens[i], expected);
	}
	assert_true(reserve->n_tokens == reserve->prompt_count || reserve->n_choices == 1);
}

static void take_reserve(struct model *m, uint32_t fake, const Wire__Reserve *reserve)
{
	check_context(reserve);
	Wire__JobId job = *reserve->job;
	Wire__Half half = reserve->half;
	assert_null(find(m, fake, &job)); /* an attempt number is used once */
	uint32_t dice = below(m, 20);
	if (dice == 0) {
		say_reserved(&m->w, fake, &job, half, ERR_AGAIN);
		return;
	}
	struct part *part = new_part(m, fake);
	*part = (struct part){.used = true, .job = job, .half = half, .first = reserve->tokens[0],
			      .context = (uint32_t)reserve->n_tokens, .prompt_count = reserve->prompt_count,
			      .max_tokens = reserve->sampling->max_tokens, .partner = reserve->partner};
	for (size_t i = 0; i < reserve->n_choices; i++) {
		part->choices |= 1u << reserve->choices[i];
		part->position[reserve->choices[i]] = part->context + (half == WIRE__HALF__HALF_DECODE);
	}
	if (dice != 1) /* or it never answers */
		say_reserved(&m->w, fake, &job, half, ERR_OK);
}

static void end_part(struct model *m, uint32_t fake, struct part *part, enum err e)
{
	struct part copy = *part;
	part->used = false;
	say_end(&m->w, fake, &copy.job, copy.half, e, NULL);
}

static void take_cancel(struct model *m, uint32_t fake, const Wire__Cancel *cancel)
{
	struct part *part = find(m, fake, cancel->job);
	if (!part)
		return;
	if (cancel->one_choice)
		part->choices &= ~(1u << cancel->choice);
	if (!cancel->one_choice || !part->choices)
		end_part(m, fake, part, cancel->one_choice ? ERR_OK : ERR_CANCELED);
}

static void take_message(struct model *m, uint32_t fake)
{
	const Wire__Envelope *envelope = world_next(&m->w, fake);
	if (!envelope)
		return;
	switch (envelope->body_case) {
	case WIRE__ENVELOPE__BODY_RESERVE:
		take_reserve(m, fake, envelope->reserve);
		break;
	case WIRE__ENVELOPE__BODY_START: {
		struct part *part = find(m, fake, envelope->start->job);
		if (part) {
			part->running = true;
			part->hung = below(m, 60) == 0;
		}
		break;
	}
	case WIRE__ENVELOPE__BODY_CANCEL:
		take_cancel(m, fake, envelope->cancel);
		break;
	case WIRE__ENVELOPE__BODY_KV_RESYNC:
		say_events(&m->w, fake, true, NULL, 0, NULL, 0);
		break;
	default:
		fail_msg("a node got message %d", (int)envelope->body_case);
	}
}

/* One token of one choice; the choice ends at max_tokens, or now and then before. */
static void emit(struct model *m, uint32_t fake, struct part *part, uint32_t choice)
{
	uint32_t position = part->position[choice]++;
	bool last = position + 1 - part->prompt_count >= part->max_tokens;
	bool stop = token_of(part->first, choice, position) % 16 == 0;
	Wire__JobId job = part->job;
	uint32_t token = token_of(part->first, choice, position);
	Wire__Finish finish = stop ? WIRE__FINISH__FINISH_STOP : last ? WIRE__FINISH__FINISH_LENGTH : 0;
	if (finish)
		part->choices &= ~(1u << choice);
	say_token(&m->w, fake, &job, choice, position, token, finish);
	if (below(m, 30) == 0)
		say_token(&m->w, fake, &job, choice, position, token, finish); /* again */
	if (below(m, 200) == 0) {
		job.attempt--;
		say_token(&m->w, fake, &job, choice, position, token + 1, 0); /* of an older attempt, and wrong */
	}
}

static uint32_t some_choice(struct model *m, uint32_t mask)
{
	uint32_t skip = below(m, (uint32_t)__builtin_popcount(mask));
	while (skip--)
		mask &= mask - 1;
	return (uint32_t)__builtin_ctz(mask);
}

/* Prefill gives the first token of each choice; the choices that go on are decode's. */
static void work_prefill(struct model *m, uint32_t fake, struct part *part)
{
	uint32_t todo = 0;
	for (uint32_t rest = part->choices; rest; rest &= rest - 1) {
		uint32_t choice = (uint32_t)__builtin_ctz(rest);
		if (part->position[choice] == part->context)
			todo |= 1u << choice;
	}
	if (todo) {
		emit(m, fake, part, some_choice(m, todo));
		return;
	}
	struct part *decode = partner_of(m, part);
	if (decode && decode->over_said)
		end_part(m, fake, part, ERR_OK); /* the transfer is complete */
	else if (!decode)
		end_part(m, fake, part, ERR_PEER_GONE);
}

/* Decode goes on once prefill has all first tokens (which may reach the core later than decode's). */
static void work_decode(struct model *m, uint32_t fake, struct part *part)
{
	struct part *prefill = partner_of(m, part);
	if (!part->over_said) {
		if (!prefill) {
			end_part(m, fake, part, ERR_PEER_GONE);
			return;
		}
		if (!prefill->running || below(m, 3))
			return;
		part->over_said = true; /* everything was read */
		for (uint32_t rest = part->choices; rest; rest &= rest - 1) {
			uint32_t choice = (uint32_t)__builtin_ctz(rest);
			bool ended = token_of(part->first, choice, part->context) % 16 == 0 ||
				     part->context + 1 - part->prompt_count >= part->max_tokens;
			if (ended)
				part->choices &= ~(1u << choice);
		}
		if (!part->choices)
			end_part(m, fake, part, ERR_OK);
		return;
	}
	emit(m, fake, part, some_choice(m, part->choices));
	if (part->used && !part->choices)
		end_part(m, fake, part, ERR_OK);
}

static bool works(const struct part *part)
{
	return part->used && part->running && !part->hung;
}

static void work(struct model *m, uint32_t fake)
{
	struct part *part = &m->parts[fake][below(m, JOBS_MAX)];
	for (uint32_t i = 0; i < JOBS_MAX && !works(part); i++)
		part = &m->parts[fake][i];
	if (!works(part))
		return;
	if (below(m, 300) == 0) {
		static const enum err errors[] = {ERR_DEVICE, ERR_CORRUPT, ERR_PEER_GONE, ERR_AGAIN, ERR_DEADLINE};
		end_part(m, fake, part, errors[below(m, 5)]);
		return;
	}
	if (part->half == WIRE__HALF__HALF_PREFILL) {
		work_prefill(m, fake, part);
	} else if (part->half == WIRE__HALF__HALF_DECODE) {
		work_decode(m, fake, part);
	} else {
		emit(m, fake, part, some_choice(m, part->choices));
		if (part->used && !part->choices)
			end_part(m, fake, part, ERR_OK);
	}
}

static void die(struct model *m, uint32_t fake)
{
	m->deaths++;
	memset(m->parts[fake], 0, sizeof(m->parts[fake]));
	m->w.fakes[fake].incarnation++;
	world_cut(&m->w, fake);
	coord_check(m->w.coord);
}

/* A connection that the core closed frees all that was held for it (law 3). */
static void follow_sessions(struct model *m, bool connect)
{
	for (uint32_t i = 0; i < m->w.fake_count; i++) {
		if (m->w.fakes[i].conn)
			continue;
		memset(m->parts[i], 0, sizeof(m->parts[i]));
		if (connect && m->w.fakes[i].dialed)
			world_up(&m->w, i);
	}
}

static void submit(struct model *m)
{
	struct seen *seen;
	uint32_t choices = below(m, 3) ? 1 : 1 + below(m, 4);
	static const char *const tenants[] = {"", "acme", "beta", "flood", "flood"};
	m->w.tenant = tenants[below(m, 5)];
	m->w.share = (struct fair_share){.weight = 1 + below(m, 3), .running_max = below(m, 4) * 4, .waiting_max = below(m, 3) * 3};
	m->w.class = (enum coord_class)below(m, COORD_CLASSES);
	enum err e = world_submit(&m->w, 1000 + below(m, 50) * 1000, 1 + below(m, 60), choices, 1 + below(m, 20), &seen);
	assert_true(e == ERR_OK || e == ERR_UNAVAILABLE || e == ERR_AGAIN);
	if (e == ERR_OK) {
		m->submitted++;
		seen->enough_after = below(m, 5) ? 0 : 1 + below(m, 8);
	}
}

static struct seen *some_request(struct model *m)
{
	uint32_t count = m->w.seen_count;
	if (!count)
		return NULL;
	uint32_t recent = count < 16 ? count : 16;
	return &m->w.seen[count - 1 - below(m, recent)];
}

static void step(struct model *m)
{
	uint32_t fake = below(m, m->w.fake_count), dice = below(m, 1000);
	if (dice < 350) {
		take_message(m, fake);
	} else if (dice < 850) {
		work(m, fake);
	} else if (dice < 880) {
		world_tick(&m->w, below(m, 40) * MS);
		for (uint32_t i = 0; i < m->w.fake_count; i++)
			if (below(m, 8))
				take_message(m, i);
	} else if (dice < 930) {
		if (m->w.seen_count < REQUESTS_SEEN - 1)
			submit(m);
	} else if (dice < 932) {
		die(m, fake);
	} else if (dice < 945) {
		struct seen *seen = some_request(m);
		if (seen)
			coord_cancel(m->w.coord, seen->request, m->w.now_ns);
	} else if (dice < 955) {
		struct seen *seen = some_request(m);
		if (seen)
			coord_choice_done(m->w.coord, seen->request, below(m, seen->choices), m->w.now_ns);
	} else if (dice < 965) {
		say_load(&m->w, fake, below(m, 500), below(m, 5));
	}
	follow_sessions(m, below(m, 50) == 0);
	coord_check(m->w.coord);
}

/* The faults heal: everything must come to its end, and nothing may be left at a node. */
static void heal(struct model *m)
{
	for (int round = 0; round < 3000 && coord_requests(m->w.coord); round++) {
		world_tick(&m->w, 50 * MS);
		for (int i = 0; i < 200; i++) {
			uint32_t fake = below(m, m->w.fake_count);
			take_message(m, fake);
			work(m, fake);
		}
		follow_sessions(m, true);
	}
	assert_int_equal(coord_requests(m->w.coord), 0);
	for (uint32_t i = 0; i < m->w.fake_count; i++)
		for (int n = 0; n < 4000; n++)
			take_message(m, i);
	for (uint32_t i = 0; i < m->w.fake_count; i++)
		for (uint32_t j = 0; j < JOBS_MAX; j++)
			assert_false(m->parts[i][j].used);
	for (uint32_t i = 0; i < m->w.seen_count; i++)
		assert_int_equal(m->w.seen[i].ends, 1);
}

static void one_seed(uint64_t seed, struct coord_counters *sum)
{
	struct model *m = calloc(1, sizeof(*m));
	m->rng.seed = seed;
	struct coord_options options = {.requests_max = 24, .queue_max = 8, .held_max = 64, .queue_ns = 5000 * MS,
					.spare_ns = 4000 * MS, .prefill_ns = 4000 * MS, .decode_ns = 3000 * MS,
					.reserve_ns = 300 * MS};
	world_init(&m->w, &options);
	static const Wire__Role roles[] = {WIRE__ROLE__ROLE_PREFILL, WIRE__ROLE__ROLE_DECODE, WIRE__ROLE__ROLE_PREFILL,
					   WIRE__ROLE__ROLE_DECODE, WIRE__ROLE__ROLE_BOTH};
	for (uint32_t i = 0; i < (seed % 2 ? 4 : 5); i++) {
		char name[16];
		snprintf(name, sizeof(name), "node %u", i);
		world_member(&m->w, roles[i], name, 1, "m");
		world_up(&m->w, i);
	}
	for (int i = 0; i < STEPS; i++)
		step(m);
	heal(m);
	struct coord_counters c;
	coord_counters(m->w.coord, &c);
	assert_int_equal(c.accepted, c.ended_ok + c.ended_canceled + c.ended_unavailable + c.ended_deadline + c.ended_other);
	assert_int_equal(c.ended_other, c.shed);
	sum->shed += c.shed;
	sum->accepted += c.accepted;
	sum->ended_ok += c.ended_ok;
	sum->ended_canceled += c.ended_canceled;
	sum->ended_unavailable += c.ended_unavailable;
	sum->recoveries_session += c.recoveries_session;
	sum->recoveries_job_end += c.recoveries_job_end;
	sum->recoveries_silence += c.recoveries_silence;
	sum->recoveries_protocol += c.recoveries_protocol;
	sum->tokens_held += c.tokens_held;
	sum->tokens_dropped += c.tokens_dropped;
	sum->reserve_refusals += c.reserve_refusals;
	sum->choices_recovered += c.choices_recovered;
	world_fini(&m->w);
	free(m);
}

static void random_events_lose_nothing(void **state)
{
	struct coord_counters sum = {0};
	for (uint64_t seed = 1; seed <= SEEDS; seed++)
		one_seed(seed, &sum);
	print_message("accepted %llu: ok %llu canceled %llu unavailable %llu; recoveries: session %llu job end %llu "
		      "silence %llu protocol %llu, choices %llu; refusals %llu, tokens held %llu dropped %llu, shed %llu\n",
		      (unsigned long long)sum.accepted, (unsigned long long)sum.ended_ok,
		      (unsigned long long)sum.ended_canceled, (unsigned long long)sum.ended_unavailable,
		      (unsigned long long)sum.recoveries_session, (unsigned long long)sum.recoveries_job_end,
		      (unsigned long long)sum.recoveries_silence, (unsigned long long)sum.recoveries_protocol,
		      (unsigned long long)sum.choices_recovered, (unsigned long long)sum.reserve_refusals,
		      (unsigned long long)sum.tokens_held, (unsigned long long)sum.tokens_dropped,
		      (unsigned long long)sum.shed);
	/* Every kind of trouble came, and most requests got through it. */
	assert_true(sum.recoveries_session > 20 && sum.recoveries_job_end > 20 && sum.recoveries_silence > 0);
	assert_true(sum.tokens_held > 20 && sum.tokens_dropped > 100 && sum.reserve_refusals > 100);
	assert_true(sum.ended_ok > sum.accepted / 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(random_events_lose_nothing)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

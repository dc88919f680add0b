#include "tests/sim/clients.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

enum { CLIENTS_MAX = 96, CHOICES_MAX = 3, TENANTS = 3 };

/* Their names, and their salts. */
static const char *const tenants[TENANTS] = {"", "ant", "bee"};

enum client_state { CLIENT_WAITING, CLIENT_RUNNING, CLIENT_DONE };

struct client {
	struct cluster *cluster;
	uint32_t number;
	enum client_state state;
	struct client_request request;
	/* What the oracle says. */
	uint32_t expected_count[CHOICES_MAX];
	enum finish expected_finish[CHOICES_MAX];
	uint32_t expected[CHOICES_MAX][TOY_CONTEXT_MAX];
	/* This submission. */
	uint32_t coordinator; /* member */
	uint64_t handle;      /* of the coordinator */
	uint32_t submission;
	float expected_scores[TOY_CONTEXT_MAX];
	uint32_t scored; /* prompt tokens after the first */
	uint32_t received[CHOICES_MAX];
	bool finished[CHOICES_MAX];
	bool cancel_sent;
};

struct clients {
	struct cluster *cluster;
	bool demand;
	uint32_t done;
	struct client_counts counts;
	struct client list[CLIENTS_MAX];
};

struct clients *clients_create(struct cluster *cluster)
{
	struct clients *clients = calloc(1, sizeof(*clients));
	assert(clients);
	clients->cluster = cluster;
	return clients;
}

void clients_destroy(struct clients *clients)
{
	free(clients);
}

/* ---- submitting, again and again where a coordinator is not there */

static void submit_later(struct client *client, uint64_t delay_ns);

static uint32_t pick_coordinator(struct cluster *c)
{
	uint32_t up[MEMBERS_MAX], count = 0;
	for (uint32_t i = 0; i < c->member_count; i++)
		if (c->members[i].kind == COORDINATOR && sim_up(c->sim, i))
			up[count++] = i;
	return count ? up[sim_random(c->sim, count)] : UINT32_MAX;
}

static void finish_client(struct client *client)
{
	struct clients *all = client->cluster->clients;
	assert(client->state != CLIENT_DONE);
	client->state = CLIENT_DONE;
	all->done++;
	all->counts.done++;
}

static void on_cancel(void *context, uint64_t submission)
{
	struct client *client = context;
	if (client->state != CLIENT_RUNNING || client->submission != submission)
		return;
	client->cancel_sent = true;
	client->cluster->clients->counts.canceled++;
	coord_cancel(client->cluster->members[client->coordinator].coord, client->handle,
		     sim_local(client->cluster->sim, client->coordinator));
}

static void refused(struct client *client, enum err e, const struct why *why)
{
	struct clients *all = client->cluster->clients;
	all->counts.refused++;
	if (e != ERR_UNAVAILABLE && e != ERR_AGAIN && e != ERR_NOT_FOUND)
		cluster_fail(client->cluster, "I4: request %u is refused: %s (%s)", client->number, err_text(e), why->text);
	client->state = CLIENT_WAITING;
	submit_later(client, 150 * MS);
}

/* Runs on the coordinator's node: it waits while that one is stopped, and is lost with it. */
static void on_submit(void *context, uint64_t number)
{
	struct client *client = context;
	struct cluster *c = client->cluster;
	const struct client_request *r = &client->request;
	if (client->submission != number || client->state != CLIENT_RUNNING)
		return;
	char id[24];
	snprintf(id, sizeof(id), "req-%u", client->number);
	struct coord_request request = {
		.user = client,
		.id = id,
		.model = "toy",
		.tenant = tenants[r->tenant],
		.share = {.weight = 1 + r->tenant, .running_max = r->tenant == 2 ? 6 : 0},
		.salt = (const uint8_t *)tenants[r->tenant],
		.salt_length = (uint32_t)strlen(tenants[r->tenant]),
		.tokens = r->prompt,
		.prompt_count = r->prompt_count,
		.choice_count = r->choice_count,
		.structure = r->sampling.structured ? TOY_STRUCTURE : "",
		.sampling = r->sampling,
		.class = (enum coord_class)(client->number / 3 % COORD_CLASSES),
	};
	uint64_t retry_after_ns = 0;
	struct why why = {0};
	c->clients->counts.submitted++;
	uint64_t handle = 0;
	enum err e = coord_submit(c->members[client->coordinator].coord, &request,
				  sim_local(c->sim, client->coordinator), &why, &handle, &retry_after_ns);
	if (e != ERR_OK) {
		refused(client, e, &why);
		return;
	}
	client->handle = handle;
	if (client->state == CLIENT_RUNNING && client->submission == number && r->cancel_ns)
		sim_at(c->sim, sim_now(c->sim) + r->cancel_ns, client->coordinator, on_cancel, client, number);
}

static void on_arrive(void *context, uint64_t submission)
{
	struct client *client = context;
	struct cluster *c = client->cluster;
	if (client->state != CLIENT_WAITING || client->submission != submission)
		return;
	uint32_t coordinator = pick_coordinator(c);
	if (coordinator == UINT32_MAX) {
		submit_later(client, 200 * MS);
		return;
	}
	client->state = CLIENT_RUNNING;
	client->coordinator = coordinator;
	client->submission++;
	client->cancel_sent = false;
	client->scored = 0;
	memset(client->received, 0, sizeof(client->received));
	memset(client->finished, 0, sizeof(client->finished));
	sim_at(c->sim, sim_now(c->sim), coordinator, on_submit, client, client->submission);
}

static void submit_later(struct client *client, uint64_t delay_ns)
{
	struct sim *sim = client->cluster->sim;
	sim_at(sim, sim_now(sim) + delay_ns, UINT32_MAX, on_arrive, client, client->submission);
}

void clients_coordinator_died(struct clients *all, uint32_t member)
{
	for (uint32_t i = 0; i < all->counts.requests; i++) {
		struct client *client = &all->list[i];
		if (client->state != CLIENT_RUNNING || client->coordinator != member)
			continue;
		all->counts.lost++;
		client->state = CLIENT_WAITING;
		submit_later(client, 50 * MS);
	}
}

/* ---- what the coordinator says */

static void on_scores(void *context, const struct coord_scores *scores)
{
	struct client *client = scores->user;
	struct cluster *c = context;
	const struct client_request *r = &client->request;
	if (client->state != CLIENT_RUNNING || !r->sampling.prompt_logprobs)
		cluster_fail(c, "request %u: scores that nobody asked for", client->number);
	for (uint32_t i = 0; i < scores->count; i++) {
		uint32_t position = scores->position + i;
		if (position != client->scored + 1 || position >= r->prompt_count)
			cluster_fail(c, "request %u: score of position %u, expected %u of %u", client->number, position,
				     client->scored + 1, r->prompt_count);
		const struct sample *score = &scores->scores[i];
		if (score->token != r->prompt[position] || score->logprob != client->expected_scores[position - 1])
			cluster_fail(c, "request %u: WRONG SCORE %g at position %u, expected %g", client->number,
				     (double)score->logprob, position, (double)client->expected_scores[position - 1]);
		client->scored++;
	}
}

static enum coord_more on_token(void *context, const struct coord_token *token)
{
	struct client *client = token->user;
	struct cluster *c = context;
	uint32_t choice = token->choice;
	if (client->state != CLIENT_RUNNING || choice >= client->request.choice_count)
		cluster_fail(c, "I5: request %u: a token of choice %u after its end", client->number, choice);
	uint32_t n = client->received[choice];
	if (client->request.sampling.prompt_logprobs && client->scored + 1 != client->request.prompt_count)
		cluster_fail(c, "request %u: a token after %u scores of %u", client->number, client->scored,
			     client->request.prompt_count - 1);
	if (client->finished[choice] || n >= client->expected_count[choice])
		cluster_fail(c, "I5: request %u.%u: a token too many", client->number, choice);
	if (token->position != client->request.prompt_count + n)
		cluster_fail(c, "I5: request %u.%u: position %u, expected %u", client->number, choice, token->position,
			     client->request.prompt_count + n);
	if (token->sample->token != client->expected[choice][n])
		cluster_fail(c, "I1: request %u.%u: WRONG TOKEN %u at position %u, expected %u", client->number, choice,
			     token->sample->token, token->position, client->expected[choice][n]);
	client->received[choice] = n + 1;
	c->clients->counts.tokens++;
	bool last = n + 1 == client->expected_count[choice];
	if ((enum finish)token->finish != (last ? client->expected_finish[choice] : FINISH_NONE))
		cluster_fail(c, "I1: request %u.%u: finish %d at token %u of %u", client->number, choice, (int)token->finish,
			     n + 1, client->expected_count[choice]);
	client->finished[choice] = last;
	if (choice == 0 && !last && client->request.enough == n + 1) {
		client->finished[0] = true;
		return COORD_ENOUGH;
	}
	return COORD_MORE;
}

static void add_accounting(struct client_counts *counts, const struct coord_accounting *a)
{
	counts->computed += a->computed;
	counts->reused += a->reused;
	counts->fetched += a->fetched;
	counts->transferred += a->transferred;
	uint64_t bad = a->miss_deadline + a->miss_digest + a->miss_generation + a->miss_gone;
	counts->misses += a->miss_not_found + bad;
	counts->misses_bad += bad;
}

static void check_complete(struct cluster *c, const struct client *client, const struct coord_outcome *outcome)
{
	for (uint32_t i = 0; i < client->request.choice_count; i++) {
		if (!client->finished[i])
			cluster_fail(c, "I5: request %u.%u ends ok after %u of %u tokens", client->number, i,
				     client->received[i], client->expected_count[i]);
		if (outcome->generated[i] != client->received[i])
			cluster_fail(c, "I5: request %u.%u: %u tokens in the outcome, %u came", client->number, i,
				     outcome->generated[i], client->received[i]);
	}
}

static uint32_t common(const struct client *a, const struct client *b, uint32_t choice_a, uint32_t choice_b)
{
	uint32_t n = 0;
	for (;; n++) {
		uint32_t at_a = n - a->request.prompt_count, at_b = n - b->request.prompt_count;
		bool prompt_a = n < a->request.prompt_count, prompt_b = n < b->request.prompt_count;
		if ((!prompt_a && at_a >= a->expected_count[choice_a]) || (!prompt_b && at_b >= b->expected_count[choice_b]))
			return n;
		if ((prompt_a ? a->request.prompt[n] : a->expected[choice_a][at_a]) !=
		    (prompt_b ? b->request.prompt[n] : b->expected[choice_b][at_b]))
			return n;
	}
}

/* I11: what a request found cached, somebody of its own tenant had computed: no more than the longest beginning that it
 * shares with any of them.  What its nodes found only if it needed one try: a later one finds what the first left, and a first
 * one that was given up and wakes may find what the later one left (seed 16489). */
static void check_tenant(struct cluster *c, const struct client *client, const struct coord_outcome *outcome)
{
	const struct clients *all = c->clients;
	const struct coord_attempt *first = &outcome->attempt[0];
	uint32_t shared = 0;
	for (uint32_t i = 0; i < all->counts.requests; i++) {
		const struct client *other = &all->list[i];
		if (other == client || other->submission == 0 || other->request.tenant != client->request.tenant)
			continue;
		for (uint32_t choice = 0; choice < other->request.choice_count; choice++) {
			uint32_t n = common(client, other, 0, choice);
			shared = n > shared ? n : shared;
		}
	}
	if (outcome->cached_tokens > shared)
		cluster_fail(c, "I11: request %u of tenant \"%s\" is told of %llu tokens cached, its tenant knows %u", client->number,
			     tenants[client->request.tenant], (unsigned long long)outcome->cached_tokens, shared);
	uint64_t prefill = first->prefill.reused + first->prefill.fetched, decode = first->decode.reused;
	if (outcome->attempts == 1 && (prefill > shared || decode > shared))
		cluster_fail(c, "I11: request %u of tenant \"%s\" found %llu and %llu tokens cached, its tenant knows %u",
			     client->number, tenants[client->request.tenant], (unsigned long long)prefill,
			     (unsigned long long)decode, shared);
}

static void on_end(void *context, const struct coord_outcome *outcome)
{
	struct client *client = outcome->user;
	struct cluster *c = context;
	struct clients *all = c->clients;
	if (client->state != CLIENT_RUNNING)
		cluster_fail(c, "I5: request %u ends twice", client->number);
	add_accounting(&all->counts, &outcome->prefill);
	add_accounting(&all->counts, &outcome->decode);
	all->counts.recoveries += outcome->recoveries;
	if (client->submission == 1 && outcome->attempts_listed > 0)
		check_tenant(c, client, outcome);
	if (outcome->error == ERR_OK) {
		check_complete(c, client, outcome);
		finish_client(client);
	} else if (outcome->error == ERR_CANCELED && client->cancel_sent) {
		finish_client(client);
	} else if (outcome->error == ERR_AGAIN || (outcome->error == ERR_UNAVAILABLE && !all->demand)) {
		all->counts.failed++;
		client->state = CLIENT_WAITING;
		submit_later(client, 200 * MS);
	} else {
		cluster_fail(c, "I4: request %u ends with %s (%s)", client->number, err_name(outcome->error),
			     outcome->why.text);
	}
}

struct coord_hooks clients_hooks(struct cluster *cluster)
{
	return (struct coord_hooks){.context = cluster, .on_token = on_token, .on_scores = on_scores, .on_end = on_end};
}

/* ---- making requests */

void clients_add(struct clients *all, const struct client_request *request)
{
	assert(all->counts.requests < CLIENTS_MAX && request->choice_count <= CHOICES_MAX);
	struct client *client = &all->list[all->counts.requests];
	*client = (struct client){.cluster = all->cluster, .number = all->counts.requests++, .request = *request};
	for (uint32_t i = 0; i < request->choice_count; i++)
		client->expected_count[i] = toy_oracle(all->cluster->options.kind, request->prompt, request->prompt_count, &request->sampling, i,
						       client->expected[i], &client->expected_finish[i]);
	toy_score_oracle(all->cluster->options.kind, request->prompt, request->prompt_count, client->expected_scores);
	if (all->cluster->options.cut.requests[client->number / 64] >> client->number % 64 & 1)
		finish_client(client);
	else
		sim_at(all->cluster->sim, request->at_ns, UINT32_MAX, on_arrive, client, 0);
}

/* Prompts share their beginnings: a few streams of text, cut at random lengths, some with an end of their own.  Some
 * ends are whole blocks of one token, so that equal blocks stand behind different beginnings. */
static void draw_prompt(struct clients *all, struct client_request *request)
{
	struct sim *sim = all->cluster->sim;
	uint64_t stream = sim_random(sim, 4);
	uint32_t shared = 1 + (uint32_t)sim_random(sim, 56), own = (uint32_t)sim_random(sim, 3) * 4;
	bool same = sim_random(sim, 4) == 0;
	if (same) {
		shared = (shared + TOY_BLOCK_TOKENS - 1) / TOY_BLOCK_TOKENS * TOY_BLOCK_TOKENS;
		own = 2 * TOY_BLOCK_TOKENS + 1;
		/* Three answers to the longest of these are more than the smallest node's blocks. */
		request->choice_count = request->choice_count < 2 ? request->choice_count : 2;
	}
	request->prompt_count = shared + own;
	for (uint32_t i = 0; i < request->prompt_count; i++)
		request->prompt[i] = i < shared ? (uint32_t)(rng_at(all->cluster->options.seed, stream, i) % TOY_VOCAB)
				     : same     ? 5
						: (uint32_t)sim_random(sim, TOY_VOCAB);
}

void clients_draw(struct clients *all, uint32_t count, uint64_t from_ns, uint64_t to_ns)
{
	struct sim *sim = all->cluster->sim;
	for (uint32_t i = 0; i < count; i++) {
		struct client_request request = {
			.at_ns = from_ns + sim_random(sim, to_ns - from_ns),
			.tenant = (uint32_t)sim_random(sim, TENANTS),
			.choice_count = sim_random(sim, 3) ? 1 : 2 + (uint32_t)sim_random(sim, 2),
			.sampling = {.seed = sim_random(sim, UINT64_MAX), .temperature = sim_random(sim, 2) ? 1 : 0,
				     .top_p = 1, .repetition_penalty = 1, .logprobs = -1,
				     .max_tokens = 1 + (uint32_t)sim_random(sim, 40),
				     .ignore_eos = sim_random(sim, 2),
				     .structured = rng_at(all->cluster->options.seed, i, 11) % 4 == 0,
				     .prompt_logprobs = rng_at(all->cluster->options.seed, i, 7) % 4 == 0},
			.cancel_ns = sim_random(sim, 8) ? 0 : 1 + sim_random(sim, 300 * MS),
			.enough = sim_random(sim, 12) ? 0 : 1 + (uint32_t)sim_random(sim, 10),
		};
		if (sim_random(sim, 2))
			request.sampling.min_tokens = (uint32_t)sim_random(sim, request.sampling.max_tokens);
		for (uint32_t k = sim_random(sim, 2) ? 0 : 6; k > 0; k--)
			request.sampling.stop_ids[request.sampling.stop_id_count++] = (uint32_t)sim_random(sim, TOY_VOCAB);
		draw_prompt(all, &request);
		clients_add(all, &request);
	}
}

void clients_demand(struct clients *all)
{
	all->demand = true;
}

bool clients_done(const struct clients *all)
{
	return all->done == all->counts.requests;
}

void clients_counts(const struct clients *all, struct client_counts *ret_counts)
{
	*ret_counts = all->counts;
}

void clients_print(const struct clients *all)
{
	for (uint32_t i = 0; i < all->counts.requests; i++) {
		const struct client *client = &all->list[i];
		if (client->state != CLIENT_DONE)
			fprintf(stderr, "request %u (%u tokens, %u choices) %s at coordinator %u, submission %u: %u of %u tokens\n",
				i, client->request.prompt_count, client->request.choice_count,
				client->state == CLIENT_RUNNING ? "runs" : "waits", client->coordinator,
				client->submission, client->received[0], client->expected_count[0]);
	}
}

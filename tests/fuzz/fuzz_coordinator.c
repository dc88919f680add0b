/* Any bytes as what happens to a coordinator: members, connections, messages, requests, time.  After each event every
 * invariant of the core holds; each request is told its tokens in order and its end once; and when nobody answers any
 * more, every request ends. */
#include <assert.h>
#include <stdlib.h>

#include "coordinator/core.h"
#include "said.h"

enum { CONNS = 6, REQUESTS = 64, CHOICES = 4 };

#define MS 1000000ull

struct client {
	uint64_t id;
	uint32_t prompt_count, choices;
	uint32_t tokens[CHOICES];
	bool finished[CHOICES];
	bool accepted;
	uint32_t ends;
};

struct world {
	struct said said;
	struct env env;
	struct coord *coord;
	void *memory;
	uint64_t now_ns;
	bool open[CONNS]; /* connection i + 1 */
	uint64_t dials[16];
	uint32_t dial_count;
	struct client clients[REQUESTS];
	uint32_t client_count;
};

static void on_send(void *context, uint32_t conn, const Wire__Envelope *envelope)
{
	struct world *w = context;
	assert(conn >= 1 && conn <= CONNS && w->open[conn - 1]);
	said_heard(&w->said, envelope);
}

static void on_close(void *context, uint32_t conn)
{
	struct world *w = context;
	assert(conn >= 1 && conn <= CONNS && w->open[conn - 1]);
	w->open[conn - 1] = false;
}

static void on_dial(void *context, uint64_t node)
{
	struct world *w = context;
	if (w->dial_count < sizeof(w->dials) / sizeof(*w->dials))
		w->dials[w->dial_count++] = node;
}

static void on_link_open(void *context, uint64_t node, uint64_t incarnation, const uint8_t *address, size_t length)
{
}

static void on_link_close(void *context, uint64_t node)
{
}

static enum coord_more on_token(void *context, const struct coord_token *token)
{
	struct world *w = context;
	struct client *c = token->user;
	assert(c >= w->clients && c < w->clients + REQUESTS && c->ends == 0 && token->choice < c->choices);
	assert(!c->finished[token->choice]);
	assert(token->position == c->prompt_count + c->tokens[token->choice]);
	c->tokens[token->choice]++;
	bool enough = bytes_u8(&w->said.in) == 77;
	c->finished[token->choice] = enough || token->finish != WIRE__FINISH__FINISH_NONE;
	return enough ? COORD_ENOUGH : COORD_MORE;
}

static void on_end(void *context, const struct coord_outcome *outcome)
{
	struct client *c = outcome->user;
	assert(c->ends == 0);
	c->ends = 1;
	for (uint32_t i = 0; i < c->choices; i++) {
		assert(outcome->generated[i] == c->tokens[i]);
		assert(outcome->error != ERR_OK || c->finished[i]);
	}
}

/* ---- events */

static void member(struct world *w)
{
	static const Wire__Role roles[] = {WIRE__ROLE__ROLE_PREFILL, WIRE__ROLE__ROLE_DECODE, WIRE__ROLE__ROLE_BOTH,
					   WIRE__ROLE__ROLE_KVSTORE};
	struct bytes *in = &w->said.in;
	uint64_t node = 1 + bytes_below(in, SAID_NODES), only[2] = {node, 1 + bytes_below(in, SAID_NODES)};
	uint8_t what = bytes_u8(in);
	struct coord_member m = {.node = node, .incarnation = 1 + bytes_below(in, 2), .role = roles[node % 4], .name = "node",
				 .compat = {{9}}, .model_count = 1, .models = {"m"}, .block_tokens = 4, .context_max = 128};
	if (what < 200)
		coord_member_set(w->coord, &m, w->now_ns);
	else if (what < 240)
		coord_member_remove(w->coord, node, w->now_ns);
	else
		coord_members_only(w->coord, only, 2, w->now_ns);
}

/* One that was dialled answers, mostly by a greeting. */
static void connect(struct world *w)
{
	struct bytes *in = &w->said.in;
	if (!w->dial_count)
		return;
	uint64_t node = w->dials[--w->dial_count];
	uint32_t conn = 1;
	while (conn <= CONNS && w->open[conn - 1])
		conn++;
	if (conn > CONNS || bytes_below(in, 16) == 15) {
		coord_dial_failed(w->coord, node, w->now_ns);
		return;
	}
	w->open[conn - 1] = true;
	coord_opened(w->coord, conn, node, w->now_ns);
	static const Wire__Role roles[] = {WIRE__ROLE__ROLE_PREFILL, WIRE__ROLE__ROLE_DECODE, WIRE__ROLE__ROLE_BOTH,
					   WIRE__ROLE__ROLE_KVSTORE};
	uint8_t odd = bytes_u8(in);
	const Wire__Envelope *hello = said_hello(&w->said, odd == 255 ? bytes_u8(in) : node, odd == 254 ? 0 : 1 + odd % 2,
						 odd == 253 ? WIRE__ROLE__ROLE_COORDINATOR : roles[node % 4]);
	if (hello && w->open[conn - 1])
		coord_message(w->coord, conn, hello, w->now_ns);
}

static void submit(struct world *w)
{
	struct bytes *in = &w->said.in;
	if (w->client_count == REQUESTS)
		return;
	struct client *c = &w->clients[w->client_count];
	uint32_t tokens[64];
	*c = (struct client){.prompt_count = 1 + bytes_below(in, 40), .choices = 1 + bytes_below(in, CHOICES)};
	for (uint32_t i = 0; i < c->prompt_count; i++)
		tokens[i] = i / 4;
	struct coord_request request = {
		.user = c, .id = "r", .model = bytes_below(in, 16) ? "m" : "other", .tenant = "", .tokens = tokens,
		.prompt_count = c->prompt_count, .choice_count = c->choices, .class = (enum coord_class)bytes_below(in, COORD_CLASSES),
		.sampling = {.seed = 1, .top_p = 1, .repetition_penalty = 1, .max_tokens = 1 + bytes_below(in, 100), .logprobs = -1},
		.deadline_ns = bytes_below(in, 4) ? 0 : w->now_ns + bytes_below(in, 100) * 100 * MS,
	};
	struct why why = {0};
	uint64_t retry_ns = 0;
	w->client_count++; /* hooks may come before it returns */
	c->accepted = true;
	enum err e = coord_submit(w->coord, &request, w->now_ns, &why, &c->id, &retry_ns);
	if (e == ERR_OK)
		return;
	assert(c->ends == 0 && (e != ERR_UNAVAILABLE || retry_ns));
	w->client_count--;
}

static void leave(struct world *w)
{
	struct bytes *in = &w->said.in;
	uint32_t which = bytes_below(in, REQUESTS), choice = bytes_below(in, CHOICES);
	if (which >= w->client_count)
		return;
	struct client *c = &w->clients[which];
	if (bytes_below(in, 2)) {
		coord_cancel(w->coord, c->id, w->now_ns);
		return;
	}
	if (choice >= c->choices)
		return;
	bool was = c->finished[choice];
	c->finished[choice] = true; /* the end may come from inside */
	coord_choice_done(w->coord, c->id, choice, w->now_ns);
	(void)was;
}

static void tick(struct world *w, uint64_t ns)
{
	w->now_ns += ns;
	coord_tick(w->coord, w->now_ns);
}

static void one(struct world *w)
{
	struct bytes *in = &w->said.in;
	uint8_t what = bytes_u8(in);
	uint32_t conn = what / 12 % CONNS + 1;
	const Wire__Envelope *envelope;
	switch (what % 12) {
	case 0:
		member(w);
		return;
	case 1:
		connect(w);
		return;
	case 2:
		submit(w);
		return;
	case 3:
		leave(w);
		return;
	case 4:
		tick(w, (bytes_below(in, 8) ? 20 : 600) * MS);
		return;
	case 5:
		if (bytes_below(in, 8) || !w->open[conn - 1])
			return;
		w->open[conn - 1] = false;
		coord_closed(w->coord, conn, w->now_ns);
		return;
	case 6:
		if (bytes_u8(in) == 255)
			coord_drain(w->coord);
		return;
	default:
		envelope = said_message(&w->said);
		if (envelope && w->open[conn - 1])
			coord_message(w->coord, conn, envelope, w->now_ns);
		return;
	}
}

/* Everybody falls silent: within the sum of the patience of all stages every request ends. */
static void end(struct world *w)
{
	for (int i = 0; i < 400 && (i < 12 || coord_requests(w->coord)); i++) {
		w->dial_count = 0;
		tick(w, 500 * MS);
	}
	coord_check(w->coord);
	assert(coord_requests(w->coord) == 0);
	for (uint32_t i = 0; i < w->client_count; i++)
		assert(w->clients[i].ends == 1);
	struct coord_counters counters;
	coord_counters(w->coord, &counters);
	assert(counters.tokens_kept == 0 && counters.jobs_running == 0 && counters.sessions == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	struct world *w = calloc(1, sizeof(*w));
	said_init(&w->said, data, length);
	w->now_ns = 1000 * MS;
	w->env = (struct env){.context = w, .send = on_send, .close = on_close, .dial = on_dial, .link_open = on_link_open,
			      .link_close = on_link_close};
	struct coord_options options = {
		.node = 99, .incarnation = 1, .name = "coordinator 1", .nodes_max = 5, .requests_max = 6, .choices_max = CHOICES,
		.queue_max = 3, .context_max = 128, .tokens_max = 2048, .blocks_max = 32, .held_max = 16, .attempts_max = 4,
		.env = &w->env, .hooks = {.context = w, .on_token = on_token, .on_end = on_end},
	};
	w->memory = aligned_alloc(64, (coord_bytes(&options) + 63) / 64 * 64);
	w->coord = coord_init(w->memory, &options);
	while (w->said.in.left) {
		one(w);
		coord_check(w->coord);
	}
	end(w);
	free(w->memory);
	free(w);
	return 0;
}

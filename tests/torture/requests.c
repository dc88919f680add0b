/* A request through everything in one process: service, coordinator core, node core, engine (tools/solo.c's parts). */
#include <stdlib.h>
#include <string.h>

#include "coordinator/core.h"
#include "coordinator/service.h"
#include "fail.h"
#include "model/model_dir.h"
#include "net/loop.h"
#include "tools/local_wire.h"
#include "tools/solo_node.h"
#include "torture.h"

#define MODEL GOLDEN_DIR "/engine/llama-f32"

static struct model_dir *model; /* opened once: opening it is a scenario of its own */
static char expected[8192];     /* the answer of the first run */

struct world {
	struct loop *loop;
	struct loop_timer *timer;
	struct served_model served;
	struct local_wire *wire;
	struct solo_node *node;
	struct shell_core node_core;
	struct service *service;
	void *memory;
	struct coord *coord;
	int ready, ended, status;
	char answer[8192];
	size_t length;
};

static void begin(void)
{
	static const struct model_dir_options everything = {0};
	struct why why = {0};
	if (!model && model_dir_open(MODEL, &everything, &why, &model) != ERR_OK)
		torture_wrong(__FILE__, __LINE__, why.text);
}

static uint64_t now(void *context)
{
	return loop_now_ns(((struct world *)context)->loop);
}

static void tick(struct loop_timer *timer, void *arg)
{
	struct world *w = arg;
	uint64_t now_ns = loop_now_ns(w->loop);
	loop_timer_arm(timer, 2000000);
	coord_tick(w->coord, now_ns);
	service_tick(w->service);
	w->node_core.tick(w->node_core.core, now_ns);
	w->ready = service_ready(w->service);
}

static void opened(void *core, uint32_t conn, uint64_t dialed, uint64_t now_ns)
{
	coord_opened(core, conn, dialed, now_ns);
}

static void dial_failed(void *core, uint64_t dialed, uint64_t now_ns)
{
	coord_dial_failed(core, dialed, now_ns);
}

static void closed(void *core, uint32_t conn, uint64_t now_ns)
{
	coord_closed(core, conn, now_ns);
}

static void message(void *core, uint32_t conn, const Wire__Envelope *envelope, uint64_t now_ns)
{
	coord_message(core, conn, envelope, now_ns);
}

/* ---- the client */

static void keep(struct world *w, const char *data, size_t length)
{
	torture_check(w->length + length < sizeof(w->answer));
	memcpy(w->answer + w->length, data, length);
	w->length += length;
}

static void on_reply(void *context, const struct service_answer *answer)
{
	struct world *w = context;
	torture_check(!w->ended);
	keep(w, answer->body, answer->length);
	w->status = answer->status;
	w->ended = 1;
}

static void on_stream_start(void *context)
{
	((struct world *)context)->status = 200;
}

static bool on_stream_write(void *context, const char *data, size_t length, size_t echoed)
{
	(void)echoed;
	keep(context, data, length);
	return true;
}

static void on_stream_end(void *context)
{
	struct world *w = context;
	torture_check(!w->ended);
	w->ended = 1;
}

/* ---- the world */

static enum err open_node(struct world *w, struct why *why)
{
	served_model_borrow(model, NULL, 0, &w->served);
	enum err e = local_wire_create(w->loop, &w->wire);
	if (e != ERR_OK)
		return e;
	struct solo_node_options options = {.model = model, .env = local_wire_env(w->wire, LOCAL_NODE), .threads = 1,
					    .kv_bytes = 1 << 20, .block_tokens = 4, .chunk_tokens = 16, .batch_tokens_max = 64,
					    .context_max = w->served.context_max};
	e = solo_node_create(w->loop, &options, &w->node, why);
	if (e != ERR_OK)
		return e;
	w->node_core = solo_node_core(w->node);
	local_wire_attach(w->wire, LOCAL_NODE, &w->node_core);
	return ERR_OK;
}

static enum err open_coordinator(struct world *w)
{
	struct service_options service = {.models = &w->served, .model_count = 1, .context = w, .now_ns = now};
	enum err e = service_create(&service, &w->service);
	if (e != ERR_OK)
		return e;
	struct coord_options options = {.node = 1, .incarnation = 1, .name = "torture", .nodes_max = 4,
					.context_max = w->served.context_max, .time_factor = 10, .blocks_max = 1024,
					.tokens_max = 1 << 16, .requests_max = 8,
					.env = local_wire_env(w->wire, LOCAL_COORDINATOR), .hooks = service_hooks(w->service)};
	w->memory = calloc(1, coord_bytes(&options));
	if (!w->memory)
		return ERR_NOMEM;
	w->coord = coord_init(w->memory, &options);
	service_attach(w->service, w->coord);
	struct shell_core core = {.core = w->coord, .opened = opened, .dial_failed = dial_failed, .closed = closed,
				  .message = message};
	local_wire_attach(w->wire, LOCAL_COORDINATOR, &core);
	struct coord_member member;
	solo_node_member(w->node, &member);
	return coord_member_set(w->coord, &member, loop_now_ns(w->loop));
}

static void close_all(struct world *w)
{
	service_destroy(w->service);
	free(w->memory);
	solo_node_destroy(w->node);
	local_wire_destroy(w->wire);
	loop_timer_destroy(w->timer);
	loop_destroy(w->loop);
}

/* The same answer as in the first run, or an error that says so; never anything else (law 1). */
static enum err check_answer(struct world *w, struct why *why)
{
	w->answer[w->length] = 0;
	char *created = strstr(w->answer, "\"text\"");
	if (w->status != 200 || !created || strstr(w->answer, "\"error\""))
		return why_set(why, ERR_UNAVAILABLE, "status %d: %.200s", w->status, w->answer);
	if (!expected[0])
		strcpy(expected, created);
	torture_check(strncmp(created, expected, 40) == 0);
	return ERR_OK;
}

static enum err ask(struct world *w, const char *body, struct why *why)
{
	struct service_sink sink = {w, on_reply, on_stream_start, on_stream_write, on_stream_end};
	struct service_post post = {.kind = API_COMPLETION, .body = body, .length = strlen(body)};
	loop_timer_arm(w->timer, 0);
	enum err e = torture_wait(w->loop, &w->ready, why);
	if (e != ERR_OK)
		return e;
	struct service_call *call = service_post(w->service, &post, &sink);
	e = torture_wait(w->loop, &w->ended, why);
	if (e == ERR_OK)
		return check_answer(w, why);
	if (call && !w->ended)
		service_gone(call);
	return e;
}

static enum err run(const char *body, struct why *why)
{
	struct world *w;
	fail_pause();
	w = calloc(1, sizeof(*w));
	fail_resume();
	enum err e = loop_create(&w->loop);
	if (e == ERR_OK)
		e = loop_timer_create(w->loop, tick, w, &w->timer);
	if (e == ERR_OK)
		e = open_node(w, why);
	if (e == ERR_OK)
		e = open_coordinator(w);
	if (e == ERR_OK)
		e = ask(w, body, why);
	close_all(w);
	free(w);
	return e == ERR_OK || why->text[0] ? e : why_set(why, e, "request");
}

static enum err whole(struct why *why)
{
	return run("{\"model\":\"llama-f32\",\"prompt\":[1,2,3,4,5,6,7],\"max_tokens\":4,\"temperature\":0,\"ignore_eos\":true}", why);
}

static enum err streamed(struct why *why)
{
	return run("{\"model\":\"llama-f32\",\"prompt\":[1,2,3,4,5,6,7],\"max_tokens\":4,\"temperature\":0,\"stream\":true,"
		   "\"logprobs\":2,\"n\":2,\"ignore_eos\":true}", why);
}

const struct scenario request_scenarios[] = {
	{"request, whole answer", whole, begin, 24, true},
	{"request, streamed", streamed, begin, 24, true},
	{0},
};

/* baton solo: the whole of Baton in one process, without a socket.  Start reading here.
 *
 *   a request (JSON)                                              the answer (JSON, or text)
 *        |                                                                  ^
 *   service      parses, tokenises, detokenises     coordinator/service.h   |
 *        v                                                                  |
 *   coordinator  decides who does what              coordinator/core.h      ^
 *        v          two queues of packed messages   tools/local_wire.h      |
 *   node         prefill and decode, both here      node/core.h             ^
 *        v                                                                  |
 *   engine       layers, sampler                    engine/engine.h  -------+
 *
 * Coordinator and node are pure state machines (DESIGN law 4): here they are, with the clock and the wiring around them
 * in one page.  In a cluster the same two run in processes of their own, with streams and the link between them
 * (coordinator/main.c, node/main.c); by law 1 they give the very same tokens, which is what tests compare. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/options.h"
#include "coordinator/core.h"
#include "coordinator/service.h"
#include "model/model_dir.h"
#include "net/loop.h"
#include "tools/commands.h"
#include "tools/local_wire.h"
#include "tools/solo_feed.h"
#include "tools/solo_node.h"

enum { SOLO_OPTIONS = 21, COORDINATOR_ID = 1, TIME_FACTOR = 10 };

static const uint64_t TICK_NS = 20000000;

struct solo {
	/* Settings. */
	const char *model_dir, *prompt, *requests, *temperature, *device, *numerics, *isa, *quantization;
	bool chat, as_json;
	uint64_t max_tokens, seed, concurrency, threads, tensor_parallel_size, row_segments, kv_bytes, block_tokens, chunk_tokens,
		batch_tokens_max;
	const char *log_level;
	/* Running, from the bottom to the top. */
	struct loop *loop;
	struct loop_timer *timer;
	struct model_dir *model;
	struct served_model served;
	struct local_wire *wire;
	struct solo_node *node;
	struct shell_core node_core;
	struct service *service;
	void *memory;
	struct coord *coord;
	struct solo_feed *feed;
	bool started;
};

/* ---- the coordinator's side of the wire */

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

/* ---- time */

static uint64_t now(void *context)
{
	return loop_now_ns(((struct solo *)context)->loop);
}

static void tick(struct loop_timer *timer, void *arg)
{
	struct solo *solo = arg;
	uint64_t now_ns = loop_now_ns(solo->loop);
	loop_timer_arm(timer, TICK_NS);
	coord_tick(solo->coord, now_ns);
	service_tick(solo->service);
	solo->node_core.tick(solo->node_core.core, now_ns);
	if (solo->started || !service_ready(solo->service))
		return;
	solo->started = true; /* coordinator and node have greeted each other */
	solo_feed_start(solo->feed, solo->service);
}

static void all_done(void *context)
{
	loop_stop(((struct solo *)context)->loop);
}

/* ---- putting it together */

static enum err open_node(struct solo *solo, struct why *why)
{
	const struct model_dir_options with_weights = {.quantization = solo->quantization};
	enum err e = model_dir_open(solo->model_dir, &with_weights, why, &solo->model);
	if (e == ERR_OK)
		e = served_model_borrow(solo->model, NULL, 0, &solo->served);
	if (e == ERR_OK)
		e = local_wire_create(solo->loop, &solo->wire);
	if (e != ERR_OK)
		return e;
	struct solo_node_options options = {
		.model = solo->model,
		.env = local_wire_env(solo->wire, LOCAL_NODE),
		.device = solo->device,
		.numerics = solo->numerics,
		.isa = solo->isa,
		.threads = (uint32_t)solo->threads,
		.tensor_parallel_size = (uint32_t)solo->tensor_parallel_size,
		.row_segments = (uint32_t)solo->row_segments,
		.kv_bytes = solo->kv_bytes,
		.block_tokens = (uint32_t)solo->block_tokens,
		.chunk_tokens = (uint32_t)solo->chunk_tokens,
		.batch_tokens_max = (uint32_t)solo->batch_tokens_max,
		.context_max = solo->served.context_max,
	};
	e = solo_node_create(solo->loop, &options, &solo->node, why);
	if (e == ERR_OK) {
		solo->node_core = solo_node_core(solo->node);
		local_wire_attach(solo->wire, LOCAL_NODE, &solo->node_core);
	}
	return e;
}

static enum err open_coordinator(struct solo *solo)
{
	struct service_options service = {.models = &solo->served, .model_count = 1, .context = solo, .now_ns = now};
	enum err e = service_create(&service, &solo->service);
	if (e != ERR_OK)
		return e;
	struct coord_options options = {
		.node = COORDINATOR_ID,
		.incarnation = 1,
		.name = "solo",
		.nodes_max = 4,
		.queue_max = 65536,
		.requests_max = 4096,
		.context_max = solo->served.context_max,
		.time_factor = TIME_FACTOR,
		.env = local_wire_env(solo->wire, LOCAL_COORDINATOR),
		.hooks = service_hooks(solo->service),
	};
	solo->memory = calloc(1, coord_bytes(&options));
	if (!solo->memory)
		return ERR_NOMEM;
	solo->coord = coord_init(solo->memory, &options);
	service_attach(solo->service, solo->coord);
	struct shell_core core = {.core = solo->coord, .opened = opened, .dial_failed = dial_failed, .closed = closed,
				  .message = message};
	local_wire_attach(solo->wire, LOCAL_COORDINATOR, &core);
	struct coord_member member;
	solo_node_member(solo->node, &member);
	return coord_member_set(solo->coord, &member, loop_now_ns(solo->loop)); /* what etcd says in a cluster */
}

/* The one request of --prompt. */
static enum err add_prompt(struct solo *solo)
{
	json_t *body = json_pack("{s:s, s:b}", "model", solo->model->name, "stream", !solo->as_json);
	if (solo->chat)
		json_object_set_new(body, "messages", json_pack("[{s:s, s:s}]", "role", "user", "content", solo->prompt));
	else
		json_object_set_new(body, "prompt", json_string(solo->prompt));
	if (solo->max_tokens)
		json_object_set_new(body, "max_tokens", json_integer((json_int_t)solo->max_tokens));
	if (solo->seed != UINT64_MAX)
		json_object_set_new(body, "seed", json_integer((json_int_t)solo->seed));
	if (solo->temperature)
		json_object_set_new(body, "temperature", json_real(atof(solo->temperature)));
	char *text = json_dumps(body, JSON_COMPACT);
	enum err e = text ? solo_feed_add(solo->feed, solo->chat ? API_CHAT : API_COMPLETION, text) : ERR_NOMEM;
	free(text);
	json_decref(body);
	return e;
}

static enum err open_feed(struct solo *solo, struct why *why)
{
	struct solo_feed_options options = {.concurrency = (uint32_t)solo->concurrency, .context = solo, .done = all_done};
	enum err e = solo_feed_create(solo->loop, &options, &solo->feed);
	if (e == ERR_OK)
		e = solo->requests ? solo_feed_read(solo->feed, solo->requests, why) : add_prompt(solo);
	return e;
}

static void close_all(struct solo *solo)
{
	solo_feed_destroy(solo->feed);
	service_destroy(solo->service);
	served_model_fini(&solo->served);
	free(solo->memory);
	solo_node_destroy(solo->node);
	local_wire_destroy(solo->wire);
	model_dir_close(solo->model);
	loop_timer_destroy(solo->timer);
	loop_destroy(solo->loop);
}

static enum err check_settings(const struct solo *solo, struct why *why)
{
	if (!solo->model_dir)
		return why_set(why, ERR_INVALID, "--model DIR is missing: a Hugging Face directory");
	if (!solo->prompt == !solo->requests)
		return why_set(why, ERR_INVALID, "either --prompt TEXT or --requests FILE is needed");
	if (solo->chunk_tokens % solo->block_tokens != 0)
		return why_set(why, ERR_INVALID, "--prefill-chunk-tokens %llu is no multiple of --block-size %llu",
			       (unsigned long long)solo->chunk_tokens, (unsigned long long)solo->block_tokens);
	return ERR_OK;
}

static enum err run(struct solo *solo, struct why *why)
{
	enum err e = check_settings(solo, why);
	log_init("solo", strcmp(solo->log_level, "info") == 0 ? LOG_INFO : LOG_WARN, false);
	if (e == ERR_OK)
		e = loop_create(&solo->loop);
	if (e == ERR_OK)
		e = loop_timer_create(solo->loop, tick, solo, &solo->timer);
	if (e == ERR_OK)
		e = open_node(solo, why);
	if (e == ERR_OK)
		e = open_coordinator(solo);
	if (e == ERR_OK)
		e = open_feed(solo, why);
	if (e == ERR_OK) {
		loop_timer_arm(solo->timer, 0);
		loop_run(solo->loop);
		uint32_t failures = solo_feed_failures(solo->feed);
		if (failures)
			e = why_set(why, ERR_INVALID, "%u requests were answered with an error", failures);
	}
	close_all(solo);
	return e;
}

static void fill_table(struct solo *s, struct option *table)
{
	const struct option rows[SOLO_OPTIONS] = {
		{"model", OPTION_TEXT, &s->model_dir, 0, 0, "DIR", "Hugging Face directory"},
		{"prompt", OPTION_TEXT, &s->prompt, 0, 0, "TEXT", "what to go on from, or with --chat: to answer"},
		{"chat", OPTION_FLAG, &s->chat, 0, 0, NULL, "through the model's chat template"},
		{"max-tokens", OPTION_COUNT, &s->max_tokens, 0, 1 << 20, "N", "of the answer; default: as the API's"},
		{"seed", OPTION_COUNT, &s->seed, 0, 0, "N", "the same seed gives the same answer"},
		{"temperature", OPTION_TEXT, &s->temperature, 0, 0, "X", "0: always the likeliest token"},
		{"json", OPTION_FLAG, &s->as_json, 0, 0, NULL, "the API's answer as it is"},
		{"requests", OPTION_TEXT, &s->requests, 0, 0, "FILE", "lines of {\"path\":…, \"body\":…}; a line of JSON for each"},
		{"concurrency", OPTION_COUNT, &s->concurrency, 1, 1024, "N", "of --requests at once"},
		{"device", OPTION_TEXT, &s->device, 0, 0, "NAME", "auto (a GPU where there is one), cpu, cuda"},
		{"numerics", OPTION_TEXT, &s->numerics, 0, 0, "NAME", "exact, or fast: a GPU's class of its own (docs/gpu.md)"},
		{"isa", OPTION_TEXT, &s->isa, 0, 0, "NAME", "portable, avx2, avx512, …; default: the best there is"},
		{"quantization", OPTION_TEXT, &s->quantization, 0, 0, "NAME",
		 "none: weights of 8 bits become bf16; fp8: they are computed with as they are"},
		{"threads", OPTION_COUNT, &s->threads, 0, 1024, "N", "compute threads; 0: one a core"},
		{"tensor-parallel-size", OPTION_COUNT, &s->tensor_parallel_size, 1, 8, "N", "GPUs that share each layer out: 1, 2, 4, 8"},
		{"row-segments", OPTION_COUNT, &s->row_segments, 0, 8, "N", "of a GPU's sums; 0: tensor-parallel-size"},
		{"kv-bytes", OPTION_BYTES, &s->kv_bytes, 1 << 20, 0, "BYTES", "memory for KV blocks"},
		{"block-size", OPTION_COUNT, &s->block_tokens, 4, 256, "N", "tokens of a block"},
		{"prefill-chunk-tokens", OPTION_COUNT, &s->chunk_tokens, 4, 65536, "N", "most tokens of one prompt in a step"},
		{"max-num-batched-tokens", OPTION_COUNT, &s->batch_tokens_max, 64, 65536, "N", "tokens of a step"},
		{"log-level", OPTION_TEXT, &s->log_level, 0, 0, "LEVEL", "info or warn"},
	};
	memcpy(table, rows, sizeof(rows));
}

int command_solo(int argc, char **argv, char **environment)
{
	struct solo solo = {.seed = UINT64_MAX, .concurrency = 1, .threads = 1, .tensor_parallel_size = 1, .kv_bytes = 128 << 20, .block_tokens = 16,
			    .chunk_tokens = 256, .batch_tokens_max = 512, .log_level = "warn"};
	struct option table[SOLO_OPTIONS];
	fill_table(&solo, table);
	struct options options = {.program = "baton solo", .usage = "--model DIR --prompt TEXT | --requests FILE", .table = table,
				  .count = SOLO_OPTIONS, .environment = environment};
	struct why why = {0};
	enum err e = options_parse(&options, argc, argv, &why);
	if (e == ERR_OK && options.help)
		options_print_help(&options);
	else if (e == ERR_OK)
		e = run(&solo, &why);
	if (e != ERR_OK)
		fprintf(stderr, "baton solo: %s%s%s\n", err_text(e), why.text[0] ? ": " : "", why.text);
	options_fini(&options);
	return e == ERR_OK ? 0 : 1;
}

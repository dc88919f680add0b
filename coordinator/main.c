/* baton-coordinator: OpenAI's API in front of the pure core.  Wires core, service and HTTP to one process. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "coordinator/access.h"
#include "coordinator/core.h"
#include "coordinator/http_api.h"
#include "coordinator/leader.h"
#include "coordinator/service.h"
#include "net/exposure.h"
#include "net/loop.h"
#include "net/process.h"
#include "net/tls.h"

enum { COORDINATOR_OPTIONS = 26 };
#define OPENING_NS 2000000000ull /* etcd tells the members, and sessions begin, in less */

struct program {
	struct process_settings settings;
	const char *host;
	const char *ssl_certfile, *ssl_keyfile;
	struct tls *api_tls; /* NULL: plain HTTP */
	uint64_t port;
	struct option_list model_dirs;
	uint64_t context_max;
	uint64_t requests_max;
	uint64_t queue_max;
	uint64_t index_blocks;
	struct http_api_limits limits;
	uint64_t connections_max, queue_wait_s;
	struct option_list api_keys, admin_keys;
	const char *keys_file, *tenant_salt_file;
	bool metrics_public;
	uint64_t request_timeout_s;
	struct option_list origins;
	const char *chat_template;
	bool trust_request_template;
	const char *tool_parser, *reasoning_parser;
	bool auto_tool_choice;
	struct served_model models[SERVED_MODELS_MAX];
	uint32_t model_count;
	struct process *process;
	struct service *service;
	void *memory;
	struct coord *coord;
	struct access *access;
	struct leader *leader;
	struct http_api *api;
};

/* The shell's events, with the core's own types. */
static void opened(void *core, uint32_t conn, uint64_t dialed, uint64_t now_ns)
{
	coord_opened(((struct program *)core)->coord, conn, dialed, now_ns);
}

static void dial_failed(void *core, uint64_t dialed, uint64_t now_ns)
{
	coord_dial_failed(((struct program *)core)->coord, dialed, now_ns);
}

static void closed(void *core, uint32_t conn, uint64_t now_ns)
{
	coord_closed(((struct program *)core)->coord, conn, now_ns);
}

static void message(void *core, uint32_t conn, const Wire__Envelope *envelope, uint64_t now_ns)
{
	coord_message(((struct program *)core)->coord, conn, envelope, now_ns);
}

static void tick(void *core, uint64_t now_ns)
{
	struct program *program = core;
	leader_tick(program->leader); /* first: a term that is over is over before the core does anything */
	coord_tick(program->coord, now_ns);
	service_tick(program->service);
}

static uint64_t now(void *context)
{
	return loop_now_ns(process_loop(((struct program *)context)->process));
}

static void on_member(void *context, const struct member *m, uint64_t now_ns)
{
	struct program *program = context;
	if (m->role == WIRE__ROLE__ROLE_COORDINATOR)
		return;
	struct coord_member member = {
		.node = m->node,
		.incarnation = m->incarnation,
		.role = m->role,
		.pid = m->pid,
		.compat = m->compat,
		.model_count = m->model_count,
		.block_tokens = m->block_tokens,
		.group_count = m->group_count,
		.context_max = m->context_max,
		.tensor_parallel_size = m->tensor_parallel_size,
		.prefill_tokens_per_s = (float)m->prefill_tokens_per_s,
		.step_seconds = (float)m->step_seconds,
	};
	_Static_assert(sizeof(member.models) == sizeof(m->models) && sizeof(member.name) == sizeof(m->name), "same bounds");
	_Static_assert(sizeof(member.device) == sizeof(m->device), "same text");
	_Static_assert(sizeof(member.windows) == sizeof(m->windows), "same groups");
	memcpy(member.windows, m->windows, sizeof(member.windows));
	memcpy(member.models, m->models, sizeof(member.models));
	memcpy(member.name, m->name, sizeof(member.name));
	memcpy(member.device, m->device, sizeof(member.device));
	if (coord_member_set(program->coord, &member, now_ns) != ERR_OK)
		log_warn("%s: more members than --max-nodes %llu; ignored", m->name, (unsigned long long)program->settings.nodes_max);
}

static void on_gone(void *context, uint64_t node, uint64_t now_ns)
{
	coord_member_remove(((struct program *)context)->coord, node, now_ns);
}

static void renew(void *context, uint64_t incarnation, const uint8_t *address, size_t length, uint64_t now_ns)
{
	(void)address;
	(void)length; /* a coordinator has no link */
	coord_renew(((struct program *)context)->coord, incarnation, now_ns);
}

static void drain(void *context)
{
	struct program *program = context;
	leader_resign(program->leader);
	coord_drain(program->coord);
	http_api_drain(program->api);
}

static bool drained(void *context)
{
	struct program *program = context;
	return coord_requests(program->coord) == 0 && http_api_drained(program->api);
}

static void claim_epoch(void *context, int64_t candidacy, uint64_t beaten)
{
	leader_claim_epoch(((struct program *)context)->leader, candidacy, beaten);
}

static enum err open_leader(struct program *program, struct why *why)
{
	char url[LEADER_URL_MAX + 1];
	const char *host = program->settings.advertise_host ? program->settings.advertise_host : program->host;
	bool six = strchr(host, ':') != NULL;
	snprintf(url, sizeof(url), "http%s://%s%s%s:%u", program->api_tls ? "s" : "", six ? "[" : "", host, six ? "]" : "",
		 http_api_port(program->api));
	struct leader_options options = {.loop = process_loop(program->process), .etcd = process_etcd(program->process),
					 .coord = program->coord, .cluster = program->settings.cluster,
					 .name = program->settings.name, .url = url, .wall_ns = process_wall_ns};
	enum err e = leader_create(&options, &program->leader);
	if (e != ERR_OK)
		return why_set(why, e, "no election: out of memory");
	http_api_set_leader(program->api, program->leader);
	return ERR_OK;
}

static enum err open_models(struct program *program, struct why *why)
{
	if (program->model_dirs.count > SERVED_MODELS_MAX)
		return why_set(why, ERR_INVALID, "%zu times --model, at most %d", program->model_dirs.count, SERVED_MODELS_MAX);
	for (size_t i = 0; i < program->model_dirs.count; i++) {
		struct served_model *model = &program->models[i];
		enum err e = served_model_open(program->model_dirs.items[i], (uint32_t)program->context_max, why, model);
		if (e != ERR_OK)
			return e;
		program->model_count++;
		model->trust_request_template = program->trust_request_template;
		if (program->chat_template)
			e = served_model_template(model, program->chat_template, why);
		if (e == ERR_OK)
			e = served_model_formats(model, program->tool_parser, program->reasoning_parser, why);
		if (e != ERR_OK)
			return e;
		log_info("model %s: %u tokens of context, tool calls: %s, reasoning: %s", model->name, model->context_max,
			 tool_format_name(model->tool_format), reasoning_format_name(model->reasoning_format));
	}
	return ERR_OK;
}

static enum err open_core(struct program *program, struct why *why)
{
	struct service_options service = {.models = program->models, .model_count = program->model_count,
					  .request_timeout_ns = program->request_timeout_s * 1000000000,
					  .context = program, .now_ns = now};
	enum err e = service_create(&service, &program->service);
	if (e != ERR_OK)
		return e;
	uint32_t context_max = 32768;
	for (uint32_t i = 0; i < program->model_count; i++)
		if (program->models[i].context_max > context_max)
			context_max = program->models[i].context_max;
	struct coord_options options = {
		.node = process_node(program->process),
		.incarnation = process_incarnation(program->process),
		.name = program->settings.name,
		.cluster = program->settings.cluster,
		.nodes_max = (uint32_t)program->settings.nodes_max,
		.requests_max = (uint32_t)program->requests_max,
		.queue_max = (uint32_t)program->queue_max,
		.wait_max_ns = program->queue_wait_s * 1000000000,
		.blocks_max = (uint32_t)program->index_blocks,
		.context_max = context_max,
		.opening_ns = OPENING_NS,
		.time_factor = (uint32_t)program->settings.time_factor,
		.lead_context = program,
		.claim_epoch = claim_epoch,
		.env = process_env(program->process),
		.hooks = service_hooks(program->service),
	};
	program->memory = calloc(1, coord_bytes(&options));
	if (!program->memory)
		return why_set(why, ERR_NOMEM, "no memory for %zu bytes of tables", coord_bytes(&options));
	program->coord = coord_init(program->memory, &options);
	service_attach(program->service, program->coord);
	return ERR_OK;
}

static enum err open_access(struct program *program, struct why *why)
{
	struct access_options options = {
		.api_keys = &program->api_keys,
		.admin_keys = &program->admin_keys,
		.keys_file = program->keys_file,
		.tenant_salt_file = program->tenant_salt_file,
		.metrics_public = program->metrics_public,
	};
	return access_create(process_loop(program->process), &options, &program->access, why);
}

static enum err open_api_tls(struct program *program, struct why *why)
{
	struct tls_options options = {.certificate_file = program->ssl_certfile, .key_file = program->ssl_keyfile};
	if (!program->ssl_certfile != !program->ssl_keyfile)
		return why_set(why, ERR_INVALID, "--ssl-certfile and --ssl-keyfile go together");
	enum err e = program->ssl_certfile ? tls_create(&options, &program->api_tls, why) : ERR_OK;
	return e != ERR_OK ? e : exposure_check("--host", program->host, program->api_tls != NULL, program->settings.insecure,
						"--ssl-certfile and --ssl-keyfile", why);
}

static enum err open_http(struct program *program, struct why *why)
{
	program->limits.connections_max = (uint32_t)program->connections_max;
	struct http_api_options options = {
		.host = program->host,
		.port = (uint16_t)program->port,
		.coord = program->coord,
		.service = program->service,
		.models = program->models,
		.model_count = program->model_count,
		.name = program->settings.name,
		.access = program->access,
		.tls = program->api_tls,
		.env = process_env(program->process),
		.limits = program->limits,
		.origins = program->origins.items,
		.origin_count = program->origins.count,
	};
	enum err e = http_api_create(process_loop(program->process), &options, &program->api, why);
	if (e == ERR_OK)
		log_info("API at http%s://%s:%u/v1", program->api_tls ? "s" : "", program->host, http_api_port(program->api));
	return e;
}

static enum err join(struct program *program, struct why *why)
{
	struct process_core core = {
		.shell = {.core = program, .opened = opened, .dial_failed = dial_failed, .closed = closed,
			  .message = message, .tick = tick},
		.context = program,
		.on_member = on_member,
		.on_gone = on_gone,
		.drain = drain,
		.drained = drained,
		.renew = renew,
	};
	struct member self = {.role = WIRE__ROLE__ROLE_COORDINATOR};
	return process_join(program->process, &core, &self, why);
}

static enum err serve(struct program *program, struct options *given, int argc, char **argv, struct why *why)
{
	struct process_parts parts = {.role = WIRE__ROLE__ROLE_COORDINATOR};
	enum err e = open_api_tls(program, why);
	if (e == ERR_OK)
		e = process_open(&program->settings, &parts, &program->process, why);
	if (e != ERR_OK) {
		tls_destroy(program->api_tls);
		return e;
	}
	e = open_access(program, why);
	options_forget(given, "api-key", argc, argv);
	options_forget(given, "admin-key", argc, argv);
	if (e == ERR_OK)
		e = open_models(program, why);
	if (e == ERR_OK)
		e = open_core(program, why);
	if (e == ERR_OK)
		e = open_http(program, why);
	if (e == ERR_OK)
		e = open_leader(program, why);
	if (e == ERR_OK)
		e = join(program, why);
	if (e == ERR_OK)
		e = process_run(program->process, why);
	http_api_destroy(program->api); /* while the core still takes cancels, and the loop lives */
	leader_destroy(program->leader);
	tls_destroy(program->api_tls);
	access_destroy(program->access);
	process_close(program->process);
	service_destroy(program->service);
	free(program->memory);
	for (uint32_t i = 0; i < program->model_count; i++)
		served_model_close(&program->models[i]);
	return e;
}

static void fill_table(struct program *p, struct option *table)
{
	const struct option rows[COORDINATOR_OPTIONS] = {
		{"host", OPTION_TEXT, &p->host, 0, 0, "HOST", "address of the API"},
		{"port", OPTION_COUNT, &p->port, 0, 65535, "PORT", "of the API; 0 takes a free one"},
		{"ssl-certfile", OPTION_TEXT, &p->ssl_certfile, 0, 0, "PEM", "the API speaks TLS with this certificate"},
		{"ssl-keyfile", OPTION_TEXT, &p->ssl_keyfile, 0, 0, "PEM", "its key; mode 600"},
		{"model", OPTION_LIST, &p->model_dirs, 0, 0, "DIR", "Hugging Face directory, or NAME=DIR; may be given several times"},
		{"max-model-len", OPTION_COUNT, &p->context_max, 0, 1 << 20, "N", "tokens of prompt and answer; 0: the model's"},
		{"max-requests", OPTION_COUNT, &p->requests_max, 1, 65536, "N", "requests accepted and not ended"},
		{"max-queue", OPTION_COUNT, &p->queue_max, 1, 65536, "N", "of them waiting for nodes"},
		{"request-timeout", OPTION_COUNT, &p->request_timeout_s, 0, HTTP_API_TIMEOUT_MAX_S, "S", "seconds from a request to its last token; 0: no end"},
		{"allowed-origins", OPTION_LIST, &p->origins, 0, 0, "ORIGIN", "whose pages may read answers (CORS), or *; none unless given"},
		{"chat-template", OPTION_TEXT, &p->chat_template, 0, 0, "FILE", "instead of the models' own; or the template itself"},
		{"trust-request-chat-template", OPTION_FLAG, &p->trust_request_template, 0, 0, NULL, "a request may bring its own template"},
		{"tool-call-parser", OPTION_TEXT, &p->tool_parser, 0, 0, "NAME", "how models write tool calls: auto (by their chat template), none, or vLLM's name"},
		{"reasoning-parser", OPTION_TEXT, &p->reasoning_parser, 0, 0, "NAME", "how models write what they think: auto, none, or vLLM's name"},
		{"enable-auto-tool-choice", OPTION_FLAG, &p->auto_tool_choice, 0, 0, NULL, "as vLLM has it; it is always on here (--tool-call-parser none turns it off)"},
		{"max-queue-wait", OPTION_COUNT, &p->queue_wait_s, 1, 3600, "S", "a longer wait for nodes is refused at once (429)"},
		{"max-connections", OPTION_COUNT, &p->connections_max, 1, 1 << 20, "N", "of clients; over it idle ones are closed"},
		{"header-timeout", OPTION_COUNT, &p->limits.header_timeout_s, 1, 3600, "S", "seconds for a request's head"},
		{"body-timeout", OPTION_COUNT, &p->limits.body_timeout_s, 1, 3600, "S", "for its body, and one for each 16 KiB"},
		{"write-timeout", OPTION_COUNT, &p->limits.write_timeout_s, 1, 3600, "S", "without reading, and a client is cut"},
		{"index-blocks", OPTION_COUNT, &p->index_blocks, 1024, 1 << 28, "N", "blocks that the index remembers"},
		{"api-key", OPTION_LIST, &p->api_keys, 0, 0, "KEY,…", "clients must show one; ps shows it until it is hashed"},
		{"admin-key", OPTION_LIST, &p->admin_keys, 0, 0, "KEY,…", "likewise, for /debug and all that is not the API"},
		{"api-keys-file", OPTION_TEXT, &p->keys_file, 0, 0, "FILE", "hashed keys, tenants, quotas; read again on change"},
		{"tenant-salt-file", OPTION_TEXT, &p->tenant_salt_file, 0, 0, "FILE", "secret of 16 bytes or more, the same for all coordinators"},
		{"metrics-public", OPTION_FLAG, &p->metrics_public, 0, 0, NULL, "/metrics without a key"},
	};
	memcpy(table, rows, sizeof(rows));
}

int main(int argc, char **argv, char **environment)
{
	struct program program = {.host = "127.0.0.1", .connections_max = 4096, .queue_wait_s = 10,
				  .limits = {.header_timeout_s = 10, .body_timeout_s = 30, .write_timeout_s = 30}, .port = 8000, .requests_max = 1024, .queue_max = 256,
				  .index_blocks = 1 << 20, .request_timeout_s = 600};
	process_defaults(&program.settings, "coordinator-1");
	program.settings.nodes_max = 64;
	struct option table[COORDINATOR_OPTIONS + PROCESS_OPTIONS];
	fill_table(&program, table);
	process_options(&program.settings, table + COORDINATOR_OPTIONS);
	struct options options = {.program = "baton-coordinator", .usage = "--model DIR [options]", .table = table,
				  .count = COORDINATOR_OPTIONS + PROCESS_OPTIONS, .environment = environment};
	struct why why = {0};
	enum err e = options_parse(&options, argc, argv, &why);
	if (e == ERR_OK && options.help)
		options_print_help(&options);
	else if (e == ERR_OK)
		e = serve(&program, &options, argc, argv, &why);
	if (e != ERR_OK)
		fprintf(stderr, "baton-coordinator: %s%s%s\n", err_text(e), why.text[0] ? ": " : "", why.text);
	options_fini(&options);
	return e == ERR_OK ? 0 : 1;
}

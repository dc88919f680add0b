#include "coordinator/cluster_view.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/json_out.h"
#include "coordinator/leader.h"
#include "coordinator/service.h"
#include "coordinator/store_metrics.h"
#include "coordinator/store_view.h"
#include "net/tls.h"

enum { VIEW_NODES_MAX = 1024 };

static const char *role_text(Wire__Role role)
{
	static const char *const texts[] = {"none", "coordinator", "prefill", "decode", "both", "kvstore", "operator"};
	return (unsigned)role < sizeof(texts) / sizeof(texts[0]) ? texts[role] : "unknown";
}

/* All nodes, for the caller to free.  NULL: no memory. */
static struct coord_node *take_nodes(const struct cluster_view *view, uint32_t *ret_count)
{
	struct coord_node *nodes = calloc(VIEW_NODES_MAX, sizeof(*nodes));
	if (nodes)
		*ret_count = coord_nodes(view->coord, view->now_ns, nodes, VIEW_NODES_MAX);
	return nodes;
}

static bool lives(const struct coord_node *node)
{
	return node->state == COORD_NODE_UP || node->state == COORD_NODE_SUSPECT;
}

/* ---- readiness */

static void give_reason(struct json_out *out, bool *ready, const char *name, const char *what)
{
	char text[COORD_TEXT_MAX + sizeof(struct why)];
	snprintf(text, sizeof(text), "%s: %s", name, what);
	json_out_text(out, text, strlen(text));
	*ready = false;
}

static void judge_models(const struct cluster_view *view, struct json_out *out, bool *ready)
{
	struct coord_model known[SERVED_MODELS_MAX * 2];
	uint32_t count = coord_models(view->coord, known, SERVED_MODELS_MAX * 2);
	for (uint32_t i = 0; i < view->model_count; i++) {
		uint32_t k = 0;
		while (k < count && strcmp(known[k].name, view->models[i].name) != 0)
			k++;
		if (k < count && known[k].apart && !known[k].ready) {
			give_reason(out, ready, view->models[i].name, known[k].lacks.text);
			continue;
		}
		if (k == count || !known[k].prefill_nodes)
			give_reason(out, ready, view->models[i].name, "no living prefill node");
		if (k == count || !known[k].decode_nodes)
			give_reason(out, ready, view->models[i].name, "no living decode node");
		else if (known[k].prefill_nodes && !known[k].ready)
			give_reason(out, ready, view->models[i].name, known[k].lacks.text);
	}
	if (view->model_count == 0)
		give_reason(out, ready, view->name, "no model is given");
}

static enum err judge_stores(const struct cluster_view *view, struct json_out *out, bool *ready)
{
	uint32_t count = 0;
	struct coord_node *nodes = take_nodes(view, &count);
	if (!nodes)
		return ERR_NOMEM;
	for (uint32_t i = 0; i < count; i++)
		if (nodes[i].role == WIRE__ROLE__ROLE_KVSTORE && nodes[i].member && !lives(&nodes[i]))
			give_reason(out, ready, nodes[i].name, "not connected");
	free(nodes);
	return ERR_OK;
}

enum err cluster_readiness(const struct cluster_view *view, struct buf *buf, bool *ret_ready)
{
	struct json_out out;
	bool ready = true;
	json_out_init(&out, buf);
	json_out_open(&out, '{');
	json_put_open(&out, "reasons", '[');
	if (view->draining)
		give_reason(&out, &ready, view->name, "draining");
	judge_models(view, &out, &ready);
	enum err e = judge_stores(view, &out, &ready);
	json_out_close(&out, ']');
	json_put_bool(&out, "ready", ready);
	json_out_close(&out, '}');
	*ret_ready = ready;
	return e == ERR_OK ? out.e : e;
}

/* ---- topology */

static void put_transports(struct json_out *out, const struct coord_node *node)
{
	json_put_open(out, "transports", '[');
	for (uint32_t i = 0; i < node->transport_count; i++) {
		const struct coord_transport *t = &node->transports[i];
		json_out_open(out, '{');
		json_put_text(out, "peer", t->peer);
		json_put_text(out, "transport", t->name);
		json_put_unsigned(out, "bytes_read", t->bytes_read);
		json_put_unsigned(out, "device_bytes_read", t->device_bytes_read);
		json_out_close(out, '}');
	}
	json_out_close(out, ']');
}

/* What only an engine or store that has reported once knows. */
static void put_load(struct json_out *out, const struct coord_node *node)
{
	json_put_open(out, "load", '{');
	json_put_unsigned(out, "jobs", node->jobs);
	json_put_unsigned(out, "jobs_max", node->jobs_max);
	json_put_unsigned(out, "sequences", node->sequences);
	json_put_unsigned(out, "tokens_waiting", node->tokens_waiting);
	json_put_unsigned(out, "steps", node->steps);
	json_put_unsigned(out, "offer_lag", node->offer_lag);
	json_out_key(out, "prefill_tokens_per_s");
	json_out_fixed(out, (double)node->prefill_tokens_per_s, 1);
	json_out_key(out, "step_seconds");
	json_out_fixed(out, (double)node->step_seconds, 6);
	json_out_key(out, "age_ms");
	if (node->load_age_ns == UINT64_MAX)
		json_out_null(out);
	else
		json_out_unsigned(out, node->load_age_ns / 1000000);
	json_out_close(out, '}');
}

static const char *group_name(const struct coord_blocks *blocks)
{
	return blocks->window > 0 ? "local" : "global";
}

/* Of a model with two layer groups: each has blocks of its own. */
static void put_groups(struct json_out *out, const struct coord_node *node)
{
	if (node->group_count < 2)
		return;
	json_put_open(out, "kv_groups", '[');
	for (uint32_t g = 0; g < node->group_count; g++) {
		const struct coord_blocks *blocks = &node->groups[g];
		json_out_open(out, '{');
		json_put_text(out, "group", group_name(blocks));
		json_put_unsigned(out, "window", blocks->window);
		json_put_unsigned(out, "used", blocks->used);
		json_put_unsigned(out, "cached", blocks->cached);
		json_put_unsigned(out, "reserved", blocks->reserved);
		json_put_unsigned(out, "reservable", blocks->reservable);
		json_put_unsigned(out, "total", blocks->total);
		json_out_close(out, '}');
	}
	json_out_close(out, ']');
}

static void put_disk(struct json_out *out, const struct coord_disk *disk)
{
	if (!disk->present)
		return;
	json_put_open(out, "disk", '{');
	json_put_bool(out, "ready", disk->ready);
	json_put_text(out, "stopped", disk->stopped ? err_text((enum err)disk->stopped) : "");
	json_put_unsigned(out, "blocks", disk->blocks);
	json_put_unsigned(out, "bytes_used", disk->bytes_used);
	json_put_unsigned(out, "bytes_total", disk->bytes_total);
	json_put_unsigned(out, "bytes_stored", disk->bytes_stored);
	json_put_unsigned(out, "bytes_plain", disk->bytes_plain);
	json_put_unsigned(out, "lag_blocks", disk->lag);
	json_put_unsigned(out, "loads", disk->loads);
	json_put_unsigned(out, "bytes_written", disk->bytes_written);
	json_out_close(out, '}');
}

static void put_node(struct json_out *out, const struct coord_node *node)
{
	char id[32];
	snprintf(id, sizeof(id), "%016llx", (unsigned long long)node->id);
	json_out_open(out, '{');
	json_put_text(out, "id", id);
	json_put_text(out, "name", node->name);
	json_put_text(out, "role", role_text(node->role));
	json_put_unsigned(out, "pid", node->pid);
	json_put_text(out, "device", node->device);
	json_put_unsigned(out, "tensor_parallel_size", node->tensor_parallel_size);
	json_put_text(out, "state", coord_node_state_text(node->state));
	json_put_bool(out, "member", node->member);
	json_put_unsigned(out, "incarnation", node->incarnation);
	json_put_unsigned(out, "epoch", node->epoch);
	json_put_unsigned(out, "directives_refused", node->directives_refused);
	put_load(out, node);
	json_put_unsigned(out, "kv_blocks_used", node->kv_blocks_used);
	json_put_unsigned(out, "kv_blocks_cached", node->kv_blocks_cached);
	json_put_unsigned(out, "kv_blocks_reserved", node->kv_blocks_reserved);
	json_put_unsigned(out, "kv_blocks_total", node->kv_blocks_total);
	json_put_unsigned(out, "blocks_indexed", node->blocks_indexed);
	put_groups(out, node);
	store_view_json(out, node);
	put_disk(out, &node->disk);
	json_put_unsigned(out, "sessions", node->sessions);
	put_transports(out, node);
	json_put_open(out, "models", '[');
	for (uint32_t i = 0; i < node->model_count; i++)
		json_out_text(out, node->models[i], strlen(node->models[i]));
	json_out_close(out, ']');
	json_out_close(out, '}');
}

/* The epoch as this coordinator knows it: its own, or the highest that a node has seen. */
static uint64_t epoch_of(const struct coord_lead *lead, const struct coord_node *nodes, uint32_t count)
{
	uint64_t epoch = lead->epoch;
	for (uint32_t i = 0; i < count; i++)
		if (nodes[i].epoch > epoch)
			epoch = nodes[i].epoch;
	return epoch;
}

static void put_leader(const struct cluster_view *view, struct json_out *out, const struct coord_node *nodes,
		       uint32_t count)
{
	struct coord_lead lead;
	coord_lead(view->coord, view->now_ns, &lead);
	json_put_open(out, "leader", '{');
	json_put_text(out, "name", view->leader && leader_name(view->leader)[0] ? leader_name(view->leader) : NULL);
	json_put_text(out, "url", view->leader && leader_url(view->leader)[0] ? leader_url(view->leader) : NULL);
	json_put_text(out, "this", lead.state);
	json_put_unsigned(out, "epoch", epoch_of(&lead, nodes, count));
	json_out_close(out, '}');
}

static void put_counters(struct json_out *out, const struct coord_counters *c)
{
	json_put_unsigned(out, "requests", c->requests);
	json_put_unsigned(out, "requests_queued", c->requests_queued);
	json_put_unsigned(out, "jobs_running", c->jobs_running);
	json_put_unsigned(out, "jobs_recovering", c->jobs_recovering);
	json_put_unsigned(out, "sessions", c->sessions);
	json_put_unsigned(out, "members", c->members);
	json_put_unsigned(out, "index_blocks", c->index_blocks);
	json_put_unsigned(out, "accepted", c->accepted);
	json_put_unsigned(out, "ended_ok", c->ended_ok);
	json_put_unsigned(out, "attempts", c->attempts);
	json_put_unsigned(out, "choices_recovered", c->choices_recovered);
	json_put_unsigned(out, "tokens_dropped", c->tokens_dropped);
	json_put_unsigned(out, "tokens_held", c->tokens_held);
}

enum err cluster_topology(const struct cluster_view *view, struct buf *buf)
{
	uint32_t count = 0;
	struct coord_node *nodes = take_nodes(view, &count);
	if (!nodes)
		return ERR_NOMEM;
	struct coord_counters counters;
	coord_counters(view->coord, &counters);
	struct json_out out;
	json_out_init(&out, buf);
	json_out_open(&out, '{');
	json_put_open(&out, "coordinator", '{');
	json_put_text(&out, "name", view->name);
	json_put_bool(&out, "draining", view->draining);
	put_counters(&out, &counters);
	json_out_close(&out, '}');
	put_leader(view, &out, nodes, count);
	json_put_open(&out, "nodes", '[');
	for (uint32_t i = 0; i < count; i++)
		put_node(&out, &nodes[i]);
	json_out_close(&out, ']');
	json_out_close(&out, '}');
	free(nodes);
	return out.e;
}

/* ---- metrics */

struct showing {
	struct metrics_text *text;
	const struct coord_node *nodes;
	uint32_t count;
};

static void show_nodes(const struct showing *s, const char *name, const char *help, size_t offset)
{
	metrics_family(s->text, name, "gauge", help);
	for (uint32_t i = 0; i < s->count; i++) {
		const struct coord_node *node = &s->nodes[i];
		const char *labels[] = {"node", node->name, "role", role_text(node->role), NULL};
		metrics_line(s->text, labels, *(const uint32_t *)((const char *)node + offset));
	}
}

static void show_states(const struct showing *s)
{
	metrics_family(s->text, "baton_node_state", "gauge", "1 for the state that the node is in.");
	for (uint32_t i = 0; i < s->count; i++)
		for (int state = COORD_NODE_DOWN; state <= COORD_NODE_DRAINING; state++) {
			const char *labels[] = {"node", s->nodes[i].name, "role", role_text(s->nodes[i].role), "state",
						coord_node_state_text((enum coord_node_state)state), NULL};
			metrics_line(s->text, labels, (int)s->nodes[i].state == state);
		}
}

static double transport_is_there(const struct coord_transport *transport)
{
	return 1;
}

static double transport_bytes(const struct coord_transport *transport)
{
	return (double)transport->bytes_read;
}

static double transport_device_bytes(const struct coord_transport *transport)
{
	return (double)transport->device_bytes_read;
}

static void show_transports(const struct showing *s, const char *family, const char *type, const char *help,
			    double (*value)(const struct coord_transport *transport))
{
	metrics_family(s->text, family, type, help);
	for (uint32_t i = 0; i < s->count; i++)
		for (uint32_t t = 0; t < s->nodes[i].transport_count; t++) {
			const struct coord_transport *transport = &s->nodes[i].transports[t];
			const char *labels[] = {"node", s->nodes[i].name, "peer", transport->peer, "transport", transport->name,
						NULL};
			metrics_line(s->text, labels, value(transport));
		}
}

static void show_refusal(struct metrics_text *text, const char *node, enum refusal reason, uint64_t count)
{
	const char *labels[] = {"node", node, "reason", refusal_text(reason), NULL};
	metrics_line(text, labels, (double)count);
}

/* What the nodes report, and what this coordinator refused itself. */
static void show_refused(const struct showing *s, const struct cluster_view *view)
{
	metrics_family(s->text, "baton_connections_refused_total", "counter", "Connections not let in, by reason.");
	for (int reason = 0; reason < REFUSAL_COUNT; reason++) {
		uint64_t own = 0;
		for (uint32_t i = 0; i < s->count; i++)
			show_refusal(s->text, s->nodes[i].name, (enum refusal)reason, s->nodes[i].refused[reason]);
		own += view->env && view->env->refused ? view->env->refused(view->env->context, (unsigned)reason) : 0;
		own += view->api_tls ? tls_refused(view->api_tls, (enum refusal)reason) : 0;
		show_refusal(s->text, view->name, (enum refusal)reason, own);
	}
}

/* Only where a model has two: the sums are above. */
static void show_groups(const struct showing *s)
{
	static const char *const states[] = {"used", "cached", "reserved", "reservable", "total"};
	metrics_family(s->text, "baton_kv_group_blocks", "gauge", "Blocks of each layer group, of models that have two.");
	for (uint32_t i = 0; i < s->count; i++)
		for (uint32_t g = 0; s->nodes[i].group_count > 1 && g < s->nodes[i].group_count; g++) {
			const struct coord_blocks *blocks = &s->nodes[i].groups[g];
			const uint32_t counts[] = {blocks->used, blocks->cached, blocks->reserved, blocks->reservable, blocks->total};
			for (int k = 0; k < 5; k++) {
				const char *labels[] = {"node", s->nodes[i].name, "group", group_name(blocks), "state", states[k], NULL};
				metrics_line(s->text, labels, counts[k]);
			}
		}
}

/* Of each store that has a disk: one family, or one line of several. */
struct disk_line {
	const char *name, *type, *help; /* NULL: of the family before */
	const char *label, *value;      /* NULL: none */
	size_t offset;                  /* of a uint64_t in struct coord_disk */
};

#define OF(field) offsetof(struct coord_disk, field)
static const struct disk_line disk_lines[] = {
	{"baton_kv_disk_blocks", "gauge", "Blocks on disk.", NULL, NULL, OF(blocks)},
	{"baton_kv_disk_bytes", "gauge", "Room on disk.", "state", "used", OF(bytes_used)},
	{NULL, NULL, NULL, "state", "total", OF(bytes_total)},
	{"baton_kv_disk_block_bytes", "gauge", "What the blocks there take, and would if they were not encoded.", "as", "stored", OF(bytes_stored)},
	{NULL, NULL, NULL, "as", "plain", OF(bytes_plain)},
	{"baton_kv_disk_lag_blocks", "gauge", "Blocks that are not yet durable.", NULL, NULL, OF(lag)},
	{"baton_kv_disk_lag_bytes", "gauge", "Of their bytes.", NULL, NULL, OF(lag_bytes)},
	{"baton_kv_disk_loads_total", "counter", "Blocks read from disk for look-ups.", "result", "right", OF(loads)},
	{NULL, NULL, NULL, "result", "failed", OF(loads_failed)},
	{"baton_kv_disk_bytes_total", "counter", "Moved to and from disk.", "what", "written", OF(bytes_written)},
	{NULL, NULL, NULL, "what", "written_before_encoding", OF(bytes_written_plain)},
	{NULL, NULL, NULL, "what", "moved", OF(bytes_moved)},
	{NULL, NULL, NULL, "what", "read", OF(bytes_read)},
	{"baton_kv_disk_gone_total", "counter", "Blocks that left the disk.", "reason", "room", OF(gone_room)},
	{NULL, NULL, NULL, "reason", "bad", OF(gone_bad)},
	{"baton_kv_disk_unwritten_total", "counter", "Blocks sealed while the disk could not take them.", NULL, NULL, OF(unwritten)},
	{"baton_kv_disk_errors_total", "counter", "Operations of the disk that failed.", NULL, NULL, OF(errors)},
};
#undef OF

static void show_disk_line(const struct showing *s, const struct disk_line *line)
{
	if (line->name)
		metrics_family(s->text, line->name, line->type, line->help);
	for (uint32_t i = 0; i < s->count; i++) {
		const struct coord_disk *disk = &s->nodes[i].disk;
		const char *labels[] = {"node", s->nodes[i].name, line->label, line->value, NULL};
		uint64_t value;
		memcpy(&value, (const uint8_t *)disk + line->offset, sizeof(value));
		if (disk->present)
			metrics_line(s->text, labels, (double)value);
	}
}

static void show_disks(const struct showing *s)
{
	for (size_t i = 0; i < sizeof(disk_lines) / sizeof(*disk_lines); i++)
		show_disk_line(s, &disk_lines[i]);
	metrics_family(s->text, "baton_kv_disk_stopped", "gauge", "1 when a store cannot write to its disk.");
	for (uint32_t i = 0; i < s->count; i++) {
		const char *labels[] = {"node", s->nodes[i].name, NULL};
		if (s->nodes[i].disk.present)
			metrics_line(s->text, labels, s->nodes[i].disk.stopped != 0);
	}
}

/* What is promised of what may be, in the layer group that has the least left: blocks are promised before they are taken,
 * and one group without room is enough for a request to wait.  Negative: nothing was said. */
static double usage_of(const struct coord_node *node)
{
	double fullest = -1;
	for (uint32_t g = 0; g < node->group_count; g++) {
		const struct coord_blocks *blocks = &node->groups[g];
		double usage = blocks->reservable ? (double)blocks->reserved / blocks->reservable : -1;
		fullest = usage > fullest ? usage : fullest;
	}
	return fullest;
}

static void show_kv(const struct showing *s)
{
	metrics_family(s->text, "vllm:kv_cache_usage_perc", "gauge",
		       "Blocks promised to requests, 0 to 1: at 1 new ones wait.  Of the fullest layer group.");
	for (uint32_t i = 0; i < s->count; i++) {
		const struct coord_node *node = &s->nodes[i];
		double usage = usage_of(node);
		if (node->model_count == 0 || usage < 0)
			continue;
		const char *labels[] = {"model_name", node->models[0], "engine", node->name, NULL};
		metrics_line(s->text, labels, usage);
	}
}

static void show_counter(struct metrics_text *text, const char *name, const char *help, uint64_t value)
{
	metrics_family(text, name, "counter", help);
	metrics_line(text, NULL, (double)value);
}

static void show_coordinator(const struct cluster_view *view, struct metrics_text *text)
{
	struct coord_counters c;
	coord_counters(view->coord, &c);
	metrics_family(text, "baton_recoveries_total", "counter", "Attempts given up and moved, by what told us.");
	const struct {
		const char *cause;
		uint64_t count;
	} causes[] = {{"session", c.recoveries_session}, {"job_end", c.recoveries_job_end},
		      {"silence", c.recoveries_silence}, {"protocol", c.recoveries_protocol}, {"draining", c.moved_draining}};
	for (int i = 0; i < 5; i++) {
		const char *labels[] = {"cause", causes[i].cause, NULL};
		metrics_line(text, labels, (double)causes[i].count);
	}
	show_counter(text, "baton_attempts_total", "Attempts started.", c.attempts);
	show_counter(text, "baton_choices_recovered_total", "Choices that went on elsewhere.", c.choices_recovered);
	show_counter(text, "baton_reserve_refusals_total", "Reserve messages refused by a node.", c.reserve_refusals);
	show_counter(text, "baton_reserve_timeouts_total", "Reserve messages without an answer.", c.reserve_timeouts);
	show_counter(text, "baton_tokens_dropped_total", "Tokens that came twice or too late.", c.tokens_dropped);
	show_counter(text, "baton_tokens_held_total", "Tokens that came before the one they follow.", c.tokens_held);
	show_counter(text, "baton_index_gaps_total", "Gaps in the nodes' block events.", c.index_gaps);
	metrics_family(text, "baton_index_blocks", "gauge", "Blocks that the index knows.");
	metrics_line(text, NULL, c.index_blocks);
	metrics_family(text, "baton_requests_recovering", "gauge", "Jobs that wait for another pair.");
	metrics_line(text, NULL, c.jobs_recovering);
}

static void show_lead(const struct cluster_view *view, struct metrics_text *text)
{
	struct coord_lead lead;
	coord_lead(view->coord, view->now_ns, &lead);
	metrics_family(text, "baton_leading", "gauge", "1 when this coordinator leads.");
	metrics_line(text, NULL, lead.epoch != 0);
	metrics_family(text, "baton_lead_epoch", "gauge", "Its epoch; 0 when it does not lead.");
	metrics_line(text, NULL, (double)lead.epoch);
	show_counter(text, "baton_lead_terms_total", "Terms begun.", lead.terms);
	show_counter(text, "baton_lead_steps_down_total", "Terms ended.", lead.steps_down);
	show_counter(text, "baton_directives_sent_total", "Directives said to nodes.", lead.directives_sent);
	show_counter(text, "baton_directives_stale_total", "Of them refused, because a node knows a newer epoch.",
		     lead.directives_refused);
}

static void show_fences(const struct showing *s)
{
	metrics_family(s->text, "baton_node_directives_refused_total", "counter", "Directives of older epochs that a node refused.");
	for (uint32_t i = 0; i < s->count; i++) {
		const char *labels[] = {"node", s->nodes[i].name, "role", role_text(s->nodes[i].role), NULL};
		metrics_line(s->text, labels, (double)s->nodes[i].directives_refused);
	}
}

/* Of engines: what a crash of the node would lose. */
static void show_offer_lag(const struct showing *s)
{
	metrics_family(s->text, "baton_offer_lag_blocks", "gauge", "Finished blocks of the node that no store has answered for yet.");
	for (uint32_t i = 0; i < s->count; i++) {
		if (s->nodes[i].role == WIRE__ROLE__ROLE_KVSTORE)
			continue;
		const char *labels[] = {"node", s->nodes[i].name, "role", role_text(s->nodes[i].role), NULL};
		metrics_line(s->text, labels, (double)s->nodes[i].offer_lag);
	}
}

static void show_service(const struct cluster_view *view, struct metrics_text *text)
{
	struct service_counts c;
	service_counts(view->service, &c);
	show_counter(text, "baton_api_requests_total", "Completions and chats asked for.", c.calls);
	show_counter(text, "baton_api_refused_total", "Of them refused at once.", c.refused);
	show_counter(text, "baton_api_clients_gone_total", "Clients that left before their answer.", c.gone);
	show_counter(text, "baton_api_slow_readers_total", "Clients given up because they did not read.", c.slow_readers);
	metrics_family(text, "baton_build_info", "gauge", "Of this coordinator.");
	const char *labels[] = {"version", "0.1.0", "coordinator", view->name, NULL};
	metrics_line(text, labels, 1);
}

void cluster_metrics(const struct cluster_view *view, struct metrics_text *text)
{
	struct showing s = {.text = text};
	struct coord_node *nodes = take_nodes(view, &s.count);
	if (!nodes) {
		text->e = ERR_NOMEM;
		return;
	}
	s.nodes = nodes;
	show_states(&s);
	show_nodes(&s, "baton_kv_blocks_used", "Blocks in use.", offsetof(struct coord_node, kv_blocks_used));
	show_nodes(&s, "baton_kv_blocks_cached", "Blocks kept for their prefix.",
		   offsetof(struct coord_node, kv_blocks_cached));
	show_nodes(&s, "baton_kv_blocks_total", "Blocks there are.", offsetof(struct coord_node, kv_blocks_total));
	show_groups(&s);
	show_disks(&s);
	show_nodes(&s, "baton_node_tensor_parallel_size", "Devices that compute as one.",
		   offsetof(struct coord_node, tensor_parallel_size));
	show_nodes(&s, "baton_node_jobs", "Jobs on the node.", offsetof(struct coord_node, jobs));
	show_nodes(&s, "baton_node_sequences", "Sequences that decode.", offsetof(struct coord_node, sequences));
	show_nodes(&s, "baton_node_sessions", "Peers of the node.", offsetof(struct coord_node, sessions));
	show_kv(&s);
	store_view_metrics(text, nodes, s.count);
	show_transports(&s, "baton_transport_info", "gauge", "What carries reads from a peer.", transport_is_there);
	show_transports(&s, "baton_transport_bytes_read_total", "counter", "KV bytes read from a peer.", transport_bytes);
	show_transports(&s, "baton_transport_device_bytes_read_total", "counter",
			"KV bytes that came from a peer's GPU to that of the node, since the link was opened.", transport_device_bytes);
	show_fences(&s);
	show_offer_lag(&s);
	show_refused(&s, view);
	store_metrics(view->coord, nodes, s.count, text);
	free(nodes);
	show_coordinator(view, text);
	show_lead(view, text);
	show_service(view, text);
}

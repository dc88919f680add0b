/* status - what the core knows, for people and metrics: copies, nothing else. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "coordinator/core_impl.h"

#define LOAD_OLD_NS 1500000000ull /* six reports missed */

/* ---- models */

static struct coord_model *model_entry(struct coord_model *out, uint32_t *count, uint32_t max, const char *name,
				       const struct registry_node *node)
{
	for (uint32_t i = 0; i < *count; i++)
		if (strcmp(out[i].name, name) == 0 && id128_equal(&out[i].compat, &node->compat))
			return &out[i];
	if (*count == max)
		return NULL;
	struct coord_model *model = &out[(*count)++];
	*model = (struct coord_model){
		.compat = node->compat,
		.block_tokens = node->announced.block_tokens,
		.context_max = node->announced.context_max,
	};
	memcpy(model->name, name, sizeof(model->name));
	return model;
}

static void count_node(struct coord_model *model, const struct registry_node *node)
{
	bool willing = node_lives(node) && !node->draining;
	model->prefill_nodes += willing && node_prefills(node);
	model->decode_nodes += willing && node_decodes(node);
	if (node->announced.context_max < model->context_max)
		model->context_max = node->announced.context_max;
}

/* One line a name: of several compats the first that is ready, or the first. */
static uint32_t fold_names(struct coord_model *out, uint32_t count)
{
	uint32_t kept = 0;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t k = 0;
		while (k < kept && strcmp(out[k].name, out[i].name) != 0)
			k++;
		if (k == kept) {
			out[kept++] = out[i];
			continue;
		}
		if (out[i].ready && !out[k].ready)
			out[k] = out[i];
		out[k].apart |= out[i].prefill_nodes + out[i].decode_nodes > 0;
	}
	return kept;
}

uint32_t coord_models(const struct coord *coord, struct coord_model *out, uint32_t max)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < coord->registry.count_max; i++) {
		const struct registry_node *node = &coord->registry.nodes[i];
		for (uint32_t m = 0; node->id && m < node->announced.model_count; m++) {
			struct coord_model *model = model_entry(out, &count, max, node->announced.models[m], node);
			if (model)
				count_node(model, node);
		}
	}
	for (uint32_t i = 0; i < count; i++) {
		struct wanted wanted = {.model = out[i].name, .compat = &out[i].compat};
		out[i].ready = pairs_live(coord, &wanted, &out[i].lacks);
		wanted.compat = NULL; /* what the others of the name lack, too */
		if (!out[i].ready)
			(void)pairs_live(coord, &wanted, &out[i].lacks);
	}
	return fold_names(out, count);
}

/* ---- nodes */

const char *coord_node_state_text(enum coord_node_state state)
{
	static const char *const texts[] = {"down", "up", "suspect", "draining"};
	return texts[state];
}

static enum coord_node_state state_of(const struct coord *coord, const struct registry_node *node, uint64_t now_ns)
{
	if (!node_lives(node))
		return COORD_NODE_DOWN;
	if (node->draining)
		return COORD_NODE_DRAINING;
	bool silent = node->load_ns && now_ns >= node->load_ns + LOAD_OLD_NS * coord->options.time_factor;
	return silent || now_ns < node->suspect_until_ns ? COORD_NODE_SUSPECT : COORD_NODE_UP;
}

static void fill_node(const struct coord *coord, uint32_t slot, uint64_t now_ns, struct coord_node *out)
{
	const struct registry_node *node = &coord->registry.nodes[slot];
	struct work work = node_work(node);
	*out = (struct coord_node){
		.id = node->id,
		.incarnation = node->incarnation,
		.role = node->role,
		.pid = node->announced.pid,
		.state = state_of(coord, node, now_ns),
		.member = node->member,
		.model_count = node->announced.model_count,
		.tensor_parallel_size = node->announced.tensor_parallel_size,
		.jobs = work.jobs,
		.jobs_max = node->jobs_max,
		.sequences = work.sequences,
		.sessions = node->sessions,
		.tokens_waiting = work.tokens,
		.kv_blocks_used = node->blocks_used,
		.kv_blocks_cached = node->blocks_cached,
		.kv_blocks_reserved = node->blocks_reserved,
		.kv_blocks_total = node->blocks_total,
		.group_count = node->group_count,
		.blocks_indexed = index_held(coord->index, slot),
		.steps = node->steps,
		.offer_lag = node->offer_lag,
		.replica = node->replica,
		.prefill_tokens_per_s = node->load_ns ? node->prefill_tokens_per_s : node->announced.prefill_tokens_per_s,
		.step_seconds = node->load_ns ? node->step_seconds : node->announced.step_seconds,
		.load_age_ns = node->load_ns ? now_ns - node->load_ns : UINT64_MAX,
		.epoch = node->epoch,
		.directives_refused = node->directives_refused,
		.disk = node->disk,
		.transport_count = node->transport_count,
	};
	memcpy(out->name, node->announced.name, sizeof(out->name));
	memcpy(out->models, node->announced.models, sizeof(out->models));
	memcpy(out->device, node->announced.device, sizeof(out->device));
	memcpy(out->groups, node->groups, sizeof(out->groups));
	memcpy(out->transports, node->transports, node->transport_count * sizeof(out->transports[0]));
	memcpy(out->refused, node->refused, sizeof(out->refused));
}

const struct store_load *coord_store_load(const struct coord *coord, uint64_t node)
{
	return store_loads_find(&coord->stores, node);
}

/* The slot of the smallest id above `after`. */
static uint32_t next_node(const struct coord *coord, uint64_t after)
{
	uint32_t best = NODE_NONE;
	for (uint32_t i = 0; i < coord->registry.count_max; i++) {
		uint64_t id = coord->registry.nodes[i].id;
		if (id > after && (best == NODE_NONE || id < coord->registry.nodes[best].id))
			best = i;
	}
	return best;
}

uint32_t coord_nodes(const struct coord *coord, uint64_t now_ns, struct coord_node *out, uint32_t max)
{
	uint32_t count = 0;
	uint64_t after = 0;
	for (uint32_t slot; count < max && (slot = next_node(coord, after)) != NODE_NONE; count++) {
		fill_node(coord, slot, now_ns, &out[count]);
		after = coord->registry.nodes[slot].id;
	}
	return count;
}

const char *coord_node_name(const struct coord *coord, uint32_t node)
{
	return node < coord->registry.count_max ? coord->registry.nodes[node].announced.name : "";
}

/* ---- counters */

static void count_jobs(const struct coord *coord, struct coord_counters *counters)
{
	for (uint32_t i = 0; i < coord->options.requests_max; i++) {
		const struct request *request = &coord->requests[i];
		for (uint32_t j = 0; request->used && j < request->choice_count; j++) {
			enum job_state state = request->jobs[j].state;
			counters->jobs_running += state == JOB_PREFILLING || state == JOB_DECODING;
		}
	}
	counters->jobs_recovering = coord->recovering.count;
	counters->requests_queued = coord->fair.waiting;
}

struct coord_tenant_load coord_tenant_load(const struct coord *coord, const char *tenant)
{
	for (uint32_t i = 0; i < coord->fair.tenants_seen; i++)
		if (strcmp(coord->fair.tenants[i].name, tenant) == 0)
			return (struct coord_tenant_load){coord->fair.tenants[i].waiting, coord->fair.tenants[i].running};
	return (struct coord_tenant_load){0};
}

uint64_t coord_wait_ns(const struct coord *coord)
{
	uint64_t cost = 0;
	for (int c = 0; c < FAIR_CLASSES; c++)
		cost += coord->fair.cost[c];
	return pace_wait_ns(&coord->pace, cost);
}

void coord_counters(const struct coord *coord, struct coord_counters *ret_counters)
{
	*ret_counters = coord->counters;
	struct index_counters index;
	index_counters(coord->index, &index);
	ret_counters->sessions = sessions_count(coord->sessions);
	for (uint32_t i = 0; i < coord->registry.count_max; i++)
		ret_counters->members += coord->registry.nodes[i].id && coord->registry.nodes[i].member;
	ret_counters->index_blocks = index.blocks;
	ret_counters->index_blocks_max = coord->options.blocks_max;
	ret_counters->index_added = index.added;
	ret_counters->index_removed = index.removed;
	ret_counters->index_ignored = index.ignored;
	ret_counters->index_gaps = index.gaps;
	ret_counters->index_drops = index.drops;
	ret_counters->tokens_kept = (uint64_t)coord->pool.used * TOKENS_PAGE;
	count_jobs(coord, ret_counters);
}

/* ---- dump */

struct text {
	char *at;
	size_t left;
};

static void print(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void print(struct text *text, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	int length = vsnprintf(text->at, text->left, format, args);
	va_end(args);
	size_t n = length < 0 ? 0 : (size_t)length < text->left ? (size_t)length : text->left - 1;
	text->at += n;
	text->left -= n;
}

static void dump_job(const struct coord *coord, const struct job *job, uint64_t now_ns, struct text *text)
{
	static const char *const halves[] = {"-", "asked", "held", "running", "over"};
	print(text, "  job %llu attempt %u %s choices %x", (unsigned long long)job->number, job->attempt,
	      job_state_text(job->state), job->choices);
	for (int h = 0; h < 2; h++)
		if (job->half[h].state != HALF_NONE)
			print(text, ", %s on %s", halves[job->half[h].state], coord_node_name(coord, job->half[h].node));
	print(text, ", progress %llu ms ago\n", (unsigned long long)((now_ns - job->progress_ns) / 1000000));
}

static void dump_request(const struct coord *coord, const struct request *request, uint64_t now_ns, struct text *text)
{
	print(text, "request %llu %s model %s: %u tokens, %u of %u choices live, %u attempts, %u recoveries\n",
	      (unsigned long long)request->number, request->id, request->model, request->prompt_count, request->live,
	      request->choice_count, request->outcome.attempts, request->outcome.recoveries);
	for (uint32_t i = 0; i < request->choice_count; i++)
		if (request->jobs[i].state != JOB_FREE)
			dump_job(coord, &request->jobs[i], now_ns, text);
}

void coord_dump(const struct coord *coord, uint64_t now_ns, char *out, size_t size)
{
	struct text text = {out, size};
	for (uint32_t i = 0; i < coord->registry.count_max; i++) {
		const struct registry_node *node = &coord->registry.nodes[i];
		struct work work = node_work(node);
		if (node->id)
			print(&text, "node %llx %s: %s, %u jobs, %llu tokens waiting, %u sequences, %u blocks indexed\n",
			      (unsigned long long)node->id, node->announced.name,
			      coord_node_state_text(state_of(coord, node, now_ns)), work.jobs,
			      (unsigned long long)work.tokens, work.sequences, index_held(coord->index, i));
	}
	for (uint32_t i = 0; i < coord->options.requests_max; i++)
		if (coord->requests[i].used)
			dump_request(coord, &coord->requests[i], now_ns, &text);
}

/* baton-prefill, baton-decode: one engine node; the program's name sets its first role.  Wires the pure node core to the
 * engine, its KV memory, link and peers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/layer_groups.h"
#include "base/log.h"
#include "engine/kv_neighbour.h"
#include "kernels/device.h"
#include "model/model_dir.h"
#include "net/host_memory.h"
#include "net/process.h"
#include "node/core.h"
#include "node/engine_port.h"
#include "node/neighbour.h"
#include "node/sizes.h"

enum { NODE_OPTIONS = 20 };

struct settings {
	struct process_settings process;
	const char *model;
	const char *served_name;
	const char *fingerprint; /* NULL: any */
	const char *role;
	const char *device;
	const char *quantization;
	const char *numerics;
	const char *isa;
	uint64_t threads;
	uint64_t tensor_parallel_size, row_segments;
	uint64_t kv_bytes; /* 0: what there is */
	const char *utilization;
	uint64_t context_max;
	struct node_sizes sizes;
	uint64_t fetch_deadline_ms;
	uint64_t fetch_min_tokens;
};

struct program {
	struct settings settings;
	Wire__Role role;
	struct model_dir *model;
	double utilization;
	struct engine_kv kv;
	uint32_t block_counts[LAYER_GROUPS_MAX];
	uint32_t context_max;
	struct process *process;
	struct engine_port *port;
	struct region *regions[LAYER_GROUPS_MAX];
	struct kv_neighbour *neighbour; /* the engine's; NULL: KV goes through the host's memory */
	void *memory;
	struct node *node;
};

static void *landing(void *context, uint32_t block, uint32_t offset)
{
	struct program *program = context;
	uint32_t g = block >= program->block_counts[0];
	engine_block_landing(engine_port_engine(program->port), block, offset / program->kv.groups[g].layer_bytes);
	return (uint8_t *)region_slot(program->regions[g], block - g * program->block_counts[0]) + offset;
}

/* Pieces are of whole layers. */
static void *twin(void *context, uint32_t block, uint32_t offset)
{
	struct program *program = context;
	uint32_t g = block >= program->block_counts[0];
	if (!program->neighbour)
		return NULL;
	return kv_neighbour_twin(program->neighbour, block, offset / program->kv.groups[g].layer_bytes);
}

static void copy_block(void *context, uint32_t from, uint32_t to)
{
	engine_block_copy(engine_port_engine(((struct program *)context)->port), from, to);
}

static void submit(void *context, const struct plan *plan)
{
	engine_port_submit(((struct program *)context)->port, plan);
}

static uint64_t block_digest(void *context, uint32_t block, uint32_t layer)
{
	return engine_port_digest(((struct program *)context)->port, block, layer);
}

/* The shell's events, with the core's own types. */
static void opened(void *core, uint32_t conn, uint64_t dialed, uint64_t now_ns)
{
	node_opened(core, conn, dialed, now_ns);
}

static void dial_failed(void *core, uint64_t dialed, uint64_t now_ns)
{
	node_dial_failed(core, dialed, now_ns);
}

static void closed(void *core, uint32_t conn, uint64_t now_ns)
{
	node_closed(core, conn, now_ns);
}

static void message(void *core, uint32_t conn, const Wire__Envelope *envelope, uint64_t now_ns)
{
	node_message(core, conn, envelope, now_ns);
}

static void tick(void *core, uint64_t now_ns)
{
	node_tick(core, now_ns);
}

static void read_outcome(void *core, uint64_t op, enum err e, uint64_t digest, uint64_t now_ns)
{
	node_read_outcome(core, op, e, digest, now_ns);
}

static void landing_free(void *core, uint64_t op, uint64_t now_ns)
{
	node_landing_free(core, op, now_ns);
}

static void on_member(void *context, const struct member *member, uint64_t now_ns)
{
	struct program *program = context;
	node_member(program->node, member->node, member->incarnation, member->role,
		    member->has_compat ? &member->compat : NULL, now_ns);
}

static void on_gone(void *context, uint64_t node, uint64_t now_ns)
{
	node_member_gone(((struct program *)context)->node, node, now_ns);
}

static void renew(void *context, uint64_t incarnation, const uint8_t *address, size_t length, uint64_t now_ns)
{
	node_renew(((struct program *)context)->node, incarnation, address, length, now_ns);
}

static void drain(void *context)
{
	node_drain(((struct program *)context)->node);
}

static bool drained(void *context)
{
	return node_idle(((struct program *)context)->node);
}

static void hex(const uint8_t *bytes, size_t count, char *ret_text)
{
	for (size_t i = 0; i < count; i++)
		snprintf(ret_text + 2 * i, 3, "%02x", bytes[i]);
}

/* A bit that changed on the disk is a model like any other, unless somebody says which one was meant.  What files and headers tell
 * is compared before any weight is read. */
static enum err check_outline(const struct program *program, struct why *why)
{
	char text[2 * MODEL_OUTLINE_BYTES + 1];
	uint8_t outline[MODEL_OUTLINE_BYTES];
	const char *wanted = program->settings.fingerprint;
	if (!wanted)
		return ERR_OK;
	model_dir_outline(program->model, outline);
	hex(outline, sizeof(outline), text);
	if (strncasecmp(wanted, text, sizeof(text) - 1) == 0)
		return ERR_OK;
	return why_set(why, ERR_CORRUPT, "--model %s has a fingerprint that begins with %s, expected --model-fingerprint %s: config.json, tokenizer.json or "
		       "the tensors' names, types and shapes differ", program->settings.model, text, wanted);
}

static enum err check_fingerprint(const struct program *program, struct why *why)
{
	char text[2 * MODEL_FINGERPRINT_BYTES + 1];
	const char *wanted = program->settings.fingerprint;
	hex(engine_port_fingerprint(program->port), MODEL_FINGERPRINT_BYTES, text);
	log_info("model %s, fingerprint %s", program->model->name, text);
	if (!wanted || strcasecmp(wanted, text) == 0)
		return ERR_OK;
	return why_set(why, ERR_CORRUPT, "--model %s has fingerprint %s, expected --model-fingerprint %s: bytes of the weights differ",
		       program->settings.model, text, wanted);
}

/* The device is known, and the weights are not read yet. */
static enum err choose_sizes(void *context, const struct device_props *device, struct engine_options *options, struct why *why)
{
	struct node_sizes *sizes = &((struct program *)context)->settings.sizes;
	enum err e = node_sizes_choose(sizes, device->kind != DEVICE_CPU, why);
	if (e != ERR_OK)
		return e;
	options->block_tokens = (uint32_t)sizes->block_tokens;
	options->batch_tokens_max = (uint32_t)sizes->batch_tokens_max;
	log_info("blocks of %llu tokens; steps of %llu sequences and %llu tokens, of one prompt %llu", (unsigned long long)sizes->block_tokens,
		 (unsigned long long)sizes->seq_max, (unsigned long long)sizes->batch_tokens_max, (unsigned long long)sizes->chunk_tokens);
	return ERR_OK;
}

static enum err open_engine(struct program *program, struct why *why)
{
	struct engine_options options = {
		.model = program->model,
		.device = program->settings.device,
		.numerics = program->settings.numerics,
		.isa = program->settings.isa,
		.thread_count = (uint32_t)program->settings.threads,
		.tensor_parallel_size = (uint32_t)program->settings.tensor_parallel_size,
		.row_segments = (uint32_t)program->settings.row_segments,
		.on_device = choose_sizes,
		.device_context = program,
	};
	enum err e = engine_port_create(process_loop(program->process), &options, why, &program->port);
	if (e != ERR_OK)
		return e;
	log_info("%s: %s", program->model->name, engine_numerics_class(engine_port_engine(program->port)));
	e = check_fingerprint(program, why);
	return e == ERR_OK ? engine_port_kv(program->port, why, &program->kv) : e;
}

/* The blocks of a layer group are a region of its number. */
static enum err open_group(struct program *program, uint32_t g, struct why *why)
{
	const struct kv_geometry *group = &program->kv.groups[g];
	struct region_options options = {.index = (uint16_t)g, .slot_bytes = group->block_bytes,
					 .slot_count = program->block_counts[g], .touch = REGION_TOUCH};
	enum err e = region_create(&options, &program->regions[g], why);
	if (e == ERR_OK)
		e = engine_set_kv(engine_port_engine(program->port), g, region_slot(program->regions[g], 0),
				  program->block_counts[g]);
	if (e == ERR_OK)
		log_info("KV of %u layers that see %u tokens (0: all): %llu tokens, %u blocks of %u, %u bytes each", group->layer_count,
			 group->window, (unsigned long long)program->block_counts[g] * group->block_tokens, program->block_counts[g],
			 group->block_tokens, group->block_bytes);
	return e;
}

/* The blocks are the host's memory, also of a GPU's engine, whose own mirror them. */
static enum err check_memory(const struct program *program, struct why *why)
{
	struct host_memory memory;
	host_memory_read("", &memory);
	return host_memory_check(&memory, program->settings.kv_bytes, "--kv-bytes", why);
}

/* Weights and activations are there by now. */
static enum err choose_kv(struct program *program, struct why *why, uint64_t *ret_bytes)
{
	const struct engine *engine = engine_port_engine(program->port);
	struct host_memory memory;
	const char *bound;
	host_memory_read("", &memory);
	const struct kv_room room = {.asked = program->settings.kv_bytes, .device = engine_kv_room(engine, program->utilization),
				     .device_all = engine_kv_room(engine, 1), .host = host_memory_most(&memory)};
	enum err e = host_memory_check(&memory, room.asked, "--kv-bytes", why);
	if (e == ERR_OK)
		e = node_kv_bytes(&room, why, ret_bytes, &bound);
	if (e == ERR_OK)
		log_info("KV of %llu MiB, as many as %s: the GPUs have room for %llu MiB of it, the host for %llu MiB (%s)",
			 (unsigned long long)*ret_bytes >> 20, bound, (unsigned long long)(room.device == UINT64_MAX ? 0 : room.device) >> 20,
			 (unsigned long long)room.host >> 20, memory.bounded_by);
	return e;
}

static enum err open_kv(struct program *program, struct why *why)
{
	uint64_t bytes;
	enum err e = choose_kv(program, why, &bytes);
	if (e == ERR_OK)
		e = engine_kv_divide(&program->kv, bytes, program->context_max, (uint32_t)program->settings.sizes.chunk_tokens, why,
				     program->block_counts);
	for (uint32_t g = 0; e == ERR_OK && g < program->kv.group_count; g++)
		e = open_group(program, g, why);
	if (e == ERR_OK)
		e = neighbour_open(engine_port_engine(program->port), process_link(program->process), program->regions,
				   program->kv.group_count, why, &program->neighbour);
	for (uint32_t g = 0; e == ERR_OK && g < program->kv.group_count; g++)
		e = link_region_add(process_link(program->process), program->regions[g], why);
	return e;
}

static uint32_t at_most(uint32_t value, uint32_t bound)
{
	return value < bound ? value : bound;
}

static struct node_group node_group(const struct program *program, uint32_t g)
{
	uint32_t count = program->block_counts[g];
	return (struct node_group){
		.layer_count = program->kv.groups[g].layer_count,
		.layer_bytes = program->kv.groups[g].layer_bytes,
		.window = program->kv.groups[g].window,
		.block_count = count,
		.offer_max = at_most(count / 8, 2048),
		.hold_max = at_most(count / 4, 4096),
		.generations = region_generations(program->regions[g]),
	};
}

static struct node_options node_options(struct program *program)
{
	const struct settings *s = &program->settings;
	size_t address_length;
	const uint8_t *address = process_link_address(program->process, &address_length);
	return (struct node_options){
		.node = process_node(program->process),
		.incarnation = process_incarnation(program->process),
		.role = program->role,
		.name = s->process.name,
		.cluster = s->process.cluster,
		.compat = program->kv.compat,
		.link_address = address,
		.link_address_length = address_length,
		.block_tokens = program->kv.groups[0].block_tokens,
		.group_count = program->kv.group_count,
		.groups = {node_group(program, 0)},
		.layers = program->kv.layers,
		.peer_max = (uint32_t)s->process.nodes_max,
		.job_max = (uint32_t)s->sizes.seq_max,
		.seq_max = (uint32_t)s->sizes.seq_max,
		.context_max = program->context_max,
		.batch_tokens_max = (uint32_t)s->sizes.batch_tokens_max,
		.chunk_tokens = (uint32_t)s->sizes.chunk_tokens,
		.read_max = 16384,
		.fetch_deadline_ns = s->fetch_deadline_ms * 1000000,
		.fetch_min_tokens = (uint32_t)s->fetch_min_tokens,
		.time_factor = (uint32_t)s->process.time_factor,
		.eos_ids = program->model->config.eos_ids,
		.eos_count = program->model->config.eos_count,
		.vocab_size = program->model->config.vocab_size,
		.constraints = engine_constraints(engine_port_engine(program->port)),
		.env = process_env(program->process),
		.context = program,
		.submit = submit,
		.block_digest = block_digest,
		.copy_block = copy_block,
	};
}

static enum err join(struct program *program, struct why *why)
{
	struct process_core core = {
		.shell = {.core = program->node, .opened = opened, .dial_failed = dial_failed, .closed = closed,
			  .message = message, .tick = tick, .read_outcome = read_outcome, .landing_free = landing_free},
		.context = program,
		.on_member = on_member,
		.on_gone = on_gone,
		.drain = drain,
		.drained = drained,
		.renew = renew,
	};
	struct member self = {
		.role = program->role,
		.has_compat = true,
		.compat = program->kv.compat,
		.block_tokens = program->kv.groups[0].block_tokens,
		.group_count = program->kv.group_count,
		.context_max = program->context_max,
		.model_count = 1,
	};
	for (uint32_t g = 0; g < program->kv.group_count; g++)
		self.windows[g] = program->kv.groups[g].window;
	const char *served = program->settings.served_name ? program->settings.served_name : program->model->name;
	snprintf(self.models[0], sizeof(self.models[0]), "%s", served);
	const struct engine *engine = engine_port_engine(program->port);
	self.tensor_parallel_size = engine_tensor_parallel_size(engine);
	snprintf(self.device, sizeof(self.device), "%.63s", engine_numerics_class(engine));
	return process_join(program->process, &core, &self, why);
}

static enum err run(struct program *program, struct why *why)
{
	enum err e = open_engine(program, why);
	if (e == ERR_OK)
		e = open_kv(program, why);
	if (e == ERR_OK)
		e = engine_warm(engine_port_engine(program->port), (uint32_t)program->settings.sizes.seq_max);
	if (e != ERR_OK)
		return e;
	struct node_options options = node_options(program);
	for (uint32_t g = 1; g < program->kv.group_count; g++)
		options.groups[g] = node_group(program, g);
	program->memory = calloc(1, node_bytes(&options));
	if (!program->memory)
		return why_set(why, ERR_NOMEM, "no memory for %zu bytes of tables", node_bytes(&options));
	program->node = node_init(program->memory, &options);
	engine_port_attach(program->port, program->node);
	e = join(program, why);
	if (e == ERR_OK)
		e = process_run(program->process, why);
	return e;
}

static enum err check_settings(struct program *program, struct why *why)
{
	struct settings *s = &program->settings;
	if (!s->model)
		return why_set(why, ERR_INVALID, "--model DIR is missing: a Hugging Face directory");
	char *end;
	program->utilization = strtod(s->utilization, &end);
	if (end == s->utilization || *end || !(program->utilization > 0 && program->utilization <= 1))
		return why_set(why, ERR_INVALID, "--gpu-memory-utilization is \"%s\", expected a number above 0 and up to 1, as 0.9", s->utilization);
	size_t digits = s->fingerprint ? strspn(s->fingerprint, "0123456789abcdefABCDEF") : 2 * MODEL_FINGERPRINT_BYTES;
	if (digits != 2 * MODEL_FINGERPRINT_BYTES || (s->fingerprint && s->fingerprint[digits]))
		return why_set(why, ERR_INVALID, "--model-fingerprint \"%s\", expected %d hexadecimal digits, as each start logs them", s->fingerprint,
			       2 * MODEL_FINGERPRINT_BYTES);
	const char *const names[] = {"prefill", "decode", "both"};
	for (int i = 0; i < 3; i++) {
		if (strcmp(s->role, names[i]) != 0)
			continue;
		program->role = (Wire__Role)(WIRE__ROLE__ROLE_PREFILL + i);
		return ERR_OK;
	}
	return why_set(why, ERR_INVALID, "--role \"%s\", expected prefill, decode or both", s->role);
}

static enum err open_model(struct program *program, struct why *why)
{
	struct model_dir_options options = {.quantization = program->settings.quantization};
	enum err e = model_dir_open(program->settings.model, &options, why, &program->model);
	if (e != ERR_OK)
		return e;
	uint32_t most = program->model->config.position_max;
	program->context_max = program->settings.context_max ? at_most((uint32_t)program->settings.context_max, most) : most;
	return check_outline(program, why);
}

/* What files say about themselves comes first: it needs nobody else. */
static enum err serve(struct program *program, struct why *why)
{
	enum err e = check_settings(program, why);
	if (e == ERR_OK)
		e = check_memory(program, why);
	struct process_parts parts = {.role = program->role, .with_link = true, .read_max = 16384, .context = program, .landing = landing, .twin = twin};
	if (e == ERR_OK)
		e = open_model(program, why);
	if (e == ERR_OK) /* the link is made on this thread, and UCX looks for a GPU then */
		engine_make_device_current(program->settings.device, program->settings.isa);
	if (e == ERR_OK)
		e = process_open(&program->settings.process, &parts, &program->process, why);
	if (e == ERR_OK)
		e = run(program, why);
	process_detach(program->process);
	engine_port_destroy(program->port);
	process_close(program->process);
	free(program->memory);
	for (uint32_t g = 0; g < LAYER_GROUPS_MAX; g++)
		region_destroy(program->regions[g]);
	model_dir_close(program->model);
	return e;
}

static void fill_table(struct settings *s, struct option *table)
{
	const struct option rows[NODE_OPTIONS] = {
		{"model", OPTION_TEXT, &s->model, 0, 0, "DIR", "Hugging Face directory"},
		{"served-model-name", OPTION_TEXT, &s->served_name, 0, 0, "NAME", "default: the directory's name"},
		{"model-fingerprint", OPTION_TEXT, &s->fingerprint, 0, 0, "HEX", "refuse a model of another; each start logs it"},
		{"role", OPTION_TEXT, &s->role, 0, 0, "ROLE", "prefill, decode, both"},
		{"device", OPTION_TEXT, &s->device, 0, 0, "NAME", "auto (a GPU where there is one), cpu, cuda"},
		{"numerics", OPTION_TEXT, &s->numerics, 0, 0, "NAME", "exact, or fast: a GPU's class of its own (docs/gpu.md)"},
		{"isa", OPTION_TEXT, &s->isa, 0, 0, "NAME", "portable, avx2, avx512, …; default: the best there is"},
		{"quantization", OPTION_TEXT, &s->quantization, 0, 0, "NAME",
		 "none: weights of 8 bits become bf16; fp8: they are computed with as they are"},
		{"threads", OPTION_COUNT, &s->threads, 0, 1024, "N", "compute threads; 0: one a core"},
		{"tensor-parallel-size", OPTION_COUNT, &s->tensor_parallel_size, 1, 8, "N", "GPUs that share each layer out: 1, 2, 4, 8"},
		{"row-segments", OPTION_COUNT, &s->row_segments, 0, 8, "N",
		 "the greatest tensor-parallel-size among nodes that share KV; 0: this node's"},
		{"kv-bytes", OPTION_BYTES, &s->kv_bytes, 1 << 20, 0, "BYTES",
		 "memory for KV blocks, of the host and of GPUs; default: on CPUs 256 MiB, on GPUs what both have"},
		{"gpu-memory-utilization", OPTION_TEXT, &s->utilization, 0, 0, "X", "share of a GPU's memory to be used, with the default of --kv-bytes; 0.9"},
		{"block-size", OPTION_COUNT, &s->sizes.block_tokens, 4, 256, "N", "tokens of a block, the same at all nodes that share KV; on CPUs 16, on GPUs 64"},
		{"max-model-len", OPTION_COUNT, &s->context_max, 0, 1 << 20, "N", "tokens of a sequence; 0: the model's"},
		{"max-num-seqs", OPTION_COUNT, &s->sizes.seq_max, 1, 256, "N", "sequences at once; on CPUs 64, on GPUs 256"},
		{"max-num-batched-tokens", OPTION_COUNT, &s->sizes.batch_tokens_max, 16, 65536, "N", "tokens of a step; on CPUs 512, on GPUs 8192"},
		{"prefill-chunk-tokens", OPTION_COUNT, &s->sizes.chunk_tokens, 4, 65536, "N",
		 "most tokens of one prompt in a step; on CPUs 256, on GPUs 2048"},
		{"fetch-deadline-ms", OPTION_COUNT, &s->fetch_deadline_ms, 1, 60000, "MS", "to wait for cached blocks at most"},
		{"fetch-min-tokens", OPTION_COUNT, &s->fetch_min_tokens, 0, 1 << 20, "N", "fewer missing are recomputed at once"},
	};
	memcpy(table, rows, sizeof(rows));
}

int main(int argc, char **argv, char **environment)
{
	const char *slash = strrchr(argv[0], '/');
	const char *called = slash ? slash + 1 : argv[0];
	bool decode = strstr(called, "decode") != NULL;
	struct program program = {.settings = {.role = decode ? "decode" : "prefill", .tensor_parallel_size = 1,
					       .utilization = "0.9", .fetch_deadline_ms = 1000}};
	process_defaults(&program.settings.process, decode ? "decode-1" : "prefill-1");
	struct option table[NODE_OPTIONS + PROCESS_OPTIONS];
	fill_table(&program.settings, table);
	process_options(&program.settings.process, table + NODE_OPTIONS);
	struct options options = {.program = called, .usage = "--model DIR [options]", .table = table,
				  .count = NODE_OPTIONS + PROCESS_OPTIONS, .environment = environment};
	struct why why = {0};
	enum err e = options_parse(&options, argc, argv, &why);
	if (e == ERR_OK && options.help)
		options_print_help(&options);
	else if (e == ERR_OK)
		e = serve(&program, &why);
	if (e != ERR_OK)
		fprintf(stderr, "%s: %s%s%s\n", called, err_text(e), why.text[0] ? ": " : "", why.text);
	options_fini(&options);
	return e == ERR_OK ? 0 : 1;
}

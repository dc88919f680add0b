/* baton-prefill, baton-decode: one engine node; the program's name sets its first role.  Wires the pure node core to the
 * engine, its KV memory, link and peers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/layer_groups.h"
#include "base/log.h"
#include "engine/kv_neighbour.h"
#include "model/model_dir.h"
#include "net/process.h"
#include "node/core.h"
#include "node/engine_port.h"
#include "node/neighbour.h"

enum { NODE_OPTIONS = 19 };

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
	uint64_t kv_bytes;
	uint64_t block_tokens;
	uint64_t context_max;
	uint64_t seq_max;
	uint64_t batch_tokens_max;
	uint64_t chunk_tokens;
	uint64_t fetch_deadline_ms;
	uint64_t fetch_min_tokens;
};

struct program {
	struct settings settings;
	Wire__Role role;
	struct model_dir *model;
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
		.block_tokens = (uint32_t)program->settings.block_tokens,
		.batch_tokens_max = (uint32_t)program->settings.batch_tokens_max,
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
		log_info("KV of %u layers that see %u tokens (0: all): %u blocks of %u tokens, %u bytes each", group->layer_count,
			 group->window, program->block_counts[g], group->block_tokens, group->block_bytes);
	return e;
}

static enum err open_kv(struct program *program, struct why *why)
{
	enum err e = engine_kv_divide(&program->kv, program->settings.kv_bytes, program->context_max,
				      (uint32_t)program->settings.chunk_tokens, why, program->block_counts);
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
		.job_max = (uint32_t)s->seq_max,
		.seq_max = (uint32_t)s->seq_max,
		.context_max = program->context_max,
		.batch_tokens_max = (uint32_t)s->batch_tokens_max,
		.chunk_tokens = (uint32_t)s->chunk_tokens,
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
		e = engine_warm(engine_port_engine(program->port), (uint32_t)program->settings.seq_max);
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
	if (s->chunk_tokens % s->block_tokens != 0)
		return why_set(why, ERR_INVALID, "--prefill-chunk-tokens %llu is no multiple of --block-size %llu",
			       (unsigned long long)s->chunk_tokens, (unsigned long long)s->block_tokens);
	if (s->batch_tokens_max < s->seq_max || s->batch_tokens_max < s->block_tokens)
		return why_set(why, ERR_INVALID, "--max-num-batched-tokens %llu is below --max-num-seqs or --block-size",
			       (unsigned long long)s->batch_tokens_max);
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
		{"kv-bytes", OPTION_BYTES, &s->kv_bytes, 1 << 20, 0, "BYTES", "memory for KV blocks"},
		{"block-size", OPTION_COUNT, &s->block_tokens, 4, 256, "N", "tokens of a block"},
		{"max-model-len", OPTION_COUNT, &s->context_max, 0, 1 << 20, "N", "tokens of a sequence; 0: the model's"},
		{"max-num-seqs", OPTION_COUNT, &s->seq_max, 1, 256, "N", "sequences at once"},
		{"max-num-batched-tokens", OPTION_COUNT, &s->batch_tokens_max, 16, 65536, "N", "tokens of a step"},
		{"prefill-chunk-tokens", OPTION_COUNT, &s->chunk_tokens, 4, 65536, "N", "most tokens of one prompt in a step"},
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
	struct program program = {.settings = {.role = decode ? "decode" : "prefill", .tensor_parallel_size = 1, .kv_bytes = 256 << 20,
					       .block_tokens = 16, .seq_max = 64, .batch_tokens_max = 512,
					       .chunk_tokens = 256, .fetch_deadline_ms = 1000}};
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

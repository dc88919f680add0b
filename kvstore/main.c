/* baton-kvstore: one node of the KV store.  Wires the pure store to its memory (a region a slab), link and peers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "kvstore/store.h"
#include "net/loop.h"
#include "net/process.h"
#include "proto/codec.h"

enum { STORE_SLABS_MAX = 64, STORE_PEERS = 256, STORE_OPTIONS = 8 };

struct program {
	struct process_settings settings;
	uint64_t kv_bytes;
	uint64_t slab_bytes;
	const char *policy_name;
	struct option_list quota_texts;
	uint64_t pin_percent;
	struct tenant_quota quotas[TENANT_QUOTAS_MAX];
	uint64_t replicas, rebalance_rate, grace_ms;
	struct process *process;
	struct store *store;
	struct slabs_options slabs;
	struct region *regions[STORE_SLABS_MAX];
	uint16_t region_next;
};

/* A slab got its size class: it becomes a region of that many slots, readable by peers. */
static enum err slab_open(void *context, uint32_t slab, uint32_t slot_bytes, uint32_t slot_count,
			  struct slab_region *ret_region)
{
	struct program *program = context;
	struct region_options options = {.index = program->region_next, .slot_bytes = slot_bytes,
					 .slot_count = slot_count, .touch = true};
	struct why why = {0};
	enum err e = region_create(&options, &program->regions[slab], &why);
	if (e == ERR_OK)
		e = link_region_add(process_link(program->process), program->regions[slab], &why);
	if (e != ERR_OK) {
		log_error("slab %u of %u slots of %u bytes: %s", slab, slot_count, slot_bytes, why.text);
		region_destroy(program->regions[slab]);
		program->regions[slab] = NULL;
		return e;
	}
	ret_region->region = program->region_next++;
	ret_region->generations = region_generations(program->regions[slab]);
	return ERR_OK;
}

static void slab_close(void *context, uint32_t slab)
{
	struct program *program = context;
	link_region_remove(process_link(program->process), program->regions[slab]);
	region_destroy(program->regions[slab]);
	program->regions[slab] = NULL;
}

static void *landing(void *context, uint32_t number, uint32_t offset)
{
	struct program *program = context;
	uint32_t per_slab = slabs_slots_max(&program->slabs);
	return (uint8_t *)region_slot(program->regions[number / per_slab], number % per_slab) + offset;
}

static void opened(void *core, uint32_t conn, uint64_t dialed, uint64_t now_ns)
{
	store_opened(core, conn, dialed, now_ns);
}

static void dial_failed(void *core, uint64_t dialed, uint64_t now_ns)
{
	store_dial_failed(core, dialed, now_ns);
}

static void closed(void *core, uint32_t conn, uint64_t now_ns)
{
	store_closed(core, conn, now_ns);
}

static void message(void *core, uint32_t conn, const Wire__Envelope *envelope, uint64_t now_ns)
{
	store_message(core, conn, envelope, now_ns);
}

static void tick(void *core, uint64_t now_ns)
{
	store_tick(core, now_ns);
}

static void read_outcome(void *core, uint64_t op, enum err e, uint64_t digest, uint64_t now_ns)
{
	store_read_done(core, op, e, digest, now_ns);
}

static void landing_free(void *core, uint64_t op, uint64_t now_ns)
{
	store_landing_free(core, op, now_ns);
}

static void renew(void *context, uint64_t incarnation, const uint8_t *address, size_t length, uint64_t now_ns)
{
	store_renew(((struct program *)context)->store, incarnation, address, length, now_ns);
}

static void on_member(void *context, const struct member *member, uint64_t now_ns)
{
	store_member(((struct program *)context)->store, member->node, member->incarnation, member->role, now_ns);
}

static void on_gone(void *context, uint64_t node, uint64_t now_ns)
{
	(void)now_ns;
	store_member_gone(((struct program *)context)->store, node);
}

static void drain(void *context)
{
	struct program *program = context;
	store_drain(program->store, loop_now_ns(process_loop(program->process)));
}

static bool drained(void *context)
{
	return store_drained(((struct program *)context)->store);
}

static struct store_options store_options(struct program *program)
{
	size_t address_length;
	const uint8_t *address = process_link_address(program->process, &address_length);
	program->slabs = (struct slabs_options){
		.slab_count = (uint32_t)(program->kv_bytes / program->slab_bytes),
		.slab_bytes = program->slab_bytes,
		.slot_bytes_min = 4096,
		.context = program,
		.open = slab_open,
		.close = slab_close,
	};
	return (struct store_options){
		.node = process_node(program->process),
		.incarnation = process_incarnation(program->process),
		.name = program->settings.name,
		.link_address = address,
		.link_address_length = address_length,
		.peer_max = STORE_PEERS,
		.time_factor = (uint32_t)program->settings.time_factor,
		.ledger = {.slabs = program->slabs,
			   .entry_max = slabs_slot_total(&program->slabs),
			   .layers_max = 128,
			   .policy = evict_find(program->policy_name),
			   .quotas = program->quotas,
			   .quota_count = (uint32_t)program->quota_texts.count,
			   .pin_bytes_max = program->kv_bytes / 100 * program->pin_percent},
		.offer_max = 4096,
		.reading_max = 64,
		.lookup_max = 1024,
		.hold_max = 16384,
		.found_max = 8192,
		.weight = (uint32_t)(program->kv_bytes >> 20),
		.replicas = (uint32_t)program->replicas,
		.copies_max = 256,
		.rebalance_rate = program->rebalance_rate,
		.grace_ns = program->grace_ms * 1000000,
		.env = process_env(program->process),
	};
}

static enum err join(struct program *program, struct why *why)
{
	struct process_core core = {
		.shell = {.core = program->store, .opened = opened, .dial_failed = dial_failed, .closed = closed,
			  .message = message, .tick = tick, .read_outcome = read_outcome, .landing_free = landing_free},
		.context = program,
		.on_member = on_member,
		.on_gone = on_gone,
		.drain = drain,
		.drained = drained,
		.renew = renew,
	};
	struct member self = {.role = WIRE__ROLE__ROLE_KVSTORE};
	snprintf(self.device, sizeof(self.device), "%llu MiB DRAM", (unsigned long long)program->kv_bytes >> 20);
	return process_join(program->process, &core, &self, why);
}

/* The names of all policies; the first is the default. */
static const char *list_policies(char *text, size_t capacity)
{
	int length = 0;
	for (int i = 0; i < EVICT_POLICIES; i++)
		length += snprintf(text + length, capacity - (size_t)length, "%s%s", i ? ", " : "", evict_policies[i]->name);
	return text;
}

static enum err refuse_policy(const char *name, struct why *why)
{
	char known[160];
	return why_set(why, ERR_INVALID, "--eviction-policy is \"%s\", expected one of %s", name,
		       list_policies(known, sizeof(known)));
}

/* "acme=2GiB" */
static enum err parse_quota(const char *text, struct why *why, struct tenant_quota *ret_quota)
{
	const char *equals = strrchr(text, '=');
	size_t length = equals ? (size_t)(equals - text) : 0;
	struct tenant_quota quota = {.bytes = 0};
	if (!equals || length > TENANT_NAME_MAX || options_bytes(equals + 1, &quota.bytes) != ERR_OK)
		return why_set(why, ERR_INVALID, "--tenant-quota is \"%s\", expected TENANT=BYTES, as acme=2GiB", text);
	memcpy(quota.name, text, length);
	*ret_quota = quota;
	return ERR_OK;
}

static enum err parse_quotas(struct program *program, struct why *why)
{
	enum err e = ERR_OK;
	for (size_t i = 0; e == ERR_OK && i < program->quota_texts.count; i++) {
		e = parse_quota(program->quota_texts.items[i], why, &program->quotas[i]);
		for (size_t k = 0; e == ERR_OK && k < i; k++)
			if (strcmp(program->quotas[k].name, program->quotas[i].name) == 0)
				e = why_set(why, ERR_INVALID, "--tenant-quota says twice what \"%s\" may have", program->quotas[i].name);
	}
	return e;
}

static enum err serve(struct program *program, struct why *why)
{
	if (program->slab_bytes > program->kv_bytes || program->kv_bytes / program->slab_bytes > STORE_SLABS_MAX)
		return why_set(why, ERR_INVALID, "--kv-bytes holds %llu slabs of --slab-bytes, expected 1 to %d",
			       (unsigned long long)(program->kv_bytes / program->slab_bytes), STORE_SLABS_MAX);
	if (!evict_find(program->policy_name))
		return refuse_policy(program->policy_name, why);
	struct process_parts parts = {.role = WIRE__ROLE__ROLE_KVSTORE, .with_link = true, .read_max = 65536, .context = program, .landing = landing};
	enum err e = parse_quotas(program, why);
	if (e == ERR_OK)
		e = process_open(&program->settings, &parts, &program->process, why);
	if (e != ERR_OK)
		return e;
	struct store_options options = store_options(program);
	void *memory = calloc(1, store_bytes(&options));
	if (!memory) {
		process_close(program->process);
		return why_set(why, ERR_NOMEM, "no memory for the ledger");
	}
	program->store = store_init(memory, &options);
	log_info("eviction policy %s", program->policy_name);
	e = join(program, why);
	if (e == ERR_OK)
		e = process_run(program->process, why);
	process_close(program->process);
	for (int i = 0; i < STORE_SLABS_MAX; i++)
		region_destroy(program->regions[i]);
	free(memory);
	return e;
}

int main(int argc, char **argv, char **environment)
{
	struct program program = {.kv_bytes = 256 << 20, .slab_bytes = 32 << 20,
				  .policy_name = evict_policies[0]->name, .pin_percent = 25, .replicas = 2,
				  .rebalance_rate = 256 << 20, .grace_ms = REPLICATE_GRACE_NS / 1000000};
	char policies[200] = "which unheld block goes first, by default the first of: ";
	list_policies(policies + strlen(policies), sizeof(policies) - strlen(policies));
	process_defaults(&program.settings, "kvstore-1");
	struct option table[PROCESS_OPTIONS + STORE_OPTIONS] = {
		{"kv-bytes", OPTION_BYTES, &program.kv_bytes, 1 << 20, 0, "BYTES", "memory for blocks"},
		{"slab-bytes", OPTION_BYTES, &program.slab_bytes, 1 << 20, 0, "BYTES", "unit in which sizes of blocks share it"},
		{"eviction-policy", OPTION_TEXT, &program.policy_name, 0, 0, "NAME",
		 policies},
		{"tenant-quota", OPTION_LIST, &program.quota_texts, 0, 0, "TENANT=BYTES",
		 "what a tenant's blocks may take here; several; *=BYTES: each other tenant's"},
		{"pin-percent", OPTION_COUNT, &program.pin_percent, 0, 90, "N", "of the memory that `baton kv pin --hard` may keep for ever"},
		{"replicas", OPTION_COUNT, &program.replicas, 1, PROTO_REPLICAS_MAX, "N", "copies of each block, in as many stores; the same for all"},
		{"rebalance-rate", OPTION_BYTES, &program.rebalance_rate, 0, REPLICATE_RATE_MAX, "BYTES", "a second, copied because stores came or went; 0: no bound"},
		{"replica-grace-ms", OPTION_COUNT, &program.grace_ms, 1, 3600000, "MS", "for which a lost store may come back before its blocks are copied"},
	};
	process_options(&program.settings, table + STORE_OPTIONS);
	struct options options = {.program = "baton-kvstore", .usage = "[options]", .table = table,
				  .count = PROCESS_OPTIONS + STORE_OPTIONS, .environment = environment};
	struct why why = {0};
	enum err e = options_parse(&options, argc, argv, &why);
	if (e == ERR_OK && options.help)
		options_print_help(&options);
	else if (e == ERR_OK)
		e = serve(&program, &why);
	if (e != ERR_OK)
		fprintf(stderr, "baton-kvstore: %s%s%s\n", err_text(e), why.text[0] ? ": " : "", why.text);
	options_fini(&options);
	return e == ERR_OK ? 0 : 1;
}

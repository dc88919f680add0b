/* baton-kvstore: one node of the KV store.  Wires the pure store to its memory (a region a slab), disk, link and peers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"
#include "kvstore/disk_key.h"
#include "kvstore/disk_shell.h"
#include "kvstore/store.h"
#include "net/host_memory.h"
#include "net/loop.h"
#include "net/process.h"
#include "proto/codec.h"

#define STORE_BYTES_MAX (1ull << 42) /* 2^30 slots of 4 KiB */
enum { STORE_SLABS_MAX = 64, STORE_OFFERS = 4096, STORE_OPTIONS = 19 };
/* Of a model of 8B a block of 16 tokens is 2 MiB, of one with few latents some 100 KiB. */
enum { STORE_BLOCK_BYTES_LEAST = 32 << 10, STORE_BLOCKS_LEAST = 65536 };

/* Of the disk.  A record is a header page and a block: larger ones stay in memory.  What is on its way at once keeps an SSD busy
 * with blocks of 64 KiB; of what waits to be written a crash loses at most an eighth of the memory for blocks. */
enum { DISK_RECORD_BYTES_MAX = (16 << 20) + DISK_PAGE_BYTES, DISK_PUTS = 256, DISK_WRITES = 32, DISK_ENCODES = 32, DISK_LOADS = 512, DISK_READS = 32,
       DISK_OTHERS = 4, DISK_BLOCK_BYTES_LEAST = 32 << 10, DISK_KEEP_PERCENT = 50, DISK_NOTES = 32768 };
#define DISK_SYNC_DELAY_NS 20000000ull

struct program {
	struct process_settings settings;
	uint64_t kv_bytes, kv_blocks;
	uint64_t slab_bytes;
	const char *policy_name;
	struct option_list quota_texts;
	uint64_t pin_percent;
	struct tenant_quota quotas[TENANT_QUOTAS_MAX];
	uint64_t replicas, rebalance_rate, grace_ms;
	const char *disk_path, *disk_io, *disk_encoding, *disk_key_path, *persist_name;
	bool disk_encodes;
	uint64_t disk_bytes, disk_segment_bytes, disk_blocks, disk_write_rate, disk_scrub_rate;
	enum store_persist persist;
	struct disk_options disk;
	struct disk_key *disk_key;
	struct disk_shell *disk_shell;
	enum err disk_stopped; /* as last logged */
	uint64_t disk_unknown;
	bool disk_ready;
	uint64_t disk_from_ns;
	struct process *process;
	struct store *store;
	struct slabs_options slabs;
	struct region *regions[STORE_SLABS_MAX];
	uint16_t region_next;
};

/* After 65,536 of them numbers come again. */
static uint16_t free_region(const struct program *program)
{
	uint16_t number = program->region_next;
	for (uint32_t i = 0; i < STORE_SLABS_MAX; i++)
		if (program->regions[i] && region_options(program->regions[i])->index == number) {
			number++;
			i = UINT32_MAX; /* from the first again */
		}
	return number;
}

/* A slab got its size class: it becomes a region of that many slots, readable by peers.  Nobody waits for its pages. */
static enum err slab_open(void *context, uint32_t slab, uint32_t slot_bytes, uint32_t slot_count,
			  struct slab_region *ret_region)
{
	struct program *program = context;
	struct region_options options = {.index = free_region(program), .slot_bytes = slot_bytes, .slot_count = slot_count,
					 .touch = REGION_TOUCH_BEHIND};
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
	program->region_next = (uint16_t)(options.index + 1);
	ret_region->region = options.index;
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
	store_opened(((struct program *)core)->store, conn, dialed, now_ns);
}

static void dial_failed(void *core, uint64_t dialed, uint64_t now_ns)
{
	store_dial_failed(((struct program *)core)->store, dialed, now_ns);
}

static void closed(void *core, uint32_t conn, uint64_t now_ns)
{
	store_closed(((struct program *)core)->store, conn, now_ns);
}

static void message(void *core, uint32_t conn, const Wire__Envelope *envelope, uint64_t now_ns)
{
	store_message(((struct program *)core)->store, conn, envelope, now_ns);
}

/* What only happens now and then is worth a line. */
static void log_disk(struct program *program, uint64_t now_ns)
{
	struct store_status status;
	store_status(program->store, &status);
	const struct disk_status *d = &status.disk;
	if (d->ready && !program->disk_ready)
		log_info("disk: %u blocks found again in %.2f s, %llu of them read record by record, %llu torn", d->blocks,
			 (double)(now_ns - program->disk_from_ns) / 1e9, (unsigned long long)d->counters.recovered_scanned,
			 (unsigned long long)d->counters.recovered_torn);
	if (d->ready && !program->disk_ready && d->counters.other_versions > 0)
		log_warn("disk: %llu segments were written in another layout version: they are room now",
			 (unsigned long long)d->counters.other_versions);
	if (d->counters.gone[DISK_GONE_UNKNOWN] != program->disk_unknown)
		log_warn("disk: %llu blocks so far are encoded in a way that this version does not know: they are not served",
			 (unsigned long long)d->counters.gone[DISK_GONE_UNKNOWN]);
	program->disk_unknown = d->counters.gone[DISK_GONE_UNKNOWN];
	if (d->stopped != program->disk_stopped)
		log_warn("disk: %s", d->stopped ? "nothing is written for a while; memory and what is on disk serve on" : "writes again");
	program->disk_ready = d->ready;
	program->disk_stopped = d->stopped;
}

static void tick(void *core, uint64_t now_ns)
{
	struct program *program = core;
	store_tick(program->store, now_ns);
	if (program->disk_shell)
		log_disk(program, now_ns);
}

static void disk_over(void *context, uint64_t op, enum err e)
{
	struct program *program = context;
	store_disk_done(program->store, op, e, loop_now_ns(process_loop(program->process)));
}

/* After this line, and before another block lies where it lay. */
static void disk_gone(void *context, const struct id128 *key, enum disk_gone why)
{
	static const char *const reasons[DISK_GONE_REASONS] = {"for room", "it was bad", "forgotten", "it is encoded in an unknown way"};
	char text[2 * sizeof(key->bytes) + 1];
	(void)context;
	if (!log_enabled(LOG_DEBUG))
		return;
	for (size_t i = 0; i < sizeof(key->bytes); i++)
		snprintf(text + 2 * i, 3, "%02x", key->bytes[i]);
	log_debug("disk: block %s is gone, %s", text, reasons[why]);
}

static void read_outcome(void *core, uint64_t op, enum err e, uint64_t digest, uint64_t now_ns)
{
	store_read_done(((struct program *)core)->store, op, e, digest, now_ns);
}

static void landing_free(void *core, uint64_t op, uint64_t now_ns)
{
	store_landing_free(((struct program *)core)->store, op, now_ns);
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

static uint32_t smaller(uint64_t a, uint64_t b)
{
	return (uint32_t)(a < b ? a : b);
}

/* No more than there are slots, and in a small store as many. */
static uint32_t blocks_max(const struct program *program)
{
	uint64_t blocks = program->kv_bytes / STORE_BLOCK_BYTES_LEAST;
	if (program->kv_blocks)
		blocks = program->kv_blocks;
	else if (blocks < STORE_BLOCKS_LEAST)
		blocks = STORE_BLOCKS_LEAST;
	return smaller(blocks, slabs_slot_total(&program->slabs));
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
		.cluster = program->settings.cluster,
		.link_address = address,
		.link_address_length = address_length,
		.peer_max = (uint32_t)program->settings.nodes_max,
		.time_factor = (uint32_t)program->settings.time_factor,
		.ledger = {.slabs = program->slabs,
			   .entry_max = blocks_max(program) + STORE_OFFERS,
			   .layers_max = 128,
			   .policy = evict_find(program->policy_name),
			   .quotas = program->quotas,
			   .quota_count = (uint32_t)program->quota_texts.count,
			   .pin_bytes_max = program->kv_bytes / 100 * program->pin_percent},
		.offer_max = STORE_OFFERS,
		.reading_max = 64,
		.lookup_max = 1024,
		.hold_max = 16384,
		.found_max = 8192,
		.weight = (uint32_t)(program->kv_bytes >> 20),
		.replicas = (uint32_t)program->replicas,
		.copies_max = 256,
		.rebalance_rate = program->rebalance_rate,
		.grace_ns = program->grace_ms * 1000000,
		.disk = program->disk_shell ? &program->disk : NULL,
		.persist = program->persist,
		.disk_gone = disk_gone,
		.env = process_env(program->process),
	};
}

/* ---- the disk */

static enum err parse_persist(struct program *program, struct why *why)
{
	static const char *const names[] = {"none", "behind", "ack"};
	for (int i = 0; i < 3; i++) {
		if (strcmp(program->persist_name, names[i]) != 0)
			continue;
		program->persist = (enum store_persist)i;
		return ERR_OK;
	}
	return why_set(why, ERR_INVALID, "--persist is \"%s\", expected none, behind or ack", program->persist_name);
}

static enum err parse_encoding(struct program *program, struct why *why)
{
	program->disk_encodes = strcmp(program->disk_encoding, "exponents") == 0;
	if (program->disk_encodes || strcmp(program->disk_encoding, "plain") == 0)
		return ERR_OK;
	return why_set(why, ERR_INVALID, "--disk-encoding is \"%s\", expected exponents or plain", program->disk_encoding);
}

static struct disk_options disk_options(const struct program *program)
{
	uint64_t segment_pages = program->disk_segment_bytes / DISK_PAGE_BYTES;
	uint64_t blocks = program->disk_blocks ? program->disk_blocks : program->disk_bytes / DISK_BLOCK_BYTES_LEAST;
	return (struct disk_options){
		.segment_count = (uint32_t)(program->disk_bytes / program->disk_segment_bytes),
		.segment_bytes = program->disk_segment_bytes,
		.block_max = smaller(blocks > 4096 ? blocks : 4096, 1u << 30),
		.record_bytes_max = smaller(DISK_RECORD_BYTES_MAX, (segment_pages - 3) / 2 * DISK_PAGE_BYTES),
		.put_max = DISK_PUTS,
		.put_bytes_max = program->kv_bytes / 8,
		.write_max = DISK_WRITES,
		.encode_max = program->disk_encodes ? DISK_ENCODES : 0,
		.load_max = DISK_LOADS,
		.read_max = DISK_READS,
		.write_rate = program->disk_write_rate,
		.scrub_rate = program->disk_scrub_rate,
		.keep_percent = DISK_KEEP_PERCENT,
		.pin_bytes_max = program->disk_bytes / 100 * program->pin_percent,
		.note_max = DISK_NOTES,
		.sync_delay_ns = program->persist == STORE_PERSIST_ACK ? 0 : DISK_SYNC_DELAY_NS,
	};
}

static enum err check_disk(const struct program *program, struct why *why)
{
	if (program->disk_segment_bytes % DISK_PAGE_BYTES != 0)
		return why_set(why, ERR_INVALID, "--disk-segment-bytes is %llu, expected a multiple of %d",
			       (unsigned long long)program->disk_segment_bytes, DISK_PAGE_BYTES);
	uint64_t segments = program->disk_bytes / program->disk_segment_bytes;
	if (segments < DISK_SEGMENTS_MIN || segments > DISK_SEGMENTS_MAX)
		return why_set(why, ERR_INVALID, "--disk-bytes holds %llu segments of --disk-segment-bytes, expected %d to %d",
			       (unsigned long long)segments, DISK_SEGMENTS_MIN, DISK_SEGMENTS_MAX);
	return ERR_OK;
}

static enum err open_disk(struct program *program, struct why *why)
{
	enum err e = program->disk_key_path ? disk_key_read(program->disk_key_path, &program->disk_key, why) : ERR_OK;
	if (e != ERR_OK)
		return e;
	struct disk_options disk = disk_options(program);
	struct disk_shell_options shell = {
		.path = program->disk_path,
		.io = program->disk_io,
		.segment_count = disk.segment_count,
		.segment_bytes = disk.segment_bytes,
		.depth = DISK_WRITES + DISK_ENCODES + DISK_READS + DISK_OTHERS,
		.key = program->disk_key,
		.context = program,
		.landing = landing,
		.done = disk_over,
	};
	e = disk_shell_id(&disk.id, why);
	if (e == ERR_OK)
		e = disk_shell_create(process_loop(program->process), &shell, &program->disk_shell, why);
	if (e != ERR_OK)
		return e;
	disk.file = disk_shell_file(program->disk_shell);
	program->disk = disk;
	program->disk_from_ns = loop_now_ns(process_loop(program->process));
	log_info("disk %s: %u segments of %llu MiB, %s; persist %s; encoding %s; %s", program->disk_path, disk.segment_count,
		 (unsigned long long)disk.segment_bytes >> 20, disk_shell_name(program->disk_shell), program->persist_name,
		 program->disk_encoding,
		 program->disk_key ? "records are signed" : "records are not signed (--disk-key): whoever may write there is trusted");
	return ERR_OK;
}

static enum err join(struct program *program, struct why *why)
{
	struct process_core core = {
		.shell = {.core = program, .opened = opened, .dial_failed = dial_failed, .closed = closed,
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

/* Zeros, in huge pages where the kernel gives them: a look-up of a thousand keys goes to thousands of places, and with small
 * pages each costs a walk through the page table besides (bench/kv). */
static void *reserve(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return NULL;
	(void)madvise(memory, bytes, MADV_HUGEPAGE);
	(void)madvise(memory, bytes, MADV_DONTDUMP);
	return memory;
}

static enum err run_store(struct program *program, void **ret_memory, size_t *ret_bytes, struct why *why)
{
	struct store_options options = store_options(program);
	*ret_bytes = store_bytes(&options);
	*ret_memory = reserve(*ret_bytes);
	if (!*ret_memory)
		return why_set(why, ERR_NOMEM, "no memory for the ledger");
	program->store = store_init(*ret_memory, &options);
	log_info("eviction policy %s", program->policy_name);
	enum err e = join(program, why);
	return e == ERR_OK ? process_run(program->process, why) : e;
}

/* Slabs get their pages as they are needed: what is not there then is an end without a word. */
static enum err check_memory(const struct program *program, struct why *why)
{
	struct host_memory memory;
	host_memory_read("", &memory);
	return host_memory_check(&memory, program->kv_bytes, "--kv-bytes", why);
}

static enum err check_settings(struct program *program, struct why *why)
{
	if (program->slab_bytes > program->kv_bytes || program->kv_bytes / program->slab_bytes > STORE_SLABS_MAX)
		return why_set(why, ERR_INVALID, "--kv-bytes holds %llu slabs of --slab-bytes, expected 1 to %d",
			       (unsigned long long)(program->kv_bytes / program->slab_bytes), STORE_SLABS_MAX);
	if (!evict_find(program->policy_name))
		return refuse_policy(program->policy_name, why);
	enum err e = parse_persist(program, why);
	if (e == ERR_OK)
		e = parse_quotas(program, why);
	if (e == ERR_OK)
		e = parse_encoding(program, why);
	if (e == ERR_OK && program->disk_path)
		e = check_disk(program, why);
	return e == ERR_OK ? check_memory(program, why) : e;
}

static enum err serve(struct program *program, struct why *why)
{
	enum err e = check_settings(program, why);
	if (e != ERR_OK)
		return e;
	struct process_parts parts = {.role = WIRE__ROLE__ROLE_KVSTORE, .with_link = true, .read_max = 65536, .context = program, .landing = landing};
	e = process_open(&program->settings, &parts, &program->process, why);
	if (e != ERR_OK)
		return e;
	e = program->disk_path ? open_disk(program, why) : ERR_OK;
	void *memory = NULL;
	size_t memory_bytes = 0;
	if (e == ERR_OK)
		e = run_store(program, &memory, &memory_bytes, why);
	disk_shell_destroy(program->disk_shell); /* it reads and writes the memory of both that follow */
	disk_key_destroy(program->disk_key);
	process_close(program->process);
	for (int i = 0; i < STORE_SLABS_MAX; i++)
		region_destroy(program->regions[i]);
	if (memory)
		munmap(memory, memory_bytes);
	return e;
}

int main(int argc, char **argv, char **environment)
{
	struct program program = {.kv_bytes = 256 << 20, .slab_bytes = 32 << 20,
				  .policy_name = evict_policies[0]->name, .pin_percent = 25, .replicas = 2, .rebalance_rate = 256 << 20,
				  .grace_ms = REPLICATE_GRACE_NS / 1000000, .disk_io = "auto", .disk_encoding = "exponents", .persist_name = "behind",
				  .disk_bytes = 1 << 30, .disk_segment_bytes = 64 << 20, .disk_scrub_rate = 4 << 20};
	char policies[200] = "which unheld block goes first, by default the first of: ";
	list_policies(policies + strlen(policies), sizeof(policies) - strlen(policies));
	process_defaults(&program.settings, "kvstore-1");
	struct option table[PROCESS_OPTIONS + STORE_OPTIONS] = {
		{"kv-bytes", OPTION_BYTES, &program.kv_bytes, 1 << 20, STORE_BYTES_MAX, "BYTES", "memory for blocks"},
		{"kv-blocks", OPTION_COUNT, &program.kv_blocks, 0, 1 << 29, "N",
		 "blocks in it at most, some 1.5 KiB of memory each; 0: one in 32 KiB, in a small store more"},
		{"slab-bytes", OPTION_BYTES, &program.slab_bytes, 1 << 20, STORE_BYTES_MAX, "BYTES", "unit in which sizes of blocks share it"},
		{"eviction-policy", OPTION_TEXT, &program.policy_name, 0, 0, "NAME",
		 policies},
		{"tenant-quota", OPTION_LIST, &program.quota_texts, 0, 0, "TENANT=BYTES",
		 "what a tenant's blocks may take here; several; *=BYTES: each other tenant's"},
		{"pin-percent", OPTION_COUNT, &program.pin_percent, 0, 90, "N", "of the memory, and of the disk, that `baton kv pin --hard` may keep for ever"},
		{"replicas", OPTION_COUNT, &program.replicas, 1, PROTO_REPLICAS_MAX, "N", "copies of each block, in as many stores; of low priority: one; the same for all"},
		{"rebalance-rate", OPTION_BYTES, &program.rebalance_rate, 0, REPLICATE_RATE_MAX, "BYTES", "a second, copied because stores came or went; 0: no bound"},
		{"replica-grace-ms", OPTION_COUNT, &program.grace_ms, 1, 3600000, "MS", "for which a lost store may come back before its blocks are copied"},
		{"disk-path", OPTION_TEXT, &program.disk_path, 0, 0, "DIR",
		 "a folder of its own on an SSD, for blocks that outlive this process; without it there are none"},
		{"disk-bytes", OPTION_BYTES, &program.disk_bytes, 1 << 20, 0, "BYTES", "room for blocks there, taken at the start"},
		{"disk-key", OPTION_TEXT, &program.disk_key_path, 0, 0, "FILE",
		 "secret of 16 bytes or more under which blocks there are signed; what is not signed with it is not served"},
		{"persist", OPTION_TEXT, &program.persist_name, 0, 0, "WHEN",
		 "ack: an offered block is taken when it is durable; behind: it is written when there is time; none: nothing is written"},
		{"disk-write-rate", OPTION_BYTES, &program.disk_write_rate, 0, 1ull << 40, "BYTES", "a second, written at most; 0: no bound"},
		{"disk-scrub-rate", OPTION_BYTES, &program.disk_scrub_rate, 0, 1ull << 40, "BYTES",
		 "a second, read to find what the disk has spoilt; 0: none"},
		{"disk-io", OPTION_TEXT, &program.disk_io, 0, 0, "HOW", "auto, uring or plain"},
		{"disk-encoding", OPTION_TEXT, &program.disk_encoding, 0, 0, "HOW",
		 "exponents: blocks whose numbers have exponents close together, as bf16 has, take a quarter less there; plain: all lie as in memory"},
		{"disk-segment-bytes", OPTION_BYTES, &program.disk_segment_bytes, 1 << 20, 1ull << 34, "BYTES",
		 "unit in which room is made; another value than last time empties the disk"},
		{"disk-blocks", OPTION_COUNT, &program.disk_blocks, 0, 1 << 29, "N",
		 "blocks there at most, 52 bytes of memory each; 0: one in 32 KiB"},
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

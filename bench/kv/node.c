/* bench_kv_node - an engine node without an engine: offers blocks to a store and reads what it finds there, by the very
 * messages, sessions and link that a real one has.  bench/kv/run starts it beside a baton-kvstore.
 *
 * Lines on standard input are commands; each is answered by one line:
 *   put BYTES LAYERS DEPTH TOTAL     offers of new blocks, DEPTH under way, TOTAL bytes   -> "put GB/s"
 *   get BYTES LAYERS DEPTH TOTAL     look-ups and reads of what the last `keep` put there -> "get GB/s"
 *   keep BYTES LAYERS COUNT          puts COUNT new blocks, the first time 0..COUNT-1     -> "keep GB/s"
 *   transport                        what carries the store's bytes                       -> "mapped"
 *
 * Source and landing are WINDOW_BYTES each and walked through in order: what is read or written next is in no cache.  The
 * digests of what is offered are made beforehand: an engine makes them as it computes. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/log.h"
#include "base/options.h"
#include "bench/kv/blocks.h"
#include "kvstore/visitor.h"
#include "net/loop.h"

#define SLOT_BYTES ((uint64_t)16 << 20)
#define WINDOW_BYTES ((uint64_t)512 << 20) /* twice the caches of what this was written on */
#define LANDING_UNIT ((uint64_t)4096)

enum { PEERS = 16, LAYERS_MAX = 128, SLOTS_MAX = 256, LOOKUPS_MAX = 4 };

enum what { IDLE, PUT, KEEP, GET };

/* A block on its way in a get. */
struct fetch {
	uint32_t lookup;
	uint32_t outcomes_missing, landings_missing;
	uint64_t digests[LAYERS_MAX];
	bool used;
};

struct lookup {
	uint64_t op; /* 0: free */
	uint32_t blocks_missing;
};

struct bench {
	struct process_settings settings;
	struct visitor *visitor;
	struct region *source, *sink;
	uint64_t *digests; /* of the source, a layer each */
	struct loop_watch *input;
	uint64_t store;    /* node id */
	uint32_t peer;     /* PEER_NONE: no session yet */
	/* the command */
	enum what what;
	uint64_t block_bytes, depth, count; /* count: blocks of it */
	uint32_t layer_count, layer_bytes;
	uint64_t started, finished, begin_ns;
	uint64_t key_next; /* of put: never the same twice */
	uint64_t op_next, keep_next, kept_first, kept;
	struct fetch fetches[SLOTS_MAX];
	struct lookup lookups[LOOKUPS_MAX];
	uint32_t lookup_blocks;
};

static void fail(const char *text)
{
	fprintf(stderr, "bench_kv_node: %s\n", text);
	exit(1);
}

static void finish_command(struct bench *b)
{
	static const char *const names[] = {[PUT] = "put", [KEEP] = "keep", [GET] = "get"};
	double seconds = (double)(bench_now_ns() - b->begin_ns) / 1e9;
	printf("%s %.3f\n", names[b->what], (double)(b->count * b->block_bytes) / seconds / 1e9);
	fflush(stdout);
	b->what = IDLE;
}

/* ---- put ---- */

static void offer_next(struct bench *b)
{
	uint64_t per_window = WINDOW_BYTES / b->block_bytes, place_index = b->started % per_window;
	struct id128 key = bench_key(b->what == KEEP ? b->kept_first + b->started : b->key_next++);
	struct visitor_offer offer = {
		.op = ++b->op_next,
		.key = &key,
		.compat = &bench_compat,
		.place = WIRE__PLACE__INIT,
		.digests = b->digests + place_index * b->layer_count,
		.layer_count = b->layer_count,
		.layer_bytes = b->layer_bytes,
	};
	offer.place.offset = place_index * b->block_bytes;
	offer.place.generation = region_slot_generation(b->source, offer.place.offset / SLOT_BYTES);
	visitor_offer(b->visitor, b->peer, &offer);
	b->started++;
}

static void take_offer_done(struct bench *b, const Wire__OfferDone *done)
{
	if (done->error != ERR_OK)
		fail(err_text((enum err)done->error));
	if (++b->finished == b->count)
		finish_command(b);
	else if (b->started < b->count)
		offer_next(b);
}

static void digest_source(struct bench *b)
{
	const uint8_t *data = region_slot(b->source, 0);
	for (uint64_t i = 0; i < WINDOW_BYTES / b->layer_bytes; i++)
		b->digests[i] = digest_of(data + i * b->layer_bytes, b->layer_bytes);
}

/* ---- get ---- */

static void look_up(struct bench *b)
{
	struct lookup *lookup = b->lookups;
	while (lookup < b->lookups + LOOKUPS_MAX && lookup->op)
		lookup++;
	if (lookup == b->lookups + LOOKUPS_MAX)
		return;
	uint64_t left = b->count - b->started;
	uint32_t asked = left < b->lookup_blocks ? (uint32_t)left : b->lookup_blocks;
	struct id128 keys[SLOTS_MAX];
	for (uint32_t i = 0; i < asked; i++)
		keys[i] = bench_key(b->kept_first + (b->started + i) % b->kept);
	*lookup = (struct lookup){.op = ++b->op_next << 8 | (uint64_t)(lookup - b->lookups), .blocks_missing = asked};
	b->started += asked;
	visitor_look_up(b->visitor, b->peer, lookup->op, keys, asked, &bench_compat);
}

static void fill_lookups(struct bench *b)
{
	uint64_t under_way = b->started - b->finished;
	while (b->started < b->count && under_way < b->depth) {
		look_up(b);
		if (b->started - b->finished == under_way)
			return; /* all look-ups are taken */
		under_way = b->started - b->finished;
	}
}

static void read_block(struct bench *b, uint32_t lookup, const Wire__FoundBlock *found)
{
	uint32_t slot = 0;
	while (b->fetches[slot].used)
		slot++;
	struct fetch *fetch = &b->fetches[slot];
	*fetch = (struct fetch){.used = true, .lookup = lookup, .outcomes_missing = b->layer_count, .landings_missing = b->layer_count};
	if (found->n_digests != b->layer_count)
		fail("a block of another number of layers was found");
	memcpy(fetch->digests, found->digests, b->layer_count * sizeof(uint64_t));
	static uint64_t landing;
	uint64_t place = landing++ % (WINDOW_BYTES / b->block_bytes) * b->block_bytes;
	uint64_t deadline_ns = loop_now_ns(process_loop(visitor_process(b->visitor))) + 20000000000u;
	for (uint32_t layer = 0; layer < b->layer_count; layer++) {
		struct visitor_read read = {
			.op = (uint64_t)slot << 16 | layer,
			.node = b->store,
			.place = found->place,
			.layer = layer,
			.layer_bytes = b->layer_bytes,
			.landing = (uint32_t)(place / LANDING_UNIT),
			.landing_offset = layer * b->layer_bytes,
			.deadline_ns = deadline_ns,
		};
		visitor_read(b->visitor, &read);
	}
}

static void take_found(struct bench *b, const Wire__Found *found)
{
	uint32_t index = found->op & 0xff;
	if (found->n_blocks != b->lookups[index].blocks_missing)
		fail("the store has lost a block");
	for (size_t i = 0; i < found->n_blocks; i++)
		read_block(b, index, found->blocks[i]);
}

static void block_is_there(struct bench *b, struct fetch *fetch)
{
	struct lookup *lookup = &b->lookups[fetch->lookup];
	fetch->used = false;
	b->finished++;
	if (--lookup->blocks_missing > 0)
		return;
	visitor_release(b->visitor, b->peer, lookup->op);
	lookup->op = 0;
	if (b->finished == b->count)
		finish_command(b);
	else
		fill_lookups(b);
}

static void read_outcome(void *core, uint64_t op, enum err e, uint64_t digest, uint64_t now_ns)
{
	struct bench *b = core;
	struct fetch *fetch = &b->fetches[op >> 16];
	(void)now_ns;
	if (e != ERR_OK)
		fail(err_text(e));
	if (digest != fetch->digests[op & 0xffff])
		fail("a layer has another digest");
	fetch->outcomes_missing--;
}

static void landing_free(void *core, uint64_t op, uint64_t now_ns)
{
	struct bench *b = core;
	struct fetch *fetch = &b->fetches[op >> 16];
	(void)now_ns;
	if (--fetch->landings_missing == 0)
		block_is_there(b, fetch);
}

/* ---- commands ---- */

static void begin(struct bench *b, enum what what, uint64_t bytes, uint64_t layers, uint64_t depth, uint64_t count)
{
	if (layers == 0 || layers > LAYERS_MAX || bytes % layers || bytes > SLOT_BYTES || bytes % LANDING_UNIT || depth > SLOTS_MAX)
		fail("a block of 1 to 128 equal layers, of a multiple of 4 KiB up to 16 MiB; at most 256 under way");
	b->block_bytes = bytes;
	b->layer_count = (uint32_t)layers;
	b->layer_bytes = (uint32_t)(bytes / layers);
	b->depth = depth;
	b->count = count;
	b->started = b->finished = 0;
	b->lookup_blocks = (uint32_t)((depth + 1) / 2);
	b->what = what;
	if (what == KEEP) {
		b->kept_first = b->keep_next;
		b->kept = count;
		b->keep_next += count;
	}
	if (what != GET)
		digest_source(b);
	b->begin_ns = bench_now_ns();
	if (what == GET)
		fill_lookups(b);
	for (uint64_t i = 0; what != GET && i < depth && i < count; i++)
		offer_next(b);
}

static void run_command(struct bench *b, const char *line)
{
	char word[16], transport[64];
	unsigned long long bytes = 0, layers = 0, depth = 0, total = 0;
	int words = sscanf(line, "%15s %llu %llu %llu %llu", word, &bytes, &layers, &depth, &total);
	if (words == 5 && strcmp(word, "put") == 0) {
		begin(b, PUT, bytes, layers, depth, total / bytes);
	} else if (words == 5 && strcmp(word, "get") == 0) {
		begin(b, GET, bytes, layers, depth, total / bytes);
	} else if (words == 4 && strcmp(word, "keep") == 0) {
		begin(b, KEEP, bytes, layers, 32, depth);
	} else if (words == 1 && strcmp(word, "transport") == 0) {
		link_peer_transport(process_link(visitor_process(b->visitor)), b->store, transport, sizeof(transport));
		printf("%s\n", transport);
		fflush(stdout);
	} else {
		fail(line);
	}
}

static void on_input(struct loop_watch *watch, unsigned ready, void *arg)
{
	struct bench *b = arg;
	char line[256];
	(void)watch;
	(void)ready;
	if (!fgets(line, sizeof(line), stdin)) {
		loop_stop(process_loop(visitor_process(b->visitor)));
		return;
	}
	run_command(b, line);
}

/* ---- the node ---- */

static void up(void *context, uint32_t peer)
{
	struct bench *b = context;
	b->peer = peer;
	if (loop_watch_create(process_loop(visitor_process(b->visitor)), STDIN_FILENO, LOOP_READ, on_input, b, &b->input) != ERR_OK)
		fail("standard input cannot be watched");
	printf("ready\n");
	fflush(stdout);
}

static void down(void *context, uint32_t peer, enum err why)
{
	(void)context;
	(void)peer;
	fail(err_text(why));
}

static void message(void *context, uint32_t peer, const Wire__Envelope *envelope, uint64_t now_ns)
{
	struct bench *b = context;
	(void)peer, (void)now_ns;
	if (envelope->body_case == WIRE__ENVELOPE__BODY_OFFER_DONE)
		take_offer_done(b, envelope->offer_done);
	else if (envelope->body_case == WIRE__ENVELOPE__BODY_FOUND)
		take_found(b, envelope->found);
}

static bool wants(void *context, const struct member *member)
{
	struct bench *b = context;
	if (member->role != WIRE__ROLE__ROLE_KVSTORE || (b->store && b->store != member->node))
		return false;
	b->store = member->node;
	return true;
}

static void *landing(void *context, uint32_t number, uint32_t offset)
{
	return (uint8_t *)region_slot(((struct bench *)context)->sink, 0) + number * LANDING_UNIT + offset;
}

static void open_memory(struct bench *b)
{
	struct why why = {0};
	struct region_options options = {.index = 0, .slot_bytes = SLOT_BYTES, .slot_count = WINDOW_BYTES / SLOT_BYTES, .touch = REGION_TOUCH};
	struct region_options sink = options;
	sink.index = 1;
	if (region_create(&options, &b->source, &why) != ERR_OK || region_create(&sink, &b->sink, &why) != ERR_OK ||
	    link_region_add(process_link(visitor_process(b->visitor)), b->source, &why) != ERR_OK ||
	    link_region_add(process_link(visitor_process(b->visitor)), b->sink, &why) != ERR_OK)
		fail(why.text);
	uint64_t *words = region_slot(b->source, 0);
	for (uint64_t i = 0; i < WINDOW_BYTES / sizeof(*words); i++)
		words[i] = i * 0x9e3779b97f4a7c15u;
	b->digests = malloc(WINDOW_BYTES / 64 * sizeof(*b->digests));
	if (!b->digests)
		fail("out of memory");
}

static enum err serve(struct bench *b, struct why *why)
{
	struct visitor_options options = {
		.settings = &b->settings,
		.role = WIRE__ROLE__ROLE_PREFILL,
		.compat = &bench_compat,
		.peer_max = PEERS,
		.read_max = 65536,
		.member = true,
		.context = b,
		.landing = landing,
		.wants = wants,
		.up = up,
		.down = down,
		.message = message,
		.read_outcome = read_outcome,
		.landing_free = landing_free,
	};
	enum err e = visitor_open(&options, &b->visitor, why);
	if (e != ERR_OK)
		return e;
	open_memory(b);
	e = visitor_join(b->visitor, why);
	if (e == ERR_OK)
		e = process_run(visitor_process(b->visitor), why);
	loop_watch_destroy(b->input);
	visitor_close(b->visitor);
	region_destroy(b->source);
	region_destroy(b->sink);
	free(b->digests);
	return e;
}

int main(int argc, char **argv, char **environment)
{
	struct bench bench = {.peer = PEER_NONE, .key_next = (uint64_t)1 << 40};
	process_defaults(&bench.settings, "bench-1");
	struct option table[PROCESS_OPTIONS];
	process_options(&bench.settings, table);
	struct options options = {.program = "bench_kv_node", .usage = "[options]", .table = table, .count = PROCESS_OPTIONS,
				  .environment = environment};
	struct why why = {0};
	setvbuf(stdin, NULL, _IONBF, 0); /* a line that stdio holds makes no descriptor ready */
	enum err e = options_parse(&options, argc, argv, &why);
	if (e == ERR_OK && options.help)
		options_print_help(&options);
	else if (e == ERR_OK)
		e = serve(&bench, &why);
	if (e != ERR_OK)
		fprintf(stderr, "bench_kv_node: %s%s%s\n", err_text(e), why.text[0] ? ": " : "", why.text);
	options_fini(&options);
	return e == ERR_OK ? 0 : 1;
}

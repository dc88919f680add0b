/* bench_kv_reader - the part of an engine node that deals with stores, without an engine: it offers blocks to their owners and
 * then gets them at a steady rate, by the node's own modules (kvstore/offer.h, kvstore/fetch.h).  bench/kv/failure starts it.
 *
 * Lines on standard input, and what they are answered with:
 *   fill BLOCKS          offers blocks 0..BLOCKS-1                       -> "filled"
 *   read PER_S BLOCKS    requests a second, each of so many blocks in a row, drawn at random, once only
 *   share STORE BLOCKS   of how many of the blocks it is an owner now    -> "share STORE N"
 * Without being asked, times in seconds of the monotonic clock:
 *   up STORE, down STORE
 *   got TIME SECONDS WANTED READ      a request: when it was due, how long it took, blocks it wanted and got
 *   stat TIME STORE missing in-flight moved-bytes copied-bytes
 *
 * Requests begin when they are due, however many are under way.  Every byte is compared; a wrong one ends the process.  It speaks
 * as an operator, so that it may ask for figures: stores treat its look-ups and offers as anybody's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/options.h"
#include "base/rng.h"
#include "bench/kv/blocks.h"
#include "kvstore/fetch.h"
#include "kvstore/offer.h"
#include "kvstore/owners.h"
#include "kvstore/reads.h"
#include "kvstore/visitor.h"
#include "net/loop.h"
#include "net/region.h"

enum { LAYERS = 4, LAYER_BYTES = 16 << 10, BLOCK_BYTES = LAYERS * LAYER_BYTES, POOL_BLOCKS = 3072, OFFERS = 512, PEERS = 32,
       FETCHES = 512, CHAIN_MAX = 32, READS = 16384, BLOCKS_MAX = 1 << 20 };
#define TICK_NS 5000000ull /* while nothing is due */
#define STAT_NS 100000000ull
#define DEADLINE_NS 1000000000ull /* as an engine's (--fetch-deadline-ms) */

struct request {
	uint64_t due_ns;
	uint32_t first;
	struct id128 keys[CHAIN_MAX];
};

struct bench {
	struct process_settings settings;
	struct visitor *visitor;
	struct kv_local local;
	struct region *region;
	struct kv_fetches *fetches;
	struct kv_offers *offers;
	struct loop_watch *input;
	struct loop_timer *timer;
	struct kv_layer layers[LAYERS];
	uint32_t filled, to_fill;
	uint64_t rate, chain;
	uint64_t due_ns, stat_ns, op;
	struct request requests[FETCHES];
	uint32_t free_requests[FETCHES], free_count;
	bool asked[BLOCKS_MAX]; /* the request that begins with this block is under way */
	struct rng rng;
};

static void fail(const char *text)
{
	fprintf(stderr, "bench_kv_reader: %s\n", text);
	exit(1);
}

static double seconds(uint64_t ns)
{
	return (double)ns / 1e9;
}

static void fill_block(uint32_t number, uint8_t *ret_bytes)
{
	for (uint32_t i = 0; i < BLOCK_BYTES / 8; i++) {
		uint64_t word = (((uint64_t)number << 32) + i + 1) * 0x9e3779b97f4a7c15u;
		memcpy(ret_bytes + (size_t)i * 8, &word, 8);
	}
}

/* ---- filling */

static bool offer_next(struct bench *b)
{
	uint32_t block;
	const struct kv_tenant tenant = {.priority = WIRE__PRIORITY__PRIORITY_NORMAL};
	if (kv_offer_lag(b->offers) == OFFERS || kv_pool_take(b->local.pool, 0, &block) != ERR_OK)
		return false;
	uint8_t *bytes = region_slot(b->region, block);
	struct id128 key = bench_key(b->filled);
	fill_block(b->filled++, bytes);
	for (uint32_t i = 0; i < LAYERS; i++)
		kv_local_digests(&b->local, block)[i] = digest_of(bytes + (size_t)i * LAYER_BYTES, LAYER_BYTES);
	kv_offer_block(b->offers, block, &key, NULL, &tenant);
	kv_pool_unref(b->local.pool, block); /* the offer has its own; without a key the block is free afterwards */
	return true;
}

static void go_on_filling(struct bench *b)
{
	if (b->to_fill == 0)
		return;
	while (b->filled < b->to_fill && offer_next(b))
		;
	if (b->filled < b->to_fill || kv_offer_lag(b->offers) > 0)
		return;
	b->to_fill = 0;
	printf("filled\n");
	fflush(stdout);
}

/* ---- reading */

/* No two requests share a block: what one has read and forgets would be missing to the other. */
static uint32_t draw(struct bench *b)
{
	uint32_t first;
	do
		first = (uint32_t)(rng_below(&b->rng, b->filled / b->chain) * b->chain);
	while (b->asked[first]);
	b->asked[first] = true;
	return first;
}

static void begin_request(struct bench *b, uint64_t due_ns)
{
	static const struct kv_tenant tenant = {.priority = WIRE__PRIORITY__PRIORITY_NORMAL};
	if (b->free_count == 0)
		fail("more requests are under way than there is room for");
	uint32_t number = b->free_requests[--b->free_count];
	struct request *r = &b->requests[number];
	*r = (struct request){.due_ns = due_ns, .first = draw(b)};
	for (uint32_t i = 0; i < b->chain; i++)
		r->keys[i] = bench_key(r->first + i);
	struct kv_fetch_request request = {
		.cookie = number,
		.keys = {r->keys},
		.key_count = (uint32_t)b->chain,
		.tenant = &tenant,
		.deadline_ns = b->local.now_ns + DEADLINE_NS,
	};
	if (kv_fetch_start(b->fetches, &request) != ERR_OK)
		fail("more fetches are under way than there is room for");
}

static void compare(struct bench *b, uint32_t number, uint32_t block)
{
	static uint8_t right[BLOCK_BYTES];
	fill_block(number, right);
	if (memcmp(right, region_slot(b->region, block), BLOCK_BYTES) != 0)
		fail("wrong bytes");
}

/* What was read is forgotten, so that it is read again the next time. */
static void fetched(void *context, uint32_t cookie, const struct kv_fetch_counts *counts)
{
	struct bench *b = context;
	struct request *r = &b->requests[cookie];
	uint64_t took_ns = loop_now_ns(process_loop(visitor_process(b->visitor))) - r->due_ns;
	uint32_t have = 0;
	for (uint32_t i = 0; i < b->chain; i++) {
		uint32_t block = kv_pool_find(b->local.pool, &r->keys[i]);
		if (block == KV_BLOCK_NONE)
			break;
		compare(b, r->first + i, block);
		have++;
	}
	for (uint32_t i = 0; i < have; i++) {
		uint32_t block = kv_pool_find(b->local.pool, &r->keys[i]);
		if (block != KV_BLOCK_NONE)
			kv_pool_forget(b->local.pool, block);
	}
	printf("got %.4f %.6f %llu %u\n", seconds(r->due_ns), seconds(took_ns), (unsigned long long)b->chain, have);
	if (have < b->chain)
		fprintf(stderr, "%.3f: %u of %llu blocks; not found %u, too late %u, wrong %u, stale %u, holder gone %u\n", seconds(r->due_ns),
			have, (unsigned long long)b->chain, counts->miss_not_found, counts->miss_deadline, counts->miss_digest,
			counts->miss_generation, counts->miss_gone);
	b->asked[r->first] = false;
	b->free_requests[b->free_count++] = cookie;
}

static void go_on_reading(struct bench *b)
{
	for (; b->rate > 0 && b->due_ns <= b->local.now_ns; b->due_ns += 1000000000 / b->rate)
		begin_request(b, b->due_ns);
}

/* ---- figures */

static void ask_stats(struct bench *b)
{
	for (uint32_t i = 0; i < sessions_max(b->local.sessions); i++)
		if (sessions_peer(b->local.sessions, i))
			visitor_ask_load(b->visitor, i, ++b->op);
}

static void print_stat(struct bench *b, const char *name, const Wire__KvAnswer *answer)
{
	if (!answer->load || !answer->load->replica)
		fail("a store does not say what it has");
	const Wire__ReplicaLoad *replica = answer->load->replica;
	printf("stat %.3f %s %llu %u %llu %llu\n", seconds(b->local.now_ns), name, (unsigned long long)replica->missing,
	       replica->in_flight, (unsigned long long)replica->moved_bytes, (unsigned long long)replica->copied_bytes);
	fflush(stdout);
}

static void print_share(struct bench *b, const char *name, uint32_t blocks)
{
	uint32_t share = 0;
	for (uint32_t i = 0; i < blocks; i++) {
		uint32_t peers[KV_OWNERS_MAX];
		struct id128 key = bench_key(i);
		uint32_t count = kv_owners(&b->local, &key, 0, peers);
		for (uint32_t k = 0; k < count; k++)
			share += strcmp(sessions_peer(b->local.sessions, peers[k])->name, name) == 0;
	}
	printf("share %s %u\n", name, share);
	fflush(stdout);
}

/* ---- events */

static struct bench *at(void *context, uint64_t now_ns)
{
	struct bench *b = context;
	b->local.now_ns = now_ns;
	return b;
}

static void say(struct bench *b, const char *word, uint32_t peer)
{
	printf("%s %s\n", word, sessions_peer(b->local.sessions, peer)->name);
	fflush(stdout);
}

static struct bench *at_now(void *context)
{
	struct bench *b = context;
	return at(b, loop_now_ns(process_loop(visitor_process(b->visitor))));
}

static void on_up(void *context, uint32_t peer)
{
	say(at_now(context), "up", peer);
}

static void on_down(void *context, uint32_t peer, enum err why)
{
	struct bench *b = at_now(context);
	(void)why;
	say(b, "down", peer);
	kv_fetch_peer_down(b->fetches, peer);
	kv_offer_peer_down(b->offers, peer);
}

static void on_message(void *context, uint32_t peer, const Wire__Envelope *envelope, uint64_t now_ns)
{
	struct bench *b = at(context, now_ns);
	if (envelope->body_case == WIRE__ENVELOPE__BODY_FOUND)
		kv_fetch_found(b->fetches, peer, envelope->found);
	else if (envelope->body_case == WIRE__ENVELOPE__BODY_OFFER_DONE)
		kv_offer_done(b->offers, peer, envelope->offer_done);
	else if (envelope->body_case == WIRE__ENVELOPE__BODY_LOAD)
		sessions_note_draining(b->local.sessions, peer, envelope->load->draining);
	else if (envelope->body_case == WIRE__ENVELOPE__BODY_KV_ANSWER)
		print_stat(b, sessions_peer(b->local.sessions, peer)->name, envelope->kv_answer);
	go_on_filling(b);
}

static void on_outcome(void *core, uint64_t op, enum err e, uint64_t digest, uint64_t now_ns)
{
	struct bench *b = at(core, now_ns);
	struct kv_read_owner owner;
	enum err verdict;
	if (kv_reads_outcome(b->local.reads, op, e, digest, &owner, &verdict))
		kv_fetch_read_done(b->fetches, &owner, verdict);
}

static void on_landing_free(void *core, uint64_t op, uint64_t now_ns)
{
	struct bench *b = at(core, now_ns);
	struct kv_read_owner owner;
	enum err verdict;
	if (kv_reads_landing_free(b->local.reads, op, &owner, &verdict))
		kv_fetch_read_done(b->fetches, &owner, verdict);
}

static void on_tick(void *core, uint64_t now_ns)
{
	struct bench *b = at(core, now_ns);
	kv_fetch_tick(b->fetches);
	kv_offer_tick(b->offers);
	go_on_filling(b);
	if (now_ns < b->stat_ns)
		return;
	b->stat_ns = now_ns + STAT_NS;
	ask_stats(b);
}

static void on_timer(struct loop_timer *timer, void *arg)
{
	struct bench *b = at_now(arg);
	go_on_reading(b);
	loop_timer_arm(timer, b->rate > 0 ? b->due_ns - b->local.now_ns : TICK_NS);
}

static void *on_landing(void *context, uint32_t block, uint32_t offset)
{
	return (uint8_t *)region_slot(((struct bench *)context)->region, block) + offset;
}

static void on_input(struct loop_watch *watch, unsigned ready, void *arg)
{
	struct bench *b = at_now(arg);
	char line[256], name[64];
	unsigned blocks;
	unsigned long long rate, chain;
	(void)watch, (void)ready;
	if (!fgets(line, sizeof(line), stdin))
		exit(0);
	if (sscanf(line, "fill %u", &blocks) == 1 && blocks <= BLOCKS_MAX - b->filled) {
		b->to_fill = b->filled + blocks;
		go_on_filling(b);
	} else if (sscanf(line, "read %llu %llu", &rate, &chain) == 2 && chain >= 1 && chain <= CHAIN_MAX && FETCHES * chain < b->filled) {
		b->rate = rate;
		b->chain = chain;
		b->due_ns = b->local.now_ns;
	} else if (sscanf(line, "share %63s %u", name, &blocks) == 2) {
		print_share(b, name, blocks);
	} else {
		fail(line);
	}
}

/* ---- the process */

static void *zeros(size_t bytes)
{
	void *memory = calloc(1, bytes);
	if (!memory)
		fail("out of memory");
	return memory;
}

static void make_modules(struct bench *b)
{
	struct process *process = visitor_process(b->visitor);
	struct why why = {0};
	struct region_options region = {.index = 0, .slot_bytes = BLOCK_BYTES, .slot_count = POOL_BLOCKS, .touch = REGION_TOUCH};
	if (region_create(&region, &b->region, &why) != ERR_OK ||
	    link_region_add(process_link(process), b->region, &why) != ERR_OK)
		fail(why.text);
	for (uint16_t i = 0; i < LAYERS; i++)
		b->layers[i] = (struct kv_layer){.place = i};
	struct kv_pool_options pool = {.group_count = 1, .groups = {{POOL_BLOCKS, region_generations(b->region)}}, .event_max = 4096};
	struct kv_local *local = &b->local;
	*local = (struct kv_local){
		.env = process_env(process), .node = process_node(process), .compat = bench_compat, .block_tokens = 16,
		.group_count = 1, .layer_count = LAYERS, .layers = b->layers,
		.groups = {{.layer_count = LAYERS, .layer_bytes = LAYER_BYTES, .keep = KV_KEEP_ALL, .block_count = POOL_BLOCKS,
			    .offer_max = OFFERS, .digests = zeros(POOL_BLOCKS * LAYERS * sizeof(uint64_t))}},
		.sessions = visitor_sessions(b->visitor),
		.pool = kv_pool_init(zeros(kv_pool_bytes(&pool)), &pool),
	};
	local->reads = kv_reads_init(zeros(kv_reads_bytes(READS, PEERS)), READS, PEERS, local);
	struct kv_fetch_options fetch = {.fetch_max = FETCHES, .block_max = CHAIN_MAX, .local = local, .context = b, .done = fetched};
	struct kv_offer_options offer = {.peer_max = PEERS, .window = 64, .local = local};
	b->fetches = kv_fetches_init(zeros(kv_fetches_bytes(&fetch)), &fetch);
	b->offers = kv_offers_init(zeros(kv_offers_bytes(&offer)), &offer);
	for (uint32_t i = 0; i < FETCHES; i++)
		b->free_requests[b->free_count++] = i;
}

static enum err serve(struct bench *b, struct why *why)
{
	struct visitor_options options = {
		.settings = &b->settings,
		.role = WIRE__ROLE__ROLE_OPERATOR,
		.peer_max = PEERS,
		.read_max = READS,
		.context = b,
		.landing = on_landing,
		.tick = on_tick,
		.up = on_up,
		.down = on_down,
		.message = on_message,
		.read_outcome = on_outcome,
		.landing_free = on_landing_free,
	};
	enum err e = visitor_open(&options, &b->visitor, why);
	if (e != ERR_OK)
		return e;
	make_modules(b);
	struct loop *loop = process_loop(visitor_process(b->visitor));
	if (loop_watch_create(loop, STDIN_FILENO, LOOP_READ, on_input, b, &b->input) != ERR_OK ||
	    loop_timer_create(loop, on_timer, b, &b->timer) != ERR_OK)
		return ERR_NOMEM;
	loop_timer_arm(b->timer, TICK_NS);
	e = visitor_join(b->visitor, why);
	return e == ERR_OK ? process_run(visitor_process(b->visitor), why) : e;
}

int main(int argc, char **argv, char **environment)
{
	static struct bench bench = {.rng = {.seed = 5}};
	process_defaults(&bench.settings, "bench-reader");
	struct option table[PROCESS_OPTIONS];
	process_options(&bench.settings, table);
	struct options options = {.program = "bench_kv_reader", .usage = "[options]", .table = table, .count = PROCESS_OPTIONS,
				  .environment = environment};
	struct why why = {0};
	setvbuf(stdin, NULL, _IONBF, 0); /* a line that stdio holds makes no descriptor ready */
	enum err e = options_parse(&options, argc, argv, &why);
	if (e == ERR_OK && options.help)
		options_print_help(&options);
	else if (e == ERR_OK)
		e = serve(&bench, &why);
	if (e != ERR_OK)
		fprintf(stderr, "bench_kv_reader: %s%s%s\n", err_text(e), why.text[0] ? ": " : "", why.text);
	options_fini(&options);
	return e == ERR_OK ? 0 : 1;
}

/* crash_writer - offers blocks to the stores of a cluster, each to its first owner as an engine does, notes which store
 * acknowledged which block, and reads back what was acknowledged.  run.py kills the stores meanwhile.
 *
 * Lines on standard input: "write" and "pause" (of offers), "check STORE", "end".  Lines on standard output:
 *   up STORE, down STORE
 *   stat STORE taken evicted copies moved in-flight missing disk-blocks disk-gone disk-ready
 *   self offered acknowledged verified unreadable offered-again refused
 *   checked STORE ASKED FOUND [MISSING…]     missing blocks by number: not found in any of several passes
 *
 * A wrong byte, or anything else that must not be, ends it with an error.  It offers and asks as an operator: nothing of what is
 * tested knows roles, and it may ask for figures. */
#include "tests/crash/writer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/rng.h"
#include "kvstore/owners.h"
#include "net/loop.h"

#define TICK_NS 10000000ull
#define STAT_NS 200000000ull

static const struct id128 compat = {{0xc4, 0xa5}};

void writer_fail(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fprintf(stderr, "crash_writer: ");
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n");
	va_end(args);
	exit(1);
}

uint64_t writer_now(struct writer *w)
{
	return loop_now_ns(process_loop(w->process));
}

/* ---- blocks */

struct id128 block_key(uint32_t block)
{
	struct id128 key;
	uint64_t words[2] = {rng_at(7, block, 0), rng_at(7, block, 1)};
	memcpy(key.bytes, words, sizeof(words));
	for (int i = 0; i < 4; i++)
		key.bytes[i] = (uint8_t)(block >> (24 - 8 * i)); /* as it is printed */
	return key;
}

/* Of pages and not; four size classes that share the memory. */
uint32_t block_layer_bytes(uint32_t block)
{
	static const uint32_t sizes[] = {4096, 10048, 16384, 20992};
	return sizes[block % 4];
}

/* Noise, or what a disk may encode: bf16 with exponents close together. */
void block_fill(uint32_t block, uint8_t *ret_bytes)
{
	uint32_t words = LAYERS * block_layer_bytes(block) / 8;
	for (uint32_t i = 0; i < words; i++) {
		uint64_t word = (((uint64_t)block << 32) + i + 1) * 0x9e3779b97f4a7c15u;
		if (block / 4 % 2)
			word = (word & 0x83ff83ff83ff83ffu) | 0x3c003c003c003c00u;
		memcpy(ret_bytes + (size_t)i * 8, &word, 8);
	}
}

/* ---- offers */

static void send_offer(struct writer *w, uint32_t peer, uint32_t slot)
{
	struct writer_offer *o = &w->offers[slot];
	uint32_t layer_bytes = block_layer_bytes(o->block);
	uint8_t *bytes = region_slot(w->source, slot);
	uint64_t digests[LAYERS];
	region_slot_renew(w->source, slot); /* before the first new byte */
	block_fill(o->block, bytes);
	for (int i = 0; i < LAYERS; i++)
		digests[i] = digest_of(bytes + (size_t)i * layer_bytes, layer_bytes);
	struct id128 key = block_key(o->block), parent = block_key(o->block - 1);
	struct visitor_offer offer = {
		.op = o->op,
		.key = &key,
		.parent = o->block % 8 ? &parent : NULL, /* chains of eight */
		.compat = &compat,
		.place = WIRE__PLACE__INIT,
		.digests = digests,
		.layer_count = LAYERS,
		.layer_bytes = layer_bytes,
	};
	offer.place.offset = (uint64_t)slot * SLOT_BYTES;
	offer.place.generation = region_slot_generation(w->source, slot);
	visitor_offer(w->visitor, peer, &offer);
}

static bool offer_block(struct writer *w, uint32_t block)
{
	struct kv_local local = {.sessions = w->sessions};
	struct id128 key = block_key(block);
	uint32_t peer = kv_first_owner(&local, &key);
	for (uint32_t slot = 0; peer != PEER_NONE && slot < WINDOW_MAX; slot++) {
		struct writer_offer *o = &w->offers[slot];
		if (o->used)
			continue;
		*o = (struct writer_offer){.used = true, .block = block, .node = sessions_peer(w->sessions, peer)->node,
					   .op = ++w->op_next << 8 | slot};
		send_offer(w, peer, slot);
		return true;
	}
	return false;
}

static void offer_some(struct writer *w)
{
	w->allowance += (double)w->rate * (double)(writer_now(w) - w->ticked_ns) / 1e9;
	if (w->allowance > 32)
		w->allowance = 32;
	while (w->unsent_count > 0 && offer_block(w, w->unsent[w->unsent_count - 1])) {
		w->unsent_count--;
		w->offered_again++;
	}
	for (; w->writing && w->unsent_count == 0 && w->allowance >= 1 && w->block_next < BLOCKS_MAX; w->allowance--) {
		if (!offer_block(w, w->block_next))
			return;
		w->block_next++;
	}
}

static uint32_t store_of(struct writer *w, uint64_t node)
{
	uint32_t i = 0;
	while (i < w->store_count && w->stores[i].node != node)
		i++;
	if (i == STORES_MAX)
		writer_fail("more than %d stores", STORES_MAX);
	return i;
}

static void take_done(struct writer *w, uint64_t node, const Wire__OfferDone *done)
{
	struct writer_offer *o = &w->offers[done->op & 0xff];
	if ((done->op & 0xff) >= WINDOW_MAX || !o->used || o->op != done->op || o->node != node)
		writer_fail("an answer to no offer");
	o->used = false;
	if (done->error == ERR_OK || done->error == ERR_EXISTS) {
		w->acks[o->block] |= (uint8_t)(1u << store_of(w, node));
		w->acked++;
		return;
	}
	w->refused += done->error == ERR_AGAIN;
	if (done->error != ERR_AGAIN)
		fprintf(stderr, "crash_writer: offer of block %u: %s\n", o->block, err_text((enum err)done->error));
}

/* What it had not answered is offered to the first owner of those who are left: it may have it by now. */
static void offers_down(struct writer *w, uint64_t node)
{
	for (int slot = 0; slot < WINDOW_MAX; slot++) {
		struct writer_offer *o = &w->offers[slot];
		if (!o->used || o->node != node)
			continue;
		o->used = false;
		w->unsent[w->unsent_count++] = o->block;
	}
}

/* ---- figures */

static void ask_stats(struct writer *w)
{
	for (uint32_t i = 0; i < w->store_count; i++)
		if (w->stores[i].peer != PEER_NONE)
			visitor_ask_load(w->visitor, w->stores[i].peer, ++w->op_next);
	printf("self %u %llu %llu %llu %llu %llu\n", w->block_next, (unsigned long long)w->acked, (unsigned long long)w->verified,
	       (unsigned long long)w->unreadable, (unsigned long long)w->offered_again, (unsigned long long)w->refused);
	fflush(stdout);
}

static void print_stat(struct writer *w, uint64_t node, const Wire__KvAnswer *answer)
{
	const Wire__Load *load = answer->load;
	uint64_t evicted = 0;
	if (!load || !load->store || !load->replica || !load->disk)
		writer_fail("%s does not say what it has", w->stores[store_of(w, node)].name);
	for (size_t i = 0; i < load->store->n_evicted; i++)
		evicted += load->store->evicted[i]->blocks;
	printf("stat %s %llu %llu %llu %llu %u %llu %llu %llu %d\n", w->stores[store_of(w, node)].name,
	       (unsigned long long)load->store->offers_taken, (unsigned long long)evicted, (unsigned long long)load->replica->copies,
	       (unsigned long long)load->replica->moved_bytes, load->replica->in_flight, (unsigned long long)load->replica->missing,
	       (unsigned long long)load->disk->blocks, (unsigned long long)load->disk->gone_room, load->disk->ready);
	fflush(stdout);
}

/* ---- events */

static void on_up(void *context, uint32_t peer)
{
	struct writer *w = context;
	const struct session_peer *info = sessions_peer(w->sessions, peer);
	struct writer_store *store = &w->stores[store_of(w, info->node)];
	store->peer = peer;
	printf("up %s\n", store->name);
	fflush(stdout);
	w->stat_ns = 0;
}

static void on_down(void *context, uint32_t peer, enum err why)
{
	struct writer *w = context;
	uint64_t node = sessions_peer(w->sessions, peer)->node;
	(void)why;
	w->stores[store_of(w, node)].peer = PEER_NONE;
	printf("down %s\n", w->stores[store_of(w, node)].name);
	fflush(stdout);
	offers_down(w, node);
	lookups_down(w, node);
}

static bool wants(void *context, const struct member *member)
{
	struct writer *w = context;
	if (member->role != WIRE__ROLE__ROLE_KVSTORE)
		return false;
	uint32_t i = store_of(w, member->node);
	if (i == w->store_count) {
		w->stores[w->store_count++] = (struct writer_store){.node = member->node, .peer = PEER_NONE};
		snprintf(w->stores[i].name, sizeof(w->stores[i].name), "%s", member->name);
	}
	return true;
}

static void on_message(void *context, uint32_t peer, const Wire__Envelope *envelope, uint64_t now_ns)
{
	struct writer *w = context;
	uint64_t node = sessions_peer(w->sessions, peer)->node;
	(void)now_ns;
	if (envelope->body_case == WIRE__ENVELOPE__BODY_OFFER_DONE)
		take_done(w, node, envelope->offer_done);
	else if (envelope->body_case == WIRE__ENVELOPE__BODY_FOUND)
		lookups_found(w, node, envelope->found);
	else if (envelope->body_case == WIRE__ENVELOPE__BODY_KV_ANSWER)
		print_stat(w, node, envelope->kv_answer);
}

static void on_outcome(void *core, uint64_t op, enum err e, uint64_t digest, uint64_t now_ns)
{
	(void)now_ns;
	lookups_outcome(core, op, e, digest);
}

static void on_landing_free(void *core, uint64_t op, uint64_t now_ns)
{
	(void)now_ns;
	lookups_landed(core, op);
}

static void *on_landing(void *context, uint32_t landing, uint32_t offset)
{
	return (uint8_t *)region_slot(((struct writer *)context)->sink, landing) + offset;
}

static void on_timer(struct loop_timer *timer, void *arg)
{
	struct writer *w = arg;
	loop_timer_arm(timer, TICK_NS);
	offer_some(w);
	lookups_tick(w);
	w->ticked_ns = writer_now(w);
	if (w->ticked_ns < w->stat_ns)
		return;
	w->stat_ns = w->ticked_ns + STAT_NS;
	ask_stats(w);
}

static void on_input(struct loop_watch *watch, unsigned ready, void *arg)
{
	struct writer *w = arg;
	char line[128], name[64];
	(void)watch, (void)ready;
	if (!fgets(line, sizeof(line), stdin) || strcmp(line, "end\n") == 0)
		exit(0);
	if (strcmp(line, "write\n") == 0 || strcmp(line, "pause\n") == 0) {
		w->writing = line[0] == 'w';
		return;
	}
	uint32_t i = 0;
	if (sscanf(line, "check %63s", name) != 1)
		writer_fail("\"%s\" is no command", line);
	while (i < w->store_count && strcmp(w->stores[i].name, name) != 0)
		i++;
	if (i == w->store_count)
		writer_fail("there is no store \"%s\"", name);
	check_begin(w, i);
}

/* ---- the process */

static void open_memory(struct writer *w)
{
	struct why why = {0};
	struct region_options source = {.index = 0, .slot_bytes = SLOT_BYTES, .slot_count = WINDOW_MAX};
	struct region_options sink = {.index = 1, .slot_bytes = SLOT_BYTES, .slot_count = LOOKUPS * LOOKUP_KEYS};
	if (region_create(&source, &w->source, &why) != ERR_OK || region_create(&sink, &w->sink, &why) != ERR_OK ||
	    link_region_add(process_link(w->process), w->source, &why) != ERR_OK ||
	    link_region_add(process_link(w->process), w->sink, &why) != ERR_OK)
		writer_fail("%s", why.text);
	w->acks = calloc(BLOCKS_MAX, 1);
	w->unsent = calloc(WINDOW_MAX, sizeof(*w->unsent));
	w->check.list = calloc(BLOCKS_MAX, sizeof(*w->check.list));
	w->check.again = calloc(BLOCKS_MAX, sizeof(*w->check.again));
	if (!w->acks || !w->unsent || !w->check.list || !w->check.again)
		writer_fail("out of memory");
}

static enum err serve(struct writer *w, struct why *why)
{
	struct visitor_options options = {
		.settings = &w->settings,
		.role = WIRE__ROLE__ROLE_OPERATOR,
		.peer_max = 2 * STORES_MAX,
		.read_max = 4096,
		.context = w,
		.landing = on_landing,
		.wants = wants,
		.up = on_up,
		.down = on_down,
		.message = on_message,
		.read_outcome = on_outcome,
		.landing_free = on_landing_free,
	};
	enum err e = visitor_open(&options, &w->visitor, why);
	if (e != ERR_OK)
		return e;
	w->process = visitor_process(w->visitor);
	w->sessions = visitor_sessions(w->visitor);
	open_memory(w);
	if (loop_watch_create(process_loop(w->process), STDIN_FILENO, LOOP_READ, on_input, w, &w->input) != ERR_OK ||
	    loop_timer_create(process_loop(w->process), on_timer, w, &w->timer) != ERR_OK)
		return ERR_NOMEM;
	loop_timer_arm(w->timer, TICK_NS);
	e = visitor_join(w->visitor, why);
	return e == ERR_OK ? process_run(w->process, why) : e;
}

int main(int argc, char **argv, char **environment)
{
	static struct writer writer = {.rate = 150, .rng = 1};
	process_defaults(&writer.settings, "crash-writer");
	struct option table[PROCESS_OPTIONS + 1] = {
		{"rate", OPTION_COUNT, &writer.rate, 1, 100000, "N", "blocks offered a second"},
	};
	process_options(&writer.settings, table + 1);
	struct options options = {.program = "crash_writer", .usage = "[options]", .table = table, .count = PROCESS_OPTIONS + 1,
				  .environment = environment};
	struct why why = {0};
	setvbuf(stdin, NULL, _IONBF, 0); /* a line that stdio holds makes no descriptor ready */
	enum err e = options_parse(&options, argc, argv, &why);
	if (e == ERR_OK && options.help)
		options_print_help(&options);
	else if (e == ERR_OK)
		e = serve(&writer, &why);
	if (e != ERR_OK)
		fprintf(stderr, "crash_writer: %s%s%s\n", err_text(e), why.text[0] ? ": " : "", why.text);
	options_fini(&options);
	return e == ERR_OK ? 0 : 1;
}

#include "tools/kv_client.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "kvstore/owners.h"
#include "net/loop.h"
#include "net/session.h"
#include "proto/job.h"
#include "tools/kv_answer.h"

enum { PAGE = 4096, ENGINES_MAX = 1024, READS_MAX = 65536, ARENA_BYTES = 64 << 20 };

static const uint64_t TURN_NS = 20000000;

struct store {
	uint64_t node;
	char name[MEMBER_NAME_MAX + 1];
	bool gone; /* no member any more */
};

struct engine {
	bool has_compat;
	struct id128 compat;
	char name[MEMBER_NAME_MAX + 1];
};

/* A layer that is being read. */
struct layer_read {
	uint32_t block, layer;
	bool outcome, landed;
};

struct kv_client {
	struct kv_client_options options;
	struct process *process;
	struct sessions *sessions;
	struct store stores[KV_STORES_MAX];
	struct engine engines[ENGINES_MAX];
	uint32_t store_count, engine_count;
	bool synced, interrupted;
	/* The question that is out. */
	uint64_t op;
	uint64_t asked_node;
	bool lost; /* its store, before it answered */
	uint8_t *frame;
	size_t frame_capacity;
	struct codec_arena arena;
	const Wire__KvAnswer *answer;
	/* Reads: an op is a serial and the number of its layer. */
	uint8_t *landing;
	struct layer_read *reads; /* [READS_MAX] */
	uint32_t read_count, reads_open;
	uint32_t serial;
	struct kv_client_block *blocks;
	/* Offers: an op is a serial and the number of the block. */
	struct region *region;
	uint16_t region_next;
	uint32_t offers_open;
	struct kv_client_offer *offers;
	uint32_t offer_count;
};

/* ---- waiting */

static uint64_t now(const struct kv_client *c)
{
	return loop_now_ns(process_loop(c->process));
}

static uint64_t timeout_of(const struct kv_client *c)
{
	return now(c) + c->options.timeout_ns * c->options.process->time_factor;
}

/* One turn; false: no use in waiting on. */
static bool turn(struct kv_client *c, uint64_t until_ns)
{
	if (c->interrupted || now(c) >= until_ns)
		return false;
	loop_turn(process_loop(c->process), TURN_NS);
	return true;
}

static enum err why_not(const struct kv_client *c, const char *what, struct why *why)
{
	if (c->interrupted)
		return why_set(why, ERR_CANCELED, "a signal came");
	return why_set(why, ERR_DEADLINE, "%s: not within %llu s (--timeout)", what,
		       (unsigned long long)(c->options.timeout_ns * c->options.process->time_factor / 1000000000));
}

/* ---- who is there */

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct store *)a)->name, ((const struct store *)b)->name);
}

static struct store *store_of(struct kv_client *c, uint64_t node)
{
	for (uint32_t i = 0; i < c->store_count; i++)
		if (c->stores[i].node == node)
			return &c->stores[i];
	return NULL;
}

static void note_engine(struct kv_client *c, const struct member *member)
{
	uint32_t i = 0;
	while (i < c->engine_count && strcmp(c->engines[i].name, member->name) != 0)
		i++;
	if (i == ENGINES_MAX)
		return;
	c->engine_count += i == c->engine_count;
	c->engines[i] = (struct engine){.has_compat = member->has_compat, .compat = member->compat};
	memcpy(c->engines[i].name, member->name, sizeof(c->engines[i].name));
}

static void on_member(void *context, const struct member *member, uint64_t now_ns)
{
	struct kv_client *c = context;
	if (member->role == WIRE__ROLE__ROLE_COORDINATOR)
		return;
	if (member->role != WIRE__ROLE__ROLE_KVSTORE) {
		note_engine(c, member);
		return;
	}
	struct store *store = store_of(c, member->node);
	if (!store && c->synced)
		return; /* it came while we work: the next command sees it */
	if (!store && c->store_count < KV_STORES_MAX) {
		store = &c->stores[c->store_count++];
		*store = (struct store){.node = member->node};
		memcpy(store->name, member->name, sizeof(store->name));
	}
	if (!store)
		return;
	store->gone = false;
	sessions_want(c->sessions, member->node, member->incarnation, now_ns);
}

static void on_gone(void *context, uint64_t node, uint64_t now_ns)
{
	(void)now_ns;
	struct kv_client *c = context;
	struct store *store = store_of(c, node);
	if (store)
		store->gone = true;
	sessions_unwant(c->sessions, node);
}

static void on_synced(void *context, uint64_t now_ns)
{
	(void)now_ns;
	struct kv_client *c = context;
	if (!c->synced)
		qsort(c->stores, c->store_count, sizeof(c->stores[0]), by_name);
	c->synced = true;
}

/* ---- events of the sessions and the link */

static void on_up(void *context, uint32_t peer)
{
	(void)context;
	(void)peer;
}

static void on_down(void *context, uint32_t peer, enum err e)
{
	struct kv_client *c = context;
	uint64_t node = sessions_peer(c->sessions, peer)->node;
	(void)e;
	if (node == c->asked_node)
		c->lost = true;
	for (uint32_t i = 0; i < c->offer_count; i++) {
		struct kv_client_offer *offer = &c->offers[i];
		if (offer->answer != ERR_BUSY || c->stores[offer->store].node != node)
			continue;
		offer->answer = ERR_PEER_GONE;
		c->offers_open--;
	}
}

static void take_answer(struct kv_client *c, const Wire__Envelope *envelope)
{
	size_t length = codec_packed_size(envelope);
	if (envelope->kv_answer->op != c->op || c->answer)
		return;
	if (length > c->frame_capacity) {
		free(c->frame);
		c->frame = malloc(length);
		c->frame_capacity = c->frame ? length : 0;
	}
	Wire__Envelope *kept;
	struct why why;
	if (!c->frame || codec_unpack(&c->arena, c->frame, codec_pack(envelope, c->frame), &why, &kept) != ERR_OK) {
		c->lost = true;
		return;
	}
	c->answer = kept->kv_answer;
}

static void take_done(struct kv_client *c, const Wire__OfferDone *done)
{
	uint32_t index = (uint32_t)done->op;
	if (done->op >> 32 != c->serial || index >= c->offer_count || c->offers[index].answer != ERR_BUSY)
		return;
	c->offers[index].answer = (enum err)done->error;
	c->offers_open--;
}

static void on_opened(void *core, uint32_t conn, uint64_t dialed, uint64_t now_ns)
{
	sessions_opened(((struct kv_client *)core)->sessions, conn, dialed, now_ns);
}

static void on_dial_failed(void *core, uint64_t dialed, uint64_t now_ns)
{
	sessions_dial_failed(((struct kv_client *)core)->sessions, dialed, now_ns);
}

static void on_closed(void *core, uint32_t conn, uint64_t now_ns)
{
	sessions_closed(((struct kv_client *)core)->sessions, conn, now_ns);
}

static void on_message(void *core, uint32_t conn, const Wire__Envelope *envelope, uint64_t now_ns)
{
	struct kv_client *c = core;
	if (sessions_message(c->sessions, conn, envelope, now_ns) == PEER_NONE)
		return;
	if (envelope->body_case == WIRE__ENVELOPE__BODY_KV_ANSWER)
		take_answer(c, envelope);
	else if (envelope->body_case == WIRE__ENVELOPE__BODY_OFFER_DONE)
		take_done(c, envelope->offer_done);
}

static void on_tick(void *core, uint64_t now_ns)
{
	sessions_tick(((struct kv_client *)core)->sessions, now_ns);
}

static struct layer_read *read_of(struct kv_client *c, uint64_t op)
{
	uint32_t index = (uint32_t)op;
	return op >> 32 == c->serial && index < c->read_count ? &c->reads[index] : NULL;
}

static void on_outcome(void *core, uint64_t op, enum err e, uint64_t digest, uint64_t now_ns)
{
	(void)now_ns;
	struct kv_client *c = core;
	struct layer_read *read = read_of(c, op);
	if (!read || read->outcome)
		return;
	read->outcome = true;
	c->reads_open--;
	struct kv_client_block *block = &c->blocks[read->block];
	if (e == ERR_OK && digest != block->block->digests[read->layer])
		e = ERR_CORRUPT;
	if (e == ERR_OK || (block->e != ERR_OK && block->e != ERR_CORRUPT)) /* that it went says more than that it is wrong */
		return;
	block->e = e;
	block->bad_layer = read->layer;
	block->bad_digest = digest;
}

static void on_landing_free(void *core, uint64_t op, uint64_t now_ns)
{
	(void)now_ns;
	struct kv_client *c = core;
	struct layer_read *read = read_of(c, op);
	if (!read || read->landed)
		return;
	read->landed = true;
	c->reads_open--;
}

static void *on_landing(void *context, uint32_t landing, uint32_t offset)
{
	return ((struct kv_client *)context)->landing + (size_t)landing * PAGE + offset;
}

static void on_drain(void *context)
{
	((struct kv_client *)context)->interrupted = true;
}

static void on_renew(void *context, uint64_t incarnation, const uint8_t *link_address, size_t length, uint64_t now_ns)
{
	sessions_renew(((struct kv_client *)context)->sessions, incarnation, link_address, length, now_ns);
}

/* ---- beginning and end */

static enum err make_sessions(struct kv_client *c)
{
	size_t length;
	const uint8_t *address = process_link_address(c->process, &length);
	struct session_options options = {
		.node = process_node(c->process),
		.incarnation = process_incarnation(c->process),
		.role = WIRE__ROLE__ROLE_OPERATOR,
		.name = c->options.process->name,
		.link_address = address,
		.link_address_length = length,
		.peer_max = KV_STORES_MAX,
		.time_factor = (uint32_t)c->options.process->time_factor,
		.env = process_env(c->process),
		.context = c,
		.up = on_up,
		.down = on_down,
	};
	void *memory = malloc(sessions_bytes(&options));
	if (!memory)
		return ERR_NOMEM;
	c->sessions = sessions_init(memory, &options);
	return ERR_OK;
}

static enum err join(struct kv_client *c, struct why *why)
{
	struct process_core core = {
		.shell = {.core = c, .opened = on_opened, .dial_failed = on_dial_failed, .closed = on_closed, .message = on_message,
			  .tick = on_tick, .read_outcome = on_outcome, .landing_free = on_landing_free},
		.context = c,
		.on_member = on_member,
		.on_gone = on_gone,
		.on_synced = on_synced,
		.drain = on_drain,
		.renew = on_renew,
	};
	return process_join(c->process, &core, NULL, why);
}

static bool has_session(const struct kv_client *c, uint32_t store)
{
	return sessions_find(c->sessions, c->stores[store].node) != PEER_NONE;
}

static bool all_up(const struct kv_client *c)
{
	for (uint32_t i = 0; i < c->store_count; i++)
		if (!c->stores[i].gone && !has_session(c, i))
			return false;
	return true;
}

/* Who does not answer now is told when it is asked. */
static enum err meet(struct kv_client *c, struct why *why)
{
	uint64_t until_ns = timeout_of(c);
	while (!c->synced && turn(c, until_ns))
		;
	if (!c->synced)
		return why_not(c, "etcd does not say who is a member", why);
	if (c->store_count == 0)
		return why_set(why, ERR_UNAVAILABLE, "cluster \"%s\" has no store (--cluster, --etcd)", c->options.process->cluster);
	until_ns = timeout_of(c);
	while (!all_up(c) && turn(c, until_ns))
		;
	return c->interrupted ? why_not(c, "", why) : ERR_OK;
}

enum err kv_client_open(const struct kv_client_options *options, struct kv_client **ret_client, struct why *why)
{
	struct kv_client *c = calloc(1, sizeof(*c));
	if (!c)
		return ERR_NOMEM;
	c->options = *options;
	c->landing = malloc(KV_LANDING_BYTES);
	c->reads = calloc(READS_MAX, sizeof(*c->reads));
	c->arena = (struct codec_arena){.memory = malloc(ARENA_BYTES), .capacity = ARENA_BYTES};
	struct process_parts parts = {.role = WIRE__ROLE__ROLE_OPERATOR, .with_link = true, .read_max = READS_MAX, .context = c,
				      .landing = on_landing};
	enum err e = c->landing && c->reads && c->arena.memory ? ERR_OK : why_set(why, ERR_NOMEM, "no memory for blocks");
	if (e == ERR_OK)
		e = process_open(options->process, &parts, &c->process, why);
	if (e == ERR_OK)
		e = make_sessions(c);
	if (e == ERR_OK)
		e = join(c, why);
	if (e == ERR_OK)
		e = meet(c, why);
	if (e != ERR_OK) {
		kv_client_close(c);
		return e;
	}
	*ret_client = c;
	return ERR_OK;
}

void kv_client_close(struct kv_client *c)
{
	if (!c)
		return;
	process_close(c->process);
	region_destroy(c->region);
	free(c->sessions);
	free(c->landing);
	free(c->reads);
	free(c->arena.memory);
	free(c->frame);
	free(c);
}

uint32_t kv_client_stores(const struct kv_client *c)
{
	return c->store_count;
}

const char *kv_client_name(const struct kv_client *c, uint32_t store)
{
	return c->stores[store].name;
}

uint32_t kv_client_find(const struct kv_client *c, const char *name)
{
	for (uint32_t i = 0; i < c->store_count; i++)
		if (strcmp(c->stores[i].name, name) == 0)
			return i;
	return UINT32_MAX;
}

const char *kv_client_user(const struct kv_client *c, const struct id128 *compat)
{
	for (uint32_t i = 0; i < c->engine_count; i++)
		if (c->engines[i].has_compat && id128_equal(&c->engines[i].compat, compat))
			return c->engines[i].name;
	return NULL;
}

bool kv_client_has_engines(const struct kv_client *c)
{
	return c->engine_count > 0;
}

/* ---- asking */

/* The store's session, waited for if need be. */
static enum err reach(struct kv_client *c, uint32_t store, uint32_t *ret_peer, struct why *why)
{
	uint64_t until_ns = timeout_of(c);
	while (!has_session(c, store) && turn(c, until_ns))
		;
	*ret_peer = sessions_find(c->sessions, c->stores[store].node);
	if (*ret_peer != PEER_NONE)
		return ERR_OK;
	if (c->interrupted)
		return why_not(c, "", why);
	return why_set(why, ERR_PEER_GONE, "%s is a member, and there is no session with it: is it running, does it speak TLS, may "
		       "this certificate's holder dial it (role operator), and has nobody else the name \"%s\" (--name)?",
		       c->stores[store].name, c->options.process->name);
}

enum err kv_client_ask(struct kv_client *c, uint32_t store, Wire__KvAsk *ask, const Wire__KvAnswer **ret_answer,
		       struct why *why)
{
	uint32_t peer;
	enum err e = reach(c, store, &peer, why);
	if (e != ERR_OK)
		return e;
	ask->op = ++c->op;
	c->asked_node = c->stores[store].node;
	c->lost = false;
	c->answer = NULL;
	PROTO_ENVELOPE(envelope, KV_ASK, kv_ask, ask);
	sessions_send(c->sessions, peer, &envelope);
	uint64_t until_ns = timeout_of(c);
	while (!c->answer && !c->lost && turn(c, until_ns))
		;
	c->asked_node = 0;
	if (c->lost)
		return why_set(why, ERR_PEER_GONE, "%s went away before it answered", c->stores[store].name);
	if (!c->answer)
		return why_not(c, c->stores[store].name, why);
	if (c->answer->error != ERR_OK)
		return why_set(why, (enum err)c->answer->error, "%s: %s", c->stores[store].name,
			       c->answer->error == ERR_DENIED ? "it answers operators only" : "it refuses");
	struct why inner = {0};
	e = kv_answer_check(ask, c->answer, &inner);
	if (e != ERR_OK)
		return why_set(why, e, "%s: %s", c->stores[store].name, inner.text);
	*ret_answer = c->answer;
	return ERR_OK;
}

/* ---- reading */

static void start_layers(struct kv_client *c, uint64_t node, uint32_t index, uint64_t at, uint64_t deadline_ns)
{
	const Wire__KvBlock *block = c->blocks[index].block;
	const struct env *env = process_env(c->process);
	for (uint32_t layer = 0; layer < block->layers; layer++) {
		uint32_t number = c->read_count++;
		c->reads[number] = (struct layer_read){.block = index, .layer = layer};
		c->reads_open += 2;
		struct env_read read = {
			.op = (uint64_t)c->serial << 32 | number,
			.node = node,
			.region = block->place->region,
			.offset = block->place->offset + (uint64_t)layer * block->layer_bytes,
			.length = block->layer_bytes,
			.generation = block->place->generation,
			.landing = (uint32_t)(at / PAGE),
			.landing_offset = layer * block->layer_bytes,
			.deadline_ns = deadline_ns,
		};
		env->read(env->context, &read);
	}
}

enum err kv_client_read(struct kv_client *c, uint32_t store, struct kv_client_block *blocks, uint32_t count, struct why *why)
{
	uint32_t peer;
	enum err e = reach(c, store, &peer, why);
	if (e != ERR_OK)
		return e;
	uint64_t at = 0, until_ns = timeout_of(c);
	c->serial++;
	c->read_count = 0;
	c->blocks = blocks;
	for (uint32_t i = 0; i < count; i++) {
		uint64_t bytes = (uint64_t)blocks[i].block->layers * blocks[i].block->layer_bytes;
		assert(at + bytes <= KV_LANDING_BYTES && c->read_count + blocks[i].block->layers <= READS_MAX);
		blocks[i].e = ERR_OK;
		blocks[i].bytes = c->landing + at;
		start_layers(c, c->stores[store].node, i, at, until_ns);
		at += (bytes + PAGE - 1) / PAGE * PAGE;
	}
	/* Every read has its deadline; its landing may be free a moment later (law 2). */
	while (c->reads_open > 0 && turn(c, until_ns + c->options.timeout_ns))
		;
	return c->reads_open == 0 ? ERR_OK : why_not(c, "reads of a store", why);
}

/* ---- offering */

/* Memory that stores read here: slots of one size.  One for larger blocks may have too few. */
static enum err make_region(struct kv_client *c, uint64_t slot_bytes, uint32_t count, struct why *why)
{
	const struct region_options *there = c->region ? region_options(c->region) : NULL;
	slot_bytes = (slot_bytes + PAGE - 1) / PAGE * PAGE;
	if (there && there->slot_bytes >= slot_bytes && there->slot_count >= count)
		return ERR_OK;
	if (c->region)
		link_region_remove(process_link(c->process), c->region);
	region_destroy(c->region);
	c->region = NULL;
	uint64_t slots = KV_LANDING_BYTES / slot_bytes < KV_OFFERS_MAX ? KV_LANDING_BYTES / slot_bytes : KV_OFFERS_MAX;
	struct region_options options = {.index = c->region_next++, .slot_bytes = slot_bytes, .slot_count = slots};
	enum err e = region_create(&options, &c->region, why);
	return e == ERR_OK ? link_region_add(process_link(c->process), c->region, why) : e;
}

static void send_offer(struct kv_client *c, uint32_t peer, uint32_t index)
{
	struct kv_file_block *block = &c->offers[index].block;
	Wire__Place place = WIRE__PLACE__INIT;
	place.region = region_options(c->region)->index;
	place.offset = index * region_options(c->region)->slot_bytes;
	place.generation = region_slot_generation(c->region, index);
	Wire__Offer offer = WIRE__OFFER__INIT;
	offer.op = (uint64_t)c->serial << 32 | index;
	offer.key = (ProtobufCBinaryData){PROTO_KEY_BYTES, block->key.bytes};
	offer.parent = (ProtobufCBinaryData){block->has_parent ? PROTO_KEY_BYTES : 0, block->parent.bytes};
	offer.place = &place;
	offer.n_digests = block->layer_count;
	offer.digests = (uint64_t *)(uintptr_t)block->digests; /* the packer only reads */
	offer.layer_bytes = block->layer_bytes;
	offer.compat = (ProtobufCBinaryData){PROTO_KEY_BYTES, block->compat.bytes};
	offer.tenant = block->tenant;
	offer.priority = block->low ? WIRE__PRIORITY__PRIORITY_LOW : WIRE__PRIORITY__PRIORITY_NORMAL;
	PROTO_ENVELOPE(envelope, OFFER, offer, &offer);
	sessions_send(c->sessions, peer, &envelope);
}

static uint32_t number_of(const struct kv_client *c, uint64_t node)
{
	uint32_t i = 0;
	while (i < c->store_count && c->stores[i].node != node)
		i++;
	return i;
}

static void offer_one(struct kv_client *c, uint32_t index)
{
	struct kv_client_offer *offer = &c->offers[index];
	struct kv_local local = {.sessions = c->sessions};
	uint32_t peer = kv_first_owner(&local, &offer->block.key);
	offer->answer = ERR_UNAVAILABLE;
	if (peer == PEER_NONE)
		return;
	region_slot_renew(c->region, index); /* before the first new byte */
	memcpy(region_slot(c->region, index), offer->block.bytes, (size_t)offer->block.layer_count * offer->block.layer_bytes);
	offer->store = number_of(c, sessions_peer(c->sessions, peer)->node);
	offer->answer = ERR_BUSY; /* until it has answered */
	c->offers_open++;
	send_offer(c, peer, index);
}

enum err kv_client_offer(struct kv_client *c, struct kv_client_offer *offers, uint32_t count, struct why *why)
{
	uint64_t largest = 0, until_ns = timeout_of(c);
	assert(count <= KV_OFFERS_MAX);
	for (uint32_t i = 0; i < count; i++) {
		uint64_t bytes = (uint64_t)offers[i].block.layer_count * offers[i].block.layer_bytes;
		largest = bytes > largest ? bytes : largest;
	}
	enum err e = make_region(c, largest, count, why);
	if (e != ERR_OK)
		return e;
	assert(count <= region_options(c->region)->slot_count);
	while (!all_up(c) && turn(c, until_ns)) /* else blocks would go to others than their owners */
		;
	c->serial++;
	c->offers = offers;
	c->offer_count = count;
	c->offers_open = 0;
	for (uint32_t i = 0; i < count; i++)
		offer_one(c, i);
	until_ns = timeout_of(c);
	while (c->offers_open > 0 && turn(c, until_ns))
		;
	c->offer_count = 0;
	return c->offers_open == 0 ? ERR_OK : why_not(c, "answers to offers", why);
}

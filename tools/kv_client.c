#include "tools/kv_client.h"

#include <stdlib.h>
#include <string.h>

#include "net/loop.h"
#include "tools/kv_client_impl.h"

static const uint64_t TURN_NS = 20000000;

/* ---- waiting */

uint64_t client_now(const struct kv_client *c)
{
	return loop_now_ns(process_loop(c->process));
}

uint64_t client_timeout(const struct kv_client *c)
{
	return client_now(c) + c->options.timeout_ns * c->options.process->time_factor;
}

/* One turn; false: no use in waiting on. */
bool client_turn(struct kv_client *c, uint64_t until_ns)
{
	if (c->interrupted || client_now(c) >= until_ns)
		return false;
	loop_turn(process_loop(c->process), TURN_NS);
	return true;
}

enum err client_why_not(const struct kv_client *c, const char *what, struct why *why)
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

static bool wants(void *context, const struct member *member)
{
	struct kv_client *c = context;
	if (member->role == WIRE__ROLE__ROLE_COORDINATOR)
		return false;
	if (member->role != WIRE__ROLE__ROLE_KVSTORE) {
		note_engine(c, member);
		return false;
	}
	struct store *store = store_of(c, member->node);
	if (!store && c->synced)
		return false; /* it came while we work: the next command sees it */
	if (!store && c->store_count < KV_STORES_MAX) {
		store = &c->stores[c->store_count++];
		*store = (struct store){.node = member->node};
		memcpy(store->name, member->name, sizeof(store->name));
	}
	if (store)
		store->gone = false;
	return store != NULL;
}

static void on_gone(void *context, uint64_t node)
{
	struct store *store = store_of(context, node);
	if (store)
		store->gone = true;
}

static void on_synced(void *context)
{
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

static void on_message(void *context, uint32_t peer, const Wire__Envelope *envelope, uint64_t now_ns)
{
	struct kv_client *c = context;
	(void)peer, (void)now_ns;
	if (envelope->body_case == WIRE__ENVELOPE__BODY_KV_ANSWER)
		take_answer(c, envelope);
	else if (envelope->body_case == WIRE__ENVELOPE__BODY_OFFER_DONE)
		take_done(c, envelope->offer_done);
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

/* ---- beginning and end */

bool client_has_session(const struct kv_client *c, uint32_t store)
{
	return sessions_find(c->sessions, c->stores[store].node) != PEER_NONE;
}

bool client_all_up(const struct kv_client *c)
{
	for (uint32_t i = 0; i < c->store_count; i++)
		if (!c->stores[i].gone && !client_has_session(c, i))
			return false;
	return true;
}

/* Who does not answer now is told when it is asked. */
static enum err meet(struct kv_client *c, struct why *why)
{
	uint64_t until_ns = client_timeout(c);
	while (!c->synced && client_turn(c, until_ns))
		;
	if (!c->synced)
		return client_why_not(c, "etcd does not say who is a member", why);
	if (c->store_count == 0)
		return why_set(why, ERR_UNAVAILABLE, "cluster \"%s\" has no store (--cluster, --etcd)", c->options.process->cluster);
	until_ns = client_timeout(c);
	while (!client_all_up(c) && client_turn(c, until_ns))
		;
	return c->interrupted ? client_why_not(c, "", why) : ERR_OK;
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
	struct visitor_options visitor = {
		.settings = options->process,
		.role = WIRE__ROLE__ROLE_OPERATOR,
		.peer_max = KV_STORES_MAX,
		.read_max = READS_MAX,
		.context = c,
		.landing = on_landing,
		.wants = wants,
		.gone = on_gone,
		.synced = on_synced,
		.drain = on_drain,
		.up = on_up,
		.down = on_down,
		.message = on_message,
		.read_outcome = on_outcome,
		.landing_free = on_landing_free,
	};
	enum err e = c->landing && c->reads && c->arena.memory ? ERR_OK : why_set(why, ERR_NOMEM, "no memory for blocks");
	if (e == ERR_OK)
		e = visitor_open(&visitor, &c->visitor, why);
	if (e == ERR_OK) {
		c->process = visitor_process(c->visitor);
		c->sessions = visitor_sessions(c->visitor);
		e = visitor_join(c->visitor, why);
	}
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
	visitor_close(c->visitor);
	region_destroy(c->region);
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


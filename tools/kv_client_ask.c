/* kv_client_ask - questions to stores, reads of their memory, offers of ours. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "kvstore/owners.h"
#include "proto/job.h"
#include "tools/kv_answer.h"
#include "tools/kv_client_impl.h"

/* ---- asking */

/* The store's session, waited for if need be. */
static enum err reach(struct kv_client *c, uint32_t store, uint32_t *ret_peer, struct why *why)
{
	uint64_t until_ns = client_timeout(c);
	while (!client_has_session(c, store) && client_turn(c, until_ns))
		;
	*ret_peer = sessions_find(c->sessions, c->stores[store].node);
	if (*ret_peer != PEER_NONE)
		return ERR_OK;
	if (c->interrupted)
		return client_why_not(c, "", why);
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
	visitor_ask(c->visitor, peer, ask);
	uint64_t until_ns = client_timeout(c);
	while (!c->answer && !c->lost && client_turn(c, until_ns))
		;
	c->asked_node = 0;
	if (c->lost)
		return why_set(why, ERR_PEER_GONE, "%s went away before it answered", c->stores[store].name);
	if (!c->answer)
		return client_why_not(c, c->stores[store].name, why);
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
	for (uint32_t layer = 0; layer < block->layers; layer++) {
		uint32_t number = c->read_count++;
		c->reads[number] = (struct layer_read){.block = index, .layer = layer};
		c->reads_open += 2;
		struct visitor_read read = {
			.op = (uint64_t)c->serial << 32 | number,
			.node = node,
			.place = block->place,
			.layer = layer,
			.layer_bytes = block->layer_bytes,
			.landing = (uint32_t)(at / PAGE),
			.landing_offset = layer * block->layer_bytes,
			.deadline_ns = deadline_ns,
		};
		visitor_read(c->visitor, &read);
	}
}

enum err kv_client_read(struct kv_client *c, uint32_t store, struct kv_client_block *blocks, uint32_t count, struct why *why)
{
	uint32_t peer;
	enum err e = reach(c, store, &peer, why);
	if (e != ERR_OK)
		return e;
	uint64_t at = 0, until_ns = client_timeout(c);
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
	while (c->reads_open > 0 && client_turn(c, until_ns + c->options.timeout_ns))
		;
	return c->reads_open == 0 ? ERR_OK : client_why_not(c, "reads of a store", why);
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
	const struct kv_file_block *block = &c->offers[index].block;
	struct visitor_offer offer = {
		.op = (uint64_t)c->serial << 32 | index,
		.key = &block->key,
		.parent = block->has_parent ? &block->parent : NULL,
		.compat = &block->compat,
		.place = WIRE__PLACE__INIT,
		.digests = block->digests,
		.layer_count = block->layer_count,
		.layer_bytes = block->layer_bytes,
		.tenant = block->tenant,
		.priority = block->low ? WIRE__PRIORITY__PRIORITY_LOW : WIRE__PRIORITY__PRIORITY_NORMAL,
	};
	offer.place.region = region_options(c->region)->index;
	offer.place.offset = index * region_options(c->region)->slot_bytes;
	offer.place.generation = region_slot_generation(c->region, index);
	visitor_offer(c->visitor, peer, &offer);
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
	uint64_t largest = 0, until_ns = client_timeout(c);
	assert(count <= KV_OFFERS_MAX);
	for (uint32_t i = 0; i < count; i++) {
		uint64_t bytes = (uint64_t)offers[i].block.layer_count * offers[i].block.layer_bytes;
		largest = bytes > largest ? bytes : largest;
	}
	enum err e = make_region(c, largest, count, why);
	if (e != ERR_OK)
		return e;
	assert(count <= region_options(c->region)->slot_count);
	while (!client_all_up(c) && client_turn(c, until_ns)) /* else blocks would go to others than their owners */
		;
	c->serial++;
	c->offers = offers;
	c->offer_count = count;
	c->offers_open = 0;
	for (uint32_t i = 0; i < count; i++)
		offer_one(c, i);
	until_ns = client_timeout(c);
	while (c->offers_open > 0 && client_turn(c, until_ns))
		;
	c->offer_count = 0;
	return c->offers_open == 0 ? ERR_OK : client_why_not(c, "answers to offers", why);
}

/* lookups - reading back what was acknowledged: all of one store's on command, and a few blocks of anybody's all the time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/rng.h"
#include "tests/crash/writer.h"

enum { PASSES = 6, CHECK_LOOKUPS = 4, RANDOM_BLOCKS = 4 };
#define PASS_PAUSE_NS 50000000ull
#define READ_TIMEOUT_NS 10000000000ull

static const struct id128 compat = {{0xc4, 0xa5}};

static struct writer_lookup *free_lookup(struct writer *w)
{
	for (int i = 0; i < LOOKUPS; i++)
		if (!w->lookups[i].used)
			return &w->lookups[i];
	return NULL;
}

static uint32_t lookup_number(const struct writer *w, const struct writer_lookup *l)
{
	return (uint32_t)(l - w->lookups);
}

static void look_up(struct writer *w, const struct writer_store *store, const uint32_t *blocks, uint32_t count, bool checks)
{
	struct writer_lookup *l = free_lookup(w);
	struct id128 keys[LOOKUP_KEYS];
	*l = (struct writer_lookup){.used = true, .checks = checks, .serial = l->serial + 1, .node = store->node,
				    .op = ++w->op_next, .count = count};
	for (uint32_t i = 0; i < count; i++) {
		l->blocks[i] = blocks[i];
		keys[i] = block_key(blocks[i]);
	}
	visitor_look_up(w->visitor, store->peer, l->op, keys, count, &compat);
}

/* ---- the check */

void check_begin(struct writer *w, uint32_t store)
{
	struct writer_check *c = &w->check;
	if (c->running)
		writer_fail("a check while another one is under way");
	c->running = true;
	c->store = store;
	c->tries = c->asked = c->found = c->list_count = c->list_next = c->again_count = 0;
	c->resume_ns = 0;
	for (uint32_t block = 0; block < w->block_next; block++)
		if (w->acks[block] >> store & 1)
			c->list[c->list_count++] = block;
	c->asked = c->list_count;
}

static uint32_t check_lookups(const struct writer *w)
{
	uint32_t count = 0;
	for (int i = 0; i < LOOKUPS; i++)
		count += w->lookups[i].used && w->lookups[i].checks;
	return count;
}

/* What is still missing is told, and not asked for at that store again. */
static void check_end(struct writer *w)
{
	struct writer_check *c = &w->check;
	c->running = false;
	printf("checked %s %u %u", w->stores[c->store].name, c->asked, c->found);
	for (uint32_t i = 0; i < c->again_count; i++) {
		printf(" %u", c->again[i]);
		w->acks[c->again[i]] &= (uint8_t)~(1u << c->store);
	}
	printf("\n");
	fflush(stdout);
}

static void check_next_pass(struct writer *w)
{
	struct writer_check *c = &w->check;
	if (c->again_count == 0 || ++c->tries == PASSES) {
		check_end(w);
		return;
	}
	uint32_t *list = c->list;
	c->list = c->again;
	c->again = list;
	c->list_count = c->again_count;
	c->list_next = c->again_count = 0;
	c->resume_ns = writer_now(w) + PASS_PAUSE_NS;
}

static void check_go_on(struct writer *w)
{
	struct writer_check *c = &w->check;
	const struct writer_store *store = &w->stores[c->store];
	if (!c->running || store->peer == PEER_NONE || writer_now(w) < c->resume_ns)
		return;
	while (c->list_next < c->list_count && check_lookups(w) < CHECK_LOOKUPS && free_lookup(w)) {
		uint32_t left = c->list_count - c->list_next, count = left < LOOKUP_KEYS ? left : LOOKUP_KEYS;
		look_up(w, store, c->list + c->list_next, count, true);
		c->list_next += count;
	}
	if (c->list_next == c->list_count && check_lookups(w) == 0)
		check_next_pass(w);
}

/* ---- one look-up */

static void count_block(struct writer *w, const struct writer_lookup *l, uint32_t i)
{
	const struct writer_read *read = &l->reads[i];
	bool good = read->found && !read->bad;
	w->verified += good;
	w->unreadable += read->found && read->bad;
	if (!l->checks)
		return;
	if (good)
		w->check.found++;
	else
		w->check.again[w->check.again_count++] = l->blocks[i];
}

static void end_if_done(struct writer *w, struct writer_lookup *l)
{
	if (!l->over)
		return;
	for (uint32_t i = 0; i < l->count; i++)
		if (l->reads[i].outcomes + l->reads[i].landings > 0)
			return;
	for (uint32_t i = 0; i < l->count; i++)
		count_block(w, l, i);
	uint32_t peer = sessions_find(w->sessions, l->node);
	if (peer != PEER_NONE)
		visitor_release(w->visitor, peer, l->op);
	l->used = false;
	check_go_on(w);
}

static void read_block(struct writer *w, struct writer_lookup *l, uint32_t index, const Wire__FoundBlock *found)
{
	struct writer_read *read = &l->reads[index];
	uint32_t layer_bytes = block_layer_bytes(l->blocks[index]);
	if (found->n_digests != LAYERS || read->found)
		writer_fail("block %u is found with %zu layers, or twice", l->blocks[index], found->n_digests);
	*read = (struct writer_read){.found = true, .outcomes = LAYERS, .landings = LAYERS};
	memcpy(read->digests, found->digests, sizeof(read->digests));
	for (uint32_t layer = 0; layer < LAYERS; layer++) {
		struct visitor_read r = {
			.op = (uint64_t)l->serial << 32 | lookup_number(w, l) << 16 | index << 8 | layer,
			.node = l->node,
			.place = found->place,
			.layer = layer,
			.layer_bytes = layer_bytes,
			.landing = lookup_number(w, l) * LOOKUP_KEYS + index,
			.landing_offset = layer * layer_bytes,
			.deadline_ns = writer_now(w) + READ_TIMEOUT_NS,
		};
		visitor_read(w->visitor, &r);
	}
}

void lookups_found(struct writer *w, uint64_t node, const Wire__Found *found)
{
	for (int n = 0; n < LOOKUPS; n++) {
		struct writer_lookup *l = &w->lookups[n];
		if (!l->used || l->over || l->node != node || l->op != found->op)
			continue;
		for (size_t i = 0; i < found->n_blocks; i++) {
			if (found->blocks[i]->index >= l->count)
				writer_fail("index %u of a look-up of %u keys is found", found->blocks[i]->index, l->count);
			read_block(w, l, found->blocks[i]->index, found->blocks[i]);
		}
		l->over = !found->more;
		end_if_done(w, l);
		return;
	}
}

void lookups_down(struct writer *w, uint64_t node)
{
	for (int n = 0; n < LOOKUPS; n++) {
		struct writer_lookup *l = &w->lookups[n];
		if (!l->used || l->node != node)
			continue;
		l->over = true;
		end_if_done(w, l);
	}
}

static struct writer_lookup *lookup_of(struct writer *w, uint64_t op, uint32_t *ret_index, uint32_t *ret_layer)
{
	struct writer_lookup *l = &w->lookups[op >> 16 & 0xffff];
	if (!l->used || l->serial != op >> 32)
		writer_fail("an event of a read that is over");
	*ret_index = op >> 8 & 0xff;
	*ret_layer = op & 0xff;
	return l;
}

/* Bytes that are not what was promised are no error of the network: it is told only of what was read whole. */
void lookups_outcome(struct writer *w, uint64_t op, enum err e, uint64_t digest)
{
	uint32_t index, layer;
	struct writer_lookup *l = lookup_of(w, op, &index, &layer);
	struct writer_read *read = &l->reads[index];
	read->outcomes--;
	read->bad |= e != ERR_OK;
	if (e == ERR_OK && digest != read->digests[layer])
		writer_fail("wrong bytes: layer %u of block %u has not the digest that was found", layer, l->blocks[index]);
}

static void compare(struct writer *w, const struct writer_lookup *l, uint32_t index)
{
	static uint8_t right[SLOT_BYTES];
	uint32_t block = l->blocks[index];
	const uint8_t *landing = region_slot(w->sink, lookup_number(w, l) * LOOKUP_KEYS + index);
	block_fill(block, right);
	if (memcmp(right, landing, (size_t)LAYERS * block_layer_bytes(block)) != 0)
		writer_fail("wrong bytes: block %u is not what was offered", block);
}

void lookups_landed(struct writer *w, uint64_t op)
{
	uint32_t index, layer;
	struct writer_lookup *l = lookup_of(w, op, &index, &layer);
	struct writer_read *read = &l->reads[index];
	if (--read->landings > 0)
		return;
	if (!read->bad)
		compare(w, l, index);
	end_if_done(w, l);
}

/* ---- all the time */

/* The newest are in memory, older ones on disk or gone. */
static void read_some(struct writer *w)
{
	struct writer_store *store = &w->stores[rng_mix(++w->rng) % w->store_count];
	uint32_t blocks[RANDOM_BLOCKS];
	if (store->peer == PEER_NONE || w->block_next == 0 || !free_lookup(w) || check_lookups(w) == LOOKUPS - 1)
		return;
	uint32_t span = rng_mix(++w->rng) % 2 ? 200 : 2000;
	for (int i = 0; i < RANDOM_BLOCKS; i++) {
		uint32_t back = 1 + (uint32_t)(rng_mix(++w->rng) % span);
		blocks[i] = back <= w->block_next ? w->block_next - back : 0;
		for (int k = 0; k < i; k++)
			if (blocks[k] == blocks[i])
				return;
	}
	look_up(w, store, blocks, RANDOM_BLOCKS, false);
}

void lookups_tick(struct writer *w)
{
	check_go_on(w);
	if (w->store_count > 0)
		read_some(w);
}

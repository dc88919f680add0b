#include "kvstore/fetch.h"

#include <assert.h>

#include "base/carve.h"
#include "base/layer_groups.h"
#include "base/planted.h"
#include "kvstore/fetch_impl.h"
#include "kvstore/hot.h"
#include "kvstore/owners.h"
#include "proto/job.h"

static void layout_fetch(struct carve *carve, const struct kv_fetch_options *o, struct fetch *ret_fetch)
{
	struct fetch fetch = {0};
	for (uint32_t g = 0; g < o->local->group_count; g++) {
		size_t digests = (size_t)o->block_max * FETCH_COPIES * o->local->groups[g].layer_count;
		fetch.blocks[g] = carve_take(carve, o->block_max, sizeof(*fetch.blocks[g]));
		fetch.digests[g] = carve_take(carve, digests, sizeof(*fetch.digests[g]));
	}
	size_t indexes = (size_t)KV_FETCH_SOURCES_MAX * o->local->group_count * o->block_max;
	fetch.key_indexes = carve_take(carve, indexes, sizeof(*fetch.key_indexes));
	if (ret_fetch)
		*ret_fetch = fetch;
}

static struct kv_fetches *layout(struct carve *carve, const struct kv_fetch_options *o)
{
	struct kv_fetches *f = carve_take(carve, 1, sizeof(*f));
	struct kv_fetches parts = {
		.options = *o,
		.local = o->local,
		.fetches = carve_take(carve, o->fetch_max, sizeof(*parts.fetches)),
		.hot = carve_take(carve, 1, sizeof(*parts.hot)),
		.key_bytes = carve_take(carve, (size_t)o->local->group_count * o->block_max, PROTO_KEY_BYTES),
	};
	for (uint32_t g = 0; g < o->local->group_count; g++)
		parts.present[g] = carve_take(carve, o->block_max, sizeof(*parts.present[g]));
	for (uint32_t i = 0; i < o->fetch_max; i++)
		layout_fetch(carve, o, f ? &parts.fetches[i] : NULL);
	if (f)
		*f = parts;
	return f;
}

size_t kv_fetches_bytes(const struct kv_fetch_options *options)
{
	struct carve carve = {0};
	layout(&carve, options);
	return carve.used;
}

struct kv_fetches *kv_fetches_init(void *memory, const struct kv_fetch_options *options)
{
	struct carve carve = {.memory = memory};
	return layout(&carve, options);
}

static uint32_t *asked(struct kv_fetches *f, struct fetch *fetch, uint32_t source)
{
	return fetch->key_indexes + (size_t)source * f->local->group_count * f->options.block_max;
}

/* Notes that the peer will be asked for key i of a group; silently not when there are sources or keys enough. */
static void ask(struct kv_fetches *f, struct fetch *fetch, uint32_t peer, uint32_t group, uint32_t i)
{
	uint32_t s = 0;
	while (s < fetch->source_count && fetch->sources[s].peer != peer)
		s++;
	if (s == KV_FETCH_SOURCES_MAX)
		return;
	if (s == fetch->source_count) {
		fetch->sources[s] = (struct fetch_source){.peer = peer, .op = ++f->op_next};
		fetch->key_counts[s] = 0;
		fetch->source_count++;
	}
	if (fetch->key_counts[s] < PROTO_KEYS_MAX)
		asked(f, fetch, s)[fetch->key_counts[s]++] = group * f->options.block_max + i;
}

/* The first block of a group that a beginning longer than what can be used already may need. */
static uint32_t wanted_first(const struct kv_fetches *f, const struct fetch *fetch, uint32_t group)
{
	return kv_keep_first(f->local->groups[group].keep, fetch->have + 1);
}

static void ask_owners(struct kv_fetches *f, struct fetch *fetch, uint32_t group)
{
	for (uint32_t i = wanted_first(f, fetch, group); i < fetch->key_count; i++) {
		uint32_t peers[KV_OWNERS_MAX];
		if (fetch->blocks[group][i].have)
			continue;
		const struct id128 *key = &fetch->keys[group][i];
		uint32_t count = kv_owners(f->local, key, hot_more(f->hot, key), peers);
		for (uint32_t k = 0; k < count; k++)
			ask(f, fetch, peers[k], group, i);
	}
}

static void ask_hinted(struct kv_fetches *f, struct fetch *fetch, uint32_t group, const Wire__Holder *holder)
{
	uint32_t peer = sessions_find(f->local->sessions, holder->node);
	uint32_t end = holder->blocks < fetch->key_count ? holder->blocks : fetch->key_count;
	for (uint32_t i = wanted_first(f, fetch, group); peer != PEER_NONE && i < end; i++)
		if (!fetch->blocks[group][i].have)
			ask(f, fetch, peer, group, i);
}

/* One message to each, of all groups. */
static void ask_all(struct kv_fetches *f, struct fetch *fetch, const struct kv_fetch_request *request)
{
	for (size_t h = 0; h < request->holder_count; h++)
		for (uint32_t g = 0; g < f->local->group_count; g++)
			ask_hinted(f, fetch, g, request->holders[h]);
	for (uint32_t g = 0; g < f->local->group_count; g++)
		ask_owners(f, fetch, g);
}

static void send_lookup(struct kv_fetches *f, struct fetch *fetch, uint32_t s, const struct kv_tenant *tenant)
{
	for (uint32_t i = 0; i < fetch->key_counts[s]; i++) {
		uint32_t item = asked(f, fetch, s)[i];
		const struct id128 *key = &fetch->keys[item / f->options.block_max][item % f->options.block_max];
		memcpy(f->key_bytes + (size_t)i * PROTO_KEY_BYTES, key->bytes, PROTO_KEY_BYTES);
	}
	Wire__Lookup lookup = WIRE__LOOKUP__INIT;
	lookup.op = fetch->sources[s].op;
	lookup.keys = (ProtobufCBinaryData){(size_t)fetch->key_counts[s] * PROTO_KEY_BYTES, f->key_bytes};
	lookup.compat = (ProtobufCBinaryData){PROTO_KEY_BYTES, f->local->compat.bytes};
	lookup.tenant = (char *)tenant->name; /* the packer only reads */
	PROTO_ENVELOPE(envelope, LOOKUP, lookup, &lookup);
	sessions_send(f->local->sessions, fetch->sources[s].peer, &envelope);
}

static struct fetch *free_slot(struct kv_fetches *f)
{
	for (uint32_t i = 0; i < f->options.fetch_max; i++)
		if (f->fetches[i].state == FETCH_FREE)
			return &f->fetches[i];
	return NULL;
}

/* What is in the pool already.  Of a global group it stays for this fetch: the job has reserved room for all of it; of a
 * windowed one that would be more than its part, so it may be gone at the end, and less can be used. */
static void note_present(struct kv_fetches *f, struct fetch *fetch, uint32_t group)
{
	for (uint32_t i = 0; i < fetch->key_count; i++) {
		struct fetch_block *block = &fetch->blocks[group][i];
		uint32_t held = kv_pool_find(f->local->pool, &fetch->keys[group][i]);
		*block = (struct fetch_block){.block = KV_BLOCK_NONE, .have = held != KV_BLOCK_NONE};
		for (int c = 0; c < FETCH_COPIES; c++)
			block->copies[c].peer = PEER_NONE;
		if (!block->have || i < fetch->have || f->local->groups[group].keep != KV_KEEP_ALL)
			continue;
		block->block = held;
		kv_pool_ref(f->local->pool, held);
	}
}

static void reset(struct kv_fetches *f, struct fetch *fetch, const struct kv_fetch_request *request)
{
	fetch->state = FETCH_ASKING;
	fetch->serial++;
	fetch->cookie = request->cookie;
	fetch->key_count = request->key_count < f->options.block_max ? request->key_count : f->options.block_max;
	fetch->have = fetch->front = request->have;
	fetch->began_ns = fetch->started_ns = f->local->now_ns;
	fetch->deadline_ns = request->deadline_ns;
	fetch->source_count = fetch->run = fetch->goal = fetch->missing = fetch->reading = 0;
	fetch->counts = (struct kv_fetch_counts){0};
	for (uint32_t g = 0; g < f->local->group_count; g++) {
		fetch->keys[g] = request->keys[g];
		note_present(f, fetch, g);
	}
	f->count++;
}

enum err kv_fetch_start(struct kv_fetches *f, const struct kv_fetch_request *request)
{
	struct fetch *fetch = free_slot(f);
	if (!fetch)
		return ERR_AGAIN;
	reset(f, fetch, request);
	ask_all(f, fetch, request);
	for (uint32_t s = 0; s < fetch->source_count; s++)
		send_lookup(f, fetch, s, request->tenant);
	if (fetch->source_count == 0)
		fetch_begin_reading(f, fetch);
	return ERR_OK;
}

static struct fetch *find_cookie(struct kv_fetches *f, uint32_t cookie)
{
	for (uint32_t i = 0; i < f->options.fetch_max; i++)
		if (f->fetches[i].state != FETCH_FREE && f->fetches[i].cookie == cookie)
			return &f->fetches[i];
	return NULL;
}

void kv_fetch_advance(struct kv_fetches *f, uint32_t cookie, uint32_t n, uint64_t deadline_ns)
{
	struct fetch *fetch = find_cookie(f, cookie);
	assert(fetch);
	fetch->started_ns = f->local->now_ns;
	fetch->deadline_ns = deadline_ns > fetch->deadline_ns ? deadline_ns : fetch->deadline_ns;
	if (n > fetch->front)
		fetch_advance(f, fetch, n);
}

/* By what it did so far; as long as it lasts already, when that is nothing. */
uint64_t kv_fetch_left_ns(struct kv_fetches *f, uint32_t cookie)
{
	const struct fetch *fetch = find_cookie(f, cookie);
	assert(fetch);
	uint64_t lasts_ns = f->local->now_ns - fetch->began_ns, read = fetch->counts.blocks_read;
	return fetch->state == FETCH_READING && read > 0 ? lasts_ns * fetch->missing / read : lasts_ns;
}

void kv_fetch_cancel(struct kv_fetches *f, uint32_t cookie, struct kv_fetch_counts *ret_counts)
{
	struct fetch *fetch = find_cookie(f, cookie);
	assert(fetch);
	*ret_counts = fetch->counts;
	fetch_end(f, fetch, false);
}

static bool all_heard(const struct fetch *fetch)
{
	for (uint32_t s = 0; s < fetch->source_count; s++)
		if (!fetch->sources[s].heard)
			return false;
	return true;
}

static uint64_t half_time_ns(const struct fetch *fetch)
{
	return fetch->started_ns + (fetch->deadline_ns - fetch->started_ns) / 2;
}

bool fetch_waits_for_more(const struct kv_fetches *f, const struct fetch *fetch)
{
	if (fetch->run == fetch->key_count)
		return false;
	for (uint32_t s = 0; s < fetch->source_count; s++)
		if (!fetch->sources[s].answered)
			return f->local->now_ns < half_time_ns(fetch);
	return false;
}

/* Whoever has not answered has nothing that is wanted: it may be dead without anybody knowing yet, and nothing waits for
 * everybody (law 5). */
static bool all_found(struct kv_fetches *f, struct fetch *fetch)
{
	fetch_plan(f, fetch);
	return fetch->run == fetch->key_count;
}

/* Remembers a copy where there is room for one more. */
static void add_copy(struct kv_fetches *f, struct fetch *fetch, uint32_t item, uint32_t peer,
		     const Wire__FoundBlock *found)
{
	uint32_t group = item / f->options.block_max, i = item % f->options.block_max;
	struct fetch_block *block = &fetch->blocks[group][i];
	for (uint32_t k = 0; k < FETCH_COPIES; k++)
		if (block->copies[k].peer == peer)
			return; /* said again */
	uint32_t c = block->copy_next;
	if (sessions_peer(f->local->sessions, peer)->role == WIRE__ROLE__ROLE_KVSTORE)
		hot_note(f->hot, &fetch->keys[group][i], found->more_copies);
	while (c < FETCH_COPIES && block->copies[c].peer != PEER_NONE)
		c++;
	if (c == FETCH_COPIES || found->n_digests != f->local->groups[group].layer_count)
		return;
	block->copies[c] = (struct fetch_copy){
		.peer = peer,
		.node = sessions_peer(f->local->sessions, peer)->node,
		.region = found->place->region,
		.offset = found->place->offset,
		.generation = found->place->generation,
	};
	memcpy(fetch_digests(f, fetch, group, i, c), found->digests, found->n_digests * sizeof(uint64_t));
}

static struct fetch *find_op(struct kv_fetches *f, uint32_t peer, uint64_t op, uint32_t *ret_source)
{
	for (uint32_t i = 0; i < f->options.fetch_max; i++) {
		struct fetch *fetch = &f->fetches[i];
		for (uint32_t s = 0; fetch->state != FETCH_FREE && s < fetch->source_count; s++) {
			if (fetch->sources[s].peer != peer || fetch->sources[s].op != op)
				continue;
			*ret_source = s;
			return fetch;
		}
	}
	return NULL;
}

static void send_release(struct kv_fetches *f, uint32_t peer, uint64_t op)
{
	Wire__Release release = WIRE__RELEASE__INIT;
	release.op = op;
	PROTO_ENVELOPE(envelope, RELEASE, release, &release);
	sessions_send(f->local->sessions, peer, &envelope);
}

void kv_fetch_found(struct kv_fetches *f, uint32_t peer, const Wire__Found *found)
{
	uint32_t s;
	struct fetch *fetch = find_op(f, peer, found->op, &s);
	if (fetch && fetch->sources[s].answered)
		return; /* said again: to release it would take away what the first answer holds */
	if (!fetch) {
		if (planted(LATE_ANSWER_NOT_RELEASED))
			return;
		send_release(f, peer, found->op); /* too late: nobody waits for it, so nobody may hold it */
		return;
	}
	fetch->sources[s].heard = true;
	fetch->sources[s].answered = !found->more;
	for (size_t i = 0; i < found->n_blocks; i++)
		if (found->blocks[i]->index < fetch->key_counts[s])
			add_copy(f, fetch, asked(f, fetch, s)[found->blocks[i]->index], peer, found->blocks[i]);
	if (fetch->state == FETCH_ASKING && (all_heard(fetch) || all_found(f, fetch)))
		fetch_begin_reading(f, fetch);
	else if (fetch->state == FETCH_READING)
		fetch_extend(f, fetch);
}

static void forget_copies(struct fetch_block *block, uint32_t peer)
{
	for (int c = block->copy_next; c < FETCH_COPIES; c++)
		if (block->copies[c].peer == peer)
			block->copies[c].peer = PEER_NONE;
}

/* What a dead peer would have answered, or holds for us, is no more. */
static void forget_peer(struct fetch *fetch, uint32_t peer)
{
	for (uint32_t s = 0; s < fetch->source_count; s++)
		if (fetch->sources[s].peer == peer)
			fetch->sources[s] = (struct fetch_source){.peer = PEER_NONE, .heard = true, .answered = true};
	for (uint32_t g = 0; g < LAYER_GROUPS_MAX && fetch->blocks[g]; g++)
		for (uint32_t i = 0; i < fetch->key_count; i++)
			forget_copies(&fetch->blocks[g][i], peer);
}

void kv_fetch_peer_down(struct kv_fetches *f, uint32_t peer)
{
	for (uint32_t i = 0; i < f->options.fetch_max; i++) {
		struct fetch *fetch = &f->fetches[i];
		if (fetch->state == FETCH_FREE)
			continue;
		forget_peer(fetch, peer);
		if (fetch->state == FETCH_ASKING && all_heard(fetch)) {
			fetch_begin_reading(f, fetch);
		} else if (fetch->state == FETCH_READING) {
			fetch_plan(f, fetch);
			fetch_issue(f, fetch);
		}
	}
}

void kv_fetch_tick(struct kv_fetches *f)
{
	uint64_t now_ns = f->local->now_ns;
	for (uint32_t i = 0; i < f->options.fetch_max; i++) {
		struct fetch *fetch = &f->fetches[i];
		if (fetch->state == FETCH_ASKING && now_ns >= half_time_ns(fetch))
			fetch_begin_reading(f, fetch);
		if (fetch->state == FETCH_READING && now_ns >= fetch->deadline_ns)
			fetch_end(f, fetch, true);
		else if (fetch->state == FETCH_READING)
			fetch_issue(f, fetch); /* room in the read table may be back */
	}
}

uint32_t kv_fetch_count(const struct kv_fetches *f)
{
	return f->count;
}

/* Tells every holder; a source that has not said anything yet is released when its answer comes. */
static void release_sources(struct kv_fetches *f, struct fetch *fetch)
{
	for (uint32_t s = 0; s < fetch->source_count; s++)
		if (fetch->sources[s].peer != PEER_NONE && fetch->sources[s].heard)
			send_release(f, fetch->sources[s].peer, fetch->sources[s].op);
}

static void give_blocks(struct kv_fetches *f, struct fetch *fetch, uint32_t group)
{
	for (uint32_t i = fetch->key_count; i > 0; i--)
		if (fetch->blocks[group][i - 1].block != KV_BLOCK_NONE)
			kv_pool_unref(f->local->pool, fetch->blocks[group][i - 1].block);
}

void fetch_end(struct kv_fetches *f, struct fetch *fetch, bool report)
{
	kv_reads_abandon(f->local->reads, KV_FETCH_MODULE, fetch_index(f, fetch), fetch->serial);
	release_sources(f, fetch);
	for (uint32_t g = 0; g < f->local->group_count; g++)
		for (uint32_t i = fetch->front; i < fetch->key_count; i++)
			fetch->counts.miss_deadline += fetch->blocks[g][i].reading;
	if (report)
		f->options.done(f->options.context, fetch->cookie, &fetch->counts);
	for (uint32_t g = 0; g < f->local->group_count; g++)
		give_blocks(f, fetch, g);
	fetch->state = FETCH_FREE;
	f->count--;
}

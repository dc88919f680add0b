/* store_sweep - copies of blocks that are on disk only, when stores come and go (replicate.h sees to those in memory).
 *
 *   WAIT --a while after the last change--> GATHER: the next blocks of the index that other stores own, SWEEP_CHUNK at most
 *            --> ASK: each of these stores which of them it has --> LOAD: what is missing at any --> GATHER, until all are through
 *            What is loaded is offered as any block that came from disk (replicate_loaded()); taken, it is the first to go again.
 *   --> WAIT --a while later, once more, also by those who are not the best in rank--> ... --> REST, or once more much later, when a
 *            store did not take what it lacks, or memory let something go before it was copied: that is on disk only now
 *
 * Rules: 1 nothing is loaded that the others have: they say so from their index, without reading anything;
 *        2 at most SWEEP_LOADS blocks are in memory for this, held, at once: that many slots, and no more, are taken from others, and
 *          loading keeps to the pace of copies (replicate.h, rule 3);
 *        3 a store that does not answer, or does not take what it lacks, is left out until the next time: nobody waits for it;
 *        4 what is not asked about yet counts as missing.
 *
 * The cost is that of the blocks, whatever the disk could have, and of one walk for all stores.  A start sweeps too: who has come or
 * gone meanwhile is not known.  A store that leaves does not: its disk stays with it. */
#include <assert.h>
#include <string.h>

#include "base/planted.h"
#include "kvstore/place.h"
#include "kvstore/store_impl.h"
#include "proto/job.h"

enum {
	SWEEP_LOADS = 8,
	SWEEP_CHUNK = 1024,
	SWEEP_BLOCKS = 512,  /* looked at in one go: a quarter of a millisecond of ten stores */
	SWEEP_EMPTY = 32,    /* numbers without a block cost as much as one with, as in replicate_look.c */
	SECOND_GRACES = 3,   /* until it is done a second time */
	LATER_GRACES = 20,   /* and again, when a store did not take what it lacks */
	NO_MEMBER = 255,
};
#define ANSWER_NS UINT64_C(2000000000)
#define TAKEN_NS UINT64_C(2000000000)

/* Numbers of members: whom to ask, then who lacks it; NO_MEMBER behind them. */
struct sweep_block {
	struct id128 key;
	uint8_t ask[PLACE_REPLICAS_MAX];
	uint8_t lack[PLACE_REPLICAS_MAX];
};

struct sweep_load {
	struct sweep_block block;
	uint32_t entry; /* held, or LEDGER_NONE: it is on its way */
	uint64_t until_ns;
};

struct sweep {
	enum { SWEEP_REST, SWEEP_WAIT, SWEEP_GATHER, SWEEP_ASK, SWEEP_LOAD } state;
	bool began;        /* since the start of the process */
	bool swept;        /* since the last change of members all was asked about */
	bool second;
	bool gave_up;      /* on a store, in this pass */
	uint64_t evicted;  /* replicate_evicted() when the last pass that did not give up began; when this one began: */
	uint64_t evicted_then;
	uint32_t dropped;  /* known to be missing, and given up since the last pass began */
	uint64_t change;   /* of the members, as swept */
	uint64_t at_ns;    /* WAIT: until then */
	struct place_member members[REPLICATE_STORES_MAX + 1];
	uint32_t member_count;
	bool left_out[REPLICATE_STORES_MAX + 1]; /* rule 3 */
	uint32_t next;     /* number in the index */
	uint32_t chunk_count;
	struct sweep_block chunk[SWEEP_CHUNK];
	uint32_t target;   /* ASK: the member that is asked */
	uint32_t at;       /* ASK, LOAD: of the chunk, what comes next */
	uint64_t op;       /* of the question that is out; 0: none */
	uint64_t op_last;
	uint64_t asked_ns;
	uint32_t key_count;
	struct id128 keys[PROTO_ASK_KEYS_MAX];   /* asked for */
	uint16_t asked[PROTO_ASK_KEYS_MAX];      /* where they are in the chunk */
	uint32_t load_count;
	struct sweep_load loads[SWEEP_LOADS];    /* on their way, or in memory and not settled */
	struct sweep_status status;
};

size_t sweep_bytes(void)
{
	return sizeof(struct sweep);
}

void sweep_init(struct store *s)
{
	memset(s->sweep, 0, sizeof(*s->sweep));
}

static bool is_under_way(const struct sweep *w)
{
	return w->state >= SWEEP_GATHER;
}

static bool is_missing(const struct sweep_block *block)
{
	return block->lack[0] != NO_MEMBER;
}

/* Where the walk ends: who is alone has nobody to ask. */
static uint32_t walk_end(const struct store *s)
{
	return s->sweep->member_count > 1 ? disk_numbers(s->d.disk) : 0;
}

/* Blocks on disk that some other store may lack and was not asked about: as many as there can be. */
static uint32_t not_asked_about(const struct store *s)
{
	const struct sweep *w = s->sweep;
	struct disk_status disk;
	if (!s->d.disk || s->options.copies_max == 0 || s->draining)
		return 0;
	disk_status(s->d.disk, &disk);
	if (replicate_any_lost(s->replicate) || w->change != replicate_change(s->replicate))
		return disk.blocks;
	uint32_t end = walk_end(s), left = !is_under_way(w) ? end : end > w->next ? end - w->next : 0;
	if (left > disk.blocks)
		left = disk.blocks;
	return w->swept ? 0 : left + (w->state == SWEEP_GATHER || w->state == SWEEP_ASK ? w->chunk_count : 0);
}

struct sweep_status sweep_status(const struct store *s)
{
	const struct sweep *w = s->sweep;
	struct sweep_status status = w->status;
	status.missing = w->load_count + w->dropped + (uint32_t)(replicate_evicted(s->replicate) - w->evicted) + not_asked_about(s);
	for (uint32_t i = w->state == SWEEP_LOAD ? w->at : w->swept ? 0 : w->chunk_count; i < w->chunk_count; i++)
		status.missing += is_missing(&w->chunk[i]);
	status.over = w->state == SWEEP_REST;
	return status;
}

static uint64_t grace_ns(const struct store *s)
{
	uint64_t grace = s->options.grace_ns ? s->options.grace_ns : REPLICATE_GRACE_NS;
	return grace * (s->options.time_factor ? s->options.time_factor : 1);
}

static uint32_t peer_of(const struct store *s, uint32_t member)
{
	uint64_t node = s->sweep->members[member].node;
	return node == s->options.node ? PEER_NONE : sessions_find(s->sessions, node);
}

/* ---- whom to ask for what */

static uint8_t member_of(const struct sweep *w, uint64_t node)
{
	uint32_t i = 0;
	while (w->members[i].node != node)
		i++;
	return (uint8_t)i;
}

static void add_member(uint8_t list[PLACE_REPLICAS_MAX], uint8_t member)
{
	uint8_t *end = memchr(list, NO_MEMBER, PLACE_REPLICAS_MAX);
	if (end)
		*end = member;
}

/* Whose copies are for this store to see to?  At first those of whom it is the best in rank of the other owners, then all: who is
 * the best may have it no more.  A store that is away is a change when it is back, or gone. */
static bool whom_to_ask(const struct store *s, const struct disk_found *found, struct sweep_block *block)
{
	const struct sweep *w = s->sweep;
	uint64_t owners[PLACE_REPLICAS_MAX];
	uint32_t replicas = s->options.replicas && found->priority == LEDGER_NORMAL ? s->options.replicas : 1; /* as replicate.h */
	uint32_t count = place_owners(w->members, w->member_count, &block->key, replicas, owners);
	memset(block->ask, NO_MEMBER, sizeof(block->ask));
	memset(block->lack, NO_MEMBER, sizeof(block->lack));
	for (uint32_t i = 0; i < count; i++) {
		uint64_t best = i > 0 ? owners[0] : count > 1 ? owners[1] : 0;
		uint8_t member = member_of(w, owners[i]);
		bool ours = owners[i] != s->options.node && (w->second || best == s->options.node);
		if (ours && !w->left_out[member] && peer_of(s, member) != PEER_NONE)
			add_member(block->ask, member);
	}
	return block->ask[0] != NO_MEMBER;
}

/* true: the chunk is full, or all are through. */
static bool gather(struct store *s)
{
	struct sweep *w = s->sweep;
	uint32_t end = walk_end(s);
	struct disk_found found;
	for (uint32_t cost = 0; cost < SWEEP_BLOCKS * SWEEP_EMPTY && w->next < end && w->chunk_count < SWEEP_CHUNK;) {
		uint32_t most = SWEEP_BLOCKS * SWEEP_EMPTY - cost;
		uint32_t from = w->next, until = end - from > most ? from + most : end;
		w->next = disk_next(s->d.disk, from, until);
		cost += w->next - from;
		if (w->next == until)
			continue;
		struct sweep_block *block = &w->chunk[w->chunk_count];
		disk_at(s->d.disk, w->next++, &block->key, &found);
		cost += SWEEP_EMPTY;
		w->chunk_count += ledger_lookup(s->ledger, &block->key) == LEDGER_NONE && whom_to_ask(s, &found, block);
	}
	return w->next >= end || w->chunk_count == SWEEP_CHUNK;
}

static void ask_target(struct store *s, uint32_t peer)
{
	struct sweep *w = s->sweep;
	Wire__KvAsk ask = WIRE__KV_ASK__INIT;
	ask.op = w->op = ++w->op_last;
	ask.verb = WIRE__KV_VERB__KV_HAVE;
	ask.keys = (ProtobufCBinaryData){w->key_count * PROTO_KEY_BYTES, w->keys[0].bytes};
	w->asked_ns = s->now_ns;
	w->status.asked += w->key_count;
	PROTO_ENVELOPE(envelope, KV_ASK, kv_ask, &ask);
	sessions_send(s->sessions, peer, &envelope);
}

/* Asks the next store that it has to be asked of the chunk; false: all are asked. */
static bool ask_next(struct store *s)
{
	struct sweep *w = s->sweep;
	for (w->key_count = 0; w->target < w->member_count; w->target++, w->at = 0) {
		uint32_t peer = peer_of(s, w->target);
		if (peer == PEER_NONE || w->left_out[w->target])
			continue;
		for (; w->at < w->chunk_count && w->key_count < PROTO_ASK_KEYS_MAX; w->at++) {
			const struct sweep_block *block = &w->chunk[w->at];
			if (!memchr(block->ask, (int)w->target, sizeof(block->ask)))
				continue;
			w->asked[w->key_count] = (uint16_t)w->at;
			w->keys[w->key_count++] = block->key;
		}
		if (w->key_count == 0)
			continue;
		ask_target(s, peer);
		return true;
	}
	return false;
}

/* While the index is not back nobody knows what is here. */
void sweep_answer(struct store *s, uint32_t peer, const Wire__KvAsk *ask)
{
	Wire__KvAnswer answer = WIRE__KV_ANSWER__INIT;
	answer.op = ask->op;
	if (s->d.disk && !disk_is_ready(s->d.disk))
		answer.error = ERR_AGAIN;
	for (uint32_t i = 0; answer.error == ERR_OK && i < ask->keys.len / PROTO_KEY_BYTES; i++) {
		struct id128 key = codec_key(&ask->keys, i);
		bool has = ledger_lookup(s->ledger, &key) != LEDGER_NONE || store_on_disk(s, &key);
		s->operate->errors[answer.n_errors++] = has ? ERR_OK : ERR_NOT_FOUND;
	}
	answer.errors = s->operate->errors;
	operate_send(s, peer, &answer);
}

/* ---- what is missing */

static void leave_out(struct sweep *w, uint8_t member)
{
	w->gave_up = true;
	w->left_out[member] = true;
}

/* Does somebody who lacked it, and is not left out, not have it yet? */
static bool is_waited_for(const struct store *s, const struct sweep_load *load)
{
	const struct sweep *w = s->sweep;
	bool lacks = false;
	for (uint32_t i = 0; i < PLACE_REPLICAS_MAX && load->block.lack[i] != NO_MEMBER; i++)
		lacks |= !w->left_out[load->block.lack[i]] &&
			 replicate_lacks(s->replicate, load->entry, w->members[load->block.lack[i]].node);
	return lacks && replicate_waits(s->replicate, load->entry);
}

/* It makes room.  Who has not got it in time, or from a disk that gives nothing, gets it another time. */
static void end_load(struct store *s, const struct sweep_load *load, bool late)
{
	struct sweep *w = s->sweep;
	bool dropped = load->entry == LEDGER_NONE && store_on_disk(s, &load->block.key);
	for (uint32_t i = 0; load->entry != LEDGER_NONE && i < PLACE_REPLICAS_MAX && load->block.lack[i] != NO_MEMBER; i++) {
		if (!replicate_lacks(s->replicate, load->entry, w->members[load->block.lack[i]].node))
			continue;
		dropped = true;
		if (late)
			leave_out(w, load->block.lack[i]);
	}
	w->gave_up |= dropped;
	w->dropped += dropped;
	if (load->entry != LEDGER_NONE)
		ledger_release(s->ledger, load->entry);
}

/* What has come is held, or it would be the first to go for the next one; what was offered to everybody who lacks it makes room. */
static void settle(struct store *s)
{
	struct sweep *w = s->sweep;
	for (uint32_t i = 0; i < w->load_count;) {
		struct sweep_load *load = &w->loads[i];
		uint32_t entry = ledger_lookup(s->ledger, &load->block.key);
		if (load->entry == LEDGER_NONE && store_served(s, &load->block.key) != LEDGER_NONE) {
			load->entry = entry;
			ledger_hold(s->ledger, entry);
		}
		bool open = load->entry == LEDGER_NONE ? entry != LEDGER_NONE : is_waited_for(s, load);
		if (load->entry != LEDGER_NONE && replicate_waits_for_pace(s->replicate, entry))
			load->until_ns = s->now_ns + TAKEN_NS;
		if (open && s->now_ns < load->until_ns) {
			i++;
			continue;
		}
		end_load(s, load, open);
		*load = w->loads[--w->load_count];
	}
}

/* Is it to be loaded?  Not for those only who are left out by now, nor when somebody asked for it meanwhile, and it was offered, or
 * it went. */
static bool is_to_be_loaded(struct store *s, const struct sweep_block *block)
{
	struct sweep *w = s->sweep;
	if (!is_missing(block) || ledger_lookup(s->ledger, &block->key) != LEDGER_NONE || !store_on_disk(s, &block->key))
		return false;
	for (uint32_t i = 0; i < PLACE_REPLICAS_MAX && block->lack[i] != NO_MEMBER; i++)
		if (!w->left_out[block->lack[i]])
			return true;
	w->dropped++;
	return false;
}

static void load_missing(struct store *s)
{
	struct sweep *w = s->sweep;
	for (; w->at < w->chunk_count && w->load_count < SWEEP_LOADS; w->at++) {
		const struct sweep_block *block = &w->chunk[w->at];
		if (!is_to_be_loaded(s, block))
			continue;
		if (!store_disk_fetch(s, &block->key))
			return; /* all memory is in use: another time */
		w->status.loaded++;
		w->loads[w->load_count++] = (struct sweep_load){*block, LEDGER_NONE, s->now_ns + TAKEN_NS};
	}
}

/* ---- turns */

static void begin_pass(struct store *s)
{
	struct sweep *w = s->sweep;
	w->state = SWEEP_GATHER;
	w->gave_up = false;
	w->evicted_then = replicate_evicted(s->replicate);
	w->dropped = 0;
	w->next = w->chunk_count = 0;
	w->op = 0;
	memset(w->left_out, 0, sizeof(w->left_out));
}

static void end_pass(struct store *s)
{
	struct sweep *w = s->sweep;
	if (!w->gave_up) {
		w->swept = true;
		w->evicted = w->evicted_then;
	}
	bool over = w->second && !w->gave_up && w->evicted == replicate_evicted(s->replicate);
	w->state = over ? SWEEP_REST : SWEEP_WAIT;
	w->at_ns = s->now_ns + (w->second ? LATER_GRACES : SECOND_GRACES) * grace_ns(s);
	w->second = true;
}

static void end_chunk(struct store *s)
{
	struct sweep *w = s->sweep;
	bool whole = w->next >= walk_end(s);
	if (w->at < w->chunk_count || (whole && w->load_count > 0))
		return;
	w->state = SWEEP_GATHER;
	w->chunk_count = 0;
	if (whole)
		end_pass(s);
}

static void go_on(struct store *s)
{
	struct sweep *w = s->sweep;
	if (w->state == SWEEP_LOAD)
		end_chunk(s);
	if (w->state == SWEEP_GATHER && gather(s)) {
		w->state = SWEEP_ASK;
		w->target = w->at = 0;
	}
	if (w->state == SWEEP_ASK && w->op == 0 && !ask_next(s)) {
		w->state = SWEEP_LOAD;
		w->at = 0;
	}
}

/* Nothing comes of the question. */
static void ask_no_more(struct store *s)
{
	struct sweep *w = s->sweep;
	w->op = 0;
	leave_out(w, (uint8_t)w->target);
}

void sweep_answered(struct store *s, uint32_t peer, const Wire__KvAnswer *answer)
{
	struct sweep *w = s->sweep;
	bool expected = w->state == SWEEP_ASK && w->op != 0 && answer->op == w->op &&
			sessions_peer(s->sessions, peer)->node == w->members[w->target].node;
	if (!expected)
		return;
	w->op = 0;
	if (answer->error != ERR_OK || answer->n_errors != w->key_count)
		ask_no_more(s);
	for (uint32_t i = 0; i < answer->n_errors && !w->left_out[w->target]; i++)
		if (answer->errors[i] == ERR_NOT_FOUND && !planted(DISK_COPIES_FORGOTTEN))
			add_member(w->chunk[w->asked[i]].lack, (uint8_t)w->target);
	go_on(s);
}

/* Another set of members: all of it anew, when they have settled. */
static void look_at_members(struct store *s)
{
	struct sweep *w = s->sweep;
	uint64_t change = replicate_change(s->replicate);
	if (w->began && change == w->change)
		return;
	w->began = true;
	w->change = change;
	w->member_count = replicate_members(s->replicate, w->members);
	w->swept = w->second = false;
	w->state = SWEEP_WAIT;
	w->at_ns = s->now_ns + grace_ns(s);
	w->chunk_count = 0;
	for (uint32_t i = 0; i < w->load_count; i++) /* whose numbers were those of other members */
		memset(w->loads[i].block.lack, NO_MEMBER, sizeof(w->loads[i].block.lack));
}

static void look_at_evicted(struct store *s)
{
	struct sweep *w = s->sweep;
	if (w->state != SWEEP_REST || replicate_evicted(s->replicate) == w->evicted)
		return;
	w->state = SWEEP_WAIT;
	w->at_ns = s->now_ns + SECOND_GRACES * grace_ns(s);
}

void sweep_tick(struct store *s)
{
	struct sweep *w = s->sweep;
	if (!s->d.disk || s->options.copies_max == 0)
		return;
	look_at_members(s);
	look_at_evicted(s);
	if (s->draining || !disk_is_ready(s->d.disk))
		return;
	if (w->state == SWEEP_WAIT && s->now_ns >= w->at_ns)
		begin_pass(s);
	if (w->state == SWEEP_ASK && w->op != 0 && s->now_ns >= w->asked_ns + ANSWER_NS)
		ask_no_more(s);
	go_on(s);
}

void sweep_pump(struct store *s)
{
	const struct sweep *w = s->sweep;
	if (w->load_count > 0)
		settle(s);
	if (w->state != SWEEP_LOAD || s->draining)
		return;
	load_missing(s);
	if (w->at == w->chunk_count)
		go_on(s);
}

void sweep_check(const struct store *s)
{
	const struct sweep *w = s->sweep;
	assert(w->load_count <= SWEEP_LOADS && w->key_count <= PROTO_ASK_KEYS_MAX && w->chunk_count <= SWEEP_CHUNK);
	assert(w->state != SWEEP_ASK || w->op == 0 || w->key_count > 0);
}

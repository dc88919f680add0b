/* store_sweep - copies of blocks that are on disk only, when stores come and go (replicate.h sees to those in memory).
 *
 *   WAIT --a while after the last change--> GO: for each other store in turn
 *            all blocks of the index that it owns --256 keys--> it is asked which it has --missing there--> loaded
 *            --> replicate_loaded() offers it, as any block that came from disk --settled--> the first to go again
 *   WAIT --a while later, once more, also by those who are not the best in rank--> GO --> REST, or once more much later, when a
 *            store did not take what it lacks, or memory let something go before it was copied: that is on disk only now
 *
 * Rules: 1 nothing is loaded that the other has: it says so from its index, without reading anything;
 *        2 at most SWEEP_LOADS blocks are in memory for this, held, at once: that many slots, and no more, are taken from others, and
 *          loading keeps to the pace of copies (replicate.h, rule 3).
 *
 * A start sweeps too: who has come or gone meanwhile is not known.  A store that leaves does not: its disk stays with it. */
#include <assert.h>
#include <string.h>

#include "base/planted.h"
#include "kvstore/place.h"
#include "kvstore/store_impl.h"
#include "proto/job.h"

enum {
	SWEEP_LOADS = 8,
	SWEEP_ENTRIES = 512, /* looked at in one go: a quarter of a millisecond of ten stores */
	SECOND_GRACES = 3,    /* until it is done a second time */
	LATER_GRACES = 20,    /* and again, when a store did not take what it lacks */
};
#define ANSWER_NS UINT64_C(2000000000)
#define TAKEN_NS UINT64_C(2000000000)

struct sweep_load {
	struct id128 key;
	uint32_t entry; /* held, or LEDGER_NONE: it is on its way */
	uint64_t until_ns;
};

struct sweep {
	enum { SWEEP_REST, SWEEP_WAIT, SWEEP_GO } state;
	bool began;        /* since the start of the process */
	bool second;
	bool gave_up;      /* on a store, or memory let something go, in this pass */
	uint64_t evicted;  /* of replicate_evicted(), as seen */
	uint64_t change;   /* of the members, as swept */
	uint64_t at_ns;    /* WAIT: until then */
	struct place_member members[REPLICATE_STORES_MAX + 1];
	uint32_t member_count;
	uint32_t target;   /* the member that is asked */
	uint32_t next;     /* number in the index */
	uint64_t op;       /* of the question that is out; 0: none */
	uint64_t op_last;
	uint64_t asked_ns;
	uint32_t key_count;
	struct id128 keys[PROTO_ASK_KEYS_MAX];   /* asked for, or to be */
	uint32_t missing_count;
	struct id128 missing[PROTO_ASK_KEYS_MAX]; /* at the target: to be loaded */
	uint32_t load_count;
	struct sweep_load loads[SWEEP_LOADS];     /* on their way, or in memory and not settled */
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

struct sweep_status sweep_status(const struct store *s)
{
	struct sweep_status status = s->sweep->status;
	status.missing = s->sweep->missing_count + s->sweep->load_count;
	status.over = s->sweep->state == SWEEP_REST;
	return status;
}

static uint64_t grace_ns(const struct store *s)
{
	uint64_t grace = s->options.grace_ns ? s->options.grace_ns : REPLICATE_GRACE_NS;
	return grace * (s->options.time_factor ? s->options.time_factor : 1);
}

/* ---- whom to ask for what */

static void begin_target(struct sweep *w, uint32_t target)
{
	w->target = target;
	w->next = 0;
	w->op = 0;
	w->key_count = w->missing_count = 0;
}

/* Is it for this store to see to the target's copy?  At first for the best in rank of the other owners, then for everybody: who is
 * the best may have it no more. */
static bool is_ours(const struct store *s, const struct id128 *key, const struct disk_found *found)
{
	const struct sweep *w = s->sweep;
	uint64_t owners[PLACE_REPLICAS_MAX], target = w->members[w->target].node, best = 0;
	uint32_t replicas = s->options.replicas && found->priority == LEDGER_NORMAL ? s->options.replicas : 1; /* as replicate.h */
	uint32_t count = place_owners(w->members, w->member_count, key, replicas, owners);
	bool owned = false;
	for (uint32_t i = 0; i < count; i++) {
		owned |= owners[i] == target;
		best = best == 0 && owners[i] != target ? owners[i] : best;
	}
	return owned && (w->second || best == s->options.node);
}

static void gather(struct store *s)
{
	struct sweep *w = s->sweep;
	uint32_t all = s->d.options.block_max, until = all - w->next > SWEEP_ENTRIES ? w->next + SWEEP_ENTRIES : all;
	struct id128 key;
	struct disk_found found;
	while (w->key_count < PROTO_ASK_KEYS_MAX && w->next < until) {
		w->next = disk_next(s->d.disk, w->next, until);
		if (w->next >= until)
			return;
		disk_at(s->d.disk, w->next++, &key, &found);
		if (ledger_lookup(s->ledger, &key) == LEDGER_NONE && is_ours(s, &key, &found))
			w->keys[w->key_count++] = key;
	}
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

void sweep_answer(struct store *s, uint32_t peer, const Wire__KvAsk *ask)
{
	Wire__KvAnswer answer = WIRE__KV_ANSWER__INIT;
	answer.op = ask->op;
	for (uint32_t i = 0; i < ask->keys.len / PROTO_KEY_BYTES; i++) {
		struct id128 key = codec_key(&ask->keys, i);
		bool has = ledger_lookup(s->ledger, &key) != LEDGER_NONE || store_on_disk(s, &key);
		s->operate->errors[answer.n_errors++] = has ? ERR_OK : ERR_NOT_FOUND;
	}
	answer.errors = s->operate->errors;
	operate_send(s, peer, &answer);
}

/* ---- what is missing */

/* The store that is asked takes nothing now: another time. */
static void give_up(struct store *s)
{
	struct sweep *w = s->sweep;
	w->gave_up = true;
	w->missing_count = 0;
	w->next = s->d.options.block_max;
}

/* What has come is held, or it would be the first to go for the next one; what was offered to everybody who lacks it makes room. */
static void settle(struct store *s)
{
	struct sweep *w = s->sweep;
	for (uint32_t i = 0; i < w->load_count;) {
		struct sweep_load *load = &w->loads[i];
		uint32_t entry = ledger_lookup(s->ledger, &load->key);
		if (load->entry == LEDGER_NONE && store_served(s, &load->key) != LEDGER_NONE) {
			load->entry = entry;
			ledger_hold(s->ledger, entry);
		}
		bool open = load->entry == LEDGER_NONE ? entry != LEDGER_NONE : replicate_waits(s->replicate, entry);
		if (open && s->now_ns < load->until_ns) {
			i++;
			continue;
		}
		if (open)
			give_up(s);
		w->gave_up |= load->entry == LEDGER_NONE;
		if (load->entry != LEDGER_NONE)
			ledger_release(s->ledger, load->entry);
		*load = w->loads[--w->load_count];
	}
}

static void load_missing(struct store *s)
{
	struct sweep *w = s->sweep;
	while (w->missing_count > 0 && w->load_count < SWEEP_LOADS) {
		const struct id128 *key = &w->missing[w->missing_count - 1];
		if (ledger_lookup(s->ledger, key) != LEDGER_NONE || !store_on_disk(s, key)) {
			w->missing_count--; /* somebody asked for it meanwhile, and it was offered; or it went */
			continue;
		}
		if (!store_disk_fetch(s, key))
			return; /* all memory is in use: another time */
		w->status.loaded++;
		w->loads[w->load_count++] = (struct sweep_load){*key, LEDGER_NONE, s->now_ns + TAKEN_NS};
		w->missing_count--;
	}
}

/* ---- turns */

static void end_target(struct store *s)
{
	struct sweep *w = s->sweep;
	begin_target(w, w->target + 1);
	if (w->target < w->member_count)
		return;
	bool over = w->second && !w->gave_up;
	w->state = over ? SWEEP_REST : SWEEP_WAIT;
	w->at_ns = s->now_ns + (w->second ? LATER_GRACES : SECOND_GRACES) * grace_ns(s);
	w->second = true;
	w->gave_up = false;
}

static void go_on(struct store *s)
{
	struct sweep *w = s->sweep;
	uint64_t node = w->target < w->member_count ? w->members[w->target].node : 0;
	uint32_t peer = node == 0 || node == s->options.node ? PEER_NONE : sessions_find(s->sessions, node);
	if (peer == PEER_NONE || (w->op != 0 && s->now_ns >= w->asked_ns + ANSWER_NS)) {
		end_target(s); /* this store; or one that is away: a change when it is back, or gone */
		return;
	}
	if (w->op != 0 || w->missing_count > 0)
		return;
	gather(s);
	bool whole = w->next >= s->d.options.block_max;
	if (w->key_count == PROTO_ASK_KEYS_MAX || (whole && w->key_count > 0))
		ask_target(s, peer);
	else if (whole && w->load_count == 0)
		end_target(s);
}

void sweep_answered(struct store *s, uint32_t peer, const Wire__KvAnswer *answer)
{
	struct sweep *w = s->sweep;
	bool expected = w->op != 0 && answer->op == w->op && w->target < w->member_count &&
			sessions_peer(s->sessions, peer)->node == w->members[w->target].node;
	if (!expected)
		return;
	w->op = 0;
	for (uint32_t i = 0; answer->error == ERR_OK && i < answer->n_errors && i < w->key_count; i++)
		if (answer->errors[i] == ERR_NOT_FOUND && !planted(DISK_COPIES_FORGOTTEN))
			w->missing[w->missing_count++] = w->keys[i];
	w->key_count = 0;
	if (w->state == SWEEP_GO)
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
	w->second = w->gave_up = false;
	w->state = SWEEP_WAIT;
	w->at_ns = s->now_ns + grace_ns(s);
	begin_target(w, 0);
}

static void look_at_evicted(struct store *s)
{
	struct sweep *w = s->sweep;
	uint64_t evicted = replicate_evicted(s->replicate);
	w->gave_up |= evicted != w->evicted;
	w->evicted = evicted;
	if (!w->gave_up || w->state != SWEEP_REST)
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
	if (w->state == SWEEP_WAIT && s->now_ns >= w->at_ns) {
		w->state = SWEEP_GO;
		w->gave_up = false;
		begin_target(w, 0);
	}
	if (w->state == SWEEP_GO)
		go_on(s);
}

void sweep_pump(struct store *s)
{
	const struct sweep *w = s->sweep;
	if (w->load_count > 0)
		settle(s);
	if (w->state == SWEEP_GO && w->missing_count > 0 && !s->draining)
		load_missing(s);
}

void sweep_check(const struct store *s)
{
	const struct sweep *w = s->sweep;
	assert(w->load_count <= SWEEP_LOADS && w->key_count <= PROTO_ASK_KEYS_MAX && w->missing_count <= PROTO_ASK_KEYS_MAX);
	assert(w->op == 0 || w->key_count > 0);
}

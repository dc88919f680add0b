/* store_asks - what operators ask of single blocks (baton kv get, pin, evict, verify): answered when it is so.
 *
 *   GET       in memory: at once.  On disk only: it is read back first, and held until the operator's next question, the end of its
 *             session, or ASK_HOLD_NS: it is the first to go otherwise.  What has no room now is told without a place.
 *   VERIFY    when each record was read.
 *   PIN,      when what was said is as durable as the block: a crash right after the answer changes nothing (disk.h, rule 6).
 *   EVICT
 *
 * An operator has one question at a time.  Bounds: ASKS_MAX questions, ASK_LOADS_MAX loads of each at once, ASK_WAIT_NS. */
#include <assert.h>
#include <string.h>

#include "kvstore/store_impl.h"

enum { ASK_LOADS_MAX = 32, ASK_TRIES_MAX = 2 };
#define ASK_WAIT_NS UINT64_C(2000000000)
#define ASK_HOLD_NS UINT64_C(5000000000)

/* ---- what an operator says of one block */

enum err store_pin(struct store *s, const struct id128 *key, enum ledger_pin pin, uint64_t *ret_note)
{
	uint32_t entry = store_served(s, key);
	struct disk_found found;
	bool on_disk = s->d.disk && disk_find(s->d.disk, key, &found);
	uint64_t note = 0;
	if (entry == LEDGER_NONE && !on_disk)
		return ERR_NOT_FOUND;
	enum err e = on_disk ? disk_pin(s->d.disk, key, pin, &note) : ERR_OK;
	if (e == ERR_OK && entry != LEDGER_NONE)
		e = ledger_pin(s->ledger, entry, pin);
	if (e == ERR_OK)
		*ret_note = note;
	else if (on_disk && disk_pin(s->d.disk, key, found.pin, &note) != ERR_OK)
		return e; /* it stays as it was in memory, and as was said on disk */
	return e;
}

enum err store_evict(struct store *s, const struct id128 *key, uint64_t *ret_note)
{
	uint32_t entry = ledger_lookup(s->ledger, key);
	struct disk_found found;
	bool on_disk = s->d.disk && disk_find(s->d.disk, key, &found);
	if (entry != LEDGER_NONE && store_served(s, key) == LEDGER_NONE)
		return ERR_BUSY; /* it is on its way */
	if (store_disk_writes(s, key))
		return ERR_BUSY;
	if (on_disk && found.pin == LEDGER_PINNED_HARD)
		return ERR_DENIED;
	enum err e = entry == LEDGER_NONE ? ERR_NOT_FOUND : ledger_evict(s->ledger, entry);
	uint64_t note = 0;
	if (s->d.disk && (e == ERR_OK || e == ERR_NOT_FOUND)) {
		/* Also when the index has it no more: a start could find it. */
		enum err forgotten = disk_forget(s->d.disk, key, &note);
		e = forgotten == ERR_NOT_FOUND ? e : forgotten;
	}
	if (e == ERR_OK)
		*ret_note = note;
	return e;
}

bool store_noted(const struct store *s, uint64_t note)
{
	return note == 0 || disk_noted(s->d.disk, note);
}

/* ---- questions under way */

struct ask_key {
	struct id128 key;
	enum err e;      /* of PIN and EVICT */
	bool over;       /* there is nothing to wait for */
	uint8_t tries;   /* loads begun */
	uint32_t entry;  /* GET: held, or LEDGER_NONE */
	uint64_t note;   /* to become durable; 0: none */
};

struct ask {
	enum { ASK_FREE, ASK_OPEN, ASK_HOLDS } state;
	uint32_t peer;
	uint64_t op;
	Wire__KvVerb verb;
	enum ledger_pin pin;
	uint64_t until_ns; /* then it is answered, or what it holds is free */
	uint32_t count;
	struct ask_key keys[PROTO_ASK_KEYS_MAX];
};

enum { ASKS_MAX = 8 };

size_t asks_bytes(void)
{
	return ASKS_MAX * sizeof(struct ask);
}

void asks_init(struct store *s)
{
	memset(s->asks, 0, asks_bytes());
}

static void end(struct store *s, struct ask *a)
{
	for (uint32_t i = 0; i < a->count; i++)
		if (a->keys[i].entry != LEDGER_NONE)
			ledger_release(s->ledger, a->keys[i].entry);
	a->state = ASK_FREE;
	a->count = 0;
}

void asks_drop(struct store *s, uint32_t peer)
{
	for (uint32_t i = 0; i < ASKS_MAX; i++)
		if (s->asks[i].state != ASK_FREE && s->asks[i].peer == peer)
			end(s, &s->asks[i]);
}

uint32_t asks_held_for(const struct store *s, uint32_t peer)
{
	uint32_t held = 0;
	for (uint32_t i = 0; i < ASKS_MAX; i++)
		for (uint32_t k = 0; s->asks[i].peer == peer && k < s->asks[i].count; k++)
			held += s->asks[i].keys[k].entry != LEDGER_NONE;
	return held;
}

static void step_get(struct store *s, struct ask_key *k, uint32_t *loads)
{
	uint32_t entry = ledger_lookup(s->ledger, &k->key);
	if (store_served(s, &k->key) != LEDGER_NONE) {
		k->over = true;
		if (k->tries > 0) {
			ledger_hold(s->ledger, entry);
			k->entry = entry;
		}
		return;
	}
	if (entry != LEDGER_NONE) { /* on its way */
		++*loads;
		return;
	}
	k->over = !store_on_disk(s, &k->key) || k->tries == ASK_TRIES_MAX;
	if (k->over || *loads >= ASK_LOADS_MAX || !store_disk_fetch(s, &k->key))
		return;
	k->tries++;
	++*loads;
}

static void step_word(struct store *s, const struct ask *a, struct ask_key *k)
{
	if (k->e == ERR_AGAIN)
		k->e = a->verb == WIRE__KV_VERB__KV_PIN ? store_pin(s, &k->key, a->pin, &k->note) : store_evict(s, &k->key, &k->note);
	/* A disk has room for more notes in a while; what may not be pinned for want of it may not. */
	bool waits = k->e == ERR_AGAIN && a->verb == WIRE__KV_VERB__KV_EVICT;
	k->over = !waits && (k->e != ERR_OK || store_noted(s, k->note));
}

static void step_verify(struct store *s, struct ask_key *k)
{
	if (k->tries == 0) {
		enum err e = s->d.disk ? disk_check_block(s->d.disk, &k->key) : ERR_NOT_FOUND;
		k->tries = e == ERR_OK;
		k->over = e == ERR_NOT_FOUND;
		k->e = k->over ? e : ERR_AGAIN;
		return;
	}
	k->over = disk_checked(s->d.disk, &k->key, &k->e);
}

/* true: all of it is over. */
static bool step(struct store *s, struct ask *a)
{
	uint32_t loads = 0, over = 0;
	for (uint32_t i = 0; i < a->count; i++) {
		struct ask_key *k = &a->keys[i];
		if (!k->over && a->verb == WIRE__KV_VERB__KV_GET)
			step_get(s, k, &loads);
		else if (!k->over && a->verb == WIRE__KV_VERB__KV_VERIFY)
			step_verify(s, k);
		else if (!k->over)
			step_word(s, a, k);
		over += k->over;
	}
	return over == a->count;
}

static void answer(struct store *s, struct ask *a, uint64_t now_ns)
{
	Wire__KvAnswer answer = WIRE__KV_ANSWER__INIT;
	answer.op = a->op;
	for (uint32_t i = 0; i < a->count; i++) {
		const struct ask_key *k = &a->keys[i];
		if (a->verb == WIRE__KV_VERB__KV_GET)
			operate_add(s, &k->key, &answer);
		else /* done in memory and in the index, and not noted: a start may not know of it */
			s->operate->errors[answer.n_errors++] = k->over || k->e != ERR_OK ? k->e : ERR_IO;
	}
	answer.errors = s->operate->errors;
	operate_send(s, a->peer, &answer);
	a->state = ASK_HOLDS;
	a->until_ns = now_ns + ASK_HOLD_NS;
}

void asks_pump(struct store *s, uint64_t now_ns)
{
	for (uint32_t i = 0; i < ASKS_MAX; i++) {
		struct ask *a = &s->asks[i];
		if (a->state == ASK_OPEN && (step(s, a) || now_ns >= a->until_ns))
			answer(s, a, now_ns);
		else if (a->state == ASK_HOLDS && now_ns >= a->until_ns)
			end(s, a);
	}
}

void asks_take(struct store *s, uint32_t peer, const Wire__KvAsk *ask, uint64_t now_ns)
{
	struct ask *a = NULL;
	asks_drop(s, peer); /* what the last one held */
	for (uint32_t i = 0; i < ASKS_MAX && !a; i++)
		a = s->asks[i].state == ASK_FREE ? &s->asks[i] : NULL;
	if (!a) {
		Wire__KvAnswer full = WIRE__KV_ANSWER__INIT;
		full.op = ask->op;
		full.error = ERR_AGAIN;
		operate_send(s, peer, &full);
		return;
	}
	*a = (struct ask){.state = ASK_OPEN, .peer = peer, .op = ask->op, .verb = ask->verb, .pin = (enum ledger_pin)ask->pin,
			  .until_ns = now_ns + ASK_WAIT_NS, .count = (uint32_t)(ask->keys.len / PROTO_KEY_BYTES)};
	for (uint32_t i = 0; i < a->count; i++)
		a->keys[i] = (struct ask_key){.key = codec_key(&ask->keys, i), .e = ERR_AGAIN, .entry = LEDGER_NONE};
	asks_pump(s, now_ns);
}

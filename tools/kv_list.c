/* baton kv ls, get, pin, unpin, evict: blocks by their keys. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "tools/kv_commands.h"

enum { CHAIN_MAX = 1 << 20 }; /* blocks before one */

/* ---- ls */

struct listing {
	const struct kv_client *client;
	const struct kv_settings *settings;
	uint64_t printed;
	bool more;
};

static uint64_t bytes_of(const Wire__KvBlock *block)
{
	return (uint64_t)block->layers * block->layer_bytes;
}

static const char *priority_of(const Wire__KvBlock *block)
{
	return block->priority == WIRE__PRIORITY__PRIORITY_LOW ? "low" : "normal";
}

static json_t *json_block(const char *store, const Wire__KvBlock *b)
{
	char key[33], parent[33] = "", compat[33] = "";
	kv_hex(b->key.data, key);
	if (b->compat.len) /* of what is on disk only nobody knows it yet */
		kv_hex(b->compat.data, compat);
	if (b->parent.len)
		kv_hex(b->parent.data, parent);
	return json_pack("{s:s, s:s, s:s?, s:s, s:I, s:i, s:i, s:s, s:s, s:s, s:i, s:s?}", "key", key, "store", store, "compat", compat[0] ? compat : NULL,
			 "tenant", b->tenant, "bytes", (json_int_t)bytes_of(b), "layers", (int)b->layers, "layer_bytes",
			 (int)b->layer_bytes, "priority", priority_of(b), "pin", kv_pin_text(b->pin), "tier", b->tier, "held",
			 (int)b->holds, "parent", parent[0] ? parent : NULL);
}

static void print_json(json_t *object)
{
	json_dumpf(object, stdout, JSON_COMPACT);
	printf("\n");
	json_decref(object);
}

static void print_line(const char *store, const Wire__KvBlock *b)
{
	char key[33], bytes[16];
	kv_hex(b->key.data, key);
	printf("%s %-16s %-16s %10s %3u %-6s %-4s %-4s %u\n", key, store, b->tenant[0] ? b->tenant : "-", kv_size(bytes_of(b), bytes),
	       b->layers, priority_of(b), kv_pin_text(b->pin), b->tier, b->holds);
}

static enum err list_page(void *context, uint32_t store, const Wire__KvAnswer *answer, bool *ret_enough, struct why *why)
{
	struct listing *l = context;
	const char *name = kv_client_name(l->client, store);
	(void)why;
	for (size_t i = 0; i < answer->n_blocks; i++) {
		if (l->printed == l->settings->limit) {
			l->more = *ret_enough = true;
			return ERR_OK;
		}
		l->printed++;
		if (l->settings->as_json)
			print_json(json_block(name, answer->blocks[i]));
		else
			print_line(name, answer->blocks[i]);
	}
	return ERR_OK;
}

enum err kv_ls(struct kv_client *client, const struct kv_settings *s, bool *ret_bad, struct why *why)
{
	struct listing l = {.client = client, .settings = s};
	struct kv_pages pages = {.page_max = PROTO_PAGE_MAX, .context = &l, .page = list_page};
	(void)ret_bad;
	if (!s->as_json)
		printf("%-32s %-16s %-16s %10s %3s %-6s %-4s %-4s %s\n", "KEY", "STORE", "TENANT", "BYTES", "LAY", "PRIO", "PIN", "TIER", "HELD");
	enum err e = kv_each_page(client, s, &pages, why);
	if (e == ERR_OK && l.more)
		fprintf(stderr, "baton kv ls: these are the first %llu; --limit N for more\n", (unsigned long long)s->limit);
	return e;
}

/* ---- one block at all stores */

/* What to do with one key at each store that is meant: `said` is told of each that has it. */
struct about {
	Wire__KvVerb verb;
	Wire__KvPin pin;
	struct id128 key;
	void *context;
	void (*said)(void *context, const char *store, const Wire__KvBlock *block, enum err e);
};

static enum err each_store(struct kv_client *client, const struct kv_settings *s, struct about *about, uint32_t *ret_count,
			   struct why *why)
{
	*ret_count = 0;
	for (uint32_t i = 0; i < kv_client_stores(client); i++) {
		Wire__KvAsk ask = WIRE__KV_ASK__INIT;
		const Wire__KvAnswer *answer;
		if (!kv_is_meant(client, s, i))
			continue;
		ask.verb = about->verb;
		ask.pin = about->pin;
		ask.keys = (ProtobufCBinaryData){PROTO_KEY_BYTES, about->key.bytes};
		enum err e = kv_client_ask(client, i, &ask, &answer, why);
		if (e != ERR_OK)
			return e;
		bool there = answer->n_blocks > 0 || (answer->n_errors > 0 && answer->errors[0] != ERR_NOT_FOUND);
		if (!there)
			continue;
		++*ret_count;
		about->said(about->context, kv_client_name(client, i), answer->n_blocks ? answer->blocks[0] : NULL,
			    answer->n_errors ? (enum err)answer->errors[0] : ERR_OK);
	}
	return ERR_OK;
}

static enum err nobody_has(const struct id128 *key, struct why *why)
{
	char text[33];
	kv_hex(key->bytes, text);
	return why_set(why, ERR_NOT_FOUND, "no store that was asked has block %s: it was evicted, or never offered", text);
}

/* ---- get */

struct facts {
	bool as_json;
	uint32_t holders;
};

static void print_facts(void *context, const char *store, const Wire__KvBlock *b, enum err e)
{
	struct facts *f = context;
	char text[33], bytes[16];
	(void)e;
	if (f->as_json) {
		print_json(json_block(store, b));
		return;
	}
	if (f->holders++ == 0) {
		kv_hex(b->key.data, text);
		printf("block %s\n", text);
		if (b->parent.len)
			kv_hex(b->parent.data, text);
		if (b->compat.len)
			printf("  after    %s\n", b->parent.len ? text : "nothing: the first of its chain");
		if (b->compat.len)
			kv_hex(b->compat.data, text);
		printf("  compat   %s\n", b->compat.len ? text : "on disk, and there is no room to load it now");
		printf("  tenant   %s\n", b->tenant[0] ? b->tenant : "(none)");
		printf("  bytes    %llu: %s, %u layers of %u\n", (unsigned long long)bytes_of(b), kv_size(bytes_of(b), bytes), b->layers, b->layer_bytes);
	}
	printf("  holder   %s: %s, priority %s, pin %s, held by %u look-ups\n", store, b->tier, priority_of(b), kv_pin_text(b->pin), b->holds);
}

enum err kv_get(struct kv_client *client, const struct kv_settings *s, bool *ret_bad, struct why *why)
{
	(void)ret_bad;
	for (size_t i = 1; i < s->words->count; i++) {
		struct facts facts = {.as_json = s->as_json};
		struct about about = {.verb = WIRE__KV_VERB__KV_GET, .context = &facts, .said = print_facts};
		uint32_t count;
		enum err e = kv_key_parse(s->words->items[i], &about.key, why);
		if (e == ERR_OK)
			e = each_store(client, s, &about, &count, why);
		if (e == ERR_OK && count == 0)
			e = nobody_has(&about.key, why);
		if (e != ERR_OK)
			return e;
	}
	return ERR_OK;
}

/* ---- pin, unpin, evict */

struct doing {
	const char *verb, *done; /* "evict", "evicted" */
	bool bad;
	char key[33];
};

static const char *reason_of(const char *verb, enum err e)
{
	if (e == ERR_BUSY)
		return "it is in use now; try again";
	if (e == ERR_DENIED)
		return "it is pinned hard; unpin it first";
	if (e == ERR_AGAIN && strcmp(verb, "pin") == 0)
		return "the store has pinned all that it may (--pin-percent of baton-kvstore); unpin others first, or pin softly";
	return err_text(e);
}

static void print_done(void *context, const char *store, const Wire__KvBlock *block, enum err e)
{
	struct doing *d = context;
	(void)block;
	d->bad |= e != ERR_OK;
	if (e == ERR_OK)
		printf("%s %s at %s\n", d->done, d->key, store);
	else
		fprintf(stderr, "baton kv %s: %s at %s: %s\n", d->verb, d->key, store, reason_of(d->verb, e));
}

/* What stands before the block, as any store that has it says. */
static void keep_parent(void *context, const char *store, const Wire__KvBlock *block, enum err e)
{
	struct id128 *parent = context;
	(void)store;
	(void)e;
	if (block->parent.len)
		memcpy(parent->bytes, block->parent.data, PROTO_KEY_BYTES);
}

static enum err do_key(struct kv_client *client, const struct kv_settings *s, struct about *about, struct doing *d, struct why *why)
{
	for (uint32_t depth = 0;; depth++) {
		struct id128 parent = {{0}}, none = {{0}};
		struct about look = {.verb = WIRE__KV_VERB__KV_GET, .key = about->key, .context = &parent, .said = keep_parent};
		uint32_t count;
		enum err e = s->chain ? each_store(client, s, &look, &count, why) : ERR_OK;
		kv_hex(about->key.bytes, d->key);
		if (e == ERR_OK)
			e = each_store(client, s, about, &count, why);
		if (e == ERR_OK && count == 0 && depth == 0)
			return nobody_has(&about->key, why);
		if (e == ERR_OK && count == 0)
			fprintf(stderr, "baton kv %s: no store has %s, which stands before: the chain is not whole\n", d->verb, d->key);
		if (e != ERR_OK || count == 0 || id128_equal(&parent, &none) || depth == CHAIN_MAX)
			return e;
		about->key = parent;
	}
}

static enum err do_keys(struct kv_client *client, const struct kv_settings *s, struct about *about, const char *verb,
			const char *done, bool *ret_bad, struct why *why)
{
	struct doing d = {.verb = verb, .done = done};
	about->context = &d;
	about->said = print_done;
	for (size_t i = 1; i < s->words->count; i++) {
		enum err e = kv_key_parse(s->words->items[i], &about->key, why);
		if (e == ERR_OK)
			e = do_key(client, s, about, &d, why);
		if (e != ERR_OK)
			return e;
	}
	*ret_bad |= d.bad;
	return ERR_OK;
}

enum err kv_pin(struct kv_client *client, const struct kv_settings *s, bool *ret_bad, struct why *why)
{
	struct about about = {.verb = WIRE__KV_VERB__KV_PIN,
			      .pin = s->hard ? WIRE__KV_PIN__KV_PINNED_HARD : WIRE__KV_PIN__KV_PINNED_SOFT};
	return do_keys(client, s, &about, "pin", "pinned", ret_bad, why);
}

enum err kv_unpin(struct kv_client *client, const struct kv_settings *s, bool *ret_bad, struct why *why)
{
	struct about about = {.verb = WIRE__KV_VERB__KV_PIN, .pin = WIRE__KV_PIN__KV_UNPINNED};
	return do_keys(client, s, &about, "unpin", "unpinned", ret_bad, why);
}

struct sweep {
	struct kv_client *client;
	uint64_t evicted, busy, pinned, gone;
};

static enum err evict_page(void *context, uint32_t store, const Wire__KvAnswer *answer, bool *ret_enough, struct why *why)
{
	struct sweep *sweep = context;
	uint8_t keys[PROTO_ASK_KEYS_MAX * PROTO_KEY_BYTES];
	size_t count = answer->n_blocks;
	(void)ret_enough;
	if (count == 0)
		return ERR_OK;
	for (size_t i = 0; i < count; i++)
		memcpy(keys + i * PROTO_KEY_BYTES, answer->blocks[i]->key.data, PROTO_KEY_BYTES);
	Wire__KvAsk ask = WIRE__KV_ASK__INIT;
	ask.verb = WIRE__KV_VERB__KV_EVICT;
	ask.keys = (ProtobufCBinaryData){count * PROTO_KEY_BYTES, keys};
	enum err e = kv_client_ask(sweep->client, store, &ask, &answer, why);
	for (size_t i = 0; e == ERR_OK && i < answer->n_errors; i++) {
		sweep->evicted += answer->errors[i] == ERR_OK;
		sweep->busy += answer->errors[i] == ERR_BUSY;
		sweep->pinned += answer->errors[i] == ERR_DENIED;
		sweep->gone += answer->errors[i] == ERR_NOT_FOUND;
	}
	return e;
}

enum err kv_evict(struct kv_client *client, const struct kv_settings *s, bool *ret_bad, struct why *why)
{
	bool many = s->words->count == 1;
	if (many == (!s->all && s->tenants.count == 0))
		return why_set(why, ERR_INVALID, "kv evict wants either KEY…, or --tenant NAME, or --all");
	struct about about = {.verb = WIRE__KV_VERB__KV_EVICT};
	if (!many)
		return do_keys(client, s, &about, "evict", "evicted", ret_bad, why);
	struct sweep sweep = {.client = client};
	struct kv_pages pages = {.page_max = PROTO_ASK_KEYS_MAX, .context = &sweep, .page = evict_page};
	enum err e = kv_each_page(client, s, &pages, why);
	if (e == ERR_OK)
		printf("evicted %llu; left %llu that are being read, %llu pinned hard\n", (unsigned long long)sweep.evicted,
		       (unsigned long long)sweep.busy, (unsigned long long)sweep.pinned);
	*ret_bad |= sweep.busy + sweep.pinned > 0;
	return e;
}

/* baton kv verify, export, import: the bytes of blocks.
 *
 * Blocks are read as an engine reads them, by place, generation and digest, but are not held: the order of eviction stays as
 * it is, and a block that goes meanwhile has simply gone. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "tools/kv_commands.h"

enum { LAYERS_AT_ONCE = 32768, LANDING_PAGE = 4096, EXPORT_TURNS = 16 };

/* ---- every block of the stores that are meant, with its bytes */

struct walk {
	struct kv_client *client;
	void *context;
	/* Is this one to be read?  NULL: each. */
	bool (*wanted)(void *context, const Wire__KvBlock *block);
	enum err (*got)(void *context, uint32_t store, const struct kv_client_block *block, struct why *why);
	enum err (*page_over)(void *context, uint32_t store, struct why *why); /* NULL: nothing is to be done */
	uint64_t blocks, bytes, gone, bad, unread;
};

/* Keys of a page whose blocks fit where they land. */
struct portion {
	uint8_t keys[PROTO_ASK_KEYS_MAX * PROTO_KEY_BYTES];
	uint32_t count, layers;
	uint64_t bytes;
};

static uint64_t landing_of(const Wire__KvBlock *block)
{
	uint64_t bytes = (uint64_t)block->layers * block->layer_bytes;
	return (bytes + LANDING_PAGE - 1) / LANDING_PAGE * LANDING_PAGE;
}

static bool fits(const struct portion *p, const Wire__KvBlock *block)
{
	return p->count < PROTO_ASK_KEYS_MAX && p->layers + block->layers <= LAYERS_AT_ONCE && p->bytes + landing_of(block) <= KV_LANDING_BYTES;
}

static void add(struct portion *p, const Wire__KvBlock *block)
{
	memcpy(p->keys + (size_t)p->count++ * PROTO_KEY_BYTES, block->key.data, PROTO_KEY_BYTES);
	p->layers += block->layers;
	p->bytes += landing_of(block);
}

static enum err tell(struct walk *w, uint32_t store, const struct kv_client_block *blocks, uint32_t count, struct why *why)
{
	enum err e = ERR_OK;
	for (uint32_t i = 0; e == ERR_OK && i < count; i++) {
		w->gone += blocks[i].e == ERR_STALE || blocks[i].e == ERR_DENIED; /* its slot or its slab has changed */
		w->bad += blocks[i].e == ERR_CORRUPT;
		w->unread += blocks[i].e == ERR_DEADLINE || blocks[i].e == ERR_PEER_GONE;
		w->blocks += blocks[i].e == ERR_OK;
		w->bytes += blocks[i].e == ERR_OK ? (uint64_t)blocks[i].block->layers * blocks[i].block->layer_bytes : 0;
		e = w->got(w->context, store, &blocks[i], why);
	}
	return e;
}

/* Reads what of the portion is in memory, or has room there; what is on disk and has not comes into ret_rest. */
static enum err read_some(struct walk *w, uint32_t store, const struct portion *p, struct portion *ret_rest, struct why *why)
{
	static struct kv_client_block blocks[PROTO_ASK_KEYS_MAX];
	struct portion now = {.count = 0};
	const Wire__KvAnswer *answer;
	*ret_rest = now;
	Wire__KvAsk ask = WIRE__KV_ASK__INIT;
	ask.verb = WIRE__KV_VERB__KV_GET;
	ask.keys = (ProtobufCBinaryData){(size_t)p->count * PROTO_KEY_BYTES, (uint8_t *)(uintptr_t)p->keys};
	enum err e = p->count ? kv_client_ask(w->client, store, &ask, &answer, why) : ERR_OK;
	if (e != ERR_OK || p->count == 0)
		return e;
	w->gone += p->count - answer->n_blocks;
	for (size_t i = 0; i < answer->n_blocks; i++) {
		if (!fits(&now, answer->blocks[i])) {
			w->unread++; /* it has grown */
			continue;
		}
		if (!answer->blocks[i]->place) {
			add(ret_rest, answer->blocks[i]);
			continue;
		}
		blocks[now.count] = (struct kv_client_block){.block = answer->blocks[i]};
		add(&now, answer->blocks[i]);
	}
	e = kv_client_read(w->client, store, blocks, now.count, why);
	return e == ERR_OK ? tell(w, store, blocks, now.count, why) : e;
}

/* In several goes, as long as each brings something. */
static enum err read_portion(struct walk *w, uint32_t store, const struct portion *p, struct why *why)
{
	struct portion left = *p, rest;
	enum err e = ERR_OK;
	while (e == ERR_OK && left.count > 0) {
		e = read_some(w, store, &left, &rest, why);
		if (e == ERR_OK && rest.count == left.count) {
			w->unread += rest.count; /* on disk, and its store's memory is full of what is in use */
			break;
		}
		left = rest;
	}
	return e;
}

static enum err walk_page(void *context, uint32_t store, const Wire__KvAnswer *answer, bool *ret_enough, struct why *why)
{
	struct walk *w = context;
	struct portion portions[PROTO_ASK_KEYS_MAX / 8] = {0};
	uint32_t last = 0;
	(void)ret_enough;
	/* All keys first: the answer is gone with the next question. */
	for (size_t i = 0; i < answer->n_blocks; i++) {
		const Wire__KvBlock *block = answer->blocks[i];
		if (w->wanted && !w->wanted(w->context, block))
			continue;
		if (landing_of(block) > KV_LANDING_BYTES) {
			w->unread++;
			continue;
		}
		last += !fits(&portions[last], block);
		add(&portions[last], block);
	}
	enum err e = ERR_OK;
	for (uint32_t i = 0; e == ERR_OK && i <= last; i++)
		e = read_portion(w, store, &portions[i], why);
	return e == ERR_OK && w->page_over ? w->page_over(w->context, store, why) : e;
}

/* A page has so few blocks that there are portions enough even when each block fills one. */
static enum err walk_all(struct walk *w, const struct kv_settings *s, struct why *why)
{
	struct kv_pages pages = {.page_max = PROTO_ASK_KEYS_MAX / 8, .context = w, .page = walk_page};
	return kv_each_page(w->client, s, &pages, why);
}

/* ---- verify */

/* Bad ones go at the end: a question in between would end the answer that names them. */
struct verifying {
	struct kv_client *client;
	struct portion both; /* of the store and page that is being read: in memory and on disk */
	uint32_t store;
	uint64_t records, records_bad, records_unread;
	struct id128 keys[PROTO_ASK_KEYS_MAX];
	uint32_t stores[PROTO_ASK_KEYS_MAX];
	uint32_t count; /* of these; more than fit are for the next time */
	uint64_t evicted;
};

/* The records of what is in memory too; the others have just been read. */
static enum err check_records(struct verifying *v, struct why *why)
{
	struct portion left = v->both;
	enum err e = ERR_OK;
	v->both.count = 0;
	while (e == ERR_OK && left.count > 0) {
		struct portion rest = {.count = 0};
		const Wire__KvAnswer *answer;
		Wire__KvAsk ask = WIRE__KV_ASK__INIT;
		ask.verb = WIRE__KV_VERB__KV_VERIFY;
		ask.keys = (ProtobufCBinaryData){(size_t)left.count * PROTO_KEY_BYTES, left.keys};
		e = kv_client_ask(v->client, v->store, &ask, &answer, why);
		for (size_t i = 0; e == ERR_OK && i < answer->n_errors && i < left.count; i++) {
			v->records += answer->errors[i] == ERR_OK;
			v->records_bad += answer->errors[i] == ERR_CORRUPT || answer->errors[i] == ERR_UNSUPPORTED;
			v->records_unread += answer->errors[i] == ERR_IO || answer->errors[i] == ERR_TOO_LARGE;
			if (answer->errors[i] == ERR_AGAIN)
				memcpy(rest.keys + (size_t)rest.count++ * PROTO_KEY_BYTES, left.keys + i * PROTO_KEY_BYTES, PROTO_KEY_BYTES);
		}
		if (e == ERR_OK && rest.count == left.count) {
			v->records_unread += rest.count;
			break;
		}
		left = rest;
	}
	return e;
}

static bool note_record(void *context, const Wire__KvBlock *block)
{
	struct verifying *v = context;
	if (strcmp(block->tier, "dram+disk") == 0 && v->both.count < PROTO_ASK_KEYS_MAX)
		memcpy(v->both.keys + (size_t)v->both.count++ * PROTO_KEY_BYTES, block->key.data, PROTO_KEY_BYTES);
	return true;
}

static enum err end_page(void *context, uint32_t store, struct why *why)
{
	struct verifying *v = context;
	v->store = store;
	return check_records(v, why);
}

static enum err judge(void *context, uint32_t store, const struct kv_client_block *b, struct why *why)
{
	struct verifying *v = context;
	char key[33];
	(void)why;
	if (b->e != ERR_CORRUPT)
		return ERR_OK;
	kv_hex(b->block->key.data, key);
	printf("bad: %s at %s: layer %u has digest %016llx, expected %016llx\n", key, kv_client_name(v->client, store), b->bad_layer,
	       (unsigned long long)b->bad_digest, (unsigned long long)b->block->digests[b->bad_layer]);
	if (v->count < PROTO_ASK_KEYS_MAX) {
		v->keys[v->count] = codec_key(&b->block->key, 0);
		v->stores[v->count++] = store;
	}
	return ERR_OK;
}

static enum err evict_bad(struct verifying *v, struct why *why)
{
	for (uint32_t i = 0; i < v->count; i++) {
		const Wire__KvAnswer *answer;
		Wire__KvAsk ask = WIRE__KV_ASK__INIT;
		ask.verb = WIRE__KV_VERB__KV_EVICT;
		ask.keys = (ProtobufCBinaryData){PROTO_KEY_BYTES, v->keys[i].bytes};
		enum err e = kv_client_ask(v->client, v->stores[i], &ask, &answer, why);
		if (e != ERR_OK)
			return e;
		v->evicted += answer->n_errors == 1 && answer->errors[0] == ERR_OK;
	}
	return ERR_OK;
}

enum err kv_verify(struct kv_client *client, const struct kv_settings *s, bool *ret_bad, struct why *why)
{
	struct verifying v = {.client = client};
	struct walk w = {.client = client, .context = &v, .wanted = note_record, .got = judge, .page_over = end_page};
	char bytes[16];
	enum err e = walk_all(&w, s, why);
	if (e == ERR_OK && s->evict)
		e = evict_bad(&v, why);
	printf("%llu blocks verified, %s; %llu bad, %llu went meanwhile, %llu could not be read\n", (unsigned long long)w.blocks,
	       kv_size(w.bytes, bytes), (unsigned long long)w.bad, (unsigned long long)w.gone, (unsigned long long)w.unread);
	if (v.records + v.records_bad + v.records_unread > 0)
		printf("%llu records of these on disk verified; %llu bad, which are gone from there, %llu could not be read\n",
		       (unsigned long long)v.records, (unsigned long long)v.records_bad, (unsigned long long)v.records_unread);
	if (s->evict && w.bad)
		printf("%llu bad blocks evicted; engines compute and offer them again\n", (unsigned long long)v.evicted);
	*ret_bad |= w.bad + w.unread + v.records_bad + v.records_unread > 0;
	return e;
}

/* ---- export */

struct exporting {
	struct kv_client *client;
	struct kv_writer *writer;
	struct map written; /* keys; a replica is not written twice */
	void *memory;
	uint64_t blocks, bytes;
};

static bool is_new(void *context, const Wire__KvBlock *block)
{
	const struct exporting *x = context;
	struct id128 key = codec_key(&block->key, 0);
	return map_get(&x->written, &key) == MAP_NONE;
}

static enum err write_block(void *context, uint32_t store, const struct kv_client_block *b, struct why *why)
{
	struct exporting *x = context;
	const Wire__KvBlock *from = b->block;
	struct kv_file_block block = {.has_parent = from->parent.len > 0, .low = from->priority == WIRE__PRIORITY__PRIORITY_LOW,
				      .layer_count = from->layers, .layer_bytes = from->layer_bytes, .digests = from->digests,
				      .bytes = b->bytes};
	(void)store;
	if (b->e != ERR_OK)
		return ERR_OK; /* another store may have it */
	block.key = codec_key(&from->key, 0);
	block.compat = codec_key(&from->compat, 0);
	if (block.has_parent)
		block.parent = codec_key(&from->parent, 0);
	memcpy(block.tenant, from->tenant, strlen(from->tenant));
	if (map_put(&x->written, &block.key, 0) != ERR_OK)
		return ERR_OK; /* more came than there were: they were offered after the export began */
	x->blocks++;
	x->bytes += (uint64_t)from->layers * from->layer_bytes;
	return kv_writer_add(x->writer, &block, why);
}

/* Blocks there are at the stores that are meant. */
static enum err count_blocks(struct kv_client *client, const struct kv_settings *s, uint64_t *ret_count, struct why *why)
{
	*ret_count = 0;
	for (uint32_t i = 0; i < kv_client_stores(client); i++) {
		Wire__KvAsk ask = WIRE__KV_ASK__INIT;
		const Wire__KvAnswer *answer;
		if (!kv_is_meant(client, s, i))
			continue;
		enum err e = kv_client_ask(client, i, &ask, &answer, why);
		if (e != ERR_OK)
			return e;
		*ret_count += answer->load && answer->load->disk ? answer->load->disk->blocks : 0;
		for (size_t t = 0; answer->load && answer->load->store && t < answer->load->store->n_tenants; t++)
			*ret_count += answer->load->store->tenants[t]->blocks;
	}
	return ERR_OK;
}

static enum err begin_export(struct exporting *x, const struct kv_settings *s, const char *path, struct why *why)
{
	uint64_t count;
	enum err e = count_blocks(x->client, s, &count, why);
	if (e != ERR_OK)
		return e;
	uint32_t count_max = count + 1024 < 1 << 29 ? (uint32_t)count + 1024 : 1 << 29;
	x->memory = malloc(map_bytes(count_max));
	if (!x->memory)
		return why_set(why, ERR_NOMEM, "no memory for the keys of %u blocks", count_max);
	map_init(&x->written, x->memory, count_max);
	return kv_writer_open(path, &x->writer, why);
}

/* What is read from disk displaces other blocks, which change their place in the lists meanwhile, and may be missed: so the lists
 * are read again until there is nothing new in them. */
static enum err walk_to_the_end(struct exporting *x, struct walk *w, const struct kv_settings *s, struct why *why)
{
	enum err e = ERR_OK;
	uint64_t before = UINT64_MAX;
	for (int turn = 0; e == ERR_OK && x->blocks != before && turn < EXPORT_TURNS; turn++) {
		before = x->blocks;
		w->gone = w->bad = w->unread = 0; /* those are asked for again */
		e = walk_all(w, s, why);
	}
	return e;
}

enum err kv_export(struct kv_client *client, const struct kv_settings *s, bool *ret_bad, struct why *why)
{
	const char *path = s->words->items[1];
	struct exporting x = {.client = client};
	struct walk w = {.client = client, .context = &x, .wanted = is_new, .got = write_block};
	char bytes[16];
	enum err e = begin_export(&x, s, path, why);
	if (e == ERR_OK)
		e = walk_to_the_end(&x, &w, s, why);
	if (e == ERR_OK)
		e = kv_writer_close(x.writer, why);
	else
		kv_writer_abandon(x.writer);
	free(x.memory);
	if (e != ERR_OK)
		return e;
	printf("exported %llu blocks, %s, to %s; %llu went meanwhile, %llu bad, %llu could not be read\n", (unsigned long long)x.blocks,
	       kv_size(x.bytes, bytes), path, (unsigned long long)w.gone, (unsigned long long)w.bad, (unsigned long long)w.unread);
	*ret_bad |= w.bad + w.unread > 0;
	return ERR_OK;
}

/* ---- import */

struct importing {
	struct kv_client *client;
	const struct kv_settings *settings;
	struct kv_client_offer *batch; /* [KV_OFFERS_MAX]; digests and bytes are the batch's */
	uint32_t count;
	uint64_t largest;
	uint64_t read, stored, bytes, existing, refused, failed;
	enum err failure; /* the first, and at which store */
	uint32_t failed_at;
	struct id128 compat; /* that was last found to be of use */
	bool compat_known;
};

static void empty_batch(struct importing *m)
{
	for (uint32_t i = 0; i < m->count; i++) {
		free((void *)(uintptr_t)m->batch[i].block.digests);
		free((void *)(uintptr_t)m->batch[i].block.bytes);
	}
	m->count = 0;
	m->largest = 0;
}

static void count_offer(struct importing *m, const struct kv_client_offer *offer)
{
	enum err e = offer->answer;
	bool refused = e == ERR_AGAIN || e == ERR_DRAINING || e == ERR_TOO_LARGE, failed = e != ERR_OK && e != ERR_EXISTS && !refused;
	m->stored += e == ERR_OK;
	m->bytes += e == ERR_OK ? (uint64_t)offer->block.layer_count * offer->block.layer_bytes : 0;
	m->existing += e == ERR_EXISTS;
	m->refused += refused;
	if (failed && m->failed == 0) {
		m->failure = e;
		m->failed_at = offer->store;
	}
	m->failed += failed;
}

static enum err flush(struct importing *m, struct why *why)
{
	if (m->count == 0)
		return ERR_OK;
	enum err e = kv_client_offer(m->client, m->batch, m->count, why);
	for (uint32_t i = 0; e == ERR_OK && i < m->count; i++)
		count_offer(m, &m->batch[i]);
	empty_batch(m);
	return e;
}

static enum err check_compat(struct importing *m, const struct kv_file_block *block, const char *path, struct why *why)
{
	char text[33];
	if (m->settings->force || (m->compat_known && id128_equal(&m->compat, &block->compat)))
		return ERR_OK;
	if (kv_client_user(m->client, &block->compat)) {
		m->compat = block->compat;
		m->compat_known = true;
		return ERR_OK;
	}
	kv_hex(block->compat.bytes, text);
	return why_set(why, ERR_MISMATCH, "%s: block %llu is of compat %s, %s: expected the same model, weights, numerics class, KV "
		       "format and tenant secret as where it was exported (--force: all the same)", path, (unsigned long long)m->read, text,
		       kv_client_has_engines(m->client) ? "and no engine of this cluster is" : "and this cluster has no engine that could use it");
}

static enum err add_to_batch(struct importing *m, const struct kv_file_block *block, struct why *why)
{
	uint64_t bytes = (uint64_t)block->layer_count * block->layer_bytes;
	uint64_t landing = (bytes + LANDING_PAGE - 1) / LANDING_PAGE * LANDING_PAGE;
	uint64_t largest = landing > m->largest ? landing : m->largest;
	if (m->count == KV_OFFERS_MAX || (m->count + 1) * largest > KV_LANDING_BYTES) {
		enum err e = flush(m, why);
		if (e != ERR_OK)
			return e;
		largest = landing;
	}
	struct kv_client_offer *offer = &m->batch[m->count];
	uint64_t *digests = malloc(block->layer_count * sizeof(uint64_t));
	uint8_t *copy = malloc(bytes);
	*offer = (struct kv_client_offer){.block = *block};
	offer->block.digests = digests;
	offer->block.bytes = copy;
	m->count++;
	m->largest = largest;
	if (!digests || !copy)
		return why_set(why, ERR_NOMEM, "no memory for %u blocks", m->count);
	memcpy(digests, block->digests, block->layer_count * sizeof(uint64_t));
	memcpy(copy, block->bytes, bytes);
	return ERR_OK;
}

static enum err import_all(struct importing *m, FILE *stream, const char *path, struct why *why)
{
	struct kv_reader *reader;
	struct kv_file_block block;
	enum err e = kv_reader_open(stream, path, &reader, why);
	if (e != ERR_OK)
		return e;
	while ((e = kv_reader_next(reader, &block, why)) == ERR_OK) {
		m->read++;
		e = check_compat(m, &block, path, why);
		if (e == ERR_OK)
			e = add_to_batch(m, &block, why);
		if (e != ERR_OK)
			break;
	}
	kv_reader_close(reader);
	if (e == ERR_NOT_FOUND)
		return flush(m, why);
	struct why ignored = {0};
	if (e == ERR_CORRUPT && flush(m, &ignored) != ERR_OK) /* what stood before is whole */
		return e;
	return e;
}

enum err kv_import(struct kv_client *client, const struct kv_settings *s, bool *ret_bad, struct why *why)
{
	const char *path = s->words->items[1];
	struct importing m = {.client = client, .settings = s};
	char bytes[16];
	FILE *stream = fopen(path, "rbe");
	if (!stream)
		return why_set(why, ERR_IO, "%s: %m", path);
	m.batch = calloc(KV_OFFERS_MAX, sizeof(*m.batch));
	enum err e = m.batch ? import_all(&m, stream, path, why) : why_set(why, ERR_NOMEM, "no memory for blocks");
	empty_batch(&m);
	free(m.batch);
	fclose(stream);
	printf("imported %llu of %llu blocks, %s; %llu were there already, %llu refused (a store is full, or a tenant over its quota), "
	       "%llu failed\n", (unsigned long long)m.stored, (unsigned long long)m.read, kv_size(m.bytes, bytes),
	       (unsigned long long)m.existing, (unsigned long long)m.refused, (unsigned long long)m.failed);
	if (m.failed > 0 && m.failure == ERR_UNAVAILABLE)
		printf("the first that failed had no store to go to: there is a session with none\n");
	else if (m.failed > 0)
		printf("the first that failed was offered to %s: %s\n", kv_client_name(client, m.failed_at), err_text(m.failure));
	*ret_bad |= m.refused + m.failed > 0;
	return e;
}

#include "store_world.h"

#include "base/digest.h"
#include "base/rng.h"

uint8_t compat[16] = {9};
const char *tenant = "";
Wire__Priority priority = WIRE__PRIORITY__PRIORITY_NORMAL;
Wire__KvPin offer_pin = WIRE__KV_PIN__KV_UNPINNED;

static void keep_answer(struct world *w, const Wire__Envelope *envelope)
{
	uint8_t *frame = malloc(codec_packed_size(envelope));
	size_t length = codec_pack(envelope, frame);
	Wire__Envelope *got;
	struct why why = {0};
	assert_int_equal(codec_unpack(&w->arena, frame, length, &why, &got), ERR_OK);
	w->answer = got->kv_answer;
	free(frame);
}

static void on_send(void *context, uint32_t conn, const Wire__Envelope *envelope)
{
	struct world *w = context;
	if (envelope->body_case == WIRE__ENVELOPE__BODY_BEAT && conn < CONNS)
		w->beats[conn] = envelope->beat->number;
	if (envelope->body_case == WIRE__ENVELOPE__BODY_BEAT || envelope->body_case == WIRE__ENVELOPE__BODY_HELLO)
		return;
	if (envelope->body_case == WIRE__ENVELOPE__BODY_KV_ANSWER) {
		keep_answer(w, envelope);
		return;
	}
	assert_true(w->sent_count < SENT_MAX);
	struct sent *s = &w->sent[w->sent_count++];
	*s = (struct sent){.conn = conn, .body = envelope->body_case};
	if (s->body == WIRE__ENVELOPE__BODY_OFFER_DONE) {
		s->op = envelope->offer_done->op;
		s->error = (enum err)envelope->offer_done->error;
	} else if (s->body == WIRE__ENVELOPE__BODY_FOUND) {
		s->op = envelope->found->op;
		s->more = envelope->found->more;
		s->blocks = (uint32_t)envelope->found->n_blocks;
		assert_true(s->blocks <= FOUND_MAX);
		for (uint32_t i = 0; i < s->blocks; i++) {
			const Wire__FoundBlock *b = envelope->found->blocks[i];
			s->index[i] = b->index;
			s->place[i] = (struct slot_place){b->place->region, b->place->offset, b->place->generation};
			assert_int_equal(b->n_digests, LAYERS);
			memcpy(s->digests[i], b->digests, sizeof(s->digests[i]));
		}
	} else if (s->body == WIRE__ENVELOPE__BODY_OFFER) {
		s->op = envelope->offer->op;
		s->keys[0] = envelope->offer->key.data[0];
		s->blocks = envelope->offer->pin;
	} else if (s->body == WIRE__ENVELOPE__BODY_KV_ASK) {
		s->op = envelope->kv_ask->op;
		s->blocks = (uint32_t)(envelope->kv_ask->keys.len / 16);
		for (uint32_t i = 0; i < s->blocks; i++)
			s->keys[i] = envelope->kv_ask->keys.data[i * 16];
	} else if (s->body == WIRE__ENVELOPE__BODY_LOAD) {
		s->load = *envelope->load;
		if (envelope->load->disk)
			s->disk = *envelope->load->disk;
	} else if (s->body == WIRE__ENVELOPE__BODY_DIRECTIVE_DONE) {
		s->op = envelope->directive_done->epoch;
		s->error = (enum err)envelope->directive_done->error;
	}
	if (w->heard)
		w->heard(w, s);
}

static void on_close(void *context, uint32_t conn)
{
	(void)conn;
	((struct world *)context)->closes++;
}

static void on_dial(void *context, uint64_t node)
{
	(void)context;
	(void)node;
	fail(); /* nobody told this store of another one */
}

static void on_link_open(void *context, uint64_t node, uint64_t incarnation, const uint8_t *address, size_t length)
{
	(void)context, (void)node, (void)incarnation, (void)address, (void)length;
}

static void on_link_close(void *context, uint64_t node)
{
	(void)context, (void)node;
}

static void on_read(void *context, const struct env_read *read)
{
	struct world *w = context;
	assert_true(w->read_count < READS_MAX);
	w->reads[w->read_count++] = *read;
}

static void on_cancel(void *context, uint64_t op)
{
	(void)op;
	((struct world *)context)->cancels++;
}

static enum err open_slab(void *context, uint32_t slab, uint32_t slot_bytes, uint32_t slot_count,
			  struct slab_region *ret_region)
{
	struct world *w = context;
	(void)slot_bytes, (void)slot_count;
	w->regions[slab] = w->region_next++;
	*ret_region = (struct slab_region){.region = w->regions[slab], .generations = w->generations[slab]};
	return ERR_OK;
}

static void close_slab(void *context, uint32_t slab)
{
	((struct world *)context)->regions[slab] = UINT32_MAX;
}

void world_init(struct world *w)
{
	static const struct tenant_quota quotas[] = {{"small", 3 * BLOCK_BYTES}};
	w->arena = (struct codec_arena){.memory = malloc(ARENA), .capacity = ARENA};
	w->env = (struct env){.context = w, .send = on_send, .close = on_close, .dial = on_dial,
			      .link_open = on_link_open, .link_close = on_link_close, .read = on_read,
			      .read_cancel = on_cancel};
	w->options = (struct store_options){
		.node = 100, .incarnation = 0, .name = "kvstore 1", .peer_max = 4,
		.ledger = {.slabs = {.slab_count = SLABS, .slab_bytes = SLAB_BYTES, .slot_bytes_min = 64,
				     .context = w, .open = open_slab, .close = close_slab},
			   .entry_max = 64, .layers_max = LAYERS, .policy = &evict_lru, .quotas = quotas,
			   .quota_count = 1, .pin_bytes_max = 4 * BLOCK_BYTES},
		.offer_max = 8, .reading_max = 2, .lookup_max = 4, .hold_max = 16, .found_max = SLOTS, .env = &w->env,
	};
	w->now = 1000 * MS;
}

void world_start(struct world *w)
{
	free(w->memory);
	w->options.incarnation++;
	w->memory = calloc(1, store_bytes(&w->options));
	w->store = store_init(w->memory, &w->options);
	w->read_count = w->read_next = 0;
}

void world_fini(struct world *w)
{
	store_check(w->store);
	free(w->memory);
	free(w->arena.memory);
}

int world_setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	world_init(w);
	world_start(w);
	*state = w;
	return 0;
}

int world_teardown(void **state)
{
	world_fini(*state);
	free(*state);
	return 0;
}

void world_fill(uint8_t data[LAYER_BYTES], uint8_t key, uint32_t layer)
{
	for (uint32_t i = 0; i < LAYER_BYTES; i++)
		data[i] = (uint8_t)rng_at(5, key, layer * LAYER_BYTES + i);
}

uint64_t world_digest(uint8_t key, uint32_t layer)
{
	uint8_t data[LAYER_BYTES];
	world_fill(data, key, layer);
	return digest_of(data, LAYER_BYTES);
}

void deliver(struct world *w, uint32_t conn, Wire__Envelope *envelope)
{
	envelope->version = PROTO_VERSION;
	store_message(w->store, conn, envelope, w->now);
	store_check(w->store);
}

void join(struct world *w, uint32_t conn, uint64_t node, Wire__Role role)
{
	Wire__Hello hello = WIRE__HELLO__INIT;
	hello.node = node;
	hello.incarnation = 1;
	hello.role = role;
	hello.name = (char *)"peer";
	hello.weight = role == WIRE__ROLE__ROLE_KVSTORE;
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_HELLO;
	envelope.hello = &hello;
	store_opened(w->store, conn, 0, w->now);
	deliver(w, conn, &envelope);
}


void offer_of(struct world *w, uint32_t conn, uint64_t op, uint8_t key, uint32_t layers, uint32_t layer_bytes)
{
	uint8_t bytes[16] = {key, 77};
	uint64_t digests[LAYERS + 1] = {world_digest(key, 0), world_digest(key, 1)};
	Wire__Place place = WIRE__PLACE__INIT;
	place.region = 3;
	place.offset = key * 1000u;
	place.generation = key + 5u;
	Wire__Offer m = WIRE__OFFER__INIT;
	m.op = op;
	m.key = (ProtobufCBinaryData){16, bytes};
	m.place = &place;
	m.n_digests = layers;
	m.digests = digests;
	m.layer_bytes = layer_bytes;
	m.tenant = (char *)tenant;
	m.priority = priority;
	m.pin = offer_pin;
	m.compat = (ProtobufCBinaryData){16, compat};
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_OFFER;
	envelope.offer = &m;
	deliver(w, conn, &envelope);
}

void offer(struct world *w, uint32_t conn, uint64_t op, uint8_t key)
{
	offer_of(w, conn, op, key, LAYERS, LAYER_BYTES);
}

void lookup_as(struct world *w, uint32_t conn, uint64_t op, const uint8_t *keys, uint32_t count, uint8_t *of)
{
	uint8_t bytes[256 * 16] = {0};
	for (uint32_t i = 0; i < count; i++) {
		bytes[i * 16] = keys[i];
		bytes[i * 16 + 1] = 77;
	}
	Wire__Lookup m = WIRE__LOOKUP__INIT;
	m.op = op;
	m.keys = (ProtobufCBinaryData){count * 16, bytes};
	m.tenant = (char *)tenant;
	m.compat = (ProtobufCBinaryData){16, of};
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_LOOKUP;
	envelope.lookup = &m;
	deliver(w, conn, &envelope);
}

void lookup(struct world *w, uint32_t conn, uint64_t op, const uint8_t *keys, uint32_t count)
{
	lookup_as(w, conn, op, keys, count, compat);
}

void beat(struct world *w, uint32_t conn)
{
	Wire__Beat m = WIRE__BEAT__INIT;
	m.acknowledged = w->beats[conn];
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_BEAT;
	envelope.beat = &m;
	deliver(w, conn, &envelope);
}

void ask(struct world *w, uint32_t conn, Wire__KvAsk *question)
{
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_KV_ASK;
	envelope.kv_ask = question;
	question->op = 77;
	w->answer = NULL;
	deliver(w, conn, &envelope);
}

void ask_key(struct world *w, Wire__KvVerb verb, uint8_t key, Wire__KvPin pin)
{
	uint8_t bytes[16] = {key, 77};
	Wire__KvAsk question = WIRE__KV_ASK__INIT;
	question.verb = verb;
	question.pin = pin;
	question.keys = (ProtobufCBinaryData){16, bytes};
	ask(w, 9, &question);
}

void release(struct world *w, uint32_t conn, uint64_t op)
{
	Wire__Release m = WIRE__RELEASE__INIT;
	m.op = op;
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_RELEASE;
	envelope.release = &m;
	deliver(w, conn, &envelope);
}

/* Every open read lands as it was offered: the digest follows from the place. */
void answer_reads(struct world *w, enum err e)
{
	while (w->read_next < w->read_count) {
		const struct env_read r = w->reads[w->read_next++];
		uint64_t digest = world_digest((uint8_t)(r.offset / 1000), (uint32_t)(r.offset % 1000 / LAYER_BYTES));
		store_read_done(w->store, r.op, e, digest, w->now);
		store_check(w->store);
		store_landing_free(w->store, r.op, w->now);
		store_check(w->store);
	}
}

const struct sent *last(const struct world *w, Wire__Envelope__BodyCase body)
{
	for (uint32_t i = w->sent_count; i-- > 0;)
		if (w->sent[i].body == body)
			return &w->sent[i];
	return NULL;
}

uint32_t answers(const struct world *w, uint64_t op, enum err e)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < w->sent_count; i++)
		count += w->sent[i].body == WIRE__ENVELOPE__BODY_OFFER_DONE && w->sent[i].op == op &&
			 w->sent[i].error == e;
	return count;
}

struct store_status status_of(const struct world *w)
{
	struct store_status status;
	store_status(w->store, &status);
	return status;
}

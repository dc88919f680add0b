/* Any bytes as what happens to an engine node: members, connections, messages, answers to its reads, layers and steps of
 * its engine, time.  After each event its invariants hold; when all peers are gone nothing is held for anybody. */
#include <assert.h>
#include <stdlib.h>

#include "node/core.h"
#include "said.h"

enum { BLOCKS = 24, LAYERS = 3, LAYER_BYTES = 64, CONNS = 6, READS = 128 };

#define MS 1000000ull

struct pending {
	uint64_t op, offset;
	int state; /* 0: free, 1: asked, 2: its landing is not free yet */
};

struct world {
	struct said said;
	struct env env;
	struct node *node;
	void *memory;
	uint64_t now_ns;
	uint64_t generations[BLOCKS];
	bool open[CONNS];
	uint64_t dials[16];
	uint32_t dial_count;
	struct pending reads[READS];
	const struct plan *plan;
	uint32_t layer;
};

static void on_send(void *context, uint32_t conn, const Wire__Envelope *envelope)
{
	struct world *w = context;
	assert(conn >= 1 && conn <= CONNS && w->open[conn - 1]);
	said_heard(&w->said, envelope);
}

static void on_close(void *context, uint32_t conn)
{
	struct world *w = context;
	assert(conn >= 1 && conn <= CONNS && w->open[conn - 1]);
	w->open[conn - 1] = false;
}

static void on_dial(void *context, uint64_t node)
{
	struct world *w = context;
	if (w->dial_count < sizeof(w->dials) / sizeof(*w->dials))
		w->dials[w->dial_count++] = node;
}

static void on_link_open(void *context, uint64_t node, uint64_t incarnation, const uint8_t *address, size_t length)
{
}

static void on_link_close(void *context, uint64_t node)
{
}

static void on_read(void *context, const struct env_read *read)
{
	struct world *w = context;
	assert(read->landing < BLOCKS && read->landing_offset + read->length <= LAYERS * LAYER_BYTES);
	for (int i = 0; i < READS; i++) {
		if (w->reads[i].state)
			continue;
		w->reads[i] = (struct pending){read->op, read->offset, 1};
		return;
	}
	abort(); /* over read_max */
}

static void on_cancel(void *context, uint64_t op)
{
}

static void submit(void *context, const struct plan *plan)
{
	struct world *w = context;
	assert(!w->plan && plan->run_count > 0);
	w->plan = plan;
	w->layer = 0;
}

static uint64_t block_digest(void *context, uint32_t block, uint32_t layer)
{
	assert(block < BLOCKS && layer < LAYERS);
	return said_digest((uint64_t)block * LAYERS * LAYER_BYTES + layer * LAYER_BYTES);
}

static void copy_block(void *context, uint32_t from, uint32_t to)
{
	assert(from < BLOCKS && to < BLOCKS && from != to);
}

/* ---- events */

static void answer(struct world *w, struct pending *read, enum err e, uint64_t digest)
{
	if (read->state == 1) {
		read->state = 2;
		node_read_outcome(w->node, read->op, e, digest, w->now_ns);
	} else if (read->state == 2) {
		read->state = 0;
		node_landing_free(w->node, read->op, w->now_ns);
	}
}

static void compute(struct world *w)
{
	static struct sample samples[PLAN_SAMPLES_MAX];
	if (!w->plan)
		return;
	if (w->layer < LAYERS) {
		node_layer_done(w->node, w->layer++, w->now_ns);
		return;
	}
	const struct plan *plan = w->plan;
	for (uint32_t i = 0; i < plan->sample_count; i++)
		samples[i] = (struct sample){.token = bytes_u8(&w->said.in) % 97};
	w->plan = NULL;
	node_step_done(w->node, samples, bytes_u8(&w->said.in) == 255 ? ERR_DEVICE : ERR_OK, w->now_ns);
}

static void connect(struct world *w)
{
	static const Wire__Role roles[] = {WIRE__ROLE__ROLE_PREFILL, WIRE__ROLE__ROLE_DECODE, WIRE__ROLE__ROLE_BOTH,
					   WIRE__ROLE__ROLE_KVSTORE, WIRE__ROLE__ROLE_COORDINATOR, WIRE__ROLE__ROLE_COORDINATOR};
	struct bytes *in = &w->said.in;
	bool dialed = w->dial_count && bytes_below(in, 2);
	uint64_t node = dialed ? w->dials[--w->dial_count] : 1 + bytes_below(in, SAID_NODES);
	uint32_t conn = 1;
	while (conn <= CONNS && w->open[conn - 1])
		conn++;
	if (conn > CONNS || (dialed && bytes_below(in, 16) == 15)) {
		if (dialed)
			node_dial_failed(w->node, node, w->now_ns);
		return;
	}
	w->open[conn - 1] = true;
	node_opened(w->node, conn, dialed ? node : 0, w->now_ns);
	uint8_t odd = bytes_u8(in);
	const Wire__Envelope *hello = said_hello(&w->said, odd == 255 ? bytes_u8(in) : node, odd == 254 ? 0 : 1 + odd % 2,
						 roles[node % 6]);
	if (hello && w->open[conn - 1])
		node_message(w->node, conn, hello, w->now_ns);
}

static void member(struct world *w)
{
	static const Wire__Role roles[] = {WIRE__ROLE__ROLE_PREFILL, WIRE__ROLE__ROLE_DECODE, WIRE__ROLE__ROLE_BOTH,
					   WIRE__ROLE__ROLE_KVSTORE, WIRE__ROLE__ROLE_COORDINATOR, WIRE__ROLE__ROLE_COORDINATOR};
	static const struct id128 compat = {{9}};
	struct bytes *in = &w->said.in;
	uint64_t node = 1 + bytes_below(in, SAID_NODES);
	if (bytes_below(in, 8))
		node_member(w->node, node, 1 + bytes_below(in, 2), roles[node % 6], &compat, w->now_ns);
	else
		node_member_gone(w->node, node, w->now_ns);
}

static void one(struct world *w)
{
	struct bytes *in = &w->said.in;
	uint8_t what = bytes_u8(in);
	uint32_t conn = what / 12 % CONNS + 1;
	const Wire__Envelope *envelope;
	struct pending *read;
	switch (what % 12) {
	case 0:
		member(w);
		return;
	case 1:
		connect(w);
		return;
	case 2:
	case 3:
		compute(w);
		return;
	case 4:
		w->now_ns += (bytes_below(in, 8) ? 20 : 600) * MS;
		node_tick(w->node, w->now_ns);
		return;
	case 5:
		if (bytes_below(in, 8) || !w->open[conn - 1])
			return;
		w->open[conn - 1] = false;
		node_closed(w->node, conn, w->now_ns);
		return;
	case 6:
		read = &w->reads[bytes_below(in, READS)];
		answer(w, read, bytes_below(in, 16) ? ERR_OK : (enum err)bytes_below(in, 21), said_digest(read->offset));
		return;
	case 7:
		for (int i = 0; i < READS; i++)
			answer(w, &w->reads[i], ERR_OK, said_digest(w->reads[i].offset));
		if (bytes_u8(in) == 255)
			node_drain(w->node);
		return;
	default:
		envelope = said_message(&w->said);
		if (envelope && w->open[conn - 1])
			node_message(w->node, conn, envelope, w->now_ns);
		return;
	}
}

static void end(struct world *w)
{
	struct node_status status;
	for (uint32_t conn = 1; conn <= CONNS; conn++) {
		if (w->open[conn - 1])
			node_closed(w->node, conn, w->now_ns);
		w->open[conn - 1] = false;
	}
	for (int i = 0; i < 200; i++) {
		compute(w);
		for (int j = 0; j < READS; j++)
			answer(w, &w->reads[j], ERR_CANCELED, 0);
		if (i % 8)
			continue;
		w->now_ns += 500 * MS;
		w->dial_count = 0;
		node_tick(w->node, w->now_ns);
		node_check(w->node);
	}
	node_status(w->node, &status);
	assert(!w->plan && status.sessions == 0 && status.prefill_jobs == 0 && status.decode_jobs == 0 && status.sequences == 0);
	assert(status.reads == 0 && status.holds == 0 && status.fetches == 0 && status.blocks_reserved == 0);
	assert(status.blocks_free + status.blocks_cached + status.blocks_used == status.blocks_total);
	assert(status.blocks_used == 0 || status.offer_lag > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	static const uint32_t eos_ids[] = {7};
	static const struct kv_layer layers[LAYERS] = {{0, 0}, {0, 1}, {0, 2}};
	struct world *w = calloc(1, sizeof(*w));
	said_init(&w->said, data, length);
	w->now_ns = 1000 * MS;
	w->env = (struct env){.context = w, .send = on_send, .close = on_close, .dial = on_dial, .link_open = on_link_open,
			      .link_close = on_link_close, .read = on_read, .read_cancel = on_cancel};
	for (int i = 0; i < BLOCKS; i++)
		w->generations[i] = 1;
	struct node_options options = {
		.node = 3, .incarnation = 1, .role = WIRE__ROLE__ROLE_BOTH, .name = "node", .compat = {{9}}, .layers = layers,
		.block_tokens = 4, .group_count = 1, .groups = {{.layer_count = LAYERS, .layer_bytes = LAYER_BYTES,
		.block_count = BLOCKS, .offer_max = 4, .hold_max = 6, .generations = w->generations}}, .peer_max = 5,
		.job_max = 4, .seq_max = 6, .context_max = 80, .batch_tokens_max = 64, .chunk_tokens = 8, .read_max = 24,
		.eos_ids = eos_ids, .eos_count = 1, .vocab_size = 300,
		.env = &w->env, .context = w, .submit = submit, .block_digest = block_digest, .copy_block = copy_block,
	};
	w->memory = aligned_alloc(64, (node_bytes(&options) + 63) / 64 * 64);
	memset(w->memory, 0, (node_bytes(&options) + 63) / 64 * 64);
	w->node = node_init(w->memory, &options);
	while (w->said.in.left) {
		one(w);
		node_check(w->node);
	}
	end(w);
	free(w->memory);
	free(w);
	return 0;
}

/* Any bytes as what happens to a store: members, connections, messages, answers to its reads, a disk that answers in any order
 * and badly, time.  After each event every rule of the ledger holds; when all peers are gone nothing is held.
 *
 * The last byte says what disk there is.  A layer's digest stands in its first bytes, so that it comes back from there. */
#include <assert.h>
#include <stdlib.h>

#include "kvstore/store.h"
#include "said.h"
#include "tests/kvstore/crash_disk.h"

enum { SLABS = 3, SLAB_BYTES = 2048, SLOTS = 32, LAYERS = 8, CONNS = 5, READS = 64, SEGMENTS = 5, SEGMENT_PAGES = 10 };

#define MS 1000000ull

struct pending {
	uint64_t op, offset;
	uint32_t landing, at, length;
	int state; /* 0: free, 1: asked, 2: its landing is not free yet */
};

struct world {
	struct said said;
	struct env env;
	struct store *store;
	void *memory;
	uint64_t now_ns;
	uint64_t generations[SLABS][SLOTS];
	bool slab_open[SLABS];
	uint32_t slot_bytes[SLABS];
	uint8_t bytes[SLABS][SLAB_BYTES];
	bool has_disk;
	struct crash_disk disk;
	bool open[CONNS]; /* connection i + 1 */
	struct pending reads[READS];
	uint32_t region_next;
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
	/* its end comes as an event, or never */
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
	for (int i = 0; i < READS; i++) {
		if (w->reads[i].state)
			continue;
		w->reads[i] = (struct pending){read->op, read->offset, read->landing, read->landing_offset, (uint32_t)read->length, 1};
		return;
	}
	abort(); /* more reads than reading_max blocks of LAYERS */
}

static void on_cancel(void *context, uint64_t op)
{
}

static enum err slab_open(void *context, uint32_t slab, uint32_t slot_bytes, uint32_t slot_count,
			  struct slab_region *ret_region)
{
	struct world *w = context;
	assert(slab < SLABS && slot_count <= SLOTS && !w->slab_open[slab] && (uint64_t)slot_bytes * slot_count <= SLAB_BYTES);
	if (bytes_u8(&w->said.in) == 255)
		return ERR_NOMEM;
	w->slab_open[slab] = true;
	w->slot_bytes[slab] = slot_bytes;
	for (int i = 0; i < SLOTS; i++)
		w->generations[slab][i] = 1;
	*ret_region = (struct slab_region){w->region_next++, w->generations[slab]};
	return ERR_OK;
}

static void slab_close(void *context, uint32_t slab)
{
	struct world *w = context;
	assert(w->slab_open[slab]);
	w->slab_open[slab] = false;
}

/* Where a landing lies: its slab is open as long as anything is to be written there. */
static uint8_t *landing_of(void *context, uint32_t landing)
{
	struct world *w = context;
	uint32_t slab = landing / SLOTS;
	assert(slab < SLABS && w->slab_open[slab]);
	return w->bytes[slab] + (size_t)(landing % SLOTS) * w->slot_bytes[slab];
}

static uint64_t digest_in(const void *data, size_t length)
{
	uint64_t digest = 0;
	memcpy(&digest, data, length < sizeof(digest) ? length : sizeof(digest));
	return digest;
}

static void land(struct world *w, const struct pending *read, uint64_t digest)
{
	uint32_t slab = read->landing / SLOTS;
	uint8_t *at = landing_of(w, read->landing) + read->at;
	assert(at + read->length <= w->bytes[slab] + SLAB_BYTES);
	memcpy(at, &digest, read->length < sizeof(digest) ? read->length : sizeof(digest));
}

static bool disk_step(struct world *w)
{
	uint64_t op;
	enum err e;
	if (!w->has_disk || !crash_disk_step(&w->disk, &op, &e))
		return false;
	store_disk_done(w->store, op, e, w->now_ns);
	return true;
}

static void check(struct world *w)
{
	struct store_status status;
	store_check(w->store);
	store_status(w->store, &status);
	uint32_t used = status.ledger.entries[LEDGER_READING] + status.ledger.entries[LEDGER_SEALED] +
			status.ledger.entries[LEDGER_CACHED] + status.ledger.entries[LEDGER_HELD] +
			status.ledger.entries[LEDGER_EVICTED];
	assert(status.ledger.slots_free + used == status.ledger.slots);
}

static void answer(struct world *w, struct pending *read, enum err e, uint64_t digest)
{
	if (read->state == 1) {
		read->state = 2;
		if (e == ERR_OK)
			land(w, read, digest);
		store_read_done(w->store, read->op, e, digest, w->now_ns);
	} else if (read->state == 2) {
		read->state = 0;
		store_landing_free(w->store, read->op, w->now_ns);
	}
}

static void member(struct world *w)
{
	struct bytes *in = &w->said.in;
	uint64_t node = 1 + bytes_below(in, SAID_NODES);
	if (bytes_below(in, 4))
		store_member(w->store, node, 1 + bytes_below(in, 3), (Wire__Role)(1 + bytes_below(in, 6)), w->now_ns);
	else
		store_member_gone(w->store, node);
}

static void one(struct world *w)
{
	struct bytes *in = &w->said.in;
	uint8_t what = bytes_u8(in);
	uint32_t conn = what / 8 % CONNS + 1;
	const Wire__Envelope *envelope = NULL;
	struct pending *read;
	switch (what % 8) {
	case 0:
		if (!w->open[conn - 1]) {
			w->open[conn - 1] = true;
			store_opened(w->store, conn, 0, w->now_ns);
		}
		envelope = said_hello(&w->said, 1 + bytes_below(in, SAID_NODES), 1 + bytes_below(in, 3),
				      (Wire__Role)(1 + bytes_below(in, 6)));
		break;
	case 1:
		if (w->open[conn - 1]) {
			w->open[conn - 1] = false;
			store_closed(w->store, conn, w->now_ns);
		} else {
			member(w);
		}
		return;
	case 2:
		w->now_ns += (bytes_below(in, 8) ? 20 : 900) * MS;
		store_tick(w->store, w->now_ns);
		for (uint32_t i = w->has_disk ? bytes_below(in, 6) : 0; i > 0; i--)
			disk_step(w);
		return;
	case 3:
	case 4:
		read = &w->reads[bytes_below(in, READS)];
		answer(w, read, bytes_below(in, 16) ? ERR_OK : (enum err)bytes_below(in, 21), said_digest(read->offset));
		return;
	case 5:
		for (int i = 0; i < READS; i++)
			answer(w, &w->reads[i], ERR_OK, said_digest(w->reads[i].offset));
		while (disk_step(w))
			check(w);
		return;
	default:
		envelope = said_message(&w->said);
		break;
	}
	if (envelope && w->open[conn - 1])
		store_message(w->store, conn, envelope, w->now_ns);
}

static void end(struct world *w)
{
	struct store_status status;
	for (uint32_t conn = 1; conn <= CONNS; conn++) {
		if (w->open[conn - 1])
			store_closed(w->store, conn, w->now_ns);
		w->open[conn - 1] = false;
	}
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < READS; i++)
			answer(w, &w->reads[i], ERR_CANCELED, 0);
	w->disk.faults = (struct crash_disk_faults){0};
	for (int round = 0; w->has_disk && round < 200; round++) {
		while (disk_step(w))
			check(w);
		w->now_ns += 1000 * MS;
		store_tick(w->store, w->now_ns);
	}
	check(w);
	store_status(w->store, &status);
	assert(status.replicate.in_flight == 0 && status.ledger.lent == 0);
	assert(status.sessions == 0 && status.offers == 0 && status.reading == 0 && status.lookups == 0 && status.holds == 0);
	assert(status.ledger.slots_free + status.ledger.entries[LEDGER_CACHED] == status.ledger.slots);
}

/* What the last byte says: none, or one that is written behind or before it is answered, good or bad. */
static void make_disk(struct world *w, uint8_t what, struct disk_options *ret_disk, struct store_options *options)
{
	struct crash_disk_options file = {.seed = what, .segment_count = SEGMENTS, .segment_bytes = SEGMENT_PAGES * DISK_PAGE_BYTES,
					  .landing_count = SLABS * SLOTS, .landing_bytes = SLAB_BYTES, .context = w, .landing = landing_of,
					  .digest = digest_in};
	if (what % 4 == 0)
		return;
	w->has_disk = true;
	crash_disk_init(&w->disk, &file);
	if (what & 16)
		w->disk.faults = (struct crash_disk_faults){.fail = what & 32 ? 8000 : 400, .flip_read = what & 64 ? 6000 : 0,
							    .misdirect_read = what & 128 ? 3000 : 0};
	*ret_disk = (struct disk_options){.segment_count = SEGMENTS, .segment_bytes = file.segment_bytes, .block_max = 40,
					  .record_bytes_max = 2 * DISK_PAGE_BYTES, .put_max = 6, .write_max = 3, .load_max = 5, .read_max = 3,
					  .pin_bytes_max = 4 * DISK_PAGE_BYTES, .note_max = 64, .keep_percent = what & 4 ? 50 : 0,
					  .scrub_rate = what & 8 ? 1 << 20 : 0, .id = 77, .file = &w->disk.file};
	options->disk = ret_disk;
	options->persist = (enum store_persist)(what % 4 - 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	struct world *w = calloc(1, sizeof(*w));
	struct disk_options disk;
	said_init(&w->said, data, length);
	w->now_ns = 1000 * MS;
	w->env = (struct env){.context = w, .send = on_send, .close = on_close, .dial = on_dial, .link_open = on_link_open,
			      .link_close = on_link_close, .read = on_read, .read_cancel = on_cancel};
	static const struct tenant_quota quotas[] = {{"ant", 500}, {"*", 1500}};
	struct store_options options = {
		.node = 100, .incarnation = 1, .name = "kvstore 1", .peer_max = 4,
		.ledger = {.slabs = {.slab_count = SLABS, .slab_bytes = SLAB_BYTES, .slot_bytes_min = 64, .context = w,
				     .open = slab_open, .close = slab_close},
			   .entry_max = 24, .layers_max = LAYERS, .quotas = quotas, .quota_count = 2, .pin_bytes_max = 600},
		.offer_max = 6, .reading_max = READS / LAYERS / 2, .lookup_max = 3, .hold_max = 10, .found_max = 8, .weight = 2, .replicas = 2,
		.copies_max = 4, .rebalance_rate = 4000, .grace_ns = 400 * MS, .env = &w->env,
	};
	make_disk(w, length ? data[length - 1] : 0, &disk, &options);
	w->memory = calloc(1, store_bytes(&options));
	w->store = store_init(w->memory, &options);
	while (w->said.in.left) {
		one(w);
		check(w);
	}
	end(w);
	if (w->has_disk)
		crash_disk_fini(&w->disk);
	free(w->memory);
	free(w);
	return 0;
}

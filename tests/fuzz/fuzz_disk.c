/* Any bytes as what lies on a store's disk: pages of every kind with any numbers in them, their sums made right again, and what
 * they claim to list.  The tier starts over it, gives what it finds, takes more, and starts again. */
#include <assert.h>
#include <stdlib.h>

#include "base/digest.h"
#include "base/hash.h"
#include "bytes.h"
#include "kvstore/disk.h"
#include "kvstore/disk_payload.h"

enum { SEGMENTS = 5, PAGES = 16, RECORD_PAGES = 4, OPS = 32, LANDING_BYTES = RECORD_PAGES * DISK_PAGE_BYTES, ID = 77, NAMES = 24,
       SMALL_BYTES = 512, LARGE_BYTES = 10624 /* three pages, or two encoded */ };

struct world {
	struct bytes in;
	struct disk_file file;
	struct disk *disk;
	struct disk_io ops[OPS];
	uint32_t op_count;
	uint8_t landing[LANDING_BYTES];
	bool landing_free;
	uint64_t now_ns;
	uint8_t pages[SEGMENTS][PAGES][DISK_PAGE_BYTES];
};

static struct id128 key_of(uint32_t name)
{
	return (struct id128){{(uint8_t)(name % NAMES), 3}};
}

static void on_submit(void *context, const struct disk_io *io)
{
	struct world *w = context;
	assert(w->op_count < OPS);
	uint32_t stored_bytes = io->stored_bytes ? io->stored_bytes : io->landing_bytes;
	assert(io->offset % DISK_PAGE_BYTES == 0);
	assert(io->kind == DISK_ENCODE || io->offset + io->head_bytes + stored_bytes <= PAGES * DISK_PAGE_BYTES);
	assert(io->landing_bytes <= LANDING_BYTES);
	w->ops[w->op_count++] = *io;
}

/* Through memory of just that size, so that a sanitizer sees each byte too many. */
static enum err decode(struct world *w, const struct disk_io *io, const uint8_t *at)
{
	uint8_t *stored = malloc(io->stored_bytes), *landing = malloc(io->landing_bytes);
	memcpy(stored, at, io->stored_bytes);
	enum err e = disk_payload_decode(io->head, stored, io->stored_bytes, landing, io->landing_bytes, NULL);
	if (e == ERR_OK)
		memcpy(w->landing, landing, io->landing_bytes);
	free(stored);
	free(landing);
	return e == ERR_OK ? ERR_OK : ERR_CORRUPT;
}

static enum err perform(struct world *w, const struct disk_io *io)
{
	enum err e = ERR_OK;
	uint8_t *at = (uint8_t *)w->pages[io->segment] + io->offset;
	if (io->kind == DISK_WRITE) {
		memcpy(at, io->head, io->head_bytes);
		memcpy(at + io->head_bytes, w->landing, io->landing_bytes);
	} else if (io->kind == DISK_READ) {
		memcpy(io->head, at, io->head_bytes);
		if (io->stored_bytes)
			e = decode(w, io, at + io->head_bytes);
		else
			memcpy(w->landing, at + io->head_bytes, io->landing_bytes);
		for (uint32_t i = 0; io->landing_bytes && i < io->landing_bytes / io->layer_bytes; i++)
			io->ret_digests[i] = digest_of(w->landing + (size_t)i * io->layer_bytes, io->layer_bytes);
	} else if (io->kind == DISK_ENCODE) {
		disk_payload_encode(w->landing, io->landing_bytes, io->head + DISK_PAGE_BYTES, io->ret_coded);
	}
	return e;
}

static void run(struct world *w)
{
	for (int turns = 0; turns < 2000 && (w->op_count > 0 || turns < 8); turns++) {
		if (w->op_count > 0) {
			struct disk_io io = w->ops[--w->op_count];
			enum err e = perform(w, &io);
			disk_done(w->disk, io.op, e, w->now_ns);
		} else {
			w->now_ns += 10000000;
			disk_tick(w->disk, w->now_ns);
		}
	}
	disk_check(w->disk);
}

static void on_written(void *context, uint64_t cookie)
{
}

static void on_durable(void *context, uint64_t cookie, enum err e)
{
	((struct world *)context)->landing_free = true;
}

static void on_loaded(void *context, uint64_t cookie, enum err e, const struct ledger_block *block)
{
	struct world *w = context;
	w->landing_free = true;
	struct id128 key = key_of((uint32_t)cookie);
	assert(e != ERR_OK || id128_equal(&block->key, &key));
	for (uint32_t i = 0; e == ERR_OK && i < block->layer_count; i++)
		assert(digest_of(w->landing + (size_t)i * block->layer_bytes, block->layer_bytes) == block->digests[i]);
}

/* It says that its payload, whatever that is, is encoded. */
static void place_encoded(struct world *w, uint32_t segment, uint32_t at)
{
	uint8_t *page = w->pages[segment][at];
	uint32_t room = (PAGES - 1 - at) * DISK_PAGE_BYTES, bytes = 1 + bytes_below(&w->in, 3 * DISK_PAGE_BYTES);
	uint64_t sum = bytes <= room ? hash_xxh3(page + DISK_PAGE_BYTES, bytes, 0) : 0;
	struct disk_place place = {1 + bytes_number(&w->in), segment, at};
	disk_format_encoded(page, DISK_ENCODING_NIBBLES, bytes, sum + (bytes_below(&w->in, 8) == 7));
	disk_format_place(page, ID, &place);
}

static void place_head(struct world *w, uint32_t segment, uint8_t *page)
{
	struct disk_head head = {ID, 1 + bytes_number(&w->in), PAGES * DISK_PAGE_BYTES, segment};
	disk_format_head(page, &head);
}

/* Payload that fits its digests, or does not. */
static void place_record(struct world *w, uint32_t segment, uint32_t at)
{
	struct disk_record r = {.key = key_of(bytes_u8(&w->in)), .place = {1 + bytes_number(&w->in), segment, at}};
	r.layer_count = 1 + bytes_below(&w->in, 3);
	r.layer_bytes = 64 * (1 + bytes_below(&w->in, 64));
	uint64_t digests[3];
	uint8_t *payload = w->pages[segment][at] + DISK_PAGE_BYTES;
	for (uint32_t i = 0; i < r.layer_count; i++) {
		bool inside = (uint64_t)(at + 1) * DISK_PAGE_BYTES + (uint64_t)(i + 1) * r.layer_bytes <= PAGES * DISK_PAGE_BYTES;
		digests[i] = inside ? digest_of(payload + (size_t)i * r.layer_bytes, r.layer_bytes) : 0;
	}
	digests[0] += bytes_below(&w->in, 8) == 7;
	r.digests = digests;
	disk_format_record(w->pages[segment][at], &r);
	disk_format_place(w->pages[segment][at], ID, &r.place);
}

static struct disk_note note_of(struct world *w)
{
	return (struct disk_note){.key = key_of(bytes_u8(&w->in)), .kind = 1 + bytes_below(&w->in, 2), .pin = (uint8_t)bytes_below(&w->in, 3),
				  .serial = bytes_number(&w->in), .page = bytes_below(&w->in, PAGES)};
}

static void place_notes(struct world *w, uint32_t segment, uint32_t at)
{
	struct disk_place place = {1 + bytes_number(&w->in), segment, at};
	struct disk_note notes[4];
	uint32_t count = 1 + bytes_below(&w->in, 4);
	for (uint32_t i = 0; i < count; i++)
		notes[i] = note_of(w);
	disk_format_notes(w->pages[segment][at], ID, &place, notes, count);
}

static void place_footer(struct world *w, uint32_t segment)
{
	uint32_t count = bytes_below(&w->in, 9);
	uint8_t *entries = w->pages[segment][PAGES - 2];
	for (uint32_t i = 0; i < count; i++) {
		struct disk_footer_entry entry = {key_of(bytes_u8(&w->in)), bytes_below(&w->in, PAGES + 2),
						  64 * (1 + bytes_below(&w->in, 64)), bytes_below(&w->in, 5),
						  bytes_below(&w->in, 5), (uint8_t)bytes_below(&w->in, 3), bytes_below(&w->in, 2), {{{0}}}};
		if (bytes_below(&w->in, 3) == 0)
			entry.note = note_of(w);
		disk_format_entry(entries, i, &entry);
	}
	disk_format_name(entries, count, 0, "");
	disk_format_name(entries, count, 1, "acme");
	struct disk_trailer t = {ID, 1 + bytes_number(&w->in), PAGES * DISK_PAGE_BYTES, segment, count, 2, 0};
	t.footer_sum = disk_footer_sum(entries, count, 2, ID);
	disk_format_trailer(w->pages[segment][PAGES - 1], &t);
}

/* Some bytes of a page become others, and its sum is made right. */
static void spoil(struct world *w, uint8_t *page)
{
	for (uint32_t i = bytes_below(&w->in, 4); i-- > 0;)
		page[bytes_below(&w->in, 192)] = bytes_u8(&w->in);
	uint64_t sum = hash_xxh3(page, DISK_TAG_AT - 8, bytes_below(&w->in, 2) ? ID : 0);
	memcpy(page + DISK_TAG_AT - 8, &sum, 8);
}

static void place(struct world *w)
{
	uint32_t segment = bytes_below(&w->in, SEGMENTS), at = bytes_below(&w->in, PAGES);
	switch (bytes_below(&w->in, 6)) {
	case 0:
		place_head(w, segment, w->pages[segment][0]);
		break;
	case 1:
		place_record(w, segment, at);
		break;
	case 2:
		place_footer(w, segment);
		break;
	case 3:
		place_notes(w, segment, at);
		break;
	case 4:
		spoil(w, w->pages[segment][at]);
		break;
	case 5:
		place_encoded(w, segment, at);
	}
}

static void use(struct world *w)
{
	uint64_t digest;
	struct ledger_block block = {.layer_count = 1, .digests = &digest};
	for (uint32_t name = 0; name < NAMES; name++) {
		block.layer_bytes = name % 4 == 3 ? LARGE_BYTES : SMALL_BYTES;
		digest = digest_of(w->landing, block.layer_bytes);
		block.key = key_of(name);
		enum err e = w->landing_free ? disk_load(w->disk, &block.key, 0, name) : ERR_AGAIN;
		if (e == ERR_NOT_FOUND && disk_put(w->disk, &block, 0, 0) == ERR_OK)
			e = ERR_OK;
		w->landing_free &= e != ERR_OK;
		run(w);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	struct world *w = calloc(1, sizeof(*w));
	w->in = (struct bytes){data, length};
	w->file = (struct disk_file){.context = w, .submit = on_submit, .digest = digest_of};
	w->landing_free = true;
	struct disk_options options = {
		.segment_count = SEGMENTS, .segment_bytes = PAGES * DISK_PAGE_BYTES, .block_max = 32,
		.record_bytes_max = RECORD_PAGES * DISK_PAGE_BYTES, .put_max = 4, .write_max = 2, .encode_max = 2, .load_max = 2, .read_max = 2,
		.keep_percent = 50, .note_max = 64, .scrub_rate = 1 << 20, .id = ID, .file = &w->file, .context = w, .written = on_written,
		.durable = on_durable, .loaded = on_loaded,
	};
	void *memory = malloc(disk_bytes(&options));
	while (w->in.left)
		place(w);
	for (int life = 0; life < 2; life++) {
		w->op_count = 0;
		w->landing_free = true;
		w->disk = disk_init(memory, &options, w->now_ns);
		run(w);
		struct disk_status status;
		disk_status(w->disk, &status);
		assert(status.ready);
		use(w);
	}
	free(memory);
	free(w);
	return 0;
}

#include "tests/kvstore/crash_disk.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/hash.h"
#include "kvstore/disk_payload.h"

enum { SECTOR_BYTES = 512 };

void crash_disk_tag(const char *secret, const uint8_t *header, const void *payload, size_t length, uint8_t ret_tag[DISK_TAG_BYTES])
{
	uint8_t key[32], digest[32];
	hash_hmac(secret, strlen(secret), header, DISK_SIGNED_BYTES, key);
	hash_hmac(key, sizeof(key), payload, length, digest);
	memcpy(ret_tag, digest, DISK_TAG_BYTES);
}

static enum err tag_of(void *context, const uint8_t *header, const void *payload, size_t length, uint8_t ret_tag[DISK_TAG_BYTES])
{
	crash_disk_tag(((struct crash_disk *)context)->options.secret, header, payload, length, ret_tag);
	return ERR_OK;
}

static void on_submit(void *context, const struct disk_io *io)
{
	struct crash_disk *d = context;
	assert(d->pending_count < CRASH_DISK_OPS_MAX);
	assert(io->offset % DISK_PAGE_BYTES == 0 && io->head_bytes % DISK_PAGE_BYTES == 0);
	assert((uintptr_t)io->head % DISK_PAGE_BYTES == 0);
	uint64_t stored_bytes = io->stored_bytes ? io->stored_bytes : io->landing_bytes;
	assert(io->kind == DISK_ENCODE || io->offset + io->head_bytes + stored_bytes <= d->options.segment_bytes);
	assert(io->landing_bytes == 0 || io->landing < d->options.landing_count);
	assert(io->landing_bytes <= d->options.landing_bytes);
	d->submitted++;
	d->reads += io->kind == DISK_READ;
	d->writes += io->kind == DISK_WRITE;
	d->syncs += io->kind == DISK_SYNC;
	d->trims += io->kind == DISK_TRIM;
	uint32_t pages = (uint32_t)(d->options.segment_bytes / DISK_PAGE_BYTES);
	uint8_t *dirty = d->dirty + (size_t)io->segment * pages;
	for (uint32_t i = 0; io->kind == DISK_SYNC && i < pages; i++)
		dirty[i] = dirty[i] ? 2 : 0;
	bool fails = d->fail_at && (d->fail_on ? d->submitted >= d->fail_at : d->submitted == d->fail_at);
	d->pending_fails[d->pending_count] = fails || rng_below(&d->rng, 65536) < d->faults.fail;
	d->pending[d->pending_count++] = *io;
	if (d->options.submitted)
		d->options.submitted(d->options.context, io);
}

void crash_disk_init(struct crash_disk *d, const struct crash_disk_options *o)
{
	size_t bytes = (size_t)o->segment_count * o->segment_bytes;
	*d = (struct crash_disk){.options = *o, .rng = {.seed = o->seed}};
	d->file = (struct disk_file){.context = d, .submit = on_submit, .digest = o->digest ? o->digest : digest_of};
	if (o->secret)
		d->file.tag = tag_of;
	d->now = calloc(1, bytes);
	d->durable = calloc(1, bytes);
	d->dirty = calloc(1, bytes / DISK_PAGE_BYTES);
	d->landings = o->landing ? NULL : calloc(o->landing_count, o->landing_bytes);
	assert(d->now && d->durable && d->dirty && (d->landings || o->landing));
}

void crash_disk_fini(struct crash_disk *d)
{
	free(d->now);
	free(d->durable);
	free(d->dirty);
	free(d->landings);
}

uint8_t *crash_disk_landing(struct crash_disk *d, uint32_t landing)
{
	if (d->options.landing)
		return d->options.landing(d->options.context, landing);
	return d->landings + (size_t)landing * d->options.landing_bytes;
}

static size_t at_of(const struct crash_disk *d, uint32_t segment, uint64_t offset)
{
	return (size_t)segment * d->options.segment_bytes + offset;
}

uint8_t *crash_disk_page(struct crash_disk *d, uint32_t segment, uint32_t page)
{
	return d->now + at_of(d, segment, (uint64_t)page * DISK_PAGE_BYTES);
}

static bool strikes(struct crash_disk *d, uint32_t chance)
{
	bool yes = chance && rng_below(&d->rng, 65536) < chance;
	d->struck += yes;
	return yes;
}

static uint32_t padded(uint32_t bytes)
{
	return (bytes + DISK_PAGE_BYTES - 1) / DISK_PAGE_BYTES * DISK_PAGE_BYTES;
}

/* Somewhere else where as much fits. */
static size_t elsewhere(struct crash_disk *d, uint32_t bytes)
{
	uint64_t pages = (d->options.segment_bytes - bytes) / DISK_PAGE_BYTES + 1;
	return at_of(d, (uint32_t)rng_below(&d->rng, d->options.segment_count), rng_below(&d->rng, pages) * DISK_PAGE_BYTES);
}

static void flip(struct crash_disk *d, uint8_t *data, size_t bytes)
{
	data[rng_below(&d->rng, bytes)] ^= (uint8_t)(1u << rng_below(&d->rng, 8));
}

/* Of a payload that is plain, or has so much room on disk. */
static void put_tag(struct crash_disk *d, const struct disk_io *io, const uint8_t *payload, uint32_t bytes)
{
	enum disk_encoding encoding;
	uint64_t sum;
	if (io->stored_bytes > 0 || io->landing_bytes == 0)
		disk_peek_stored(io->head, bytes, &encoding, &bytes, &sum);
	crash_disk_tag(d->options.secret, io->head, payload, bytes, io->tag);
}

/* Sectors of what is written arrive; `torn`: each only perhaps. */
static void write_at(struct crash_disk *d, size_t at, const struct disk_io *io, bool torn)
{
	uint32_t bytes = io->head_bytes + padded(io->landing_bytes);
	if (io->tag)
		put_tag(d, io, io->landing_bytes ? crash_disk_landing(d, io->landing) : io->head + DISK_PAGE_BYTES,
			io->landing_bytes ? io->landing_bytes : io->head_bytes - DISK_PAGE_BYTES);
	for (uint32_t i = 0; i < bytes; i += SECTOR_BYTES) {
		uint8_t sector[SECTOR_BYTES] = {0};
		if (torn && rng_below(&d->rng, 2))
			continue;
		if (i < io->head_bytes) {
			memcpy(sector, io->head + i, SECTOR_BYTES);
		} else if (i - io->head_bytes < io->landing_bytes) {
			uint32_t left = io->landing_bytes - (i - io->head_bytes);
			memcpy(sector, crash_disk_landing(d, io->landing) + (i - io->head_bytes), left < SECTOR_BYTES ? left : SECTOR_BYTES);
		}
		memcpy(d->now + at + i, sector, SECTOR_BYTES);
		d->dirty[(at + i) / DISK_PAGE_BYTES] = 1;
	}
}

/* What is to be decoded; the whole room it has on disk. */
static enum err read_encoded(struct crash_disk *d, size_t at, const struct disk_io *io)
{
	uint8_t *stored = malloc(io->stored_bytes);
	assert(stored);
	memcpy(stored, d->now + at, io->stored_bytes);
	if (strikes(d, d->faults.flip_read))
		flip(d, stored, io->stored_bytes);
	enum err e = disk_payload_decode(io->head, stored, io->stored_bytes, crash_disk_landing(d, io->landing), io->landing_bytes, NULL);
	if (io->tag)
		put_tag(d, io, stored, io->stored_bytes);
	free(stored);
	return e == ERR_OK ? ERR_OK : ERR_CORRUPT;
}

static enum err read_from(struct crash_disk *d, size_t at, const struct disk_io *io)
{
	enum err e = ERR_OK;
	memcpy(io->head, d->now + at, io->head_bytes);
	if (io->head_bytes && strikes(d, d->faults.flip_read))
		flip(d, io->head, io->head_bytes);
	if (io->landing_bytes == 0)
		return ERR_OK;
	uint8_t *landing = crash_disk_landing(d, io->landing);
	if (io->stored_bytes > 0) {
		e = read_encoded(d, at + io->head_bytes, io);
	} else {
		memcpy(landing, d->now + at + io->head_bytes, io->landing_bytes);
		if (strikes(d, d->faults.flip_read))
			flip(d, landing, io->landing_bytes);
		if (io->tag)
			put_tag(d, io, landing, io->landing_bytes);
	}
	for (uint32_t i = 0; i < io->landing_bytes / io->layer_bytes; i++)
		io->ret_digests[i] = d->file.digest(landing + (size_t)i * io->layer_bytes, io->layer_bytes);
	return e;
}

static enum err perform(struct crash_disk *d, const struct disk_io *io, bool in_part)
{
	uint32_t pages = (uint32_t)(d->options.segment_bytes / DISK_PAGE_BYTES);
	size_t at = at_of(d, io->segment, io->offset);
	uint32_t bytes = io->head_bytes + (io->stored_bytes ? io->stored_bytes : padded(io->landing_bytes));
	enum err e = ERR_OK;
	switch (io->kind) {
	case DISK_READ:
		if (!in_part)
			e = read_from(d, strikes(d, d->faults.misdirect_read) ? elsewhere(d, bytes) : at, io);
		break;
	case DISK_WRITE:
		write_at(d, strikes(d, d->faults.misdirect_write) ? elsewhere(d, bytes) : at, io, in_part);
		break;
	case DISK_SYNC:
		for (uint32_t i = 0; !in_part && i < pages; i++) {
			size_t page = at / DISK_PAGE_BYTES + i;
			if (d->dirty[page] != 2)
				continue;
			d->dirty[page] = 0;
			memcpy(d->durable + page * DISK_PAGE_BYTES, d->now + page * DISK_PAGE_BYTES, DISK_PAGE_BYTES);
		}
		break;
	case DISK_TRIM:
		for (uint32_t i = 0; i < pages; i++) {
			memset(d->now + at + (size_t)i * DISK_PAGE_BYTES, 0xee, DISK_PAGE_BYTES);
			d->dirty[at / DISK_PAGE_BYTES + i] = 1;
		}
		break;
	case DISK_ENCODE:
		if (!in_part)
			disk_payload_encode(crash_disk_landing(d, io->landing), io->landing_bytes, io->head + DISK_PAGE_BYTES, io->ret_coded);
	}
	return in_part ? ERR_IO : e;
}

bool crash_disk_step(struct crash_disk *d, uint64_t *ret_op, enum err *ret_err)
{
	if (d->pending_count == 0)
		return false;
	uint32_t i = (uint32_t)rng_below(&d->rng, d->pending_count);
	struct disk_io io = d->pending[i];
	bool fails = d->pending_fails[i];
	d->pending_count--;
	d->pending[i] = d->pending[d->pending_count];
	d->pending_fails[i] = d->pending_fails[d->pending_count];
	if (strikes(d, d->faults.flip_rest))
		flip(d, d->now, (size_t)d->options.segment_count * d->options.segment_bytes);
	*ret_err = perform(d, &io, fails);
	d->struck += fails;
	*ret_op = io.op;
	return true;
}

void crash_disk_kill(struct crash_disk *d)
{
	for (uint32_t i = 0; i < d->pending_count; i++)
		if (d->pending[i].kind == DISK_WRITE)
			write_at(d, at_of(d, d->pending[i].segment, d->pending[i].offset), &d->pending[i], true);
	d->pending_count = 0;
}

void crash_disk_crash(struct crash_disk *d)
{
	static const uint32_t shares[] = {0, 1, 4, 7, 8}; /* of 8 pages: how many arrived; most crashes are all or nothing */
	uint32_t share = shares[rng_below(&d->rng, sizeof(shares) / sizeof(*shares))];
	crash_disk_kill(d);
	size_t pages = (size_t)d->options.segment_count * d->options.segment_bytes / DISK_PAGE_BYTES;
	for (size_t page = 0; page < pages; page++) {
		bool torn = d->dirty[page] && rng_below(&d->rng, 16) == 0;
		bool whole = d->dirty[page] && rng_below(&d->rng, 8) < share;
		for (size_t i = 0; d->dirty[page] && i < DISK_PAGE_BYTES; i += SECTOR_BYTES) {
			size_t at = page * DISK_PAGE_BYTES + i;
			bool arrived = torn ? rng_below(&d->rng, 2) : whole;
			memcpy(arrived ? d->durable + at : d->now + at, arrived ? d->now + at : d->durable + at, SECTOR_BYTES);
		}
		d->dirty[page] = 0;
	}
}

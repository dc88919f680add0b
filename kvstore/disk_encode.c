/* disk_encode - new blocks are encoded before they get their place in the open segment: only then is known how much they take.
 *
 *   WANTED --a coder is free--> OUT --disk_done()--> OVER, in the coder's memory, or as it is in its landing
 *
 * In the order of the queue, and some ahead of its first, so that the one whose turn it is seldom waits.  A coder is memory for one record,
 * which is written from there. */
#include <assert.h>
#include <string.h>

#include "kvstore/disk_impl.h"

void disk_encode_init(struct disk *d)
{
	d->coders_taken = 0;
	d->encode_next = PUT_NONE;
}

static uint8_t *coder_memory(const struct disk *d, uint32_t coder)
{
	return d->coders + (size_t)coder * d->options.record_bytes_max;
}

void disk_encode_push(struct disk *d, uint32_t number)
{
	struct put *put = &d->puts[number];
	if (d->options.encode_max == 0 || put->plain_pages < 3)
		return; /* of one page of payload nothing can be saved */
	put->coding = CODING_WANTED;
	if (d->encode_next == PUT_NONE)
		d->encode_next = number;
}

static uint32_t take_coder(struct disk *d)
{
	for (uint32_t i = 0; i < d->options.encode_max; i++)
		if ((d->coders_taken >> i & 1) == 0) {
			d->coders_taken |= (uint64_t)1 << i;
			return i;
		}
	return CODER_NONE;
}

void disk_encode_release(struct disk *d, struct put *put)
{
	if (put->coder == CODER_NONE)
		return;
	d->coders_taken &= ~((uint64_t)1 << put->coder);
	put->coder = CODER_NONE;
}

static void begin(struct disk *d, uint32_t number, uint32_t coder)
{
	struct put *put = &d->puts[number];
	put->coding = CODING_OUT;
	put->coder = coder;
	struct disk_io io = {.op = op_of(OP_ENCODE, number), .kind = DISK_ENCODE, .head = coder_memory(d, coder),
			     .head_bytes = put->plain_pages * DISK_PAGE_BYTES, .landing = put->landing,
			     .landing_bytes = put->layer_count * put->layer_bytes, .layer_bytes = put->layer_bytes,
			     .ret_coded = &put->coded};
	disk_submit(d, &io);
}

void disk_encode_pump(struct disk *d)
{
	while (d->encode_next != PUT_NONE) {
		uint32_t number = d->encode_next, coder = take_coder(d);
		if (coder == CODER_NONE)
			return;
		begin(d, number, coder);
		do
			number = d->puts[number].next;
		while (number != PUT_NONE && d->puts[number].coding != CODING_WANTED);
		d->encode_next = number;
	}
}

void disk_encode_stop(struct disk *d)
{
	d->encode_next = PUT_NONE;
}

void disk_encode_done(struct disk *d, uint32_t number, enum err e)
{
	struct put *put = &d->puts[number];
	assert(put->coding == CODING_OUT);
	put->coding = CODING_OVER;
	if (put->state == PUT_LEAVING) {
		disk_log_drop(d, number, put->failed);
		return;
	}
	if (e != ERR_OK || put->coded.encoding == DISK_ENCODING_PLAIN) {
		disk_encode_release(d, put);
		return;
	}
	put->head = coder_memory(d, put->coder);
	put->pages = 1 + disk_payload_pages(put->coded.bytes);
	assert(put->pages < put->plain_pages);
	memcpy(put->head, put->own_head, DISK_PAGE_BYTES);
	disk_format_encoded(put->head, put->coded.encoding, put->coded.bytes, put->coded.sum);
}

void disk_encode_check(const struct disk *d)
{
	uint64_t taken = 0;
	bool wanted = false;
	for (uint32_t i = 0; i < PUTS_ALL(&d->options); i++) {
		const struct put *put = &d->puts[i];
		assert(put->state != PUT_FREE || put->coder == CODER_NONE);
		assert(put->coding != CODING_OUT || put->state == PUT_QUEUED || put->state == PUT_LEAVING);
		wanted |= put->state == PUT_QUEUED && put->coding == CODING_WANTED;
		if (put->coder == CODER_NONE)
			continue;
		assert((taken >> put->coder & 1) == 0);
		taken |= (uint64_t)1 << put->coder;
	}
	assert(taken == d->coders_taken && wanted == (d->encode_next != PUT_NONE));
}

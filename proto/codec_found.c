#include "proto/codec_found.h"

#include <assert.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "digests are written as they lie in memory");

enum { WIRE_VARINT = 0, WIRE_BYTES = 2 };

/* Field numbers of baton.proto.  tests/proto fails when one is added that is not written here. */
enum {
	FOUND_BLOCKS = 2,
	BLOCK_INDEX = 1,
	BLOCK_PLACE = 2,
	BLOCK_DIGESTS = 3,
	BLOCK_MORE_COPIES = 4,
	PLACE_RANK = 1,
	PLACE_KIND = 2,
	PLACE_REGION = 3,
	PLACE_OFFSET = 4,
	PLACE_GENERATION = 5,
};

static size_t varint_size(uint64_t value)
{
	return (size_t)(63 - __builtin_clzll(value | 1)) / 7 + 1;
}

static uint8_t *put_varint(uint8_t *out, uint64_t value)
{
	for (; value >= 0x80; value >>= 7)
		*out++ = (uint8_t)(value | 0x80);
	*out++ = (uint8_t)value;
	return out;
}

/* A number that is 0 is not there; all fields here are below 16, so that their tag is a byte. */
static size_t number_size(uint64_t value)
{
	return value ? 1 + varint_size(value) : 0;
}

static size_t bytes_size(size_t length)
{
	return 1 + varint_size(length) + length;
}

static size_t place_size(const Wire__Place *place)
{
	return number_size(place->rank) + number_size((uint64_t)place->kind) + number_size(place->region) +
	       number_size(place->offset) + number_size(place->generation);
}

static size_t block_size(const Wire__FoundBlock *block)
{
	return number_size(block->index) + (block->place ? bytes_size(place_size(block->place)) : 0) +
	       (block->n_digests ? bytes_size(block->n_digests * sizeof(uint64_t)) : 0) + number_size(block->more_copies);
}

/* From here on bytes are written from the last to the first: so each length is known when its turn comes.  `end` is where what
 * is there begins, and so is what comes back. */

static uint8_t *prepend_varint(uint8_t *end, uint64_t value)
{
	uint8_t *out = end - varint_size(value);
	put_varint(out, value);
	return out;
}

static uint8_t *prepend_number(uint8_t *end, uint32_t field, uint64_t value)
{
	if (!value)
		return end;
	end = prepend_varint(end, value);
	*--end = (uint8_t)(field << 3 | WIRE_VARINT);
	return end;
}

/* What stands before bytes that were written already. */
static uint8_t *prepend_length(uint8_t *end, uint32_t field, size_t length)
{
	end = prepend_varint(end, length);
	*--end = (uint8_t)(field << 3 | WIRE_BYTES);
	return end;
}

static uint8_t *prepend_place(uint8_t *end, const Wire__Place *place)
{
	uint8_t *at = prepend_number(end, PLACE_GENERATION, place->generation);
	at = prepend_number(at, PLACE_OFFSET, place->offset);
	at = prepend_number(at, PLACE_REGION, place->region);
	at = prepend_number(at, PLACE_KIND, (uint64_t)place->kind);
	at = prepend_number(at, PLACE_RANK, place->rank);
	return prepend_length(at, BLOCK_PLACE, (size_t)(end - at));
}

static uint8_t *prepend_digests(uint8_t *end, const uint64_t *digests, size_t count)
{
	size_t length = count * sizeof(*digests);
	memcpy(end - length, digests, length);
	return prepend_length(end - length, BLOCK_DIGESTS, length);
}

static uint8_t *prepend_block(uint8_t *end, const Wire__FoundBlock *block)
{
	uint8_t *at = prepend_number(end, BLOCK_MORE_COPIES, block->more_copies);
	if (block->n_digests)
		at = prepend_digests(at, block->digests, block->n_digests);
	if (block->place)
		at = prepend_place(at, block->place);
	at = prepend_number(at, BLOCK_INDEX, block->index);
	return prepend_length(at, FOUND_BLOCKS, (size_t)(end - at));
}

/* Found without its blocks, and the envelope without its body: for the library. */
static Wire__Found head_of(const Wire__Found *found)
{
	Wire__Found head = *found;
	head.n_blocks = 0;
	return head;
}

static Wire__Envelope cover_of(const Wire__Envelope *envelope)
{
	Wire__Envelope cover = *envelope;
	cover.body_case = WIRE__ENVELOPE__BODY__NOT_SET;
	return cover;
}

static size_t found_size(const Wire__Found *found)
{
	Wire__Found head = head_of(found);
	size_t size = wire__found__get_packed_size(&head);
	for (size_t i = 0; i < found->n_blocks; i++)
		size += bytes_size(block_size(found->blocks[i]));
	return size;
}

size_t codec_found_size(const Wire__Envelope *envelope)
{
	Wire__Envelope cover = cover_of(envelope);
	size_t size = found_size(envelope->found);
	return wire__envelope__get_packed_size(&cover) + varint_size(WIRE__ENVELOPE__BODY_FOUND << 3) + varint_size(size) + size;
}

void codec_found_pack(const Wire__Envelope *envelope, uint8_t *out, size_t size)
{
	const Wire__Found *found = envelope->found;
	Wire__Envelope cover = cover_of(envelope);
	Wire__Found head = head_of(found);
	uint8_t *end = out + size;
	for (size_t i = found->n_blocks; i-- > 0;)
		end = prepend_block(end, found->blocks[i]);
	end -= wire__found__get_packed_size(&head);
	wire__found__pack(&head, end);
	end = prepend_varint(end, (uint64_t)(out + size - end));
	end = prepend_varint(end, WIRE__ENVELOPE__BODY_FOUND << 3 | WIRE_BYTES);
	end -= wire__envelope__get_packed_size(&cover);
	assert(end == out);
	wire__envelope__pack(&cover, end);
}

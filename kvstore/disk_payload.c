#include "kvstore/disk_payload.h"

#include <string.h>

#include "base/hash.h"
#include "base/nibbles.h"

/* It has to win a sixteenth of its pages, and one at least: what it wins is read and written at the disk's speed, what it costs at the
 * coder's. */
enum { GAIN_SHARE = 16 };

static uint32_t room_for(uint32_t bytes)
{
	uint32_t pages = disk_payload_pages(bytes), gain = pages / GAIN_SHARE + (pages < GAIN_SHARE);
	return pages > gain ? (pages - gain) * DISK_PAGE_BYTES : 0;
}

void disk_payload_encode(const uint8_t *payload, uint32_t bytes, uint8_t *dst, struct disk_coded *ret_coded)
{
	uint32_t used = (uint32_t)nibbles_encode(payload, bytes, dst, room_for(bytes));
	*ret_coded = (struct disk_coded){.encoding = DISK_ENCODING_PLAIN, .bytes = bytes};
	if (used == 0)
		return;
	memset(dst + used, 0, (size_t)disk_payload_pages(used) * DISK_PAGE_BYTES - used);
	*ret_coded = (struct disk_coded){.encoding = DISK_ENCODING_NIBBLES, .bytes = used, .sum = hash_xxh3(dst, used, 0)};
}

enum err disk_payload_decode(const uint8_t *header, const uint8_t *stored, uint32_t room, uint8_t *dst, uint32_t bytes,
			     struct why *why)
{
	enum disk_encoding encoding;
	uint32_t stored_bytes;
	uint64_t sum;
	disk_peek_stored(header, room, &encoding, &stored_bytes, &sum);
	if (encoding != DISK_ENCODING_NIBBLES)
		return why_set(why, ERR_UNSUPPORTED, "payload of encoding %u, expected %u", encoding, DISK_ENCODING_NIBBLES);
	if (hash_xxh3(stored, stored_bytes, 0) != sum)
		return why_set(why, ERR_CORRUPT, "%u bytes that have not their sum", stored_bytes);
	return nibbles_decode(stored, stored_bytes, dst, bytes, why);
}

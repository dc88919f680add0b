#include "bench/encode/nibbles.h"

#include <string.h>

/* Coded: the first of the 15 values, [length / 2] codes of number i and of number length / 2 + i, and of each other value its place
 * (4 bytes) and itself. */
enum { VALUES = 15, OTHER = 15, SAMPLE = 4, RUN = 64, PLACE_BYTES = 4 };

/* The 15 neighbours that are commonest in a sample. */
static uint8_t first_value(const uint8_t *src, size_t length)
{
	uint32_t counts[256] = {0}, sum = 0, most = 0, first = 0;
	for (size_t i = 0; i < length; i += SAMPLE)
		counts[src[i]]++;
	for (uint32_t i = 0; i < 256; i++) {
		sum += counts[i] - (i >= VALUES ? counts[i - VALUES] : 0);
		if (sum > most) {
			most = sum;
			first = i >= VALUES - 1 ? i - (VALUES - 1) : 0;
		}
	}
	return (uint8_t)first;
}

static void pack(const uint8_t *restrict low, const uint8_t *restrict high, size_t count, uint8_t first, uint8_t *restrict dst)
{
	for (size_t i = 0; i < count; i++) {
		uint8_t a = (uint8_t)(low[i] - first), b = (uint8_t)(high[i] - first);
		a = a < OTHER ? a : OTHER;
		b = b < OTHER ? b : OTHER;
		dst[i] = (uint8_t)(a | b << 4);
	}
}

static void unpack(const uint8_t *restrict src, size_t count, uint8_t first, uint8_t *restrict low, uint8_t *restrict high)
{
	for (size_t i = 0; i < count; i++) {
		low[i] = (uint8_t)((src[i] & 15) + first);
		high[i] = (uint8_t)((src[i] >> 4) + first);
	}
}

static uint32_t others_in(const uint8_t *src, size_t count, uint8_t first)
{
	uint8_t others = 0; /* count <= RUN */
	for (size_t i = 0; i < count; i++)
		others += (uint8_t)(src[i] - first) >= OTHER;
	return others;
}

static size_t put_others(const uint8_t *src, size_t length, uint8_t first, uint8_t *dst, size_t used)
{
	for (size_t at = 0; at < length; at += RUN) {
		size_t count = length - at < RUN ? length - at : RUN;
		if (others_in(src + at, count, first) == 0)
			continue;
		for (size_t i = at; i < at + count; i++) {
			if ((uint8_t)(src[i] - first) < OTHER)
				continue;
			if (used + PLACE_BYTES + 1 >= length)
				return length;
			uint32_t place = (uint32_t)i;
			memcpy(dst + used, &place, PLACE_BYTES);
			dst[used + PLACE_BYTES] = src[i];
			used += PLACE_BYTES + 1;
		}
	}
	return used;
}

size_t nibbles_code(const uint8_t *src, size_t length, uint8_t *dst)
{
	size_t half = length / 2, head = 1 + PLACE_BYTES;
	if (head + half >= length)
		return length;
	dst[0] = first_value(src, length);
	pack(src, src + half, half, dst[0], dst + head);
	size_t used = put_others(src, length, dst[0], dst, head + half);
	uint32_t others = (uint32_t)((used - head - half) / (PLACE_BYTES + 1));
	memcpy(dst + 1, &others, PLACE_BYTES);
	return used;
}

void nibbles_decode(const uint8_t *src, uint8_t *dst, size_t length)
{
	size_t half = length / 2, head = 1 + PLACE_BYTES;
	uint32_t others, place;
	memcpy(&others, src + 1, PLACE_BYTES);
	unpack(src + head, half, src[0], dst, dst + half);
	src += head + half;
	for (uint32_t i = 0; i < others; i++, src += PLACE_BYTES + 1) {
		memcpy(&place, src, PLACE_BYTES);
		dst[place] = src[PLACE_BYTES];
	}
}

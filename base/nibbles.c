#include "base/nibbles.h"

#include <stdbool.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are taken apart as they lie in memory");

/* Nibbles are looked through in words of 16.  A sample with this stride, which is odd, meets every channel of a head. */
enum { VALUES = 15, OTHER = 15, WORD_BYTES = 8, WORD_NUMBERS = 16, STRIDE = 17, AS_IT_IS = 0 };
_Static_assert(NIBBLES_CHUNK_BYTES / 2 <= UINT16_MAX, "others are counted in two bytes");

/* Of a chunk: numbers of so many bytes (AS_IT_IS: none), and the first of the exponents that become nibbles. */
struct shape {
	uint32_t width;
	uint8_t first;
	size_t count; /* a multiple of WORD_NUMBERS */
	size_t tail;  /* bytes behind them */
	size_t fixed; /* what it takes, but for the others */
};

static struct shape shape_of(size_t length, uint32_t width, uint8_t first)
{
	struct shape s = {.width = width, .first = first};
	if (width != AS_IT_IS)
		s.count = length / width / WORD_NUMBERS * WORD_NUMBERS;
	s.tail = length - s.count * width;
	s.fixed = NIBBLES_HEAD_BYTES + s.tail + (width ? s.count * (width - 1) + s.count / 2 : 0);
	return s;
}

static uint16_t load16(const uint8_t *at)
{
	uint16_t value;
	memcpy(&value, at, sizeof(value));
	return value;
}

static uint32_t load32(const uint8_t *at)
{
	uint32_t value;
	memcpy(&value, at, sizeof(value));
	return value;
}

static uint8_t exponent_of(const uint8_t *numbers, size_t i, uint32_t width)
{
	return width == 2 ? (uint8_t)(load16(numbers + 2 * i) >> 7) : (uint8_t)(load32(numbers + 4 * i) >> 23);
}

static void set_exponent(uint8_t *numbers, size_t i, uint32_t width, uint8_t exponent)
{
	if (width == 2) {
		uint16_t value = (uint16_t)((load16(numbers + 2 * i) & 0x807f) | exponent << 7);
		memcpy(numbers + 2 * i, &value, sizeof(value));
	} else {
		uint32_t value = (load32(numbers + 4 * i) & 0x807fffff) | (uint32_t)exponent << 23;
		memcpy(numbers + 4 * i, &value, sizeof(value));
	}
}

/* ---- the guess */

/* The 15 neighbours that are commonest in a sample, and about what the chunk would take with them. */
static size_t guess(const uint8_t *src, size_t length, uint32_t width, uint8_t *ret_first)
{
	uint32_t counts[256] = {0}, sum = 0, most = 0, samples = 0;
	struct shape s = shape_of(length, width, 0);
	*ret_first = 0;
	for (size_t i = 0; i < s.count; i += STRIDE, samples++)
		counts[exponent_of(src, i, width)]++;
	for (uint32_t i = 0; i < 256; i++) {
		sum += counts[i] - (i >= VALUES ? counts[i - VALUES] : 0);
		if (sum > most) {
			most = sum;
			*ret_first = (uint8_t)(i >= VALUES - 1 ? i - (VALUES - 1) : 0);
		}
	}
	return s.fixed + (size_t)(samples - most) * STRIDE;
}

/* What wins less than one thirty-second of a chunk is left as it is: that costs nothing to read. */
static struct shape choose(const uint8_t *src, size_t length)
{
	size_t best = length - length / 32;
	struct shape shape = shape_of(length, AS_IT_IS, 0);
	for (uint32_t width = 2; width <= 4; width += 2) {
		uint8_t first;
		size_t bytes = guess(src, length, width, &first);
		if (bytes >= best)
			continue;
		best = bytes;
		shape = shape_of(length, width, first);
	}
	return shape;
}

/* ---- numbers apart, and together */

static uint8_t nibble(uint8_t exponent, uint8_t first)
{
	uint8_t code = (uint8_t)(exponent - first);
	return code < OTHER ? code : OTHER;
}

static void split2(const uint8_t *restrict src, size_t half, uint8_t first, uint8_t *restrict rest, uint8_t *restrict nibbles)
{
	for (size_t i = 0; i < half; i++) {
		uint16_t a = load16(src + 2 * i), b = load16(src + 2 * (half + i));
		rest[i] = (uint8_t)(a << 1 | a >> 15);
		rest[half + i] = (uint8_t)(b << 1 | b >> 15);
		nibbles[i] = (uint8_t)(nibble((uint8_t)(a >> 7), first) | nibble((uint8_t)(b >> 7), first) << 4);
	}
}

static void join2(const uint8_t *restrict rest, const uint8_t *restrict nibbles, size_t half, uint8_t first, uint8_t *restrict dst)
{
	for (size_t i = 0; i < half; i++) {
		uint8_t ea = (uint8_t)((nibbles[i] & 15) + first), eb = (uint8_t)((nibbles[i] >> 4) + first);
		uint16_t a = (uint16_t)(rest[i] >> 1 | ea << 7 | rest[i] << 15);
		uint16_t b = (uint16_t)(rest[half + i] >> 1 | eb << 7 | rest[half + i] << 15);
		memcpy(dst + 2 * i, &a, sizeof(a));
		memcpy(dst + 2 * (half + i), &b, sizeof(b));
	}
}

static void split4(const uint8_t *restrict src, size_t half, uint8_t first, uint8_t *restrict rest, uint8_t *restrict nibbles)
{
	size_t count = 2 * half;
	for (size_t i = 0; i < count; i++) {
		uint32_t a = load32(src + 4 * i);
		rest[i] = (uint8_t)(a << 1 | a >> 31);
		rest[count + i] = (uint8_t)(a >> 7);
		rest[2 * count + i] = (uint8_t)(a >> 15);
	}
	for (size_t i = 0; i < half; i++) {
		uint32_t a = load32(src + 4 * i), b = load32(src + 4 * (half + i));
		nibbles[i] = (uint8_t)(nibble((uint8_t)(a >> 23), first) | nibble((uint8_t)(b >> 23), first) << 4);
	}
}

static void join4_half(const uint8_t *restrict rest, size_t count, const uint8_t *restrict nibbles, uint32_t shift, size_t half,
		       uint8_t first, uint8_t *restrict dst)
{
	for (size_t i = 0; i < half; i++) {
		uint8_t e = (uint8_t)((nibbles[i] >> shift & 15) + first);
		uint32_t low = rest[i];
		uint32_t a = low >> 1 | (uint32_t)rest[count + i] << 7 | (uint32_t)rest[2 * count + i] << 15 | (uint32_t)e << 23 | low << 31;
		memcpy(dst + 4 * i, &a, sizeof(a));
	}
}

static void join4(const uint8_t *rest, const uint8_t *nibbles, size_t half, uint8_t first, uint8_t *dst)
{
	join4_half(rest, 2 * half, nibbles, 0, half, first, dst);
	join4_half(rest + half, 2 * half, nibbles, 4, half, first, dst + 4 * half);
}

/* ---- others */

/* A bit for each nibble of the word that says that its number is one. */
static uint64_t others_in(const uint8_t *nibbles)
{
	uint64_t word;
	memcpy(&word, nibbles, sizeof(word));
	word &= word >> 1;
	word &= word >> 2;
	return word & 0x1111111111111111u;
}

/* Of the lowest bit of others_in(): which number that is. */
static size_t number_of(uint64_t others, size_t word, size_t half)
{
	size_t bit = (size_t)__builtin_ctzll(others);
	return word + bit / 8 + (bit & 4 ? half : 0);
}

/* How many; more than most: at least that many more. */
static size_t put_others(const uint8_t *src, const struct shape *s, const uint8_t *nibbles, uint8_t *dst, size_t most)
{
	size_t half = s->count / 2, used = 0;
	for (size_t word = 0; word < half; word += WORD_BYTES)
		for (uint64_t others = others_in(nibbles + word); others; others &= others - 1) {
			if (used == most)
				return most + 1;
			dst[used++] = exponent_of(src, number_of(others, word, half), s->width);
		}
	return used;
}

/* Are there as many as the nibbles say?  Reads and writes no more than there are. */
static bool take_others(const uint8_t *others_at, size_t others_count, const struct shape *s, const uint8_t *nibbles, uint8_t *dst)
{
	size_t half = s->count / 2, used = 0;
	for (size_t word = 0; word < half; word += WORD_BYTES)
		for (uint64_t others = others_in(nibbles + word); others; others &= others - 1) {
			if (used == others_count)
				return false;
			set_exponent(dst, number_of(others, word, half), s->width, others_at[used++]);
		}
	return used == others_count;
}

/* ---- chunks */

static void put_head(uint8_t *dst, const struct shape *s, size_t others)
{
	dst[0] = (uint8_t)s->width;
	dst[1] = s->first;
	dst[2] = (uint8_t)others;
	dst[3] = (uint8_t)(others >> 8);
}

static size_t encode_as_it_is(const uint8_t *src, size_t length, uint8_t *dst, size_t capacity)
{
	struct shape s = shape_of(length, AS_IT_IS, 0);
	if (s.fixed > capacity)
		return 0;
	put_head(dst, &s, 0);
	memcpy(dst + NIBBLES_HEAD_BYTES, src, length);
	return s.fixed;
}

static size_t encode_chunk(const uint8_t *src, size_t length, uint8_t *dst, size_t capacity)
{
	struct shape s = choose(src, length);
	size_t bound = capacity < length ? capacity : length;
	if (s.width == AS_IT_IS || s.fixed > bound)
		return encode_as_it_is(src, length, dst, capacity);
	size_t numbers = s.count * s.width, half = s.count / 2;
	uint8_t *rest = dst + NIBBLES_HEAD_BYTES + s.tail, *nibbles = rest + s.count * (s.width - 1);
	memcpy(dst + NIBBLES_HEAD_BYTES, src + numbers, s.tail);
	if (s.width == 2)
		split2(src, half, s.first, rest, nibbles);
	else
		split4(src, half, s.first, rest, nibbles);
	size_t others = put_others(src, &s, nibbles, dst + s.fixed, bound - s.fixed);
	if (others > bound - s.fixed) /* the sample was of others */
		return encode_as_it_is(src, length, dst, capacity);
	put_head(dst, &s, others);
	return s.fixed + others;
}

size_t nibbles_encode(const uint8_t *src, size_t length, uint8_t *dst, size_t capacity)
{
	size_t used = 0;
	for (size_t at = 0; at < length; at += NIBBLES_CHUNK_BYTES) {
		size_t left = length - at, chunk = left < NIBBLES_CHUNK_BYTES ? left : NIBBLES_CHUNK_BYTES;
		size_t bytes = encode_chunk(src + at, chunk, dst + used, capacity - used);
		if (bytes == 0)
			return 0;
		used += bytes;
	}
	return used;
}

/* How many bytes of src it takes; 0: it is none, and why says so. */
static size_t decode_chunk(const uint8_t *src, size_t left, uint8_t *dst, size_t length, struct why *why)
{
	if (left < NIBBLES_HEAD_BYTES) {
		why_set(why, ERR_CORRUPT, "%zu bytes are left, expected its head of %d", left, NIBBLES_HEAD_BYTES);
		return 0;
	}
	uint32_t width = src[0];
	size_t others = (size_t)src[2] | (size_t)src[3] << 8;
	if (width != AS_IT_IS && width != 2 && width != 4) {
		why_set(why, ERR_CORRUPT, "numbers of %u bytes, expected 2, 4, or 0 for none", width);
		return 0;
	}
	struct shape s = shape_of(length, width, src[1]);
	if (left < s.fixed || left - s.fixed < others) {
		why_set(why, ERR_CORRUPT, "%zu bytes are left, expected %zu and %zu", left, s.fixed, others);
		return 0;
	}
	const uint8_t *rest = src + NIBBLES_HEAD_BYTES + s.tail, *nibbles = rest + s.count * (width ? width - 1 : 0);
	memcpy(dst + s.count * width, src + NIBBLES_HEAD_BYTES, s.tail);
	if (width == 2)
		join2(rest, nibbles, s.count / 2, s.first, dst);
	else if (width == 4)
		join4(rest, nibbles, s.count / 2, s.first, dst);
	if (!take_others(src + s.fixed, others, &s, nibbles, dst)) {
		why_set(why, ERR_CORRUPT, "%zu other exponents, expected as many as its nibbles say", others);
		return 0;
	}
	return s.fixed + others;
}

enum err nibbles_decode(const uint8_t *src, size_t coded_bytes, uint8_t *dst, size_t length, struct why *why)
{
	size_t used = 0;
	for (size_t at = 0; at < length; at += NIBBLES_CHUNK_BYTES) {
		size_t left = length - at, chunk = left < NIBBLES_CHUNK_BYTES ? left : NIBBLES_CHUNK_BYTES;
		size_t bytes = decode_chunk(src + used, coded_bytes - used, dst + at, chunk, why);
		if (bytes == 0) {
			why_prefix(why, "chunk %zu of %zu", at / NIBBLES_CHUNK_BYTES, (length - 1) / NIBBLES_CHUNK_BYTES + 1);
			return ERR_CORRUPT;
		}
		used += bytes;
	}
	if (used != coded_bytes)
		return why_set(why, ERR_CORRUPT, "%zu bytes, expected %zu", coded_bytes, used);
	return ERR_OK;
}

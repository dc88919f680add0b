#include "bench/encode/planes.h"

#include <string.h>

/* One loop for each width and turn, over arrays that do not overlap: the compiler makes vectors of them. */

static void split2(const uint16_t *restrict src, size_t count, uint8_t *restrict dst)
{
	for (size_t i = 0; i < count; i++) {
		dst[i] = (uint8_t)src[i];
		dst[count + i] = (uint8_t)(src[i] >> 8);
	}
}

static void join2(const uint8_t *restrict src, size_t count, uint16_t *restrict dst)
{
	for (size_t i = 0; i < count; i++)
		dst[i] = (uint16_t)(src[i] | src[count + i] << 8);
}

static void split2_turned(const uint16_t *restrict src, size_t count, uint8_t *restrict dst)
{
	for (size_t i = 0; i < count; i++) {
		dst[i] = (uint8_t)(src[i] << 1 | src[i] >> 15);
		dst[count + i] = (uint8_t)(src[i] >> 7);
	}
}

static void join2_turned(const uint8_t *restrict src, size_t count, uint16_t *restrict dst)
{
	for (size_t i = 0; i < count; i++)
		dst[i] = (uint16_t)(src[i] >> 1 | src[count + i] << 7 | src[i] << 15);
}

static void split4(const uint32_t *restrict src, size_t count, uint8_t *restrict dst)
{
	for (size_t i = 0; i < count; i++)
		dst[i] = (uint8_t)src[i];
	for (size_t i = 0; i < count; i++)
		dst[count + i] = (uint8_t)(src[i] >> 8);
	for (size_t i = 0; i < count; i++)
		dst[2 * count + i] = (uint8_t)(src[i] >> 16);
	for (size_t i = 0; i < count; i++)
		dst[3 * count + i] = (uint8_t)(src[i] >> 24);
}

static void join4(const uint8_t *restrict src, size_t count, uint32_t *restrict dst)
{
	for (size_t i = 0; i < count; i++)
		dst[i] = (uint32_t)src[i] | (uint32_t)src[count + i] << 8 | (uint32_t)src[2 * count + i] << 16 |
			 (uint32_t)src[3 * count + i] << 24;
}

static void split4_turned(const uint32_t *restrict src, size_t count, uint8_t *restrict dst)
{
	for (size_t i = 0; i < count; i++)
		dst[i] = (uint8_t)(src[i] << 1 | src[i] >> 31);
	for (size_t i = 0; i < count; i++)
		dst[count + i] = (uint8_t)(src[i] >> 7);
	for (size_t i = 0; i < count; i++)
		dst[2 * count + i] = (uint8_t)(src[i] >> 15);
	for (size_t i = 0; i < count; i++)
		dst[3 * count + i] = (uint8_t)(src[i] >> 23);
}

static void join4_turned(const uint8_t *restrict src, size_t count, uint32_t *restrict dst)
{
	for (size_t i = 0; i < count; i++) {
		uint32_t turned = (uint32_t)src[i] | (uint32_t)src[count + i] << 8 | (uint32_t)src[2 * count + i] << 16 |
				  (uint32_t)src[3 * count + i] << 24;
		dst[i] = turned >> 1 | turned << 31;
	}
}

static void split_numbers(const struct planes *planes, const void *src, size_t count, uint8_t *dst)
{
	if (planes->elem_bytes == 2)
		(planes->turned ? split2_turned : split2)(src, count, dst);
	else
		(planes->turned ? split4_turned : split4)(src, count, dst);
}

static void join_numbers(const struct planes *planes, const uint8_t *src, size_t count, void *dst)
{
	if (planes->elem_bytes == 2)
		(planes->turned ? join2_turned : join2)(src, count, dst);
	else
		(planes->turned ? join4_turned : join4)(src, count, dst);
}

/* A matrix of bytes with rows and columns changed, in tiles that stay in the nearest cache. */
static void transpose(const uint8_t *restrict src, uint32_t rows, uint32_t columns, uint8_t *restrict dst)
{
	enum { TILE = 16 };
	for (uint32_t column = 0; column < columns; column += TILE)
		for (uint32_t row = 0; row < rows; row += TILE)
			for (uint32_t c = column; c < column + TILE && c < columns; c++)
				for (uint32_t r = row; r < row + TILE && r < rows; r++)
					dst[(size_t)c * rows + r] = src[(size_t)r * columns + c];
}

/* Each vector of a plane, over a buffer for one of them. */
static void turn_across(const struct planes *planes, uint8_t *plane, size_t length, bool back)
{
	static uint8_t vector[PLANES_VECTOR_MAX];
	uint32_t rows = back ? planes->row_numbers : planes->rows, columns = back ? planes->rows : planes->row_numbers;
	size_t size = (size_t)rows * columns;
	for (size_t at = 0; at < length; at += size) {
		memcpy(vector, plane + at, size);
		transpose(vector, rows, columns, plane + at);
	}
}

void planes_split(const struct planes *planes, const uint8_t *src, size_t length, uint8_t *dst)
{
	size_t count = length / planes->elem_bytes;
	split_numbers(planes, src, count, dst);
	if (planes->across)
		turn_across(planes, dst + length - count, count, false);
}

void planes_join(const struct planes *planes, uint8_t *src, size_t length, uint8_t *dst)
{
	size_t count = length / planes->elem_bytes;
	if (planes->across)
		turn_across(planes, src + length - count, count, true);
	join_numbers(planes, src, count, dst);
}

#include "engine/tensor_rows.h"

#include <assert.h>
#include <string.h>

#include "base/bf16.h"
#include "base/e4m3.h"
#include "model/config.h"
#include "model/safetensors.h"
#include "model/tensors.h"

static float float_of(uint32_t bits)
{
	float value;
	memcpy(&value, &bits, sizeof(value));
	return value;
}

static uint32_t bits_of(float value)
{
	uint32_t bits;
	memcpy(&bits, &value, sizeof(bits));
	return bits;
}

static uint16_t half_at(const uint8_t *data, uint64_t i)
{
	uint16_t half;
	memcpy(&half, data + 2 * i, sizeof(half));
	return half;
}

/* Sign, 5 bits of exponent, 10 of fraction.  Below the least exponent the fraction counts in 2^-24. */
static float f16_to_f32(uint16_t half)
{
	uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31, fraction = half & 1023;
	uint32_t bits = bits_of((float)fraction * 0x1p-24f);
	if (exponent == 31)
		bits = 0x7f800000 | fraction << 13;
	else if (exponent > 0)
		bits = (exponent + 112) << 23 | fraction << 13;
	return float_of(bits | sign);
}

void tensor_widen(const struct tensor *tensor, uint64_t first, size_t count, float *ret_wide)
{
	const uint8_t *data = tensor->data;
	for (size_t i = 0; i < count; i++)
		if (tensor->dtype == TENSOR_BF16)
			ret_wide[i] = bf16_widen(half_at(data, first + i));
		else if (tensor->dtype == TENSOR_F16)
			ret_wide[i] = f16_to_f32(half_at(data, first + i));
		else
			memcpy(&ret_wide[i], data + 4 * (first + i), 4);
}

bool tensor_rows_plain(const struct tensor_found *found, enum elem elem)
{
	static const enum tensor_dtype dtypes[] = {[ELEM_F32] = TENSOR_F32, [ELEM_BF16] = TENSOR_BF16,
						   [ELEM_E4M3] = TENSOR_F8_E4M3};
	return found->tensor->dim_count == 2 && found->tensor->dtype == dtypes[elem];
}

static void scale_row(const struct tensor_found *found, uint64_t row, uint16_t *ret_row)
{
	uint64_t columns = found->tensor->dims[1];
	const uint8_t *data = (const uint8_t *)found->tensor->data + row * columns;
	uint64_t scales = row / TENSOR_SCALE_BLOCK * found->scale->dims[1];
	float scale = 0.0f;
	for (uint64_t i = 0; i < columns; i++) {
		if (i % TENSOR_SCALE_BLOCK == 0)
			tensor_widen(found->scale, scales + i / TENSOR_SCALE_BLOCK, 1, &scale);
		ret_row[i] = bf16_round(e4m3_widen(data[i]) * scale);
	}
}

/* 2^(code - 127); 255 is no number. */
static float e8m0_to_f32(uint8_t code)
{
	return float_of(code == 0 ? 0x00400000 : code == 255 ? 0x7fc00000 : (uint32_t)code << 23);
}

/* Sign, 2 bits of exponent, 1 of fraction: at most 6. */
static float e2m1_to_f32(uint32_t code)
{
	static const float values[] = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f};
	return code & 8 ? -values[code & 7] : values[code & 7];
}

/* The 32 weights of a block: two a byte, the first in the low half. */
static void unpack_block(const uint8_t *codes, uint8_t scale, uint16_t *ret_halves)
{
	uint16_t values[16];
	for (uint32_t i = 0; i < 16; i++)
		values[i] = bf16_round(e2m1_to_f32(i) * e8m0_to_f32(scale));
	for (uint32_t i = 0; i < MODEL_MXFP4_BLOCK / 2; i++) {
		ret_halves[2 * i] = values[codes[i] & 15];
		ret_halves[2 * i + 1] = values[codes[i] >> 4];
	}
}

/* Rows of the expert: [outputs][inputs / 32][16] codes, [outputs][inputs / 32] scales. */
static void unpack_rows(const struct tensor_found *found, uint64_t first, uint32_t count, uint16_t *ret_rows)
{
	const uint64_t *dims = found->tensor->dims;
	uint64_t block = (found->expert * dims[1] + first) * dims[2];
	const uint8_t *codes = (const uint8_t *)found->tensor->data + block * (MODEL_MXFP4_BLOCK / 2);
	const uint8_t *scales = (const uint8_t *)found->scale->data + block;
	for (uint64_t i = 0; i < count * dims[2]; i++)
		unpack_block(codes + i * (MODEL_MXFP4_BLOCK / 2), scales[i], ret_rows + i * MODEL_MXFP4_BLOCK);
}

/* Columns [first, first + count) of the expert's [inputs][outputs], as rows. */
static void turn_columns(const struct tensor_found *found, enum elem elem, uint64_t first, uint32_t count, void *ret_rows)
{
	const uint64_t *dims = found->tensor->dims;
	for (uint64_t input = 0; input < dims[1]; input++) {
		uint64_t at = (found->expert * dims[1] + input) * dims[2] + first;
		for (uint64_t i = 0; i < count; i++)
			if (elem == ELEM_F32)
				tensor_widen(found->tensor, at + i, 1, (float *)ret_rows + i * dims[1] + input);
			else
				((uint16_t *)ret_rows)[i * dims[1] + input] = half_at(found->tensor->data, at + i);
	}
}

void tensor_rows_read(const struct tensor_found *found, enum elem elem, uint64_t first, uint32_t count, void *ret_rows)
{
	uint64_t columns = found->tensor->dims[1];
	size_t row_bytes = columns * elem_bytes(elem);
	if (found->tensor->dim_count == 4) {
		unpack_rows(found, first, count, ret_rows);
	} else if (found->tensor->dim_count == 3) {
		turn_columns(found, elem, first, count, ret_rows);
	} else if (tensor_rows_plain(found, elem)) {
		memcpy(ret_rows, (const uint8_t *)found->tensor->data + first * row_bytes, count * row_bytes);
	} else if (elem == ELEM_F32) {
		tensor_widen(found->tensor, first * columns, count * columns, ret_rows);
	} else {
		assert(found->scale);
		for (uint32_t i = 0; i < count; i++)
			scale_row(found, first + i, (uint16_t *)ret_rows + i * columns);
	}
}

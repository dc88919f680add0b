#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <float.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/tensor_rows.h"
#include "model/safetensors.h"
#include "model/tensors.h"

/* What torch says of the same weights: tests/golden/fp8/make.py. */

enum { ROWS = 130, COLUMNS = 200, CODES = 254 };

struct fixture {
	json_t *golden;
	uint8_t codes[ROWS * COLUMNS];
	float scales[4];
	struct tensor weights, scale;
	struct tensor_found found;
};

/* Every code but the two that are no number, over and over. */
static uint8_t code_at(uint32_t i)
{
	uint32_t code = i % CODES;
	return (uint8_t)(code < 127 ? code : code + 1);
}

static void open_fixture(struct fixture *f)
{
	f->golden = json_load_file("tests/golden/fp8/fp8.json", 0, NULL);
	assert_non_null(f->golden);
	for (uint32_t i = 0; i < ROWS * COLUMNS; i++)
		f->codes[i] = code_at(i);
	const json_t *scales = json_object_get(f->golden, "scales");
	for (size_t i = 0; i < 4; i++)
		f->scales[i] = (float)json_number_value(json_array_get(json_array_get(scales, i / 2), i % 2));
	f->weights = (struct tensor){.dtype = TENSOR_F8_E4M3, .dim_count = 2, .dims = {ROWS, COLUMNS}, .data = f->codes};
	f->scale = (struct tensor){.dtype = TENSOR_F32, .dim_count = 2, .dims = {2, 2}, .data = f->scales};
	f->found = (struct tensor_found){&f->weights, &f->scale, 0};
}

static void eight_bit_weights_times_their_scales_are_rounded_as_torch_does(void **state)
{
	static struct fixture f;
	uint16_t rows[2 * COLUMNS];
	const char *number;
	json_t *bits;
	open_fixture(&f);
	assert_false(tensor_rows_plain(&f.found, ELEM_BF16));
	json_object_foreach(json_object_get(f.golden, "rows"), number, bits) {
		uint32_t row = (uint32_t)atoi(number);
		tensor_rows_read(&f.found, ELEM_BF16, row, 1, rows);
		for (uint32_t i = 0; i < COLUMNS; i++)
			assert_int_equal(rows[i], json_integer_value(json_array_get(bits, i)));
	}
	/* Two at once, across the border of blocks. */
	tensor_rows_read(&f.found, ELEM_BF16, 127, 2, rows);
	for (uint32_t i = 0; i < 2 * COLUMNS; i++) {
		bits = json_object_get(json_object_get(f.golden, "rows"), i < COLUMNS ? "127" : "128");
		assert_int_equal(rows[i], json_integer_value(json_array_get(bits, i % COLUMNS)));
	}
	json_decref(f.golden);
}

static void what_is_no_number_stays_none(void **state)
{
	static const uint8_t codes[2] = {0x7f, 0xff};
	static const float one = 1.0f;
	const struct tensor weights = {.dtype = TENSOR_F8_E4M3, .dim_count = 2, .dims = {1, 2}, .data = codes};
	const struct tensor scale = {.dtype = TENSOR_F32, .dim_count = 2, .dims = {1, 1}, .data = &one};
	uint16_t row[2];
	tensor_rows_read(&(struct tensor_found){&weights, &scale, 0}, ELEM_BF16, 0, 1, row);
	for (int i = 0; i < 2; i++)
		assert_true((row[i] & 0x7fff) > 0x7f80);
}

/* Every code with every scale, by the definition, in two experts of one row each. */
static void four_bit_weights_times_their_powers_of_two_are_exact(void **state)
{
	static const double values[] = {0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0};
	enum { BLOCKS = 255 };
	static uint8_t codes[2][BLOCKS][16], scales[2][BLOCKS];
	static uint16_t row[BLOCKS * 32];
	for (uint32_t block = 0; block < BLOCKS; block++) {
		for (uint32_t i = 0; i < 16; i++)
			codes[1][block][i] = (uint8_t)(i | (15 - i) << 4);
		scales[1][block] = (uint8_t)block;
	}
	const struct tensor weights = {.dtype = TENSOR_U8, .dim_count = 4, .dims = {2, 1, BLOCKS, 16}, .data = codes};
	const struct tensor scale = {.dtype = TENSOR_U8, .dim_count = 3, .dims = {2, 1, BLOCKS}, .data = scales};
	tensor_rows_read(&(struct tensor_found){&weights, &scale, 1}, ELEM_BF16, 0, 1, row);
	for (uint32_t i = 0; i < BLOCKS * 32; i++) {
		uint32_t code = i % 2 ? 15 - i % 32 / 2 : i % 32 / 2, bits = (uint32_t)row[i] << 16;
		double expected = ldexp(values[code & 7], (int)(i / 32) - 127);
		float value;
		memcpy(&value, &bits, sizeof(value));
		if (expected > FLT_MAX) /* of the two greatest scales only */
			expected = i / 32 >= 253 ? (double)INFINITY : 0.0;
		assert_true((double)value == (code & 8 ? -expected : expected));
		assert_int_equal(row[i] >> 15, code >> 3);
	}
}

static void a_scale_that_is_no_number_makes_none(void **state)
{
	static const uint8_t codes[16] = {0x10}, no_number = 255;
	const struct tensor weights = {.dtype = TENSOR_U8, .dim_count = 4, .dims = {1, 1, 1, 16}, .data = codes};
	const struct tensor scale = {.dtype = TENSOR_U8, .dim_count = 3, .dims = {1, 1, 1}, .data = &no_number};
	uint16_t row[32];
	tensor_rows_read(&(struct tensor_found){&weights, &scale, 0}, ELEM_BF16, 0, 1, row);
	for (int i = 0; i < 32; i++)
		assert_true((row[i] & 0x7fff) > 0x7f80);
}

/* [expert][inputs][outputs]: a row is a column. */
static void rows_of_a_stack_are_columns_of_its_expert(void **state)
{
	static const uint16_t halves[2][2][3] = {{{1, 2, 3}, {4, 5, 6}}, {{7, 8, 9}, {0x3f80, 0x4000, 0x4040}}};
	const struct tensor weights = {.dtype = TENSOR_BF16, .dim_count = 3, .dims = {2, 2, 3}, .data = halves};
	const struct tensor_found found = {&weights, NULL, 1};
	static const uint16_t expected[] = {8, 0x4000, 9, 0x4040};
	uint16_t rows[4];
	assert_false(tensor_rows_plain(&found, ELEM_BF16));
	tensor_rows_read(&found, ELEM_BF16, 1, 2, rows);
	assert_memory_equal(rows, expected, sizeof(rows));
	static const uint16_t f16[1][2][1] = {{{0x3c00}, {0xc000}}};
	const struct tensor narrow = {.dtype = TENSOR_F16, .dim_count = 3, .dims = {1, 2, 1}, .data = f16};
	float wide[2];
	tensor_rows_read(&(struct tensor_found){&narrow, NULL, 0}, ELEM_F32, 0, 1, wide);
	assert_true(wide[0] == 1.0f && wide[1] == -2.0f);
}

static void plain_rows_are_what_they_are(void **state)
{
	static const uint16_t halves[] = {0x3f80, 0x4000, 0x4040, 0x4080};
	const struct tensor weights = {.dtype = TENSOR_BF16, .dim_count = 2, .dims = {2, 2}, .data = halves};
	const struct tensor_found found = {&weights, NULL, 0};
	uint16_t row[2];
	assert_true(tensor_rows_plain(&found, ELEM_BF16) && !tensor_rows_plain(&found, ELEM_F32));
	tensor_rows_read(&found, ELEM_BF16, 1, 1, row);
	assert_memory_equal(row, halves + 2, sizeof(row));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(eight_bit_weights_times_their_scales_are_rounded_as_torch_does),
		cmocka_unit_test(what_is_no_number_stays_none),
		cmocka_unit_test(four_bit_weights_times_their_powers_of_two_are_exact),
		cmocka_unit_test(a_scale_that_is_no_number_makes_none),
		cmocka_unit_test(rows_of_a_stack_are_columns_of_its_expert),
		cmocka_unit_test(plain_rows_are_what_they_are),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "model/safetensors.h"

struct file {
	uint8_t bytes[1024];
	size_t length;
};

/* 8 bytes of length, the header, and `data` bytes that count up. */
static struct file make(const char *header, size_t data)
{
	struct file file = {.length = 8 + strlen(header) + data};
	for (int i = 0; i < 8; i++)
		file.bytes[i] = (uint8_t)((uint64_t)strlen(header) >> (8 * i));
	memcpy(file.bytes + 8, header, strlen(header));
	for (size_t i = 0; i < data; i++)
		file.bytes[8 + strlen(header) + i] = (uint8_t)i;
	return file;
}

static const char two[] = "{\"__metadata__\":{\"format\":\"pt\"},"
			  "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[12,20]},"
			  "\"a\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[0,12]}}";

static void tensors_are_found_by_name_with_their_bytes(void **state)
{
	struct file file = make(two, 20);
	struct weights *weights;
	assert_int_equal(weights_parse(file.bytes, file.length, NULL, &weights), ERR_OK);
	assert_int_equal(weights_count(weights), 2);
	assert_string_equal(weights_at(weights, 0)->name, "a");
	const struct tensor *b = weights_find(weights, "b");
	assert_non_null(b);
	assert_int_equal(b->dtype, TENSOR_F32);
	assert_int_equal(b->dim_count, 1);
	assert_int_equal(b->bytes, 8);
	assert_int_equal(((const uint8_t *)b->data)[0], 12);
	assert_ptr_equal(b->data, file.bytes + b->shard_offset);
	assert_null(weights_find(weights, "c"));
	weights_close(weights);
}

static void wanted_tensor_of_another_shape_is_named_with_both(void **state)
{
	struct file file = make(two, 20);
	struct weights *weights;
	struct why why = {0};
	const struct tensor *tensor = NULL;
	assert_int_equal(weights_parse(file.bytes, file.length, NULL, &weights), ERR_OK);
	assert_int_equal(weights_want(weights, "a", TENSOR_BF16, 2, (uint64_t[]){2, 3}, &why, &tensor), ERR_OK);
	assert_ptr_equal(tensor, weights_find(weights, "a"));
	assert_int_equal(weights_want(weights, "a", TENSOR_BF16, 2, (uint64_t[]){3, 2}, &why, &tensor), ERR_MISMATCH);
	assert_string_equal(why.text, "memory: tensor a is BF16 [2, 3], expected BF16 [3, 2]");
	assert_int_equal(weights_want(weights, "a", TENSOR_F32, 2, (uint64_t[]){2, 3}, &why, &tensor), ERR_MISMATCH);
	assert_int_equal(weights_want(weights, "x", TENSOR_F32, 1, (uint64_t[]){2}, &why, &tensor), ERR_NOT_FOUND);
	assert_string_equal(why.text, "tensor x is missing, expected F32 [2]");
	weights_close(weights);
}

static void assert_refused(const char *header, size_t data, const char *words)
{
	struct file file = make(header, data);
	struct weights *weights;
	struct why why = {0};
	assert_int_not_equal(weights_parse(file.bytes, file.length, &why, &weights), ERR_OK);
	if (!strstr(why.text, words))
		print_error("\"%s\" lacks \"%s\"\n", why.text, words);
	assert_non_null(strstr(why.text, words));
}

static void headers_that_lie_are_refused(void **state)
{
	assert_refused("[]", 0, "expected an object");
	assert_refused("{\"a\":1}", 4, "tensor a: dtype");
	assert_refused("{\"a\":{\"dtype\":\"F31\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "dtype \"F31\" is unknown");
	assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 3, "outside");
	assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 8, "outside");
	assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 8, "outside");
	assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "has 4 bytes");
	assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "shape is wrong");
	assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]}}", 4,
		       "shape is wrong");
	assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4,
		       "shape is wrong");
	assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
		       "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[3,4]}}", 4, "a and b overlap");
}

static void header_length_is_checked_before_it_is_believed(void **state)
{
	struct weights *weights;
	uint8_t bytes[16] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	assert_int_equal(weights_parse(bytes, sizeof(bytes), NULL, &weights), ERR_CORRUPT);
	assert_int_equal(weights_parse(bytes, 7, NULL, &weights), ERR_CORRUPT);
	assert_int_equal(weights_parse(bytes, 0, NULL, &weights), ERR_CORRUPT);
}

static void every_cut_of_a_file_is_refused(void **state)
{
	struct file file = make(two, 20);
	for (size_t length = 0; length < file.length; length++) {
		struct weights *weights;
		uint8_t *copy = malloc(length ? length : 1); /* so that a read past the end is seen */
		memcpy(copy, file.bytes, length);
		assert_int_not_equal(weights_parse(copy, length, NULL, &weights), ERR_OK);
		free(copy);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tensors_are_found_by_name_with_their_bytes),
		cmocka_unit_test(wanted_tensor_of_another_shape_is_named_with_both),
		cmocka_unit_test(headers_that_lie_are_refused),
		cmocka_unit_test(header_length_is_checked_before_it_is_believed),
		cmocka_unit_test(every_cut_of_a_file_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

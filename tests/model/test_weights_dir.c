/* Directories of weights that are not what they say: every way in which files and their index can disagree. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model/safetensors.h"
#include "tests/scratch.h"

#define ONE(name) "{\"" name "\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}"

static char dir[64];

static void path_of(char path[128], const char *name)
{
	snprintf(path, 128, "%s/%s", dir, name);
}

static int setup(void **state)
{
	return scratch_folder(dir, sizeof(dir), "weights") ? 0 : -1;
}

static int teardown(void **state)
{
	static const char *const names[] = {"model.safetensors.index.json", "model.safetensors", "a", "b", "c", "d"};
	char path[128];
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		path_of(path, names[i]);
		if (unlink(path) != 0)
			rmdir(path);
	}
	return rmdir(dir);
}

static void put(const char *name, const void *data, size_t length)
{
	char path[128];
	path_of(path, name);
	FILE *file = fopen(path, "wb");
	assert_non_null(file);
	assert_int_equal(fwrite(data, 1, length, file), length);
	fclose(file);
}

/* The header, and 8 bytes of data. */
static void put_shard(const char *name, const char *header)
{
	uint8_t bytes[512] = {0};
	size_t length = strlen(header);
	for (int i = 0; i < 8; i++)
		bytes[i] = (uint8_t)((uint64_t)length >> 8 * i);
	memcpy(bytes + 8, header, length);
	put(name, bytes, 8 + length + 8);
}

static void put_index(const char *text)
{
	put("model.safetensors.index.json", text, strlen(text));
}

static void refused(enum err expected, const char *words)
{
	struct weights *weights = NULL;
	struct why why = {0};
	assert_int_equal(weights_open(dir, &why, &weights), expected);
	assert_null(weights);
	if (!strstr(why.text, words))
		fail_msg("\"%s\" lacks \"%s\"", why.text, words);
}

static void shards_are_opened_once_and_their_tensors_found(void **state)
{
	struct weights *weights;
	put_shard("a", "{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"y\":{\"dtype\":\"U8\",\"shape\":[],"
		       "\"data_offsets\":[4,5]},\"empty\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[4,4]}}");
	put_shard("b", ONE("z"));
	put_index("{\"metadata\":{},\"weight_map\":{\"x\":\"a\",\"z\":\"b\",\"y\":\"a\",\"empty\":\"a\"}}");
	assert_int_equal(weights_open(dir, NULL, &weights), ERR_OK);
	assert_int_equal(weights_count(weights), 4);
	assert_int_equal(weights_shard_count(weights), 2);
	assert_string_equal(weights_shard_name(weights, weights_find(weights, "z")->shard_index), "b");
	assert_int_equal(weights_find(weights, "y")->dim_count, 0);
	assert_int_equal(weights_find(weights, "empty")->bytes, 0);
	weights_close(weights);
	weights_close(NULL);
}

static void one_file_needs_no_index(void **state)
{
	struct weights *weights;
	refused(ERR_NOT_FOUND, "model.safetensors: No such file");
	put_shard("model.safetensors", "{}");
	assert_int_equal(weights_open(dir, NULL, &weights), ERR_OK);
	assert_int_equal(weights_count(weights), 0);
	assert_null(weights_find(weights, "x"));
	weights_close(weights);
}

static void a_file_that_is_none_is_refused(void **state)
{
	char path[128];
	put("model.safetensors", "1234567", 7);
	refused(ERR_CORRUPT, "model.safetensors: expected a safetensors file");
	path_of(path, "model.safetensors");
	unlink(path);
	assert_int_equal(mkdir(path, 0700), 0);
	refused(ERR_CORRUPT, "model.safetensors: expected a safetensors file");
	rmdir(path);
	assert_int_equal(symlink(path, path), 0);
	refused(ERR_IO, "model.safetensors: ");
}

static void an_index_that_is_none_is_refused(void **state)
{
	put_index("{");
	refused(ERR_INVALID, "model.safetensors.index.json: line 1");
	put_index("{}");
	refused(ERR_INVALID, "weight_map is missing, expected an object");
	put_index("{\"weight_map\":[]}");
	refused(ERR_INVALID, "weight_map is missing, expected an object");
	put_index("{\"weight_map\":{\"x\":1}}");
	refused(ERR_INVALID, "weight_map: x: expected a file name");
}

static void an_index_names_plain_files_of_its_directory(void **state)
{
	static const char *const names[] = {"../a", "/etc/passwd", "", ".hidden", ".."};
	char index[128];
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(index, sizeof(index), "{\"weight_map\":{\"x\":\"%s\"}}", names[i]);
		put_index(index);
		refused(ERR_INVALID, "is no plain file name");
	}
	put_index("{\"weight_map\":{\"x\":\"missing\"}}");
	refused(ERR_NOT_FOUND, "missing: No such file");
}

static void what_the_index_promises_is_what_the_shards_hold(void **state)
{
	put_shard("a", ONE("x"));
	put_shard("b", ONE("y"));
	put_index("{\"weight_map\":{\"x\":\"a\",\"y\":\"a\"}}");
	refused(ERR_CORRUPT, "tensor y is not in a");
	put_index("{\"weight_map\":{\"x\":\"b\",\"y\":\"a\"}}");
	refused(ERR_CORRUPT, "is not in");
	put_shard("c", "{\"z\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
		       "\"more\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}");
	put_index("{\"weight_map\":{\"x\":\"a\",\"z\":\"c\"}}");
	refused(ERR_CORRUPT, "c: tensor more is not in model.safetensors.index.json");
	put_shard("d", ONE("x"));
	put_index("{\"weight_map\":{\"x\":\"a\",\"w\":\"d\"}}");
	refused(ERR_CORRUPT, "tensor x is in both");
}

static void a_broken_shard_is_named(void **state)
{
	put_shard("a", ONE("x"));
	put_shard("b", "{\"y\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]}}");
	put_index("{\"weight_map\":{\"x\":\"a\",\"y\":\"b\",\"z\":\"a\"}}");
	refused(ERR_CORRUPT, "b: tensor y: data_offsets lie outside");
}

static void a_header_has_types_and_limits(void **state)
{
	char header[700] = "{\"";
	memset(header + 2, 'n', 513);
	strcpy(header + 515, "\":{}}");
	uint8_t bytes[800] = {(uint8_t)strlen(header), (uint8_t)(strlen(header) >> 8)};
	memcpy(bytes + 8, header, strlen(header));
	put("model.safetensors", bytes, 8 + strlen(header));
	refused(ERR_TOO_LARGE, "a tensor's name is over 512 bytes");
	static const char *const wrong[][2] = {
		{"{\"x\":{\"shape\":[1],\"data_offsets\":[0,4]}}", "dtype \"\" is unknown"},
		{"{\"x\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,4]}}", "dtype \"\" is unknown"},
		{"{\"x\":{\"dtype\":\"F32\",\"shape\":1,\"data_offsets\":[0,4]}}", "shape is wrong"},
		{"{\"x\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}", "shape is wrong"},
		{"{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", "data_offsets lie outside"},
		{"{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[\"0\",4]}}", "data_offsets lie outside"},
		{"{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4.5]}}", "data_offsets lie outside"},
		{"{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,-4]}}", "data_offsets lie outside"},
		{"{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"y\":{\"dtype\":\"F32\",\"shape\":[1],"
		 "\"data_offsets\":[0,4]}}", "overlap"},
		{"{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"y\":{\"dtype\":\"F32\",\"shape\":[1],"
		 "\"data_offsets\":[0,4]}}", "overlap"},
		{"{\"x\":[]}", "dtype \"\" is unknown"}, {"[7]", "expected an object"},
		{"{\"x\":1,\"x\":2}", "model.safetensors: line 1: duplicate"},
	};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct weights *weights;
		struct why why = {0};
		put_shard("model.safetensors", wrong[i][0]);
		assert_int_not_equal(weights_open(dir, &why, &weights), ERR_OK);
		if (!strstr(why.text, wrong[i][1]))
			fail_msg("%s: \"%s\" lacks \"%s\"", wrong[i][0], why.text, wrong[i][1]);
	}
}

static void a_wanted_tensor_has_its_number_of_sizes(void **state)
{
	struct weights *weights;
	struct why why = {0};
	const struct tensor *tensor;
	put_shard("model.safetensors", "{\"x\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]}}");
	assert_int_equal(weights_open(dir, NULL, &weights), ERR_OK);
	assert_int_equal(weights_want(weights, "x", TENSOR_F32, 1, (uint64_t[]){1}, &why, &tensor), ERR_MISMATCH);
	assert_string_equal(why.text, "model.safetensors: tensor x is F32 [1, 2], expected F32 [1]");
	uint64_t large[8];
	for (int i = 0; i < 8; i++)
		large[i] = UINT64_MAX; /* longer than the reason has room for */
	assert_int_equal(weights_want(weights, "x", TENSOR_F32, 8, large, &why, &tensor), ERR_MISMATCH);
	assert_non_null(strstr(why.text, "expected F32 [18446744073709551615, "));
	weights_close(weights);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(shards_are_opened_once_and_their_tensors_found),
		T(one_file_needs_no_index),
		T(a_file_that_is_none_is_refused),
		T(an_index_that_is_none_is_refused),
		T(an_index_names_plain_files_of_its_directory),
		T(what_the_index_promises_is_what_the_shards_hold),
		T(a_broken_shard_is_named),
		T(a_header_has_types_and_limits),
		T(a_wanted_tensor_has_its_number_of_sizes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

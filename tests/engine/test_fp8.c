#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/weights.h"
#include "kernels/device.h"
#include "model/model_dir.h"
#include "tests/engine/driver.h"
#include "tests/scratch.h"

/* Models published in FP8 and computed in it say what torch says (tests/golden/fp8/models.py): to parts of 10^4, but where another
 * order of a sum turned the rounding of an input, which a hundredth of the difference that rounding inputs makes at all bounds. */

enum { TOKENS_MAX = 64, BLOCK_TOKENS = 16, NUMBERS_MAX = 512 };
#define TOLERANCE   1e-4
#define WORST_PARTS 100

struct comparison {
	struct driver driver;
	json_t *golden;
	double apart[NUMBERS_MAX]; /* of each number compared */
	uint32_t count;
};

static void open_model(struct driver *driver, const char *name, const char *quantization)
{
	char path[128];
	snprintf(path, sizeof(path), "tests/golden/fp8/%s", name);
	const struct driver_options options = {.path = path, .isa = driver_isa_of_f32_rows(), .thread_count = 2,
					       .block_tokens = BLOCK_TOKENS, .batch_tokens_max = TOKENS_MAX,
					       .block_count = TOKENS_MAX / BLOCK_TOKENS, .quantization = quantization};
	driver_open(driver, &options);
}

/* The sample behind the last token. */
static const struct sample *step(struct comparison *c, struct stream *stream)
{
	static struct plan plan;
	memset(&plan, 0, sizeof(plan));
	plan_add(&plan, stream, TOKENS_MAX);
	driver_step(&c->driver, &plan);
	return &c->driver.samples[0];
}

static void compare(struct comparison *c, const char *name, const char *quantization)
{
	char path[128];
	uint32_t prompt[TOKENS_MAX];
	const char *position;
	json_t *logprobs;
	struct stream stream;
	snprintf(path, sizeof(path), "tests/golden/fp8/%s/golden.json", name);
	memset(c, 0, sizeof(*c));
	c->golden = json_load_file(path, 0, NULL);
	assert_non_null(c->golden);
	const json_t *list = json_object_get(c->golden, "prompt");
	for (uint32_t i = 0; i < json_array_size(list); i++)
		prompt[i] = (uint32_t)json_integer_value(json_array_get(list, i));
	open_model(&c->driver, name, quantization);
	stream_open(&stream, &c->driver, prompt, 1, (uint32_t)json_array_size(list));
	stream.sampling.logprobs = SAMPLING_TOP_LOGPROBS_MAX;
	json_object_foreach(json_object_get(c->golden, "logprobs"), position, logprobs) {
		while (stream.sequence.token_count <= (uint32_t)atoi(position))
			stream_append(&stream, prompt[stream.sequence.token_count]);
		const struct sample *sample = step(c, &stream);
		assert_int_equal(sample->top_count, SAMPLING_TOP_LOGPROBS_MAX);
		for (uint32_t i = 0; i < sample->top_count; i++)
			c->apart[c->count++] = fabs((double)sample->top[i].logprob -
						    json_real_value(json_array_get(logprobs, sample->top[i].token)));
	}
	assert_true(c->count > 0 && c->count <= NUMBERS_MAX);
	stream_close(&stream, &c->driver);
	driver_close(&c->driver);
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static void answers_are_those_of_torch(void **state)
{
	static const char *const names[] = {"qwen3", "deepseek-v3"};
	static struct comparison c;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		compare(&c, names[i], "fp8");
		double apart = json_real_value(json_object_get(c.golden, "apart"));
		qsort(c.apart, c.count, sizeof(c.apart[0]), by_size);
		double median = c.apart[c.count / 2], worst = c.apart[c.count - 1];
		print_message("%s: log-probabilities differ by %.2g in the middle (allowed %.2g), at most %.2g (allowed %.2g)\n",
			      names[i], median, TOLERANCE, worst, apart / WORST_PARTS);
		assert_true(median <= TOLERANCE && worst <= apart / WORST_PARTS);
		json_decref(c.golden);
		/* The other way of serving it is another answer. */
		compare(&c, names[i], NULL);
		qsort(c.apart, c.count, sizeof(c.apart[0]), by_size);
		assert_true(c.apart[c.count / 2] > 10 * TOLERANCE);
		json_decref(c.golden);
	}
}

static uint64_t bytes_of_weights(const struct driver *driver)
{
	const struct device_options options = {.kind = DEVICE_CPU, .thread_count = 1};
	struct device *device;
	struct engine_weights *weights;
	assert_int_equal(device_open(&options, NULL, &device), ERR_OK);
	assert_int_equal(engine_weights_create(&(struct ranks){1, {device}}, &driver->model->config, driver->model->weights, NULL, NULL, &weights), ERR_OK);
	uint64_t bytes = engine_weights_bytes(weights);
	engine_weights_destroy(weights);
	device_close(device);
	return bytes;
}

/* In the class, and in memory. */
static void weights_stay_as_they_are(void **state)
{
	struct driver kept, widened;
	open_model(&kept, "qwen3", "fp8");
	open_model(&widened, "qwen3", "none");
	assert_non_null(strstr(engine_numerics_class(kept.engine), "/weights-fp8e4m3b128/kv-bf16"));
	assert_non_null(strstr(engine_numerics_class(widened.engine), "/weights-bf16/kv-bf16"));
	uint64_t bytes = bytes_of_weights(&kept), wide = bytes_of_weights(&widened);
	uint64_t head = 2 * 258 * 144 * 2; /* head and embedding are bf16 in both */
	assert_true(bytes - head > (wide - head) / 2 && bytes - head < (wide - head) * 11 / 20);
	driver_close(&kept);
	driver_close(&widened);
}

static void what_is_not_published_in_it_is_refused(void **state)
{
	struct model_dir *dir;
	struct why why = {""};
	const struct model_dir_options fp8 = {.quantization = "fp8"}, other = {.quantization = "awq"};
	assert_int_equal(model_dir_open("tests/golden/families/qwen3", &fp8, &why, &dir), ERR_UNSUPPORTED);
	assert_non_null(strstr(why.text, "quantization fp8: the model is not published in it"));
	assert_int_equal(model_dir_open("tests/golden/fp8/qwen3", &other, &why, &dir), ERR_INVALID);
	assert_non_null(strstr(why.text, "quantization awq: expected none or fp8"));
}

/* What a rank sums is whole groups. */
static void groups_are_not_cut_between_ranks(void **state)
{
	const struct device_options options = {.kind = DEVICE_CPU, .thread_count = 1};
	struct driver driver;
	struct device *device;
	struct engine_weights *weights[4];
	struct why why = {""};
	open_model(&driver, "deepseek-v3", "fp8");
	assert_int_equal(device_open(&options, NULL, &device), ERR_OK);
	const struct ranks ranks = {4, {device, device, device, device}};
	assert_int_equal(engine_weights_create(&ranks, &driver.model->config, driver.model->weights, NULL, &why, weights), ERR_UNSUPPORTED);
	assert_non_null(strstr(why.text, "o_proj.weight: 192 inputs of 8 bits are summed in 1 segments, which 4 ranks cannot share"));
	device_close(device);
	driver_close(&driver);
}

/* --- numbers that are none ----------------------------------------------------------------------------- */

/* A copy of the model in a folder of its own, with two bytes of a tensor of all ones; the caller's to remove. */
static void spoil(const char *folder, const char *tensor, uint32_t at)
{
	static uint8_t file[1 << 20];
	char path[256], command[512];
	snprintf(command, sizeof(command), "cp tests/golden/fp8/qwen3/*.json %s", folder);
	assert_int_equal(system(command), 0);
	FILE *from = fopen("tests/golden/fp8/qwen3/model.safetensors", "rb");
	size_t length = fread(file, 1, sizeof(file), from);
	uint64_t header;
	fclose(from);
	assert_true(length < sizeof(file));
	memcpy(&header, file, sizeof(header));
	json_t *list = json_loadb((const char *)file + 8, header, 0, NULL);
	const json_t *offsets = json_object_get(json_object_get(list, tensor), "data_offsets");
	memset(file + 8 + header + json_integer_value(json_array_get(offsets, 0)) + at, 0xff, 2);
	json_decref(list);
	snprintf(path, sizeof(path), "%s/model.safetensors", folder);
	FILE *to = fopen(path, "wb");
	assert_int_equal(fwrite(file, 1, length, to), length);
	fclose(to);
}

static void assert_refused(const char *tensor, uint32_t at, const char *words)
{
	char folder[64], command[128];
	const struct device_options options = {.kind = DEVICE_CPU, .thread_count = 1};
	const struct model_dir_options fp8 = {.quantization = "fp8"};
	struct why why = {""};
	struct model_dir *dir;
	struct device *device;
	struct engine_weights *weights;
	assert_non_null(scratch_folder(folder, sizeof(folder), "fp8"));
	spoil(folder, tensor, at);
	assert_int_equal(device_open(&options, NULL, &device), ERR_OK);
	assert_int_equal(model_dir_open(folder, &fp8, &why, &dir), ERR_OK);
	assert_int_equal(engine_weights_create(&(struct ranks){1, {device}}, &dir->config, dir->weights, NULL, &why, &weights), ERR_INVALID);
	if (!strstr(why.text, words))
		fail_msg("\"%s\" lacks \"%s\"", why.text, words);
	model_dir_close(dir);
	device_close(device);
	snprintf(command, sizeof(command), "rm -r %s", folder);
	assert_int_equal(system(command), 0);
}

static void what_is_no_number_is_refused(void **state)
{
	assert_refused("model.layers.1.mlp.up_proj.weight", 144 * 7 + 5,
		       "model.layers.1.mlp.up_proj.weight: row 7 has a weight that is no number");
	assert_refused("model.layers.0.self_attn.k_proj.weight_scale_inv", 2, "k_proj.weight_scale_inv: a scale of rows 0 to 47 is no number");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_are_those_of_torch),
		cmocka_unit_test(weights_stay_as_they_are),
		cmocka_unit_test(what_is_not_published_in_it_is_refused),
		cmocka_unit_test(what_is_no_number_is_refused),
		cmocka_unit_test(groups_are_not_cut_between_ranks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

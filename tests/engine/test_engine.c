#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "engine/weights.h"
#include "kernels/device.h"
#include "model/model_dir.h"
#include "tests/engine/driver.h"

enum { BLOCK_TOKENS = 16, BATCH = 64 };

#define MODEL "tests/golden/engine/llama-tied"

static void open_model(struct driver *driver)
{
	const struct driver_options options = {.path = MODEL, .thread_count = 1, .block_tokens = BLOCK_TOKENS,
					       .batch_tokens_max = BATCH, .block_count = 32};
	driver_open(driver, &options);
}

static const uint32_t prompt[] = {5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24};
enum { PROMPT = sizeof(prompt) / sizeof(prompt[0]) };

static void kv_lies_as_the_geometry_says(void **state)
{
	struct driver driver;
	open_model(&driver);
	/* 2 layers x 2 kv heads x (k, v) x 16 tokens x 16 numbers of bf16 */
	assert_int_equal(driver.geometry[0].layer_count, 2);
	assert_int_equal(driver.geometry[0].block_tokens, BLOCK_TOKENS);
	assert_int_equal(driver.geometry[0].layer_bytes, 2 * 2 * 16 * 16 * 2);
	assert_int_equal(driver.geometry[0].block_bytes, 2 * driver.geometry[0].layer_bytes);
	driver_close(&driver);
}

/* Token slots not yet filled are zero, so that a partial block has a digest. */
static void the_first_token_of_a_block_zeroes_the_rest(void **state)
{
	struct driver driver;
	struct stream stream;
	struct rng rng = {.seed = 1};
	open_model(&driver);
	driver_shuffle(&driver, &rng);
	stream_open(&stream, &driver, prompt, PROMPT, PROMPT);
	struct plan plan = {0};
	plan_add(&plan, &stream, PROMPT);
	driver_step(&driver, &plan);
	/* PROMPT = 16 + 4: four slots of the second block are filled. */
	const uint8_t *block = driver_block(&driver, stream.sequence.tables[0].blocks[1]);
	size_t token_bytes = 16 * 2;
	for (size_t row = 0; row < driver.geometry[0].block_bytes / token_bytes; row++) {
		bool zero = true;
		for (size_t i = 0; i < token_bytes; i++)
			zero = zero && block[row * token_bytes + i] == 0;
		assert_int_equal(zero, row % BLOCK_TOKENS >= 4);
	}
	stream_close(&stream, &driver);
	driver_close(&driver);
}

static void a_token_beyond_the_vocabulary_is_refused(void **state)
{
	struct driver driver;
	struct stream stream;
	open_model(&driver);
	stream_open(&stream, &driver, prompt, PROMPT, PROMPT);
	stream.sequence.tokens[3] = 258;
	struct plan plan = {0};
	plan_add(&plan, &stream, PROMPT);
	assert_int_equal(engine_submit(driver.engine, &plan), ERR_INVALID);
	stream.sequence.tokens[3] = 257;
	driver_step(&driver, &plan);
	stream_close(&stream, &driver);
	driver_close(&driver);
}

static void every_choice_of_a_prompt_gets_its_own_token(void **state)
{
	struct driver driver;
	struct stream stream;
	open_model(&driver);
	stream_open(&stream, &driver, prompt, PROMPT, PROMPT);
	stream.sampling.temperature = 1;
	stream.sampling.seed = 3;
	struct sample together[8];
	struct plan plan = {0};
	stream.sequence.choice_count = 8;
	for (uint16_t i = 0; i < 8; i++)
		stream.sequence.choices[i] = i;
	plan_add(&plan, &stream, PROMPT);
	assert_int_equal(plan.sample_count, 8);
	driver_step(&driver, &plan);
	memcpy(together, driver.samples, sizeof(together));
	bool differ = false;
	for (uint16_t i = 0; i < 8; i++) {
		memset(&plan, 0, sizeof(plan));
		stream.sequence.computed = 0;
		stream.sequence.choice_count = 1;
		stream.sequence.choices[0] = i;
		plan_add(&plan, &stream, PROMPT);
		driver_step(&driver, &plan);
		assert_memory_equal(&driver.samples[0], &together[i], sizeof(together[i]));
		differ = differ || together[i].token != together[0].token;
	}
	assert_true(differ);
	stream_close(&stream, &driver);
	driver_close(&driver);
}

/* An engine with callbacks that hold the step until the test lets it go. */
struct gate {
	pthread_mutex_t lock;
	pthread_cond_t turn;
	bool open;
	int steps;
};

static void gate_layer(void *context, const struct plan *plan, uint32_t layer)
{
	struct gate *gate = context;
	pthread_mutex_lock(&gate->lock);
	while (!gate->open)
		pthread_cond_wait(&gate->turn, &gate->lock);
	pthread_mutex_unlock(&gate->lock);
}

static void gate_step(void *context, const struct plan *plan, const struct sample *samples, enum err e)
{
	struct gate *gate = context;
	gate->steps += e == ERR_OK;
}

static void one_step_at_a_time_and_destroy_waits_for_it(void **state)
{
	struct driver driver;
	struct stream stream;
	struct engine *engine;
	struct gate gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .turn = PTHREAD_COND_INITIALIZER};
	open_model(&driver);
	const struct engine_options options = {.model = driver.model, .thread_count = 2, .block_tokens = BLOCK_TOKENS,
					       .batch_tokens_max = BATCH,
					       .callbacks = {&gate, gate_layer, gate_step}};
	assert_int_equal(engine_create(&options, NULL, &engine), ERR_OK);
	assert_int_equal(engine_set_kv(engine, 0, driver.memory[0], 32), ERR_OK);
	stream_open(&stream, &driver, prompt, PROMPT, PROMPT);
	struct plan plan = {0};
	plan_add(&plan, &stream, PROMPT);
	assert_int_equal(engine_submit(engine, &plan), ERR_OK);
	assert_int_equal(engine_submit(engine, &plan), ERR_BUSY);
	pthread_mutex_lock(&gate.lock);
	gate.open = true;
	pthread_cond_signal(&gate.turn);
	pthread_mutex_unlock(&gate.lock);
	engine_destroy(engine);
	assert_int_equal(gate.steps, 1);
	stream_close(&stream, &driver);
	driver_close(&driver);
}

static void an_unknown_instruction_set_is_refused_by_name(void **state)
{
	struct why why;
	struct model_dir *dir;
	struct engine *engine;
	struct gate gate;
	assert_int_equal(model_dir_open(MODEL, &(struct model_dir_options){false}, &why, &dir), ERR_OK);
	const struct engine_options options = {.model = dir, .isa = "abacus", .block_tokens = BLOCK_TOKENS,
					       .batch_tokens_max = BATCH,
					       .callbacks = {&gate, NULL, gate_step}};
	assert_int_equal(engine_create(&options, &why, &engine), ERR_UNSUPPORTED);
	assert_non_null(strstr(why.text, "abacus"));
	model_dir_close(dir);
}

/* The weights against a config that is not theirs. */
static void refuse(void (*change)(struct model_config *), enum err expected, const char *named)
{
	struct why why = {""};
	struct model_dir *dir;
	struct device *device;
	struct engine_weights *weights;
	const struct device_options options = {.kind = DEVICE_CPU, .thread_count = 1};
	assert_int_equal(model_dir_open(MODEL, &(struct model_dir_options){false}, &why, &dir), ERR_OK);
	assert_int_equal(device_open(&options, &why, &device), ERR_OK);
	struct model_config config = dir->config;
	change(&config);
	assert_int_equal(engine_weights_create(device, &config, dir->weights, NULL, &why, &weights), expected);
	if (!strstr(why.text, named))
		fail_msg("\"%s\" does not name %s", why.text, named);
	device_close(device);
	model_dir_close(dir);
}

static void one_layer_more(struct model_config *config)
{
	config->groups[0].layer_count = ++config->layer_count;
}

static void one_layer_less(struct model_config *config)
{
	config->groups[0].layer_count = --config->layer_count;
}

static void wider_mlp(struct model_config *config)
{
	config->intermediate_size += 8;
}

static void f32(struct model_config *config)
{
	config->dtype = MODEL_F32;
}

static void biases(struct model_config *config)
{
	config->qkv_bias = true;
}

static void latent(struct model_config *config)
{
	config->attention = MODEL_ATTENTION_LATENT;
	config->latent = (struct model_latent){.kv_lora_rank = 24, .qk_rope_head_dim = 16};
}

static void tensors_that_do_not_fit_the_config_are_named(void **state)
{
	refuse(one_layer_more, ERR_NOT_FOUND, "model.layers.2.");
	refuse(one_layer_less, ERR_MISMATCH, "model.layers.1.");
	refuse(wider_mlp, ERR_MISMATCH, "model.layers.0.mlp.");
	refuse(f32, ERR_MISMATCH, "model.embed_tokens.weight");
	refuse(biases, ERR_NOT_FOUND, "model.layers.0.self_attn.q_proj.bias");
	refuse(latent, ERR_UNSUPPORTED, "kv_lora_rank 24");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kv_lies_as_the_geometry_says),
		cmocka_unit_test(the_first_token_of_a_block_zeroes_the_rest),
		cmocka_unit_test(a_token_beyond_the_vocabulary_is_refused),
		cmocka_unit_test(every_choice_of_a_prompt_gets_its_own_token),
		cmocka_unit_test(one_step_at_a_time_and_destroy_waits_for_it),
		cmocka_unit_test(an_unknown_instruction_set_is_refused_by_name),
		cmocka_unit_test(tensors_that_do_not_fit_the_config_are_named),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "kvstore/prefix.h"
#include "tests/engine/driver.h"

/* Layers with a window need no more than the window: a sequence whose other blocks are given back while it runs, and given
 * to whoever writes NaNs, says what one says that keeps them all. */

enum { PROMPT = 290, NEW = 14, TOKENS = PROMPT + NEW, BLOCK_TOKENS = 16, BLOCKS = (TOKENS + BLOCK_TOKENS - 1) / BLOCK_TOKENS };

/* GPT-OSS has sinks, Mistral no layer that sees all, Gemma 3 a window that is passed while it answers. */
static const struct { const char *name; uint32_t window; } models[] = {
	{"gemma2", 70}, {"gpt-oss", 70}, {"mistral", 100}, {"gemma3", 290}};
enum { MODELS = sizeof(models) / sizeof(models[0]) };
static const uint32_t chunks[] = {16, 64, 256};

static void open_model(struct driver *driver, int m)
{
	char path[128];
	snprintf(path, sizeof(path), "tests/golden/families/%s", models[m].name);
	const struct driver_options options = {.path = path, .thread_count = 2, .block_tokens = BLOCK_TOKENS,
					       .batch_tokens_max = 512, .block_count = 2 * BLOCKS};
	driver_open(driver, &options);
	uint32_t windowed = 0;
	for (uint32_t g = 0; g < driver->group_count; g++)
		windowed += driver->geometry[g].window == models[m].window;
	assert_int_equal(windowed, 1);
}

static void open_stream(struct stream *stream, struct driver *driver)
{
	uint32_t prompt[PROMPT];
	struct rng rng = {.seed = 77};
	for (uint32_t i = 0; i < PROMPT; i++)
		prompt[i] = 2 + (uint32_t)rng_below(&rng, 250);
	stream_open(stream, driver, prompt, PROMPT, TOKENS);
	stream->sampling.temperature = 0.7f;
}

static void spoil_free_blocks(struct driver *driver)
{
	for (uint32_t g = 0; g < driver->group_count; g++)
		for (uint32_t i = 0; i < driver->free_count[g]; i++)
			memset(driver_block(driver, driver->free[g][i]), 0xff, driver->geometry[g].block_bytes);
}

/* The bound that a node reserves by (kvstore/local.h, kv_group_span). */
static void check_held(const struct driver *driver, const struct stream *stream, uint32_t count)
{
	for (uint32_t g = 0; g < driver->group_count; g++) {
		const struct sequence_table *table = &stream->sequence.tables[g];
		uint32_t keep = kv_keep(driver->geometry[g].window, BLOCK_TOKENS), computed = stream->sequence.computed;
		uint32_t held = (computed + count + BLOCK_TOKENS - 1) / BLOCK_TOKENS - table->first;
		if (keep == KV_KEEP_ALL)
			assert_int_equal(table->first, 0);
		else
			assert_true(held <= keep + (count + BLOCK_TOKENS - 1) / BLOCK_TOKENS);
		if (computed % BLOCK_TOKENS == 0)
			assert_int_equal(table->first, kv_keep_first(keep, computed / BLOCK_TOKENS));
		for (uint32_t i = 0; i < table->first; i++)
			assert_int_equal(table->blocks[i], KV_BLOCK_NONE);
	}
}

static void run(struct driver *driver, struct stream *stream, uint32_t chunk, bool narrow, struct sample *samples)
{
	static struct plan plan;
	while (stream->sequence.computed < TOKENS - 1) {
		uint32_t left = stream->sequence.token_count - stream->sequence.computed;
		memset(&plan, 0, sizeof(plan));
		if (narrow) {
			stream_release(stream, driver);
			spoil_free_blocks(driver);
			check_held(driver, stream, left < chunk ? left : chunk);
		}
		plan_add(&plan, stream, chunk);
		driver_step(driver, &plan);
		if (plan.sample_count == 0)
			continue;
		samples[stream->sequence.token_count - PROMPT] = driver->samples[0];
		stream_append(stream, driver->samples[0].token);
	}
}

static void what_a_window_has_passed_is_not_missed(void **state)
{
	for (int m = 0; m < MODELS; m++) {
		struct driver driver;
		struct stream stream;
		struct sample expected[NEW], samples[NEW];
		open_model(&driver, m);
		for (size_t c = 0; c < sizeof(chunks) / sizeof(chunks[0]); c++)
			for (int narrow = 0; narrow < 2; narrow++) {
				memset(samples, 0, sizeof(samples));
				open_stream(&stream, &driver);
				run(&driver, &stream, chunks[c], narrow, samples);
				stream_close(&stream, &driver);
				if (c == 0 && !narrow)
					memcpy(expected, samples, sizeof(samples));
				assert_memory_equal(samples, expected, sizeof(samples));
			}
		driver_close(&driver);
	}
}

/* From another sequence's blocks, of a windowed group no more than what the next token sees. */
static void go_on(struct driver *driver, const struct stream *from, uint32_t blocks, uint32_t chunk, struct sample *samples)
{
	struct stream stream;
	open_stream(&stream, driver);
	stream.sequence.computed = blocks * BLOCK_TOKENS;
	stream_release(&stream, driver);
	for (uint32_t g = 0; g < driver->group_count; g++)
		for (uint32_t i = stream.sequence.tables[g].first; i < blocks; i++)
			memcpy(driver_block(driver, stream.sequence.tables[g].blocks[i]),
			       driver_block(driver, from->sequence.tables[g].blocks[i]), driver->geometry[g].block_bytes);
	run(driver, &stream, chunk, true, samples);
	stream_close(&stream, driver);
}

static void every_boundary_is_one_to_go_on_from(void **state)
{
	for (int m = 0; m < MODELS; m++) {
		struct driver driver;
		struct stream whole;
		struct sample expected[NEW] = {0}, samples[NEW];
		open_model(&driver, m);
		open_stream(&whole, &driver);
		run(&driver, &whole, 256, false, expected);
		for (uint32_t blocks = 1; blocks <= PROMPT / BLOCK_TOKENS; blocks++)
			for (size_t c = 0; c < sizeof(chunks) / sizeof(chunks[0]); c++) {
				memset(samples, 0, sizeof(samples));
				go_on(&driver, &whole, blocks, chunks[c], samples);
				assert_memory_equal(samples, expected, sizeof(samples));
			}
		stream_close(&whole, &driver);
		driver_close(&driver);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_a_window_has_passed_is_not_missed),
		cmocka_unit_test(every_boundary_is_one_to_go_on_from),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

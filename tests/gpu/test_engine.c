/* The engine on the device: law 1 over chunks and company, and the blocks' way between the host's memory and the device's.
 * tests/engine/driver.c opens it as "cuda". */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "base/digest.h"
#include "tests/engine/driver.h"

enum { PROMPT = 37, ANSWER = 6, BLOCK_TOKENS = 16 };

static const char *const models[] = {"tests/golden/engine/llama-tied", "tests/golden/engine/qwen3-moe",
				     "tests/golden/engine/llama-f32", "tests/golden/families/gemma3",
				     "tests/golden/families/gpt-oss", "tests/golden/families/deepseek-v3",
				     "tests/golden/fp8/qwen3",		"tests/golden/fp8/deepseek-v3"};
enum { MODELS = sizeof(models) / sizeof(*models) };

struct answer {
	uint32_t tokens[ANSWER];
	float logprobs[ANSWER];
};

static void open_model(struct driver *driver, const char *path)
{
	const struct driver_options options = {.path = path, .thread_count = 1, .block_tokens = BLOCK_TOKENS,
					       .batch_tokens_max = 64, .block_count = 24,
					       .quantization = strstr(path, "fp8") ? "fp8" : NULL};
	driver_open(driver, &options);
}

static void make_prompt(uint32_t tokens[PROMPT], uint32_t seed)
{
	for (uint32_t i = 0; i < PROMPT; i++)
		tokens[i] = (i * 31 + seed * 7) % 200 + 20;
}

/* The host sees what was digested: of each block with tokens from `first` on, whole. */
static void check_digests(const struct driver *driver, const struct stream *stream, uint32_t first)
{
	for (uint32_t g = 0; g < driver->group_count; g++)
		for (uint32_t i = first / BLOCK_TOKENS; i * BLOCK_TOKENS < stream->sequence.computed; i++)
			for (uint32_t layer = 0; layer < driver->geometry[g].layer_count; layer++) {
				uint32_t block = stream->sequence.tables[g].blocks[i], bytes = driver->geometry[g].layer_bytes;
				assert_true(digest_of(driver_block(driver, block) + layer * bytes, bytes) ==
					    engine_block_digest(driver->engine, block, layer));
			}
}

/* Greedy, the prompt in chunks, beside `other` if there is one; decode steps are digested or not. */
static struct answer generate(struct driver *driver, struct stream *stream, struct stream *other, uint32_t chunk, bool digest)
{
	struct answer answer = {0};
	uint32_t count = 0, first = stream->sequence.computed;
	while (count < ANSWER) {
		struct plan plan = {0};
		if (other)
			plan_add(&plan, other, 3);
		uint32_t at = plan.sample_count, runs = plan.run_count;
		plan_add(&plan, stream, chunk);
		bool samples = plan.sample_count > at;
		for (uint32_t i = 0; i < plan.run_count; i++)
			plan.runs[i].digest = digest;
		driver_step(driver, &plan);
		assert_true(plan.run_count == runs + 1);
		if (!samples)
			continue;
		answer.tokens[count] = driver->samples[at].token;
		answer.logprobs[count++] = driver->samples[at].logprob;
		stream_append(stream, answer.tokens[count - 1]);
	}
	if (digest)
		check_digests(driver, stream, first);
	return answer;
}

static void an_answer_does_not_depend_on_chunks_or_company(void **state)
{
	uint32_t prompt[PROMPT], others[PROMPT];
	make_prompt(prompt, 1);
	make_prompt(others, 2);
	for (int m = 0; m < MODELS; m++) {
		struct driver driver;
		struct stream stream, other;
		open_model(&driver, models[m]);
		stream_open(&stream, &driver, prompt, PROMPT, PROMPT + ANSWER);
		struct answer whole = generate(&driver, &stream, NULL, 64, true);
		stream_close(&stream, &driver);
		stream_open(&stream, &driver, prompt, PROMPT, PROMPT + ANSWER);
		struct answer chunked = generate(&driver, &stream, NULL, 7, false);
		stream_close(&stream, &driver);
		stream_open(&other, &driver, others, PROMPT, PROMPT);
		stream_open(&stream, &driver, prompt, PROMPT, PROMPT + ANSWER);
		struct answer beside = generate(&driver, &stream, &other, 11, true);
		assert_memory_equal(&chunked, &whole, sizeof(whole));
		assert_memory_equal(&beside, &whole, sizeof(whole));
		print_message("           %s: class %s\n", models[m], engine_numerics_class(driver.engine));
		stream_close(&stream, &driver);
		stream_close(&other, &driver);
		driver_close(&driver);
	}
}

/* One engine computes a prompt; its blocks are read by another, which goes on with the very next token.  Then one that got copies
 * of blocks goes on the same way, the second time without having digested since. */
static void blocks_may_be_handed_over_and_copied(void **state)
{
	uint32_t prompt[PROMPT];
	make_prompt(prompt, 3);
	for (int m = 0; m < MODELS; m++) {
		struct driver from, to;
		struct stream stream, next, copy;
		open_model(&from, models[m]);
		open_model(&to, models[m]);
		stream_open(&stream, &from, prompt, PROMPT, PROMPT + 2 * ANSWER);
		struct plan plan = {0};
		plan_add(&plan, &stream, PROMPT);
		plan.runs[0].sample_count = plan.sample_count = 0;
		driver_step(&from, &plan);
		stream.sequence.computed = PROMPT - 1; /* the last token is computed where the answer is */
		stream_open(&next, &to, prompt, PROMPT, PROMPT + 2 * ANSWER);
		stream_open(&copy, &to, prompt, PROMPT, PROMPT + 2 * ANSWER);
		for (uint32_t g = 0; g < to.group_count; g++)
			for (uint32_t i = 0; i * BLOCK_TOKENS < PROMPT; i++) {
				uint32_t block = next.sequence.tables[g].blocks[i];
				engine_block_landing(to.engine, block);
				memcpy(driver_block(&to, block), driver_block(&from, stream.sequence.tables[g].blocks[i]),
				       to.geometry[g].block_bytes);
				engine_block_copy(to.engine, block, copy.sequence.tables[g].blocks[i]);
			}
		next.sequence.computed = copy.sequence.computed = PROMPT - 1;
		struct answer expected = generate(&from, &stream, NULL, 64, false);
		struct answer handed = generate(&to, &next, NULL, 64, false), copied = generate(&to, &copy, NULL, 64, false);
		assert_memory_equal(&handed, &expected, sizeof(expected));
		assert_memory_equal(&copied, &expected, sizeof(expected));
		/* What no digest vouches for is copied too. */
		struct stream fork;
		stream_open(&fork, &to, next.sequence.tokens, PROMPT + ANSWER, PROMPT + 2 * ANSWER);
		for (uint32_t g = 0; g < to.group_count; g++)
			for (uint32_t i = 0; i * BLOCK_TOKENS < PROMPT + ANSWER; i++)
				engine_block_copy(to.engine, next.sequence.tables[g].blocks[i], fork.sequence.tables[g].blocks[i]);
		fork.sequence.computed = next.sequence.computed;
		expected = generate(&to, &next, NULL, 64, false);
		copied = generate(&to, &fork, NULL, 64, true);
		assert_memory_equal(&copied, &expected, sizeof(expected));
		stream_close(&fork, &to);
		stream_close(&copy, &to);
		stream_close(&next, &to);
		stream_close(&stream, &from);
		driver_close(&to);
		driver_close(&from);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_answer_does_not_depend_on_chunks_or_company),
		cmocka_unit_test(blocks_may_be_handed_over_and_copied),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The engine on the device: law 1 over chunks and company, and the blocks' way between the host's memory and the device's.
 * tests/engine/driver.c opens it as "cuda". */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include <unistd.h>

#include "base/digest.h"
#include "engine/experts_local.h"
#include "engine/forward.h"
#include "engine/kv_neighbour.h"
#include "engine/kv_ranks.h"
#include "engine/ranks.h"
#include "engine/weights.h"
#include "fake.h"
#include "kernels/device.h"
#include "model/model_dir.h"
#include "tests/engine/driver.h"

enum { PROMPT = 37, ANSWER = 4, BLOCK_TOKENS = 16, BLOCKS = 24 };

static const char *const models[] = {"tests/golden/engine/llama-tied", "tests/golden/engine/qwen3-moe",
				     "tests/golden/engine/llama-f32", "tests/golden/families/gemma3",
				     "tests/golden/families/gpt-oss", "tests/golden/families/deepseek-v3",
				     "tests/golden/fp8/qwen3",		"tests/golden/fp8/deepseek-v3"};
enum { MODELS = sizeof(models) / sizeof(*models) };

struct answer {
	uint32_t tokens[ANSWER];
	float logprobs[ANSWER];
};

static void open_ranks(struct driver *driver, const char *path, uint32_t degree, uint32_t segments)
{
	const struct driver_options options = {.path = path, .thread_count = 1, .block_tokens = BLOCK_TOKENS,
					       .batch_tokens_max = 64, .block_count = BLOCKS, .tensor_parallel_size = degree,
					       .row_segments = segments, .quantization = strstr(path, "fp8") ? "fp8" : NULL};
	driver_open(driver, &options);
}

static void open_model(struct driver *driver, const char *path)
{
	open_ranks(driver, path, 1, 1);
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

/* Greedy or, if it is asked, drawn by all rules; the prompt in chunks, beside `other` if there is one; decode steps are digested or not. */
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

static void open_asking(struct stream *stream, struct driver *driver, const uint32_t *prompt, bool greedy)
{
	stream_open(stream, driver, prompt, PROMPT, PROMPT + ANSWER);
	if (!greedy)
		stream->sampling = (struct sampling){.seed = 11, .temperature = 1.5f, .top_p = 0.95f, .top_k = 150, .min_p = 0.001f,
						     .repetition_penalty = 1.2f, .presence_penalty = 0.5f,
						     .frequency_penalty = 0.25f, .max_tokens = ANSWER, .min_tokens = 3, .logprobs = 4,
						     .bias_count = 1, .biases = {{40, 2.0f}}};
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
		fake_heal();
		open_asking(&stream, &driver, prompt, m % 2);
		struct answer whole = generate(&driver, &stream, NULL, 64, true);
		stream_close(&stream, &driver);
		open_asking(&stream, &driver, prompt, m % 2);
		struct answer chunked = generate(&driver, &stream, NULL, 7, false);
		stream_close(&stream, &driver);
		stream_open(&other, &driver, others, PROMPT, PROMPT);
		open_asking(&stream, &driver, prompt, m % 2);
		struct answer beside = generate(&driver, &stream, &other, 11, true);
		assert_memory_equal(&chunked, &whole, sizeof(whole));
		assert_memory_equal(&beside, &whole, sizeof(whole));
		assert_int_equal(fake_call_count("cudaFuncSetAttribute"), 0); /* it may wait for copies: at open alone */
		print_message("           %s: class %s\n", models[m], engine_numerics_class(driver.engine));
		stream_close(&stream, &driver);
		stream_close(&other, &driver);
		driver_close(&driver);
	}
}

/* One engine computes a prompt; its blocks are read by another, which goes on with the very next token.  Then one that got copies
 * of blocks goes on the same way, the second time without having digested since. */
static void hand_over_and_copy(const char *model, uint32_t from_degree, uint32_t to_degree, uint32_t segments)
{
	struct driver from, to;
	struct stream stream, next, copy;
	uint32_t prompt[PROMPT];
	make_prompt(prompt, 3);
	open_ranks(&from, model, from_degree, segments);
	open_ranks(&to, model, to_degree, segments);
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
			for (uint32_t layer = 0; layer < to.geometry[g].layer_count; layer++)
				engine_block_landing(to.engine, block, layer);
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

static void blocks_may_be_handed_over_and_copied(void **state)
{
	for (int m = 0; m < MODELS; m++)
		hand_over_and_copy(models[m], 1, 1, 1);
}

/* What reading a neighbour's device needs, of each group. */
struct neighbour {
	struct kv_neighbour *ours, *theirs;
	void *pools[LAYER_GROUPS_MAX];
	size_t bytes[LAYER_GROUPS_MAX];
};

static void neighbour_open(struct neighbour *n, struct driver *from, struct driver *to)
{
	struct why why;
	assert_int_equal(engine_neighbour(from->engine, &why, &n->theirs), ERR_OK);
	assert_int_equal(engine_neighbour(to->engine, &why, &n->ours), ERR_OK);
	for (uint32_t g = 0; g < to->group_count; g++) {
		int fd;
		void *memory;
		n->bytes[g] = (size_t)to->geometry[g].block_bytes * BLOCKS;
		assert_int_equal(kv_neighbour_export(n->theirs, g, &memory, &fd, &why), ERR_OK);
		assert_int_equal(kv_neighbour_import(n->ours, fd, n->bytes[g], &n->pools[g], &why), ERR_OK);
		close(fd);
	}
}

/* All layers of a block in one call; of every other one there lie other bytes than were promised, and its own land in the host's memory. */
static void arrive(struct neighbour *n, struct driver *from, struct driver *to, uint32_t g, uint32_t theirs, uint32_t ours)
{
	const struct kv_geometry *geometry = &to->geometry[g];
	struct kv_arrival arrivals[KV_NEIGHBOUR_READS_MAX];
	const uint8_t *block = (uint8_t *)n->pools[g] + (size_t)(theirs - g * BLOCKS) * geometry->block_bytes;
	for (uint32_t layer = 0; layer < geometry->layer_count; layer++) {
		engine_block_landing(to->engine, ours, layer);
		arrivals[layer] = (struct kv_arrival){.to = kv_neighbour_twin(n->ours, ours, layer),
						      .from = block + (layer - layer % 2) * geometry->layer_bytes,
						      .digest = engine_block_digest(from->engine, theirs, layer)};
	}
	assert_int_equal(kv_neighbour_read(n->ours, arrivals, geometry->layer_count), ERR_OK);
	for (uint32_t layer = 0; layer < geometry->layer_count; layer++) {
		uint8_t *host = driver_block(to, ours) + layer * geometry->layer_bytes;
		const uint8_t *expected = driver_block(from, theirs) + layer * geometry->layer_bytes;
		assert_int_equal(arrivals[layer].landed, layer % 2 == 0);
		if (layer % 2 != 0) {
			memcpy(host, expected, geometry->layer_bytes);
			continue;
		}
		assert_memory_equal(host, expected, geometry->layer_bytes);
		memset(host, 0x55, geometry->layer_bytes); /* nothing of it goes to the device */
	}
}

/* What came is on both sides; what did not goes up for the next step. */
static void blocks_may_come_from_a_neighbours_device(void **state)
{
	static const int some[] = {0, 3, 4};
	for (size_t m = 0; m < sizeof(some) / sizeof(*some); m++) {
		struct driver from, to;
		struct stream stream, next;
		struct neighbour n;
		uint32_t prompt[PROMPT];
		make_prompt(prompt, 8);
		open_model(&from, models[some[m]]);
		open_model(&to, models[some[m]]);
		neighbour_open(&n, &from, &to);
		stream_open(&stream, &from, prompt, PROMPT, PROMPT + ANSWER);
		struct plan plan = {0};
		plan_add(&plan, &stream, PROMPT);
		plan.runs[0].sample_count = plan.sample_count = 0;
		driver_step(&from, &plan);
		stream_open(&next, &to, prompt, PROMPT, PROMPT + ANSWER);
		for (uint32_t g = 0; g < to.group_count; g++)
			for (uint32_t i = 0; i * BLOCK_TOKENS < PROMPT; i++)
				arrive(&n, &from, &to, g, stream.sequence.tables[g].blocks[i], next.sequence.tables[g].blocks[i]);
		stream.sequence.computed = next.sequence.computed = PROMPT - 1;
		struct answer expected = generate(&from, &stream, NULL, 64, false), answer = generate(&to, &next, NULL, 64, false);
		assert_memory_equal(&answer, &expected, sizeof(expected));
		for (uint32_t g = 0; g < to.group_count; g++)
			kv_neighbour_unimport(n.ours, n.pools[g], n.bytes[g]);
		stream_close(&next, &to);
		stream_close(&stream, &from);
		driver_close(&to);
		driver_close(&from);
	}
	assert_int_equal(fake_device_used() + fake_pinned_used() + fake_object_count(), 0);
}

/* Several GPUs, and drivers that share no memory: blocks lie where they lay, and nobody is told of a descriptor. */
static void who_has_no_neighbours_says_so(void **state)
{
	struct driver driver;
	struct kv_neighbour *neighbour = NULL;
	struct why why;
	open_ranks(&driver, models[0], 2, 2);
	assert_int_equal(engine_neighbour(driver.engine, &why, &neighbour), ERR_UNSUPPORTED);
	assert_non_null(strstr(why.text, "2 GPUs"));
	driver_close(&driver);
	struct fake_options options = *fake_now();
	options.no_peers = true;
	struct fake_options before = fake_configure(&options);
	open_model(&driver, models[0]);
	assert_int_equal(engine_neighbour(driver.engine, &why, &neighbour), ERR_UNSUPPORTED);
	assert_non_null(strstr(why.text, "no memory that has descriptors"));
	fake_configure(&before);
	driver_close(&driver);
}

static void blocks_may_be_handed_over_between_degrees(void **state)
{
	hand_over_and_copy("tests/golden/engine/llama-f32", 2, 4, 8);
	hand_over_and_copy("tests/golden/families/deepseek-v3", 2, 1, 2);
}

/* Digests are those of the bytes (check_digests()), and the same numbers. */
static void assert_same_digests(const struct driver *a, const struct driver *b, const struct stream *s, const struct stream *t)
{
	for (uint32_t g = 0; g < a->group_count; g++)
		for (uint32_t i = 0; i * BLOCK_TOKENS < s->sequence.computed; i++)
			for (uint32_t layer = 0; layer < a->geometry[g].layer_count; layer++)
				assert_true(engine_block_digest(a->engine, s->sequence.tables[g].blocks[i], layer) ==
					    engine_block_digest(b->engine, t->sequence.tables[g].blocks[i], layer));
}

static void the_tensor_parallel_degree_does_not_show(void **state)
{
	uint32_t prompt[PROMPT];
	make_prompt(prompt, 4);
	for (int m = 0; m < MODELS; m++) {
		if (m == 1 || m == 3 || strstr(models[m], "fp8")) /* engine/law1 has these, or wider ones */
			continue;
		struct driver alone, ranks;
		struct stream stream, shared;
		open_ranks(&alone, models[m], 1, 8);
		stream_open(&stream, &alone, prompt, PROMPT, PROMPT + ANSWER);
		struct answer expected = generate(&alone, &stream, NULL, 64, true);
		for (uint32_t degree = 2; degree <= (m % 3 == 2 ? 4 : 2); degree *= 2) {
			open_ranks(&ranks, models[m], degree, 8);
			assert_string_equal(engine_numerics_class(ranks.engine), engine_numerics_class(alone.engine));
			stream_open(&shared, &ranks, prompt, PROMPT, PROMPT + ANSWER);
			struct answer answer = generate(&ranks, &shared, NULL, degree == 2 ? 64 : 30, true);
			assert_memory_equal(&answer, &expected, sizeof(answer));
			assert_same_digests(&alone, &ranks, &stream, &shared);
			stream_close(&shared, &ranks);
			driver_close(&ranks);
		}
		stream_close(&stream, &alone);
		driver_close(&alone);
	}
}

/* Its KV is nobody else's: the class is part of every key. */
static void the_class_fast_is_another(void **state)
{
	struct driver exact, fast;
	struct stream stream;
	uint32_t prompt[PROMPT];
	const struct driver_options options = {.path = models[0], .numerics = "fast", .block_tokens = BLOCK_TOKENS,
					       .batch_tokens_max = 64, .block_count = 24};
	make_prompt(prompt, 1);
	open_model(&exact, models[0]);
	driver_open(&fast, &options);
	assert_non_null(strstr(engine_numerics_class(fast.engine), "/fast/"));
	assert_string_not_equal(engine_numerics_class(fast.engine), engine_numerics_class(exact.engine));
	stream_open(&stream, &fast, prompt, PROMPT, PROMPT + ANSWER);
	struct answer answer = generate(&fast, &stream, NULL, 64, true);
	for (int i = 0; i < ANSWER; i++)
		assert_true(answer.logprobs[i] < 0);
	stream_close(&stream, &fast);
	driver_close(&fast);
	driver_close(&exact);
}

/* What a device must not do before another has done its part is missed where that one happens to be ahead. */
static void whichever_device_is_ahead(void **state)
{
	uint32_t prompt[PROMPT];
	struct answer answers[3];
	make_prompt(prompt, 6);
	for (int ahead = -1; ahead < 2; ahead++) {
		struct driver driver;
		struct stream stream;
		struct fake_options options = *fake_now();
		options.ahead = ahead;
		struct fake_options before = fake_configure(&options);
		open_ranks(&driver, "tests/golden/engine/qwen3-moe-f32", 2, 2);
		stream_open(&stream, &driver, prompt, PROMPT, PROMPT + ANSWER);
		answers[ahead + 1] = generate(&driver, &stream, NULL, 64, true);
		stream_close(&stream, &driver);
		driver_close(&driver);
		fake_configure(&before);
	}
	assert_memory_equal(&answers[1], &answers[0], sizeof(answers[0]));
	assert_memory_equal(&answers[2], &answers[0], sizeof(answers[0]));
}

/* --- numbers of rows that steps are recorded for ---------------------------------------------------------- */

enum { COMPANY = 3 };

static void open_company(struct driver *driver, struct stream streams[COMPANY], uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		uint32_t prompt[PROMPT];
		struct plan plan = {0};
		make_prompt(prompt, 20 + i);
		stream_open(&streams[i], driver, prompt, PROMPT - 5 * i, PROMPT + ANSWER);
		plan_add(&plan, &streams[i], PROMPT);
		driver_step(driver, &plan);
		stream_append(&streams[i], driver->samples[0].token);
	}
}

/* Decode steps of all of them together. */
static void decode(struct driver *driver, struct stream *streams, uint32_t count, struct answer *ret_answers)
{
	for (uint32_t step = 0; step < ANSWER - 1; step++) {
		struct plan plan = {0};
		for (uint32_t i = 0; i < count; i++)
			plan_add(&plan, &streams[i], 1);
		for (uint32_t i = 0; i < count; i++)
			plan.runs[i].digest = step % 2 == 0;
		driver_step(driver, &plan);
		for (uint32_t i = 0; i < count; i++) {
			ret_answers[i].tokens[step] = driver->samples[i].token;
			ret_answers[i].logprobs[step] = driver->samples[i].logprob;
			stream_append(&streams[i], driver->samples[i].token);
		}
	}
}

static void close_company(struct driver *driver, struct stream *streams, uint32_t count)
{
	while (count-- > 0)
		stream_close(&streams[count], driver);
}

/* Three rows are computed as four, and one that was never alone as itself: tokens and log-probabilities are the same, and so is the KV
 * that the rows wrote, wherever nobody's row might have written. */
static void nobodys_rows_do_not_show(void **state)
{
	static const int some[] = {1, 5, 6}; /* experts, latents, e4m3 */
	for (size_t m = 0; m < sizeof(some) / sizeof(*some); m++) {
		struct driver driver;
		struct stream streams[COMPANY], alone;
		struct answer together[COMPANY] = {0}, by_itself;
		open_model(&driver, models[some[m]]);
		open_company(&driver, streams, COMPANY);
		decode(&driver, streams, COMPANY, together);
		for (uint32_t i = 0; i < COMPANY; i++)
			check_digests(&driver, &streams[i], PROMPT - 5 * i);
		for (uint32_t i = 0; i < COMPANY; i++) {
			struct plan plan = {0};
			by_itself = (struct answer){0};
			stream_open(&alone, &driver, streams[i].sequence.tokens, PROMPT - 5 * i, PROMPT + ANSWER);
			plan_add(&plan, &alone, PROMPT);
			driver_step(&driver, &plan);
			stream_append(&alone, driver.samples[0].token);
			decode(&driver, &alone, 1, &by_itself);
			assert_memory_equal(&together[i], &by_itself, sizeof(by_itself));
			assert_same_digests(&driver, &driver, &streams[i], &alone);
			stream_close(&alone, &driver);
		}
		close_company(&driver, streams, COMPANY);
		driver_close(&driver);
	}
}

/* What was recorded at start serves every number of rows up to it: later nothing is recorded, and of more rows nothing ever. */
static void steps_are_recorded_before_anybody_waits(void **state)
{
	const char *model = "tests/golden/engine/qwen3-moe";
	struct driver cold, warm;
	struct stream streams[COMPANY];
	struct answer expected[COMPANY] = {0}, answers[COMPANY] = {0};
	open_model(&cold, model);
	open_company(&cold, streams, COMPANY);
	decode(&cold, streams, COMPANY, expected);
	close_company(&cold, streams, COMPANY);
	driver_close(&cold);
	open_model(&warm, model);
	fake_heal();
	assert_int_equal(engine_warm(warm.engine, 2), ERR_OK);
	assert_int_equal(fake_call_count("cudaGraphInstantiate"), 4); /* 1 and 2 rows, digested or not */
	open_company(&warm, streams, COMPANY);
	fake_heal();
	decode(&warm, streams, 1, answers);
	decode(&warm, streams + 1, 2, answers + 1);
	assert_int_equal(fake_call_count("cudaStreamBeginCapture"), 0);
	assert_int_equal(fake_call_count("cudaGraphLaunch"), 2 * (ANSWER - 1));
	assert_memory_equal(answers, expected, sizeof(answers));
	close_company(&warm, streams, COMPANY);
	open_company(&warm, streams, COMPANY);
	fake_heal();
	decode(&warm, streams, COMPANY, answers);
	assert_int_equal(fake_call_count("cudaStreamBeginCapture") + fake_call_count("cudaGraphLaunch"), 0);
	assert_memory_equal(answers, expected, sizeof(answers));
	close_company(&warm, streams, COMPANY);
	driver_close(&warm);
}

/* Memory full of KV: the node goes without. */
static void without_memory_for_recorded_steps_all_goes_on(void **state)
{
	for (uint32_t degree = 1; degree <= 2; degree++) {
		struct driver driver;
		struct stream streams[COMPANY];
		struct answer expected[COMPANY] = {0}, answers[COMPANY] = {0};
		for (int full = 0; full < 2; full++) {
			open_ranks(&driver, "tests/golden/engine/llama-f32", degree, 2);
			fake_heal();
			if (full)
				fake_fail("cudaGraphInstantiate", 2, 2);
			assert_int_equal(engine_warm(driver.engine, COMPANY), ERR_OK);
			assert_int_equal(fake_call_count("cudaGraphInstantiate"), full ? 2 : 6);
			open_company(&driver, streams, COMPANY);
			decode(&driver, streams, COMPANY, full ? answers : expected);
			assert_int_equal(fake_call_count("cudaGraphInstantiate"), full ? 2 : 6);
			close_company(&driver, streams, COMPANY);
			driver_close(&driver);
		}
		assert_memory_equal(answers, expected, sizeof(answers));
		fake_heal();
	}
}

/* What a step digested goes out by a call a layer, of decode rows by one for all layers. */
static void kv_goes_out_by_few_calls(void **state)
{
	struct driver driver;
	struct stream stream;
	uint32_t prompt[PROMPT];
	make_prompt(prompt, 9);
	open_model(&driver, "tests/golden/engine/llama-f32");
	stream_open(&stream, &driver, prompt, PROMPT, PROMPT + ANSWER);
	for (int step = 0; step < 3; step++) {
		struct plan plan = {0};
		plan_add(&plan, &stream, 64);
		plan.runs[0].digest = true;
		fake_heal();
		driver_step(&driver, &plan);
		assert_int_equal(fake_call_count("cudaMemcpyBatchAsync"), step == 0 ? engine_layer_count(driver.engine) : 1);
		stream_append(&stream, driver.samples[0].token);
	}
	check_digests(&driver, &stream, 0);
	stream_close(&stream, &driver);
	driver_close(&driver);
}

#define FAILING "tests/golden/engine/llama-f32"

/* Steps until one fails, or four are over: a prompt's, and decode rows that run as they come, are recorded, run again. */
static enum err run_steps(struct driver *driver)
{
	uint32_t prompt[PROMPT];
	struct stream stream;
	enum err e = ERR_OK;
	make_prompt(prompt, 5);
	stream_open(&stream, driver, prompt, PROMPT, PROMPT + ANSWER);
	for (int step = 0; step < 4 && e == ERR_OK; step++) {
		struct plan plan = {0};
		plan_add(&plan, &stream, 64);
		plan.runs[0].digest = true;
		e = driver_try(driver, &plan);
		if (e == ERR_OK) {
			stream.sequence.computed += plan.runs[0].count;
			stream_append(&stream, driver->samples[0].token);
		}
	}
	stream_close(&stream, driver);
	return e;
}

/* Whatever call fails, on whichever device: the step fails, no later one goes well, nobody hangs, and nothing is left. */
static void what_fails_on_one_device_fails_the_step(void **state)
{
	static const char *const calls[] = {"kernel", "copy", "launch", "cudaEventRecord", "cudaStreamWaitEvent", "cudaMemcpyAsync",
					    "cudaMemcpy2DAsync", "cudaEventQuery", "cudaStreamQuery", "cudaStreamBeginCapture",
					    "cudaStreamEndCapture", "cudaGraphInstantiate", "cudaGraphLaunch"};
	enum { CALLS = sizeof(calls) / sizeof(*calls) };
	uint64_t times[CALLS];
	struct driver driver;
	open_ranks(&driver, FAILING, 2, 2);
	fake_heal();
	assert_int_equal(run_steps(&driver), ERR_OK);
	for (size_t c = 0; c < CALLS; c++)
		times[c] = fake_call_count(calls[c]);
	driver_close(&driver);
	for (size_t c = 0; c < CALLS; c++)
		for (uint64_t nth = 1; nth <= times[c]; nth += times[c] / (c < 2 ? 4 : 2) + 1) { /* what is lost is now one, now the other */
			open_ranks(&driver, FAILING, 2, 2);
			fake_heal();
			fake_fail(calls[c], (uint32_t)nth, 719);
			bool looks = strstr(calls[c], "Query") && nth > 1; /* how often anybody looks is chance */
			if (run_steps(&driver) != ERR_DEVICE && !looks)
				fail_msg("%s, call %llu: the steps went well", calls[c], (unsigned long long)nth);
			assert_true(looks || run_steps(&driver) == ERR_DEVICE);
			fake_heal();
			driver_close(&driver);
			assert_int_equal(fake_device_used() + fake_pinned_used() + fake_object_count(), 0);
		}
}

static void never_done(void *context, const struct plan *plan, const struct sample *samples, enum err e)
{
}

static void what_does_not_divide_is_refused(void **state)
{
	static const struct {
		uint32_t degree, segments;
		const char *named;
	} cases[] = {{3, 8, "1, 2, 4 or 8"}, {2, 1, "--row-segments 2"}, {4, 0, "GPU 3"}, {8, 8, "heads"}};
	struct model_dir *model;
	struct why why;
	assert_int_equal(model_dir_open(models[0], &(struct model_dir_options){false}, &why, &model), ERR_OK);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct engine *engine;
		struct fake_options options = *fake_now();
		options.devices = i == 2 ? 3 : 8;
		struct fake_options before = fake_configure(&options);
		const struct engine_options o = {.model = model, .device = "cuda", .thread_count = 1, .block_tokens = BLOCK_TOKENS,
						 .batch_tokens_max = 64, .tensor_parallel_size = cases[i].degree,
						 .row_segments = cases[i].segments, .callbacks = {NULL, NULL, never_done}};
		enum err e = engine_create(&o, &why, &engine);
		if (e == ERR_OK || !strstr(why.text, cases[i].named))
			fail_msg("%s: %s", err_text(e), why.text);
		fake_configure(&before);
		assert_int_equal(fake_device_used() + fake_pinned_used() + fake_object_count(), 0);
	}
	model_dir_close(model);
}

static void devices_that_cannot_read_each_other_are_refused(void **state)
{
	struct device *devices[2];
	struct why why;
	struct fake_options options = *fake_now();
	options.no_access = true;
	struct fake_options before = fake_configure(&options);
	for (uint32_t i = 0; i < 2; i++)
		assert_int_equal(device_open(&(struct device_options){.kind = DEVICE_CUDA, .index = i}, &why, &devices[i]), ERR_OK);
	assert_int_equal(device_join(devices, 2, &why), ERR_UNSUPPORTED);
	assert_non_null(strstr(why.text, "GPU 0 cannot read the memory of GPU 1"));
	for (uint32_t i = 0; i < 2; i++)
		device_close(devices[i]);
	fake_configure(&before);
}

static int open_devices(void **state)
{
	struct fake_options options = *fake_now();
	options.devices = 4;
	fake_configure(&options);
	return 0;
}

/* --- rows of e4m3 --------------------------------------------------------------------------------------------- */

/* The model on a device of its own, without the engine around it. */
struct plain {
	struct model_dir *dir;
	struct device *device;
	struct engine_weights *weights;
	struct experts_local *experts;
	struct forward *forward;
	struct ranks ranks;
	struct kv_memory kv;
	struct kv_ranks of_ranks;
	uint64_t *digests;
};

static void on_kv(void *context, const struct plan *plan, uint32_t layer)
{
}

static void plain_open(struct plain *p, const char *path)
{
	const struct device_options cuda = {.kind = DEVICE_CUDA};
	const struct model_dir_options fp8 = {.quantization = "fp8"};
	assert_int_equal(device_open(&cuda, NULL, &p->device), ERR_OK);
	assert_int_equal(model_dir_open(path, &fp8, NULL, &p->dir), ERR_OK);
	const struct model_config *c = &p->dir->config;
	p->ranks = (struct ranks){1, {p->device}};
	assert_int_equal(engine_weights_create(&p->ranks, c, p->dir->weights, NULL, NULL, &p->weights), ERR_OK);
	assert_int_equal(experts_local_create(&p->ranks, c, &p->weights, PROMPT, &p->experts), ERR_OK);
	const struct forward_options options = {.ranks = &p->ranks, .config = c, .weights = &p->weights, .rows_max = PROMPT,
						.experts = experts_local_exchange(p->experts), .on_kv = on_kv};
	assert_int_equal(forward_create(&options, &p->forward), ERR_OK);
	p->kv.layout = (struct kv_layout){.layer_count = c->layer_count, .head_kv_count = 1, .elem = ELEM_BF16, .kind = KV_LATENT,
					  .head_dim = c->latent.kv_lora_rank + c->latent.qk_rope_head_dim,
					  .block_tokens = BLOCK_TOKENS, .value_dim = c->latent.kv_lora_rank};
	p->kv.layer_stride = kv_layer_bytes(&p->kv.layout);
	p->kv.block_stride = kv_block_bytes(&p->kv.layout);
	assert_int_equal(dev_alloc(p->device, MEM_DEVICE, 4 * p->kv.block_stride, &p->kv.base), ERR_OK);
	assert_int_equal(dev_alloc(p->device, MEM_PINNED, 4 * c->layer_count * sizeof(uint64_t), (void **)&p->digests), ERR_OK);
	p->of_ranks = (struct kv_ranks){.ranks = &p->ranks, .replicas = 1, .kv = {p->kv}, .parts = {p->kv}, .part_count = 1};
	assert_int_equal(forward_set_kv(p->forward, 0, &p->of_ranks, p->digests), ERR_OK);
}

static void plain_close(struct plain *p)
{
	forward_destroy(p->forward);
	experts_local_destroy(p->experts);
	engine_weights_destroy(p->weights);
	dev_free(p->device, MEM_DEVICE, p->kv.base, 4 * p->kv.block_stride);
	dev_free(p->device, MEM_PINNED, p->digests, 4 * p->dir->config.layer_count * sizeof(uint64_t));
	device_close(p->device);
	model_dir_close(p->dir);
}

static void plain_logits(struct plain *p, float *ret_logits)
{
	uint32_t tokens[PROMPT], blocks[4] = {2, 0, 3, 1};
	const float *logits;
	make_prompt(tokens, 3);
	struct sequence sequence = {.tokens = tokens, .token_count = PROMPT, .tables = {{blocks, 0, 4}}};
	struct plan plan = {.run_count = 1, .token_count = PROMPT, .sample_count = 1};
	plan.runs[0] = (struct run){.sequence = &sequence, .count = PROMPT, .sample_count = 1};
	assert_int_equal(forward_step(p->forward, &plan), ERR_OK);
	assert_int_equal(forward_logits(p->forward, 0, 1, &logits), ERR_OK);
	assert_int_equal(dev_copy(p->device, ret_logits, logits, p->dir->config.vocab_size * sizeof(*logits)), ERR_OK);
	assert_int_equal(forward_end(p->forward, &plan), ERR_OK);
}

/* Rows that norms, activations and the way to experts write as e4m3 are those that products would make of f32. */
static void who_rounds_rows_to_e4m3_does_not_show(void **state)
{
	struct plain plain;
	float narrow[512], wide[512];
	plain_open(&plain, "tests/golden/fp8/deepseek-v3");
	const struct layer_weights *last = &plain.weights->layers[1];
	assert_int_equal(engine_weights_input_of(plain.weights, last->qkv), ELEM_E4M3);
	assert_int_equal(engine_weights_input_of(plain.weights, last->experts[0].down), ELEM_E4M3);
	assert_int_equal(engine_weights_input_of(plain.weights, last->router), ELEM_F32);
	plain_logits(&plain, narrow);
	((struct device_props *)device_props(plain.device))->input_e4m3 = false;
	assert_int_equal(engine_weights_input_of(plain.weights, last->qkv), ELEM_F32);
	plain_logits(&plain, wide);
	assert_memory_equal(narrow, wide, plain.dir->config.vocab_size * sizeof(float));
	plain_close(&plain);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_answer_does_not_depend_on_chunks_or_company),
		cmocka_unit_test(the_class_fast_is_another),
		cmocka_unit_test(who_rounds_rows_to_e4m3_does_not_show),
		cmocka_unit_test(nobodys_rows_do_not_show),
		cmocka_unit_test(steps_are_recorded_before_anybody_waits),
		cmocka_unit_test(without_memory_for_recorded_steps_all_goes_on),
		cmocka_unit_test(kv_goes_out_by_few_calls),
		cmocka_unit_test(blocks_may_be_handed_over_and_copied),
		cmocka_unit_test(blocks_may_come_from_a_neighbours_device),
		cmocka_unit_test(who_has_no_neighbours_says_so),
		cmocka_unit_test(the_tensor_parallel_degree_does_not_show),
		cmocka_unit_test(blocks_may_be_handed_over_between_degrees),
		cmocka_unit_test(whichever_device_is_ahead),
		cmocka_unit_test(what_fails_on_one_device_fails_the_step),
		cmocka_unit_test(what_does_not_divide_is_refused),
		cmocka_unit_test(devices_that_cannot_read_each_other_are_refused),
	};
	return cmocka_run_group_tests(tests, open_devices, NULL);
}

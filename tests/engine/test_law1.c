#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "engine/expert_exchange.h"
#include "engine/experts_local.h"
#include "engine/sched.h"
#include "kernels/device.h"
#include "model/config.h"
#include "model/model_dir.h"
#include "tests/engine/driver.h"
#include "tests/engine/wide_model.h"
#include "tests/scratch.h"

/* Law 1: the same tokens, log-probabilities to the bit, and bytes of KV, whatever happens around a sequence. */

enum { STREAMS = 5, NEW = 12, TOKENS_MAX = 320, BLOCK_TOKENS = 16, LAYERS_MAX = 4, BATCH = 512, WHOLE = BATCH,
       BLOCKS_MAX = TOKENS_MAX / BLOCK_TOKENS };

/* Gemma 2 has a window in one of its layers, and caps; DeepSeek latent blocks, a dense layer and a shared expert;
 * GPT-OSS sinks, and a window in one layer; those of fp8 are computed in it. */
static const char *const models[] = {"llama-tied", "llama-f32", "../families/gemma2", "../fp8/qwen3", "mixtral", "qwen3-moe",
				     "qwen3-moe-f32", "../families/deepseek-v3", "../families/gpt-oss", "../fp8/deepseek-v3"};
enum { MODELS = sizeof(models) / sizeof(models[0]), WITH_EXPERTS = 4 };
static const uint32_t prompt_counts[STREAMS] = {1, 16, 37, 100, 290};

struct outcome {
	struct sample samples[STREAMS][NEW];
	struct sample scores[STREAMS][TOKENS_MAX]; /* of the prompts' own tokens */
	uint64_t digests[STREAMS][BLOCKS_MAX][LAYERS_MAX];
};

/* How the same work is cut into steps. */
struct manner {
	uint32_t chunk;  /* most tokens of a stream in a step */
	bool ragged;     /* random sizes up to chunk */
	bool together;   /* all streams in each step, else one after the other */
	bool backwards;  /* the last stream first */
};

static void open_path(struct driver *driver, const char *path, struct driver_options options)
{
	options.path = path;
	options.block_tokens = BLOCK_TOKENS;
	options.batch_tokens_max = BATCH;
	options.block_count = STREAMS * BLOCKS_MAX;
	driver_open(driver, &options);
	assert_true(engine_layer_count(driver->engine) <= LAYERS_MAX);
}

static void open_with(struct driver *driver, const char *name, struct driver_options options)
{
	char path[128];
	snprintf(path, sizeof(path), "tests/golden/engine/%s", name);
	options.quantization = strstr(name, "fp8") ? "fp8" : NULL;
	open_path(driver, path, options);
}

static void open_model(struct driver *driver, const char *name, const char *isa, uint32_t threads,
		       struct expert_exchange *experts)
{
	open_with(driver, name, (struct driver_options){.isa = isa, .thread_count = threads, .experts = experts});
}

static void open_stream(struct stream *stream, struct driver *driver, uint32_t index)
{
	uint32_t prompt[TOKENS_MAX];
	struct rng rng = {.seed = 1000 + index};
	for (uint32_t i = 0; i < prompt_counts[index]; i++)
		prompt[i] = 2 + (uint32_t)rng_below(&rng, 126);
	stream_open(stream, driver, prompt, prompt_counts[index], prompt_counts[index] + NEW);
	stream->sampling.seed = index;
	stream->sampling.temperature = index % 2 ? 0.9f : 0;
	stream->sampling.top_p = index == 3 ? 0.8f : 1;
	stream->sampling.frequency_penalty = index == 1 ? 0.4f : 0;
	stream->sequence.choices[0] = (uint16_t)index;
	stream->sampling.prompt_logprobs = 1 + index;
	stream->sequence.score_end = prompt_counts[index] - 1;
}

static bool finished(const struct stream *stream)
{
	return stream->sequence.computed == stream->tokens_max;
}

static void take_samples(const struct driver *driver, const struct plan *plan, struct stream *streams,
			 struct outcome *outcome)
{
	for (uint32_t i = 0; i < plan->run_count; i++) {
		const struct run *run = &plan->runs[i];
		for (uint32_t s = 0; s < STREAMS && run->score_count > 0; s++)
			if (run->sequence == &streams[s].sequence)
				memcpy(&outcome->scores[s][run->score_first], &driver->samples[run->score_index],
				       run->score_count * sizeof(struct sample));
		for (uint32_t s = 0; s < STREAMS && run->sample_count > 0; s++) {
			if (run->sequence != &streams[s].sequence || run->sequence->token_count == streams[s].tokens_max)
				continue;
			const struct sample *sample = &driver->samples[run->sample_first];
			outcome->samples[s][run->sequence->token_count - prompt_counts[s]] = *sample;
			stream_append(&streams[s], sample->token);
		}
	}
}

/* What the engine says of each block's layer, and what its bytes say. */
static void take_digests(const struct driver *driver, const struct stream *stream, uint64_t (*digests)[LAYERS_MAX])
{
	for (uint32_t i = 0; i * BLOCK_TOKENS < stream->sequence.computed; i++)
		for (uint32_t layer = 0; layer < engine_layer_count(driver->engine); layer++) {
			uint32_t place, g = engine_layer_group(driver->engine, layer, &place);
			uint32_t block = stream->sequence.tables[g].blocks[i], bytes = driver->geometry[g].layer_bytes;
			digests[i][layer] = engine_block_digest(driver->engine, block, place);
			assert_true(digests[i][layer] == digest_of(driver_block(driver, block) + place * bytes, bytes));
		}
}

static void run_all(struct driver *driver, const struct manner *manner, struct rng *rng, struct outcome *outcome)
{
	static struct stream streams[STREAMS];
	memset(outcome, 0, sizeof(*outcome));
	driver_shuffle(driver, rng);
	for (uint32_t i = 0; i < STREAMS; i++)
		open_stream(&streams[i], driver, i);
	for (;;) {
		static struct plan plan;
		memset(&plan, 0, sizeof(plan));
		for (uint32_t i = 0; i < STREAMS; i++) {
			struct stream *stream = &streams[manner->backwards ? STREAMS - 1 - i : i];
			uint32_t room = BATCH - plan.token_count;
			uint32_t count = manner->ragged ? 1 + (uint32_t)rng_below(rng, manner->chunk) : manner->chunk;
			if (!finished(stream) && room > 0 && (manner->together || plan.run_count == 0))
				plan_add(&plan, stream, count < room ? count : room);
		}
		if (plan.run_count == 0)
			break;
		driver_step(driver, &plan);
		take_samples(driver, &plan, streams, outcome);
	}
	for (uint32_t i = 0; i < STREAMS; i++)
		take_digests(driver, &streams[i], outcome->digests[i]);
	for (uint32_t i = STREAMS; i-- > 0;)
		stream_close(&streams[i], driver);
}

static void assert_same(const struct outcome *a, const struct outcome *b)
{
	assert_memory_equal(a->samples, b->samples, sizeof(a->samples));
	assert_memory_equal(a->scores, b->scores, sizeof(a->scores));
	assert_memory_equal(a->digests, b->digests, sizeof(a->digests));
}

static const struct manner alone = {.chunk = WHOLE};
static const struct manner manners[] = {
	{.chunk = 1},
	{.chunk = 16},
	{.chunk = 64},
	{.chunk = 1, .together = true},
	{.chunk = 16, .together = true, .backwards = true},
	{.chunk = 64, .together = true},
	{.chunk = WHOLE, .together = true},
	{.chunk = 50, .ragged = true, .together = true},
	{.chunk = 300, .ragged = true, .together = true, .backwards = true},
};
enum { MANNERS = sizeof(manners) / sizeof(manners[0]) };

static void chunks_company_blocks_and_threads_do_not_show(void **state)
{
	struct rng rng = {.seed = 5};
	const char *isas[DEVICE_VARIANTS_MAX];
	uint32_t isa_count = device_variants(isas);
	for (uint32_t v = 0; v < isa_count; v++)
		for (int m = 0; m < MODELS; m++) {
			static struct outcome expected, outcome;
			for (uint32_t threads = 1; threads <= 3; threads++) {
				struct driver driver;
				open_model(&driver, models[m], isas[v], threads, NULL);
				if (threads == 1)
					run_all(&driver, &alone, &rng, &expected);
				/* Every manner on one thread, some on more: they take turns. */
				for (uint32_t i = 0; i < MANNERS; i++) {
					if (threads > 1 && i % 3 != threads % 3)
						continue;
					run_all(&driver, &manners[i], &rng, &outcome);
					assert_same(&expected, &outcome);
				}
				driver_close(&driver);
			}
			for (int i = 0; i < STREAMS; i++)
				assert_int_equal(expected.samples[i][NEW - 1].top_count, 5);
			for (uint32_t i = 1; i < STREAMS; i++) {
				const struct sample *last = &expected.scores[i][prompt_counts[i] - 2];
				assert_int_equal(last->top_count, i);
				assert_true(last->rank >= 1 && last->logprob < 0);
				assert_true((last->rank <= i) == (last->logprob >= last->top[i - 1].logprob));
			}
		}
}

/* Nodes pair by the class's name alone. */
static void variants_of_one_class_agree_to_the_bit(void **state)
{
	struct rng rng = {.seed = 6};
	for (int m = 0; m < MODELS; m++) {
		static struct outcome outcomes[DEVICE_VARIANTS_MAX];
		char classes[DEVICE_VARIANTS_MAX][96];
		const char *isas[DEVICE_VARIANTS_MAX];
		uint32_t count = device_variants(isas);
		for (uint32_t i = 0; i < count; i++) {
			struct driver driver;
			open_model(&driver, models[m], isas[i], 1, NULL);
			run_all(&driver, &manners[6], &rng, &outcomes[i]);
			snprintf(classes[i], sizeof(classes[i]), "%s", engine_numerics_class(driver.engine));
			driver_close(&driver);
		}
		for (uint32_t i = 0; i < count; i++)
			for (uint32_t j = 0; j < i; j++)
				if (strcmp(classes[i], classes[j]) == 0)
					assert_same(&outcomes[i], &outcomes[j]);
	}
}

/* Another engine gets the bytes of the blocks and the tokens so far, and goes on. */
static void go_on_elsewhere(struct driver *from, struct driver *to, uint32_t index, uint32_t split)
{
	struct stream here, there;
	static struct plan plan;
	open_stream(&here, from, index);
	open_stream(&there, to, index);
	struct sample samples[NEW];
	for (uint32_t i = 0; i < NEW;) {
		memset(&plan, 0, sizeof(plan));
		plan_add(&plan, &here, 64);
		driver_step(from, &plan);
		if (plan.sample_count == plan.score_count)
			continue;
		samples[i] = from->samples[0];
		stream_append(&here, samples[i++].token);
	}
	for (uint32_t g = 0; g < from->group_count; g++)
		for (uint32_t i = 0; i * BLOCK_TOKENS < split; i++)
			memcpy(driver_block(to, there.sequence.tables[g].blocks[i]),
			       driver_block(from, here.sequence.tables[g].blocks[i]), from->geometry[g].block_bytes);
	for (uint32_t i = prompt_counts[index]; i <= split; i++)
		stream_append(&there, here.sequence.tokens[i]);
	there.sequence.computed = split;
	for (uint32_t i = there.sequence.token_count - prompt_counts[index]; i < NEW;) {
		memset(&plan, 0, sizeof(plan));
		plan_add(&plan, &there, 64);
		driver_step(to, &plan);
		if (plan.sample_count == plan.score_count)
			continue;
		assert_memory_equal(&to->samples[0], &samples[i], sizeof(samples[i]));
		stream_append(&there, samples[i++].token);
	}
	stream_close(&here, from);
	stream_close(&there, to);
}

static void kv_of_another_engine_is_as_good_as_own(void **state)
{
	for (int m = 0; m < MODELS; m++) {
		struct driver from, to;
		open_model(&from, models[m], NULL, 2, NULL);
		open_model(&to, models[m], NULL, 1, NULL);
		static const struct { uint32_t index, split; } cases[] = {
			{3, 16}, {3, 96}, {3, 97}, {3, 99}, {3, 100}, {3, 105}, {2, 32}, {2, 37}, {4, 256}, {4, 272}, {4, 290}};
		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
			go_on_elsewhere(&from, &to, cases[i].index, cases[i].split);
		driver_close(&from);
		driver_close(&to);
	}
}

/* Continuous batching as nodes do it: streams arrive while others decode. */
static void the_scheduler_does_not_show(void **state)
{
	struct rng rng = {.seed = 8};
	for (int m = 0; m < MODELS; m++) {
		static struct outcome expected, outcome;
		static struct stream streams[STREAMS];
		static struct plan plan;
		struct driver driver;
		open_model(&driver, models[m], NULL, 2, NULL);
		run_all(&driver, &alone, &rng, &expected);
		const struct sched_options options = {.seq_max = STREAMS, .batch_tokens_max = 80, .chunk_tokens = 64, .group_count = driver.group_count,
						      .block_tokens = BLOCK_TOKENS};
		void *memory = malloc(sched_bytes(&options));
		struct sched *sched = sched_init(memory, &options);
		memset(&outcome, 0, sizeof(outcome));
		for (uint32_t i = 0; i < STREAMS; i++)
			open_stream(&streams[i], &driver, i);
		/* One arrives every third step, the longest first. */
		for (uint32_t step = 0, done = 0; done < STREAMS; step++) {
			if (step % 3 == 0 && step / 3 < STREAMS)
				assert_int_equal(sched_add(sched, &streams[STREAMS - 1 - step / 3].sequence), ERR_OK);
			sched_plan(sched, &plan);
			if (plan.run_count == 0)
				continue;
			driver_step(&driver, &plan);
			take_samples(&driver, &plan, streams, &outcome);
			for (uint32_t i = done = 0; i < STREAMS; i++)
				done += finished(&streams[i]);
		}
		assert_memory_equal(expected.samples, outcome.samples, sizeof(expected.samples));
		assert_memory_equal(expected.scores, outcome.scores, sizeof(expected.scores));
		for (uint32_t i = STREAMS; i-- > 0;)
			stream_close(&streams[i], &driver);
		free(memory);
		driver_close(&driver);
	}
}

/* Two hosts that answer for odd and even rows, each with its own device and buffers. */
struct hosts {
	struct device *device[2];
	struct engine_weights *weights[2];
	struct experts_local *experts[2];
	struct expert_exchange exchange;
};

static enum err ask_hosts(void *context, const struct expert_rows *rows, uint32_t rank_count)
{
	struct hosts *hosts = context;
	for (uint32_t i = 0; i < rows->row_count; i++) {
		struct expert_rows one = *rows;
		one.row_count = 1;
		one.x = (const float *)rows->x + (size_t)i * rows->dim;
		one.expert += (size_t)i * rows->top_k;
		one.weight += (size_t)i * rows->top_k;
		one.sum += (size_t)i * rows->dim;
		struct expert_exchange *host = experts_local_exchange(hosts->experts[i % 2]);
		enum err e = host->run(host->context, &one, 1);
		if (e != ERR_OK)
			return e;
	}
	return ERR_OK;
}

static void where_experts_run_does_not_show(void **state)
{
	struct rng rng = {.seed = 9};
	for (int m = WITH_EXPERTS; m < MODELS; m++) {
		static struct outcome expected, outcome;
		char path[128];
		struct driver driver;
		open_model(&driver, models[m], NULL, 1, NULL);
		run_all(&driver, &alone, &rng, &expected);
		driver_close(&driver);

		struct hosts hosts = {.exchange = {.context = &hosts, .run = ask_hosts}};
		struct model_dir *dir;
		snprintf(path, sizeof(path), "tests/golden/engine/%s", models[m]);
		const struct model_dir_options as_driver = {.quantization = strstr(path, "fp8") ? "fp8" : NULL};
		assert_int_equal(model_dir_open(path, &as_driver, NULL, &dir), ERR_OK);
		for (int i = 0; i < 2; i++) {
			const struct device_options options = {.kind = DEVICE_CPU, .thread_count = (uint32_t)i + 1};
			assert_int_equal(device_open(&options, NULL, &hosts.device[i]), ERR_OK);
			const struct ranks ranks = {1, {hosts.device[i]}};
			assert_int_equal(engine_weights_create(&ranks, &dir->config, dir->weights, NULL, NULL, &hosts.weights[i]), ERR_OK);
			assert_int_equal(experts_local_create(&ranks, &dir->config, &hosts.weights[i], 1, &hosts.experts[i]), ERR_OK);
		}
		open_model(&driver, models[m], NULL, 1, &hosts.exchange);
		run_all(&driver, &manners[7], &rng, &outcome);
		assert_same(&expected, &outcome);
		driver_close(&driver);
		for (int i = 0; i < 2; i++) {
			experts_local_destroy(hosts.experts[i]);
			engine_weights_destroy(hosts.weights[i]);
			device_close(hosts.device[i]);
		}
		model_dir_close(dir);
	}
}

/* What stored models are too small for: 8 ranks, of which four have the same KV head, a bias of sums, experts in a stack; weights of 8 bits,
 * whose inputs are shared out by groups of 128. */
static void many_ranks_do_not_show(void **state)
{
	static const struct {
		const char *from;
		struct wide_size sizes[8];
		uint32_t degree;
	} wide[] = {
		{"tests/golden/engine/llama-tied", {{"num_attention_heads", 8}}, 8},
		{"tests/golden/families/gpt-oss", {{"num_attention_heads", 8}}, 8},
		{"tests/golden/fp8/qwen3", {{"num_attention_heads", 8}, {"num_key_value_heads", 2}, {"head_dim", 64}, {"hidden_size", 256},
					    {"intermediate_size", 512}}, 4},
		{"tests/golden/fp8/deepseek-v3", {{"num_attention_heads", 8}, {"num_key_value_heads", 8}, {"v_head_dim", 64},
						  {"intermediate_size", 512}, {"moe_intermediate_size", 256}}, 2},
	};
	static const char *const names[] = {"config.json", "tokenizer.json", "model.safetensors", ""};
	struct rng rng = {.seed = 13};
	for (size_t m = 0; m < sizeof(wide) / sizeof(*wide); m++) {
		static struct outcome outcomes[2];
		char folder[64], path[96];
		assert_non_null(scratch_folder(folder, sizeof(folder), "wide"));
		wide_model(wide[m].from, wide[m].sizes, folder);
		for (int shared = 0; shared < 2; shared++) {
			struct driver driver;
			open_path(&driver, folder, (struct driver_options){.thread_count = 1,
									   .tensor_parallel_size = shared ? wide[m].degree : 1,
									   .quantization = strstr(wide[m].from, "fp8") ? "fp8" : NULL});
			run_all(&driver, &manners[5], &rng, &outcomes[shared]);
			driver_close(&driver);
		}
		assert_same(&outcomes[0], &outcomes[1]);
		for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
			snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
			remove(path);
		}
	}
}

/* All families (tests/golden/families): what is not among `models`, too. */
static const char *const families[] = {"llama-tied", "llama-f32", "mixtral", "qwen3-moe", "qwen3-moe-f32", "../families/deepseek-v2",
				       "../families/deepseek-v2-lite", "../families/deepseek-v3", "../families/deepseek-v3-halves",
				       "../families/gemma2", "../families/gemma3", "../families/gpt-oss", "../families/gpt-oss-mxfp4",
				       "../families/llama-bias", "../families/llama-f16", "../families/phi3", "../families/qwen2",
				       "../families/qwen2-moe", "../families/qwen3"};

static uint32_t head_count_of(const struct driver *driver)
{
	return driver->model->config.head_count;
}

/* Tokens, log-probabilities, bytes of KV and their digests: of as many ranks as there are heads, and half of that. */
static void the_tensor_parallel_degree_does_not_show(void **state)
{
	struct rng rng = {.seed = 11};
	for (size_t m = 0; m < sizeof(families) / sizeof(*families); m++) {
		static struct outcome expected, outcome;
		struct driver driver;
		open_with(&driver, families[m], (struct driver_options){.thread_count = 1});
		run_all(&driver, &manners[6], &rng, &expected);
		uint32_t head_count = head_count_of(&driver);
		driver_close(&driver);
		for (uint32_t degree = 2; degree <= head_count; degree *= 2) {
			open_with(&driver, families[m], (struct driver_options){.thread_count = 1, .tensor_parallel_size = degree});
			run_all(&driver, &manners[degree == 2 ? 6 : 5], &rng, &outcome);
			assert_same(&expected, &outcome);
			driver_close(&driver);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(chunks_company_blocks_and_threads_do_not_show),
		cmocka_unit_test(variants_of_one_class_agree_to_the_bit),
		cmocka_unit_test(kv_of_another_engine_is_as_good_as_own),
		cmocka_unit_test(the_scheduler_does_not_show),
		cmocka_unit_test(where_experts_run_does_not_show),
		cmocka_unit_test(the_tensor_parallel_degree_does_not_show),
		cmocka_unit_test(many_ranks_do_not_show),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

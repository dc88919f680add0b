/* The choice of tokens on the device: the very tokens, log-probabilities and alternatives of a CPU from the same logits, whatever
 * is asked, in whatever company. */
#include <math.h>
#include "kernels/sample.h"
#include "tests/gpu/fixture.h"

enum { SEEN_MAX = 40, ROWS_MAX = 12 };

static struct device *gpu, *cpu;

static int open_both(void **state)
{
	gpu = gpu_open(1);
	cpu = oracle_open();
	return 0;
}

static int close_both(void **state)
{
	device_close(gpu);
	device_close(cpu);
	return 0;
}

/* A row and all that it points to. */
struct asked {
	struct sampling sampling;
	struct sample_seen seen[SEEN_MAX];
	uint32_t masked[3];
	uint16_t choices[SAMPLING_CHOICES_MAX];
	uint64_t *allowed; /* or NULL */
	struct sample_row row;
};

/* Rows of logits of every kind: near and far apart, many equal, with -inf, flat, one far above the rest. */
static void fill_logits(struct rng *rng, float *x, uint32_t n)
{
	uint32_t kind = (uint32_t)rng_below(rng, 6);
	float spread = kind == 0 ? 0.01f : 12.0f;
	for (uint32_t i = 0; i < n; i++) {
		x[i] = spread * (random_float(rng) + random_float(rng) + random_float(rng));
		if (kind == 1)
			x[i] = (float)(int)x[i];
		if (kind == 2 && rng_below(rng, 3))
			x[i] = -INFINITY;
		if (kind == 3)
			x[i] = -1.25f;
	}
	if (kind == 4)
		x[rng_below(rng, n)] = 90.0f;
}

static void ask_cuts(struct rng *rng, struct sampling *s, uint32_t n)
{
	static const float top_p[] = {1.0f, 1e-30f, 0.3f, 0.9f, 0.99999994f};
	static const float min_p[] = {0.0f, 0.05f, 1.0f};
	static const float temperature[] = {0.0f, 0.01f, 0.7f, 1.0f, 1.0f, 2.0f};
	const int32_t top_k[] = {-1, 1, 7, (int32_t)n / 2, (int32_t)n - 1, (int32_t)n};
	s->temperature = temperature[rng_below(rng, 6)];
	s->top_k = top_k[rng_below(rng, 6)];
	s->top_p = top_p[rng_below(rng, 5)];
	s->min_p = rng_below(rng, 2) ? 0 : min_p[rng_below(rng, 3)];
}

static void ask_changes(struct rng *rng, struct asked *a, uint32_t n)
{
	struct sampling *s = &a->sampling;
	s->repetition_penalty = rng_below(rng, 2) ? 1.0f : 0.5f + rng_unit(rng_next(rng));
	s->frequency_penalty = rng_below(rng, 2) ? 0.0f : random_float(rng);
	s->presence_penalty = rng_below(rng, 2) ? 0.0f : 2.0f * random_float(rng);
	a->row.seen = a->seen;
	uint32_t stride = n / SEEN_MAX + 1;
	for (uint32_t token = (uint32_t)rng_below(rng, stride); token < n && a->row.seen_count < SEEN_MAX; token += stride)
		a->seen[a->row.seen_count++] = (struct sample_seen){token, (uint32_t)rng_below(rng, 4)};
	s->bias_count = (uint8_t)rng_below(rng, 5);
	for (int i = 0; i < s->bias_count; i++) /* some twice, some beyond the vocabulary */
		s->biases[i] = (struct sampling_bias){(uint32_t)rng_below(rng, n / 8 + 2) + (i == 3 ? n : 0), 8 * random_float(rng)};
	a->row.masked = a->masked;
	a->row.masked_count = (uint32_t)rng_below(rng, 4);
	for (uint32_t i = 0; i < a->row.masked_count; i++)
		a->masked[i] = i == 2 ? n + 3 : (uint32_t)rng_below(rng, n);
	if (rng_below(rng, 3) == 0) {
		uint32_t words = (n + 63) / 64, few = (uint32_t)rng_below(rng, 2);
		a->allowed = calloc(words, sizeof(uint64_t));
		for (uint32_t i = 0; i < words; i++)
			a->allowed[i] = few ? 0 : rng_next(rng);
		for (int i = 0; i < 3; i++) {
			uint32_t token = (uint32_t)rng_below(rng, n);
			a->allowed[token / 64] |= UINT64_C(1) << token % 64;
		}
	}
	a->row.allowed = a->allowed;
}

static void ask(struct rng *rng, struct asked *a, uint32_t n)
{
	*a = (struct asked){.sampling = {.seed = rng_next(rng), .repetition_penalty = 1}};
	a->row.logprobs = rng_below(rng, 3) ? -1 : (int32_t)rng_below(rng, SAMPLING_TOP_LOGPROBS_MAX + 1);
	if (rng_below(rng, 6) == 0) {
		a->row.token = (uint32_t)rng_below(rng, n); /* scored */
		return;
	}
	a->row.sampling = &a->sampling;
	a->row.choices = a->choices;
	a->row.choice_count = rng_below(rng, 3) ? 1 : 1 + (uint32_t)rng_below(rng, SAMPLING_CHOICES_MAX);
	for (uint32_t i = 0; i < a->row.choice_count; i++)
		a->choices[i] = (uint16_t)rng_below(rng, 100);
	a->row.position = (uint32_t)rng_below(rng, 100000);
	ask_cuts(rng, &a->sampling, n);
	if (rng_below(rng, 2))
		ask_changes(rng, a, n);
}

struct batch {
	uint32_t n, rows;
	size_t stride;
	float *logits;
	struct asked asked[ROWS_MAX];
	struct sample expected[ROWS_MAX][SAMPLING_CHOICES_MAX];
};

static void sample_on(struct device *device, struct sample_scratch *scratch, const struct batch *b, const float *logits, uint32_t first,
		      uint32_t count, struct sample (*samples)[SAMPLING_CHOICES_MAX])
{
	struct sample_row rows[ROWS_MAX];
	const struct sample_call call = {.logits = logits + first * b->stride, .stride = b->stride, .rows = rows, .row_count = count};
	for (uint32_t i = 0; i < count; i++) {
		rows[i] = b->asked[first + i].row;
		rows[i].ret_samples = samples[first + i];
	}
	op_sample(scratch, &call);
	memset(rows, 0xff, sizeof(rows)); /* what is asked may go when the call returns */
	assert_int_equal(device_sync(device), ERR_OK);
}

static void make_batch(struct rng *rng, struct batch *b, uint32_t n, uint32_t rows)
{
	*b = (struct batch){.n = n, .rows = rows, .stride = n + rng_below(rng, 2) * 5};
	b->logits = random_floats(rng, rows * b->stride);
	for (uint32_t i = 0; i < rows; i++) {
		fill_logits(rng, b->logits + i * b->stride, n);
		ask(rng, &b->asked[i], n);
		if (b->asked[i].row.sampling)
			b->asked[i].row.sampling = &b->asked[i].sampling;
	}
	struct sample_scratch *scratch;
	assert_int_equal(sample_scratch_create(cpu, n, &scratch), ERR_OK);
	sample_on(cpu, scratch, b, b->logits, 0, rows, b->expected);
	sample_scratch_destroy(scratch);
}

static void free_batch(struct batch *b)
{
	for (uint32_t i = 0; i < b->rows; i++)
		free(b->asked[i].allowed);
	free(b->logits);
	free(b);
}

static void check(const struct batch *b, struct sample (*got)[SAMPLING_CHOICES_MAX])
{
	for (uint32_t i = 0; i < b->rows; i++) {
		const struct asked *a = &b->asked[i];
		for (uint32_t c = 0; c < (a->row.sampling ? a->row.choice_count : 1); c++)
			if (memcmp(&got[i][c], &b->expected[i][c], sizeof(got[i][c])) != 0)
				fail_msg("vocabulary %u, row %u, choice %u: token %u, a CPU's %u (logprob %a, %a; rank %u, %u; temperature "
					 "%g, top_k %d, top_p %g, min_p %g)",
					 b->n, i, c, got[i][c].token, b->expected[i][c].token, (double)got[i][c].logprob,
					 (double)b->expected[i][c].logprob, got[i][c].rank, b->expected[i][c].rank,
					 (double)a->sampling.temperature, a->sampling.top_k, (double)a->sampling.top_p,
					 (double)a->sampling.min_p);
	}
}

/* All rows at once, then one by one: the same, and a CPU's. */
static void run_batches(uint64_t seed, uint32_t n, uint32_t rows, uint32_t batches)
{
	struct rng rng = {.seed = seed};
	struct sample(*got)[SAMPLING_CHOICES_MAX];
	struct sample_scratch *scratch;
	assert_int_equal(dev_alloc(gpu, MEM_PINNED, ROWS_MAX * sizeof(*got), (void **)&got), ERR_OK);
	assert_int_equal(sample_scratch_create(gpu, n, &scratch), ERR_OK);
	for (uint32_t round = 0; round < batches; round++) {
		struct batch *b = malloc(sizeof(*b));
		make_batch(&rng, b, n, rows);
		size_t bytes = rows * b->stride * sizeof(float);
		float *there = gpu_put(gpu, b->logits, bytes);
		memset(got, 0xff, ROWS_MAX * sizeof(*got));
		sample_on(gpu, scratch, b, there, 0, rows, got);
		check(b, got);
		uint32_t alone = (uint32_t)rng_below(&rng, rows);
		memset(got[alone], 0xff, sizeof(got[alone]));
		sample_on(gpu, scratch, b, there, alone, 1, got);
		check(b, got);
		dev_free(gpu, MEM_DEVICE, there, bytes);
		free_batch(b);
	}
	sample_scratch_destroy(scratch);
	dev_free(gpu, MEM_PINNED, got, ROWS_MAX * sizeof(*got));
}

static void small_vocabularies_give_the_tokens_of_a_cpu(void **state)
{
	static const uint32_t sizes[] = {1, 3, 20, 21, 400, 1000, 2048, 2051};
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
		run_batches(i + 1, sizes[i], ROWS_MAX, 4);
}

/* Of one, two, four and eight blocks. */
static void rows_shared_out_give_the_tokens_of_a_cpu(void **state)
{
	run_batches(20, 16384, 4, 1);
	run_batches(21, 20001, 4, 1);
	run_batches(22, 50257, 3, 1);
	run_batches(23, 128256, 3, 1);
}

/* More is asked than one piece of staging holds. */
static void a_batch_may_ask_more_than_a_piece_holds(void **state)
{
	enum { N = 100000, ROWS = 6 };
	struct rng rng = {.seed = 30};
	struct sample(*got)[SAMPLING_CHOICES_MAX], (*expected)[SAMPLING_CHOICES_MAX] = calloc(ROWS, sizeof(*expected));
	struct sample_seen *seen = malloc(N * sizeof(*seen));
	struct sample_scratch *scratch, *oracle;
	struct batch *b = calloc(1, sizeof(*b));
	*b = (struct batch){.n = N, .rows = ROWS, .stride = N, .logits = random_floats(&rng, N * ROWS)};
	for (uint32_t i = 0; i < N; i++)
		seen[i] = (struct sample_seen){i, (uint32_t)rng_below(&rng, 3)};
	for (uint32_t i = 0; i < ROWS; i++) {
		struct asked *a = &b->asked[i];
		a->sampling = (struct sampling){.repetition_penalty = 1.5f, .frequency_penalty = 0.25f, .top_p = 1};
		a->row = (struct sample_row){.sampling = &a->sampling, .seen = seen, .seen_count = N, .choices = a->choices,
					     .choice_count = 1, .logprobs = -1};
	}
	assert_int_equal(dev_alloc(gpu, MEM_PINNED, ROWS * sizeof(*got), (void **)&got), ERR_OK);
	assert_int_equal(sample_scratch_create(gpu, N, &scratch), ERR_OK);
	assert_int_equal(sample_scratch_create(cpu, N, &oracle), ERR_OK);
	float *there = gpu_put(gpu, b->logits, N * ROWS * sizeof(float));
	sample_on(cpu, oracle, b, b->logits, 0, ROWS, b->expected);
	sample_on(gpu, scratch, b, there, 0, ROWS, got);
	check(b, got);
	sample_scratch_destroy(scratch);
	sample_scratch_destroy(oracle);
	dev_free(gpu, MEM_DEVICE, there, N * ROWS * sizeof(float));
	dev_free(gpu, MEM_PINNED, got, ROWS * sizeof(*got));
	free(seen);
	free(expected);
	free_batch(b);
}

static void a_vocabulary_beyond_the_shared_memory_is_refused(void **state)
{
	struct sample_scratch *scratch;
	assert_int_equal(sample_scratch_create(gpu, 1 << 20, &scratch), ERR_UNSUPPORTED);
	assert_int_equal(sample_scratch_create(gpu, SAMPLE_VOCAB_MAX + 1, &scratch), ERR_UNSUPPORTED);
	assert_int_equal(sample_scratch_create(gpu, 400000, &scratch), ERR_OK);
	sample_scratch_destroy(scratch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(small_vocabularies_give_the_tokens_of_a_cpu),
		cmocka_unit_test(rows_shared_out_give_the_tokens_of_a_cpu),
		cmocka_unit_test(a_batch_may_ask_more_than_a_piece_holds),
		cmocka_unit_test(a_vocabulary_beyond_the_shared_memory_is_refused),
	};
	return cmocka_run_group_tests(tests, open_both, close_both);
}

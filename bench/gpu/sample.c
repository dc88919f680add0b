#include <stdio.h>

#include "bench/gpu/bench.h"
#include "bench/gpu/shapes.h"
#include "kernels/sample.h"

/* The choice of tokens of a batch: logits are read once. */
enum { VOCABULARY = SHAPES_VOCABULARY, ROWS_MAX = SHAPES_SAMPLED_MAX };

struct choices {
	struct sample_scratch *scratch;
	struct sampling sampling;
	uint16_t choice;
	struct sample *samples; /* [ROWS_MAX] */
	struct sample_row rows[ROWS_MAX];
	struct sample_call call;
};

static void choose(void *context, uint32_t index)
{
	struct choices *c = context;
	op_sample(c->scratch, &c->call);
}

static void measure(struct bench *bench, struct choices *c, const char *what, struct sampling sampling, int32_t logprobs)
{
	static const uint32_t batches[] = {SHAPES_SAMPLED};
	char name[64];
	c->sampling = sampling;
	for (size_t i = 0; i < sizeof(batches) / sizeof(*batches); i++) {
		c->call.row_count = batches[i];
		for (uint32_t row = 0; row < batches[i]; row++)
			c->rows[row] = (struct sample_row){.sampling = &c->sampling, .choices = &c->choice, .choice_count = 1,
							   .position = row, .logprobs = logprobs, .ret_samples = &c->samples[row]};
		snprintf(name, sizeof(name), "sample/%s/%u x %d", what, batches[i], VOCABULARY);
		bench_measure(bench, name, (struct work){.bytes = 4.0 * batches[i] * VOCABULARY}, choose, c);
	}
}

void bench_sample(struct bench *bench)
{
	static struct choices c;
	const struct sampling greedy = {.top_p = 1, .repetition_penalty = 1}, drawn = {.temperature = 1, .top_p = 1, .repetition_penalty = 1};
	struct sampling cut = drawn;
	size_t bytes = (size_t)ROWS_MAX * VOCABULARY * sizeof(float);
	float *logits = bench_alloc(bench, bytes);
	cut.top_k = 50;
	cut.top_p = 0.95f;
	bench_fill_f32(bench, logits, bytes / sizeof(float), 12);
	c.call = (struct sample_call){.logits = logits, .stride = VOCABULARY, .rows = c.rows};
	bench_check(sample_scratch_create(bench->device, VOCABULARY, &c.scratch), "scratch");
	bench_check(dev_alloc(bench->device, MEM_PINNED, ROWS_MAX * sizeof(*c.samples), (void **)&c.samples), "samples");
	measure(bench, &c, "greedy", greedy, -1);
	measure(bench, &c, "greedy, 20 logprobs", greedy, 20);
	measure(bench, &c, "drawn", drawn, -1);
	measure(bench, &c, "top_k 50, top_p 0.95", cut, -1);
	sample_scratch_destroy(c.scratch);
	dev_free(bench->device, MEM_PINNED, c.samples, ROWS_MAX * sizeof(*c.samples));
	bench_free(bench, logits, bytes);
}

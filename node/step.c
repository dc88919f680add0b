#include "node/core_impl.h"

/* Starts the next step when none is in flight and something has work. */
void node_pump(struct node *n)
{
	if (n->in_flight)
		return;
	prefill_prepare(n->prefill);
	sched_plan(n->sched, &n->plan);
	if (n->plan.run_count == 0)
		return;
	for (uint32_t i = 0; i < n->plan.run_count; i++) {
		const struct run *run = &n->plan.runs[i];
		if (prefill_owns(n->prefill, run->sequence))
			prefill_planned(n->prefill, run);
		else
			decode_planned(n->decode, run);
	}
	n->in_flight = true;
	n->submitted_ns = n->local.now_ns;
	n->options.submit(n->options.context, &n->plan);
}

static void take_digests(struct node *n, const struct run *run, uint32_t layer)
{
	const struct kv_layer *at = &n->local.layers[layer];
	uint32_t tokens = n->local.block_tokens;
	uint32_t end = (run->first + run->count + tokens - 1) / tokens;
	for (uint32_t i = run->first / tokens; i < end; i++) {
		uint32_t block = run->sequence->tables[at->group].blocks[i];
		kv_local_digests(&n->local, block)[at->place] =
			n->options.block_digest(n->options.context, block, at->place);
	}
}

void node_layer_done(struct node *n, uint32_t layer, uint64_t now_ns)
{
	n->local.now_ns = now_ns;
	for (uint32_t i = 0; n->in_flight && i < n->plan.run_count; i++) {
		const struct run *run = &n->plan.runs[i];
		if (!run->digest)
			continue;
		take_digests(n, run, layer);
		if (prefill_owns(n->prefill, run->sequence))
			prefill_layer_done(n->prefill, run, layer);
	}
}

/* A mean that forgets: one part in eight of the newest. */
static void average(float *mean, float value)
{
	*mean = *mean > 0 ? *mean + (value - *mean) / 8 : value;
}

static void measure(struct node *n, uint64_t now_ns)
{
	uint32_t prompt = 0, rows = 0;
	for (uint32_t i = 0; i < n->plan.run_count; i++) {
		const struct run *run = &n->plan.runs[i];
		if (prefill_owns(n->prefill, run->sequence))
			prompt += run->count;
		else
			rows += run->count;
	}
	float seconds = (float)(now_ns - n->submitted_ns) * 1e-9f;
	if (seconds > 0 && prompt >= n->local.block_tokens)
		average(&n->prefill_tokens_per_s, (float)prompt / seconds);
	if (rows > 0 && prompt == 0)
		average(&n->step_seconds, seconds);
	n->steps++;
	n->prompt_tokens += prompt;
	n->generation_tokens += n->plan.sample_count - n->plan.score_count;
}

void node_step_done(struct node *n, const struct sample *samples, enum err e, uint64_t now_ns)
{
	n->local.now_ns = now_ns;
	measure(n, now_ns);
	n->in_flight = false;
	if (e == ERR_OK)
		sched_done(n->sched, &n->plan);
	for (uint32_t i = 0; i < n->plan.run_count; i++) {
		const struct run *run = &n->plan.runs[i];
		if (prefill_owns(n->prefill, run->sequence))
			prefill_step_done(n->prefill, run, samples, e);
		else
			decode_step_done(n->decode, run, samples, e);
	}
	node_flush_tokens(n);
	node_pump(n);
}

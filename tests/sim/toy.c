#include "tests/sim/toy.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/layer_groups.h"
#include "base/rng.h"
#include "engine/sequence.h"

struct kv {
	uint64_t a, b;
};

struct toy {
	struct toy_options options;
	uint8_t *memory[LAYER_GROUPS_MAX];
	uint64_t *digests[LAYER_GROUPS_MAX]; /* [block_count][layers of the group] */
	const struct plan *plan;
	uint32_t layer; /* of the plan, next to be computed */
};

/* ---- its kinds */

uint32_t toy_group_count(enum toy_kind kind)
{
	return kind == TOY_MIXED ? 2 : 1;
}

uint32_t toy_window(enum toy_kind kind, uint32_t group)
{
	return kind == TOY_WINDOWED || (kind == TOY_MIXED && group == 0) ? TOY_WINDOW : 0;
}

const struct kv_layer *toy_layers(enum toy_kind kind)
{
	static const struct kv_layer one[TOY_LAYERS] = {{0, 0}, {0, 1}, {0, 2}}, mixed[TOY_LAYERS] = {{0, 0}, {1, 0}, {0, 1}};
	return kind == TOY_MIXED ? mixed : one;
}

static uint32_t group_layers(enum toy_kind kind, uint32_t group)
{
	return kind != TOY_MIXED ? TOY_LAYERS : group == 0 ? 2 : 1;
}

uint32_t toy_block_bytes(enum toy_kind kind, uint32_t group)
{
	return group_layers(kind, group) * TOY_LAYER_BYTES;
}

/* The first token of a layer that the last of `count` sees. */
static uint32_t seen_first(enum toy_kind kind, uint32_t layer, uint32_t count)
{
	uint32_t window = toy_window(kind, toy_layers(kind)[layer].group);
	return window > 0 && count > window ? count - window : 0;
}

uint64_t toy_digest(const void *data, size_t length)
{
	return hash_xxh3(data, length, 77);
}

struct toy *toy_create(const struct toy_options *options)
{
	struct toy *toy = calloc(1, sizeof(*toy));
	assert(toy);
	toy->options = *options;
	for (uint32_t g = 0; g < toy_group_count(options->kind); g++) {
		size_t bytes = (size_t)options->block_counts[g] * toy_block_bytes(options->kind, g);
		toy->memory[g] = malloc(bytes);
		toy->digests[g] = calloc((size_t)options->block_counts[g] * TOY_LAYERS, sizeof(uint64_t));
		assert(toy->memory[g] && toy->digests[g]);
		/* Whoever reads what was never written gets something that no computation gives. */
		memset(toy->memory[g], 0xee, bytes);
	}
	return toy;
}

void toy_destroy(struct toy *toy)
{
	if (!toy)
		return;
	for (uint32_t g = 0; g < LAYER_GROUPS_MAX; g++) {
		free(toy->memory[g]);
		free(toy->digests[g]);
	}
	free(toy);
}

uint8_t *toy_memory(struct toy *toy, uint32_t group)
{
	return toy->memory[group];
}

/* ---- the model: the same for blocks and for plain arrays */

static struct kv kv_of(uint32_t token, uint32_t position, uint32_t layer, struct kv before, struct kv below)
{
	uint64_t a = rng_at(token, (uint64_t)position << 8 | layer, before.a ^ rng_mix(below.a));
	return (struct kv){a, rng_at(a, before.b, below.b)};
}

static const struct kv kv_none = {1, 2};

/* A piece of KV goes into the digest of all; pieces are whole blocks of one layer, the last may be shorter. */
static uint64_t digest_add(uint64_t digest, const void *piece, uint32_t tokens)
{
	return rng_mix(digest ^ hash_xxh3(piece, (size_t)tokens * TOY_TOKEN_BYTES, 5));
}

static uint32_t choose(uint64_t digest, const struct sampling *sampling, uint32_t choice, uint32_t position)
{
	uint64_t drawn = sampling->temperature > 0 ? rng_at(sampling->seed, choice, position) : 0;
	return (uint32_t)(rng_mix(digest ^ drawn) % TOY_VOCAB);
}

/* The toy's one structure: a token leaves the rest of three that the sum of those generated before it leaves. */
static uint32_t keep_structure(uint32_t token, const uint32_t *generated, uint32_t count)
{
	uint32_t sum = 0;
	for (uint32_t i = 0; i < count; i++)
		sum += generated[i];
	token = token - token % 3 + sum % 3;
	return token < TOY_VOCAB ? token : token - 3;
}

/* ---- over blocks */

/* The group of a block, and its number there. */
static uint32_t group_of(const struct toy *toy, uint32_t block, uint32_t *ret_index)
{
	uint32_t g = block >= toy->options.block_counts[0];
	*ret_index = block - g * toy->options.block_counts[0];
	assert(g < toy_group_count(toy->options.kind) && *ret_index < toy->options.block_counts[g]);
	return g;
}

static uint8_t *kv_at(const struct toy *toy, const struct sequence *s, uint32_t position, uint32_t layer)
{
	const struct kv_layer *at = &toy_layers(toy->options.kind)[layer];
	const struct sequence_table *table = &s->tables[at->group];
	uint32_t i = position / TOY_BLOCK_TOKENS, index;
	assert(i >= table->first && i < table->count);
	uint32_t group = group_of(toy, table->blocks[i], &index);
	assert(group == at->group);
	return toy->memory[group] + (size_t)index * toy_block_bytes(toy->options.kind, group) + at->place * TOY_LAYER_BYTES +
	       position % TOY_BLOCK_TOKENS * TOY_TOKEN_BYTES;
}

static struct kv kv_read(const struct toy *toy, const struct sequence *s, uint32_t position, uint32_t layer)
{
	struct kv kv;
	memcpy(&kv, kv_at(toy, s, position, layer), sizeof(kv));
	return kv;
}

static void note_digest(struct toy *toy, uint32_t block, uint32_t layer, uint64_t digest)
{
	uint32_t index, group = group_of(toy, block, &index);
	toy->digests[group][(size_t)index * TOY_LAYERS + toy_layers(toy->options.kind)[layer].place] = digest;
}

static void compute_run(struct toy *toy, const struct run *run, uint32_t layer)
{
	const struct sequence *s = run->sequence;
	for (uint32_t p = run->first; p < run->first + run->count; p++) {
		uint8_t *at = kv_at(toy, s, p, layer);
		if (p % TOY_BLOCK_TOKENS == 0)
			memset(at, 0, TOY_LAYER_BYTES); /* a partial block has a digest too */
		struct kv before = p > 0 ? kv_read(toy, s, p - 1, layer) : kv_none;
		struct kv below = layer > 0 ? kv_read(toy, s, p, layer - 1) : kv_none;
		struct kv kv = kv_of(s->tokens[p], p, layer, before, below);
		memcpy(at, &kv, sizeof(kv));
	}
	for (uint32_t i = run->first / TOY_BLOCK_TOKENS; run->digest && i * TOY_BLOCK_TOKENS < run->first + run->count; i++)
		note_digest(toy, s->tables[toy_layers(toy->options.kind)[layer].group].blocks[i], layer,
			    toy_digest(kv_at(toy, s, i * TOY_BLOCK_TOKENS, layer), TOY_LAYER_BYTES));
}

static uint64_t digest_sequence(const struct toy *toy, const struct sequence *s, uint32_t count)
{
	uint64_t digest = count;
	for (uint32_t p = 0; p < count; p += TOY_BLOCK_TOKENS)
		for (uint32_t layer = 0; layer < TOY_LAYERS; layer++) {
			uint32_t low = seen_first(toy->options.kind, layer, count), end = p + TOY_BLOCK_TOKENS;
			uint32_t first = p > low ? p : low;
			end = end < count ? end : count;
			if (first < end)
				digest = digest_add(digest, kv_at(toy, s, first, layer), end - first);
		}
	return digest;
}

/* What the toy says of the prompt token that follows `count` others. */
static float score_of(uint64_t digest, uint32_t token)
{
	return -(float)(rng_mix(digest ^ token) & 1023) / 64;
}

static void score_run(const struct toy *toy, const struct run *run, struct sample *samples)
{
	const struct sequence *s = run->sequence;
	for (uint32_t i = 0; i < run->score_count; i++) {
		uint32_t p = run->score_first + i, token = s->tokens[p + 1];
		assert(p >= run->first && p < run->first + run->count && p + 1 < s->prompt_count);
		samples[run->score_index + i] = (struct sample){
			.token = token, .logprob = score_of(digest_sequence(toy, s, p + 1), token), .rank = 1 + token};
	}
}

static void sample_run(const struct toy *toy, const struct run *run, struct sample *samples)
{
	const struct sequence *s = run->sequence;
	if (run->sample_count == 0)
		return;
	uint32_t count = run->first + run->count;
	assert(run->sample_count == s->choice_count && count == s->token_count);
	uint64_t digest = digest_sequence(toy, s, count);
	for (uint32_t i = 0; i < run->sample_count; i++) {
		uint32_t token = choose(digest, s->sampling, s->choices[i], count);
		if (s->constraint)
			token = keep_structure(token, s->tokens + s->prompt_count, count - s->prompt_count);
		samples[run->sample_first + i] = (struct sample){.token = token, .logprob = -(float)(digest & 1023) / 64};
	}
}

static void run_layer(void *context, uint64_t number)
{
	struct toy *toy = context;
	const struct plan *plan = toy->plan;
	const struct toy_options *o = &toy->options;
	(void)number;
	if (toy->layer < TOY_LAYERS) {
		uint32_t layer = toy->layer++;
		for (uint32_t i = 0; i < plan->run_count; i++)
			compute_run(toy, &plan->runs[i], layer);
		uint64_t next_ns = sim_now(o->sim) + (toy->layer < TOY_LAYERS ? o->layer_ns : 0) +
				   (toy->layer < TOY_LAYERS ? o->token_ns * plan->token_count : 0);
		sim_at(o->sim, next_ns, o->index, run_layer, toy, 0);
		o->layer_done(o->context, layer);
		return;
	}
	struct sample samples[PLAN_SAMPLES_MAX];
	for (uint32_t i = 0; i < plan->run_count; i++)
		sample_run(toy, &plan->runs[i], samples);
	for (uint32_t i = 0; i < plan->run_count; i++)
		score_run(toy, &plan->runs[i], samples);
	toy->plan = NULL;
	o->step_done(o->context, samples);
}

void toy_submit(struct toy *toy, const struct plan *plan)
{
	assert(!toy->plan && plan->run_count > 0);
	toy->plan = plan;
	toy->layer = 0;
	const struct toy_options *o = &toy->options;
	sim_at(o->sim, sim_now(o->sim) + o->layer_ns + o->token_ns * plan->token_count, o->index, run_layer, toy, 0);
}

uint64_t toy_block_digest(const struct toy *toy, uint32_t block, uint32_t place)
{
	uint32_t index, group = group_of(toy, block, &index);
	return toy->digests[group][(size_t)index * TOY_LAYERS + place];
}

void toy_copy_block(struct toy *toy, uint32_t from, uint32_t to)
{
	uint32_t index, other, group = group_of(toy, from, &index), bytes = toy_block_bytes(toy->options.kind, group);
	uint32_t same = group_of(toy, to, &other);
	assert(same == group);
	memcpy(toy->memory[group] + (size_t)other * bytes, toy->memory[group] + (size_t)index * bytes, bytes);
}

/* ---- alone */

static uint64_t digest_alone(enum toy_kind kind, struct kv kv[TOY_LAYERS][TOY_CONTEXT_MAX], uint32_t count)
{
	uint64_t digest = count;
	for (uint32_t q = 0; q < count; q += TOY_BLOCK_TOKENS)
		for (uint32_t layer = 0; layer < TOY_LAYERS; layer++) {
			uint32_t low = seen_first(kind, layer, count), end = q + TOY_BLOCK_TOKENS;
			uint32_t first = q > low ? q : low;
			end = end < count ? end : count;
			if (first < end)
				digest = digest_add(digest, &kv[layer][first], end - first);
		}
	return digest;
}

static bool stops(const struct sampling *sampling, uint32_t token)
{
	for (uint32_t i = 0; i < sampling->stop_id_count; i++)
		if (sampling->stop_ids[i] == token)
			return true;
	return !sampling->ignore_eos && token == TOY_EOS;
}

void toy_score_oracle(enum toy_kind kind, const uint32_t *prompt, uint32_t prompt_count, float *ret_logprobs)
{
	struct kv kv[TOY_LAYERS][TOY_CONTEXT_MAX];
	for (uint32_t p = 0; p + 1 < prompt_count; p++) {
		for (uint32_t layer = 0; layer < TOY_LAYERS; layer++)
			kv[layer][p] = kv_of(prompt[p], p, layer, p > 0 ? kv[layer][p - 1] : kv_none,
					     layer > 0 ? kv[layer - 1][p] : kv_none);
		uint32_t count = p + 1;
		uint64_t digest = digest_alone(kind, kv, count);
		ret_logprobs[p] = score_of(digest, prompt[p + 1]);
	}
}

uint32_t toy_oracle(enum toy_kind kind, const uint32_t *prompt, uint32_t prompt_count, const struct sampling *sampling, uint32_t choice,
		    uint32_t *ret_tokens, enum finish *ret_finish)
{
	struct kv kv[TOY_LAYERS][TOY_CONTEXT_MAX];
	uint32_t token = prompt[0], generated = 0;
	for (uint32_t p = 0;; p++) {
		for (uint32_t layer = 0; layer < TOY_LAYERS; layer++)
			kv[layer][p] = kv_of(token, p, layer, p > 0 ? kv[layer][p - 1] : kv_none,
					     layer > 0 ? kv[layer - 1][p] : kv_none);
		if (p + 1 < prompt_count) {
			token = prompt[p + 1];
			continue;
		}
		uint32_t count = p + 1;
		uint64_t digest = digest_alone(kind, kv, count);
		token = choose(digest, sampling, choice, count);
		if (sampling->structured)
			token = keep_structure(token, ret_tokens, generated);
		ret_tokens[generated++] = token;
		if ((generated > sampling->min_tokens || sampling->structured) && stops(sampling, token)) {
			*ret_finish = FINISH_STOP;
			return generated;
		}
		if (generated == sampling->max_tokens || count + 1 == TOY_CONTEXT_MAX) {
			*ret_finish = FINISH_LENGTH;
			return generated;
		}
	}
}

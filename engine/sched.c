#include "engine/sched.h"

#include <assert.h>

#include "base/layer_groups.h"

struct sched {
	struct sched_options options;
	uint64_t plan_number;
	uint32_t count;
	struct sequence *sequences[]; /* [seq_max], by arrival, then by order of sched_add() */
};

size_t sched_bytes(const struct sched_options *options)
{
	return sizeof(struct sched) + options->seq_max * sizeof(struct sequence *);
}

struct sched *sched_init(void *memory, const struct sched_options *options)
{
	assert(options->seq_max > 0 && options->seq_max <= PLAN_RUNS_MAX);
	assert(options->block_tokens > 0 && options->group_count > 0 && options->group_count <= LAYER_GROUPS_MAX);
	assert(options->batch_tokens_max >= options->seq_max);
	assert(options->batch_tokens_max >= options->block_tokens);
	assert(options->chunk_tokens > 0 && options->chunk_tokens % options->block_tokens == 0);

	struct sched *sched = memory;
	*sched = (struct sched){.options = *options};
	return sched;
}

enum err sched_add(struct sched *sched, struct sequence *sequence)
{
	assert(sequence->choice_count >= 1 && sequence->choice_count <= SAMPLING_CHOICES_MAX);
	if (sched->count == sched->options.seq_max)
		return ERR_AGAIN;
	uint32_t slot = sched->count++;
	while (slot > 0 && sched->sequences[slot - 1]->arrival > sequence->arrival) {
		sched->sequences[slot] = sched->sequences[slot - 1];
		sched->sequences[slot]->sched_slot = slot;
		slot--;
	}
	sched->sequences[slot] = sequence;
	sequence->sched_slot = slot;
	return ERR_OK;
}

void sched_remove(struct sched *sched, struct sequence *sequence)
{
	uint32_t slot = sequence->sched_slot;
	assert(slot < sched->count && sched->sequences[slot] == sequence);
	sched->count--;
	for (; slot < sched->count; slot++) {
		sched->sequences[slot] = sched->sequences[slot + 1];
		sched->sequences[slot]->sched_slot = slot;
	}
}

static uint32_t tokens_left(const struct sequence *sequence)
{
	assert(sequence->computed <= sequence->token_count);
	return sequence->token_count - sequence->computed;
}

/* How many tokens a chunk of the sequence may have with so much room: to the sequence's end, or to the
 * last block boundary that fits, or 0. */
static uint32_t chunk_size(const struct sched *sched, const struct sequence *sequence, uint32_t room)
{
	uint32_t left = tokens_left(sequence);
	uint32_t count = room < sched->options.chunk_tokens ? room : sched->options.chunk_tokens;
	if (count >= left)
		return left;
	uint32_t end = (sequence->computed + count) / sched->options.block_tokens * sched->options.block_tokens;
	return end > sequence->computed ? end - sequence->computed : 0;
}

/* Of the next `count` rows, those whose next token is scored. */
static uint32_t scored_rows(const struct sequence *sequence, uint32_t count, uint32_t *ret_first)
{
	uint32_t first = sequence->computed > sequence->score_first ? sequence->computed : sequence->score_first;
	uint32_t end = sequence->computed + count;
	end = end < sequence->score_end ? end : sequence->score_end;
	*ret_first = first;
	return end > first ? end - first : 0;
}

/* Every scored row wants a place among the step's results, and so do the tokens chosen at the end. */
static uint32_t scores_room(const struct plan *plan, const struct sequence *sequence, uint32_t room)
{
	uint32_t places = PLAN_SAMPLES_MAX - plan->sample_count;
	uint32_t most = places > sequence->choice_count ? places - sequence->choice_count : 0;
	bool scores = sequence->computed < sequence->score_end && sequence->score_first < sequence->score_end;
	return scores && most < room ? most : room;
}

/* Appends a run of count tokens, unless it samples and the step has no place for its samples. */
static void add_run(const struct sched *sched, struct plan *plan, struct sequence *sequence, uint32_t count)
{
	uint32_t score_first = 0, score_count = scored_rows(sequence, count, &score_first);
	uint32_t block_tokens = sched->options.block_tokens;
	uint32_t first = sequence->computed;
	uint32_t end = first + count;
	uint16_t sample_count = end == sequence->token_count ? sequence->choice_count : 0;
	if (plan->sample_count + sample_count + score_count > PLAN_SAMPLES_MAX)
		return;
	for (uint32_t g = 0; g < sched->options.group_count; g++)
		assert((uint64_t)sequence->tables[g].count * block_tokens >= end);
	plan->runs[plan->run_count++] = (struct run){
		.sequence = sequence,
		.first = first,
		.count = count,
		.sample_count = sample_count,
		.sample_first = plan->sample_count,
		.score_first = score_first,
		.score_count = score_count,
		.score_index = plan->sample_count + sample_count,
		.digest = sequence->handed_over || count > 1 || first < sequence->prompt_count || end % block_tokens == 0,
	};
	plan->token_count += count;
	plan->sample_count += sample_count + score_count;
	plan->score_count += score_count;
}

void sched_plan(struct sched *sched, struct plan *ret_plan)
{
	ret_plan->number = ++sched->plan_number;
	ret_plan->run_count = ret_plan->token_count = 0;
	ret_plan->sample_count = ret_plan->score_count = 0;
	for (uint32_t i = 0; i < sched->count; i++)
		if (tokens_left(sched->sequences[i]) == 1)
			add_run(sched, ret_plan, sched->sequences[i], 1);
	for (uint32_t i = 0; i < sched->count; i++) {
		struct sequence *sequence = sched->sequences[i];
		uint32_t room = sched->options.batch_tokens_max - ret_plan->token_count;
		room = scores_room(ret_plan, sequence, room);
		uint32_t count = tokens_left(sequence) > 1 ? chunk_size(sched, sequence, room) : 0;
		if (count > 0)
			add_run(sched, ret_plan, sequence, count);
	}
	ret_plan->token_bucket = plan_bucket(ret_plan->token_count);
}

void sched_done(struct sched *sched, const struct plan *plan)
{
	for (uint32_t i = 0; i < plan->run_count; i++) {
		const struct run *run = &plan->runs[i];
		assert(run->sequence->computed == run->first);
		run->sequence->computed += run->count;
		assert(run->sequence->computed <= run->sequence->token_count);
	}
}

uint32_t sched_count(const struct sched *sched)
{
	return sched->count;
}

uint64_t sched_tokens_waiting(const struct sched *sched)
{
	uint64_t tokens = 0;
	for (uint32_t i = 0; i < sched->count; i++) {
		const struct sequence *sequence = sched->sequences[i];
		uint32_t left = tokens_left(sequence);
		/* One token left after the prompt is a decode row, not a queue. */
		if (left > 1 || sequence->computed < sequence->prompt_count)
			tokens += left;
	}
	return tokens;
}

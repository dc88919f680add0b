#include "model/matcher.h"

#include <stdlib.h>
#include <string.h>

/* ---- frames */

static uint32_t bucket_of(uint32_t node, uint32_t parent)
{
	return (node * 2654435761u ^ parent * 2246822519u) >> 16 & (MATCHER_BUCKETS - 1);
}

enum { NO_FRAME = UINT32_MAX };

static uint32_t push(struct matcher *m, uint32_t node, uint32_t parent)
{
	uint32_t *bucket = &m->buckets[bucket_of(node, parent)];
	for (uint32_t i = *bucket; i; i = m->frames[i - 1].next)
		if (m->frames[i - 1].node == node && m->frames[i - 1].parent == parent)
			return i - 1;
	if (m->frame_count == MATCHER_FRAMES_MAX)
		return NO_FRAME;
	m->frames[m->frame_count] =
		(struct matcher_frame){.node = node, .parent = parent, .depth = m->frames[parent].depth + 1, .next = *bucket};
	*bucket = ++m->frame_count;
	return m->frame_count - 1;
}

void matcher_unwind(struct matcher *m, uint32_t count)
{
	while (m->frame_count > count) {
		const struct matcher_frame *frame = &m->frames[--m->frame_count];
		m->buckets[bucket_of(frame->node, frame->parent)] = frame->next;
	}
}

static void clear(struct matcher *m, const struct grammar *grammar)
{
	m->grammar = grammar;
	m->way_count = m->peak = 0;
	memset(m->buckets, 0, sizeof(m->buckets));
	m->frames[0] = (struct matcher_frame){0};
	m->frame_count = 1;
}

/* ---- one byte */

/* Grammar rule 1: only what can be finished within the stack's bound is begun. */
static bool fits(struct matcher *m, uint32_t node, uint32_t depth)
{
	uint32_t most = depth + m->grammar->nodes[node].need;
	if (most > m->peak)
		m->peak = most;
	return most <= GRAMMAR_DEPTH_MAX;
}

/* A rule that is over is left at once, so that equal ways look equal. */
static void add(struct matcher *m, struct matcher_way way, struct matcher_way *list, uint32_t *count)
{
	while (way.frame != 0 && grammar_is_tail(&m->grammar->nodes[way.node]))
		way = (struct matcher_way){m->frames[way.frame].node, m->frames[way.frame].parent};
	if (!fits(m, way.node, m->frames[way.frame].depth) || *count == MATCHER_WAYS_MAX)
		return;
	for (uint32_t i = 0; i < *count; i++)
		if (list[i].node == way.node && list[i].frame == way.frame)
			return;
	list[(*count)++] = way;
}

/* The frame to call from: none is needed where nothing is left to do after the call. */
static uint32_t frame_for(struct matcher *m, uint32_t target, uint32_t frame)
{
	return grammar_is_tail(&m->grammar->nodes[target]) ? frame : push(m, target, frame);
}

static void step_calls(struct matcher *m, struct matcher_way way, uint8_t byte, struct matcher_way *list,
		       uint32_t *count)
{
	const struct grammar *g = m->grammar;
	const struct grammar_node *node = &g->nodes[way.node];
	for (uint32_t i = 0; i < node->call_count; i++) {
		const struct grammar_call *call = &g->calls[node->call_first + i];
		const struct grammar_rule *rule = &g->rules[call->rule];
		if (!fits(m, call->target, m->frames[way.frame].depth))
			continue;
		uint32_t frame = grammar_begins(rule, byte) ? frame_for(m, call->target, way.frame) : NO_FRAME;
		if (frame != NO_FRAME)
			matcher_step(m, (struct matcher_way){rule->start, frame}, byte, list, count); /* and on behind it */
		else if (rule->nullable)
			matcher_step(m, (struct matcher_way){call->target, way.frame}, byte, list, count);
	}
}

void matcher_step(struct matcher *m, struct matcher_way way, uint8_t byte, struct matcher_way *list, uint32_t *count)
{
	const struct grammar *g = m->grammar;
	for (;;) {
		const struct grammar_node *node = &g->nodes[way.node];
		const struct grammar_edge *edge = g->edges + node->edge_first;
		for (uint32_t i = 0; i < node->edge_count && edge[i].low <= byte; i++)
			if (byte <= edge[i].high)
				add(m, (struct matcher_way){edge[i].target, way.frame}, list, count);
		step_calls(m, way, byte, list, count);
		if (!node->final || way.frame == 0)
			return;
		way = (struct matcher_way){m->frames[way.frame].node, m->frames[way.frame].parent};
	}
}

bool matcher_ends(const struct matcher *m, struct matcher_way way)
{
	while (m->grammar->nodes[way.node].final) {
		if (way.frame == 0)
			return true;
		way = (struct matcher_way){m->frames[way.frame].node, m->frames[way.frame].parent};
	}
	return false;
}

/* ---- texts */

void matcher_begin(struct matcher *m, const struct grammar *grammar)
{
	clear(m, grammar);
	m->ways[0] = (struct matcher_way){grammar->rules[grammar->root].start, 0};
	m->way_count = 1;
}

bool matcher_accepts(const struct matcher *m)
{
	for (uint32_t i = 0; i < m->way_count; i++)
		if (matcher_ends(m, m->ways[i]))
			return true;
	return false;
}

/* ---- forgetting the frames that no way needs any more */

static void mark_live(const struct matcher *m, bool *live)
{
	for (uint32_t i = 0; i < m->way_count; i++)
		for (uint32_t frame = m->ways[i].frame; !live[frame]; frame = m->frames[frame].parent)
			live[frame] = true;
}

/* A frame lies above the one that it was pushed on, so one pass from below renames them all. */
static void compact(struct matcher *m)
{
	bool live[MATCHER_FRAMES_MAX] = {true};
	uint32_t renamed[MATCHER_FRAMES_MAX], count = m->frame_count;
	mark_live(m, live);
	memset(m->buckets, 0, sizeof(m->buckets));
	m->frame_count = 1;
	renamed[0] = 0;
	for (uint32_t i = 1; i < count; i++)
		if (live[i])
			renamed[i] = push(m, m->frames[i].node, renamed[m->frames[i].parent]);
	for (uint32_t i = 0; i < m->way_count; i++)
		m->ways[i].frame = renamed[m->ways[i].frame];
}

enum { WAYS_FEW = 8 };

/* Where many ways run side by side only what lives is kept: whether there is room depends on the text alone then. */
static bool read_byte(struct matcher *m, uint8_t byte)
{
	uint32_t count = 0;
	if (m->frame_count > MATCHER_FRAMES_MAX / 2 || (m->way_count > WAYS_FEW && m->frame_count > 1))
		compact(m);
	for (uint32_t i = 0; i < m->way_count; i++)
		matcher_step(m, m->ways[i], byte, m->next, &count);
	memcpy(m->ways, m->next, count * sizeof(*m->ways));
	m->way_count = count;
	return count > 0;
}

bool matcher_read(struct matcher *m, const uint8_t *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (!read_byte(m, bytes[i]))
			return false;
	return true;
}

/* ---- states */

enum err matcher_save(struct matcher *m, struct matcher_state *state)
{
	compact(m);
	size_t ways = m->way_count * sizeof(*m->ways), frames = m->frame_count * sizeof(*m->frames);
	if (ways + frames > state->room) {
		void *memory = realloc(state->memory, ways + frames);
		if (!memory)
			return ERR_NOMEM;
		state->memory = memory;
		state->room = (uint32_t)(ways + frames);
	}
	state->way_count = m->way_count;
	state->frame_count = m->frame_count;
	memcpy(state->memory, m->ways, ways);
	memcpy((uint8_t *)state->memory + ways, m->frames, frames);
	return ERR_OK;
}

void matcher_load(struct matcher *m, const struct grammar *grammar, const struct matcher_state *state)
{
	const struct matcher_frame *frames =
		(const void *)((const uint8_t *)state->memory + state->way_count * sizeof(*m->ways));
	clear(m, grammar);
	m->way_count = state->way_count;
	memcpy(m->ways, state->memory, state->way_count * sizeof(*m->ways));
	for (uint32_t i = 1; i < state->frame_count; i++)
		(void)push(m, frames[i].node, frames[i].parent);
}

void matcher_state_fini(struct matcher_state *state)
{
	free(state->memory);
	*state = (struct matcher_state){0};
}

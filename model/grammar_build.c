#include "model/grammar_build.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void grammar_builder_init(struct grammar_builder *b, const uint8_t *usable, struct why *why)
{
	*b = (struct grammar_builder){.usable = usable, .why = why, .edge_count = 1, .text_tail = UINT32_MAX};
	(void)build_node(b);
}

void grammar_builder_fini(struct grammar_builder *b)
{
	free(b->heads);
	free(b->edges);
	free(b->rules);
	*b = (struct grammar_builder){0};
}

void build_refuse(struct grammar_builder *b, enum err e, const char *format, ...)
{
	if (b->e != ERR_OK)
		return;
	char text[400];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	b->e = why_set(b->why, e, "%s", text);
}

void build_count(struct grammar_builder *b, uint32_t steps)
{
	if (steps <= GRAMMAR_STEPS_MAX - b->steps)
		b->steps += steps;
	else
		build_refuse(b, ERR_TOO_LARGE, "it takes more than %d steps to compile", GRAMMAR_STEPS_MAX);
}

/* Room for one more of `size` bytes; false: refused. */
static bool grow(struct grammar_builder *b, void **items, uint32_t count, uint32_t *capacity, size_t size, uint32_t max,
		 const char *what)
{
	build_count(b, 1);
	if (b->e != ERR_OK || count < *capacity)
		return b->e == ERR_OK;
	if (count >= max) {
		build_refuse(b, ERR_TOO_LARGE, "it needs more than %u %s", max, what);
		return false;
	}
	uint32_t more = *capacity ? *capacity * 2 : 64;
	void *grown = realloc(*items, more * size);
	if (!grown) {
		build_refuse(b, ERR_NOMEM, "no memory for %u %s", more, what);
		return false;
	}
	*items = grown;
	*capacity = more;
	return true;
}

uint32_t build_node(struct grammar_builder *b)
{
	if (!grow(b, (void **)&b->heads, b->node_count, &b->node_capacity, sizeof(*b->heads), BUILD_NODES_MAX, "states"))
		return 0;
	b->heads[b->node_count] = 0;
	return b->node_count++;
}

uint32_t build_rule(struct grammar_builder *b)
{
	uint32_t start = build_node(b), end = build_node(b);
	if (!grow(b, (void **)&b->rules, b->rule_count, &b->rule_capacity, sizeof(*b->rules), GRAMMAR_RULES_MAX, "rules"))
		return 0;
	b->rules[b->rule_count] = (struct build_rule){start, end};
	return b->rule_count++;
}

static void add_edge(struct grammar_builder *b, uint32_t from, struct build_edge edge)
{
	if (!grow(b, (void **)&b->edges, b->edge_count, &b->edge_capacity, sizeof(*b->edges), BUILD_EDGES_MAX, "edges"))
		return;
	assert(from > 0 && from < b->node_count && edge.to > 0 && edge.to < b->node_count);
	edge.next = b->heads[from];
	b->edges[b->edge_count] = edge;
	b->heads[from] = b->edge_count++;
}

void build_bytes(struct grammar_builder *b, uint32_t from, uint8_t low, uint8_t high, uint32_t to)
{
	for (uint32_t at = low; at <= high; at++) {
		if (b->usable && !b->usable[at])
			continue;
		uint32_t end = at;
		while (end < high && (!b->usable || b->usable[end + 1]))
			end++;
		add_edge(b, from, (struct build_edge){.kind = BUILD_BYTES, .low = (uint8_t)at, .high = (uint8_t)end, .to = to});
		at = end;
	}
}

void build_skip(struct grammar_builder *b, uint32_t from, uint32_t to)
{
	add_edge(b, from, (struct build_edge){.kind = BUILD_SKIP, .to = to});
}

void build_call(struct grammar_builder *b, uint32_t from, uint32_t rule, uint32_t to)
{
	add_edge(b, from, (struct build_edge){.kind = BUILD_CALL, .rule = rule, .to = to});
}

void build_text(struct grammar_builder *b, uint32_t from, const char *text, size_t length, uint32_t to)
{
	for (size_t i = 0; i < length && b->e == ERR_OK; i++) {
		uint32_t next = i + 1 == length ? to : build_node(b);
		build_bytes(b, from, (uint8_t)text[i], (uint8_t)text[i], next);
		from = next;
	}
	if (length == 0)
		build_skip(b, from, to);
}

/* ---- UTF-8 */

static int put_utf8(uint32_t c, uint8_t bytes[4])
{
	if (c < 0x80) {
		bytes[0] = (uint8_t)c;
		return 1;
	}
	int count = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
	static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
	for (int i = count - 1; i > 0; i--, c >>= 6)
		bytes[i] = (uint8_t)(0x80 | (c & 0x3f));
	bytes[0] = (uint8_t)(lead[count] | c);
	return count;
}

/* Both ends have `count` bytes, and what lies between them is a product of byte ranges: one edge a byte. */
static void add_block(struct grammar_builder *b, uint32_t from, const uint8_t *low, const uint8_t *high, int count,
		      uint32_t to)
{
	for (int i = 0; i < count; i++) {
		uint32_t next = i + 1 == count ? to : build_node(b);
		build_bytes(b, from, low[i], high[i], next);
		from = next;
	}
}

/* Cuts low..high where the length changes, and where the lower bytes are not full: then each piece is a block. */
static void add_chars(struct grammar_builder *b, uint32_t from, uint32_t low, uint32_t high, uint32_t to)
{
	static const uint32_t longest[] = {0x7f, 0x7ff, 0xffff};
	while (low <= high && b->e == ERR_OK) {
		uint32_t end = high;
		for (int i = 0; i < 3; i++)
			if (low <= longest[i] && end > longest[i])
				end = longest[i];
		uint8_t first[4], last[4];
		for (uint32_t mask = low < 0x80 ? 0 : low < 0x800 ? 0x3f : low < 0x10000 ? 0xfff : 0x3ffff; mask; mask >>= 6) {
			if ((low & ~mask) == (end & ~mask))
				continue; /* they differ in lower bytes only: that is for a smaller mask */
			if (low & mask)
				end = low | mask;
			else if ((end & mask) != mask)
				end = (end & ~mask) - 1;
		}
		int count = put_utf8(low, first);
		put_utf8(end, last);
		add_block(b, from, first, last, count, to);
		low = end + 1;
	}
}

void build_chars(struct grammar_builder *b, uint32_t from, uint32_t low, uint32_t high, uint32_t to)
{
	assert(high <= 0x10ffff);
	if (low < 0xd800)
		add_chars(b, from, low, high < 0xd7ff ? high : 0xd7ff, to);
	if (high > 0xdfff)
		add_chars(b, from, low > 0xe000 ? low : 0xe000, high, to);
}

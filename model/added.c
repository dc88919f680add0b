#include "model/added.h"

#include <stdlib.h>
#include <string.h>

#include "model/utf8.h"

#define NO_TOKEN UINT32_MAX

struct added_node {
	uint32_t child;   /* first child; 0: none */
	uint32_t sibling; /* 0: none */
	uint32_t token;   /* index in tokens, or NO_TOKEN */
	uint8_t byte;
};

static enum err new_node(struct added_set *set, uint8_t byte, uint32_t *ret_node)
{
	if (set->node_count == set->node_capacity) {
		uint32_t capacity = set->node_capacity ? set->node_capacity * 2 : 64;
		struct added_node *nodes = realloc(set->nodes, capacity * sizeof(*nodes));
		if (!nodes)
			return ERR_NOMEM;
		set->nodes = nodes;
		set->node_capacity = capacity;
	}
	if (set->node_count == 0)
		set->nodes[set->node_count++] = (struct added_node){.token = NO_TOKEN}; /* 0 means none */
	*ret_node = set->node_count;
	set->nodes[set->node_count++] = (struct added_node){.byte = byte, .token = NO_TOKEN};
	return ERR_OK;
}

static uint32_t find_child(const struct added_set *set, uint32_t node, uint8_t byte)
{
	uint32_t child = set->nodes[node].child;
	while (child && set->nodes[child].byte != byte)
		child = set->nodes[child].sibling;
	return child;
}

static enum err insert(struct added_set *set, const char *content, size_t length, uint32_t *ret_node)
{
	uint8_t first = (uint8_t)content[0];
	uint32_t node = set->roots[first];
	enum err e = node ? ERR_OK : new_node(set, first, &node);
	if (e != ERR_OK)
		return e;
	set->roots[first] = node;
	for (size_t i = 1; i < length; i++) {
		uint32_t child = find_child(set, node, (uint8_t)content[i]);
		if (!child) {
			e = new_node(set, (uint8_t)content[i], &child);
			if (e != ERR_OK)
				return e;
			set->nodes[child].sibling = set->nodes[node].child;
			set->nodes[node].child = child;
		}
		node = child;
	}
	*ret_node = node;
	return ERR_OK;
}

enum err added_add(struct added_set *set, const char *content, size_t length, const struct added_token *token)
{
	if (length > ADDED_BYTES_MAX || set->token_count == ADDED_MAX)
		return ERR_TOO_LARGE;
	if (set->token_count == set->token_capacity) {
		uint32_t capacity = set->token_capacity ? set->token_capacity * 2 : 16;
		struct added_token *tokens = realloc(set->tokens, capacity * sizeof(*tokens));
		if (!tokens)
			return ERR_NOMEM;
		set->tokens = tokens;
		set->token_capacity = capacity;
	}
	uint32_t node;
	enum err e = insert(set, content, length, &node);
	if (e != ERR_OK || set->nodes[node].token != NO_TOKEN)
		return e;
	set->nodes[node].token = set->token_count;
	set->tokens[set->token_count++] = *token;
	return ERR_OK;
}

void added_fini(struct added_set *set)
{
	free(set->tokens);
	free(set->nodes);
	*set = (struct added_set){0};
}

/* The longest token that begins exactly here. */
static const struct added_token *match_at(const struct added_set *set, const char *text, size_t length,
					  size_t *ret_length)
{
	uint32_t token = NO_TOKEN, node = set->roots[(uint8_t)text[0]];
	for (size_t i = 1; node; i++) {
		if (set->nodes[node].token != NO_TOKEN) {
			token = set->nodes[node].token;
			*ret_length = i;
		}
		node = i < length ? find_child(set, node, (uint8_t)text[i]) : 0;
	}
	return token == NO_TOKEN ? NULL : &set->tokens[token];
}

static bool stands_alone(const char *text, size_t length, size_t begin, size_t end)
{
	uint32_t character = ' ';
	if (begin > 0)
		utf8_before(text, begin, &character);
	if (begin > 0 && utf8_is_word(character))
		return false;
	return end == length || utf8_step((const uint8_t *)text + end, length - end, &character) <= 0 ||
	       !utf8_is_word(character);
}

static size_t spaces_from(const char *text, size_t floor, size_t end)
{
	uint32_t character;
	while (end > floor) {
		size_t at = utf8_before(text, end, &character);
		if (!utf8_is_space(character))
			break;
		end = at;
	}
	return end;
}

static size_t spaces_to(const char *text, size_t length, size_t at)
{
	uint32_t character;
	while (at < length) {
		int n = utf8_step((const uint8_t *)text + at, length - at, &character);
		if (n <= 0 || !utf8_is_space(character))
			break;
		at += (size_t)n;
	}
	return at;
}

enum err added_split(const struct added_set *set, const char *text, size_t length, bool skip_special,
		     struct added_sink sink)
{
	size_t done = 0, at = 0;
	enum err e = ERR_OK;
	while (at < length && e == ERR_OK) {
		size_t token_length = 0;
		const struct added_token *token = match_at(set, text + at, length - at, &token_length);
		if (!token) {
			at++;
			continue;
		}
		size_t begin = at, end = at + token_length;
		at = end;
		if ((skip_special && token->special) || (token->single_word && !stands_alone(text, length, begin, end)))
			continue;
		if (token->lstrip && begin > done)
			begin = spaces_from(text, done, begin);
		if (token->rstrip)
			end = spaces_to(text, length, end);
		if (begin > done)
			e = sink.take(sink.arg, NULL, text + done, begin - done);
		if (e == ERR_OK)
			e = sink.take(sink.arg, token, text + begin, end - begin);
		done = end;
	}
	if (e == ERR_OK && done < length)
		e = sink.take(sink.arg, NULL, text + done, length - done);
	return e;
}

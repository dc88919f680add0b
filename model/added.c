#include "model/added.h"

#include <stdlib.h>
#include <string.h>

#include "model/utf8.h"

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
	enum err e = trie_add(&set->trie, content, length, set->token_count);
	if (e == ERR_OK) {
		set->begins[(uint8_t)content[0]] = true;
		set->tokens[set->token_count++] = *token;
	}
	return e;
}

void added_fini(struct added_set *set)
{
	free(set->tokens);
	trie_fini(&set->trie);
	*set = (struct added_set){0};
}

/* The longest token that begins exactly here. */
static const struct added_token *match_at(const struct added_set *set, const char *text, size_t length,
					  size_t *ret_length)
{
	uint32_t token = TRIE_NONE, node = 0;
	if (!set->begins[(uint8_t)text[0]])
		return NULL;
	for (size_t i = 0; i < length; i++) {
		node = trie_step(&set->trie, node, (uint8_t)text[i]);
		if (!node)
			break;
		if (trie_value(&set->trie, node) != TRIE_NONE) {
			token = trie_value(&set->trie, node);
			*ret_length = i + 1;
		}
	}
	return token == TRIE_NONE ? NULL : &set->tokens[token];
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
	size_t done = 0, at = 0, space_end = 0; /* the run of spaces looked at last ends there */
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
			end = space_end = end < space_end ? space_end : spaces_to(text, length, end);
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

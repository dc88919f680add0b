#include "model/template_lex.h"

#include <ctype.h>
#include <stdlib.h>

#include "model/utf8.h"

struct lexer {
	struct arena *arena;
	const char *source;
	size_t length;
	size_t at;
	uint32_t line;
	bool line_starting; /* what was taken last ended a line */
	bool strip_next;    /* the last tag ended with a minus: whitespace goes */
	struct why *why;
	struct token_list *list;
};

static enum err push(struct lexer *lexer, enum token_kind kind, const char *data, size_t length)
{
	struct token_list *list = lexer->list;
	if (list->count == list->capacity) {
		size_t capacity = list->capacity ? list->capacity * 2 : 64;
		struct token *tokens = arena_take(lexer->arena, capacity * sizeof(*tokens));
		if (!tokens)
			return ERR_TOO_LARGE;
		if (list->count)
			memcpy(tokens, list->tokens, list->count * sizeof(*tokens));
		list->tokens = tokens;
		list->capacity = capacity;
	}
	list->tokens[list->count++] = (struct token){kind, lexer->line, {data, length}};
	return ERR_OK;
}

static enum err fail(const struct lexer *lexer, const char *what)
{
	return why_set(lexer->why, ERR_INVALID, "chat template: line %u: %s", lexer->line, what);
}

static bool starts(const struct lexer *lexer, const char *what)
{
	size_t length = strlen(what);
	return lexer->length - lexer->at >= length && memcmp(lexer->source + lexer->at, what, length) == 0;
}

static void advance(struct lexer *lexer, size_t count)
{
	for (size_t i = 0; i < count; i++)
		lexer->line += lexer->source[lexer->at + i] == '\n';
	lexer->at += count;
}

/* Where the next {{, {% or {# is, or the end. */
static size_t find_tag(const struct lexer *lexer)
{
	for (size_t i = lexer->at; i + 1 < lexer->length; i++)
		if (lexer->source[i] == '{' && memchr("{%#", lexer->source[i + 1], 3))
			return i;
	return lexer->length;
}

/* The text up to `tag`, less what the whitespace rules take from its two ends. */
static enum err take_data(struct lexer *lexer, size_t tag)
{
	size_t begin = lexer->at, end = tag;
	const char *s = lexer->source;
	if (lexer->strip_next)
		while (begin < end && isspace((unsigned char)s[begin]))
			begin++;
	bool ends_in_minus = tag + 2 < lexer->length && s[tag + 2] == '-';
	bool plus = tag + 2 < lexer->length && s[tag + 2] == '+';
	if (ends_in_minus) {
		while (end > begin && isspace((unsigned char)s[end - 1]))
			end--;
	} else if (tag < lexer->length && s[tag + 1] != '{' && !plus) { /* lstrip_blocks */
		size_t line = end;
		while (line > begin && isspace((unsigned char)s[line - 1]) && s[line - 1] != '\n')
			line--;
		bool whole_line = line == begin ? lexer->line_starting || (begin > lexer->at && s[begin - 1] == '\n')
						: s[line - 1] == '\n';
		if (whole_line)
			end = line;
	}
	enum err e = end > begin ? push(lexer, TOKEN_DATA, s + begin, end - begin) : ERR_OK;
	if (tag > lexer->at)
		lexer->line_starting = false;
	advance(lexer, tag - lexer->at);
	lexer->strip_next = false;
	return e;
}

/* Behind a tag: its minus, or the one newline that trim_blocks takes. */
static void after_tag(struct lexer *lexer, char sign, bool trims)
{
	lexer->strip_next = sign == '-';
	lexer->line_starting = false;
	if (trims && sign == 0 && lexer->at < lexer->length && lexer->source[lexer->at] == '\n') {
		advance(lexer, 1);
		lexer->line_starting = true;
	}
}

static enum err take_comment(struct lexer *lexer)
{
	while (lexer->at < lexer->length && !starts(lexer, "#}"))
		advance(lexer, 1);
	if (lexer->at == lexer->length)
		return fail(lexer, "{# has no #}");
	char before = lexer->source[lexer->at - 1];
	advance(lexer, 2);
	after_tag(lexer, before == '-' || before == '+' ? before : 0, true);
	return ERR_OK;
}

static enum err append_escape(struct lexer *lexer, struct buf *out, const char **at, const char *end)
{
	static const char from[] = "nrtbfav0", to[] = "\n\r\t\b\f\a\v";
	char c = *(*at)++;
	const char *known = c ? strchr(from, c) : NULL;
	int digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
	if (digits && end - *at >= digits) {
		char text[9] = {0};
		memcpy(text, *at, (size_t)digits);
		char *stop;
		unsigned long character = strtoul(text, &stop, 16);
		if (*stop || !isxdigit((unsigned char)text[0]) || character > 0x10ffff || character == 0 ||
		    (character >= 0xd800 && character < 0xe000))
			return fail(lexer, "an escape in a string names no character");
		*at += digits;
		return utf8_append(out, (uint32_t)character);
	}
	if (known && c != '0')
		return buf_append(out, &to[known - from], 1);
	if (c == '\\' || c == '\'' || c == '"')
		return buf_append(out, &c, 1);
	if (c == '\n')
		return ERR_OK;
	return buf_printf(out, "\\%c", c); /* as Python: what is no escape stays */
}

static enum err take_string(struct lexer *lexer)
{
	char quote = lexer->source[lexer->at];
	const char *at = lexer->source + lexer->at + 1, *end = lexer->source + lexer->length;
	struct buf out = {0};
	enum err e = ERR_OK;
	while (at < end && *at != quote && e == ERR_OK) {
		char c = *at++;
		if (c == '\\' && at < end)
			e = append_escape(lexer, &out, &at, end);
		else
			e = buf_append(&out, &c, 1);
	}
	struct value text;
	if (e == ERR_OK && at == end)
		e = fail(lexer, "a string has no end");
	if (e == ERR_OK)
		e = value_copy_text(lexer->arena, out.data, out.length, &text);
	if (e == ERR_OK)
		e = push(lexer, TOKEN_TEXT, text.text.data, text.text.length);
	buf_fini(&out);
	if (e == ERR_OK)
		advance(lexer, (size_t)(at + 1 - (lexer->source + lexer->at)));
	return e;
}

static bool is_word(char c)
{
	return isalnum((unsigned char)c) || c == '_';
}

static enum err take_word(struct lexer *lexer)
{
	const char *begin = lexer->source + lexer->at;
	size_t length = 0, room = lexer->length - lexer->at;
	while (length < room && is_word(begin[length]))
		length++;
	advance(lexer, length);
	return push(lexer, TOKEN_NAME, begin, length);
}

/* Digits from `at` on, with underscores between them; returns where they end. */
static size_t skip_digits(const char *text, size_t at, size_t length)
{
	while (at < length && (isdigit((unsigned char)text[at]) || text[at] == '_'))
		at++;
	return at;
}

/* 12, 1_000, 1.5, 2e10, 1.5E-7 */
static enum err take_number(struct lexer *lexer)
{
	const char *begin = lexer->source + lexer->at;
	size_t room = lexer->length - lexer->at, whole = skip_digits(begin, 0, room), length = whole;
	if (length + 1 < room && begin[length] == '.' && isdigit((unsigned char)begin[length + 1]))
		length = skip_digits(begin, length + 1, room);
	if (length < room && (begin[length] == 'e' || begin[length] == 'E')) {
		size_t at = length + 1;
		at += at < room && (begin[at] == '+' || begin[at] == '-');
		length = at < room && isdigit((unsigned char)begin[at]) ? skip_digits(begin, at, room) : length;
	}
	advance(lexer, length);
	return push(lexer, length > whole ? TOKEN_FLOAT : TOKEN_INT, begin, length);
}

static enum err take_operator(struct lexer *lexer)
{
	static const char *const operators[] = {"==", "!=", "<=", ">=", "//", "**", "+", "-", "*", "/", "%",
						"~",  "<",  ">",  "=",  "(",  ")",  "[", "]", "{", "}", ".",
						",",  ":",  "|"};
	for (size_t i = 0; i < sizeof(operators) / sizeof(operators[0]); i++)
		if (starts(lexer, operators[i])) {
			advance(lexer, strlen(operators[i]));
			return push(lexer, TOKEN_OPERATOR, operators[i], strlen(operators[i]));
		}
	return fail(lexer, "a character that no expression has");
}

/* The inside of {{ }} or {% %}; brackets decide whether }} closes a map or the tag. */
static enum err take_tag(struct lexer *lexer, bool print)
{
	const char *close = print ? "}}" : "%}";
	int depth = 0;
	enum err e = push(lexer, print ? TOKEN_PRINT_BEGIN : TOKEN_BLOCK_BEGIN, close, 2);
	while (e == ERR_OK) {
		while (lexer->at < lexer->length && isspace((unsigned char)lexer->source[lexer->at]))
			advance(lexer, 1);
		if (lexer->at == lexer->length)
			return fail(lexer, print ? "{{ has no }}" : "{% has no %}");
		char c = lexer->source[lexer->at];
		bool sign = (c == '-' || c == '+') && lexer->length - lexer->at > 2 &&
			    memcmp(lexer->source + lexer->at + 1, close, 2) == 0;
		if (depth == 0 && (sign || starts(lexer, close))) {
			e = push(lexer, print ? TOKEN_PRINT_END : TOKEN_BLOCK_END, close, 2);
			advance(lexer, sign ? 3 : 2);
			after_tag(lexer, sign ? c : 0, !print);
			return e;
		}
		depth += (c == '(' || c == '[' || c == '{') - (c == ')' || c == ']' || c == '}');
		if (c == '"' || c == '\'')
			e = take_string(lexer);
		else if (isdigit((unsigned char)c))
			e = take_number(lexer);
		else
			e = is_word(c) ? take_word(lexer) : take_operator(lexer);
	}
	return e;
}

enum err template_lex(struct arena *arena, const char *source, size_t length, struct why *why,
		      struct token_list *ret_list)
{
	*ret_list = (struct token_list){0};
	if (length > 0 && source[length - 1] == '\n')
		length--;
	struct lexer lexer = {.arena = arena, .source = source, .length = length, .line = 1,
			      .line_starting = true, .why = why, .list = ret_list};
	enum err e = ERR_OK;
	while (lexer.at < length && e == ERR_OK) {
		size_t tag = find_tag(&lexer);
		e = take_data(&lexer, tag);
		if (e != ERR_OK || tag == length)
			continue;
		char kind = source[tag + 1];
		advance(&lexer, 2);
		if (kind != '#' && lexer.at < length && (source[lexer.at] == '-' || source[lexer.at] == '+'))
			advance(&lexer, 1);
		e = kind == '#' ? take_comment(&lexer) : take_tag(&lexer, kind == '{');
	}
	return e == ERR_OK ? push(&lexer, TOKEN_END, "", 0) : e;
}

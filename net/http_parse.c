#include "net/http_parse.h"

#include <string.h>
#include <strings.h>

#define LINE_MAX_BYTES 8192 /* of a chunk's extension and of all trailers */

size_t http_head_length(const char *data, size_t length)
{
	const char *end = length < 4 ? NULL : memmem(data, length, "\r\n\r\n", 4);
	return end ? (size_t)(end - data) + 4 : 0;
}

static bool is_token(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c && strchr("!#$%&'*+-.^_`|~", c));
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* In place.  False: a broken escape or a 0 byte. */
static bool decode(char *text, bool plus_is_space)
{
	char *out = text;
	for (char *in = text; *in; in++) {
		char c = *in;
		if (c == '%') {
			int high = hex(in[1]), low = high < 0 ? -1 : hex(in[2]);
			if (low < 0 || (high == 0 && low == 0))
				return false;
			c = (char)(high << 4 | low);
			in += 2;
		} else if (c == '+' && plus_is_space) {
			c = ' ';
		}
		*out++ = c;
	}
	*out = 0;
	return true;
}

static enum err parse_query(char *query, struct http_head *head)
{
	for (char *next; query && *query; query = next) {
		next = strchr(query, '&');
		if (next)
			*next++ = 0;
		char *value = strchr(query, '=');
		if (value)
			*value++ = 0;
		else
			value = query + strlen(query);
		if (head->query_count == HTTP_QUERY_MAX || !decode(query, true) || !decode(value, true))
			return ERR_INVALID;
		head->query[head->query_count++] = (struct http_pair){query, value};
	}
	return ERR_OK;
}

/* "POST /v1/completions?x=1 HTTP/1.1" */
static enum err parse_request_line(char *line, struct http_head *head)
{
	char *target = strchr(line, ' ');
	char *version = target ? strchr(target + 1, ' ') : NULL;
	if (!version || target == line)
		return ERR_INVALID;
	*target++ = 0;
	*version++ = 0;
	for (const char *c = line; *c; c++)
		if (!is_token(*c))
			return ERR_INVALID;
	if (strcmp(version, "HTTP/1.1") != 0 && strcmp(version, "HTTP/1.0") != 0)
		return ERR_UNSUPPORTED;
	head->is_http10 = version[7] == '0';
	if (target[0] != '/')
		return ERR_INVALID;
	head->method = line;
	head->path = target;
	target[strcspn(target, "#")] = 0;
	char *query = strchr(target, '?');
	if (query)
		*query++ = 0;
	return decode(target, false) ? parse_query(query, head) : ERR_INVALID;
}

static enum err parse_field(char *line, struct http_head *head)
{
	char *colon = strchr(line, ':');
	if (!colon || colon == line)
		return ERR_INVALID;
	for (const char *c = line; c < colon; c++)
		if (!is_token(*c))
			return ERR_INVALID;
	*colon = 0;
	char *value = colon + 1 + strspn(colon + 1, " \t");
	for (size_t length = strlen(value); length && strchr(" \t", value[length - 1]); length--)
		value[length - 1] = 0;
	if (head->field_count == HTTP_FIELDS_MAX)
		return ERR_TOO_LARGE;
	head->fields[head->field_count++] = (struct http_pair){line, value};
	return ERR_OK;
}

const char *http_head_field(const struct http_head *head, const char *name)
{
	for (size_t i = 0; i < head->field_count; i++)
		if (strcasecmp(head->fields[i].name, name) == 0)
			return head->fields[i].value;
	return NULL;
}

static size_t field_times(const struct http_head *head, const char *name)
{
	size_t times = 0;
	for (size_t i = 0; i < head->field_count; i++)
		times += strcasecmp(head->fields[i].name, name) == 0;
	return times;
}

static enum err parse_length(const char *text, uint64_t *ret_length)
{
	uint64_t length = 0;
	size_t digits = strlen(text);
	if (digits == 0 || digits > 18 || strspn(text, "0123456789") != digits)
		return ERR_INVALID;
	for (; *text; text++)
		length = length * 10 + (uint64_t)(*text - '0');
	*ret_length = length;
	return ERR_OK;
}

/* What decides where the body ends must be said once and clearly. */
static enum err parse_framing(struct http_head *head)
{
	const char *encoding = http_head_field(head, "transfer-encoding");
	const char *length = http_head_field(head, "content-length");
	const char *connection = http_head_field(head, "connection");
	const char *expect = http_head_field(head, "expect");
	if (field_times(head, "transfer-encoding") > 1 || field_times(head, "content-length") > 1 ||
	    (encoding && length) || (encoding && head->is_http10))
		return ERR_INVALID;
	if (!head->is_http10 && field_times(head, "host") != 1)
		return ERR_INVALID;
	if (encoding && strcasecmp(encoding, "chunked") != 0)
		return ERR_UNSUPPORTED;
	head->chunked = encoding;
	head->keep_alive = !head->is_http10;
	if (connection && strcasestr(connection, "close"))
		head->keep_alive = false;
	else if (connection && strcasestr(connection, "keep-alive"))
		head->keep_alive = true;
	head->expects_continue = expect && strcasecmp(expect, "100-continue") == 0 && !head->is_http10;
	return length ? parse_length(length, &head->body_length) : ERR_OK;
}

/* The next line without its CRLF, 0-terminated; NULL: a control character, a lone CR or LF. */
static char *cut_line(char **at, const char *end)
{
	char *line = *at;
	for (char *c = line; c + 1 < end; c++) {
		if (c[0] == '\r' && c[1] == '\n') {
			*c = 0;
			*at = c + 2;
			return line;
		}
		if (((unsigned char)*c < 0x20 && *c != '\t') || *c == 0x7f)
			return NULL;
	}
	return NULL;
}

enum err http_head_parse(char *text, size_t length, struct http_head *ret_head)
{
	struct http_head *head = ret_head;
	*head = (struct http_head){0};
	char *at = text;
	char *line = cut_line(&at, text + length);
	enum err e = line ? parse_request_line(line, head) : ERR_INVALID;
	while (e == ERR_OK && (line = cut_line(&at, text + length)) && *line)
		e = parse_field(line, head);
	if (e == ERR_OK && !line)
		e = ERR_INVALID;
	return e == ERR_OK ? parse_framing(head) : e;
}

/* ---- chunked bodies ---- */

/*  SIZE -> EXTENSION -> SIZE_LF -> DATA -> DATA_CR -> DATA_LF -> SIZE …
 *                          `-> (size 0) TRAILER <-> TRAILER_TEXT … -> END_LF -> over */
enum { SIZE, EXTENSION, SIZE_LF, DATA, DATA_CR, DATA_LF, TRAILER, TRAILER_TEXT, TRAILER_LF, END_LF };

static enum err feed_byte(struct http_chunks *chunks, char c, bool *ret_end)
{
	if (chunks->state != DATA_CR && chunks->state != DATA_LF && ++chunks->line_length > LINE_MAX_BYTES)
		return ERR_INVALID;
	switch (chunks->state) {
	case SIZE:
		if (hex(c) >= 0 && chunks->left < (uint64_t)1 << 40) {
			chunks->left = chunks->left << 4 | (uint64_t)hex(c);
			return ERR_OK;
		}
		if (hex(c) >= 0 || chunks->line_length < 2)
			return ERR_INVALID;
		chunks->state = c == '\r' ? SIZE_LF : EXTENSION;
		return c == '\r' || c == ';' || c == ' ' ? ERR_OK : ERR_INVALID;
	case EXTENSION:
		chunks->state = c == '\r' ? SIZE_LF : EXTENSION;
		return c == '\n' ? ERR_INVALID : ERR_OK;
	case SIZE_LF:
		chunks->state = chunks->left ? DATA : TRAILER;
		chunks->line_length = 0;
		return c == '\n' ? ERR_OK : ERR_INVALID;
	case DATA_CR:
		chunks->state = DATA_LF;
		return c == '\r' ? ERR_OK : ERR_INVALID;
	case DATA_LF:
		chunks->state = SIZE;
		chunks->line_length = 0;
		return c == '\n' ? ERR_OK : ERR_INVALID;
	case TRAILER:
		chunks->state = c == '\r' ? END_LF : TRAILER_TEXT;
		return c == '\n' ? ERR_INVALID : ERR_OK;
	case TRAILER_TEXT:
		chunks->state = c == '\r' ? TRAILER_LF : TRAILER_TEXT;
		return c == '\n' ? ERR_INVALID : ERR_OK;
	case TRAILER_LF:
		chunks->state = TRAILER;
		return c == '\n' ? ERR_OK : ERR_INVALID;
	case END_LF:
		*ret_end = c == '\n';
		return c == '\n' ? ERR_OK : ERR_INVALID;
	}
	return ERR_INVALID;
}

enum err http_chunks_feed(struct http_chunks *chunks, const char *data, size_t length, size_t *ret_consumed,
                          size_t *ret_from, size_t *ret_length, bool *ret_end)
{
	size_t at = 0;
	*ret_from = *ret_length = 0;
	*ret_end = false;
	while (at < length && chunks->state != DATA) {
		enum err e = feed_byte(chunks, data[at++], ret_end);
		if (e != ERR_OK)
			return e;
		if (*ret_end) {
			*ret_consumed = at;
			return ERR_OK;
		}
	}
	if (at < length) {
		*ret_from = at;
		*ret_length = length - at < chunks->left ? length - at : (size_t)chunks->left;
		chunks->left -= *ret_length;
		at += *ret_length;
		if (chunks->left == 0)
			chunks->state = DATA_CR;
	}
	*ret_consumed = at;
	return at < length ? ERR_OK : ERR_AGAIN;
}

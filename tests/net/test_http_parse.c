/* The head of a request and the framing of its body, byte by byte: what is refused, and by which name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "net/http_parse.h"

#define HOST "Host: h\r\n"
#define LENGTH(n) "Content-Length: " n "\r\n"
#define CHUNKED "Transfer-Encoding: chunked\r\n"

static char text[16384];

/* The names in *ret_head point into `text`. */
static enum err parse(const char *head, struct http_head *ret_head)
{
	size_t length = strlen(head);
	assert_true(length < sizeof(text));
	memcpy(text, head, length + 1);
	assert_int_equal(http_head_length(text, length), length);
	return http_head_parse(text, length, ret_head);
}

struct wrong {
	const char *head;
	enum err expected;
};

static void all_refused(const struct wrong *cases, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct http_head head;
		enum err e = parse(cases[i].head, &head);
		if (e != cases[i].expected)
			fail_msg("%s is %s, expected %s", cases[i].head, err_text(e), err_text(cases[i].expected));
	}
}
#define ALL_REFUSED(cases) all_refused(cases, sizeof(cases) / sizeof(cases[0]))

static void a_head_ends_with_an_empty_line(void **state)
{
	assert_int_equal(http_head_length("", 0), 0);
	assert_int_equal(http_head_length("\r\n\r", 3), 0);
	assert_int_equal(http_head_length("GET / HTTP/1.1\r\n\r", 17), 0);
	assert_int_equal(http_head_length("GET / HTTP/1.1\n\n", 16), 0);
	assert_int_equal(http_head_length("a\r\n\r\nbody\r\n\r\n", 13), 5);
}

static void a_head_is_taken_apart(void **state)
{
	struct http_head head;
	assert_int_equal(parse("POST /v1/x HTTP/1.1\r\n" HOST "X-One: \t two words \t\r\nEmpty:\r\n" LENGTH("12") "\r\n", &head),
			 ERR_OK);
	assert_string_equal(head.method, "POST");
	assert_string_equal(head.path, "/v1/x");
	assert_int_equal(head.field_count, 4);
	assert_string_equal(http_head_field(&head, "x-ONE"), "two words");
	assert_string_equal(http_head_field(&head, "empty"), "");
	assert_null(http_head_field(&head, "absent"));
	assert_int_equal(head.body_length, 12);
	assert_int_equal(head.query_count, 0);
	assert_true(head.keep_alive);
	assert_false(head.chunked || head.expects_continue || head.is_http10);
}

static void every_character_of_a_token_may_be_a_method(void **state)
{
	struct http_head head;
	assert_int_equal(parse("aZ09!#$%&'*+-.^_`|~ / HTTP/1.1\r\n" HOST "\r\n", &head), ERR_OK);
	assert_string_equal(head.method, "aZ09!#$%&'*+-.^_`|~");
}

static void a_path_and_a_query_are_decoded(void **state)
{
	struct http_head head;
	assert_int_equal(parse("GET /a%20b+c%2fd%4A%4a?x=1+2&y%3D=%C3%a9&z&&=v#f?g=1 HTTP/1.1\r\n" HOST "\r\n", &head), ERR_OK);
	assert_string_equal(head.path, "/a b+c/dJJ");
	assert_int_equal(head.query_count, 5);
	static const char *const pairs[][2] = {{"x", "1 2"}, {"y=", "\xc3\xa9"}, {"z", ""}, {"", ""}, {"", "v"}};
	for (size_t i = 0; i < 5; i++) {
		assert_string_equal(head.query[i].name, pairs[i][0]);
		assert_string_equal(head.query[i].value, pairs[i][1]);
	}
	assert_int_equal(parse("GET /? HTTP/1.1\r\n" HOST "\r\n", &head), ERR_OK);
	assert_int_equal(head.query_count, 0);
}

static void a_request_line_that_is_none_is_refused(void **state)
{
	static const struct wrong cases[] = {
		{"\r\n\r\n", ERR_INVALID}, {"GET\r\n\r\n", ERR_INVALID}, {"GET /\r\n\r\n", ERR_INVALID},
		{" / HTTP/1.1\r\n\r\n", ERR_INVALID}, {"G(T / HTTP/1.1\r\n\r\n", ERR_INVALID},
		{"G\x80T / HTTP/1.1\r\n\r\n", ERR_INVALID}, {"GET  / HTTP/1.1\r\n\r\n", ERR_UNSUPPORTED},
		{"GET / HTTP/1.2\r\n\r\n", ERR_UNSUPPORTED}, {"GET / HTTP/1.1 \r\n\r\n", ERR_UNSUPPORTED},
		{"GET / http/1.1\r\n\r\n", ERR_UNSUPPORTED}, {"GET http://h/ HTTP/1.1\r\n" HOST "\r\n", ERR_INVALID},
		{"OPTIONS * HTTP/1.1\r\n" HOST "\r\n", ERR_INVALID},
	};
	ALL_REFUSED(cases);
}

static void a_broken_escape_is_refused(void **state)
{
	static const struct wrong cases[] = {
		{"GET /% HTTP/1.1\r\n" HOST "\r\n", ERR_INVALID}, {"GET /%4 HTTP/1.1\r\n" HOST "\r\n", ERR_INVALID},
		{"GET /%4g HTTP/1.1\r\n" HOST "\r\n", ERR_INVALID}, {"GET /%g4 HTTP/1.1\r\n" HOST "\r\n", ERR_INVALID},
		{"GET /%@0 HTTP/1.1\r\n" HOST "\r\n", ERR_INVALID}, {"GET /%00 HTTP/1.1\r\n" HOST "\r\n", ERR_INVALID},
		{"GET /?%=1 HTTP/1.1\r\n" HOST "\r\n", ERR_INVALID}, {"GET /?a=%0 HTTP/1.1\r\n" HOST "\r\n", ERR_INVALID},
	};
	ALL_REFUSED(cases);
}

static void a_query_has_its_limit(void **state)
{
	struct http_head head;
	char line[512] = "GET /?";
	for (int i = 0; i < HTTP_QUERY_MAX; i++)
		strcat(line, i ? "&a=b" : "a=b");
	char over[600];
	snprintf(over, sizeof(over), "%s&a HTTP/1.1\r\n" HOST "\r\n", line);
	strcat(line, " HTTP/1.1\r\n" HOST "\r\n");
	assert_int_equal(parse(line, &head), ERR_OK);
	assert_int_equal(head.query_count, HTTP_QUERY_MAX);
	assert_int_equal(parse(over, &head), ERR_INVALID);
}

static void a_field_that_is_none_is_refused(void **state)
{
	static const struct wrong cases[] = {
		{"GET / HTTP/1.1\r\n" HOST "no colon\r\n\r\n", ERR_INVALID},
		{"GET / HTTP/1.1\r\n" HOST ": no name\r\n\r\n", ERR_INVALID},
		{"GET / HTTP/1.1\r\n" HOST "X : a\r\n\r\n", ERR_INVALID},
		{"GET / HTTP/1.1\r\n" HOST "X: a\r\n folded\r\n\r\n", ERR_INVALID},
		{"GET / HTTP/1.1\r\n" HOST "X: a\nY: b\r\n\r\n", ERR_INVALID},
		{"GET / HTTP/1.1\r\n" HOST "X: a\rY: b\r\n\r\n", ERR_INVALID},
		{"GET / HTTP/1.1\r\n" HOST "X: a\x01\r\n\r\n", ERR_INVALID},
		{"GET / HTTP/1.1\r\n" HOST "X: a\x7f\r\n\r\n", ERR_INVALID},
		{"GET / HTTP/1.1\n" HOST "\r\n", ERR_INVALID},
	};
	ALL_REFUSED(cases);
}

/* What was measured by another: a head without its empty line, or with a 0 byte. */
static void a_head_that_does_not_end_is_refused(void **state)
{
	struct http_head head;
	static const char *const heads[] = {"", "GET / HTTP/1.1", "GET / HTTP/1.1\r\n" HOST, "GET / HTTP/1.1\r\nHost: h"};
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		strcpy(text, heads[i]);
		assert_int_equal(http_head_parse(text, strlen(text), &head), ERR_INVALID);
	}
	static const char zero[] = "GET / HTTP/1.1\r\n" HOST "X: a\0b\r\n\r\n";
	memcpy(text, zero, sizeof(zero));
	assert_int_equal(http_head_parse(text, sizeof(zero) - 1, &head), ERR_INVALID);
}

static void fields_have_their_limit(void **state)
{
	struct http_head head;
	static char many[4096];
	strcpy(many, "GET / HTTP/1.1\r\n" HOST);
	for (int i = 1; i < HTTP_FIELDS_MAX; i++)
		strcat(many, "X: y\r\n");
	size_t length = strlen(many);
	strcat(many, "\r\n");
	assert_int_equal(parse(many, &head), ERR_OK);
	assert_int_equal(head.field_count, HTTP_FIELDS_MAX);
	strcpy(many + length, "Z:\r\n\r\n");
	assert_int_equal(parse(many, &head), ERR_TOO_LARGE);
}

static void where_a_body_ends_is_said_once_and_clearly(void **state)
{
	static const struct wrong cases[] = {
		{"POST / HTTP/1.1\r\n" HOST LENGTH("1") LENGTH("1") "\r\n", ERR_INVALID},
		{"POST / HTTP/1.1\r\n" HOST CHUNKED CHUNKED "\r\n", ERR_INVALID},
		{"POST / HTTP/1.1\r\n" HOST CHUNKED LENGTH("1") "\r\n", ERR_INVALID},
		{"POST / HTTP/1.0\r\n" HOST CHUNKED "\r\n", ERR_INVALID},
		{"POST / HTTP/1.1\r\n" LENGTH("1") "\r\n", ERR_INVALID},
		{"POST / HTTP/1.1\r\n" HOST HOST "\r\n", ERR_INVALID},
		{"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n", ERR_UNSUPPORTED},
		{"POST / HTTP/1.1\r\n" HOST "Content-Length:\r\n\r\n", ERR_INVALID},
		{"POST / HTTP/1.1\r\n" HOST LENGTH("+1") "\r\n", ERR_INVALID},
		{"POST / HTTP/1.1\r\n" HOST LENGTH("0x1") "\r\n", ERR_INVALID},
		{"POST / HTTP/1.1\r\n" HOST LENGTH("1, 1") "\r\n", ERR_INVALID},
		{"POST / HTTP/1.1\r\n" HOST LENGTH("1000000000000000000") "\r\n", ERR_INVALID},
	};
	ALL_REFUSED(cases);
	struct http_head head;
	assert_int_equal(parse("POST / HTTP/1.1\r\n" HOST LENGTH("999999999999999999") "\r\n", &head), ERR_OK);
	assert_true(head.body_length == 999999999999999999);
	assert_int_equal(parse("POST / HTTP/1.1\r\n" HOST "transfer-encoding: CHUNKED\r\n\r\n", &head), ERR_OK);
	assert_true(head.chunked);
}

static void a_connection_is_kept_as_the_version_and_the_client_say(void **state)
{
	static const struct {
		const char *head;
		bool keep_alive, expects_continue;
	} cases[] = {
		{"GET / HTTP/1.1\r\n" HOST "\r\n", true, false},
		{"GET / HTTP/1.1\r\n" HOST "Connection: Close\r\n\r\n", false, false},
		{"GET / HTTP/1.1\r\n" HOST "Connection: upgrade\r\n\r\n", true, false},
		{"GET / HTTP/1.0\r\n\r\n", false, false},
		{"GET / HTTP/1.0\r\nConnection: upgrade\r\n\r\n", false, false},
		{"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true, false},
		{"GET / HTTP/1.1\r\n" HOST "Expect: 100-Continue\r\n\r\n", true, true},
		{"GET / HTTP/1.1\r\n" HOST "Expect: more\r\n\r\n", true, false},
		{"GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n", false, false},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct http_head head;
		assert_int_equal(parse(cases[i].head, &head), ERR_OK);
		assert_int_equal(head.keep_alive, cases[i].keep_alive);
		assert_int_equal(head.expects_continue, cases[i].expects_continue);
	}
}

/* ---- chunked bodies ---- */

struct fed {
	char body[256];
	size_t body_length;
	size_t consumed;
	bool over;
};

/* In pieces of `step` bytes.  ERR_OK: it is over, ERR_AGAIN: more must come. */
static enum err feed(const char *data, size_t length, size_t step, struct fed *ret_fed)
{
	struct http_chunks chunks = {0};
	*ret_fed = (struct fed){0};
	enum err e = ERR_AGAIN;
	while (ret_fed->consumed < length && !ret_fed->over) {
		size_t left = length - ret_fed->consumed, consumed, from, count;
		const char *at = data + ret_fed->consumed;
		e = http_chunks_feed(&chunks, at, left < step ? left : step, &consumed, &from, &count, &ret_fed->over);
		if (e != ERR_OK && e != ERR_AGAIN)
			return e;
		assert_true(ret_fed->body_length + count < sizeof(ret_fed->body));
		memcpy(ret_fed->body + ret_fed->body_length, at + from, count);
		ret_fed->body_length += count;
		ret_fed->consumed += consumed;
	}
	return ret_fed->over ? ERR_OK : ERR_AGAIN;
}

static void pieces_of_a_chunked_body_do_not_matter(void **state)
{
	static const char body[] = "4\r\nWiki\r\n6;name=\"v;\" x\r\npedia \r\n00B  \r\nin \r\nchunks\r\n0\r\nTrail: er\r\nMore: x\r\n\r\n"
				   "GET";
	for (size_t step = 1; step < sizeof(body); step++) {
		struct fed fed;
		assert_int_equal(feed(body, sizeof(body) - 1, step, &fed), ERR_OK);
		assert_int_equal(fed.body_length, 21);
		assert_memory_equal(fed.body, "Wikipedia in \r\nchunks", 21);
		assert_int_equal(fed.consumed, sizeof(body) - 1 - 3);
	}
}

static void a_chunked_body_that_breaks_its_framing_is_refused(void **state)
{
	static const char *const wrong[] = {
		"\r\n", "x\r\n", ";\r\n", "1x\r\n", "-1\r\n", "1\n", "1;a\nb", "1\rx", "1\r\nabc", "1\r\na\rx", "1\r\na\n",
		"0\r\n\n", "0\r\nA\n", "0\r\nA: b\rx", "0\r\n\rx", "100000000000\r\n",
	};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct fed whole, bytes;
		enum err e = feed(wrong[i], strlen(wrong[i]), 64, &whole);
		assert_int_equal(feed(wrong[i], strlen(wrong[i]), 1, &bytes), e);
		if (e != ERR_INVALID)
			fail_msg("\"%s\" is %s", wrong[i], err_text(e));
	}
	struct fed fed;
	assert_int_equal(feed("10000000000\r\n", 13, 64, &fed), ERR_AGAIN); /* a digit less */
}

static void extensions_and_trailers_have_their_limit(void **state)
{
	static char body[3 * 8192];
	struct fed fed;
	memset(body, 'a', sizeof(body));
	memcpy(body, "1;", 2);
	assert_int_equal(feed(body, 8192, 1000, &fed), ERR_AGAIN);
	assert_int_equal(feed(body, 8193, 1000, &fed), ERR_INVALID);
	memcpy(body, "0\r\n", 3);
	for (size_t i = 3; i + 10 <= sizeof(body); i += 10)
		memcpy(body + i, "A: bcdef\r\n", 10);
	assert_int_equal(feed(body, 3 + 8192, 1000, &fed), ERR_AGAIN);
	assert_int_equal(feed(body, 3 + 8193, 1000, &fed), ERR_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_head_ends_with_an_empty_line),
		cmocka_unit_test(a_head_is_taken_apart),
		cmocka_unit_test(every_character_of_a_token_may_be_a_method),
		cmocka_unit_test(a_path_and_a_query_are_decoded),
		cmocka_unit_test(a_request_line_that_is_none_is_refused),
		cmocka_unit_test(a_broken_escape_is_refused),
		cmocka_unit_test(a_query_has_its_limit),
		cmocka_unit_test(a_field_that_is_none_is_refused),
		cmocka_unit_test(a_head_that_does_not_end_is_refused),
		cmocka_unit_test(fields_have_their_limit),
		cmocka_unit_test(where_a_body_ends_is_said_once_and_clearly),
		cmocka_unit_test(a_connection_is_kept_as_the_version_and_the_client_say),
		cmocka_unit_test(pieces_of_a_chunked_body_do_not_matter),
		cmocka_unit_test(a_chunked_body_that_breaks_its_framing_is_refused),
		cmocka_unit_test(extensions_and_trailers_have_their_limit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

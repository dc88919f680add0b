/* Answers of handlers that answer at once: bodies, errors in OpenAI's shape, hints for a retry. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "coordinator/http_api_impl.h"

void http_api_reply(struct http_request *request, int status, const char *type, const char *body, size_t length)
{
	struct http_field fields[] = {{"Content-Type", type}, {NULL, NULL}};
	http_reply(request, status, fields, body, length);
}

void http_api_reply_buf(struct http_request *request, int status, const char *type, enum err e, struct buf *body)
{
	if (e == ERR_OK)
		http_api_reply(request, status, type, body->data, body->length);
	else
		http_reply_error(request, 500, "InternalServerError", NULL, NULL, err_text(e), NULL);
	buf_fini(body);
}

void http_api_reply_answer(struct http_request *request, const struct service_answer *answer, const struct http_field *more)
{
	char seconds[24], ms[24];
	struct http_field fields[12] = {{"Content-Type", "application/json"}};
	int count = 1;
	if (answer->retry_after_ns) {
		snprintf(seconds, sizeof(seconds), "%llu",
			 (unsigned long long)(answer->retry_after_ns + 999999999) / 1000000000);
		snprintf(ms, sizeof(ms), "%llu", (unsigned long long)(answer->retry_after_ns / 1000000));
		fields[count++] = (struct http_field){"retry-after", seconds};
		fields[count++] = (struct http_field){"retry-after-ms", ms};
	}
	if (answer->retry_is_vain)
		fields[count++] = (struct http_field){"x-should-retry", "false"};
	for (; more && more->name; more++)
		fields[count++] = *more;
	http_reply(request, answer->status, fields, answer->body, answer->length);
}

void http_api_reply_error(struct http_request *request, const struct api_error *error)
{
	struct buf body = {0};
	if (api_error_body(error, &body) == ERR_OK) {
		struct service_answer answer = {.status = error->status, .retry_after_ns = error->retry_after_ns,
						.retry_is_vain = error->retry_is_vain, .body = body.data,
						.length = body.length};
		http_api_reply_answer(request, &answer, NULL);
	} else {
		http_reply_error(request, 500, "InternalServerError", NULL, NULL, "out of memory", NULL);
	}
	buf_fini(&body);
}

/* "application/json; charset=utf-8", "application/problem+json" */
static bool is_json(const char *type)
{
	size_t length = strcspn(type, "; \t");
	bool suffix = length > 5 && strncasecmp(type + length - 5, "+json", 5) == 0;
	return suffix || (length == 16 && strncasecmp(type, "application/json", 16) == 0);
}

/* The types that a page of another origin may send without asking first are none of these: no page can use a coordinator
 * on its reader's machine. */
bool http_api_takes_json(struct http_request *request)
{
	const char *type = http_header(request, "content-type");
	const char *encoding = http_header(request, "content-encoding");
	struct api_error error;
	if (type && !is_json(type))
		api_error_set(&error, 415, "unsupported_media_type",
			      "The body's Content-Type is %.100s, expected application/json.", type);
	else if (encoding && strcasecmp(encoding, "identity") != 0)
		api_error_set(&error, 415, "unsupported_content_encoding",
			      "The body's Content-Encoding is %.100s, expected none.", encoding);
	else
		return true;
	http_api_reply_error(request, &error);
	return false;
}

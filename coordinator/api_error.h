/* api_error - what an API client is told when something is wrong: status, and a body in OpenAI's shape,
 * {"error":{"message","type","param","code"}}.  A value; the texts of type and code are constants. */
#ifndef COORDINATOR_API_ERROR_H
#define COORDINATOR_API_ERROR_H
#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/err.h"
#include "base/why.h"

struct api_error {
	int status;              /* 0: there is none */
	const char *type;        /* "invalid_request_error" */
	const char *code;        /* "context_length_exceeded"; NULL: null */
	char param[64];          /* the field; "": null */
	char message[640];
	uint64_t retry_after_ns; /* 0: no hint */
	bool retry_is_vain;      /* clients repeat such a status by themselves, and should not */
};

/* 400 about one field.  Returns ERR_INVALID, so that a refusal is one line. */
enum err api_error_field(struct api_error *error, const char *param, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void api_error_set(struct api_error *error, int status, const char *code, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/* What became of a request inside: UNAVAILABLE is 503, INVALID 400, DEADLINE (the request's own) 408, and so on. */
void api_error_from(struct api_error *error, enum err e, const char *why, uint64_t retry_after_ns);
/* Appends the body. */
MUST_USE enum err api_error_body(const struct api_error *error, struct buf *out);
#endif

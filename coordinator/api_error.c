#include "coordinator/api_error.h"

#include <stdarg.h>
#include <stdio.h>

#include "coordinator/json_out.h"

static const char *type_of(int status)
{
	switch (status) {
	case 400:
	case 413:
	case 415:
	case 422:
		return "invalid_request_error";
	case 401:
		return "AuthenticationError";
	case 403:
		return "PermissionDeniedError";
	case 408:
		return "RequestTimeoutError";
	case 409:
		return "ConflictError";
	case 404:
		return "NotFoundError";
	case 429:
		return "RateLimitError";
	case 503:
		return "ServiceUnavailableError";
	default:
		return "InternalServerError";
	}
}

enum err api_error_field(struct api_error *error, const char *param, const char *format, ...)
{
	*error = (struct api_error){.status = 400, .type = type_of(400)};
	snprintf(error->param, sizeof(error->param), "%s", param ? param : "");
	va_list args;
	va_start(args, format);
	vsnprintf(error->message, sizeof(error->message), format, args);
	va_end(args);
	return ERR_INVALID;
}

void api_error_set(struct api_error *error, int status, const char *code, const char *format, ...)
{
	*error = (struct api_error){.status = status, .type = type_of(status), .code = code};
	va_list args;
	va_start(args, format);
	vsnprintf(error->message, sizeof(error->message), format, args);
	va_end(args);
}

static int status_of(enum err e)
{
	switch (e) {
	case ERR_INVALID:
	case ERR_TOO_LARGE:
	case ERR_UNSUPPORTED:
		return 400;
	case ERR_NOT_FOUND:
		return 404;
	case ERR_UNAVAILABLE:
	case ERR_DRAINING:
	case ERR_CANCELED:
		return 503;
	case ERR_DEADLINE:
		return 408;
	case ERR_AGAIN:
		return 429;
	default:
		return 500;
	}
}

static const char *code_of(enum err e)
{
	return e == ERR_TOO_LARGE ? "context_length_exceeded" : e == ERR_DEADLINE ? "request_timeout" :
	       e == ERR_AGAIN ? "rate_limit_exceeded" : NULL;
}

void api_error_from(struct api_error *error, enum err e, const char *why, uint64_t retry_after_ns)
{
	int status = status_of(e);
	api_error_set(error, status, code_of(e), "%s%s%s", err_text(e), why && *why ? ": " : "", why ? why : "");
	error->retry_is_vain = e == ERR_DEADLINE; /* it would take as long again */
	error->retry_after_ns = (status == 503 || status == 429) && retry_after_ns == 0 ? 1000000000 : retry_after_ns;
}

enum err api_error_body(const struct api_error *error, struct buf *buf)
{
	struct json_out out;
	json_out_init(&out, buf);
	json_out_open(&out, '{');
	json_put_open(&out, "error", '{');
	json_put_text(&out, "message", error->message);
	json_put_text(&out, "type", error->type);
	json_put_text(&out, "param", error->param[0] ? error->param : NULL);
	json_put_text(&out, "code", error->code);
	json_out_close(&out, '}');
	json_out_close(&out, '}');
	return out.e;
}

/* Libraries that allocate for us: libevent through our allocator, the others by the calls that may fail.
 *
 * Not jansson's own allocations: version 2.14 reads and writes beyond its buffer when one fails while it saves a long
 * text (lex_save() drops the error).  Linux gives such small pieces or kills; we cannot mend it from outside. */
#include <event2/event.h>
#include <jansson.h>
#include <libfyaml.h>
#include <liburing.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdarg.h>
#include <stdlib.h>
#include <utf8proc.h>

#include "fail_impl.h"

void fail_install(void)
{
	/* Named here, so that the linker's wrappers are what it gets. */
	event_set_mem_functions(malloc, realloc, free);
}

WRAP(int, event_add, (struct event *event, const struct timeval *timeout), (event, timeout), FAIL_LIBRARY, ENOMEM, -1)
/* Not io_uring_submit(): it is asked again until it takes what is in the ring (kvstore/test_disk_shell.c). */
WRAP(int, io_uring_queue_init, (unsigned entries, struct io_uring *ring, unsigned flags), (entries, ring, flags), FAIL_LIBRARY,
     ENOMEM, -ENOMEM)
WRAP(int, io_uring_register_eventfd, (struct io_uring *ring, int fd), (ring, fd), FAIL_LIBRARY, ENOMEM, -ENOMEM)
WRAP(struct io_uring_probe *, io_uring_get_probe_ring, (struct io_uring *ring), (ring), FAIL_LIBRARY, ENOMEM, NULL)
WRAP(struct fy_document *, fy_document_build_from_string, (const struct fy_parse_cfg *cfg, const char *text, size_t length),
     (cfg, text, length), FAIL_LIBRARY, ENOMEM, NULL)
WRAP(const char *, fy_node_get_scalar0, (struct fy_node *node), (node), FAIL_LIBRARY, ENOMEM, NULL)
WRAP(utf8proc_ssize_t, utf8proc_normalize_utf32,
     (utf8proc_int32_t *text, utf8proc_ssize_t length, utf8proc_option_t options), (text, length, options), FAIL_LIBRARY,
     ENOMEM, UTF8PROC_ERROR_NOMEM)

pcre2_code *__real_pcre2_compile_8(PCRE2_SPTR pattern, PCRE2_SIZE length, uint32_t options, int *error, PCRE2_SIZE *at,
				   pcre2_compile_context *context);
pcre2_code *__wrap_pcre2_compile_8(PCRE2_SPTR pattern, PCRE2_SIZE length, uint32_t options, int *error, PCRE2_SIZE *at,
				   pcre2_compile_context *context);
pcre2_code *__wrap_pcre2_compile_8(PCRE2_SPTR pattern, PCRE2_SIZE length, uint32_t options, int *error, PCRE2_SIZE *at,
				   pcre2_compile_context *context)
{
	if (!fail_now(FAIL_LIBRARY, CALLER))
		return __real_pcre2_compile_8(pattern, length, options, error, at, context);
	*error = PCRE2_ERROR_HEAP_FAILED;
	*at = 0;
	return NULL;
}

WRAP(pcre2_match_data *, pcre2_match_data_create_8, (uint32_t size, pcre2_general_context *context), (size, context),
     FAIL_LIBRARY, ENOMEM, NULL)
WRAP(pcre2_match_context *, pcre2_match_context_create_8, (pcre2_general_context *context), (context), FAIL_LIBRARY,
     ENOMEM, NULL)
WRAP(pcre2_compile_context *, pcre2_compile_context_create_8, (pcre2_general_context *context), (context), FAIL_LIBRARY,
     ENOMEM, NULL)
WRAP(pcre2_jit_stack *, pcre2_jit_stack_create_8, (PCRE2_SIZE start, PCRE2_SIZE max, pcre2_general_context *context),
     (start, max, context), FAIL_LIBRARY, ENOMEM, NULL)
WRAP(int, pcre2_jit_compile_8, (pcre2_code * code, uint32_t options), (code, options), FAIL_LIBRARY, ENOMEM,
     PCRE2_ERROR_NOMEMORY)
WRAP(int, pcre2_match_8,
     (const pcre2_code *code, PCRE2_SPTR text, PCRE2_SIZE length, PCRE2_SIZE start, uint32_t options,
      pcre2_match_data *data, pcre2_match_context *context),
     (code, text, length, start, options, data, context), FAIL_LIBRARY, ENOMEM, PCRE2_ERROR_NOMEMORY)

/* ---- jansson */

json_t *__real_json_loadb(const char *text, size_t length, size_t flags, json_error_t *error);
json_t *__wrap_json_loadb(const char *text, size_t length, size_t flags, json_error_t *error);
json_t *__wrap_json_loadb(const char *text, size_t length, size_t flags, json_error_t *error)
{
	if (!fail_now(FAIL_LIBRARY, CALLER))
		return __real_json_loadb(text, length, flags, error);
	if (error) {
		*error = (json_error_t){.line = 1, .column = 1, .text = "out of memory"};
		error->text[JSON_ERROR_TEXT_LENGTH - 1] = json_error_out_of_memory;
	}
	return NULL;
}

#define JSON(name, parameters, arguments) WRAP(json_t *, name, parameters, arguments, FAIL_LIBRARY, ENOMEM, NULL)
JSON(json_object, (void), ())
JSON(json_array, (void), ())
JSON(json_string, (const char *text), (text))
JSON(json_stringn, (const char *text, size_t length), (text, length))
JSON(json_integer, (json_int_t value), (value))
JSON(json_real, (double value), (value))
JSON(json_copy, (json_t *value), (value))
WRAP(char *, json_dumps, (const json_t *json, size_t flags), (json, flags), FAIL_LIBRARY, ENOMEM, NULL)
WRAP(size_t, json_dumpb, (const json_t *json, char *text, size_t size, size_t flags), (json, text, size, flags),
     FAIL_LIBRARY, ENOMEM, 0)
WRAP(int, json_object_update, (json_t *object, json_t *other), (object, other), FAIL_LIBRARY, ENOMEM, -1)

/* They take the reference also when they fail. */
int __real_json_object_set_new(json_t *object, const char *key, json_t *value);
int __wrap_json_object_set_new(json_t *object, const char *key, json_t *value);
int __wrap_json_object_set_new(json_t *object, const char *key, json_t *value)
{
	if (!fail_now(FAIL_LIBRARY, CALLER))
		return __real_json_object_set_new(object, key, value);
	json_decref(value);
	return -1;
}

int __real_json_array_append_new(json_t *array, json_t *value);
int __wrap_json_array_append_new(json_t *array, json_t *value);
int __wrap_json_array_append_new(json_t *array, json_t *value)
{
	if (!fail_now(FAIL_LIBRARY, CALLER))
		return __real_json_array_append_new(array, value);
	json_decref(value);
	return -1;
}

json_t *__wrap_json_pack(const char *format, ...);
json_t *__wrap_json_pack(const char *format, ...)
{
	if (fail_now(FAIL_LIBRARY, CALLER))
		return NULL;
	va_list args;
	va_start(args, format);
	json_t *json = json_vpack_ex(NULL, 0, format, args);
	va_end(args);
	return json;
}

json_t *__wrap_json_sprintf(const char *format, ...);
json_t *__wrap_json_sprintf(const char *format, ...)
{
	if (fail_now(FAIL_LIBRARY, CALLER))
		return NULL;
	va_list args;
	va_start(args, format);
	json_t *json = json_vsprintf(format, args);
	va_end(args);
	return json;
}

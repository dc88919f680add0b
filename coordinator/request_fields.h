/* request_fields - reads the fields of a JSON object from a client; the first wrong one is remembered.
 *
 * Getters return their fallback for a field that is absent, null or wrong, so that a reader is a list of fields with one
 * check at its end.  Borrowed texts live as long as the object. */
#ifndef COORDINATOR_REQUEST_FIELDS_H
#define COORDINATOR_REQUEST_FIELDS_H
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "coordinator/api_error.h"

struct fields {
	const json_t *object;
	const char *prefix;      /* "stream_options." in front of names in errors; NULL: none */
	struct api_error *error; /* written once */
	enum err e;
};

enum { FIELD_GOT = 64 };

/* What came instead of what was expected, "is 17": never a text's content, which may be somebody's prompt. */
const char *field_describe(const json_t *value, char text[FIELD_GOT]);
/* NULL when the key is absent or null. */
const json_t *field_get(const struct fields *fields, const char *key);
void field_refuse(struct fields *fields, const char *key, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
double field_number(struct fields *fields, const char *key, double min, double max, double fallback);
/* The range without its lower end. */
double field_above(struct fields *fields, const char *key, double low, double max, double fallback);
int64_t field_integer(struct fields *fields, const char *key, int64_t min, int64_t max, int64_t fallback);
bool field_bool(struct fields *fields, const char *key, bool fallback);
const char *field_text(struct fields *fields, const char *key, size_t length_max, const char *fallback);
#endif

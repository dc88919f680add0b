/* json_in - JSON from a client: looked over before a byte is allocated for it, then parsed.
 *
 * The parser makes about a hundred bytes of the shortest value and recurses over nesting, so what may come is bounded by
 * counting first: nesting, the values that are objects, lists or texts, and all values.  Keys that are there twice, numbers
 * out of range and texts that are not UTF-8 are refused with their place.
 *
 * Owns nothing.  Bounds: JSON_IN_DEPTH_MAX, JSON_IN_NODES_MAX, JSON_IN_VALUES_MAX; the length is the caller's. */
#ifndef COORDINATOR_JSON_IN_H
#define COORDINATOR_JSON_IN_H
#include <jansson.h>
#include <stddef.h>
#include "base/err.h"
#include "coordinator/api_error.h"

enum { JSON_IN_DEPTH_MAX = 64, JSON_IN_NODES_MAX = 1 << 16, JSON_IN_VALUES_MAX = 1 << 20 };

/* An object, to be json_decref()ed; NULL: *ret_error says what and where (400). */
json_t *json_in_object(const char *body, size_t length, struct api_error *ret_error);
#endif

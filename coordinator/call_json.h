/* call_json - a tool call as JSON, {"name": ..., "arguments": {...}}, byte by byte as the model writes it.
 *
 * The name is known before the arguments are passed on, also where they came first; keys that are neither are skipped.
 * The arguments' bytes are the model's own.
 * Owns its buffers; zeroed memory is a parser that expects its first byte.  Bounds: CALL_NAME_MAX bytes of a name. */
#ifndef COORDINATOR_CALL_JSON_H
#define COORDINATOR_CALL_JSON_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/err.h"

enum { CALL_NAME_MAX = 256, CALL_DEPTH_MAX = 64 };

/* Space as JSON has it. */
static inline bool call_is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

enum call_step {
	CALL_MORE,  /* goes on */
	CALL_END,   /* the value ended with this byte */
	CALL_ENDED, /* it ended before this byte (a number, true, null) */
	CALL_BAD,   /* that is no JSON */
};

/* Where one JSON value ends: brackets and quotes are counted, not more. */
struct call_value {
	uint32_t depth;
	bool begun, in_text, escaped, scalar;
	bool is_text;
	char open[CALL_DEPTH_MAX];
};
enum call_step call_value_feed(struct call_value *value, char c);

struct call_json {
	enum { CALL_AT_OPEN, CALL_AT_KEY, CALL_IN_KEY, CALL_AT_COLON, CALL_IN_VALUE, CALL_AT_COMMA } state;
	struct call_value value;
	struct buf text;      /* the key or the name at hand, with its quotes */
	struct buf name;      /* decoded */
	struct buf arguments; /* that came before the name, or since call_json_take() */
	bool takes_name, takes_arguments; /* the value at hand */
	bool has_name, has_arguments;
};

/* CALL_END: the object is whole; without name and arguments it is no call. */
MUST_USE enum err call_json_feed(struct call_json *call, char c, enum call_step *ret_step);
/* Name and beginning of the arguments are there. */
bool call_json_is_call(const struct call_json *call);
void call_json_reset(struct call_json *call); /* for the next object; keeps the memory */
void call_json_fini(struct call_json *call);
#endif

/* json_in - reading JSON files of a model directory, with limits, and errors that name file and key.
 *
 * Only this room includes it.  Getters keep the first error in `e` and return a harmless value then,
 * so that a reader is a list of fields with one check at its end. */
#ifndef MODEL_JSON_IN_H
#define MODEL_JSON_IN_H
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"

#define JSON_IN_DEPTH_MAX 64

/* The whole file, 0-terminated, for the caller to free.  ERR_NOT_FOUND: there is no such file. */
MUST_USE enum err file_read(const char *path, size_t length_max, struct why *why, char **ret_data,
			    size_t *ret_length);

/* An object from bytes; no duplicate keys, nested at most JSON_IN_DEPTH_MAX deep. `file` is for the reason. */
MUST_USE enum err json_in_parse(const char *json, size_t length, const char *file, struct why *why,
				json_t **ret_object);

struct json_in {
	const json_t *object;
	const char *file; /* "config.json", or "tokenizer.json: model" */
	struct why *why;
	enum err e;
};

/* NULL when the key is absent or null. */
const json_t *json_in_get(const struct json_in *in, const char *key);
bool json_in_has(const struct json_in *in, const char *key);

/* Required unless `fallback` points to the value of an absent key. */
uint32_t json_in_u32(struct json_in *in, const char *key, uint32_t min, uint32_t max, const uint32_t *fallback);
double json_in_f64(struct json_in *in, const char *key, double min, double max, const double *fallback);
bool json_in_bool(struct json_in *in, const char *key, bool fallback);
/* NULL when absent or null; borrowed. */
const char *json_in_text(struct json_in *in, const char *key);

/* Records: FILE: KEY is VALUE, expected WHAT. */
void json_in_refuse(struct json_in *in, enum err e, const char *key, const char *expected);

#define JSON_IN_STEPS_DEPTH 4

/* A thing of tokenizer.json that is one step, or a Sequence of such things, nested at most JSON_IN_STEPS_DEPTH deep. */
struct json_in_steps {
	const char *file; /* the thing, for the reason: "normalizer" */
	const char *list; /* where a Sequence has its list: "normalizers" */
	/* Takes a step of that type in; what it refuses stays in `in`, and ends the walk. */
	void (*take)(void *context, struct json_in *in, const char *type);
	void *context;
};

/* Takes in the steps of `config`, in order.  Errors: a type that is no string, a list that is none, what `take` refuses. */
MUST_USE enum err json_in_walk(const struct json_in_steps *steps, const json_t *config, struct why *why);
#endif

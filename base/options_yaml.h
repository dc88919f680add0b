/* The YAML file of base/options.h: one flat mapping.  options.c's own. */
#ifndef BASE_OPTIONS_YAML_H
#define BASE_OPTIONS_YAML_H
#include "base/err.h"
#include "base/why.h"

/* Calls pair() for each key and value, several times for a list. */
MUST_USE enum err options_yaml(const char *path,
			       enum err (*pair)(void *context, const char *key, const char *value, struct why *why),
			       void *context, struct why *why);
#endif

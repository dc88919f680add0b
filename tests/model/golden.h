/* golden - reading the committed golden files; the tests run with their folder in GOLDEN_DIR. */
#ifndef TESTS_MODEL_GOLDEN_H
#define TESTS_MODEL_GOLDEN_H
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static inline json_t *golden_read(const char *name)
{
	char path[4096];
	json_error_t error;
	snprintf(path, sizeof(path), "%s/%s", GOLDEN_DIR, name);
	json_t *root = json_load_file(path, JSON_ALLOW_NUL, &error);
	if (!root)
		fprintf(stderr, "%s: %s\n", path, error.text);
	return root;
}
#endif

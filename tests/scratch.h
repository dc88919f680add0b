/* scratch - where a test puts what it writes: below TMPDIR, which tests/scratch.sh makes for each test and removes however it ends. */
#ifndef TESTS_SCRATCH_H
#define TESTS_SCRATCH_H
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline const char *scratch(void)
{
	const char *folder = getenv("TMPDIR");
	return folder ? folder : "/tmp"; /* run by hand */
}

/* A path of this process' own.  64 bytes are enough for names of 20. */
static inline char *scratch_path(char *path, size_t size, const char *name)
{
	snprintf(path, size, "%s/%s-%d", scratch(), name, (int)getpid());
	return path;
}

/* A new folder; NULL: there is none. */
static inline char *scratch_folder(char *path, size_t size, const char *name)
{
	snprintf(path, size, "%s/%s-XXXXXX", scratch(), name);
	return mkdtemp(path);
}

/* A new file, open to be written; -1: there is none. */
static inline int scratch_file(char *path, size_t size, const char *name)
{
	snprintf(path, size, "%s/%s-XXXXXX", scratch(), name);
	return mkstemp(path);
}
#endif

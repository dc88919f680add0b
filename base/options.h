/* options - a program's settings, from four places with one spelling: flag, environment, YAML file, default.
 *
 *   --kv-blocks 4096   BATON_KV_BLOCKS=4096   kv-blocks: 4096   (first one wins, in this order)
 *
 * A table says what there is; whatever else is given is an error that names the nearest known one.  The YAML file
 * (--config FILE) is one flat mapping of flag names; a list is a YAML list, or commas elsewhere.
 *
 * Bounds: a file of at most 1 MiB, OPTION_LIST_MAX items in a list, values of at most 4 KiB. */
#ifndef BASE_OPTIONS_H
#define BASE_OPTIONS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"

enum { OPTION_LIST_MAX = 64 };

enum option_type {
	OPTION_TEXT,  /* const char **value */
	OPTION_COUNT, /* uint64_t *value, min..max */
	OPTION_BYTES, /* uint64_t *value, min..max; "64MiB", "2GiB", "1000" */
	OPTION_FLAG,  /* bool *value; "--name", "--name=false" */
	OPTION_LIST,  /* struct option_list *value; may be given several times */
};

struct option_list {
	size_t count;
	const char *items[OPTION_LIST_MAX];
};

struct option {
	const char *name; /* "kv-blocks" */
	enum option_type type;
	void *value;      /* holds the default before */
	uint64_t min, max; /* COUNT, BYTES; max 0: none */
	const char *argument; /* "N", "DIR" in the help */
	const char *help;
};

struct options {
	const char *program;
	const char *usage;    /* the line after the program's name */
	const struct option *table;
	size_t count;
	char **environment;   /* main's envp; NULL: none */
	bool positional;      /* words without dashes are allowed */
	/* Results. */
	bool help;            /* --help was given: print and leave */
	struct option_list words;
	void *memory;         /* what the texts point to: options_fini() */
};

/* ERR_INVALID: why names flag, variable or key, what was given and what was expected. */
MUST_USE enum err options_parse(struct options *options, int argc, char **argv, struct why *why);
void options_print_help(const struct options *options);
void options_fini(struct options *options);
/* Overwrites what was given for this option wherever it stands: on the command line, in the environment and here, so that
 * /proc shows it no longer.  Its value is not to be used after this. */
void options_forget(struct options *options, const char *name, int argc, char **argv);
/* The nearest of the names to a wrong one, or NULL when none is near (for subcommands too). */
const char *options_nearest(const char *wrong, const char *const *names, size_t count);
/* "64MiB" and the like to bytes. */
MUST_USE enum err options_bytes(const char *text, uint64_t *ret_bytes);
#endif

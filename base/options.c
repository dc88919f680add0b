#include "base/options.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/options_yaml.h"

enum { VALUE_MAX = 4096, DISTANCE_WORD_MAX = 64 };

/* Texts that were made here live in a list until options_fini(). */
struct kept {
	struct kept *next;
	char text[];
};

static const char *keep(struct options *o, const char *text, size_t length)
{
	struct kept *kept = malloc(sizeof(*kept) + length + 1);
	if (!kept)
		return NULL;
	memcpy(kept->text, text, length);
	kept->text[length] = 0;
	kept->next = o->memory;
	o->memory = kept;
	return kept->text;
}

void options_fini(struct options *o)
{
	for (struct kept *kept = o->memory; kept;) {
		struct kept *next = kept->next;
		free(kept);
		kept = next;
	}
	o->memory = NULL;
}

/* Levenshtein distance; words over DISTANCE_WORD_MAX are far from everything. */
static size_t distance(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b);
	if (la > DISTANCE_WORD_MAX || lb > DISTANCE_WORD_MAX)
		return SIZE_MAX;
	size_t row[DISTANCE_WORD_MAX + 1];
	for (size_t j = 0; j <= lb; j++)
		row[j] = j;
	for (size_t i = 1; i <= la; i++) {
		size_t diagonal = row[0];
		row[0] = i;
		for (size_t j = 1; j <= lb; j++) {
			size_t best = diagonal + (a[i - 1] != b[j - 1]);
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			diagonal = row[j];
			row[j] = best;
		}
	}
	return row[lb];
}

const char *options_nearest(const char *wrong, const char *const *names, size_t count)
{
	const char *best = NULL;
	size_t best_distance = strlen(wrong) / 2 + 1;
	for (size_t i = 0; i < count; i++) {
		size_t d = distance(wrong, names[i]);
		if (d < best_distance) {
			best = names[i];
			best_distance = d;
		}
	}
	return best;
}

static void wipe(char *text)
{
	explicit_bzero(text, strlen(text));
}

static const struct option *find(const struct options *o, const char *name)
{
	for (size_t i = 0; i < o->count; i++)
		if (strcmp(o->table[i].name, name) == 0)
			return &o->table[i];
	return NULL;
}

static enum err unknown(const struct options *o, const char *name, const char *where, struct why *why)
{
	const char *names[256];
	size_t count = o->count < 256 ? o->count : 256;
	for (size_t i = 0; i < count; i++)
		names[i] = o->table[i].name;
	const char *near = options_nearest(name, names, count);
	if (near)
		return why_set(why, ERR_INVALID, "%s: unknown option \"%s\"; did you mean \"%s\"?", where, name, near);
	return why_set(why, ERR_INVALID, "%s: unknown option \"%s\"; --help lists what there is", where, name);
}

enum err options_bytes(const char *text, uint64_t *ret_bytes)
{
	static const struct {
		const char *unit;
		uint64_t factor;
	} units[] = {{"", 1},          {"KiB", 1 << 10},     {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1ull << 40},
		     {"KB", 1000},     {"MB", 1000000},      {"GB", 1000000000}};
	char *end;
	errno = 0;
	unsigned long long number = strtoull(text, &end, 10);
	if (errno || end == text || *text == '-')
		return ERR_INVALID;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		uint64_t bytes;
		if (strcmp(end, units[i].unit) != 0)
			continue;
		if (__builtin_mul_overflow(number, units[i].factor, &bytes))
			return ERR_INVALID;
		*ret_bytes = bytes;
		return ERR_OK;
	}
	return ERR_INVALID;
}

static enum err set_number(const struct option *option, const char *text, const char *where, struct why *why)
{
	uint64_t number = 0;
	enum err e = options_bytes(text, &number);
	bool plain = option->type == OPTION_BYTES || (*text && isdigit((unsigned char)text[strlen(text) - 1]));
	if (e != ERR_OK || !plain || number < option->min || (option->max && number > option->max))
		return why_set(why, ERR_INVALID, "%s: %s is \"%s\", expected a number%s from %llu to %llu", where,
			       option->name, text, option->type == OPTION_BYTES ? " of bytes (64MiB, 2GiB)" : "",
			       (unsigned long long)option->min,
			       (unsigned long long)(option->max ? option->max : UINT64_MAX));
	*(uint64_t *)option->value = number;
	return ERR_OK;
}

static enum err set_flag(const struct option *option, const char *text, const char *where, struct why *why)
{
	bool yes = !text || strcmp(text, "true") == 0 || strcmp(text, "1") == 0 || strcmp(text, "yes") == 0;
	bool no = text && (strcmp(text, "false") == 0 || strcmp(text, "0") == 0 || strcmp(text, "no") == 0);
	if (!yes && !no)
		return why_set(why, ERR_INVALID, "%s: %s is \"%s\", expected true or false", where, option->name, text);
	*(bool *)option->value = yes;
	return ERR_OK;
}

static enum err set_text(struct options *o, const struct option *option, const char *text, const char *where,
			 struct why *why)
{
	const char *kept = keep(o, text, strlen(text));
	if (!kept)
		return why_set(why, ERR_NOMEM, "%s: %s: no memory for the value", where, option->name);
	*(const char **)option->value = kept;
	return ERR_OK;
}

static enum err add_items(struct options *o, const struct option *option, const char *text, const char *where,
			  struct why *why)
{
	struct option_list *list = option->value;
	for (;;) {
		size_t length = strcspn(text, ",");
		if (list->count == OPTION_LIST_MAX)
			return why_set(why, ERR_TOO_LARGE, "%s: %s has over %d items", where, option->name,
				       OPTION_LIST_MAX);
		const char *item = length > 0 ? keep(o, text, length) : NULL;
		if (length > 0 && !item)
			return why_set(why, ERR_NOMEM, "%s: %s: no memory for an item", where, option->name);
		if (item)
			list->items[list->count++] = item;
		text += length;
		if (!*text++)
			return ERR_OK;
	}
}

static enum err set(struct options *o, const struct option *option, const char *text, const char *where, struct why *why)
{
	if (text && strlen(text) > VALUE_MAX)
		return why_set(why, ERR_TOO_LARGE, "%s: %s is over %d bytes", where, option->name, VALUE_MAX);
	if (!text && option->type != OPTION_FLAG)
		return why_set(why, ERR_INVALID, "%s: %s wants a value", where, option->name);
	switch (option->type) {
	case OPTION_TEXT:
		return set_text(o, option, text, where, why);
	case OPTION_COUNT:
	case OPTION_BYTES:
		return set_number(option, text, where, why);
	case OPTION_FLAG:
		return set_flag(option, text, where, why);
	case OPTION_LIST:
		return add_items(o, option, text, where, why);
	}
	return ERR_INVALID;
}

/* What came from a stronger place stays: `given` has one mark per option. */
struct pass {
	struct options *options;
	bool *given;
	bool *given_now;
	const char *where;
};

static enum err pass_set(struct pass *pass, const char *name, const char *text, struct why *why)
{
	const struct option *option = find(pass->options, name);
	if (!option)
		return unknown(pass->options, name, pass->where, why);
	size_t index = (size_t)(option - pass->options->table);
	if (pass->given[index])
		return ERR_OK;
	if (option->type == OPTION_LIST && !pass->given_now[index])
		((struct option_list *)option->value)->count = 0; /* the default goes */
	pass->given_now[index] = true;
	return set(pass->options, option, text, pass->where, why);
}

static void pass_end(struct pass *pass)
{
	for (size_t i = 0; i < pass->options->count; i++) {
		pass->given[i] |= pass->given_now[i];
		pass->given_now[i] = false;
	}
}

static enum err take_word(struct options *o, const char *word, struct why *why)
{
	if (!o->positional)
		return why_set(why, ERR_INVALID, "\"%s\" is not expected here; --help lists what there is", word);
	if (o->words.count == OPTION_LIST_MAX)
		return why_set(why, ERR_TOO_LARGE, "over %d words", OPTION_LIST_MAX);
	o->words.items[o->words.count++] = word;
	return ERR_OK;
}

static enum err take_flag(struct pass *pass, int argc, char **argv, int *i, const char **ret_config, struct why *why)
{
	const char *name = argv[*i] + 2;
	size_t length = strcspn(name, "=");
	const char *value = name[length] == '=' ? name + length + 1 : NULL;
	const char *key = keep(pass->options, name, length);
	if (!key)
		return why_set(why, ERR_NOMEM, "no memory for the name of an option");
	const struct option *option = find(pass->options, key);
	bool config = strcmp(key, "config") == 0;
	bool wants = config || (option && option->type != OPTION_FLAG);
	if (!value && wants && *i + 1 < argc)
		value = argv[++*i];
	if (!config)
		return pass_set(pass, key, value, why);
	*ret_config = value;
	return value ? ERR_OK : why_set(why, ERR_INVALID, "--config wants a file");
}

static enum err parse_arguments(struct pass *pass, int argc, char **argv, const char **ret_config, struct why *why)
{
	enum err e = ERR_OK;
	for (int i = 1; i < argc && e == ERR_OK; i++) {
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			pass->options->help = true;
		else if (strncmp(argv[i], "--", 2) == 0)
			e = take_flag(pass, argc, argv, &i, ret_config, why);
		else
			e = take_word(pass->options, argv[i], why);
	}
	return e;
}

/* BATON_KV_BLOCKS=… is kv-blocks.  BATON_TEST_… and unknown ones of other programs' are not ours to refuse. */
static enum err parse_environment(struct pass *pass, struct why *why)
{
	for (char **variable = pass->options->environment; variable && *variable; variable++) {
		if (strncmp(*variable, "BATON_", 6) != 0)
			continue;
		char name[DISTANCE_WORD_MAX + 1];
		size_t n = 0;
		const char *at = *variable + 6;
		for (; *at && *at != '=' && n < DISTANCE_WORD_MAX; at++)
			name[n++] = *at == '_' ? '-' : (char)tolower((unsigned char)*at);
		name[n] = 0;
		if (*at != '=' || !find(pass->options, name))
			continue;
		enum err e = pass_set(pass, name, at + 1, why);
		if (e != ERR_OK)
			return e;
	}
	return ERR_OK;
}

static enum err yaml_pair(void *context, const char *key, const char *value, struct why *why)
{
	return pass_set(context, key, value, why);
}

enum err options_parse(struct options *o, int argc, char **argv, struct why *why)
{
	bool given[256] = {false}, given_now[256] = {false};
	struct pass pass = {.options = o, .given = given, .given_now = given_now, .where = "command line"};
	if (o->count > 256)
		return why_set(why, ERR_TOO_LARGE, "a table of over 256 options");
	const char *config = NULL;
	enum err e = parse_arguments(&pass, argc, argv, &config, why);
	pass_end(&pass);
	pass.where = "environment";
	if (e == ERR_OK)
		e = parse_environment(&pass, why);
	pass_end(&pass);
	pass.where = config;
	if (e == ERR_OK && config)
		e = options_yaml(config, yaml_pair, &pass, why);
	return e;
}

/* "BATON_KV_BLOCKS=…" is the variable of "kv-blocks": where its value begins, or NULL. */
static char *variable_value(char *variable, const char *name)
{
	if (strncmp(variable, "BATON_", 6) != 0)
		return NULL;
	char *at = variable + 6;
	for (; *name && *at == (*name == '-' ? '_' : toupper((unsigned char)*name)); name++)
		at++;
	return !*name && *at == '=' ? at + 1 : NULL;
}

void options_forget(struct options *o, const char *name, int argc, char **argv)
{
	const struct option *option = find(o, name);
	size_t length = strlen(name);
	for (int i = 1; i < argc; i++) {
		if (strncmp(argv[i], "--", 2) != 0 || strncmp(argv[i] + 2, name, length) != 0)
			continue;
		if (argv[i][2 + length] == '=')
			wipe(argv[i] + 3 + length);
		else if (!argv[i][2 + length] && i + 1 < argc)
			wipe(argv[++i]);
	}
	for (char **variable = o->environment; variable && *variable; variable++) {
		char *value = variable_value(*variable, name);
		if (value)
			wipe(value);
	}
	/* Values are copies of ours (keep()). */
	const struct option_list *list = option && option->type == OPTION_LIST ? option->value : NULL;
	for (size_t i = 0; list && i < list->count; i++)
		wipe((char *)(uintptr_t)list->items[i]);
	if (option && option->type == OPTION_TEXT && *(char **)option->value)
		wipe(*(char **)option->value);
}

void options_print_help(const struct options *o)
{
	printf("usage: %s %s\n\n", o->program, o->usage);
	for (size_t i = 0; i < o->count; i++) {
		char left[80];
		snprintf(left, sizeof(left), "--%s %s", o->table[i].name,
			 o->table[i].argument ? o->table[i].argument : "");
		printf("  %-30s %s\n", left, o->table[i].help);
	}
	printf("  %-30s %s\n", "--config FILE", "YAML file with any of these as keys");
	printf("\nEach flag is also a variable: --kv-blocks is BATON_KV_BLOCKS.\n");
}

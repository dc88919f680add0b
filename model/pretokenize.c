#include "model/pretokenize.h"

#include <string.h>

#include "model/json_in.h"
#include "model/utf8.h"

/* What ByteLevel splits by when it is asked to: the expression that GPT-2 published. */
static const char gpt2_pattern[] =
	"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* Words and what is neither word nor space; \w is the one with the joiners here. */
static const char whitespace_pattern[] = "[\\w\\x{200c}\\x{200d}]+|[^\\w\\s\\x{200c}\\x{200d}]+";

/* ASCII punctuation and the P categories. */
static const char punctuation_pattern[] = "[\\p{P}$+<=>^`|~]";

static const struct {
	const char *name;
	enum split_behavior behavior;
} behaviors[] = {
	{"Removed", SPLIT_REMOVED},
	{"Isolated", SPLIT_ISOLATED},
	{"MergedWithPrevious", SPLIT_MERGED_WITH_PREVIOUS},
	{"MergedWithNext", SPLIT_MERGED_WITH_NEXT},
	{"Contiguous", SPLIT_CONTIGUOUS},
};

static enum split_behavior read_behavior(struct json_in *in)
{
	const char *name = json_in_text(in, "behavior");
	for (size_t i = 0; name && i < sizeof(behaviors) / sizeof(behaviors[0]); i++)
		if (strcmp(behaviors[i].name, name) == 0)
			return behaviors[i].behavior;
	json_in_refuse(in, ERR_INVALID, "behavior", "Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous");
	return SPLIT_ISOLATED;
}

static void load_split(struct json_in *in, struct pretokenize_step *step)
{
	step->behavior = read_behavior(in);
	step->invert = json_in_bool(in, "invert", false);
	pattern_load(&step->pattern, in);
}

static void load_byte_level(struct json_in *in, struct pretokenize_step *step)
{
	step->prepend = json_in_bool(in, "add_prefix_space", true) ? PREPEND_ALWAYS : PREPEND_NEVER;
	strcpy(step->prefix, " ");
	step->behavior = SPLIT_ISOLATED;
	if (json_in_bool(in, "use_regex", true))
		pattern_set_regex(&step->pattern, in, gpt2_pattern);
}

static enum prepend_scheme read_scheme(struct json_in *in)
{
	const char *scheme = json_in_has(in, "prepend_scheme") ? json_in_text(in, "prepend_scheme") : "always";
	bool prefix = json_in_bool(in, "add_prefix_space", true); /* the older way to say it */
	if (scheme && strcmp(scheme, "never") == 0)
		return PREPEND_NEVER;
	if (!prefix)
		json_in_refuse(in, ERR_INVALID, "add_prefix_space", "true, or prepend_scheme never");
	if (scheme && strcmp(scheme, "first") == 0)
		return PREPEND_FIRST;
	if (!scheme || strcmp(scheme, "always") != 0)
		json_in_refuse(in, ERR_INVALID, "prepend_scheme", "always, first or never");
	return PREPEND_ALWAYS;
}

static void load_metaspace(struct json_in *in, struct pretokenize_step *step)
{
	const char *replacement = json_in_text(in, "replacement");
	size_t length = replacement ? strlen(replacement) : 0;
	uint32_t character;
	if (length == 0 || length > 4 || utf8_step((const uint8_t *)replacement, length, &character) != (int)length) {
		json_in_refuse(in, ERR_INVALID, "replacement", "one character");
		return;
	}
	memcpy(step->prefix, replacement, length + 1);
	step->spaces = true;
	step->prepend = read_scheme(in);
	step->behavior = SPLIT_MERGED_WITH_NEXT;
	if (json_in_bool(in, "split", true))
		pattern_set_literal(&step->pattern, in, replacement);
}

static void load_whitespace(struct json_in *in, struct pretokenize_step *step)
{
	step->behavior = SPLIT_REMOVED;
	step->invert = true;
	pattern_set_regex(&step->pattern, in, whitespace_pattern);
}

static void load_step_type(struct pretokenizer *pre, struct json_in *in, const char *type, struct pretokenize_step *step)
{
	if (strcmp(type, "Split") == 0) {
		load_split(in, step);
	} else if (strcmp(type, "ByteLevel") == 0) {
		pre->byte_level = true;
		load_byte_level(in, step);
	} else if (strcmp(type, "Metaspace") == 0) {
		load_metaspace(in, step);
	} else if (strcmp(type, "Digits") == 0) {
		step->behavior = json_in_bool(in, "individual_digits", false) ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS;
		pattern_set_regex(&step->pattern, in, "\\p{N}");
	} else if (strcmp(type, "Punctuation") == 0) {
		step->behavior = json_in_has(in, "behavior") ? read_behavior(in) : SPLIT_ISOLATED;
		pattern_set_regex(&step->pattern, in, punctuation_pattern);
	} else if (strcmp(type, "Whitespace") == 0) {
		load_whitespace(in, step);
	} else if (strcmp(type, "WhitespaceSplit") == 0) {
		step->behavior = SPLIT_REMOVED;
		pattern_set_regex(&step->pattern, in, "\\s");
	} else {
		json_in_refuse(in, ERR_UNSUPPORTED, "type", "Sequence, Split, Digits, Punctuation, Whitespace, "
			       "WhitespaceSplit, Metaspace or ByteLevel");
	}
}

/* Everything but a Sequence is one step. */
static void load_step(void *context, struct json_in *in, const char *type)
{
	struct pretokenizer *pre = context;
	if (pre->step_count == PRETOKENIZE_STEPS_MAX)
		json_in_refuse(in, ERR_TOO_LARGE, "type", "at most 8 steps");
	else if (pre->byte_level)
		json_in_refuse(in, ERR_UNSUPPORTED, "type", "nothing behind ByteLevel");
	else
		load_step_type(pre, in, type, &pre->steps[pre->step_count++]);
}

enum err pretokenizer_load(struct pretokenizer *pre, const json_t *config, struct why *why)
{
	const struct json_in_steps steps = {.file = "pre_tokenizer", .list = "pretokenizers", .take = load_step,
					    .context = pre};
	return !config || json_is_null(config) ? ERR_OK : json_in_walk(&steps, config, why);
}

void pretokenizer_fini(struct pretokenizer *pre)
{
	for (uint32_t i = 0; i < pre->step_count; i++)
		pattern_fini(&pre->steps[i].pattern);
	*pre = (struct pretokenizer){0};
}

struct run {
	const struct pretokenizer *pre;
	struct regex_scratch *scratch;
	struct piece_sink sink;
	struct buf copies[PRETOKENIZE_STEPS_MAX]; /* of the piece that a step changed; in use while it is passed on */
};

static enum err run_step(struct run *run, uint32_t step_index, const char *text, size_t length, bool from_start);

/* Cuts of one step on their way to the next; the behaviours differ in what waits for its neighbour. */
struct cutter {
	struct run *run;
	const char *text;
	uint32_t next_step;
	bool from_start;
	enum split_behavior behavior;
	bool invert;
	bool waiting; /* [begin, end) may still grow to the right */
	bool is_match;
	bool last_was_match;
	size_t begin;
	size_t end;
};

static enum err pass_on(struct cutter *cutter)
{
	if (!cutter->waiting)
		return ERR_OK;
	cutter->waiting = false;
	return run_step(cutter->run, cutter->next_step, cutter->text + cutter->begin, cutter->end - cutter->begin,
			cutter->from_start && cutter->begin == 0);
}

static bool joins(const struct cutter *cutter, bool is_match)
{
	switch (cutter->behavior) {
	case SPLIT_MERGED_WITH_PREVIOUS:
		return is_match && !cutter->last_was_match;
	case SPLIT_MERGED_WITH_NEXT:
		return !is_match && cutter->is_match;
	case SPLIT_CONTIGUOUS:
		return is_match == cutter->is_match;
	default:
		return false;
	}
}

/* Cuts arrive from left to right and touch each other. */
static enum err cut(struct cutter *cutter, size_t begin, size_t end, bool is_match)
{
	if (begin == end) {
		if (is_match && cutter->behavior == SPLIT_CONTIGUOUS) /* an empty match parts its neighbours */
			cutter->is_match = !cutter->invert;
		return ERR_OK;
	}
	is_match ^= cutter->invert;
	if (cutter->behavior == SPLIT_REMOVED && is_match)
		return pass_on(cutter);
	if (cutter->waiting && joins(cutter, is_match)) {
		cutter->end = end;
	} else {
		enum err e = pass_on(cutter);
		if (e != ERR_OK)
			return e;
		cutter->begin = begin;
		cutter->end = end;
		cutter->waiting = true;
	}
	cutter->is_match = cutter->last_was_match = is_match;
	return ERR_OK;
}

static enum err split(struct run *run, uint32_t step_index, const char *text, size_t length, bool from_start)
{
	const struct pretokenize_step *step = &run->pre->steps[step_index];
	struct cutter cutter = {.run = run, .text = text, .next_step = step_index + 1, .from_start = from_start,
				.behavior = step->behavior, .invert = step->invert};
	struct pattern_search search;
	size_t done = 0, begin, end;
	enum err e;
	pattern_search_init(&search, &step->pattern, run->scratch, text, length);
	while ((e = pattern_next(&search, &begin, &end)) == ERR_OK) {
		e = cut(&cutter, done, begin, false);
		if (e == ERR_OK)
			e = cut(&cutter, begin, end, true);
		if (e != ERR_OK)
			return e;
		done = end;
	}
	if (e == ERR_NOT_FOUND)
		e = cut(&cutter, done, length, false);
	return e == ERR_OK ? pass_on(&cutter) : e;
}

static enum err copy_with_spaces(const struct pretokenize_step *step, const char *text, size_t length,
				 struct buf *copy)
{
	enum err e = ERR_OK;
	while (e == ERR_OK) {
		const char *space = memchr(text, ' ', length);
		if (!space)
			return buf_append(copy, text, length);
		e = buf_append(copy, text, (size_t)(space - text));
		if (e == ERR_OK)
			e = buf_text(copy, step->prefix);
		length -= (size_t)(space - text) + 1;
		text = space + 1;
	}
	return e;
}

/* The piece as the split is to see it. */
static enum err change(const struct pretokenize_step *step, struct buf *copy, const char **text, size_t *length,
		       bool from_start)
{
	size_t prefix = strlen(step->prefix);
	bool has = *length >= prefix && memcmp(*text, step->prefix, prefix) == 0;
	bool wants = step->prepend == PREPEND_ALWAYS || (step->prepend == PREPEND_FIRST && from_start);
	bool prepends = wants && !has && !(step->spaces && **text == ' ');
	if (!prepends && !step->spaces)
		return ERR_OK;
	buf_clear(copy);
	enum err e = prepends ? buf_text(copy, step->prefix) : ERR_OK;
	if (e == ERR_OK)
		e = step->spaces ? copy_with_spaces(step, *text, *length, copy) : buf_append(copy, *text, *length);
	*text = copy->data;
	*length = copy->length;
	return e;
}

static enum err run_step(struct run *run, uint32_t step_index, const char *text, size_t length, bool from_start)
{
	if (length == 0)
		return ERR_OK;
	if (step_index == run->pre->step_count)
		return run->sink.take(run->sink.arg, text, length);
	const struct pretokenize_step *step = &run->pre->steps[step_index];
	enum err e = change(step, &run->copies[step_index], &text, &length, from_start);
	if (e != ERR_OK)
		return e;
	return pattern_is_set(&step->pattern) ? split(run, step_index, text, length, from_start)
					      : run_step(run, step_index + 1, text, length, from_start);
}

enum err pretokenize(const struct pretokenizer *pre, struct regex_scratch *scratch, const char *text,
		     size_t length, bool from_start, struct piece_sink sink)
{
	struct run run = {.pre = pre, .scratch = scratch, .sink = sink};
	enum err e = run_step(&run, 0, text, length, from_start);
	for (uint32_t i = 0; i < pre->step_count; i++)
		buf_fini(&run.copies[i]);
	return e;
}

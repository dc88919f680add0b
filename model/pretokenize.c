#include "model/pretokenize.h"

#include <string.h>

#include "model/json_in.h"
#include "model/utf8.h"

/* What ByteLevel splits by when it is asked to: the expression that GPT-2 published. */
static const char gpt2_pattern[] =
	"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

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

static void compile_step(struct json_in *in, struct pretokenize_step *step, const char *pattern, size_t length)
{
	if (in->e != ERR_OK)
		return;
	in->e = regex_compile(pattern, length, in->why, &step->regex);
	if (in->e != ERR_OK)
		why_prefix(in->why, "%s", in->file);
}

static void load_split(struct json_in *in, struct pretokenize_step *step)
{
	step->behavior = read_behavior(in);
	step->invert = json_in_bool(in, "invert", false);
	const json_t *pattern = json_in_get(in, "pattern");
	const json_t *regex = json_object_get(pattern, "Regex");
	const json_t *literal = json_object_get(pattern, "String");
	if (json_is_string(regex)) {
		compile_step(in, step, json_string_value(regex), json_string_length(regex));
	} else if (json_is_string(literal) && in->e == ERR_OK) {
		in->e = regex_compile_literal(json_string_value(literal), json_string_length(literal), in->why,
					      &step->regex);
	} else {
		json_in_refuse(in, ERR_INVALID, "pattern", "{\"Regex\": ...} or {\"String\": ...}");
	}
}

static void load_byte_level(struct json_in *in, struct pretokenize_step *step)
{
	step->add_prefix_space = json_in_bool(in, "add_prefix_space", true);
	step->behavior = SPLIT_ISOLATED;
	if (json_in_bool(in, "use_regex", true))
		compile_step(in, step, gpt2_pattern, sizeof(gpt2_pattern) - 1);
}

/* Everything but a Sequence is one step. */
static void load_step(struct pretokenizer *pre, struct json_in *in, const char *type)
{
	if (pre->step_count == PRETOKENIZE_STEPS_MAX) {
		json_in_refuse(in, ERR_TOO_LARGE, "type", "at most 8 steps");
		return;
	}
	if (pre->byte_level) {
		json_in_refuse(in, ERR_UNSUPPORTED, "type", "nothing behind ByteLevel");
		return;
	}
	struct pretokenize_step *step = &pre->steps[pre->step_count++];
	if (strcmp(type, "Split") == 0) {
		load_split(in, step);
	} else if (strcmp(type, "ByteLevel") == 0) {
		pre->byte_level = true;
		load_byte_level(in, step);
	} else if (strcmp(type, "Digits") == 0) {
		step->behavior = json_in_bool(in, "individual_digits", false) ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS;
		compile_step(in, step, "\\p{N}", 5);
	} else if (strcmp(type, "Punctuation") == 0) {
		step->behavior = json_in_has(in, "behavior") ? read_behavior(in) : SPLIT_ISOLATED;
		compile_step(in, step, punctuation_pattern, sizeof(punctuation_pattern) - 1);
	} else {
		json_in_refuse(in, ERR_UNSUPPORTED, "type", "Sequence, Split, Digits, Punctuation or ByteLevel");
	}
}

static enum err load(struct pretokenizer *pre, const json_t *config, int depth, struct why *why)
{
	struct json_in in = {.object = config, .file = "pre_tokenizer", .why = why};
	const char *type = json_in_text(&in, "type");
	if (!type)
		json_in_refuse(&in, ERR_INVALID, "type", "a string");
	if (in.e != ERR_OK)
		return in.e;
	if (strcmp(type, "Sequence") != 0) {
		load_step(pre, &in, type);
		return in.e;
	}
	const json_t *list = json_in_get(&in, "pretokenizers");
	if (!json_is_array(list) || depth > 4)
		json_in_refuse(&in, ERR_INVALID, "pretokenizers", "a list, nested at most 4 deep");
	for (size_t i = 0; in.e == ERR_OK && i < json_array_size(list); i++)
		in.e = load(pre, json_array_get(list, i), depth + 1, why);
	return in.e;
}

enum err pretokenizer_load(struct pretokenizer *pre, const json_t *config, struct why *why)
{
	enum err e = load(pre, config, 0, why);
	if (e == ERR_OK && !pre->byte_level)
		e = why_set(why, ERR_UNSUPPORTED, "pre_tokenizer: expected a ByteLevel step: only byte-level BPE is here");
	return e;
}

void pretokenizer_fini(struct pretokenizer *pre)
{
	for (uint32_t i = 0; i < pre->step_count; i++)
		regex_destroy(pre->steps[i].regex);
	*pre = (struct pretokenizer){0};
}

struct run {
	const struct pretokenizer *pre;
	struct regex_scratch *scratch;
	struct piece_sink sink;
};

static enum err run_step(const struct run *run, uint32_t step_index, const char *text, size_t length);

/* Cuts of one step on their way to the next; the behaviours differ in what waits for its neighbour. */
struct cutter {
	const struct run *run;
	const char *text;
	uint32_t next_step;
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
	return run_step(cutter->run, cutter->next_step, cutter->text + cutter->begin, cutter->end - cutter->begin);
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

static enum err split(const struct run *run, uint32_t step_index, const char *text, size_t length)
{
	const struct pretokenize_step *step = &run->pre->steps[step_index];
	struct cutter cutter = {.run = run, .text = text, .next_step = step_index + 1,
				.behavior = step->behavior, .invert = step->invert};
	size_t done = 0, search = 0, match_end = SIZE_MAX, begin, end;
	enum err e = ERR_OK;
	while (search <= length && e == ERR_OK) {
		e = regex_next(step->regex, run->scratch, text, length, search, &begin, &end);
		if (e != ERR_OK)
			break;
		if (begin == end && end == match_end) { /* an empty match right behind a match is none */
			uint32_t character;
			search += search < length ? (size_t)utf8_step((const uint8_t *)text + search,
								      length - search, &character) : 1;
			continue;
		}
		search = match_end = end;
		e = cut(&cutter, done, begin, false);
		if (e == ERR_OK)
			e = cut(&cutter, begin, end, true);
		done = end;
	}
	if (e == ERR_OK || e == ERR_NOT_FOUND)
		e = cut(&cutter, done, length, false);
	return e == ERR_OK ? pass_on(&cutter) : e;
}

static enum err run_step(const struct run *run, uint32_t step_index, const char *text, size_t length)
{
	if (length == 0)
		return ERR_OK;
	if (step_index == run->pre->step_count)
		return run->sink.take(run->sink.arg, text, length);
	const struct pretokenize_step *step = &run->pre->steps[step_index];
	if (!step->add_prefix_space || text[0] == ' ')
		return step->regex ? split(run, step_index, text, length)
				   : run_step(run, step_index + 1, text, length);
	struct buf copy = {0};
	enum err e = buf_text(&copy, " ");
	if (e == ERR_OK)
		e = buf_append(&copy, text, length);
	if (e == ERR_OK)
		e = step->regex ? split(run, step_index, copy.data, copy.length)
				: run_step(run, step_index + 1, copy.data, copy.length);
	buf_fini(&copy);
	return e;
}

enum err pretokenize(const struct pretokenizer *pre, struct regex_scratch *scratch, const char *text,
		     size_t length, struct piece_sink sink)
{
	struct run run = {pre, scratch, sink};
	return run_step(&run, 0, text, length);
}

#include "model/normalizer.h"

#include <stdlib.h>
#include <string.h>

#include "model/utf8.h"

/* ---- loading */

static const struct {
	const char *name;
	enum normal_form form;
} forms[] = {{"NFC", NORMAL_FORM_C}, {"NFD", NORMAL_FORM_D}, {"NFKC", NORMAL_FORM_KC}, {"NFKD", NORMAL_FORM_KD}};

static bool load_form(struct normalizer_step *step, const char *type)
{
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		if (strcmp(forms[i].name, type) != 0)
			continue;
		step->kind = NORMALIZER_FORM;
		step->form = forms[i].form;
		return true;
	}
	return false;
}

static void load_content(struct json_in *in, const char *key, struct normalizer_step *step)
{
	const char *text = json_in_text(in, key);
	if (!text)
		json_in_refuse(in, ERR_INVALID, key, "a string");
	step->content = text ? strdup(text) : NULL;
	if (text && !step->content && in->e == ERR_OK)
		in->e = ERR_NOMEM;
}

static void load_charsmap(struct json_in *in, struct normalizer_step *step)
{
	const char *base64 = json_in_text(in, "precompiled_charsmap");
	step->kind = NORMALIZER_CHARSMAP;
	if (!base64)
		json_in_refuse(in, ERR_INVALID, "precompiled_charsmap", "base64");
	if (in->e == ERR_OK)
		in->e = charsmap_load(&step->charsmap, base64, in->why);
}

static void load_strip(struct json_in *in, struct normalizer_step *step)
{
	step->kind = NORMALIZER_STRIP;
	step->strip_left = json_in_bool(in, "strip_left", true);
	step->strip_right = json_in_bool(in, "strip_right", true);
}

/* Everything but a Sequence is one step. */
static void load_step(void *context, struct json_in *in, const char *type)
{
	struct normalizer *normalizer = context;
	if (normalizer->step_count == NORMALIZER_STEPS_MAX) {
		json_in_refuse(in, ERR_TOO_LARGE, "type", "at most 16 steps");
		return;
	}
	struct normalizer_step *step = &normalizer->steps[normalizer->step_count++];
	if (load_form(step, type))
		return;
	if (strcmp(type, "Lowercase") == 0) {
		step->kind = NORMALIZER_LOWERCASE;
	} else if (strcmp(type, "StripAccents") == 0) {
		step->kind = NORMALIZER_STRIP_ACCENTS;
	} else if (strcmp(type, "Strip") == 0) {
		load_strip(in, step);
	} else if (strcmp(type, "Replace") == 0) {
		step->kind = NORMALIZER_REPLACE;
		pattern_load(&step->pattern, in);
		load_content(in, "content", step);
	} else if (strcmp(type, "Prepend") == 0) {
		step->kind = NORMALIZER_PREPEND;
		load_content(in, "prepend", step);
	} else if (strcmp(type, "Precompiled") == 0) {
		load_charsmap(in, step);
	} else {
		json_in_refuse(in, ERR_UNSUPPORTED, "type", "NFC, NFD, NFKC, NFKD, Lowercase, Strip, StripAccents, "
			       "Replace, Prepend, Precompiled, or a Sequence of them");
	}
}

enum err normalizer_load(struct normalizer *normalizer, const json_t *config, struct why *why)
{
	if (!config || json_is_null(config))
		return ERR_OK;
	const struct json_in_steps steps = {.file = "normalizer", .list = "normalizers", .take = load_step,
					    .context = normalizer};
	return json_in_walk(&steps, config, why);
}

void normalizer_fini(struct normalizer *normalizer)
{
	for (uint32_t i = 0; i < normalizer->step_count; i++) {
		pattern_fini(&normalizer->steps[i].pattern);
		charsmap_fini(&normalizer->steps[i].charsmap);
		free(normalizer->steps[i].content);
	}
	normalizer->step_count = 0;
}

/* ---- use */

void normal_text_fini(struct normal_text *normal)
{
	buf_fini(&normal->text);
	buf_fini(&normal->spare);
}

/* The whole match gives way to the content, whose characters all stand for the last one of the match. */
static enum err replace(const struct normalizer_step *step, struct regex_scratch *scratch,
			struct normal_text *normal, struct buf *out)
{
	struct pattern_search search;
	const char *text = normal->text.data;
	size_t done = 0, begin, end;
	enum err e;
	pattern_search_init(&search, &step->pattern, scratch, text, normal->text.length);
	while ((e = pattern_next(&search, &begin, &end)) == ERR_OK) {
		uint32_t character;
		size_t last = end > begin ? utf8_before(text, end, &character) : begin;
		if (begin == 0 && (last > 0 || !step->content[0]))
			normal->from_start = false;
		e = buf_append(out, text + done, begin - done);
		if (e == ERR_OK)
			e = buf_text(out, step->content);
		if (e != ERR_OK)
			return e;
		done = end;
	}
	return e == ERR_NOT_FOUND ? buf_append(out, text + done, normal->text.length - done) : e;
}

static enum err strip(const struct normalizer_step *step, struct normal_text *normal, struct buf *out)
{
	const char *text = normal->text.data;
	size_t begin = 0, end = normal->text.length;
	uint32_t character;
	while (step->strip_left && begin < end) {
		int n = utf8_step((const uint8_t *)text + begin, end - begin, &character);
		if (n <= 0 || !utf8_is_space(character))
			break;
		begin += (size_t)n;
	}
	while (step->strip_right && begin < end) {
		size_t at = utf8_before(text, end, &character);
		if (!utf8_is_space(character))
			break;
		end = at;
	}
	normal->from_start &= begin == 0;
	return buf_append(out, text + begin, end - begin);
}

static enum err strip_accents(struct normal_text *normal, struct buf *out)
{
	const struct buf *text = &normal->text;
	uint32_t character;
	int first = text->length ? utf8_step((const uint8_t *)text->data, text->length, &character) : 0;
	enum err e = normalize_strip_marks(out, text->data, text->length);
	if (e == ERR_OK && first > 0 && (out->length < (size_t)first || memcmp(out->data, text->data, (size_t)first) != 0))
		normal->from_start = false;
	return e;
}

static enum err prepend(const struct normalizer_step *step, struct normal_text *normal, struct buf *out)
{
	enum err e = normal->text.length ? buf_text(out, step->content) : ERR_OK;
	return e == ERR_OK ? buf_append(out, normal->text.data, normal->text.length) : e;
}

static enum err run_step(const struct normalizer_step *step, struct regex_scratch *scratch,
			 struct normal_text *normal, struct buf *out)
{
	const char *text = normal->text.data;
	size_t length = normal->text.length;
	switch (step->kind) {
	case NORMALIZER_FORM:
		return normalize(out, step->form, text, length);
	case NORMALIZER_LOWERCASE:
		return normalize_lowercase(out, text, length);
	case NORMALIZER_STRIP:
		return strip(step, normal, out);
	case NORMALIZER_STRIP_ACCENTS:
		return strip_accents(normal, out);
	case NORMALIZER_REPLACE:
		return replace(step, scratch, normal, out);
	case NORMALIZER_PREPEND:
		return prepend(step, normal, out);
	case NORMALIZER_CHARSMAP:
		return charsmap_apply(&step->charsmap, text, length, out);
	}
	return ERR_INVALID;
}

enum err normalizer_run(const struct normalizer *normalizer, struct regex_scratch *scratch, const char *text,
			size_t length, struct normal_text *normal)
{
	normal->text.limit = normal->spare.limit = NORMAL_TEXT_MAX;
	buf_clear(&normal->text);
	enum err e = buf_append(&normal->text, text, length);
	for (uint32_t i = 0; i < normalizer->step_count && e == ERR_OK; i++) {
		buf_clear(&normal->spare);
		e = run_step(&normalizer->steps[i], scratch, normal, &normal->spare);
		struct buf swapped = normal->text;
		normal->text = normal->spare;
		normal->spare = swapped;
	}
	return e;
}

#include "model/decoder.h"

#include <ctype.h>
#include <string.h>

#include "model/json_in.h"
#include "model/utf8.h"
#include "model/vocab.h"

static void read_text(struct json_in *in, const char *key, const char *text, size_t least, char *ret_text)
{
	size_t length = text ? strlen(text) : 0;
	if (!text || length < least || length > DECODER_TEXT_MAX)
		json_in_refuse(in, ERR_UNSUPPORTED, key, least ? "a string of 1 to 63 bytes" : "a string of at most 63 bytes");
	else
		memcpy(ret_text, text, length + 1);
}

static void read_character(struct json_in *in, const char *key, char *ret_text)
{
	uint32_t character;
	read_text(in, key, json_in_text(in, key), 1, ret_text);
	if (in->e == ERR_OK && utf8_step((const uint8_t *)ret_text, strlen(ret_text), &character) != (int)strlen(ret_text))
		json_in_refuse(in, ERR_INVALID, key, "one character");
}

static void load_replace(struct json_in *in, struct decoder_step *step)
{
	const char *literal = json_string_value(json_object_get(json_in_get(in, "pattern"), "String"));
	step->kind = DECODER_REPLACE;
	if (!literal)
		json_in_refuse(in, ERR_UNSUPPORTED, "pattern", "{\"String\": ...}");
	read_text(in, "pattern", literal, 1, step->pattern);
	read_text(in, "content", json_in_text(in, "content"), 0, step->content);
}

static void load_metaspace(struct json_in *in, struct decoder *decoder, struct decoder_step *step)
{
	const char *scheme = json_in_text(in, "prepend_scheme");
	step->kind = DECODER_METASPACE;
	strcpy(step->content, " ");
	read_character(in, "replacement", step->pattern);
	if (scheme && strcmp(scheme, "always") != 0 && strcmp(scheme, "first") != 0 && strcmp(scheme, "never") != 0)
		json_in_refuse(in, ERR_INVALID, "prepend_scheme", "always, first or never");
	step->drops_first = !scheme || strcmp(scheme, "never") != 0;
	if (step->drops_first && !json_in_bool(in, "add_prefix_space", true))
		json_in_refuse(in, ERR_INVALID, "add_prefix_space", "true, or prepend_scheme never");
	decoder->drops_first |= step->drops_first;
	decoder->drops_first_behind |= step->drops_first && decoder->byte_fallback;
}

static void load_strip(struct json_in *in, struct decoder_step *step)
{
	step->kind = DECODER_STRIP;
	read_character(in, "content", step->pattern);
	step->strip_left = json_in_u32(in, "start", 0, 1 << 20, NULL);
	step->strip_right = json_in_u32(in, "stop", 0, 1 << 20, NULL);
}

/* Behind Fuse there is one text, not tokens: only its start may be cut, as a stream knows no end. */
static void load_behind_fuse(struct json_in *in, const char *type, struct decoder *decoder)
{
	if (strcmp(type, "Strip") != 0 || decoder->strip.strip_left) {
		json_in_refuse(in, ERR_UNSUPPORTED, "type", "at most one Strip behind Fuse");
		return;
	}
	load_strip(in, &decoder->strip);
	if (decoder->strip.strip_right)
		json_in_refuse(in, ERR_UNSUPPORTED, "stop", "0 behind Fuse");
}

static void load_step(struct json_in *in, const char *type, struct decoder *decoder)
{
	if (decoder->step_count == DECODER_STEPS_MAX) {
		json_in_refuse(in, ERR_TOO_LARGE, "type", "at most 8 steps");
		return;
	}
	struct decoder_step *step = &decoder->steps[decoder->step_count++];
	if (strcmp(type, "Replace") == 0)
		load_replace(in, step);
	else if (strcmp(type, "Metaspace") == 0)
		load_metaspace(in, decoder, step);
	else if (strcmp(type, "Strip") == 0)
		load_strip(in, step);
	else
		json_in_refuse(in, ERR_UNSUPPORTED, "type",
			       "ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace, or a Sequence of them");
}

static void load_one(void *context, struct json_in *in, const char *type)
{
	struct decoder *decoder = context;
	bool alone = decoder->step_count == 0 && !decoder->byte_fallback && !decoder->fused && !decoder->byte_level;
	if (strcmp(type, "Fuse") == 0) {
		decoder->fused = true;
	} else if (decoder->fused) {
		load_behind_fuse(in, type, decoder);
	} else if (strcmp(type, "ByteLevel") == 0 && alone) {
		decoder->byte_level = true;
	} else if (decoder->byte_level || strcmp(type, "ByteLevel") == 0) {
		json_in_refuse(in, ERR_UNSUPPORTED, "type", "nothing but Fuse beside ByteLevel");
	} else if (strcmp(type, "ByteFallback") == 0 && !decoder->byte_fallback) {
		decoder->byte_fallback = true;
		decoder->fallback_at = decoder->step_count;
	} else {
		load_step(in, type, decoder);
	}
}

enum err decoder_load(struct decoder *decoder, const json_t *config, struct why *why)
{
	if (!json_is_object(config))
		return why_set(why, ERR_UNSUPPORTED, "decoder: expected an object: without one no text is known");
	const struct json_in_steps steps = {.file = "decoder", .list = "decoders", .take = load_one, .context = decoder};
	return json_in_walk(&steps, config, why);
}

int decoder_byte(const struct decoder *decoder, const char *spelling, size_t length)
{
	if (!decoder->byte_fallback || length != 6 || memcmp(spelling, "<0x", 3) != 0 || spelling[5] != '>')
		return -1;
	int byte = 0;
	for (int i = 3; i < 5; i++) {
		int c = (unsigned char)spelling[i];
		if (!isxdigit(c))
			return -1;
		byte = byte * 16 + (isdigit(c) ? c - '0' : tolower(c) - 'a' + 10);
	}
	return byte;
}

/* Letters of the alphabet are bytes; a spelling with any other character is itself. */
static enum err spell_letters(const char *spelling, size_t length, struct buf *bytes)
{
	size_t before = bytes->length;
	for (size_t at = 0; at < length;) {
		uint32_t character = 0;
		int n = utf8_step((const uint8_t *)spelling + at, length - at, &character);
		int byte = n > 0 ? byte_level_byte(character) : -1;
		if (byte < 0) {
			bytes->length = before;
			return buf_append(bytes, spelling, length);
		}
		char one = (char)byte;
		enum err e = buf_append(bytes, &one, 1);
		if (e != ERR_OK)
			return e;
		at += (size_t)n;
	}
	return ERR_OK;
}

static enum err replace(const struct decoder_step *step, bool first, const char *text, size_t length,
			struct buf *out)
{
	size_t pattern = strlen(step->pattern);
	const char *content = first && step->drops_first ? "" : step->content;
	enum err e = ERR_OK;
	while (e == ERR_OK) {
		const char *found = memmem(text, length, step->pattern, pattern);
		if (!found)
			return buf_append(out, text, length);
		e = buf_append(out, text, (size_t)(found - text));
		if (e == ERR_OK)
			e = buf_text(out, content);
		length -= (size_t)(found - text) + pattern;
		text = found + pattern;
	}
	return e;
}

static enum err strip(const struct decoder_step *step, const char *text, size_t length, struct buf *out)
{
	size_t one = strlen(step->pattern);
	for (uint32_t i = 0; i < step->strip_left && length >= one && memcmp(text, step->pattern, one) == 0; i++) {
		text += one;
		length -= one;
	}
	for (uint32_t i = 0; i < step->strip_right && length >= one &&
	     memcmp(text + length - one, step->pattern, one) == 0; i++)
		length -= one;
	return buf_append(out, text, length);
}

static enum err run_step(const struct decoder_step *step, bool first, const char *text, size_t length,
			 struct buf *out)
{
	return step->kind == DECODER_STRIP ? strip(step, text, length, out) : replace(step, first, text, length, out);
}

static enum err run_steps(const struct decoder *decoder, uint32_t step, uint32_t end, bool first,
			  const char *text, size_t length, struct buf *out)
{
	if (step == end)
		return buf_append(out, text, length);
	if (step + 1 == end)
		return run_step(&decoder->steps[step], first, text, length, out);
	struct buf next = {0};
	enum err e = run_step(&decoder->steps[step], first, text, length, &next);
	if (e == ERR_OK)
		e = run_steps(decoder, step + 1, end, first, next.data ? next.data : "", next.length, out);
	buf_fini(&next);
	return e;
}

enum err decoder_spell(const struct decoder *decoder, const char *spelling, size_t length, struct buf *bytes)
{
	if (decoder->byte_level)
		return spell_letters(spelling, length, bytes);
	int byte = decoder_byte(decoder, spelling, length);
	if (byte >= 0)
		return buf_append(bytes, &(char){(char)byte}, 1);
	return run_steps(decoder, 0, decoder->step_count, false, spelling, length, bytes);
}

enum err decoder_spell_first(const struct decoder *decoder, const char *spelling, size_t length, struct buf *text)
{
	return run_steps(decoder, 0, decoder->step_count, true, spelling, length, text);
}

enum err decoder_spell_run(const struct decoder *decoder, const char *run, size_t length, bool first,
			   struct buf *text)
{
	return run_steps(decoder, decoder->fallback_at, decoder->step_count, first, run, length, text);
}

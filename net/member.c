#include "net/member.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/layer_groups.h"
#include "net/identity.h"

#define MEMBER_RATE_MAX 1e12

uint64_t member_node_id(const char *name)
{
	return identity_name_node(name);
}

static const struct {
	Wire__Role role;
	const char *text;
} roles[] = {
	{WIRE__ROLE__ROLE_COORDINATOR, "coordinator"}, {WIRE__ROLE__ROLE_PREFILL, "prefill"},
	{WIRE__ROLE__ROLE_DECODE, "decode"},           {WIRE__ROLE__ROLE_BOTH, "both"},
	{WIRE__ROLE__ROLE_KVSTORE, "kvstore"},         {WIRE__ROLE__ROLE_OPERATOR, "operator"},
};

const char *member_role_text(Wire__Role role)
{
	for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++)
		if (roles[i].role == role)
			return roles[i].text;
	return "none";
}

static Wire__Role role_of(const char *text)
{
	for (size_t i = 0; text && i < sizeof(roles) / sizeof(roles[0]); i++)
		if (strcmp(roles[i].text, text) == 0)
			return roles[i].role;
	return WIRE__ROLE__ROLE_NONE;
}

static void hex_of(const struct id128 *id, char ret_text[33])
{
	for (int i = 0; i < 16; i++)
		snprintf(ret_text + 2 * i, 3, "%02x", id->bytes[i]);
}

static bool id_of(const char *text, struct id128 *ret_id)
{
	if (!text || strlen(text) != 32 || strspn(text, "0123456789abcdef") != 32)
		return false;
	for (int i = 0; i < 16; i++) {
		unsigned byte = 0;
		sscanf(text + 2 * i, "%2x", &byte);
		ret_id->bytes[i] = (uint8_t)byte;
	}
	return true;
}

/* 64-bit numbers travel as text: many JSON readers keep 53 bits only. */
static void number_text(uint64_t number, char ret_text[24])
{
	snprintf(ret_text, 24, "%llu", (unsigned long long)number);
}

enum err member_format(const struct member *member, char *ret_text)
{
	json_t *models = json_array();
	for (uint32_t i = 0; i < member->model_count; i++)
		if (json_array_append_new(models, json_string(member->models[i])) < 0)
			break;
	if (json_array_size(models) != member->model_count) {
		json_decref(models);
		return ERR_NOMEM;
	}
	char compat[33] = "";
	if (member->has_compat)
		hex_of(&member->compat, compat);
	char node[24], incarnation[24];
	number_text(member->node, node);
	number_text(member->incarnation, incarnation);
	json_t *windows = json_array();
	for (uint32_t i = 0; i < member->group_count; i++)
		if (json_array_append_new(windows, json_integer(member->windows[i])) < 0)
			break;
	if (json_array_size(windows) != member->group_count) {
		json_decref(windows);
		json_decref(models);
		return ERR_NOMEM;
	}
	/* O: a reference of its own, so that ours is given back whatever becomes of it. */
	json_t *record = json_pack("{s:i, s:s, s:s, s:s, s:s, s:i, s:s, s:s, s:O, s:O, s:i, s:i, s:f, s:f, s:i, s:s}", "version", 1,
				   "node", node, "incarnation", incarnation, "name", member->name, "role",
				   member_role_text(member->role), "pid", (int)member->pid, "url", member->url, "compat", compat, "models", models, "windows", windows,
				   "block_tokens", (int)member->block_tokens, "context_max", (int)member->context_max,
				   "prefill_tokens_per_s", member->prefill_tokens_per_s, "step_seconds",
				   member->step_seconds, "tensor_parallel_size", (int)member->tensor_parallel_size, "device",
				   member->device);
	json_decref(models);
	json_decref(windows);
	if (!record)
		return ERR_NOMEM;
	size_t length = json_dumpb(record, ret_text, MEMBER_RECORD_MAX - 1, JSON_COMPACT);
	json_decref(record);
	if (length == 0)
		return ERR_NOMEM;
	if (length >= MEMBER_RECORD_MAX)
		return ERR_TOO_LARGE;
	ret_text[length] = 0;
	return ERR_OK;
}

static enum err take_text(json_t *record, const char *key, char *ret_text, size_t size, struct why *why)
{
	const char *text = json_string_value(json_object_get(record, key));
	if (!text || strlen(text) >= size)
		return why_set(why, ERR_INVALID, "member record: \"%s\" is missing or longer than %zu bytes", key, size - 1);
	snprintf(ret_text, size, "%s", text);
	return ERR_OK;
}

static enum err take_id(json_t *record, const char *key, uint64_t *ret_number, struct why *why)
{
	const char *text = json_string_value(json_object_get(record, key));
	char *end = NULL;
	errno = 0;
	unsigned long long number = text && isdigit((unsigned char)text[0]) ? strtoull(text, &end, 10) : 0;
	if (number == 0 || errno || *end)
		return why_set(why, ERR_INVALID, "member record: \"%s\" is no positive number as text", key);
	*ret_number = number;
	return ERR_OK;
}

static enum err take_count(json_t *record, const char *key, uint32_t *ret_number, struct why *why)
{
	json_t *value = json_object_get(record, key);
	json_int_t number = json_integer_value(value);
	if (!json_is_integer(value) || number < 0 || number > INT32_MAX)
		return why_set(why, ERR_INVALID, "member record: \"%s\" is no number from 0 to 2^31 - 1", key);
	*ret_number = (uint32_t)number;
	return ERR_OK;
}

/* Of a profile: it enters the cost model, so it must be a number that can be reckoned with. */
static enum err take_rate(json_t *record, const char *key, double *ret_number, struct why *why)
{
	double number = json_number_value(json_object_get(record, key));
	if (!(number >= 0 && number <= MEMBER_RATE_MAX))
		return why_set(why, ERR_INVALID, "member record: \"%s\" is %g, expected 0 to %g", key, number, MEMBER_RATE_MAX);
	*ret_number = number;
	return ERR_OK;
}

static enum err take_compat(json_t *record, struct member *m, struct why *why)
{
	const char *compat = json_string_value(json_object_get(record, "compat"));
	m->has_compat = compat && compat[0];
	if (!m->has_compat || id_of(compat, &m->compat))
		return ERR_OK;
	return why_set(why, ERR_INVALID, "member record: \"compat\" is not 32 digits of 0 to f");
}

static enum err take_models(json_t *record, struct member *m, struct why *why)
{
	json_t *models = json_object_get(record, "models");
	if (!json_is_array(models) || json_array_size(models) > MEMBER_MODELS_MAX)
		return why_set(why, ERR_INVALID, "member record: \"models\" is no list of at most %d names",
			       MEMBER_MODELS_MAX);
	m->model_count = (uint32_t)json_array_size(models);
	for (uint32_t i = 0; i < m->model_count; i++) {
		const char *name = json_string_value(json_array_get(models, i));
		if (!name || strlen(name) > MEMBER_MODEL_MAX)
			return why_set(why, ERR_INVALID, "member record: model %u has no name of at most %d bytes", i,
				       MEMBER_MODEL_MAX);
		snprintf(m->models[i], sizeof(m->models[i]), "%s", name);
	}
	return ERR_OK;
}

/* Of each layer group of the model; older records say nothing. */
static enum err take_windows(json_t *record, struct member *m, struct why *why)
{
	json_t *windows = json_object_get(record, "windows");
	if (!windows)
		return ERR_OK;
	if (!json_is_array(windows) || json_array_size(windows) > LAYER_GROUPS_MAX)
		return why_set(why, ERR_INVALID, "member record: \"windows\" is no list of at most %d numbers", LAYER_GROUPS_MAX);
	m->group_count = (uint32_t)json_array_size(windows);
	for (uint32_t i = 0; i < m->group_count; i++) {
		json_t *window = json_array_get(windows, i);
		json_int_t number = json_integer_value(window);
		if (!json_is_integer(window) || number < 0 || number > INT32_MAX)
			return why_set(why, ERR_INVALID, "member record: window %u is no number from 0 to 2^31 - 1", i);
		m->windows[i] = (uint32_t)number;
	}
	return ERR_OK;
}

static enum err take_fields(json_t *record, struct member *m, struct why *why)
{
	enum err e = take_id(record, "node", &m->node, why);
	if (e == ERR_OK)
		e = take_id(record, "incarnation", &m->incarnation, why);
	if (e == ERR_OK)
		e = take_text(record, "name", m->name, sizeof(m->name), why);
	if (e == ERR_OK)
		e = take_text(record, "url", m->url, sizeof(m->url), why);
	if (e == ERR_OK)
		e = take_text(record, "device", m->device, sizeof(m->device), why);
	if (e == ERR_OK)
		e = take_count(record, "pid", &m->pid, why);
	if (e == ERR_OK)
		e = take_count(record, "block_tokens", &m->block_tokens, why);
	if (e == ERR_OK)
		e = take_count(record, "context_max", &m->context_max, why);
	if (e == ERR_OK && json_object_get(record, "tensor_parallel_size"))
		e = take_count(record, "tensor_parallel_size", &m->tensor_parallel_size, why);
	if (e == ERR_OK)
		e = take_models(record, m, why);
	if (e == ERR_OK)
		e = take_windows(record, m, why);
	if (e == ERR_OK)
		e = take_rate(record, "prefill_tokens_per_s", &m->prefill_tokens_per_s, why);
	if (e == ERR_OK)
		e = take_rate(record, "step_seconds", &m->step_seconds, why);
	if (e == ERR_OK)
		e = take_compat(record, m, why);
	if (e != ERR_OK)
		return e;
	m->role = role_of(json_string_value(json_object_get(record, "role")));
	if (m->role == WIRE__ROLE__ROLE_NONE || m->role == WIRE__ROLE__ROLE_OPERATOR) /* an operator is no member */
		return why_set(why, ERR_INVALID, "member record: \"role\" is none of coordinator, prefill, decode, both, "
						 "kvstore");
	return ERR_OK;
}

enum err member_parse(const char *text, size_t length, struct why *why, struct member *ret_member)
{
	if (length > MEMBER_RECORD_MAX)
		return why_set(why, ERR_TOO_LARGE, "member record of %zu bytes, at most %d", length, MEMBER_RECORD_MAX);
	json_error_t error;
	json_t *record = json_loadb(text, length, 0, &error);
	if (!record && json_error_code(&error) == json_error_out_of_memory)
		return why_set(why, ERR_NOMEM, "no memory for a member record");
	if (!record)
		return why_set(why, ERR_INVALID, "member record is no JSON: %s", error.text);
	struct member m = {0};
	enum err e = json_is_object(record) ? take_fields(record, &m, why)
					    : why_set(why, ERR_INVALID, "member record is no object");
	json_decref(record);
	if (e == ERR_OK)
		*ret_member = m;
	return e;
}

#include "model/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>

#include "model/regex_rewrite.h"

/* Steps from one starting point. The expressions in use need a few per character of a match, and a
 * match may be the whole text. */
#define MATCH_LIMIT    200000000u
#define HEAP_LIMIT_KIB (256u << 10)
#define JIT_STACK_MAX  ((size_t)64 << 20)

struct regex {
	pcre2_code *code;
};

struct regex_scratch {
	pcre2_match_data *match;
	pcre2_match_context *context;
	pcre2_jit_stack *stack; /* made when the 32 KiB of the machine stack do not do */
};

static enum err compile(const struct buf *pattern, struct why *why, struct regex **ret_regex)
{
	struct regex *regex = calloc(1, sizeof(*regex));
	pcre2_compile_context *context = pcre2_compile_context_create(NULL);
	enum err e = ERR_NOMEM;
	if (!regex || !context)
		goto fail;
	int error;
	PCRE2_SIZE offset;
	pcre2_set_newline(context, PCRE2_NEWLINE_LF);
	/* Ruby's ^ and $ are always those of lines. */
	uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
	regex->code = pcre2_compile((PCRE2_SPTR)pattern->data, pattern->length, options, &error, &offset, context);
	if (!regex->code) {
		PCRE2_UCHAR text[128];
		pcre2_get_error_message(error, text, sizeof(text));
		e = why_set(why, ERR_UNSUPPORTED, "regex: %s", (const char *)text);
		goto fail;
	}
	/* Without JIT (a hardened kernel, another CPU) the interpreter gives the same matches. */
	(void)pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE);
	pcre2_compile_context_free(context);
	*ret_regex = regex;
	return ERR_OK;
fail:
	pcre2_compile_context_free(context);
	free(regex);
	return e;
}

enum err regex_compile(const char *pattern, size_t length, struct why *why, struct regex **ret_regex)
{
	struct buf rewritten = {0};
	enum err e = regex_rewrite(pattern, length, why, &rewritten);
	if (e == ERR_OK)
		e = buf_text(&rewritten, "");
	if (e == ERR_OK)
		e = compile(&rewritten, why, ret_regex);
	buf_fini(&rewritten);
	return e;
}

void regex_destroy(struct regex *regex)
{
	if (!regex)
		return;
	pcre2_code_free(regex->code);
	free(regex);
}

enum err regex_scratch_create(struct regex_scratch **ret_scratch)
{
	struct regex_scratch *scratch = calloc(1, sizeof(*scratch));
	if (!scratch)
		return ERR_NOMEM;
	scratch->match = pcre2_match_data_create(1, NULL);
	scratch->context = pcre2_match_context_create(NULL);
	if (!scratch->match || !scratch->context) {
		regex_scratch_destroy(scratch);
		return ERR_NOMEM;
	}
	pcre2_set_match_limit(scratch->context, MATCH_LIMIT);
	pcre2_set_heap_limit(scratch->context, HEAP_LIMIT_KIB);
	*ret_scratch = scratch;
	return ERR_OK;
}

void regex_scratch_destroy(struct regex_scratch *scratch)
{
	if (!scratch)
		return;
	pcre2_jit_stack_free(scratch->stack);
	pcre2_match_context_free(scratch->context);
	pcre2_match_data_free(scratch->match);
	free(scratch);
}

static int match(const struct regex *regex, struct regex_scratch *scratch, const char *text, size_t length,
		 size_t start)
{
	return pcre2_match(regex->code, (PCRE2_SPTR)text, length, start, PCRE2_NO_UTF_CHECK, scratch->match,
			   scratch->context);
}

enum err regex_next(const struct regex *regex, struct regex_scratch *scratch, const char *text, size_t length,
		    size_t start, size_t *ret_begin, size_t *ret_end)
{
	int rc = match(regex, scratch, text, length, start);
	if (rc == PCRE2_ERROR_JIT_STACKLIMIT && !scratch->stack) {
		scratch->stack = pcre2_jit_stack_create(64 << 10, JIT_STACK_MAX, NULL);
		if (!scratch->stack)
			return ERR_NOMEM;
		pcre2_jit_stack_assign(scratch->context, NULL, scratch->stack);
		rc = match(regex, scratch, text, length, start);
	}
	if (rc == PCRE2_ERROR_NOMATCH)
		return ERR_NOT_FOUND;
	if (rc < 0)
		return rc == PCRE2_ERROR_NOMEMORY ? ERR_NOMEM : ERR_UNSUPPORTED;
	const PCRE2_SIZE *pair = pcre2_get_ovector_pointer(scratch->match);
	*ret_begin = pair[0];
	*ret_end = pair[1];
	return ERR_OK;
}

/* Any text in any pieces in any family's format: what comes out does not depend on the pieces. */
#include <assert.h>
#include <string.h>

#include "coordinator/speech.h"

/* The first bytes choose the format and how long the pieces are. */
static void hear(const struct speech_options *options, const uint8_t *text, size_t length, size_t step, struct speech *speech)
{
	speech_init(speech, options);
	enum err e = ERR_OK;
	for (size_t at = 0; at < length && e == ERR_OK; at += step)
		e = speech_feed(speech, (const char *)text + at, length - at < step ? length - at : step);
	if (e == ERR_OK)
		e = speech_finish(speech);
	assert(e == ERR_OK);
}

static void same(const struct buf *a, const struct buf *b)
{
	assert(a->length == b->length && (!a->length || memcmp(a->data, b->data, a->length) == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	if (length < 3)
		return 0;
	struct speech_options options = {.tools = (enum tool_format)(data[0] % TOOL_FORMATS),
					 .reasoning = (enum reasoning_format)(data[1] % REASONING_FORMATS),
					 .one_call = data[2] & 0x80};
	struct speech whole, pieces;
	hear(&options, data + 3, length - 3, length, &whole);
	hear(&options, data + 3, length - 3, 1 + (data[2] & 0x7f) % 16, &pieces);
	same(&whole.content, &pieces.content);
	same(&whole.reasoning, &pieces.reasoning);
	assert(whole.call_count == pieces.call_count);
	size_t out = whole.content.length + whole.reasoning.length;
	for (uint32_t i = 0; i < whole.call_count; i++) {
		same(&whole.calls[i].name, &pieces.calls[i].name);
		same(&whole.calls[i].arguments, &pieces.calls[i].arguments);
		assert(whole.calls[i].name.length > 0);
		out += whole.calls[i].arguments.length;
	}
	assert(out <= 8 * length); /* a value that becomes JSON grows by its escapes */
	speech_fini(&whole);
	speech_fini(&pieces);
	return 0;
}

/* Any bytes as the head of a request, the rest as a chunked body. */
#include <stdlib.h>
#include <string.h>

#include "net/http_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	char *text = malloc(length + 1);
	memcpy(text, data, length);
	text[length] = 0;
	size_t head_length = http_head_length(text, length);
	struct http_head head;
	if (head_length > 0 && http_head_parse(text, head_length, &head) == ERR_OK)
		http_head_field(&head, "content-length");
	struct http_chunks chunks = {0};
	size_t at = head_length;
	bool over = false;
	while (!over && at < length) {
		size_t consumed, from, count;
		enum err e = http_chunks_feed(&chunks, (const char *)data + at, length - at, &consumed, &from, &count, &over);
		if (e != ERR_OK && e != ERR_AGAIN)
			break;
		if (from + count > consumed || consumed > length - at)
			abort();
		at += consumed;
		if (e == ERR_AGAIN || consumed == 0)
			break;
	}
	free(text);
	return 0;
}

/* Any frame: a message that passed every check, or an error; a good one packs again. */
#include <stdlib.h>

#include "proto/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	static uint8_t memory[1 << 20];
	struct codec_arena arena = {.memory = memory, .capacity = sizeof(memory)};
	struct why why;
	Wire__Envelope *envelope;
	if (codec_unpack(&arena, data, length, &why, &envelope) != ERR_OK)
		return 0;
	uint8_t *again = malloc(codec_packed_size(envelope) + 1);
	codec_pack(envelope, again);
	free(again);
	return 0;
}

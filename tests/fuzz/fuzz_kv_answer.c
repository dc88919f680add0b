/* Any answer of a store that has passed the codec, to any question of `baton kv`: what is let through keeps to the tables that
 * are sized by the question. */
#include <assert.h>
#include <stdlib.h>

#include "bytes.h"
#include "tools/kv_answer.h"

enum { KEYS = 6, BLOCKS = 9, DIGESTS = 4, FRAME = 1 << 14 };

static uint8_t keys[256][PROTO_KEY_BYTES];

static ProtobufCBinaryData key_of(struct bytes *in)
{
	uint8_t name = bytes_below(in, 8) ? (uint8_t)bytes_below(in, KEYS) : bytes_u8(in);
	keys[name][0] = name;
	return (ProtobufCBinaryData){PROTO_KEY_BYTES, keys[name]};
}

static void make_block(struct bytes *in, Wire__KvBlock *block, Wire__Place *place, uint64_t *digests)
{
	wire__kv_block__init(block);
	wire__place__init(place);
	block->key = key_of(in);
	block->compat = key_of(in);
	block->tier = (char *)"dram";
	block->layers = bytes_below(in, 16) ? 1 + bytes_below(in, DIGESTS) : (uint32_t)bytes_number(in);
	block->layer_bytes = (uint32_t)bytes_number(in);
	block->place = bytes_below(in, 4) ? place : NULL;
	block->n_digests = bytes_below(in, 8) && block->layers <= DIGESTS ? block->layers : bytes_below(in, DIGESTS + 1);
	block->digests = digests;
}

/* As it comes from the wire; NULL: the codec refuses it. */
static const Wire__KvAnswer *through_codec(Wire__KvAnswer *answer)
{
	static uint8_t frame[FRAME], memory[1 << 18];
	struct codec_arena arena = {.memory = memory, .capacity = sizeof(memory)};
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT, *got;
	envelope.version = PROTO_VERSION;
	envelope.body_case = WIRE__ENVELOPE__BODY_KV_ANSWER;
	envelope.kv_answer = answer;
	assert(codec_packed_size(&envelope) <= FRAME);
	return codec_unpack(&arena, frame, codec_pack(&envelope, frame), NULL, &got) == ERR_OK ? got->kv_answer : NULL;
}

/* What the commands rely on. */
static void check(const Wire__KvAsk *ask, const Wire__KvAnswer *answer)
{
	size_t asked = ask->keys.len / PROTO_KEY_BYTES;
	bool listed = ask->verb == WIRE__KV_VERB__KV_LIST;
	assert(answer->n_blocks <= (listed ? ask->limit : asked) && answer->n_errors <= asked);
	bool goes_on = listed && answer->after.len > 0;
	assert(!goes_on || (answer->after.len == PROTO_KEY_BYTES &&
			    (ask->after.len == 0 || memcmp(answer->after.data, ask->after.data, PROTO_KEY_BYTES) != 0)));
	for (size_t i = 0; !listed && i < answer->n_blocks; i++) {
		const Wire__KvBlock *block = answer->blocks[i];
		bool known = false;
		for (size_t k = 0; k < asked; k++)
			known |= memcmp(ask->keys.data + k * PROTO_KEY_BYTES, block->key.data, PROTO_KEY_BYTES) == 0;
		assert(known && ask->verb == WIRE__KV_VERB__KV_GET);
		assert(!block->place || (block->n_digests == block->layers && block->layers > 0));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	struct bytes in = {data, length};
	uint8_t asked[KEYS * PROTO_KEY_BYTES] = {0};
	uint32_t errors[BLOCKS];
	uint64_t digests[DIGESTS] = {1, 2, 3, 4};
	Wire__KvBlock blocks[BLOCKS], *list[BLOCKS];
	Wire__Place places[BLOCKS];
	Wire__KvAsk ask = WIRE__KV_ASK__INIT;
	Wire__KvAnswer answer = WIRE__KV_ANSWER__INIT;
	ask.verb = (Wire__KvVerb)bytes_below(&in, WIRE__KV_VERB__KV_HAVE + 1);
	uint64_t after[2][2] = {{bytes_number(&in)}};
	ask.after = (ProtobufCBinaryData){after[0][0] ? PROTO_KEY_BYTES : 0, (uint8_t *)after[0]};
	ask.limit = 1 + bytes_below(&in, 6);
	ask.keys = (ProtobufCBinaryData){(size_t)bytes_below(&in, KEYS + 1) * PROTO_KEY_BYTES, asked};
	for (uint8_t i = 0; i < KEYS; i++)
		asked[i * PROTO_KEY_BYTES] = bytes_below(&in, 4) ? i : (uint8_t)bytes_below(&in, KEYS);
	after[1][0] = bytes_number(&in);
	answer.after = (ProtobufCBinaryData){after[1][0] ? PROTO_KEY_BYTES : 0, (uint8_t *)after[1]};
	answer.error = bytes_below(&in, 8) == 7 ? bytes_u8(&in) : ERR_OK;
	answer.n_errors = bytes_below(&in, 2) ? ask.keys.len / PROTO_KEY_BYTES : bytes_below(&in, BLOCKS);
	answer.errors = errors;
	answer.n_blocks = bytes_below(&in, BLOCKS + 1);
	answer.blocks = list;
	for (uint32_t i = 0; i < BLOCKS; i++) {
		errors[i] = bytes_below(&in, 16) ? ERR_OK : bytes_u8(&in);
		list[i] = &blocks[i];
		make_block(&in, &blocks[i], &places[i], digests);
	}
	const Wire__KvAnswer *got = through_codec(&answer);
	if (got && kv_answer_check(&ask, got, NULL) == ERR_OK && got->error == ERR_OK)
		check(&ask, got);
	return 0;
}

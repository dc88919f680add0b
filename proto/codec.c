#include "proto/codec.h"

#include <string.h>

#include "proto/check.h"
#include "proto/codec_found.h"

size_t codec_packed_size(const Wire__Envelope *envelope)
{
	if (envelope->body_case == WIRE__ENVELOPE__BODY_FOUND)
		return codec_found_size(envelope);
	return wire__envelope__get_packed_size(envelope);
}

void codec_pack_sized(const Wire__Envelope *envelope, uint8_t *out, size_t size)
{
	if (envelope->body_case == WIRE__ENVELOPE__BODY_FOUND)
		codec_found_pack(envelope, out, size);
	else
		wire__envelope__pack(envelope, out);
}

size_t codec_pack(const Wire__Envelope *envelope, uint8_t *out)
{
	size_t size = codec_packed_size(envelope);
	codec_pack_sized(envelope, out, size);
	return size;
}

static void *arena_alloc(void *context, size_t size)
{
	struct codec_arena *arena = context;
	uintptr_t base = (uintptr_t)arena->memory;
	size_t start = ((base + arena->used + 15) & ~(uintptr_t)15) - base;
	if (start > arena->capacity || size > arena->capacity - start) {
		arena->full = true;
		return NULL;
	}
	arena->used = start + size;
	return arena->memory + start;
}

static void arena_free(void *context, void *memory)
{
	(void)context;
	(void)memory; /* the arena is emptied as a whole */
}

enum err codec_unpack(struct codec_arena *arena, const uint8_t *frame, size_t length, struct why *why,
		      Wire__Envelope **ret_envelope)
{
	if (length > PROTO_FRAME_MAX)
		return why_set(why, ERR_TOO_LARGE, "frame of %zu bytes, at most %d", length, PROTO_FRAME_MAX);
	arena->used = 0;
	arena->full = false;
	ProtobufCAllocator allocator = {.alloc = arena_alloc, .free = arena_free, .allocator_data = arena};
	Wire__Envelope *envelope = wire__envelope__unpack(&allocator, length, frame);
	if (!envelope && arena->full)
		return why_set(why, ERR_TOO_LARGE, "frame of %zu bytes needs more than %zu bytes", length,
			       arena->capacity);
	if (!envelope)
		return why_set(why, ERR_PROTOCOL, "frame of %zu bytes is malformed", length);
	if (envelope->version != PROTO_VERSION)
		return why_set(why, ERR_MISMATCH, "protocol version %u, expected %d", envelope->version,
			       PROTO_VERSION);
	enum err e = check_envelope(envelope, why);
	if (e != ERR_OK)
		return e;
	*ret_envelope = envelope;
	return ERR_OK;
}

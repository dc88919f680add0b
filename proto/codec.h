/* codec - frames to messages and back, with limits.
 *
 * A message from outside is checked before the state machines see it: version, sizes before anything is
 * allocated, repeated counts, required parts present, keys whole.  Memory of an unpacked message belongs to the
 * arena that the caller gives: nothing else is allocated, so memory is bounded by the arena, not by input.
 * Any thread; no state. */
#ifndef PROTO_CODEC_H
#define PROTO_CODEC_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/id128.h"
#include "base/sampling.h"
#include "base/why.h"
#include "proto/baton.pb-c.h"

enum {
	/* 2: what Attach has, of each layer group; 3: stores copy blocks, and say their weight; 4: they ask each other what is on disk, copy pins;
	 * 5: a Hello names the cluster */
	PROTO_VERSION = 5,
	PROTO_FRAME_MAX = 16 << 20,     /* bytes of one frame */
	PROTO_CONTEXT_MAX = 1 << 20,    /* tokens of one context */
	PROTO_KEYS_MAX = 1 << 16,       /* keys of one look-up or event message */
	PROTO_BLOCKS_MAX = 1 << 16,     /* blocks of one announcement or answer */
	PROTO_LAYERS_MAX = 512,
	PROTO_REPLICAS_MAX = 4,         /* copies of a block */
	PROTO_SCORES_MAX = 64,          /* prompt tokens of one PromptLogprobs */
	PROTO_STRUCTURE_MAX = 128 << 10, /* bytes of a structure's text */
	PROTO_NAME_MAX = 255,           /* bytes of any name */
	PROTO_TENANT_MAX = 127,         /* bytes of a tenant's name */
	PROTO_TENANTS_MAX = 256,        /* tenants and tiers in one report */
	PROTO_ASK_KEYS_MAX = 256,       /* keys of one KvAsk */
	PROTO_PAGE_MAX = 1024,          /* blocks of one page of a list */
	PROTO_LINK_ADDRESS_MAX = 8192,
	PROTO_KEY_BYTES = 16,
};

/* A bump allocator over the caller's memory; codec_unpack() starts it anew. */
struct codec_arena {
	uint8_t *memory;
	size_t capacity;
	size_t used;
	bool full; /* something did not fit */
};


/* Size and bytes of a message; out has room for codec_packed_size(). */
size_t codec_packed_size(const Wire__Envelope *envelope);
size_t codec_pack(const Wire__Envelope *envelope, uint8_t *out);
/* The same for who has asked for the size already. */
void codec_pack_sized(const Wire__Envelope *envelope, uint8_t *out, size_t size);

/* ERR_PROTOCOL (malformed, missing part), ERR_MISMATCH (version), ERR_TOO_LARGE (a limit or the arena).  The
 * message lives in the arena until the next unpack. */
MUST_USE enum err codec_unpack(struct codec_arena *arena, const uint8_t *frame, size_t length, struct why *why,
			       Wire__Envelope **ret_envelope);

/* Sampling between the wire and the value that everybody uses.  ERR_INVALID names the field out of range. */
void codec_sampling_put(const struct sampling *sampling, Wire__Sampling *wire, Wire__TokenBias *biases,
			Wire__TokenBias **bias_pointers /* [SAMPLING_BIAS_MAX] */);
MUST_USE enum err codec_sampling_get(const Wire__Sampling *wire, struct why *why, struct sampling *ret_sampling);

/* Key number i of concatenated keys. */
static inline struct id128 codec_key(const ProtobufCBinaryData *keys, size_t i)
{
	struct id128 key;
	memcpy(key.bytes, keys->data + i * PROTO_KEY_BYTES, PROTO_KEY_BYTES);
	return key;
}
#endif

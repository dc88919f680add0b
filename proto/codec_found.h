/* codec_found - the bytes of a Found, packed by hand: it is the one message of which an answer may hold thousands of parts and
 * whose rate is the store's (bench/results/kv.md).  What comes out is what any decoder of proto/baton.proto expects: fields of
 * Found other than `blocks` are left to the library and stand in front.  codec.c's own; pure. */
#ifndef PROTO_CODEC_FOUND_H
#define PROTO_CODEC_FOUND_H
#include <stddef.h>
#include <stdint.h>
#include "proto/baton.pb-c.h"

/* Of an envelope whose body is a Found. */
size_t codec_found_size(const Wire__Envelope *envelope);
/* size: by codec_found_size(). */
void codec_found_pack(const Wire__Envelope *envelope, uint8_t *out, size_t size);
#endif

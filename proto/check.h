/* check - is an unpacked message whole, and within the limits of codec.h?  Pure; codec.c's own. */
#ifndef PROTO_CHECK_H
#define PROTO_CHECK_H
#include "base/err.h"
#include "base/why.h"
#include "proto/baton.pb-c.h"

MUST_USE enum err check_envelope(const Wire__Envelope *envelope, struct why *why);
#endif

/* kv_answer - what a store may answer to what it was asked: `baton kv` sizes its tables by its questions, so an answer that
 * says more than was asked is refused before anything of it is used.  Pure. */
#ifndef TOOLS_KV_ANSWER_H
#define TOOLS_KV_ANSWER_H
#include "base/err.h"
#include "base/why.h"
#include "proto/codec.h"

/* Both have passed the codec.  An answer with an error says nothing else that counts.  ERR_PROTOCOL: it does not fit:
 * LIST: at most `limit` blocks, and the next page begins behind this one; GET: blocks in the order of the keys, each at most
 * once for a key, with a digest a layer where there is a place; PIN, EVICT: an outcome a key; STAT: nothing of these. */
MUST_USE enum err kv_answer_check(const Wire__KvAsk *ask, const Wire__KvAnswer *answer, struct why *why);
#endif

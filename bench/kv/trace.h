/* trace - requests as chains of block numbers: read from a file in the format of the Mooncake FAST'25 traces, or made up.
 *
 * File: a JSON object a line with "hash_ids": [numbers]; an equal number is an equal prefix up to and with that block.
 * Bounds: TRACE_LINE_MAX bytes a line, TRACE_IDS_MAX blocks and TRACE_ID_MAX the largest number. */
#ifndef BENCH_KV_TRACE_H
#define BENCH_KV_TRACE_H
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"

enum { TRACE_LINE_MAX = 1 << 20, TRACE_IDS_MAX = 1 << 24, TRACE_ID_MAX = 1 << 28 };

struct trace {
	uint32_t request_count;
	uint32_t id_count;
	uint32_t distinct; /* numbers are below it */
	uint32_t *starts;  /* [request_count + 1]: where the chain of a request begins in ids */
	uint32_t *ids;     /* [id_count] */
};

MUST_USE enum err trace_load(const char *path, struct trace *ret_trace, struct why *why);
/* Chats that grow by turns, over shared system prompts, among documents that are read once; the same for the same seed. */
MUST_USE enum err trace_make(uint64_t seed, uint32_t request_count, struct trace *ret_trace);
void trace_fini(struct trace *trace);
#endif

/* trace - what happened to a request, as one JSON object: who did what, what was computed, reused and moved, how long
 * each part took.  Shown on request ("x-baton-trace: 1"), by the quickstart, and summed up by tests.
 * Durations are in ms; counts are tokens unless their name says blocks or bytes. */
#ifndef COORDINATOR_TRACE_H
#define COORDINATOR_TRACE_H
#include "base/buf.h"
#include "base/err.h"
#include "coordinator/core.h"

MUST_USE enum err trace_append(const struct coord_outcome *outcome, struct buf *out);
#endif

/* local_wire - two cores in one process, joined by a queue instead of sockets.
 *
 * Messages are packed and unpacked as on a real stream, so that nothing can pass here that could not pass between
 * machines; what is sent arrives in a later turn of the loop (net/env.h rule 1).
 *
 * Owns:   what is queued, the memory of the message being handled.
 * Loop:   the one given.
 * Bounds: none of its own: what the cores owe each other bounds it. */
#ifndef TOOLS_LOCAL_WIRE_H
#define TOOLS_LOCAL_WIRE_H
#include "base/err.h"
#include "net/env.h"
#include "net/shell.h"

struct local_wire;
struct loop;

enum { LOCAL_COORDINATOR, LOCAL_NODE, LOCAL_SIDES };

MUST_USE enum err local_wire_create(struct loop *loop, struct local_wire **ret_wire);
void local_wire_destroy(struct local_wire *wire);
/* The world of one side; outlives its core. */
const struct env *local_wire_env(struct local_wire *wire, int side);
/* Before the loop runs.  Copied; tick is not called here. */
void local_wire_attach(struct local_wire *wire, int side, const struct shell_core *core);
#endif

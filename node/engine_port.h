/* engine_port - the engine's compute thread and the node's loop, joined by messages.
 *
 * The engine's callbacks run on its thread and only post; here they become node_layer_done() and node_step_done() on the
 * node's loop, in order.
 *
 * Owns:   the engine, the copy of the samples of the last step.
 * Loop:   the node's, except for the engine's own callbacks.
 * Bounds: one step in flight. */
#ifndef NODE_ENGINE_PORT_H
#define NODE_ENGINE_PORT_H
#include "engine/engine.h"
#include "node/core.h"

struct engine_port;
struct loop;

/* options->callbacks are set here. */
MUST_USE enum err engine_port_create(struct loop *loop, const struct engine_options *options, struct why *why,
				     struct engine_port **ret_port);
void engine_port_destroy(struct engine_port *port);
struct engine *engine_port_engine(struct engine_port *port);
void engine_port_attach(struct engine_port *port, struct node *node);

/* Hooks of node_options; context is the port. */
void engine_port_submit(void *port, const struct plan *plan);
uint64_t engine_port_digest(void *port, uint32_t block, uint32_t layer);
#endif

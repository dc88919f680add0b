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
#include "base/layer_groups.h"
#include "engine/engine.h"
#include "node/core.h"
#include "proto/codec.h"

struct engine_port;
struct loop;

/* options->callbacks are set here. */
MUST_USE enum err engine_port_create(struct loop *loop, const struct engine_options *options, struct why *why,
				     struct engine_port **ret_port);
void engine_port_destroy(struct engine_port *port);
struct engine *engine_port_engine(struct engine_port *port);
void engine_port_attach(struct engine_port *port, struct node *node);

/* What the engine's KV is like, for node_options and for everybody who compares. */
struct engine_kv {
	uint32_t group_count, layer_count;
	struct kv_geometry groups[LAYER_GROUPS_MAX];
	struct kv_layer layers[PROTO_LAYERS_MAX];
	struct id128 compat;
};

/* ERR_TOO_LARGE: more layers than the protocol has. */
MUST_USE enum err engine_port_kv(struct engine_port *port, struct why *why, struct engine_kv *ret_kv);
/* Of the model, by the bytes that its weights were made of: 32 bytes, the port's. */
const uint8_t *engine_port_fingerprint(const struct engine_port *port);
/* How many blocks of each group kv_bytes are: in proportion to what a sequence of a quarter of context_max holds of
 * each.  ERR_INVALID: under 64 of one. */
MUST_USE enum err engine_kv_divide(const struct engine_kv *kv, uint64_t kv_bytes, uint32_t context_max, uint32_t chunk_tokens,
				   struct why *why, uint32_t ret_block_counts[LAYER_GROUPS_MAX]);

/* Hooks of node_options; context is the port. */
void engine_port_submit(void *port, const struct plan *plan);
uint64_t engine_port_digest(void *port, uint32_t block, uint32_t layer);
#endif

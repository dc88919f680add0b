#include "node/engine_port.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "net/loop.h"

struct engine_port {
	struct loop *loop;
	struct engine *engine;
	struct node *node;
	struct loop_task news;
	atomic_uint layers_done;  /* of the step in flight */
	atomic_bool step_done;
	uint32_t layers_told;     /* loop only */
	enum err step_error;      /* written before step_done */
	struct sample samples[PLAN_SAMPLES_MAX];
};

/* Layers first, then the end of the step: that the node may start the next one is the last thing it learns. */
static void tell(void *arg)
{
	struct engine_port *port = arg;
	bool done = atomic_load(&port->step_done);
	uint32_t layers = atomic_load(&port->layers_done);
	for (; port->layers_told < layers; port->layers_told++)
		node_layer_done(port->node, port->layers_told, loop_now_ns(port->loop));
	if (!done)
		return;
	port->layers_told = 0;
	atomic_store(&port->layers_done, 0);
	atomic_store(&port->step_done, false);
	node_step_done(port->node, port->samples, port->step_error, loop_now_ns(port->loop));
}

static void on_layer_done(void *context, const struct plan *plan, uint32_t layer)
{
	(void)plan;
	struct engine_port *port = context;
	atomic_store(&port->layers_done, layer + 1);
	loop_post(port->loop, &port->news);
}

static void on_step_done(void *context, const struct plan *plan, const struct sample *samples, enum err e)
{
	struct engine_port *port = context;
	if (e == ERR_OK)
		memcpy(port->samples, samples, plan->sample_count * sizeof(*samples));
	port->step_error = e;
	atomic_store(&port->step_done, true);
	loop_post(port->loop, &port->news);
}

enum err engine_port_create(struct loop *loop, const struct engine_options *options, struct why *why,
			    struct engine_port **ret_port)
{
	struct engine_port *port = calloc(1, sizeof(*port));
	if (!port)
		return ERR_NOMEM;
	port->loop = loop;
	loop_task_init(&port->news, tell, port);
	struct engine_options own = *options;
	own.callbacks = (struct engine_callbacks){.context = port, .on_layer_done = on_layer_done,
						  .on_step_done = on_step_done};
	enum err e = engine_create(&own, why, &port->engine);
	if (e != ERR_OK) {
		free(port);
		return e;
	}
	*ret_port = port;
	return ERR_OK;
}

void engine_port_destroy(struct engine_port *port)
{
	if (!port)
		return;
	engine_destroy(port->engine); /* joins its thread: nobody posts after this */
	loop_task_cancel(port->loop, &port->news);
	free(port);
}

struct engine *engine_port_engine(struct engine_port *port)
{
	return port->engine;
}

void engine_port_attach(struct engine_port *port, struct node *node)
{
	port->node = node;
}

void engine_port_submit(void *context, const struct plan *plan)
{
	struct engine_port *port = context;
	enum err e = engine_submit(port->engine, plan);
	if (e == ERR_OK)
		return;
	log_error("engine refuses step %llu: %s", (unsigned long long)plan->number, err_text(e));
	port->step_error = e;
	atomic_store(&port->step_done, true);
	loop_post(port->loop, &port->news);
}

uint64_t engine_port_digest(void *context, uint32_t block, uint32_t layer)
{
	struct engine_port *port = context;
	return engine_block_digest(port->engine, block, layer);
}

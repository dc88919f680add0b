/* sim_impl - what the files of the simulated world share; nobody else includes it. */
#ifndef NET_SIM_IMPL_H
#define NET_SIM_IMPL_H
#include "base/buf.h"
#include "base/rng.h"
#include "net/sim.h"

#define SIM_WORLD UINT32_MAX
#define SIM_RATE_ONE (1u << 20)

enum sim_event_kind {
	/* of a node: they wait while it is stopped and are lost when it dies */
	SIM_TICK,
	SIM_OPENED,
	SIM_CLOSED,
	SIM_DIAL_FAILED,
	SIM_MESSAGE,
	SIM_READ_DONE,
	SIM_LANDING_FREE,
	SIM_CALL,
	/* of the world */
	SIM_CONNECT,
	SIM_PUMP,
	SIM_SAMPLE,
	SIM_DEADLINE,
	SIM_WORLD_CALL,
};

struct sim_frame {
	struct sim_frame *next;
	uint64_t ready_ns;
	size_t length; /* 0: the end of the stream */
	uint8_t bytes[];
};

struct sim_event {
	uint64_t at_ns;
	uint64_t serial; /* of two at the same time the earlier made comes first */
	enum sim_event_kind kind;
	uint32_t node;   /* index, or SIM_WORLD */
	uint32_t life;   /* of that node */
	uint32_t conn;
	uint64_t number; /* node id, read index, ... by kind */
	enum err err;
	uint64_t digest;
	struct sim_frame *frame;
	void (*fn)(void *context, uint64_t number);
	void *context;
};

struct sim_queue {
	struct sim_event *events;
	size_t count, capacity;
};

/* One direction of a stream. */
struct sim_lane {
	struct sim_frame *first, *last;
	uint64_t last_ready_ns;
	bool pumping; /* an event is under way for `first` */
	bool stalled; /* blocked: waits for the block to end */
};

struct sim_conn {
	uint32_t nodes[2]; /* 0: who dialled */
	uint32_t lives[2];
	bool open[2];      /* the core has not closed it and was not told of its end */
	uint64_t opened_ns; /* when the dialler hears of it */
	bool broken;       /* nothing travels any more */
	uint64_t reorder;  /* this connection's share of a reordering, drawn once */
	struct sim_lane lanes[2]; /* [i]: from end i to the other */
};

struct sim_read {
	bool used;
	uint32_t serial;
	uint32_t reader, reader_life;
	uint32_t owner, owner_life;
	struct env_read read;
	int fault; /* enum sim_read_fault, -1: none */
	uint8_t samples;  /* halves taken */
	bool answered;
	bool freeing;     /* landing-free is on its way: nothing lands any more */
	bool stale;       /* the generation did not match, says the link */
	bool met_other;   /* it did not, whatever the link says */
	bool denied;
	uint8_t *bounce;  /* what was sampled, for SIM_READ_DUP */
};

struct sim_node {
	uint64_t id;
	char name[SIM_NAME_MAX + 1];
	struct env env;
	struct sim *sim;
	uint32_t index;
	const struct sim_node_ops *ops;
	void *core; /* NULL: down */
	uint32_t life;
	bool stopped;
	uint64_t clock_local_ns, clock_world_ns; /* they agreed at that instant */
	uint32_t clock_rate;
	uint64_t reorder_ns, reorder_until_ns;
	uint64_t echo_late_ns, echo_until_ns;
	uint32_t echo_per_thousand;
	struct sim_queue pending; /* while stopped */
	uint64_t incarnation;
	uint64_t linked[SIM_NODES_MAX]; /* the incarnation that may be read; 0: none */
};

struct sim_pair {
	uint64_t block_until_ns; /* [from][to] */
	uint64_t extra_ns, extra_until_ns;
	uint64_t broken_until_ns; /* [reader][owner]: the link */
	bool refused;             /* the same */
	struct {
		uint32_t per_thousand;
		uint64_t until_ns;
	} reads[SIM_READ_FAULTS]; /* [reader][owner] */
};

struct sim {
	struct sim_options options;
	struct rng rng;
	uint64_t now_ns;
	uint64_t serial;
	uint64_t digest;
	struct sim_counters counters;
	uint32_t connection; /* that a watcher is told of */
	struct sim_queue queue; /* a heap */
	struct sim_node nodes[SIM_NODES_MAX];
	uint32_t node_count;
	struct sim_pair pairs[SIM_NODES_MAX][SIM_NODES_MAX];
	struct sim_conn *conns;
	size_t conn_count, conn_capacity;
	struct sim_read *reads;
	size_t read_count, read_capacity;
	uint8_t *arena;
	struct buf text;
};

/* sim.c */
struct sim_event *sim_push(struct sim *sim, uint64_t at_ns, enum sim_event_kind kind, uint32_t node);
uint64_t sim_latency(struct sim *sim, uint32_t from, uint32_t to);
bool sim_blocked(const struct sim *sim, uint32_t from, uint32_t to);
uint32_t sim_index(const struct sim *sim, uint64_t node);
void sim_mark(struct sim *sim, uint64_t word); /* into the digest of all that happened */
void sim_line(struct sim *sim, uint32_t index, const char *text);
/* A time of the node's clock as a time of the world. */
uint64_t sim_world_time(const struct sim *sim, uint32_t index, uint64_t local_ns);
void *sim_need(void *memory); /* aborts on NULL: a test bench has no better answer */

/* sim_stream.c */
void sim_env_send(void *context, uint32_t conn, const Wire__Envelope *envelope);
void sim_env_close(void *context, uint32_t conn);
void sim_env_dial(void *context, uint64_t node);
void sim_on_connect(struct sim *sim, const struct sim_event *event);
void sim_on_pump(struct sim *sim, const struct sim_event *event);
/* May the event still be told to its node?  Closes the end with SIM_CLOSED. */
bool sim_stream_event(struct sim *sim, const struct sim_event *event);
void sim_streams_resume(struct sim *sim);
void sim_streams_kill(struct sim *sim, uint32_t index);
void sim_streams_free(struct sim *sim);

/* sim_read.c */
void sim_env_link_open(void *context, uint64_t node, uint64_t incarnation, const uint8_t *address, size_t length);
void sim_env_link_close(void *context, uint64_t node);
const char *sim_env_link_name(void *context, uint64_t node);
const char *sim_env_link_required(void *context);
void sim_env_read(void *context, const struct env_read *read);
void sim_env_read_cancel(void *context, uint64_t op);
void sim_on_sample(struct sim *sim, const struct sim_event *event);
void sim_on_deadline(struct sim *sim, const struct sim_event *event);
void sim_reads_kill(struct sim *sim, uint32_t index);
void sim_read_freed(struct sim *sim, const struct sim_event *event);
void sim_reads_free(struct sim *sim);
#endif

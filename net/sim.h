/* sim - the simulated world: another `env` for the same cores.
 *
 * One thread, one seed, one virtual clock.  Nodes send frames through the real codec over streams that are ordered
 * and reliable until they break, and read each other's memory over a data plane that may lose, delay, tear and
 * repeat.  Whatever the world does is drawn from the seed, so a seed replays bit for bit: sim_digest() sums up
 * every delivery and every line of the story.
 *
 * Owns:   nodes, streams, reads and the queue of events.  Not the cores: they are the caller's, as is their memory.
 * Thread: one; nothing is shared between two worlds.
 * Bounds: SIM_NODES_MAX nodes; the queue grows (this is a test bench).
 * Rules:  1 a frame of a dead connection is never delivered, and none twice (but see sim_echo());
 *         2 a read has one outcome and one landing-free, in this order, however late (net/env.h), unless its
 *           reader dies;
 *         3 a stopped node sees nothing until it goes on; then all that happened, in order. */
#ifndef NET_SIM_H
#define NET_SIM_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "net/env.h"

enum { SIM_NODES_MAX = 64, SIM_NAME_MAX = 31 };

struct sim;

/* What the world tells a node, and what it asks of its memory.  node: the `core` of sim_start(). */
struct sim_node_ops {
	void (*opened)(void *core, uint32_t conn, uint64_t node, uint64_t now_ns);
	void (*closed)(void *core, uint32_t conn, uint64_t now_ns);
	void (*dial_failed)(void *core, uint64_t node, uint64_t now_ns);
	void (*message)(void *core, uint32_t conn, const Wire__Envelope *envelope, uint64_t now_ns);
	void (*read_done)(void *core, uint64_t op, enum err e, uint64_t digest, uint64_t now_ns);
	void (*landing_free)(void *core, uint64_t op, uint64_t now_ns);
	void (*tick)(void *core, uint64_t now_ns);
	/* Where a read lands: [length]. */
	uint8_t *(*landing)(void *core, uint32_t landing, uint32_t offset, uint32_t length);
	/* A piece of a region and the generation of its slot; NULL: there is no such region or it lies outside. */
	const uint8_t *(*memory)(void *core, uint32_t region, uint64_t offset, uint32_t length,
				 uint64_t *ret_generation);
};

/* What may happen to one read, besides going well. */
enum sim_read_fault {
	SIM_READ_DROP,    /* no bytes, no answer: the deadline ends it */
	SIM_READ_LATE,    /* the bytes land after the deadline, then the landing is free */
	SIM_READ_DUP,     /* the bytes land twice: the second time after the outcome */
	SIM_READ_CORRUPT, /* one bit flips */
	SIM_READ_TORN,    /* the second half stays what it was */
	SIM_READ_STALE,   /* sampled at instants far apart, and the generation is not looked at */
	SIM_READ_FOREIGN, /* what lies a read's length further on */
	SIM_READ_FAULTS,
};

struct sim_options {
	uint64_t seed;
	uint64_t latency_ns;      /* of a link; 0: 200 us */
	uint64_t jitter_ns;       /* drawn per frame and read, up to this */
	uint64_t tick_ns;         /* between two ticks of a node; 0: 50 ms */
	bool mapped;              /* a stopped owner's memory can still be read (mapped memory), else reads wait */
	uint64_t (*digest)(const void *data, size_t length); /* of what landed; NULL: hash_xxh3(…, 0) */
	bool story;               /* keep the lines of the story; else they are only digested */
	/* Sees every frame that is delivered; NULL: nobody looks.  alive: the process that said it still runs. */
	void (*tap)(void *context, uint32_t from, uint32_t to, bool alive, const Wire__Envelope *envelope);
	/* Sees every frame as it is said, whether or not it arrives. */
	void (*sent)(void *context, uint32_t from, uint32_t to, const Wire__Envelope *envelope);
	/* The node closes a connection with the peer, or is about to hear that it ended. */
	void (*parted)(void *context, uint32_t node, uint32_t peer);
	/* A session of the node with a life of the peer begins: its link opens. */
	void (*linked)(void *context, uint32_t node, uint32_t peer, uint64_t incarnation);
	/* Sees every read as it is asked for. */
	void (*reading)(void *context, uint32_t reader, uint32_t owner, const struct env_read *read);
	/* The link is about to call a read good that met another generation, and no fault made it so. */
	void (*broken_link)(void *context, uint32_t reader, uint32_t owner);
	/* Sees every read that a fault hits. */
	void (*read_fault)(void *context, uint32_t reader, uint32_t owner, enum sim_read_fault fault);
	/* A node was refused by a peer that knows a later life of it (net/env.h). */
	void (*outranked)(void *context, uint32_t index, uint64_t incarnation, bool lives);
	void *context;
};

struct sim_counters {
	uint64_t events;
	uint64_t frames;
	uint64_t frame_bytes;
	uint64_t reads;
	uint64_t read_faults[SIM_READ_FAULTS];
	uint64_t stale_reads; /* met another generation than they asked for, and were still waited for */
	uint64_t late_writes; /* bytes that landed after the outcome of their read */
};

/* NULL when memory is out. */
struct sim *sim_create(const struct sim_options *options);
void sim_destroy(struct sim *sim);

/* A place for a node; returns its index.  It is down until sim_start(). */
uint32_t sim_add(struct sim *sim, uint64_t node, const char *name);
/* The env of that node, the same over all its lives. */
const struct env *sim_env(struct sim *sim, uint32_t index);
/* The node comes up; events go to this core until sim_kill().  A read by a peer that linked to another incarnation finds
 * nobody. */
void sim_start(struct sim *sim, uint32_t index, uint64_t incarnation, const struct sim_node_ops *ops, void *core);
/* The node goes on under another incarnation; its core must hear of it too. */
void sim_renew(struct sim *sim, uint32_t index, uint64_t incarnation);
bool sim_up(const struct sim *sim, uint32_t index);

/* Runs fn at (or as soon as possible after) a time of the world; on_node: as an event of that node, so that it waits
 * while the node is stopped and is lost when it dies; UINT32_MAX: of the world. */
void sim_at(struct sim *sim, uint64_t at_ns, uint32_t on_node, void (*fn)(void *context, uint64_t number),
	    void *context, uint64_t number);
/* Runs all events up to that time of the world. */
void sim_run(struct sim *sim, uint64_t until_ns);
uint64_t sim_now(const struct sim *sim);
/* The clock of a node, as its core sees it. */
uint64_t sim_local(const struct sim *sim, uint32_t index);
uint64_t sim_random(struct sim *sim, uint64_t bound);
/* In tap, sent and parted: which connection; the same number at both ends. */
uint32_t sim_connection(const struct sim *sim);

/* ---- faults: each does one thing, until it is undone or its time is over */

/* Every connection between the two breaks; each end hears of it after a while of its own. */
void sim_cut(struct sim *sim, uint32_t a, uint32_t b);
/* The same, half open: one hears of it at once, the other only after that time. */
void sim_cut_half(struct sim *sim, uint32_t at_once, uint32_t late, uint64_t after_ns);
/* Frames and reads from `from` to `to` stay on the way (and dials fail) until then. */
void sim_block(struct sim *sim, uint32_t from, uint32_t to, uint64_t until_ns);
/* Everything between the two takes that much longer. */
void sim_delay(struct sim *sim, uint32_t a, uint32_t b, uint64_t extra_ns, uint64_t until_ns);
/* Each connection and read of the node takes its own extra time: what was sent later may arrive earlier. */
void sim_reorder(struct sim *sim, uint32_t node, uint64_t extra_ns, uint64_t until_ns);
/* What the node says is delivered twice that often: at once, or (late) by itself up to late_ns later.  No transport of
 * ours does that; a peer that repeats itself does. */
void sim_echo(struct sim *sim, uint32_t node, uint32_t per_thousand, uint64_t late_ns, uint64_t until_ns);
/* Reads of owner's memory by reader go wrong that often. */
void sim_read_faults(struct sim *sim, uint32_t reader, uint32_t owner, enum sim_read_fault fault,
		     uint32_t per_thousand, uint64_t until_ns);
/* The link by which reader reads owner's memory breaks while their session lives: reads under way and those of the
 * next moments end with PEER_GONE; then the shell has opened it anew. */
void sim_break_link(struct sim *sim, uint32_t reader, uint32_t owner, uint64_t until_ns);
/* Nothing that reader requires reaches owner: its reads of it fail, and it is told (env: link_name). */
void sim_refuse_link(struct sim *sim, uint32_t reader, uint32_t owner);
bool sim_refuses_link(const struct sim *sim, uint32_t reader, uint32_t owner);
/* SIGSTOP, SIGCONT. */
void sim_stop(struct sim *sim, uint32_t index);
void sim_continue(struct sim *sim, uint32_t index);
bool sim_stopped(const struct sim *sim, uint32_t index);
/* The process dies with all its memory; its kernel tells the peers that can hear it. */
void sim_kill(struct sim *sim, uint32_t index);
/* The node's clock runs at rate / 2^20 from now on. */
void sim_skew(struct sim *sim, uint32_t index, uint32_t rate);
/* The node's clock steps forward, as after a suspended machine wakes up. */
void sim_step(struct sim *sim, uint32_t index, uint64_t forward_ns);
/* Undoes blocks, delays, reordering, echoes, read faults, skew and stops.  Dead nodes stay dead. */
void sim_heal(struct sim *sim);

/* ---- what happened */

/* A line of the story by the harness itself. */
void sim_story(struct sim *sim, uint32_t index, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The same for who watches only: not part of the digest, so that a run with a story is the same run. */
void sim_note(struct sim *sim, uint32_t index, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The lines so far, 0-terminated: "[time ms] node > text\n" (with options.story). */
const char *sim_text(const struct sim *sim);
uint64_t sim_digest(const struct sim *sim);
void sim_counters(const struct sim *sim, struct sim_counters *ret_counters);
#endif

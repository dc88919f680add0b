/* faults - what goes wrong in a simulated cluster, when, and what it hit.
 *
 * Each kind is one small part (see the table in faults.c).  A seed draws kinds, times and nodes; half of the faults
 * wait for a job of their node to be in a drawn state, so that short states are hit too.  Every pair of (kind,
 * state of a job on the node when it struck) is counted. */
#ifndef TESTS_SIM_FAULTS_H
#define TESTS_SIM_FAULTS_H
#include <stdbool.h>
#include <stdint.h>
#include "net/sim.h"

#define FAULT_KINDS(X)                                                                                        \
	X(DROP) X(LATE) X(DUP) X(CORRUPT) X(TORN) X(STALE) X(FOREIGN) X(LINK) X(DELAY) X(REORDER) X(ECHO) X(CUT)   \
	X(SILENCE) X(ONE_WAY) X(STOP) X(KILL) X(FLAP) X(SKEW) X(STEP) X(ETCD) X(WIPE) X(REVOKE) X(CLOCK)           \
	X(CO_KILL) X(CO_STOP) X(CO_ETCD)
enum fault_kind {
#define X(name) FAULT_##name,
	FAULT_KINDS(X)
#undef X
	FAULT_COUNT
};

/* States of a job's halves (prefill/prefill.h, decode/decode.h), and what a node may do besides. */
#define HIT_STATES(X)                                                                                          \
	X(P_RESERVED, "RESERVED") X(P_FETCHING, "FETCHING") X(P_BLOCKED, "BLOCKED") X(P_COMPUTING, "COMPUTING") \
	X(P_HANDING, "HANDING") X(D_RESERVED, "RESERVED") X(D_WAITING, "WAITING") X(D_RECEIVING, "RECEIVING")    \
	X(D_LOCAL, "LOCAL") X(D_RUNNING, "RUNNING") X(OFFERING, NULL) X(HOLDING, NULL)
enum hit_state {
#define X(name, text) HIT_##name,
	HIT_STATES(X)
#undef X
	HIT_COUNT
};

struct hit_table {
	uint64_t hits[FAULT_COUNT][HIT_COUNT];
};

struct cluster;
struct faults;

struct faults *faults_create(struct cluster *cluster);
void faults_destroy(struct faults *faults);
/* Draws count faults between two times. */
void faults_draw(struct faults *faults, uint32_t count, uint64_t from_ns, uint64_t to_ns);
/* One fault more, of that kind, for the first moment from then on when a node has something in that state. */
void faults_aim(struct faults *faults, enum fault_kind kind, enum hit_state state, uint64_t from_ns);
/* For a while from then on no two engines can reach each other: jobs wait for their hand-over. */
void faults_part_engines(struct faults *faults, uint64_t from_ns, uint64_t lasts_ns);
void faults_half_open(struct faults *faults, uint64_t at_ns, uint64_t after_ns);
/* None of those that change what is read is drawn: then no digest may be wrong. */
void faults_spare_bytes(struct faults *faults);
/* Frames and reads between decode nodes and other engines (to_all: and all others) take long: what an attempt said
 * arrives when the next one runs. */
void faults_slow_decode(struct faults *faults, bool to_all, uint64_t from_ns, uint64_t lasts_ns);
/* Undoes all that is going on, lets no more begin, and starts the dead again. */
void faults_heal(struct faults *faults);
uint32_t faults_struck(const struct faults *faults);
const struct hit_table *faults_hits(const struct faults *faults);

/* The cluster tells: something happened on this node; a read was hit. */
void faults_event(struct faults *faults, uint32_t member);
void faults_read_hit(struct faults *faults, uint32_t reader, uint32_t owner, enum sim_read_fault fault);

void hit_table_add(struct hit_table *sum, const struct hit_table *more);
/* The table as text; returns how many pairs were never hit. */
uint32_t hit_table_print(const struct hit_table *table);
const char *fault_name(enum fault_kind kind);
#endif

/* clients - seeded requests, each token compared with the oracle as it comes (law 1). */
#ifndef TESTS_SIM_CLIENTS_H
#define TESTS_SIM_CLIENTS_H
#include "tests/sim/cluster.h"

struct client_counts {
	uint32_t requests;
	uint32_t done;       /* every token of every choice came, or it was ended as the client wished */
	uint32_t canceled;
	uint32_t submitted;  /* also again, after a coordinator died or an answer was UNAVAILABLE */
	uint32_t refused;
	uint32_t failed;     /* ended with UNAVAILABLE, submitted again */
	uint32_t lost;       /* their coordinator died */
	uint64_t tokens;
	uint64_t recoveries;
	uint64_t reused, fetched, computed, transferred; /* tokens of contexts, over all halves */
	uint64_t misses;
	uint64_t misses_bad; /* of them, anything but not found */
};

struct client_request {
	uint64_t at_ns;
	uint32_t tenant;
	uint32_t prompt_count;
	uint32_t prompt[TOY_CONTEXT_MAX];
	uint32_t choice_count;
	struct sampling sampling;
	uint64_t cancel_ns;  /* after at_ns; 0: no */
	uint32_t enough;     /* the client has enough after that many tokens of choice 0; 0: no */
};

struct clients *clients_create(struct cluster *cluster);
void clients_destroy(struct clients *clients);
void clients_add(struct clients *clients, const struct client_request *request);
/* count requests drawn from the world's seed, between two times. */
void clients_draw(struct clients *clients, uint32_t count, uint64_t from_ns, uint64_t to_ns);
/* From now on an accepted request must not fail. */
void clients_demand(struct clients *clients);
bool clients_done(const struct clients *clients);
void clients_coordinator_died(struct clients *clients, uint32_t member);
struct coord_hooks clients_hooks(struct cluster *cluster);
void clients_counts(const struct clients *clients, struct client_counts *ret_counts);
/* One line for each request that is not done. */
void clients_print(const struct clients *clients);
#endif

/* fair - who is next: tenants in proportion to their weights, and of one tenant the shortest work first.  Pure.
 *
 * Start-time fair queueing (Goyal, Vin, Cheng 1996), over tenants within a class.  A tenant's tag is the virtual time at
 * which its next item may begin; of all that wait, the tenant with the smallest tag is next, and its tag then moves on by
 * cost / weight.  Virtual time is the tag of the item that began last, and a tenant that comes back after a pause begins
 * there: it has saved nothing up, and owes nothing.  So while tenants A and B wait all the time, their work done differs
 * from the share of their weights by at most one item of each, whatever either of them floods in.
 *
 * Of one tenant an item may overtake those that came before it only as far as it is shorter, and never one that came
 * FAIR_OVERTAKE_NS earlier: nothing waits for ever behind short work.
 *
 * What an item costs is guessed when it begins, and settled when its work is known.
 *
 * Owns:   its tenants; items are their owners', and in one list at most.
 * Memory: the caller's.
 * Bounds: tenants_max names at once.  One that is neither waiting nor running makes room for a new one; when all are, new
 *         names share one tenant: they cannot get more together than one alone. */
#ifndef COORDINATOR_FAIR_H
#define COORDINATOR_FAIR_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FAIR_CLASSES = 3, FAIR_NAME_MAX = 127, FAIR_WEIGHT_MAX = 1000 };

#define FAIR_OVERTAKE_NS 2000000000ull
#define FAIR_COST_NS     1000000ull /* by so much earlier does a unit of cost less begin, where there is a choice */

/* 0: no limit; weight 0: 1. */
struct fair_share {
	uint32_t weight;
	uint32_t running_max, waiting_max; /* items */
};

struct fair_item {
	struct fair_item *prev, *next;
	uint64_t rank_ns; /* place among its tenant's */
	uint64_t cost;    /* tokens, weighted */
	uint64_t charged; /* to its tenant's tag, while it runs */
	uint32_t tenant;
	uint8_t class;
	bool waiting, running;
};

struct fair_list {
	struct fair_item *first, *last;
	uint64_t cost;
	uint32_t count;
};

struct fair_tenant {
	char name[FAIR_NAME_MAX + 1];
	bool used;
	struct fair_share share;
	uint32_t waiting, running;
	uint64_t tag[FAIR_CLASSES];
	struct fair_list list[FAIR_CLASSES];
	/* Of the walk that goes on. */
	struct fair_item *walk_next;
	uint64_t walk_tag;
};

struct fair {
	struct fair_tenant *tenants; /* [tenants_max + 1], the last one for names that found no room */
	uint32_t tenants_max, tenants_seen;
	uint64_t virtual_time[FAIR_CLASSES];
	uint64_t cost[FAIR_CLASSES]; /* that waits */
	uint32_t waiting;
};

size_t fair_bytes(uint32_t tenants_max);
void fair_init(struct fair *fair, void *memory, uint32_t tenants_max);

/* The tenant of that name, with its share as it is now. */
uint32_t fair_tenant(struct fair *fair, const char *name, const struct fair_share *share);
bool fair_may_run(const struct fair *fair, uint32_t tenant);

/* Waits from since_ns on; class, tenant and cost are set.  Also for an item that ran and has to wait again: then it has cost
 * nothing. */
void fair_wait(struct fair *fair, struct fair_item *item, uint64_t since_ns);
/* Waits no more, and has not run. */
void fair_leave(struct fair *fair, struct fair_item *item);
/* Waits no more: it runs. */
void fair_run(struct fair *fair, struct fair_item *item);
/* Runs no more; it was this much in the end.  Ignored where it does not run. */
void fair_end(struct fair *fair, struct fair_item *item, uint64_t cost);

/* All that may run of a class, in the order in which it should: begin, then next until NULL.  Between two calls the item
 * that was given may run, leave or stay; no other may. */
void fair_walk(struct fair *fair, uint8_t class);
struct fair_item *fair_next(struct fair *fair);

/* What would be done before an item of this cost that came now. */
uint64_t fair_ahead(const struct fair *fair, uint32_t tenant, uint8_t class, uint64_t cost);
/* Whom to send away when there is no room for this one, which waits already: the last item of the lowest class below its
 * own; else of the tenant that waits with most for its weight; else itself.  Never NULL. */
struct fair_item *fair_victim(const struct fair *fair, struct fair_item *newcomer);

/* Asserts every invariant. */
void fair_check(const struct fair *fair);
#endif

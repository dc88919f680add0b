/* lead - may this coordinator lead the fleet, and with which epoch?  Pure.
 *
 *   FOLLOWING --elected--> CLAIMING --claimed--> LEADING
 *       ^                     |  ^                  |  |
 *       |                     |  +----- beaten -----+  |
 *       +------ deposed, term over by our own clock ---+
 *
 * Every coordinator serves; the one that leads also gives directives to nodes.  The election (net/etcd_election.c) says
 * whose turn it is, under a lease; a number of net/claim.h is the epoch of the term, the fencing token that every
 * directive bears (net/fence.h).
 *
 * Rules: 1 law 3: the user of a lease stops by its own clock, a margin before the holder: `until_ns` is the sending of the
 *          last confirmed renewal plus the term less a margin, and every send asks lead_epoch() with the time of the
 *          send, so a coordinator that wakes up has stepped down before it says anything;
 *        2 a term that is over is over: only another candidacy begins another;
 *        3 an epoch is used by one term of one coordinator. */
#ifndef COORDINATOR_LEAD_H
#define COORDINATOR_LEAD_H
#include <stdbool.h>
#include <stdint.h>

enum lead_state { LEAD_FOLLOWING, LEAD_CLAIMING, LEAD_LEADING };
enum lead_action {
	LEAD_NOTHING,
	LEAD_CLAIM, /* ask for an epoch above `beaten`, for this candidacy */
	LEAD_BEGIN, /* tell every node the epoch */
};

struct lead {
	enum lead_state state;
	int64_t candidacy;  /* of the election: tells our terms apart; 0: none */
	uint64_t until_ns;  /* ours by our own clock until then */
	uint64_t epoch;     /* LEADING */
	uint64_t beaten;    /* the highest epoch that a node refused us for */
	uint64_t terms, steps_down;
};

/* The election says that it is our turn, and until when. */
enum lead_action lead_elected(struct lead *lead, int64_t candidacy, uint64_t until_ns, uint64_t now_ns);
/* The lease was renewed. */
void lead_renewed(struct lead *lead, int64_t candidacy, uint64_t until_ns, uint64_t now_ns);
/* Not our turn any more, or not known. */
void lead_deposed(struct lead *lead);
/* The epoch for that candidacy is in etcd. */
enum lead_action lead_claimed(struct lead *lead, int64_t candidacy, uint64_t epoch, uint64_t now_ns);
/* A node has seen that epoch, which is above ours: an emptied etcd has begun anew. */
enum lead_action lead_beaten(struct lead *lead, uint64_t epoch, uint64_t now_ns);
void lead_tick(struct lead *lead, uint64_t now_ns);
/* What may be sent now: 0: nothing. */
uint64_t lead_epoch(const struct lead *lead, uint64_t now_ns);
const char *lead_state_text(enum lead_state state); /* "leading" */
#endif

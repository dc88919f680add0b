/* claim - which number a process may take for a life of its name, or a leader for its term.  Pure.
 *
 * Numbers of one key only grow, whatever happens to wall clocks and to etcd: a new number is above what etcd has
 * stored, above what a peer has refused us for, and at least the wall clock in nanoseconds, so that also an emptied
 * etcd does not go backwards.  Who finds a number above its own has been replaced.
 *
 * Rules: 1 a number is ours once it is in etcd by a comparison with what was there before (net/etcd_claim.h);
 *        2 what a peer says of a number (beaten) may raise ours, but never ends us: only etcd says who has the name. */
#ifndef NET_CLAIM_H
#define NET_CLAIM_H
#include <stdbool.h>
#include <stdint.h>

/* Numbers from here on are garbage (the wall clock gets there in the year 2116): they are looked away from, or one bad
 * record would exhaust all numbers. */
#define CLAIM_MAX (1ull << 62)

enum claim_verdict {
	CLAIM_TAKE, /* *ret_number is to be written, if nobody was quicker */
	CLAIM_HELD, /* etcd has our number: *ret_number */
	CLAIM_LOST, /* etcd has a higher one: *ret_number.  Another has the name now */
};

struct claim {
	uint64_t own;    /* 0: none yet */
	uint64_t stored; /* in etcd; 0: nothing there */
	bool mine;       /* this very process (or term) stored it, maybe by a write whose answer was lost */
	uint64_t beaten; /* the highest that a peer refused us for; 0: none */
	uint64_t wall_ns;
};

enum claim_verdict claim_judge(const struct claim *claim, uint64_t *ret_number);
#endif

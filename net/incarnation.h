/* incarnation - a process waits for its number (net/claim.h) before it does anything else: whose number is not sure must
 * not speak to anybody.
 *
 * Loop: the one given, which is turned here: the only wait in a program's life, at its start.  Every PROGRESS_NS it says
 *       what it waits for and for how long already. */
#ifndef NET_INCARNATION_H
#define NET_INCARNATION_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "base/options.h"
#include "base/why.h"

struct etcd;
struct loop;

struct incarnation_options {
	struct etcd *etcd;
	const struct option_list *endpoints; /* for messages */
	const char *cluster, *name;
	uint64_t life;
	uint64_t wall_ns;
	uint64_t timeout_ns;    /* DEADLINE after it: etcd did not give a number */
	const bool *stop;       /* a signal came: CANCELED */
};
MUST_USE enum err incarnation_claim(struct loop *loop, const struct incarnation_options *options,
				    uint64_t *ret_incarnation, struct why *why);
#endif

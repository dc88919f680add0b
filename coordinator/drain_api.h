/* drain_api - POST /drain, POST /undrain, DELETE /drain: takes a node, or this coordinator, out of the work and back.
 *
 *   {"node":"decode-1"}   the coordinator that leads directs the node; another one names it and redirects there (307)
 *   nothing, {}           this coordinator: not ready any more, new requests are refused, open streams finish
 *
 * Pure of sockets: a body becomes an answer.  Loop: the core's. */
#ifndef COORDINATOR_DRAIN_API_H
#define COORDINATOR_DRAIN_API_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/err.h"
#include "coordinator/core.h"

struct drain_call {
	struct coord *coord;
	const char *name;        /* of this coordinator */
	const char *leader_name; /* "": not known */
	const char *leader_url;
	const char *path;        /* "/drain", for the redirection */
	bool drain;              /* false: undrain */
	uint64_t now_ns;
};

struct drain_answer {
	int status;
	bool self;               /* it is this coordinator that drains: the caller does it */
	uint64_t retry_after_ns; /* 0: none */
	char location[384];      /* "": none */
};

/* Appends the body of the answer to `out`. */
MUST_USE enum err drain_call(const struct drain_call *call, const char *body, size_t length, struct buf *out,
			     struct drain_answer *ret_answer);
#endif

/* job - a job's identity as a value, and the envelope around a message body. */
#ifndef PROTO_JOB_H
#define PROTO_JOB_H
#include <stdbool.h>
#include "proto/codec.h"

struct job_key {
	uint64_t coordinator; /* node id */
	uint64_t number;
	uint32_t attempt;
};

static inline struct job_key job_key_of(const Wire__JobId *id)
{
	return (struct job_key){id->coordinator, id->number, id->attempt};
}

static inline bool job_key_equal(const struct job_key *a, const struct job_key *b)
{
	return a->coordinator == b->coordinator && a->number == b->number && a->attempt == b->attempt;
}

static inline Wire__JobId job_key_wire(const struct job_key *key)
{
	Wire__JobId id = WIRE__JOB_ID__INIT;
	id.coordinator = key->coordinator;
	id.number = key->number;
	id.attempt = key->attempt;
	return id;
}

/* An envelope of this version around one body: `member` is the oneof's field, CASE its constant. */
#define PROTO_ENVELOPE(name, CASE, member_, body)                 \
	Wire__Envelope name = WIRE__ENVELOPE__INIT;               \
	name.version = PROTO_VERSION;                             \
	name.body_case = WIRE__ENVELOPE__BODY_##CASE;             \
	name.member_ = (body)
#endif

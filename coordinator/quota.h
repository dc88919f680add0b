/* quota - what each tenant may ask for in a minute, and what it has asked for so far.  Pure: the time is given.
 *
 * Two buckets a tenant, requests and tokens, each filled evenly over a minute and never over a minute's worth.  A request
 * takes its tokens as it could need them (prompt and max_tokens) and gives back what it did not use, so a tenant cannot
 * overdraw by asking for long answers all at once.
 *
 * Owns:   its accounts.  Loop: the service's.
 * Bounds: QUOTA_ACCOUNTS_MAX names; one that has nothing open and full buckets makes room; when none has, new names share
 *         the last account, "other", which has the limits of who used it last. */
#ifndef COORDINATOR_QUOTA_H
#define COORDINATOR_QUOTA_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

enum { QUOTA_ACCOUNTS_MAX = 128, QUOTA_NAME_MAX = 127 };

/* 0: no limit. */
struct quota_limits {
	uint32_t requests_per_minute, tokens_per_minute;
};

struct quota_bucket {
	uint32_t limit;  /* 0: none */
	double left;     /* below 0: overdrawn */
	uint64_t at_ns;  /* when `left` was right */
};

/* What a tenant used, for metrics: counters. */
struct quota_use {
	uint64_t requests, refused; /* refused: by any of its limits */
	uint64_t prompt_tokens, generated_tokens, cached_tokens;
};

struct quota_account {
	char name[QUOTA_NAME_MAX + 1]; /* "": requests without a tenant */
	bool used;
	uint32_t open; /* requests that hold tokens */
	struct quota_bucket requests, tokens;
	struct quota_use use;
};

struct quota {
	struct quota_account accounts[QUOTA_ACCOUNTS_MAX];
	uint32_t count;
};

/* The account of that name, with its limits as they are now. */
uint32_t quota_account(struct quota *quota, const char *name, const struct quota_limits *limits, uint64_t now_ns);

/* One request.  AGAIN: *ret_retry_after_ns until there is one left. */
MUST_USE enum err quota_take_request(struct quota *quota, uint32_t account, uint64_t now_ns, uint64_t *ret_retry_after_ns);
/* AGAIN: likewise.  TOO_LARGE: so many are never left.  OK: quota_settle() follows. */
MUST_USE enum err quota_take_tokens(struct quota *quota, uint32_t account, uint64_t tokens, uint64_t now_ns,
				    uint64_t *ret_retry_after_ns);
/* Of `taken` so many were used. */
void quota_settle(struct quota *quota, uint32_t account, uint64_t taken, uint64_t used, uint64_t now_ns);

/* What a bucket holds, and until when it is full. */
void quota_show(struct quota_bucket *bucket, uint64_t now_ns, uint32_t *ret_left, uint64_t *ret_full_in_ns);
#endif

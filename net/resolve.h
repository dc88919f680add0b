/* resolve - names to addresses without holding up the loop: getaddrinfo() on a thread of its own.
 *
 * Loop:   the one given; the callback runs there, never inside resolve_start().
 * Bounds: one thread per request under way (the callers' dials are bounded), RESOLVE_MAX addresses each.
 * Rules:  the callback runs once unless resolve_cancel() came first; the request is gone after either. */
#ifndef NET_RESOLVE_H
#define NET_RESOLVE_H
#include "net/url.h"

enum { RESOLVE_MAX = 8 };

struct loop;
struct resolve;
/* count 0: error says why. */
typedef void resolve_fn(void *arg, const struct address *addresses, size_t count, const char *error);

MUST_USE enum err resolve_start(struct loop *loop, const char *host, uint16_t port, resolve_fn *done, void *arg,
				struct resolve **ret_resolve);
void resolve_cancel(struct resolve *resolve); /* NULL is fine */
#endif

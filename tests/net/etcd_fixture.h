/* etcd_fixture - a loop, a client and one real etcd for the tests of etcd; calls that wait for their answer. */
#ifndef TESTS_NET_ETCD_FIXTURE_H
#define TESTS_NET_ETCD_FIXTURE_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "etcd_server.h"
#include "net/etcd.h"
#include "net/loop.h"

struct fixture {
	struct etcd_server *server;
	struct loop *loop;
	struct etcd *etcd;
	int ups, downs;
};

/* Starts the server that all tests of the program share.  The argument: the path of an etcd; "3.5": the one that
 * BATON_TEST_ETCD35 names; none: Debian's.  0, or what main() should return (77: skipped, with a message). */
int fixture_begin(int argc, char **argv);
void fixture_end(void);
/* cmocka's, around each test. */
int fixture_setup(void **state);
int fixture_teardown(void **state);
struct etcd *connect_client(struct fixture *fixture, uint64_t timeout_ns);

#define SECOND_NS ((uint64_t)1000000000)

#define WAIT_FOR(fixture, seconds, condition)                                                \
	do {                                                                                 \
		uint64_t wait_until_ns = loop_now_ns((fixture)->loop) + (seconds) * SECOND_NS;    \
		while (!(condition)) {                                                       \
			loop_turn((fixture)->loop, SECOND_NS / 10);                          \
			if (loop_now_ns((fixture)->loop) > wait_until_ns)                         \
				fail_msg("not within %d s: %s", (seconds), #condition);      \
		}                                                                            \
	} while (0)

struct answer {
	int calls;
	enum err e;
	char text[256];
	struct etcd_reply reply; /* without kvs */
	char kvs[1024];          /* "key=value " */
	struct etcd_kv first;
	char last_key[128];
};

void on_done(struct etcd *etcd, enum err e, const char *text, const struct etcd_reply *reply, void *arg);
struct answer wait_answer(struct fixture *fixture, struct answer *answer);
struct answer put(struct fixture *fixture, const char *key, const char *value, int64_t lease);
struct answer get(struct fixture *fixture, const char *key);
struct answer delete_prefix(struct fixture *fixture, const char *prefix);
struct answer range(struct fixture *fixture, const struct etcd_range *options);
int64_t grant(struct fixture *fixture, uint32_t ttl_s);
struct answer revoke_lease(struct fixture *fixture, int64_t lease);
void compact_now(struct fixture *fixture);
#endif

/* tls_rig - a server, "prefill-1", whoever comes to it, and certificates of a cluster "test" in a folder of its own. */
#ifndef TESTS_NET_TLS_RIG_H
#define TESTS_NET_TLS_RIG_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "net/certs.h"
#include "net/loop.h"
#include "net/stream.h"
#include "net/tls.h"

static const uint64_t second_ns = 1000000000;
enum { HOUR = 3600 };

/* The folder, between these two: of prefill-1, coordinator-1, kvstore-1 and engine-7, and one "other" that is empty. */
extern char directory[64];
int make_all(void **state);
int remove_all(void **state);
/* cluster NULL: "test" */
void make_node(const char *folder, struct certs_node node);
struct tls *tls_open(const char *ca_folder, const char *folder, const char *name, const char *cluster);

struct rig {
	struct loop *loop;
	struct tls *tls;
	struct stream_listener *listener;
	char url[64];
	struct stream *accepted;
	int opened, frames, server_closed;
	struct stream *client;
	int client_opened, client_closed;
	enum err closed_with;
};
extern const struct stream_callbacks client_callbacks; /* arg: the rig */

#define WAIT_FOR(rig, condition)                                                           \
	do {                                                                               \
		uint64_t until_ns = loop_now_ns((rig)->loop) + 20 * second_ns;             \
		while (!(condition)) {                                                     \
			loop_turn((rig)->loop, second_ns / 50);                            \
			if (loop_now_ns((rig)->loop) > until_ns)                           \
				fail_msg("not within 20 s: %s", #condition);               \
		}                                                                          \
	} while (0)

void rig_open(struct rig *rig);
/* Dials and says hello. */
void rig_dial(struct rig *rig, struct tls *tls);
/* Nothing is held for anybody, and a coordinator that may come in still does. */
void rig_close(struct rig *rig);
uint64_t refused_in_all(const struct tls *tls);
/* One was, for this reason, and nothing of it came in. */
void expect_refused(struct rig *rig, enum refusal refusal);
#endif

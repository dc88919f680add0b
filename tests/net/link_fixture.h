/* link_fixture - a peer in a process of its own (this program, executed anew), and reads that count their callbacks. */
#ifndef TESTS_NET_LINK_FIXTURE_H
#define TESTS_NET_LINK_FIXTURE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "net/link.h"
#include "net/loop.h"

#define SLOT_BYTES ((uint64_t)4 << 20)
#define SLOT_COUNT ((uint64_t)8)
/* The ids that go with the names in the certificates: "peer" and "reader". */
#define PEER_NODE 0x878f40aafc96df79ull
#define READER_NODE 0x225375347d5a516full
#define PEER_INCARNATION 22

struct way {
	const char *name;
	enum link_transport transport;
	bool one_sided;
	bool copy_on_loop;
};
/* mapped (thread and loop), UCX messages over TCP and shared memory, one-sided UCX over both, bulk with and without TLS. */
extern const struct way ways[];
extern const size_t way_count;

struct pair {
	struct loop *loop;
	struct link *link;
	pid_t pid;
	int control;
	struct buf address;
	struct tls *tls;
	char directory[64]; /* of the certificates */
};
void pair_open(struct pair *pair, const struct way *way);
void pair_close(struct pair *pair); /* also when the peer is dead or stopped */
/* The peer renews a slot's generation; returns the new one. */
uint64_t pair_renew(struct pair *pair, uint64_t slot);

/* Call first in main(): does not return in the peer's process. */
void peer_main(int argc, char **argv);

/* What stands at that place of the peer's region. */
void expected_bytes(uint64_t offset, size_t length, void *ret_bytes);
struct handle handle_of(uint64_t slot, uint64_t offset, uint64_t length);

struct probe {
	struct link_read *read;
	int done_count;
	int free_count;
	bool free_before_done;
	size_t count;
	struct link_result results[64];
	uint64_t done_ns;
};
enum err probe_start(struct pair *pair, struct probe *probe, const struct handle *handles, void *const *landings,
                     size_t count, uint64_t timeout_ns);
/* Turns until *count >= wanted or limit_ns is over; false: it is over. */
bool turn_until(struct loop *loop, const int *count, int wanted, uint64_t limit_ns);
uint64_t wall_ns(void);
#define MS ((uint64_t)1000000)
#endif

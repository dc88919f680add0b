/* Any bytes as what a server says on the connections of bulk, on both lanes, while reads are started, canceled and run out
 * of time: every read ends once, the digest of a good one is that of its landing, and where a landing was given back nobody
 * writes any more. */
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/digest.h"
#include "bytes.h"
#include "net/bulk_impl.h"
#include "net/link_impl.h"

enum { PEER = 2, INCARNATION = 22, LANES = 2, READS = 12, LENGTH_MAX = 20000, PATIENCE_TURNS = 10000, UNTOUCHED = 0xee };

static struct loop *loop;
static struct link *ours;
static int listener;
static struct buf address;

struct read_state {
	struct link_read *read;
	uint64_t length;
	int done, freed;
	uint8_t landing[LENGTH_MAX];
};

struct lane {
	int fd;
	bool welcome;
	uint8_t in[4096];
	size_t length;
};

struct world {
	struct bytes in;
	struct lane lanes[LANES];
	struct read_state reads[READS];
	uint32_t read_count;
};

static void begin(void)
{
	struct link_options options = {.node = 1, .incarnation = 11, .transport = LINK_TCP, .bulk_lanes = LANES};
	struct link_address peer = {.ucx_transport = LINK_MAPPED, .node = PEER, .incarnation = INCARNATION, .bulk = LINK_BULK_TCP,
				    .bulk_host = "127.0.0.1"};
	struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t length = sizeof(name);
	listener = socket(AF_INET, SOCK_STREAM, 0);
	if (loop_create(&loop) != ERR_OK || link_create(loop, &options, &ours, NULL) != ERR_OK ||
	    bind(listener, (struct sockaddr *)&name, sizeof(name)) < 0 || listen(listener, 64) < 0 ||
	    getsockname(listener, (struct sockaddr *)&name, &length) < 0)
		abort();
	peer.bulk_port = ntohs(name.sin_port);
	if (link_address_pack(&peer, &address) != ERR_OK)
		abort();
}

/* ---- reads */

static uint8_t byte_at(uint64_t offset)
{
	return (uint8_t)(offset % 253);
}

static void on_done(void *context, const struct link_result *results, size_t count)
{
	struct read_state *r = context;
	assert(r->done++ == 0 && count == 1);
	if (results->err != ERR_OK)
		return;
	assert(results->digest == digest_of(r->landing, r->length));
}

static void on_free(void *context)
{
	struct read_state *r = context;
	assert(r->done == 1 && r->freed++ == 0);
	memset(r->landing, UNTOUCHED, r->length);
}

static void start(struct world *w)
{
	if (w->read_count == READS)
		return;
	struct read_state *r = &w->reads[w->read_count++];
	uint8_t how = bytes_u8(&w->in);
	r->length = 1 + bytes_below(&w->in, how % 2 ? 256 : LENGTH_MAX);
	struct handle handle = {.node = PEER, .incarnation = INCARNATION, .region = 3, .offset = bytes_below(&w->in, 4096),
				.length = r->length, .generation = 1};
	struct link_read_options options = {.node = PEER, .handles = &handle, .landings = (void *[]){r->landing}, .count = 1,
					    .timeout_ns = how < 32 ? 50000 : 1000000000, .done = on_done, .landing_free = on_free,
					    .context = r};
	memset(r->landing, 0, r->length);
	if (link_read(ours, &options, &r->read) == ERR_OK)
		return;
	r->done = r->freed = 1;
	memset(r->landing, UNTOUCHED, r->length);
}

static void cancel(struct world *w)
{
	struct read_state *r = &w->reads[bytes_below(&w->in, READS)];
	if (r->read && !r->done)
		link_read_cancel(r->read);
}

/* ---- the other side */

static void say(struct lane *lane, const void *data, size_t length)
{
	(void)!send(lane->fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void greet(struct world *w, struct lane *lane)
{
	struct bulk_welcome welcome = {BULK_MAGIC, ERR_OK};
	uint8_t odd = bytes_u8(&w->in);
	if (odd >= 240)
		((uint8_t *)&welcome)[odd % sizeof(welcome)] = bytes_u8(&w->in);
	if (!lane->welcome)
		say(lane, &welcome, sizeof(welcome));
	lane->welcome = true;
}

/* Takes the next ask that came; false: none is there. */
static bool next_ask(struct lane *lane, struct bulk_ask *ret_ask)
{
	ssize_t n = recv(lane->fd, lane->in + lane->length, sizeof(lane->in) - lane->length, MSG_DONTWAIT);
	lane->length += n > 0 ? (size_t)n : 0;
	do {
		if (lane->length < sizeof(*ret_ask))
			return false;
		memcpy(ret_ask, lane->in, sizeof(*ret_ask));
		lane->length -= sizeof(*ret_ask);
		memmove(lane->in, lane->in + sizeof(*ret_ask), lane->length);
	} while (ret_ask->cancel);
	assert(ret_ask->node == PEER && ret_ask->incarnation == INCARNATION && ret_ask->region == 3 && ret_ask->length <= LENGTH_MAX);
	return true;
}

static void answer(struct world *w, struct lane *lane)
{
	static uint8_t message[sizeof(struct bulk_answer) + LENGTH_MAX + 64];
	struct bulk_ask ask;
	uint8_t odd = bytes_u8(&w->in);
	if (!lane->welcome || !next_ask(lane, &ask))
		return;
	struct bulk_answer header = {.number = ask.number, .length = ask.length};
	if (odd >= 200)
		header.err = bytes_u8(&w->in), header.length = odd % 2 ? 0 : ask.length;
	if (odd >= 250)
		header.length = bytes_number(&w->in);
	else if (odd >= 245)
		header.number = bytes_number(&w->in);
	memcpy(message, &header, sizeof(header));
	for (uint64_t i = 0; i < ask.length; i++)
		message[sizeof(header) + i] = byte_at(ask.offset + i);
	size_t length = sizeof(header) + (header.length < ask.length ? header.length : ask.length);
	size_t first = odd % 4 ? length : bytes_below(&w->in, (uint32_t)length);
	say(lane, message, first);
	loop_turn(loop, 0);
	if (odd % 8 != 4)
		say(lane, message + first, length - first);
}

static void noise(struct world *w, struct lane *lane)
{
	const uint8_t *data;
	size_t length = bytes_run(&w->in, 255, &data);
	say(lane, data, length);
}

/* The fuzzer's alarm may come in between. */
static int accept_one(void)
{
	int fd;
	do {
		fd = accept(listener, NULL, NULL);
	} while (fd < 0 && errno == EINTR);
	if (fd < 0)
		abort();
	return fd;
}

static struct bulk_hello hello_of(int fd)
{
	struct bulk_hello hello;
	for (size_t got = 0; got < sizeof(hello);) {
		ssize_t n = recv(fd, (uint8_t *)&hello + got, sizeof(hello) - got, 0);
		if (n == 0 || (n < 0 && errno != EINTR))
			abort();
		got += n > 0 ? (size_t)n : 0;
	}
	return hello;
}

/* Both lanes come, in any order; each says who it is. */
static void accept_lanes(struct world *w)
{
	for (int i = 0; i < LANES; i++) {
		struct linger reset = {.l_onoff = 1}; /* so that no port waits for a minute */
		int fd = accept_one(), one = 1;
		struct bulk_hello hello = hello_of(fd);
		if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0 ||
		    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) != 0)
			abort();
		assert(hello.magic == BULK_MAGIC && hello.version == BULK_VERSION && hello.node == 1 && hello.incarnation == 11);
		assert(hello.server_node == PEER && hello.server_incarnation == INCARNATION && hello.lane < LANES);
		assert(w->lanes[hello.lane].fd < 0);
		w->lanes[hello.lane].fd = fd;
	}
}

static void one(struct world *w)
{
	uint8_t what = bytes_u8(&w->in);
	struct lane *lane = &w->lanes[what / 128];
	switch (what % 8) {
	case 0:
	case 1:
		start(w);
		break;
	case 2:
		cancel(w);
		break;
	case 3:
		if (what % 128 > 120)
			noise(w, lane);
		else
			greet(w, lane);
		break;
	case 4:
		loop_turn(loop, what % 128 > 100 ? 100000 : 0);
		break;
	default:
		answer(w, lane);
	}
	loop_turn(loop, 0);
}

static bool is_over(const struct world *w)
{
	for (uint32_t i = 0; i < w->read_count; i++)
		if (!w->reads[i].freed)
			return false;
	return true;
}

static void check_untouched(const struct world *w)
{
	for (uint32_t i = 0; i < w->read_count; i++)
		for (uint64_t at = 0; w->reads[i].freed && at < w->reads[i].length; at++)
			assert(w->reads[i].landing[at] == UNTOUCHED);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	struct world *w = calloc(1, sizeof(*w));
	if (!loop)
		begin();
	w->in = (struct bytes){data, length};
	for (int i = 0; i < LANES; i++)
		w->lanes[i].fd = -1;
	if (link_peer_open(ours, PEER, INCARNATION, address.data, address.length, NULL) != ERR_OK)
		abort();
	accept_lanes(w);
	while (w->in.left)
		one(w);
	check_untouched(w);
	for (int i = 0; i < LANES; i++)
		close(w->lanes[i].fd);
	link_peer_close(ours, PEER);
	for (int i = 0; i < PATIENCE_TURNS && !is_over(w); i++)
		loop_turn(loop, 1000000);
	assert(is_over(w));
	loop_turn(loop, 0);
	check_untouched(w);
	free(w);
	return 0;
}

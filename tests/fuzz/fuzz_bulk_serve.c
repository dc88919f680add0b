/* Any bytes as what a reader says on the bulk port: greetings, asks, cancels, noise; and regions are taken back meanwhile.  As
 * long as it keeps to the protocol each ask is answered once, in order, with the bytes of the region or none. */
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bytes.h"
#include "net/bulk_impl.h"
#include "net/link_impl.h"

enum { NODE = 2, INCARNATION = 22, READER = 1, REGION = 3, SLOT_BYTES = 24 << 10, SLOTS = 4, ASKS = 64, PATIENCE_MS = 10000 };

static struct loop *loop;
static struct link *ours;
static struct region *region;
static struct link_address address;

struct world {
	struct bytes in;
	int fd;
	bool noisy;      /* what it said is no protocol any more: it may be hung up on, and asks be read that it did not mean */
	bool may_end;    /* it may be hung up on */
	bool ended;
	struct bulk_ask asks[ASKS];
	uint32_t asked, answered;
	bool welcome;
	uint8_t got[sizeof(struct bulk_answer) + SLOTS * SLOT_BYTES];
	size_t length;
};

static void begin(void)
{
	struct link_options options = {.node = NODE, .incarnation = INCARNATION, .transport = LINK_TCP};
	struct region_options shape = {.index = REGION, .slot_bytes = SLOT_BYTES, .slot_count = SLOTS};
	struct buf buf = {0};
	if (loop_create(&loop) != ERR_OK || link_create(loop, &options, &ours, NULL) != ERR_OK ||
	    region_create(&shape, &region, NULL) != ERR_OK || link_region_add(ours, region, NULL) != ERR_OK ||
	    link_local_address(ours, &buf) != ERR_OK || link_address_parse(buf.data, buf.length, &address) != ERR_OK)
		abort();
	for (size_t i = 0; i < SLOTS * SLOT_BYTES; i++)
		((uint8_t *)region_slot(region, 0))[i] = (uint8_t)(i % 251);
	buf_fini(&buf);
}

/* Ends with a reset, so that no port waits for a minute. */
static int dial(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(address.bulk_port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	struct linger reset = {.l_onoff = 1};
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) != 0 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0)
		abort();
	/* The fuzzer's alarm may come in between: then it goes on by itself. */
	while (connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0 && errno != EISCONN)
		if (errno != EINTR && errno != EALREADY)
			abort();
	return fd;
}

/* ---- what comes back */

static size_t take_answer(struct world *w)
{
	struct bulk_answer answer;
	if (w->length < sizeof(answer))
		return 0;
	memcpy(&answer, w->got, sizeof(answer));
	if (w->noisy)
		return answer.length <= sizeof(w->got) - sizeof(answer) && w->length >= sizeof(answer) + answer.length
			       ? sizeof(answer) + answer.length : 0;
	assert(w->answered < w->asked);
	const struct bulk_ask *ask = &w->asks[w->answered];
	assert(answer.number == ask->number);
	assert(answer.err == ERR_OK || answer.err == ERR_DENIED || answer.err == ERR_STALE || answer.err == ERR_MISMATCH ||
	       answer.err == ERR_CANCELED);
	assert(answer.length == (answer.err == ERR_OK ? ask->length : 0));
	assert(answer.err != ERR_OK || ask->offset + ask->length <= SLOTS * SLOT_BYTES);
	if (w->length < sizeof(answer) + answer.length)
		return 0;
	for (uint64_t i = 0; i < answer.length; i++)
		assert(w->got[sizeof(answer) + i] == (uint8_t)((ask->offset + i) % 251));
	w->answered++;
	return sizeof(answer) + answer.length;
}

static size_t take_welcome(struct world *w)
{
	struct bulk_welcome welcome;
	if (w->length < sizeof(welcome))
		return 0;
	memcpy(&welcome, w->got, sizeof(welcome));
	assert(welcome.magic == BULK_MAGIC);
	assert(welcome.err == ERR_OK || (w->may_end && (welcome.err == ERR_MISMATCH || welcome.err == ERR_UNSUPPORTED)));
	w->welcome = true;
	return sizeof(welcome);
}

static void receive(struct world *w)
{
	ssize_t n = recv(w->fd, w->got + w->length, sizeof(w->got) - w->length, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	w->ended = n <= 0;
	w->length += n > 0 ? (size_t)n : 0;
	size_t at = 0;
	do {
		w->length -= at;
		memmove(w->got, w->got + at, w->length);
		at = w->welcome ? take_answer(w) : take_welcome(w);
	} while (at > 0);
}

/* In pieces, for the other side reads no more when it has much to answer. */
static void say(struct world *w, const void *data, size_t length)
{
	for (size_t at = 0; at < length && !w->ended;) {
		size_t part = bytes_below(&w->in, 16) ? length - at : 1 + bytes_below(&w->in, 64);
		part = part < length - at ? part : length - at;
		ssize_t n = send(w->fd, (const uint8_t *)data + at, part, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			w->ended = true;
		at += n > 0 ? (size_t)n : 0;
		receive(w);
	}
	assert(!w->ended || w->may_end);
}

/* ---- what is said */

static void greet(struct world *w)
{
	struct bulk_hello hello = {.magic = BULK_MAGIC, .version = BULK_VERSION, .node = READER, .incarnation = 1 + bytes_u8(&w->in),
				   .server_node = NODE, .server_incarnation = INCARNATION, .lane = bytes_u8(&w->in)};
	uint8_t odd = bytes_u8(&w->in);
	if (odd >= 224)
		((uint8_t *)&hello)[odd % sizeof(hello)] = bytes_u8(&w->in);
	w->may_end = odd >= 224;
	w->noisy = odd >= 224;
	say(w, &hello, sizeof(hello));
}

static void ask(struct world *w)
{
	struct bytes *in = &w->in;
	uint8_t odd = bytes_u8(in);
	struct bulk_ask ask = {.number = w->asked + 1, .node = NODE, .incarnation = INCARNATION, .region = REGION,
			       .offset = (uint64_t)bytes_below(in, SLOTS) * SLOT_BYTES + bytes_below(in, SLOT_BYTES),
			       .length = bytes_below(in, 2) ? bytes_u8(in) : bytes_below(in, SLOT_BYTES), .generation = 1};
	if (odd >= 240)
		((uint8_t *)&ask)[8 + odd % 45] = bytes_u8(in);
	if (odd == 239)
		ask.offset = bytes_number(in), ask.length = bytes_number(in);
	if (w->asked == ASKS || ask.cancel)
		return;
	w->asks[w->asked++] = ask;
	say(w, &ask, sizeof(ask));
}

static void one(struct world *w)
{
	struct bulk_ask cancel = {.cancel = 1};
	const uint8_t *data;
	uint8_t what = bytes_u8(&w->in);
	switch (what % 16) {
	case 0:
		cancel.number = bytes_below(&w->in, ASKS);
		say(w, &cancel, sizeof(cancel));
		break;
	case 1:
		if (what < 200)
			break;
		link_region_remove(ours, region);
		w->may_end = true; /* it may be sent to us right now */
		if (link_region_add(ours, region, NULL) != ERR_OK)
			abort();
		break;
	case 2:
		if (what < 230)
			break;
		w->noisy = w->may_end = true;
		size_t length = bytes_run(&w->in, 255, &data);
		say(w, data, length);
		break;
	default:
		ask(w);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	struct world *w = calloc(1, sizeof(*w));
	if (!loop)
		begin();
	w->in = (struct bytes){data, length};
	w->fd = dial();
	greet(w);
	while (w->in.left && !w->ended)
		one(w);
	while (!w->ended && !w->noisy && (!w->welcome || w->answered < w->asked)) {
		struct pollfd wait = {w->fd, POLLIN, 0};
		if (poll(&wait, 1, PATIENCE_MS) == 0)
			abort(); /* it owes an answer */
		receive(w);
	}
	assert(!w->ended || w->may_end);
	close(w->fd);
	free(w);
	return 0;
}

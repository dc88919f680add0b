/* relay - stands between two processes and does to their TCP streams what a bad network does.
 *
 *   relay PORT raw|frames|ucx
 *
 * Connections are redirected to PORT by nftables; SO_ORIGINAL_DST says where they wanted to go.  Our own connections
 * carry MARK, so that the same rules leave them alone.  Commands come as lines on the standard input:
 *
 *   [up|down] NAME NUMBER      up: from the one who dialled; down: back; neither: both ways
 *   delay MS, jitter MS, rate BYTES_PER_S, stall 0|1   of every piece; order is kept, as TCP keeps it
 *   cut BYTES                  each connection ends after so many more bytes, in the middle of whatever it was
 *   reset 1                    all connections end now, with a reset
 *   dup N, late N, truncate N, garble N, huge N        every Nth frame ("frames": u32 length and payload, net/stream.h)
 *   flip N                     one bit of every Nth large piece: anywhere in it ("raw"), or among a block's bytes only
 *                              ("ucx": its TCP framing, whose headers UCX trusts)
 *   show                       one line: pieces, bytes, what was done to them
 *
 * A garbled frame is one that cannot be parsed: a changed number in a whole frame is what TCP's checksum and TLS are
 * for, and no receiver could tell.  One thread, no bound but QUEUE_MAX a direction. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/netfilter_ipv4.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MARK = 7, LINKS_MAX = 256, QUEUE_MAX = 4 << 20, LATE_MS = 400, LARGE = 2048, UCX_HEADER = 5 };
#define UCX_MAGIC 0xCAFEBABE12345678ull
#define FAREWELL 0xffffffffu

enum mode { RAW, FRAMES, UCX };

/* The order of `names` below. */
enum setting { DELAY, JITTER, RATE, STALL, CUT, DUP, LATE, TRUNCATE, GARBLE, HUGE_FRAME, FLIP, SETTINGS };

static const char *const names[SETTINGS] = {"delay", "jitter", "rate",	 "stall", "cut", "dup",
					    "late",  "truncate", "garble", "huge",  "flip"};

struct piece {
	struct piece *next;
	uint64_t due_ns;
	size_t length, sent;
	uint8_t data[];
};

/* One direction of a connection. */
struct way {
	int from, to;
	bool up, ended, half_closed;
	uint8_t *in; /* what is not a whole frame yet */
	size_t in_length, in_capacity;
	struct piece *first;
	size_t queued;
	uint64_t last_due_ns, frames, large, passed, cut_base;
	bool begun;
};

struct link {
	bool used, connecting;
	struct way ways[2];
};

struct relay {
	enum mode mode;
	int listener;
	struct link links[LINKS_MAX];
	uint64_t settings[2][SETTINGS]; /* [up] */
	uint64_t pieces, bytes, done;
};

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t setting(const struct relay *r, const struct way *way, enum setting s)
{
	return r->settings[way->up][s];
}

/* ---- the queue of a direction */

/* Behind what is queued already: TCP keeps order. */
static void put(struct relay *r, struct way *way, const uint8_t *data, size_t length, uint64_t extra_ms)
{
	struct piece *piece = malloc(sizeof(*piece) + length);
	if (!piece)
		abort();
	uint64_t jitter = setting(r, way, JITTER), rate = setting(r, way, RATE);
	uint64_t ms = setting(r, way, DELAY) + extra_ms + (jitter ? (uint64_t)rand() % jitter : 0);
	*piece = (struct piece){.due_ns = now_ns() + ms * 1000000, .length = length};
	if (piece->due_ns < way->last_due_ns)
		piece->due_ns = way->last_due_ns;
	if (rate)
		piece->due_ns += length * 1000000000u / rate;
	way->last_due_ns = extra_ms ? way->last_due_ns : piece->due_ns;
	memcpy(piece->data, data, length);
	struct piece **at = &way->first;
	while (*at && (*at)->due_ns <= piece->due_ns)
		at = &(*at)->next;
	piece->next = *at;
	*at = piece;
	way->queued += length;
	r->pieces++;
	r->bytes += length;
}

static bool every(uint64_t n, uint64_t count)
{
	return n && count % n == 0;
}

/* ---- frames of the control streams */

static void put_frame(struct relay *r, struct way *way, uint8_t *frame, size_t length)
{
	uint64_t number = ++way->frames;
	uint32_t payload = (uint32_t)length - 4;
	bool bad = every(setting(r, way, TRUNCATE), number) || every(setting(r, way, GARBLE), number) ||
		   every(setting(r, way, HUGE_FRAME), number);
	r->done += bad || every(setting(r, way, DUP), number) || every(setting(r, way, LATE), number);
	if (every(setting(r, way, DUP), number))
		put(r, way, frame, length, 0);
	if (every(setting(r, way, LATE), number))
		put(r, way, frame, length, LATE_MS);
	if (every(setting(r, way, TRUNCATE), number)) {
		payload /= 2;
		length = payload + 4;
		memcpy(frame, &payload, 4);
	}
	if (every(setting(r, way, GARBLE), number) && payload)
		frame[4] = 0xff; /* no field has such a tag */
	if (every(setting(r, way, HUGE_FRAME), number))
		memcpy(frame, &(uint32_t){0x7fffffff}, 4);
	put(r, way, frame, length, 0);
}

/* Bytes taken from the front of what came, 0: a frame is not whole. */
static size_t take_frame(struct relay *r, struct way *way, uint8_t *data, size_t length)
{
	uint32_t payload;
	if (length < 4)
		return 0;
	memcpy(&payload, data, 4);
	if (payload == FAREWELL) {
		put(r, way, data, 4, 0);
		return 4;
	}
	if (length - 4 < payload)
		return 0;
	put_frame(r, way, data, (size_t)payload + 4);
	return (size_t)payload + 4;
}

/* UCX over TCP: a magic number from the one who dials, then {u8 kind, u32 length} and so many bytes, again and again. */
static size_t take_ucx(struct relay *r, struct way *way, uint8_t *data, size_t length)
{
	uint64_t magic;
	uint32_t payload;
	if (!way->begun && length < 8)
		return 0;
	memcpy(&magic, data, length < 8 ? length : 8);
	if (!way->begun && magic == UCX_MAGIC) {
		way->begun = true;
		put(r, way, data, 8, 0);
		return 8;
	}
	way->begun = true;
	if (length < UCX_HEADER)
		return 0;
	memcpy(&payload, data + 1, 4);
	if (length - UCX_HEADER < payload)
		return 0;
	/* In the last quarter there is nothing but the block's bytes. */
	if (payload >= LARGE && every(setting(r, way, FLIP), ++way->large)) {
		data[UCX_HEADER + payload - payload / 4] ^= 1;
		r->done++;
	}
	put(r, way, data, (size_t)payload + UCX_HEADER, 0);
	return (size_t)payload + UCX_HEADER;
}

static void take(struct relay *r, struct way *way)
{
	size_t at = 0, taken;
	if (r->mode == RAW) {
		if (way->in_length >= LARGE && every(setting(r, way, FLIP), ++way->large)) {
			way->in[(size_t)rand() % way->in_length] ^= (uint8_t)(1 << rand() % 8);
			r->done++;
		}
		put(r, way, way->in, way->in_length, 0);
		way->in_length = 0;
		return;
	}
	while ((taken = r->mode == FRAMES ? take_frame(r, way, way->in + at, way->in_length - at)
					  : take_ucx(r, way, way->in + at, way->in_length - at)) > 0)
		at += taken;
	memmove(way->in, way->in + at, way->in_length - at);
	way->in_length -= at;
}

/* ---- connections */

static void end_link(struct link *link, bool reset)
{
	struct linger now = {.l_onoff = 1, .l_linger = 0};
	for (int i = 0; i < 2; i++) {
		struct way *way = &link->ways[i];
		if (reset)
			setsockopt(way->from, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
		close(way->from);
		free(way->in);
		while (way->first) {
			struct piece *next = way->first->next;
			free(way->first);
			way->first = next;
		}
	}
	link->used = false;
}

static void accept_link(struct relay *r)
{
	struct sockaddr_in wanted;
	socklen_t size = sizeof(wanted);
	int one = 1, mark = MARK, near = accept4(r->listener, NULL, NULL, SOCK_NONBLOCK);
	if (near < 0)
		return;
	uint32_t i = 0;
	while (i < LINKS_MAX && r->links[i].used)
		i++;
	int far = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (i == LINKS_MAX || far < 0 || getsockopt(near, SOL_IP, SO_ORIGINAL_DST, &wanted, &size) != 0 ||
	    setsockopt(far, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) != 0 ||
	    (connect(far, (struct sockaddr *)&wanted, size) != 0 && errno != EINPROGRESS)) {
		close(near);
		close(far);
		return;
	}
	setsockopt(near, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(far, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	r->links[i] = (struct link){.used = true, .connecting = true,
				    .ways = {{.from = far, .to = near}, {.from = near, .to = far, .up = true}}};
}

/* false: the connection is over. */
static bool read_way(struct relay *r, struct way *way)
{
	if (way->in_capacity - way->in_length < 65536) {
		way->in_capacity = way->in_capacity * 2 + 131072;
		way->in = realloc(way->in, way->in_capacity);
		if (!way->in)
			abort();
	}
	ssize_t n = read(way->from, way->in + way->in_length, way->in_capacity - way->in_length);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 0) {
		way->ended = true;
		return true;
	}
	way->in_length += (size_t)n;
	take(r, way);
	return true;
}

/* How much of a piece may still go before the connection is cut. */
static size_t before_cut(const struct relay *r, struct way *way, size_t length)
{
	uint64_t cut = setting(r, way, CUT);
	if (!cut) {
		way->cut_base = way->passed;
		return length;
	}
	uint64_t left = way->cut_base + cut - way->passed;
	return left < length ? left : length;
}

static bool write_way(struct relay *r, struct way *way, uint64_t now)
{
	while (way->first && way->first->due_ns <= now && !setting(r, way, STALL)) {
		struct piece *piece = way->first;
		size_t length = before_cut(r, way, piece->length - piece->sent);
		ssize_t n = length ? send(way->to, piece->data + piece->sent, length, MSG_NOSIGNAL) : 0;
		if (n < 0)
			return errno == EAGAIN;
		way->passed += (uint64_t)n;
		if (setting(r, way, CUT) && way->passed >= way->cut_base + setting(r, way, CUT)) {
			r->done++;
			return false;
		}
		piece->sent += (size_t)n;
		if (piece->sent < piece->length)
			return true;
		way->queued -= piece->length;
		way->first = piece->next;
		free(piece);
	}
	if (way->ended && !way->first && !way->half_closed) {
		way->half_closed = true;
		shutdown(way->to, SHUT_WR);
	}
	return true;
}

/* ---- commands */

static void reset_all(struct relay *r)
{
	for (int i = 0; i < LINKS_MAX; i++)
		if (r->links[i].used)
			end_link(&r->links[i], true);
}

static void command(struct relay *r, char *line)
{
	int from = 0, to = 1;
	if (strncmp(line, "up ", 3) == 0)
		from = 1, line += 3;
	else if (strncmp(line, "down ", 5) == 0)
		to = 0, line += 5;
	if (strcmp(line, "show") == 0) {
		printf("pieces %llu bytes %llu done %llu\n", (unsigned long long)r->pieces, (unsigned long long)r->bytes,
		       (unsigned long long)r->done);
		fflush(stdout);
		return;
	}
	char *space = strchr(line, ' ');
	uint64_t number = space ? strtoull(space + 1, NULL, 10) : 0;
	if (space)
		*space = 0;
	if (strcmp(line, "reset") == 0)
		reset_all(r);
	for (int s = 0; s < SETTINGS; s++)
		for (int up = from; up <= to && strcmp(line, names[s]) == 0; up++)
			r->settings[up][s] = number;
}

/* false: the standard input ended, and so do we. */
static bool read_commands(struct relay *r)
{
	static char text[4096];
	static size_t length;
	ssize_t n = read(0, text + length, sizeof(text) - 1 - length);
	if (n <= 0)
		return false;
	length += (size_t)n;
	char *end;
	while ((end = memchr(text, '\n', length))) {
		*end = 0;
		command(r, text);
		length -= (size_t)(end + 1 - text);
		memmove(text, end + 1, length);
	}
	return length < sizeof(text) - 1;
}

/* ---- the loop */

/* What the sockets of a link wait for; the earliest due piece shortens the wait. */
static void fill_poll(const struct relay *r, const struct link *link, struct pollfd *polls, uint64_t now, uint64_t *wait_ns)
{
	for (int i = 0; i < 2; i++)
		polls[i] = (struct pollfd){.fd = link->ways[i].from};
	for (int i = 0; i < 2; i++) {
		const struct way *way = &link->ways[i];
		bool stalled = setting(r, way, STALL);
		if (!way->ended && way->queued < QUEUE_MAX && !stalled && !link->connecting)
			polls[i].events |= POLLIN;
		if (!way->first || stalled)
			continue;
		if (way->first->due_ns <= now)
			polls[1 - i].events |= POLLOUT;
		else if (way->first->due_ns - now < *wait_ns)
			*wait_ns = way->first->due_ns - now;
	}
	if (link->connecting)
		polls[0].events |= POLLOUT;
	for (int i = 0; i < 2; i++)
		if (!polls[i].events)
			polls[i].fd = -1; /* else a hang-up that nobody takes turns the loop */
}

static void turn_link(struct relay *r, struct link *link, const struct pollfd *polls, uint64_t now)
{
	if (link->connecting && (polls[0].revents & (POLLERR | POLLHUP))) {
		end_link(link, true);
		return;
	}
	if (polls[0].revents & POLLOUT)
		link->connecting = false;
	bool lives = true;
	for (int i = 0; i < 2 && lives; i++) {
		struct way *way = &link->ways[i];
		if (polls[i].revents & (POLLERR | POLLNVAL))
			lives = false;
		if (lives && (polls[i].revents & (POLLIN | POLLHUP)) && !way->ended && polls[i].events & POLLIN)
			lives = read_way(r, way);
		if (lives && !link->connecting)
			lives = write_way(r, way, now);
	}
	if (!lives)
		end_link(link, true);
	else if (link->ways[0].half_closed && link->ways[1].half_closed)
		end_link(link, false);
}

static int serve(struct relay *r)
{
	static struct pollfd polls[2 + 2 * LINKS_MAX];
	for (;;) {
		uint64_t now = now_ns(), wait_ns = 100000000;
		polls[0] = (struct pollfd){.fd = 0, .events = POLLIN};
		polls[1] = (struct pollfd){.fd = r->listener, .events = POLLIN};
		for (int i = 0; i < LINKS_MAX; i++) {
			polls[2 + 2 * i].fd = polls[3 + 2 * i].fd = -1;
			if (r->links[i].used)
				fill_poll(r, &r->links[i], &polls[2 + 2 * i], now, &wait_ns);
		}
		poll(polls, 2 + 2 * LINKS_MAX, (int)((wait_ns + 999999) / 1000000));
		now = now_ns();
		for (int i = 0; i < LINKS_MAX; i++)
			if (r->links[i].used)
				turn_link(r, &r->links[i], &polls[2 + 2 * i], now);
		if (polls[1].revents)
			accept_link(r);
		if (polls[0].revents && !read_commands(r))
			return 0;
	}
}

int main(int argc, char **argv)
{
	static struct relay relay;
	int one = 1;
	if (argc != 3)
		return 2;
	relay.mode = strcmp(argv[2], "frames") == 0 ? FRAMES : strcmp(argv[2], "ucx") == 0 ? UCX : RAW;
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
	relay.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	setsockopt(relay.listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(relay.listener, (struct sockaddr *)&at, sizeof(at)) != 0 || listen(relay.listener, 128) != 0) {
		perror("relay");
		return 1;
	}
	return serve(&relay);
}

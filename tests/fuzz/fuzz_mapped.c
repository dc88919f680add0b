/* Any datagrams, with any descriptors, as what a peer on this host says over the unix socket of its link: nothing of it
 * is believed that our memory rests on, and a read over it ends. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <fcntl.h>

#include "bytes.h"
#include "net/link_impl.h"

enum { PEER = 2, INCARNATION = 22 };

static struct loop *loop;
static struct link *ours;
static int listener;
static struct buf address;

static void begin(void)
{
	struct link_options options = {.node = 1, .incarnation = 11, .transport = LINK_MAPPED};
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	struct link_address peer = {.ucx_transport = LINK_MAPPED, .node = PEER, .incarnation = INCARNATION};
	int length = snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "baton-fuzz-%d", (int)getpid());
	if (loop_create(&loop) != ERR_OK || link_create(loop, &options, &ours, NULL) != ERR_OK)
		abort();
	listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0);
	if (bind(listener, (struct sockaddr *)&name, (socklen_t)(sizeof(sa_family_t) + 1 + (size_t)length)) < 0 ||
	    listen(listener, 8) < 0)
		abort();
	snprintf(peer.socket_name, sizeof(peer.socket_name), "@%s", name.sun_path + 1);
	link_boot_id(peer.boot_id);
	if (link_address_pack(&peer, &address) != ERR_OK)
		abort();
}

/* A memfd of some size and seals, or another kind of descriptor. */
static int descriptor(struct bytes *in)
{
	uint8_t what = bytes_u8(in);
	if (what % 4 == 3)
		return open("/dev/null", O_RDONLY);
	int fd = memfd_create("fuzz", MFD_ALLOW_SEALING);
	if (fd < 0 || ftruncate(fd, (off_t)bytes_below(in, 8) * 4096) < 0)
		abort();
	if (what % 4)
		(void)fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW);
	return fd;
}

static void say(int fd, struct bytes *in)
{
	struct local_message message = {.magic = LOCAL_MAGIC, .version = LOCAL_VERSION, .node = PEER, .incarnation = INCARNATION};
	union {
		char bytes[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	uint8_t odd = bytes_u8(in), carried = odd & 64 ? 1 + (odd & 1) : 0;
	int fds[2] = {-1, -1};
	message.what = (uint8_t)(odd % 16 < 12 ? odd % 4 + 1 : bytes_u8(in));
	message.rank = (uint16_t)(bytes_u8(in) % 2);
	message.index = (uint16_t)(bytes_u8(in) % 3);
	message.slot_bytes = bytes_below(in, 4) ? 64 : bytes_number(in);
	message.slot_count = bytes_below(in, 4) ? 4 : bytes_number(in);
	if (odd >= 250)
		message.magic ^= 1, message.node = bytes_number(in);
	struct iovec iov = {&message, odd >= 240 && odd < 250 ? bytes_below(in, sizeof(message)) : sizeof(message)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	for (int i = 0; i < carried; i++)
		fds[i] = descriptor(in);
	if (carried) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(carried * sizeof(int));
		struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(carried * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, carried * sizeof(int));
	}
	(void)!sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	for (int i = 0; i < carried; i++)
		close(fds[i]);
}

static void on_done(void *context, const struct link_result *results, size_t count)
{
	(*(int *)context)++;
}

static void read_one(struct bytes *in, int *done)
{
	static uint8_t landing[1 << 16];
	void *landings[] = {landing};
	struct handle handle = {.node = PEER, .incarnation = INCARNATION, .rank = bytes_u8(in) % 2, .region = bytes_u8(in) % 3,
				.offset = bytes_number(in), .length = 1 + bytes_below(in, 1 << 16), .generation = bytes_u8(in)};
	struct link_read_options options = {.node = PEER, .handles = &handle, .landings = landings, .count = 1,
					    .timeout_ns = 1000000000, .done = on_done, .context = done};
	enum err e = link_read(ours, &options, NULL);
	if (e != ERR_OK)
		++*done;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	struct bytes in = {data, length};
	int done = 0, reads = 0;
	if (!loop)
		begin();
	if (link_peer_open(ours, PEER, INCARNATION, address.data, address.length, NULL) != ERR_OK)
		abort();
	loop_turn(loop, 0);
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
	while (fd >= 0 && in.left) {
		if (bytes_below(&in, 4) || reads == 8) {
			say(fd, &in);
		} else {
			reads++;
			read_one(&in, &done);
		}
		loop_turn(loop, 0);
	}
	if (fd >= 0)
		close(fd);
	link_peer_close(ours, PEER);
	for (int i = 0; i < 1000 && done < reads; i++)
		loop_turn(loop, 1000000);
	if (done != reads)
		abort();
	loop_turn(loop, 0);
	return 0;
}

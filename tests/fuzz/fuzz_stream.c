/* Any bytes, in any pieces, on an accepted control stream: frames within the limit and nothing else come out, and the end
 * comes once. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "bytes.h"
#include "net/loop.h"
#include "net/stream.h"
#include "tests/scratch.h"

enum { FRAME_MAX = 70000 };

static struct loop *loop;
static struct stream_listener *listener;
static struct sockaddr_un name = {.sun_family = AF_UNIX};
static struct stream *open_stream;
static int closes, accepts;
static size_t heard;

static void on_frame(struct stream *stream, const uint8_t *data, size_t length, void *arg)
{
	assert(stream == open_stream && length <= FRAME_MAX && closes == 0);
	volatile uint8_t last = length ? data[length - 1] : 0;
	(void)last;
	heard += 4 + length;
	if (length == 3)
		(void)!stream_send(stream, data, length);
}

static void on_close(struct stream *stream, enum err e, const char *text, void *arg)
{
	assert(stream == open_stream && closes == 0);
	open_stream = NULL;
	closes++;
}

static void on_accept(struct stream_listener *from, struct stream *stream, void *arg)
{
	static const struct stream_callbacks callbacks = {.on_frame = on_frame, .on_close = on_close};
	accepts++;
	open_stream = stream;
	stream_accept(stream, &callbacks, NULL);
}

static void begin(void)
{
	char url[128];
	struct stream_options options = {.frame_bytes_max = FRAME_MAX, .queue_bytes_max = 4096};
	struct why why = {0};
	scratch_path(name.sun_path, sizeof(name.sun_path), "stream");
	unlink(name.sun_path);
	snprintf(url, sizeof(url), "ipc://%s", name.sun_path);
	if (loop_create(&loop) != ERR_OK || stream_listen(loop, url, &options, on_accept, NULL, &listener, &why) != ERR_OK)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	struct bytes in = {data, length};
	const uint8_t *piece;
	if (!loop)
		begin();
	closes = accepts = 0;
	heard = 0;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (connect(fd, (struct sockaddr *)&name, sizeof(name)) < 0)
		abort();
	while (in.left) {
		size_t n = bytes_run(&in, 255, &piece);
		if (n && send(fd, piece, n, MSG_NOSIGNAL) < 0)
			break;
		loop_turn(loop, 0);
	}
	shutdown(fd, SHUT_WR);
	for (int i = 0; i < 5000 && !closes; i++)
		loop_turn(loop, 1000000);
	assert(accepts == 1 && closes == 1 && heard <= length);
	close(fd);
	loop_turn(loop, 0);
	return 0;
}

/* The loop, and control streams: listen, dial, frames both ways, an orderly end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fail.h"
#include "net/loop.h"
#include "net/stream.h"
#include "torture.h"

enum { LARGE = 200000, FRAMES = 3 };

struct exchange {
	struct loop *loop;
	struct stream_listener *listener;
	struct stream *dialed, *accepted;
	int frames, back; /* heard by the listener, by the dialer */
	int done;
	enum err e;
	char text[128];
};

static uint8_t *large_frame(void)
{
	fail_pause();
	uint8_t *bytes = malloc(LARGE);
	fail_resume();
	for (size_t i = 0; i < LARGE; i++)
		bytes[i] = (uint8_t)(i * 7);
	return bytes;
}

static void end(struct exchange *x, enum err e, const char *text)
{
	if (x->e == ERR_OK && e != ERR_OK) {
		x->e = e;
		snprintf(x->text, sizeof(x->text), "%s", text);
	}
	x->done = x->e != ERR_OK || (!x->dialed && !x->accepted);
}

static void on_frame(struct stream *stream, const uint8_t *data, size_t length, void *arg)
{
	struct exchange *x = arg;
	if (stream == x->dialed) {
		torture_check(length == 4 && memcmp(data, "back", 4) == 0);
		if (++x->back == FRAMES)
			stream_finish(stream, 1000000000);
		return;
	}
	torture_check(length == 0 || length == 5 || (length == LARGE && data[LARGE - 1] == (uint8_t)((LARGE - 1) * 7)));
	x->frames++;
	enum err e = stream_send(stream, "back", 4);
	if (e != ERR_OK)
		end(x, e, "sending an answer");
}

static void on_close(struct stream *stream, enum err e, const char *text, void *arg)
{
	struct exchange *x = arg;
	torture_check(stream == x->dialed || stream == x->accepted);
	*(stream == x->dialed ? &x->dialed : &x->accepted) = NULL;
	end(x, e, text);
}

static void on_accept(struct stream_listener *listener, struct stream *stream, void *arg)
{
	static const struct stream_callbacks callbacks = {.on_frame = on_frame, .on_close = on_close};
	struct exchange *x = arg;
	x->accepted = stream;
	stream_accept(stream, &callbacks, arg);
}

static enum err send_all(struct exchange *x)
{
	uint8_t *large = large_frame();
	enum err e = stream_send(x->dialed, "hello", 5);
	if (e == ERR_OK)
		e = stream_send2(x->dialed, large, 100, large + 100, LARGE - 100);
	if (e == ERR_OK)
		e = stream_send(x->dialed, NULL, 0);
	fail_pause();
	free(large);
	fail_resume();
	return e;
}

static void close_all(struct exchange *x)
{
	stream_close(x->dialed);
	stream_close(x->accepted);
	stream_listener_close(x->listener);
	loop_destroy(x->loop); /* runs what is posted: the reaping */
}

static enum err talk(const char *listen_url, struct why *why)
{
	static const struct stream_callbacks callbacks = {.on_frame = on_frame, .on_close = on_close};
	struct exchange x = {0};
	char url[128];
	enum err e = loop_create(&x.loop);
	if (e != ERR_OK)
		return why_set(why, e, "a loop");
	e = stream_listen(x.loop, listen_url, NULL, on_accept, &x, &x.listener, why);
	if (e != ERR_OK)
		goto close;
	snprintf(url, sizeof(url), "%s", listen_url);
	if (strncmp(url, "tcp", 3) == 0)
		snprintf(url, sizeof(url), "tcp://127.0.0.1:%u", stream_listener_port(x.listener));
	e = stream_dial(x.loop, url, 2000000000, NULL, &callbacks, &x, &x.dialed, why);
	if (e == ERR_OK)
		e = send_all(&x);
	if (e == ERR_OK)
		e = torture_wait(x.loop, &x.done, why);
	if (e == ERR_OK && x.e != ERR_OK)
		e = why_set(why, x.e, "%s", x.text);
	torture_check(e != ERR_OK || (x.frames == FRAMES && x.back == FRAMES));
close:
	close_all(&x);
	return e == ERR_OK || why->text[0] ? e : why_set(why, e, "exchange");
}

static enum err over_tcp(struct why *why)
{
	return talk("tcp://127.0.0.1:0", why);
}

static enum err over_ipc(struct why *why)
{
	char url[96];
	snprintf(url, sizeof(url), "ipc:///tmp/torture-%d.sock", (int)getpid());
	enum err e = talk(url, why);
	unlink(url + strlen("ipc://"));
	return e;
}

/* ---- the loop alone */

struct turns {
	struct loop *loop;
	struct loop_timer *timer;
	struct loop_watch *watch;
	struct loop_task task;
	int fds[2];
	int timers, reads, tasks, done;
};

static void on_timer(struct loop_timer *timer, void *arg)
{
	struct turns *t = arg;
	if (++t->timers < 3)
		loop_timer_arm(timer, 1000000);
	else
		loop_post(t->loop, &t->task);
}

static void on_read(struct loop_watch *watch, unsigned ready, void *arg)
{
	struct turns *t = arg;
	char c;
	fail_pause();
	torture_check(read(t->fds[0], &c, 1) == 1);
	fail_resume();
	t->reads++;
	loop_timer_arm(t->timer, 1000000);
}

static void on_task(void *arg)
{
	((struct turns *)arg)->done = ++((struct turns *)arg)->tasks;
}

static enum err loop_alone(struct why *why)
{
	struct turns t = {0};
	fail_pause();
	torture_check(pipe(t.fds) == 0 && write(t.fds[1], "x", 1) == 1);
	fail_resume();
	enum err e = loop_create(&t.loop);
	if (e == ERR_OK)
		e = loop_timer_create(t.loop, on_timer, &t, &t.timer);
	loop_task_init(&t.task, on_task, &t);
	if (e == ERR_OK)
		e = loop_watch_create(t.loop, t.fds[0], LOOP_READ, on_read, &t, &t.watch);
	if (e == ERR_OK)
		e = torture_wait(t.loop, &t.done, why);
	torture_check(e != ERR_OK || (t.timers == 3 && t.reads == 1));
	loop_watch_destroy(t.watch);
	loop_timer_destroy(t.timer);
	loop_destroy(t.loop);
	close(t.fds[0]);
	close(t.fds[1]);
	return e == ERR_OK ? e : why_set(why, e, "loop");
}

const struct scenario stream_scenarios[] = {
	{"loop", loop_alone, NULL, 0, true},
	{"stream over tcp", over_tcp, NULL, 32, true},
	{"stream over ipc", over_ipc, NULL, 32, true},
	{0},
};

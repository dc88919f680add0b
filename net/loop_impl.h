/* loop_impl - the libevent base inside a loop, for the HTTP server.  Only this folder includes it. */
#ifndef NET_LOOP_IMPL_H
#define NET_LOOP_IMPL_H
struct loop;
struct event_base;
/* The loop's; touch it in the home thread only, and never run it yourself. */
struct event_base *loop_event_base(struct loop *loop);
#endif

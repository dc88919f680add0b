/* What a node tells of its links, however many it has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/link_report.h"
#include "net/session.h"
#include "proto/codec.h"

enum { PEERS = 100, NAMES = 4 };

static uint64_t refused_from; /* nodes of that number and above */

static void send(void *context, uint32_t conn, const Wire__Envelope *envelope)
{
	(void)context, (void)conn, (void)envelope;
}

static void link_open(void *context, uint64_t node, uint64_t incarnation, const uint8_t *address, size_t length)
{
	(void)context, (void)node, (void)incarnation, (void)address, (void)length;
}

static void up(void *context, uint32_t peer)
{
	(void)context, (void)peer;
}

/* As the shell's: a text holds for the next few calls. */
static const char *link_name(void *context, uint64_t node)
{
	static char names[NAMES][32];
	static uint32_t next;
	(void)context;
	if (node >= refused_from)
		return ENV_LINK_REFUSED;
	snprintf(names[next % NAMES], sizeof(names[0]), "way %llu", (unsigned long long)node);
	return names[next++ % NAMES];
}

static const char *link_required(void *context)
{
	return context;
}

static uint64_t bytes(const void *context, uint32_t peer)
{
	return sessions_peer(context, peer)->node * 1000;
}

static void greet(struct sessions *sessions, uint64_t node)
{
	char name[32];
	snprintf(name, sizeof(name), "peer %llu", (unsigned long long)node);
	Wire__Hello hello = WIRE__HELLO__INIT;
	hello.node = node;
	hello.incarnation = node + 7;
	hello.role = WIRE__ROLE__ROLE_PREFILL;
	hello.name = name;
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.version = PROTO_VERSION;
	envelope.body_case = WIRE__ENVELOPE__BODY_HELLO;
	envelope.hello = &hello;
	sessions_opened(sessions, (uint32_t)node, 0, 1);
	sessions_message(sessions, (uint32_t)node, &envelope, 1);
}

static void refused_links_are_among_what_is_told_however_late_they_came(void **state)
{
	struct env env = {.context = "rdma, mapped", .send = send, .link_open = link_open, .link_name = link_name, .link_required = link_required};
	struct session_options options = {.node = 1000, .incarnation = 1, .role = WIRE__ROLE__ROLE_DECODE, .name = "decode 1",
					  .peer_max = PEERS, .env = &env, .up = up};
	struct link_report report;
	struct sessions *sessions = sessions_init(malloc(sessions_bytes(&options)), &options);
	for (uint64_t node = 1; node <= PEERS; node++)
		greet(sessions, node);
	assert_int_equal(sessions_count(sessions), PEERS);
	refused_from = PEERS - 2;
	Wire__Load load = WIRE__LOAD__INIT;
	link_report(&env, sessions, bytes, sessions, &report, &load);
	assert_int_equal(load.n_transports, LINK_REPORT_MAX);
	assert_string_equal(load.required, "rdma, mapped");
	for (uint64_t i = 0; i < LINK_REPORT_MAX; i++) {
		const Wire__Transport *t = load.transports[i];
		uint64_t node = i < 3 ? refused_from + i : i - 2;
		char text[32];
		snprintf(text, sizeof(text), "way %llu", (unsigned long long)node);
		assert_string_equal(t->name, i < 3 ? ENV_LINK_REFUSED : text);
		snprintf(text, sizeof(text), "peer %llu", (unsigned long long)node);
		assert_string_equal(t->peer, text);
		assert_int_equal(t->node, node);
		assert_int_equal(t->incarnation, node + 7);
		assert_int_equal(t->bytes_read, node * 1000);
	}
	free(sessions);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refused_links_are_among_what_is_told_however_late_they_came),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* What a Hello claims is held against the certificate of its connection. */
#include <stdio.h>

#include "net/identity.h"
#include "net/wire.h"
#include "proto/codec.h"
#include "proto/job.h"
#include "tls_rig.h"

struct greeting {
	struct rig rig; /* its loop and TLS */
	struct wire *wire;
	int opened, closed, messages;
};

static void wire_opened(void *context, uint32_t conn, uint64_t dialed)
{
	((struct greeting *)context)->opened++;
}

static void wire_closed(void *context, uint32_t conn)
{
	((struct greeting *)context)->closed++;
}

static void wire_dial_failed(void *context, uint64_t dialed)
{
}

static void wire_message(void *context, uint32_t conn, const Wire__Envelope *envelope)
{
	((struct greeting *)context)->messages++;
}

static void send_hello(struct greeting *g, struct tls *tls, const char *name, uint64_t node, Wire__Role role)
{
	Wire__Hello hello = WIRE__HELLO__INIT;
	hello.name = (char *)name;
	hello.node = node;
	hello.role = role;
	hello.incarnation = 7;
	hello.weight = hello.replicas = 1; /* which only a store has to say */
	PROTO_ENVELOPE(envelope, HELLO, hello, &hello);
	uint8_t packed[512];
	size_t length = codec_packed_size(&envelope);
	assert_true(length <= sizeof(packed));
	codec_pack(&envelope, packed);
	struct why why = {0};
	struct stream_options options = {.tls = tls};
	g->rig.client_closed = 0;
	assert_int_equal(stream_dial(g->rig.loop, g->rig.url, 5 * second_ns, &options, &client_callbacks, &g->rig, &g->rig.client, &why),
			 ERR_OK);
	assert_int_equal(stream_send(g->rig.client, packed, length), ERR_OK);
}

static void expect_hello_refused(struct greeting *g, struct tls *tls, const char *name, uint64_t node, Wire__Role role,
				 enum refusal refusal)
{
	uint64_t before = tls_refused(g->rig.tls, refusal);
	int messages = g->messages;
	send_hello(g, tls, name, node, role);
	WAIT_FOR(&g->rig, g->rig.client_closed);
	assert_int_equal(tls_refused(g->rig.tls, refusal), before + 1);
	assert_int_equal(g->messages, messages);
}

static void a_hello_must_say_what_the_certificate_says(void **state)
{
	struct greeting g = {.rig = {.tls = tls_open(directory, directory, "prefill-1", "test")}};
	struct tls *tls = tls_open(directory, directory, "engine-7", "test");
	uint64_t ours = identity_name_node("engine-7"), other = identity_name_node("engine-8");
	struct why why = {0};
	assert_int_equal(loop_create(&g.rig.loop), ERR_OK);
	struct wire_options options = {
		.listen_url = "tls+tcp://127.0.0.1:0",
		.tls = g.rig.tls,
		.callbacks = {.context = &g, .opened = wire_opened, .dial_failed = wire_dial_failed, .closed = wire_closed,
			      .message = wire_message},
	};
	assert_int_equal(wire_create(g.rig.loop, &options, &g.wire, &why), ERR_OK);
	snprintf(g.rig.url, sizeof(g.rig.url), "tls+tcp://127.0.0.1:%u", wire_port(g.wire));

	expect_hello_refused(&g, tls, "engine-8", other, WIRE__ROLE__ROLE_PREFILL, REFUSAL_NAME);
	expect_hello_refused(&g, tls, "engine-7", other, WIRE__ROLE__ROLE_PREFILL, REFUSAL_NAME);
	expect_hello_refused(&g, tls, "engine-8", ours, WIRE__ROLE__ROLE_PREFILL, REFUSAL_NAME);
	expect_hello_refused(&g, tls, "engine-7", ours, WIRE__ROLE__ROLE_COORDINATOR, REFUSAL_ROLE);
	expect_hello_refused(&g, tls, "engine-7", ours, WIRE__ROLE__ROLE_KVSTORE, REFUSAL_ROLE);
	assert_int_equal(g.closed, 5);
	send_hello(&g, tls, "engine-7", ours, WIRE__ROLE__ROLE_DECODE);
	WAIT_FOR(&g.rig, g.messages == 1);
	struct wire_counts counts;
	wire_counts(g.wire, &counts);
	assert_int_equal(counts.open, 1);

	stream_close(g.rig.client);
	wire_destroy(g.wire);
	loop_destroy(g.rig.loop);
	tls_destroy(tls);
	tls_destroy(g.rig.tls);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_hello_must_say_what_the_certificate_says),
	};
	return cmocka_run_group_tests_name("tls_hello", tests, make_all, remove_all);
}

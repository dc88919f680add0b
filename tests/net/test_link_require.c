/* What may carry a link: of the ways there are those that are required, and a refusal that says what there is otherwise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "link_fixture.h"

enum { BOOT_ID_AT = 24 }; /* in an address: net/link_address.c */

/* Owner and reader in one process, and a region of the owner's. */
struct two {
	struct loop *loop;
	struct link *owner, *reader;
	struct region *region;
	struct buf address;
	struct why why;
};

static uint32_t set(const char *const *names, size_t count)
{
	uint32_t required = 0;
	assert_int_equal(link_require_parse(names, count, &required, NULL), ERR_OK);
	return required;
}

#define REQUIRE(...) set((const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static void begin(struct two *two, const struct link_options *owner, const struct link_options *reader)
{
	struct region_options region_options = {.slot_bytes = 1 << 16, .slot_count = 2};
	struct link_options o = *owner, r = *reader;
	*two = (struct two){0};
	o.node = PEER_NODE, r.node = READER_NODE, o.incarnation = r.incarnation = 1;
	assert_int_equal(loop_create(&two->loop), ERR_OK);
	assert_int_equal(region_create(&region_options, &two->region, NULL), ERR_OK);
	assert_int_equal(link_create(two->loop, &o, &two->owner, &two->why), ERR_OK);
	assert_int_equal(link_create(two->loop, &r, &two->reader, &two->why), ERR_OK);
	assert_int_equal(link_region_add(two->owner, two->region, NULL), ERR_OK);
	assert_int_equal(link_local_address(two->owner, &two->address), ERR_OK);
}

static void end(struct two *two)
{
	link_destroy(two->reader);
	link_destroy(two->owner);
	region_destroy(two->region);
	loop_destroy(two->loop);
	buf_fini(&two->address);
}

static enum err open_peer(struct two *two)
{
	return link_peer_open(two->reader, PEER_NODE, 1, two->address.data, two->address.length, &two->why);
}

/* One piece arrives, and that is what carried it. */
static void expect_read(struct two *two, const char *transport)
{
	struct pair pair = {.loop = two->loop, .link = two->reader};
	struct handle handle = {.node = PEER_NODE, .incarnation = 1, .length = 64, .generation = 1};
	struct probe probe;
	char landing[64], text[64] = "";
	assert_int_equal(probe_start(&pair, &probe, &handle, (void *[]){landing}, 1, 10000 * MS), ERR_OK);
	assert_true(turn_until(two->loop, &probe.free_count, 1, 12000 * MS));
	assert_int_equal(probe.results[0].err, ERR_OK);
	link_peer_transport(two->reader, PEER_NODE, text, sizeof(text));
	assert_string_equal(text, transport);
}

static void names_make_a_set(void **state)
{
	uint32_t required = 99;
	struct why why = {0};
	assert_int_equal(REQUIRE("rdma"), 1u << LINK_UCX_RDMA);
	assert_int_equal(REQUIRE("mapped", "ucx-shm", "ucx-tcp", "tls", "tcp"),
			 1u << LINK_MAPPED | 1u << LINK_UCX_SHM | 1u << LINK_UCX_TCP | 1u << LINK_TLS | 1u << LINK_TCP);
	assert_int_equal(link_require_parse((const char *const[]){"rdma", "auto"}, 2, &required, &why), ERR_INVALID);
	assert_string_equal(why.text, "transport 'auto': expected mapped, rdma, ucx-shm, ucx-tcp, tls or tcp");
	assert_int_equal(required, 99);
}

static void expect_no_start(const struct link_options *options, const char *reason)
{
	struct loop *loop = NULL;
	struct link *link = NULL;
	struct why why = {0};
	assert_int_equal(loop_create(&loop), ERR_OK);
	enum err e = link_create(loop, options, &link, &why);
	link_destroy(link);
	loop_destroy(loop);
	assert_int_equal(e, ERR_UNSUPPORTED);
	assert_string_equal(why.text, reason);
}

/* Whatever is required: without any of it here the link does not start, and says what there is. */
static void nothing_of_what_is_required_is_here(void **state)
{
	struct link_options options = {.node = 1, .incarnation = 1, .required = REQUIRE("rdma")};
	expect_no_start(&options, "--require-transport rdma: this node has mapped, and UCX only with --link-network DEVICE (a network that nobody "
				  "else reaches); `baton doctor` says what is missing");
	options.bulk_host = "127.0.0.1";
	options.required = REQUIRE("tls", "ucx-shm");
	expect_no_start(&options, "--require-transport ucx-shm, tls: this node has mapped, tcp; `baton doctor` says what is missing");
	options.required = REQUIRE("mapped");
	options.transport = LINK_TCP;
	expect_no_start(&options, "--require-transport mapped: this node has tcp; `baton doctor` says what is missing");
}

/* UCX is there, but has no NIC. */
static void rdma_is_not_what_ucx_falls_back_to(void **state)
{
	struct link_options options = {.node = 1, .incarnation = 1, .network = "lo", .required = REQUIRE("rdma")};
	struct loop *loop = NULL;
	struct link *link = NULL;
	struct why why = {0};
	assert_int_equal(loop_create(&loop), ERR_OK);
	enum err e = link_create(loop, &options, &link, &why);
	link_destroy(link);
	loop_destroy(loop);
	if (e == ERR_OK)
		skip(); /* there is one */
	assert_string_equal(why.text, "--require-transport rdma: this node has mapped, ucx-tcp; `baton doctor` says what is missing");
}

static void required_memory_is_mapped_on_one_host(void **state)
{
	struct two two;
	begin(&two, &(struct link_options){0}, &(struct link_options){.required = REQUIRE("mapped", "rdma")});
	assert_int_equal(open_peer(&two), ERR_OK);
	expect_read(&two, "mapped");
	end(&two);
}

/* Mapped memory would be there, and is not taken. */
static void what_is_not_required_is_passed_over(void **state)
{
	struct two two;
	const struct link_options owner = {.network = "lo", .bulk_host = "127.0.0.1"};
	begin(&two, &owner, &(struct link_options){.bulk_host = "127.0.0.1", .network = "lo", .required = REQUIRE("tcp")});
	assert_int_equal(open_peer(&two), ERR_OK);
	expect_read(&two, "tcp");
	end(&two);
	begin(&two, &owner, &(struct link_options){.bulk_host = "127.0.0.1", .network = "lo", .required = REQUIRE("ucx-tcp")});
	assert_int_equal(open_peer(&two), ERR_OK);
	expect_read(&two, "ucx:tcp/lo");
	end(&two);
}

static void peer_of_another_host_is_refused_not_read_over_tcp(void **state)
{
	struct two two;
	struct pair pair;
	struct handle handle = {.node = PEER_NODE, .incarnation = 1, .length = 64, .generation = 1};
	struct probe probe;
	char landing[64], text[64] = "";
	begin(&two, &(struct link_options){.bulk_host = "127.0.0.1"},
	      &(struct link_options){.bulk_host = "127.0.0.1", .network = "lo", .required = REQUIRE("mapped", "rdma")});
	two.address.data[BOOT_ID_AT] ^= 1;
	assert_int_equal(open_peer(&two), ERR_UNSUPPORTED);
	assert_string_equal(two.why.text, "--require-transport mapped, rdma: the peer, on another host, offers tcp, this node has mapped, ucx-tcp, tcp; `baton "
					  "doctor` on both says what is missing");
	pair = (struct pair){.loop = two.loop, .link = two.reader};
	assert_int_equal(probe_start(&pair, &probe, &handle, (void *[]){landing}, 1, 100 * MS), ERR_NOT_FOUND);
	link_peer_transport(two.reader, PEER_NODE, text, sizeof(text));
	assert_string_equal(text, "none");
	/* On this host, but its socket does not answer: no way to mapped memory either. */
	two.address.data[BOOT_ID_AT] ^= 1;
	two.address.data[46 + 8] ^= 1;
	assert_int_equal(open_peer(&two), ERR_UNSUPPORTED);
	assert_non_null(strstr(two.why.text, "the peer, on this host, offers mapped, tcp"));
	two.address.data[46 + 8] ^= 1;
	assert_int_equal(open_peer(&two), ERR_OK);
	expect_read(&two, "mapped");
	end(&two);
}

/* A node reads its own memory, whatever is required of others. */
static void own_memory_is_always_read(void **state)
{
	struct two two;
	begin(&two, &(struct link_options){0}, &(struct link_options){.bulk_host = "127.0.0.1", .required = REQUIRE("tcp")});
	char text[64] = "";
	link_peer_transport(two.reader, READER_NODE, text, sizeof(text));
	assert_string_equal(text, "self");
	end(&two);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_make_a_set),
		cmocka_unit_test(nothing_of_what_is_required_is_here),
		cmocka_unit_test(rdma_is_not_what_ucx_falls_back_to),
		cmocka_unit_test(required_memory_is_mapped_on_one_host),
		cmocka_unit_test(what_is_not_required_is_passed_over),
		cmocka_unit_test(peer_of_another_host_is_refused_not_read_over_tcp),
		cmocka_unit_test(own_memory_is_always_read),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

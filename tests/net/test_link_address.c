/* A link's address: what one packs another reads, and what is not one is refused whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "net/link_impl.h"

static const uint8_t ucx_bytes[4000] = {7, 8, 9};

static struct link_address full(void)
{
	struct link_address address = {.node = UINT64_MAX, .incarnation = 1ull << 63, .ucx_transport = LINK_UCX_RDMA,
				       .ucx_address = ucx_bytes, .ucx_address_length = 300, .bulk = LINK_BULK_TLS, .bulk_port = 65535};
	for (int i = 0; i < 16; i++)
		address.boot_id[i] = (uint8_t)(i * 17);
	memset(address.socket_name, 's', SOCKET_NAME_MAX);
	strcpy(address.bulk_host, "node-1.example_2:%");
	return address;
}

static void an_address_is_read_as_it_was_packed(void **state)
{
	struct link_address address = full(), again;
	struct buf buf = {0};
	assert_int_equal(link_address_pack(&address, &buf), ERR_OK);
	assert_int_equal(link_address_parse(buf.data, buf.length, &again), ERR_OK);
	assert_true(again.node == address.node && again.incarnation == address.incarnation);
	assert_memory_equal(again.boot_id, address.boot_id, 16);
	assert_string_equal(again.socket_name, address.socket_name);
	assert_int_equal(again.ucx_transport, LINK_UCX_RDMA);
	assert_int_equal(again.ucx_address_length, 300);
	assert_memory_equal(again.ucx_address, ucx_bytes, 300);
	assert_int_equal(again.bulk, LINK_BULK_TLS);
	assert_int_equal(again.bulk_port, 65535);
	assert_string_equal(again.bulk_host, address.bulk_host);
	buf_fini(&buf);
}

static void every_cut_and_every_longer_one_is_refused(void **state)
{
	struct link_address address = full(), again;
	struct buf buf = {0};
	assert_int_equal(link_address_pack(&address, &buf), ERR_OK);
	for (size_t length = 0; length < buf.length; length++)
		assert_int_equal(link_address_parse(buf.data, length, &again), ERR_PROTOCOL);
	assert_int_equal(buf_append(&buf, "x", 1), ERR_OK);
	assert_int_equal(link_address_parse(buf.data, buf.length, &again), ERR_PROTOCOL);
	buf_fini(&buf);
}

/* The address with one byte set, or packed from another value. */
static enum err with_byte(const struct link_address *address, size_t at, uint8_t byte)
{
	struct link_address again;
	struct buf buf = {0};
	assert_int_equal(link_address_pack(address, &buf), ERR_OK);
	buf.data[at] = (char)byte;
	enum err e = link_address_parse(buf.data, buf.length, &again);
	buf_fini(&buf);
	return e;
}

static enum err packed(const struct link_address *address)
{
	return with_byte(address, 8, 1); /* the node's: any will do */
}

static void a_field_out_of_its_range_is_refused(void **state)
{
	struct link_address address = full();
	assert_int_equal(packed(&address), ERR_OK);
	assert_int_equal(with_byte(&address, 0, 0), ERR_PROTOCOL);  /* magic */
	assert_int_equal(with_byte(&address, 4, 1), ERR_PROTOCOL);  /* version */
	assert_int_equal(with_byte(&address, 6, LINK_AUTO), ERR_PROTOCOL);
	assert_int_equal(with_byte(&address, 6, LINK_TLS), ERR_PROTOCOL);
	assert_int_equal(with_byte(&address, 6, LINK_MAPPED), ERR_OK);
	assert_int_equal(with_byte(&address, 7, 255), ERR_PROTOCOL); /* longer than a socket's name */
	assert_int_equal(with_byte(&address, 41, 255), ERR_PROTOCOL); /* UCX: longer than it may be */
	assert_int_equal(with_byte(&address, 42, LINK_BULK_TLS + 1), ERR_PROTOCOL);
	assert_int_equal(with_byte(&address, 43, 255), ERR_PROTOCOL); /* the host */
	address.ucx_address_length = 3501;
	struct buf buf = {0};
	assert_int_equal(link_address_pack(&address, &buf), ERR_TOO_LARGE);
	address.ucx_address_length = 3500;
	assert_int_equal(packed(&address), ERR_OK);
	buf_fini(&buf);
}

/* It becomes part of a URL. */
static void bulk_has_a_host_and_a_port(void **state)
{
	static const char *const wrong[] = {"", "a/b", "a@b", "a b", "[::1]", "h\xc3\xa9"};
	struct link_address address = full();
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		strcpy(address.bulk_host, wrong[i]);
		assert_int_equal(packed(&address), ERR_PROTOCOL);
	}
	address = full();
	address.bulk_port = 0;
	assert_int_equal(packed(&address), ERR_PROTOCOL);
	address.bulk = LINK_BULK_NONE; /* then neither matters */
	address.bulk_host[0] = 0;
	assert_int_equal(packed(&address), ERR_OK);
	address = full();
	size_t host = 46 + strlen(address.socket_name) + 300;
	assert_int_equal(with_byte(&address, host + 3, 0), ERR_PROTOCOL); /* a 0 inside */
}

/* "1b4e28ba-2fa1-…" in digits. */
static void one_host_has_one_boot(void **state)
{
	uint8_t first[16], second[16], none[16] = {0};
	link_boot_id(first);
	link_boot_id(second);
	assert_memory_equal(first, second, 16);
	assert_memory_not_equal(first, none, 16);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_address_is_read_as_it_was_packed),
		cmocka_unit_test(every_cut_and_every_longer_one_is_refused),
		cmocka_unit_test(a_field_out_of_its_range_is_refused),
		cmocka_unit_test(bulk_has_a_host_and_a_port),
		cmocka_unit_test(one_host_has_one_boot),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "net/link_impl.h"

/* All numbers little-endian:
 * magic 4, version 2, ucx_transport 1, socket name length 1, node 8, incarnation 8, boot id 16, UCX address length 2,
 * bulk 1, host length 1, bulk port 2, then the socket name, the UCX address and the host. */
#define ADDRESS_MAGIC 0x414b4e4cu
#define ADDRESS_VERSION 2
#define FIXED_BYTES 46
#define UCX_ADDRESS_MAX 3500

static void put(uint8_t *at, uint64_t value, int bytes)
{
	for (int i = 0; i < bytes; i++)
		at[i] = (uint8_t)(value >> 8 * i);
}

static uint64_t get(const uint8_t *at, int bytes)
{
	uint64_t value = 0;
	for (int i = 0; i < bytes; i++)
		value |= (uint64_t)at[i] << 8 * i;
	return value;
}

enum err link_address_pack(const struct link_address *address, struct buf *buf)
{
	size_t name_length = strlen(address->socket_name), host_length = strlen(address->bulk_host);
	if (address->ucx_address_length > UCX_ADDRESS_MAX)
		return ERR_TOO_LARGE;
	uint8_t fixed[FIXED_BYTES];
	put(fixed, ADDRESS_MAGIC, 4);
	put(fixed + 4, ADDRESS_VERSION, 2);
	put(fixed + 6, address->ucx_transport, 1);
	put(fixed + 7, name_length, 1);
	put(fixed + 8, address->node, 8);
	put(fixed + 16, address->incarnation, 8);
	memcpy(fixed + 24, address->boot_id, 16);
	put(fixed + 40, address->ucx_address_length, 2);
	put(fixed + 42, address->bulk, 1);
	put(fixed + 43, host_length, 1);
	put(fixed + 44, address->bulk_port, 2);
	enum err e = buf_reserve(buf, FIXED_BYTES + name_length + address->ucx_address_length + host_length);
	if (e == ERR_OK)
		e = buf_append(buf, fixed, FIXED_BYTES);
	if (e == ERR_OK)
		e = buf_append(buf, address->socket_name, name_length);
	if (e == ERR_OK)
		e = buf_append(buf, address->ucx_address, address->ucx_address_length);
	if (e == ERR_OK)
		e = buf_append(buf, address->bulk_host, host_length);
	return e;
}

/* It becomes part of a URL. */
static bool is_host(const char *text, size_t length)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:%";
	return length > 0 && strlen(text) == length && strspn(text, allowed) == length;
}

enum err link_address_parse(const void *data, size_t length, struct link_address *ret_address)
{
	const uint8_t *at = data;
	if (length < FIXED_BYTES || get(at, 4) != ADDRESS_MAGIC || get(at + 4, 2) != ADDRESS_VERSION)
		return ERR_PROTOCOL;
	struct link_address address = {
		.ucx_transport = at[6],
		.node = get(at + 8, 8),
		.incarnation = get(at + 16, 8),
		.ucx_address_length = (uint16_t)get(at + 40, 2),
		.ucx_address = at + FIXED_BYTES + at[7],
		.bulk = (enum link_bulk)at[42],
		.bulk_port = (uint16_t)get(at + 44, 2),
	};
	size_t host_length = at[43];
	if (at[7] > SOCKET_NAME_MAX || address.ucx_address_length > UCX_ADDRESS_MAX ||
	    length != (size_t)FIXED_BYTES + at[7] + address.ucx_address_length + host_length || host_length > LINK_HOST_MAX ||
	    address.ucx_transport == LINK_AUTO || address.ucx_transport > LINK_UCX_RDMA || at[42] > LINK_BULK_TLS)
		return ERR_PROTOCOL;
	memcpy(address.bulk_host, address.ucx_address + address.ucx_address_length, host_length);
	if (address.bulk != LINK_BULK_NONE && (!is_host(address.bulk_host, host_length) || !address.bulk_port))
		return ERR_PROTOCOL;
	memcpy(address.boot_id, at + 24, 16);
	memcpy(address.socket_name, at + FIXED_BYTES, at[7]);
	*ret_address = address;
	return ERR_OK;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The kernel's: "1b4e28ba-2fa1-…".  Zeros where it cannot be read: then nobody counts as the same host. */
void link_boot_id(uint8_t ret_id[16])
{
	memset(ret_id, 0, 16);
	char text[64];
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	ssize_t length = read(fd, text, sizeof(text));
	close(fd);
	size_t nibble = 0;
	for (ssize_t i = 0; i < length && nibble < 32; i++) {
		int digit = hex_digit(text[i]);
		if (digit < 0)
			continue;
		ret_id[nibble / 2] = (uint8_t)(ret_id[nibble / 2] << 4 | digit);
		nibble++;
	}
}

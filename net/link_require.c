/* Which ways a link may take (link_options.required), and what is said when none of them is there. */
#include <stdio.h>
#include <string.h>

#include "net/link_impl.h"

static const struct {
	const char *name;
	enum link_transport way;
} ways[] = {{"mapped", LINK_MAPPED}, {"rdma", LINK_UCX_RDMA}, {"ucx-shm", LINK_UCX_SHM}, {"ucx-tcp", LINK_UCX_TCP}, {"tls", LINK_TLS}, {"tcp", LINK_TCP}};

enum { WAYS = sizeof(ways) / sizeof(*ways) };

enum err link_require_parse(const char *const *names, size_t count, uint32_t *ret_required, struct why *why)
{
	uint32_t required = 0;
	for (size_t i = 0; i < count; i++) {
		size_t w = 0;
		while (w < WAYS && strcmp(ways[w].name, names[i]) != 0)
			w++;
		if (w == WAYS)
			return why_set(why, ERR_INVALID, "transport '%s': expected mapped, rdma, ucx-shm, ucx-tcp, tls or tcp", names[i]);
		required |= 1u << ways[w].way;
	}
	*ret_required = required;
	return ERR_OK;
}

bool link_may(const struct link *link, enum link_transport way)
{
	return link->options.required == 0 || link->options.required >> way & 1;
}

void link_require_text(uint32_t required, char text[LINK_WAYS_TEXT])
{
	size_t at = 0;
	text[0] = 0;
	for (size_t i = 0; i < WAYS; i++)
		if (required >> ways[i].way & 1)
			at += (size_t)snprintf(text + at, LINK_WAYS_TEXT - at, "%s%s", at ? ", " : "", ways[i].name);
}

static void ways_text(uint32_t set, char text[LINK_WAYS_TEXT])
{
	if (set)
		link_require_text(set, text);
	else
		snprintf(text, LINK_WAYS_TEXT, "nothing");
}

/* UCX with a NIC may still take its TCP to a peer that the NIC does not reach. */
static uint32_t ucx_ways(enum link_transport transport)
{
	uint32_t set = 1u << transport;
	return transport == LINK_UCX_RDMA ? set | 1u << LINK_UCX_TCP : set;
}

static uint32_t own_ways(const struct link *link)
{
	enum link_transport transport = link->options.transport;
	uint32_t set = 0;
	if (transport == LINK_AUTO || transport == LINK_MAPPED)
		set |= 1u << LINK_MAPPED;
	if (link->ucx)
		set |= ucx_ways(ucx_transport(link->ucx));
	if (link->bulk)
		set |= 1u << (link->options.tls ? LINK_TLS : LINK_TCP);
	return set;
}

enum err link_require_check(const struct link *link, struct why *why)
{
	char wanted[LINK_WAYS_TEXT], found[LINK_WAYS_TEXT];
	uint32_t required = link->options.required, own = own_ways(link);
	if (required == 0 || (required & own) != 0)
		return ERR_OK;
	bool network_lacks = !link->ucx && required & (1u << LINK_UCX_RDMA | 1u << LINK_UCX_TCP);
	ways_text(required, wanted);
	ways_text(own, found);
	return why_set(why, ERR_UNSUPPORTED, "--require-transport %s: this node has %s%s; `baton doctor` says what is missing", wanted, found,
		       network_lacks ? ", and UCX only with --link-network DEVICE (a network that nobody else reaches)" : "");
}

enum err link_require_refuse(const struct link *link, const struct link_address *address, bool same_host, struct why *why)
{
	char wanted[LINK_WAYS_TEXT], own[LINK_WAYS_TEXT], theirs[LINK_WAYS_TEXT];
	uint32_t set = 0;
	if (same_host && address->socket_name[0])
		set |= 1u << LINK_MAPPED;
	if (address->ucx_address_length > 0)
		set |= ucx_ways((enum link_transport)address->ucx_transport);
	if (address->bulk != LINK_BULK_NONE)
		set |= 1u << (address->bulk == LINK_BULK_TLS ? LINK_TLS : LINK_TCP);
	ways_text(link->options.required, wanted);
	ways_text(own_ways(link), own);
	ways_text(set, theirs);
	return why_set(why, ERR_UNSUPPORTED, "--require-transport %s: the peer, on %s host, offers %s, this node has %s; `baton doctor` on both says what "
		       "is missing", wanted, same_host ? "this" : "another", theirs, own);
}

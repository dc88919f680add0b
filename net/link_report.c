#include "net/link_report.h"

#include <stdbool.h>
#include <string.h>

#include "net/env.h"
#include "net/session.h"

static bool is_none(const Wire__Transport *transport)
{
	return strcmp(transport->name, "refused") == 0 || strcmp(transport->name, "lost") == 0 || strcmp(transport->name, "none") == 0;
}

/* A coordinator remembers the first few: what is wrong is to be among them. */
static void put_first(struct link_report *report, size_t count)
{
	size_t at = 0;
	for (int pass = 0; pass < 2; pass++)
		for (size_t i = 0; i < count; i++)
			if (is_none(&report->list[i]) == (pass == 0))
				report->pointers[at++] = &report->list[i];
}

void link_report(const struct env *env, const struct sessions *sessions, uint64_t (*bytes)(const void *context, uint32_t peer),
		 const void *context, struct link_report *report, Wire__Load *load)
{
	size_t count = 0;
	for (uint32_t i = 0; env->link_name && count < LINK_REPORT_MAX && i < sessions_max(sessions); i++) {
		const struct session_peer *peer = sessions_peer(sessions, i);
		bool reads = peer && peer->role != WIRE__ROLE__ROLE_COORDINATOR;
		const char *name = reads ? env->link_name(env->context, peer->node) : NULL;
		if (!name)
			continue;
		Wire__Transport *transport = &report->list[count++];
		wire__transport__init(transport);
		transport->peer = (char *)peer->name;
		transport->name = (char *)name;
		transport->bytes_read = bytes(context, i);
		transport->device_bytes_read = env->link_device_bytes ? env->link_device_bytes(env->context, peer->node) : 0;
	}
	put_first(report, count);
	load->transports = report->pointers;
	load->n_transports = count;
}

#include "net/link_report.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "net/env.h"
#include "net/session.h"

static bool is_none(const char *name)
{
	return strcmp(name, ENV_LINK_REFUSED) == 0 || strcmp(name, "lost") == 0 || strcmp(name, "none") == 0;
}

static void put(struct link_report *report, size_t at, const struct session_peer *peer, const char *name, uint64_t bytes_read,
		uint64_t device_bytes_read)
{
	Wire__Transport *transport = report->pointers[at] = &report->list[at];
	wire__transport__init(transport);
	snprintf(report->names[at], sizeof(report->names[at]), "%s", name); /* the hook's text holds for a few calls only */
	transport->peer = (char *)peer->name;
	transport->name = report->names[at];
	transport->bytes_read = bytes_read;
	transport->device_bytes_read = device_bytes_read;
	transport->node = peer->node;
	transport->incarnation = peer->incarnation;
}

void link_report(const struct env *env, const struct sessions *sessions, uint64_t (*bytes)(const void *context, uint32_t peer),
		 const void *context, struct link_report *report, Wire__Load *load)
{
	size_t count = 0;
	/* Who is told of them remembers the first few: what is wrong is to be among them. */
	for (int reached = 0; env->link_name && reached < 2; reached++)
		for (uint32_t i = 0; count < LINK_REPORT_MAX && i < sessions_max(sessions); i++) {
			const struct session_peer *peer = sessions_peer(sessions, i);
			bool reads = peer && peer->role != WIRE__ROLE__ROLE_COORDINATOR;
			const char *name = reads ? env->link_name(env->context, peer->node) : NULL;
			if (name && is_none(name) == !reached)
				put(report, count++, peer, name, bytes(context, i),
				    env->link_device_bytes ? env->link_device_bytes(env->context, peer->node) : 0);
		}
	load->transports = report->pointers;
	load->n_transports = count;
	if (env->link_required)
		load->required = (char *)env->link_required(env->context);
}

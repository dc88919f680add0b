/* baton certs: a CA and certificates of nodes for laptops and tests, as `baton up --tls` makes them too.  A fleet has
 * cert-manager or SPIRE. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/options.h"
#include "net/certs.h"
#include "tools/commands.h"

enum { CERTS_OPTIONS = 6 };

struct settings {
	const char *dir, *cluster;
	struct option_list nodes, hosts;
	uint64_t valid_hours, backdate_hours;
};

/* "prefill/prefill-1" */
static enum err make_one(const struct settings *s, const char *text, struct why *why)
{
	char role[32], name[128];
	const char *slash = strchr(text, '/');
	if (!slash || (size_t)(slash - text) >= sizeof(role) || strlen(slash + 1) >= sizeof(name))
		return why_set(why, ERR_INVALID, "--node %s: expected ROLE/NAME, as prefill/prefill-1", text);
	snprintf(role, sizeof(role), "%.*s", (int)(slash - text), text);
	snprintf(name, sizeof(name), "%s", slash + 1);
	struct certs_node node = {
		.cluster = s->cluster,
		.role = role,
		.name = name,
		.hosts = s->hosts.items,
		.host_count = s->hosts.count,
		.begin_s = -(int64_t)s->backdate_hours * 3600,
		.end_s = ((int64_t)s->valid_hours - (int64_t)s->backdate_hours) * 3600,
	};
	enum err e = certs_make_node(s->dir, &node, why);
	if (e == ERR_OK)
		printf("%s/%s.pem, %s/%s.key\n", s->dir, name, s->dir, name);
	return e;
}

static enum err make_all(const struct settings *s, struct why *why)
{
	if (!s->dir)
		return why_set(why, ERR_INVALID, "--dir DIR is missing: where the files go");
	if (mkdir(s->dir, 0700) != 0 && access(s->dir, W_OK) != 0)
		return why_set(why, ERR_IO, "--dir %s cannot be written", s->dir);
	enum err e = certs_make_ca(s->dir, s->cluster, why);
	for (size_t i = 0; i < s->nodes.count && e == ERR_OK; i++)
		e = make_one(s, s->nodes.items[i], why);
	return e;
}

int command_certs(int argc, char **argv, char **environment)
{
	struct settings s = {.cluster = "default", .valid_hours = 24 * 90, .backdate_hours = 1};
	const struct option table[CERTS_OPTIONS] = {
		{"dir", OPTION_TEXT, &s.dir, 0, 0, "DIR", "of ca.pem and ca.key, made if they are not there, and the nodes' files"},
		{"cluster", OPTION_TEXT, &s.cluster, 0, 0, "NAME", "as the programs' --cluster"},
		{"node", OPTION_LIST, &s.nodes, 0, 0, "ROLE/NAME", "coordinator, prefill, decode, both, engine, kvstore or operator; several"},
		{"host", OPTION_LIST, &s.hosts, 0, 0, "HOST", "names and addresses of the API, beside localhost"},
		{"hours", OPTION_COUNT, &s.valid_hours, 1, 24 * 3650, "N", "that they are valid"},
		{"backdate-hours", OPTION_COUNT, &s.backdate_hours, 0, 24 * 3650, "N", "ago their time begins: clocks differ"},
	};
	struct options options = {.program = "baton certs", .usage = "--dir DIR [--node ROLE/NAME]…", .table = table,
				  .count = CERTS_OPTIONS, .environment = environment};
	struct why why = {0};
	enum err e = options_parse(&options, argc, argv, &why);
	if (e == ERR_OK && options.help)
		options_print_help(&options);
	else if (e == ERR_OK)
		e = make_all(&s, &why);
	if (e != ERR_OK)
		fprintf(stderr, "baton certs: %s%s%s\n", err_text(e), why.text[0] ? ": " : "", why.text);
	options_fini(&options);
	return e == ERR_OK ? 0 : 1;
}

/* baton status: the nodes of a running cluster, as a coordinator sees them. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/options.h"
#include "net/http_client.h"
#include "tools/commands.h"

enum { STATUS_OPTIONS = 5, TOPOLOGY_BYTES_MAX = 16 << 20 };

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text ? text : "";
}

static long long number_of(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static void print_models(const json_t *node)
{
	size_t i;
	json_t *model;
	json_array_foreach(json_object_get(node, "models"), i, model)
		printf("%s%s", i ? "," : "", json_string_value(model));
}

/* What carries reads from whom, and how much it was: nobody should have to guess the transport. */
static void print_transports(const json_t *node)
{
	size_t i;
	json_t *transport;
	json_array_foreach(json_object_get(node, "transports"), i, transport)
		printf("%*s%s <- %s, %.1f MiB read\n", 18, "", text_of(transport, "transport"), text_of(transport, "peer"),
		       (double)number_of(transport, "bytes_read") / (1 << 20));
}

static void print_table(const json_t *topology)
{
	size_t i;
	json_t *node;
	printf("%-16s %-12s %-9s %7s %5s %5s %19s %9s  %s\n", "NODE", "ROLE", "STATE", "PID", "JOBS", "SEQS",
	       "KV USED/TOTAL", "SESSIONS", "MODELS");
	json_array_foreach(json_object_get(topology, "nodes"), i, node)
	{
		const json_t *load = json_object_get(node, "load");
		printf("%-16s %-12s %-9s %7lld %5lld %5lld %9lld/%-9lld %9lld  ", text_of(node, "name"), text_of(node, "role"),
		       text_of(node, "state"), number_of(node, "pid"), number_of(load, "jobs"), number_of(load, "sequences"),
		       number_of(node, "kv_blocks_used"), number_of(node, "kv_blocks_total"), number_of(node, "sessions"));
		print_models(node);
		printf("\n");
		print_transports(node);
	}
}

static enum err show(const char *host, uint16_t port, const char *ca_file, const char *key, bool as_json, struct why *why)
{
	char bearer[1024];
	snprintf(bearer, sizeof(bearer), "Bearer %s", key ? key : "");
	const struct http_field fields[] = {{key ? "Authorization" : NULL, bearer}, {NULL, NULL}};
	struct http_client_request request = {.host = host, .port = port, .ca_file = ca_file, .method = "GET", .path = "/debug/topology",
					      .fields = fields, .timeout_ns = 10000000000};
	struct http_client_reply reply = {.body = {.limit = TOPOLOGY_BYTES_MAX}};
	enum err e = http_client_call(&request, &reply, why);
	if (e == ERR_OK && (reply.status == 401 || reply.status == 403))
		e = why_set(why, ERR_DENIED, "%s:%u wants an administrator's key: --admin-key", host, port);
	else if (e == ERR_OK && reply.status != 200)
		e = why_set(why, ERR_UNAVAILABLE, "%s:%u answers with status %d", host, port, reply.status);
	json_t *topology = e == ERR_OK ? json_loadb(reply.body.data, reply.body.length, 0, NULL) : NULL;
	if (e == ERR_OK && !topology)
		e = why_set(why, ERR_PROTOCOL, "%s:%u does not answer with JSON", host, port);
	if (e == ERR_OK && as_json)
		printf("%s\n", reply.body.data);
	else if (e == ERR_OK)
		print_table(topology);
	json_decref(topology);
	buf_fini(&reply.body);
	return e;
}

int command_status(int argc, char **argv, char **environment)
{
	const char *host = "127.0.0.1", *ca_file = NULL;
	uint64_t port = 8000;
	bool as_json = false;
	const char *key = NULL;
	const struct option table[STATUS_OPTIONS] = {
		{"host", OPTION_TEXT, &host, 0, 0, "HOST", "of a coordinator"},
		{"port", OPTION_COUNT, &port, 1, 65535, "PORT", "of its API"},
		{"ca-file", OPTION_TEXT, &ca_file, 0, 0, "PEM", "the API speaks TLS, with a certificate of this CA"},
		{"json", OPTION_FLAG, &as_json, 0, 0, NULL, "as JSON"},
		{"admin-key", OPTION_TEXT, &key, 0, 0, "KEY", "where the cluster wants keys"},
	};
	struct options options = {.program = "baton status", .usage = "[--port P] [--json]", .table = table,
				  .count = STATUS_OPTIONS, .environment = environment};
	struct why why = {0};
	enum err e = options_parse(&options, argc, argv, &why);
	if (e == ERR_OK && options.help)
		options_print_help(&options);
	else if (e == ERR_OK)
		e = show(host, (uint16_t)port, ca_file, key, as_json, &why);
	if (e != ERR_OK)
		fprintf(stderr, "baton status: %s%s%s\n", err_text(e), why.text[0] ? ": " : "", why.text);
	options_fini(&options);
	return e == ERR_OK ? 0 : 1;
}

/* baton doctor: what this machine has of what Baton needs, and what to do about what it lacks. */
#include "tools/doctor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/options.h"
#include "tools/commands.h"

enum { DOCTOR_OPTIONS = 6 };

struct settings {
	const char *root, *nvml, *disk, *etcd;
	struct option_list ports;
	bool json;
};

static enum err parse_ports(const struct option_list *list, uint16_t ports[DOCTOR_TRIED_PORTS_MAX], struct why *why)
{
	if (list->count > DOCTOR_TRIED_PORTS_MAX)
		return why_set(why, ERR_INVALID, "--ports: %zu of them, expected at most %d", list->count, DOCTOR_TRIED_PORTS_MAX);
	for (size_t i = 0; i < list->count; i++) {
		char *end;
		long port = strtol(list->items[i], &end, 10);
		if (end == list->items[i] || *end || port < 1 || port > 65535)
			return why_set(why, ERR_INVALID, "--ports \"%s\", expected 1 to 65535", list->items[i]);
		ports[i] = (uint16_t)port;
	}
	return ERR_OK;
}

/* A tree that is not this machine's says nothing of what this machine can do. */
static enum err examine(const struct settings *settings, char **environment, struct doctor_facts *facts, struct why *why)
{
	uint16_t ports[DOCTOR_TRIED_PORTS_MAX];
	enum err e = parse_ports(&settings->ports, ports, why);
	if (e != ERR_OK)
		return e;
	struct doctor_trials trials = {.disk = settings->disk, .etcd = settings->etcd, .ports = ports, .port_count = (uint32_t)settings->ports.count};
	doctor_read(settings->root, settings->nvml, environment, facts);
	if (settings->root[0] == 0)
		doctor_try(&trials, &facts->live);
	return ERR_OK;
}

/* ret_problems: how many. */
static enum err report(const struct settings *settings, char **environment, uint32_t *ret_problems, struct why *why)
{
	struct doctor_facts *facts = calloc(1, sizeof(*facts));
	struct doctor_findings *findings = calloc(1, sizeof(*findings));
	struct buf text = {0};
	enum err e = facts && findings ? examine(settings, environment, facts, why) : ERR_NOMEM;
	if (e == ERR_OK)
		doctor_judge(facts, findings);
	if (e == ERR_OK)
		e = settings->json ? doctor_json(facts, findings, &text) : doctor_text(facts, findings, &text);
	if (e == ERR_OK && fwrite(text.data, 1, text.length, stdout) != text.length)
		e = why_set(why, ERR_IO, "the report cannot be written: %m");
	*ret_problems = e == ERR_OK ? findings->counts[DOCTOR_PROBLEM] : 0;
	buf_fini(&text);
	free(findings);
	free(facts);
	return e;
}

int command_doctor(int argc, char **argv, char **environment)
{
	struct settings s = {.root = "", .nvml = "libnvidia-ml.so.1"};
	uint32_t problems = 0;
	const struct option table[DOCTOR_OPTIONS] = {
		{"json", OPTION_FLAG, &s.json, 0, 0, NULL, "as JSON"},
		{"disk-path", OPTION_TEXT, &s.disk, 0, 0, "DIR", "of a store: is it fit for one?"},
		{"etcd", OPTION_TEXT, &s.etcd, 0, 0, "URL", "does it answer, and does its clock agree?"},
		{"ports", OPTION_LIST, &s.ports, 0, 0, "PORT,…", "are they free?"},
		{"root", OPTION_TEXT, &s.root, 0, 0, "DIR", "read /sys, /proc and /dev below it, and try nothing"},
		{"nvml", OPTION_TEXT, &s.nvml, 0, 0, "FILE", "NVIDIA's management library"},
	};
	struct options options = {.program = "baton doctor", .usage = "[--json] [--disk-path DIR] [--etcd URL] [--ports 8000,…]", .table = table,
				  .count = DOCTOR_OPTIONS, .environment = environment};
	struct why why = {0};
	enum err e = options_parse(&options, argc, argv, &why);
	if (e == ERR_OK && options.help)
		options_print_help(&options);
	else if (e == ERR_OK)
		e = report(&s, environment, &problems, &why);
	if (e != ERR_OK)
		fprintf(stderr, "baton doctor: %s%s%s\n", err_text(e), why.text[0] ? ": " : "", why.text);
	options_fini(&options);
	return e == ERR_OK && problems == 0 ? 0 : 1;
}

/* baton: the user's tool. */
#include <stdio.h>
#include <string.h>

#include "base/options.h"
#include "tools/commands.h"

static const struct {
	const char *name;
	int (*run)(int argc, char **argv, char **environment);
	const char *help;
} commands[] = {
	{"up", command_up, "run a whole cluster on this machine"},
	{"solo", command_solo, "all roles in one process: ask a model something"},
	{"status", command_status, "the nodes of a running cluster"},
	{"doctor", command_doctor, "what this machine has of what Baton needs, and what to do about what it lacks"},
	{"kv", command_kv, "what its stores hold: stat, ls, get, pin, evict, verify, export, import"},
	{"chat", command_chat, "talk to a running cluster"},
	{"certs", command_certs, "make a CA and certificates of nodes, for TLS"},
	{"key", command_key, "make an API key and its entry"},
};

enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static void print_help(void)
{
	printf("usage: baton COMMAND [options]\n\n");
	for (int i = 0; i < COMMANDS; i++)
		printf("  %-10s %s\n", commands[i].name, commands[i].help);
	printf("\n`baton COMMAND --help` lists a command's options.\n");
}

int main(int argc, char **argv, char **environment)
{
	if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		print_help();
		return argc < 2 ? 2 : 0;
	}
	const char *names[COMMANDS];
	for (int i = 0; i < COMMANDS; i++) {
		names[i] = commands[i].name;
		if (strcmp(argv[1], names[i]) == 0)
			return commands[i].run(argc - 1, argv + 1, environment);
	}
	const char *near = options_nearest(argv[1], names, COMMANDS);
	fprintf(stderr, "baton: no command \"%s\"%s%s%s\n", argv[1], near ? "; did you mean \"" : "", near ? near : "",
		near ? "\"?" : "");
	return 2;
}

/* Any bytes as a YAML file of settings, and as flags (lines up to an empty one are arguments). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/options.h"

enum { ARGUMENTS = 12 };

static void parse(int argc, char **argv)
{
	const char *text = "default";
	uint64_t count = 5, bytes = 64;
	bool flag = false;
	struct option_list list = {0};
	const struct option table[] = {{"text", OPTION_TEXT, &text, 0, 0, "TEXT", ""},
				       {"count", OPTION_COUNT, &count, 1, 100, "N", ""},
				       {"bytes", OPTION_BYTES, &bytes, 1, 1 << 20, "BYTES", ""},
				       {"flag", OPTION_FLAG, &flag, 0, 0, NULL, ""},
				       {"list", OPTION_LIST, &list, 0, 0, "TEXT", ""}};
	struct options options = {.program = "fuzz", .table = table, .count = 5, .positional = true};
	struct why why = {0};
	enum err e = options_parse(&options, argc, argv, &why);
	if (count < 1 || count > 100 || bytes < 1 || bytes > 1 << 20 || list.count > OPTION_LIST_MAX || !text)
		abort();
	for (size_t i = 0; i < list.count; i++)
		if (strlen(list.items[i]) == 0)
			abort();
	if (e != ERR_OK && !why.text[0])
		abort();
	options_fini(&options);
}

static void parse_file(const uint8_t *data, size_t length)
{
	char path[40];
	char *argv[] = {(char *)"fuzz", (char *)"--config", path, NULL};
	int fd = memfd_create("options", 0);
	if (fd < 0 || write(fd, data, length) != (ssize_t)length)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	parse(3, argv);
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	char *text = malloc(length + 1), *argv[ARGUMENTS + 2] = {(char *)"fuzz"};
	int argc = 1;
	memcpy(text, data, length);
	text[length] = 0;
	parse_file(data, length);
	for (char *rest = text, *word; argc <= ARGUMENTS && (word = strsep(&rest, "\n"));)
		if (strncmp(word, "--config", 8) != 0)
			argv[argc++] = word;
	parse(argc, argv);
	free(text);
	return 0;
}

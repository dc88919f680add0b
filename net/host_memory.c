#include "net/host_memory.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 512, TEXT_BYTES = 8192, GROUPS_MAX = 64, MARGIN_PART = 32 };
#define MARGIN_BYTES (UINT64_C(64) << 20)

/* Of one version: where its files are, and what they are called. */
struct version {
	const char *mount;
	const char *limit, *used;
	const char *given_back; /* line of memory.stat: pages of files that nobody asked for lately */
};

static const struct version v1 = {"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "};
static const struct version v2 = {"/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file "};

/* As much as there is room for; false: no such file. */
static bool read_text(const char *path, char ret_text[TEXT_BYTES])
{
	FILE *file = fopen(path, "re");
	if (!file)
		return false;
	size_t length = fread(ret_text, 1, TEXT_BYTES - 1, file);
	ret_text[length] = 0;
	fclose(file);
	return true;
}

/* "max", or nothing that is a number: UINT64_MAX. */
static uint64_t number_of(const char *text)
{
	char *end;
	errno = 0;
	uint64_t value = strtoull(text, &end, 10);
	return end == text || errno != 0 ? UINT64_MAX : value;
}

/* The number behind a line's name. */
static uint64_t line_of(const char *text, const char *name)
{
	size_t length = strlen(name);
	for (const char *at = text; at; at = strchr(at, '\n')) {
		at += *at == '\n';
		if (strncmp(at, name, length) == 0)
			return number_of(at + length);
	}
	return UINT64_MAX;
}

static bool read_number(const char *folder, const char *name, uint64_t *ret_value)
{
	char path[PATH_BYTES + 64], text[TEXT_BYTES];
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	if (!read_text(path, text))
		return false;
	*ret_value = number_of(text);
	return true;
}

static void note(struct host_memory *memory, uint64_t available, const char *what, const char *where)
{
	if (available >= memory->available)
		return;
	memory->available = available;
	snprintf(memory->bounded_by, sizeof(memory->bounded_by), "%s of %.150s", what, where);
}

static void read_group(const struct version *version, const char *root, const char *group, struct host_memory *memory)
{
	char folder[PATH_BYTES], path[PATH_BYTES + 64], text[TEXT_BYTES];
	uint64_t limit, used, given_back = UINT64_MAX;
	if (snprintf(folder, sizeof(folder), "%s%s%s", root, version->mount, group) >= (int)sizeof(folder))
		return;
	if (!read_number(folder, version->limit, &limit) || !read_number(folder, version->used, &used) || limit == UINT64_MAX)
		return;
	snprintf(path, sizeof(path), "%s/memory.stat", folder);
	if (read_text(path, text))
		given_back = line_of(text, version->given_back);
	if (given_back != UINT64_MAX)
		used -= given_back < used ? given_back : used;
	note(memory, used < limit ? limit - used : 0, version->limit, group[0] ? group : "/");
}

/* From the group up; within a container the path may be another one than what is mounted, which the topmost is then. */
static void read_groups(const struct version *version, const char *root, const char *first, struct host_memory *memory)
{
	char group[PATH_BYTES];
	snprintf(group, sizeof(group), "%s", first);
	for (int i = 0; i < GROUPS_MAX; i++) {
		size_t length = strlen(group);
		if (length > 0 && group[length - 1] == '/')
			group[length - 1] = 0;
		read_group(version, root, group, memory);
		char *slash = strrchr(group, '/');
		if (!slash)
			return;
		*slash = 0;
	}
}

/* "0::/path" is of v2, "9:cpu,memory:/path" of v1. */
static void read_line(const char *root, const char *line, struct host_memory *memory)
{
	const char *controllers = strchr(line, ':');
	const char *group = controllers ? strchr(controllers + 1, ':') : NULL;
	if (!group)
		return;
	char text[PATH_BYTES];
	snprintf(text, sizeof(text), ",%.*s,", (int)(group - controllers - 1), controllers + 1);
	if (group == controllers + 1)
		read_groups(&v2, root, group + 1, memory);
	else if (strstr(text, ",memory,"))
		read_groups(&v1, root, group + 1, memory);
}

void host_memory_read(const char *root, struct host_memory *ret_memory)
{
	char path[PATH_BYTES], text[TEXT_BYTES], *rest = text;
	struct host_memory memory = {.available = UINT64_MAX, .bounded_by = "nothing known"};
	snprintf(path, sizeof(path), "%s/proc/meminfo", root);
	uint64_t kib = read_text(path, text) ? line_of(text, "MemAvailable:") : UINT64_MAX;
	if (kib < UINT64_MAX / 1024)
		note(&memory, kib * 1024, "MemAvailable", "the machine");
	snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
	if (read_text(path, text))
		for (char *line; (line = strsep(&rest, "\n"));)
			read_line(root, line, &memory);
	*ret_memory = memory;
}

uint64_t host_memory_most(const struct host_memory *memory)
{
	if (memory->available == UINT64_MAX)
		return UINT64_MAX;
	uint64_t left = memory->available > MARGIN_BYTES ? memory->available - MARGIN_BYTES : 0;
	return left / (MARGIN_PART + 1) * MARGIN_PART;
}

enum err host_memory_check(const struct host_memory *memory, uint64_t bytes, const char *option, struct why *why)
{
	uint64_t most = host_memory_most(memory);
	if (bytes <= most)
		return ERR_OK;
	return why_set(why, ERR_NOMEM, "%s asks for %llu MiB of the host's memory, expected at most %llu MiB: %llu MiB are left by %s, of which 1/%d and "
		       "%llu MiB stay free", option, (unsigned long long)bytes >> 20, (unsigned long long)most >> 20,
		       (unsigned long long)memory->available >> 20, memory->bounded_by, MARGIN_PART + 1, (unsigned long long)MARGIN_BYTES >> 20);
}

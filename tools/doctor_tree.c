/* Small files, links and folders below a root. */
#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/doctor_impl.h"

static bool path_of(const char *root, char path[TREE_PATH_MAX], const char *format, va_list args)
{
	int at = snprintf(path, TREE_PATH_MAX, "%s", root);
	if (at < 0 || at >= TREE_PATH_MAX)
		return false;
	int more = vsnprintf(path + at, (size_t)(TREE_PATH_MAX - at), format, args);
	return more >= 0 && at + more < TREE_PATH_MAX;
}

static size_t read_file(const char *path, void *ret_bytes, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	size_t length = 0;
	if (fd < 0)
		return 0;
	while (length < size) {
		ssize_t n = read(fd, (char *)ret_bytes + length, size - length);
		if (n <= 0)
			break;
		length += (size_t)n;
	}
	close(fd);
	return length;
}

/* Not printable: not to be shown on somebody's terminal. */
static void make_text(char *text, size_t length)
{
	text[length] = 0;
	for (char *c = text; *c; c++)
		if ((unsigned char)*c < ' ' && *c != '\n' && *c != '\t')
			*c = '?';
	for (length = strlen(text); length > 0 && strchr(" \n\t", text[length - 1]); length--)
		text[length - 1] = 0;
}

bool tree_text(const char *root, char *ret_text, size_t size, const char *format, ...)
{
	char path[TREE_PATH_MAX];
	va_list args;
	va_start(args, format);
	bool fits = path_of(root, path, format, args);
	va_end(args);
	size_t length = fits ? read_file(path, ret_text, size - 1) : 0;
	make_text(ret_text, length);
	return length > 0;
}

size_t tree_bytes(const char *root, void *ret_bytes, size_t size, const char *format, ...)
{
	char path[TREE_PATH_MAX];
	va_list args;
	va_start(args, format);
	bool fits = path_of(root, path, format, args);
	va_end(args);
	return fits ? read_file(path, ret_bytes, size) : 0;
}

int64_t tree_number(const char *root, int64_t otherwise, const char *format, ...)
{
	char path[TREE_PATH_MAX], text[32];
	va_list args;
	va_start(args, format);
	bool fits = path_of(root, path, format, args);
	va_end(args);
	size_t length = fits ? read_file(path, text, sizeof(text) - 1) : 0;
	text[length] = 0;
	char *end = text;
	long long number = strtoll(text, &end, 0);
	return end == text ? otherwise : number;
}

bool tree_exists(const char *root, const char *format, ...)
{
	char path[TREE_PATH_MAX];
	va_list args;
	va_start(args, format);
	bool fits = path_of(root, path, format, args);
	va_end(args);
	return fits && access(path, F_OK) == 0;
}

static int compare_names(const void *a, const void *b)
{
	return strverscmp(a, b);
}

void tree_list(const char *root, struct tree_names *ret_names, const char *format, ...)
{
	char path[TREE_PATH_MAX];
	va_list args;
	va_start(args, format);
	bool fits = path_of(root, path, format, args);
	va_end(args);
	ret_names->count = 0;
	DIR *folder = fits ? opendir(path) : NULL;
	for (struct dirent *entry; folder && (entry = readdir(folder));) {
		if (entry->d_name[0] == '.' || strlen(entry->d_name) >= sizeof(ret_names->names[0]) || ret_names->count == TREE_NAMES_MAX)
			continue;
		strcpy(ret_names->names[ret_names->count++], entry->d_name);
	}
	if (folder)
		closedir(folder);
	qsort(ret_names->names, ret_names->count, sizeof(ret_names->names[0]), compare_names);
}

bool tree_link(const char *root, char *ret_text, size_t size, const char *format, ...)
{
	char path[TREE_PATH_MAX];
	va_list args;
	va_start(args, format);
	bool fits = path_of(root, path, format, args);
	va_end(args);
	ssize_t length = fits ? readlink(path, ret_text, size - 1) : -1;
	make_text(ret_text, length > 0 ? (size_t)length : 0);
	return length > 0;
}

/* Runs a fuzz target over files and over the files of folders: what the fuzzer found once stays found, with any
 * compiler. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

static int one(const char *path)
{
	static uint8_t data[1 << 20];
	FILE *file = fopen(path, "rb");
	if (!file)
		return -1;
	size_t length = fread(data, 1, sizeof(data), file);
	fclose(file);
	uint8_t *exact = malloc(length ? length : 1); /* so that a sanitizer sees its end */
	for (size_t i = 0; i < length; i++)
		exact[i] = data[i];
	LLVMFuzzerTestOneInput(exact, length);
	free(exact);
	return 0;
}

static int folder(const char *path, unsigned *count)
{
	char name[1024];
	DIR *dir = opendir(path);
	if (!dir)
		return -1;
	for (struct dirent *entry; (entry = readdir(dir));) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		fprintf(stderr, "%s\n", entry->d_name);
		if (one(name) == 0)
			++*count;
	}
	closedir(dir);
	return 0;
}

int main(int argc, char **argv)
{
	unsigned count = 0;
	for (int i = 1; i < argc; i++)
		if (folder(argv[i], &count) != 0 && one(argv[i]) == 0)
			count++;
	printf("%u inputs\n", count);
	return count ? 0 : 1;
}

#include "net/rails.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INFINIBAND "/sys/class/infiniband"

enum { PATH_BYTES = 512, ENTRIES_MAX = 4096 };

static const char NAME_CHARACTERS[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:@";

static bool has(const struct rails *rails, const char *name)
{
	for (uint32_t i = 0; i < rails->count; i++)
		if (strcmp(rails->names[i], name) == 0)
			return true;
	return false;
}

enum err rails_parse(const char *list, struct rails *ret_rails, struct why *why)
{
	struct rails rails = {0};
	for (const char *at = list;; at++) {
		size_t length = strcspn(at, ",");
		char name[RAIL_NAME_MAX + 1] = "";
		if (length == 0 || length > RAIL_NAME_MAX || strspn(at, NAME_CHARACTERS) < length)
			return why_set(why, ERR_INVALID, "\"%.64s\", expected names of devices of 1 to %d characters with commas between them", at,
				       RAIL_NAME_MAX);
		memcpy(name, at, length);
		if (has(&rails, name))
			return why_set(why, ERR_INVALID, "%s twice", name);
		if (rails.count == RAILS_MAX)
			return why_set(why, ERR_INVALID, "more than %d devices", RAILS_MAX);
		memcpy(rails.names[rails.count++], name, sizeof(name));
		at += length;
		if (!*at)
			break;
	}
	*ret_rails = rails;
	return ERR_OK;
}

/* ---- ports of NICs ---- */

struct port {
	char name[RAIL_NAME_MAX + 1]; /* "mlx5_0:1" */
	char net[RAIL_NAME_MAX + 1];  /* of its first GID; "": none */
};

/* One line of a small file, "" where it cannot be read. */
static void read_line(const char *path, char *ret_text, size_t size)
{
	ret_text[0] = 0;
	FILE *file = fopen(path, "re");
	if (!file)
		return;
	if (!fgets(ret_text, (int)size, file))
		ret_text[0] = 0;
	fclose(file);
	ret_text[strcspn(ret_text, "\n")] = 0;
}

/* Names in a folder, one a call; those that begin with a dot are left out. */
static const char *next_name(DIR *folder, int *entries)
{
	for (struct dirent *entry; folder && (*entries)++ < ENTRIES_MAX && (entry = readdir(folder)) != NULL;)
		if (entry->d_name[0] != '.')
			return entry->d_name;
	return NULL;
}

/* Is one of the port's GIDs that of the network device?  A VLAN's are among its NIC's. */
static bool carries(const char *port_path, const char *net)
{
	char path[PATH_BYTES], text[RAIL_NAME_MAX + 1];
	bool found = false;
	int entries = 0;
	snprintf(path, sizeof(path), "%.300s/gid_attrs/ndevs", port_path);
	DIR *folder = opendir(path);
	for (const char *name; !found && (name = next_name(folder, &entries)) != NULL;) {
		snprintf(path, sizeof(path), "%.300s/gid_attrs/ndevs/%.64s", port_path, name);
		read_line(path, text, sizeof(text));
		found = strcmp(text, net) == 0;
	}
	if (folder)
		closedir(folder);
	return found;
}

/* A device that is named with or without its port, or by its network device. */
static bool is_of(const char *device, const char *number, const char *port_path, const char *rail, struct port *ret_port)
{
	char path[PATH_BYTES];
	snprintf(ret_port->name, sizeof(ret_port->name), "%.40s:%.16s", device, number);
	snprintf(path, sizeof(path), "%.300s/gid_attrs/ndevs/0", port_path);
	read_line(path, ret_port->net, sizeof(ret_port->net));
	return strcmp(ret_port->name, rail) == 0 || strcmp(device, rail) == 0 || strcmp(ret_port->net, rail) == 0 || carries(port_path, rail);
}

static bool find_in_device(const char *root, const char *device, const char *rail, struct port *ret_port)
{
	char path[PATH_BYTES];
	bool found = false;
	int entries = 0;
	snprintf(path, sizeof(path), "%.200s" INFINIBAND "/%.64s/ports", root, device);
	DIR *folder = opendir(path);
	for (const char *number; !found && (number = next_name(folder, &entries)) != NULL;) {
		snprintf(path, sizeof(path), "%.200s" INFINIBAND "/%.64s/ports/%.16s", root, device, number);
		found = is_of(device, number, path, rail, ret_port);
	}
	if (folder)
		closedir(folder);
	return found;
}

static bool find_port(const char *root, const char *rail, struct port *ret_port)
{
	char path[PATH_BYTES];
	bool found = false;
	int entries = 0;
	snprintf(path, sizeof(path), "%.200s" INFINIBAND, root);
	DIR *folder = opendir(path);
	for (const char *device; !found && (device = next_name(folder, &entries)) != NULL;)
		found = find_in_device(root, device, rail, ret_port);
	if (folder)
		closedir(folder);
	return found;
}

enum err rails_rdma(const struct rails *rails, const char *root, char ret_text[RAILS_TEXT], uint32_t *ret_ports, struct why *why)
{
	char text[RAILS_TEXT];
	struct rails seen = {0};
	int at = 0;
	for (uint32_t i = 0; i < rails->count; i++) {
		struct port port;
		if (!find_port(root, rails->names[i], &port))
			return why_set(why, ERR_NOT_FOUND, "no port of a NIC belongs to %s", rails->names[i]);
		if (has(&seen, port.name))
			continue;
		memcpy(seen.names[seen.count++], port.name, sizeof(port.name));
		/* Who names a port means its network device too; who names a VLAN means that alone. */
		const char *net = strchr(rails->names[i], ':') || strncmp(port.name, rails->names[i], strlen(rails->names[i])) == 0 ? port.net
																	  : rails->names[i];
		at += snprintf(text + at, sizeof(text) - (size_t)at, "%s%s%s%s", at ? "," : "", port.name, net[0] ? "," : "", net);
	}
	memcpy(ret_text, text, sizeof(text));
	*ret_ports = seen.count;
	return ERR_OK;
}

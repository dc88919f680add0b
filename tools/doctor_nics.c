/* NICs: ports that do RDMA with their addresses (GIDs), and network devices. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "tools/doctor_impl.h"

#define PORT "/sys/class/infiniband/%s/ports/%u"

enum { GID_TEXT = 39 };

/* "0000:…:0000:ffff:0a00:0001" carries an IPv4 address; "fe80:…" is link-local. */
static void note_gid(struct doctor_port *port, uint32_t index, const char *gid, bool v2)
{
	static const char v4[] = "0000:0000:0000:0000:0000:ffff:";
	int *first = strncmp(gid, v4, strlen(v4)) == 0 ? &port->gid_v4 : strncmp(gid, "fe80", 4) == 0 ? &port->gid_local : &port->gid_v6;
	port->gid_count++;
	port->gid_any[index / 8] |= (uint8_t)(1 << index % 8);
	if (!v2)
		return;
	port->gid_v2[index / 8] |= (uint8_t)(1 << index % 8);
	if (*first < 0)
		*first = (int)index;
}

static void read_gids(const char *root, struct doctor_port *port)
{
	struct tree_names gids;
	char gid[64], type[32];
	tree_list(root, &gids, PORT "/gids", port->device, port->number);
	for (size_t i = 0; i < gids.count; i++) {
		unsigned index;
		int end = 0;
		if (sscanf(gids.names[i], "%u%n", &index, &end) != 1 || gids.names[i][end] != 0 || index >= DOCTOR_GIDS_MAX)
			continue;
		tree_text(root, gid, sizeof(gid), PORT "/gids/%u", port->device, port->number, index);
		if (strlen(gid) != GID_TEXT || strspn(gid, "0:") == GID_TEXT)
			continue; /* an empty place */
		tree_text(root, type, sizeof(type), PORT "/gid_attrs/types/%u", port->device, port->number, index);
		note_gid(port, index, gid, strcmp(type, "RoCE v2") == 0);
	}
}

/* "4: ACTIVE" */
static void read_state(const char *root, struct doctor_port *port)
{
	char text[64];
	tree_text(root, text, sizeof(text), PORT "/state", port->device, port->number);
	const char *name = strchr(text, ':');
	snprintf(port->state, sizeof(port->state), "%.*s", (int)sizeof(port->state) - 1, name ? name + 1 + strspn(name + 1, " ") : "?");
	port->active = strcmp(port->state, "ACTIVE") == 0;
	tree_text(root, text, sizeof(text), PORT "/link_layer", port->device, port->number);
	port->ethernet = strcmp(text, "Ethernet") == 0;
	/* "400 Gb/sec (4X NDR)" */
	int64_t rate = tree_number(root, 0, PORT "/rate", port->device, port->number);
	port->gbits = rate > 0 && rate < 100000 ? (uint32_t)rate : 0;
}

static void add_port(const char *root, const char *device, uint32_t number, struct doctor_facts *facts)
{
	if (facts->port_count == DOCTOR_PORTS_MAX) {
		facts->left_out++;
		return;
	}
	char path[TREE_PATH_MAX];
	struct doctor_port *port = &facts->ports[facts->port_count++];
	*port = (struct doctor_port){.number = number, .gid_v4 = -1, .gid_v6 = -1, .gid_local = -1};
	snprintf(port->device, sizeof(port->device), "%.*s", (int)sizeof(port->device) - 1, device);
	snprintf(path, sizeof(path), "/sys/class/infiniband/%s", device);
	doctor_read_device(root, path, &port->pci);
	read_state(root, port);
	read_gids(root, port);
	tree_text(root, port->net, sizeof(port->net), PORT "/gid_attrs/ndevs/0", port->device, port->number);
}

void doctor_read_ports(const char *root, struct doctor_facts *facts)
{
	struct tree_names devices, ports;
	tree_list(root, &devices, "/sys/class/infiniband");
	for (size_t i = 0; i < devices.count; i++) {
		tree_list(root, &ports, "/sys/class/infiniband/%s/ports", devices.names[i]);
		for (size_t k = 0; k < ports.count; k++) {
			unsigned number;
			if (strlen(devices.names[i]) < sizeof(facts->ports[0].device) && sscanf(ports.names[k], "%u", &number) == 1)
				add_port(root, devices.names[i], number, facts);
		}
	}
}

static void read_net(const char *root, const char *name, struct doctor_net *net)
{
	char path[TREE_PATH_MAX], state[32];
	*net = (struct doctor_net){0};
	snprintf(net->name, sizeof(net->name), "%.*s", (int)sizeof(net->name) - 1, name);
	snprintf(path, sizeof(path), "/sys/class/net/%s", name);
	net->physical = tree_exists(root, "%s/device", path);
	doctor_read_device(root, path, &net->pci);
	tree_text(root, state, sizeof(state), "%s/operstate", path);
	net->up = strcmp(state, "up") == 0;
	int64_t speed = tree_number(root, 0, "%s/speed", path), mtu = tree_number(root, 0, "%s/mtu", path);
	net->mbits = speed > 0 && speed < 100000000 ? (uint32_t)speed : 0;
	net->mtu = mtu > 0 && mtu < 1 << 24 ? (uint32_t)mtu : 0;
}

/* A host has its containers' ends too, by the hundred: there devices and bonds count.  A container has nothing else. */
void doctor_read_nets(const char *root, struct doctor_facts *facts)
{
	struct tree_names names;
	bool physical = false;
	tree_list(root, &names, "/sys/class/net");
	for (size_t i = 0; i < names.count; i++)
		physical |= tree_exists(root, "/sys/class/net/%s/device", names.names[i]);
	for (size_t i = 0; i < names.count; i++) {
		struct doctor_net net;
		read_net(root, names.names[i], &net);
		if (!net.physical && !(net.up && (!physical || tree_exists(root, "/sys/class/net/%s/bonding", names.names[i]))))
			continue;
		if (facts->net_count == DOCTOR_NETS_MAX)
			facts->left_out++;
		else
			facts->nets[facts->net_count++] = net;
	}
}

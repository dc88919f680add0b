/* Devices on PCI Express: what is above them, how fast they are joined, and how far two of them are from each other. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/doctor_impl.h"

#define DEVICES "/sys/bus/pci/devices/%s"

enum { CONFIG_BYTES = 4096, EXTENDED_AT = 0x100, EXTENDED_ACS = 0x0d, EXTENDED_MAX = 64, ACS_CONTROL_AT = 6 };
/* Requests and completions between neighbours go up to the root. */
enum { ACS_REDIRECT = 0x04 | 0x08 };

/* "0000:19:00.0" */
static bool is_address(const char *text)
{
	unsigned domain, bus, device, function;
	int end = 0;
	return strlen(text) < DOCTOR_ADDRESS_BYTES && sscanf(text, "%x:%x:%x.%x%n", &domain, &bus, &device, &function, &end) == 4 &&
	       text[end] == 0;
}

/* "../../../devices/pci0000:15/0000:15:01.0/0000:19:00.0" */
static void read_way(const char *root, struct doctor_pci *pci)
{
	char link[TREE_PATH_MAX];
	if (!tree_link(root, link, sizeof(link), DEVICES, pci->address))
		return;
	char *at = strstr(link, "devices/"), *rest = NULL;
	for (char *part = at ? strtok_r(at + strlen("devices/"), "/", &rest) : NULL; part; part = strtok_r(NULL, "/", &rest)) {
		if (pci->way_count == DOCTOR_WAY_MAX || strlen(part) >= DOCTOR_ADDRESS_BYTES)
			break;
		strcpy(pci->way[pci->way_count++], part);
	}
	/* Deeper than we look, or not as expected: then nothing is known of where it is. */
	if (pci->way_count < 2 || strcmp(pci->way[pci->way_count - 1], pci->address) != 0)
		pci->way_count = 0;
}

/* "32.0 GT/s PCIe" in tenths; "Unknown": 0 */
static uint32_t speed_of(const char *root, const char *address, const char *file)
{
	char text[64];
	tree_text(root, text, sizeof(text), DEVICES "/%s", address, file);
	double speed = strtod(text, NULL);
	return speed > 0 && speed < 10000 ? (uint32_t)(speed * 10 + 0.5) : 0;
}

static uint32_t width_of(const char *root, const char *address, const char *file)
{
	int64_t width = tree_number(root, 0, DEVICES "/%s", address, file);
	return width > 0 && width <= 32 ? (uint32_t)width : 0;
}

static uint32_t lesser(uint32_t a, uint32_t b)
{
	return a == 0 || (b != 0 && b < a) ? b : a;
}

/* What both ends could do: a device cannot be faster than the port it is put into. */
static void read_speed(const char *root, struct doctor_pci *pci)
{
	pci->speed = speed_of(root, pci->address, "current_link_speed");
	pci->width = width_of(root, pci->address, "current_link_width");
	pci->speed_max = speed_of(root, pci->address, "max_link_speed");
	pci->width_max = width_of(root, pci->address, "max_link_width");
	if (pci->way_count < 3)
		return;
	const char *above = pci->way[pci->way_count - 2];
	pci->speed_max = lesser(pci->speed_max, speed_of(root, above, "max_link_speed"));
}

/* The control word of Access Control Services; -1: not to be read (that takes root), 0 where there is none. */
static int acs_of(const char *root, const char *address)
{
	uint8_t config[CONFIG_BYTES];
	size_t length = tree_bytes(root, config, sizeof(config), DEVICES "/config", address);
	if (length < EXTENDED_AT + 4)
		return -1;
	size_t at = EXTENDED_AT;
	for (int i = 0; i < EXTENDED_MAX && at >= EXTENDED_AT && at + 8 <= length; i++) {
		uint32_t id = config[at] | config[at + 1] << 8;
		if (id == EXTENDED_ACS)
			return config[at + ACS_CONTROL_AT] | config[at + ACS_CONTROL_AT + 1] << 8;
		at = (config[at + 2] | config[at + 3] << 8) >> 4 & ~3u;
	}
	return 0;
}

/* Bridges below the root's port are those of a switch. */
static void read_redirect(const char *root, struct doctor_pci *pci)
{
	for (uint32_t i = 2; i + 1 < pci->way_count && pci->redirected != DOCTOR_YES; i++) {
		int control = acs_of(root, pci->way[i]);
		if (control < 0) {
			pci->redirected = DOCTOR_UNKNOWN;
			return;
		}
		pci->redirected = control & ACS_REDIRECT ? DOCTOR_YES : DOCTOR_NO;
		snprintf(pci->redirector, sizeof(pci->redirector), "%s", control & ACS_REDIRECT ? pci->way[i] : "");
	}
}

void doctor_read_pci(const char *root, const char *address, struct doctor_pci *ret_pci)
{
	char type[32];
	*ret_pci = (struct doctor_pci){.numa = -1};
	if (!is_address(address))
		return;
	snprintf(ret_pci->address, sizeof(ret_pci->address), "%s", address);
	if (!tree_exists(root, DEVICES, address))
		return;
	read_way(root, ret_pci);
	read_speed(root, ret_pci);
	read_redirect(root, ret_pci);
	int64_t numa = tree_number(root, -1, DEVICES "/numa_node", address);
	ret_pci->numa = numa >= 0 && numa < 4096 ? (int)numa : -1;
	if (tree_text(root, type, sizeof(type), DEVICES "/iommu_group/type", address))
		ret_pci->translated = strncmp(type, "DMA", 3) == 0 ? DOCTOR_YES : DOCTOR_NO;
}

void doctor_read_device(const char *root, const char *class_path, struct doctor_pci *ret_pci)
{
	char link[TREE_PATH_MAX];
	bool there = tree_link(root, link, sizeof(link), "%s/device", class_path);
	const char *name = there ? strrchr(link, '/') : NULL;
	doctor_read_pci(root, name ? name + 1 : link, ret_pci);
}

/* PIX: below one switch.  PXB: through several.  PHB: through the root.  NODE, SYS: from one root to another. */
uint32_t doctor_distance_rank(const struct doctor_pci *a, const struct doctor_pci *b)
{
	uint32_t shared = 0;
	if (a->way_count == 0 || b->way_count == 0)
		return 5;
	while (shared < a->way_count && shared < b->way_count && strcmp(a->way[shared], b->way[shared]) == 0)
		shared++;
	if (shared == 0)
		return a->numa == b->numa ? 3 : 4;
	if (shared == 1)
		return 2;
	return a->way_count <= shared + 2 && b->way_count <= shared + 2 ? 0 : 1;
}

const char *doctor_distance(const struct doctor_pci *a, const struct doctor_pci *b)
{
	static const char *const names[] = {"PIX", "PXB", "PHB", "NODE", "SYS", "?"};
	return names[doctor_distance_rank(a, b)];
}

const struct doctor_port *doctor_nearest(const struct doctor_facts *facts, const struct doctor_gpu *gpu)
{
	const struct doctor_port *best = NULL;
	uint32_t best_rank = 0;
	for (uint32_t i = 0; i < facts->port_count; i++) {
		const struct doctor_port *port = &facts->ports[i];
		uint32_t rank = doctor_distance_rank(&gpu->pci, &port->pci);
		if (!port->active || (best && rank >= best_rank))
			continue;
		best = port;
		best_rank = rank;
	}
	return best;
}

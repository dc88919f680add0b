/* NICs that do RDMA: nodes of the kernel, state, addresses, bus, locked memory. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/doctor_judge_impl.h"

enum { ROCE_HEADERS = 104, ROCE_MTU_MIN = 4096 + ROCE_HEADERS };

static const char WHY_RDMA[] = "RDMA is not possible, and a link falls back to TCP (or is refused: --require-transport rdma)";
static const char WHY_GID[] = "RoCE v1 is not routed and most switches drop it: connections between hosts time out";
static const char WHY_SLOW[] = "KV of a prompt is read over it while the prompt is computed: a slow port shows in the time to the first token";

static void judge_state(const struct doctor_port *port, const char *about, struct doctor_findings *findings)
{
	const struct doctor_pci *pci = &port->pci;
	if (!port->active)
		doctor_todo(doctor_found(findings, DOCTOR_WARNING, about, WHY_RDMA, "it is %s", port->state),
			    port->ethernet ? "ip link set %s up; then look at cable and switch" : "look at cable and subnet manager: ibstat %s",
			    port->ethernet && port->net[0] ? port->net : port->device);
	if (pci->width > 0 && pci->width < pci->width_max)
		doctor_todo(doctor_found(findings, DOCTOR_WARNING, about, WHY_SLOW, "PCI Express has x%u of x%u lanes", pci->width, pci->width_max),
			    "reseat the card, or put it into a slot of x%u; then: lspci -vvs %s | grep LnkSta", pci->width_max, pci->address);
	else if (pci->speed > 0 && pci->speed < pci->speed_max)
		doctor_todo(doctor_found(findings, DOCTOR_WARNING, about, WHY_SLOW, "PCI Express runs at %u.%u of %u.%u GT/s", pci->speed / 10,
					 pci->speed % 10, pci->speed_max / 10, pci->speed_max % 10),
			    "reseat the card; look at the slot's speed in the BIOS; then: lspci -vvs %s | grep LnkSta", pci->address);
}

/* What UCX_IB_GID_INDEX says; -1: nothing, or "auto". */
static int forced_gid(const struct doctor_facts *facts)
{
	static const char name[] = "UCX_IB_GID_INDEX=";
	for (uint32_t i = 0; i < facts->setting_count; i++) {
		const char *value = facts->settings[i] + strlen(name);
		char *end;
		if (strncmp(facts->settings[i], name, strlen(name)) != 0)
			continue;
		long index = strtol(value, &end, 10);
		return end != value && *end == 0 && index >= 0 && index < DOCTOR_GIDS_MAX ? (int)index : -1;
	}
	return -1;
}

/* A packet of RoCE is 256 to 4096 bytes, a power of two, and its headers. */
static uint32_t roce_bytes(uint32_t mtu)
{
	uint32_t bytes = 4096;
	while (bytes > 256 && bytes + ROCE_HEADERS > mtu)
		bytes /= 2;
	return bytes;
}

static int best_gid(const struct doctor_port *port)
{
	return port->gid_v4 >= 0 ? port->gid_v4 : port->gid_v6 >= 0 ? port->gid_v6 : port->gid_local;
}

static void judge_forced(const struct doctor_port *port, const char *about, int index, struct doctor_findings *findings)
{
	bool there = port->gid_any[index / 8] >> index % 8 & 1, v2 = port->gid_v2[index / 8] >> index % 8 & 1;
	if (v2)
		return;
	struct doctor_finding *finding = doctor_found(findings, DOCTOR_PROBLEM, about, WHY_GID, "UCX_IB_GID_INDEX=%d: GID %d is %s", index, index,
						      there ? "RoCE v1" : "empty");
	if (best_gid(port) >= 0)
		doctor_todo(finding, "unset UCX_IB_GID_INDEX (UCX then finds one itself), or UCX_IB_GID_INDEX=%d", best_gid(port));
	else
		doctor_todo(finding, "unset UCX_IB_GID_INDEX (UCX then finds one itself)");
}

static void judge_gid(const struct doctor_facts *facts, const struct doctor_port *port, const char *about,
		      struct doctor_findings *findings)
{
	const char *net = port->net[0] ? port->net : "its network device";
	int forced = forced_gid(facts);
	if (!port->active || !port->ethernet)
		return;
	if (forced >= 0)
		judge_forced(port, about, forced, findings);
	if (best_gid(port) < 0)
		doctor_todo(doctor_found(findings, DOCTOR_PROBLEM, about, WHY_GID, "it has %u GIDs, and none is RoCE v2", port->gid_count),
			    "give %s an address (ip addr add …); in a pod the GID of its own network namespace is needed", net);
	else if (port->gid_v4 < 0 && port->gid_v6 < 0)
		doctor_todo(doctor_found(findings, DOCTOR_WARNING, about, "hosts beyond a router cannot be reached so", "its only RoCE v2 GIDs are link-local (GID %d)",
					 port->gid_local),
			    "give %s an IPv4 address: ip addr add …", net);
	for (uint32_t i = 0; i < facts->net_count; i++)
		if (strcmp(facts->nets[i].name, port->net) == 0 && facts->nets[i].mtu < ROCE_MTU_MIN)
			doctor_todo(doctor_found(findings, DOCTOR_WARNING, about, WHY_SLOW, "MTU of %s is %u, so RoCE's packets have %u bytes",
						 port->net, facts->nets[i].mtu, roce_bytes(facts->nets[i].mtu)),
				    "ip link set %s mtu 9000, and the same on the switches", port->net);
}

static void judge_lock(const struct doctor_facts *facts, struct doctor_findings *findings)
{
	if (!facts->has_lock_bytes || facts->lock_bytes == UINT64_MAX || facts->may_lock)
		return;
	doctor_todo(doctor_found(findings, DOCTOR_PROBLEM, "locked memory", "UCX registers all of --kv-bytes with the NIC, which locks it: a node does not start",
				 "its limit is %llu KiB", (unsigned long long)facts->lock_bytes >> 10),
		    "%s", facts->container ? "in a pod: securityContext.capabilities.add: [IPC_LOCK]; with docker: --ulimit memlock=-1; "
					     "for containerd itself: LimitMEMLOCK=infinity"
					   : "LimitMEMLOCK=infinity in the unit, or `* - memlock unlimited` in /etc/security/limits.conf");
}

void doctor_judge_nics(const struct doctor_facts *facts, struct doctor_findings *findings)
{
	uint32_t before = findings->count, active = doctor_active_ports(facts);
	char about[64];
	if (facts->port_count == 0) {
		doctor_todo(doctor_found(findings, DOCTOR_NOTE, "nics", "KV goes between hosts over TCP, which costs both a core for every few GB/s", "none does RDMA"),
			    "nothing, if there is none: lspci | grep -i -e mellanox -e infiniband; else modprobe mlx5_ib");
		return;
	}
	if (!facts->infiniband_nodes)
		doctor_todo(doctor_found(findings, DOCTOR_PROBLEM, "nics", WHY_RDMA, "/dev/infiniband/uverbs* is not there"),
			    "%s", facts->container ? "in a pod: resources.limits of your RDMA device plugin (rdma/hca: 1); with docker: "
						     "--device=/dev/infiniband" : "modprobe ib_uverbs");
	for (uint32_t i = 0; i < facts->port_count; i++) {
		const struct doctor_port *port = &facts->ports[i];
		snprintf(about, sizeof(about), "%s port %u", port->device, port->number);
		judge_state(port, about, findings);
		judge_gid(facts, port, about, findings);
	}
	judge_lock(facts, findings);
	if (findings->count == before)
		doctor_found(findings, DOCTOR_OK, "nics", NULL, "%u of %u ports are up, at full width and speed", active,
			     facts->port_count);
}

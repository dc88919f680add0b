/* The report as text: what there is, in tables, then the findings. */
#include <stdio.h>
#include <string.h>

#include "tools/doctor.h"

/* Appends; the first failure stays. */
#define PUT(...)                                              \
	do {                                                  \
		if (e == ERR_OK)                              \
			e = buf_printf(text, __VA_ARGS__);    \
	} while (0)

static void pci_text(const struct doctor_pci *pci, char *ret_text, size_t size)
{
	if (pci->speed == 0)
		snprintf(ret_text, size, "-");
	else
		snprintf(ret_text, size, "%u.%u GT/s x%u", pci->speed / 10, pci->speed % 10, pci->width);
}

static void numa_text(int numa, char *ret_text, size_t size)
{
	if (numa < 0)
		snprintf(ret_text, size, "-");
	else
		snprintf(ret_text, size, "%d", numa);
}

static enum err put_gpu(const struct doctor_facts *facts, uint32_t index, struct buf *text)
{
	const struct doctor_gpu *gpu = &facts->gpus[index];
	const struct doctor_port *port = doctor_nearest(facts, gpu);
	char bus[32], numa[16], links[48] = "-", nearest[64] = "-";
	enum err e = ERR_OK;
	pci_text(&gpu->pci, bus, sizeof(bus));
	numa_text(gpu->pci.numa, numa, sizeof(numa));
	if (gpu->link_count > 0)
		snprintf(links, sizeof(links), "%u of %u%s", gpu->link_up, gpu->link_count, gpu->link_switches ? ", switch" : gpu->link_gpus ? ", direct" : "");
	if (port)
		snprintf(nearest, sizeof(nearest), "%s %s", port->device, doctor_distance(&gpu->pci, &port->pci));
	PUT("  %-3u %-12s  %-24s %6llu MiB  %-14s NUMA %-3s NVLink %-16s nearest NIC %s\n", index, gpu->pci.address, gpu->name[0] ? gpu->name : "-",
	    (unsigned long long)gpu->memory_bytes >> 20, bus, numa, links, nearest);
	return e;
}

static enum err put_gpus(const struct doctor_facts *facts, struct buf *text)
{
	enum err e = ERR_OK;
	PUT("GPUs: %u", facts->gpu_count);
	if (facts->driver)
		PUT(", driver %s (%s)", facts->driver_version, facts->driver_open ? "open" : "proprietary");
	if (facts->cuda_version)
		PUT(", CUDA %u.%u", facts->cuda_version / 1000, facts->cuda_version % 1000 / 10);
	PUT("\n");
	for (uint32_t i = 0; i < facts->gpu_count && e == ERR_OK; i++)
		e = put_gpu(facts, i, text);
	return e;
}

static enum err put_port(const struct doctor_port *port, struct buf *text)
{
	char bus[32], numa[16], gid[64] = "";
	enum err e = ERR_OK;
	pci_text(&port->pci, bus, sizeof(bus));
	numa_text(port->pci.numa, numa, sizeof(numa));
	int best = port->gid_v4 >= 0 ? port->gid_v4 : port->gid_v6 >= 0 ? port->gid_v6 : port->gid_local;
	if (port->ethernet && best >= 0)
		snprintf(gid, sizeof(gid), "  %s, GID %d (RoCE v2)", port->net[0] ? port->net : "-", best);
	else if (port->ethernet)
		snprintf(gid, sizeof(gid), "  %s, no GID of RoCE v2", port->net[0] ? port->net : "-");
	PUT("  %-10s port %u  %-8s %4u Gb/s  %-10s  %-14s NUMA %s%s\n", port->device, port->number, port->state, port->gbits,
	    port->ethernet ? "Ethernet" : "InfiniBand", bus, numa, gid);
	return e;
}

static enum err put_nics(const struct doctor_facts *facts, struct buf *text)
{
	enum err e = ERR_OK;
	PUT("NICs that do RDMA: %u\n", facts->port_count);
	for (uint32_t i = 0; i < facts->port_count && e == ERR_OK; i++)
		e = put_port(&facts->ports[i], text);
	PUT("Network devices: %u\n", facts->net_count);
	for (uint32_t i = 0; i < facts->net_count; i++) {
		const struct doctor_net *net = &facts->nets[i];
		char speed[48] = "-";
		if (net->mbits > 0)
			snprintf(speed, sizeof(speed), "%u Mb/s", net->mbits);
		PUT("  %-16s %-5s %12s  MTU %u\n", net->name, net->up ? "up" : "down", speed, net->mtu);
	}
	return e;
}

/* A row for each GPU, a column for each NIC. */
static enum err put_distances(const struct doctor_facts *facts, struct buf *text)
{
	enum err e = ERR_OK;
	if (facts->gpu_count == 0 || facts->port_count == 0)
		return ERR_OK;
	PUT("From GPU to NIC\n      ");
	for (uint32_t k = 0; k < facts->port_count; k++)
		PUT(" %8s", facts->ports[k].device);
	for (uint32_t i = 0; i < facts->gpu_count; i++) {
		PUT("\n  %-4u", i);
		for (uint32_t k = 0; k < facts->port_count; k++)
			PUT(" %8s", doctor_distance(&facts->gpus[i].pci, &facts->ports[k].pci));
	}
	PUT("\n");
	return e;
}

static enum err put_ucx(const struct doctor_live *live, struct buf *text)
{
	enum err e = ERR_OK;
	if (!live->tried)
		return ERR_OK;
	PUT("UCX: %s%s\n", live->ucx_version[0] ? live->ucx_version : live->ucx_error, live->ucx_cuda ? ", with CUDA" : "");
	for (uint32_t i = 0; i < live->lane_count; i++)
		PUT("  %s/%s%s", live->lanes[i].transport, live->lanes[i].device,
		    i % 6 == 5 || i + 1 == live->lane_count ? "\n" : "");
	return e;
}

static enum err put_host(const struct doctor_facts *facts, struct buf *text)
{
	enum err e = ERR_OK;
	char lock[48] = "?";
	if (facts->has_lock_bytes && facts->lock_bytes == UINT64_MAX)
		snprintf(lock, sizeof(lock), "unlimited");
	else if (facts->has_lock_bytes)
		snprintf(lock, sizeof(lock), "%llu KiB%s", (unsigned long long)facts->lock_bytes >> 10, facts->may_lock ? " (not for us)" : "");
	PUT("Host: kernel %s%s, locked memory %s, /dev/shm %llu MiB, huge pages %s (shared %s), IOMMU %s\n", facts->kernel[0] ? facts->kernel : "?",
	    facts->container ? ", in a container" : "", lock, (unsigned long long)facts->shm_bytes >> 20,
	    facts->huge_private[0] ? facts->huge_private : "?", facts->huge_shared[0] ? facts->huge_shared : "?", facts->iommu ? "on" : "off");
	return e;
}

static enum err put_findings(const struct doctor_findings *findings, struct buf *text)
{
	enum err e = ERR_OK;
	PUT("\n");
	for (int level = DOCTOR_PROBLEM; level >= DOCTOR_OK; level--)
		for (uint32_t i = 0; i < findings->count; i++) {
			const struct doctor_finding *finding = &findings->list[i];
			if ((int)finding->level != level)
				continue;
			PUT("%-8s %s: %s\n", doctor_level_text(finding->level), finding->about, finding->what);
			if (finding->why)
				PUT("         why: %s\n", finding->why);
			if (finding->todo[0])
				PUT("         do:  %s\n", finding->todo);
		}
	if (findings->left_out > 0)
		PUT("%u further findings have no place here\n", findings->left_out);
	PUT("\nproblems: %u, warnings: %u, notes: %u\n", findings->counts[DOCTOR_PROBLEM], findings->counts[DOCTOR_WARNING],
	    findings->counts[DOCTOR_NOTE]);
	return e;
}

enum err doctor_text(const struct doctor_facts *facts, const struct doctor_findings *findings, struct buf *text)
{
	enum err e = put_gpus(facts, text);
	if (e == ERR_OK)
		e = put_nics(facts, text);
	if (e == ERR_OK)
		e = put_distances(facts, text);
	if (e == ERR_OK)
		e = put_ucx(&facts->live, text);
	if (e == ERR_OK)
		e = put_host(facts, text);
	return e == ERR_OK ? put_findings(findings, text) : e;
}

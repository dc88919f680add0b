/* Ways between GPUs and NICs: distance, and whether a NIC may reach a GPU's memory. */
#include <stdio.h>
#include <string.h>

#include "tools/doctor_judge_impl.h"

enum { RANK_NODE = 3, RANK_SYS = 4, DMABUF_KERNEL_MIN = 5 * 1000 + 12 };

static const char WHY_FAR[] = "every block crosses the link between CPU sockets, which all GPUs of a socket share";
static const char WHY_NEAR[] = "blocks pass through the CPU, which below one switch they need not";
static const char WHY_DIRECT[] = "a NIC reads a GPU's memory by itself only where nothing in between sends it by way of the CPU; blocks go through the "
				 "host's memory otherwise";

/* Those of one rank are told together; the NIC is the first one's. */
static void judge_distance(const struct doctor_facts *facts, uint32_t rank, struct doctor_findings *findings)
{
	uint64_t gpus = 0;
	const struct doctor_port *first = NULL;
	char about[64];
	for (uint32_t i = 0; i < facts->gpu_count; i++) {
		const struct doctor_port *port = doctor_nearest(facts, &facts->gpus[i]);
		if (!port || doctor_distance_rank(&facts->gpus[i].pci, &port->pci) != rank)
			continue;
		gpus |= doctor_gpu_if(true, i);
		first = first ? first : port;
	}
	if (!first)
		return;
	doctor_gpus_text(gpus, about, sizeof(about));
	doctor_todo(rank == RANK_SYS ? doctor_found(findings, DOCTOR_WARNING, about, WHY_FAR, "the nearest NIC that is up, %s, is at the other socket (SYS; "
						    "NUMA node %d)", first->device, first->pci.numa)
				     : doctor_found(findings, DOCTOR_NOTE, about, WHY_NEAR, "the nearest NIC that is up, %s, is below another root (NODE)",
						    first->device),
		    "put a NIC below the same switch, or run nodes here that move little (decode with local prefill)");
}

static bool has_dmabuf(const struct doctor_facts *facts)
{
	return facts->driver_open && facts->kernel_version >= DMABUF_KERNEL_MIN;
}

static void judge_peer_memory(const struct doctor_facts *facts, struct doctor_findings *findings)
{
	if (facts->peermem || has_dmabuf(facts)) {
		doctor_found(findings, DOCTOR_OK, "gpu to nic", NULL, "the kernel lets NICs reach GPU memory by %s%s%s",
			     has_dmabuf(facts) ? "dma-buf" : "", has_dmabuf(facts) && facts->peermem ? " and " : "",
			     facts->peermem ? "nvidia_peermem" : "");
		return;
	}
	doctor_todo(doctor_found(findings, DOCTOR_WARNING, "gpu to nic", WHY_DIRECT, "neither nvidia_peermem nor dma-buf (%s, kernel %s)",
				 facts->driver_open ? "open modules" : "proprietary modules", facts->kernel),
		    "modprobe nvidia_peermem (and echo nvidia_peermem > /etc/modules-load.d/nvidia.conf); or NVIDIA's open modules on kernel 5.12 or newer");
}

/* Switches that GPUs hang from. */
static void judge_switches(const struct doctor_facts *facts, struct doctor_findings *findings)
{
	uint64_t redirected = 0, unknown = 0;
	const char *first = NULL;
	char about[64];
	for (uint32_t i = 0; i < facts->gpu_count; i++) {
		const struct doctor_pci *pci = &facts->gpus[i].pci;
		unknown |= doctor_gpu_if(pci->way_count > 3 && pci->redirected == DOCTOR_UNKNOWN, i);
		redirected |= doctor_gpu_if(pci->redirected == DOCTOR_YES, i);
		first = pci->redirected == DOCTOR_YES && !first ? pci->redirector : first;
	}
	doctor_gpus_text(redirected ? redirected : unknown, about, sizeof(about));
	if (redirected)
		doctor_todo(doctor_found(findings, DOCTOR_WARNING, about, WHY_DIRECT, "ACS sends what moves between neighbours up to the root complex (first at %s)", first),
			    "turn ACS off in the BIOS; until the next boot, for each such bridge: setpci -s %s ECAP_ACS+6.w=0", first);
	else if (unknown)
		doctor_todo(doctor_found(findings, DOCTOR_NOTE, about, WHY_DIRECT, "only root can read whether ACS is on above"),
			    "sudo baton doctor");
}

static void judge_iommu(const struct doctor_facts *facts, struct doctor_findings *findings)
{
	uint64_t translated = 0;
	char about[64];
	for (uint32_t i = 0; i < facts->gpu_count; i++)
		translated |= doctor_gpu_if(facts->gpus[i].pci.translated == DOCTOR_YES, i);
	if (!facts->iommu || !translated)
		return;
	doctor_gpus_text(translated, about, sizeof(about));
	doctor_todo(doctor_found(findings, DOCTOR_WARNING, about, WHY_DIRECT, "the IOMMU translates addresses"),
		    "iommu=pt on the kernel's command line (GRUB_CMDLINE_LINUX, then update-grub and reboot)");
}

void doctor_judge_paths(const struct doctor_facts *facts, struct doctor_findings *findings)
{
	if (facts->gpu_count == 0 || doctor_active_ports(facts) == 0)
		return;
	judge_distance(facts, RANK_SYS, findings);
	judge_distance(facts, RANK_NODE, findings);
	judge_peer_memory(facts, findings);
	judge_switches(facts, findings);
	judge_iommu(facts, findings);
}

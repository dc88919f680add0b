/* The report as JSON, for scripts and for whoever gathers it from a fleet. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "tools/doctor.h"

static json_t *known(enum doctor_known value)
{
	return value == DOCTOR_UNKNOWN ? json_null() : json_boolean(value == DOCTOR_YES);
}

static json_t *pci_json(const struct doctor_pci *pci)
{
	return json_pack("{s:s, s:f, s:f, s:i, s:i, s:i, s:o, s:o}", "address", pci->address, "gt_s", pci->speed / 10.0, "gt_s_max",
			 pci->speed_max / 10.0, "width", (int)pci->width, "width_max", (int)pci->width_max, "numa", pci->numa,
			 "iommu_translates", known(pci->translated), "acs_redirects", known(pci->redirected));
}

static json_t *gpus_json(const struct doctor_facts *facts)
{
	json_t *list = json_array();
	for (uint32_t i = 0; i < facts->gpu_count; i++) {
		const struct doctor_gpu *gpu = &facts->gpus[i];
		json_array_append_new(list, json_pack("{s:i, s:s%, s:I, s:i, s:b, s:b, s:o, s:o, s:o, s:I, s:I, s:i, s:i, s:i, s:i, s:o}", "index", (int)i,
						      "name", gpu->name, (size_t)strnlen(gpu->name, sizeof(gpu->name)), "memory_bytes",
						      (json_int_t)gpu->memory_bytes, "capability", gpu->capability, "by_driver", gpu->by_driver, "by_nvml",
						      gpu->by_nvml, "ecc", known(gpu->ecc), "persistence", known(gpu->persistence), "mig",
						      known(gpu->mig), "ecc_uncorrected", (json_int_t)gpu->ecc_uncorrected, "throttle_reasons",
						      (json_int_t)gpu->throttle, "power_limit_mw", (int)gpu->power_mw, "power_default_mw",
						      (int)gpu->power_default_mw, "nvlinks", (int)gpu->link_count, "nvlinks_up", (int)gpu->link_up, "pci",
						      pci_json(&gpu->pci)));
	}
	return list;
}

static json_t *nics_json(const struct doctor_facts *facts)
{
	json_t *list = json_array();
	for (uint32_t i = 0; i < facts->port_count; i++) {
		const struct doctor_port *port = &facts->ports[i];
		json_array_append_new(list, json_pack("{s:s, s:i, s:s, s:b, s:i, s:s, s:s, s:i, s:i, s:i, s:i, s:o}", "device", port->device, "port",
						      (int)port->number, "state", port->state, "active", port->active, "gbits", (int)port->gbits,
						      "link_layer", port->ethernet ? "Ethernet" : "InfiniBand", "net", port->net, "gids", (int)port->gid_count,
						      "gid_v2_ipv4", port->gid_v4, "gid_v2_ipv6", port->gid_v6, "gid_v2_local", port->gid_local, "pci",
						      pci_json(&port->pci)));
	}
	return list;
}

static json_t *nets_json(const struct doctor_facts *facts)
{
	json_t *list = json_array();
	for (uint32_t i = 0; i < facts->net_count; i++) {
		const struct doctor_net *net = &facts->nets[i];
		json_array_append_new(list, json_pack("{s:s, s:b, s:b, s:i, s:i}", "name", net->name, "up", net->up, "physical", net->physical, "mbits",
						      (int)net->mbits, "mtu", (int)net->mtu));
	}
	return list;
}

static json_t *distances_json(const struct doctor_facts *facts)
{
	json_t *rows = json_array();
	for (uint32_t i = 0; i < facts->gpu_count; i++) {
		json_t *row = json_array();
		for (uint32_t k = 0; k < facts->port_count; k++)
			json_array_append_new(row, json_string(doctor_distance(&facts->gpus[i].pci, &facts->ports[k].pci)));
		json_array_append_new(rows, row);
	}
	return rows;
}

static json_t *ucx_json(const struct doctor_live *live)
{
	json_t *lanes = json_array();
	for (uint32_t i = 0; i < live->lane_count; i++)
		json_array_append_new(lanes, json_sprintf("%s/%s", live->lanes[i].transport, live->lanes[i].device));
	return json_pack("{s:b, s:s, s:s, s:b, s:b, s:o}", "asked", live->tried, "version", live->ucx_version, "error", live->ucx_error, "cuda",
			 live->ucx_cuda, "rma_rails", live->ucx_rma_rails, "transports", lanes);
}

static json_t *host_json(const struct doctor_facts *facts)
{
	bool bounded = facts->has_lock_bytes && facts->lock_bytes != UINT64_MAX;
	return json_pack("{s:s, s:b, s:b, s:s, s:b, s:s, s:i, s:b, s:b, s:b, s:b, s:o, s:b, s:I, s:s, s:s}", "kernel", facts->kernel, "container",
			 facts->container, "driver", facts->driver, "driver_version", facts->driver_version, "driver_open", facts->driver_open,
			 "nvml_error", facts->nvml_error, "cuda_version", (int)facts->cuda_version, "nvidia_peermem", facts->peermem, "gdrcopy",
			 facts->gdrcopy, "iommu", facts->iommu, "infiniband_nodes", facts->infiniband_nodes, "lock_bytes",
			 bounded ? json_integer((json_int_t)facts->lock_bytes) : json_null(), "may_lock", facts->may_lock, "shm_bytes",
			 (json_int_t)facts->shm_bytes, "huge_pages", facts->huge_private, "huge_pages_shared", facts->huge_shared);
}

static json_t *findings_json(const struct doctor_findings *findings)
{
	json_t *list = json_array();
	for (uint32_t i = 0; i < findings->count; i++) {
		const struct doctor_finding *f = &findings->list[i];
		json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s?, s:s}", "level", doctor_level_text(f->level), "about", f->about, "what",
						      f->what, "why", f->why, "do", f->todo));
	}
	return list;
}

enum err doctor_json(const struct doctor_facts *facts, const struct doctor_findings *findings, struct buf *text)
{
	json_t *report = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:i, s:i}", "gpus", gpus_json(facts), "nics", nics_json(facts), "networks",
				   nets_json(facts), "distances", distances_json(facts), "ucx", ucx_json(&facts->live), "host", host_json(facts),
				   "findings", findings_json(findings), "problems", (int)findings->counts[DOCTOR_PROBLEM], "warnings",
				   (int)findings->counts[DOCTOR_WARNING]);
	char *dump = report ? json_dumps(report, JSON_INDENT(2)) : NULL;
	enum err e = dump ? buf_printf(text, "%s\n", dump) : ERR_NOMEM;
	free(dump);
	json_decref(report);
	return e;
}

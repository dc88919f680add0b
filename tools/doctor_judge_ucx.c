/* UCX: what it has, and what the environment tells it. */
#include <stdio.h>
#include <string.h>

#include "net/rails.h"
#include "tools/doctor_judge_impl.h"

static const char WHY_UCX[] = "RDMA goes by way of UCX; without it links use mapped memory, tls and tcp";
static const char WHY_RC[] = "reads of a peer's memory are one-sided only over rc or dc: `--link-network` falls back to UCX over TCP, or is refused "
			     "(--require-transport rdma)";
static const char WHY_SETTING[] = "UCX takes settings from the environment of every process, also of Baton's";

static bool is_device(const struct doctor_facts *facts, const char *name, size_t length)
{
	char text[64];
	for (uint32_t i = 0; i < facts->port_count; i++) {
		snprintf(text, sizeof(text), "%s:%u", facts->ports[i].device, facts->ports[i].number);
		if (strlen(text) == length && strncmp(text, name, length) == 0)
			return true;
	}
	for (uint32_t i = 0; i < facts->net_count; i++)
		if (strlen(facts->nets[i].name) == length && strncmp(facts->nets[i].name, name, length) == 0)
			return true;
	return length == 2 && strncmp(name, "lo", 2) == 0;
}

static void judge_devices(const struct doctor_facts *facts, const char *list, struct doctor_findings *findings)
{
	if (strcmp(list, "all") == 0 || list[0] == '^')
		return;
	for (const char *at = list; *at; at += strspn(at, ",")) {
		size_t length = strcspn(at, ",");
		if (!is_device(facts, at, length))
			doctor_todo(doctor_found(findings, DOCTOR_PROBLEM, "ucx", WHY_RC, "UCX_NET_DEVICES names %.*s, which is not there",
						 length < 64 ? (int)length : 64, at),
				    "unset UCX_NET_DEVICES, or name ports as `ls /sys/class/infiniband` has them: mlx5_0:1");
		at += length;
	}
}

/* What net/ucx.c sets itself. */
static bool is_ours(const char *name)
{
	static const char *const ours[] = {"UCX_TLS", "UCX_PUT_ENABLE", "UCX_MM_ERROR_HANDLING", "UCX_RNDV_THRESH"};
	for (size_t i = 0; i < sizeof(ours) / sizeof(*ours); i++)
		if (strlen(ours[i]) == strcspn(name, "=") && strncmp(ours[i], name, strlen(ours[i])) == 0)
			return true;
	return false;
}

static void judge_settings(const struct doctor_facts *facts, struct doctor_findings *findings)
{
	for (uint32_t i = 0; i < facts->setting_count; i++) {
		const char *setting = facts->settings[i];
		int length = (int)strnlen(setting, 160);
		if (strncmp(setting, "UCX_NET_DEVICES=", 16) == 0)
			judge_devices(facts, setting + 16, findings);
		if (is_ours(setting))
			doctor_todo(doctor_found(findings, DOCTOR_NOTE, "ucx", WHY_SETTING, "%.*s has no effect: Baton sets it itself", length, setting),
				    "unset it, and choose with --link-transport and --require-transport");
		else
			doctor_todo(doctor_found(findings, DOCTOR_NOTE, "ucx", WHY_SETTING, "%.*s is in the environment", length, setting),
				    "nothing, if it is meant");
	}
}

/* Ports that are up: what --link-network takes. */
static void judge_rails(const struct doctor_facts *facts, struct doctor_findings *findings)
{
	char list[160] = "";
	uint32_t count = 0;
	for (uint32_t i = 0; i < facts->port_count && count < RAILS_MAX; i++) {
		const struct doctor_port *port = &facts->ports[i];
		size_t at = strlen(list);
		if (port->active && at + 2 * sizeof(port->device) < sizeof(list))
			count += snprintf(list + at, sizeof(list) - at, "%s%s:%u", at ? "," : "", port->device, port->number) > 0;
	}
	if (count < 2)
		return;
	doctor_todo(doctor_found(findings, DOCTOR_NOTE, "ucx",
				 facts->live.ucx_rma_rails ? "a large read may take several rails at once"
							   : "this UCX gives a one-sided read one rail (it has no UCX_MAX_RMA_RAILS): further ones serve other things",
				 "%u rails: %s", count, list),
		    "--link-network %s, if nobody else reaches these networks", list);
}

void doctor_judge_ucx(const struct doctor_facts *facts, struct doctor_findings *findings)
{
	const struct doctor_live *live = &facts->live;
	bool nics = doctor_active_ports(facts) > 0, rdma = doctor_has_lane(live, "rc") || doctor_has_lane(live, "dc");
	judge_settings(facts, findings);
	if (!live->tried)
		return;
	if (live->ucx_version[0] == 0) {
		doctor_todo(doctor_found(findings, DOCTOR_WARNING, "ucx", WHY_UCX, "it does not start: %s", live->ucx_error),
			    "ucx_info -d says more; apt install libucx0");
		return;
	}
	if (nics && !rdma)
		doctor_todo(doctor_found(findings, DOCTOR_PROBLEM, "ucx", WHY_RC, "UCX %s has no rc and no dc transport, though a NIC is up",
					 live->ucx_version),
			    "apt install ibverbs-providers; ls -l /dev/infiniband; then: UCX_LOG_LEVEL=info ucx_info -d");
	if (facts->gpu_count > 0 && nics && !live->ucx_cuda)
		doctor_todo(doctor_found(findings, DOCTOR_NOTE, "ucx", "it cannot read GPU memory: between hosts, blocks leave and reach a GPU by way of the host's "
								       "memory", "UCX %s is built without CUDA", live->ucx_version),
			    "for GPUDirect RDMA: UCX 1.14 or newer built with CUDA, in LD_LIBRARY_PATH; what is proven of it: docs/gpu.md");
	if (rdma)
		judge_rails(facts, findings);
	if (rdma)
		doctor_found(findings, DOCTOR_OK, "ucx", NULL, "UCX %s reads one-sidedly over %s", live->ucx_version,
			     doctor_has_lane(live, "dc") ? "rc and dc" : "rc");
	else if (!nics)
		doctor_found(findings, DOCTOR_OK, "ucx", NULL, "UCX %s starts", live->ucx_version);
}

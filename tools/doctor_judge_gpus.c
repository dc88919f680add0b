/* GPUs: driver, health, speed, NVLink. */
#include <stdio.h>
#include <string.h>

#include "tools/doctor_judge_impl.h"

/* What the release is built with and for (docs/gpu.md). */
enum { CUDA_VERSION_MIN = 13000, CAPABILITY = 90 };
/* NVML's reasons for clocks below what was asked for. */
enum { THROTTLE_POWER_CAP = 0x04, THROTTLE_HARDWARE = 0x08 | 0x40 | 0x80, THROTTLE_HEAT = 0x20 };

static const char WHY_DRIVER[] = "without it `--device auto` takes the CPU, and `--device cuda` does not start";
static const char WHY_KIND[] = "kernels are compiled for one kind of GPU, and a node does not start on another";
static const char WHY_HEALTH[] = "a prefill or decode node on it would end in the middle of a step";
static const char WHY_SPEED[] = "a node on it is slower than its profile says, and its peers wait for it";
static const char WHY_LINKS[] = "tensor parallelism within a machine sums over NVLink after every layer";

static void judge_nvml(const struct doctor_facts *facts, struct doctor_findings *findings)
{
	if (!facts->driver || facts->nvml_error[0] == 0)
		return;
	if (strcmp(facts->nvml_error, "not there") == 0)
		doctor_todo(doctor_found(findings, DOCTOR_WARNING, "driver", "memory errors, throttling, MIG and NVLink were not looked at",
					 "libnvidia-ml.so.1 is not there"),
			    "apt install the driver's libnvidia-compute package; in a container: NVIDIA_DRIVER_CAPABILITIES=compute,utility");
	else
		doctor_todo(doctor_found(findings, DOCTOR_PROBLEM, "driver", WHY_DRIVER, "NVML: %s", facts->nvml_error),
			    "where versions differ, end what uses GPUs and `rmmod nvidia_uvm nvidia && modprobe nvidia`, or reboot");
}

static void judge_driver(const struct doctor_facts *facts, struct doctor_findings *findings)
{
	if (facts->gpu_count == 0 && !facts->driver) {
		doctor_todo(doctor_found(findings, DOCTOR_NOTE, "gpus", "nodes run on CPUs here", "there is none"),
			    "nothing, unless one is in the machine: lspci -d 10de:");
		return;
	}
	if (!facts->driver) {
		doctor_todo(doctor_found(findings, DOCTOR_PROBLEM, "driver", WHY_DRIVER, "%u on the bus, and the kernel has no driver",
					 facts->gpu_count),
			    "install NVIDIA's open kernel modules, 580 or newer (or the GPU operator), then: modprobe nvidia");
		return;
	}
	if (!facts->device_nodes)
		doctor_todo(doctor_found(findings, DOCTOR_PROBLEM, "driver", WHY_DRIVER, "the driver is loaded, but /dev/nvidiactl is not there"),
			    "%s", facts->container ? "in a pod: resources.limits nvidia.com/gpu; with docker: --gpus all"
						   : "nvidia-modprobe -u -c 0");
	else
		judge_nvml(facts, findings);
	if (facts->cuda_version != 0 && facts->cuda_version < CUDA_VERSION_MIN)
		doctor_todo(doctor_found(findings, DOCTOR_PROBLEM, "driver", WHY_DRIVER, "driver %s knows CUDA %u.%u, expected %u.0 or newer",
					 facts->driver_version, facts->cuda_version / 1000, facts->cuda_version % 1000 / 10,
					 CUDA_VERSION_MIN / 1000),
			    "install driver 580 or newer, or build with an older nvcc (-Dcuda=enabled, docs/gpu.md)");
}

static void judge_health(const struct doctor_gpu *gpu, uint32_t index, const char *about, struct doctor_findings *findings)
{
	if (gpu->remap_failed == DOCTOR_YES)
		doctor_todo(doctor_found(findings, DOCTOR_PROBLEM, about, WHY_HEALTH, "bad rows of its memory can no longer be replaced"),
			    "take it out of service: have the board replaced");
	else if (gpu->remap_pending == DOCTOR_YES)
		doctor_todo(doctor_found(findings, DOCTOR_WARNING, about, WHY_HEALTH, "bad rows of its memory wait to be replaced"),
			    "drain its node, then: nvidia-smi -i %u -r", index);
	if (gpu->ecc_uncorrected > 0)
		doctor_todo(doctor_found(findings, DOCTOR_PROBLEM, about, WHY_HEALTH, "%llu memory errors that ECC could not correct",
					 (unsigned long long)gpu->ecc_uncorrected),
			    "drain its node, then: nvidia-smi -i %u -r; if they come back, have the board replaced", index);
	if (gpu->throttle & (THROTTLE_HARDWARE | THROTTLE_HEAT))
		doctor_todo(doctor_found(findings, DOCTOR_WARNING, about, WHY_SPEED, "it slows down: %s",
					 gpu->throttle & THROTTLE_HARDWARE ? "its hardware protects itself (heat or power)" : "it is too hot"),
			    "nvidia-smi -i %u -q -d PERFORMANCE,TEMPERATURE; look at fans, airflow, power supplies", index);
	if (gpu->power_default_mw > 0 && gpu->power_mw > 0 && gpu->power_mw < gpu->power_default_mw)
		doctor_todo(doctor_found(findings, DOCTOR_WARNING, about, WHY_SPEED, "its power limit is %u W, by default %u W",
					 gpu->power_mw / 1000, gpu->power_default_mw / 1000),
			    "nvidia-smi -i %u -pl %u", index, gpu->power_default_mw / 1000);
}

static void judge_bus(const struct doctor_gpu *gpu, uint32_t index, const char *about, struct doctor_findings *findings)
{
	static const char why[] = "KV blocks leave a GPU and reach it over PCI Express: 2 x their bytes for each hand-over";
	const struct doctor_pci *pci = &gpu->pci;
	if (pci->width > 0 && pci->width < pci->width_max)
		doctor_todo(doctor_found(findings, DOCTOR_WARNING, about, why, "PCI Express has x%u of x%u lanes", pci->width, pci->width_max),
			    "reseat the board, look for bent pins and the slot's bifurcation in the BIOS; then: lspci -vvs %s | grep LnkSta",
			    pci->address);
	else if (pci->speed > 0 && pci->speed < pci->speed_max)
		doctor_todo(doctor_found(findings, DOCTOR_NOTE, about, why, "PCI Express runs at %u.%u of %u.%u GT/s", pci->speed / 10,
					 pci->speed % 10, pci->speed_max / 10, pci->speed_max % 10),
			    "idle GPUs may save power so: look again under load with nvidia-smi -i %u -q -d PCIE", index);
}

static void judge_links(const struct doctor_gpu *gpu, uint32_t index, const char *about, struct doctor_findings *findings)
{
	char text[96] = "";
	size_t at = 0;
	if (gpu->link_count == 0 || gpu->link_up == gpu->link_count)
		return;
	for (uint32_t i = 0; i < gpu->link_count - gpu->link_up && at < sizeof(text); i++)
		at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%u", i ? ", " : "", gpu->links_down[i]);
	struct doctor_finding *finding = doctor_found(findings, DOCTOR_WARNING, about, WHY_LINKS, "%u of %u NVLinks are down: %s",
						      gpu->link_count - gpu->link_up, gpu->link_count, text);
	if (gpu->link_up == 0)
		doctor_todo(finding, "on machines with NVSwitch: systemctl enable --now nvidia-fabricmanager; then nvidia-smi nvlink -s -i %u", index);
	else
		doctor_todo(finding, "nvidia-smi nvlink -s -i %u and dmesg | grep NVLink; a reset (nvidia-smi -i %u -r) trains them anew", index, index);
}

/* What is so of many at once is said once. */
static void judge_together(const struct doctor_facts *facts, struct doctor_findings *findings)
{
	uint64_t not_persistent = 0, sliced = 0, without_ecc = 0, other_kind = 0;
	char about[64];
	for (uint32_t i = 0; i < facts->gpu_count; i++) {
		const struct doctor_gpu *gpu = &facts->gpus[i];
		not_persistent |= doctor_gpu_if(gpu->persistence == DOCTOR_NO, i);
		sliced |= doctor_gpu_if(gpu->mig == DOCTOR_YES, i);
		without_ecc |= doctor_gpu_if(gpu->ecc == DOCTOR_NO, i);
		other_kind |= doctor_gpu_if(gpu->capability != 0 && gpu->capability != CAPABILITY, i);
	}
	doctor_gpus_text(sliced, about, sizeof(about));
	if (sliced)
		doctor_todo(doctor_found(findings, DOCTOR_WARNING, about, "a slice has no NVLink and no CUDA IPC, and kernels are laid out for a "
									  "whole GPU", "MIG is on"),
			    "drain what runs there, then: nvidia-smi -i N -mig 0, for each");
	doctor_gpus_text(other_kind, about, sizeof(about));
	if (other_kind)
		doctor_todo(doctor_found(findings, DOCTOR_WARNING, about, WHY_KIND, "no H100 or H200 (compute capability %d.%d is what the release has "
									  "kernels for)", CAPABILITY / 10, CAPABILITY % 10),
			    "build with -Dgpu_targets=… for them (meson_options.txt), or use --device cpu");
	doctor_gpus_text(without_ecc, about, sizeof(about));
	if (without_ecc)
		doctor_todo(doctor_found(findings, DOCTOR_NOTE, about, "digests find what is damaged on its way, not what a GPU computes from a "
									   "damaged weight", "ECC is off"),
			    "nvidia-smi -i N -e 1, for each, and reboot");
	doctor_gpus_text(not_persistent, about, sizeof(about));
	if (not_persistent)
		doctor_todo(doctor_found(findings, DOCTOR_NOTE, about, "the driver unloads between processes: a node's restart takes seconds longer",
					 "persistence mode is off"),
			    "systemctl enable --now nvidia-persistenced, or nvidia-smi -pm 1");
}

static bool is_well(const struct doctor_findings *findings, uint32_t from)
{
	for (uint32_t i = from; i < findings->count; i++)
		if (findings->list[i].level > DOCTOR_NOTE)
			return false;
	return true;
}

void doctor_judge_gpus(const struct doctor_facts *facts, struct doctor_findings *findings)
{
	uint32_t before = findings->count, told = 0;
	char about[64];
	judge_driver(facts, findings);
	for (uint32_t i = 0; i < facts->gpu_count; i++) {
		doctor_gpus_text(doctor_gpu_if(true, i), about, sizeof(about));
		judge_health(&facts->gpus[i], i, about, findings);
		judge_bus(&facts->gpus[i], i, about, findings);
		judge_links(&facts->gpus[i], i, about, findings);
		told += facts->gpus[i].by_nvml;
	}
	judge_together(facts, findings);
	if (told > 0 && told < facts->gpu_count)
		doctor_todo(doctor_found(findings, DOCTOR_NOTE, "gpus", "a node sees the ones it is given", "%u are in the machine, %u are ours here",
					 facts->gpu_count, told),
			    "nothing, if that is meant: nvidia-smi -L lists ours");
	if (told > 0 && is_well(findings, before))
		doctor_found(findings, DOCTOR_OK, "gpus", NULL, "%u, driver %s, CUDA %u.%u: healthy, at full width and speed", told,
			     facts->driver_version, facts->cuda_version / 1000, facts->cuda_version % 1000 / 10);
}
